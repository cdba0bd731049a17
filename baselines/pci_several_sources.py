"""Paired cell inpainting from two source cells for each target: the mean of their codes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench import Cells, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta
from pci_bench.inpainting.model import PairedCellInpaintingModel
from pci_bench.training.objectives.several_sources import SeveralSources

if TYPE_CHECKING:
    from torch import nn

    from pci_bench.system.progress import Progress
    from pci_bench.training.recipe import Recipe

FAMILY, SOURCES = "pci-several-sources", 2


@register_model(FAMILY)
class SeveralSourcesModel(PairedCellInpaintingModel):
    """Predicts the target's protein from the mean of two source cells' codes and the target's markers.

    What the two have in common, and the target too, is what the mean keeps; what one cell alone has is halved. The loss of
    held-out pairs is of single source cells, as that of paired cell inpainting.
    """

    meta = ModelMeta(FAMILY, "1", "Paired cell inpainting from two source cells for each target")

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> SeveralSources:
        """Return mean squared error over targets with two source cells each."""
        return SeveralSources(self, cells, recipe, progress, SOURCES)

    def network(self) -> type[nn.Module]:
        """Return the network's class."""
        from .networks import several_sources

        return several_sources.SeveralSources


@register_extractor(FAMILY)
class SeveralSourcesFeatures(EncoderLayers):
    """The source cell encoder's layers, of one cell at a time."""

    meta = encoder_meta(FAMILY, "Paired cell inpainting, two source cells")
