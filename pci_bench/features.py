"""Feature sets: what an extractor is, how a feature set is named, and which ones a user asked for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pci_bench.cells import Channel, Rescale
from pci_bench.errors import UserError
from pci_bench.registry import Registry, natural_key, origin_of

if TYPE_CHECKING:
    import numpy as np

    from pci_bench.cells import Cells

Compute = Callable[["np.ndarray", set[str]], dict[str, "np.ndarray"]]


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
        ``"raw"`` or ``"minmax"``: how crops are prepared (:func:`pci_bench.cells.rescaled`).
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
    missing
        Whether values may be NaN (not defined for a cell); evaluators replace them (:func:`pci_bench.evaluators.base.completed`).
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
    missing: bool = False


class Extractor(Protocol):
    """Computes one or more feature sets in one pass over the crops. Cheap to construct: heavy imports are in ``open``.

    Two more methods are there where they are needed. ``unfit(output, channels, weights)`` says why one of the outputs cannot be
    had with these channels and this weights file (or None), where the others can. ``default_weights()`` names the weights of
    a feature set that names none, where these follow from its argument and not from the dataset.
    """

    meta: ExtractorMeta

    def skip(self, cells: Cells) -> str | None:
        """Return why these cells cannot be measured and what to do about it, or None."""
        ...

    def names(self, output: str, channels: tuple[Channel, ...]) -> list[str]:
        """Return the names of an output's columns; known before any cell is read.

        With weights of a narrower network, the first of them. An extractor whose columns depend on the weights otherwise may
        also have ``names_with(output, channels, weights)``.
        """
        ...

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return a function of (crops (b, channels, rows, columns) float32, wanted outputs) -> {output: (b, d) float32}."""
        ...


class Precomputed(Protocol):
    """Features that come from elsewhere than the crops, a file or the cells' table: ``load(cells)`` returns ((n, d) float32, d names)."""

    meta: ExtractorMeta

    def skip(self, cells: Cells) -> str | None: ...  # noqa: D102 - as Extractor

    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]: ...  # noqa: D102 - described above


EXTRACTORS: Registry[Any] = Registry("feature set")


class FunctionExtractor:
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

    def skip(self, cells: Cells) -> str | None:
        """Return None: a function of pixels runs on any crop."""
        return None

    def names(self, output: str, channels: tuple[Channel, ...]) -> list[str]:
        """Return the columns' names."""
        return list(self._names(channels))

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the function in the form that the harness calls."""
        return lambda crops, outputs: {"": self.function(crops)}


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


def register_extractor(name: str, *, argument: str | None = None) -> Callable[[type], type]:
    """Return a class decorator that registers an extractor; with `argument`, the class is called with what follows ``name:``.

    A class whose argument may name weights has a static method ``weights_in(argument)`` that gives (argument without, weights
    or None).
    """

    def register(cls: type) -> type:
        EXTRACTORS.register(name, cls() if argument is None else cls, argument=argument, origin=origin_of(cls))
        return cls

    return register


@dataclass(frozen=True)
class FeatureSet:
    """One output of one extractor with one set of weights: ``family[:argument][-output][@weights]``."""

    family: str
    argument: str | None = None
    output: str = ""
    weights: str | None = None

    @property
    def base(self) -> str:
        """The name without weights: ``pci-conv4``."""
        name = self.family if self.argument is None else f"{self.family}:{self.argument}"
        return f"{name}-{self.output}" if self.output else name

    def __str__(self) -> str:
        return f"{self.base}@{self.weights}" if self.weights else self.base

    @property
    def extractor_name(self) -> str:
        """The registered name, with its argument."""
        return self.family if self.argument is None else f"{self.family}:{self.argument}"

    def extractor(self) -> Any:
        """Return the extractor that computes it."""
        return EXTRACTORS.get(self.extractor_name)


def known_feature_sets() -> dict[str, FeatureSet]:
    """Return every feature set that needs no argument, by its name without weights, in reading order."""
    known = {}
    for family in EXTRACTORS.names():
        for output in EXTRACTORS.get(family).meta.outputs:
            feature_set = FeatureSet(family, output=output)
            known[feature_set.base] = feature_set
    return {name: known[name] for name in sorted(known, key=natural_key)}


def groups() -> dict[str, list[FeatureSet]]:
    """Return the groups: declared ones, every family of several outputs, and ``all`` (each family's headline).

    Families with replicates come once with each, but in ``all``.
    """
    found: dict[str, list[FeatureSet]] = {}
    for feature_set in known_feature_sets().values():
        meta = feature_set.extractor().meta
        members = [replace(feature_set, weights=w) for w in meta.replicates] or [feature_set]
        if len(meta.outputs) > 1:
            found.setdefault(feature_set.family, []).extend(members)
        heads = meta.headline == feature_set.output or (meta.headline is None and len(meta.outputs) == 1)
        for group in meta.groups:
            if heads or group != "paper":
                found.setdefault(group, []).extend(members)
        if heads:
            found.setdefault("all", []).append(feature_set)
    return found


def without_seed(full_name: str) -> str:
    """Return the name of a feature set without the seed that its weights' name ends in: what it shares with its replicates.

    Examples
    --------
    >>> without_seed("pci-random-conv3@seed1"), without_seed("pci-conv4@yeast-sim-seed2"), without_seed("intensity")
    ('pci-random-conv3', 'pci-conv4@yeast-sim', 'intensity')
    """
    base, at, weights = full_name.partition("@")
    shared = re.sub(r"(^|-)seed\d+$", "", weights)
    return f"{base}{at}{shared}" if shared else base


def parse(name: str) -> FeatureSet:
    """Return the feature set of a name.

    Raises
    ------
    UserError
        For an unknown name, with the nearest known ones.
    """
    found = select([name])
    if len(found) != 1:
        raise UserError(
            f"'{name}' stands for {len(found)} feature sets; name one of them: {', '.join(map(str, found))}."
        )
    return found[0]


def select(tokens: Sequence[str]) -> list[FeatureSet]:
    """Return the feature sets that names, groups and patterns stand for, each once, in the order given.

    Parameters
    ----------
    tokens
        Names (``intensity``, ``pci-conv4@lu2019-yeast``, ``file:F``), groups (``controls``, ``pci@my-weights``), or
        patterns (``pci-conv*``).

    Raises
    ------
    UserError
        For a token that fits nothing, or weights given to features that use none.
    """
    known, named_groups = known_feature_sets(), groups()
    selected: dict[FeatureSet, None] = {}
    for token in filter(None, (t.strip() for t in tokens)):
        prefix, colon, _ = token.partition(":")
        if colon and prefix in EXTRACTORS.prefixes():
            selected[_with_argument(token)] = None
            continue
        base, _, weights = token.partition("@")
        if base in known:
            found = [known[base]]
        elif base in named_groups:
            found = named_groups[base]
        else:
            found = (
                [f for name, f in known.items() if fnmatch.fnmatchcase(name, base)] if set("*?[") & set(base) else []
            )
        if not found:
            raise UserError(EXTRACTORS.unknown(base, also=[*known, *named_groups]))
        if weights:
            takers = [f for f in found if f.extractor().meta.weights]
            if not takers:
                raise UserError(f"'{token}' names weights, but {base} uses none. Leave out '@{weights}'.")
            found = [replace(f, weights=weights) for f in takers]
        selected.update(dict.fromkeys(found))
    if not selected:
        raise UserError("No feature set was named. `pci-bench list features` shows all of them.")
    return list(selected)


def _with_argument(token: str) -> FeatureSet:
    """Return the feature set of a family that takes an argument (paths may hold any character)."""
    family, _, argument = token.partition(":")
    if not argument:
        raise UserError(
            f"'{token}' names no {EXTRACTORS.prefixes()[family]}. Write {family}:{EXTRACTORS.prefixes()[family]}."
        )
    if hasattr(maker := EXTRACTORS.factory(family), "weights_in"):
        argument, weights = maker.weights_in(argument)
        return FeatureSet(family, argument, weights=weights)
    return FeatureSet(family, argument)
