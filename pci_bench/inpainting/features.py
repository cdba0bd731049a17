"""``pci-conv1 … conv5``: the source cell encoder's layers as feature sets."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.extractor import Compute, Extractor, ExtractorMeta, TorchFunction, register_extractor
from pci_bench.data.cells import Cells, Channel

if TYPE_CHECKING:
    from torch import Tensor

    from pci_bench.inpainting.network import SourceEncoder

WIDTHS = {"conv1": 96, "conv2": 256, "conv3": 384, "conv4": 384, "conv5": 256}
OUTPUTS = {
    layer: f"convolution {layer[-1]} of the source cell encoder, ReLU, maximum over space ({width} features at full width)"
    for layer, width in WIDTHS.items()
}
CROPS_PER_PASS = 16  # measured: 64 per pass fall out of the cores' caches and take 1.7 times as long


def unavailable_reason(cells: Cells) -> str | None:
    """Return why the encoder cannot run on these crops, or None."""
    if cells.channels[0].role != "protein":
        return "its first channel must be the protein"
    if not any(c.role == "marker" for c in cells.channels):
        return "it needs at least one marker channel beside the protein"
    return size_reason(cells.crop_shape)


def size_reason(crop_shape: tuple[int, int]) -> str | None:
    """Return why crops of these rows and columns are not of a size that the encoder takes, or None.

    >>> size_reason((64, 64)), size_reason((64, 30))
    (None, 'crops of 64×30 px do not fit: rows and columns must be divisible by 4')
    """
    rows, columns = crop_shape
    return (
        f"crops of {rows}×{columns} px do not fit: rows and columns must be divisible by 4"
        if rows % 4 or columns % 4
        else None
    )


def column_names(output: str) -> list[str]:
    """Return the columns' names of a layer at full width."""
    return [f"{output}_{i}" for i in range(WIDTHS[output])]


def encoder_compute(encoder: Any, device: str) -> Compute:
    """Return the function of (crops, layers) that runs an encoder once for all layers.

    Parameters
    ----------
    encoder
        A module with ``features(crops, layers)``, as :class:`pci_bench.inpainting.network.SourceEncoder` has.
    device
        Where it runs.
    """
    import torch

    encoder = encoder.to(device).eval()
    encoder.to(memory_format=torch.channels_last)

    def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
        batch = torch.from_numpy(crops).to(device=device, memory_format=torch.channels_last)
        return {layer: value.float().cpu().numpy() for layer, value in encoder.features(batch, outputs).items()}

    return compute


def encoder_function(encoder: SourceEncoder, layer: str) -> TorchFunction:
    """Return a layer's features as a function of crops that gradients pass through."""
    from pci_bench.inpainting.network import LAYERS, maximum_over_space

    encoder = encoder.eval().requires_grad_(False)

    def function(crops: Tensor) -> Tensor:
        *_, (_, activation) = islice(encoder.activations(crops), LAYERS.index(layer) + 1)
        return maximum_over_space(activation)

    return function


def encoder_meta(
    name: str,
    title: str,
    outputs: dict[str, str] = OUTPUTS,
    *,
    headline: str = "conv4",
    group: str = "rivals",
    roles: tuple[str, ...] = ("protein", "marker"),
) -> ExtractorMeta:
    """Return what is known about the layers of an encoder that is trained under the same name."""
    return ExtractorMeta(
        name,
        "1",
        title,
        outputs,
        roles=roles,
        groups=(group,),
        headline=headline,
        weights=name,
        batch=CROPS_PER_PASS,
        concurrent=True,
    )


class EncoderLayers(Extractor):
    """What every extractor of the encoder's five layers has in common: which crops fit, the columns' names, and the pass."""

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        return unavailable_reason(cells)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return conv4_0, conv4_1 and so on."""
        return column_names(output)

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file, as :func:`encoder_compute` takes it; by default that of paired cell inpainting."""
        from pci_bench.inpainting.network import load_network

        return load_network(weights).source_encoder

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass with these weights."""
        assert weights is not None
        return encoder_compute(self.encoder(weights), device)


@register_extractor("pci")
class PairedCellInpaintingFeatures(EncoderLayers):
    """Features of the source cell encoder (paper: "Architecture"; Table 1)."""

    meta = encoder_meta("pci", "Paired cell inpainting", group="paper")

    def differentiable(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> TorchFunction:
        """Return a layer with these weights."""
        assert weights is not None
        return encoder_function(self.encoder(weights), output)
