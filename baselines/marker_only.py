"""The trained encoder without the protein: how much of an accuracy comes from the marker channels alone."""

from pci_bench import ExtractorMeta, register_extractor
from pci_bench.inpainting.features import CROPS_PER_PASS, WIDTHS, column_names, encoder_compute, why_not

LAYER = "conv4"


@register_extractor("marker-only")
class MarkerOnly:
    """pci-conv4 with every protein channel set to zero."""

    meta = ExtractorMeta(
        "marker-only",
        "1",
        "Paired cell inpainting conv4, protein set to zero",
        {"": f"{LAYER} of the source cell encoder ({WIDTHS[LAYER]} features)"},
        roles=("marker",),
        groups=("controls",),
        weights="pci",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def skip(self, cells):
        """Return why these crops do not fit, or None."""
        return why_not(cells)

    def names(self, output, channels):
        """Return conv4_0, conv4_1 and so on."""
        return column_names(LAYER)

    def open(self, channels, weights, device):
        """Return the encoder's pass on crops without protein."""
        from pci_bench.inpainting.network import load_network

        compute = encoder_compute(load_network(weights).source_encoder, device)
        is_protein = [c.role == "protein" for c in channels]

        def without_protein(crops, outputs):
            crops = crops.copy()
            crops[:, is_protein] = 0
            return {"": compute(crops, {LAYER})[LAYER]}

        return without_protein
