"""Contrastive paired cells: two cells of one image are more alike than cells of different images."""

from __future__ import annotations

from pci_bench import ModelMeta, register_extractor, register_model

from .networks.projected_layers import ProjectedLayers, meta_of
from .networks.projected_models import ProjectedContrastiveModel


@register_model("paired-contrastive")
class PairedContrastive(ProjectedContrastiveModel):
    """The pairs of paired cell inpainting (paper: "Sampling Pairs") under the objective of SimCLR (arXiv 2002.05709).

    A view of a cell and a view of another cell of its image, each augmented on its own, belong together; cells of
    other images do not; other cells of the same image are not compared. What all cells of an image share is kept: its
    protein, and also its plate and exposure, as far as the augmentation leaves them.
    """

    meta = ModelMeta(
        "paired-contrastive",
        "1",
        "Contrastive paired cells: tell a cell of the same image from cells of others",
    )


@register_model("plate-contrastive")
class PlateContrastive(ProjectedContrastiveModel):
    """As paired-contrastive, where only cells of one plate are compared with each other.

    What all images of a plate have in common (its exposure, its cell line, its day) tells none of them apart, so that
    the loss gives no reason to learn it. It reads the dataset's column ``plate``, and no label.
    """

    meta = ModelMeta(
        "plate-contrastive",
        "1",
        "Contrastive paired cells, compared with cells of the same plate only",
    )
    within = "plate"


@register_extractor("paired-contrastive")
class PairedContrastiveFeatures(ProjectedLayers):
    """Layers of the encoder that tells a cell of the same image from cells of others (objective: arXiv 2002.05709)."""

    meta = meta_of("paired-contrastive", "Contrastive: two cells of an image")


@register_extractor("plate-contrastive")
class PlateContrastiveFeatures(ProjectedLayers):
    """Layers of the encoder that tells a cell of the same image from cells of other images of its plate."""

    meta = meta_of("plate-contrastive", "Contrastive: two cells of an image, within plates")
