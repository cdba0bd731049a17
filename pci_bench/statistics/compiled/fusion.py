"""Votes of nearest neighbours when a second group is left out, each group in turn."""

from __future__ import annotations

import numpy as np

from pci_bench.system.compilation import compiled


@compiled(nogil=True)
def votes_without(
    rows: np.ndarray, orders: np.ndarray, labels: np.ndarray, groups: np.ndarray, k: int, n_classes: int, n_groups: int
) -> np.ndarray:
    """Return the majority of the k nearest rows that are neither of a row's group nor of another one: (q, groups) int.

    Parameters
    ----------
    rows
        The queries (q,) int.
    orders
        All rows (q, n) int by their distance from each query.
    labels, groups
        (n,) int, from 0.
    k, n_classes, n_groups
        How many vote, and how many labels and groups there are.

    Returns
    -------
    ndarray
        Ties go to the smallest label; −1 where nothing is left. In the column of its own group nothing else is left out.
    """
    predicted = np.full((len(rows), n_groups), -1, np.int64)
    counts = np.empty(n_classes, np.int64)
    for position in range(len(rows)):
        own = groups[rows[position]]
        for left_out in range(n_groups):
            counts[:] = 0
            votes = 0
            for place in range(orders.shape[1]):
                other = orders[position, place]
                if groups[other] != own and groups[other] != left_out:
                    counts[labels[other]] += 1
                    votes += 1
                    if votes == k:
                        break
            if votes:
                predicted[position, left_out] = counts.argmax()
    return predicted
