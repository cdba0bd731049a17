"""Whether screens agree on the distances between localization classes (Figure 3's text): Markdown, CSV and LaTeX."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from pci_bench.reporting.tables.declaration import Texts, register_table
from pci_bench.reporting.tables.table import Cell, Format, PageTable
from pci_bench.runs.results import Result
from pci_bench.runs.screens import PERMUTATIONS, Screens
from pci_bench.system.files import escape
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

NAME = "figure3-agreement"
HEADER = ["Screen", "Other screen", "Classes", "Rank correlation", "p"]


def printed_in_text() -> dict[str, dict[str, Any]]:
    """Return the numbers and claims of the paper's text: ``tables/text/printed.toml``."""
    return tomllib.loads(files("pci_bench_tables").joinpath("text", "printed.toml").read_text(encoding="utf-8"))


@register_table(
    NAME,
    title="Figure 3's text: agreement of screens on the distances between localization classes",
    source=printed_in_text()["near-classes"]["source"],
    benchmark="yeast-screens",
    evaluator="class-distances",
    rows="pairs of screens; then pairs of classes that the paper says are near each other",
    columns=HEADER,
    several_datasets=True,
)
def agreement_tables(results: Sequence[Result]) -> Texts:
    """Yield the file stem and the text, by format, of a table for each family of features on two screens or more.

    The networks of the screens are different ones, so a feature set's results belong together whatever its weights.
    """
    all_screens = Screens.of(results)
    for screens in all_screens:
        parts = [NAME]
        if len({s.features for s in all_screens}) > 1:
            parts.append(screens.features)
        if len({s.params for s in all_screens if s.features == screens.features}) > 1:
            parts.append(screens.params)
        yield escape("-".join(parts)), *rendered(screens)


def rendered(screens: Screens) -> tuple[dict[Format, str], list[PageTable]]:
    """Return the table of one feature set's results by screen, by format and as a page shows it.

    Beside it are the classes that the paper says are near each other.
    """
    import pandas as pd

    body = []
    for row in screens.agreement.to_dict("records"):
        numbers = ["–", "–"] if pd.isna(row["p"]) else [f"{row['correlation']:.2f}", f"{row['p']:.4f}"]
        body.append([row["one"], row["other"], str(row["classes"]), *numbers])
    claimed = printed_in_text()["near-classes"]
    near_header = ["Class", "Near", *screens.results]
    near_rows = []
    for name, partner in claimed["pairs"]:
        places = ("no such class" if p is None else f"{p[0]} of {p[1]}" for p in screens.nearness(name, partner))
        near_rows.append([name, partner, *places])
    place = (
        "the place of the class named second among all others, by distance from the first; 1 is the nearest. The "
        f"classes are those that the paper names ({claimed['source']})."
    )
    notes = [
        "Distances between the mean features of each screen's classes (proteins standardised over the screen), by Spearman's rank "
        f"correlation over the classes in common; p: the share of {PERMUTATIONS:,} orders of the classes with as large a one "
        "(Mantel). The paper says that the distances are consistent and prints no number: this measure is ours.",
        f"Second table: {place}",
        "Features: " + ", ".join(f"{r.features.full_name} on {name}" for name, r in screens.results.items()) + ".",
    ]
    title = (
        f"Agreement of {len(screens.results)} screens on the distances between localization classes, {screens.features}"
    )
    tables = [markdown_table(HEADER, body), markdown_table(near_header, near_rows)]
    listed = "".join(f"\n- {markdown(note)}" for note in notes)
    texts: dict[Format, str] = {
        "md": f"## {markdown(title)}\n\n" + "\n\n".join(tables) + f"\n{listed}\n",
        "csv": csv_table(screens.agreement),
        "tex": latex_table(HEADER, body, f"{title}. {notes[0]}") + "\n" + latex_table(near_header, near_rows, notes[1]),
    }
    near_title = f"Classes that the paper says are near each other, {screens.features}"
    return texts, [
        PageTable(title, HEADER, [[*map(Cell.of, row)] for row in body], [notes[0], notes[2]]),
        PageTable(near_title, near_header, [[*map(Cell.of, row)] for row in near_rows], [place[0].upper() + place[1:]]),
    ]
