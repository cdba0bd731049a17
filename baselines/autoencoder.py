"""An autoencoder with the encoder of paired cell inpainting, trained to reconstruct its own input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import (
    Channel,
    ModelMeta,
    ReconstructionModel,
    register_extractor,
    register_model,
)
from pci_bench.inpainting.features import EncoderLayers, encoder_function, encoder_meta, size_reason

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pci_bench.api.extractor import TorchFunction


@register_model("autoencoder")
class AutoencoderModel(ReconstructionModel):
    """The source cell encoder and the decoder of paired cell inpainting, without target markers; reconstructs its input."""

    meta = ModelMeta("autoencoder", "1", "Autoencoder: reconstruct the cell itself", pairs=False)

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        return size_reason(crop_shape)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from pci_bench.inpainting.network import Autoencoder

        return Autoencoder(len(channels), width)

    def predict(self, network: nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the reconstruction and the cell itself."""
        return network(source), source


@register_extractor("autoencoder")
class AutoencoderFeatures(EncoderLayers):
    """The encoder's layers as feature sets (paper: "Baseline Feature Extraction and Benchmarking")."""

    meta = encoder_meta("autoencoder", "Autoencoder", headline="conv3", group="paper", roles=("protein",))

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file."""
        from pci_bench.inpainting.network import Autoencoder, load_network

        return load_network(weights, Autoencoder).source_encoder

    def differentiable(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> TorchFunction:
        """Return a layer with these weights."""
        assert weights is not None
        return encoder_function(self.encoder(weights), output)
