"""The default segmenter: smoothed Otsu threshold, then a watershed of the distance transform."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.segmentation.base import DEFAULT_SEGMENTER, MOTHER, Segment, SegmenterMeta, register_segmenter

if TYPE_CHECKING:
    from pci_bench.cells import Channel


@register_segmenter(DEFAULT_SEGMENTER)
class OtsuWatershed:
    """Otsu's threshold of the smoothed marker, and a watershed of the distance transform between touching cells."""

    meta = SegmenterMeta(DEFAULT_SEGMENTER, "1", "Smoothed Otsu threshold and distance-transform watershed")

    def skip(self) -> str | None:
        """Return None: it needs nothing but scikit-image, which is always installed."""
        return None

    def open(self, channels: tuple[Channel, ...], device: str) -> Segment:
        """Return a function of crops that gives their masks."""
        marker = next((i for i, c in enumerate(channels) if c.role == "marker"), None)

        def segment(crops: np.ndarray) -> np.ndarray:
            images = crops.sum(axis=1) if marker is None else crops[:, marker]
            masks = [segmented(image) for image in images]
            return np.stack(masks) if masks else np.zeros(images.shape, np.uint16)

        return segment


def segmented(image: np.ndarray) -> np.ndarray:
    """Return the mask of one crop."""
    from scipy import ndimage
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    smooth = ndimage.gaussian_filter(image.astype(np.float64), 1.0)
    if np.ptp(smooth) == 0:
        return np.zeros(image.shape, np.uint16)
    foreground = ndimage.binary_fill_holes(smooth > threshold_otsu(smooth))
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(foreground), 1.0)
    peaks = (distance == ndimage.maximum_filter(distance, size=11)) & foreground
    labels = watershed(-distance, ndimage.label(peaks)[0], mask=foreground)
    rows, columns = np.nonzero(labels)
    if len(rows) == 0:
        return np.zeros(image.shape, np.uint16)
    middle = (np.array(image.shape) - 1) / 2
    nearest = np.argmin((rows - middle[0]) ** 2 + (columns - middle[1]) ** 2)
    centre = labels[rows[nearest], columns[nearest]]
    others = np.where((labels > 0) & (labels != centre), labels + 2, 0)
    return np.where(labels == centre, MOTHER, others).astype(np.uint16)
