"""Rotation prediction: by how many quarters was the crop turned (Gidaris, Singh and Komodakis 2018)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from pci_bench import ModelMeta, register_extractor, register_model
from pci_bench.training.objectives.views import Augmentation

from .networks.projected_layers import ProjectedLayers, meta_of
from .networks.projected_models import ProjectedModel

if TYPE_CHECKING:
    from torch import Tensor, nn

QUARTERS = 4


@register_model("rotation")
class Rotation(ProjectedModel):
    """The source cell encoder of paired cell inpainting under the objective of RotNet (arXiv 1803.07728).

    One view of each cell, neither turned nor mirrored by the augmentation, is turned by 0, 1, 2 or 3 quarters, and the
    head says by how many. A cell under a microscope has no upright: what can be told is little, which the held-out
    accuracy shows.
    """

    meta = ModelMeta("rotation", "1", "Rotation: tell by how many quarters a crop was turned", pairs=False)
    loss_name = "cross-entropy"
    views = 1
    outputs = QUARTERS
    augmentation = Augmentation(turns=False)

    def prepared(self, seen: tuple[np.ndarray, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the turned views, and by how many quarters each was turned."""
        (crops,) = seen
        quarters = rng.integers(0, QUARTERS, len(crops))
        turned = crops.copy()
        for quarter in range(1, QUARTERS):
            chosen = quarters == quarter
            turned[chosen] = np.rot90(crops[chosen], quarter, axes=(2, 3))
        return turned, quarters

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        import torch

        turned, quarters, *_ = batch
        return torch.nn.functional.cross_entropy(network(turned).float(), quarters)

    def measured(self, network: nn.Module, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Return the share of views whose turn is told; chance is a quarter."""
        turned, quarters, *_ = batch
        return {"accuracy": float((network(turned).argmax(dim=1) == quarters).float().mean())}

    def guess(self, batch: tuple[Tensor, ...]) -> float:
        """Return the loss of equal probabilities."""
        return math.log(QUARTERS)


@register_extractor("rotation")
class RotationFeatures(ProjectedLayers):
    """Layers of the encoder that tells by how many quarters a crop was turned (Gidaris et al. 2018, arXiv 1803.07728)."""

    meta = meta_of("rotation", "Rotation prediction")
