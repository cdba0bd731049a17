"""Evaluations: an evaluator with its parameters on one feature set, checked before and after."""

from __future__ import annotations

import itertools
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.cluster_blocks import ClusterBlocks
from pci_bench.api.evaluator import (
    EVALUATORS,
    DatasetReasons,
    EvaluationContext,
    Evaluator,
    as_given,
    features_reason,
    validated,
)
from pci_bench.api.extractor import Precomputed
from pci_bench.api.skipped import Skipped
from pci_bench.benchmarks import Evaluation
from pci_bench.data.observations import COARSER_LEVELS, LEVELS, levels_of, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import PluginError, UserError
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import parse
from pci_bench.features.obsm import from_obsm
from pci_bench.features.postprocessing import NONE, FittedPostprocessing, Postprocessing, postprocessings
from pci_bench.reporting.tables.declaration import printed_value
from pci_bench.runs.results import DatasetRecord, EvaluatorRecord, FeaturesRecord, Result
from pci_bench.runs.training_cells import training_cells, without_training_cells
from pci_bench.statistics.intervals import training_variance_of
from pci_bench.statistics.scaling import impute_nan
from pci_bench.system.arguments import check_seed, split_names
from pci_bench.system.blocks import HERE, Blocks
from pci_bench.system.devices import device_name
from pci_bench.system.files import sha256_of
from pci_bench.system.machine import peak_memory, run_facts
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.threads import available_cores

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

_REAL = int | float | np.integer | np.floating


def evaluate(
    evaluator: str,
    adata: AnnData,
    *,
    obsm: str | Sequence[str] | None = None,
    cells: Cells | None = None,
    postprocess: str | Sequence[str] = NONE,
    seed: int = 0,
    progress: Progress | bool | None = None,
    **param_values: Any,
) -> list[Result]:
    """Return the results of one evaluator on one feature set.

    Parameters
    ----------
    evaluator
        Its name: ``"loo-knn"``.
    adata
        Features as :func:`pci_bench.extract` returns them, or any AnnData with cells in rows and ``obs["label"]``.
    obsm
        The name of a matrix of ``adata.obsm``, or several: they are evaluated in place of ``X``, each as a feature set of its
        name (``"X_scVI"``).
    cells
        The cells that the features belong to, in their order; for evaluators that need crops.
    postprocess
        What is done to the features before, fitted on these cells without their labels: ``"pca64"``; several give results for each.
    seed
        The random seed.
    progress
        True shows what is done in a terminal or notebook; or a progress reporter. By default nothing is shown.
    **param_values
        Parameters; a list means one result for each of its values: ``k=[1, 5, 11], exclude=["cell", "field"]``.
        ``exclude="levels"`` stands for every level of strictness that the cells have (:attr:`pci_bench.DatasetMeta.levels`), and
        ``exclude="coarser-levels"`` for those but the cell itself.

    Raises
    ------
    UserError
        For an unknown name or parameter, for a value that cannot be evaluated with any of the others, or where nothing
        can be evaluated (the first reason). Where a combination of values cannot be, a warning counts them.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> for result in evaluate("loo-knn", intensity, k=[1, 11]):
    ...     print(result.evaluator.params["k"], f"{result.metrics['balanced_accuracy']:.3f}")
    1 0.249
    11 0.257
    """
    if obsm is not None:
        return [
            result
            for key in split_names(obsm)
            for result in evaluate(
                evaluator,
                from_obsm(adata, key),
                cells=cells,
                postprocess=postprocess,
                seed=seed,
                progress=progress,
                **param_values,
            )
        ]
    check_seed(seed)
    values = as_lists(param_values)
    if empty := [name for name, given in values.items() if not given]:
        raise UserError(f"The parameter '{empty[0]}' is given no value.")
    named = Evaluation(name=evaluator)
    of_cells = DatasetReasons(adata.obs, Provenance.of(adata).dataset)
    (asked,) = with_levels([Evaluation(name=evaluator, **values)], of_cells)
    check_requested(of_cells, [named], [asked], values, adata=adata)
    results: list[Result] = []
    reasons: list[str] = []
    for postprocessing in postprocessings(postprocess):
        if reason := postprocessing.unavailable_reason(adata.obs, of_cells.dataset):
            raise UserError(f"{reason[0].upper()}{reason[1:]}.")
        made, not_run = evaluated(
            EVALUATORS.get(evaluator),
            adata,
            [asked.grid],
            seed,
            reporter(progress),
            of_cells,
            benchmark=None,
            cells=cells,
            postprocessing=postprocessing,
        )
        results += made
        reasons += not_run
    if not results:
        raise UserError(f"{evaluator} cannot be run: {reasons[0] if reasons else 'an empty grid was given'}.")
    for note in shortfalls(results):
        warnings.warn(f"{note}.", stacklevel=2)
    for reason, count in Counter(reasons).items():
        warnings.warn(f"Not run: {evaluator}: {reason}{_count_said(count)}.", stacklevel=2)
    return results


def with_levels(evaluations: Iterable[Evaluation], of_cells: DatasetReasons) -> list[Evaluation]:
    """Return evaluations with the columns of the cells' levels of strictness in place of the names that stand for them.

    Parameters
    ----------
    evaluations
        ``exclude = "levels"`` stands for all of them, ``exclude = "coarser-levels"`` for those that are coarser than the cell.
    of_cells
        The cells, and their dataset.

    Raises
    ------
    UserError
        Where coarser levels are asked for and there are none.
    """
    changed = []
    for evaluation in evaluations:
        named = evaluation.grid.get("exclude", [])
        if not {LEVELS, COARSER_LEVELS} & set(map(str, named)):
            changed.append(evaluation)
            continue
        levels = levels_of(of_cells.obs, of_cells.dataset)
        coarser = levels[1:] if levels[0] == "cell" else levels
        if not coarser:
            raise UserError(
                f"{of_cells.dataset.display_name} has no level of strictness beyond the cell itself: none of its columns "
                f"({', '.join(map(str, of_cells.obs.columns))}) is a known one, such as field, image or plate, that divides the cells of a "
                "class. Add such a column to its table, or name one with --set exclude=COLUMN."
            )
        columns = [
            c for name in named for c in (levels if name == LEVELS else coarser if name == COARSER_LEVELS else [name])
        ]
        changed.append(Evaluation(**{**evaluation.model_dump(), "exclude": list(dict.fromkeys(columns))}))
    return changed


def as_lists(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return parameters with a list of values for each, where some have a single one."""
    return {
        name: [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
        for name, value in values.items()
    }


def parameter_sets(evaluator: Evaluator, values: dict[str, list[Any]]) -> list[Any]:
    """Return every combination of parameter values, validated."""
    return [
        validated(evaluator, dict(zip(values, combination, strict=True)))
        for combination in itertools.product(*values.values())
    ]


def check_requested(
    of_cells: DatasetReasons,
    declared: Sequence[Evaluation],
    evaluations: Sequence[Evaluation],
    requested: Mapping[str, Sequence[Any]],
    *,
    adata: AnnData | None = None,
) -> None:
    """Raise where a value that a user asked for cannot be evaluated in any combination, and it is the value's fault.

    It is not where the evaluator cannot be run on these cells by its declared parameters or any of those asked for.

    Parameters
    ----------
    of_cells
        Why the cells cannot be evaluated.
    declared, evaluations
        Without and with the values asked for.
    requested
        These values, by parameter.
    adata
        Features of the cells, where they are known.

    Raises
    ------
    UserError
        With all such values and the reasons.
    """

    def reasons(evaluator: Evaluator, selection: Iterable[Evaluation]) -> list[tuple[dict[str, Any], str | None]]:
        combinations = []
        for grid in (e.grid for e in selection if e.name == evaluator.meta.name):
            for values in map(dict, itertools.product(*([(n, v) for v in vs] for n, vs in grid.items()))):
                params = validated(evaluator, values)
                reason = of_cells.reason(evaluator, params, requested)
                if reason is None and adata is not None:
                    reason = features_reason(evaluator, adata, params)
                combinations.append((values, reason))
        return combinations

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
        unusable: dict[str, str] = {}
        for parameter, values in requested.items():
            for value in values:
                of_value = [reason for combination, reason in tried if combination.get(parameter, ...) == value]
                if of_value and None not in of_value:
                    unusable[f"{parameter} = {value}"] = str(of_value[0])
        if unusable:
            details = "; nor with ".join(f"{what}: {reason.rstrip('.')}" for what, reason in unusable.items())
            raise UserError(f"{name} cannot be run with {details}.")


def check_something_to_evaluate(of_cells: DatasetReasons, evaluations: Sequence[Evaluation]) -> None:
    """Raise before any feature is computed where no evaluation can run on some cells, whatever the features.

    Raises
    ------
    UserError
        With the reasons.
    """
    reasons: list[str] = []
    for evaluation in evaluations:
        evaluator = EVALUATORS.get(evaluation.name)
        for params in parameter_sets(evaluator, evaluation.grid):
            if (reason := of_cells.reason(evaluator, params)) is None:
                return
            reasons.append(reason)
    raise UserError(f"Nothing can be evaluated: {'; '.join(dict.fromkeys(reasons))}.")


def shortfalls(results: Iterable[Result]) -> list[str]:
    """Return what evaluators gave less of than a parameter says, as their results' details tell: ``fewer_<parameter>``."""
    return list(
        dict.fromkeys(
            f"{r.evaluator.name} on {r.dataset.name}, {parameter} = {value}: {r.details[f'fewer_{parameter}']}"
            for r in results
            for parameter, value in r.evaluator.params.items()
            if f"fewer_{parameter}" in r.details
        )
    )


def _count_said(count: int) -> str:
    return f" ({count} evaluations of a feature set)" if count > 1 else ""


def evaluated(
    evaluator: Evaluator,
    adata: AnnData,
    grids: Sequence[dict[str, list[Any]]],
    seed: int,
    progress: Progress,
    of_cells: DatasetReasons,
    *,
    benchmark: str | None,
    limit: int | None = None,
    cells: Cells | None = None,
    options: ExtractionOptions | None = None,
    postprocessing: Postprocessing = Postprocessing(),  # noqa: B008 - it is immutable
) -> tuple[list[Result], list[str]]:
    """Return results, and the reasons of what could not be run, one for each set of parameters."""
    adata, missing = _imputed(adata)
    features_record = _features_record(adata, Provenance.of(adata))
    declared = list(itertools.chain.from_iterable(parameter_sets(evaluator, values) for values in grids))
    fitted, more = None, dict[str, Any]()
    if postprocessing.steps:
        if "model" in evaluator.meta.needs:
            unchanged = f"it evaluates the network and not its features, which post-processing {postprocessing} changes"
            return [], [unchanged] * len(declared)
        fitted = postprocessing.fitted(adata)
        adata, more = fitted.apply(adata), fitted.details()
        declared = [as_given(params) for params in declared]
    origin = Provenance.of(adata)
    with_crops = cells if cells is not None and cells.has_crops else None
    features_of = _again(origin, options, fitted) if with_crops is not None else None
    if "extractor" in evaluator.meta.needs and features_of is None:
        return [], [
            f"it changes crops, and {origin.features.name or 'these features'} are not computed from crops that are here"
        ]
    param_sets, reasons = [], []
    for params in declared:
        if (reason := of_cells.reason(evaluator, params) or features_reason(evaluator, adata, params)) is None:
            param_sets.append(params)
        else:
            reasons.append(reason)
    resolved: dict[str, Any] = {}
    for params in param_sets:  # "confounder" may stand for a column that is also named
        values = params.model_dump()
        if "exclude" in values:
            values["exclude"] = resolve_exclude(values["exclude"], origin.dataset)
        resolved.setdefault(str(values), params)
    param_sets = list(resolved.values())
    if not param_sets:
        return [], reasons
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    threads = available_cores()
    results = []
    made: dict[str, Any] = {}
    name, features = evaluator.meta.name, origin.features.name or "these features"
    if options is None:
        blocks = HERE
    elif options.scheduler is None:
        blocks = Blocks(options.device)
    else:
        blocks = ClusterBlocks(options.scheduler, progress)
    context = EvaluationContext(seed, threads, progress, with_crops, _weights_of(origin), features_of, blocks)
    dataset = _dataset_record(adata, origin.dataset, limit)
    with EVALUATORS.code(name, f"on {features}", [name]):
        for output in evaluator(adata, param_sets, context):
            for metric, value in output.metrics.items():
                numbers = (value, *output.intervals.get(metric, ()))
                if not all(isinstance(number, _REAL) and np.isfinite(number) for number in numbers):
                    raise UserError(
                        f"{name} gave {metric} = {value!r}, interval {output.intervals.get(metric)}, for {features}; results hold finite numbers only. "
                        "Correct the evaluator, or let its unavailable_reason() say why it cannot be run."
                    )
            made = made or run_facts(  # once, when the evaluator has loaded its libraries
                device=origin.device or device_name("cpu"),
                threads=threads,
                seed=seed,
                seconds=time.perf_counter() - began,
                started=started,
            )
            result = Result(
                benchmark=benchmark,
                dataset=dataset,
                features=features_record,
                evaluator=EvaluatorRecord.of(
                    evaluator,
                    output.params | ({"postprocess": str(postprocessing)} if postprocessing.steps else {}),
                    output.metrics,
                ),
                metrics=output.metrics,
                intervals=output.intervals,
                details=output.details
                | more
                | ({"missing": missing} if missing else {})
                | _training_cells(adata, origin, output.per_cell, evaluator, output.params),
                run=made | {"seconds": round(time.perf_counter() - began, 3), "peak_rss_bytes": peak_memory()},
            ).with_tables(output.per_cell, output.tables)
            result.paper = printed_value(result)
            results.append(result)
    if len(results) != len(param_sets):
        raise PluginError.of(
            f"{name} gave {len(results)} outcomes for {len(param_sets)} sets of parameters; expected one for each. Correct the evaluator.",
            [name],
        )
    return results, reasons


def _again(
    origin: Provenance, options: ExtractionOptions | None, fitted: FittedPostprocessing | None
) -> Callable[[Cells], AnnData] | None:
    """Return what computes the same features of other cells, without NaN and post-processed as those of the evaluated cells.

    None where they do not come from crops.
    """
    known = origin.features
    try:
        features = parse(f"{known.name}@{known.weights}" if known.weights else known.name)
    except UserError:
        return None
    if isinstance(features.extractor(), Precomputed):
        return None

    def features_of(cells: Cells) -> AnnData:
        ((_, computed),) = compute_features([features], cells, options).items()
        if isinstance(computed, Skipped):
            raise UserError(f"{computed.features} cannot be had for {cells.meta.name}: {computed.reason}.")
        adata = _imputed(computed)[0]
        return adata if fitted is None else fitted.apply(adata)

    return features_of


def _training_cells(
    adata: AnnData, origin: Provenance, predictions: pd.DataFrame | None, evaluator: Evaluator, params: dict[str, Any]
) -> dict[str, Any]:
    """Return, for features of a network that learned labels of the evaluated cells, what it scores without them."""
    trained_on = origin.features.trained_on
    if not trained_on or predictions is None or not {"cell", "label", "predicted"} <= set(predictions):
        return {}
    trained = training_cells(adata.obs, origin.dataset.name, trained_on)
    if trained is None:
        return {}
    by_cell = dict(zip(map(str, adata.obs.get("cell", adata.obs_names)), trained, strict=True))
    predicted = np.array([by_cell[cell] for cell in predictions["cell"].astype(str)])
    confounder = origin.dataset.confounder
    variance = training_variance_of(evaluator.meta.training_variance, params, grouped=confounder in predictions)
    return {"training_cells": without_training_cells(predictions, predicted, confounder, variance)}


def _imputed(adata: AnnData) -> tuple[AnnData, dict[str, Any]]:
    """Return features without NaN and a note of what was replaced, where their extractor declares NaN; else as they are."""
    if not Provenance.of(adata).features.missing:
        return adata, {}
    values, note = impute_nan(np.asarray(adata.X))
    if note:
        adata = adata.copy()
        adata.X = values
    return adata, note


def _weights_of(origin: Provenance) -> Path | None:
    """Return the weights file that features were computed with, where it is available locally and unchanged."""
    features = origin.features
    file = weight_files.find(features.weights_family, features.weights) if features.weights else None
    return file if file is not None and sha256_of(file) == features.weights_sha256 else None


def _dataset_record(adata: AnnData, dataset: DatasetProvenance, limit: int | None) -> DatasetRecord:
    labels = adata.obs["label"].astype("string") if "label" in adata.obs else None
    counts = {} if labels is None else labels[labels.fillna("") != ""].value_counts().sort_index().to_dict()
    return DatasetRecord(
        name=dataset.name or "unnamed",
        version=dataset.version,
        sha256=dataset.sha256,
        n_cells=adata.n_obs,
        classes={str(name): int(count) for name, count in counts.items()},
        limit=limit,
        confounder=dataset.confounder,
        levels=levels_of(adata.obs, dataset),
    )


def _features_record(adata: AnnData, origin: Provenance) -> FeaturesRecord:
    features = origin.features
    return FeaturesRecord(
        name=features.name or "unnamed",
        weights=features.weights or None,
        version=features.version,
        weights_sha256=features.weights_sha256 or None,
        dim=adata.n_vars,
        precision=features.precision or str(adata.X.dtype),
    )
