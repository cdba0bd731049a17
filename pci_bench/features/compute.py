"""Computing feature sets: one pass over the crops for extractors that share their preparation, part by part, in processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.extractor import Compute
from pci_bench.api.segmenter import SEGMENTERS
from pci_bench.api.workers import WorkerSetup
from pci_bench.errors import PluginError
from pci_bench.features.availability import code_of
from pci_bench.features.jobs import Job, by_extractor, job_of, parts_of, stage_name, unfinished, values_of, write_part
from pci_bench.features.names import FeatureSet
from pci_bench.system.arguments import PRECISIONS
from pci_bench.system.devices import device_name
from pci_bench.system.machine import cpu_seconds
from pci_bench.system.progress import Progress
from pci_bench.system.threads import available_cores, machine_cores, set_threads
from pci_bench.system.workers import shared

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells

SECONDS_PER_PART = 30.0  # of work: no more of it is lost when it is interrupted
SECONDS_WORTH_PROCESSES = 20.0  # of CPU time: less is done sooner and cheaper than processes are started


def computed(
    jobs: Sequence[Job], cells: Cells, device: str, workers: int | None, progress: Progress
) -> Iterator[tuple[Job, np.ndarray, str]]:
    """Compute the parts of a pass that are not there yet, and yield the values (n, d) of each feature set, and the device's name."""
    blocks = jobs[0].blocks(len(cells))
    todo = unfinished(jobs, blocks)
    done = len(cells) - sum(stop - start for start, stop in todo)
    by_crop = jobs[0].extractor.meta.processes
    asked, workers = workers, min(workers or (available_cores() if by_crop else 1), len(todo), machine_cores()) or 1
    cores = 1 if by_crop else max(1, available_cores() // workers)
    with progress.stage(f"extracting {stage_name(jobs)}", len(cells)) as advance:
        advance(done)
        if todo and (workers == 1 or asked is None):
            pool = Pool.of(jobs, cores, device)
            opened = opened_extractors(jobs, cells, device, pool.threads)
            while todo:
                began = cpu_seconds()
                compute_block(opened, cells, todo.pop(0), device, pool, advance)
                if workers > 1 and (cpu_seconds() - began) * len(todo) > SECONDS_WORTH_PROCESSES:
                    break
        if todo:
            from joblib import delayed

            setup = WorkerSetup.here(cores)
            tasks = (
                delayed(_work)(
                    [j.features for j in jobs],
                    cells,
                    block,
                    device,
                    jobs[0].settings,
                    setup,
                )
                for block in todo
            )
            for start, stop in shared(tasks, workers, partial(what_was_lost, jobs, cells, todo)):
                advance(stop - start)
    for job in jobs:
        yield job, values_of(job, blocks), device_name(device)


def opened_extractors(jobs: Sequence[Job], cells: Cells, device: str, threads: int) -> tuple[_Computation, ...]:
    """Open the extractors of a pass, each once, and give the process's libraries their threads."""
    set_threads(threads)
    opened = []
    for extractor_jobs in by_extractor(jobs).values():
        with code_of(extractor_jobs[0].features, "in open()", [str(job.features) for job in extractor_jobs]):
            opened.append(
                _Computation(
                    tuple(extractor_jobs),
                    extractor_jobs[0].extractor.open(cells.channels, extractor_jobs[0].weights, device),
                    device,
                )
            )
    set_threads(threads)  # once more, for libraries that were imported just now
    return tuple(opened)


def what_was_lost(jobs: Sequence[Job], cells: Cells, todo: Sequence[tuple[int, int]]) -> str:
    """Return the first cells that are not there, for a sentence, and how many are."""
    kept = sum(stop - start for parts in parts_of(jobs, jobs[0].blocks(len(cells))) for start, stop in parts)
    of_todo = zip(todo, parts_of(jobs, todo), strict=True)
    lacking = (block for block, parts in of_todo if not parts or parts[-1][1] < block[1])
    start, stop = next(lacking, todo[0])
    names = cells.obs["cell"]
    return (
        f"{stage_name(jobs)}, first in the cells '{names.iloc[start]}' to '{names.iloc[stop - 1]}' of {cells.meta.name}. "
        f"{kept:,} of {len(cells):,} cells are kept."
    )


@dataclass(frozen=True)
class _Computation:
    """An opened extractor: the outputs wanted of it, and its function of a batch."""

    jobs: tuple[Job, ...]
    function: Compute
    device: str

    @property
    def outputs(self) -> set[str]:
        return {job.features.output for job in self.jobs}

    def compute(self, crops: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return {output: values} of a batch of crops, the first of which are of the cells `names`."""
        with code_of(self.jobs[0].features, f"on {cells_text(names)}", [str(job.features) for job in self.jobs]):
            with products_in(self.jobs[0].precision, self.device):
                values = self.function(crops, self.outputs)
            if not isinstance(values, dict):
                raise TypeError(f"it returned {type(values).__name__}; expected a dict of outputs")
            return values


def products_in(precision: str, device: str) -> AbstractContextManager[Any]:
    """Return a block, of one thread, in which torch multiplies in a precision: ``"float32"`` or ``"bfloat16"``."""
    if precision == PRECISIONS[0]:
        return nullcontext()
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, precision))


@dataclass(frozen=True)
class Pool:
    """How a process uses its cores: batches beside each other with one thread each, or one batch with all threads.

    Threads that share one operation wait for each other in a loop, hundreds of times in a batch of a small network; on a
    busy machine that costs several times the CPU time of the work itself.
    """

    batches: int
    threads: int

    @classmethod
    def of(cls, jobs: Sequence[Job], cores: int, device: str) -> Pool:
        """Return the way of a pass's extractors on some cores."""
        beside = jobs[0].extractor.meta.concurrent and device == "cpu"
        return cls(cores, 1) if beside else cls(1, cores)

    def map(self, function: Callable[[int], Any], items: Sequence[int]) -> Iterator[Any]:
        """Yield a function's values in the order of the items."""
        if self.batches == 1 or len(items) == 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(self.batches)
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)


def _work(
    wanted: list[FeatureSet],
    cells: Cells,
    block: tuple[int, int],
    device: str,
    settings: tuple[str, int, str],
    setup: WorkerSetup,
) -> tuple[int, int]:
    """Compute one block in a worker process."""
    setup.begin()
    jobs = [job_of(features, cells, *settings) for features in wanted]
    pool = Pool.of(jobs, setup.cores, device)
    compute_block(opened_extractors(jobs, cells, device, pool.threads), cells, block, device, pool, lambda n: None)
    return block


def compute_block(
    opened: Sequence[_Computation],
    cells: Cells,
    block: tuple[int, int],
    device: str,
    pool: Pool,
    advance: Any,
    first_cell: int = 0,
) -> None:
    """Compute the cells of a block, and write one file per output for every part of it that is done.

    Of all cells, `cells` are those from the position `first_cell` on.

    A part ends with the block, or after some seconds of work: what was written is not computed again after an interruption.
    Every call gets exactly the job's ``batch`` crops, the last filled up with zeros, so that a cell's numbers do not depend on
    how many cells there are or where it stands among them.
    """
    (start, stop), first_job = block, opened[0].jobs[0]
    batch_size = first_job.batch
    collected: dict[FeatureSet, np.ndarray] = {}
    prepared = _prepared(
        first_job, cells, device, [str(job.features) for computation in opened for job in computation.jobs]
    )
    names = cell_names(cells, slice(start - first_cell, stop - first_cell))
    span = max(batch_size, 512 // batch_size * batch_size)  # read a few chunks of the store at once
    kept, began = start, time.monotonic()
    for first in range(start, stop, span):
        crops = prepared(slice(first - first_cell, min(first + span, stop) - first_cell))

        def values_of(offset: int, crops: np.ndarray = crops, first: int = first) -> list[dict[str, np.ndarray]]:
            batch = crops[offset : offset + batch_size]
            measured = names[first + offset - start : first + offset - start + len(batch)]
            if len(batch) < batch_size:
                batch = np.concatenate([batch, np.zeros((batch_size - len(batch), *batch.shape[1:]), np.float32)])
            return [computation.compute(batch, measured) for computation in opened]

        offsets = range(0, len(crops), batch_size)
        for offset, values in zip(offsets, pool.map(values_of, offsets), strict=True):
            rows = slice(first + offset - start, min(first + offset + batch_size, stop) - start)
            for computation, by_output in zip(opened, values, strict=True):
                for job in computation.jobs:
                    _collect(job, by_output, collected, rows, stop - start, names[rows])
            advance(rows.stop - rows.start)
            end = start + rows.stop
            if end == stop or time.monotonic() - began > SECONDS_PER_PART:
                for job in (job for computation in opened for job in computation.jobs):
                    part = slice(kept - start, end - start)
                    write_part(job, names[part], kept, collected[job.features][part])
                kept, began = end, time.monotonic()


def _collect(
    job: Job,
    values: dict[str, np.ndarray],
    collected: dict[FeatureSet, np.ndarray],
    rows: slice,
    n: int,
    names: Sequence[str],
) -> None:
    """Put a batch's values of one output in their rows of the part's n.

    Filled in place: small arrays kept from every batch would keep the allocator from using a batch's memory again.
    """
    meta, output = job.extractor.meta, job.features.output
    columns = collected[job.features].shape[1] if job.features in collected else None
    array = checked_numbers(job.features, meta.name, values.get(output), names, (job.batch, columns))
    if job.features not in collected:
        collected[job.features] = np.empty((n, array.shape[1]), np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused by name
        collected[job.features][rows] = array[: rows.stop - rows.start]


def cell_names(cells: Cells, index: slice) -> list[str]:
    """Return the names of some cells."""
    return cells.obs["cell"].iloc[index].astype(str).tolist()


def cells_text(names: Sequence[str]) -> str:
    """Return some cells as words of a sentence, by the first and the last name."""
    return f"the cell '{names[0]}'" if len(names) == 1 else f"the cells '{names[0]}' to '{names[-1]}'"


def checked_numbers(
    features: FeatureSet, extractor: str, values: Any, names: Sequence[str], expected: tuple[int, int | None]
) -> np.ndarray:
    """Return a batch's values as an array of real numbers (rows, columns).

    Parameters
    ----------
    features, extractor
        Of which feature set they are, and the name of what gave them.
    values
        What it gave.
    names
        The cells of the first rows; further ones fill up the batch.
    expected
        Rows and columns; None for as many columns as there are.

    Raises
    ------
    PluginError
        For nothing, masked values, rows of different lengths, text, objects, complex numbers, or another shape.
    """
    rows, columns = expected
    array: np.ndarray = np.empty(0)
    cells, problem = cells_text(names), ""
    if values is None:
        problem = "nothing"
    elif np.ma.is_masked(values):
        problem = "masked values"
    else:
        try:
            array = np.asarray(values)
        except ValueError:
            problem = "rows of different lengths"
        except Exception as error:  # as of a tensor that needs a gradient, or is on another device
            problem = f"{type(values).__name__} that is no array of numbers ({error})"
        else:
            if array.shape[:1] == (rows,) and array.ndim == 2 and columns in (None, array.shape[1]):
                if array.dtype.kind not in "biuf":
                    bad = [i for i in range(len(names)) if not _is_real(array[i])]
                    cells = f"the cell '{names[bad[0]]}'" if bad else cells
                    problem = f"values of the type {_type_said(array.dtype)}"
            else:
                problem = f"the shape {array.shape}"
    if problem:
        raise PluginError.of(
            f"{extractor} gave {problem} for {rows} crops{f' and the output {features.output}' if features.output else ''}; "
            f"expected one row per crop, ({rows}, {'d' if columns is None else columns}), of real numbers. "
            f"First seen for {cells}. Correct the extractor.",
            [str(features)],
        )
    return array


def _is_real(row: np.ndarray) -> bool:
    return all(isinstance(value, int | float | np.integer | np.floating) for value in row.tolist())


def _type_said(dtype: np.dtype) -> str:
    return "text" if dtype.kind in "SU" else str(dtype)


def _prepared(job: Job, cells: Cells, device: str, features: Sequence[str]) -> Callable[[slice], np.ndarray]:
    """Return a function of a slice of the cells that gives their crops as the extractors of a pass want them, masks included."""
    meta = job.extractor.meta
    if job.segmenter is None:
        return lambda index: cells.crops(index, rescale=meta.rescale, masks=meta.masks)
    segmenter = job.segmenter
    with SEGMENTERS.code(segmenter, "in open()", features):
        segment = SEGMENTERS.get(segmenter).open(cells.channels, device)

    def crops_and_masks(index: slice) -> np.ndarray:
        crops, names = cells.crops(index), cell_names(cells, index)
        with SEGMENTERS.code(segmenter, f"on {cells_text(names)}", features):
            masks = np.asarray(segment(crops))
        if masks.shape != (len(crops), *cells.crop_shape) or masks.dtype.kind not in "biu":
            raise PluginError.of(
                f"The segmenter {segmenter} gave masks of the shape {masks.shape} and the type {masks.dtype} for "
                f"{cells_text(names)}; expected whole numbers (crops, rows, columns), {(len(crops), *cells.crop_shape)}. "
                "Correct the segmenter.",
                features,
            )
        return np.concatenate([cells.crops(index, rescale=meta.rescale), masks[:, None].astype(np.float32)], axis=1)

    return crops_and_masks
