"""Crops for training: in memory where they fit, else in one flat file, so that random pairs never wait for a chunk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.system.checksums import DamagedError, check_seal, seal
from pci_bench.system.files import atomic_file, cache_folder
from pci_bench.system.progress import Progress

if TYPE_CHECKING:
    import torch

IN_MEMORY_BYTES = 2 * 2**30
READ_CELLS = 256


def stored_crops(cells: Cells, progress: Progress) -> np.ndarray:
    """Return all raw crops (n, channels, rows, columns), in memory or mapped from a flat copy in the cache."""
    first = cells.stored(slice(0, 1))
    shape = (len(cells), *first.shape[1:])
    n_bytes = int(np.prod(shape)) * first.dtype.itemsize
    if n_bytes <= IN_MEMORY_BYTES:
        crops = np.empty(shape, first.dtype)
        _copy(cells, crops, progress)
        return crops
    file = cache_folder() / "training" / f"crops-{cells.sha256[:20]}.npy"
    if file.exists():
        try:
            check_seal(file)
        except DamagedError as error:
            progress.say(f"The cache file {file} is damaged ({error}). It is made again.")
            file.unlink()
    if not file.exists():
        with atomic_file(file) as temporary:
            mapped = np.lib.format.open_memmap(temporary, mode="w+", dtype=first.dtype, shape=shape)
            _copy(cells, mapped, progress)
            mapped.flush()
            del mapped
            seal(temporary)
    kept: np.ndarray = np.load(file, mmap_mode="r", allow_pickle=False)
    return kept


def _copy(cells: Cells, into: np.ndarray, progress: Progress) -> None:
    with progress.stage(f"reading {cells.meta.name}, {len(cells):,} cells", len(cells)) as advance:
        for start in range(0, len(cells), READ_CELLS):
            part = cells.stored(slice(start, start + READ_CELLS))
            into[start : start + len(part)] = part
            advance(len(part))


def tensor(array: np.ndarray, device: str) -> torch.Tensor:
    """Return an array on a device; crops with their channels last, as convolutions like them."""
    import torch

    layout = torch.channels_last if array.ndim == 4 else torch.preserve_format
    return torch.from_numpy(array).to(device=device, memory_format=layout, non_blocking=True)


class Batches:
    """The batches of an epoch, prepared by a thread of their own while the network works.

    Parameters
    ----------
    prepared_batch
        Returns the arrays of a batch by its position in the epoch.
    count, batch
        How many batches, of how many cells each.
    ahead
        How many wait at most.

    Attributes
    ----------
    first
        The position that it begins with, after an epoch that was interrupted there.
    prepared, busy
        Cells or pairs prepared and the seconds that took: the loader's own rate.
    waited
        Seconds that the network waited for a batch.
    """

    def __init__(
        self, prepared_batch: Callable[[int], tuple[np.ndarray, ...]], count: int, batch: int, *, ahead: int = 6
    ):
        self._prepared_batch, self._count, self._batch = prepared_batch, count, batch
        self._ready: queue.Queue[tuple[np.ndarray, ...] | BaseException] = queue.Queue(maxsize=ahead)
        self._stop = threading.Event()
        self.first = 0
        self.prepared, self.busy, self.waited = 0, 0.0, 0.0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Yield the batches in order."""
        thread = threading.Thread(target=self._prepare, daemon=True)
        thread.start()
        try:
            for _ in range(self.first, len(self)):
                started = time.perf_counter()
                item = self._ready.get()
                self.waited += time.perf_counter() - started
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self._stop.set()
            thread.join()

    def _prepare(self) -> None:
        try:
            for position in range(self.first, len(self)):
                started = time.perf_counter()
                arrays = self._prepared_batch(position)
                self.busy += time.perf_counter() - started
                self.prepared += self._batch
                while not self._stop.is_set():
                    try:
                        self._ready.put(arrays, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if self._stop.is_set():
                    return
        except BaseException as error:
            self._ready.put(error)
