"""Numbers that others published of other feature sets on the same cells: a table of their own, below ours."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pydantic

from pci_bench.reporting.tables.table import Cell, PageTable
from pci_bench.system.foreign import toml_value
from pci_bench.system.text import latex_table, markdown, markdown_table

CSV_COLUMNS = ("published by", "published as", "published value", "published metric", "published on cells", "source")


class PublishedRow(pydantic.BaseModel):
    """One number of somebody else's: of what, how much in percent, on how many cells, by whom, and where it stands."""

    model_config = pydantic.ConfigDict(extra="forbid")

    title: str
    value: float
    cells: int
    by: str
    source: str


class PublishedNumbers(pydantic.BaseModel):
    """What others published of one evaluation of a dataset."""

    model_config = pydantic.ConfigDict(extra="forbid")

    title: str
    dataset: str
    evaluator: str
    params: dict[str, Any]
    metric: str
    notes: list[str] = []
    rows: list[PublishedRow]

    @property
    def setting(self) -> str:
        """The parameters, as they are read: ``k = 11``."""
        return ", ".join(f"{name} = {value}" for name, value in self.params.items())

    def header(self) -> list[str]:
        """Return the columns' names."""
        return ["feature set", f"{self.metric} in percent, {self.setting}", "cells", "published by"]

    def cells(self) -> list[list[str]]:
        """Return the rows as texts."""
        return [[row.title, f"{row.value:.2f}", f"{row.cells:,}", row.by] for row in self.rows]

    def markdown(self) -> str:
        """Return the table in Markdown, with a heading of its own."""
        listed = "".join(f"\n- {markdown(note)}" for note in self.notes)
        return f"### {markdown(self.title)}\n\n{markdown_table(self.header(), self.cells())}\n{listed}\n"

    def latex(self) -> str:
        """Return the table in LaTeX, a table of its own."""
        return latex_table(self.header(), self.cells(), f"{self.title}. {' '.join(self.notes)}")

    def records(self) -> list[dict[str, Any]]:
        """Return the rows for a CSV, in columns in which no number of ours stands."""
        metric = f"{self.metric} in percent, {self.evaluator}, {self.setting}"
        return [
            dict(zip(CSV_COLUMNS, (row.by, row.title, row.value, metric, str(row.cells), row.source), strict=True))
            for row in self.rows
        ]

    def page_table(self) -> PageTable:
        """Return the table of a report's page."""
        values = [(row.value, row.cells) for row in self.rows]
        rows = [
            [Cell(title), Cell(value, number), Cell(cells, count), Cell(by)]
            for (title, value, cells, by), (number, count) in zip(self.cells(), values, strict=True)
        ]
        return PageTable(self.title, self.header(), rows, self.notes)


@cache
def _all_published() -> list[PublishedNumbers]:
    folder = files("pci_bench_tables").joinpath("published")
    found = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    return [PublishedNumbers(**toml_value(file.read_text(encoding="utf-8"))) for file in found]


def published_on(dataset: str, columns: list[tuple[str, dict[str, Any]]]) -> list[PublishedNumbers]:
    """Return what others published for a table.

    Parameters
    ----------
    dataset
        The dataset that fills the table; what follows a colon, a variant of the same cells, does not count.
    columns
        Evaluator and parameters of each.

    Examples
    --------
    >>> [numbers.rows[-1].title for numbers in published_on("chong2015:drop", [("loo-knn", {"k": 11, "scale": "all"})])]
    ['Microsnoop']
    >>> published_on("yeast-sim", [("loo-knn", {"k": 11})]), published_on("chong2015", [("loo-knn", {"k": 5})])
    ([], [])
    """
    return [
        numbers
        for numbers in _all_published()
        if numbers.dataset == dataset.partition(":")[0]
        and any(
            evaluator == numbers.evaluator and numbers.params.items() <= params.items() for evaluator, params in columns
        )
    ]
