"""Paired cell inpainting with a residual encoder and skip connections, so that the last layer is the one to use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import Channel, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta
from pci_bench.inpainting.model import PairedCellInpaintingModel

if TYPE_CHECKING:
    from torch import nn

FAMILY = "pci-residual"
BLOCK_WIDTHS = {"block1": 128, "block2": 256, "block3": 256, "block4": 384, "block5": 384}
LAST = "pooled"


@register_model(FAMILY)
class ResidualModel(PairedCellInpaintingModel):
    """The paper's task for another network: a residual encoder, whose last layer is pooled before the decoder reads it.

    The paper: "architectures with skip-connections can prevent the quality of self-supervised representations from degrading
    in later layers … the final layer could always be chosen". The source cell reaches the decoder as one vector, the last
    block's mean over space; the target's markers reach it by skip connections at every resolution, so that the vector need
    not say where anything is. Depth, widths and number of operations differ from paired cell inpainting's, the loss does not.
    """

    meta = ModelMeta(FAMILY, "1", "Paired cell inpainting with a residual encoder and skip connections")

    def network(self) -> type[nn.Module]:
        """Return the network's class."""
        from .networks.residual import ResidualInpainting

        return ResidualInpainting


@register_extractor(FAMILY)
class ResidualFeatures(EncoderLayers):
    """The encoder's blocks, and what the decoder reads of a source cell."""

    meta = encoder_meta(
        FAMILY,
        "Paired cell inpainting, residual",
        {
            block: f"residual block {block[-1]} of the source cell encoder, maximum over space ({width} features at full width)"
            for block, width in BLOCK_WIDTHS.items()
        }
        | {
            LAST: f"residual block 5, mean over space: what the decoder reads ({BLOCK_WIDTHS['block5']} features at full width)"
        },
        headline=LAST,
    )

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return block1_0, block1_1 and so on."""
        return [f"{output}_{i}" for i in range(BLOCK_WIDTHS["block5" if output == LAST else output])]

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file."""
        from pci_bench.inpainting.network import load_network

        from .networks.residual import ResidualInpainting

        return load_network(weights, ResidualInpainting).source_encoder
