"""The ladder as a table: a number at every level of strictness, the drops between them, and chance: Markdown, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from pci_bench.features.names import seeds_of
from pci_bench.reporting.candidates import Candidates, plural
from pci_bench.reporting.tables.declaration import Texts, register_table
from pci_bench.reporting.tables.fill import CHANCE_ROW, Entry, interval_words
from pci_bench.reporting.tables.ranking import Kind, kind_of, mark_of
from pci_bench.reporting.tables.table import Cell, Format, PageTable
from pci_bench.runs.ladder import Ladder, ladders
from pci_bench.runs.results import Result
from pci_bench.system.files import escape
from pci_bench.system.text import csv_table, latex_table, markdown, markdown_table

EVALUATORS = {
    "loo-knn": ("ladder", "nearest neighbours"),
    "logistic-regression": ("ladder-logistic-regression", "logistic regression"),
    "random-forest": ("ladder-random-forest", "random forest"),
    "map": ("ladder-map", "mean average precision"),
    "level-distances": ("ladder-distances", "distances within classes and between them"),
}
COLUMNS = ("feature set", "a column for each level", "a column for each drop")


@dataclass(frozen=True)
class Row:
    """A feature set, or the mean of several seeds of one, with its entries: the levels', then the drops'."""

    name: str
    entries: tuple[Entry, ...]
    seeds: int = 1


@dataclass(frozen=True)
class LadderTable:
    """The ladders of all feature sets that have the same levels on one dataset."""

    ladders: tuple[Ladder, ...]

    @property
    def first(self) -> Ladder:
        """The first, of which all share levels and settings."""
        return self.ladders[0]

    @property
    def title(self) -> str:
        """What is measured of which cells, and what cells are compared with."""
        facts, form = self.first.levels[0].dataset, self.first.form
        limited = f", a stratified subset (--limit {facts.limit})" if facts.limit else ""
        settings = "".join(f", {name} = {value}" for name, value in self.first.settings.items())
        balanced = ", classes balanced" if self.first.candidates == "balanced" else ""
        percent = " in %" if form.unit == "percent" else ""
        what = self.first.metric.replace("_", " ")
        evaluator = self.first.levels[0].evaluator.name
        return f"{facts.name}, {facts.n_cells:,} cells{limited}: {what}{percent} by level of strictness ({evaluator}{settings}{balanced})"

    def header(self) -> list[str]:
        """Return what stands above the columns."""
        columns = self.first.columns
        steps = [f"lost, {_short(columns[d.loose])} → {_short(columns[d.strict])}" for d in self.first.drops]
        return ["feature set", *(Candidates(c).words for c in columns), *steps]

    def rows(self) -> list[Row]:
        """Return the feature sets, the best at the strictest level first; what does not compete stands below."""
        by_name: dict[tuple[str, bool], list[Ladder]] = {}
        for ladder in self.ladders:
            by_name.setdefault(seeds_of(ladder.features), []).append(ladder)
        made = []
        for (shared, _), members in by_name.items():
            if len(members) == 1:
                made.append(Row(members[0].features, tuple(_entries(members[0]))))
                continue
            columns = zip(*map(_entries, members), strict=True)
            made.append(Row(f"{shared} ({len(members)} seeds)", tuple(map(_mean, columns)), len(members)))
        sign, last, kinds = -1 if self.first.form.higher_is_better else 1, len(self.first.levels) - 1, list(Kind)
        return sorted(made, key=lambda row: (kinds.index(kind_of(row.name)), sign * row.entries[last].value))

    def chance(self) -> list[float | None]:
        """Return what permuted labels score in each column, as printed: means over the feature sets; of drops, their differences."""
        form, levels = self.first.form, list[float | None]()
        for values in zip(*(ladder.chance for ladder in self.ladders), strict=True):
            known = [v for v in values if v is not None]
            levels.append(form.scale * mean(known) if known else None)
        sign = 1 if form.higher_is_better else -1
        drops = [
            None if (a := levels[d.loose]) is None or (b := levels[d.strict]) is None else sign * (a - b)
            for d in self.first.drops
        ]
        return [*levels, *drops]

    @property
    def chance_name(self) -> str:
        """What the row of chance is of."""
        measured = any("chance" in r.details for ladder in self.ladders for r in ladder.levels)
        return CHANCE_ROW if measured else "chance (one over the classes)"

    def notes(self) -> list[str]:
        """Return what a reader of the numbers must know, as sentences."""
        level = self.first.levels[-1]
        notes = ["Lost: how much worse the stricter level is, of the same cells; below 0 it is better there."]
        if interval := level.details.get("interval"):
            notes.append(f"In brackets: 95 % intervals. Levels: {interval_words(str(interval))}.")
        units = {d.unit for ladder in self.ladders for d in ladder.drops if d.unit}
        if units:
            unit = " or ".join(plural(u) for u in sorted(units))
            columns = self.first.columns
            reached = max((columns.index(u) for u in units if u in columns), default=len(columns))
            coarser = [plural(c.replace("+", " and ")) for c in columns[reached + 1 :]]
            given = (
                f", and the {' and '.join(coarser)} that there are, are taken as given"
                if coarser
                else " are taken as given"
            )
            factor = any((r.evaluator.training_variance or (1, 1)) != (1, 1) for r in self.first.levels)
            learned = ", the variance is multiplied for the cells learned from" if factor else ""
            notes.append(
                f"Drops: paired; whole {unit} are left out of both levels at once{learned}; the features and their scaling{given}."
            )
        if self.first.candidates == "balanced":
            notes.append(
                "Classes balanced: where a cell's own group is left out, every other class does without one too, so that a stricter level "
                "does not see fewer cells of the own class alone. At the loosest level only the cell itself is left out."
            )
        if any(row.seeds > 1 for row in self.rows()):
            notes.append("±: the standard deviation over seeds of a network's weights, beside their mean.")
        return notes

    def body(self) -> list[list[str]]:
        """Return the rows as texts, chance last."""
        decimals = self.first.form.printed_decimals
        rows = []
        for row in self.rows():
            mark = mark_of(row.name)
            rows.append([f"{row.name} ({mark})" if mark else row.name, *(e.text() for e in row.entries)])
        if any(v is not None for v in self.chance()):
            rows.append([self.chance_name, *("–" if v is None else f"{v:.{decimals}f}" for v in self.chance())])
        return rows

    def csv(self) -> str:
        """Return one row for each number: of which level or drop it is, with its interval or SD, and chance."""
        import pandas as pd

        first, columns = self.first, self.first.columns
        places = [("level", c, c) for c in columns]
        places += [("drop", columns[d.loose], columns[d.strict]) for d in first.drops]
        records: list[dict[str, Any]] = []
        for row in self.rows():
            for (kind, loose, strict), entry, chance in zip(places, row.entries, self.chance(), strict=True):
                low, high = entry.interval or (None, None)
                records.append(
                    {
                        "dataset": first.dataset,
                        "evaluator": first.levels[0].evaluator.name,
                        "metric": first.metric,
                        "candidates": first.candidates,
                        "feature set": row.name,
                        "kind": kind,
                        "from": loose,
                        "to": strict,
                        "value": round(entry.value, 4),
                        "low": None if low is None else round(low, 4),
                        "high": None if high is None else round(high, 4),
                        "SD": None if entry.sd is None else round(entry.sd, 4),
                        "seeds": row.seeds,
                        "chance": None if chance is None else round(chance, 4),
                    }
                )
        return csv_table(pd.DataFrame(records))

    def texts(self) -> tuple[dict[Format, str], list[PageTable]]:
        """Return the table by format, and as a report's page shows it."""
        header, body, notes = self.header(), self.body(), self.notes()
        listed = "".join(f"\n- {markdown(note)}" for note in notes)
        texts: dict[Format, str] = {
            "md": f"## {markdown(self.title)}\n\n{markdown_table(header, body)}\n{listed}\n",
            "csv": self.csv(),
            "tex": latex_table(header, body, f"{self.title}. {' '.join(notes)}"),
        }
        values = {row[0]: [e.value for e in made.entries] for row, made in zip(body, self.rows(), strict=False)}
        page_rows = []
        for row in body:
            numbers = values.get(row[0], [None] * (len(row) - 1))
            page_rows.append([Cell(row[0]), *(Cell(text, value) for text, value in zip(row[1:], numbers, strict=True))])
        return texts, [PageTable(self.title, header, page_rows, notes)]


def _short(column: str) -> str:
    return "all" if column == "cell" else " and ".join(plural(c) for c in column.split("+"))


def _entries(ladder: Ladder) -> Iterator[Entry]:
    """Yield the entries of a feature set: the levels', then the drops'."""
    form = ladder.form
    for result in ladder.levels:
        yield Entry.of(result, ladder.metric, form)
    for drop in ladder.drops:
        interval = None if drop.interval is None else (form.scale * drop.interval[0], form.scale * drop.interval[1])
        yield Entry(form.scale * drop.value, interval, decimals=form.printed_decimals)


def _mean(entries: Sequence[Entry]) -> Entry:
    """Return the mean of several seeds' numbers and their SD."""
    values = [e.value for e in entries]
    return Entry(mean(values), sd=stdev(values), decimals=entries[0].decimals)


def ladder_tables(results: Sequence[Result], name: str) -> Texts:
    """Yield file stem, texts and page of a table for every dataset, set of levels and settings, and kind of candidates."""
    groups: dict[tuple[object, ...], list[Ladder]] = {}
    for ladder in ladders(results):
        key = (ladder.dataset, ladder.levels[0].dataset.sha256, ladder.candidates, ladder.columns, str(ladder.settings))
        groups.setdefault(key, []).append(ladder)
    datasets = {r.dataset.name for r in results}
    settings = {str(group[0].settings) for group in groups.values()}
    stems: dict[str, int] = {}
    for group in groups.values():
        parts = [name, *([group[0].dataset] if len(datasets) > 1 else [])]
        if len(settings) > 1:
            parts += [f"{n}={v}" for n, v in group[0].settings.items()]
        parts += ["balanced"] if group[0].candidates == "balanced" else []
        stem = escape("-".join(parts))
        stems[stem] = stems.get(stem, 0) + 1
        yield stem if stems[stem] == 1 else f"{stem}-{stems[stem]}", *LadderTable(tuple(group)).texts()


def _register(evaluator: str, name: str, words: str) -> None:
    @register_table(
        name,
        title=f"The ladder: levels of strictness, and what is lost from each to the next, by {words}",
        benchmark="ladder",
        evaluator=evaluator,
        rows="every feature set that was run, the best at the strictest level first; chance last",
        columns=COLUMNS,
    )
    def of_evaluator(results: Sequence[Result]) -> Texts:
        yield from ladder_tables(results, name)


for _evaluator, (_name, _words) in EVALUATORS.items():
    _register(_evaluator, _name, _words)
