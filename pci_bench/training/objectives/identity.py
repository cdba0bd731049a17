"""Weak supervision by identity: which image, or which protein, a crop is of (Caicedo et al. 2018; Razdaibiedina et al. 2024)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pci_bench.api.model import Model, Objective
from pci_bench.data.cells import Cells, rescaled
from pci_bench.data.observations import obs_strings
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.crops import Batches, tensor
from pci_bench.training.objectives.checks import check_trainable
from pci_bench.training.pairs import NOTHING_HELD_OUT, flipped

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pci_bench.training.recipe import Recipe

VALIDATION_CELLS = 2048
CROPS_PER_PASS = 64


class IdentityModel(Model):
    """A network from crops to logits (b, groups) that tells which group of cells a crop is of.

    Attributes
    ----------
    group
        The column that names the groups: ``"image"`` or ``"protein"``; never ``"label"``.
    within
        A column such as ``"plate"``: a crop's group competes with the groups of the same value only, so that nothing is
        gained from telling one plate from another. Empty: with all groups.

    Examples
    --------
    >>> from pci_bench import ModelMeta
    >>> class Brightness(IdentityModel):
    ...     meta = ModelMeta("brightness", "1", "Which image, from the brightness of each channel", pairs=False)
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         pooled = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    ...         network = torch.nn.Sequential(pooled, torch.nn.Linear(len(channels), len(classes)))
    ...         network.config = {"channels": len(channels), "classes": len(classes)}
    ...         return network
    >>> Brightness().group
    'image'
    """

    group: ClassVar[str] = "image"
    within: ClassVar[str] = ""

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Identity:
        """Return mean cross-entropy over groups of cells."""
        return Identity(self, cells, recipe, progress)


class Identity(Objective):
    """The objective of a model that tells groups of cells apart: mean cross-entropy over single cells, flipped at random.

    A share of every group's cells is held out, since a group that is held out whole could not be predicted. No label is read.

    Parameters
    ----------
    model, cells, recipe
        What is trained, on what, and how.
    progress
        The progress reporter.

    Attributes
    ----------
    groups
        Their names, in the order of the logits.
    candidates
        (groups, groups) bool: which groups compete with each.

    Raises
    ------
    UserError
        Where the crops do not fit the model, or groups are too few.
    """

    unit = "cells"

    def __init__(self, model: IdentityModel, cells: Cells, recipe: Recipe, progress: Progress):
        name, where, group, within = model.meta.name, cells.meta.name, model.group, model.within
        self.loss_name = f"cross-entropy of the {group}" + (f" among those of its {within}" if within else "")
        check_trainable(model, cells, recipe)
        self.model, self.cells, self.recipe = model, cells, recipe
        for column in filter(None, (group, within)):
            if column not in cells.obs or not (obs_strings(cells.obs, column) != "").any():
                raise UserError(f"{name} cannot be trained on {where}: its cells name no {column}.")
        names = obs_strings(cells.obs, group)
        places = obs_strings(cells.obs, within) if within else np.full(len(cells), "everywhere")
        usable = (names != "") & (places != "")
        joined = np.array([f"{place}\n{one}" for place, one in zip(places, names, strict=True)])
        usable &= np.isin(joined, _with_a_rival(joined[usable], places[usable]))
        if not usable.any():
            raise UserError(
                f"{name} cannot be trained on {where}: it needs at least two values of {group}"
                + (f" on one {within}." if within else ".")
            )
        if not usable.all():
            progress.say(
                f"  {int((~usable).sum()):,} cells of {where} have nothing to be told from; they are left out."
            )
        self.groups, self.of_cells = np.unique(joined[usable]), np.full(len(cells), -1)
        self.of_cells[usable] = np.searchsorted(self.groups, joined[usable])
        of_groups = np.array([one.partition("\n")[0] for one in self.groups])
        self.candidates = of_groups[:, None] == of_groups
        held_out = held_out_cells(self.of_cells, recipe.held_out, recipe.seed)
        self.training = np.setdiff1d(np.flatnonzero(usable), held_out)
        self.held_out = f"the rest held out by cell, of every {group}" if recipe.held_out else NOTHING_HELD_OUT
        rng = np.random.default_rng([recipe.seed, 2**31 + 1])
        self.validation = np.sort(rng.permutation(held_out)[:VALIDATION_CELLS])

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        return self.model.build(self.cells.channels, self.recipe.width, tuple(map(str, self.groups)))

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: (crops, groups), from nothing but seed, epoch and batch."""
        rng, batch = np.random.default_rng([self.recipe.seed, number]), self.recipe.batch
        order = rng.permutation(self.training)
        flips = rng.integers(0, 2, size=(len(order), 2)).astype(bool)

        def prepared(position: int) -> tuple[np.ndarray, np.ndarray]:
            where = slice(position * batch, (position + 1) * batch)
            return flipped(self._rescaled(crops, order[where]), flips[where]), self.of_cells[order[where]]

        return Batches(prepared, len(order) // batch, batch)

    def loss(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        import torch

        crops, groups = batch
        return torch.nn.functional.cross_entropy(self._among_candidates(network(crops), groups), groups)

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return cross-entropy and balanced accuracy over the held-out cells (at most 2,048), unflipped, in float32."""
        import torch

        if len(self.validation) == 0:
            return {}
        network.eval()
        losses, correct = [], []
        with torch.inference_mode():
            for start in range(0, len(self.validation), CROPS_PER_PASS):
                chosen = self.validation[start : start + CROPS_PER_PASS]
                groups = tensor(self.of_cells[chosen], device)
                logits = self._among_candidates(network(tensor(self._rescaled(crops, chosen), device)), groups)
                losses.append(torch.nn.functional.cross_entropy(logits, groups, reduction="none").double().cpu())
                correct.append((logits.argmax(dim=1) == groups).cpu())
        of_cells, right = self.of_cells[self.validation], torch.cat(correct).numpy()
        return {
            "validation_loss": float(torch.cat(losses).mean()),
            "balanced_accuracy": float(np.mean([right[of_cells == one].mean() for one in np.unique(of_cells)])),
        }

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the loss of a guess that any network must beat: how frequent each candidate is among the training cells."""
        if len(self.validation) == 0:
            return {}
        counts = np.bincount(self.of_cells[self.training], minlength=len(self.groups))
        of_cells = self.of_cells[self.validation]
        shares = counts[of_cells] / (self.candidates @ counts)[of_cells]
        return {"the candidates' frequencies": float(-np.log(shares).mean())}

    def _among_candidates(self, logits: Tensor, groups: Tensor) -> Tensor:
        """Return logits as float32, those of groups that do not compete at minus infinity."""
        allowed = tensor(self.candidates, str(logits.device))[groups]
        return logits.float().masked_fill(~allowed, -float("inf"))

    def _rescaled(self, crops: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return rescaled(np.asarray(crops[positions]), self.cells.channels, "minmax")


def held_out_cells(groups: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the cells (sorted positions) that are kept from training: `fraction` of every group, never all of it.

    Parameters
    ----------
    groups
        Group of every cell (n,) int; cells of negative ones are not used.
    fraction, seed
        Of how many, drawn how.

    Examples
    --------
    >>> held_out_cells(np.repeat([0, 1], 10), 0.2, seed=0).shape
    (4,)
    """
    rng = np.random.default_rng([seed, 2**31])
    chosen: list[np.ndarray] = []
    for group in range(groups.max(initial=-1) + 1):
        members = rng.permutation(np.flatnonzero(groups == group))
        chosen.append(members[: min(round(fraction * len(members)), len(members) - 1)])
    return np.sort(np.concatenate([np.array([], np.int64), *chosen]))


def _with_a_rival(groups: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the groups in whose place there is another group."""
    unique, first = np.unique(groups, return_index=True)
    counted = dict(zip(*np.unique(places[first], return_counts=True), strict=True))
    return unique[[counted[place] > 1 for place in places[first]]]
