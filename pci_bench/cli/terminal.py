"""What commands print: the two streams, lists of names, tables and results."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from pci_bench.cli.columns import scan_lines, wrapped_lines
from pci_bench.cli.streams import forget_impossible_sizes, open_closed_streams
from pci_bench.system.text import json_line, terminal

open_closed_streams()
forget_impossible_sizes()
DEFAULT_WIDTH = 110  # columns where no terminal says how wide it is


class PlainConsole(Console):
    """A console that shows every text as it is: no markup, no emoji, and control characters written out."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text that holds nothing which a terminal obeys."""
        return super().render_str(terminal(text), **{**options, "emoji": False, "markup": False, "highlight": False})


_ON_TERMINAL = sys.stdout.isatty()
out = PlainConsole(width=None if _ON_TERMINAL else DEFAULT_WIDTH)
err = PlainConsole(stderr=True)


def say(sentence: str) -> None:
    """Print a sentence, on a terminal in lines that end between words; no word, path or address is cut in two."""
    for line in sentence.split("\n"):
        if _ON_TERMINAL:
            line = textwrap.fill(line, out.width, break_long_words=False, break_on_hyphens=False)
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def print_json(values: Sequence[Any]) -> None:
    """Print results as JSON; every stream can hold it, since what it cannot encode is escaped."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    records = [value.model_dump(by_alias=True) for value in values]
    typer.echo(json_line(records, ascii_only=not unicode))


def show(rows: Sequence[tuple[str, ...]], title: str, console: Console = out) -> None:
    """Print rows of text under a title, columns aligned, wrapped between words."""
    _print_lines(title, wrapped_lines(rows, console.width), console)


def show_list(titles: Sequence[str], rows: Sequence[Sequence[str]], title: str) -> None:
    """Print a list that a person can scan: a line a row, the column `what` as brief as the terminal is narrow."""
    _print_lines(title, scan_lines(titles, rows, out.width), out)


def _print_lines(title: str, lines: Iterable[Text], console: Console) -> None:
    if title:
        console.print(Text(terminal(title), "bold"), soft_wrap=True)
    for line in lines:
        console.print(line, soft_wrap=True)


def print_tables(tables: list[Any]) -> None:
    """Print filled tables as wide as the terminal, then what must be said about them."""
    from pci_bench.reporting.tables.render import terminal as blocks

    for part in blocks(tables, out.width):
        out.print(part, markup=False, highlight=False, soft_wrap=isinstance(part, str))


def print_answers(tables: Sequence[Any]) -> None:
    """Print filled tables ranked by their strictest columns, controls set apart, with groups that cannot be told apart."""
    from pci_bench.reporting.tables.answer import answer, competitors, metric_of_answer
    from pci_bench.runs.leaderboard import letters

    for table in tables:
        for part in answer(table, letters(competitors(table), metric_of_answer(table)), out.width):
            if isinstance(part, str):
                say(part)
            else:
                out.print(part, markup=False, highlight=False)


def print_results(results: Sequence[Any], title: str) -> None:
    """Print every result as a line of its own, with intervals, a block for each evaluator; shares in percent."""
    from pci_bench.reporting.tables.fill import Entry
    from pci_bench.runs.results import metric_of, parameters

    for evaluator in dict.fromkeys(r.evaluator.name for r in results):
        evaluator_results = [r for r in results if r.evaluator.name == evaluator]
        metrics = list(dict.fromkeys(m for r in evaluator_results for m in r.metrics))
        rows = [("feature set", "evaluator", "parameters", *metrics)]
        for result in evaluator_results:
            values = []
            for metric in metrics:
                if metric not in result.metrics:
                    values.append("–")
                    continue
                values.append(Entry.of(result, metric, metric_of(result, metric)).text())
            rows.append((result.features.full_name, evaluator, parameters(result), *values))
        show(rows, title)
