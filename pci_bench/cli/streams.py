"""Standard output and standard error as they may be: closed, full, of another encoding, or with a reader who has left."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pci_bench.system.shortages import REMEDIES

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MIN_COLUMNS = 20
PLAIN = str.maketrans({"×": "x", "–": "-", "—": "-", "−": "-", "…": "...", "²": "2", "’": "'", "“": '"', "”": '"'})
CANNOT_ENCODE = "pci_bench.plain"


def plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that a stream cannot hold: their ASCII form, or their number."""
    assert isinstance(error, UnicodeEncodeError)
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode("ascii"), error.end


codecs.register_error(CANNOT_ENCODE, plain)


class _Outlet(io.FileIO):
    """A file descriptor that takes all that is written; after the first error it drops it, and remembers the error.

    So a command ends its work when the reader of its output has left (``| head``), or when what it says cannot be kept.
    """

    error: OSError | None = None

    def write(self, data: ReadableBuffer) -> int:
        """Return the number of bytes taken."""
        octets = memoryview(data)
        if self.error is None:
            try:
                return super().write(octets)
            except BlockingIOError:
                raise
            except OSError as error:
                self.error = error
        return octets.nbytes


def open_closed_streams() -> None:
    """Open /dev/null in place of standard streams that are closed, so that no file takes their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 - kept


def forget_impossible_sizes() -> None:
    """Leave out of the environment what says that a terminal has no columns, or no number of them."""
    for name, minimum in (("COLUMNS", MIN_COLUMNS), ("LINES", 1)):
        value = os.environ.get(name, "")
        if not (value.isascii() and value.isdecimal() and int(value) >= minimum):
            os.environ.pop(name, None)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Make both streams take every text; afterwards, end with 2 and a sentence where standard output lost any of it.

    A reader who has left is no error.
    """
    outlets = {}
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue  # not ours: a test's, or a notebook's
        stream.flush()
        if sys.platform == "win32":  # a console there takes text, and no bytes of its descriptor
            stream.reconfigure(errors=CANNOT_ENCODE)
            continue
        outlets[name] = _Outlet(number, "w", closefd=False)
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(outlets[name]),
                encoding=stream.encoding,
                errors=CANNOT_ENCODE,
                line_buffering=stream.line_buffering,
            ),
        )
    try:
        yield
    finally:
        for name in outlets:
            getattr(sys, name).flush()
        lost = outlets["stdout"].error if "stdout" in outlets else None
        if lost is not None and lost.errno != errno.EPIPE:
            why = REMEDIES.get(lost.errno or 0, str(lost.strerror)).partition(":")[0]
            print(f"Error: Could not write to standard output: {why}. Send it to another place.", file=sys.stderr)
            sys.exit(2)
