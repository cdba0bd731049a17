"""The commands `compare` and `gate`: whether results moved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pci_bench.cli.app import WorkersOption, app
from pci_bench.cli.terminal import err, out, say
from pci_bench.errors import UserError
from pci_bench.system.files import user_path
from pci_bench.system.progress import ConsoleProgress

MAX_LISTED = 20  # missing and new results in a terminal


@app.command()
def compare(
    old: Annotated[
        str, typer.Argument(help="A folder of results, a result file, or expected[:DATASET] (packaged numbers).")
    ],
    new: Annotated[str, typer.Argument(help="The same.")],
    tolerance: Annotated[Path | None, typer.Option(help="TOML: absolute, cells, and a table metrics.")] = None,
    form: Annotated[
        str, typer.Option("--format", help="terminal or md (for a comment on a pull request).")
    ] = "terminal",
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged numbers too.")] = False,
) -> None:
    """Say whether two sets of results are the same: exit code 0 the same, 1 changed or missing, 2 not comparable."""
    from pci_bench.reporting import comparison as rendering
    from pci_bench.runs import comparison
    from pci_bench.runs.tolerance import read_tolerance
    from pci_bench.system.files import atomic_file, check_replaceable

    if form not in ("terminal", "md"):
        raise UserError(f"There is no format '{form}'. Use terminal or md.")
    if junit is not None:
        check_replaceable(junit)
    allowed = read_tolerance(tolerance) if tolerance else None
    compared = comparison.compare(_results_of(old), _results_of(new), allowed)
    if junit is not None:
        with atomic_file(junit) as temporary:
            temporary.write_text(rendering.junit(compared), encoding="utf-8", newline="\n")
    _print_comparison(compared, form, everything=everything)
    if not compared.same:
        raise typer.Exit(1)


@app.command()
def gate(
    accept: Annotated[
        Path | None,
        typer.Option(help="Write the numbers found as the expected ones into this folder, instead of comparing."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only the runs on this dataset.")] = None,
    workers: WorkersOption = None,
    form: Annotated[str, typer.Option("--format", help="terminal or md.")] = "terminal",
) -> None:
    """Run the regression gate on bundled simulated data: exit code 0 where no number moved, 1 where one did."""
    from pci_bench.runs import gate as gates

    runs = [r for r in gates.declared_runs() if dataset in (None, r.dataset)]
    if not runs:
        raise UserError(
            f"The gate has no run on {dataset}. It runs on {', '.join({r.dataset: 0 for r in gates.declared_runs()})}."
        )
    results = gates.gated_results(runs, workers=workers, progress=ConsoleProgress(err))
    if accept is not None:
        for file in gates.write_expected(results, accept):
            say(f"Accepted: {file}")
        return
    before = [r for name in dict.fromkeys(r.dataset for r in runs) for r in gates.expected(name)]
    compared = gates.compared(before, results)
    _print_comparison(compared, form)
    if not compared.same:
        err.print(gates.HOW_TO_ACCEPT, markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1)


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

    from pci_bench.reporting import comparison as rendering

    if form == "md":
        typer.echo(rendering.markdown(compared))
        return
    rows = rendering.rows(compared, everything=everything)
    if rows:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in rows[0]:
            table.add_column(name, overflow="fold", justify="left" if name in ("result", "number", "") else "right")
        for row in rows:
            table.add_row(*row.values())
        out.print(table, markup=False)
    for title, entries in (("Missing", compared.missing), ("New", compared.new), ("Not compared", compared.notes)):
        for entry in entries[:MAX_LISTED]:
            say(f"{title}: {entry}")
        if len(entries) > MAX_LISTED:
            out.print(f"{title}: … and {len(entries) - MAX_LISTED} more (--format md lists all)", markup=False)
    say(rendering.verdict(compared))
