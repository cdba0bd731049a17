"""Feature sets: the base classes of what computes them, and their registry."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import InitVar, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pci_bench.api.registry import Registry, instance_of, origin_of
from pci_bench.data.cells import Channel, Rescale

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from pci_bench.data.cells import Cells

T = TypeVar("T", bound="Extractor")
Compute = Callable[["np.ndarray", set[str]], dict[str, "np.ndarray"]]
TorchFunction = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True)
class ExtractorMeta:
    """What is known about an extractor before it is opened.

    Parameters
    ----------
    name, version
        The family's name, and a version that changes whenever its numbers do.
    title
        One line for tables and ``pci-bench list``.
    outputs
        Each output's name and what it is. A family with the one output ``""`` is a feature set by its own name.
    rescale
        ``"raw"`` or ``"minmax"``: how crops are prepared (:func:`pci_bench.data.cells.rescaled`).
    roles
        Channel roles that it needs.
    groups
        Names under which its feature sets can be asked for together; ``paper`` takes the headline only.
    headline
        The output that stands for the family where one row is wanted; a family of several outputs without one is in no
        group that it does not name.
    weights
        The family of weights it runs with, or None.
    replicates
        Names of weights that stand for each other, as the seeds of a random network do: a group holds the family with each of
        them, and tables print their mean and SD. The first is the default.
    batch
        Crops per call; the last batch of a dataset is filled up with zeros to this size.
    masks
        Whether it needs segmentation masks, appended to the crops as the last channel: 0 background, 1 the cell in the middle
        (its mother, where it has a bud), 2 its bud, 3, 4 … other cells. The dataset's own, or else a segmenter's.
    simulated_masks
        Whether these are the masks that a simulation drew the cells from, and it can be had for no other cells.
    processes
        Whether the cores are best used by processes with one thread each, as for libraries that measure crop by crop.
    concurrent
        Whether batches are computed beside each other, in threads of one process with a core each: for networks, whose
        single operations are too small to be shared out. Calls must not share anything that they change.
    allows_nan
        Whether values may be NaN (not defined for a cell); evaluators replace them (:func:`pci_bench.statistics.scaling.impute_nan`).

    Examples
    --------
    >>> ExtractorMeta("brightest", "1", "The brightest pixel of each channel", rescale="raw").batch
    256
    """

    name: str
    version: str
    title: str = ""
    outputs: dict[str, str] = field(default_factory=lambda: {"": ""})
    rescale: Rescale = "minmax"
    roles: tuple[str, ...] = ("protein",)
    groups: tuple[str, ...] = ()
    headline: str | None = None
    weights: str | None = None
    replicates: tuple[str, ...] = ()
    batch: int = 256
    masks: bool = False
    simulated_masks: bool = False
    processes: bool = False
    concurrent: bool = False
    missing: InitVar[bool] = False  # as version 0.1 called it
    allows_nan: bool = False

    def __post_init__(self, missing: bool) -> None:
        """Take what version 0.1 called otherwise."""
        if missing:
            object.__setattr__(self, "allows_nan", True)


class Extractor(ABC):
    """Computes one or more feature sets in one pass over the crops. Cheap to construct: heavy imports are in ``open``.

    Examples
    --------
    >>> class Means(Extractor):
    ...     meta = ExtractorMeta("means", "1", "The mean of each channel", rescale="raw")
    ...
    ...     def names(self, output, channels, weights=None):
    ...         return [channel.name for channel in channels]
    ...
    ...     def open(self, channels, weights, device):
    ...         return lambda crops, outputs: {"": crops.mean(axis=(2, 3))}
    >>> Means().names("", (Channel("GFP", "protein"),))
    ['GFP']
    """

    meta: ExtractorMeta

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these cells cannot be measured and what to do about it, or None; by default all can."""
        return None

    def output_unavailable_reason(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> str | None:
        """Return why one of the outputs cannot be had with these channels and this weights file, where others can, or None."""
        return None

    @abstractmethod
    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return the names of an output's columns; known before any cell is read.

        Where they do not depend on the weights, those of a narrower network are the first of them.
        """

    @abstractmethod
    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return a function of (crops (b, channels, rows, columns) float32, wanted outputs) -> {output: (b, d) float32}."""

    def differentiable(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> TorchFunction | None:
        """Return an output as a function of torch tensors that gradients pass through, where it is one; by default none is.

        Crops (b, channels, rows, columns) float as ``open``'s function gets them, on the CPU -> (b, d), the same numbers.
        """
        return None

    def default_weights(self) -> str | None:
        """Return the name of the weights for who names none, where it follows from the argument; None is the dataset's default."""
        return None

    @staticmethod
    def weights_in(argument: str) -> tuple[str, str | None]:
        """Return what follows ``name:`` without the name of weights that it holds, and this name; by default it holds none."""
        return argument, None

    def documentation(self) -> str:
        """Return what ``describe`` shows of it: its docstring."""
        return inspect.cleandoc(type(self).__doc__ or "")


class Precomputed(Extractor):
    """Features that come from elsewhere than the crops: a file, or the cells' table.

    ``notes`` says what a user should know of what was loaded, as sentences.

    Examples
    --------
    >>> class Area(Precomputed):
    ...     meta = ExtractorMeta("area", "1", "The area that the cells' table names")
    ...
    ...     def load(self, cells):
    ...         return cells.obs[["area"]].to_numpy("float32"), ["area"]
    """

    notes: Sequence[str] = ()

    @abstractmethod
    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]:
        """Return (features (n, d) float32 of these cells in their order, d names)."""

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return nothing: the columns are known once they are loaded."""
        return []

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Raise: there is nothing to compute."""
        raise NotImplementedError(f"{self.meta.name} is loaded, not computed")


EXTRACTORS: Registry[Extractor] = Registry("feature set")

FORMER_METHODS = {"unavailable_reason": "skip", "output_unavailable_reason": "unfit"}


def _extractor_class(cls: type) -> type[Extractor]:
    """Return a class as an extractor; one of version 0.1 has ``skip``, ``unfit``, and perhaps ``names_with`` or ``load``."""
    if issubclass(cls, Extractor):
        return instance_of(Extractor, cls)
    methods = {name: value for ancestor in reversed(cls.__mro__) for name, value in vars(ancestor).items()}
    if "load" in methods:
        return instance_of(Precomputed, cls, FORMER_METHODS)
    made: Any = instance_of(Extractor, cls, FORMER_METHODS)
    if names := methods.get("names"):
        with_weights = methods.get("names_with")

        def both(self: Any, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
            if weights is not None and with_weights is not None:
                return list(with_weights(self, output, channels, weights))
            return list(names(self, output, channels))

        made.names = both
    extractor: type[Extractor] = made
    return extractor


class FunctionExtractor(Extractor):
    """A stateless function of a batch, as an extractor with one output."""

    def __init__(
        self,
        function: Callable[[np.ndarray], np.ndarray],
        meta: ExtractorMeta,
        names: Callable[[tuple[Channel, ...]], list[str]],
    ):
        self.function = function
        self.meta = meta
        self._names = names

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return the columns' names."""
        return list(self._names(channels))

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the function in the form that the harness calls."""
        return lambda crops, outputs: {"": self.function(crops)}

    def documentation(self) -> str:
        """Return the function's docstring."""
        return inspect.cleandoc(self.function.__doc__ or "")


def register_features(
    name: str,
    *,
    version: str,
    names: Callable[[tuple[Channel, ...]], list[str]],
    title: str = "",
    rescale: Rescale = "minmax",
    groups: Sequence[str] = (),
    **options: Any,
) -> Callable[[Callable[[np.ndarray], np.ndarray]], Callable[[np.ndarray], np.ndarray]]:
    """Return a decorator that makes a function of a batch a feature set.

    Parameters
    ----------
    name, version, title, rescale, groups
        As in :class:`ExtractorMeta`; `title` defaults to the first line of the docstring.
    names
        Gives the columns' names from the channels.
    **options
        Any other field of :class:`ExtractorMeta`.

    Examples
    --------
    >>> @register_features("brightest", version="1", rescale="raw", names=lambda channels: [c.name for c in channels])
    ... def brightest(crops):
    ...     return crops.max(axis=(2, 3))
    """

    def register(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        first_line = (function.__doc__ or "").strip().partition("\n")[0]
        meta = ExtractorMeta(name, version, title or first_line, rescale=rescale, groups=tuple(groups), **options)
        EXTRACTORS.register(name, FunctionExtractor(function, meta, names), origin=origin_of(function))
        return function

    return register


def register_extractor(name: str, *, argument: str | None = None) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers an :class:`Extractor`, or a :class:`Precomputed`.

    Parameters
    ----------
    name
        The family's name.
    argument
        What follows ``name:``, for extractors that need a path or a variant; the class is then called with it.

    Examples
    --------
    >>> @register_extractor("heights")
    ... class Heights(Precomputed):
    ...     meta = ExtractorMeta("heights", "1", "The height that the cells' table names")
    ...
    ...     def load(self, cells):
    ...         return cells.obs[["height"]].to_numpy("float32"), ["height"]
    >>> "heights" in EXTRACTORS
    True
    """
    return EXTRACTORS.class_decorator(name, _extractor_class, argument=argument)
