"""Whether a disk has room for what is to be written, and how amounts are said."""

from __future__ import annotations

import shutil
from pathlib import Path

from pci_bench.errors import UserError

SPARE_BYTES = 1 << 26  # left free on a disk


class NoRoomError(UserError):
    """The disk has too little room for what is to be fetched or unpacked."""


def check_room(folder: Path, needed: int, what: str) -> None:
    """Raise where a disk has too little room for so many bytes more.

    Raises
    ------
    NoRoomError
        With what is needed and what there is.

    Examples
    --------
    >>> check_room(Path("."), 0, "nothing")
    """
    free = shutil.disk_usage(folder).free
    if needed and needed + SPARE_BYTES > free:
        kept = f", of which {megabytes(SPARE_BYTES)} stay free" if needed <= free else ""
        raise NoRoomError(
            f"There is too little room for {what} in {folder}: it needs {megabytes(needed)}, and {megabytes(free)} are free{kept}. "
            "Free some space, or set PCI_BENCH_CACHE to a folder on another disk. Nothing was written."
        )


def megabytes(count: int) -> str:
    """Return a number of bytes for people.

    Examples
    --------
    >>> megabytes(3_100_000), megabytes(2_500_000_000), megabytes(1_660), megabytes(12)
    ('3.1 MB', '2.50 GB', '1.7 kB', '12 bytes')
    """
    for unit, name, digits in ((1e9, "GB", 2), (1e6, "MB", 1), (1e3, "kB", 1)):
        if count >= unit:
            return f"{count / unit:,.{digits}f} {name}"
    return f"{count} bytes"
