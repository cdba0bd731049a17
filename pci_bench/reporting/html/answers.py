"""The answer that a report opens with: ranked in the strictest column, with sentences, cells, and the ladder."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.data.cells import Cells
from pci_bench.data.pictures import stratified
from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.charts import RankedRow, Rung, ladder, lines_of, ranked_bars
from pci_bench.reporting.html.sentences import Answer, Column, sentences
from pci_bench.reporting.html.words import evaluator_title
from pci_bench.reporting.palette import FAMILIES, HIGHLIGHTED, family
from pci_bench.reporting.tables.ranking import Kind, kind_of
from pci_bench.runs.answer import Standing, chance_level, inseparable_from_best, standings
from pci_bench.runs.results import Result, headline, key_and_defaults, metric_of

CELLS = 16  # in the picture
NOT_COMPETING = {Kind.supervised: "learned from labels: an upper bound", Kind.true_masks: "on the simulation's masks"}
CONTROLS = "controls"
CONTROLS_DRAWN = 3  # in the ladder
IN_LABEL = 17  # characters of a line below the ladder


@dataclass(frozen=True)
class Evaluation:
    """The results that one answer is of, by what a cell is compared with, the strictest last."""

    results: Sequence[Result]
    metric: str

    @classmethod
    def of(cls, results: Sequence[Result]) -> Evaluation | None:
        """Return the results of one evaluator that stand for all: at its headline k, with the parameters of the first one."""
        k = headline_k(results)
        chosen = [r for r in balanced_where_known(results) if k is None or r.evaluator.params.get("k") == k]
        metric = headline(chosen[0])
        chosen = [r for r in chosen if metric in r.metrics and _settings(r) == _settings(chosen[0])]
        return cls(chosen, metric) if chosen else None

    @property
    def levels(self) -> list[Candidates]:
        """What cells are compared with, the strictest last."""
        return ladder_of(self.results)

    def at(self, level: Candidates) -> list[Result]:
        """Return the results of one column."""
        return [r for r in self.results if Candidates.of(r) == level]


def _settings(result: Result) -> dict[str, Any]:
    """Return the parameters but for the exclusion and k."""
    params = result.telling_params(*key_and_defaults(result))
    return {name: value for name, value in params.items() if name not in ("exclude", "candidates", "k")}


def evaluations(results: Sequence[Result]) -> list[Evaluation]:
    """Return what is answered of the results of one dataset: one evaluation of each evaluator.

    How true an embedding is to the features does not say how good they are, so that it is an answer only where there is no other.
    """
    by_evaluator: dict[str, list[Result]] = {}
    for result in results:
        by_evaluator.setdefault(result.evaluator.name, []).append(result)
    if others := {name: members for name, members in by_evaluator.items() if not name.endswith("umap")}:
        by_evaluator = others
    return [e for members in by_evaluator.values() if (e := Evaluation.of(members)) is not None]


def answer_of(evaluation: Evaluation) -> Answer:
    """Return the numbers of an evaluation that its sentences are made of."""
    metric = evaluation.metric
    columns = tuple(_column(evaluation.at(level), metric, level) for level in evaluation.levels)
    competing = [r for r in evaluation.at(evaluation.levels[-1]) if kind_of(r.features.full_name) is Kind.features]
    own = FAMILIES["pci"]
    return Answer(
        metric.replace("_", " "),
        metric_of(evaluation.results[0], metric),
        columns,
        tuple(inseparable_from_best(competing, metric)),
        frozenset(s.name for column in columns for s in column.competing if family(s.name) == own),
        own.words.capitalize(),
    )


def _column(results: Sequence[Result], metric: str, level: Candidates) -> Column:
    by_kind: dict[Kind, list[Standing]] = {}
    for standing in standings(results, metric):
        by_kind.setdefault(kind_of(standing.name), []).append(standing)
    return Column(
        level.words,
        tuple(by_kind.get(Kind.features, ())),
        tuple(by_kind.get(Kind.control, ())),
        chance_level(results, metric),
        tuple((words, tuple(by_kind[kind])) for kind, words in NOT_COMPETING.items() if kind in by_kind),
    )


def answer_views(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return, for each evaluator, the title, the sentences, the charts of the page, and their data as rows."""
    views = []
    for evaluation in evaluations(results):
        answer, first = answer_of(evaluation), evaluation.results[0]
        k = first.evaluator.params.get("k")
        rows = _rows(answer)
        views.append(
            {
                "title": evaluator_title(first) + ("" if k is None else f", k = {k}"),
                "evaluator": first.evaluator.name,
                "sentences": sentences(answer),
                "reading": _reading(answer),
                "chart": ranked_bars(rows, metric=_axis(answer), chance=_scaled(answer, answer.strictest.chance)),
                "families": list(dict.fromkeys((r.colour, r.family) for r in rows)),
                "columns": ["feature set", "group", "family", "seeds", answer.metric, "low", "high", "compared with"],
                "rows": [
                    [r.name, r.group or "competing", r.family, r.seeds, r.value, r.low, r.high, answer.strictest.words]
                    for r in rows
                ],
                "ladder": _ladder(answer),
            }
        )
    return views


def _axis(answer: Answer) -> str:
    return f"{answer.metric}{' (%)' if answer.unit else ''}"


def _scaled(answer: Answer, value: float | None) -> float | None:
    return None if value is None else round(answer.form.scale * value, 1 + answer.form.printed_decimals)


def _rows(answer: Answer) -> list[RankedRow]:
    column = answer.strictest
    groups = [("", column.competing), *column.others, (CONTROLS, column.controls)]
    rows = []
    for group, members in groups:
        for s in members:
            found = family(s.name)
            name = f"{s.name} ({s.seeds} seeds)" if s.seeds > 1 else s.name
            value, low, high = (_scaled(answer, v) for v in (s.value, s.low, s.high))
            text = answer.form.text
            bounds = "" if s.low is None or s.high is None else f" [{text(s.low)}, {text(s.high)}]"
            rows.append(
                RankedRow(
                    group, name, found.words, found.colour, value or 0.0, low, high, f"{text(s.value)}{bounds}", s.seeds,
                    bool(answer.tied) and s.name in (*answer.tied, column.competing[0].name),
                )
            )  # fmt: skip
    return rows


def _families(rows: Sequence[RankedRow]) -> list[tuple[str, int | None]]:
    return list(dict.fromkeys((r.family, r.colour) for r in rows))


def _reading(answer: Answer) -> str:
    """Return how the ranked chart is read."""
    seeds = any(s.seeds > 1 for s in (*answer.strictest.competing, *answer.strictest.controls))
    parts = [
        f"Bars: {answer.metric} where cells are compared with {answer.strictest.words}"
        + ("" if len(answer.columns) == 1 else ", the strictest of the comparisons that were run"),
        "Lines: 95 % intervals" + ("; of several seeds, from the lowest to the highest" if seeds else ""),
    ]
    if answer.strictest.chance is not None:
        parts.append("Broken line: what permuted labels reach")
    if answer.tied:
        parts.append("≈ before a name: cannot be told apart from the best")
    if not answer.form.higher_is_better:
        parts.append("Less is better")
    return ". ".join(parts) + "."


def _ladder(answer: Answer) -> dict[str, Any] | None:
    """Return the ladder: the best competing feature sets in colour, controls in grey; None of a single column."""
    if len(answer.columns) < 2:
        return None
    strict = answer.strictest
    coloured = [s.name for s in strict.competing[:HIGHLIGHTED]]
    lines = lines_of([*coloured, *(s.name for s in strict.controls[:CONTROLS_DRAWN])])
    rungs, texts = [], {line.name: ["–"] * len(answer.columns) for line in lines}
    levels = [textwrap.fill(column.words, IN_LABEL) for column in answer.columns]
    for place, column in enumerate(answer.columns):
        for s in (*column.competing, *column.controls):
            if s.name in texts:
                value, low, high = (_scaled(answer, v) for v in (s.value, s.low, s.high))
                text = texts[s.name][place] = answer.form.text(s.value)
                said = f"{s.name}, {column.words}: {text}{answer.unit}"
                rungs.append(Rung(s.name, levels[place], value or 0.0, low, high, said))
    chance = [_scaled(answer, column.chance) for column in answer.columns]
    left = len(strict.competing) + len(strict.controls) - len(lines)
    words = [
        "From left to right, cells are compared in stricter ways. A line that falls steeply is of features that know the image, the plate "
        "or the size of the class better than the biology: read the right end first.",
        "Broken grey lines: controls. Vertical lines: 95 % intervals."
        + (" Dotted line: chance." if None not in chance else ""),
        f"Drawn are the best {len(coloured)} and the best {len(lines) - len(coloured)} controls; {left} more stand in the tables."
        if left > 0
        else "",
    ]
    unwrapped = dict(zip(levels, (column.words for column in answer.columns), strict=True))
    return {
        "chart": ladder(levels, lines, rungs, metric=_axis(answer), chance=chance),
        "key": [[line.letter, line.colour, line.name, " → ".join(texts[line.name])] for line in lines],
        "columns": ["feature set", "compared with", answer.metric, "low", "high"],
        "rows": [[r.name, unwrapped[r.level], r.value, r.low, r.high] for r in rungs],
        "reading": " ".join(filter(None, words)),
    }


def pictured(cells: Cells | str) -> list[str]:
    """Return the names of the cells in the picture, as evenly over the labels as there are cells."""
    return stratified(cells, CELLS) if isinstance(cells, Cells) else []


def picture(cells: Cells | str, dataset: int, shown_cells: Shown) -> list[tuple[int, str, str]]:
    """Return tile, label and name of the cells in the picture, in the order of the labels."""
    tiles = [
        (shown_cells.tiles[dataset, name], shown_cells.labels.get((dataset, name), ""), name)
        for name in pictured(cells)
        if shown_cells.has_tile(dataset, name)
    ]
    return sorted(tiles, key=lambda tile: (tile[1], tile[0]))
