"""The default segmenter: smoothed Otsu threshold, and a watershed of the distance transform between touching cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.segmenter import DEFAULT_SEGMENTER, Segment, Segmenter, SegmenterMeta, each_crop, register_segmenter
from pci_bench.segmentation.outlines import hull_area, inside_window, reaches
from pci_bench.segmentation.split import centre_label, contacts, cut_off, lobe, mother_and_bud

if TYPE_CHECKING:
    from pci_bench.data.cells import Channel

SMOOTHING = 1.0  # pixels, of the image
DISTANCE_SMOOTHING = 0.7  # pixels, of the distance transform
HEIGHTS = (0.0, 0.3, 0.6)  # from Otsu's threshold (0) to the upper quartile of what lies above it (1)
DYNAMICS = 0.15  # pixels: shallower peaks of the distance transform are one
CONVEXITY = 0.05  # of the smaller region's area: what the common outline of two parts of one cell may enclose in excess
VACUOLE = 0.88  # of its outline: a hole that is filled so much is a vacuole, else a gap between cells
OUTLINE = 0.35  # of a cell's brightness: where its outline is drawn
HAZE = 0.2  # of a cell's brightness: darker is no part of it, neither of its bud nor of its vacuole
DIMMEST_BUD = 0.35  # of its mother's brightness
BRIGHTNESS = 0.7  # the quantile of a cell's pixels that counts as its brightness, so that a vacuole does not
SOLID = 0.8  # of its outline: a region that is filled so much is a convex cell, and notches in it are vacuoles
SMALLEST = 12  # pixels: less is noise


@register_segmenter(DEFAULT_SEGMENTER)
class OtsuWatershed(Segmenter):
    """Smoothed Otsu threshold, watershed of the distance transform, and the bud cut off at the neck.

    It reads the first marker, or the sum of all channels where there is no marker. Cells are assumed to be convex but for the
    neck of a bud. Each crop is segmented by itself; a constant crop gives an empty mask. On crops of human cells whose first
    marker is the nucleus, the nucleus is what is found.
    """

    meta = SegmenterMeta(
        DEFAULT_SEGMENTER, "2", "Smoothed Otsu threshold, distance-transform watershed, bud split at the neck"
    )

    def open(self, channels: tuple[Channel, ...], device: str) -> Segment:
        """Return a function of crops that gives their masks."""
        return each_crop(channels, lambda image: mother_and_bud(cells_of(image)))


def cells_of(image: np.ndarray) -> np.ndarray:
    """Return a label image of the cells in a crop; the middle cell's bud, where one is found, has a label of its own.

    (rows, columns) -> (rows, columns) int, 0 background and 1 … n; all 0 for a constant image.
    """
    height = smoothed(image)
    if not height.any():
        return np.zeros(image.shape, int)
    labels, distance = basins(height)
    labels = merged_by_shape(merged_by_depth(labels, distance))
    return filled(outlined(with_lobe(labels, height), height), height)


def smoothed(image: np.ndarray) -> np.ndarray:
    """Return an image (rows, columns), smoothed, as heights above its darkest pixels in float64."""
    from scipy import ndimage

    height = ndimage.gaussian_filter(image.astype(np.float64), SMOOTHING)
    above: np.ndarray = np.maximum(height - np.quantile(height, 0.02), 0)
    return above


def basins(height: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the basins (rows, columns) int of the distance transform of what is bright, and that transform."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    threshold = threshold_otsu(np.sqrt(height)) ** 2  # the root, so that a dim cell beside bright ones is not lost
    upper = np.quantile(height[height > threshold], 0.75)
    # The mean of distance transforms at several heights sees the dim lines between cells that one threshold misses.
    levels = [without_vacuoles(height > threshold + h * (upper - threshold)) for h in HEIGHTS]
    foreground = levels[0]
    distances = [ndimage.distance_transform_edt(level) for level in levels]
    distance = ndimage.gaussian_filter(np.mean(distances, axis=0), DISTANCE_SMOOTHING) * foreground
    peaks = foreground & (distance == ndimage.maximum_filter(distance, size=3))
    return watershed(-distance, ndimage.label(peaks, np.ones((3, 3)))[0], mask=foreground), distance


def without_vacuoles(foreground: np.ndarray) -> np.ndarray:
    """Return the foreground with its convex holes filled; gaps between round cells have hollow sides and stay."""
    from scipy import ndimage

    holes, count = ndimage.label(~foreground)
    enclosed = np.ones(count + 1, bool)
    enclosed[np.concatenate([[0], holes[0], holes[-1], holes[:, 0], holes[:, -1]])] = False
    if not enclosed.any():
        return foreground
    holes[~enclosed[holes]] = 0
    vacuole = enclosed[: holes.max() + 1] & (np.bincount(holes.ravel()) >= VACUOLE * hull_area(reaches(holes)))
    closed: np.ndarray = foreground | vacuole[holes]
    return closed


def merged_by_depth(labels: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Return the regions, those joined whose distance peaks are hardly parted by a saddle."""
    count = int(labels.max())
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, labels.ravel(), distance.ravel())
    saddles = np.full((count + 1, count + 1), -np.inf)
    vertical = (labels[:-1], labels[1:], distance[:-1], distance[1:])
    horizontal = (labels[:, :-1], labels[:, 1:], distance[:, :-1], distance[:, 1:])
    for a, b, height_a, height_b in (vertical, horizontal):
        between = (a != b) & (a > 0) & (b > 0)
        np.maximum.at(saddles, (a[between], b[between]), np.minimum(height_a[between], height_b[between]))
    saddles = np.maximum(saddles, saddles.T)
    joined = np.arange(count + 1)
    while True:
        depth = np.minimum.outer(peaks, peaks) - saddles
        kept, lost = np.unravel_index(np.argmin(depth), depth.shape)
        if depth[kept, lost] >= DYNAMICS:
            return _renumbered(joined, labels)
        saddles[kept] = saddles[:, kept] = np.maximum(saddles[kept], saddles[lost])
        saddles[kept, kept] = saddles[lost] = saddles[:, lost] = -np.inf
        peaks[kept] = max(peaks[kept], peaks[lost])
        joined[joined == lost] = kept


def merged_by_shape(labels: np.ndarray) -> np.ndarray:
    """Return the regions, those joined that make up one convex shape: the parts of a cell that a vacuole cut up."""
    touching = contacts(labels) > 0
    reach = reaches(labels)
    areas = hull_area(reach)
    joined = np.arange(len(areas))
    while touching.any():
        first, second = np.nonzero(np.triu(touching))
        together = hull_area(np.maximum(reach[first], reach[second]))
        excess = (together - areas[first] - areas[second]) / np.minimum(areas[first], areas[second])
        best = np.argmin(excess)
        if excess[best] > CONVEXITY:
            break
        kept, lost = first[best], second[best]
        reach[kept], areas[kept] = np.maximum(reach[kept], reach[lost]), together[best]
        touching[kept] = touching[:, kept] = touching[kept] | touching[lost]
        touching[kept, kept] = touching[lost] = touching[:, lost] = False
        joined[joined == lost] = kept
    return _renumbered(joined, labels)


def with_lobe(labels: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the regions, a small bud that has no distance peak of its own cut off the middle cell."""
    centre = centre_label(labels)
    background = _background(labels, height)
    brightness = _brightness(height[labels == centre]) - background
    cell = _largest_piece((labels == centre) & (height > background + HAZE * brightness))
    bud = lobe(cell)
    if not bud.any() or _brightness(height[bud]) - background < DIMMEST_BUD * brightness:
        return labels
    return cut_off(labels, cell & ~bud, bud)


def outlined(labels: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the regions, each cut back to where it falls to a share of its own brightness, so that dim cells keep their size."""
    from scipy import ndimage

    background = _background(labels, height)
    result = np.zeros_like(labels)
    for label, window in enumerate(ndimage.find_objects(labels), start=1):
        region, heights = labels[window] == label, height[window]
        limit = background + OUTLINE * (_brightness(heights[region]) - background)
        cell = _largest_piece(region & (heights > limit))
        if cell.sum() >= SMALLEST:
            result[window][cell] = label
    return _renumbered(np.arange(labels.max() + 1), result)


def filled(labels: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Return the regions, each that is nearly convex filled up to its convex outline: a vacuole at the rim leaves a notch."""
    from scipy import ndimage

    background = _background(labels, height)
    result = labels.copy()
    reach, areas = reaches(labels), np.bincount(labels.ravel())
    own = ndimage.find_objects(labels)
    for label in np.flatnonzero(areas >= SOLID * hull_area(reach)):
        if label:
            region = own[label - 1]
            limit = background + HAZE * (_brightness(height[region][labels[region] == label]) - background)
            window, outlined = inside_window(reach[label], labels.shape)
            result[window][outlined & (height[window] > limit) & (result[window] == 0)] = label
    return result


def _renumbered(numbers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return numbers[labels] with labels 1 … n without gaps."""
    used, positions = np.unique(numbers[labels], return_inverse=True)
    return positions.reshape(labels.shape) + (0 if used[0] == 0 else 1)


def _background(labels: np.ndarray, height: np.ndarray) -> float:
    outside = height[labels == 0]
    return float(np.median(outside)) if outside.size else 0.0


def _brightness(heights: np.ndarray) -> float:
    return float(np.sort(heights)[int(BRIGHTNESS * (len(heights) - 1))])


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    """Return the largest connected piece of a mask, its holes filled."""
    from scipy import ndimage

    pieces, count = ndimage.label(mask)
    if count == 0:
        return mask
    piece: np.ndarray = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    outside = np.ones((mask.shape[0] + 2, mask.shape[1] + 2), bool)
    outside[1:-1, 1:-1] = ~piece
    parts, count = ndimage.label(outside)
    whole: np.ndarray = parts[1:-1, 1:-1] != parts[0, 0]
    return piece if count == 1 else whole
