"""What a fault is, and what must hold however one is met: one sentence, its exit status, and nothing half-written."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from command_line import Said, leftovers
from files_in_folders import write

RUN = ("run", "yeast-knn", "--device", "cpu")  # which spares every process the import of torch
SUFFIXES = ("gfp", "rfp")
FEW = ("--features", "intensity", "--k", "1")
SECONDS_UNTIL_WORKERS_END = 20.0


def nothing(folder: Path) -> None:
    """Arrange nothing."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong, and how the command line must meet it.

    Attributes
    ----------
    what
        What is wrong, in the words of who meets it; the test's name.
    arguments
        The command line, run in an empty folder.
    words
        What the sentence must hold.
    arrange
        Makes the folder in which the command is run; given its path.
    code
        The exit status. With 0 the words must be printed on either stream, as a note; with 2, in the one sentence.
    own
        Run the installed command in a process of its own. A few of each class; the others share this one.
    environment
        Variables of that process, by name; only with `own`.
    absent
        Paths, below the folder, that must not be there afterwards.
    """

    what: str
    arguments: tuple[object, ...]
    words: tuple[str, ...]
    arrange: Callable[[Path], object] = nothing
    code: int = 2
    own: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ("out",)


def refused(said: Said, *words: str) -> None:
    """Check that a command ended with one sentence that holds all words."""
    assert said.code == 2, said.err
    assert "Traceback" not in said.err
    errors = [line for line in said.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, said.err
    assert errors[0].rstrip()[-1] in ".?`", errors[0]
    for word in words:
        assert word in errors[0], (word, errors[0])
    assert said.out == ""


def noted(said: Said, *words: str) -> None:
    """Check that a command did its work and printed all words."""
    assert said.code == 0, said.err
    assert "Traceback" not in said.err
    printed = " ".join((said.out + " " + said.err).split())  # a terminal folds lines
    for word in words:
        assert " ".join(word.split()) in printed, (word, printed)


def whole_stores_only(cache: Path) -> None:
    """Check that nothing in a cache is half-written: no temporary files, and no store without its description."""
    patience = time.monotonic() + SECONDS_UNTIL_WORKERS_END
    while leftovers(cache) and time.monotonic() < patience:  # of workers that notice their parent's end
        time.sleep(0.1)
    assert leftovers(cache) == []
    for store in cache.glob("datasets/*/*"):
        assert store.suffix == ".lock" or (store / "store.json").is_file(), store
    for file in cache.glob("features/**/*.h5ad"):
        with h5py.File(file) as opened:
            assert "X" in opened


def crops(images: int = 4, cells: int = 3, size: int = 8, dtype: type = np.uint8) -> dict[str, np.ndarray | str]:
    """Return a sound folder of crops, for `write_crops`, of two labels."""
    rng = np.random.default_rng(0)
    files: dict[str, np.ndarray | str] = {
        f"w{image}/{cell}_{suffix}.tif": rng.integers(1, 200, (size, size)).astype(dtype)
        for image in range(images)
        for cell in range(cells)
        for suffix in SUFFIXES
    }
    files["images.csv"] = "image,label\n" + "".join(f"w{i},{'ab'[i % 2]}\n" for i in range(images))
    return files


def changed(**changes: object) -> dict[str, np.ndarray | str]:
    """Return sound crops with some files replaced, or (None) left out."""
    files = {**crops(), **changes}
    return {name: content for name, content in files.items() if content is not None}


def with_crops(**changes: object) -> Callable[[Path], Path]:
    """Return an `arrange` that writes the folder ``crops`` of sound crops with some files replaced or (None) left out."""
    return lambda folder: write(folder / "crops", changed(**changes))
