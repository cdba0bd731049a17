"""Self-distillation in the manner of DINO: a student predicts what its own moving mean says of another view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pci_bench import Channel, ModelMeta, register_extractor, register_model
from pci_bench.training.objectives.augmented import AugmentedModel

from .networks.projected_layers import ProjectedLayers, meta_of

if TYPE_CHECKING:
    from torch import Tensor, nn

PROTOTYPES = 512


@register_model("self-distillation")
class SelfDistillation(AugmentedModel):
    """The source cell encoder of paired cell inpainting under the objective of DINO (Caron et al. 2021, arXiv 2104.14294).

    Two augmented views of a cell, a student and a teacher that follows it (momentum 0.99), centring and sharpening
    (temperatures 0.1 and 0.04), 512 prototypes. Two things differ from DINO: there are no small views beside the two,
    and the momentum is the same throughout. It is not the library lightly, which would bring 14 packages (20 MB) for a
    loss as short as this one.
    """

    meta = ModelMeta(
        "self-distillation",
        "1",
        "Self-distillation (DINO): say of a view what a moving mean says of another",
        pairs=False,
    )
    loss_name = "cross-entropy with the teacher"
    keeps = "teacher.0.encoder"
    couples_cells = True  # by the centre, and the teacher follows once a batch
    gathers = True

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from .networks.distilled import Distilled

        return Distilled(len(channels), width, PROTOTYPES)

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of a batch of two views."""
        from .networks.distilled import Distilled

        assert isinstance(network, Distilled)
        return network.loss(batch[0], batch[1])

    def measured(self, network: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Return the perplexity of the teacher's distribution over all views: 1 if it says the same of all, 512 at most."""
        from .networks.distilled import Distilled

        assert isinstance(network, Distilled)
        mean = network.distribution(batch[0]).mean(dim=0)
        return {"prototypes_in_use": float((-(mean * mean.clamp_min(1e-12).log()).sum()).exp())}

    def guess(self, batch: tuple[Tensor, ...]) -> float:
        """Return the loss of equal probabilities."""
        return math.log(PROTOTYPES)


@register_extractor("self-distillation")
class SelfDistillationFeatures(ProjectedLayers):
    """Layers of the teacher's encoder (Caron et al. 2021, arXiv 2104.14294)."""

    meta = meta_of("self-distillation", "Self-distillation (DINO)")
