"""Roundish cells that fill with a stain, such as yeast: the method of the segmenter of crops, for whole fields."""

from __future__ import annotations

import numpy as np
import pydantic

from pci_bench.api.field_segmenter import FieldSegmenter, SegmentField, in_reading_order, register_field_segmenter
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.segmentation.fields.regions import Border, Region, joined
from pci_bench.segmentation.otsu import CONVEXITY, DYNAMICS, basins, filled, outlined, smoothed
from pci_bench.segmentation.outlines import hull_area


class CellsParams(pydantic.BaseModel):
    """Options of the segmenter of cells."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    convexity: float = pydantic.Field(
        CONVEXITY,
        ge=0,
        description="parts are one cell where their common outline encloses no more than this share of the smaller one in excess",
    )


@register_field_segmenter("cells")
class FieldCells(FieldSegmenter):
    """Smoothed Otsu threshold, watershed of the distance transform, and a join of parts that make up one convex cell.

    The method of ``otsu-watershed`` on a whole field. A bud with a neck is an object of its own.
    """

    meta = SegmenterMeta("cells", "1", "Roundish cells: smoothed Otsu threshold, watershed, convex parts joined")
    Params = CellsParams

    def open(self, params: CellsParams, device: str) -> SegmentField:
        """Return a function of a channel that gives its cells."""
        return lambda image: in_reading_order(cells_of_field(image, params.convexity))


def cells_of_field(image: np.ndarray, convexity: float = CONVEXITY) -> np.ndarray:
    """Return a label image of the cells in a field: (rows, columns) -> (rows, columns) int, 0 background."""
    height = smoothed(image)
    if not height.any():
        return np.zeros(image.shape, int)

    def saddle(first: Region, second: Region, border: Border) -> float:
        return float(min(first.peak, second.peak) - border.heights.max()) / DYNAMICS

    def excess(first: Region, second: Region, border: Border) -> float:
        together = float(hull_area(np.maximum(first.reach, second.reach)))
        more = together - first.outline_area - second.outline_area
        return float(np.nextafter(more / min(first.outline_area, second.outline_area), -1)) / convexity

    labels, distance = basins(height)
    labels = joined(joined(labels, distance, saddle), distance, excess)
    return filled(outlined(labels, height), height)
