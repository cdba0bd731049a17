"""`list` and `describe`: what there is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Any

import typer

from pci_bench.cli.app import BEGIN, PluginOption, app, load_plugins
from pci_bench.cli.columns import people
from pci_bench.cli.terminal import out, say, show, show_list
from pci_bench.cli.weights import names_of_weights, print_weights


class Kind(StrEnum):
    """What `list` can list."""

    datasets = "datasets"
    features = "features"
    benchmarks = "benchmarks"
    evaluators = "evaluators"
    tables = "tables"
    models = "models"
    segmenters = "segmenters"
    field_segmenters = "field-segmenters"
    weights = "weights"

    @property
    def heading(self) -> str:
        """What stands above its list."""
        return "Feature sets" if self is Kind.features else self.value.capitalize().replace("-", " ")


FIRST = (Kind.datasets, Kind.features, Kind.benchmarks, Kind.evaluators)  # what `list` shows of itself


@app.command("list", rich_help_panel=BEGIN)
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; by default what a run is made of.")] = None,
    unfold: Annotated[bool, typer.Option("--all", help="Every kind, and every member of families.")] = False,
    plugin: PluginOption = None,
) -> None:
    """List datasets, feature sets, benchmarks, evaluators, tables, models, segmenters and weights, a line each."""
    load_plugins(plugin)
    kinds = [kind] if kind else list(Kind) if unfold else list(FIRST)
    for listed_kind in kinds:
        if listed_kind is Kind.weights:
            print_weights()
        elif listed_kind is Kind.features:
            show_list(("name", "what", "weights"), list(_features(unfold)), listed_kind.heading)
            out.print()
            show(list(_groups(unfold)), "Groups of feature sets")
        elif listed_kind is Kind.datasets:
            show_list(("name", "what", "cells", "classes", "state"), list(_datasets()), listed_kind.heading)
        else:
            show_list(("name", "what"), list(_titled(listed_kind)), listed_kind.heading)
        out.print()
    if kind is None and not unfold:
        others = (f"{len(list(_titled(k)))} {k.value.replace('-', ' ')}" for k in Kind if k not in FIRST)
        say(f"More: {', '.join(others)}; `pci-bench list KIND` shows them, `--all` everything, families unfolded.")
    if kind in (None, Kind.datasets):
        say("A dataset whose state is 'on first use' is generated then; `pci-bench data get NAME` fetches others.")
    say("`pci-bench describe NAME` says what a name is, and gives a command to try.")


def _datasets() -> Iterable[tuple[str, ...]]:
    from pci_bench.acquisition.inventory import inventory_of
    from pci_bench.api.dataset import DATASETS

    for name in DATASETS:
        dataset = DATASETS.get(name)
        here = inventory_of(dataset)
        yield name, dataset.meta.title, people(here.cells), people(here.classes), here.state
    for name, what in _taking_an_argument(DATASETS):
        yield name, what, "", "", ""


def _features(unfold: bool) -> Iterable[tuple[str, ...]]:
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.features.names import known_feature_sets

    known = known_feature_sets()
    families: dict[str, list[str]] = {}
    for name, feature_set in known.items():
        families.setdefault(name if unfold else feature_set.family, []).append(name)
    for family, names in families.items():
        meta = known[names[0]].extractor().meta
        what = meta.title
        if unfold:
            what = (
                meta.outputs[known[names[0]].output] or meta.title
            )  # the name says the family, and nothing else the layer
        elif folded(names) == family and len(names) > 1:
            what = f"{meta.title}, {len(names)} outputs"
        yield folded(names), what, _weights_of(meta)
    for name, what in _taking_an_argument(EXTRACTORS):
        yield name, what, ""


def folded(names: list[str]) -> str:
    """Return how several outputs of a family are written as one: numbered ones with their range, others by the family's name.

    Examples
    --------
    >>> folded(["pci-conv1", "pci-conv2", "pci-conv3"]), folded(["vgg16-rgb-block1_conv1", "vgg16-rgb-block1_conv2", "vgg16-fc2"])
    ('pci-conv1…3', 'vgg16')
    """
    if len(names) == 1:
        return names[0]
    numbered = [re.fullmatch(r"(.*\D)(\d+)", name) for name in names]
    stems = {match[1] for match in numbered if match}
    if all(numbered) and len(stems) == 1:
        numbers = [int(match[2]) for match in numbered if match]
        if numbers == list(range(numbers[0], numbers[0] + len(numbers))):
            return f"{names[0]}…{numbers[-1]}"
    words = [name.split("-") for name in names]
    shared = next((i for i, column in enumerate(zip(*words, strict=False)) if len(set(column)) > 1), 0)
    return "-".join(words[0][: max(shared, 1)])


def _weights_of(meta: Any) -> str:
    """Return whether there are weights that an extractor runs with, or what it takes to have some."""
    from pci_bench import weights

    if meta.weights is None:
        return "none needed"
    if any(family == meta.weights for family, _ in weights.availability()):
        return "here"
    states = [weights.state_to_get(meta.weights, name) for name in weights.declared().get(meta.weights, {})]
    return states[0] if states else ""


def _groups(unfold: bool) -> Iterable[tuple[str, ...]]:
    """Yield the groups and their members; those of one family, which have its name, where everything is unfolded."""
    from pci_bench.features.names import groups

    for name, members in sorted(groups().items()):
        families: dict[str, list[str]] = {}
        for member in members:
            families.setdefault(member.family, []).append(member.base)
        if unfold or len(families) > 1:
            yield name, ", ".join(folded(list(dict.fromkeys(bases))) for bases in families.values())


def _titled(kind: Kind) -> Iterable[tuple[str, ...]]:
    if kind is Kind.weights:
        return [(name, "") for name in names_of_weights()]
    return [(name, title) for name, title in _REGISTERED[kind]()]


def _taking_an_argument(registry: Any) -> Iterable[tuple[str, str]]:
    """Yield the names of a registry that take an argument, and the first line of what they are."""
    for prefix, argument in registry.prefixes().items():
        yield f"{prefix}:{argument}", (registry.factory(prefix).__doc__ or "").strip().partition("\n")[0]


def _evaluators() -> Iterable[tuple[str, str]]:
    from pci_bench.api.evaluator import EVALUATORS

    return ((name, EVALUATORS.get(name).meta.title) for name in EVALUATORS)


def _benchmarks() -> Iterable[tuple[str, str]]:
    from pci_bench.benchmarks import BENCHMARKS

    return ((name, BENCHMARKS.get(name).title) for name in BENCHMARKS)


def _models() -> Iterable[tuple[str, str]]:
    from pci_bench.api.model import MODELS

    return ((name, MODELS.get(name).meta.title) for name in MODELS)


def _segmenters() -> Iterable[tuple[str, str]]:
    from pci_bench.segmentation import SEGMENTERS

    return ((name, SEGMENTERS.get(name).meta.title) for name in SEGMENTERS)


def _field_segmenters() -> Iterable[tuple[str, str]]:
    from pci_bench.api.field_segmenter import FIELD_SEGMENTERS

    return ((name, FIELD_SEGMENTERS.get(name).meta.title) for name in FIELD_SEGMENTERS)


def _tables() -> Iterable[tuple[str, str]]:
    from pci_bench.reporting.tables import TABLES

    return ((name, TABLES.get(name).title) for name in TABLES)


_REGISTERED: Mapping[Kind, Callable[[], Iterable[tuple[str, str]]]] = {
    Kind.benchmarks: _benchmarks,
    Kind.evaluators: _evaluators,
    Kind.tables: _tables,
    Kind.models: _models,
    Kind.segmenters: _segmenters,
    Kind.field_segmenters: _field_segmenters,
}


@app.command(rich_help_panel=BEGIN)
def describe(
    name: Annotated[str, typer.Argument(help="Any name; evaluator:NAME where two kinds share one.")],
    plugin: PluginOption = None,
) -> None:
    """Say what a name is, which line of which file defines it, and a command to try."""
    load_plugins(plugin)
    from pci_bench.reporting.describe import described

    for title, rows in described(name):
        show(rows, title)
