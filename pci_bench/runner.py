"""The only loop: names → extractors → missing features → evaluators → results → tables and figures."""

from __future__ import annotations

import itertools
import json
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import __version__, extraction, kept, store
from pci_bench import weights as weight_files
from pci_bench.annotations import annotate
from pci_bench.arguments import check_limit, check_seed, check_workers
from pci_bench.benchmarks import BENCHMARKS, Benchmark, Evaluation
from pci_bench.cells import Cells, limited
from pci_bench.datasets.base import DATASETS
from pci_bench.errors import PluginError, UserError
from pci_bench.evaluators.base import (
    EVALUATORS,
    Evaluator,
    Run,
    completed,
    resolve_exclude,
    validated,
    why_not_asked,
)
from pci_bench.evaluators.intervals import training_variance_of
from pci_bench.evaluators.training_cells import training_cells, without_training_cells
from pci_bench.extraction import NotRun, Refresh, annotated, device_name
from pci_bench.features import select
from pci_bench.files import atomic_file, check_writable, escape, sha256_of, user_path, write_json
from pci_bench.progress import Progress
from pci_bench.provenance import peak_memory, provenance
from pci_bench.reporting.enrichment import enrichment_tables
from pci_bench.reporting.figures import FIGURES, draw
from pci_bench.reporting.screens import agreement_tables
from pci_bench.reporting.tables import TABLES, FilledTable, fill, printed_value, render
from pci_bench.results import (
    DatasetRecord,
    EvaluatorRecord,
    FeaturesRecord,
    Result,
    key_and_defaults,
    read_record,
    read_result,
    write_result,
)
from pci_bench.segmentation import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.threads import available_cores, set_threads

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


_REAL = int | float | np.integer | np.floating


@dataclass
class RunOutput(Sequence[Result]):
    """The results of a run, in order; also what could not be run and why, the tables, and where all was written.

    ``failed`` are the errors of feature sets, evaluators and figures that failed, where others did not.
    """

    benchmark: str
    out: Path | None
    results: list[Result] = field(default_factory=list)
    not_run: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[FilledTable] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)
    failed: list[PluginError] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)


def evaluate(
    evaluator: str,
    adata: AnnData,
    *,
    cells: Cells | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    **grid: Any,
) -> list[Result]:
    """Return the results of one evaluator on one feature set.

    Parameters
    ----------
    evaluator
        Its name: ``"loo-knn"``.
    adata
        Features as :func:`pci_bench.extract` returns them, or any AnnData with cells in rows and ``obs["label"]``.
    cells
        The cells that the features belong to, in their order; for evaluators that need crops.
    seed
        Drives everything random.
    progress
        Told of every stage.
    **grid
        Parameters; a list means one result for each of its values: ``k=[1, 5, 11], exclude=["cell", "field"]``.

    Raises
    ------
    UserError
        For an unknown name or parameter, for a value that cannot be evaluated with any of the others, or where nothing
        can be evaluated (the first reason). Where a combination of values cannot be, a warning counts them.
    """
    check_seed(seed)
    values = _listed(grid)
    if empty := [name for name, given in values.items() if not given]:
        raise UserError(f"The parameter '{empty[0]}' is given no value.")
    named = Evaluation(name=evaluator)
    _check_asked(adata, [named], [Evaluation(name=evaluator, **values)], values)
    found, reasons = _evaluated(
        EVALUATORS.get(evaluator), adata, [values], seed, progress or Progress(), benchmark=None, cells=cells
    )
    if not found:
        raise UserError(f"{evaluator} cannot be run: {reasons[0] if reasons else 'an empty grid was given'}.")
    for note in _shortfalls(found):
        warnings.warn(f"{note}.", stacklevel=2)
    for reason, count in Counter(reasons).items():
        warnings.warn(f"Not run: {evaluator}: {reason}{_count_said(count)}.", stacklevel=2)
    return found


def run(
    benchmark: str,
    *,
    dataset: Sequence[str] | str | None = None,
    features: Sequence[str] | str | None = None,
    k: Sequence[int] | None = None,
    parameters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    workers: int | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    annotations: str | Path | None = None,
    refresh: Refresh = "missing",
    progress: Progress | None = None,
) -> RunOutput:
    """Return the results of a benchmark, and write them where `out` is given.

    Parameters
    ----------
    benchmark
        ``"yeast-knn"``; ``pci-bench list benchmarks`` shows all.
    dataset
        One or several; by default the first of the benchmark's that is at hand, or all of them where it says so.
    features
        Names, groups or patterns; by default the benchmark's.
    k
        Numbers of neighbours, where the benchmark has them; short for ``parameters={"k": …}``.
    parameters
        Values, by name, for the parameters of evaluators, in place of what the benchmark and its dataset declare.
    limit
        Evaluate a seeded, label-stratified subset of about this many cells.
    out
        Folder for results, tables, figures and ``run.json``; None writes nothing.
    device, workers, refresh, segmenter
        As in :func:`pci_bench.extraction.ensure`.
    annotations
        CSV or TSV of proteins, joined onto the cells by :func:`pci_bench.annotations.annotate`.
    seed
        Drives the subset, the bootstrap and everything else that is random.
    progress
        Told of every stage.

    Raises
    ------
    UserError
        For unknown names, wrong parameters, a dataset that is not at hand, or where nothing at all could be run.
    """
    progress = progress or Progress()
    declared = BENCHMARKS.get(benchmark)
    wanted = select([features] if isinstance(features, str) else declared.features if features is None else features)
    parameters = _listed(parameters or {}) | ({} if k is None else _listed({"k": k}))
    _check_parameters(declared, parameters)
    for evaluation in with_parameters(declared.evaluate, parameters):
        _grid(EVALUATORS.get(evaluation.name), evaluation.grid)
    named = [dataset] if isinstance(dataset, str) else list(dataset or ())
    if dataset is not None and not named:
        raise UserError("No dataset was named. `pci-bench list datasets` shows all of them.")
    for name in named:
        DATASETS.get(name)
    check_limit(limit)
    check_seed(seed)
    check_workers(workers)
    SEGMENTERS.get(segmenter)
    if device != "auto":  # which asks torch, seconds that a run from the cache does not need
        extraction.resolve_device(device)
    folder = user_path(out, "The output folder") if out is not None else None
    if annotations is not None:
        annotations = user_path(annotations, "The annotations")
    if folder is not None:
        check_writable(folder)
    set_threads(available_cores())
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    output = RunOutput(benchmark, folder)
    digest = None if annotations is None else sha256_of(Path(annotations))
    used, planned = [], []
    for cells in _datasets(declared, named, output, progress):  # all checked before any feature is computed
        cells = cells if annotations is None else annotate(cells, annotations)
        # The subset may have a few cells more or less.
        taken = limit if limit is not None and limit < len(cells) else None
        cells = cells if taken is None else limited(cells, taken, seed)
        without = declared.evaluations_on(cells.meta.name)
        evaluations, probe = with_parameters(without, parameters), _probe(cells)
        _check_something_to_evaluate(probe, evaluations)
        _check_asked(probe, without, evaluations, parameters)
        if folder is not None:
            check_same_settings(folder, cells.meta.name, taken, seed, segmenter, digest)
        used.append(cells)
        planned.append((cells, taken, evaluations))
    for cells, taken, evaluations in planned:
        computed = extraction.ensure(
            wanted,
            cells,
            device=device,
            refresh=refresh,
            workers=workers,
            segmenter=segmenter,
            keep_going=True,
            progress=progress,
        )
        resolved = list(computed)
        set_threads(available_cores())
        with progress.stage(f"evaluating {', '.join(e.name for e in evaluations)}", len(computed)) as advance:
            for feature_set, adata in computed.items():
                if isinstance(adata, NotRun):
                    output.not_run.append(
                        {"dataset": cells.meta.name, "features": str(feature_set), "reason": adata.reason}
                    )
                    if adata.error is not None:
                        output.failed.append(adata.error)
                else:
                    _evaluate_all(adata, cells, evaluations, declared, seed, taken, output, anew=refresh == "always")
                advance(1)
        if len([r for r in output.results if r.dataset.name == cells.meta.name]) == 0:
            reasons = dict.fromkeys(n["reason"].rstrip(".") for n in output.not_run if n["dataset"] == cells.meta.name)
            raise UserError(f"Nothing could be run on {cells.meta.name}: {'; '.join(reasons)}.") from next(
                iter(output.failed), None
            )
    for cells in used:
        reasons_by_features = {
            n["features"]: n["reason"] for n in output.not_run if n["dataset"] == cells.meta.name and "features" in n
        }
        output.tables += [
            fill(TABLES.get(t), output.results, reasons_by_features, cells.meta.name) for t in declared.tables
        ]
        output.notes += [n for n in cells.notes if n not in output.notes]
    output.notes += [f"{note}." for note in _shortfalls(output.results)]
    if folder is not None:
        _write(output, folder, several=len(used) > 1, progress=progress)
        arguments = {
            "benchmark": benchmark,
            "dataset": [c.meta.name for c in used],
            "features": [str(f) for f in (resolved if len(used) == 1 else wanted)],
            "parameters": parameters,
            "limit": limit,
            "seed": seed,
            "device": device,
            "segmenter": segmenter,
            "annotations": None if annotations is None else str(annotations),
            "annotations_sha256": digest,
        }
        record = {
            "schema": 1,
            "arguments": arguments,
            "datasets": [
                {"name": c.meta.name, "version": c.meta.version, "sha256": c.sha256, "n_cells": len(c)} for c in used
            ],
            "results": [str(_path(r)) for r in output.results],
            "tables": [f"tables/{_table_name(t, len(used) > 1)}" for t in output.tables],
            "figures": [str(f.relative_to(folder)) for f in output.figures],
            "not_run": output.not_run,
            "notes": output.notes,
            "run": provenance(
                device=", ".join(dict.fromkeys(str(r.run["device"]) for r in output.results)),
                threads=available_cores(),
                seed=seed,
                seconds=time.perf_counter() - began,
                started=started,
            ),
        }
        write_json(folder / "run.json", record)
    return output


def run_again(file: str | Path, *, out: str | Path | None = None, progress: Progress | None = None) -> RunOutput:
    """Return what a recorded run gives now, with the same data, features, parameters and seed.

    Parameters
    ----------
    file
        The ``run.json`` of an output folder.
    out, progress
        As in :func:`run`.

    Raises
    ------
    UserError
        For a file that is no such record, or where a dataset is not the recorded one any more.
    """
    progress = progress or Progress()
    record = read_record(Path(file))
    arguments = {**record["arguments"]}
    hashes = {d.get("name"): d.get("sha256") for d in record["datasets"]}
    annotations, digest = arguments["annotations"], arguments.pop("annotations_sha256")
    names, limit, seed = arguments["dataset"], arguments["limit"], arguments["seed"]
    benchmark, package = arguments.pop("benchmark"), record["run"].get("package")
    if annotations is not None and (not Path(annotations).is_file() or sha256_of(Path(annotations)) != digest):
        raise UserError(f"The annotations {annotations} are not those of the recorded run, or are gone.")
    for name in names if annotations is None else ():
        cells = store.load(DATASETS.get(name), progress=progress)
        if limit is not None and limit < len(cells):
            cells = limited(cells, limit, seed)
        if cells.sha256 != hashes.get(name):
            raise UserError(
                f"{name} is not the data of the recorded run: sha256 {cells.sha256[:16]} now, {str(hashes.get(name))[:16]} then."
            )
    if package != __version__:
        progress.say(f"The recorded run is of pci-bench {package}, this is {__version__}.")
    return run(benchmark, **arguments, out=out, progress=progress)


def _check_parameters(declared: Benchmark, parameters: Mapping[str, list[Any]]) -> None:
    """Raise where a benchmark has no evaluator with a parameter that the user sets."""
    known = {e.name: EVALUATORS.get(e.name).Params.model_fields for e in declared.evaluate}
    for name, values in parameters.items():
        if not values:
            raise UserError(f"The parameter '{name}' is given no value.")
        if not any(name in fields for fields in known.values()):
            theirs = "; ".join(f"{e}: {', '.join(fields) or 'none'}" for e, fields in known.items())
            raise UserError(f"No evaluator of {declared.name} has a parameter '{name}'. Their parameters are {theirs}.")


def with_parameters(evaluations: Iterable[Evaluation], parameters: Mapping[str, list[Any]]) -> list[Evaluation]:
    """Return evaluations with the user's values in place of the declared ones, where an evaluator has such a parameter."""
    changed = []
    for evaluation in evaluations:
        fields = EVALUATORS.get(evaluation.name).Params.model_fields
        mine = {
            name: [v for i, v in enumerate(values) if v not in values[:i]]
            for name, values in parameters.items()
            if name in fields
        }
        one = Evaluation(**{**evaluation.model_dump(), **mine})
        if one not in changed:  # two that differed only in what the user sets are one now
            changed.append(one)
    return changed


def _listed(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return parameters with a list of values for each, where some have a single one."""
    return {
        name: [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
        for name, value in values.items()
    }


def _grid(evaluator: Evaluator, values: dict[str, list[Any]]) -> list[Any]:
    """Return every combination of parameter values, validated."""
    return [
        validated(evaluator, dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]


def _datasets(declared: Benchmark, named: Sequence[str], output: RunOutput, progress: Progress) -> Iterator[Cells]:
    """Yield the cells of the named datasets, or of the first of the benchmark's that is at hand (or all); say which and why."""
    for name in named:
        yield store.load(DATASETS.get(name), progress=progress)
    if named:
        return
    reasons: list[str] = []
    found = False
    for name in declared.datasets:
        dataset = DATASETS.get(name)
        reason = store.unavailable_reason(dataset)
        if reason is None:
            before = f", since {' '.join(reasons)}" if reasons and not found else ""
            progress.say(f"Dataset: {name} ({dataset.meta.title}){before}")
            yield store.load(dataset, progress=progress)
            found = True
            if not declared.every:
                return
        else:
            output.not_run.append({"dataset": name, "reason": reason})
            reasons.append(f"{name} is not at hand: {reason}")
    if not found:
        raise UserError(f"None of the datasets of {declared.name} is at hand. {' '.join(reasons)}")


def _probe(cells: Cells) -> AnnData:
    """Return cells with one constant feature, to ask evaluators whether they can be run on them."""
    meta = cells.meta
    identity = {"dataset": {"name": meta.name, "confounder": meta.confounder or "", "ontology": meta.ontology}}
    return annotated(np.zeros((len(cells), 1), np.float32), ["nothing"], cells, identity)


def _check_asked(
    adata: AnnData,
    declared: Sequence[Evaluation],
    evaluations: Sequence[Evaluation],
    asked: Mapping[str, Sequence[Any]],
) -> None:
    """Raise where a value that a user asked for cannot be evaluated in any combination, and it is the value's fault.

    It is not where the evaluator cannot be run on these cells by its declared parameters or any of those asked for.

    Parameters
    ----------
    adata
        Features, or a probe of the cells.
    declared, evaluations
        Without and with the values asked for.
    asked
        These values, by parameter.

    Raises
    ------
    UserError
        With all such values and the reasons.
    """

    def reasons(evaluator: Evaluator, of: Iterable[Evaluation]) -> list[tuple[dict[str, Any], str | None]]:
        found = []
        for grid in (e.grid for e in of if e.name == evaluator.meta.name):
            for values in map(dict, itertools.product(*([(n, v) for v in vs] for n, vs in grid.items()))):
                found.append((values, _reason(evaluator, adata, validated(evaluator, values), asked)))
        return found

    for name in dict.fromkeys(e.name for e in evaluations):
        evaluator = EVALUATORS.get(name)
        tried = reasons(evaluator, evaluations)
        if not any(reason is None for _, reason in tried) and not any(
            r is None for _, r in reasons(evaluator, declared)
        ):
            continue
        if all(reason is not None for _, reason in tried):  # of whatever value it is
            reason = "; ".join(dict.fromkeys(str(reason).rstrip(".") for _, reason in tried))
            raise UserError(f"{name} cannot be run: {reason}.")
        unfit: dict[str, str] = {}
        for parameter, values in asked.items():
            for value in values:
                of_value = [reason for combination, reason in tried if combination.get(parameter, ...) == value]
                if of_value and None not in of_value:
                    unfit[f"{parameter} = {value}"] = str(of_value[0])
        if unfit:
            said = "; nor with ".join(f"{what}: {reason.rstrip('.')}" for what, reason in unfit.items())
            raise UserError(f"{name} cannot be run with {said}.")


def _reason(evaluator: Evaluator, adata: AnnData, params: Any, asked: Iterable[str] = ()) -> str | None:
    """Return why an evaluator cannot be run with parameters, of which a user set those of the names `asked`, or None."""
    with EVALUATORS.code(evaluator.meta.name, "in skip()", [evaluator.meta.name]):
        return why_not_asked(evaluator, adata, params, asked)


def _shortfalls(results: Iterable[Result]) -> list[str]:
    """Return what evaluators gave less of than their parameters say, as their results' details tell."""
    return list(
        dict.fromkeys(
            f"{r.evaluator.name} on {r.dataset.name}, {parameter} = {r.evaluator.params[parameter]}: {r.details[fewer]}"
            for r in results
            for parameter, fewer in (("folds", "fewer_folds"), ("neighbours", "fewer_neighbours"))
            if fewer in r.details
        )
    )


def _count_said(count: int) -> str:
    return f" ({count} evaluations of a feature set)" if count > 1 else ""


def check_same_settings(
    folder: Path, dataset: str, limit: int | None, seed: int, segmenter: str, annotations: str | None
) -> None:
    """Raise where an output folder holds results on a dataset that were made with other settings.

    A run of more feature sets or other parameters adds results to those in a folder; one of another subset, seed, segmenter
    or table of annotations would replace some and stand beside others, and a report would say of one what holds for another.

    Raises
    ------
    UserError
        With the settings that differ.
    """
    before: dict[str, Any] = {}
    for file in sorted((folder / "results" / escape(dataset)).glob("*/*/*.json")):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            before = {"limit": content["dataset"]["limit"], "seed": content["run"]["seed"]}
            break
        except (OSError, ValueError, KeyError, TypeError):  # whoever reads the results says what is wrong with them
            continue
    if not before:
        return
    try:
        arguments = json.loads((folder / "run.json").read_text(encoding="utf-8"))["arguments"]
        if dataset in arguments["dataset"]:
            before |= {"segmenter": arguments.get("segmenter", DEFAULT_SEGMENTER)}
            before |= {"annotations": arguments.get("annotations_sha256")}
    except (OSError, ValueError, KeyError, TypeError):  # a run that was killed writes no run.json
        pass
    now = {"limit": limit, "seed": seed, "segmenter": segmenter, "annotations": annotations}
    differing = [
        f"{name} = {_setting(then)}, not {_setting(now[name])}" for name, then in before.items() if then != now[name]
    ]
    if differing:
        raise UserError(
            f"{folder} holds results on {dataset} of a run with {', and '.join(differing)}. "
            "Name another folder with --out, or remove that one."
        )


def _setting(value: Any) -> str:
    return "none" if value is None else str(value)[:16]


def _check_something_to_evaluate(probe: AnnData, evaluations: Sequence[Evaluation]) -> None:
    """Raise before any feature is computed where no evaluation can run on the cells of a probe, whatever the features.

    Raises
    ------
    UserError
        With the reasons.
    """
    reasons: list[str] = []
    for evaluation in evaluations:
        evaluator = EVALUATORS.get(evaluation.name)
        for params in _grid(evaluator, evaluation.grid):
            if (reason := _reason(evaluator, probe, params)) is None:
                return
            reasons.append(reason)
    raise UserError(f"Nothing can be evaluated: {'; '.join(dict.fromkeys(reasons))}.")


def _evaluated(
    evaluator: Evaluator,
    adata: AnnData,
    grids: Sequence[dict[str, list[Any]]],
    seed: int,
    progress: Progress,
    *,
    benchmark: str | None,
    limit: int | None = None,
    cells: Cells | None = None,
) -> tuple[list[Result], list[str]]:
    """Return results, and the reasons of what in the grid could not be run, one for each set of parameters."""
    adata, missing = _completed(adata)
    grid, reasons = [], []
    for params in itertools.chain.from_iterable(_grid(evaluator, values) for values in grids):
        if (reason := _reason(evaluator, adata, params)) is None:
            grid.append(params)
        else:
            reasons.append(reason)
    resolved: dict[str, Any] = {}
    for params in grid:  # "confounder" may stand for a column that is also named
        column = resolve_exclude(adata, getattr(params, "exclude", "cell"))
        resolved.setdefault(
            str(params.model_copy(update={"exclude": column})) if hasattr(params, "exclude") else str(params), params
        )
    grid = list(resolved.values())
    if not grid:
        return [], reasons
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    threads = available_cores()
    found = []
    known = adata.uns.get("pci_bench", {})
    made: dict[str, Any] = {}
    name = evaluator.meta.name
    with EVALUATORS.code(name, f"on {known.get('features', {}).get('name', 'these features')}", [name]):
        for outcome in evaluator(adata, grid, Run(seed, threads, progress, cells, _weights_of(known))):
            for metric, value in outcome.metrics.items():
                numbers = (value, *outcome.intervals.get(metric, ()))
                if not all(isinstance(number, _REAL) and np.isfinite(number) for number in numbers):
                    raise UserError(
                        f"{name} gave {metric} = {value!r}, interval {outcome.intervals.get(metric)}, for "
                        f"{known.get('features', {}).get('name', 'these features')}; results hold finite numbers only. "
                        "Correct the evaluator, or let its skip() say why it cannot be run."
                    )
            made = made or provenance(  # once, when the evaluator has loaded its libraries
                device=str(known.get("device", "")) or device_name("cpu"),
                threads=threads,
                seed=seed,
                seconds=time.perf_counter() - began,
                started=started,
            )
            result = Result(
                benchmark=benchmark,
                dataset=_dataset_record(adata, known.get("dataset", {}), limit),
                features=_features_record(adata, known.get("features", {})),
                evaluator=EvaluatorRecord(name=name, version=evaluator.meta.version, params=outcome.params),
                metrics=outcome.metrics,
                intervals=outcome.intervals,
                details=outcome.details
                | ({"missing": missing} if missing else {})
                | _training_cells(adata, known, outcome.predictions, name, outcome.params),
                run=made | {"seconds": round(time.perf_counter() - began, 3), "peak_rss_bytes": peak_memory()},
            ).with_tables(outcome.predictions, outcome.tables)
            result.paper = printed_value(result)
            found.append(result)
    if len(found) != len(grid):
        raise PluginError.of(
            f"{name} gave {len(found)} outcomes for {len(grid)} sets of parameters; expected one for each. Correct the evaluator.",
            [name],
        )
    return found, reasons


def _training_cells(
    adata: AnnData, known: dict[str, Any], predictions: pd.DataFrame | None, evaluator: str, params: dict[str, Any]
) -> dict[str, Any]:
    """Return, for features of a network that learned labels of the evaluated cells, what it scores without them."""
    trained_on = known.get("features", {}).get("trained_on")
    if trained_on is None or predictions is None or not {"cell", "label", "predicted"} <= set(predictions):
        return {}
    trained = training_cells(adata.obs, str(known.get("dataset", {}).get("name", "")), trained_on)
    if trained is None:
        return {}
    by_cell = dict(zip(map(str, adata.obs.get("cell", adata.obs_names)), trained, strict=True))
    predicted = np.array([by_cell[cell] for cell in predictions["cell"].astype(str)])
    confounder = resolve_exclude(adata, "confounder")
    variance = training_variance_of(evaluator, params, grouped=confounder in predictions)
    return {"training_cells": without_training_cells(predictions, predicted, confounder, variance)}


def _completed(adata: AnnData) -> tuple[AnnData, dict[str, Any]]:
    """Return features without NaN and a note of what was replaced, where their extractor declares NaN; else as they are."""
    if not adata.uns.get("pci_bench", {}).get("features", {}).get("missing"):
        return adata, {}
    values, note = completed(np.asarray(adata.X))
    if note:
        adata = adata.copy()
        adata.X = values
    return adata, note


def _weights_of(known: dict[str, Any]) -> Path | None:
    """Return the weights file that features were computed with, where it is at hand and unchanged."""
    features = known.get("features", {})
    family = str(features.get("weights_family", ""))
    file = weight_files.find(family, str(features["weights"])) if features.get("weights") else None
    return file if file is not None and sha256_of(file) == features.get("weights_sha256") else None


def _dataset_record(adata: AnnData, known: dict[str, Any], limit: int | None) -> DatasetRecord:
    labels = adata.obs["label"].astype("string") if "label" in adata.obs else None
    counts = {} if labels is None else labels[labels.fillna("") != ""].value_counts().sort_index().to_dict()
    return DatasetRecord(
        name=str(known.get("name", "unnamed")),
        version=str(known.get("version", "")),
        sha256=str(known.get("sha256", "")),
        n_cells=adata.n_obs,
        classes={str(name): int(count) for name, count in counts.items()},
        limit=limit,
    )


def _features_record(adata: AnnData, known: dict[str, Any]) -> FeaturesRecord:
    return FeaturesRecord(
        name=str(known.get("name", "unnamed")),
        weights=str(known.get("weights", "")) or None,
        version=str(known.get("version", "")),
        weights_sha256=str(known.get("weights_sha256", "")) or None,
        dim=adata.n_vars,
        precision=str(known.get("precision", adata.X.dtype)),
    )


def _evaluate_all(
    adata: AnnData,
    cells: Cells,
    evaluations: Sequence[Evaluation],
    declared: Benchmark,
    seed: int,
    limit: int | None,
    output: RunOutput,
    *,
    anew: bool,
) -> None:
    """Evaluate one feature set with everything that the benchmark names, and write the results at once."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    settings = {"benchmark": declared.name, "seed": seed, "limit": limit}
    for name in dict.fromkeys(e.name for e in evaluations):  # grids of one evaluator share its work
        evaluator = EVALUATORS.get(name)
        grids = [e.grid for e in evaluations if e.name == name]
        compute = partial(
            _evaluated,
            evaluator,
            adata,
            grids,
            seed,
            Progress(),
            benchmark=declared.name,
            limit=limit,
            cells=cells,
        )
        try:
            found, reasons = kept.evaluation(evaluator, adata, grids, settings, compute, anew=anew)
        except PluginError as error:  # the other evaluators go on
            output.failed.append(error)
            found, reasons = [], [str(error).removesuffix(".")]
        for result in found:
            result.run["started"] = started  # of the run that it is part of, also where it was kept from an earlier one
        for reason, count in Counter(reasons).items():
            entry = {"dataset": cells.meta.name, "evaluator": evaluator.meta.name, "reason": reason}
            entry |= {"count": str(count)} if count > 1 else {}
            if entry not in output.not_run:
                output.not_run.append(entry)
        output.results += found
        if output.out is not None:
            write_results(found, output.out)


def write_results(results: Sequence[Result], folder: Path) -> None:
    """Write results below an output folder, each in its place."""
    for result in results:
        write_result(result, folder / _path(result))


def check_not_replaced(results: Sequence[Result], folder: Path) -> None:
    """Raise where a result file would be replaced by another result: of another seed, or of other features of the same name.

    Raises
    ------
    UserError
        With the first such file.
    """
    for result in results:
        file = folder / _path(result)
        if file.is_file():
            before = read_result(file)
            differing = [
                what
                for what, then, now in (
                    ("another seed", before.run.get("seed"), result.run.get("seed")),
                    ("other cells", before.dataset, result.dataset),
                    ("other features of this name", before.features, result.features),
                    ("other features of this name, or another version", before.metrics, result.metrics),
                )
                if then != now
            ]
            if differing:
                raise UserError(
                    f"{file} is a result of {differing[0]}, and would be replaced. Name another folder with --out, or remove it."
                )


def _path(result: Result) -> Path:
    return result.path(*key_and_defaults(result))


def _table_name(table: FilledTable, several: bool) -> str:
    """Return a table's file name; where several datasets were run, the dataset is part of it."""
    return f"{table.declaration.name}-{escape(table.dataset)}" if several else table.declaration.name


def _write(output: RunOutput, folder: Path, *, several: bool, progress: Progress) -> None:
    """Write tables and figures."""
    for table in output.tables:
        for form in ("md", "csv", "tex"):
            with atomic_file(folder / "tables" / f"{_table_name(table, several)}.{form}") as temporary:
                temporary.write_text(render(table, form), encoding="utf-8")
    for stem, texts in (*enrichment_tables(output.results), *agreement_tables(output.results)):
        for form, text in texts.items():
            with atomic_file(folder / "tables" / f"{stem}.{form}") as temporary:
                temporary.write_text(text, encoding="utf-8")
    with progress.stage("drawing figures"):
        drawn = list(output.results)
        while True:
            try:
                output.figures += kept.figures(drawn, FIGURES, folder / "figures", partial(draw, drawn), progress.say)
                return
            except PluginError as error:  # the figures of other evaluators are drawn
                output.failed.append(error)
                output.not_run.append(
                    {"evaluator": f"figures of {', '.join(error.names)}", "reason": str(error).removesuffix(".")}
                )
                drawn = [r for r in drawn if r.evaluator.name not in error.names]
