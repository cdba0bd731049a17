"""What every model of an encoder with a head has in common; does not load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench import Channel
from pci_bench.training.objectives.augmented import AugmentedModel
from pci_bench.training.objectives.contrastive import ContrastiveModel

if TYPE_CHECKING:
    from torch import nn


class ProjectedModel(AugmentedModel):
    """The source cell encoder of paired cell inpainting with a head, which is left out of what is saved.

    Attributes
    ----------
    outputs
        How many numbers the head gives.
    """

    outputs: int
    keeps = "encoder"

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels."""
        from .projected import Projected

        return Projected(len(channels), width, self.outputs)


class ProjectedContrastiveModel(ProjectedModel, ContrastiveModel):
    """The same under a contrastive loss, which compares vectors of 64 numbers."""

    outputs = 64
