"""An autoencoder with the encoder of paired cell inpainting, trained to reconstruct its own input."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench import (
    Channel,
    Compute,
    ExtractorMeta,
    ModelMeta,
    ReconstructionModel,
    register_extractor,
    register_model,
)
from pci_bench.inpainting.features import CROPS_PER_PASS, OUTPUTS, EncoderLayers, encoder_compute, encoder_function

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pci_bench.api.extractor import TorchFunction


@register_model("autoencoder")
class AutoencoderModel(ReconstructionModel):
    """The source cell encoder and the decoder of paired cell inpainting, without target markers; reconstructs its input."""

    meta = ModelMeta("autoencoder", "1", "Autoencoder: reconstruct the cell itself", pairs=False)

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        rows, columns = crop_shape
        return (
            f"crops of {rows}×{columns} px do not fit: rows and columns must be divisible by 4"
            if rows % 4 or columns % 4
            else None
        )

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

    meta = ExtractorMeta(
        "autoencoder",
        "1",
        "Autoencoder",
        OUTPUTS,
        groups=("paper",),
        headline="conv3",
        weights="autoencoder",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass with these weights."""
        from pci_bench.inpainting.network import Autoencoder, load_network

        assert weights is not None
        return encoder_compute(load_network(weights, Autoencoder).source_encoder, device)

    def differentiable(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> TorchFunction:
        """Return a layer with these weights."""
        from pci_bench.inpainting.network import Autoencoder, load_network

        assert weights is not None
        return encoder_function(load_network(weights, Autoencoder).source_encoder, output)
