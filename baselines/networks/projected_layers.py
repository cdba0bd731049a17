"""What every extractor of an encoder trained with a head has in common; does not load torch."""

from __future__ import annotations

from pathlib import Path

from pci_bench import Channel, Compute, ExtractorMeta
from pci_bench.inpainting.features import OUTPUTS, WIDTHS, EncoderLayers, encoder_meta

EMBEDDING = "embedding"
HEADLINE = EMBEDDING  # set beforehand: what stands before the head, as the authors of SimCLR evaluate
ALL_OUTPUTS = {
    **OUTPUTS,
    EMBEDDING: f"output of the encoder, mean over space: what the head was trained on ({WIDTHS['conv5']} features at full width)",
}


def meta_of(name: str, title: str) -> ExtractorMeta:
    """Return what is known about the feature sets of such an encoder."""
    return encoder_meta(name, title, ALL_OUTPUTS, headline=HEADLINE)


class ProjectedLayers(EncoderLayers):
    """The encoder's five layers, and the embedding that the head was trained on."""

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return conv4_0, conv4_1 and so on."""
        if output == EMBEDDING:
            return [f"{EMBEDDING}_{i}" for i in range(WIDTHS["conv5"])]
        return super().names(output, channels, weights)

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass with these weights."""
        from .projected import open_encoder

        assert weights is not None
        return open_encoder(weights, device)
