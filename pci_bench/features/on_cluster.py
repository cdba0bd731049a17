"""Computing feature sets on a Dask cluster: blocks of cells are tasks, and the shared cache holds what goes in and comes out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.cluster import ClusterSetup, check_workers, here_on_cluster
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.segmenter import DEFAULT_SEGMENTER
from pci_bench.data.store import StoredCells
from pci_bench.errors import UserError
from pci_bench.features.compute import Pool, compute_block, opened_extractors, what_was_lost
from pci_bench.features.jobs import Job, job_of, stage_name, unfinished, values_of
from pci_bench.features.names import FeatureSet
from pci_bench.system.cluster import Call, Cluster, connected
from pci_bench.system.devices import device_name, resolve_device
from pci_bench.system.files import check_writable
from pci_bench.system.progress import Progress

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells

SECONDS_UNTIL_SEEN = 90.0  # a network file system may list a new file so much later on another machine
SECONDS_BETWEEN_LOOKS = 1.0


def computed_on_cluster(
    jobs: Sequence[Job], cells: Cells, device: str, scheduler: str, progress: Progress
) -> Iterator[tuple[Job, np.ndarray, str]]:
    """Have the parts of a pass that are not there yet computed, and yield the values (n, d) of each feature set, and the devices' names.

    Parameters
    ----------
    jobs
        Feature sets that share a pass.
    cells
        Cells of a store.
    device
        As the user named it: what ``"auto"`` is, each worker finds out.
    scheduler
        The address of the cluster's scheduler.
    progress
        The progress reporter.

    Raises
    ------
    UserError
        Where there is no such cluster, it is lost, or its workers cannot compute what this process asks for.
    """
    blocks = jobs[0].blocks(len(cells))
    todo = unfinished(jobs, blocks)
    devices: list[str] = []
    if todo:
        cluster = connected(scheduler)
        _greet(cluster, progress)
    with progress.stage(f"extracting {stage_name(jobs)}", len(cells)) as advance:
        advance(len(cells) - sum(stop - start for start, stop in todo))
        if todo:
            setup = ClusterSetup.here()
            calls = [Call(compute_task, (BlockTask.of(jobs, cells, block, device, setup),)) for block in todo]
            lost = partial(what_was_lost, jobs, cells, todo)
            for n, name in cluster.results(f"extract {stage_name(jobs)}", calls, lost, progress.say):
                advance(n)
                devices.append(name)
            _wait_until_seen(jobs, todo)
    names = ", ".join(dict.fromkeys(devices)) or device_name("cpu")
    for job in jobs:
        yield job, values_of(job, blocks), names


@dataclass(frozen=True)
class BlockTask:
    """What a worker is told: which cells of which store, which feature sets, and where it is to compute them.

    Parameters
    ----------
    setup
        Code, cache and plug-ins.
    cells
        The cells of the block.
    features, keys
        Feature sets of one pass, and the keys that their numbers have where the task comes from.
    block
        The first cell and the one after the last, among all that are computed.
    device, segmenter
        As the user named them.
    """

    setup: ClusterSetup
    cells: StoredCells
    features: tuple[FeatureSet, ...]
    keys: tuple[str, ...]
    block: tuple[int, int]
    device: str
    segmenter: str

    @classmethod
    def of(
        cls, jobs: Sequence[Job], cells: Cells, block: tuple[int, int], device: str, setup: ClusterSetup
    ) -> BlockTask:
        """Return the task of a block."""
        stored = StoredCells.of(cells, *block)
        assert stored is not None
        features, keys = tuple(job.features for job in jobs), tuple(job.key for job in jobs)
        return cls(setup, stored, features, keys, block, device, jobs[0].segmenter or DEFAULT_SEGMENTER)


def compute_task(task: BlockTask) -> tuple[int, str]:
    """Compute a block in a worker, whose parts are then in the cache, and return how many cells it has and the device's name.

    Where another worker was killed at the same block, what it had written is not computed again.

    Raises
    ------
    UserError
        Where the worker has another version of this package, lacks a plug-in, or sees other files.
    """
    with task.setup.begun() as cores:
        device = resolve_device(task.device)
        cells = task.cells.open()
        for features in task.features:
            if features.extractor_name not in EXTRACTORS:
                raise UserError(
                    f"The worker {here_on_cluster()} does not know the feature set '{features}'. Install the package that registers it in the "
                    "workers' environment; or put it into a file and name that with --plugin, which then reaches the workers."
                )
        jobs = [job_of(features, cells, task.segmenter) for features in task.features]
        for job, key in zip(jobs, task.keys, strict=True):
            if job.key != key:
                raise UserError(
                    f"{job.features} would be computed by other weights or another plug-in on the worker {here_on_cluster()} than was asked for. "
                    "Install the same versions there, leave the plug-in's file as it is while it runs, and run the command again."
                )
        pool = Pool.of(jobs, cores, device)
        offset = task.block[0]
        for block in unfinished(jobs, [task.block]):
            opened = opened_extractors(jobs, cells, device, pool.threads)
            compute_block(opened, cells, block, device, pool, lambda n: None, offset)
        return task.block[1] - offset, device_name(device)


def _greet(cluster: Cluster, progress: Progress) -> None:
    """Say which cluster computes, and what is to be known of its workers."""
    workers = cluster.workers()
    count, threads = f"{len(workers)} worker{'' if len(workers) == 1 else 's'}", sum(workers.values())
    page = f" Its dashboard: {cluster.dashboard}" if cluster.dashboard else ""
    greeting = f"Dask cluster {cluster.address}: {count}, {threads} thread{'' if threads == 1 else 's'}.{page}"
    cluster.say_once(greeting, progress.say)
    for note in check_workers(cluster):
        cluster.say_once(f"Note: {note}", progress.say)


def _wait_until_seen(jobs: Sequence[Job], blocks: Sequence[tuple[int, int]]) -> None:
    """Return once this machine sees the parts that workers wrote."""
    patience = time.monotonic() + SECONDS_UNTIL_SEEN
    while unfinished(jobs, blocks):
        if time.monotonic() > patience:
            raise UserError(
                f"The workers computed {stage_name(jobs)}, but this machine does not see all of it in {jobs[0].file().parent}. Set "
                "PCI_BENCH_CACHE to a folder that all machines see at this path, and run the command again."
            )
        check_writable(jobs[0].file().parent)  # a change of its own makes a network file system look again
        time.sleep(SECONDS_BETWEEN_LOOKS)
