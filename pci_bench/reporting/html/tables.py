"""Tables for the page: the paper's, and all results of each evaluator; cells carry what they sort by."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pci_bench.benchmarks import BENCHMARKS
from pci_bench.errors import PluginError
from pci_bench.reporting.candidates import Candidates, ladder_of
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.html.words import evaluator_title, metric_title
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import Entry, interval_note, number_cell
from pci_bench.reporting.tables.table import Cell, NotRun, PageTable
from pci_bench.runs.results import Result, headline, metric_of, parameters

NO_REPRODUCTION = (
    "None of these numbers is a reproduction of the paper: that takes its dataset and its published weights."
)


def paper_tables(results: Sequence[Result], not_run: NotRun, *, several_datasets: bool = False) -> list[PageTable]:
    """Return the paper tables of the results' benchmarks, filled, but for those without any number.

    Parameters
    ----------
    results
        Of one dataset, or of all.
    not_run
        By dataset, reasons by feature set for what could not be had.
    several_datasets
        Whether the tables are those that need results on two datasets or more, or all others.
    """
    benchmarks = dict.fromkeys(r.benchmark for r in results if r.benchmark is not None and r.benchmark in BENCHMARKS)
    names = dict.fromkeys(t for b in benchmarks for t in BENCHMARKS.get(b).tables)
    page_tables: list[PageTable] = []
    for table in map(TABLES.get, names):
        if table.several_datasets != several_datasets:
            continue
        try:
            for filled in table.filled(results, not_run):
                page_tables += [
                    shown for shown in filled.page_tables() if shown not in page_tables
                ]  # others' numbers once
        except PluginError as error:  # the other tables are shown
            page_tables.append(PageTable(table.title, [], [], [str(error)]))
    return page_tables


def result_tables(results: Sequence[Result]) -> list[PageTable]:
    """Return one table per evaluator with every result as a row and every metric as a column, intervals in brackets."""
    tables = []
    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        evaluator_results = _strictest_first([r for r in results if r.evaluator.name == evaluator])
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


def _strictest_first(results: Sequence[Result]) -> list[Result]:
    """Return an evaluator's results ranked: the headline k and the strictest comparison first, there the best first."""
    k = headline_k(results)

    def place(result: Result) -> tuple[bool, int, float]:
        metric = headline(result)
        sign = -1 if metric_of(result, metric).higher_is_better else 1
        return (
            result.evaluator.params.get("k") != k,
            -ladder.index(Candidates.of(result)),
            sign * result.metrics[metric] if metric in result.metrics else math.inf,
        )

    ladder = ladder_of(results)
    return sorted(results, key=place)


def _metric(result: Result, metric: str) -> Cell:
    if metric not in result.metrics:
        return Cell("–")
    return number_cell(Entry.of(result, metric, metric_of(result, metric)))
