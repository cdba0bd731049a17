"""Reproducing: plan, get, run, compare."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pci_bench import weights
from pci_bench.api.dataset import DATASETS, load_dataset
from pci_bench.data.cells import PART, DatasetMeta
from pci_bench.data.counts import said_of
from pci_bench.errors import UserError
from pci_bench.features.names import parse
from pci_bench.reporting.html.page import write_report
from pci_bench.reporting.tables.declaration import TABLES, TableDeclaration
from pci_bench.reproduction.claims import claims_of
from pci_bench.reproduction.estimate import Estimate, estimated
from pci_bench.reproduction.items import Item, ItemRun
from pci_bench.reproduction.needs import Kind, Need, State, dataset_need, lacking, needs_of, origin
from pci_bench.reproduction.outcome import Outcome, numbers_beside
from pci_bench.reproduction.written import write_outcome
from pci_bench.runs import runner
from pci_bench.runs.results import Result
from pci_bench.system.progress import Progress
from pci_bench.system.text import enumerated

MISSING = "missing"  # in place of the names of feature sets: all that cannot be had


@dataclass(frozen=True)
class Plan:
    """What items need and how long they take, before anything is fetched."""

    items: Sequence[Item]
    runs: Sequence[ItemRun]
    needs: Sequence[Need]
    estimate: Estimate

    @property
    def to_fetch(self) -> list[Need]:
        """What is not here and can be fetched."""
        return [need for need in self.needs if need.state is State.to_fetch]


def plan(items: Sequence[Item], without: Collection[str] = (), choices: Collection[str] = ()) -> Plan:
    """Return what items need, from where, and about how long they take on this machine.

    Parameters
    ----------
    items
        Which.
    without
        Feature sets to be left out; ``"missing"`` stands for all that cannot be had.
    choices
        The options by which parts of datasets were named (``"genes"``).

    Raises
    ------
    UserError
        For the name of a feature set that no item has, and for an option that no dataset of theirs takes.
    """
    _check_known(items, without)
    runs = [without_some(run, without) for item in items for run in item.runs]
    options = {DATASETS.get(run.dataset).option for run in runs}
    for option in choices:
        if option not in options:
            raise UserError(
                f"Nothing that {enumerated([i.name for i in items])} needs is fetched by --{option}. Leave it out."
            )
    return Plan(items, runs, needs_of(runs, choices), estimated(runs))


def reproduce(
    item: Item,
    out: Path,
    *,
    without: Collection[str] = (),
    reasons: dict[str, str] | None = None,
    device: str = "auto",
    workers: int | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Return ours beside the printed numbers of an item, with what is here now; nothing is fetched.

    Parameters
    ----------
    item
        Which.
    out
        Folder; each run is written below ``out/<item>``, with its report and ``reproduction.md``.
    without
        Feature sets to be left out. Where others lack something, nothing is run, unless ``"missing"`` is among them.
    reasons
        By dataset or weights, why they could not be fetched, where that was tried.
    device, workers, progress
        As in :func:`pci_bench.run`.

    Raises
    ------
    UserError
        As :func:`pci_bench.run`.
    """
    stand = _stand_of(item, without, reasons or {})
    if stand.missing or not stand.runs:
        nothing = {item.name: "every feature set that it is about was left out"}
        outcome = Outcome(item, left_out=stand.left_out, missing=stand.missing or nothing, wanting=stand.wanting)
    else:
        made = _made(item, stand.runs, out, device=device, workers=workers, progress=progress or Progress())
        outcome = replace(
            compared(item, made.results, stand.runs, stand.left_out | made.left_out, made.folders),
            wanting=stand.wanting,
            failures=made.failures,
            counts=list(dict.fromkeys(filter(None, made.counts))),
        )
    write_outcome(outcome, out / item.name)
    return outcome


@dataclass(frozen=True)
class _Stand:
    """What of an item can be run now, and what not, and why.

    Attributes
    ----------
    runs
        Those of which something that they are about is here, on what is here.
    left_out
        By feature set, why it is not run.
    missing
        By dataset or weights, why they cannot be had, where nothing is to be run for want of them.
    wanting
        The same of all that is not here.
    """

    runs: Sequence[ItemRun]
    left_out: dict[str, str]
    missing: dict[str, str]
    wanting: dict[str, str]


def _stand_of(item: Item, without: Collection[str], reasons: Mapping[str, str]) -> _Stand:
    """Return how an item stands; `reasons` say why something could not be fetched."""
    left_out = {
        features: "left out, as you asked" for run in item.runs for features in run.features if features in without
    }
    runs: list[ItemRun] = []
    missing: dict[str, str] = {}
    wanting: dict[str, str] = {}
    for declared in item.runs:
        run = on_stand_in(without_some(declared, without))
        lacks = lacking(run, reasons)
        unpublished = {f for f, need in lacks.items() if need.state is State.not_published and f not in run.needed}
        for features, need in lacks.items():
            reason = reasons.get(need.name, need.reason or f"`pci-bench {_get(need)}` gets it")
            left_out[features] = f"for want of {need.name}"
            wanting[need.name] = reason
            if features not in unpublished and MISSING not in without:
                missing[need.name] = reason
        here = without_some(run, lacks)
        if any(features in here.features for features in declared.needed):
            runs.append(here)
        else:
            missing |= {n.name: reasons.get(n.name, n.reason) for f, n in lacks.items() if f in run.needed}
    return _Stand(runs, left_out, {} if MISSING in without and runs else missing, wanting)


@dataclass
class _Made:
    """What runs gave: results, where they lie, how many cells there were, and what failed."""

    results: list[Result] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    counts: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def _made(
    item: Item, runs: Sequence[ItemRun], out: Path, *, device: str, workers: int | None, progress: Progress
) -> _Made:
    """Return what the runs of an item give, each written into a folder of its own with its report; one that fails keeps none from the others."""
    made = _Made()
    for run in runs:
        folder = out / item.name / (run.dataset if len(item.runs) > 1 else "")
        sets = f"{len(run.features)} feature set{'s' if len(run.features) > 1 else ''}"
        progress.say(f"{item.name}: {run.benchmark} on {run.dataset}, {sets}")
        try:
            output = output_of(run, out=folder, device=device, workers=workers, progress=progress)
        except UserError as error:
            made.failures[f"{run.benchmark} on {run.dataset}"] = str(error)
            made.left_out |= dict.fromkeys(run.features, f"{run.benchmark} on {run.dataset} failed")
            continue
        made.results += output.results
        made.counts.append(said_of(load_dataset(run.dataset)))
        made.left_out |= {s.features: s.reason for s in output.not_run if s.features}
        write_report(folder)
        made.folders.append(folder)
    return made


def output_of(run: ItemRun, **options: Any) -> runner.RunOutput:
    """Return what a run of an item gives; `options` are those of :func:`pci_bench.run` that an item does not say."""
    return runner.run(
        run.benchmark,
        dataset=run.dataset,
        features=run.features,
        parameters=run.parameters,
        annotations=run.table or None,
        **options,
    )


def compared(
    item: Item, results: Sequence[Result], runs: Sequence[ItemRun], left_out: dict[str, str], folders: list[Path]
) -> Outcome:
    """Return the outcome of an item's results."""
    metas = {run.dataset: DATASETS.get(run.dataset).meta for run in runs}
    others = [f"{name} is another copy of the cells of {m.variant_of}" for name, m in metas.items() if m.variant_of]
    others += [f"of {name} there is {m.version.removesuffix(PART)}, a part" for name, m in metas.items() if m.is_part]
    if item.tolerance is not None:
        others += _other_counts(results, metas)
    variant = "; ".join(others)
    numbers = [
        number
        for name in item.tables
        if isinstance(table := TABLES.get(name), TableDeclaration)
        for number in numbers_beside(
            results, table, judged=item.judged, tolerance=item.tolerance, variant=bool(variant)
        )
    ]
    sources = {run.dataset: origin(run.dataset) for run in runs}
    for features in dict.fromkeys(f for run in runs for f in run.features):
        feature_set = parse(features)
        family, name = feature_set.extractor().meta.weights, feature_set.weights
        if family and name and (file := weights.find(family, name)):
            sources[f"{family}@{name}"] = weights.read_header(file).source
    return Outcome(
        item,
        numbers,
        [] if variant else claims_of(item.name, results),
        left_out,
        variant=variant,
        sources=sources,
        folders=folders,
    )


def _other_counts(results: Sequence[Result], metas: Mapping[str, DatasetMeta]) -> list[str]:
    """Return of which datasets there are not as many cells as the paper counts, so that they are not its cells."""
    found = {r.dataset.name: r.dataset.n_cells for r in results}
    return [
        f"{name} has {found[name]:,} cells, and the paper counts {metas[name].paper['cells']:,}"
        for name in found
        if name in metas and found[name] != metas[name].paper.get("cells", found[name])
    ]


def on_stand_in(run: ItemRun) -> ItemRun:
    """Return a run on another copy of its cells, where these cannot be had and such a copy is here; else the run."""
    need = dataset_need(run.dataset)
    return run.model_copy(update={"dataset": need.stand_in}) if need.stand_in else run


def without_some(run: ItemRun, names: Iterable[str]) -> ItemRun:
    """Return a run without some of its feature sets."""
    return run.model_copy(
        update={
            "needed": tuple(f for f in run.needed if f not in names),
            "besides": tuple(f for f in run.besides if f not in names),
        }
    )


def what_can_still_be_done(outcome: Outcome) -> str:
    """Return the command that leaves out what cannot be had, as a sentence; "" where nothing would be left."""
    item = outcome.item
    lacked = [f for run in item.runs for f in run.features if f in outcome.left_out]
    left = [f for run in item.runs for f in run.needed if f not in lacked]
    if not left or not lacked:
        return ""
    return f"`pci-bench reproduce {item.name} --without {MISSING}` does it without {', '.join(lacked)}."


def _check_known(items: Sequence[Item], without: Collection[str]) -> None:
    known = {features for item in items for run in item.runs for features in run.features}
    for name in without:
        if name != MISSING and name not in known:
            raise UserError(
                f"--without {name}: no such feature set is in {', '.join(item.name for item in items)}. "
                f"There are {', '.join(sorted(known))}; '{MISSING}' stands for all that cannot be had."
            )


def _get(need: Need) -> str:
    return f"{'weights' if need.kind is Kind.weights else 'data'} get {need.name}"
