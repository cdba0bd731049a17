"""Progress reporting of long jobs: stages, transfers, bars and plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pci_bench.system.room import megabytes
from pci_bench.system.text import terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID


class Progress:
    """Silent progress: the default of the Python interface, and the base of what the command line shows."""

    def say(self, sentence: str) -> None:
        """Tell the user one thing."""

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Yield ``advance(n)`` for a stage of `total` steps."""
        yield lambda n: None

    @contextmanager
    def transfer(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Yield ``move(position)`` for bytes that come from somewhere, `total` in all: called with how many are here."""
        yield lambda position: None


class ConsoleProgress(Progress):
    """A live bar on a terminal or in a notebook; one line per finished stage anywhere else."""

    def __init__(self, console: Console):
        self.console = console

    def say(self, sentence: str) -> None:
        """Print one sentence."""
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a bar with the rate and the time left, then one line with the time taken; an error gets the title as a note."""
        from rich.progress import MofNCompleteColumn

        started = time.perf_counter()
        with self._bar(title, total, MofNCompleteColumn()) as (bars, task):
            yield lambda n: bars.advance(task, n) if bars else None
        self.say(f"  {title}: {time.perf_counter() - started:.1f} s")

    @contextmanager
    def transfer(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a bar in megabytes with the rate and the time left, then one line with the amount and the time taken."""
        from rich.progress import DownloadColumn, TransferSpeedColumn

        started, here = time.perf_counter(), 0
        with self._bar(title, total, DownloadColumn(), TransferSpeedColumn()) as (bars, task):

            def move(position: int) -> None:
                nonlocal here
                here = position
                if bars:
                    bars.update(task, completed=position)

            yield move
        self.say(f"  {title}: {megabytes(here)}, {time.perf_counter() - started:.1f} s")

    @contextmanager
    def _bar(self, title: str, total: int | None, *columns: ProgressColumn) -> Iterator[tuple[Bars | None, TaskID]]:
        """Yield a live bar and the name of its task, or None where there is no terminal; an error gets the title as a note."""
        from rich.progress import BarColumn, TaskID, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        try:
            if self.console.is_terminal or self.console.is_jupyter:
                shown = [TextColumn("  {task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn()]
                with Bars(*shown, console=self.console, transient=True) as bars:
                    yield bars, bars.add_task(terminal(title), total=total)
            else:
                yield None, TaskID(0)
        except Exception as error:
            error.add_note(title)  # so that a shortage of memory is told with the stage that needed it
            raise
