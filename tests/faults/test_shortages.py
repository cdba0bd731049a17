"""Too little memory, too few files or processes, full disks: a sentence with the stage, and nothing called damaged."""

from __future__ import annotations

import errno
import resource
import sys

import numpy as np
import pytest
from faults import crops, noted, refused, write

from pci_bench.data import store
from pci_bench.features import files as external
from pci_bench.system import files
from pci_bench.system.shortages import error_number, refusal, shortage

EXTRACTION = ("extract", "intensity", "--dataset", "folder:crops", "--device", "cpu", "--out", "f.csv")
MEMORY = "There is too little memory"
ERRORS = {
    "python": (MemoryError(), MEMORY),
    "numpy": (np._core._exceptions._ArrayMemoryError((9, 9, 9), np.dtype("f8")), "Unable to allocate 5.70 KiB"),
    "torch": (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"), MEMORY),
    "cuda": (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "smaller --batch"),
    "loader": (ImportError("libtorch.so: failed to map segment from shared object"), MEMORY),
    "fork": (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more threads or processes"),
    "thread": (RuntimeError("can't start new thread"), "--workers 1"),
    "files": (OSError(errno.EMFILE, "Too many open files"), "`ulimit -n 1024`"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_shortage_in_a_stage_is_a_sentence(say, here, monkeypatch, name):
    error, words = ERRORS[name]

    def lacking(*values, **named):
        raise error

    write(here / "crops", crops())
    monkeypatch.setattr("pci_bench.features.compute.write_part", lacking)
    refused(say(*EXTRACTION, own=False), words, "while extracting intensity")


@pytest.mark.parametrize("name", ["python", "files"])
@pytest.mark.parametrize("place", ["anndata.io.read_elem", "zarr.open_array", "pandas.read_parquet"])
def test_what_cannot_be_read_for_want_of_something_is_not_called_damaged(say, here, cache, monkeypatch, name, place):
    error, words = ERRORS[name]
    write(here / "crops", crops())
    noted(say(*EXTRACTION, own=False))
    before = {
        p: p.stat().st_mtime_ns for p in cache.rglob("*.*") if p.suffix != ".lock"
    }  # older filelock empties these

    def lacking(*values, **named):
        raise error

    monkeypatch.setattr(place, lacking)
    said = say(*EXTRACTION, own=False)
    refused(said, words)
    assert "damaged" not in said.err
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*.*") if p in before} == before


def test_a_damaged_chunk_is_still_called_damaged():
    class Damaged:
        shape, dtype, basename = (1,), np.dtype("u1"), "crops"

        def __getitem__(self, index):
            raise ValueError("wrong checksum")

    with pytest.raises(store.BrokenStoreError, match="is damaged"):
        store._Stored(Damaged(), files.Path("x"))[0]


def test_numbers_of_errors_are_found_where_libraries_write_them():
    assert error_number(OSError(28, "x")) == 28
    assert error_number(RuntimeError("file write failed: time = 3, errno = 28, error message = 'No space'")) == 28
    assert error_number(RuntimeError("I/O error: No space left on device (os error 28)")) == 28
    assert error_number(RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0")) == 28
    assert error_number(ValueError("28")) is None
    assert shortage(ValueError("memory of things past")) is None
    assert refusal(KeyError("a")) is None
    assert refusal(OSError(errno.EIO, "x", "f.tif")) == (
        "Could not use f.tif: the disk reports an error: check it, or name another place."
    )


# ---- full disks, inside every library's writer


@pytest.fixture
def small_files():
    """A function that limits the size of every file that this process writes."""
    if sys.platform != "linux":
        pytest.skip("limits of the size of files are tried on Linux")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda octets: resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


TOO_LARGE = "the file is larger than this process may write"


@pytest.mark.parametrize("suffix", [".h5ad", ".parquet", ".csv", ".npz"])
def test_features_that_a_file_cannot_hold_are_a_sentence(say, here, small_files, suffix):
    write(here / "crops", crops())
    noted(say("extract", "raw-pixels", "--dataset", "folder:crops", "--out", "f.csv", own=False))
    small_files(2000)
    said = say("extract", "raw-pixels", "--dataset", "folder:crops", "--out", f"g{suffix}", own=False)
    small_files(-1)
    refused(said, f"Could not write g{suffix}", TOO_LARGE)
    assert not (here / f"g{suffix}").exists()


def test_a_disk_that_is_full_at_any_byte_of_features_is_told_as_one(here, small_files):
    import anndata
    import pandas as pd

    names = [f"cell{i}" for i in range(900)]
    obs = pd.DataFrame({"label": names, "image": pd.Categorical(names)}, index=names)
    adata = anndata.AnnData(np.ones((900, 40), np.float32), obs=obs, uns={"texts": {"a": "b" * 5000}})
    external.write_h5ad(adata, here / "f.h5ad")
    size = (here / "f.h5ad").stat().st_size
    for limit in [0, 1, *range(96, size, 7919), size - 1]:
        small_files(limit)
        with pytest.raises(OSError, match="too large") as told:
            external.write_h5ad(adata, here / "f.h5ad")
        small_files(-1)
        assert told.value.errno == errno.EFBIG


def test_weights_and_checkpoints_that_a_disk_cannot_hold_are_a_sentence(here, small_files):
    import torch
    from safetensors.numpy import save_file

    small_files(2000)
    for name, save in (
        ("torch.pt", lambda file: torch.save({"a": torch.zeros(9000)}, file)),
        ("safe.safetensors", lambda file: save_file({"a": np.zeros(9000)}, file)),
    ):
        with (
            pytest.raises(files.UserError, match=f"Could not write .*{name}: "),
            files.atomic_file(here / name) as file,
        ):
            save(file)
    small_files(-1)
    assert list(here.iterdir()) == []


def test_features_written_without_a_copy_are_those_that_anndata_writes(here):
    import anndata
    import pandas as pd

    obs = pd.DataFrame({"label": ["a", "b"], "n": [1, 2]}, index=["x", "y"])
    adata = anndata.AnnData(np.eye(2, dtype=np.float32), obs=obs, uns={"pci_bench": {"key": "k", "merged": {}}})
    external.write_h5ad(adata, here / "ours.h5ad")
    adata.write_h5ad(here / "theirs.h5ad", convert_strings_to_categoricals=False)
    ours, theirs = anndata.read_h5ad(here / "ours.h5ad"), anndata.read_h5ad(here / "theirs.h5ad")
    pd.testing.assert_frame_equal(ours.obs, theirs.obs)
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert ours.uns == theirs.uns
