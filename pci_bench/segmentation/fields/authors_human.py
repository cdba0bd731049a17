"""How the code of the paper's authors finds human nuclei, which is not what the paper says."""

from __future__ import annotations

import numpy as np
import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, in_reading_order, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta


class AuthorsHumanParams(pydantic.BaseModel):
    """Options of the authors' code: its constants, in pixels of images that are downscaled fourfold."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    smoothing: float = pydantic.Field(
        5.0, ge=0, description="sigma in pixels of the Gaussian that the threshold is applied to"
    )
    holes: int = pydantic.Field(300, ge=0, description="holes of fewer pixels are filled")
    largest_dropped: int = pydantic.Field(100, ge=0, description="objects of so many pixels or fewer are dropped")


@register_field_segmenter("authors-human")
class AuthorsHuman(FieldSegmenter):
    """Otsu's threshold of the unsmoothed channel, applied to the smoothed one; holes filled, the border cleared, small objects dropped.

    The filters are part of it, because the authors' code has them. The channel is to be downscaled fourfold before.
    """

    meta = SegmenterMeta("authors-human", "1", "The authors' code for human nuclei, on channels downscaled fourfold")
    Params = AuthorsHumanParams

    def open(self, params: AuthorsHumanParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its nuclei."""

        def segment(image: np.ndarray) -> np.ndarray:
            from scipy import ndimage
            from skimage.filters import threshold_otsu

            if image.min() == image.max():
                return np.zeros(image.shape, np.int32)
            pixels = image.astype(np.float64)
            bright = ndimage.gaussian_filter(pixels, params.smoothing, mode="nearest") > threshold_otsu(pixels)
            gaps, _ = ndimage.label(~bright)
            bright |= (np.bincount(gaps.ravel()) < params.holes)[gaps] & (gaps > 0)
            labels, count = ndimage.label(bright, np.ones((3, 3)))
            kept = np.bincount(labels.ravel(), minlength=count + 1) > params.largest_dropped
            kept[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
            kept[0] = False
            return in_reading_order(np.where(kept[labels], labels, 0))

        return segment
