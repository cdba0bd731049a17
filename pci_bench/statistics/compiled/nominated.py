"""Nomination of nearest neighbours by torch, for a GPU: the first half of the search of :mod:`~pci_bench.statistics.compiled.neighbors`.

What is nominated is measured and certified as ever, on the CPU and in float64, so that the answers have the same bits on every device.
"""

from __future__ import annotations

import numpy as np

VALUES_AT_ONCE = 2**27  # of the product in memory: 512 MiB


def nominated_on(
    device: str,
    start: int,
    stop: int,
    search: np.ndarray,
    shrunk: np.ndarray,
    slack: np.float32,
    groups: np.ndarray,
    m: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for some rows and every grouping, the m rows of other groups with the smallest lower bounds on their squared distance.

    Parameters
    ----------
    device
        ``"cuda"``, ``"cuda:1"`` or, for a comparison, ``"cpu"``. The product must be in full float32, as
        :func:`pci_bench.system.devices.resolve_device` leaves it.
    start, stop
        The first of the rows, and the one after the last.
    search, shrunk, slack
        All rows (n, d) in float32, the part of their bounds that is their own (n,), and what underflow can hide.
    groups
        (groupings, kinds, n) int32: rows that share a group of any kind are no neighbours.
    m
        How many, less than n.

    Returns
    -------
    bounds, nominated
        (groupings, stop − start, m) float32 and int32, the largest bound first; where fewer rows are of other groups, infinity and −1 come first.
    """
    import torch  # of which nothing is needed before: seconds

    n, size = len(search), stop - start
    bounds = np.full((len(groups), size, m), np.inf, np.float32)
    nominated = np.full((len(groups), size, m), -1, np.int32)
    rows, own, codes = (torch.from_numpy(array).to(device) for array in (search, shrunk, groups))
    at_once = max(1, VALUES_AT_ONCE // n)
    for first in range(start, stop, at_once):
        some = slice(first, min(first + at_once, stop))
        into = slice(some.start - start, some.stop - start)
        lower = (own[some] - float(slack))[:, None] + own[None, :] - 2 * (rows[some] @ rows.T)
        for grouping, kinds in enumerate(codes):
            possible = lower if grouping == len(codes) - 1 else lower.clone()
            for kind in kinds:
                possible.masked_fill_(kind[some, None] == kind[None, :], torch.inf)
            smallest, places = torch.topk(possible, m, dim=1, largest=False, sorted=True)
            places[torch.isinf(smallest)] = -1
            bounds[grouping, into] = smallest.flip(1).cpu().numpy()
            nominated[grouping, into] = places.flip(1).to(torch.int32).cpu().numpy()
    return bounds, nominated
