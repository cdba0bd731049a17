"""StarDist on whole fields: optional, ``pip install 'pci-bench[stardist]'``."""

from __future__ import annotations

import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, each_field, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.segmentation.stardist import missing_stardist, stardist_labels


class StarDistParams(pydantic.BaseModel):
    """StarDist has no options here."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


@register_field_segmenter("stardist")
class StarDistField(FieldSegmenter):
    """StarDist (model 2D_versatile_fluo, trained on nuclei) on a channel of a whole field.

    As the segmenter of crops of the same name it downloads its weights on first use, and has not been measured.
    """

    meta = SegmenterMeta("stardist", "1", "StarDist 2D_versatile_fluo on a whole field")
    Params = StarDistParams

    def unavailable_reason(self) -> str | None:
        """Return what is missing, without importing it, or None."""
        return missing_stardist()

    def open(self, params: StarDistParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its nuclei.

        Raises
        ------
        UserError
            Where the weights are not there and cannot be downloaded.
        """
        return each_field(stardist_labels())
