"""The command line's groups of commands, and the options that several share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pci_bench import __version__
from pci_bench.arguments import MAX_SEED
from pci_bench.registry import load_plugin_file

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmarks and reproductions for single-cell microscopy features.",
)
data_app = typer.Typer(no_args_is_help=True, help="Datasets: list, get, verify.")
weights_app = typer.Typer(no_args_is_help=True, help="Weights of trained networks: list, get, import.")
app.add_typer(data_app, name="data")
app.add_typer(weights_app, name="weights")


PluginOption = Annotated[
    list[Path] | None, typer.Option("--plugin", help="Python file whose decorators register more.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Processes that share the extraction; by default one per core for what is measured crop by crop."
    ),
]
SegmenterOption = Annotated[
    str, typer.Option(help="Finds the centre cells where a dataset has no masks and features need them.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Drives everything random.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


class RefreshOption(StrEnum):
    """When features are computed."""

    never = "never"
    missing = "missing"
    always = "always"


def _version(value: bool) -> None:
    if value:
        typer.echo(f"pci-bench {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Print the traceback of an error too; also after a command, or by PCI_BENCH_DEBUG=1."
        ),
    ] = False,
) -> None:
    pass


def load_plugins(plugins: list[Path] | None) -> None:
    """Run the files that ``--plugin`` names."""
    for file in plugins or []:
        load_plugin_file(file)
