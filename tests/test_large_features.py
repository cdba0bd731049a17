"""Features of very many cells: no step holds all of them twice, and none grows faster than the cells."""

from __future__ import annotations

import os
import tracemalloc

import anndata
import numpy as np
import pandas as pd
import pytest

from pci_bench.data.cells import Cells, Channel, DatasetMeta
from pci_bench.features.files import write_h5ad
from pci_bench.features.jobs import job_of, unfinished, values_of, write_part
from pci_bench.features.names import parse

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
