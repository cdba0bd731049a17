"""Networks trained on one screen and evaluated on others, as a matrix: Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Sequence

from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.tables.declaration import Texts, register_table
from pci_bench.reporting.tables.fill import Entry
from pci_bench.reporting.tables.table import Cell, Format, PageTable
from pci_bench.runs.results import Result, headline, metric_of
from pci_bench.runs.transfer import UNTRAINED, Transfer
from pci_bench.system.files import escape
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

NAME = "transfer"
OWN = "*"  # after the number of the screen's own network


@register_table(
    NAME,
    title="Networks trained on one screen and evaluated on another",
    source="ours; the paper has no such table",
    benchmark="transfer",
    evaluator="loo-knn",
    rows="what the network was trained on, random weights last",
    columns=[
        "trained on",
        "each dataset: the value with its interval, and its difference to that of the screen's own network",
    ],
    several_datasets=True,
)
def transfer_tables(results: Sequence[Result]) -> Texts:
    """Yield the file stem and the text, by format, of a matrix for each feature set with networks of several screens."""
    every = Transfer.of(strictest(results))
    for transfer in every:
        stem = f"{NAME}-{transfer.features}" if len(every) > 1 else NAME
        yield escape(stem), *rendered(transfer)


def strictest(results: Sequence[Result]) -> list[Result]:
    """Return the results with the headline's number of neighbours and the strictest candidates of each dataset."""
    chosen = []
    for dataset in dict.fromkeys(r.dataset.name for r in results):
        of_it = balanced_where_known([r for r in results if r.dataset.name == dataset])
        k = headline_k(of_it)
        of_it = [r for r in of_it if r.evaluator.params.get("k") == k]
        last = ladder_of(of_it)[-1]
        chosen += [r for r in of_it if Candidates.of(r) == last]
    return chosen


def rendered(transfer: Transfer) -> tuple[dict[Format, str], list[PageTable]]:
    """Return the matrix of one feature set, by format and as a page shows it."""
    import pandas as pd

    first = next(iter(transfer.results.values()))
    metric = headline(first)
    form = metric_of(first, metric)
    body, cells, records = [], [], []
    for network in transfer.networks:
        row, page_row = [network], [Cell(network)]
        for dataset in transfer.datasets:
            result = transfer.results.get((network, dataset))
            if result is None:
                row.append("–")
                page_row.append(Cell("–"))
                continue
            entry = Entry.of(result, metric, form)
            text = entry.text()
            change = transfer.change(network, dataset)
            if transfer.own(dataset) == network:
                text += f" {OWN}"
            if change is not None:
                text += f"; {_change(change, form.scale, form.printed_decimals)}"
            row.append(text)
            page_row.append(Cell(text, entry.value))
            low, high = result.intervals.get(metric, (None, None))
            records.append(
                {
                    "features": result.features.full_name,
                    "trained_on": network,
                    "dataset": dataset,
                    "candidates": Candidates.of(result).words,
                    metric: result.metrics[metric],
                    "low": low,
                    "high": high,
                    "minus_own": None if change is None else change[0],
                    "minus_own_low": None if change is None or change[1] is None else change[1][0],
                    "minus_own_high": None if change is None or change[1] is None else change[1][1],
                }
            )
        body.append(row)
        cells.append(page_row)
    compared = {name: next(r for (_, d), r in transfer.results.items() if d == name) for name in transfer.datasets}
    percent = " in percent" if form.unit == "percent" else ""
    title = f"{transfer.features} trained on one screen (rows) and evaluated on another (columns), {metric.replace('_', ' ')}{percent}"
    notes = [
        f"{OWN}: the network of the screen itself, from which the others are subtracted, with the 95 % interval of the paired difference. "
        f"'{UNTRAINED[0].upper()}{UNTRAINED[1:]}': the same layers, untrained. –: its channels do not fit, or it was not run.",
        "Chance, and what cells are compared with: "
        + "; ".join(
            f"{name} {100 / max(1, len(r.dataset.classes)):.1f}, {Candidates.of(r).words}"
            for name, r in compared.items()
        )
        + ".",
    ]
    header = ["trained on", *transfer.datasets]
    listed = "".join(f"\n- {markdown(note)}" for note in notes)
    texts: dict[Format, str] = {
        "md": f"## {markdown(title)}\n\n{markdown_table(header, body)}\n{listed}\n",
        "csv": csv_table(pd.DataFrame(records)),
        "tex": latex_table(header, body, f"{title}. {notes[0]}"),
    }
    return texts, [PageTable(title, header, cells, notes)]


def _change(change: tuple[float, tuple[float, float] | None], scale: float, decimals: int) -> str:
    """Return ``−12.3 [−20.1, −4.5]``."""
    value, interval = change
    text = f"{scale * value:+.{decimals}f}"
    if interval is not None:
        text += f" [{scale * interval[0]:+.{decimals}f}, {scale * interval[1]:+.{decimals}f}]"
    return text.replace("-", "−")
