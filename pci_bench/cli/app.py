"""The command line's groups of commands, and the options that several share."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import cache, wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.main import get_command

from pci_bench import __version__
from pci_bench.api.plugins import load_plugin
from pci_bench.system.arguments import MAX_SEED
from pci_bench.system.files import user_path

# Headings of the commands' list, in the order of their first commands.
BEGIN = "Begin here"
RESULTS = "Look at results"
PARTS = "Parts of a run"
GATES = "Keep what works"
OTHER = "Data, weights, machine"

CommandFunction = TypeVar("CommandFunction", bound=Callable[..., Any])


class Commands(typer.Typer):
    """A group of commands; every path that a command is given is checked before it begins."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[CommandFunction], CommandFunction]:
        """Register a function as a command."""
        register = super().command(name, **options)

        def registered(function: CommandFunction) -> CommandFunction:
            @wraps(function)
            def with_checked_paths(*values: Any, **named: Any) -> Any:
                return function(*values, **{name: checked_paths(value) for name, value in named.items()})

            register(with_checked_paths)
            return function

        return registered


def checked_paths(value: Any) -> Any:
    """Return a command's value as it is, but paths (one, or a list) as `pci_bench.system.files.user_path` gives them.

    Raises
    ------
    UserError
        For a path that no file system can hold.
    """
    if isinstance(value, list):
        return [checked_paths(item) for item in value]
    return user_path(value, "The path") if isinstance(value, Path) else value


app = Commands(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Benchmarks and reproductions for single-cell microscopy features.",
)
data_app = Commands(no_args_is_help=True, help="Datasets: list, get and remove them, or make one of raw images.")
weights_app = Commands(no_args_is_help=True, help="Weights of trained networks: list, get, import.")
app.add_typer(data_app, name="data", rich_help_panel=OTHER)
app.add_typer(weights_app, name="weights", rich_help_panel=OTHER)


PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        help="Python file, or folder of them, that registers more; its benchmarks/*.toml and tables/*.toml count.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        help="Processes that share the extraction; by default one per core for what is measured crop by crop."
    ),
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        help="Crops for each forward pass of networks; by default what is quickest on CPUs (mostly 16). A GPU wants hundreds."
    ),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="Of networks' products: float32, or bfloat16: twice as fast where the processor or GPU has it, and less exact."
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Dask cluster whose workers compute in place of this machine: tcp://HOST:PORT (docs/cluster.md).",
    ),
]
SegmenterOption = Annotated[
    str, typer.Option(help="Finds the centre cells where a dataset has no masks and features need them.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Random seed.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, or one of several GPUs: cuda:1.")]


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
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print results and errors, and nothing while working; also after a command.")
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="First say with which versions and folders it works; also after a command."),
    ] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Print without colours; also after a command, or by NO_COLOR=1.")
    ] = False,
) -> None:
    pass


@cache
def command_line() -> Callable[..., Any]:
    """Return what runs a command given its words; made once, since that takes longer than many a command."""
    return get_command(app)


def load_plugins(plugins: list[Path] | None) -> None:
    """Run the files that ``--plugin`` names."""
    for file in plugins or []:
        load_plugin(file)
