"""The page of two feature sets: which cells only one gets right, class by class, with crops and the neighbours that decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.data.cells import Cells
from pci_bench.data.pictures import channels_sentence
from pci_bench.reporting.html.cells import LARGEST_SAMPLE, Shown, Sprite, opened, sprite
from pci_bench.reporting.html.rendering import rendered_page
from pci_bench.reporting.html.words import exclusion
from pci_bench.reporting.tables.table import Cell, PageTable
from pci_bench.runs.disagreement import OUTCOMES, Disagreement, neighbours, settings
from pci_bench.system.files import atomic_file, check_replaceable, escape
from pci_bench.system.text import csv_table, markdown_table

if TYPE_CHECKING:
    import pandas as pd

NEIGHBOURS_SHOWN = 6
Neighbours = Mapping[str, Sequence[tuple[str, str]]]


def write_disagreement(found: Disagreement, folder: Path) -> list[Path]:
    """Write a page, the table by class and the outcome of every cell into a folder, and return the files.

    Parameters
    ----------
    found
        Two results of the same cells.
    folder
        Where to; files are named by the feature sets and the evaluation.
    """
    names = [escape(r.features.full_name) for r in (found.a, found.b)]
    parameters = escape(settings(found.a).replace(", ", ","))
    stem = folder / f"{names[0]}-against-{names[1]},{parameters}"
    texts = {
        ".html": rendered_disagreement(found, opened(found.a)),
        ".classes.csv": csv_table(found.by_class()),
        ".cells.csv": csv_table(found.cells),
    }
    files = [stem.with_name(stem.name + ending) for ending in texts]
    for file in files:
        check_replaceable(file)
    for file, text in zip(files, texts.values(), strict=True):
        with atomic_file(file) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
    return files


def class_table(found: Disagreement) -> tuple[list[str], list[list[str]]]:
    """Return the columns and rows of the table by class as texts; the difference in percent with its interval."""
    columns = ["class", "cells", "both right", "only A", "only B", "neither", "A − B (%)"]
    rows = [
        [
            str(row["class"]),
            f"{row['cells']:,}",
            *(f"{row[outcome]:,}" for outcome in OUTCOMES),
            _difference(row),
        ]
        for row in found.by_class().to_dict("records")
    ]
    return columns, rows


def class_markdown(found: Disagreement) -> str:
    """Return the table by class as Markdown."""
    return markdown_table(*class_table(found))


def _difference(row: Mapping[Any, Any]) -> str:
    value, low, high = (100 * row[name] for name in ("difference", "low", "high"))
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def rendered_disagreement(found: Disagreement, cells: Cells | str) -> str:
    """Return the page; crops are shown where the cells are in the cache."""
    examples = found.examples()
    wanted = list(examples["cell"])
    lists: list[Neighbours] = []
    reasons: list[str] = []
    for result in (found.a, found.b):
        of_side, reason = neighbours(result, cells, wanted)
        lists.append(of_side)
        reasons.append(reason)
    shown_cells = Shown()
    image: Sprite | None = None
    if isinstance(cells, Cells):
        known = set(cells.obs["cell"].astype(str))
        tiles = [
            name
            for cell in wanted
            for name in (cell, *(n for of_side in lists for n, _ in of_side.get(cell, ())[:NEIGHBOURS_SHOWN]))
            if name in known
        ]
        shown_cells.give_tiles(0, tiles, LARGEST_SAMPLE)
        image = sprite(shown_cells, [cells])
    else:
        reasons.insert(0, cells)
    columns, rows = class_table(found)
    interval = found.a.details.get("interval", "")
    unit = "cells" if found.groups is None else f"{found.a.dataset.confounder or 'group'}s"
    notes = [
        "Both right, only A, only B, neither: numbers of cells. A − B: the share of the class's cells that A gets right minus that of B, with its 95 % interval "
        f"over {unit}, of the same cells; in the last row the mean over classes.",
        *([f"The results' own intervals: {interval}."] if interval else []),
    ]
    page_rows = [[Cell(row[0]), *(_number(text) for text in row[1:])] for row in rows]
    return rendered_page(
        "disagreement.html.j2",
        {},
        charts=False,
        name=f"{found.a.features.full_name} against {found.b.features.full_name}",
        a=found.a.features.full_name,
        b=found.b.features.full_name,
        dataset=found.a.dataset.name,
        settings=f"{settings(found.a)} ({exclusion(found.a)})",
        sentences=sentences(found),
        table=PageTable("Cells by class, and who gets them right", columns, page_rows, notes),
        sections=_sections(found, examples, lists, shown_cells, image),
        reasons=[*dict.fromkeys(filter(None, reasons))],
        crops=channels_sentence(cells) if isinstance(cells, Cells) else "",
        sprite=image,
    )


def sentences(found: Disagreement) -> list[str]:
    """Return what the table says, as sentences that follow from its numbers."""
    table = found.by_class().set_index("class")
    total = table.loc["all"].to_dict()
    a, b = found.a.features.full_name, found.b.features.full_name
    ahead = (
        "cannot be told apart"
        if total["low"] <= 0 <= total["high"]
        else f"{a if total['difference'] > 0 else b} is ahead"
    )
    said = [
        f"Of {total['cells']:,.0f} cells {a} alone gets {total['only A']:,.0f} right and {b} alone {total['only B']:,.0f}; over the classes "
        f"they differ by {_difference(total)} points: {ahead}."
    ]
    classes = table.drop(index="all")
    for name, letter, sure in ((a, "A", classes["low"] > 0), (b, "B", classes["high"] < 0)):
        if sure.any():
            said.append(f"{name} is ahead in {', '.join(classes.index[sure])}, where the interval leaves out 0.")
        alone = classes[f"only {letter}"].sort_values(ascending=False, kind="stable")
        if alone.iloc[0]:
            said.append(f"Most cells that only {name} gets right are {alone.index[0]}: {alone.iloc[0]:,}.")
    return said


def _number(text: str) -> Cell:
    return Cell(text, float(text.partition(" ")[0].replace(",", "")))


def _sections(
    found: Disagreement, examples: pd.DataFrame, lists: Sequence[Neighbours], shown_cells: Shown, image: Sprite | None
) -> list[dict[str, Any]]:
    """Return a section for every class that has an example, for the template."""
    names = (found.a.features.full_name, found.b.features.full_name)
    numbers = found.by_class().set_index("class")

    def tile(name: str, label: str) -> dict[str, Any] | None:
        if image is None or not shown_cells.has_tile(0, name):
            return None
        row, column = divmod(shown_cells.tiles[0, name], image.columns)
        return {"name": name, "label": label, "row": row, "column": column}

    def query(row: dict[Any, Any]) -> dict[str, Any]:
        cell, label = str(row["cell"]), str(row["label"])
        sides = []
        for letter, features, of_side in zip("AB", names, lists, strict=True):
            predicted = str(row[f"predicted_{letter.lower()}"])
            nearest = [tile(n, of) for n, of in of_side.get(cell, ())[:NEIGHBOURS_SHOWN]]
            sides.append(
                {
                    "letter": letter,
                    "features": features,
                    "predicted": predicted or "no neighbour",
                    "right": predicted == label,
                    "neighbours": [n for n in nearest if n is not None],
                }
            )
        return {"cell": tile(cell, label), "name": cell, "sides": sides}

    sections = []
    for label in dict.fromkeys(examples["label"]):
        of_class = examples[examples["label"] == label]
        groups = []
        for outcome, features in (("only A", names[0]), ("only B", names[1])):
            rows = of_class[of_class["outcome"] == outcome].to_dict("records")
            if rows:
                title = f"Only {outcome[-1]}, {features}, is right: {len(rows)} of {numbers.loc[label, outcome]:,}"
                groups.append({"title": title, "queries": [query(row) for row in rows]})
        n = numbers.loc[label, ["cells", *OUTCOMES]].astype(int).to_dict()
        counts = (
            f"{n['cells']:,} cells: both right {n['both']:,}, only A {n['only A']:,}, only B {n['only B']:,}, neither {n['neither']:,}. "
            "Cells are drawn by a fixed seed; neighbours stand nearest first."
        )
        sections.append({"label": label, "counts": counts, "groups": groups})
    return sections
