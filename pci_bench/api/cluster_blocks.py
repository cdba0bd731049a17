"""Work on arrays in blocks of rows on a Dask cluster: the shared cache holds what goes in and comes out."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pci_bench.api.cluster import ClusterSetup, introduced, own_code, wait_until_seen
from pci_bench.system.blocks import Blocks, BlockWork
from pci_bench.system.checksums import DamagedError, check_seal, seal, unsealed
from pci_bench.system.cluster import Call
from pci_bench.system.files import SECONDS_UNTIL_ABANDONED, atomic_file, cache_folder, lock, remove_folder
from pci_bench.system.progress import Progress

SECONDS_WORTH_A_CLUSTER = 60.0  # of one core; below, the way there costs more than it saves
SECONDS_PER_BLOCK = 20.0
MIN_ROWS = 1024  # of a block: a matrix product of fewer is slow


class ClusterBlocks(Blocks):
    """Rows are computed by the workers of a cluster, block by block; short work is done in this process.

    Parameters
    ----------
    scheduler
        The address of the cluster's scheduler.
    progress
        The progress reporter.
    """

    def __init__(self, scheduler: str, progress: Progress):
        super().__init__()
        self._scheduler = scheduler
        self._progress = progress

    def computed(self, work: BlockWork) -> tuple[np.ndarray, ...]:
        """Return all rows of each result.

        Arrays lie in a folder of the cache while blocks are computed, and finished blocks beside them until all are there: a call that
        was interrupted continues.

        Raises
        ------
        UserError
            Where there is no such cluster, it is lost, or its workers cannot compute what this process asks for.
        """
        if work.seconds < SECONDS_WORTH_A_CLUSTER:
            return super().computed(work)
        folder = cache_folder() / "blocks" / _key(work)
        with lock(folder, self._progress.say):
            _remove_abandoned(folder.parent)
            spans = _spans(work)
            self._compute(work, folder, spans)
            results = _joined(folder, spans)
            remove_folder(folder)
        return results

    def _compute(self, work: BlockWork, folder: Path, spans: Sequence[tuple[int, int]]) -> None:
        """Have the blocks computed that are not in the folder yet."""
        todo = _unfinished(folder, spans)
        if not todo:
            return
        cluster, setup = introduced(self._scheduler, self._progress), ClusterSetup.here()
        for place, array in enumerate(work.arrays):
            _write(folder / f"{place}.npy", array)
        calls = [Call(compute_block, (BlockTask(setup, folder, work.function, len(work.arrays), *s),)) for s in todo]
        lost = partial(_what_was_lost, work, folder, spans)
        with self._progress.stage(f"{work.title} on the cluster", work.rows) as advance:
            advance(work.rows - sum(stop - start for start, stop in todo))
            for rows in cluster.results(work.title, calls, lost, self._progress.say):
                advance(rows)
        wait_until_seen(lambda: not _unfinished(folder, spans), work.title, folder)


@dataclass(frozen=True)
class BlockTask:
    """What a worker is told: the function, where its arrays lie, and which rows to compute.

    Parameters
    ----------
    setup
        Code, cache and plug-ins.
    folder
        Of the arrays and the finished blocks.
    function
        What computes rows, as of :class:`~pci_bench.system.blocks.BlockWork`.
    arrays
        How many it takes.
    start, stop
        The first row, and the one after the last.
    """

    setup: ClusterSetup
    folder: Path
    function: Callable[..., tuple[np.ndarray, ...]]
    arrays: int
    start: int
    stop: int


def compute_block(task: BlockTask) -> int:
    """Compute a block in a worker, which is then in its folder, and return how many rows it has.

    Arrays are mapped into memory, so that workers on one machine share them.
    """
    with task.setup.begun():
        arrays = [
            np.asarray(np.load(task.folder / f"{n}.npy", mmap_mode="c", allow_pickle=False)) for n in range(task.arrays)
        ]
        results = task.function(task.start, task.stop, *arrays)
        with atomic_file(_block(task.folder, (task.start, task.stop))) as temporary:
            np.savez(temporary, *results)
            seal(temporary)
    return task.stop - task.start


def _key(work: BlockWork) -> str:
    """Return a hash of all that the rows follow from."""
    digest = hashlib.sha256(own_code().encode() + pickle.dumps(work.function))
    for array in work.arrays:
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:20]


def _spans(work: BlockWork) -> list[tuple[int, int]]:
    """Return the first row of every block, and the one after its last: the same whatever workers there are."""
    size = max(MIN_ROWS, math.ceil(work.rows * SECONDS_PER_BLOCK / work.seconds))
    return [(start, min(start + size, work.rows)) for start in range(0, work.rows, size)]


def _block(folder: Path, span: tuple[int, int]) -> Path:
    """Return the file of a finished block."""
    return folder / f"{span[0]:09d}-{span[1]:09d}.npz"


def _unfinished(folder: Path, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the blocks that are not in a folder; a damaged one is removed."""
    absent = []
    for span in spans:
        file = _block(folder, span)
        try:
            check_seal(file)
        except FileNotFoundError:
            absent.append(span)
        except DamagedError:
            file.unlink()
            absent.append(span)
    return absent


def _write(file: Path, array: np.ndarray) -> None:
    """Write an array, unless an earlier call has written the same."""
    if not file.exists():
        with atomic_file(file) as temporary:
            np.save(temporary, array)


def _joined(folder: Path, spans: Sequence[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Return each result with the rows of all blocks."""
    results: list[np.ndarray] = []
    for start, stop in spans:
        with np.load(io.BytesIO(unsealed(_block(folder, (start, stop)))), allow_pickle=False) as block:
            parts = [block[name] for name in block.files]
        results = results or [np.empty((spans[-1][1], *part.shape[1:]), part.dtype) for part in parts]
        for result, part in zip(results, parts, strict=True):
            result[start:stop] = part
    return tuple(results)


def _what_was_lost(work: BlockWork, folder: Path, spans: Sequence[tuple[int, int]]) -> str:
    """Return what is not computed, and how much is kept, as the middle of a sentence."""
    kept = len(spans) - len(_unfinished(folder, spans))
    return f"{work.title}. {kept} of {len(spans)} blocks are kept."


def _remove_abandoned(parent: Path) -> None:
    """Remove what interrupted calls left for a week."""
    for entry in parent.iterdir():
        with suppress(OSError):  # another process was faster
            if time.time() - entry.stat().st_mtime > SECONDS_UNTIL_ABANDONED:
                if entry.is_dir():
                    remove_folder(entry)
                elif re.fullmatch(r"[0-9a-f]{20}\.lock", entry.name):
                    entry.unlink()
