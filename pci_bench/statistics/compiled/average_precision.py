"""Average precisions of rankings under many assignments of labels at once."""

from __future__ import annotations

import numpy as np

from pci_bench.system.compilation import compiled

SIDE_BY_SIDE = 64  # assignments that go down a ranking together


@compiled(nogil=True)
def add_average_precisions(
    rows: np.ndarray,
    orders: np.ndarray,
    groups: np.ndarray,
    codes: np.ndarray,
    by_chance: np.ndarray,
    sums: np.ndarray,
    counts: np.ndarray,
    precision: np.ndarray,
    positives: np.ndarray,
    candidates: np.ndarray,
) -> None:
    """Add the normalised average precisions of some queries to the sums of their labels, for every assignment of labels.

    Parameters
    ----------
    rows
        The queries (q,) int.
    orders
        All rows (q, n) int by their distance from each query, nearest first; the query itself among them.
    groups
        (kinds, n) int: a query's candidates share no group of any kind with it, and are not itself.
    codes
        Labels (n, assignments) int, from 0; −1 is no label, whose rows are candidates and no queries.
    by_chance
        (3, n + 1): 1 / r; of L candidates the mean over ranks of 1 / r, H(L) / L; and (L − H(L)) / (L (L − 1)).
    sums, counts
        (assignments, labels): what is added to.
    precision, positives, candidates
        (n,): filled with those of the first assignment; NaN and 0 where a query has no positives or nothing else.
    """
    n, assignments = codes.shape
    allowed = np.empty(n, np.int64)
    hits = np.empty(SIDE_BY_SIDE)
    totals = np.empty(SIDE_BY_SIDE)
    wanted = np.empty(SIDE_BY_SIDE, codes.dtype)
    for position in range(len(rows)):
        row = rows[position]
        length = 0
        for place in range(n):
            other = orders[position, place]
            free = other != row
            for kind in range(len(groups)):
                free = free and groups[kind, other] != groups[kind, row]
            if free:
                allowed[length] = other
                length += 1
        candidates[row] = length
        for start in range(0, assignments, SIDE_BY_SIDE):
            width = min(SIDE_BY_SIDE, assignments - start)
            for a in range(width):
                hits[a] = 0.0
                totals[a] = 0.0
                wanted[a] = codes[row, start + a]
            for place in range(length):
                inverse = by_chance[0, place + 1]
                of_other = codes[allowed[place], start : start + width]
                for a in range(width):
                    hit = 1.0 if of_other[a] == wanted[a] else 0.0
                    hits[a] += hit
                    totals[a] += hit * hits[a] * inverse
            for a in range(width):
                first = start + a == 0
                if first:
                    positives[row] = int(hits[a]) if wanted[a] >= 0 else 0
                if wanted[a] < 0 or hits[a] == 0 or hits[a] == length:
                    if first:
                        precision[row] = np.nan
                    continue
                value = totals[a] / hits[a]
                expected = by_chance[1, length] + (hits[a] - 1) * by_chance[2, length]
                sums[start + a, wanted[a]] += (value - expected) / (1 - expected)
                counts[start + a, wanted[a]] += 1
                if first:
                    precision[row] = value
