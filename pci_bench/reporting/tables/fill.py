"""Tables filled from results: a number with its interval, the printed value beside it, or the reason why there is none.

Each column appears once for every exclusion that was evaluated: neighbours other than the cell itself (the paper's
leave-one-out), and beside it neighbours that do not share the dataset's confounder, with classes balanced where that was
evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from pci_bench.api.evaluator import Metric
from pci_bench.features.names import seeds_of
from pci_bench.reporting.candidates import Candidates, balanced_where_known
from pci_bench.reporting.headline import headline_k
from pci_bench.reporting.tables.published import PublishedNumbers, published_on
from pci_bench.reporting.tables.ranking import ranked, strictest
from pci_bench.reporting.tables.render import PRINTED, render
from pci_bench.reporting.tables.table import Cell, FilledTable, Format, PageTable
from pci_bench.runs.results import Result, metric_of
from pci_bench.system.files import escape

if TYPE_CHECKING:
    from pci_bench.reporting.tables.declaration import Column, TableDeclaration

CHANCE = "chance_"  # before a metric's name: what it is on average where annotations are assigned at random
CHANCE_ROW = "chance (permuted labels)"  # the row of what no feature set knows


@dataclass(frozen=True)
class Entry:
    """One number of a table, as it is printed, with its interval and the printed value it stands beside.

    The mean of several seeds has their SD in place of an interval.
    """

    value: float
    interval: tuple[float, float] | None = None
    paper: float | None = None
    sd: float | None = None
    decimals: int = 1

    @classmethod
    def of(cls, result: Result, metric: str, form: Metric, paper: float | None = None) -> Entry:
        """Return a result's metric and interval in the form in which they are printed."""
        low_high = result.intervals.get(metric)
        interval = (form.scale * low_high[0], form.scale * low_high[1]) if low_high else None
        return cls(form.scale * result.metrics[metric], interval, paper, decimals=form.printed_decimals)

    def text(self, separator: str = " ") -> str:
        """Return ``87.9 [87.1, 88.6]``, or ``29.8 ± 0.7``."""
        decimals = self.decimals
        if self.sd is not None:
            return f"{self.value:.{decimals}f}{separator}± {self.sd:.{decimals}f}"
        return f"{self.value:.{decimals}f}" + (
            ""
            if self.interval is None
            else f"{separator}[{self.interval[0]:.{decimals}f}, {self.interval[1]:.{decimals}f}]"
        )

    def printed_text(self, separator: str = " ") -> str:
        """Return ``87.98 (-0.03)``, the printed value and ours minus it; empty where the paper prints none."""
        if self.paper is None:
            return ""
        decimals = max(2, self.decimals)  # the paper's
        return f"{self.paper:.{decimals}f}{separator}({self.value - self.paper:+.{decimals}f})"


@dataclass(frozen=True)
class DatasetTable(FilledTable):
    """A table of one dataset by feature set: rows of entries, or of a reason why there are none."""

    declaration: TableDeclaration
    dataset: str
    headers: list[tuple[str, Candidates]]  # (column header, what cells are compared with)
    rows: list[tuple[str, list[Entry | None] | str]]
    notes: list[str]
    shown: list[Result]  # those whose numbers stand in the rows
    published: list[PublishedNumbers] = field(default_factory=list)  # by others, of other feature sets

    @property
    def strictest(self) -> int:
        """The column that is to be believed first, by which an answer is ranked."""
        params = [
            c.params
            for _ in range(len(self.headers) // len(self.declaration.columns))
            for c in self.declaration.columns
        ]
        return strictest(self.headers, params, headline_k(self.shown) if self.shown else None)

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better in the strictest column."""
        metric = self.declaration.columns[self.strictest % len(self.declaration.columns)].metric
        shown = next((r for r in self.shown if metric in r.metrics), None)
        return shown is None or metric_of(shown, metric).higher_is_better

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
        return any(self.printed)

    @property
    def printed(self) -> list[bool]:
        """Whether any number of each column stands beside a printed one."""
        rows = [entries for _, entries in self.rows if not isinstance(entries, str)]
        return [any(e is not None and e.paper is not None for e in column) for column in zip(*rows, strict=True)]

    def header_texts(self) -> list[str]:
        """Return column headers that say what neighbours were left out."""
        return [h if x.everything else f"{h}, {x.words}" for h, x in self.headers]

    @property
    def forms(self) -> Sequence[Format]:
        """All formats."""
        return ("md", "csv", "tex")

    def text(self, form: Format) -> str:
        """Return the table in a format."""
        return render(self, form)

    def file_name(self, *, several: bool) -> str:
        """Return the declaration's name, and the dataset's where several were run."""
        return f"{self.declaration.name}-{escape(self.dataset)}" if several else self.declaration.name

    def by_feature_set(self) -> list[DatasetTable]:
        """Return this table."""
        return [self]

    def page_tables(self) -> list[PageTable]:
        """Return the table with printed values as columns of their own; nothing where it has no number.

        The strictest column comes first, and rows are ranked by it; what does not compete follows, then what was not run.
        """
        if not self.has_numbers:
            return []
        order = sorted(range(len(self.headers)), key=lambda i: i != self.strictest)
        headers, printed = self.header_texts(), self.printed
        columns = ["feature set"]
        for index in order:
            columns += [headers[index], PRINTED] if printed[index] else [headers[index]]
        by_kind = ranked(self.rows, self.strictest, higher_is_better=self.higher_is_better).values()
        with_numbers = [row for of_kind in by_kind for row in of_kind]
        rows = []
        for features, entries in [*with_numbers, *(row for row in self.rows if row not in with_numbers)]:
            row = [Cell(features)]
            if isinstance(entries, str):
                row.append(Cell(f"not run: {entries}", columns=len(columns) - 1))
            else:
                for index in order:
                    entry = entries[index]
                    row.append(number_cell(entry))
                    if printed[index]:
                        text = "" if entry is None else entry.printed_text()
                        row.append(Cell(text, entry.paper) if entry and text else Cell(""))
            rows.append(row)
        return [PageTable(self.title, columns, rows, self.notes), *(p.page_table() for p in self.published)]


def number_cell(entry: Entry | None) -> Cell:
    """Return a page's cell of a number with its interval."""
    return Cell("–") if entry is None else Cell(entry.text(), entry.value)


def printed_form(declaration: TableDeclaration, result: Result, metric: str) -> Metric:
    """Return how a table prints a result's metric: as the table declares, else as the result's evaluator did."""
    form = metric_of(result, metric)
    if declaration.unit is not None and declaration.unit != form.unit:
        form = Metric(declaration.unit)
    return form if declaration.decimals is None else replace(form, decimals=declaration.decimals)


def fill(
    declaration: TableDeclaration, results: Sequence[Result], not_run: Mapping[str, str], dataset: str
) -> DatasetTable:
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
    dataset_results = [r for r in results if r.dataset.name == dataset and r.evaluator.name in declaration.evaluators]
    dataset_results = balanced_where_known(dataset_results)
    dataset_results, elsewhere = _on_the_same_cells(dataset_results)
    is_ranked, declared_rows = declaration.is_ranked, [] if declaration.rows == "run" else declaration.rows
    declaration = declaration.model_copy(update={"columns": _columns(declaration, dataset_results)})
    excludes = list(dict.fromkeys(Candidates.of(r) for r in dataset_results)) or [Candidates()]
    if is_ranked:  # the strictest first
        excludes.sort(key=lambda candidates: candidates.strictness, reverse=True)
    if declaration.one_exclusion_each:
        excludes = [Candidates()]
    headers = [(c.header, x) for x in excludes for c in declaration.columns]
    by_features: dict[str, list[Result]] = {}
    for result in dataset_results:
        by_features.setdefault(result.features.full_name, []).append(result)

    used_results: list[Result] = []

    def entry(feature_results: list[Result], column: Column, exclude: Candidates) -> Entry | None:
        for r in feature_results:
            params = r.evaluator.params
            if (
                r.evaluator.name == column.evaluator
                and column.metric in r.metrics
                and (declaration.one_exclusion_each or Candidates.of(r) == exclude)
                and has_params(params, column.params)
            ):
                used_results.append(r)
                printed = r.paper.metrics.get(column.metric) if r.paper else None
                return Entry.of(r, column.metric, printed_form(declaration, r, column.metric), printed)
        return None

    def lines(name: str) -> list[tuple[str, list[Entry | None] | str]]:
        subsets = {name: by_features[name], f"{name}, cells not trained on": _without_training_cells(by_features[name])}
        return [
            (n, [entry(rs, c, x) for x in excludes for c in declaration.columns]) for n, rs in subsets.items() if rs
        ]

    rows: list[tuple[str, list[Entry | None] | str]] = []
    listed = set()
    for base in declared_rows:
        names = [n for n in by_features if n.partition("@")[0] == base]
        for name in names:
            rows.extend(lines(name))
        reasons = {n: r for n, r in not_run.items() if n.partition("@")[0] == base and n not in names}
        rows.extend((n, r) for n, r in reasons.items())
        if not names and not reasons:
            rows.append((base, _not_asked(base)))
        listed |= {*names, *reasons}
    others = [n for n in by_features if n not in listed]
    rows.extend(row for n in others for row in lines(n))
    if not is_ranked:
        rows.extend((n, r) for n, r in not_run.items() if n not in listed and n not in others)
    if any(chance := [_chance(declaration, used_results, c, x) for x in excludes for c in declaration.columns]):
        rows.append((CHANCE_ROW, chance))
    notes = _notes(declaration, dataset_results)
    merged = _with_means_over_seeds(rows)
    if len(merged) < len(rows):
        notes.append("±: the standard deviation over seeds of a network's weights, beside their mean.")
        rows = merged
    if elsewhere:
        notes.append(
            f"Left out, because they are of other cells of {dataset} (another --limit, seed or version): "
            f"{', '.join(elsewhere)}. Run them again."
        )
    published = published_on(dataset, [(c.evaluator, c.params) for c in declaration.columns]) if used_results else []
    filled = DatasetTable(declaration, dataset, headers, rows, notes, used_results, published)
    if not is_ranked or not filled.has_numbers:
        return filled
    by_kind = ranked(rows, filled.strictest, higher_is_better=filled.higher_is_better)
    return replace(filled, rows=[row for of_kind in by_kind.values() for row in of_kind])


def _columns(declaration: TableDeclaration, results: Sequence[Result]) -> list[Column]:
    """Return the columns with one in place of each value of a parameter; of a ranked table, those that have a result."""
    columns = []
    for column in declaration.columns:
        of_column = [
            r for r in results if r.evaluator.name == column.evaluator and has_params(r.evaluator.params, column.params)
        ]
        if not column.each:
            if of_column or not declaration.is_ranked:
                columns.append(column)
            continue
        for value in sorted({r.evaluator.params[column.each] for r in of_column if column.each in r.evaluator.params}):
            header, params = column.header.format(value), {**column.params, column.each: value}
            columns.append(column.model_copy(update={"header": header, "params": params, "each": ""}))
    return columns or declaration.columns


def has_params(params: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Return whether parameters are those of a column; one that is wanted empty need not be there.

    Results hold a metric only where it is another than Euclidean distance, and a post-processing only where there was one; such
    stand in columns that name it, and in no other.

    >>> has_params({"k": 11}, {"k": 11, "subset": ""}), has_params({"k": 11, "subset": "crowded=no"}, {"subset": ""})
    (True, False)
    >>> has_params({"k": 1, "metric": "cosine"}, {"k": 1}), has_params({"k": 1, "metric": "cosine"}, {"metric": "cosine"})
    (False, True)
    """
    wanted = {"metric": "", "postprocess": ""} | dict(wanted)
    return all(params.get(name, "" if value == "" else None) == value for name, value in wanted.items())


Row = tuple[str, list["Entry | None"] | str]


def _with_means_over_seeds(rows: list[Row]) -> list[Row]:
    """Return rows in which those that differ in nothing but the seed of their weights are one, at the first one's place."""
    by_name: dict[tuple[str, bool], list[Row]] = {}
    for name, entries in rows:
        features, comma, rest = name.partition(",")
        shared, seeded = seeds_of(features)
        key = (name, False) if isinstance(entries, str) else (f"{shared}{comma}{rest}", seeded)
        by_name.setdefault(key, []).append((name, entries))
    merged: list[Row] = []
    for (shared, _), members in by_name.items():
        if len(members) == 1:
            merged += members
            continue
        columns = zip(*(entries for _, entries in members if not isinstance(entries, str)), strict=True)
        merged.append((f"{shared} ({len(members)} seeds)", [_mean_entry(entries) for entries in columns]))
    return merged


def _mean_entry(entries: Sequence[Entry | None]) -> Entry | None:
    """Return the mean and the sample SD of some seeds' numbers, or None where one has none."""
    values = [e.value for e in entries if e is not None]
    if entries[0] is None or len(values) < len(entries):
        return None
    return Entry(mean(values), sd=stdev(values), decimals=entries[0].decimals)


def interval_words(interval: str) -> str:
    """Return what a result says of its intervals, as words; those of the first results end with a number of replicates."""
    return f"{interval} replicates" if interval[-1:].isdecimal() else interval


def interval_note(interval: str) -> str:
    """Return what brackets hold, as a sentence."""
    return f"In brackets: 95 % interval, {interval_words(interval)}."


def _chance(
    declaration: TableDeclaration, used_results: list[Result], column: Column, exclude: Candidates
) -> Entry | None:
    """Return what permuted labels score in a column: means over its feature sets."""
    levels = [
        (r.details["chance"][column.metric], printed_form(declaration, r, column.metric))
        for r in {id(r): r for r in used_results}.values()
        if (declaration.one_exclusion_each or Candidates.of(r) == exclude)
        and r.evaluator.name == column.evaluator
        and has_params(r.evaluator.params, column.params)
        and column.metric in r.details.get("chance", {})
    ]
    if not levels:
        return None
    mean, low, high = (
        levels[0][1].scale * sum(level[name] for level, _ in levels) / len(levels) for name in ("mean", "low", "high")
    )
    return Entry(mean, (low, high), decimals=levels[0][1].printed_decimals)


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
    from pci_bench.features.names import known_feature_sets

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
        shown = next((r for r in results if declaration.metric in r.metrics), first)
        if printed_form(declaration, shown, declaration.metric).unit == "percent":
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
    if declaration.is_ranked:
        return [*notes, *declaration.notes]
    if not any(r.paper for r in results):
        notes.append(
            "None of these numbers is a reproduction of the paper: that takes its dataset and its published weights."
        )
    else:
        notes.append(f"'Paper': as printed in {declaration.source}; Δ: ours minus the printed value.")
    return [*notes, *declaration.notes] if any(r.paper for r in results) else notes


def _of_candidates(candidates: Candidates) -> str:
    """Return what a column of fewer candidates measures, as a sentence."""
    column = candidates.column
    sentence = (
        f"'{candidates.words.capitalize()}': a cell is not compared with cells of its own {column}, neither as neighbours nor in "
        f"training, so that recognising the {column} does not help."
    )
    if candidates.balanced:
        return (
            f"{sentence} Every other class is without one {column} as well, averaged over which, so that no class is favoured. The "
            f"difference to the column of all other cells is what its own {column} contributed, by what its cells share beyond their class and by their number."
        )
    return f"{sentence} It then meets fewer cells of its own class, which lowers even features that know nothing."


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
