"""The answer of a run in one small table: feature sets ranked by the headline metric in the strictest column."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.features.names import controls
from pci_bench.reporting.candidates import Candidates, balanced_where_known
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.tables.fill import Entry
from pci_bench.runs.results import Result, headline, key_and_defaults, metric_of


@dataclass(frozen=True)
class RankedRow:
    """A feature set, whether it is a control, and its number in each column, or None."""

    features: str
    control: bool
    entries: tuple[Entry | None, ...]


@dataclass(frozen=True)
class Ranking:
    """One evaluator's headline metric on one dataset: a row for each feature set, best first in the last column."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[RankedRow, ...]

    def text(self) -> str:
        """Return the table as lines of plain text."""
        from tabulate import tabulate

        body = [
            [
                f"{row.features}{' (control)' if row.control else ''}",
                *("–" if e is None else e.text() for e in row.entries),
            ]
            for row in self.rows
        ]
        table = tabulate(body, ["feature set", *self.columns], tablefmt="simple", disable_numparse=True)
        return f"{self.title}\n{table}"

    def html(self) -> str:
        """Return the table for a notebook."""
        header = "".join(f"<th>{html.escape(text)}</th>" for text in ("feature set", *self.columns))
        body = "".join(
            f'<tr><td style="text-align: left">{html.escape(row.features)}{" <i>(control)</i>" if row.control else ""}</td>'
            + "".join(f"<td>{'–' if e is None else html.escape(e.text())}</td>" for e in row.entries)
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<table><caption style="text-align: left">{html.escape(self.title)}</caption>'
            f"<thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>"
        )


def rankings(results: Sequence[Result]) -> list[Ranking]:
    """Return a ranking for each dataset and evaluator, at the evaluator's headline number of neighbours.

    Unbalanced classes are left out where balanced ones were evaluated.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in balanced_where_known(results):
        groups.setdefault((result.dataset.name, result.evaluator.name), []).append(result)
    return [_ranking(group) for group in groups.values()]


def _ranking(results: Sequence[Result]) -> Ranking:
    k = headline_k(results)
    results = [r for r in results if r.evaluator.params.get("k") == k]
    metric, first = headline(results[0]), results[0]
    form = metric_of(first, metric)
    params = [r.telling_params(*key_and_defaults(r)) for r in results]
    shared = {name: value for name, value in params[0].items() if all(p.get(name) == value for p in params)}
    labels = [_column({n: v for n, v in p.items() if n not in shared}, r) for p, r in zip(params, results, strict=True)]
    strictness = {label: Candidates.of(r).strictness for label, r in zip(labels, results, strict=True)}
    columns = sorted(dict.fromkeys(labels), key=lambda label: strictness[label])
    numbers: dict[str, dict[str, Result]] = {}
    known = {r.features.full_name: r.features.name in controls() for r in results}
    for label, result in zip(labels, results, strict=True):
        if metric in result.metrics:
            numbers.setdefault(result.features.full_name, {})[label] = result

    def rank(name: str) -> tuple[bool, float]:
        result = numbers[name].get(columns[-1])
        if result is None:
            return True, 0.0
        return False, -result.metrics[metric] if form.higher_is_better else result.metrics[metric]

    rows = tuple(
        RankedRow(
            name,
            known[name],
            tuple(Entry.of(found, metric, form) if (found := numbers[name].get(c)) else None for c in columns),
        )
        for name in sorted(numbers, key=rank)
    )
    settings = "".join(f", {_words(name, value)}" for name, value in shared.items())
    unit = " (%)" if form.unit == "percent" else ""
    size = f"{first.dataset.n_cells:,} cells"
    return Ranking(
        f"{first.evaluator.name}{settings} on {first.dataset.name}, {size}: {metric.replace('_', ' ')}{unit}",
        tuple(c or metric.replace("_", " ") for c in columns),
        rows,
    )


def _column(params: dict[str, Any], result: Result) -> str:
    """Return what tells a column from the others, in words; what a cell is compared with first."""
    words = [_words(name, value) for name, value in params.items() if name not in ("exclude", "candidates")]
    if {"exclude", "candidates"} & set(params):
        words.insert(0, Candidates.of(result).words)
    return ", ".join(words)


def _words(name: str, value: Any) -> str:
    return f"{name} = {value}"
