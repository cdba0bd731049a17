"""Whether a folder of crops has changed: of few files by looking at each, of very many by what was noted of the folder before."""

from __future__ import annotations

import hashlib
import os
import random
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pci_bench.acquisition.image_folders import is_readable, walk
from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, write_json
from pci_bench.system.foreign import read_json
from pci_bench.system.shortages import raise_shortage

MANY_FILES = 50_000  # from here on a folder is noted; so many files are looked at in about a third of a second
DRAWN = 1000  # files of a noted folder that are looked at each time
SETTLED_NS = 2_000_000_000  # a folder that changed less long ago may change again without another time
TABLES = ("images.csv", "cells.csv")


@dataclass(frozen=True)
class Note:
    """What is known of a folder of very many files.

    Attributes
    ----------
    fingerprint
        Of all its files.
    folders
        Size and time of change in nanoseconds of each folder, which changes when it gets or loses a file, by its path below.
    drawn
        The same of some of its files.
    tables
        The same of the tables beside the crops; None of one that is not there.
    """

    fingerprint: str
    folders: dict[str, list[int]]
    drawn: dict[str, list[int]]
    tables: dict[str, list[int] | None]

    def still_true(self, root: Path) -> bool:
        """Return whether no folder, none of the tables and none of the drawn files has changed."""
        known = [*self.tables.items(), *self.folders.items(), *self.drawn.items()]
        return all(_stat(root / name) == stat for name, stat in known)


def folder_fingerprint(root: Path) -> str:
    """Return a text that changes when an image or table below a folder is added, removed, resized or touched.

    A folder of more than 50,000 files is looked at whole once, and noted in the cache. From then on, what is looked at is each folder's time
    of change, the tables, and a thousand of the files. An image that is overwritten in place, and is none of these, is not noticed;
    ``pci-bench data remove folder:PATH`` forgets what was noted.

    Raises
    ------
    UserError
        As :func:`pci_bench.acquisition.image_folders.all_files`.
    """
    noted = note_of(root)
    if (note := _read(noted)) is not None and note.still_true(root):
        return note.fingerprint
    began = time.time_ns()
    folders: dict[str, list[int]] = {}
    images: dict[str, list[int]] = {}
    for below, files in walk(root, "crops"):
        folders[below] = _stat(root / below) or [0, 0]
        images |= {name: stat for name, entry in files if is_readable(name) and (stat := _stat(entry)) is not None}
    listed = sorted(images.items())
    tables = {name: _stat(root / name) for name in TABLES}
    digest = hashlib.sha256()
    for name, stat in [*listed, *tables.items()]:
        if stat is not None:
            digest.update(f"{name}\0{stat[0]}\0{stat[1]}\n".encode())
    fingerprint = digest.hexdigest()
    if len(listed) >= MANY_FILES and began - max(changed for _, changed in folders.values()) > SETTLED_NS:
        drawn = dict(random.Random(fingerprint).sample(listed, min(DRAWN, len(listed))))
        with suppress(UserError):  # where the cache can only be read, the folder is looked at whole each time
            write_json(noted, asdict(Note(fingerprint, folders, drawn, tables)))
    return fingerprint


def note_of(root: Path) -> Path:
    """Return where in the cache a folder of very many files is noted, or would be."""
    return cache_folder() / "folders" / f"{hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:20]}.json"


def _read(file: Path) -> Note | None:
    """Return a note, or None where there is none that can be read."""
    try:
        return Note(**read_json(file))
    except (OSError, ValueError, TypeError) as error:
        raise_shortage(error)
        return None


def _stat(path: Path | os.DirEntry[str]) -> list[int] | None:
    """Return size and time of change of a file or folder, in nanoseconds, or None where it is not there."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
