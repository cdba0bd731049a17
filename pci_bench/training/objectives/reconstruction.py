"""Learning without labels: cells of an image predict each other, or themselves (paper: "Sampling Pairs")."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.model import Model, Objective
from pci_bench.data.cells import Cells, rescaled
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.crops import Batches, tensor
from pci_bench.training.objectives.checks import check_trainable
from pci_bench.training.pairs import NOTHING_HELD_OUT, Epoch, draw_epoch, draw_targets, flipped, held_out_images

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pci_bench.training.recipe import Recipe

VALIDATION_PAIRS = 2048
CROPS_PER_PASS = 64


class ReconstructionModel(Model):
    """A network that predicts pixels, of a cell from another of its image or from itself.

    Examples
    --------
    >>> from pci_bench import ModelMeta
    >>> class Same(ReconstructionModel):
    ...     meta = ModelMeta("same", "1", "One filter of 3×3 pixels for each channel", pairs=False)
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         network = torch.nn.Conv2d(len(channels), len(channels), 3, padding=1)
    ...         network.config = {"channels": len(channels)}
    ...         return network
    ...
    ...     def predict(self, network, source, target):
    ...         return network(source), source
    """

    @abstractmethod
    def predict(self, network: torch.nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (prediction, what it should be) for crops (b, channels, rows, columns), proteins first."""

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Reconstruction:
        """Return mean squared error over pairs of cells of an image (``meta.pairs``), or over single cells."""
        return Reconstruction(self, cells, recipe, progress)


class Reconstruction(Objective):
    """The objective of a model that predicts pixels: mean squared error over pairs of cells, or over single cells.

    Parameters
    ----------
    model, cells, recipe
        What is trained, on what, and how.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        Where the crops do not fit the model, or images or cells are too few.
    """

    loss_name = "mean squared error"
    unit = "pairs"

    def __init__(self, model: ReconstructionModel, cells: Cells, recipe: Recipe, progress: Progress):
        check_trainable(model, cells, recipe)
        self.model, self.cells, self.recipe = model, cells, recipe
        self.training, validation, self.images = _split(model, cells, recipe, progress)
        self.held_out = "the rest held out by image" if recipe.held_out else NOTHING_HELD_OUT
        self.pairs = validation_pairs(self.images, validation, recipe.seed)

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        return self.model.build(self.cells.channels, self.recipe.width)

    def draw(self, crops: np.ndarray, number: int) -> Epoch:
        """Return an epoch's pairs as positions among the training cells; by default every partner is equally likely."""
        return draw_epoch(self.images[self.training], self.recipe.seed, number)

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: (sources, targets), rescaled and flipped."""
        drawn = self.draw(crops, number)
        epoch = Epoch(
            self.training[drawn.sources], self.training[drawn.targets], drawn.source_flips, drawn.target_flips
        )
        batch = self.recipe.batch

        def prepared(position: int) -> tuple[np.ndarray, np.ndarray]:
            where = slice(position * batch, (position + 1) * batch)
            source = flipped(self.rescaled(crops, epoch.sources[where]), epoch.source_flips[where])
            if not self.model.meta.pairs:
                return source, source
            return source, flipped(self.rescaled(crops, epoch.targets[where]), epoch.target_flips[where])

        return Batches(prepared, len(epoch.sources) // batch, batch)

    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean squared error of a batch."""
        import torch

        prediction, truth = self.model.predict(network, *batch)
        return torch.nn.functional.mse_loss(prediction.float(), truth.float())

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return the mean squared error over the held-out pairs, unflipped, in float32."""
        import torch

        if len(self.pairs[0]) == 0:
            return {}
        network.eval()
        total, count = 0.0, 0
        with torch.inference_mode():
            for source, target in self._validation_batches(crops):
                prediction, truth = self.model.predict(
                    network, tensor(source, device), tensor(target if self.model.meta.pairs else source, device)
                )
                total += float(torch.nn.functional.mse_loss(prediction, truth)) * len(source)
                count += len(source)
        return {"validation_loss": total / count}

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the losses of guesses that any network must beat.

        Copying the source's protein; and the mean protein crop of the target's whole image, an oracle that has seen the
        target. For a model of single cells only the mean crop has a meaning.
        """
        pairs, of_pairs = self.pairs, self.model.meta.pairs
        if len(pairs[0]) == 0:
            return {}
        protein = [i for i, c in enumerate(self.cells.channels) if of_pairs is False or c.role == "protein"]
        means: dict[int, np.ndarray] = {}
        for image in np.unique(self.images[pairs[1]]):
            members = np.flatnonzero(self.images == image)
            means[int(image)] = self.rescaled(crops, members)[:, protein].mean(axis=0)
        copied, averaged, count = 0.0, 0.0, 0
        for number, (source, target) in enumerate(self._validation_batches(crops)):
            truth = target[:, protein]
            start = number * CROPS_PER_PASS
            mean = np.stack([means[int(i)] for i in self.images[pairs[1][start : start + len(truth)]]])
            averaged += float(((mean - truth) ** 2).mean(axis=(1, 2, 3)).sum())
            copied += float(((source[:, protein] - truth) ** 2).mean(axis=(1, 2, 3)).sum())
            count += len(truth)
        references = {"the mean crop of the target's image": averaged / count}
        return {"copying the source": copied / count, **references} if of_pairs else references

    def rescaled(self, crops: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the crops at these positions, min–max rescaled."""
        return rescaled(np.asarray(crops[positions]), self.cells.channels, "minmax")

    def _validation_batches(self, crops: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(self.pairs[0]), CROPS_PER_PASS):
            sources, targets = (p[start : start + CROPS_PER_PASS] for p in self.pairs)
            yield self.rescaled(crops, sources), self.rescaled(crops, targets)


def validation_pairs(images: np.ndarray, held_out: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (sources, targets), at most 2,048 fixed pairs of held-out cells, the same at every epoch."""
    rng = np.random.default_rng([seed, 2**31 + 1])
    counts = np.bincount(images[held_out])
    paired = held_out[counts[images[held_out]] > 1]
    if len(paired) == 0:
        return held_out[:VALIDATION_PAIRS], held_out[:VALIDATION_PAIRS]
    targets = paired[draw_targets(images[paired], rng.random(len(paired)))]
    chosen = rng.permutation(len(paired))[:VALIDATION_PAIRS]
    return paired[chosen], targets[chosen]


def _split(
    model: ReconstructionModel, cells: Cells, recipe: Recipe, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return positions of training and held-out cells, and the image of every cell as int."""
    import pandas as pd

    where = cells.meta.name
    names = cells.obs["image"].astype("string")
    if names.isna().all():
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: its cells name no image, so there are no pairs to draw."
        )
    images, _ = pd.factorize(names, sort=True)
    images = images.astype(np.int64)
    usable = images >= 0
    if model.meta.pairs:
        counts = np.bincount(images[usable], minlength=images.max() + 1)
        alone = usable & (counts[np.maximum(images, 0)] < 2)
        if alone.any():
            progress.say(
                f"  {int(alone.sum())} images of {where} have one cell, which has no partner; they are left out."
            )
        usable &= ~alone
    if not usable.any():
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: no image has two cells, so there are no pairs."
        )
    if recipe.held_out == 0:
        return np.flatnonzero(usable), np.array([], np.int64), images
    if len(np.unique(images[usable])) < 2:
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: it has one image with at least two cells; one is trained on and another held out. "
            "With --held-out 0 all is trained on."
        )
    held_out = np.isin(images, held_out_images(images[usable], recipe.held_out, recipe.seed)) & usable
    return np.flatnonzero(usable & ~held_out), np.flatnonzero(held_out), images
