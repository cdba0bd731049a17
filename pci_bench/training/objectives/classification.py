"""Learning from labels, cell by cell: the objective of a supervised upper bound (paper: "Baseline Feature Extraction and Benchmarking")."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.model import Model, Objective
from pci_bench.data.cells import Cells, rescaled
from pci_bench.data.observations import obs_strings
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.crops import Batches
from pci_bench.training.pairs import NOTHING_HELD_OUT, held_out_images

if TYPE_CHECKING:
    import torch

    from pci_bench.training.recipe import Recipe

VALIDATION_CELLS = 2048
CROPS_PER_PASS = 32
SMALLEST_PROBABILITY = 1e-16


class ClassificationModel(Model):
    """A network from inputs to logits (b, classes) that learns the labels of single cells.

    Examples
    --------
    >>> from pci_bench import ModelMeta
    >>> class Brightness(ClassificationModel):
    ...     meta = ModelMeta("brightness", "1", "Classes by the brightness of each channel", pairs=False, supervised=True)
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         network = torch.nn.Linear(len(channels), len(classes))
    ...         network.config = {"channels": len(channels), "classes": list(classes)}
    ...         return network
    ...
    ...     def augmented(self, crops, rng):
    ...         return crops.mean(axis=(2, 3))
    ...
    ...     def probabilities(self, network, crops, device):
    ...         import torch
    ...
    ...         logits = network(torch.from_numpy(crops.mean(axis=(2, 3))).to(device))
    ...         return torch.softmax(logits, dim=1).cpu().numpy()
    """

    @abstractmethod
    def augmented(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the network's inputs for training, float32: raw crops prepared, cut, flipped and turned at random."""

    @abstractmethod
    def probabilities(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> np.ndarray:
        """Return the probabilities (b, classes) of raw crops as they are predicted after training."""

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Classification:
        """Return mean cross-entropy over labelled cells."""
        return Classification(self, cells, recipe, progress)


class Classification(Objective):
    """The objective of a model that learns labels: mean cross-entropy over single cells.

    Where the cells have a column ``split`` with ``train`` and ``valid``, these are the cells trained on and held out; else
    whole images are held out, as for models without labels; a recipe that holds nothing out trains on all of them. Cells without a label are left out. A cell that names no image
    counts as an image of its own.

    Parameters
    ----------
    model, cells, recipe
        What is trained, on what, and how.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        Where the crops do not fit the model, or labels, classes or images are too few.
    """

    loss_name = "cross-entropy"
    unit = "cells"
    held_out: str
    trained_on: dict[str, str] | None

    def __init__(self, model: ClassificationModel, cells: Cells, recipe: Recipe, progress: Progress):
        self.model, self.cells, self.recipe = model, cells, recipe
        where = cells.meta.name
        if reason := model.unavailable_reason(cells.channels, cells.crop_shape):
            raise UserError(f"{model.meta.name} cannot be trained on {where}: {reason}.")
        names = obs_strings(cells.obs, "label")
        labelled = names != ""
        if not labelled.any():
            raise UserError(
                f"{model.meta.name} learns from labels, and {where} has none. Give every image a label "
                "(for folder:PATH, a column 'label' in PATH/images.csv)."
            )
        if not labelled.all():
            progress.say(f"  {int((~labelled).sum()):,} cells of {where} have no label; they are left out.")
        self.classes = tuple(str(name) for name in np.unique(names[labelled]))
        if len(self.classes) < 2:
            raise UserError(f"All labelled cells of {where} have one label; {model.meta.name} needs at least two.")
        self.labels = np.searchsorted(self.classes, names)  # of labelled cells; the others are never used
        split = cells.obs["split"].astype("string").fillna("") if "split" in cells.obs else None
        held_out = np.array([], np.int64)
        if recipe.held_out == 0:
            self.training, self.held_out = np.flatnonzero(labelled), NOTHING_HELD_OUT
            self.trained_on = {"dataset": where}
        elif split is not None and {"train", "valid"} <= set(split[labelled]):
            self.training = np.flatnonzero(labelled & (split == "train").to_numpy(bool))
            held_out = np.flatnonzero(labelled & (split == "valid").to_numpy(bool))
            self.held_out = "its split 'train'; the split 'valid' is held out"
            self.trained_on = {"dataset": where, "split": "train"}
        else:
            images = _images(cells)
            if len(np.unique(images[labelled])) < 2:
                raise UserError(
                    f"{model.meta.name} cannot be trained on {where}: its labelled cells are of one image; one is "
                    "trained on and another held out. With --held-out 0 all is trained on."
                )
            chosen = np.isin(images, held_out_images(images[labelled], recipe.held_out, recipe.seed))
            self.training, held_out = np.flatnonzero(labelled & ~chosen), np.flatnonzero(labelled & chosen)
            self.held_out = "the rest held out by image"
            self.trained_on = {"dataset": where}
        rng = np.random.default_rng([recipe.seed, 2**31 + 1])
        self.validation = np.sort(rng.permutation(held_out)[:VALIDATION_CELLS])

    def build(self) -> torch.nn.Module:
        """Return a new network."""
        return self.model.build(self.cells.channels, self.recipe.width, self.classes)

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: (inputs of the network, labels), from nothing but seed, epoch and batch."""
        seed, batch = self.recipe.seed, self.recipe.batch
        order = self.training
        if self.recipe.order == "shuffled":
            order = np.random.default_rng([seed, number]).permutation(order)

        def prepared(position: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = order[position * batch : (position + 1) * batch]
            raw = rescaled(np.asarray(crops[chosen]), self.cells.channels, "raw")
            return self.model.augmented(raw, np.random.default_rng([seed, number, position])), self.labels[chosen]

        return Batches(prepared, len(order) // batch, batch)

    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean cross-entropy of a batch."""
        import torch

        inputs, labels = batch
        return torch.nn.functional.cross_entropy(network(inputs).float(), labels)

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return cross-entropy and balanced accuracy over the held-out cells (at most 2,048), in float32."""
        if len(self.validation) == 0:
            return {}
        network.eval()
        parts = []
        for start in range(0, len(self.validation), CROPS_PER_PASS):
            chosen = self.validation[start : start + CROPS_PER_PASS]
            raw = rescaled(np.asarray(crops[chosen]), self.cells.channels, "raw")
            parts.append(self.model.probabilities(network, raw, device))
        probabilities, labels = np.concatenate(parts), self.labels[self.validation]
        of_the_label = probabilities[np.arange(len(labels)), labels].astype(np.float64)
        correct = probabilities.argmax(axis=1) == labels
        return {
            "validation_loss": float(-np.log(np.maximum(of_the_label, SMALLEST_PROBABILITY)).mean()),
            "balanced_accuracy": float(np.mean([correct[labels == c].mean() for c in np.unique(labels)])),
        }

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the loss of a guess that any network must beat: how frequent each class is among the training cells."""
        if len(self.validation) == 0:
            return {}
        counts = np.bincount(self.labels[self.training], minlength=len(self.classes))
        frequencies = np.maximum(counts / counts.sum(), SMALLEST_PROBABILITY)
        return {"the classes' frequencies": float(-np.log(frequencies[self.labels[self.validation]]).mean())}


def _images(cells: Cells) -> np.ndarray:
    """Return every cell's image (n,) int."""
    import pandas as pd

    images = pd.factorize(cells.obs["image"].astype("string"), sort=True)[0].astype(np.int64)
    nowhere = images < 0
    images[nowhere] = images.max(initial=-1) + 1 + np.arange(nowhere.sum())
    return images
