"""What a run will do: which cells, evaluated how; all of it checked before any feature is computed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.api.evaluator import EVALUATORS, DatasetReasons
from pci_bench.api.skipped import Skipped
from pci_bench.benchmarks import Benchmark, Evaluation
from pci_bench.data.cells import Cells, subsample
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.features.estimate import Work, evaluation_seconds
from pci_bench.features.names import FeatureSet
from pci_bench.features.postprocessing import NONE, Postprocessing
from pci_bench.runs import kept
from pci_bench.runs.evaluation import check_requested, check_something_to_evaluate, parameter_sets, with_levels


@dataclass(frozen=True)
class Planned:
    """The evaluations of a benchmark on some cells.

    Parameters
    ----------
    benchmark, seed
        Of the run.
    cells
        All that are evaluated.
    limit
        How many were asked for, of a subset; None of all cells. The subset may have a few cells more or less.
    evaluations
        With the parameters and post-processings that these cells can have.
    of_cells
        Why the cells cannot be evaluated in some way.
    """

    benchmark: str
    seed: int
    cells: Cells
    limit: int | None
    evaluations: tuple[Evaluation, ...]
    of_cells: DatasetReasons

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.cells.meta.name

    def grids(self) -> dict[tuple[str, str], list[dict[str, list[Any]]]]:
        """Return the grids of every evaluator on features in each post-processing, which share its work."""
        names = [e.name for e in self.evaluations]
        wanted = dict.fromkeys((e.name, postprocess) for e in self.evaluations for postprocess in e.postprocess)
        return {
            (name, postprocess): [e.grid for e in self.evaluations if e.name == name and postprocess in e.postprocess]
            for name, postprocess in sorted(wanted, key=lambda of: names.index(of[0]))
        }

    def settings(self, postprocess: str) -> dict[str, Any]:
        """Return what an evaluation's numbers follow from beside features, parameters and code."""
        settings = {"benchmark": self.benchmark, "seed": self.seed, "limit": self.limit}
        return settings if postprocess == NONE else {**settings, "postprocess": postprocess}

    def work(self, features: Sequence[FeatureSet], *, anew: bool) -> list[Work]:
        """Return what evaluating some feature sets takes; what is kept of an earlier run is not counted, unless it is done anew."""
        seconds, unknown = 0.0, []
        for (name, postprocess), grids in self.grids().items():
            evaluator, of_it = EVALUATORS.get(name), self.settings(postprocess)
            todo = [f for f in features if anew or not kept.probably(evaluator, self.dataset, f.base, grids, of_it)]
            sets = [params for grid in grids for params in parameter_sets(evaluator, grid)]
            possible = [p.model_dump(exclude={"k"}) for p in sets if self.of_cells.reason(evaluator, p) is None]
            combinations = len({str(params) for params in possible})  # numbers of neighbours share one search
            of_one = evaluation_seconds(name, len(self.cells))
            if of_one is not None:
                seconds += of_one * len(todo) * combinations
            elif todo and combinations:
                unknown.append(Work(f"evaluation by {name}", None))
        return [Work("evaluation", seconds), *unknown]


def planned(
    declared: Benchmark,
    cells: Cells,
    parameters: Mapping[str, list[Any]],
    postprocess: Sequence[str] | None,
    *,
    limit: int | None,
    seed: int,
) -> tuple[Planned, list[Skipped]]:
    """Return what a benchmark does on some cells, or on a subset of them, and what they cannot have.

    Parameters
    ----------
    declared
        The benchmark.
    cells
        All of the dataset.
    parameters, postprocess
        As a user set them, in place of what is declared.
    limit, seed
        Of the subset.

    Raises
    ------
    UserError
        Where nothing can be evaluated, or something that a user asked for cannot be.
    """
    limit = limit if limit is not None and limit < len(cells) else None
    cells = cells if limit is None else subsample(cells, limit, seed)
    of_cells = DatasetReasons(cells.obs, DatasetProvenance.of(cells.meta, cells.sha256))
    without = declared.evaluations_on(cells.meta.name)
    if postprocess is not None:
        without = [e.model_copy(update={"postprocess": tuple(postprocess)}) for e in without]
    evaluations = with_levels(with_parameters(without, parameters), of_cells)
    evaluations, skipped = _postprocessed(of_cells, evaluations, asked=postprocess is not None)
    check_something_to_evaluate(of_cells, evaluations)
    check_requested(of_cells, with_levels(without, of_cells), evaluations, parameters)
    return Planned(declared.name, seed, cells, limit, tuple(evaluations), of_cells), skipped


def check_parameters(declared: Benchmark, parameters: Mapping[str, list[Any]]) -> None:
    """Raise where a benchmark has no evaluator with a parameter that the user sets."""
    known = {e.name: EVALUATORS.get(e.name).Params.model_fields for e in declared.evaluate}
    for name, values in parameters.items():
        if not values:
            raise UserError(f"The parameter '{name}' is given no value.")
        if not any(name in fields for fields in known.values()):
            available = "; ".join(f"{e}: {', '.join(fields) or 'none'}" for e, fields in known.items())
            raise UserError(
                f"No evaluator of {declared.name} has a parameter '{name}'. Their parameters are {available}."
            )


def _postprocessed(
    of_cells: DatasetReasons, evaluations: Iterable[Evaluation], *, asked: bool
) -> tuple[list[Evaluation], list[Skipped]]:
    """Return evaluations with the post-processings that features of some cells can have, and the others with reasons.

    Raises
    ------
    UserError
        For one that the user asked for, before any feature is computed.
    """
    evaluations = list(evaluations)
    possible, skipped = {NONE}, []
    for text in dict.fromkeys(text for e in evaluations for text in e.postprocess):
        if (reason := Postprocessing.parse(text).unavailable_reason(of_cells.obs, of_cells.dataset)) is None:
            possible.add(text)
        elif asked:
            raise UserError(f"{reason[0].upper()}{reason[1:]}.")
        else:
            skipped.append(Skipped(reason, "not applicable", of_cells.dataset.name))
    possible_only = [
        e.model_copy(update={"postprocess": tuple(text for text in e.postprocess if text in possible)})
        for e in evaluations
    ]
    return possible_only, skipped


def with_parameters(evaluations: Iterable[Evaluation], parameters: Mapping[str, list[Any]]) -> list[Evaluation]:
    """Return evaluations with the user's values in place of the declared ones, where an evaluator has such a parameter."""
    changed = []
    for evaluation in evaluations:
        fields = EVALUATORS.get(evaluation.name).Params.model_fields
        overrides = {
            name: [v for i, v in enumerate(values) if v not in values[:i]]
            for name, values in parameters.items()
            if name in fields
        }
        updated = Evaluation(**{**evaluation.model_dump(), **overrides})
        if updated not in changed:  # two that differed only in what the user sets are one now
            changed.append(updated)
    return changed
