"""The trained encoder with the protein channel left out: a control for what the marker channels alone predict."""

from pathlib import Path

import numpy as np

from pci_bench import Cells, Channel, Compute, Extractor, ExtractorMeta, register_extractor
from pci_bench.inpainting.features import CROPS_PER_PASS, WIDTHS, column_names, encoder_compute, unavailable_reason

LAYER = "conv4"


@register_extractor("marker-only")
class MarkerOnly(Extractor):
    """pci-conv4 with every protein channel set to zero."""

    meta = ExtractorMeta(
        "marker-only",
        "1",
        "Marker alone: paired cell inpainting conv4, protein set to zero",
        {"": f"{LAYER} of the source cell encoder ({WIDTHS[LAYER]} features)"},
        roles=("marker",),
        groups=("controls",),
        weights="pci",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        return unavailable_reason(cells)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return conv4_0, conv4_1 and so on."""
        return column_names(LAYER)

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass on crops without protein."""
        from pci_bench.inpainting.network import load_network

        assert weights is not None
        compute = encoder_compute(load_network(weights).source_encoder, device)
        is_protein = [c.role == "protein" for c in channels]

        def without_protein(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            crops = crops.copy()
            crops[:, is_protein] = 0
            return {"": compute(crops, {LAYER})[LAYER]}

        return without_protein
