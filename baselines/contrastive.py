"""SimCLR on crops: two views of one cell are more alike than views of different cells."""

from __future__ import annotations

from pci_bench import ModelMeta, register_extractor, register_model

from .networks.projected_layers import ProjectedLayers, meta_of
from .networks.projected_models import ProjectedContrastiveModel


@register_model("contrastive")
class Contrastive(ProjectedContrastiveModel):
    """The source cell encoder of paired cell inpainting under the objective of SimCLR (Chen et al. 2020, arXiv 2002.05709).

    Two augmented views of each cell (:class:`pci_bench.training.objectives.views.Augmentation`), the normalised
    temperature-scaled cross-entropy at T = 0.2 among the views of a batch, a projection head of one hidden layer.
    """

    meta = ModelMeta("contrastive", "1", "SimCLR: tell a cell's other view from other cells", pairs=False)


@register_extractor("contrastive")
class ContrastiveFeatures(ProjectedLayers):
    """Layers of the encoder that tells a cell's other view from other cells (Chen et al. 2020, arXiv 2002.05709)."""

    meta = meta_of("contrastive", "Contrastive: views of a cell (SimCLR)")
