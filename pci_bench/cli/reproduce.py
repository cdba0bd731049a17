"""The command `reproduce`: from nothing to the printed number."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from pci_bench.cli.app import BEGIN, DeviceOption, PluginOption, WorkersOption, app, load_plugins
from pci_bench.cli.terminal import err, out, say, show
from pci_bench.errors import UserError
from pci_bench.system.arguments import split_list
from pci_bench.system.files import check_writable
from pci_bench.system.progress import ConsoleProgress
from pci_bench.system.text import enumerated, json_line

if TYPE_CHECKING:
    from pci_bench.reproduction.needs import Need
    from pci_bench.reproduction.outcome import Outcome
    from pci_bench.reproduction.reproduce import Plan

ASK_ABOVE = 1_000_000_000  # bytes


@app.command(rich_help_panel=BEGIN)
def reproduce(
    name: Annotated[
        str | None, typer.Argument(help="A table or figure, or all; without it, they are listed.", show_default=False)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what is needed, from where, how large, and how long it takes.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Fetch more than 1 GB without asking.")] = False,
    without: Annotated[
        str | None,
        typer.Option(help="Feature sets to leave out, separated by commas; 'missing' is all that cannot be had."),
    ] = None,
    genes: Annotated[
        Path | None, typer.Option(help="Of the Human Protein Atlas: a file of Ensembl ids or names, one a line.")
    ] = None,
    plates: Annotated[str | None, typer.Option(help="Of a screen in plates: those to fetch, joined by commas.")] = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Where to write.")] = Path("runs/reproduce"),
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    plugin: PluginOption = None,
) -> None:
    """Fetch what a table or figure of the paper needs, run it, and compare with the printed numbers.

    Exit code 0 where all that is judged is as printed, 1 where something is not, 2 where something cannot be had.
    """
    load_plugins(plugin)
    from pci_bench.reproduction import needs, outcome, written
    from pci_bench.reproduction.items import chosen, items
    from pci_bench.reproduction.reproduce import plan
    from pci_bench.reproduction.reproduce import reproduce as reproduced

    if name is None:
        show([(n, item.title) for n, item in items().items()], "What can be reproduced: pci-bench reproduce NAME")
        return
    left_out = frozenset(split_list(without) if without else ())
    wanted = chosen(name)
    said = {"genes": None if genes is None else str(genes), "plates": plates}
    choices = {option: value for option, value in said.items() if value is not None}
    planned = plan(wanted, left_out, choices)
    if not as_json:
        _print_plan(planned)
    if dry_run:
        return
    check_writable(out_folder)
    _ask(planned, yes=yes)
    progress = ConsoleProgress(err)
    reasons = needs.get_for(planned.runs, progress, choices)
    outcomes: list[Outcome] = []
    for item in wanted:
        made = reproduced(
            item, out_folder, without=left_out, reasons=reasons, device=device, workers=workers, progress=progress
        )
        if not as_json:
            _print_outcome(made, out_folder / item.name, {name for before in outcomes for name in before.wanting})
        outcomes.append(made)
    if as_json:
        typer.echo(json_line([written.as_json(made) for made in outcomes], ascii_only=True))
    elif len(outcomes) > 1:
        show([(made.item.name, str(made.verdict)) for made in outcomes], "All")
    if code := outcome.code_of(outcomes):
        raise typer.Exit(code)


def _print_plan(planned: Plan) -> None:
    """Print what is needed, whether it is here, where it is had from, how large it is and under which licence."""
    for item in planned.items:
        out.print(item.title, markup=False, highlight=False, style="bold")
    rows = [("needs", "state", "size", "licence")]
    show([*rows, *((n.name, str(n.state), _size(n), n.licence) for n in planned.needs)], "")
    for need in planned.needs:
        urls = [url for file in need.files for url in file.urls]
        if urls:
            files = f", {len(need.files)} files" if len(need.files) > 1 else ""
            others = [urlsplit(url).netloc for url in need.files[0].urls[1:]]
            other = f", else from {enumerated(others)}" if others else ""
            part = f", what --{need.option} names" if need.option else ""
            say(f"{need.name}: from {urls[0]}{files}{part}{other}")
            for file in need.others:
                say(f"{need.name}: else {file.urls[0]}, another copy of the cells, which reproduces nothing")
        elif need.reason:
            say(f"{need.name}: {need.reason.rstrip('.')}.")
        elif need.option:
            say(f"{need.name}: what --{need.option} names.")
        if need.first:
            say(f"{need.name}: {need.first}.")
    say(f"Time: {planned.estimate.text()}.")


def _size(need: Need) -> str:
    from pci_bench.reproduction.needs import State

    if need.state is not State.to_fetch:
        return ""
    return "size not said" if need.bytes is None else f"{need.bytes / 1e6:,.0f} MB"


def _ask(planned: Plan, *, yes: bool) -> None:
    """Ask before much is fetched, or what nobody says the size of.

    Raises
    ------
    UserError
        Where the answer is no, or there is nobody to ask.
    """
    sizes = [need.bytes for need in planned.to_fetch]
    known = sum(size for size in sizes if size is not None)
    if yes or not sizes or (None not in sizes and known <= ASK_ABOVE):
        return
    amount = f"{known / 1e9:.1f} GB" + (" and files whose size is not said" if None in sizes else "")
    if not known:
        amount = "files whose size is not said"
    if not sys.stdin.isatty():
        raise UserError(f"This would fetch {amount}. Say --yes to allow it; --dry-run shows what it is.")
    if not typer.confirm(f"Fetch {amount}?", err=True):
        raise UserError("Nothing was fetched.")


def _print_outcome(made: Outcome, folder: Path, said_before: set[str]) -> None:
    """Print ours beside the printed numbers, and what must be said of them; why something is not here only where it was not said before."""
    from pci_bench.reproduction import written
    from pci_bench.reproduction.reproduce import what_can_still_be_done

    for table in dict.fromkeys(number.table for number in made.numbers):
        rows = [written.row_of(n, variant=bool(made.variant)) for n in made.numbers if n.table == table]
        show([written.HEADER, *rows], f"{table}: ours beside the printed numbers")
    for sentence in written.sentences(made, said_before):
        say(sentence)
    if made.missing:
        say(f"Nothing was run, since not all of it can be had: {', '.join(made.missing)}.")
        if hint := what_can_still_be_done(made):
            say(f"What can still be done: {hint}")
    say(f"{made.item.name}: {made.verdict}. Written: {', '.join(map(str, made.folders)) or folder}")
