"""What two feature sets know together that neither knows alone. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pci_bench.statistics.scaling import standardized

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the second feature set
ROWS = 256  # at a time


def concatenated(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
    """Return two feature sets side by side, (n, d) and (n, e) -> (n, d + e): standardised, and of total variances 1 − weight and weight.

    So many columns in one of them do not outweigh few in the other.

    >>> both = concatenated(np.array([[0.0, 0.0], [1.0, 3.0]]), np.array([[0.0], [2.0]]), 0.25)
    >>> both.var(axis=0).round(3).tolist()
    [0.375, 0.375, 0.25]
    """
    parts = []
    for features, share in ((first, 1 - weight), (second, weight)):
        scaled = standardized(features)
        parts.append(scaled * np.sqrt(share / max(1, int((scaled != 0).any(axis=0).sum()))))
    return np.concatenate(parts, axis=1)


@dataclass(frozen=True)
class Fusion:
    """Predictions of each of two feature sets alone, of both together, and of the better one.

    Parameters
    ----------
    first, second, fused, better
        Predicted class of every cell (n,) int; −1 where there is no neighbour.
    weights
        The weight of the second that was chosen for each group (groups,).
    """

    first: np.ndarray
    second: np.ndarray
    fused: np.ndarray
    better: np.ndarray
    weights: np.ndarray


def fusion(first: np.ndarray, second: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int) -> Fusion:
    """Return predictions by the k nearest neighbours of other groups, in features whose weights other groups have chosen.

    For each group, the weight is the one with the highest balanced accuracy over the cells of all other groups, predicted from
    neighbours that are neither of their own group nor of that one: its cells take no part in the choice. Among equal weights the
    one nearest to a half is chosen. The better feature set is chosen in the same way, from the two alone.

    Parameters
    ----------
    first, second
        (n, d) and (n, e), finite.
    labels, groups
        (n,) int, from 0; three groups at least.
    k
        How many neighbours vote.
    """
    from pci_bench.statistics.compiled.fusion import votes_without

    n, n_classes, n_groups = len(labels), int(labels.max()) + 1, int(groups.max()) + 1
    own = np.empty((len(WEIGHTS), n), np.int64)
    scores = np.empty((len(WEIGHTS), n_groups))
    totals = np.array([np.bincount(labels[groups != group], minlength=n_classes) for group in range(n_groups)])
    for number, weight in enumerate(WEIGHTS):
        features = concatenated(first, second, weight)
        squares = np.einsum("ij,ij->i", features, features)
        right = np.zeros((n_groups, n_classes))
        for start in range(0, n, ROWS):
            rows = np.arange(start, min(start + ROWS, n))
            orders = np.argsort(squares[None] - 2 * features[rows] @ features.T, axis=1, kind="stable")
            predicted = votes_without(rows, orders, labels, groups, k, n_classes, n_groups)
            own[number, rows] = predicted[np.arange(len(rows)), groups[rows]]
            counted = (predicted == labels[rows, None]) & (groups[rows, None] != np.arange(n_groups))
            np.add.at(right.T, labels[rows], counted)
        recalls = np.divide(right, totals, out=np.full(right.shape, np.nan), where=totals > 0)
        scores[number] = np.nanmean(recalls, axis=1)
    by_preference = np.argsort(np.abs(np.array(WEIGHTS) - 0.5), kind="stable")
    chosen = by_preference[(scores[by_preference] > scores.max(axis=0) - 1e-12).argmax(axis=0)]
    last = len(WEIGHTS) - 1
    better = np.where(scores[last] > scores[0], last, 0)
    cells = np.arange(n)
    return Fusion(own[0], own[last], own[chosen[groups], cells], own[better[groups], cells], np.array(WEIGHTS)[chosen])
