"""A gallery of cells and their nearest neighbours, as an evaluator stored them beside its results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pci_bench.data.examples import NEIGHBOURS
from pci_bench.data.observations import obs_strings
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.classes import featured
from pci_bench.reporting.html.words import exclusion
from pci_bench.runs.results import Result
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.cells import Cells

FEATURE_SETS = 3
MAX_NAMED = 4  # of those without
USUAL = "loo-knn"  # whose neighbours are missed where no result has any


@dataclass(frozen=True)
class Query:
    """A cell, what was predicted for it, and its nearest neighbours, nearest first."""

    cell: str
    label: str
    predicted: str
    neighbours: list[tuple[str, str]]  # (cell, label)

    @property
    def names(self) -> list[str]:
        """The names of all its cells."""
        return [self.cell, *(name for name, _ in self.neighbours)]


@dataclass(frozen=True)
class Gallery:
    """The queries of one result."""

    result: Result
    queries: list[Query]


@dataclass
class Galleries:
    """Galleries, and sentences about what has none."""

    galleries: list[Gallery] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of all cells shown, one query of every gallery after the other."""
        longest = max((len(g.queries) for g in self.galleries), default=0)
        return [
            name
            for turn in range(longest)
            for g in self.galleries
            if turn < len(g.queries)
            for name in g.queries[turn].names
        ]


def galleries(results: Sequence[Result], cells: Cells | str) -> Galleries:
    """Return the galleries of the first feature sets whose kNN results have neighbours stored beside them.

    Parameters
    ----------
    results
        Of one dataset.
    cells
        Its cells, or a sentence why they cannot be shown.
    """
    storing = list(dict.fromkeys(r.evaluator.name for r in results if NEIGHBOURS in r.tables)) or [USUAL]
    knn_results = [r for r in featured(results) if r.evaluator.name in storing and not Candidates.of(r).balanced]
    if not knn_results:
        return Galleries(
            reasons=[f"There are no results of {USUAL} in this folder, so there are no neighbours to show."]
        )
    if isinstance(cells, str):
        return Galleries(reasons=[cells])
    stored = [r for r in knn_results if NEIGHBOURS in r.tables]
    first = list(dict.fromkeys(r.features.full_name for r in stored))[:FEATURE_SETS]
    collected = Galleries()
    for name in first:
        of_this = [r for r in stored if r.features.full_name == name]
        collected.galleries += [Gallery(r, _queries(r.tables[NEIGHBOURS])) for r in of_this]
    if without := list(dict.fromkeys(r.features.full_name for r in knn_results if NEIGHBOURS not in r.tables)):
        named = (
            without
            if len(without) <= MAX_NAMED
            else [*without[: MAX_NAMED - 1], f"{len(without) - MAX_NAMED + 1} more"]
        )
        collected.reasons.append(
            f"No neighbours are stored beside results of {enumerated(storing)} on {enumerated(named)}: the results are older than this table, or "
            "its file is missing. Run the benchmark again to write it."
        )
    return collected


def _queries(table: pd.DataFrame) -> list[Query]:
    """Return the queries of a table of neighbours, which lie nearest first beneath each other."""
    columns = (obs_strings(table, c) for c in ("cell", "label", "predicted", "neighbour", "neighbour_label"))
    queries: dict[str, Query] = {}
    for cell, label, predicted, neighbour, neighbour_label in zip(*columns, strict=True):
        query = queries.setdefault(cell, Query(cell, label, predicted, []))
        query.neighbours.append((neighbour, neighbour_label))
    return list(queries.values())


def longest(queries: Sequence[Query]) -> int:
    """Return the largest number of neighbours that a query has."""
    return max((len(query.neighbours) for query in queries), default=0)


def gallery_views(collected: Galleries, dataset: int, shown_cells: Shown) -> list[dict[str, Any]]:
    """Return the galleries for the page; queries of which a cell has no crop are left out."""
    views = []
    for gallery in collected.galleries:
        visible = [q for q in gallery.queries if all(shown_cells.has_tile(dataset, n) for n in q.names)]
        views.append(
            {
                "title": f"{gallery.result.features.full_name}, {exclusion(gallery.result)}",
                "k": gallery.result.evaluator.params.get("k", longest(gallery.queries)),
                "queries": [
                    {
                        "cell": shown_cells.index(dataset, q.cell, q.label),
                        "label": q.label,
                        "predicted": q.predicted,
                        "neighbours": [shown_cells.index(dataset, name, label) for name, label in q.neighbours],
                    }
                    for q in visible
                ],
            }
        )
    return views
