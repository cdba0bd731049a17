"""SimCLR on crops: two views of one cell are more alike than views of different cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench import Channel, ModelMeta, register_extractor, register_model
from pci_bench.training.objectives.contrastive import ContrastiveModel

from .networks.projected_layers import ProjectedLayers, meta_of

if TYPE_CHECKING:
    from torch import nn

PROJECTION = 64


@register_model("contrastive")
class Contrastive(ContrastiveModel):
    """The source cell encoder of paired cell inpainting under the objective of SimCLR (Chen et al. 2020, arXiv 2002.05709).

    Two augmented views of each cell (:class:`pci_bench.training.objectives.views.Augmentation`), the normalised
    temperature-scaled cross-entropy at T = 0.2 among the views of a batch, a projection head of one hidden layer.
    """

    meta = ModelMeta("contrastive", "1", "SimCLR: tell a cell's other view from other cells", pairs=False)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from .networks.projected import Projected

        return Projected(len(channels), width, PROJECTION)

    def kept(self, network: nn.Module) -> nn.Module:
        """Return the encoder, without the projection head."""
        return network.get_submodule("encoder")


@register_extractor("contrastive")
class ContrastiveFeatures(ProjectedLayers):
    """Layers of the encoder that tells a cell's other view from other cells (Chen et al. 2020, arXiv 2002.05709)."""

    meta = meta_of("contrastive", "Contrastive: views of a cell (SimCLR)")
