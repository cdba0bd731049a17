"""Progress reporting of long jobs: stages, bars and plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pci_bench.system.text import terminal

if TYPE_CHECKING:
    from rich.console import Console


class Progress:
    """Silent progress: the default of the Python interface, and the base of what the command line shows."""

    def say(self, sentence: str) -> None:
        """Tell the user one thing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Yield ``advance(n)`` for a stage of `total` steps."""
        yield lambda n: None


class ConsoleProgress(Progress):
    """A live bar on a terminal; one line per finished stage anywhere else."""

    def __init__(self, console: Console):
        self.console = console

    def say(self, sentence: str) -> None:
        """Print one sentence."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a bar with the rate and the time left, then one line with the time taken; an error gets the title as a note."""
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        started = time.perf_counter()
        try:
            if self.console.is_terminal:
                columns = [
                    TextColumn("  {task.description}", markup=False),
                    BarColumn(),
                    MofNCompleteColumn(),
                    TimeRemainingColumn(),
                ]
                with Bars(*columns, console=self.console, transient=True) as bars:
                    task = bars.add_task(terminal(title), total=total)
                    yield lambda n: bars.advance(task, n)
            else:
                yield lambda n: None
        except Exception as error:
            error.add_note(title)  # so that a shortage of memory is told with the stage that needed it
            raise
        self.say(f"  {title}: {time.perf_counter() - started:.1f} s")
