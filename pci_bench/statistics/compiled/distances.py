"""Mean Euclidean distances between the cells of two images, for many pairs of images, in float64.

Each image's rows are standardised once into a small buffer; then Σ(a − b)² is summed directly, four rows of the other image
at a time. There is no Gram matrix: its ‖a‖² + ‖b‖² − 2 a·b cancels, and for images of a few cells it is slower as well.
"""

from __future__ import annotations

import numba
import numpy as np

from pci_bench.system.blocks import HERE, Blocks, BlockWork
from pci_bench.system.compilation import compiled

TILE = 32  # rows per buffer, so that two of them stay in the cache however many cells an image has
CHUNK_PAIRS = 64  # pairs that a thread takes at a time
SECONDS_PER_DIFFERENCE = 1e-10  # of a core, for a value of a cell minus one of another


def column_scale(features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and 1 / SD (ddof 0) of every column over some rows, in float64; 0 in place of 1 / SD where constant.

    (n, d), (m,) int -> (d,), (d,). ``(features - mean) * inverse`` is :func:`pci_bench.api.evaluator.standardized`, without
    a float64 copy of all features.
    """
    count, width = len(rows), features.shape[1]
    total, squares = np.zeros(width), np.zeros(width)
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    parts = range(0, count, 8192)
    for start in parts:
        part = features[rows[start : start + 8192]]
        total += part.sum(axis=0, dtype=np.float64)
        low, high = np.minimum(low, part.min(axis=0)), np.maximum(high, part.max(axis=0))
    mean = total / max(count, 1)
    with np.errstate(invalid="ignore"):  # the caller looks for infinite means
        for start in parts:
            squares += np.square(features[rows[start : start + 8192]] - mean).sum(axis=0)
    spread = np.sqrt(squares / max(count, 1))
    varies = (low < high) & (spread > 0)
    return mean, np.divide(1, spread, out=np.zeros(width), where=varies)


def mean_distances(
    features: np.ndarray,
    images: np.ndarray,
    pairs: np.ndarray,
    *,
    mean: np.ndarray | None = None,
    inverse: np.ndarray | None = None,
    blocks: Blocks = HERE,
) -> np.ndarray:
    """Return, for every pair of images, the mean Euclidean distance between a cell of the one and a cell of the other.

    Parameters
    ----------
    features
        (n, d) float, finite.
    images
        (n,) int: each cell's image, 0, 1, …; negative for cells of none.
    pairs
        (m, 2) int: images that have cells. An image paired with itself counts each cell's distance 0 to itself.
    mean, inverse
        (d,): what is subtracted from every column and multiplied with it first; default 0 and 1.
    blocks
        Where the pairs are shared out.

    Returns
    -------
    numpy.ndarray
        (m,) float64. The same, to the last bit, for either order of a pair, any order of pairs and any number of threads.
    """
    values = np.ascontiguousarray(features, dtype=None if features.dtype == np.float32 else np.float64)
    members = np.argsort(images, kind="stable")
    members = members[images[members] >= 0]
    starts = np.searchsorted(images[members], np.arange(images.max(initial=-1) + 2))
    mean = np.zeros(values.shape[1]) if mean is None else np.asarray(mean, np.float64)
    inverse = np.ones(values.shape[1]) if inverse is None else np.asarray(inverse, np.float64)
    ordered = np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1)
    turn = np.lexsort((ordered[:, 1], ordered[:, 0]))  # neighbours share their first image, which is then in its buffer
    cells = float(np.diff(starts)[ordered].prod(axis=1).sum())
    work = BlockWork(
        "pairwise distances",
        distance_block,
        (values, members, starts, ordered[turn], mean, inverse),
        len(ordered),
        SECONDS_PER_DIFFERENCE * cells * values.shape[1],
    )
    distances = np.empty(len(ordered))
    (distances[turn],) = blocks.computed(work)
    return distances


def distance_block(
    start: int,
    stop: int,
    features: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    pairs: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
) -> tuple[np.ndarray]:
    """Return the distances (stop − start,) of the pairs from `start` to before `stop`, of which each has its smaller image first.

    Parameters
    ----------
    start, stop
        Of the block.
    features, mean, inverse
        As in :func:`mean_distances`.
    members, starts
        The cells by image, and where each image begins among them.
    pairs
        All pairs (m, 2) int64.
    """
    return (_mean_distances(features, members, starts, pairs[start:stop], mean, inverse),)


@compiled(nogil=True)
def _fetch(
    features: np.ndarray,
    members: np.ndarray,
    start: int,
    stop: int,
    mean: np.ndarray,
    inverse: np.ndarray,
    buffer: np.ndarray,
) -> None:
    """Copy the rows of some cells to a buffer, standardised."""
    for place in range(stop - start):
        row, copy = features[members[start + place]], buffer[place]
        for i in range(len(mean)):
            copy[i] = (np.float64(row[i]) - mean[i]) * inverse[i]


@compiled(nogil=True, fastmath={"reassoc", "contract"})
def _summed(row: np.ndarray, other_rows: np.ndarray, count: int) -> float:
    """Return the sum of a row's distances to the first `count` others; four at a time, so that it is loaded once for four."""
    total = 0.0
    j = 0
    while j + 4 <= count:
        other0, other1, other2, other3 = other_rows[j], other_rows[j + 1], other_rows[j + 2], other_rows[j + 3]
        sum0 = sum1 = sum2 = sum3 = 0.0
        for i in range(len(row)):
            value = row[i]
            d0, d1, d2, d3 = value - other0[i], value - other1[i], value - other2[i], value - other3[i]
            sum0 += d0 * d0
            sum1 += d1 * d1
            sum2 += d2 * d2
            sum3 += d3 * d3
        total += np.sqrt(sum0) + np.sqrt(sum1) + np.sqrt(sum2) + np.sqrt(sum3)
        j += 4
    while j < count:
        other_row = other_rows[j]
        square = 0.0
        for i in range(len(row)):
            difference = row[i] - other_row[i]
            square += difference * difference
        total += np.sqrt(square)
        j += 1
    return total


@compiled(nogil=True, parallel=True)
def _mean_distances(
    features: np.ndarray,
    members: np.ndarray,
    starts: np.ndarray,
    pairs: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
) -> np.ndarray:
    distances = np.empty(len(pairs))
    for chunk in numba.prange((len(pairs) + CHUNK_PAIRS - 1) // CHUNK_PAIRS):
        rows = np.empty((TILE, features.shape[1]))
        other_rows = np.empty((TILE, features.shape[1]))
        held = -1  # where the rows in the buffer start
        for pair in range(chunk * CHUNK_PAIRS, min(len(pairs), (chunk + 1) * CHUNK_PAIRS)):
            first, second = pairs[pair, 0], pairs[pair, 1]
            total = 0.0
            for a in range(starts[first], starts[first + 1], TILE):
                a_stop = min(a + TILE, starts[first + 1])
                if a != held:
                    _fetch(features, members, a, a_stop, mean, inverse, rows)
                    held = a
                for b in range(starts[second], starts[second + 1], TILE):
                    b_stop = min(b + TILE, starts[second + 1])
                    _fetch(features, members, b, b_stop, mean, inverse, other_rows)
                    for place in range(a_stop - a):
                        total += _summed(rows[place], other_rows, b_stop - b)
            cells = (starts[first + 1] - starts[first]) * (starts[second + 1] - starts[second])
            distances[pair] = total / cells
    return distances
