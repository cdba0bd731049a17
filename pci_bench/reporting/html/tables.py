"""Tables for the page: the paper's, and all results of each evaluator; cells carry what they sort by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pci_bench.benchmarks import BENCHMARKS
from pci_bench.reporting.html.words import evaluator_title, metric_title
from pci_bench.reporting.tables.declaration import TABLES, TableDeclaration
from pci_bench.reporting.tables.fill import Entry, fill, interval_note
from pci_bench.reporting.tables.render import PRINTED
from pci_bench.runs.results import Result, metric_of, parameters

NO_REPRODUCTION = (
    "None of these numbers is a reproduction of the paper: that takes its dataset and its published weights."
)


@dataclass(frozen=True)
class Cell:
    """One cell: what is read, the number it sorts by (None sorts as text), and how many columns it fills."""

    text: str
    value: float | None = None
    columns: int = 1


@dataclass(frozen=True)
class PageTable:
    """A table that sorts and filters."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    def is_numeric(self, column: int) -> bool:
        """Return whether a column holds a number in any row."""
        return any(row[column].value is not None for row in self.rows if column < len(row))


def paper_tables(results: Sequence[Result], not_run: Mapping[str, str]) -> list[PageTable]:
    """Return the paper tables of the results' benchmarks, filled, but for those without any number."""
    benchmarks = dict.fromkeys(r.benchmark for r in results if r.benchmark is not None and r.benchmark in BENCHMARKS)
    names = dict.fromkeys(t for b in benchmarks for t in BENCHMARKS.get(b).tables)
    tables = []
    for declaration in (d for d in map(TABLES.get, names) if isinstance(d, TableDeclaration)):
        table = fill(declaration, results, not_run, results[0].dataset.name)
        if not table.has_numbers:
            continue
        columns = ["feature set"]
        for text, (_, exclude) in zip(table.header_texts(), table.headers, strict=True):
            columns.append(text)
            if table.has_paper and exclude.everything:
                columns.append(PRINTED)
        rows = []
        for features, entries in table.rows:
            row = [Cell(features)]
            if isinstance(entries, str):
                row.append(Cell(f"not run: {entries}", columns=len(columns) - 1))
            else:
                for entry, (_, exclude) in zip(entries, table.headers, strict=True):
                    row.append(_number(entry))
                    if table.has_paper and exclude.everything:
                        printed = "" if entry is None else entry.printed_text()
                        row.append(Cell(printed, entry.paper) if entry and printed else Cell(""))
            rows.append(row)
        tables.append(PageTable(table.title, columns, rows, table.notes))
    return tables


def _number(entry: Entry | None) -> Cell:
    return Cell("–") if entry is None else Cell(entry.text(), entry.value)


def result_tables(results: Sequence[Result]) -> list[PageTable]:
    """Return one table per evaluator with every result as a row and every metric as a column, intervals in brackets."""
    tables = []
    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        evaluator_results = [r for r in results if r.evaluator.name == evaluator]
        metrics = list(dict.fromkeys(m for r in evaluator_results for m in r.metrics))
        columns = [
            "feature set",
            "parameters",
            *(metric_title(next(r for r in evaluator_results if m in r.metrics), m) for m in metrics),
        ]
        rows = [
            [Cell(r.features.full_name), Cell(parameters(r) or "default"), *(_metric(r, m) for m in metrics)]
            for r in evaluator_results
        ]
        units = dict.fromkeys(r.details.get("interval") for r in evaluator_results)
        notes = [interval_note(unit) for unit in units if unit]
        if not any(r.intervals for r in evaluator_results):
            notes.append("These metrics have no intervals.")
        if not any(r.paper for r in evaluator_results):
            notes.append(NO_REPRODUCTION)
        tables.append(PageTable(f"{evaluator_title(evaluator_results[0])} ({evaluator})", columns, rows, notes))
    return tables


def _metric(result: Result, metric: str) -> Cell:
    if metric not in result.metrics:
        return Cell("–")
    return _number(Entry.of(result, metric, metric_of(result, metric)))
