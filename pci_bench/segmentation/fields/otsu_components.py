"""Connected components above Otsu's threshold: the paper's rule for human nuclei."""

from __future__ import annotations

import numpy as np
import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, in_reading_order, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta


class OtsuComponentsParams(pydantic.BaseModel):
    """Options of the connected components."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    smoothing: float = pydantic.Field(
        0.0, ge=0, description="sigma in pixels of a Gaussian before the threshold; the paper has none"
    )


@register_field_segmenter("otsu-components")
class OtsuComponents(FieldSegmenter):
    """Otsu's threshold and connected components, pixels that touch at a corner connected.

    What the paper says of its human images; nuclei that touch are one object. It then drops objects of less than 400 pixels.
    """

    meta = SegmenterMeta("otsu-components", "1", "Connected components above Otsu's threshold (the paper's human rule)")
    Params = OtsuComponentsParams

    def open(self, params: OtsuComponentsParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its components."""

        def segment(image: np.ndarray) -> np.ndarray:
            from scipy import ndimage
            from skimage.filters import threshold_otsu

            smooth = ndimage.gaussian_filter(image.astype(np.float64), params.smoothing)
            if smooth.min() == smooth.max():
                return np.zeros(image.shape, np.int32)
            return in_reading_order(ndimage.label(smooth > threshold_otsu(smooth), np.ones((3, 3)))[0])

        return segment
