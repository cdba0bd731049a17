"""The commands `compare` and `gate`, whether results moved, and `compare-features`, which of two feature sets is better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pci_bench.cli.app import GATES, RESULTS, PluginOption, SeedOption, WorkersOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say
from pci_bench.errors import UserError
from pci_bench.system.files import user_path
from pci_bench.system.progress import ConsoleProgress
from pci_bench.system.text import json_line, terminal

FORMATS = ("terminal", "md", "json")
MAX_LISTED = 20  # missing and new results in a terminal


@app.command(rich_help_panel=GATES)
def compare(
    old: Annotated[
        str, typer.Argument(help="A folder of results, a result file, or expected[:DATASET] (packaged numbers).")
    ],
    new: Annotated[str, typer.Argument(help="The same.")],
    tolerance: Annotated[Path | None, typer.Option(help="TOML: absolute, cells, and a table metrics.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="terminal, md (for a comment on a pull request) or json.")
    ] = "terminal",
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged numbers too.")] = False,
) -> None:
    """Say whether two sets of results are the same: exit code 0 the same, 1 changed or missing, 2 not comparable."""
    from pci_bench.runs import comparison
    from pci_bench.runs.tolerance import read_tolerance
    from pci_bench.system.files import check_replaceable

    _check_format(form)
    if junit is not None:
        check_replaceable(junit)
    allowed = read_tolerance(tolerance) if tolerance else None
    compared = comparison.compare(_results_of(old), _results_of(new), allowed)
    _write_junit(compared, junit)
    _print_comparison(compared, form, everything=everything)
    if not compared.same:
        raise typer.Exit(1)


@app.command(rich_help_panel=RESULTS)
def compare_features(
    first: Annotated[str, typer.Argument(help="A feature set: pci-conv4, or with its weights pci-conv4@rxrx1.")],
    second: Annotated[str, typer.Argument(help="The feature set that it is compared with.")],
    results: Annotated[
        list[Path], typer.Option("--results", help="A folder of results that has both; repeat it for several.")
    ],
    seed: SeedOption = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the differences as JSON.")] = False,
) -> None:
    """Say by how much one feature set is above another on the same cells, with intervals and McNemar's test, for every evaluation."""
    from pci_bench.cli.terminal import show
    from pci_bench.reporting import paired as rendering
    from pci_bench.runs import comparison
    from pci_bench.runs.paired import feature_differences

    read = [r for folder in results for r in comparison.read_any(folder)]
    found = feature_differences(read, first, second, seed=seed)
    if as_json:
        typer.echo(json_line(rendering.as_json(found), ascii_only=True))
        return
    for dataset, rows in rendering.rows(found).items():
        show(rows, f"{dataset}: {found[0].names[0]} minus {found[0].names[1]}")
    say(rendering.EXPLANATION)


@app.command(rich_help_panel=GATES)
def gate(
    accept: Annotated[
        Path | None,
        typer.Option(help="Write the numbers found as the expected ones into this folder, instead of comparing."),
    ] = None,
    expected: Annotated[
        Path | None,
        typer.Option(
            help="A folder of your own: gate.toml, <dataset>.json as --accept writes them, and tolerance.toml."
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only the runs on this dataset.")] = None,
    tolerance: Annotated[Path | None, typer.Option(help="TOML: absolute, cells, and a table metrics.")] = None,
    use_cache: Annotated[
        bool,
        typer.Option("--use-cache", help="Take features from your cache: quick, and blind to changes of extractors."),
    ] = False,
    workers: WorkersOption = None,
    form: Annotated[str, typer.Option("--format", help="terminal, md or json.")] = "terminal",
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    plugin: PluginOption = None,
) -> None:
    """Run the regression gate, on bundled simulated data or your own: exit code 0 where no number moved, 1 where one did."""
    load_plugins(plugin)
    from pci_bench.runs import gate as gates
    from pci_bench.runs.tolerance import read_tolerance
    from pci_bench.system.files import cache_folder, check_replaceable

    _check_format(form)
    if expected is not None and not expected.is_dir():
        raise UserError(
            f"--expected {expected} is no folder. It holds gate.toml, and <dataset>.json once --accept wrote them."
        )
    if junit is not None:
        check_replaceable(junit)
    allowed = read_tolerance(tolerance) if tolerance else gates.tolerance_in(expected)
    declared = gates.declared_runs(expected)
    runs = [r for r in declared if dataset in (None, r.dataset)]
    if not runs:
        raise UserError(f"The gate has no run on {dataset}. It runs on {', '.join({r.dataset: 0 for r in declared})}.")
    cache = cache_folder() if use_cache else None
    results = gates.gated_results(runs, place=expected, cache=cache, workers=workers, progress=ConsoleProgress(err))
    if accept is not None:
        for file in gates.write_expected(results, accept):
            say(f"Accepted: {file}")
        return
    before = [r for name in dict.fromkeys(r.dataset for r in runs) for r in gates.expected(name, expected)]
    compared = gates.compared(before, results, allowed, expected)
    _write_junit(compared, junit)
    _print_comparison(compared, form)
    if not compared.same:
        err.print(gates.how_to_accept(expected), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


def _check_format(form: str) -> None:
    if form not in FORMATS:
        raise UserError(f"There is no format '{form}'. Use {', '.join(FORMATS)}.")


def _write_junit(compared: Any, junit: Path | None) -> None:
    from pci_bench.reporting import comparison as rendering
    from pci_bench.system.files import atomic_file

    if junit is not None:
        with atomic_file(junit) as temporary:
            temporary.write_text(rendering.junit(compared), encoding="utf-8", newline="\n")


def _results_of(where: str) -> list[Any]:
    from pci_bench.runs import comparison, gate

    path = user_path(where, "The path")
    name, _, dataset = where.partition(":")
    if name == "expected" and not path.exists():
        return gate.expected(dataset or None)
    return comparison.read_any(path)


def _print_comparison(compared: Any, form: str, *, everything: bool = False) -> None:
    """Print as Markdown, or as a table for the terminal with `everything` or what changed."""
    from rich.table import Table
    from rich.text import Text

    from pci_bench.reporting import comparison as rendering

    if form == "md":
        typer.echo(rendering.markdown(compared))
        return
    if form == "json":
        typer.echo(json_line(rendering.as_json(compared), ascii_only=True))
        return
    rows = rendering.rows(compared, everything=everything)
    for result in dict.fromkeys(row["result"] for row in rows):  # the one with the largest change first
        of_result = [
            {name: text for name, text in row.items() if name != "result"} for row in rows if row["result"] == result
        ]
        out.print(Text(terminal(str(result)), "bold"), soft_wrap=True)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        told = [name for name in of_result[0] if any(row[name] for row in of_result)]
        for name in told:
            words = name in ("number", "")
            table.add_column(name, overflow="fold", justify="left" if words else "right", no_wrap=not words)
        for row in of_result:
            table.add_row(*(row[name] for name in told))
        out.print(table, markup=False)
        out.print()
    for title, entries in (("Missing", compared.missing), ("New", compared.new), ("Not compared", compared.notes)):
        for entry in entries[:MAX_LISTED]:
            say(f"{title}: {entry}")
        if len(entries) > MAX_LISTED:
            out.print(f"{title}: … and {len(entries) - MAX_LISTED} more (--format md lists all)", markup=False)
    say(rendering.verdict(compared))
