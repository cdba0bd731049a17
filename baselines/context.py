"""How a cell lies among others, without a look at any pixel: a control for density, and for the size of the cell."""

from pathlib import Path

import numpy as np

from pci_bench import Channel, Compute, Extractor, ExtractorMeta, register_extractor

CENTRE = (1, 2)  # labels of the cell in the middle and of its bud
TOUCHING = 2  # pixels
MEASURES = {
    "area": "pixels of the cell in the middle (of its nucleus, where masks are of nuclei)",
    "others": "number of other cells that reach into the crop",
    "others_share": "share of the crop that is theirs",
    "background_share": "share of the crop that is of no cell",
    "gap": "pixels from the cell to the nearest other one",
    "distance": "mean distance in pixels from its centre to the others' centres, as far as they are in the crop",
    "contact": "share of the cell's pixels that are at most two pixels from another cell",
}


@register_extractor("context")
class Context(Extractor):
    """Number, area and distance of the other cells in the crop, the share of the background, and the area of the cell in the middle.

    It reads masks and nothing else, so a class that it predicts is predicted by how dense the cells grow, or by how large they are. Distances
    are the crop's diagonal where there is no other cell, or no cell in the middle.
    """

    meta = ExtractorMeta(
        "context",
        "1",
        "Density and context: other cells' number and distance, areas",
        {"": "; ".join(MEASURES.values())},
        rescale="raw",
        groups=("context-controls",),
        masks=True,
        processes=True,
    )

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return the measures' names."""
        return list(MEASURES)

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the measurement of a batch whose last channel holds the masks."""

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            return {"": np.array([context(mask) for mask in crops[:, -1]], dtype=np.float32)}

        return compute


def context(mask: np.ndarray) -> list[float]:
    """Return the measures of a mask (rows, columns): 0 background, 1 the cell in the middle, 2 its bud, 3 and above others."""
    from scipy.ndimage import center_of_mass, distance_transform_edt

    own, other = np.isin(mask, CENTRE), mask > max(CENTRE)
    labels = np.unique(mask[other])
    gap = distance = float(np.hypot(*mask.shape))
    contact = 0.0
    if own.any() and other.any():
        to_others = distance_transform_edt(~other)[own]
        gap, contact = float(to_others.min()), float((to_others <= TOUCHING).mean())
        centres = np.array(center_of_mass(other, mask, labels)) - center_of_mass(own)
        distance = float(np.hypot(*centres.T).mean())
    return [
        float(own.sum()),
        float(len(labels)),
        float(other.mean()),
        float((mask == 0).mean()),
        gap,
        distance,
        contact,
    ]
