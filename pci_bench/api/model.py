"""Trainable models: the base classes of a model and of what its training is about, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pci_bench.api.registry import Registry, instance_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pci_bench.data.cells import Cells, Channel
    from pci_bench.system.progress import Progress
    from pci_bench.training.crops import Batches
    from pci_bench.training.recipe import Recipe

T = TypeVar("T", bound="Model")


@dataclass(frozen=True)
class ModelMeta:
    """What is known about a trainable model.

    Parameters
    ----------
    name, version
        The weights that it makes are ``name@…``.
    title
        One line for ``pci-bench list models``.
    pairs
        Whether it learns from pairs of cells of an image; otherwise from single cells.
    supervised
        Whether it learns labels; otherwise no label is ever read.
    recipe
        Its own defaults for fields of :class:`pci_bench.training.recipe.Recipe`, where they are not the paper's.

    Examples
    --------
    >>> ModelMeta("pixels", "1", "Pixels from pixels", pairs=False).supervised
    False
    """

    name: str
    version: str
    title: str
    pairs: bool = True
    supervised: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)


class Objective(ABC):
    """What a training is about: which cells, in which batches, with which loss, and how it is judged.

    Attributes
    ----------
    loss_name, unit
        What the loss is, and what the rates count, for messages and the card.
    training
        Positions of the cells trained on.
    held_out
        Which cells are held out, for the card.
    trained_on
        As in :func:`pci_bench.weights.save`.
    crops_each
        Crops that the network sees for each cell or pair of a batch, for the card: two views of a cell are two.
    couples_cells
        Whether the loss of a batch is more than the mean of its cells' losses, as where cells are compared with each other.
        Such a batch is not divided into slices, nor among processes unless the loss `gathers`.
    gathers
        Whether such a loss, while training, compares the cells of all processes, by :func:`pci_bench.training.synchronised.gathered`.

    Examples
    --------
    >>> class Constant(Objective):
    ...     loss_name = "distance from one"
    ...
    ...     def build(self):
    ...         import torch
    ...
    ...         return torch.nn.Linear(1, 1)
    ...
    ...     def batches(self, crops, number):
    ...         from pci_bench.training.crops import Batches
    ...
    ...         return Batches(lambda position: (crops[:4].mean(axis=(1, 2, 3))[:, None],), count=1, batch=4)
    ...
    ...     def loss(self, network, batch):
    ...         return (network(*batch) - 1).abs().mean()
    """

    loss_name: str
    unit: str = "cells"
    training: np.ndarray
    held_out: str
    trained_on: dict[str, str] | None = None
    crops_each: int = 1
    couples_cells: bool = False
    gathers: bool = False

    @abstractmethod
    def build(self) -> torch.nn.Module:
        """Return a new network."""

    @abstractmethod
    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch, from all crops as they are stored.

        Where batches are divided, rows go together: an array that has k rows for each row of the shortest has them in a row.
        """

    @abstractmethod
    def loss(self, network: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the mean loss of a batch."""

    def validate(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> dict[str, float]:
        """Return ``validation_loss`` and what else is measured on the held-out cells; nothing where none is held out."""
        return {}

    def references(self, crops: np.ndarray) -> dict[str, float]:
        """Return the held-out losses of guesses that any network must beat; none where nothing is held out."""
        return {}

    def kept(self, network: torch.nn.Module) -> torch.nn.Module:
        """Return what of a trained network is saved, with the ``config`` that it is constructed with; by default all of it."""
        return network


class Model(ABC):
    """A network that can be trained, by an objective of its own. Cheap to construct: torch is imported in ``build``.

    :class:`pci_bench.ReconstructionModel` and :class:`pci_bench.ClassificationModel` bring an objective each.

    Examples
    --------
    >>> class Learned(Model):
    ...     meta = ModelMeta("learned", "1", "A model with an objective of its own, such as the one that Objective shows")
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         return torch.nn.Linear(1, 1)
    ...
    ...     def objective(self, cells, recipe, progress):
    ...         raise NotImplementedError("returns an Objective")
    >>> Learned().unavailable_reason((), (64, 64)) is None
    True
    """

    meta: ModelMeta

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None; by default it can on all."""
        return None

    @abstractmethod
    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> torch.nn.Module:
        """Return a new network; its ``config`` is what it is constructed with.

        Parameters
        ----------
        channels
            Of the crops.
        width
            Factor on the number of filters; 1 is the published one.
        classes
            That are told apart, for a model that learns labels.
        """

    @abstractmethod
    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Objective:
        """Return what a training on these cells is about.

        Raises
        ------
        UserError
            Where it cannot be trained on them.
        """


MODELS: Registry[Model] = Registry("model")


def register_model(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a :class:`Model`.

    Examples
    --------
    >>> @register_model("mine")
    ... class Mine(Model):
    ...     meta = ModelMeta("mine", "1", "A model that says what it lacks")
    ...
    ...     def build(self, channels, width, classes=()):
    ...         raise NotImplementedError
    ...
    ...     def objective(self, cells, recipe, progress):
    ...         raise NotImplementedError
    >>> MODELS.get("mine").meta.title
    'A model that says what it lacks'
    """
    return MODELS.class_decorator(name, lambda cls: instance_of(Model, cls))
