"""A filled table as an answer for a terminal: ranked by its strictest column, with what does not compete set apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables.declaration import Column, TableDeclaration
from pci_bench.reporting.tables.fill import fill, has_params, printed_form
from pci_bench.reporting.tables.ranking import Kind, ranked
from pci_bench.reporting.tables.render import PRINTED
from pci_bench.runs.results import headline, key_and_defaults

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from pci_bench.reporting.tables.fill import DatasetTable, Row
    from pci_bench.runs.results import Result

BEST = "*"  # before the name of the best row that competes
NO_REPRODUCTION = (
    "None of these numbers is a reproduction of the paper: that takes its dataset and its published weights."
)


def competitors(table: DatasetTable) -> list[Result]:
    """Return the results with intervals that compete in a table's strictest column, best first.

    Rows that are means over seeds stand for no single result.
    """
    column = table.declaration.columns[table.strictest % len(table.declaration.columns)]
    candidates = table.headers[table.strictest][1]
    rows = _ranked(table).get(Kind.features, [])
    found = {
        r.features.full_name: r
        for r in table.shown
        if r.evaluator.name == column.evaluator
        and column.metric in r.intervals
        and (table.declaration.one_exclusion_each or Candidates.of(r) == candidates)
        and has_params(r.evaluator.params, column.params)
    }
    return [found[name] for name, _ in rows if name in found]


def ranking_of(results: Sequence[Result]) -> Iterator[DatasetTable]:
    """Yield a ranked table of each dataset and evaluator with several feature sets, where no table of a benchmark shows them.

    The columns are the parameters that were evaluated, the first metric is the evaluator's headline.
    """
    for dataset, evaluator in dict.fromkeys((r.dataset.name, r.evaluator.name) for r in results):
        of_it = [r for r in results if (r.dataset.name, r.evaluator.name) == (dataset, evaluator)]
        telling = [
            {
                name: v
                for name, v in r.telling_params(*key_and_defaults(r)).items()
                if name not in ("exclude", "candidates")
            }
            for r in of_it
        ]
        distinct = [params for i, params in enumerate(telling) if params not in telling[:i]]
        columns = [
            Column(header=", ".join(f"{n} = {v}" for n, v in params.items()) or evaluator, params=params)
            for params in distinct
        ]
        yield fill(
            TableDeclaration(
                name=evaluator,
                title=of_it[0].evaluator.title or evaluator,
                benchmark=of_it[0].benchmark or "",
                evaluator=evaluator,
                metric=headline(of_it[0]),
                columns=columns,
                rows="run",
            ),
            of_it,
            {},
            dataset,
        )


def metric_of_answer(table: DatasetTable) -> str:
    """Return the metric of a table's strictest column."""
    return table.declaration.columns[table.strictest % len(table.declaration.columns)].metric


def _ranked(table: DatasetTable) -> dict[Kind, list[Row]]:
    return ranked(table.rows, table.strictest, higher_is_better=table.higher_is_better)


def answer(table: DatasetTable, letters: Mapping[str, str], width: int) -> list[RichTable | str]:
    """Return a table as an answer, with the sentences that its reader needs; what it leaves out stands in the files.

    Parameters
    ----------
    table
        What is shown; its strictest column is the first, and the others follow as far as they fit.
    letters
        The group of every competing feature set, by its full name.
    width
        The columns of the terminal.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = table.strictest
    width_of_block = len(table.declaration.columns)  # columns of the same parameters under another exclusion come next
    order = sorted(range(len(table.headers)), key=lambda i: (i != first, (i - first) % width_of_block != 0, i))
    by_kind = _ranked(table)
    several = len(letters) > 1
    names = [name for rows in by_kind.values() for name, _ in rows]
    room = width - max(len(name) for name in names) - 2 - (8 if several else 0)
    texts: list[Mapping[str, str]] = []
    columns: list[str] = []
    shown = 0
    for number, index in enumerate(order):
        values = {name: _cell(row, index) for rows in by_kind.values() for name, row in rows}
        header = _header(table, index)
        printed = table.has_paper and table.headers[index][1].everything
        papers = {name: _printed(row, index) for rows in by_kind.values() for name, row in rows} if printed else {}
        needed = sum(
            2 + max(map(len, [*h.split("\n"), *v.values()])) for h, v in ((header, values), (PRINTED, papers)) if v
        )
        if number and needed > room:
            break
        room -= needed
        shown += 1
        columns.append(header)
        texts.append(values)
        if printed:
            columns.append(PRINTED)
            texts.append(papers)
    block = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
    block.add_column("  feature set", overflow="fold")
    for header in columns:
        block.add_column(header, justify="right", no_wrap=True)
    if several:
        block.add_column("group")
    for kind, rows in by_kind.items():
        if kind not in (Kind.features, Kind.chance):
            block.add_row(Text(kind.value, style="italic"), *[""] * (len(columns) + several))
        for name, _ in rows:
            best = kind is Kind.features and name == rows[0][0] and len(rows) > 1
            cells = [f"{BEST if best else ' '} {name}", *(values[name] for values in texts)]
            block.add_row(
                *(Text(cell, style=_style(kind, best=best)) for cell in cells),
                *([f"  {letters.get(name, '')}"] if several else []),
            )
    return ["", _title(table), "", block, "", *_sentences(table, by_kind, several=several, left_out=len(order) - shown)]


def _style(kind: Kind, *, best: bool) -> str:
    if best:
        return "bold green"
    return "" if kind is Kind.features else "dim"


def _title(table: DatasetTable) -> str:
    """Return which cells were measured how: ``yeast-sim, 2,563 cells, 17 classes: balanced accuracy in % (loo-knn, k = 11)``."""
    facts, declaration = table.shown[0].dataset, table.declaration
    column = declaration.columns[table.strictest % len(declaration.columns)]
    limited = f", a stratified subset (--limit {facts.limit})" if facts.limit else ""
    classes = f", {len(facts.classes)} classes" if facts.classes else ""
    result = next((r for r in table.shown if column.metric in r.metrics), table.shown[0])
    percent = " in %" if printed_form(declaration, result, column.metric).unit == "percent" else ""
    header = f", {column.header}" if len(declaration.columns) == 1 and column.params else ""
    metric = column.metric.replace("_", " ")
    rows = "profiles" if any(r.features.name == "profiles" for r in table.shown) else "cells"
    return (
        f"{table.dataset}, {facts.n_cells:,} {rows}{limited}{classes}: {metric}{percent} ({column.evaluator}{header})"
    )


def _header(table: DatasetTable, index: int) -> str:
    header, candidates = table.headers[index]
    if table.declaration.one_exclusion_each or len({c for _, c in table.headers}) == 1:
        words = [header]
    elif len(table.declaration.columns) == 1:
        words = candidates.words.split(", ")
    else:
        words = [header, *([] if candidates.everything else candidates.words.split(", "))]
    return ",\n".join(words)


def _cell(entries: object, index: int) -> str:
    assert isinstance(entries, list)
    return "–" if entries[index] is None else entries[index].text()


def _printed(entries: object, index: int) -> str:
    assert isinstance(entries, list)
    return "" if entries[index] is None else entries[index].printed_text()


def _control_ahead(table: DatasetTable, by_kind: Mapping[Kind, Sequence[Row]]) -> str:
    """Return that a control is as good as the best feature set of the strictest column, or ""."""
    best: dict[Kind, tuple[str, float]] = {}
    for kind in (Kind.features, Kind.control):
        for name, entries in by_kind.get(kind, []):
            entry = None if isinstance(entries, str) else entries[table.strictest]
            if entry is not None and kind not in best:
                best[kind] = name, entry.value
    if len(best) < 2:
        return ""
    (name, value), (control, of_control) = best[Kind.features], best[Kind.control]
    if (value > of_control) if table.higher_is_better else (value < of_control):
        return ""
    return f"No feature set is ahead of the control {control}, not even {name}: something as simple tells these classes apart as well."


def _sentences(
    table: DatasetTable, by_kind: Mapping[Kind, Sequence[Row]], *, several: bool, left_out: int
) -> list[str]:
    """Return what a reader of the answer must know."""
    sentences = []
    entries = [
        e for rows in by_kind.values() for _, row in rows if not isinstance(row, str) for e in row if e is not None
    ]
    brackets = "Brackets: 95 % intervals." if any(e.interval for e in entries) else ""
    spread = " ±: SD over seeds." if any(e.sd is not None for e in entries) else ""
    best = f"{BEST} The best that needs no labels." if len(by_kind.get(Kind.features, [])) > 1 else ""
    apart = " Sharing a letter: not to be told apart." if several else ""
    sentences.append(f"{best}{apart} {brackets}{spread}".strip())
    if not table.higher_is_better:
        sentences.append("Less is better.")
    sentences.append(_control_ahead(table, by_kind))
    candidates = table.headers[table.strictest][1]
    if not candidates.everything:
        sentences.append(
            f"Believe the first column: there no cell is compared with cells of its own {candidates.column}, so that what they "
            "share for other reasons than their class does not help."
        )
    if table.declaration.printed and not table.has_paper:
        sentences.append(NO_REPRODUCTION)
    if left_out > 0:
        sentences.append(f"{left_out} more column{' stands' if left_out == 1 else 's stand'} in the files.")
    return [s for s in sentences if s]
