"""What all kinds of tables have in common: a table is described, and filled from results; a filled one is written and shown."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pci_bench.runs.results import Result

if TYPE_CHECKING:
    from pci_bench.reporting.tables.fill import DatasetTable

Format = Literal["md", "csv", "tex"]
NotRun = Mapping[str, Mapping[str, str]]  # by dataset, and by feature set: the reason why it was not run

_NUMBER = re.compile(r"([-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)(/\d+| of \d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class Cell:
    """One cell of a page's table: what is read, the number it sorts by (None sorts as text), and how many columns it fills."""

    text: str
    value: float | None = None
    columns: int = 1

    @classmethod
    def of(cls, text: str) -> Cell:
        """Return the cell of a text; a number, also one out of others (``30/40``, ``1 of 5``), is what it sorts by.

        Of a number of many digits, four are read.

        Examples
        --------
        >>> Cell.of("0.000123456"), Cell.of("30/40").value, Cell.of("ER").value
        (Cell(text='0.0001235', value=0.000123456, columns=1), 30.0, None)
        """
        number = _NUMBER.fullmatch(text)
        if number is None or not math.isfinite(value := float(number[1])):
            return cls(text)
        digits = re.sub(r"e.*|\D", "", number[1], flags=re.IGNORECASE).lstrip("0")
        long = number[2] is None and len(digits) > 4 and not value.is_integer()
        return cls(f"{value:.4g}" if long else text, value)


@dataclass(frozen=True)
class PageTable:
    """A table that sorts and filters on a report's page; without columns it is its notes alone."""

    title: str
    columns: list[str]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    def is_numeric(self, column: int) -> bool:
        """Return whether a column holds a number in any row."""
        return any(row[column].value is not None for row in self.rows if column < len(row))


class Table(ABC):
    """A kind of table: what results fill it, and how.

    Attributes
    ----------
    name, title
        What it is called by commands, and on paper.
    source
        Where the paper prints it.
    benchmark, evaluator
        Whose results fill it.
    several_datasets
        Whether it needs results on two datasets or more.
    """

    name: str
    title: str
    source: str
    benchmark: str
    evaluator: str
    several_datasets = False

    @abstractmethod
    def description(self) -> list[tuple[str, ...]]:
        """Return rows of (what, value) for ``pci-bench describe``."""

    @abstractmethod
    def filled(self, results: Sequence[Result], not_run: NotRun) -> Iterator[FilledTable]:
        """Yield every table that some results make.

        Parameters
        ----------
        results
            Of any evaluators, on any datasets.
        not_run
            By dataset, reasons by feature set for what was asked for and could not be had.

        Raises
        ------
        PluginError
            Where the code of a plug-in fails; what was yielded before is whole.
        """


class FilledTable(ABC):
    """A table filled from results, ready to be written and shown."""

    @property
    @abstractmethod
    def forms(self) -> Sequence[Format]:
        """The formats that it is written in."""

    @abstractmethod
    def text(self, form: Format) -> str:
        """Return the table in a format.

        Raises
        ------
        UserError
            Where it has no such format.
        """

    @abstractmethod
    def file_name(self, *, several: bool) -> str:
        """Return the name of its files, without their ending; where a run has several datasets, it may hold the dataset's."""

    @abstractmethod
    def page_tables(self) -> list[PageTable]:
        """Return what a report's page shows of it."""

    def by_feature_set(self) -> list[DatasetTable]:
        """Return the table if its rows are feature sets, which a terminal prints and which say why one was not run."""
        return []
