"""Shards: shares of the cells computed apart are what one job computes, and nothing is joined that is not whole."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from command_line import call, refused

from pci_bench.features.shards import Shard


@pytest.fixture
def extracted(toy_cache, capsys, monkeypatch, tmp_path):
    """A function that runs an extraction from toy-human of 62 cells, or of a shard of them, and returns the file."""

    def extracted(shard: str | None = None, features: str = "intensity", name: str | None = None):
        out = tmp_path / (name or f"{(shard or 'whole').replace('/', '-')}.h5ad")
        more = () if shard is None else ("--shard", shard)
        said = call(capsys, monkeypatch, "extract", features, "--dataset", "toy-human", "--out", out, *more)
        assert said.code == 0, said.err
        return out

    return extracted


@pytest.mark.parametrize("n", [1, 7, 62, 1000])
@pytest.mark.parametrize("of", [1, 3, 7])
def test_shares_hold_every_cell_once_and_differ_by_one_at_most(n, of):
    shares = [np.arange(n)[Shard(number, of).rows(n)] for number in range(1, of + 1)]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_shards_joined_in_any_order_are_what_one_job_writes(extracted, capsys, monkeypatch, tmp_path):
    shards = [extracted(f"{number}/3") for number in (2, 3, 1)]
    whole = anndata.read_h5ad(extracted())
    said = call(capsys, monkeypatch, "join", *shards, "--out", tmp_path / "joined.h5ad")
    assert said.code == 0, said.err
    joined = anndata.read_h5ad(tmp_path / "joined.h5ad")
    assert joined.X.tobytes() == whole.X.tobytes()
    pd.testing.assert_frame_equal(joined.obs, whole.obs, check_categorical=False)
    pd.testing.assert_frame_equal(joined.var, whole.var)
    assert joined.uns["pci_bench"]["dataset"] == whole.uns["pci_bench"]["dataset"]
    assert joined.uns["pci_bench"]["features"] == whole.uns["pci_bench"]["features"]


def test_what_is_missing_there_twice_or_of_something_else_is_not_joined(extracted, capsys, monkeypatch, tmp_path):
    one, two, three = (extracted(f"{number}/4") for number in (1, 2, 3))

    def join(*files):
        return call(capsys, monkeypatch, "join", *files, "--out", tmp_path / "joined.h5ad")

    refused(join(one, three), "2 of 4 shards are missing: shards 2 and 4", "--shard 2/4")
    refused(join(one, two, one), "are both shard 1")
    refused(join(one, extracted("4/5")), "one of 5 shards and not of 4")
    refused(join(one, extracted("2/4", "raw-pixels", "other.h5ad")), "it holds raw-pixels, and that intensity")
    refused(join(one, extracted()), "is no shard")
    assert not (tmp_path / "joined.h5ad").exists()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "a/b", "1", "1/0"])
def test_a_shard_that_there_is_not_is_a_sentence(toy_cache, capsys, monkeypatch, tmp_path, shard):
    arguments = ("extract", "intensity", "--dataset", "toy-human", "--out", tmp_path / "a.h5ad", "--shard", shard)
    refused(call(capsys, monkeypatch, *arguments), "is not NUMBER/ALL")


def test_more_shards_than_cells_and_files_that_cannot_say_which_they_are_are_refused(
    toy_cache, capsys, monkeypatch, tmp_path
):
    arguments = ("extract", "intensity", "--dataset", "toy-human", "--shard", "1/63", "--out")
    refused(
        call(capsys, monkeypatch, *arguments, tmp_path / "a.h5ad"), "62 cells, which cannot be shared out to 63 shards"
    )
    refused(call(capsys, monkeypatch, *arguments, tmp_path / "a.parquet"), "A shard is written to an .h5ad")
