"""The registry of trainable models: what the loop needs to know of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from pci_bench.registry import Registry, origin_of

if TYPE_CHECKING:
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
    """

    name: str
    version: str
    title: str
    pairs: bool = True


class TrainableModel(Protocol):
    """A network and its loss. Cheap to construct: torch is imported in ``build``."""

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


MODELS: Registry[TrainableModel] = Registry("model")


def register_model(name: str) -> Callable[[type], type]:
    """Return a class decorator that registers a trainable model."""

    def register(cls: type) -> type:
        instance: Any = cls()
        MODELS.register(name, instance, origin=origin_of(cls))
        return cls

    return register
