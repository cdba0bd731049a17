"""Nuclei of adherent cells in a DNA stain: local threshold, watershed, and a join of what was one convex nucleus."""

from __future__ import annotations

import numpy as np
import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, in_reading_order, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.segmentation.fields.regions import Border, Region, joined
from pci_bench.segmentation.outlines import hull_area, widths

# Lengths are shares of a nucleus' diameter, contrasts of the stain's square root above the local background.
SMOOTHING = 0.05
SURROUNDINGS = 2.0  # the width of the square in which the local background is the darkest
LOCAL = 0.5  # of the way from the local background to the nuclei near by: where a nucleus ends
FAINTEST, SUREST = 0.7, 1.4  # of Otsu's threshold: less is never a nucleus, more always is
VALLEY_SCALE, VALLEY = 0.12, 0.02  # at which width, and how much a line must be darker than both its sides
DEPTH = 0.07  # of the watershed's relief: shallower peaks are one
HOLE = 0.1  # of a nucleus' area: a larger gap is none
SMALLEST = 0.12  # of a nucleus' area: less is debris
EXCESS = 0.22  # of the smaller part's area: what an outline of both parts encloses beyond them
DIMMING = 0.22  # of the dimmer part: how much darker the line between them is
NECK = 0.32  # of the narrower part: how much shorter the line is than the parts are wide
SCALES = 1.4 * 1.2 ** np.arange(13)  # pixels of the half-size image: radii of 4 to 35 pixels


class NucleiParams(pydantic.BaseModel):
    """Options of the segmenter of nuclei."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    diameter: float | None = pydantic.Field(
        None,
        ge=4,
        description="typical diameter of a nucleus in pixels; estimated from each field where it is not given",
    )


@register_field_segmenter("nuclei")
class Nuclei(FieldSegmenter):
    """Local threshold, watershed of shape and brightness, and a join of parts that make up one convex nucleus.

    For nuclei of adherent cells, crowded or not, of 8 to 70 pixels. A field in which nothing stands out has none.
    """

    meta = SegmenterMeta("nuclei", "1", "Nuclei in a DNA stain: local threshold, watershed, convex parts joined")
    Params = NucleiParams

    def open(self, params: NucleiParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its nuclei."""
        return lambda image: in_reading_order(nuclei_of(image, params.diameter))


def nuclei_of(image: np.ndarray, diameter: float | None = None) -> np.ndarray:
    """Return a label image of the nuclei in a field: (rows, columns) -> (rows, columns) int, 0 background."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    stain = np.sqrt(
        np.maximum(image.astype(np.float64), 0)
    )  # the root, so that dim nuclei beside bright ones are not lost
    width = diameter or estimated_diameter(stain)
    if width is None or stain.min() == stain.max():
        return np.zeros(image.shape, int)
    gaussian = ndimage.gaussian_filter
    smooth = gaussian(stain, max(0.7, SMOOTHING * width))
    darkest = ndimage.minimum_filter(gaussian(smooth, 0.1 * width), _odd(SURROUNDINGS * width))
    brightest = ndimage.maximum_filter(gaussian(smooth, 0.2 * width), _odd(1.2 * width))
    background = gaussian(darkest, width)
    contrast, span = smooth - background, gaussian(brightest, 0.5 * width) - background
    otsu = threshold_otsu(contrast)
    if otsu <= 0:
        return np.zeros(image.shape, int)
    whole = contrast > np.clip(LOCAL * span, FAINTEST * otsu, SUREST * otsu)
    whole = ndimage.binary_opening(whole, iterations=max(1, round(width / 15)))
    area = np.pi / 4 * width**2
    whole = without_holes(whole, HOLE * area)
    # Nuclei that overlap leave a valley of brightness between them, nuclei that touch a neck of shape: the relief has both.
    span = np.maximum(span, otsu)
    parted = whole & (_valleys(stain, VALLEY_SCALE * width) < VALLEY * span)
    parted = without_holes(ndimage.binary_opening(parted, np.ones((2, 2))), 0.04 * area) & whole
    shape = 0.4 * ndimage.distance_transform_edt(whole) + 0.6 * ndimage.distance_transform_edt(parted)
    relief = shape / (width / 2) + 0.5 * gaussian(np.clip(contrast / span, 0, 1), 0.1 * width)
    relief = gaussian(relief, 0.06 * width) * whole
    markers, _ = ndimage.label(peaks(relief, DEPTH) & whole, np.ones((3, 3)))
    labels = joined(watershed(-relief, markers, mask=whole), contrast, unlike_one_nucleus)
    numbers = np.arange(labels.max() + 1)
    nuclei = (np.bincount(labels.ravel()) >= SMALLEST * area) & (
        np.nan_to_num(ndimage.median(contrast, labels, numbers)) > 0.9 * otsu
    )
    nuclei[0] = False
    return np.where(nuclei[labels], labels, 0)


def estimated_diameter(stain: np.ndarray) -> float | None:
    """Return the typical diameter in pixels of the bright spots of a field, None where there is no spot.

    Spots are the maxima over place and scale of the Laplacian of Gaussians; of their diameters it is the median,
    weighted by contrast.
    """
    from scipy import ndimage

    rows, columns = (2 * (length // 2) for length in stain.shape)
    if min(rows, columns) < 4:
        return None
    half = stain[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))
    response = np.stack([-(s**2) * ndimage.gaussian_laplace(half, s) for s in SCALES])
    spots = (response == ndimage.maximum_filter(response, size=3)) & (response > 1e-9 * np.abs(stain).max())
    spots[[0, -1]] = False
    scale = np.nonzero(spots)[0]
    if len(scale) == 0:
        return None
    weight = np.bincount(scale, weights=response[spots], minlength=len(SCALES)).cumsum()
    typical = SCALES[np.searchsorted(weight, weight[-1] / 2)]
    return float(
        2 * 2 * np.sqrt(2) * typical
    )  # a disc of the radius r answers most at r / √2; the image is half as large


def without_holes(mask: np.ndarray, largest: float) -> np.ndarray:
    """Return a mask (rows, columns) bool with its gaps of less than some pixels filled."""
    from scipy import ndimage

    gaps, _ = ndimage.label(~mask)
    small = np.bincount(gaps.ravel()) < largest
    filled: np.ndarray = mask | small[gaps]
    return filled


def peaks(relief: np.ndarray, depth: float) -> np.ndarray:
    """Return the tops (rows, columns) bool of the peaks that stand out by some depth."""
    from skimage.morphology import reconstruction

    flooded = reconstruction(relief - depth, relief)
    step = 1e-6
    tops: np.ndarray = flooded - reconstruction(flooded - step, flooded) > step / 2
    return tops


def unlike_one_nucleus(first: Region, second: Region, border: Border) -> float:
    """Return how little two touching parts look like one nucleus: 0 for the halves of an ellipse of even brightness."""
    together = float(hull_area(np.maximum(first.reach, second.reach)))
    excess = (together - first.outline_area - second.outline_area) / min(first.outline_area, second.outline_area)
    dimming = 1 - float(np.quantile(border.heights, 0.75)) / max(min(first.median, second.median), 1e-9)
    extent = widths(border.reach)
    direction = int(extent.argmax())
    narrower = min(widths(first.reach)[direction], widths(second.reach)[direction])
    neck = 1 - float(extent[direction] / narrower)
    return max(excess, 0) / EXCESS + max(dimming, 0) / DIMMING + max(neck, 0) / NECK


def _valleys(stain: np.ndarray, scale: float) -> np.ndarray:
    """Return how sharply the stain curves upwards across the sharpest direction, times the scale squared."""
    from scipy import ndimage

    down, across, mixed = (ndimage.gaussian_filter(stain, scale, order=o) for o in ((2, 0), (0, 2), (1, 1)))
    curvature: np.ndarray = (down + across) / 2 + np.hypot((down - across) / 2, mixed)
    return scale**2 * curvature


def _odd(length: float) -> int:
    return round(length) | 1
