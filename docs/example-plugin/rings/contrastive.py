"""A trainable model with an objective of its own: two views of a cell are more alike than views of different cells.

A small form of SimCLR (Chen et al. 2020): flips and quarter turns as augmentations, and the normalised temperature-scaled
cross-entropy over the cells of a batch.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench import (
    Cells,
    Channel,
    Extractor,
    ExtractorMeta,
    Model,
    ModelMeta,
    Objective,
    UserError,
    register_extractor,
    register_model,
)
from pci_bench.data.cells import rescaled
from pci_bench.training.crops import Batches, tensor
from pci_bench.training.pairs import held_out_images
from pci_bench.weights import network_in, read_header

if TYPE_CHECKING:
    import torch

    from pci_bench import Compute
    from pci_bench.system.progress import Progress
    from pci_bench.training.recipe import Recipe

FILTERS, PROJECTION, TEMPERATURE = (32, 64, 128), 32, 0.2


def network_of(channels: int, width: float) -> torch.nn.Module:
    """Return an encoder of (b, channels, rows, columns) -> (b, features), and a projection head after it."""
    import torch
    from torch import nn

    sizes = [channels, *(max(1, round(f * width)) for f in FILTERS)]
    blocks = [
        layer
        for before, after in itertools.pairwise(sizes)
        for layer in (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    ]
    network = torch.nn.Sequential()
    network.add_module("encoder", nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten()))
    network.add_module("projection", nn.Linear(sizes[-1], PROJECTION))
    network.config = {"channels": channels, "width": width}  # what it is constructed with, as its weights file says
    return network


def views(crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return crops (b, channels, rows, columns), each flipped or not and turned by 0 to 3 quarters at random."""
    flips, turns = rng.integers(0, 2, len(crops)), rng.integers(0, 4, len(crops))
    return np.stack(
        [np.rot90(crop[:, ::-1] if f else crop, t, (1, 2)) for crop, f, t in zip(crops, flips, turns, strict=True)]
    )


class TwoViews(Objective):
    """Mean cross-entropy of finding a cell's other view among all views of a batch."""

    loss_name = "normalised temperature-scaled cross-entropy"
    held_out = "the rest held out by image"
    couples_cells = True

    def __init__(self, model: Contrastive, cells: Cells, recipe: Recipe):
        self.model, self.cells, self.recipe = model, cells, recipe
        images = np.unique(cells.obs["image"].astype("string").fillna("").to_numpy(str), return_inverse=True)[1]
        if len(np.unique(images)) < 2:
            raise UserError(
                f"{model.meta.name} cannot be trained on {cells.meta.name}: one image is trained on and another held out."
            )
        kept = np.isin(images, held_out_images(images, recipe.held_out, recipe.seed))
        self.training, self.validation = np.flatnonzero(~kept), np.flatnonzero(kept)

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        return self.model.build(self.cells.channels, self.recipe.width)

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: two views of each cell, from nothing but seed, epoch and batch."""
        seed, batch = self.recipe.seed, self.recipe.batch
        order = np.random.default_rng([seed, number]).permutation(self.training)

        def prepared(position: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = np.sort(order[position * batch : (position + 1) * batch])
            return self._two_views(crops, chosen, np.random.default_rng([seed, number, position]))

        return Batches(prepared, len(order) // batch, batch)

    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean loss of a batch of two views."""
        import torch
        from torch.nn.functional import cross_entropy, normalize

        of_cells = torch.cat([normalize(network(view).float()) for view in batch])
        n = len(of_cells) // 2
        likeness = of_cells @ of_cells.T / TEMPERATURE
        likeness.fill_diagonal_(-math.inf)  # a view is not compared with itself
        return cross_entropy(likeness, torch.arange(2 * n, device=likeness.device).roll(n))

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return the loss over batches of held-out cells, the same ones after every epoch."""
        import torch

        network.eval()
        losses, batch = [], min(self.recipe.batch, len(self.validation))
        with torch.inference_mode():
            for start in range(0, len(self.validation) - batch + 1, batch):
                chosen = self.validation[start : start + batch]
                pair = self._two_views(crops, chosen, np.random.default_rng([self.recipe.seed, start]))
                losses.append(float(self.loss(network, tuple(tensor(view, device) for view in pair))))
        return {"validation_loss": float(np.mean(losses))}

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the loss of a network that finds all views equally alike."""
        return {"guessing": math.log(2 * min(self.recipe.batch, len(self.validation)) - 1)}

    def _two_views(
        self, crops: np.ndarray, chosen: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        cells = rescaled(np.asarray(crops[chosen]), self.cells.channels, "minmax")
        return views(cells, rng), views(cells, rng)


@register_model("two-views")
class Contrastive(Model):
    """Learns that flips and quarter turns of a crop are the same cell."""

    meta = ModelMeta("two-views", "1", "Contrastive: tell a cell's other view from other cells", pairs=False)

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return that crops must be square, or None."""
        return None if crop_shape[0] == crop_shape[1] else "crops must be square, since they are turned by quarters"

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> torch.nn.Module:
        """Return a new network for these channels."""
        return network_of(len(channels), width)

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> TwoViews:
        """Return what a training on these cells is about."""
        if reason := self.unavailable_reason(cells.channels, cells.crop_shape):
            raise UserError(f"{self.meta.name} cannot be trained on {cells.meta.name}: {reason}.")
        return TwoViews(self, cells, recipe)


@register_extractor("two-views")
class ContrastiveFeatures(Extractor):
    """The encoder's output, before the projection."""

    meta = ExtractorMeta("two-views", "1", "Contrastive encoder", weights="two-views", batch=64)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return two_views_0, two_views_1 and so on, of the full width."""
        return [f"two_views_{i}" for i in range(FILTERS[-1])]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the encoder's pass with these weights."""
        import torch

        assert weights is not None
        network = network_in(weights, lambda: network_of(**read_header(weights).config)).to(device)

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            with torch.inference_mode():
                return {"": network.encoder(torch.from_numpy(crops).to(device)).cpu().numpy()}

        return compute
