"""A store of cells at s3:// is read as one of this machine, chunk by chunk, and what an object store refuses is a sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call, refused

import pci_bench
from pci_bench.errors import UserError
from pci_bench.system.cluster import connected

for library in ("s3fs", "moto", "flask"):
    pytest.importorskip(library, reason=f"{library} is not installed: pip install 'pci-bench[test]'")

from object_store import KEYS, S3

CELLS = 600  # three chunks


@pytest.fixture(scope="module")
def s3(tmp_path_factory) -> Iterator[S3]:
    """The server, which this process finds by its environment."""
    server = S3(tmp_path_factory.mktemp("s3"))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.variables.items():
            patch.setenv(name, value)
        yield server
    server.stop()


def write_store(folder: Path) -> Path:
    """Write a store of cells with labels and masks."""
    from pci_bench.data.store import StoreWriter
    from pci_bench.system.progress import Progress

    folder.mkdir()
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(CELLS)], "image": [f"{i // 10}" for i in range(CELLS)]})
    table["label"] = [f"class {i // 10 % 3}" for i in range(CELLS)]
    writer = StoreWriter(folder, pci_bench.DatasetMeta("screen", "3", "A screen", confounder="image"), Progress())
    channels = (pci_bench.Channel("GFP", "protein"), pci_bench.Channel("RFP", "marker"))
    writer.begin(table, channels, crop_shape=(12, 12), dtype="uint16", masks=True)
    writer.add(rng.integers(0, 65536, (CELLS, 2, 12, 12), np.uint16), rng.integers(0, 3, (CELLS, 12, 12)))
    writer.finish()
    return folder


@pytest.fixture(scope="module")
def local(s3, tmp_path_factory) -> Path:
    """A store in a folder."""
    return write_store(tmp_path_factory.mktemp("stores") / "screen")


@pytest.fixture(scope="module")
def url(s3, local) -> str:
    """The same store in a bucket."""
    return s3.put(local, "screens", "of/mine")


def test_cells_of_a_bucket_are_those_of_the_folder(url, local):
    there, here = pci_bench.load_dataset(url), pci_bench.load_dataset(f"store:{local}")
    assert there.meta.name == url
    assert (there.meta.version, there.meta.confounder) == ("3", "image")
    assert there.sha256 == here.sha256
    assert there.obs.equals(here.obs)
    chosen = np.array([599, 3, 300])
    assert there[chosen].stored(slice(None)).tobytes() == here[chosen].stored(slice(None)).tobytes()
    assert there.stored_masks(slice(0, 20)).tobytes() == here.stored_masks(slice(0, 20)).tobytes()


def test_only_the_chunks_that_are_asked_for_are_read(s3, url):
    cells = pci_bench.load_dataset(url)
    before = len(s3.requests())
    cells.stored(slice(10, 20))
    chunks = [re.search(r"GET \S+/crops\.zarr/c/(\d+)/", line) for line in s3.requests()[before:]]
    assert [chunk[1] for chunk in chunks if chunk] == ["0"]


def test_of_a_shard_only_the_chunks_that_are_asked_for_are_read(s3, local, monkeypatch, tmp_path):
    monkeypatch.setattr("pci_bench.data.store.MIN_SHARDED_CELLS", 1)
    url = s3.put(write_store(tmp_path / "sharded"), "screens", "sharded")
    cells, before = pci_bench.load_dataset(url), len(s3.requests())
    part = cells.stored(slice(300, 310))
    answers = [re.search(r'GET \S+/crops\.zarr/c/0/\S+ HTTP/1\.1\S*" (\d+)', line) for line in s3.requests()[before:]]
    assert {answer[1] for answer in answers if answer} == {"206"}  # a part of the object
    assert part.tobytes() == pci_bench.load_dataset(f"store:{local}").stored(slice(300, 310)).tobytes()


def test_results_on_a_bucket_are_those_on_the_folder(url, local):
    def results(name: str) -> list[dict]:
        output = pci_bench.run("knn", dataset=name, features="intensity", k=3, device="cpu")
        made = [result.model_dump(exclude={"run"}) for result in output]
        assert {result["dataset"].pop("name") for result in made} == {name}
        return made

    assert results(url) == results(f"store:{local}")


def test_every_command_takes_a_url_and_nothing_of_the_crops_is_kept_in_the_cache(
    url, capsys, monkeypatch, tmp_path, cache
):
    out = tmp_path / "features.npz"
    assert (
        call(capsys, monkeypatch, "extract", "intensity", "--dataset", url, "--out", out, "--device", "cpu").code == 0
    )
    assert len(np.load(out, allow_pickle=False)["X"]) == CELLS
    verified = call(capsys, monkeypatch, "data", "verify", url)
    assert verified.code == 0
    assert f"{url} is whole: sha256 " in verified.out
    assert call(capsys, monkeypatch, "data", "get", url).code == 0
    assert f"stored in   {url}" in call(capsys, monkeypatch, "describe", url).out
    assert not (cache / "datasets").exists()


@pytest.mark.slow
def test_workers_of_a_cluster_read_the_bucket_themselves(s3, url, local, tmp_path):
    pytest.importorskip("distributed", reason="Dask is not installed: pip install 'pci-bench[dask]'")
    from dask_processes import Processes

    processes = Processes(tmp_path)
    try:
        processes.worker()
        before = len(s3.requests())
        options = {"scheduler": processes.address, "device": "cpu"}
        there = pci_bench.extract("intensity", pci_bench.load_dataset(url)[:300], **options)
        reads = [line for line in s3.requests()[before:] if re.search(r"GET \S+/crops\.zarr/c/[01]/", line)]
        connected(processes.address).close()
    finally:
        processes.stop()
    here = pci_bench.extract("intensity", pci_bench.load_dataset(f"store:{local}")[:300], device="cpu")
    assert np.asarray(there.X).tobytes() == np.asarray(here.X).tobytes()
    assert reads


def test_a_damaged_or_half_copied_store_is_told(s3, local, tmp_path):
    import s3fs

    url = s3.put(local, "screens", "half")
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.rm(f"{url}/crops.zarr/c/1/0/0/0")
    with pytest.raises(UserError, match=r"The store s3://screens/half is damaged: crops\.zarr/c/1/0/0/0 is missing"):
        pci_bench.load_dataset(url)
    url = s3.put(local, "screens", "flipped")
    cells = pci_bench.load_dataset(url)
    chunk = bytearray(files.cat_file(f"{url}/crops.zarr/c/1/0/0/0"))
    chunk[100] ^= 1
    files.pipe_file(f"{url}/crops.zarr/c/1/0/0/0", bytes(chunk))
    with pytest.raises(UserError, match=r"s3://screens/flipped cannot be read: .*checksum"):
        cells.stored(slice(256, 300))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("s3://nowhere/screen", ["There is no store of cells at s3://nowhere/screen", "bucket"]),
        ("s3://screens/else", ["There is no store of cells at s3://screens/else", "Check the bucket and the path"]),
        ("s3://screens", ["s3://screens names no folder of a bucket", "s3://BUCKET/FOLDER"]),
        ("s3:screens/of", ["names no folder of a bucket"]),
        ("store:nowhere", ["there is no folder"]),
    ],
)
def test_what_is_not_there_is_a_sentence(url, capsys, monkeypatch, tmp_path, name, words):
    command = ("extract", "intensity", "--dataset", name, "--out", tmp_path / "a.npz")
    refused(call(capsys, monkeypatch, *command), *words)


@pytest.fixture
def anew(url, monkeypatch) -> Iterator[pytest.MonkeyPatch]:
    """What a test changes in the environment is looked at, and forgotten afterwards: fsspec keeps connections."""
    import fsspec

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    fsspec.filesystem("s3").clear_instance_cache()
    yield monkeypatch
    fsspec.filesystem("s3").clear_instance_cache()


def test_a_server_that_does_not_answer_is_a_sentence(url, anew):
    anew.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"s3://screens/of/mine cannot be read: .*Check the connection \(AWS_ENDPOINT"):
        pci_bench.load_dataset(url)


def test_missing_credentials_are_a_sentence(url, anew, tmp_path):
    for name in KEYS:
        anew.delenv(name)
    anew.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        anew.setenv(name, str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"Access to s3://screens/of/mine is denied: Unable to locate credentials\."):
        pci_bench.load_dataset(url)


def test_a_bucket_that_is_not_public_is_denied_to_those_without_credentials(url, anew):
    import fsspec

    anew.setitem(fsspec.config.conf, "s3", {"anon": True})  # as FSSPEC_S3 sets it when Python starts
    with pytest.raises(UserError, match=r"Access to s3://screens/of/mine is denied: .*Check the bucket's permissions"):
        pci_bench.load_dataset(url)


def test_a_library_that_is_not_installed_is_named_with_its_command(url, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"s3:// is read by s3fs, .* pip install 'pci-bench\[s3\]'"):
        pci_bench.load_dataset(url)
    with pytest.raises(UserError, match=r"gs:// is read by gcsfs, .* pip install 'pci-bench\[gs\]'"):
        pci_bench.load_dataset("gs://screens/of/mine")
