"""Learning without labels from views of cells: the objective of every model that is told nothing but which views belong together."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.model import Model, Objective
from pci_bench.data.cells import Cells, Channel, rescaled
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.crops import Batches, tensor
from pci_bench.training.objectives.checks import check_trainable
from pci_bench.training.objectives.views import Augmentation, views
from pci_bench.training.pairs import NOTHING_HELD_OUT, draw_targets, held_out_images

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pci_bench.training.recipe import Recipe

VALIDATION_CELLS = 2048
SMALLEST = 16  # pixels: of a crop whose views still show something


class AugmentedModel(Model):
    """A network that learns from one or two augmented views of a cell, or of two cells of an image (``meta.pairs``).

    Attributes
    ----------
    loss_name
        What the loss is.
    views
        1, or 2 that belong together.
    augmentation
        How strongly a view differs from its crop.
    within
        The column whose value cells must share to be compared at all while training, where the dataset has it; None compares
        all. Held-out cells are all compared: of most groups there are too few images.
    keeps
        Which part of the network is saved, by the name of its module, such as ``"encoder"``; empty for all of it.
    couples_cells, gathers
        As of :class:`pci_bench.Objective`.

    Examples
    --------
    >>> from pci_bench import ModelMeta
    >>> class Equal(AugmentedModel):
    ...     meta = ModelMeta("equal", "1", "Two views of a cell have the same brightness", pairs=False)
    ...     loss_name = "squared difference"
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         network = torch.nn.Conv2d(len(channels), 1, 1)
    ...         network.config = {"channels": len(channels)}
    ...         return network
    ...
    ...     def loss(self, network, batch):
    ...         first, second, image, group = batch
    ...         return (network(first).mean((2, 3)) - network(second).mean((2, 3))).square().mean()
    """

    loss_name: str
    views: int = 2
    augmentation = Augmentation()
    within: str | None = None
    keeps: str = ""
    couples_cells: bool = False
    gathers: bool = False

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        rows, columns = crop_shape
        if rows != columns or rows < SMALLEST:
            return f"crops of {rows}×{columns} px do not fit: views are turned by quarters, so crops must be square and have {SMALLEST} px at least"
        return None

    def prepared(self, seen: tuple[np.ndarray, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
        """Return the arrays that a batch begins with, from its views; by default the views."""
        return seen

    @abstractmethod
    def loss(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of a batch: what ``prepared`` returns, and each cell's image and group (b,) int."""

    def measured(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> dict[str, float]:
        """Return what else is measured on a held-out batch; by default nothing."""
        return {}

    def guess(self, batch: tuple[Tensor, ...]) -> float | None:
        """Return the loss of a network that tells nothing apart, or None where that says nothing."""
        return None

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Augmented:
        """Return the loss over views of cells, or of pairs of cells."""
        return Augmented(self, cells, recipe, progress)


class Augmented(Objective):
    """The objective of a model of views: batches from nothing but seed, epoch and position, some images held out.

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

    def __init__(self, model: AugmentedModel, cells: Cells, recipe: Recipe, progress: Progress):
        where = cells.meta.name
        check_trainable(model, cells, recipe)
        self.model, self.cells, self.recipe = model, cells, recipe
        self.loss_name, self.crops_each = model.loss_name, model.views
        self.couples_cells, self.gathers = model.couples_cells, model.gathers
        self.unit = "pairs" if model.meta.pairs else "cells"
        self.images, usable = _images(model, cells, progress)
        self.groups = _codes(cells, model.within)
        if recipe.held_out and len(np.unique(self.images[usable])) < 2:
            raise UserError(
                f"{model.meta.name} cannot be trained on {where}: it has one image to learn from; one is trained on and another held out. "
                "With --held-out 0 all is trained on."
            )
        held_out = np.zeros(len(usable), bool)
        if recipe.held_out:
            held_out = np.isin(self.images[usable], held_out_images(self.images[usable], recipe.held_out, recipe.seed))
        self.held_out = "the rest held out by image" if recipe.held_out else NOTHING_HELD_OUT
        self.training = usable[~held_out]
        rng = np.random.default_rng([recipe.seed, 2**31 + 1])
        self.validation = rng.permutation(usable[held_out])[:VALIDATION_CELLS]

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        return self.model.build(self.cells.channels, self.recipe.width)

    def kept(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return what of the network is saved."""
        return network.get_submodule(self.model.keeps)

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: every cell once, with its partner where the model learns from pairs."""
        seed, batch = self.recipe.seed, self.recipe.batch
        rng = np.random.default_rng([seed, number])
        partners = self._partners(self.training, rng)
        order = rng.permutation(len(self.training))

        def prepared(position: int) -> tuple[np.ndarray, ...]:
            chosen = order[position * batch : (position + 1) * batch]
            cells, drawn = self.training[chosen], np.random.default_rng([seed, number, position])
            return self._arrays(crops, cells, partners[chosen], self.groups[cells], drawn)

        return Batches(prepared, len(order) // batch, batch)

    def loss(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean loss of a batch."""
        return self.model.loss(network, batch)

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return the loss over held-out cells (at most 2,048), the same views after every epoch, in float32."""
        import torch

        network.eval()
        total: dict[str, float] = {}
        count = 0
        with torch.inference_mode():
            for batch in self._validation_batches(crops, device):
                values = {
                    "validation_loss": float(self.model.loss(network, batch)),
                    **self.model.measured(network, batch),
                }
                for name, value in values.items():
                    total[name] = total.get(name, 0.0) + value * len(batch[0])
                count += len(batch[0])
        return {name: value / count for name, value in total.items()}

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the loss of telling nothing apart, on the same views."""
        guesses = [(self.model.guess(batch), len(batch[0])) for batch in self._validation_batches(crops, "cpu")]
        known = [(value, n) for value, n in guesses if value is not None]
        if not known:
            return {}
        return {"telling nothing apart": sum(value * n for value, n in known) / sum(n for _, n in known)}

    def _partners(self, cells: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the cell that the second view is of: another of the image, or the same."""
        if not self.model.meta.pairs:
            return cells
        partners: np.ndarray = cells[draw_targets(self.images[cells], rng.random(len(cells)))]
        return partners

    def _validation_batches(self, crops: np.ndarray, device: str) -> Iterator[tuple[Tensor, ...]]:
        if len(self.validation) == 0:
            return
        batch = min(self.recipe.batch, len(self.validation))  # a loss among fewer views would be another one
        for start in range(0, len(self.validation) - batch + 1, batch):
            chosen = self.validation[start : start + batch]
            rng = np.random.default_rng([self.recipe.seed, 2**31 + 2, start])
            alone = np.flatnonzero(np.isin(self.images, self.images[chosen]))
            partners = self._partners(alone, rng)[np.searchsorted(alone, chosen)]
            arrays = self._arrays(crops, chosen, partners, np.zeros_like(chosen), rng)
            yield tuple(tensor(array, device) for array in arrays)

    def _arrays(
        self,
        crops: np.ndarray,
        cells: np.ndarray,
        partners: np.ndarray,
        groups: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, ...]:
        seen = tuple(
            views(rescaled(np.asarray(crops[positions]), self.cells.channels, "minmax"), rng, self.model.augmentation)
            for positions in (cells, partners)[: self.model.views]
        )
        return (*self.model.prepared(seen, rng), self.images[cells], groups)


def _images(model: AugmentedModel, cells: Cells, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
    """Return the image of every cell as int, and the positions of cells that can be trained on."""
    where, images = cells.meta.name, _codes(cells, "image")
    known = images >= 0
    if not known.any():
        raise UserError(
            f"{model.meta.name} cannot be trained on {where}: its cells name no image, by which some are held out."
        )
    if not known.all():
        progress.say(f"  {int((~known).sum()):,} cells of {where} name no image; they are left out.")
    if model.meta.pairs:
        alone = known & (np.bincount(images[known], minlength=images.max() + 1)[np.maximum(images, 0)] < 2)
        if alone.any():
            progress.say(
                f"  {int(alone.sum())} images of {where} have one cell, which has no partner; they are left out."
            )
        known &= ~alone
        if not known.any():
            raise UserError(
                f"{model.meta.name} cannot be trained on {where}: no image has two cells, so there are no pairs."
            )
    return images, np.flatnonzero(known)


def _codes(cells: Cells, column: str | None) -> np.ndarray:
    """Return the values of a column (n,) int, -1 where it is empty; zeros for no such column."""
    import pandas as pd

    if column is None or column not in cells.obs:
        return np.zeros(len(cells), np.int64)
    codes: np.ndarray = pd.factorize(cells.obs[column].astype("string"), sort=True)[0].astype(np.int64)
    return codes
