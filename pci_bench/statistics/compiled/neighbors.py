"""Exact nearest neighbours of every row among the others, in float64, found in float32.

Distances ‖a − b‖² = ‖a‖² + ‖b‖² − 2 a·b come cheaply from a matrix product, but in float32 they cancel. So the product
only nominates: rows are centred, and every pair gets a *lower bound* on its true squared distance, the float32 value minus
a rigorous bound on its rounding error. The pairs with the smallest lower bounds are measured again as Σ(a − b)² in float64.
A row is certified when its k-th measured distance is below every lower bound that was not nominated; the few rows that
are not (ties, duplicates, wild scales) are searched a second time, measuring every pair whose bound allows it. Either way
the answer is that of a float64 loop. Each block of the product serves its rows and, transposed, its columns, which halves
the work; all groupings (exclusions) are searched at once. A cluster searches for blocks of rows, each among all rows: a product then
serves its columns only where they are rows of the block, and the answers are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from pci_bench.errors import UserError
from pci_bench.statistics.scaling import all_finite
from pci_bench.system.blocks import HERE, Blocks, BlockWork
from pci_bench.system.compilation import compiled

BLOCK = 1024
EXTRA_CANDIDATES = 14  # nominated beyond k, so that near-ties at the border are certified in the first pass
UNIT = 2.0**-24  # float32's unit roundoff
SECONDS_PER_PRODUCT = 4e-11  # of a core, for a value of a row times one of another


def nearest(
    features: np.ndarray, k: int, groupings: Sequence[np.ndarray], blocks: Blocks = HERE
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the k nearest rows of every row, for every grouping, from one search.

    Parameters
    ----------
    features
        (n, d), finite.
    k
        At least 1, less than n.
    groupings
        Each (n,) int: a row's neighbours are the rows of other groups. All different is plain leave-one-out. Or (c, n) int: they
        share no group of any of c kinds.
    blocks
        Where the rows are shared out.

    Returns
    -------
    list of (indices, distances)
        (n, k) int64 and (n, k) float64 Euclidean distances for each grouping, nearest first, rows at equal distance in
        index order. Where a row has fewer than k possible neighbours the rest is −1 and infinity.

    Raises
    ------
    UserError
        For NaN or infinite values, no feature at all, values whose squares leave float64's range, or k outside 1 … n − 1.
    """
    found = _searched(features, k, groupings, blocks, squares=True)
    return [(indices, np.sqrt(squares)) for indices, squares in zip(found[::2], found[1::2], strict=True)]


def nearest_lists(
    features: np.ndarray, k: int, groupings: Sequence[np.ndarray], blocks: Blocks = HERE
) -> tuple[np.ndarray, ...]:
    """Return the indices of :func:`nearest` for every grouping, without the distances, which of very many rows are gigabytes."""
    return _searched(features, k, groupings, blocks, squares=False)


def _searched(
    features: np.ndarray, k: int, groupings: Sequence[np.ndarray], blocks: Blocks, *, squares: bool
) -> tuple[np.ndarray, ...]:
    """Return the results of :func:`search_block` for all rows."""
    rows, search, scale, shrunk, slack = _prepared(features, k)
    seconds = SECONDS_PER_PRODUCT * len(rows) * rows.size / 2
    device = blocks.device_for(seconds)
    work = BlockWork(
        "nearest neighbours",
        partial(search_block, k=k, scale=scale, slack=slack, device=device, squares=squares),
        (rows, search, shrunk, _codes(groupings)),
        len(rows),
        seconds,
    )
    return blocks.computed(work)


def search_block(
    start: int,
    stop: int,
    rows: np.ndarray,
    search: np.ndarray,
    shrunk: np.ndarray,
    groups: np.ndarray,
    *,
    k: int,
    scale: float,
    slack: np.float32,
    device: str = "cpu",
    squares: bool = True,
) -> tuple[np.ndarray, ...]:
    """Return the k nearest of the rows from `start` to before `stop` among all rows.

    Parameters
    ----------
    start, stop
        Of the block.
    rows, search, shrunk, scale, slack
        All rows (n, d) in float64, and in float32 with what bounds distances from below.
    groups
        (groupings, kinds, n) int32.
    k
        Less than n.
    device
        Where candidates are nominated; the answers are the same.
    squares
        Whether distances are returned.

    Returns
    -------
    tuple of ndarray
        For each grouping in turn, indices (stop − start, k) int64 and, where wanted, squared distances (stop − start, k) float64.
    """
    size, m = stop - start, min(k + EXTRA_CANDIDATES, len(rows) - 1)
    if device == "cpu":
        bounds, nominated = _nominated(start, stop, search, shrunk, slack, groups, m)
    else:
        from pci_bench.statistics.compiled.nominated import nominated_on

        bounds, nominated = nominated_on(device, start, stop, search, shrunk, slack, groups, m)
    results: list[np.ndarray] = []
    for grouping in range(len(groups)):
        indices = np.empty((size, k), np.int64)
        measured = np.empty((size, k), np.float64)
        certified = _measure(rows, start, scale * scale, bounds[grouping], nominated[grouping], indices, measured)
        unsure = np.flatnonzero(~certified)
        for first in range(0, len(unsure), 256):
            into = unsure[first : first + 256]
            some = start + into
            products = search[some] @ search.T
            _search_again(products, some, into, rows, scale * scale, shrunk, slack, groups[grouping], indices, measured)
        results += [indices, measured] if squares else [indices]
    return tuple(results)


def _nominated(
    start: int, stop: int, search: np.ndarray, shrunk: np.ndarray, slack: np.float32, groups: np.ndarray, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each grouping, the m smallest lower bounds of every row (groupings, rows, m), the largest first, and whose they are."""
    n, size = len(search), stop - start
    bounds = np.full((len(groups), size, m), np.inf, np.float32)
    nominated = np.full((len(groups), size, m), -1, np.int32)
    widest = np.full(size, np.inf, np.float32)
    product = np.empty((BLOCK, BLOCK), np.float32)
    before, after = _spans(0, start), _spans(stop, n)
    for i, i_stop in _spans(start, stop):
        for j, j_stop in (*before, *_spans(i, stop), *after):  # within the block, a product serves its columns as well
            block = product.reshape(-1)[: (i_stop - i) * (j_stop - j)].reshape(i_stop - i, j_stop - j)
            np.matmul(search[i:i_stop], search[j:j_stop].T, out=block)
            both = i < j < stop
            _nominate(block, i, j, start, both, shrunk, slack, groups, bounds, nominated, widest)
    return bounds, nominated


def _spans(start: int, stop: int) -> list[tuple[int, int]]:
    """Return the first row of every product's side, and the one after its last."""
    return [(first, min(first + BLOCK, stop)) for first in range(start, stop, BLOCK)]


def nearest_of(features: np.ndarray, wanted: np.ndarray, k: int, groups: np.ndarray) -> np.ndarray:
    """Return the k nearest rows of some rows only.

    Parameters
    ----------
    features, k, groups
        As in :func:`nearest`; one grouping.
    wanted
        Which rows (r,) int.

    Returns
    -------
    ndarray
        (r, k) int64, as :func:`nearest` returns the indices.
    """
    rows, search, scale, shrunk, slack = _prepared(features, k)
    indices = np.empty((len(wanted), k), np.int64)
    squares = np.full((len(wanted), k), np.inf)
    codes = _codes([groups])[0]
    for start in range(0, len(wanted), 256):
        into = np.arange(start, min(start + 256, len(wanted)))
        some = wanted[into]
        _search_again(search[some] @ search.T, some, into, rows, scale * scale, shrunk, slack, codes, indices, squares)
    return indices


def _codes(groupings: Sequence[np.ndarray]) -> np.ndarray:
    """Return groupings as (groupings, kinds, n) int32; one of fewer kinds than another repeats its first."""
    kinds = [np.atleast_2d(groups) for groups in groupings]
    most = max(map(len, kinds))
    repeated = [row for groups in kinds for row in (*groups, *groups[:1].repeat(most - len(groups), axis=0))]
    codes = [np.unique(row, return_inverse=True)[1].reshape(-1).astype(np.int32) for row in repeated]
    return np.stack(codes).reshape(len(kinds), most, -1)


def _prepared(features: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.float32]:
    """Return the rows in float64 and, centred and scaled, in float32; the scale; and what bounds a distance from below."""
    rows = np.ascontiguousarray(features, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise UserError(f"The features have shape {rows.shape}; nearest neighbours need (cells, at least one feature).")
    n, d = rows.shape
    if not all_finite(rows):
        raise UserError("The features hold NaN or infinite values; nearest neighbours need finite ones.")
    if not 1 <= k < n:
        raise UserError(
            f"k = {k} needs at least {k + 1} cells, and there are {n}."
            if k >= 1
            else f"k is {k}; it must be at least 1."
        )
    search, scale = _centred_and_scaled(rows)
    if not 2.0**-480 < scale < 2.0**480:
        raise UserError("The features' squares leave the range of float64 (1e±300); scale the features first.")
    error = d * UNIT / (1 - d * UNIT) + 16 * UNIT  # of the product, the casts, the sums, and of float64 measuring
    shrunk = np.float32(1 - error) * np.einsum("ij,ij->i", search, search, dtype=np.float64).astype(np.float32)
    return rows, search, scale, shrunk, np.float32(d * 2.0**-120)  # the last: what underflow can hide


def _centred_and_scaled(rows: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the rows minus their mean, times a power of two that brings the largest value to about 1, and that factor."""
    with np.errstate(over="ignore", invalid="ignore"):  # the caller looks at the scale
        mean, parts = rows.mean(axis=0), [slice(i, i + BLOCK) for i in range(0, len(rows), BLOCK)]
        largest = np.max([np.abs(rows[part] - mean).max() for part in parts])
        scale = 2.0 ** -np.floor(np.log2(largest)) if largest > 0 else 1.0
        search = np.empty(rows.shape, np.float32)
        for part in parts:
            search[part] = (rows[part] - mean) * scale
        return search, float(scale)


@compiled(nogil=True)
def _push(bounds: np.ndarray, nominated: np.ndarray, bound: float, index: int) -> None:
    """Replace the root of a max-heap and restore the heap."""
    size = len(bounds)
    node = 0
    while True:
        child = 2 * node + 1
        if child >= size:
            break
        if child + 1 < size and bounds[child + 1] > bounds[child]:
            child += 1
        if bounds[child] <= bound:
            break
        bounds[node] = bounds[child]
        nominated[node] = nominated[child]
        node = child
    bounds[node] = bound
    nominated[node] = index


@compiled(nogil=True)
def _apart(groups: np.ndarray, row: int, candidate: int) -> bool:
    """Return whether two rows share no group of any kind; groups (kinds, n)."""
    shared = False
    for kind in range(len(groups)):
        shared |= groups[kind, row] == groups[kind, candidate]
    return not shared


@compiled(nogil=True)
def _offer(
    row: int,
    place: int,
    candidate: int,
    bound: float,
    groups: np.ndarray,
    bounds: np.ndarray,
    nominated: np.ndarray,
    widest: np.ndarray,
) -> None:
    """Offer `candidate` to the heaps of `row`, which are at a place of their own in a block."""
    widest_now = bounds[0, place, 0]
    for grouping in range(len(groups)):
        if bound < bounds[grouping, place, 0] and _apart(groups[grouping], row, candidate):
            _push(bounds[grouping, place], nominated[grouping, place], bound, candidate)
        widest_now = bounds[0, place, 0] if grouping == 0 else max(widest_now, bounds[grouping, place, 0])
    widest[place] = widest_now


@compiled(nogil=True)
def _any_below(
    products: np.ndarray, column_shrunk: np.ndarray, column_widest: np.ndarray, own: float, limit: float
) -> np.int32:
    """Return how many pairs either side could want; a loop without branches, so that it runs in vector registers."""
    two = np.float32(2)
    count = np.int32(0)
    for j in range(len(products)):
        bound = own + column_shrunk[j] - two * products[j]
        count += np.int32((bound < limit) | (bound < column_widest[j]))
    return count


@compiled(nogil=True)
def _nominate(
    product: np.ndarray,
    first_row: int,
    first_column: int,
    start: int,
    both: bool,
    shrunk: np.ndarray,
    slack: np.float32,
    groups: np.ndarray,
    bounds: np.ndarray,
    nominated: np.ndarray,
    widest: np.ndarray,
) -> None:
    """Offer every pair of a product to its row and, with `both`, to its column; most are turned down 64 at a time.

    The heaps are those of the rows from `start` on.
    """
    rows, columns = product.shape
    two = np.float32(2)
    column_shrunk = shrunk[first_column : first_column + columns]
    first_place = first_column - start if both else 0
    column_widest = widest[first_place : first_place + columns] if both else np.full(columns, -np.inf, np.float32)
    for i in range(rows):
        row = first_row + i
        place = row - start
        line = product[i]
        own = shrunk[row] - slack
        for first in range(0, columns, 64):
            last = min(first + 64, columns)
            if not _any_below(
                line[first:last], column_shrunk[first:last], column_widest[first:last], own, widest[place]
            ):
                continue
            for j in range(first, last):
                bound = own + column_shrunk[j] - two * line[j]
                if bound < widest[place]:
                    _offer(row, place, first_column + j, bound, groups, bounds, nominated, widest)
                if bound < column_widest[j]:
                    _offer(first_column + j, first_place + j, row, bound, groups, bounds, nominated, widest)


@compiled(nogil=True, fastmath={"reassoc"})
def _squared_distance(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for i in range(len(a)):
        difference = a[i] - b[i]
        total += difference * difference
    return total


@compiled(nogil=True)
def _insert(indices: np.ndarray, squares: np.ndarray, count: int, index: int, square: float) -> int:
    """Insert into a list sorted by (square, index); return the new count."""
    k = len(indices)
    if count == k:
        if (square, index) >= (squares[k - 1], indices[k - 1]):
            return count
        count -= 1
    place = count
    while place > 0 and (square, index) < (squares[place - 1], indices[place - 1]):
        squares[place] = squares[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    squares[place] = square
    indices[place] = index
    return count + 1


@compiled(nogil=True)
def _measure(
    rows: np.ndarray,
    start: int,
    scale_squared: float,
    bounds: np.ndarray,
    nominated: np.ndarray,
    indices: np.ndarray,
    squares: np.ndarray,
) -> np.ndarray:
    """Measure the nominated pairs of the rows from `start` on; return which are certain to have their nearest among them."""
    size, k = indices.shape
    certified = np.zeros(size, np.bool_)
    for place in range(size):
        row = rows[start + place]
        indices[place] = -1
        squares[place] = np.inf
        count = 0
        for nomination in range(bounds.shape[1]):
            candidate = nominated[place, nomination]
            if candidate >= 0:
                count = _insert(
                    indices[place], squares[place], count, candidate, _squared_distance(row, rows[candidate])
                )
        # The root is the largest nominated bound; where the heap was never filled, all possible neighbours were measured.
        certified[place] = bounds[place, 0] == np.inf or squares[place, k - 1] * scale_squared < bounds[place, 0]
    return certified


@compiled(nogil=True)
def _search_again(
    product: np.ndarray,
    some: np.ndarray,
    into: np.ndarray,
    rows: np.ndarray,
    scale_squared: float,
    shrunk: np.ndarray,
    slack: np.float32,
    groups: np.ndarray,
    indices: np.ndarray,
    squares: np.ndarray,
) -> None:
    """Measure, for some rows, every pair whose lower bound does not rule it out; `into` says where the answers go."""
    k = indices.shape[1]
    two = np.float32(2)
    for place in range(len(some)):
        row, to = some[place], into[place]
        limit = squares[to, k - 1] * scale_squared
        indices[to] = -1
        squares[to] = np.inf
        count = 0
        for candidate in range(len(rows)):
            bound = shrunk[row] - slack + shrunk[candidate] - two * product[place, candidate]
            if bound <= limit and _apart(groups, row, candidate):
                count = _insert(
                    indices[to], squares[to], count, candidate, _squared_distance(rows[row], rows[candidate])
                )
                if count == k:
                    limit = min(limit, squares[to, k - 1] * scale_squared)
                    if squares[to, k - 1] == 0.0:
                        break  # later rows cannot be nearer than 0, and equals stand in index order
