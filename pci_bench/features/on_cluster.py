"""Computing feature sets on a Dask cluster: blocks of cells are tasks, and the shared cache holds what goes in and comes out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.cluster import ClusterSetup, here_on_cluster, introduced, wait_until_seen
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.data.store import StoredCells
from pci_bench.errors import UserError
from pci_bench.features.compute import Pool, compute_block, opened_extractors, what_was_lost
from pci_bench.features.jobs import Job, job_of, stage_name, unfinished, values_of
from pci_bench.features.names import FeatureSet
from pci_bench.system.cluster import Call
from pci_bench.system.devices import device_name, resolve_device
from pci_bench.system.progress import Progress

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells


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
        cluster = introduced(scheduler, progress)
    with progress.stage(f"extracting {stage_name(jobs)}", len(cells)) as advance:
        advance(len(cells) - sum(stop - start for start, stop in todo))
        if todo:
            setup = ClusterSetup.here()
            calls = [Call(compute_task, (BlockTask.of(jobs, cells, block, device, setup),)) for block in todo]
            lost = partial(what_was_lost, jobs, cells, todo)
            for n, name in cluster.results(f"extract {stage_name(jobs)}", calls, lost, progress.say):
                advance(n)
                devices.append(name)
            folder = jobs[0].file().parent
            wait_until_seen(lambda: not unfinished(jobs, todo), stage_name(jobs), folder)
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
    device
        As the user named it.
    settings
        Of the pass: :attr:`~pci_bench.features.jobs.Job.settings`.
    """

    setup: ClusterSetup
    cells: StoredCells
    features: tuple[FeatureSet, ...]
    keys: tuple[str, ...]
    block: tuple[int, int]
    device: str
    settings: tuple[str, int, str]

    @classmethod
    def of(
        cls, jobs: Sequence[Job], cells: Cells, block: tuple[int, int], device: str, setup: ClusterSetup
    ) -> BlockTask:
        """Return the task of a block."""
        stored = StoredCells.of(cells, *block)
        assert stored is not None
        features, keys = tuple(job.features for job in jobs), tuple(job.key for job in jobs)
        return cls(setup, stored, features, keys, block, device, jobs[0].settings)


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
        jobs = [job_of(features, cells, *task.settings) for features in task.features]
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
