"""Nearest neighbours and pairwise distances in blocks on a Dask cluster are those of one process, bit by bit, whatever fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import held_blocks
import numpy as np
import pandas as pd
import pytest
from command_line import wait_until

import pci_bench
from pci_bench.api import cluster_blocks
from pci_bench.api.cluster_blocks import ClusterBlocks
from pci_bench.errors import UserError
from pci_bench.statistics.compiled import neighbors
from pci_bench.statistics.compiled.distances import mean_distances
from pci_bench.statistics.neighbors import loo_neighbors
from pci_bench.system import cluster as connection
from pci_bench.system.progress import Progress

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'pci-bench[dask]'")

from dask_processes import Processes

ROWS, BLOCK, K = 1100, 256, 15
TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Iterator[Processes]:
    """A scheduler with two workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "SECONDS_BETWEEN_LOOKS", 0.3)
        patch.setattr(connection, "SECONDS_TO_CLOSE", 1.0)
        started = Processes(tmp_path_factory.mktemp("cluster"))
        started.worker(path=TESTS)
        started.worker(path=TESTS)
        yield started
        patch.setattr(connection, "SECONDS_TO_CONNECT", 0.5)  # to a scheduler that a test has killed
        with suppress(UserError):
            connection.connected(started.address).close()
        started.stop()


@pytest.fixture
def blocks(processes, monkeypatch) -> ClusterBlocks:
    """Whatever is asked for is worth a cluster, and worth several blocks."""
    monkeypatch.setattr(cluster_blocks, "SECONDS_WORTH_A_CLUSTER", 0.0)
    monkeypatch.setattr(cluster_blocks, "SECONDS_PER_BLOCK", 0.0)
    monkeypatch.setattr(cluster_blocks, "MIN_ROWS", BLOCK)
    (processes.folder / "blocks").write_text("")
    return ClusterBlocks(processes.address, Progress())


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    """Rows with ties and duplicates, which are searched a second time."""
    rows = np.random.default_rng(0).normal(size=(ROWS, 20))
    rows[5::50] = rows[4::50]
    rows[100:160] = rows[99]
    return rows


def begun(processes: Processes) -> list[tuple[int, int]]:
    lines = (processes.folder / "blocks").read_text().splitlines()
    return [(int(process), int(start)) for process, start in map(str.split, lines)]


def left_behind() -> list[Path]:
    return [p for p in (Path(os.environ["PCI_BENCH_CACHE"]) / "blocks").rglob("*") if p.suffix in (".npy", ".npz")]


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_distances_from_a_cluster_have_the_bits_of_one_process(blocks, dtype):
    rng = np.random.default_rng(1)
    values, images = rng.normal(size=(900, 12)).astype(dtype), rng.integers(0, 60, 900)
    pairs, mean, inverse = rng.integers(0, 60, (1500, 2)), rng.normal(size=12), rng.random(12)
    here = mean_distances(values, images, pairs, mean=mean, inverse=inverse)
    there = mean_distances(values, images, pairs, mean=mean, inverse=inverse, blocks=blocks)
    assert there.tobytes() == here.tobytes()
    first, second = (values[images == image].astype(np.float64) for image in pairs[7])
    separate = np.linalg.norm(((first[:, None] - mean) * inverse - (second[None] - mean) * inverse), axis=2).mean()
    assert there[7] == pytest.approx(separate, rel=1e-12)
    assert not left_behind()


def test_a_killed_worker_costs_its_block_of_a_neighbour_search_and_no_more(processes, blocks, features, monkeypatch):
    groups = np.stack([np.arange(ROWS) // 3, np.random.default_rng(2).integers(0, 200, ROWS)])
    here = loo_neighbors(features, K, groups)
    monkeypatch.setattr(neighbors, "search_block", held_blocks.held_search)
    hold = processes.folder / "hold"
    hold.touch()
    with ThreadPoolExecutor() as pool:
        search = pool.submit(loo_neighbors, features, K, groups, blocks)
        wait_until(lambda: len(begun(processes)) == 2)
        killed, lost = begun(processes)[0]
        processes.stop(next(p for p in processes.started if p.pid == killed))
        hold.unlink()
        there = search.result(60)
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.tobytes() == ours.tobytes()
    assert sorted(start for _, start in begun(processes)) == sorted([*range(0, ROWS, BLOCK), lost])
    assert not left_behind()


@pytest.mark.slow
@pytest.mark.usefixtures("own_registries")
def test_results_of_a_run_on_a_cluster_are_those_of_one_process(processes, blocks, monkeypatch, tmp_path):
    @pci_bench.register_dataset("few-cells")
    class Few(pci_bench.Dataset):
        meta = pci_bench.DatasetMeta("few-cells", "1", "Cells of two proteins", confounder="image")

        def build(self, store):
            table = pd.DataFrame({"cell": [f"c{i}" for i in range(600)], "image": [f"{i // 10}" for i in range(600)]})
            table["label"] = [f"class {i // 10 % 3}" for i in range(600)]
            store.begin(table, (pci_bench.Channel("GFP", "protein"),), crop_shape=(8, 8), dtype="uint16")
            store.add(np.random.default_rng(0).integers(0, 65536, (600, 1, 8, 8), np.uint16))

    shared = []
    of_cluster = ClusterBlocks._compute
    monkeypatch.setattr(
        ClusterBlocks, "_compute", lambda self, work, *o: (shared.append(work.title), of_cluster(self, work, *o))
    )

    def results(**options) -> list[dict]:
        made = [
            result.model_dump(exclude={"run"})
            for benchmark in ("knn", "distances")
            for result in pci_bench.run(benchmark, dataset="few-cells", features="intensity", device="cpu", **options)
        ]
        assert len(made) == 4
        return made

    there = results(scheduler=processes.address)
    assert set(shared) == {"nearest neighbours", "pairwise distances"}
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "another"))
    assert there == results()
    assert len(shared) == 2


def test_short_work_is_done_in_this_process(features):
    nowhere = ClusterBlocks("tcp://127.0.0.1:1", Progress())
    here = loo_neighbors(features, K)
    for ours, theirs in zip(here, loo_neighbors(features, K, blocks=nowhere), strict=True):
        assert theirs.tobytes() == ours.tobytes()


def test_after_a_lost_scheduler_another_cluster_continues(processes, blocks, features, monkeypatch, tmp_path):
    here = loo_neighbors(features, K)
    monkeypatch.setattr(neighbors, "search_block", held_blocks.held_search)
    (processes.folder / "hold").write_text(str(2 * BLOCK))
    with ThreadPoolExecutor() as pool:
        search = pool.submit(loo_neighbors, features, K, blocks=blocks)
        wait_until(lambda: 2 * BLOCK in [start for _, start in begun(processes)])
        processes.stop(processes.scheduler)
        with pytest.raises(UserError) as lost:
            search.result(60)
    message = str(lost.value)
    assert f"The connection to the Dask scheduler {processes.address} was lost" in message
    assert "computed nearest neighbours. 2 of 5 blocks are kept." in message
    folder = tmp_path / "second"
    folder.mkdir()
    second = Processes(folder)
    try:
        second.worker(path=TESTS)
        there = loo_neighbors(features, K, blocks=ClusterBlocks(second.address, Progress()))
        assert [start for _, start in begun(second)] == [2 * BLOCK, 3 * BLOCK, 4 * BLOCK]
        connection.connected(second.address).close()
    finally:
        second.stop()
    for ours, theirs in zip(here, there, strict=True):
        assert theirs.tobytes() == ours.tobytes()
