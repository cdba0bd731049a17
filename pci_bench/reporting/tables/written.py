"""Long tables as the function of each wrote them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pci_bench.errors import UserError
from pci_bench.reporting.tables.table import Cell, FilledTable, Format, PageTable
from pci_bench.system.text import enumerated


@dataclass(frozen=True)
class WrittenTable(FilledTable):
    """A table of which there is the text in some formats.

    Parameters
    ----------
    title
        Of the table that it is one of.
    stem
        The name of its files.
    texts
        By format.
    page
        What a report's page shows; by default the CSV.
    """

    title: str
    stem: str
    texts: Mapping[Format, str]
    page: Sequence[PageTable] = ()

    @property
    def forms(self) -> Sequence[Format]:
        """The formats of the texts."""
        return list(self.texts)

    def text(self, form: Format) -> str:
        """Return the text in a format."""
        if form not in self.texts:
            raise UserError(
                f"The table '{self.stem}' has no format '{form}'. Ask for {enumerated(self.forms)} with --format."
            )
        return self.texts[form]

    def file_name(self, *, several: bool) -> str:
        """Return the stem, which the function chose for all that it made."""
        return self.stem

    def page_tables(self) -> list[PageTable]:
        """Return what the function gave for the page, or the rows of its CSV."""
        if self.page:
            return list(self.page)
        title = f"{self.title} ({self.stem})"
        header, *rows = [line for line in csv.reader(io.StringIO(self.texts.get("csv", ""))) if line] or [[]]
        if not header:
            note = f"Written to the folder tables as {self.stem}; this page shows tables that have a CSV with a header."
            return [PageTable(title, [], [], [note])]
        return [PageTable(title, header, [[Cell.of(text) for text in row] for row in rows])]
