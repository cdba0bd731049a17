"""Ours beside the printed numbers: the difference, whether it is within the tolerance, and what that makes of the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from pci_bench.reporting.tables.declaration import TableDeclaration, is_of_column
from pci_bench.reporting.tables.fill import printed_form
from pci_bench.reproduction.claims import Claim
from pci_bench.reproduction.items import Item
from pci_bench.runs.results import Result

AS_PRINTED, NOT_AS_PRINTED, CANNOT_BE_HAD = 0, 1, 2  # exit codes


class Verdict(StrEnum):
    """What came of an item."""

    as_printed = "as printed"
    claims_hold = "every claim holds"
    not_as_printed = "not as printed"
    cannot_be_had = "cannot be had"
    could_not_run = "could not be run"
    not_the_papers = "not a reproduction"
    ran = "ran; nothing to compare with is printed"


@dataclass(frozen=True)
class Number:
    """One number of ours beside the printed one, both in the table's unit."""

    table: str
    features: str
    column: str
    ours: float
    printed: float
    decimals: int = 2
    tolerance: float | None = None

    @property
    def difference(self) -> float:
        """Ours minus the printed one."""
        return self.ours - self.printed

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; None where none is set."""
        return None if self.tolerance is None else abs(self.difference) <= self.tolerance


@dataclass(frozen=True)
class Outcome:
    """What came of one item.

    Attributes
    ----------
    item
        Which.
    numbers, claims
        Ours beside what the paper prints and says.
    left_out
        By feature set, why it was not run.
    missing
        By dataset or weights, why they could not be had, so that nothing was run.
    wanting
        The same of all that is not here, also where the rest was run without it.
    failures
        By benchmark and dataset, why a run failed.
    variant
        What the cells are where they are not the paper's; "" where they are.
    counts
        How many cells each dataset has, beside what the paper counts, as sentences.
    sources
        By dataset or weights, where they came from.
    folders
        Where results, tables and reports were written.
    """

    item: Item
    numbers: list[Number] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    wanting: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    variant: str = ""
    counts: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    folders: list[Path] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What it comes to: where cells are not the paper's, nothing is a reproduction, whatever the numbers."""
        if self.missing:
            return Verdict.cannot_be_had
        judged = [n.within for n in self.numbers if n.within is not None] + [c.holds for c in self.claims]
        if self.failures and (self.variant or all(judged)):
            return Verdict.could_not_run
        if self.variant:
            return Verdict.not_the_papers
        if not judged:
            return Verdict.ran
        if not all(judged):
            return Verdict.not_as_printed
        return Verdict.as_printed if any(n.within for n in self.numbers) else Verdict.claims_hold

    @property
    def code(self) -> int:
        """The exit code: 0, 1 where a judged number or claim is not as printed, 2 where something cannot be had."""
        return {
            Verdict.not_as_printed: NOT_AS_PRINTED,
            Verdict.cannot_be_had: CANNOT_BE_HAD,
            Verdict.could_not_run: CANNOT_BE_HAD,
            Verdict.not_the_papers: CANNOT_BE_HAD,
        }.get(self.verdict, AS_PRINTED)


def code_of(outcomes: Sequence[Outcome]) -> int:
    """Return the exit code of several: 1 outranks 2, since a wrong number is news and a dead host is not.

    >>> code_of([])
    0
    """
    codes = {outcome.code for outcome in outcomes}
    return next((code for code in (NOT_AS_PRINTED, CANNOT_BE_HAD) if code in codes), AS_PRINTED)


def numbers_beside(
    results: Sequence[Result],
    table: TableDeclaration,
    *,
    judged: Sequence[str] = (),
    tolerance: float | None = None,
    variant: bool = False,
) -> Iterator[Number]:
    """Yield every number of a table whose result is there: the paper's, nothing else's.

    That is: of its dataset with all cells, its feature set and weights, its evaluator and parameters, and with no neighbours
    left out but the cell itself, unless the table says so.

    Parameters
    ----------
    results
        Any.
    table
        With printed values.
    judged, tolerance
        The feature sets whose numbers must be that near, in the table's unit.
    variant
        Whether the cells are another copy than the paper's, so that the dataset bears another name and nothing is judged.
    """
    for features, values in table.printed.items():
        for column, printed in zip(table.columns, values, strict=True):
            wanted = table.printed_params | column.params
            for r in results:
                if (
                    printed != "none"
                    and (variant or r.dataset.name == table.dataset)
                    and (r.features.full_name, r.evaluator.name) == (features, column.evaluator)
                    and is_of_column(r, wanted)
                ):
                    form = printed_form(table, r, column.metric)
                    yield Number(
                        table.name,
                        features,
                        column.header,
                        form.scale * r.metrics[column.metric],
                        printed,
                        max(2, form.printed_decimals),
                        tolerance if features in judged and not variant else None,
                    )
