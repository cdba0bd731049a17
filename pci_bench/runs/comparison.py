"""Comparison of two sets of results within tolerances, for ``pci-bench compare`` and the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.evaluator import Metric
from pci_bench.data.examples import shows_single_cells
from pci_bench.errors import UserError
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.results import Result, headline, metric_of, parameters, read_result, read_results
from pci_bench.runs.tolerance import Tolerance, default_tolerance
from pci_bench.system.foreign import files_within

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-6  # expected numbers are kept to six digits


@dataclass(frozen=True)
class Difference:
    """One number in two results: what it is, its values, how far it may move, and the interval of the paired difference.

    ``metric`` says how it is printed.
    """

    key: str
    what: str
    old: float
    new: float
    allowed: float
    interval: tuple[float, float] | None = None
    metric: Metric = field(default_factory=Metric)

    @property
    def delta(self) -> float:
        """New minus old."""
        return self.new - self.old

    @property
    def changed(self) -> bool:
        """Whether it moved by more than is allowed."""
        return not abs(self.delta) <= self.allowed + ROUNDING

    @property
    def decimals(self) -> int:
        """How many decimals show that it moved."""
        return (4 if self.allowed >= 0.001 else 6) - (2 if self.metric.unit == "percent" else 0)

    @property
    def excess(self) -> float:
        """How far it moved, in what it may move."""
        return float(np.nan_to_num(abs(self.delta), nan=np.inf) / max(self.allowed, ROUNDING))

    @property
    def direction(self) -> str:
        """``higher``, ``lower`` or ``same``."""
        return "same" if not self.changed else "higher" if self.delta > 0 else "lower"


@dataclass
class Comparison:
    """What two sets of results have in common, and what they have not."""

    differences: list[Difference] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def changes(self) -> list[Difference]:
        """The numbers that moved."""
        return [d for d in self.differences if d.changed]

    @property
    def same(self) -> bool:
        """Whether nothing moved and nothing is missing."""
        return not self.changes and not self.missing


def key_of(result: Result) -> str:
    """Return what a result is of: dataset, feature set with weights, evaluator, parameters."""
    params = parameters(result, by_name=True)  # a parameter that older results lack is the default
    return " / ".join((result.dataset.name, result.features.full_name, f"{result.evaluator.name} {params}".strip()))


def read_any(where: Path) -> list[Result]:
    """Return the results of an output folder, of a folder of result files, or of one file.

    Raises
    ------
    UserError
        Where there is none, or a file is damaged.
    """
    if where.is_file():
        if where.suffix != ".json":
            raise UserError(
                f"{where} is not a result of pci-bench: expected a name that ends in .json. Name a folder that `pci-bench run` "
                "wrote, or one of its result files."
            )
        return [read_result(where)]
    if (where / "results").is_dir():
        return read_results(where)
    if not where.exists():
        raise UserError(f"There is no {where}. Name a folder that `pci-bench run` wrote, or one of its result files.")
    files = [f for f in files_within(where, "*.json") if f.name != "run.json"]
    if not files:
        raise UserError(
            f"There are no results in {where}. Name a folder that `pci-bench run` wrote, or one of its result files."
        )
    return [read_result(f) for f in files]


def compare(old: Sequence[Result], new: Sequence[Result], tolerance: Tolerance | None = None) -> Comparison:
    """Return every metric, every class's recall and every table of two sets of results side by side.

    Parameters
    ----------
    old, new
        Results; those of one key (:func:`key_of`) are compared.
    tolerance
        How far numbers may move; by default :func:`default_tolerance`.

    Raises
    ------
    UserError
        Where results of one key are of other cells, features or protocols, so that a difference would mean nothing; or where
        nothing can be compared.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> results = pci_bench.evaluate("loo-knn", intensity, k=5)
    >>> worse = [r.model_copy(update={"metrics": r.metrics | {"accuracy": r.metrics["accuracy"] - 0.1}}) for r in results]
    >>> comparison = compare(results, worse)
    >>> comparison.same, [(d.what, f"{d.delta:+.1f}", d.direction) for d in comparison.changes]
    (False, [('accuracy', '-0.1', 'lower')])
    """
    tolerance = tolerance or default_tolerance()
    before, after = _by_key(old), _by_key(new)
    comparison = Comparison(missing=[k for k in before if k not in after], new=[k for k in after if k not in before])
    for key in before:
        if key not in after:
            continue
        old_result, new_result = before[key], after[key]
        _check_comparable(key, old_result, new_result)
        if not metric_of(old_result, headline(old_result)).reproducible:
            comparison.notes.append(f"{key}: not reproducible, not compared")
            continue
        comparison.compared += 1
        for metric in _shared(comparison, key, old_result.metrics, new_result.metrics):
            allowed = tolerance.of(metric, old_result.dataset.n_cells)
            interval = paired_interval(old_result, new_result) if metric == "balanced_accuracy" else None
            values = old_result.metrics[metric], new_result.metrics[metric]
            comparison.differences.append(
                Difference(key, metric, *values, allowed, interval, metric_of(old_result, metric))
            )
        old_recalls, new_recalls = (
            {f"recall of {c}": v for c, v in r.details.get("per_class", {}).items()} for r in (old_result, new_result)
        )
        for recall in _shared(comparison, key, old_recalls, new_recalls):
            allowed = tolerance.of(recall, old_result.dataset.classes.get(recall.removeprefix("recall of "), 1))
            values = old_recalls[recall], new_recalls[recall]
            comparison.differences.append(Difference(key, recall, *values, allowed, metric=Metric("percent")))
        old_tables, new_tables = (
            {f"table {name}": t for name, t in without_examples(r).items()} for r in (old_result, new_result)
        )
        for name in _shared(comparison, key, old_tables, new_tables):
            _compare_tables(comparison, f"{key}: {name}", old_tables[name], new_tables[name], tolerance)
    if not comparison.compared and not comparison.notes:
        raise UserError(
            "Nothing was compared: the two sets of results have no dataset, feature set and evaluator with the same parameters in common."
        )
    if not comparison.compared:
        raise UserError(
            "Nothing was compared: what the two have in common is not reproducible, as embeddings are, and never gated."
        )
    return comparison


def _by_key(results: Sequence[Result]) -> dict[str, Result]:
    by_key: dict[str, Result] = {}
    for result in results:
        key = key_of(result)
        if key in by_key and by_key[key].dataset.sha256 != result.dataset.sha256:
            raise UserError(
                f"One side holds two results of {key}, of different cells. Compare folders of one run each."
            )
        by_key[key] = result
    return by_key


def _check_comparable(key: str, old: Result, new: Result) -> None:
    """Raise where two results of one key are of different cells or protocols."""
    pairs = {
        "the dataset's version": (old.dataset.version, new.dataset.version),
        "the cells (sha256)": (old.dataset.sha256, new.dataset.sha256),
        "the precision of the features": (old.features.precision, new.features.precision),
        "the evaluator's version": (old.evaluator.version, new.evaluator.version),
        "the schema": (old.schema_, new.schema_),
    }
    for what, (a, b) in pairs.items():
        if a != b:
            raise UserError(f"{key} cannot be compared: {what} is {str(a)[:16]} in one and {str(b)[:16]} in the other.")


def without_examples(result: Result) -> dict[str, pd.DataFrame]:
    """Return a result's tables but for those of example cells, which may be others on another machine."""
    return {name: table for name, table in result.tables.items() if not shows_single_cells(name, table)}


def _shared(comparison: Comparison, key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names that both sides have, after noting those that only one has."""
    comparison.missing += [f"{key}: {name}" for name in before if name not in after]
    comparison.new += [f"{key}: {name}" for name in after if name not in before]
    return [name for name in before if name in after]


def _compare_tables(
    comparison: Comparison, key: str, old: pd.DataFrame, new: pd.DataFrame, tolerance: Tolerance
) -> None:
    """Note rows and columns of one side only, the number that moved the most for what it may, and how many texts differ."""
    import pandas as pd

    columns = _shared(comparison, key, *({f"column {c}": c for c in t.columns.map(str)} for t in (old, new)))
    names = [c.removeprefix("column ") for c in columns]
    old_rows, new_rows = (t.rename(columns=str)[names] for t in (old, new))
    numbers = [c for c in names if all(pd.api.types.is_numeric_dtype(t[c]) for t in (old_rows, new_rows))]
    texts = [c for c in names if c not in numbers]
    old_rows, new_rows = (
        t.assign(**{c: t[c].astype("string").fillna("") for c in texts}) for t in (old_rows, new_rows)
    )
    telling = _telling_columns(old_rows, new_rows, texts)
    old_rows, new_rows = (_with_named_rows(t, telling) for t in (old_rows, new_rows))
    shared = _shared(comparison, key, dict.fromkeys(old_rows.index), dict.fromkeys(new_rows.index))
    old_rows, new_rows = old_rows.loc[shared], new_rows.loc[shared]
    if not shared:
        return
    if numbers:
        comparison.differences.append(_most_moved(key, old_rows[numbers], new_rows[numbers], tolerance))
    if other_texts := [c for c in texts if c not in telling]:
        unlike = int((old_rows[other_texts].to_numpy(str) != new_rows[other_texts].to_numpy(str)).sum())
        comparison.differences.append(Difference(key, "texts that differ", 0.0, float(unlike), tolerance.cells))


def _telling_columns(old: pd.DataFrame, new: pd.DataFrame, texts: list[str]) -> list[str]:
    """Return the fewest first columns of text that tell all rows of both tables apart, or none."""
    for count in range(1, len(texts) + 1):
        if not any(t.duplicated(texts[:count]).any() for t in (old, new)):
            return texts[:count]
    return []


def _with_named_rows(table: pd.DataFrame, telling: list[str]) -> pd.DataFrame:
    """Return a table whose rows are named by what tells them apart, or else by their position."""
    if not telling:
        return table.set_axis([f"row {i}" for i in range(len(table))], axis=0)
    return table.set_axis([f"row {', '.join(row)}" for row in table[telling].itertuples(index=False)], axis=0)


def _most_moved(key: str, old: pd.DataFrame, new: pd.DataFrame, tolerance: Tolerance) -> Difference:
    """Return the number of a table that moved the most for what it may, and say how many moved."""
    moved, most = 0, Difference(key, "numbers", 0.0, 0.0, tolerance.absolute)
    for column in old:
        a, b = old[column].to_numpy(float), new[column].to_numpy(float)
        allowed = tolerance.of_column(str(column), float(np.abs(a[np.isfinite(a)]).max(initial=0)))
        with np.errstate(invalid="ignore"):  # infinity minus infinity
            distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.nan_to_num(np.abs(b - a), nan=np.inf))
        moved += int((distance > allowed + ROUNDING).sum())
        row = int(distance.argmax())
        if distance[row] > 0:
            difference = Difference(key, f"{column} of {old.index[row]}", float(a[row]), float(b[row]), allowed)
            most = max(most, difference, key=lambda d: d.excess)
    return replace(most, what=f"{moved} of {old.size} numbers moved, most: {most.what}") if moved else most
