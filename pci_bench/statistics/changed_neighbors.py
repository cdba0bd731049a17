"""Neighbours of changed cells among unchanged ones. Pure functions of arrays."""

from __future__ import annotations

import numpy as np


def neighbors_of_changed(
    reference: np.ndarray, changed: np.ndarray, k: int, groups: np.ndarray, of_changed: np.ndarray
) -> np.ndarray:
    """Return the k nearest unchanged rows of every changed one, which share no group with it, exact to float64.

    Parameters
    ----------
    reference, changed
        (n, d) and (m, d), finite, used as they are.
    k
        1 … n.
    groups, of_changed
        Groups of the unchanged rows (kinds, n) int, and of the changed ones (kinds, m) int.

    Returns
    -------
    ndarray
        (m, k) int64, nearest first, rows at equal distance in index order; −1 where fewer than k may be neighbours.

    Examples
    --------
    >>> import numpy as np
    >>> reference, changed = np.array([[0.0], [1.0], [5.0]]), np.array([[0.1], [4.0]])
    >>> neighbors_of_changed(reference, changed, 2, np.array([[0, 1, 2]]), np.array([[0, 1]])).tolist()
    [[1, 2], [2, 0]]
    """
    from pci_bench.statistics.compiled.neighbors import nearest_of

    n, m = len(reference), len(changed)
    kinds = np.concatenate([np.atleast_2d(groups), np.atleast_2d(of_changed)], axis=1)
    apart = np.append(np.arange(n), np.full(m, n))  # no changed row is a neighbour
    rows = np.concatenate([np.asarray(reference, np.float64), np.asarray(changed, np.float64)])
    return nearest_of(rows, np.arange(n, n + m), k, np.concatenate([kinds, apart[None]]))
