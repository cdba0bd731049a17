"""Paired cell inpainting with hard pairs: cells whose morphology differs (a wish of the paper's Discussion)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench import Cells, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta
from pci_bench.inpainting.model import PairedCellInpaintingModel
from pci_bench.training.objectives.hard_pairs import HardPairs

if TYPE_CHECKING:
    from pci_bench.system.progress import Progress
    from pci_bench.training.recipe import Recipe

FAMILY, PARTNERS = "pci-hard-pairs", 4


@register_model(FAMILY)
class HardPairsModel(PairedCellInpaintingModel):
    """Paired cell inpainting whose target is the most different of four other cells of the image, by their markers.

    The paper: "focusing on harder pairs where the morphology of the cells differs more drastically". How that is measured it
    does not say; here, by intensity, extent and gradient of the structural markers
    (:func:`pci_bench.training.objectives.hard_pairs.morphology`), each standardised over the training cells.
    """

    meta = ModelMeta(FAMILY, "1", "Paired cell inpainting on pairs whose morphology differs")

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> HardPairs:
        """Return mean squared error over pairs that differ in morphology."""
        return HardPairs(self, cells, recipe, progress, PARTNERS)


@register_extractor(FAMILY)
class HardPairsFeatures(EncoderLayers):
    """The source cell encoder's layers, as those of paired cell inpainting."""

    meta = encoder_meta(FAMILY, "Paired cell inpainting, hard pairs")
