"""Which progress reporter a function of the Python interface uses: silent, shown, or the caller's own."""

from __future__ import annotations

import importlib.util

from pci_bench.system.progress import ConsoleProgress, Progress


def reporter(progress: Progress | bool | None) -> Progress:
    """Return the reporter that is meant: silent for None and False, shown for True, else the one that is given.

    It is shown on the error stream of a terminal, and beneath the cell of a notebook. A notebook needs ipywidgets for bars
    that move; without it there is a line for each finished stage.

    >>> type(reporter(None)) is Progress, isinstance(reporter(True), ConsoleProgress)
    (True, True)
    """
    if isinstance(progress, Progress):
        return progress
    if not progress:
        return Progress()
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_jupyter and importlib.util.find_spec("ipywidgets") is None:
        console = Console(stderr=True, force_jupyter=False)
    return ConsoleProgress(console)
