"""The paper's tables, filled from results: Markdown, CSV, LaTeX, and the terminal.

A declaration (``tables/<name>.toml``) says rows, columns and printed values. Each column appears once for every exclusion
that was evaluated: neighbours other than the cell itself (the paper's leave-one-out), and beside it neighbours that do not
share the dataset's confounder, with classes balanced where that was evaluated.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from pci_bench.errors import UserError
from pci_bench.features import without_seed
from pci_bench.registry import Origin, Registry
from pci_bench.reporting.candidates import Candidates, balanced_where_known
from pci_bench.results import PaperRecord, Result
from pci_bench.text import csv_table, latex_table, markdown, markdown_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Format = Literal["md", "csv", "tex"]

SHARES = {"balanced_accuracy", "macro_f1", "accuracy"}
CHANCE = "chance_"  # before a metric's name: what it is on average where annotations are dealt at random
PRINTED = "paper (Δ)"  # the header over printed values
CHANCE_ROW = "chance (permuted labels)"  # the row of what no feature set knows


class Column(pydantic.BaseModel):
    """A header and what stands under it: a metric of an evaluator's result with these parameters.

    Evaluator and metric are the table's where a column names none.
    """

    model_config = pydantic.ConfigDict(extra="forbid")

    header: str
    params: dict[str, Any] = {}
    evaluator: str = ""
    metric: str = ""


class TableDeclaration(pydantic.BaseModel):
    """One table of the paper, as its TOML declares it."""

    model_config = pydantic.ConfigDict(extra="forbid")

    name: str
    title: str
    source: str
    benchmark: str
    dataset: str
    evaluator: str
    metric: str
    columns: list[Column]
    rows: list[str]
    notes: list[str] = []
    printed: dict[str, list[float | Literal["none"]]] = {}
    printed_params: dict[str, Any] = {}  # of the paper, beyond those of the columns
    unit: Literal["percent", "number"] = "percent"
    decimals: int = 1

    @pydantic.model_validator(mode="after")
    def _complete_columns(self) -> TableDeclaration:
        for column in self.columns:
            column.evaluator = column.evaluator or self.evaluator
            column.metric = column.metric or self.metric
        return self

    @property
    def evaluators(self) -> set[str]:
        """The evaluators whose results stand in the columns."""
        return {c.evaluator for c in self.columns}

    @property
    def one_exclusion_each(self) -> bool:
        """Whether every column names its own exclusion, and so stands once."""
        return all("exclude" in c.params for c in self.columns)

    @property
    def scale(self) -> float:
        """What a metric is multiplied by to be printed."""
        return 100.0 if self.unit == "percent" else 1.0


TABLES: Registry[TableDeclaration] = Registry("table", autoload=False)

for _file in sorted(files("pci_bench_tables").iterdir(), key=lambda f: f.name):
    if _file.name.endswith(".toml"):
        _name = _file.name.removesuffix(".toml")
        _declaration = TableDeclaration(name=_name, **tomllib.loads(_file.read_text(encoding="utf-8")))
        TABLES.register(_name, _declaration, origin=Origin(str(_file), 1))


def decimals_and_scale(evaluator: str, metric: str, values: Sequence[float] = ()) -> tuple[int, float]:
    """Return how a metric is printed: as a table declares it, else shares in percent with one decimal, others with three.

    Where all of its values are whole numbers and not just 0 and 1, they are counts and get no decimals.
    """
    declared = [
        t for t in (TABLES.get(n) for n in TABLES) for c in t.columns if (c.evaluator, c.metric) == (evaluator, metric)
    ]
    if declared:
        return declared[0].decimals, declared[0].scale
    if metric in SHARES:
        return 1, 100.0
    counts = max(map(abs, values), default=0) > 1 and all(float(v).is_integer() for v in values)
    return (0 if counts else 3), 1.0


@cache
def _printed() -> dict[tuple[str, str, str], list[tuple[Column, float, str]]]:
    """Return every printed number by (dataset, evaluator, full feature name): its column and its source."""
    found: dict[tuple[str, str, str], list[tuple[Column, float, str]]] = {}
    for name in TABLES.names():
        table = TABLES.get(name)
        for features, values in table.printed.items():
            for column, value in zip(table.columns, values, strict=True):
                if value == "none":
                    continue
                key = (table.dataset, column.evaluator, features)
                papers = column.model_copy(update={"params": table.printed_params | column.params})
                found.setdefault(key, []).append((papers, value, table.source))
    return found


def printed_value(result: Result) -> PaperRecord | None:
    """Return the number that the paper prints for exactly this: dataset, features, published weights, parameters; or None.

    A limited dataset or an exclusion other than the cell itself is not the paper's.
    """
    if result.dataset.limit is not None or not Candidates.of(result).everything:
        return None
    key = (result.dataset.name, result.evaluator.name, result.features.full_name)
    matching = [
        (column.metric, value, source)
        for column, value, source in _printed().get(key, [])
        if all(result.evaluator.params.get(k) == v for k, v in column.params.items())
    ]
    if not matching:
        return None
    metrics: dict[str, float] = {}
    for metric, value, _ in matching:
        metrics.setdefault(metric, value)  # the first table wins where the paper contradicts itself
    return PaperRecord(value=matching[0][1], table=matching[0][2], metrics=metrics)


@dataclass(frozen=True)
class Entry:
    """One number of a table, in percent, with its interval and the printed value it stands beside.

    The mean of several seeds has their SD in place of an interval.
    """

    value: float
    interval: tuple[float, float] | None = None
    paper: float | None = None
    sd: float | None = None

    def text(self, separator: str = " ", decimals: int = 1) -> str:
        """Return ``87.9 [87.1, 88.6]``, or ``29.8 ± 0.7``."""
        if self.sd is not None:
            return f"{self.value:.{decimals}f}{separator}± {self.sd:.{decimals}f}"
        return f"{self.value:.{decimals}f}" + (
            ""
            if self.interval is None
            else f"{separator}[{self.interval[0]:.{decimals}f}, {self.interval[1]:.{decimals}f}]"
        )

    def printed_text(self, decimals: int, separator: str = " ") -> str:
        """Return ``87.98 (-0.03)``, the printed value and ours less it; empty where the paper prints none."""
        if self.paper is None:
            return ""
        decimals = max(2, decimals)  # the paper's
        return f"{self.paper:.{decimals}f}{separator}({self.value - self.paper:+.{decimals}f})"


@dataclass(frozen=True)
class FilledTable:
    """A table ready to be written: rows of entries, or of a reason why there are none."""

    declaration: TableDeclaration
    dataset: str
    headers: list[tuple[str, Candidates]]  # (column header, what cells are compared with)
    rows: list[tuple[str, list[Entry | None] | str]]
    notes: list[str]
    shown: list[Result]  # those whose numbers stand in the rows

    @property
    def title(self) -> str:
        """The declaration's title and the dataset that fills it."""
        return f"{self.declaration.title}. Dataset: {self.dataset}"

    @property
    def has_numbers(self) -> bool:
        """Whether any result stands in a column of the table."""
        return any(any(entries) for _, entries in self.rows if not isinstance(entries, str))

    @property
    def has_paper(self) -> bool:
        """Whether any number stands beside a printed one."""
        return any(
            e and e.paper is not None for _, entries in self.rows if not isinstance(entries, str) for e in entries
        )

    def header_texts(self) -> list[str]:
        """Return column headers that say what neighbours were left out."""
        return [h if x.everything else f"{h}, {x.words}" for h, x in self.headers]


def fill(
    declaration: TableDeclaration, results: Sequence[Result], not_run: Mapping[str, str], dataset: str
) -> FilledTable:
    """Return a table of one dataset's results.

    Parameters
    ----------
    declaration
        Which rows and columns.
    results
        Any results; those of the dataset and the declaration's evaluator are used.
    not_run
        Reason by feature-set name (with or without weights) of what was asked for and could not be had.
    dataset
        The dataset's name.
    """
    mine = [r for r in results if r.dataset.name == dataset and r.evaluator.name in declaration.evaluators]
    mine = balanced_where_known(mine)
    mine, elsewhere = _on_the_same_cells(mine)
    excludes = list(dict.fromkeys(Candidates.of(r) for r in mine)) or [Candidates()]
    if declaration.one_exclusion_each:
        excludes = [Candidates()]
    headers = [(c.header, x) for x in excludes for c in declaration.columns]
    by_features: dict[str, list[Result]] = {}
    for result in mine:
        by_features.setdefault(result.features.full_name, []).append(result)

    scale = declaration.scale
    stands: list[Result] = []

    def entry(found: list[Result], column: Column, exclude: Candidates) -> Entry | None:
        for r in found:
            params = r.evaluator.params
            if (
                r.evaluator.name == column.evaluator
                and column.metric in r.metrics
                and (declaration.one_exclusion_each or Candidates.of(r) == exclude)
                and all(params.get(k) == v for k, v in column.params.items())
            ):
                low_high = r.intervals.get(column.metric)
                interval = (scale * low_high[0], scale * low_high[1]) if low_high else None
                paper = None if r.paper is None else r.paper.metrics.get(column.metric)
                stands.append(r)
                return Entry(scale * r.metrics[column.metric], interval, paper)
        return None

    def lines(name: str) -> list[tuple[str, list[Entry | None] | str]]:
        found = {name: by_features[name], f"{name}, cells not trained on": _without_training_cells(by_features[name])}
        return [(n, [entry(rs, c, x) for x in excludes for c in declaration.columns]) for n, rs in found.items() if rs]

    rows: list[tuple[str, list[Entry | None] | str]] = []
    shown = set()
    for base in declaration.rows:
        names = [n for n in by_features if n.partition("@")[0] == base]
        for name in names:
            rows.extend(lines(name))
        reasons = {n: r for n, r in not_run.items() if n.partition("@")[0] == base and n not in names}
        rows.extend((n, r) for n, r in reasons.items())
        if not names and not reasons:
            rows.append((base, _not_asked(base)))
        shown |= {*names, *reasons}
    others = [n for n in by_features if n not in shown]
    rows.extend(row for n in others for row in lines(n))
    rows.extend((n, r) for n, r in not_run.items() if n not in shown and n not in others)
    if any(chance := [_chance(declaration, stands, c, x) for x in excludes for c in declaration.columns]):
        rows.append((CHANCE_ROW, chance))
    notes = _notes(declaration, mine)
    merged = _with_means_over_seeds(rows)
    if len(merged) < len(rows):
        notes.append("±: the standard deviation over seeds of a network's weights, beside their mean.")
        rows = merged
    if elsewhere:
        notes.append(
            f"Left out, because they are of other cells of {dataset} (another --limit, seed or version): "
            f"{', '.join(elsewhere)}. Run them again."
        )
    return FilledTable(declaration, dataset, headers, rows, notes, stands)


Row = tuple[str, list["Entry | None"] | str]


def _with_means_over_seeds(rows: list[Row]) -> list[Row]:
    """Return rows in which those that differ in nothing but the seed of their weights are one, at the first one's place."""
    by_name: dict[str, list[Row]] = {}
    for name, entries in rows:
        features, comma, rest = name.partition(",")
        shared = name if isinstance(entries, str) else f"{without_seed(features)}{comma}{rest}"
        by_name.setdefault(shared, []).append((name, entries))
    merged: list[Row] = []
    for shared, members in by_name.items():
        if len(members) == 1:
            merged += members
            continue
        columns = zip(*(entries for _, entries in members if not isinstance(entries, str)), strict=True)
        merged.append((f"{shared} ({len(members)} seeds)", [_mean_entry(entries) for entries in columns]))
    return merged


def _mean_entry(entries: Sequence[Entry | None]) -> Entry | None:
    """Return the mean and the sample SD of some seeds' numbers, or None where one has none."""
    values = [e.value for e in entries if e is not None]
    return Entry(mean(values), sd=stdev(values)) if len(values) == len(entries) else None


def interval_words(interval: str) -> str:
    """Return what a result says of its intervals, as words; those of the first results end with a number of replicates."""
    return f"{interval} replicates" if interval[-1:].isdecimal() else interval


def interval_note(interval: str) -> str:
    """Return what brackets hold, as a sentence."""
    return f"In brackets: 95 % interval, {interval_words(interval)}."


def _chance(declaration: TableDeclaration, stands: list[Result], column: Column, exclude: Candidates) -> Entry | None:
    """Return what permuted labels score in a column: means over its feature sets."""
    levels = [
        r.details["chance"][column.metric]
        for r in {id(r): r for r in stands}.values()
        if Candidates.of(r) == exclude
        and r.evaluator.name == column.evaluator
        and all(r.evaluator.params.get(k) == v for k, v in column.params.items())
        and column.metric in r.details.get("chance", {})
    ]
    if not levels:
        return None
    mean, low, high = (
        declaration.scale * sum(level[name] for level in levels) / len(levels) for name in ("mean", "low", "high")
    )
    return Entry(mean, (low, high))


def _without_training_cells(results: list[Result]) -> list[Result]:
    """Return results counted over the cells that the features' network was not trained on, where it was on some."""
    return [
        r.model_copy(update={"metrics": others["metrics"], "intervals": others["intervals"], "paper": None})
        for r in results
        if (others := r.details.get("training_cells", {}).get("others", {})).get("n")
    ]


def _on_the_same_cells(results: list[Result]) -> tuple[list[Result], list[str]]:
    """Return the results on the cells of the newest one, and the names of feature sets with results on others.

    An output folder that was used before may hold results of a subset, which no table may mix with those of all cells.
    """
    if not results:
        return [], []

    def cells(r: Result) -> tuple[str, int, int | None]:
        return r.dataset.sha256, r.dataset.n_cells, r.dataset.limit

    newest = cells(max(results, key=lambda r: str(r.run.get("started", ""))))
    return (
        [r for r in results if cells(r) == newest],
        list(dict.fromkeys(r.features.full_name for r in results if cells(r) != newest)),
    )


def _not_asked(base: str) -> str:
    """Return why a row of the paper has no result: it was not asked for, or this installation does not know it."""
    from pci_bench.features import known_feature_sets

    if base in known_feature_sets():
        return "not asked for; name it with --features"
    return "no installed plug-in provides it"


def _notes(declaration: TableDeclaration, results: Sequence[Result]) -> list[str]:
    """Return what a reader of the numbers must know, as sentences."""
    notes = []
    if results:
        first = results[0]
        classes = len(first.dataset.classes)
        limited = f", a stratified subset (--limit {first.dataset.limit})" if first.dataset.limit else ""
        what = declaration.metric.replace("_", " ").capitalize()
        if declaration.unit == "percent":
            notes.append(
                f"{what} in percent; {first.dataset.n_cells:,} cells{limited}, {classes} classes, chance {100 / classes:.1f}."
            )
        else:
            notes.append(f"{what}; {first.dataset.n_cells:,} cells{limited}.")
        for interval in dict.fromkeys(r.details.get("interval") for r in results):
            if interval:
                notes.append(interval_note(interval))
        for candidates in dict.fromkeys(map(Candidates.of, results)):
            if not candidates.everything and not declaration.one_exclusion_each:
                notes.append(_of_candidates(candidates))
        if any("chance" in r.details for r in results):
            notes.append(
                f"'{CHANCE_ROW.capitalize()}': labels exchanged between cells where only the cell itself is left out, else between whole "
                "groups of those that are left out; in brackets 95 % of the permutations. Means over the feature sets."
            )
        unreachable = {c for r in results for c in r.details.get("unreachable_classes", [])}
        if unreachable:
            notes.append(
                f"No cell of {', '.join(sorted(unreachable))} has a possible neighbour of its class under some exclusion; recall 0 counts."
            )
    notes += dict.fromkeys(_on_training_cells(r) for r in results if "training_cells" in r.details)
    if not any(r.paper for r in results):
        notes.append(
            "None of these numbers is a reproduction of the paper: that takes its dataset and its published weights."
        )
    else:
        notes.append(f"'Paper': as printed in {declaration.source}; Δ: ours less the printed value.")
    return [*notes, *declaration.notes] if any(r.paper for r in results) else notes


def _of_candidates(candidates: Candidates) -> str:
    """Return what a column of fewer candidates measures, as a sentence."""
    column = candidates.column
    said = (
        f"'{candidates.words.capitalize()}': a cell is not compared with cells of its own {column}, neither as neighbours nor in "
        f"training, so that recognising the {column} does not help."
    )
    if candidates.balanced:
        return (
            f"{said} Every other class is without one {column} as well, averaged over which, so that no class is favoured. The "
            "difference to the first column is what those cells contributed, by what they share beyond their class and by their number."
        )
    return f"{said} It then meets fewer cells of its own class, which lowers even features that know nothing."


def _on_training_cells(result: Result) -> str:
    """Return whose labels a feature set's network learned, as a sentence."""
    trained, others = result.details["training_cells"]["n"], result.details["training_cells"]["others"]["n"]
    learned = f"{result.features.full_name} is supervised: its network learned the labels of"
    if not others:
        return f"{learned} all {trained:,} evaluated cells."
    return (
        f"{learned} {trained:,} of the {trained + others:,} evaluated cells. The row 'cells not trained on' counts the other "
        f"{others:,} only; all cells are neighbours in both rows."
    )


def _numbered_reasons(table: FilledTable) -> dict[str, int]:
    """Return the different reasons for rows without numbers, numbered from 1 in the order of the rows."""
    reasons = dict.fromkeys(entries for _, entries in table.rows if isinstance(entries, str))
    return {reason: number for number, reason in enumerate(reasons, 1)}


def _cells(table: FilledTable, *, separator: str = " ") -> tuple[list[str], list[list[str]]]:
    """Return header and body as text; a row without numbers refers to its reason by number."""
    header = ["feature set"]
    for text, (_, exclude) in zip(table.header_texts(), table.headers, strict=True):
        header.append(text)
        if table.has_paper and exclude.everything:
            header.append(PRINTED)
    reasons = _numbered_reasons(table)
    body = []
    for name, entries in table.rows:
        if isinstance(entries, str):
            body.append([name, f"not run ({reasons[entries]})", *[""] * (len(header) - 2)])
            continue
        line = [name]
        for e, (_, exclude) in zip(entries, table.headers, strict=True):
            line.append("–" if e is None else e.text(separator, table.declaration.decimals))
            if table.has_paper and exclude.everything:
                line.append("" if e is None else e.printed_text(table.declaration.decimals, separator))
        body.append(line)
    return header, body


def render(table: FilledTable, form: Format) -> str:
    """Return the table as Markdown, CSV (one column per number, low and high or SD beside it) or LaTeX."""
    import pandas as pd

    if form == "csv":
        records = []
        for name, entries in table.rows:
            record: dict[str, Any] = {"feature set": name}
            if isinstance(entries, str):
                record["not run"] = entries
            else:
                for text, e in zip(table.header_texts(), entries, strict=True):
                    record[text] = None if e is None else round(e.value, 4)
                    if e is not None and e.interval is not None:
                        record[f"{text} low"], record[f"{text} high"] = (round(v, 4) for v in e.interval)
                    if e is not None and e.sd is not None:
                        record[f"{text} SD"] = round(e.sd, 4)
                    if e is not None and e.paper is not None:
                        record[f"{text} paper"] = e.paper
                        record[f"{text} ours less paper"] = round(e.value - e.paper, 4)
            records.append(record)
        frame = pd.DataFrame(records)
        if "not run" in frame:
            frame["not run"] = frame.pop("not run")
        return csv_table(frame)
    header, body = _cells(table)
    notes = [*(f"({number}) Not run: {reason}." for reason, number in _numbered_reasons(table).items()), *table.notes]
    if form == "md":
        listed = "".join(f"\n- {markdown(note)}" for note in notes)
        return f"## {markdown(table.title)}\n\n{markdown_table(header, body)}\n{listed}\n"
    if form == "tex":
        return latex_table(header, body, f"{table.title}. {' '.join(notes)}")
    raise UserError(f"There is no table format '{form}'. Use md, csv or tex.")


def terminal(tables: Sequence[FilledTable], width: int) -> list[RichTable | str]:
    """Return tables, and what must be said about them, for a terminal of `width` columns.

    A table of many columns becomes one block for each exclusion, with intervals on a second line; where even that is too
    wide, the intervals are left to the files, and where numbers alone are too wide, columns go on in a block below. Reasons
    and notes that tables share are said once, at the end.
    """
    from rich import box
    from rich.table import Table

    shown: list[RichTable | str] = []
    for table in tables:
        many = len(table.declaration.columns) > 2
        header, body = _cells(table, separator="\n" if many else " ")
        excludes = list(dict.fromkeys(x for _, x in table.headers))
        shown.append(table.title)
        for exclude in excludes if many else [None]:
            picked = [i for i in range(1, len(header)) if exclude is None or _belongs(table, header, i, exclude)]
            texts = [h.partition(",")[0] if many else h.replace(", ", ",\n") for h in header]
            wide = [_width([texts[i], *(line[i] for line in body)]) for i in range(len(header))]
            narrow = many and width < wide[0] + sum(wide[i] + 2 for i in picked)
            if narrow:
                wide = [_width([texts[i], *(line[i].partition("\n")[0] for line in body)]) for i in range(len(header))]
            if exclude is not None and len(excludes) > 1:
                shown.append(_references(exclude))
            for columns in _side_by_side(picked, header, wide, width - min(wide[0], width // 2)):
                block = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, 1))
                block.add_column(header[0], overflow="fold")  # a name is never cut
                for column in columns:
                    block.add_column(texts[column], justify="right", no_wrap=True)
                for (name, *cells), (_, entries) in zip(body, table.rows, strict=True):
                    chosen = [cells[i - 1] for i in columns]
                    if isinstance(entries, str):
                        chosen = ["not run", *[""] * (len(columns) - 1)]
                    block.add_row(name, *(c.partition("\n")[0] if narrow else c for c in chosen))
                shown += ["", block, ""]
    without: dict[str, list[str]] = {}
    for table in tables:
        for name, entries in table.rows:
            if isinstance(entries, str) and name not in without.setdefault(entries, []):
                without[entries].append(name)
    shown += [f"Not run: {', '.join(names)}: {reason}." for reason, names in without.items()]
    return [*shown, *dict.fromkeys(note for table in tables for note in table.notes)]


def _width(texts: Sequence[str]) -> int:
    """Return the columns that the longest line of some texts takes."""
    return max(len(line) for text in texts for line in text.split("\n"))


def _side_by_side(columns: list[int], header: list[str], wide: list[int], room: int) -> list[list[int]]:
    """Return columns in groups that each fit into the room; a printed value stays with the column before it."""
    groups: list[list[int]] = []
    used = 0
    for column in columns:
        if header[column] == PRINTED and groups:
            groups[-1].append(column)
            continue
        pair = column + 1 < len(header) and header[column + 1] == PRINTED
        needed = wide[column] + 2 + (wide[column + 1] + 2 if pair else 0)
        if not groups or used + needed > room:
            groups.append([])
            used = 0
        groups[-1].append(column)
        used += needed
    return groups


def _references(exclude: Candidates) -> str:
    """Return which cells a cell is compared with: as neighbours, or in training."""
    return f"Compared with {exclude.words if exclude.everything else f'cells of {exclude.words}'}"


def _belongs(table: FilledTable, headers: list[str], index: int, exclude: Candidates) -> bool:
    """Return whether a rendered column is of an exclusion; a printed value belongs to the column before it."""
    text = headers[index - 1] if headers[index] == PRINTED else headers[index]
    return any(t == text and x == exclude for t, (_, x) in zip(table.header_texts(), table.headers, strict=True))
