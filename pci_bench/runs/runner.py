"""Runs: a benchmark on its datasets and feature sets, from names to results, tables and figures."""

from __future__ import annotations

import html
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import __version__
from pci_bench.acquisition.inventory import pinned_counts
from pci_bench.api import loading
from pci_bench.api.dataset import DATASETS
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.segmenter import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.api.skipped import Skipped
from pci_bench.benchmarks import BENCHMARKS, Benchmark
from pci_bench.data.annotation_sources import annotations_file
from pci_bench.data.annotations import annotate
from pci_bench.data.cells import Cells, DatasetMeta, subsample
from pci_bench.errors import PluginError, UserError
from pci_bench.features.extraction import ExtractionOptions, Refresh, compute_features
from pci_bench.features.names import FeatureSet, select
from pci_bench.features.postprocessing import Postprocessing, postprocessings
from pci_bench.reporting.candidates import balanced_where_known
from pci_bench.reporting.ranking import rankings
from pci_bench.reporting.tables import TABLES
from pci_bench.reporting.tables.answer import ranking_of
from pci_bench.reporting.tables.fill import DatasetTable
from pci_bench.reporting.tables.rank_changes import NAME as RANK_CHANGES
from pci_bench.reporting.tables.table import FilledTable
from pci_bench.runs import kept
from pci_bench.runs.evaluation import (
    as_lists,
    evaluate,
    evaluated,
    parameter_sets,
    shortfalls,
)
from pci_bench.runs.frame import results_frame
from pci_bench.runs.outputs import (
    check_same_settings,
    fill_tables,
    result_path,
    write_results,
    write_tables_and_figures,
)
from pci_bench.runs.plan import Planned, check_parameters, planned, with_parameters
from pci_bench.runs.record import DatasetFacts, RunArguments, RunRecord
from pci_bench.runs.results import Result
from pci_bench.system.arguments import PRECISIONS, check_limit, check_seed, split_names
from pci_bench.system.devices import resolve_device
from pci_bench.system.files import check_writable, escape, sha256_of, user_path
from pci_bench.system.machine import run_facts
from pci_bench.system.progress import Progress
from pci_bench.system.reporter import reporter
from pci_bench.system.threads import available_cores, set_threads

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

__all__ = ["RunOutput", "evaluate", "run", "run_again", "with_parameters"]


@dataclass(repr=False)
class RunOutput(Sequence[Result]):
    """The results of a run, in order; also what could not be run and why, the tables, and where all was written.

    A notebook shows the ranking of the feature sets, and so does ``print``.
    """

    benchmark: str
    out: Path | None
    results: list[Result] = field(default_factory=list)
    not_run: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tables: list[DatasetTable] = field(default_factory=list)
    figures: list[Path] = field(default_factory=list)

    @property
    def failed(self) -> list[PluginError]:
        """The errors of feature sets, evaluators and figures that failed, where others did not."""
        return [skipped.error for skipped in self.not_run if skipped.error is not None]

    def to_frame(self) -> pd.DataFrame:
        """Return the results as a table with one row for each (:func:`pci_bench.results_frame`)."""
        return results_frame(self.results)

    def __repr__(self) -> str:
        return "\n\n".join([*(ranking.text() for ranking in rankings(self.results)), self._summary()])

    def _repr_html_(self) -> str:
        return "".join([*(r.html() for r in rankings(self.results)), f"<p>{html.escape(self._summary())}</p>"])

    def _summary(self) -> str:
        """Return how much was run and not, and where it lies, as sentences."""
        features = len({(r.dataset.name, r.features.full_name) for r in self.results})
        parts = [f"{self.benchmark}: {len(self.results)} results of {features} feature sets."]
        if self.not_run:
            parts.append(f"{len(self.not_run)} not run: .not_run says why.")
        if self.out is not None:
            parts.append(f"Results, tables and figures: {self.out}")
        return " ".join(parts)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __iter__(self) -> Iterator[Result]:
        return iter(self.results)


def run(
    benchmark: str,
    *,
    dataset: Sequence[str] | str | None = None,
    features: Sequence[str] | str | None = None,
    with_evaluators: Sequence[str] | str | None = None,
    k: Sequence[int] | None = None,
    parameters: Mapping[str, Any] | None = None,
    limit: int | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    seed: int = 0,
    workers: int | None = None,
    segmenter: str = DEFAULT_SEGMENTER,
    annotations: str | Path | None = None,
    postprocess: Sequence[str] | str | None = None,
    refresh: Refresh = "missing",
    scheduler: str | None = None,
    batch: int | None = None,
    precision: str = PRECISIONS[0],
    progress: Progress | bool | None = None,
) -> RunOutput:
    """Return the results of a benchmark, and write them where `out` is given.

    Parameters
    ----------
    benchmark
        ``"yeast-knn"``; ``pci-bench list benchmarks`` shows all.
    dataset
        One or several; by default the first of the benchmark's that is available, or all of them where it says so.
    features
        Names, groups or patterns, as a list or as one text with commas (``"pci,intensity"``); a path with a comma is given in a
        list. By default the benchmark's.
    with_evaluators
        Evaluators to run beside the benchmark's, as a list or as one text with commas, each at its defaults
        (:meth:`pci_bench.benchmarks.Benchmark.with_evaluators`); each is ranked in a table of its own name.
    k
        Numbers of neighbours, where the benchmark has them; short for ``parameters={"k": …}``.
    parameters
        Values, by name, for the parameters of evaluators, in place of what the benchmark and its dataset declare.
    limit
        Evaluate a seeded, label-stratified subset of about this many cells.
    out
        Folder for results, tables, figures and ``run.json``; None writes nothing.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, or one of several GPUs: ``"cuda:1"``.
    refresh
        When features are computed: ``"missing"``, those that the cache lacks; ``"always"``; ``"never"``.
    workers
        Processes that share the extraction; by default one per core for what is measured crop by crop.
    segmenter
        Finds the centre cells for features that need masks, where the dataset brings none.
    scheduler
        ``"tcp://HOST:PORT"`` of a Dask cluster whose workers compute, in place of processes of this machine.
    batch
        Crops for each forward pass of networks, in place of what each declares.
    precision
        ``"float32"``, or ``"bfloat16"`` for the products of networks: faster, and less exact.
    annotations
        CSV or TSV of proteins, joined onto the cells by :func:`pci_bench.data.annotations.annotate`; or the name of such a table that
        ``pci-bench data get`` fetched: ``"huh2003"``.
    postprocess
        What is done to features before they are evaluated, one evaluation for each, in place of what the benchmark declares:
        ``["none", "pca64", "robust-z:plate"]`` (:mod:`pci_bench.features.postprocessing`).
    seed
        The random seed, of the subset too.
    progress
        True shows a bar for every stage in a terminal or notebook; or a progress reporter. By default nothing is shown.

    Raises
    ------
    UserError
        For unknown names, wrong parameters, a dataset that is not available, or where nothing at all could be run.

    Examples
    --------
    >>> output = run("yeast-knn", dataset="yeast-sim", features="intensity", k=11, limit=300)
    >>> for result in output:
    ...     params = result.evaluator.params
    ...     print(params["exclude"], params["candidates"], f"{result.metrics['balanced_accuracy']:.3f}")
    cell all 0.197
    image all 0.082
    image balanced 0.107
    """
    progress = reporter(progress)
    further = split_names(with_evaluators or ())
    declared = BENCHMARKS.get(benchmark).with_evaluators(further)
    wanted = select(declared.features if features is None else split_names(features))
    parameters = as_lists(parameters or {}) | ({} if k is None else as_lists({"k": k}))
    check_parameters(declared, parameters)
    asked = None if postprocess is None else tuple(map(str, postprocessings(postprocess)))
    for evaluation in with_parameters(declared.evaluate, parameters):
        parameter_sets(EVALUATORS.get(evaluation.name), evaluation.grid)
    named = [dataset] if isinstance(dataset, str) else list(dataset or ())
    if dataset is not None and not named:
        raise UserError("No dataset was named. `pci-bench list datasets` shows all of them.")
    for name in named:
        DATASETS.get(name)
    check_limit(limit)
    check_seed(seed)
    options = ExtractionOptions(device, workers, refresh, segmenter, scheduler, batch, precision)
    SEGMENTERS.get(segmenter)
    if device != "auto" and scheduler is None:  # which asks torch, seconds that a run from the cache does not need
        resolve_device(device)
    folder = user_path(out, "The output folder") if out is not None else None
    if annotations is not None:
        annotations = annotations_file(annotations)
    if folder is not None:
        check_writable(folder)
    set_threads(available_cores())
    started, began = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    output = RunOutput(benchmark, folder)
    digest = None if annotations is None else sha256_of(Path(annotations))
    plans = []
    for cells in _datasets(declared, named, output, progress):  # all checked before any feature is computed
        cells = cells if annotations is None else annotate(cells, annotations)
        plan, skipped = planned(declared, cells, parameters, asked, limit=limit, seed=seed)
        output.not_run += skipped
        if folder is not None:
            check_same_settings(folder, plan.dataset, plan.limit, seed, segmenter, digest)
        plans.append(plan)
    computed = [_evaluate_planned(plan, wanted, options, output, progress) for plan in plans]
    filled = _filled_tables(declared, plans, further, output)
    for plan in plans:
        output.notes += [n for n in plan.cells.notes if n not in output.notes]
    output.notes += [f"{note}." for note in shortfalls(output.results)]
    if folder is None:
        return output
    several = len(plans) > 1
    output.figures, failed = write_tables_and_figures(
        filled, output.results, folder, several=several, progress=progress
    )
    output.not_run += failed
    arguments = RunArguments(
        benchmark=benchmark,
        dataset=[plan.dataset for plan in plans],
        features=list(map(str, wanted if several else computed[0])),
        with_evaluators=further,
        parameters=parameters,
        limit=limit,
        seed=seed,
        device=device,
        segmenter=segmenter,
        annotations=None if annotations is None else str(annotations),
        annotations_sha256=digest,
        **({} if asked is None else {"postprocess": list(asked)}),
        **({} if batch is None else {"batch": batch}),
        **({} if precision == PRECISIONS[0] else {"precision": precision}),
    )
    record = RunRecord(
        arguments=arguments.model_dump(exclude_unset=True),
        datasets=[
            DatasetFacts(name=c.meta.name, version=c.meta.version, sha256=c.sha256, n_cells=len(c))
            for c in (plan.cells for plan in plans)
        ],
        results=[result_path(r).as_posix() for r in output.results],
        tables=[f"tables/{t.file_name(several=several)}" for t in filled],
        figures=[f.relative_to(folder).as_posix() for f in output.figures],
        notes=output.notes,
        run=run_facts(
            device=", ".join(dict.fromkeys(str(r.run["device"]) for r in output.results)),
            threads=available_cores(),
            seed=seed,
            seconds=time.perf_counter() - began,
            started=started,
        ),
    )
    record.write(folder, output.not_run)
    return output


def _evaluate_planned(
    plan: Planned, wanted: Sequence[FeatureSet], options: ExtractionOptions, output: RunOutput, progress: Progress
) -> list[FeatureSet]:
    """Compute and evaluate all feature sets of a plan, and return their full names.

    Raises
    ------
    UserError
        Where nothing could be run.
    """
    computed = compute_features(
        wanted,
        plan.cells,
        options,
        keep_going=True,
        further=partial(plan.work, anew=options.refresh == "always"),
        progress=progress,
    )
    set_threads(available_cores())
    with progress.stage(
        f"evaluating {', '.join(dict.fromkeys(e.name for e in plan.evaluations))}", len(computed)
    ) as advance:
        for adata in computed.values():
            if isinstance(adata, Skipped):
                output.not_run.append(adata)
            else:
                _evaluate_all(adata, plan, output, options)
            advance(1)
    if not any(r.dataset.name == plan.dataset for r in output.results):
        reasons = dict.fromkeys(n.reason.rstrip(".") for n in output.not_run if n.dataset == plan.dataset)
        raise UserError(f"Nothing could be run on {plan.dataset}: {'; '.join(reasons)}.") from next(
            iter(output.failed), None
        )
    return list(computed)


def _filled_tables(
    declared: Benchmark, plans: Sequence[Planned], further: Sequence[str], output: RunOutput
) -> list[FilledTable]:
    """Return the benchmark's tables, filled, and one for results that stand in none; `output` holds those of feature sets."""
    not_run: dict[str, dict[str, str]] = {plan.dataset: {} for plan in plans}
    for skipped in output.not_run:
        if skipped.features and skipped.dataset in not_run:
            not_run[skipped.dataset][skipped.features] = skipped.reason
    in_several_ways = any(len(e.postprocess) > 1 for plan in plans for e in plan.evaluations)
    tables = list(dict.fromkeys([*declared.tables, *([RANK_CHANGES] if in_several_ways else [])]))
    filled, failed = fill_tables(map(TABLES.get, tables), output.results, not_run)
    filled += ranking_of(_in_no_table(output.results, further, filled))
    by_feature_set = [table for made in filled for table in made.by_feature_set()]
    output.tables += [table for name in not_run for table in by_feature_set if table.dataset == name]
    output.not_run += failed
    return filled


def default_folder(benchmark: str, dataset: Sequence[str] | None = None) -> Path:
    """Return where a run writes that names no folder: ``runs/<benchmark>/<dataset>``, so that runs on different data do not mix.

    A run on several datasets at once has one folder, ``runs/<benchmark>``.

    Examples
    --------
    >>> default_folder("knn", ["folder:my/crops"]).as_posix()
    'runs/knn/folder-my-crops'
    """
    declared = BENCHMARKS.get(benchmark)
    names = list(dataset or ())
    if not names:
        names = [n for n in declared.datasets if loading.unavailable_reason(DATASETS.get(n)) is None]
        names = names if declared.all_datasets else names[:1]
    folder = Path("runs", benchmark)
    readable = re.sub(r"[^\w.@=+-]+", "-", names[0])[-80:].strip("-.") if len(names) == 1 else ""
    return folder / escape(readable) if readable else folder


def run_again(file: str | Path, *, out: str | Path | None = None, progress: Progress | bool | None = None) -> RunOutput:
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

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first = run("yeast-knn", dataset="yeast-sim", features="intensity", k=11, limit=100, out=folder)
    ...     second = run_again(Path(folder, "run.json"))
    >>> [r.metrics for r in first] == [r.metrics for r in second]
    True
    """
    progress = reporter(progress)
    record = RunRecord.read(Path(file))
    arguments = record.repeatable(Path(file)).model_dump()
    hashes = {d.name: d.sha256 for d in record.datasets}
    annotations, digest = arguments["annotations"], arguments.pop("annotations_sha256")
    names, limit, seed = arguments["dataset"], arguments["limit"], arguments["seed"]
    benchmark, package = arguments.pop("benchmark"), record.run.get("package")
    if annotations is not None and (not Path(annotations).is_file() or sha256_of(Path(annotations)) != digest):
        raise UserError(f"The annotations {annotations} are not those of the recorded run, or are gone.")
    for name in names if annotations is None else ():
        cells = loading.load(DATASETS.get(name), progress=progress)
        if limit is not None and limit < len(cells):
            cells = subsample(cells, limit, seed)
        if cells.sha256 != hashes.get(name):
            raise UserError(
                f"{name} is not the data of the recorded run: sha256 {cells.sha256[:16]} now, {str(hashes.get(name))[:16]} then."
            )
    if package != __version__:
        progress.say(f"The recorded run is of pci-bench {package}, this is {__version__}.")
    return run(benchmark, **arguments, out=out, progress=progress)


def _in_no_table(results: Sequence[Result], evaluators: Sequence[str], filled: Sequence[FilledTable]) -> list[Result]:
    """Return the results of some evaluators that stand in no table."""
    shown = {id(r) for table in filled for of_table in table.by_feature_set() for r in of_table.shown}
    return [r for r in balanced_where_known(results) if r.evaluator.name in evaluators and id(r) not in shown]


def _datasets(declared: Benchmark, named: Sequence[str], output: RunOutput, progress: Progress) -> Iterator[Cells]:
    """Yield the cells of the named datasets, or of the first of the benchmark's that is available (or all); say which and why."""
    for name in named:
        yield loading.load(DATASETS.get(name), progress=progress)
    if named:
        return
    reasons: list[str] = []
    unavailable: list[str] = []
    any_available = False
    for name in declared.datasets:
        dataset = DATASETS.get(name)
        reason = loading.unavailable_reason(dataset)
        if reason is None:
            count = pinned_counts(name).get("cells")
            others = [] if any_available else unavailable
            if count is not None:  # the first line, before anything is drawn or fetched
                progress.say(_taken(dataset.meta, count, others))
            cells = loading.load(dataset, progress=progress)
            if count is None:
                progress.say(_taken(dataset.meta, len(cells), others))
            yield cells
            any_available = True
            if not declared.all_datasets:
                return
        else:
            output.not_run.append(Skipped(reason, "dataset unavailable", name))
            reasons.append(f"{name} is not available: {reason}")
            unavailable.append(name)
    if not declared.datasets:
        raise UserError(
            f"{declared.name} takes any dataset with labels. Name one: pci-bench run {declared.name} --dataset folder:PATH "
            "(`pci-bench data list` shows others)."
        )
    if not any_available:
        raise UserError(f"None of the datasets of {declared.name} is available. {' '.join(reasons)}")


def _taken(meta: DatasetMeta, count: int, unavailable: Sequence[str]) -> str:
    """Return which cells a run takes in place of which, as a short sentence."""
    drawn = " that pci-bench draws" if meta.simulated_masks else ""
    others = ""
    if unavailable:
        whose = "the paper's" if all(DATASETS.get(name).meta.paper for name in unavailable) else "not available"
        commands = ", ".join(f"pci-bench data get {name}" for name in unavailable)
        others = f"; {whose}: {commands}"
    return f"{meta.name}, {count:,} cells{drawn}{others}"


def _evaluate_all(adata: AnnData, plan: Planned, output: RunOutput, options: ExtractionOptions) -> None:
    """Evaluate one feature set with everything that is planned, and write the results at once."""
    started = datetime.now(UTC).isoformat(timespec="seconds")
    for (name, postprocess), grids in plan.grids().items():
        evaluator = EVALUATORS.get(name)
        compute = partial(
            evaluated,
            evaluator,
            adata,
            grids,
            plan.seed,
            Progress(),
            plan.of_cells,
            benchmark=plan.benchmark,
            limit=plan.limit,
            cells=plan.cells,
            options=options,
            postprocessing=Postprocessing.parse(postprocess),
        )
        try:
            results, reasons = kept.evaluation(
                evaluator, adata, grids, plan.settings(postprocess), compute, anew=options.refresh == "always"
            )
        except PluginError as error:  # the other evaluators go on
            output.not_run.append(Skipped.failed(error, plan.dataset, evaluator=name))
            results, reasons = [], []
        for result in results:
            result.run["started"] = started  # of the run that it is part of, also where it was kept from an earlier one
        for reason, count in Counter(reasons).items():
            skipped = Skipped(reason, "not applicable", plan.dataset, evaluator=name, count=count)
            if skipped not in output.not_run:
                output.not_run.append(skipped)
        output.results += results
        if output.out is not None:
            write_results(results, output.out)
