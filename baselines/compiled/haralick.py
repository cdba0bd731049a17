"""Haralick's texture of many small images at once, with the numbers of ``mahotas.features.haralick``.

A co-occurrence matrix of a 64×64 crop has 65,536 entries and at most 4,096 different pairs of neighbours, so it is never
looked at as a whole: a pair's entry is raised while the image is walked once, read and cleared while it is walked again.
Everything else follows from three small sums and two histograms. Moments are exact integers until the last division;
entropies are sums of p·log₂p with both factors accurate where p is near 0 and near 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np

from pci_bench import UserError
from pci_bench.system.compilation import compiled

LEVELS = 256
MAX_PIXELS = 2**22  # beyond it the integer moments could overflow


def haralick(images: np.ndarray, distances: Sequence[int]) -> np.ndarray:
    """Return Haralick's 13 features of every image at every distance, mean over the four directions.

    Parameters
    ----------
    images
        (n, rows, columns) uint8. Levels are 0 … an image's maximum, zeros count.
    distances
        Offsets in pixels; diagonal neighbours are that many rows *and* columns away.

    Returns
    -------
    numpy.ndarray
        (n, distances, 13) float64: features 1–13 of Haralick, Shanmugam and Dinstein (1973) of the symmetric
        co-occurrence matrix, entropies in bits. As in mahotas, the difference variance (10) is the variance over levels of
        the *distribution* of differences, the correlation (3) of equal levels is 1, and the second information measure (13)
        has the natural exponential of entropies in bits.

    Raises
    ------
    UserError
        For other dtypes or dimensions, and for distances that leave no pair of neighbours in some direction.
    """
    if images.ndim != 3 or images.dtype != np.uint8:
        raise UserError(f"The images are {images.dtype} of shape {images.shape}; expected uint8 (n, rows, columns).")
    _, rows, columns = images.shape
    if min(distances) < 1 or max(distances) >= min(rows, columns):
        raise UserError(
            f"Texture at {', '.join(map(str, distances))} px needs distances from 1 px and images that are larger; "
            f"these have {rows}×{columns} px."
        )
    if rows * columns > MAX_PIXELS:
        raise UserError(f"Images of {rows}×{columns} px are too large; texture is measured up to {MAX_PIXELS:,} px.")
    logarithms = np.zeros(2 * rows * columns + 1)
    logarithms[1:] = np.log2(np.arange(1, len(logarithms)))
    return _haralick(np.ascontiguousarray(images), np.array(distances, np.int64), logarithms)


@compiled(parallel=True)
def _haralick(images: np.ndarray, distances: np.ndarray, logarithms: np.ndarray) -> np.ndarray:
    """Share the images over the threads; each is measured by one of them from start to end."""
    features = np.zeros((len(images), len(distances), 13))
    for i in numba.prange(len(images)):
        joint = np.zeros((LEVELS, LEVELS), np.int32)
        differences = np.zeros(LEVELS, np.int32)
        sums = np.zeros(2 * LEVELS, np.int32)
        levels = np.zeros(LEVELS, np.int32)
        image = images[i]
        highest = np.int64(image.max())
        for place in range(len(distances)):
            d = distances[place]
            for down, right in ((0, d), (d, d), (d, 0), (d, -d)):
                pixels, neighbors = _neighbors(image, down, right)
                _add_features(
                    pixels, neighbors, joint, differences, sums, levels, highest, logarithms, features[i, place]
                )
    return features / 4


@compiled(nogil=True)
def _neighbors(image: np.ndarray, down: int, right: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two views of an image such that pixels in the same place are neighbours."""
    rows, columns = image.shape
    if right >= 0:
        return image[: rows - down, : columns - right], image[down:, right:]
    return image[: rows - down, -right:], image[down:, : columns + right]


@compiled(nogil=True)
def _bits(count: np.int64, total: int, logarithms: np.ndarray) -> float:
    """Return −p·log₂p of p = count / total; where p is near 1 the difference of logarithms would cancel."""
    p = count / total
    return -p * (math.log2(p) if 2 * count > total else logarithms[count] - logarithms[total])


@compiled(nogil=True)
def _add_features(
    pixels: np.ndarray,
    neighbors: np.ndarray,
    joint: np.ndarray,
    differences: np.ndarray,
    sums: np.ndarray,
    levels: np.ndarray,
    highest: np.int64,
    logarithms: np.ndarray,
    features: np.ndarray,
) -> None:
    """Add the 13 features of one direction. The work space is all zeros before and after."""
    rows, columns = pixels.shape
    pairs = rows * columns
    total = 2 * pairs  # every pair counts in both orders
    first = squares = products = np.int64(0)
    for r in range(rows):
        for c in range(columns):
            a, b = np.int64(pixels[r, c]), np.int64(neighbors[r, c])
            first += a + b
            squares += a * a + b * b
            products += a * b
            joint[min(a, b), max(a, b)] += 1
            differences[abs(a - b)] += 1
            sums[a + b] += 1
            levels[a] += 1
            levels[b] += 1

    entropy, moment = 0.0, np.int64(0)
    for r in range(rows):
        for c in range(columns):
            low, high = min(pixels[r, c], neighbors[r, c]), max(pixels[r, c], neighbors[r, c])
            count = np.int64(joint[low, high])
            if count:
                joint[low, high] = 0
                if low == high:
                    moment += 4 * count * count
                    entropy += _bits(2 * count, total, logarithms)
                else:
                    moment += 2 * count * count
                    entropy += 2 * _bits(count, total, logarithms)

    inverse_difference, difference_entropy, difference_variance = 0.0, 0.0, 0.0
    level_entropy = 0.0
    for level in range(highest + 1):
        count = differences[level]
        difference_variance += (count / pairs - 1 / (highest + 1)) ** 2
        if count:
            differences[level] = 0
            inverse_difference += count / (1 + level * level)
            difference_entropy += _bits(count, pairs, logarithms)
        if levels[level]:
            level_entropy += _bits(levels[level], total, logarithms)
            levels[level] = 0
    sum_entropy = 0.0
    for level in range(2 * highest + 1):
        if sums[level]:
            sum_entropy += _bits(sums[level], pairs, logarithms)
            sums[level] = 0

    spread = total * squares - first * first  # the variance of levels, times total²
    features[0] += moment / (float(total) * total)
    features[1] += (squares - 2 * products) / pairs
    features[2] += (2 * total * products - first * first) / spread if spread else 1.0
    features[3] += spread / (float(total) * total)
    features[4] += inverse_difference / pairs
    features[5] += first / pairs
    features[6] += (pairs * (squares + 2 * products) - first * first) / (float(pairs) * pairs)
    features[7] += sum_entropy
    features[8] += entropy
    features[9] += difference_variance / (highest + 1)
    features[10] += difference_entropy
    # Both of Haralick's HXY1 and HXY2 are twice the entropy of the levels, because the matrix is symmetric.
    shared = 2 * level_entropy - entropy
    features[11] += -shared / level_entropy if level_entropy else 0.0
    features[12] += math.sqrt(max(0.0, -math.expm1(-2 * shared)))
