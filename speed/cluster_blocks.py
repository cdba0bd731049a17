"""A neighbour search on a Dask cluster of one and of two worker processes on this machine, beside one process.

    python speed/cluster_blocks.py [--rows 40000] [--features 384] [--repeats 3]

One thread each, interleaved, medians; the answers must be equal. Where others use the machine, CPU seconds tell more than the
clock: those of this process, and of each worker.
"""

import argparse
import os
import statistics
import tempfile
import time

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pci_bench.api import cluster_blocks
from pci_bench.api.cluster_blocks import ClusterBlocks
from pci_bench.statistics.compiled.neighbors import SECONDS_PER_PRODUCT
from pci_bench.statistics.neighbors import loo_neighbors
from pci_bench.system.blocks import HERE
from pci_bench.system.progress import Progress

K, BLOCKS = 61, 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in (("--rows", 40_000), ("--features", 384), ("--repeats", 3)):
        parser.add_argument(name, type=int, default=value)
    given = parser.parse_args()
    from distributed import LocalCluster

    rng = np.random.default_rng(0)
    features = rng.standard_normal((given.rows, given.features)) * np.linspace(0.05, 2, given.features)
    cluster_blocks.SECONDS_WORTH_A_CLUSTER = 0.0
    cluster_blocks.SECONDS_PER_BLOCK = SECONDS_PER_PRODUCT * features.size * given.rows / 2 / BLOCKS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PCI_BENCH_CACHE"] = folder
        clusters = {
            n: LocalCluster(n_workers=n, threads_per_worker=1, dashboard_address=None, memory_limit=0) for n in (1, 2)
        }
        ways = {"one process": HERE} | {
            f"{n} worker{'s' * (n > 1)}": ClusterBlocks(cluster.scheduler_address, Progress())
            for n, cluster in clusters.items()
        }
        few = features[:3000]
        for blocks in ways.values():  # code is compiled or loaded
            loo_neighbors(few, K, blocks=blocks)
        seconds = {name: [] for name in ways}
        cpu = {name: [] for name in ways}
        for _ in range(given.repeats):
            answers = []
            for name, blocks in ways.items():
                before, began = cpu_seconds(clusters), time.perf_counter()
                answers.append(loo_neighbors(features, K, blocks=blocks))
                seconds[name].append(time.perf_counter() - began)
                cpu[name].append([after - used for after, used in zip(cpu_seconds(clusters), before, strict=True)])
            assert all(np.array_equal(a, b) for found in answers[1:] for a, b in zip(answers[0], found, strict=True))
        one = statistics.median(seconds["1 worker"])
        for name in ways:
            middle = statistics.median(seconds[name])
            used = ", ".join(f"{value:.1f}" for value in np.median(cpu[name], axis=0))
            print(f"{name}: {middle:.1f} s, {one / middle:.2f} times as fast as 1 worker; CPU seconds {used}")
        for cluster in clusters.values():
            cluster.close()


def cpu_seconds(clusters: dict) -> list[float]:
    """Return what this process and each worker have used."""
    import psutil

    pids = [os.getpid(), *(nanny.pid for cluster in clusters.values() for nanny in cluster.workers.values())]
    return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]


if __name__ == "__main__":
    main()
