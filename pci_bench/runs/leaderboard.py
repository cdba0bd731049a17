"""Ranking of feature sets over many sets of results, with groups that the data cannot separate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pci_bench.errors import UserError
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables.fill import CHANCE
from pci_bench.runs.paired import separable
from pci_bench.runs.results import Result, headline, metric_of, parameters
from pci_bench.system.text import csv_table, markdown_table
from pci_bench.system.text import markdown as in_markdown


@dataclass(frozen=True)
class Place:
    """One feature set's place: its rank, the letters of its groups, and its result."""

    rank: int
    group: str
    result: Result


@dataclass(frozen=True)
class Ranking:
    """One evaluation of many feature sets, best first."""

    dataset: str
    evaluator: str
    params: str
    metric: str
    places: list[Place]

    @property
    def title(self) -> str:
        """What is ranked, on what."""
        return f"{self.evaluator} ({self.params}) on {self.dataset}: {self.metric.replace('_', ' ')}"


def chosen(
    results: Sequence[Result],
    *,
    evaluators: Sequence[str] = (),
    exclude: Sequence[str] = (),
    k: Sequence[int] = (),
) -> list[Result]:
    """Return the results of some evaluators, exclusions and numbers of neighbours; of all where none are named.

    Raises
    ------
    UserError
        For a name or number that no result has.
    """

    def exclusion(result: Result) -> str:
        return str(result.evaluator.params.get("exclude", ""))

    for what, wanted, known in (
        ("evaluator", evaluators, {r.evaluator.name for r in results}),
        ("exclusion", exclude, {exclusion(r) for r in results}),
        ("number of neighbours", k, {r.evaluator.params.get("k") for r in results}),
    ):
        if absent := [value for value in wanted if value not in known]:
            listed = ", ".join(sorted(str(v) for v in known if v not in ("", None))) or "none"
            raise UserError(f"No result has the {what} {absent[0]}; these have {listed}.")
    return [
        r
        for r in results
        if (not evaluators or r.evaluator.name in evaluators)
        and (not exclude or exclusion(r) in exclude)
        and (not k or r.evaluator.params.get("k") in k)
    ]


def rankings(results: Sequence[Result], metric: str | None = None) -> list[Ranking]:
    """Return one ranking for every dataset, evaluator and parameters with at least two feature sets.

    Of one dataset and evaluator, the strictest comparison comes first. A group holds feature sets no two of which can be separated; a
    feature set can be of several. Where several result sets hold the same feature set, the newest counts.

    Parameters
    ----------
    results
        Of any datasets, evaluators and feature sets.
    metric
        What is ranked by; by default each evaluator's headline.

    Raises
    ------
    UserError
        Where results of one dataset are of different cells, which must not be ranked together, or nothing can be ranked.
    """
    tables: dict[tuple[str, str, str], dict[str, Result]] = {}
    for result in sorted(results, key=lambda r: str(r.run.get("started", ""))):
        params = parameters(result, separator=", ", by_name=True)
        table = tables.setdefault((result.dataset.name, result.evaluator.name, params), {})
        table[result.features.full_name] = result
    all_rankings = []
    for (dataset, evaluator, params), table in tables.items():
        if len(table) < 2:
            continue
        if len({r.dataset.sha256 for r in table.values()}) > 1:
            raise UserError(
                f"The results on {dataset} are of different cells (another version, --limit or seed), which cannot be ranked together. "
                "Name result sets of the same cells."
            )
        newest = list(table.values())[-1]
        name = metric or headline(newest)
        ranked = [r for r in table.values() if name in r.metrics]
        if metric and not ranked:
            continue
        sign = 1 if metric_of(newest, name).higher_is_better else -1
        placed = {r.features.full_name: (-sign * r.metrics[name], r) for r in ranked}
        ranked = [r for _, r in sorted(placed.values(), key=lambda pair: (pair[0], pair[1].features.full_name))]
        all_rankings.append(Ranking(dataset, evaluator, params, name, _places(ranked, name, sign)))
    if metric and not all_rankings:
        known = sorted({m for r in results for m in r.metrics})
        raise UserError(f"There is nothing to rank by '{metric}'. The results have {', '.join(known)}.")
    if not all_rankings:
        raise UserError("There is nothing to rank: no dataset and evaluator has results of two feature sets.")
    strictest_first = sorted(all_rankings, key=lambda r: Candidates.of(r.places[0].result).strictness, reverse=True)
    of = list(dict.fromkeys((r.dataset, r.evaluator) for r in all_rankings))
    return sorted(strictest_first, key=lambda r: of.index((r.dataset, r.evaluator)))


def letters(results: Sequence[Result], metric: str) -> dict[str, str]:
    """Return the letters of every feature set of one evaluation by its full name: those that share one cannot be told apart.

    Parameters
    ----------
    results
        One for every feature set, best first.
    metric
        What they are ranked by.
    """
    if not results:
        return {}
    sign = 1 if metric_of(results[0], metric).higher_is_better else -1
    return {place.result.features.full_name: place.group for place in _places(list(results), metric, sign)}


def _places(ranked: list[Result], metric: str, sign: int) -> list[Place]:
    pairs = list(combinations(range(len(ranked)), 2))
    alike = []
    for better, worse in pairs:
        pair = (ranked[better], ranked[worse]) if sign > 0 else (ranked[worse], ranked[better])
        if not separable(*pair, metric, comparisons=len(pairs)):
            alike.append((better, worse))
    groups = compact_letters(len(ranked), alike)
    return [Place(rank, group, r) for rank, (group, r) in enumerate(zip(groups, ranked, strict=True), 1)]


def compact_letters(count: int, alike: Iterable[tuple[int, int]]) -> list[str]:
    """Return the letters of each of some ranked things: two share a letter where they cannot be told apart, and else none.

    A letter is a largest group without any two that can be told apart (a maximal clique); groups overlap where the data are like
    that. The letters that are a compact display of all pairs are described by Piepho (2004), doi:10.1198/1061860043515.

    Parameters
    ----------
    count
        How many things there are.
    alike
        Pairs that cannot be told apart, by their ranks from 0 on.

    Examples
    --------
    >>> compact_letters(4, [(0, 1), (1, 2)])
    ['a', 'ab', 'b', 'c']
    """
    import networkx

    graph = networkx.Graph(alike)
    graph.add_nodes_from(range(count))
    groups = sorted(sorted(clique) for clique in networkx.find_cliques(graph))
    return ["".join(_letter(i) for i, group in enumerate(groups) if member in group) for member in range(count)]


def _letter(number: int) -> str:
    """Return a letter for a group: a, b and so on, after z aa, ab."""
    return (_letter(number // 26 - 1) if number >= 26 else "") + "abcdefghijklmnopqrstuvwxyz"[number % 26]


def rows(ranking: Ranking) -> list[dict[str, str]]:
    """Return the ranking as rows for a table; numbers are printed as in tables (``reporting.tables.decimals_and_scale``)."""
    metric = ranking.metric
    form = metric_of(ranking.places[0].result, metric)
    text = form.text

    table_rows = []
    for place in ranking.places:
        result = place.result
        interval, chance = result.intervals.get(metric), result.metrics.get(CHANCE + metric)
        table_rows.append(
            {
                "rank": str(place.rank),
                "feature set": result.features.full_name,
                metric.replace("_", " ") + (" (%)" if form.unit == "percent" else ""): text(result.metrics[metric]),
                "95 % interval": "" if interval is None else f"[{text(interval[0])}, {text(interval[1])}]",
                **({} if chance is None else {"chance": text(chance)}),
                "group": place.group,
            }
        )
    return table_rows


EXPLANATION = (
    "Feature sets that share a letter cannot be told apart, those without a common one can: by the interval of the paired difference, "
    "whose level is 1 − 0.05 / pairs of the ranking (Bonferroni), so that any two equally good sets of a ranking share no letter in at "
    "most 5 % of studies; where predictions are not kept, by disjoint 95 % intervals."
)


def markdown(all_rankings: Sequence[Ranking]) -> str:
    """Return the rankings as Markdown."""
    parts = [f"## {in_markdown(r.title)}\n\n{_table(rows(r))}\n" for r in all_rankings]
    return "\n".join([*parts, f"{EXPLANATION}\n"])


def json_rows(all_rankings: Sequence[Ranking]) -> list[dict[str, Any]]:
    """Return the rankings as one object for each place."""
    return [
        {
            "dataset": r.dataset,
            "evaluator": r.evaluator,
            "params": r.params,
            "metric": r.metric,
            "rank": place.rank,
            "group": place.group,
            "features": place.result.features.full_name,
            "value": place.result.metrics[r.metric],
            "interval": place.result.intervals.get(r.metric),
        }
        for r in all_rankings
        for place in r.places
    ]


def _table(listed: list[dict[str, str]]) -> str:
    return markdown_table(list(listed[0]), [list(row.values()) for row in listed])


def csv(all_rankings: Sequence[Ranking]) -> str:
    """Return the rankings as one CSV table."""
    import pandas as pd

    frames = [
        pd.DataFrame(
            {
                "dataset": r.dataset,
                "evaluator": r.evaluator,
                "params": r.params,
                "metric": r.metric,
                "rank": [p.rank for p in r.places],
                "group": [p.group for p in r.places],
                "features": [p.result.features.full_name for p in r.places],
                "value": [p.result.metrics[r.metric] for p in r.places],
                "low": [p.result.intervals.get(r.metric, (None, None))[0] for p in r.places],
                "high": [p.result.intervals.get(r.metric, (None, None))[1] for p in r.places],
            }
        )
        for r in all_rankings
    ]
    return csv_table(pd.concat(frames, ignore_index=True))
