"""Cellpose-SAM on whole fields: optional, ``pip install 'pci-bench[cellpose]'``."""

from __future__ import annotations

import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, each_field, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.segmentation.cellpose import cellpose_labels, missing_cellpose


class CellposeParams(pydantic.BaseModel):
    """Options of Cellpose."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    diameter: float | None = pydantic.Field(
        None,
        gt=0,
        description="typical diameter of an object in pixels; the image is not rescaled where it is not given",
    )


@register_field_segmenter("cellpose")
class CellposeField(FieldSegmenter):
    """Cellpose 4 (model cpsam) on a channel of a whole field.

    As the segmenter of crops of the same name it downloads its weights (1.2 GB) on first use, and has not been measured.
    """

    meta = SegmenterMeta("cellpose", "1", "Cellpose-SAM on a whole field")
    Params = CellposeParams

    def unavailable_reason(self) -> str | None:
        """Return that Cellpose is missing, without importing it, or None."""
        return missing_cellpose()

    def open(self, params: CellposeParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its objects.

        Raises
        ------
        UserError
            Where the weights are not there and cannot be downloaded.
        """
        return each_field(cellpose_labels(device, **({} if params.diameter is None else {"diameter": params.diameter})))
