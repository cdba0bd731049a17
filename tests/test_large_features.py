"""Features of very many cells: no step holds all of them twice, and none grows faster than the cells."""

from __future__ import annotations

import hashlib
import os
import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest

from pci_bench.data import store
from pci_bench.data.cells import Cells, Channel, DatasetMeta
from pci_bench.features.files import write_h5ad
from pci_bench.features.jobs import job_of, unfinished, values_of, write_part
from pci_bench.features.names import parse
from pci_bench.statistics.neighbors import loo_neighbors
from pci_bench.statistics.scaling import standardized

WIDTH, ROWS = 512, 256


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A job with 64 parts of 256 cells, and its values."""
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
    obs, crops = pd.DataFrame({"cell": ["a", "b"], "image": "i"}), np.zeros((2, 2, 16, 16), np.uint8)
    cells = Cells(obs, channels, DatasetMeta("few", "1", "Few"), "few", crops)
    job = job_of(parse("raw-pixels"), cells, "otsu-watershed")
    values = np.random.default_rng(0).random((64 * ROWS, WIDTH), np.float32)
    blocks = [(start, start + ROWS) for start in range(0, len(values), ROWS)]
    for start, stop in blocks:
        write_part(job, [f"c{i}" for i in range(start, stop)], start, values[start:stop])
    return job, values, blocks


def peak_of(work):
    """Return what some work returns, and the bytes of memory that it took at most."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_parts_are_joined_with_their_values_in_memory_once(planted):
    job, values, blocks = planted
    joined, peak = peak_of(lambda: values_of(job, blocks))
    np.testing.assert_array_equal(joined, values)
    assert peak < 1.2 * values.nbytes


def test_features_are_written_without_a_copy_in_memory(planted, tmp_path):
    _, values, _ = planted
    adata = anndata.AnnData(values, obs=pd.DataFrame(index=[f"c{i}" for i in range(len(values))]))
    _, peak = peak_of(lambda: write_h5ad(adata, tmp_path / "f.h5ad"))
    assert peak < 0.3 * values.nbytes
    np.testing.assert_array_equal(anndata.read_h5ad(tmp_path / "f.h5ad").X, values)


def test_the_folder_of_parts_is_listed_once_however_many_there_are(planted, monkeypatch):
    job, _, blocks = planted
    listed, listdir = [], os.listdir
    monkeypatch.setattr(os, "listdir", lambda place: listed.append(place) or listdir(place))
    assert unfinished([job], blocks) == []
    values_of(job, blocks)
    assert len(listed) == 2


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (999, 1), (999, 2), (999, 17), (999, 33), (20_000, 40)])
@pytest.mark.parametrize("order", "CF")
def test_standardised_features_are_numpys_to_the_last_bit(rows, columns, order):
    rng = np.random.default_rng(0)
    values = np.asarray(rng.normal(100, np.exp(rng.normal(size=columns) * 5), (rows, columns)), order=order)
    spread = (values - values.mean(axis=0)).std(axis=0)
    expected = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    np.testing.assert_array_equal(standardized(values), expected)


def test_features_are_standardised_with_one_copy_in_memory(planted):
    values = planted[1].astype(np.float64)
    _, peak = peak_of(lambda: standardized(values))
    assert peak < 1.3 * values.nbytes


def test_neighbours_are_searched_without_a_copy_in_float64():
    values = np.random.default_rng(0).normal(size=(2000, WIDTH))
    loo_neighbors(values[:200], 3)  # compiled
    _, peak = peak_of(lambda: loo_neighbors(values, 3))
    assert peak < 1.1 * values.nbytes  # half of it in float32, and blocks


def test_the_table_of_cells_is_hashed_as_the_csv_that_it_is():
    n = 30_000  # more than pandas writes at once
    obs = pd.DataFrame(
        {"cell": [f"ä{i}" for i in range(n)], "y": np.arange(n) / 7, "label": pd.Categorical(["a,b"] * n)}
    )
    obs["when"] = pd.to_datetime("2026-11-30") + pd.to_timedelta(np.arange(n) // 20_000, unit="h")
    digest = hashlib.sha256()
    store._cover(digest, b"layout", obs)
    text = obs.to_csv(index=False, lineterminator="\n")
    assert digest.hexdigest() == hashlib.sha256(b"layout" + text.encode()).hexdigest()


def test_copies_of_crops_are_counted_as_a_loop_counts_them():
    rng = np.random.default_rng(0)
    drawn, images = rng.integers(0, 300, 400), rng.integers(0, 9, 400)
    obs = pd.DataFrame({"cell": [f"c{i}" for i in range(400)], "image": [f"w{i}" for i in images]})
    same = [[j for j in range(400) if drawn[j] == drawn[i]] for i in range(400)]
    copies = sum(len(of_cell) > 1 for of_cell in same)
    elsewhere = sum(len({images[j] for j in of_cell}) > 1 for of_cell in same)
    (note,) = store.repeated(b"".join(int(d).to_bytes(store.DIGEST_BYTES, "big") for d in drawn), obs, "mine")
    assert note.startswith(f"{copies} of 400 cells")
    assert f"{elsewhere} of them as a cell of another image" in note
