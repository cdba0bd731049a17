"""Distances between classes in a feature space, and how far those of several spaces agree (paper: Figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MIN_CLASSES = 3  # two have one distance, which nothing can be compared with
PERMUTATIONS = 9999


def class_distances(features: np.ndarray, labels: np.ndarray, classes: list[str]) -> np.ndarray:
    """Return the Euclidean distances between the mean features of classes: (n, d) and (n,) str -> (classes, classes) float64.

    Examples
    --------
    >>> import numpy as np
    >>> class_distances(np.array([[0.0], [2.0], [4.0]]), np.array(["a", "a", "b"]), ["a", "b"]).tolist()
    [[0.0, 3.0], [3.0, 0.0]]
    """
    from scipy.spatial.distance import pdist, squareform

    centroids = np.stack([features[labels == name].mean(axis=0, dtype=np.float64) for name in classes])
    distances: np.ndarray = squareform(pdist(centroids))
    return distances


def mantel(
    first_distances: np.ndarray, second_distances: np.ndarray, *, permutations: int = PERMUTATIONS, seed: int = 0
) -> tuple[float, float]:
    """Return how alike two matrices of distances are: Spearman's correlation, and its p under permuted classes (Mantel).

    Ranks, because the scales of independent feature spaces have nothing to do with each other.

    Parameters
    ----------
    first_distances, second_distances
        (classes, classes) symmetric, of the same classes in the same order, at least three.
    permutations, seed
        How many permutations of the classes of one matrix; p counts the given order among them.

    Returns
    -------
    (correlation, p)
        p is one-sided: the share of orders with as large a correlation or a larger one. Both are 0 and 1 where the distances of
        either matrix are all equal.
    """
    from scipy.stats import rankdata

    n = len(first_distances)
    upper = np.triu_indices(n, 1)
    ranks = [rankdata(matrix[upper]) for matrix in (first_distances, second_distances)]
    if any(np.ptp(r) == 0 for r in ranks):
        return 0.0, 1.0
    first, second = ((r - r.mean()) / np.linalg.norm(r - r.mean()) for r in ranks)
    square = np.zeros((n, n))
    square[upper] = second
    square += square.T
    correlation = float(first @ second)
    rng, as_large = np.random.default_rng(seed), 1
    for _ in range(permutations):
        order = rng.permutation(n)
        as_large += bool(first @ square[np.ix_(order, order)][upper] >= correlation - 1e-12)
    return correlation, as_large / (permutations + 1)


def agreement(distances: Mapping[str, pd.DataFrame], *, seed: int = 0) -> pd.DataFrame:
    """Return how far each two screens agree on the distances between the classes that they share.

    Paper: "even though each model is independent and trained on an independent dataset, we observed a substantial degree of
    consistency between clusters in the distances of their learned representations". **Ours**: :func:`mantel`.

    Parameters
    ----------
    distances
        By screen: a row for each two classes, with the columns first, second and distance.
    seed
        Of the permutations.

    Returns
    -------
    pandas.DataFrame
        one, other (screens), classes (in common), correlation and p; these are missing with fewer than three classes.
    """
    import pandas as pd

    rows = []
    for (first_screen, first), (second_screen, second) in itertools.combinations(distances.items(), 2):
        shared = sorted(_classes(first) & _classes(second))
        correlation = p = np.nan
        if len(shared) >= MIN_CLASSES:
            correlation, p = mantel(_matrix(first, shared), _matrix(second, shared), seed=seed)
        rows.append(
            {"one": first_screen, "other": second_screen, "classes": len(shared), "correlation": correlation, "p": p}
        )
    return pd.DataFrame(rows, columns=["one", "other", "classes", "correlation", "p"])


def _classes(distances: pd.DataFrame) -> set[str]:
    return {*distances["first"].astype(str), *distances["second"].astype(str)}


def _matrix(distances: pd.DataFrame, classes: list[str]) -> np.ndarray:
    position = {name: i for i, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)))
    for first, second, distance in distances[["first", "second", "distance"]].itertuples(index=False):
        if first in position and second in position:
            matrix[position[first], position[second]] = matrix[position[second], position[first]] = distance
    return matrix


def nearness(distances: pd.DataFrame, name: str, partner: str) -> tuple[int, int] | None:
    """Return the place of a class among the others by their distance from another class, and how many others there are.

    (1, 16) is the nearest of 16. None where one of the two is not among the classes; names are compared in any case.
    """
    by_class = {}
    for first, second, distance in distances[["first", "second", "distance"]].itertuples(index=False):
        ends = [str(first).casefold(), str(second).casefold()]
        if name.casefold() in ends:
            by_class[ends[1 - ends.index(name.casefold())]] = distance
    if partner.casefold() not in by_class:
        return None
    return 1 + sum(d < by_class[partner.casefold()] for d in by_class.values()), len(by_class)
