"""Declarations of tables: rows, columns and printed values as TOML, or a function that makes a table of its own shape."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pydantic

from pci_bench.api.registry import Origin, Registry, origin_of
from pci_bench.data.cells import PART
from pci_bench.errors import UserError
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables.fill import fill, has_params
from pci_bench.reporting.tables.table import FilledTable, Format, NotRun, PageTable, Table
from pci_bench.reporting.tables.written import WrittenTable
from pci_bench.runs.results import PaperRecord, Result
from pci_bench.system.foreign import first_fault, toml_value

Texts = Iterator[tuple[str, dict[Format, str]] | tuple[str, dict[Format, str], list[PageTable]]]


class Column(pydantic.BaseModel):
    """A header and what stands under it: a metric of an evaluator's result with these parameters.

    Evaluator and metric are the table's where a column names none. With `each`, the name of a parameter, it is a column for
    every value of it that was evaluated, and ``{}`` in the header stands for the value.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    header: str
    each: str = ""
    params: dict[str, Any] = {}
    evaluator: str = ""
    metric: str = ""


class TableDeclaration(Table, pydantic.BaseModel):
    """One table, of the paper or of any labelled dataset, as its TOML declares it.

    ``rows = "run"`` stands for every feature set that was run, ranked by the strictest column, and for no other; then the table
    has no column without a number. Where it names neither `unit` nor `decimals`, numbers are printed as the results' evaluators declare (:class:`pci_bench.Metric`).
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    title: str
    source: str = ""
    benchmark: str
    dataset: str = ""
    evaluator: str
    metric: str
    columns: list[Column]
    rows: list[str] | Literal["run"]
    notes: list[str] = []
    printed: dict[str, list[float | Literal["none"]]] = {}
    printed_params: dict[str, Any] = {}  # of the paper, beyond those of the columns
    unit: Literal["percent", "number"] | None = None
    decimals: int | None = None

    @pydantic.model_validator(mode="after")
    def _complete_columns(self) -> TableDeclaration:
        for column in self.columns:
            column.evaluator = column.evaluator or self.evaluator
            column.metric = column.metric or self.metric
        return self

    @property
    def is_ranked(self) -> bool:
        """Whether the rows are what was run, ranked."""
        return self.rows == "run"

    @property
    def evaluators(self) -> set[str]:
        """The evaluators whose results stand in the columns."""
        return {c.evaluator for c in self.columns}

    @property
    def one_exclusion_each(self) -> bool:
        """Whether every column names its own exclusion, and so stands once."""
        return all("exclude" in c.params for c in self.columns)

    def description(self) -> list[tuple[str, ...]]:
        """Return what the TOML declares, printed values too."""
        named = [("source", self.source), ("printed on", self.dataset)]
        return [
            ("title", self.title),
            *[(what, value) for what, value in named if value],
            ("filled by", f"pci-bench run {self.benchmark}"),
            ("rows", "every feature set that is run, ranked" if self.is_ranked else ", ".join(self.rows)),
            (
                "columns",
                ", ".join(f"{c.header.format('…')} for each" if c.each else c.header for c in self.columns),
            ),
            *[
                (f"printed {n}", ", ".join("none" if v == "none" else f"{v:.2f}" for v in values))
                for n, values in self.printed.items()
            ],
        ]

    def filled(self, results: Sequence[Result], not_run: NotRun) -> Iterator[FilledTable]:
        """Yield a table for every dataset of the results."""
        for dataset in dict.fromkeys(r.dataset.name for r in results):
            yield fill(self, results, not_run.get(dataset, {}), dataset)


@dataclass(frozen=True)
class LongTable(Table):
    """A table whose rows follow from the results, such as clusters and the terms found in each.

    Parameters
    ----------
    name, title, source
        As of a declared table; `source` says where the paper prints it.
    benchmark
        Whose results fill it.
    evaluator
        Whose results it shows.
    function
        Gives, of results on any datasets, a file stem and the text by format of every table that they make; after them, where
        a report's page is to show something else than the CSV, that.
    rows, columns
        What they are, for ``describe``.
    several_datasets
        Whether it needs results on two datasets or more.
    postprocessed
        Whether it is also given results of features that were post-processed.
    """

    name: str
    title: str
    source: str
    benchmark: str
    evaluator: str
    function: Callable[[Sequence[Result]], Texts]
    rows: str
    columns: tuple[str, ...]
    several_datasets: bool = False
    postprocessed: bool = False

    def description(self) -> list[tuple[str, ...]]:
        """Return what was given to :func:`register_table`."""
        several = ", with two datasets or more" if self.several_datasets else ""
        return [
            ("title", self.title),
            ("source", self.source),
            ("filled by", f"pci-bench run {self.benchmark}{several}"),
            ("rows", self.rows),
            ("columns", ", ".join(self.columns)),
        ]

    def filled(self, results: Sequence[Result], not_run: NotRun) -> Iterator[FilledTable]:
        """Yield every table that the function makes of the evaluator's results, or of all where it names none."""
        used = [r for r in results if self.evaluator in ("", r.evaluator.name)]
        used = [r for r in used if self.postprocessed or "postprocess" not in r.evaluator.params]
        with TABLES.code(self.name, f"on {len(results)} results", [self.name]):
            for made in self.function(used):
                yield WrittenTable(self.title, *made)


def register_tables(file: Path) -> None:
    """Register the table that a TOML file declares under the file's name.

    Raises
    ------
    UserError
        Where the file is not TOML or the declaration is incomplete.
    """
    name = file.name.removesuffix(".toml")
    try:
        declaration = TableDeclaration(name=name, **toml_value(file.read_text(encoding="utf-8")))
    except pydantic.ValidationError as error:
        raise UserError(f"The table '{name}' in {file} is incomplete: {first_fault(error)}.") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{file} cannot be read as the declaration of a table: {error}.") from error
    TABLES.register(name, declaration, origin=Origin(str(file), 1))


TABLES: Registry[Table] = Registry("table", declared_in="tables", declare=register_tables)

for _file in sorted(files("pci_bench_tables").iterdir(), key=lambda f: f.name):
    if _file.name.endswith(".toml"):
        register_tables(Path(str(_file)))


def register_table(
    name: str,
    *,
    title: str,
    benchmark: str,
    evaluator: str,
    rows: str,
    columns: Sequence[str],
    source: str = "",
    several_datasets: bool = False,
    postprocessed: bool = False,
) -> Callable[[Callable[[Sequence[Result]], Texts]], Callable[[Sequence[Result]], Texts]]:
    """Return a decorator for a function that makes tables of its own shape (:class:`LongTable`).

    A run writes their texts to files, ``pci-bench table`` prints them, and a report's page shows the CSV.

    Examples
    --------
    >>> @register_table(
    ...     "smallest", title="The smallest", benchmark="mine", evaluator="my-evaluator", rows="cells", columns=["cell"]
    ... )
    ... def smallest(results):
    ...     yield "smallest", {"csv": "cell," + ",".join(result.features.name for result in results)}
    """

    def register(function: Callable[[Sequence[Result]], Texts]) -> Callable[[Sequence[Result]], Texts]:
        table = LongTable(
            name, title, source, benchmark, evaluator, function, rows, tuple(columns), several_datasets, postprocessed
        )
        TABLES.register(name, table, origin=origin_of(function))
        return function

    return register


def declared_tables() -> list[TableDeclaration]:
    """Return the tables that TOML files declare, in the order of their names."""
    return [table for name in TABLES if isinstance(table := TABLES.get(name), TableDeclaration)]


@cache
def _printed() -> dict[tuple[str, str, str], list[tuple[Column, float, str]]]:
    """Return every printed number by (dataset, evaluator, full feature name): its column and its source."""
    by_features: dict[tuple[str, str, str], list[tuple[Column, float, str]]] = {}
    for table in declared_tables():
        for features, values in table.printed.items():
            for column, value in zip(table.columns, values, strict=True):
                if value == "none":
                    continue
                key = (table.dataset, column.evaluator, features)
                papers = column.model_copy(update={"params": table.printed_params | column.params})
                by_features.setdefault(key, []).append((papers, value, table.source))
    return by_features


def is_of_column(result: Result, params: Mapping[str, Any]) -> bool:
    """Return whether a result is of all cells, and with the parameters of a printed column.

    An exclusion other than the cell itself is not the paper's where the column names none.
    """
    return (
        result.dataset.limit is None
        and has_params(result.evaluator.params, params)
        and ("exclude" in params or Candidates.of(result).everything)
    )


def printed_value(result: Result) -> PaperRecord | None:
    """Return the number that the paper prints for exactly this: dataset, features, published weights, parameters; or None.

    A limited dataset is not the paper's, nor one of which a part was fetched (:func:`is_of_column`).
    """
    if result.dataset.version.endswith(PART):
        return None
    key = (result.dataset.name, result.evaluator.name, result.features.full_name)
    matching = [
        (column.metric, value, source)
        for column, value, source in _printed().get(key, [])
        if is_of_column(result, column.params)
    ]
    if not matching:
        return None
    metrics: dict[str, float] = {}
    for metric, value, _ in matching:
        metrics.setdefault(metric, value)  # the first table wins where the paper contradicts itself
    return PaperRecord(value=matching[0][1], table=matching[0][2], metrics=metrics)
