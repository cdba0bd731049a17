"""How a feature set is named, and which ones a user asked for."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pci_bench.api.extractor import EXTRACTORS, Extractor
from pci_bench.api.registry import natural_key
from pci_bench.errors import UserError
from pci_bench.weights.names import availability, declared


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

    def extractor(self) -> Extractor:
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
    """Return the groups: declared ones, every family whose outputs have names, and ``all`` (each family's headline).

    Families with replicates come once with each, but in ``all``.
    """
    by_group: dict[str, list[FeatureSet]] = {}
    for feature_set in known_feature_sets().values():
        meta = feature_set.extractor().meta
        members = [replace(feature_set, weights=w) for w in meta.replicates] or [feature_set]
        if any(meta.outputs):
            by_group.setdefault(feature_set.family, []).extend(members)
        heads = meta.headline == feature_set.output or (meta.headline is None and len(meta.outputs) == 1)
        for group in meta.groups:
            if heads or group != "paper":
                by_group.setdefault(group, []).extend(members)
        if heads:
            by_group.setdefault("all", []).append(feature_set)
    return by_group


def headline_of(token: str) -> FeatureSet:
    """Return the feature set that stands for a name, group or pattern where one row is wanted: its first family's headline.

    Of a family that declares none, or whose headline is not meant, it is the first.

    Raises
    ------
    UserError
        As :func:`select`.

    Examples
    --------
    >>> str(headline_of("pci")), str(headline_of("pci-conv2"))
    ('pci-conv4', 'pci-conv2')
    """
    first, *others = select([token])
    family = [first, *(f for f in others if f.extractor_name == first.extractor_name)]
    if len(family) == 1:
        return first
    return next((f for f in family if f.output == first.extractor().meta.headline), first)


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


def seeds_of(full_name: str) -> tuple[str, bool]:
    """Return what a feature set shares with those that differ in nothing but the seed of their weights, and whether it has a seed.

    Weights whose name tells no seed are no replicate of those that do, whatever else they are called.

    Examples
    --------
    >>> seeds_of("pci-conv4@rxrx1-seed1"), seeds_of("pci-conv4@rxrx1")
    (('pci-conv4@rxrx1', True), ('pci-conv4@rxrx1', False))
    """
    shared = without_seed(full_name)
    return shared, shared != full_name


def with_weights(weights: str) -> str:
    """Return the headline feature set that weights FAMILY@NAME serve.

    Examples
    --------
    >>> with_weights("pci@mine"), with_weights("cytoimagenet@hua2021")
    ('pci-conv4@mine', 'cytoimagenet@hua2021')
    """
    family, _, name = weights.partition("@")
    serving = [meta for e in EXTRACTORS if (meta := EXTRACTORS.get(e).meta).weights == family]
    first = next((m for m in serving if m.headline), serving[0] if serving else None)
    if family in EXTRACTORS.prefixes():
        return f"{family}:{name}"
    return str(FeatureSet(first.name, output=first.headline or "", weights=name)) if first else weights


def parse(name: str) -> FeatureSet:
    """Return the feature set of a name.

    Raises
    ------
    UserError
        For an unknown name, with the nearest known ones.
    """
    matches = select([name])
    if len(matches) != 1:
        raise UserError(
            f"'{name}' stands for {len(matches)} feature sets; name one of them: {', '.join(map(str, matches))}."
        )
    return matches[0]


def select(tokens: Sequence[str]) -> list[FeatureSet]:
    """Return the feature sets that names, groups and patterns stand for, each once, in the order given.

    Parameters
    ----------
    tokens
        Names (``intensity``, ``pci-conv4@lu2019-yeast``, ``file:F``), groups (``controls``, ``pci@my-weights``), or
        patterns (``pci-conv*``). Weights may be a pattern too, of names that are here or declared (``pci-conv4@mine-seed*``); and
        numbers after a name that ends in a seed are further seeds (``["pci-conv4@mine-seed0", "1", "2"]``).

    Raises
    ------
    UserError
        For a token that fits nothing, or weights given to features that use none.
    """
    known, named_groups = known_feature_sets(), groups()
    selected: dict[FeatureSet, None] = {}
    for token in _further_seeds([t.strip() for t in tokens if t.strip()]):
        prefix, colon, _ = token.partition(":")
        if colon and prefix in EXTRACTORS.prefixes():
            selected[_with_argument(token)] = None
            continue
        base, _, weights = token.partition("@")
        if base in known:
            matches = [known[base]]
        elif base in named_groups:
            matches = named_groups[base]
        else:
            matches = (
                [f for name, f in known.items() if fnmatch.fnmatchcase(name, base)] if set("*?[") & set(base) else []
            )
        if not matches:
            raise UserError(EXTRACTORS.unknown(base, also=[*known, *named_groups]))
        if weights:
            takers = [f for f in matches if f.extractor().meta.weights]
            if not takers:
                raise UserError(f"'{token}' names weights, but {base} uses none. Leave out '@{weights}'.")
            matches = [replace(f, weights=w) for f in takers for w in _weights_named(weights, f, token)]
        selected.update(dict.fromkeys(matches))
    if not selected:
        raise UserError("No feature set was named. `pci-bench list features` shows all of them.")
    return list(selected)


def _further_seeds(tokens: Sequence[str]) -> list[str]:
    """Return tokens in which a number after a name that ends in a seed is that name with another seed."""
    whole: list[str] = []
    for token in tokens:
        seeded = re.fullmatch(r"(.*@(?:.*-)?seed)\d+", whole[-1]) if whole and token.isdecimal() else None
        whole.append(f"{seeded[1]}{token}" if seeded else token)
    return whole


def _weights_named(weights: str, feature_set: FeatureSet, token: str) -> list[str]:
    """Return the names of a family's weights that a name or pattern stands for, in natural order.

    Raises
    ------
    UserError
        For a pattern that fits none.
    """
    if not set("*?[") & set(weights):
        return [weights]
    meta = feature_set.extractor().meta
    family = meta.weights or ""
    known = {*meta.replicates, *declared().get(family, {}), *(name for of, name in availability() if of == family)}
    fitting = sorted((name for name in known if fnmatch.fnmatchcase(name, weights)), key=natural_key)
    if not fitting:
        raise UserError(
            f"'{token}' fits no weights of {family}: there are {', '.join(sorted(known, key=natural_key)) or 'none'}. "
            "`pci-bench weights list` shows all of them."
        )
    return fitting


def _with_argument(token: str) -> FeatureSet:
    """Return the feature set of a family that takes an argument (paths may hold any character)."""
    family, _, argument = token.partition(":")
    if not argument:
        raise UserError(
            f"'{token}' names no {EXTRACTORS.prefixes()[family]}. Write {family}:{EXTRACTORS.prefixes()[family]}."
        )
    argument, weights = EXTRACTORS.factory(family).weights_in(argument)
    return FeatureSet(family, argument, weights=weights)
