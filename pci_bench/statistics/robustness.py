"""Accuracy of changed cells among unchanged ones: neighbours across two tables of features, and areas under curves. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from pci_bench.statistics.intervals import Spread
from pci_bench.statistics.metrics import share_spreads


def reference_neighbors(reference: np.ndarray, queries: np.ndarray, k: int, groups: np.ndarray) -> np.ndarray:
    """Return the k nearest reference rows of every query, among those that share no group with it, exact to float64.

    Parameters
    ----------
    reference, queries
        (n, d) and (n, d), finite: the same rows, of which the queries are changed.
    k
        1 … n − 1.
    groups
        (n,) int, or (kinds, n): the groups of both. Where every row is a group, a query's own reference is left out.

    Returns
    -------
    ndarray
        (n, k) int64, nearest first, rows at equal distance in index order; −1 where there are no more.

    Examples
    --------
    >>> import numpy as np
    >>> reference = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> reference_neighbors(reference, reference + 2, 2, np.arange(4)).tolist()
    [[1, 2], [2, 0], [3, 1], [2, 1]]
    """
    from pci_bench.statistics.compiled.neighbors import nearest_of

    n = len(reference)
    kinds = np.atleast_2d(groups)
    side = np.repeat([0, 1], n)  # a kind of its own: no query is the neighbour of another
    both = np.concatenate([np.concatenate([kinds, kinds], axis=1), side[None]])
    return nearest_of(np.concatenate([reference, queries]), np.arange(n, 2 * n), k, both)


def trapezoid_weights(places: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return what each value of a curve counts in its mean height: the trapezoidal area over the range, weights that sum to 1.

    (s,) ascending, at least two -> (s,).

    >>> trapezoid_weights([0, 1, 4]).tolist()
    [0.125, 0.5, 0.375]
    """
    x = np.asarray(places, np.float64)
    steps = np.diff(x) / 2
    weights: np.ndarray = (np.append(steps, 0) + np.append(0, steps)) / (x[-1] - x[0])
    return weights


def area_shares(correct: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """Return how often each cell is right over the strengths of a change, as the area under its own curve.

    Balanced accuracy is linear in these shares, so theirs is the area under the curve of balanced accuracy over its range.

    Parameters
    ----------
    correct
        (strengths, n) bool: whether a cell is predicted rightly at each strength.
    strengths
        Ascending.

    Returns
    -------
    ndarray
        (n,) float64, 0 … 1.
    """
    shares: np.ndarray = trapezoid_weights(strengths) @ np.asarray(correct, np.float64)
    return shares


def balanced_spreads(
    labels: np.ndarray, shares: Mapping[str, np.ndarray], groups: np.ndarray | None, n_classes: int
) -> dict[str, tuple[float, Spread]]:
    """Return balanced accuracy and its spread over groups of cells, for several shares or differences of shares of the same cells.

    Parameters
    ----------
    labels
        Class (n,) int of every cell.
    shares
        By name (n,) float: how often each cell is right, or by how much more often in one way than in another; then it is the
        paired difference of balanced accuracies.
    groups
        Group of every cell (n,) int, drawn as a whole, or None to draw cells.
    n_classes
        Number of classes.
    """
    return {name: share_spreads(labels, values, groups, n_classes)[:2] for name, values in shares.items()}
