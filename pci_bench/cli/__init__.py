"""The command line: parse, call, print."""

from __future__ import annotations

import sys
import warnings

import typer

import pci_bench.threads  # noqa: F401 - before NumPy, which looks at what it sets

# These add the commands, in the order in which --help shows them.
# isort: off
from pci_bench.cli import listing, run, train, read, compare, check, data, weights  # noqa: F401

# isort: on
from pci_bench.cli.app import app
from pci_bench.cli.terminal import err
from pci_bench.errors import UserError
from pci_bench.text import one_line

INTERRUPTED = 130  # what a shell calls the end by Ctrl-C


def main() -> None:
    """Run the command line: 0 done, 1 changed (compare) or a broken contract (test), 2 a user's mistake, 130 interrupted."""
    warnings.showwarning = lambda message, category, *_, **__: (
        err.print(f"Warning: {message}", markup=False, highlight=False) if category is UserWarning else None
    )
    try:
        code = app(standalone_mode=False, prog_name="pci-bench")
        if code == INTERRUPTED:  # typer turns Ctrl-C into this code; older ones, into Abort
            raise KeyboardInterrupt
        if code:
            sys.exit(code)
    except UserError as error:
        err.print(f"Error: {one_line(str(error))}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        err.print("Interrupted. Run the same command again: it continues where it stopped.", markup=False)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "show"):  # a wrong option or argument: click says it
            error.show()
            sys.exit(2)
        raise
