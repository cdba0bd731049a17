"""How early rows find their counterparts among others. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

ROWS = 512  # queries at a time


def match_ranks(queries: np.ndarray, gallery: np.ndarray, matches: np.ndarray) -> np.ndarray:
    """Return at which rank each query finds its counterpart, the gallery's rows by Euclidean distance.

    Parameters
    ----------
    queries, gallery
        (q, d) and (g, d), finite.
    matches
        Position of each query's counterpart in the gallery (q,) int.

    Returns
    -------
    ndarray
        (q,) float64, from 1 to g: one more than there are nearer rows, and half a place for each other row that is as near.

    Examples
    --------
    >>> import numpy as np
    >>> match_ranks(np.array([[0.0], [5.0]]), np.array([[1.0], [4.0], [6.0]]), np.array([0, 1])).tolist()
    [1.0, 1.5]
    """
    from scipy.spatial.distance import cdist

    ranks = np.empty(len(queries))
    for start in range(0, len(queries), ROWS):
        rows = slice(start, start + ROWS)
        distances = cdist(np.asarray(queries[rows], np.float64), np.asarray(gallery, np.float64), "sqeuclidean")
        own = np.take_along_axis(distances, matches[rows, None], axis=1)
        ranks[rows] = 1 + (distances < own).sum(axis=1) + ((distances == own).sum(axis=1) - 1) / 2
    return ranks


def retrieval_metrics(ranks: np.ndarray) -> dict[str, np.ndarray]:
    """Return each query's share of what is averaged: found first, found among ten, and average precision, 1 / rank. (q,) -> (q,) each.

    >>> import numpy as np
    >>> {name: values.tolist() for name, values in retrieval_metrics(np.array([1.0, 20.0])).items()}
    {'recall_at_1': [1.0, 0.0], 'recall_at_10': [1.0, 0.0], 'mean_average_precision': [1.0, 0.05]}
    """
    return {
        "recall_at_1": (ranks <= 1).astype(float),
        "recall_at_10": (ranks <= 10).astype(float),
        "mean_average_precision": 1 / ranks,
    }


def retrieval_by_chance(rows: int) -> dict[str, float]:
    """Return what ranks drawn at random among some rows score: 1/g, 10/g, and the mean of 1/rank.

    >>> {name: round(value, 3) for name, value in retrieval_by_chance(100).items()}
    {'recall_at_1': 0.01, 'recall_at_10': 0.1, 'mean_average_precision': 0.052}
    """
    ranks = np.arange(1, rows + 1, dtype=np.float64)
    return {name: float(values.mean()) for name, values in retrieval_metrics(ranks).items()}
