"""What ``pci-bench describe`` says of a name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pci_bench.api.dataset import DATASETS
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS
from pci_bench.api.loading import place_of, unavailable_reason
from pci_bench.api.model import MODELS
from pci_bench.benchmarks import BENCHMARKS, Benchmark
from pci_bench.errors import UserError
from pci_bench.features import names as features
from pci_bench.features.postprocessing import Postprocessing
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.segmentation import SEGMENTERS

if TYPE_CHECKING:
    import pydantic

Description = list[tuple[str, ...]]
RESCALING = {"raw": "raw values", "minmax": "each crop and channel rescaled to [0, 1]"}


def described(name: str) -> list[tuple[str, Description]]:
    """Return a title and rows of (what, value) for every kind of thing that has this name.

    ``kind:NAME`` (``evaluator:umap``) asks for one kind. Of a family as lists fold it (``pci-conv1…5``), the first is described.

    Raises
    ------
    UserError
        For a name that nothing has, with the nearest known ones.
    """
    name = re.sub(r"(?<=\d)…\d+$", "", name)
    kind, colon, rest = name.partition(":")
    if colon and kind in _KINDS:
        description = _KINDS[kind](rest)
        if description is None:
            raise UserError(_REGISTRIES.get(kind, EXTRACTORS).unknown(rest))
        return [(f"{kind} {rest}", description)]
    every = [(f"{kind} {name}", rows) for kind, describe in _KINDS.items() if (rows := describe(name)) is not None]
    if not every:
        also = [
            *DATASETS,
            *EVALUATORS,
            *BENCHMARKS,
            *TABLES,
            *MODELS,
            *SEGMENTERS,
            *FIELD_SEGMENTERS,
            *features.known_feature_sets(),
            *features.groups(),
        ]
        raise UserError(EXTRACTORS.unknown(name, also=also, nothing="nothing"))
    return every


def _documentation(value: Any) -> str:
    return inspect.cleandoc((value if inspect.isclass(value) else type(value)).__doc__ or "")


def _takes_argument(registry: Any, name: str) -> Description:
    with_argument = f"{name}:{registry.prefixes()[name]}"
    return [
        ("name", with_argument),
        ("about", _documentation(registry.factory(name))),
        ("defined in", str(registry.origin(with_argument))),
        _example(
            f"run knn --dataset {with_argument}"
            if registry is DATASETS
            else f"run yeast-knn --features {with_argument}"
        ),
    ]


def _dataset(name: str) -> Description | None:
    if name in (f"{prefix}:{argument}" for prefix, argument in DATASETS.prefixes().items()):  # as it is listed
        return _takes_argument(DATASETS, name.partition(":")[0])
    if name not in DATASETS:
        return _takes_argument(DATASETS, name) if name in DATASETS.prefixes() else None
    dataset = DATASETS.get(name)
    meta = dataset.meta
    return [
        ("title", meta.title),
        ("version", meta.version),
        ("label", meta.label),
        ("confounder", meta.confounder or "none is known"),
        ("levels", ", ".join(meta.levels) or "the well-known columns that divide its cells"),
        ("trained on", meta.training or "no screen is named"),
        ("reference", meta.reference),
        ("licence", meta.licence),
        *([("the paper counts", ", ".join(f"{n:,} {what}" for what, n in meta.paper.items()))] if meta.paper else []),
        ("available", unavailable_reason(dataset) or "yes, or fetched on first use"),
        *([("stored in", str(place))] if (place := place_of(dataset)) is not None else []),
        ("about", _documentation(dataset)),
        ("defined in", str(DATASETS.origin(name))),
        _example(_command_with_dataset(name)),
    ]


def _example(command: str) -> tuple[str, ...]:
    """Return the last row of every description: a command that can be copied."""
    return ("example", f"pci-bench {command}")


def _command_with_dataset(name: str) -> str:
    """Return what is done first with a dataset: fetch it, train on it, or run a benchmark that names it."""
    dataset = DATASETS.get(name)
    if reason := unavailable_reason(dataset):
        _, found, command = reason.partition("`pci-bench ")
        if found:
            return command.partition("`")[0]
    if any(DATASETS.get(other).meta.training == name for other in DATASETS if other != name):
        return f"train pci --dataset {name} --name mine"
    named = [b for b in BENCHMARKS if name in BENCHMARKS.get(b).datasets]
    classified = [b for b in named if "loo-knn" in {e.name for e in BENCHMARKS.get(b).evaluate}]
    return f"run {min(classified or named or ['knn'], key=len)} --dataset {name}"


def _features(name: str) -> Description | None:
    if name in (f"{prefix}:{argument}" for prefix, argument in EXTRACTORS.prefixes().items()):  # as it is listed
        return _takes_argument(EXTRACTORS, name.partition(":")[0])
    if name in EXTRACTORS.prefixes() and name not in EXTRACTORS:
        return _takes_argument(EXTRACTORS, name)
    try:
        feature_set = features.parse(name)
    except UserError:
        return None
    extractor = feature_set.extractor()
    meta = extractor.meta
    weights = f"{meta.weights}@{feature_set.weights or '(the default of the dataset)'}" if meta.weights else "none"
    return [
        ("title", meta.title),
        ("output", meta.outputs.get(feature_set.output, "")),
        ("version", meta.version),
        ("crops", RESCALING[meta.rescale]),
        ("channels", " + ".join(meta.roles) or "any"),
        ("weights", weights),
        ("seeds", ", ".join(meta.replicates) or "none"),
        ("groups", ", ".join(meta.groups) or "none"),
        ("about", extractor.documentation()),
        ("defined in", str(EXTRACTORS.origin(feature_set.extractor_name))),
        _example(f"run yeast-knn --features {name}"),
    ]


def _group(name: str) -> Description | None:
    from pci_bench import weights

    family, _, rest = name.partition("@")
    members = features.groups().get(family)
    if members is None or rest in weights.declared().get(family, {}):  # as weights, more is said of it
        return None
    places = dict.fromkeys(str(EXTRACTORS.origin(f.extractor_name)) for f in members)
    return [
        ("feature sets", ", ".join(dict.fromkeys(f.base for f in members))),
        ("defined in", ", ".join(places)),
        _example(f"run yeast-knn --features {name}"),
    ]


def _parameters(model: type[pydantic.BaseModel]) -> Description:
    fields = model.model_fields.items()
    return [(f"parameter {name}", f"{info.description or ''} (default {info.default})") for name, info in fields]


def _evaluator(name: str) -> Description | None:
    if name not in EVALUATORS:
        return None
    evaluator = EVALUATORS.get(name)
    named = [b for b in BENCHMARKS if name in {e.name for e in BENCHMARKS.get(b).evaluate}]
    return [
        ("title", evaluator.meta.title),
        ("version", evaluator.meta.version),
        *_parameters(evaluator.Params),
        *_cost(name),
        ("about", _documentation(evaluator)),
        ("defined in", str(EVALUATORS.origin(name))),
        _example(f"run {min(named, key=len)}" if named else f"evaluate FEATURES.h5ad --with {name}"),
    ]


def _cost(name: str) -> Description:
    """Return how long one of our evaluators takes, where it was measured."""
    from pci_bench.features.estimate import rates

    rate = rates()["evaluators"].get(name)
    if rate is None:
        return []
    size = f"{rate['cells']:,} cells, one feature set of {rates()['evaluated_features']} columns and the default parameters"
    return [
        (
            "cost",
            f"about {rate['seconds']:.2g} CPU seconds for {size}; with the number of cells to the power of {rate['power']:g}",
        )
    ]


def _benchmark(name: str) -> Description | None:
    if name not in BENCHMARKS:
        return None
    benchmark = BENCHMARKS.get(name)
    grids = ["; ".join(f"{p} = {', '.join(map(str, v))}" for p, v in e.grid.items()) for e in benchmark.evaluate]
    return [
        ("title", benchmark.title),
        ("datasets", ", ".join(benchmark.datasets) or "any with labels, named with --dataset"),
        ("features", ", ".join(benchmark.features)),
        *[("evaluator", f"{e.name}: {grid}") for e, grid in zip(benchmark.evaluate, grids, strict=True)],
        *[(f"postprocess {text}", Postprocessing.parse(text).words()) for text in _postprocessings(benchmark)],
        ("tables", ", ".join(benchmark.tables)),
        ("defined in", str(BENCHMARKS.origin(name))),
        _example(f"run {name}"),
    ]


def _postprocessings(benchmark: Benchmark) -> list[str]:
    """Return what a benchmark declares to be done to features, each once."""
    declared = [text for e in benchmark.evaluate for text in e.postprocess or benchmark.postprocess]
    return list(dict.fromkeys(declared))


def _table(name: str) -> Description | None:
    if name not in TABLES:
        return None
    return [
        *TABLES.get(name).description(),
        ("defined in", str(TABLES.origin(name))),
        _example(f"table {name} --format md"),
    ]


def _model(name: str) -> Description | None:
    if name not in MODELS:
        return None
    model = MODELS.get(name)
    return [
        ("title", model.meta.title),
        ("version", model.meta.version),
        ("learns from", "pairs of cells of an image" if model.meta.pairs else "single cells"),
        ("labels", "learned" if model.meta.supervised else "never read"),
        ("about", _documentation(model)),
        ("defined in", str(MODELS.origin(name))),
        _example(f"train {name} --dataset yeast-sim-train --name mine"),
    ]


def _segmenter(name: str) -> Description | None:
    if name not in SEGMENTERS:
        return None
    segmenter = SEGMENTERS.get(name)
    return [
        ("title", segmenter.meta.title),
        ("version", segmenter.meta.version),
        ("available", segmenter.unavailable_reason() or "yes"),
        ("about", _documentation(segmenter)),
        ("defined in", str(SEGMENTERS.origin(name))),
        _example(f"run yeast-knn --features designed --segmenter {name}"),
    ]


def _field_segmenter(name: str) -> Description | None:
    if name not in FIELD_SEGMENTERS:
        return None
    segmenter = FIELD_SEGMENTERS.get(name)
    return [
        ("title", segmenter.meta.title),
        ("version", segmenter.meta.version),
        *_parameters(segmenter.Params),
        ("available", segmenter.unavailable_reason() or "yes"),
        ("about", _documentation(segmenter)),
        ("defined in", str(FIELD_SEGMENTERS.origin(name))),
        _example("data layout FOLDER --out LAYOUT.toml"),
    ]


def _weights(name: str) -> Description | None:
    from pci_bench import weights

    family, _, rest = name.partition("@")
    declaration = weights.declared().get(family, {}).get(rest)
    file = weights.find(family, rest) if rest else None
    if declaration is None and file is None:
        return None
    rows: Description = []
    if declaration is not None:
        named = ", ".join("every dataset" if d == "*" else d for d in declaration["default_for"])
        rows = [
            ("title", declaration["title"]),
            ("default for", named or "no dataset"),
            ("licence", declaration.get("licence", "")),
            ("declared in", weights.declared_at(family, rest)),
        ]
        rows = [row for row in rows if row[1]]
    if file is None:
        return [*rows, ("available", f"no: {weights.how_to_get(family, rest)}"), _example(f"weights get {name}")]
    header = weights.read_header(file)
    network = ", ".join(f"{k} {v}" for k, v in header.config.items())
    return [
        *rows,
        ("channels", " + ".join(header.channels) or "any"),
        ("network", network),
        ("from", header.source),
        ("file", str(file)),
        _example(f"run yeast-knn --features {features.with_weights(name)}"),
    ]


_KINDS: dict[str, Callable[[str], Description | None]] = {
    "dataset": _dataset,
    "features": _features,
    "group": _group,
    "evaluator": _evaluator,
    "benchmark": _benchmark,
    "table": _table,
    "model": _model,
    "segmenter": _segmenter,
    "field-segmenter": _field_segmenter,
    "weights": _weights,
}
_REGISTRIES: dict[str, Any] = {
    "dataset": DATASETS,
    "evaluator": EVALUATORS,
    "benchmark": BENCHMARKS,
    "table": TABLES,
    "model": MODELS,
    "segmenter": SEGMENTERS,
    "field-segmenter": FIELD_SEGMENTERS,
}
