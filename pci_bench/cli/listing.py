"""`list` and `describe`: what there is."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated

import typer

from pci_bench.cli.app import PluginOption, app, load_plugins
from pci_bench.cli.terminal import out, show
from pci_bench.cli.weights import listed_weights
from pci_bench.system.files import json_text


class Kind(StrEnum):
    """What `list` can list."""

    datasets = "datasets"
    features = "features"
    evaluators = "evaluators"
    benchmarks = "benchmarks"
    tables = "tables"
    models = "models"
    segmenters = "segmenters"
    field_segmenters = "field-segmenters"
    weights = "weights"


@app.command("list")
def list_(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything by default.")] = None,
    plugin: PluginOption = None,
) -> None:
    """List datasets, feature sets, evaluators, benchmarks, tables, models, segmenters and weights."""
    load_plugins(plugin)
    for number, listed_kind in enumerate([kind] if kind else list(Kind)):
        if number:
            out.print()
        show(_listed(listed_kind), listed_kind.value.capitalize().replace("-", " "))


def _listed(kind: Kind) -> Sequence[tuple[str, ...]]:
    """Return names and one-line descriptions."""
    from pci_bench.api.dataset import DATASETS
    from pci_bench.api.evaluator import EVALUATORS
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.features.names import groups, known_feature_sets

    if kind is Kind.datasets:
        named = [(name, DATASETS.get(name).meta.title) for name in DATASETS]
        return named + [
            (f"{p}:{a}", (DATASETS.factory(p).__doc__ or "").strip().partition("\n")[0])
            for p, a in DATASETS.prefixes().items()
        ]
    if kind is Kind.features:
        rows = []
        for name, feature_set in known_feature_sets().items():
            meta = feature_set.extractor().meta
            rows.append((name, f"{meta.title}: {meta.outputs[feature_set.output]}".removesuffix(": ")))
        rows += [
            (f"{p}:{a}", (EXTRACTORS.factory(p).__doc__ or "").strip().partition("\n")[0])
            for p, a in EXTRACTORS.prefixes().items()
        ]
        return rows + [
            (f"group {name}", ", ".join(f.base for f in members)) for name, members in sorted(groups().items())
        ]
    if kind is Kind.evaluators:
        return [(name, EVALUATORS.get(name).meta.title) for name in EVALUATORS]
    if kind is Kind.benchmarks:
        from pci_bench.benchmarks import BENCHMARKS

        return [(name, BENCHMARKS.get(name).title) for name in BENCHMARKS]
    if kind is Kind.models:
        from pci_bench.api.model import MODELS

        return [(name, MODELS.get(name).meta.title) for name in MODELS]
    if kind is Kind.segmenters:
        from pci_bench.segmentation import SEGMENTERS

        return [(name, SEGMENTERS.get(name).meta.title) for name in SEGMENTERS]
    if kind is Kind.field_segmenters:
        from pci_bench.api.field_segmenter import FIELD_SEGMENTERS

        return [(name, FIELD_SEGMENTERS.get(name).meta.title) for name in FIELD_SEGMENTERS]
    if kind is Kind.tables:
        from pci_bench.reporting.tables import TABLES

        return [(name, TABLES.get(name).title) for name in TABLES]
    return listed_weights()


@app.command()
def describe(
    name: Annotated[str, typer.Argument(help="Any name; evaluator:NAME where two kinds share one.")],
    plugin: PluginOption = None,
) -> None:
    """Say what a dataset, feature set, evaluator, benchmark, table or group is, and which line of which file defines it."""
    load_plugins(plugin)
    from pci_bench.reporting.describe import described

    for title, rows in described(name):
        show(rows, title)


@app.command()
def schema() -> None:
    """Print the JSON schema of a result, as `--json` lists them and as each result file holds one."""
    from pci_bench.runs.results import Result

    typer.echo(json_text(Result.model_json_schema(by_alias=True)), nl=False)
