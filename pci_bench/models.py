"""The registry of trainable models: what the loop needs to know of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from pci_bench.registry import Registry, origin_of

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from pci_bench.cells import Channel


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
        Whether it learns labels (:class:`SupervisedModel`); otherwise no label is ever read.
    recipe
        Its own defaults for fields of :class:`pci_bench.training.loop.Recipe`, where they are not the paper's.
    """

    name: str
    version: str
    title: str
    pairs: bool = True
    supervised: bool = False
    recipe: dict[str, Any] = field(default_factory=dict)


class TrainableModel(Protocol):
    """A network that predicts pixels. Cheap to construct: torch is imported in ``build``."""

    meta: ModelMeta

    def skip(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        ...

    def build(self, channels: tuple[Channel, ...], width: float) -> torch.nn.Module:
        """Return a new network; its ``config`` is what it is constructed with."""
        ...

    def predict(self, network: torch.nn.Module, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return (prediction, what it should be) for crops (b, channels, rows, columns), proteins first."""
        ...


class SupervisedModel(Protocol):
    """A network that learns the labels of single cells (``meta.supervised``)."""

    meta: ModelMeta

    def skip(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        ...

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...]) -> torch.nn.Module:
        """Return a new network from inputs to logits (b, classes); its ``config`` is what it is constructed with."""
        ...

    def augmented(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the network's inputs for training, float32: raw crops prepared, cut, flipped and turned at random."""
        ...

    def probabilities(self, network: torch.nn.Module, crops: np.ndarray, device: str) -> np.ndarray:
        """Return the probabilities (b, classes) of raw crops as they are predicted after training."""
        ...


MODELS: Registry[TrainableModel | SupervisedModel] = Registry("model")


def register_model(name: str) -> Callable[[type], type]:
    """Return a class decorator that registers a trainable model."""

    def register(cls: type) -> type:
        instance: Any = cls()
        MODELS.register(name, instance, origin=origin_of(cls))
        return cls

    return register
