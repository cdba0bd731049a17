"""The command line: parse, call, print."""

from __future__ import annotations

import os
import sys
import traceback
import warnings

import typer

import pci_bench.system.threads  # noqa: F401 - before NumPy, which looks at what it sets

# These add the commands, in the order in which --help shows them.
# isort: off
from pci_bench.cli import listing, run, study, reproduce, train, read, explain, compare, check, speed, data, weights  # noqa: F401

# isort: on
from pci_bench.api.plugins import clause, is_own, place_in_plugins
from pci_bench.cli.app import command_line
from pci_bench.cli.streams import standard_streams
from pci_bench.cli.terminal import err, out
from pci_bench.errors import UserError
from pci_bench.system.interruption import end, ended_on_signals
from pci_bench.system.progress import ConsoleProgress
from pci_bench.system.shortages import refusal
from pci_bench.system.text import one_line

ANYWHERE = ("--debug", "--quiet", "--verbose", "--no-color")  # options of pci-bench that may stand after a command too
INTERRUPTED = 130  # what a shell calls the end by Ctrl-C
CRASHED = 70  # EX_SOFTWARE of sysexits.h; never 1, which means that a number moved or a contract is broken


@ended_on_signals()
@standard_streams()
def main() -> None:
    """Run the command line, and end with an exit status.

    0 done, 1 changed (compare, gate) or a broken contract (test), 2 a user's mistake or a plug-in's, 70 a fault of ours; Ctrl-C,
    SIGTERM and SIGHUP end it with 130, 143 and 129 (:mod:`pci_bench.system.interruption`).
    """
    warnings.showwarning = lambda message, category, *_, **__: (
        err.print(f"Warning: {message}", markup=False, highlight=False) if category is UserWarning else None
    )
    debug = "--debug" in sys.argv[1:] or os.environ.get("PCI_BENCH_DEBUG", "") not in ("", "0")
    ConsoleProgress.quiet = "--quiet" in sys.argv[1:]
    out.no_color = err.no_color = "--no-color" in sys.argv[1:] or bool(os.environ.get("NO_COLOR"))
    code = _ended(
        [argument for argument in sys.argv[1:] if argument not in ANYWHERE],
        debug=debug,
        verbose="--verbose" in sys.argv[1:],
    )
    if code:
        sys.exit(code)


def _ended(arguments: list[str], *, debug: bool, verbose: bool) -> int:
    """Run a command and return its exit status.

    With `debug`, the traceback of what went wrong is printed before the sentence; with `verbose`, first what the command runs with.
    """
    try:
        if verbose:
            for line in _surroundings():
                err.print(line, markup=False, highlight=False, soft_wrap=True)
        code = command_line()(arguments, standalone_mode=False, prog_name="pci-bench")
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code; older ones, into Abort
            raise KeyboardInterrupt
        return code or 0
    except UserError as error:
        if debug:
            traceback.print_exception(error)
        err.print(f"Error: {one_line(str(error))}", markup=False, highlight=False, soft_wrap=True)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        end()
    except (Exception, SystemExit) as error:
        if hasattr(error, "show"):  # a wrong option or argument: click, or typer's copy of it, says it
            error.show()
            return 2
        if debug:
            traceback.print_exception(error)
        if sentence := refusal(error):
            err.print(f"Error: {sentence}", markup=False, highlight=False, soft_wrap=True)
            return 2
        if place := place_in_plugins(error):
            sentence = f"Error: The plug-in {place} failed: {clause(error)}. Correct it or leave it out; --debug shows the traceback."
            err.print(sentence, markup=False, highlight=False, soft_wrap=True)
            return 2
        err.print(_crash(error), markup=False, highlight=False, soft_wrap=True)
        return CRASHED


def _surroundings() -> list[str]:
    """Return the versions and folders that a command runs with, a line each."""
    from pci_bench import __version__
    from pci_bench.system.files import cache_folder
    from pci_bench.system.machine import versions

    return [
        "Versions: " + ", ".join(f"{name} {v}" for name, v in {"pci-bench": __version__, **versions()}.items()),
        f"Cache (PCI_BENCH_CACHE): {cache_folder()}",
        f"Your copies of data (PCI_BENCH_DATA): {os.environ.get('PCI_BENCH_DATA') or 'not set'}",
    ]


def _crash(error: BaseException) -> str:
    """Return what a fault of ours was and where, and how to report it, as sentences."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if is_own(frame.filename)] or frames
    where = f" ({ours[-1].filename}:{ours[-1].lineno})" if ours else ""
    return (
        f"Error: pci-bench crashed: {clause(error)}{where}. This is a fault of pci-bench, not of yours: please report it with "
        "what the same command prints with --debug. Files that were written are whole; the same command continues from them."
    )
