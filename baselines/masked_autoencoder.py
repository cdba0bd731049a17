"""A masked autoencoder: a small vision transformer sees a quarter of a cell's patches and draws the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench import (
    Cells,
    Channel,
    Compute,
    Extractor,
    ExtractorMeta,
    ModelMeta,
    register_extractor,
    register_model,
)
from pci_bench.training.objectives.augmented import AugmentedModel
from pci_bench.training.objectives.views import Augmentation

if TYPE_CHECKING:
    from torch import Tensor, nn

PATCH = 8
SHOWN = 0.25  # of the patches
LENGTH, MULTIPLE = 256, 32  # of the vectors at full width, and what their length must be divisible by


def unavailable_reason(crop_shape: tuple[int, int]) -> str | None:
    """Return why crops of a shape do not fit, or None."""
    rows, columns = crop_shape
    if rows != columns or rows % PATCH or rows < 2 * PATCH:
        return f"crops of {rows}×{columns} px do not fit: they must be square, of patches of {PATCH}×{PATCH} px"
    return None


@register_model("masked-autoencoder")
class MaskedAutoencoderModel(AugmentedModel):
    """A vision transformer under the objective of He et al. 2022 (arXiv 2111.06377), small enough for cells and a processor.

    A quarter of the 8×8 px patches is shown to six blocks of timm with vectors of 256 numbers at width 1; two narrower
    blocks draw the hidden ones, each normalised, all channels together. Augmentation is turning and mirroring alone, as
    the method is published with little. It is another architecture than the other rivals have, so that it compares more
    than objectives.
    """

    meta = ModelMeta(
        "masked-autoencoder", "1", "Masked autoencoder: draw the three quarters that are hidden", pairs=False
    )
    loss_name = "mean squared error of hidden patches, normalised"
    views = 1
    keeps = "encoder"
    augmentation = Augmentation(side=1, zoom=1, blur=0, gamma=1, contrast=0, brightness=0, noise=0)

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        return unavailable_reason(crop_shape)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from .networks.masked import MaskedAutoencoder

        return MaskedAutoencoder(len(channels), PATCH, MULTIPLE * max(1, round(LENGTH * width / MULTIPLE)))

    def prepared(self, seen: tuple[np.ndarray, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the views, and their patches in random order."""
        (crops,) = seen
        count = (crops.shape[2] // PATCH) ** 2
        return crops, np.argsort(rng.random((len(crops), count)), axis=1)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss over the patches that are not shown."""
        from .networks.masked import MaskedAutoencoder

        crops, order, *_ = batch
        assert isinstance(network, MaskedAutoencoder)
        return network.loss(crops, order, round(SHOWN * order.shape[1]))

    def guess(self, batch: tuple[Tensor, ...]) -> float:
        """Return the loss of drawing each patch as its own mean."""
        from .networks.masked import normalised_patches

        return float(normalised_patches(batch[0], PATCH).square().mean())


@register_extractor("masked-autoencoder")
class MaskedAutoencoderFeatures(Extractor):
    """Mean over all patches of the encoder's last vectors (He et al. 2022, arXiv 2111.06377)."""

    meta = ExtractorMeta(
        "masked-autoencoder",
        "1",
        "Masked autoencoder (ViT)",
        {"": f"mean over patches of the encoder's vectors after the last norm ({LENGTH} features at full width)"},
        roles=("protein", "marker"),
        groups=("rivals",),
        weights="masked-autoencoder",
        batch=16,
        concurrent=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        return unavailable_reason(cells.crop_shape)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return mae_0, mae_1 and so on, at full width."""
        return [f"mae_{i}" for i in range(LENGTH)]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass with these weights."""
        from .networks.masked import open_transformer

        assert weights is not None
        return open_transformer(weights, device)
