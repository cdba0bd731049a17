"""How a command ends by Ctrl-C, SIGTERM or SIGHUP: with one sentence, 128 plus the signal's number, and nothing half-written.

A signal raises :class:`Ended`, so that everything cleans up after itself. Where that cannot be relied on (while a library is
imported, when it takes long, or when the user insists) the process ends at once, after what `undone` was told of.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

SECONDS_OF_ONE_PRESS = 1.0  # a second signal so soon is the same wish, and must not disturb the cleaning up
SECONDS_TO_CLEAN_UP = 6.0  # containers are killed ten seconds after they were asked to end
CONTINUES = "Run the same command again: it continues where it stopped."
SENTENCES = {
    "SIGINT": "Interrupted.",
    "SIGTERM": "Ended by SIGTERM.",
    "SIGHUP": "Ended by SIGHUP: its terminal is gone.",
}


class Ended(KeyboardInterrupt):
    """A signal asked the process to end."""


@dataclass(frozen=True)
class _Received:
    number: int
    monotonic_time: float
    advice: str


_listening = False
_received: _Received | None = None
_postponed = 0
_waiting: int | None = None  # a signal that came while it was postponed
_ending = threading.Lock()
_undo: dict[object, Callable[[], object]] = {}
_advice: list[Callable[[], str]] = []


@contextmanager
def ended_on_signals(*, whole_process: bool = False) -> Iterator[None]:
    """Let SIGINT, SIGTERM and SIGHUP end the block, and with it the process; signals that are ignored stay so (``nohup``).

    Where the block is all that a process does, signals that come while the interpreter shuts down end it at once with the
    exit status that it has reached, or change nothing in its last moments: the work is done.
    """
    global _listening, _received
    if _listening or threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in SENTENCES if hasattr(signal, name)]  # Windows has no SIGHUP
    handled = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    if whole_process:  # registered first, so run last: what follows takes Python's handlers away
        atexit.register(lambda: [signal.signal(number, signal.SIG_IGN) for number in handled])
    before = {number: signal.signal(number, _on_signal) for number in handled}
    _listening, _received = True, None
    code = 0
    try:
        yield
        if _received is not None:  # a library swallowed it
            end()
    except BaseException as error:
        if _received is not None:  # whatever a library made of it
            end()
        code = (
            1
            if not isinstance(error, SystemExit)
            else error.code
            if isinstance(error.code, int)
            else int(bool(error.code))
        )
        raise
    finally:
        _listening = False
        for number, handler in before.items():
            signal.signal(number, (lambda *_: _leave(code)) if whole_process else handler)


def _leave(code: int) -> NoReturn:
    """End the process at once."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


@contextmanager
def undone(action: Callable[[], object]) -> Iterator[None]:
    """Run an action if a signal ends the process at once within the block; what happens otherwise is the block's affair."""
    key = object()
    _undo[key] = action
    try:
        yield
    finally:
        _undo.pop(key, None)


def undo() -> None:
    """Run what `undone` was told of, the last first: for a process that is about to end at once."""
    for action in reversed(list(_undo.values())):
        with suppress(Exception):
            action()


@contextmanager
def advising(advice: Callable[[], str]) -> Iterator[None]:
    """Say another sentence than that the same command continues, if a signal ends the process within the block."""
    _advice.append(advice)
    try:
        yield
    finally:
        _advice.remove(advice)


@contextmanager
def postponed() -> Iterator[None]:
    """Let a signal wait until the end of the block: some renames, say, that belong together."""
    global _postponed, _waiting
    if threading.current_thread() is not threading.main_thread():  # where no signal is handled
        yield
        return
    _postponed += 1
    try:
        yield
    finally:
        _postponed -= 1
        if not _postponed and _waiting is not None:
            number, _waiting = _waiting, None
            raise Ended(number)


def end() -> NoReturn:
    """Print the one sentence and end the process, without the shutdown of an interpreter whose threads still work."""
    if _received is None:
        sys.stderr.write(f"{SENTENCES['SIGINT']} {CONTINUES}\n")
        sys.exit(128 + signal.SIGINT)
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    with suppress(BaseException):  # worker processes and their semaphores are ended there; the watchdog sets the limit
        atexit._run_exitfuncs()
    _end_now()
    while True:  # another thread is just ending the process
        time.sleep(1)


def _end_now() -> None:
    """Undo what is half-done, print the one sentence, and end the process; nothing where that is being done already."""
    if _received is None or not _ending.acquire(blocking=False):
        return
    undo()
    show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # which a live progress bar hides
    sentence = f"{show_cursor}{SENTENCES[signal.Signals(_received.number).name]} {_received.advice}\n"
    with suppress(OSError):
        os.write(2, sentence.encode(errors="replace"))
    os._exit(128 + _received.number)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global _received, _waiting
    if _received is not None:
        if time.monotonic() - _received.monotonic_time > SECONDS_OF_ONE_PRESS:
            _end_now()
        return
    _received = _Received(number, time.monotonic(), _advice[-1]() if _advice else CONTINUES)
    if _importing(frame):  # an exception in the middle of a compiled library's import may abort the process
        _end_now()
    watchdog = threading.Timer(SECONDS_TO_CLEAN_UP, _end_now)
    watchdog.daemon = True
    watchdog.start()
    if _postponed:
        _waiting = number
        return
    raise Ended(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib._bootstrap"):
            return True
        frame = frame.f_back
    return False
