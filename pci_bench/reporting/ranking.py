"""The answer of a run in one small table: feature sets ranked by the headline metric in the strictest column."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.tables.fill import Entry
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result, headline, key_and_defaults, metric_of

COMPARED = ("k", "exclude", "candidates")  # parameters that a ranking chooses, or has as its columns


@dataclass(frozen=True)
class RankedRow:
    """A feature set, why it does not compete (or ""), and its number in each column, or None."""

    features: str
    mark: str
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Ranking:
    """One evaluator's headline metric on one dataset: a row for each feature set, the best of the first and strictest column on top."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[RankedRow, ...]

    def text(self) -> str:
        """Return the table as lines of plain text."""
        from tabulate import tabulate

        body = [
            [
                f"{row.features}{f' ({row.mark})' if row.mark else ''}",
                *("–" if e is None else e.text() for e in row.entries),
            ]
            for row in self.rows
        ]
        table = tabulate(body, ["feature set", *self.columns], tablefmt="simple", disable_numparse=True)
        return f"{self.title}\n{table}"

    def html(self) -> str:
        """Return the table for a notebook."""
        header = "".join(f"<th>{html.escape(text)}</th>" for text in ("feature set", *self.columns))
        lines = []
        for row in self.rows:
            name = html.escape(row.features) + (f" <i>({html.escape(row.mark)})</i>" if row.mark else "")
            numbers = "".join(f"<td>{'–' if e is None else html.escape(e.text())}</td>" for e in row.entries)
            lines.append(f'<tr><td style="text-align: left">{name}</td>{numbers}</tr>')
        return (
            f'<table><caption style="text-align: left">{html.escape(self.title)}</caption>'
            f"<thead><tr>{header}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
        )


def rankings(results: Sequence[Result]) -> list[Ranking]:
    """Return a ranking for each dataset, evaluator and set of its parameters, at the evaluator's headline number of neighbours.

    Its columns are what cells are compared with, the strictest first; unbalanced classes are left out where balanced ones were evaluated.
    """
    by_evaluator: dict[tuple[str, str], list[Result]] = {}
    for result in balanced_where_known(results):
        by_evaluator.setdefault((result.dataset.name, result.evaluator.name), []).append(result)
    made = []
    for of_evaluator in by_evaluator.values():
        k = headline_k(of_evaluator)
        by_settings: dict[str, list[Result]] = {}
        for result in of_evaluator:
            if result.evaluator.params.get("k") == k:
                by_settings.setdefault(str(other_settings(result)), []).append(result)
        made += [_ranking(group) for group in by_settings.values()]
    return made


def other_settings(result: Result) -> dict[str, Any]:
    """Return the parameters of a result but for the number of neighbours and what cells are compared with."""
    return {name: value for name, value in result.evaluator.params.items() if name not in COMPARED}


def _ranking(results: Sequence[Result]) -> Ranking:
    first = results[0]
    metric, columns = headline(first), ladder_of(results)[::-1]
    form = metric_of(first, metric)
    found: dict[str, dict[Candidates, Result]] = {}
    for result in results:
        if metric in result.metrics:
            found.setdefault(result.features.full_name, {})[Candidates.of(result)] = result
    sign = -1 if form.higher_is_better else 1

    def rank(name: str) -> float:
        strictest = found[name].get(columns[0])
        return math.inf if strictest is None else sign * strictest.metrics[metric]

    rows = tuple(
        RankedRow(
            name,
            mark_of(name),
            tuple(Entry.of(found[name][c], metric, form) if c in found[name] else None for c in columns),
        )
        for name in sorted(found, key=rank)
    )
    telling = first.telling_params(*key_and_defaults(first))
    shown = {name: value for name, value in telling.items() if name not in ("exclude", "candidates")}
    settings = "".join(f", {name} = {value}" for name, value in shown.items())
    words, unit = metric.replace("_", " "), " (%)" if form.unit == "percent" else ""
    return Ranking(
        f"{first.evaluator.name}{settings}, on {first.dataset.name} ({first.dataset.n_cells:,} cells): {words}{unit}",
        tuple(c.words for c in columns) if "exclude" in first.evaluator.params else (words,),
        rows,
    )
