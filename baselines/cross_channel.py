"""Cross-channel prediction: the markers of a cell from its protein, and its protein from its markers; no source cell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta
from pci_bench.inpainting.model import PairedCellInpaintingModel

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

    def network(self) -> type[nn.Module]:
        """Return the network's class."""
        from .networks.cross_channel import CrossChannel

        return CrossChannel

    def predict(self, network: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction of all channels and the cell itself."""
        return network(source), source


@register_extractor("cross-channel")
class CrossChannelFeatures(EncoderLayers):
    """Both encoders' layers, one after the other: as many features as paired cell inpainting of the same width has."""

    meta = encoder_meta("cross-channel", "Cross-channel prediction")

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file."""
        from pci_bench.inpainting.network import load_network

        from .networks.cross_channel import CrossChannel

        return load_network(weights, CrossChannel).encoder
