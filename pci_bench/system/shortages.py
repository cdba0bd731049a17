"""What a machine refuses, as sentences: a full disk, a forbidden place, too little memory, too few files or processes."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator

ELSEWHERE = "name another place with --out or PCI_BENCH_CACHE"
REMEDIES = {
    errno.ENOSPC: f"the disk is full: free some space, or {ELSEWHERE}",
    errno.EDQUOT: f"the disk quota is used up: free some space, or {ELSEWHERE}",
    errno.EFBIG: "the file is larger than this process may write: raise the limit (`ulimit -f`)",
    errno.EACCES: f"permission is denied: {ELSEWHERE}",
    errno.EPERM: f"permission is denied: {ELSEWHERE}",
    errno.EROFS: f"the file system is read-only: {ELSEWHERE}",
    errno.ENOTDIR: "part of the path is a file, not a folder: name another place",
    errno.EEXIST: "part of the path is a file, not a folder: name another place",
    errno.EISDIR: "there is a folder of this name: name a file",
    errno.ENAMETOOLONG: "the name or the path is too long: use a shorter one",
    errno.ELOOP: "its symbolic links lead in a circle: name another place",
    errno.EIO: "the disk reports an error: check it, or name another place",
    errno.ESTALE: "the network file system has lost it: run the same command again, or name another place",
    errno.ENOLCK: f"the file system has no locks: {ELSEWHERE}",
}
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)  # what a place is that can be read only

_NUMBERS = re.compile(r"(?:\[Errno |errno = |os error |Os \{ code: )(\d+)")  # Python and Arrow, HDF5, Rust in two ways
_DISK_OF_TORCH = ("PytorchStreamWriter failed writing", "inline_container.cc")
_MEMORY = (
    "can't allocate memory",  # torch
    "out of memory",  # CUDA
    "cannot allocate memory",  # the system
    "unable to allocate",  # NumPy, LLVM
    "failed to map segment",  # the loader of compiled libraries
    "bad_alloc",
)
_PROCESSES = ("can't start new thread", "resource temporarily unavailable")
_FEWER = "Use fewer --workers, a smaller --limit (train: a smaller --batch), or a machine with more memory"


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, or while handling, the last first."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and not any(following is earlier for earlier in seen):
        seen.append(following)
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def error_number(error: BaseException) -> int | None:
    """Return the system's number of an error (``errno.ENOSPC``), also where a library says it in its message alone.

    HDF5, Arrow, safetensors and torch raise kinds of their own where a disk is full.
    """
    for cause in chain(error):
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        if match := _NUMBERS.search(str(cause)):
            return int(match[1])
    return errno.ENOSPC if any(words in str(error) for words in _DISK_OF_TORCH) else None


def shortage(error: BaseException) -> tuple[str, str] | None:
    """Return what this process had too little of (memory, files, threads) and what to do, or None for another error.

    What was being read or written is not at fault then, and is never to be called damaged.

    Examples
    --------
    >>> shortage(OSError(24, "Too many open files"))
    ('Too many files are open', 'Raise the limit, for example with `ulimit -n 1024`')
    >>> shortage(ValueError("3 is no k"))
    """
    for cause in chain(error):
        text = str(cause).lower()
        number = cause.errno if isinstance(cause, OSError) else None
        if number in (errno.EMFILE, errno.ENFILE):
            return "Too many files are open", "Raise the limit, for example with `ulimit -n 1024`"
        if number == errno.EAGAIN or any(words in text for words in _PROCESSES):
            return (
                "The system lets this process start no more threads or processes",
                "Raise the limit (`ulimit -u`), or use fewer: --workers 1 and OMP_NUM_THREADS=1",
            )
        if isinstance(cause, MemoryError) or number == errno.ENOMEM or any(words in text for words in _MEMORY):
            details = next((line for line in str(cause).splitlines() if line), "")[:200].rstrip(".")
            return f"There is too little memory{f' ({details})' if details else ''}", _FEWER
    return None


def raise_shortage(error: BaseException) -> None:
    """Raise an error again where this process had too little of something: what it was reading is not damaged then."""
    if shortage(error):
        raise error


def refusal(error: BaseException) -> str | None:
    """Return a sentence on what the machine refused and in which stage of the work, or None where a machine is not at fault.

    Stages are the notes that :meth:`pci_bench.system.progress.ConsoleProgress.stage` leaves on an error.
    """
    stage = next((note for cause in chain(error) for note in getattr(cause, "__notes__", ())), "")
    while_ = f", while {stage}" if stage else ""
    if lacking := shortage(error):
        what, remedy = lacking
        return f"{what}{while_}. {remedy}."
    for cause in chain(error):
        number = cause.errno if isinstance(cause, OSError) else None
        if number in REMEDIES and isinstance(cause, OSError):
            return f"Could not use {cause.filename or 'a file'}{while_}: {REMEDIES[number]}."
    return None
