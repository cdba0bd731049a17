"""Ranks of feature sets under each post-processing, beside their numbers: Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from pci_bench.reporting.rank_changes import changes_of
from pci_bench.reporting.tables.declaration import Texts, register_table
from pci_bench.reporting.tables.fill import Entry
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.reporting.tables.table import Cell, Format, PageTable
from pci_bench.runs.rank_changes import Agreement, RankChanges
from pci_bench.runs.results import Result, metric_of
from pci_bench.system.files import escape
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

NAME = "rank-changes"
NOTES = [
    "Each number: the rank, and the value with its 95 % interval, in the strictest column. Post-processing is fitted on the evaluated "
    "cells themselves, without their labels (transductive), unless it names controls.",
    "Kendall's tau-b: agreement of the order with that of the first column; 1 for the same order. Exchanged: pairs of feature sets that "
    "change places, and how many of them are told apart under both (paired differences, Bonferroni).",
]


@register_table(
    NAME,
    title="Ranks of feature sets under each post-processing of the features",
    source="ours; the paper standardises",
    benchmark="postprocessing",
    evaluator="",
    rows="feature sets; then Kendall's tau, and pairs that change places",
    columns=["feature set", "each post-processing: rank, value and interval"],
    postprocessed=True,
)
def rank_change_tables(results: Sequence[Result]) -> Texts:
    """Yield the file stem and the text, by format, of a table for each evaluation with several post-processings."""
    every = list(changes_of(results))
    for number, (what, changes) in enumerate(every, 1):
        stem = escape(f"{NAME}-{number}" if len(every) > 1 else NAME)
        yield stem, *rendered(what, changes)


def rendered(what: str, changes: RankChanges) -> tuple[dict[Format, str], list[PageTable]]:
    """Return the table of one evaluation, by format and as a page shows it."""
    import pandas as pd

    columns, metric = changes.postprocessings, changes.metric
    ranks = {column: changes.ranks(column) for column in columns}
    form = metric_of(next(iter(changes.results.values())), metric)
    body, cells, records = [], [], []
    for name in changes.features:
        row, page_row = [_marked(name)], [Cell(_marked(name))]
        for column in columns:
            result, rank = changes.results.get((name, column)), ranks[column].get(name)
            if result is None or rank is None:
                row.append("–")
                page_row.append(Cell("–"))
                continue
            entry = Entry.of(result, metric, form)
            row.append(f"{rank}. {entry.text()}")
            page_row.append(Cell(row[-1], rank))
            low, high = result.intervals.get(metric, (None, None))
            records.append(
                {
                    "feature_set": name,
                    "postprocess": column,
                    "rank": rank,
                    metric: result.metrics[metric],
                    "low": low,
                    "high": high,
                }
            )
        body.append(row)
        cells.append(page_row)
    agreements = [changes.agreement(column) for column in columns[1:]]
    last = [["Kendall's tau", "", *map(_tau, agreements)], ["pairs exchanged", "", *map(_exchanged, agreements)]]
    page = [[Cell(text) for text in row] for row in last]
    unit = " in percent" if form.unit == "percent" else ""
    title = f"Ranks under each post-processing, {metric.replace('_', ' ')}{unit}: {what}"
    header = ["feature set", *columns]
    texts: dict[Format, str] = {
        "md": "\n".join(
            [
                f"# {markdown(title)}\n",
                markdown_table(header, body + last),
                "",
                *(f"- {markdown(note)}" for note in NOTES),
                "",
            ]
        ),
        "csv": csv_table(pd.DataFrame(records)),
        "tex": latex_table(header, body + last, title),
    }
    return texts, [PageTable(title, header, [*cells, *page], NOTES)]


def _marked(name: str) -> str:
    mark = mark_of(name)
    return f"{name} ({mark})" if mark else name


def _tau(agreement: Agreement) -> str:
    return "–" if agreement.tau is None else f"{agreement.tau:.2f}"


def _exchanged(agreement: Agreement) -> str:
    return f"{agreement.exchanged} of {agreement.pairs}, told apart {agreement.separably_exchanged}"
