"""The command `speed`: how fast this package is on this machine, beside what a user would use instead."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from pci_bench.cli.app import OTHER, app
from pci_bench.cli.terminal import err
from pci_bench.system.progress import ConsoleProgress


class SpeedFormat(StrEnum):
    """How the table is written."""

    md = "md"
    csv = "csv"
    json = "json"


@app.command(rich_help_panel=OTHER)
def speed(
    quick: Annotated[
        bool, typer.Option("--quick", help="Less work, and each way measured in one process only.")
    ] = False,
    form: Annotated[
        SpeedFormat, typer.Option("--format", help="How to write it; the machine is in md and json.")
    ] = SpeedFormat.md,
) -> None:
    """Measure this package beside what a user would use instead: CPU seconds of one core, memory, share of its matrix products' rate."""
    from pci_bench.speed.measured import machine, measured, written

    facts = machine()
    typer.echo(written(measured(quick=quick, progress=ConsoleProgress(err)), facts, form.value))
