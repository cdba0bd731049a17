"""`table`, `report`, `leaderboard`, `schema`: what is read from results, and how they are written."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from textwrap import fill
from typing import Annotated

import typer

from pci_bench.cli.app import RESULTS, PluginOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say
from pci_bench.errors import UserError
from pci_bench.system.arguments import split_list, whole_numbers
from pci_bench.system.files import json_text
from pci_bench.system.progress import ConsoleProgress

# Columns of a terminal: from which on headings of a ranking are in one line, how long they are where not, and what stands beside names.
WIDE, HEADING, BESIDE_NAMES = 100, 12, 48


class TableFormat(StrEnum):
    """How a table is written."""

    md = "md"
    csv = "csv"
    tex = "tex"


@app.command(rich_help_panel=RESULTS)
def table(
    name: Annotated[str, typer.Argument(help="A table; `pci-bench list tables` shows all.")],
    format_: Annotated[TableFormat, typer.Option("--format", help="How to write it.")] = TableFormat.md,
    results: Annotated[
        Path | None, typer.Option("--results", help="An output folder of `pci-bench run`; by default runs/<benchmark>.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="The dataset, where the folder has several.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Print a table of the paper, filled from the results of a run."""
    load_plugins(plugin)
    from pci_bench.reporting.html.record import reasons, recorded
    from pci_bench.reporting.tables import TABLES
    from pci_bench.runs.results import read_results, run_folders

    wanted = TABLES.get(name)
    folder = results or Path("runs") / wanted.benchmark
    runs = {place: read_results(place) for place in run_folders(folder)}
    folder_results = [result for of_run in runs.values() for result in of_run]
    names = list(dict.fromkeys(r.dataset.name for r in folder_results))
    if dataset is not None and dataset not in names:
        raise UserError(f"{folder} has no results on '{dataset}'; it has results on {', '.join(names)}.")
    not_run = {name: {n: why for place in runs for n, why in reasons(recorded(place), name).items()} for name in names}
    filled = list(wanted.filled([r for r in folder_results if dataset in (None, r.dataset.name)], not_run))
    if not filled:
        several = " on two datasets or more" if wanted.several_datasets else ""
        raise UserError(
            f"{folder} has no results of {wanted.evaluator}{several}. Make them: pci-bench run {wanted.benchmark}."
        )
    for made in filled:
        typer.echo(made.text(format_.value))


@app.command(rich_help_panel=RESULTS)
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="Output folders of `pci-bench run` or `pci-bench evaluate --out`, or folders that hold several such."
        ),
    ],
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The HTML file; by default report.html in the folder, of several in the current one."
        ),
    ] = None,
    plugin: PluginOption = None,
) -> None:
    """Write results as one HTML file to read in a browser, with crops where the cache holds them; it needs no network."""
    load_plugins(plugin)
    from pci_bench.reporting.html import write_report

    with ConsoleProgress(err).stage(f"writing the report of {', '.join(map(str, folders))}"):
        file = write_report(folders, out_file)
    say(f"Report, {file.stat().st_size / 1e6:.1f} MB: {file}")


@app.command(rich_help_panel=RESULTS)
def leaderboard(
    folders: Annotated[list[Path], typer.Argument(help="Folders of results.")],
    form: Annotated[str, typer.Option("--format", help="terminal, md or csv.")] = "terminal",
    with_: Annotated[str | None, typer.Option("--with", help="Only these evaluators, separated by commas.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Only results with these exclusions, separated by commas: cell,image.")
    ] = None,
    k: Annotated[str | None, typer.Option("--k", help="Only these numbers of neighbours, separated by commas.")] = None,
    metric: Annotated[str | None, typer.Option(help="Rank by this metric instead of each evaluator's first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every place as JSON.")] = False,
) -> None:
    """Rank the feature sets of many result folders, with intervals and groups that are not separable."""
    from rich.cells import cell_len
    from rich.table import Table

    from pci_bench.runs import comparison
    from pci_bench.runs import leaderboard as boards

    if form not in ("terminal", "md", "csv"):
        raise UserError(f"There is no format '{form}'. Use terminal, md or csv.")
    pages = [f for f in folders if f.suffix == ".html" and f.is_file()]  # `pci-bench report` writes them beside results
    if pages and len(pages) < len(folders):
        left_out = f"Left out, since a report holds no results to rank: {', '.join(map(str, pages))}"
        err.print(left_out, markup=False, highlight=False, soft_wrap=True)
        folders = [f for f in folders if f not in pages]
    results = boards.chosen(
        [r for folder in folders for r in comparison.read_any(folder)],
        evaluators=split_list(with_) if with_ else [],
        exclude=split_list(exclude) if exclude else [],
        k=whole_numbers(k, "--k") if k is not None else [],
    )
    rankings = boards.rankings(results, metric)
    if as_json:
        typer.echo(json_text(boards.json_rows(rankings)), nl=False)
        return
    if form != "terminal":
        typer.echo(boards.markdown(rankings) if form == "md" else boards.csv(rankings), nl=False)
        return
    for ranking in rankings:
        table = Table(
            title=ranking.title,
            title_justify="left",
            title_style="bold",
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
        )
        rows = boards.rows(ranking)
        for name in rows[0]:
            heading = name if name == "feature set" or out.width >= WIDE else fill(name, HEADING)
            table.add_column(heading, justify="left" if name in ("feature set", "group") else "right", overflow="fold")
        for row in rows:
            narrow = cell_len(row["feature set"]) > out.width - BESIDE_NAMES
            told = row | (
                {"feature set": row["feature set"].replace("@", "\n@", 1)} if narrow else {}
            )  # its weights below it
            table.add_row(*told.values())
        out.print(table, markup=False)
        out.print()
    say(boards.EXPLANATION)


@app.command(rich_help_panel=RESULTS)
def schema() -> None:
    """Print the JSON schema of a result, as `--json` lists them and as each result file holds one."""
    from pci_bench.runs.results import Result

    typer.echo(json_text(Result.model_json_schema(by_alias=True)), nl=False)
