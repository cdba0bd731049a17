"""Cross-channel prediction: the markers of a cell from its protein, and its protein from its markers; no source cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench import Channel, Compute, ExtractorMeta, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import CROPS_PER_PASS, OUTPUTS, EncoderLayers, encoder_compute
from pci_bench.inpainting.model import PairedCellInpaintingModel
from pci_bench.weights import network_in, read_header

if TYPE_CHECKING:
    from torch import Tensor, nn


@register_model("cross-channel")
class CrossChannelModel(PairedCellInpaintingModel):
    """Two networks of half the width, as the "split-brain autoencoder" of Zhang et al. (2017), which regresses pixels.

    What paired cell inpainting does with a second cell, it does within one: the protein is predicted from the markers of the
    same cell. A network that sees the markers alone cannot learn where the protein is, and one that sees the protein alone
    needs no more of it than what foretells the markers.
    """

    meta = ModelMeta(
        "cross-channel",
        "1",
        "Cross-channel: a cell's protein from its markers, its markers from its protein",
        pairs=False,
    )

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from .networks.cross_channel import CrossChannel

        proteins = sum(c.role == "protein" for c in channels)
        return CrossChannel(proteins, len(channels) - proteins, width)

    def predict(self, network: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction of all channels and the cell itself."""
        return network(source), source


@register_extractor("cross-channel")
class CrossChannelFeatures(EncoderLayers):
    """Both encoders' layers, one after the other: as many features as paired cell inpainting of the same width has."""

    meta = ExtractorMeta(
        "cross-channel",
        "1",
        "Cross-channel prediction",
        OUTPUTS,
        roles=("protein", "marker"),
        groups=("rivals",),
        headline="conv4",
        weights="cross-channel",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return both encoders' pass with these weights."""
        from .networks.cross_channel import CrossChannel

        assert weights is not None
        config = read_header(weights).config
        return encoder_compute(network_in(weights, lambda: CrossChannel(**config)).encoder, device)
