"""Progress reporting of long jobs: stages, transfers, bars and plain lines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Self

from pci_bench.system.room import megabytes
from pci_bench.system.text import terminal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import ProgressColumn, TaskID


BETWEEN_LINES = 30  # seconds, where nothing shows a bar


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


class Heartbeat:
    """Says every so often how far a stage is, and how much longer it will take at its rate so far, until it ends.

    Parameters
    ----------
    say
        What takes the sentences.
    title
        What is worked at.
    total
        The number of steps, or None.
    seconds
        The time between two sentences.

    Examples
    --------
    >>> beat = Heartbeat(print, "extracting pci", 100)
    >>> beat.advance(25)
    >>> beat.sentence(40)
    '  extracting pci: 25 of 100, 40 s, about 2 min left'
    """

    def __init__(self, say: Callable[[str], None], title: str, total: int | None, seconds: float = BETWEEN_LINES):
        self._say, self._title, self._total, self._seconds = say, title, total, seconds
        self._done, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="progress")

    def advance(self, n: int) -> None:
        """Count `n` more steps."""
        self._done += n

    def sentence(self, elapsed: float) -> str:
        """Return how far the stage is after some seconds."""
        if not self._total or not self._done:
            return f"  {self._title}: {spent(elapsed)} so far"
        if self._done == 1 and self._total > 2:  # the first of many compiles and reads what the others only use
            return f"  {self._title}: 1 of {self._total:,}, {spent(elapsed)}"
        left = (self._total - self._done) * elapsed / self._done
        return f"  {self._title}: {self._done:,} of {self._total:,}, {spent(elapsed)}, about {duration(left)} left"

    def _beat(self) -> None:
        started = time.perf_counter()
        while not self._ended.wait(self._seconds):
            self._say(self.sentence(time.perf_counter() - started))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End, without a further sentence."""
        self._ended.set()
        self._thread.join()


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(20), duration(130), duration(9000)
    ('20 s', '2 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def spent(seconds: float) -> str:
    """Return a time that has gone by in words, so that no two of a minute are the same.

    >>> spent(20), spent(150), spent(1500)
    ('20 s', '2 min 30 s', '25 min')
    """
    if 90 <= seconds < 600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return duration(seconds)


class ConsoleProgress(Progress):
    """A live bar on a terminal or in a notebook; anywhere else a line every 30 seconds, and one per finished stage."""

    quiet: ClassVar[bool] = False  # of all, by --quiet

    def __init__(self, console: Console):
        self.console = console

    def say(self, sentence: str) -> None:
        """Print one sentence, if not quiet."""
        if self.quiet:
            return
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def stage(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Show a bar with the rate and the time left, then one line with the time taken; an error gets the title as a note."""
        from rich.progress import MofNCompleteColumn

        started = time.perf_counter()
        with self._bar(title, total, MofNCompleteColumn()) as (bars, task):
            if bars:
                yield lambda n: bars.advance(task, n)
            else:
                with Heartbeat(self.say, title, total) as beat:
                    yield beat.advance
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
            if not self.quiet and (self.console.is_terminal or self.console.is_jupyter):
                shown = [TextColumn("  {task.description}", markup=False), BarColumn(), *columns, TimeRemainingColumn()]
                with Bars(*shown, console=self.console, transient=True) as bars:
                    yield bars, bars.add_task(terminal(title), total=total)
            else:
                yield None, TaskID(0)
        except Exception as error:
            error.add_note(title)  # so that a shortage of memory is told with the stage that needed it
            raise
