"""Which stain of a cell is shown, where each cell is taken once: drawn by seed, and balanced."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np


def drawn_stains(names: Sequence[str], available: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """Return one stain for each cell, so that within a group every stain is there about equally often.

    Cells with the fewest stains choose first, in an order that follows from the seed and their names alone; each takes the
    stain that its group has fewest of so far, the first to come by its own draw among equals. So the choice does not depend
    on the order of files or the number of workers.

    Parameters
    ----------
    names
        (n,) of the cells, unique.
    available
        (n, stains) bool, which of them each cell's field has; at least one.
    groups
        (n,) whatever the stains are balanced within.
    seed
        Of the draw.

    Returns
    -------
    np.ndarray
        (n,) int, positions among the stains.

    Examples
    --------
    >>> drawn = drawn_stains([str(i) for i in range(10)], np.ones((10, 5), bool), np.zeros(10), seed=0)
    >>> np.bincount(drawn)
    array([2, 2, 2, 2, 2])
    """
    digests = [hashlib.sha256(f"{seed}\0{name}".encode()).digest() for name in names]
    order = sorted(range(len(names)), key=lambda i: (int(available[i].sum()), digests[i]))
    stains = available.shape[1]
    counts: dict[object, np.ndarray] = {}
    chosen = np.zeros(len(names), int)
    for i in order:
        count = counts.setdefault(groups[i], np.zeros(stains, int))
        preference = np.frombuffer(digests[i][:stains] if stains <= 32 else digests[i] * (stains // 32 + 1), np.uint8)
        possible = np.flatnonzero(available[i])
        chosen[i] = min(possible, key=lambda stain: (count[stain], preference[stain], stain))
        count[chosen[i]] += 1
    return chosen
