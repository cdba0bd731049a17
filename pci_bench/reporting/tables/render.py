"""Filled tables as text: Markdown, CSV, LaTeX, and for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pci_bench.errors import UserError
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables.published import CSV_COLUMNS
from pci_bench.reporting.tables.table import Format
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from pci_bench.reporting.tables.fill import DatasetTable

PRINTED = "paper (Δ)"  # the header over printed values


def render(table: DatasetTable, form: Format) -> str:
    """Return the table as Markdown, CSV (one column per number, low and high or SD beside it) or LaTeX."""
    import pandas as pd

    if form == "csv":
        records = []
        for name, entries in table.rows:
            record: dict[str, Any] = {"feature set": name}
            if isinstance(entries, str):
                record["not run"] = entries
            else:
                for text, e in zip(table.header_texts(), entries, strict=True):
                    record[text] = None if e is None else round(e.value, 4)
                    if e is not None and e.interval is not None:
                        record[f"{text} low"], record[f"{text} high"] = (round(v, 4) for v in e.interval)
                    if e is not None and e.sd is not None:
                        record[f"{text} SD"] = round(e.sd, 4)
                    if e is not None and e.paper is not None:
                        record[f"{text} paper"] = e.paper
                        record[f"{text} ours minus paper"] = round(e.value - e.paper, 4)
            records.append(record)
        records += [record for numbers in table.published for record in numbers.records()]
        frame = pd.DataFrame(records)
        for column in ("not run", *CSV_COLUMNS):
            if column in frame:
                frame[column] = frame.pop(column)
        return csv_table(frame)
    header, body = _cells(table)
    notes = [*(f"({number}) Not run: {reason}." for reason, number in _numbered_reasons(table).items()), *table.notes]
    if form == "md":
        listed = "".join(f"\n- {markdown(note)}" for note in notes)
        ours = f"## {markdown(table.title)}\n\n{markdown_table(header, body)}\n{listed}\n"
        return "\n".join([ours, *(numbers.markdown() for numbers in table.published)])
    if form == "tex":
        ours = latex_table(header, body, f"{table.title}. {' '.join(notes)}")
        return "\n".join([ours, *(numbers.latex() for numbers in table.published)])
    raise UserError(f"There is no table format '{form}'. Use md, csv or tex.")


def terminal(tables: Sequence[DatasetTable], width: int) -> list[RichTable | str]:
    """Return tables, and what must be said about them, for a terminal of `width` columns.

    A table of many columns becomes one block for each exclusion, with intervals on a second line; where even that is too
    wide, the intervals are left to the files, and where numbers alone are too wide, columns go on in a block below. Reasons
    and notes that tables share are said once, at the end.
    """
    from rich import box
    from rich.table import Table

    renderables: list[RichTable | str] = []
    for table in tables:
        many = len(table.declaration.columns) > 2
        header, body = _cells(table, separator="\n" if many else " ")
        excludes = list(dict.fromkeys(x for _, x in table.headers))
        renderables.append(table.title)
        for exclude in excludes if many else [None]:
            picked = [i for i in range(1, len(header)) if exclude is None or _belongs(table, header, i, exclude)]
            texts = [h.partition(",")[0] if many else h.replace(", ", ",\n") for h in header]
            wide = [_width([texts[i], *(line[i] for line in body)]) for i in range(len(header))]
            narrow = many and width < wide[0] + sum(wide[i] + 2 for i in picked)
            if narrow:
                wide = [_width([texts[i], *(line[i].partition("\n")[0] for line in body)]) for i in range(len(header))]
            if exclude is not None and len(excludes) > 1:
                renderables.append(_references(exclude))
            for columns in _side_by_side(picked, header, wide, width - min(wide[0], width // 2)):
                block = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
                block.add_column(header[0], overflow="fold")  # a name is never cut
                for column in columns:
                    block.add_column(texts[column], justify="right", no_wrap=True)
                for (name, *cells), (_, entries) in zip(body, table.rows, strict=True):
                    chosen = [cells[i - 1] for i in columns]
                    if isinstance(entries, str):
                        chosen = ["not run", *[""] * (len(columns) - 1)]
                    block.add_row(name, *(c.partition("\n")[0] if narrow else c for c in chosen))
                renderables += ["", block, ""]
    for title, numbers in {p.title: p for table in tables for p in table.published}.items():
        block = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
        for heading in numbers.header():
            block.add_column(heading, overflow="fold")
        for line in numbers.cells():
            block.add_row(*line)
        renderables += [title, "", block, "", *numbers.notes]
    without: dict[str, list[str]] = {}
    for table in tables:
        for name, entries in table.rows:
            if isinstance(entries, str) and name not in without.setdefault(entries, []):
                without[entries].append(name)
    renderables += [f"Not run: {', '.join(names)}: {reason}." for reason, names in without.items()]
    return [*renderables, *dict.fromkeys(note for table in tables for note in table.notes)]


def _numbered_reasons(table: DatasetTable) -> dict[str, int]:
    """Return the different reasons for rows without numbers, numbered from 1 in the order of the rows."""
    reasons = dict.fromkeys(entries for _, entries in table.rows if isinstance(entries, str))
    return {reason: number for number, reason in enumerate(reasons, 1)}


def _cells(table: DatasetTable, *, separator: str = " ") -> tuple[list[str], list[list[str]]]:
    """Return header and body as text; a row without numbers refers to its reason by number."""
    header = ["feature set"]
    printed = table.printed or [False] * len(table.headers)
    for text, has_printed in zip(table.header_texts(), printed, strict=True):
        header.append(text)
        if has_printed:
            header.append(PRINTED)
    reasons = _numbered_reasons(table)
    body = []
    for name, entries in table.rows:
        if isinstance(entries, str):
            body.append([name, f"not run ({reasons[entries]})", *[""] * (len(header) - 2)])
            continue
        line = [name]
        for e, has_printed in zip(entries, printed, strict=True):
            line.append("–" if e is None else e.text(separator))
            if has_printed:
                line.append("" if e is None else e.printed_text(separator))
        body.append(line)
    return header, body


def _width(texts: Sequence[str]) -> int:
    """Return the columns that the longest line of some texts takes."""
    return max(len(line) for text in texts for line in text.split("\n"))


def _side_by_side(columns: list[int], header: list[str], wide: list[int], room: int) -> list[list[int]]:
    """Return columns in groups that each fit into the room; a printed value stays with the column before it."""
    groups: list[list[int]] = []
    used = 0
    for column in columns:
        if header[column] == PRINTED and groups:
            groups[-1].append(column)
            continue
        pair = column + 1 < len(header) and header[column + 1] == PRINTED
        needed = wide[column] + 2 + (wide[column + 1] + 2 if pair else 0)
        if not groups or used + needed > room:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += needed
    return groups


def _references(exclude: Candidates) -> str:
    """Return which cells a cell is compared with: as neighbours, or in training."""
    return f"Compared with {exclude.words if exclude.everything else f'cells of {exclude.words}'}"


def _belongs(table: DatasetTable, headers: list[str], index: int, exclude: Candidates) -> bool:
    """Return whether a rendered column is of an exclusion; a printed value belongs to the column before it."""
    text = headers[index - 1] if headers[index] == PRINTED else headers[index]
    return any(t == text and x == exclude for t, (_, x) in zip(table.header_texts(), table.headers, strict=True))
