"""`data list`, `get`, `verify`, `import` and `remove`, on a dataset that a server on this machine gives."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from command_line import call, leftovers, refused
from servers import FileServer, status

from pci_bench import Channel
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import DatasetMeta
from pci_bench.system.files import user_data_folder
from pci_bench.system.remote import RemoteFile, downloaded_file

CELLS, URL = 6, "https://example.invalid/published/cells.npy"


def crops() -> bytes:
    content = io.BytesIO()
    np.save(content, np.random.default_rng(0).integers(0, 255, (CELLS, 1, 16, 16)).astype(np.uint8))
    return content.getvalue()


REMOTE = RemoteFile(
    "published/cells.npy",
    (URL,),
    "the published cells",
    "ask a colleague",
    f"sha256:{hashlib.sha256(crops()).hexdigest()}",
    len(crops()),
)


class Published(Dataset):
    meta = DatasetMeta("published", "1", "Cells that a server gives", licence="CC0 (by its authors)")

    def unavailable_reason(self):
        here = downloaded_file(REMOTE).is_file() or user_data_folder("published")
        return None if here else "run `pci-bench data get published`"

    def downloads(self):
        return [REMOTE]

    def fetch(self, progress):
        from pci_bench.acquisition.download import fetch

        fetch(REMOTE, progress=progress)

    def import_copy(self, path, progress):
        from pci_bench.acquisition.download import import_files

        import_files([REMOTE], path, progress=progress)

    def build(self, store):
        own = user_data_folder("published")
        pixels = np.load(own / "cells.npy" if own else downloaded_file(REMOTE))
        table = pd.DataFrame({"cell": [f"c{i}" for i in range(CELLS)], "image": ["1"] * CELLS})
        store.begin(table, (Channel("GFP", "protein"),), crop_shape=(16, 16), dtype="uint8")
        store.add(pixels)


@pytest.fixture
def server(monkeypatch):
    """The server that has the dataset, as a mirror of the one that publishes it."""
    with FileServer() as server:
        server.path = server.mirror(URL, crops())
        monkeypatch.setenv("PCI_BENCH_MIRROR", server.address)
        yield server


@pytest.fixture
def run(own_registries, capsys, monkeypatch, server, cache):
    register_dataset("published")(Published)

    def run(*arguments):
        said = call(capsys, monkeypatch, "data", *arguments)
        assert leftovers(cache) == []
        return said

    return run


def row(said) -> list[str]:
    """Return the words of the dataset's line."""
    (line,) = (line for line in said.out.splitlines() if line.startswith("published "))
    return line.split()


def test_a_dataset_is_listed_fetched_verified_and_removed(run, server, cache):
    assert row(run("list")) == ["published", "1.7", "kB", "to", "fetch", "CC0"]
    assert run("get", "published").code == 0
    assert row(run("list"))[:3] == ["published", str(CELLS), "ready,"]
    said = run("verify", "published")
    assert said.out.startswith("1 file that was fetched is as it came.\npublished is whole: sha256 ")
    said = run("remove", "published")
    assert said.code == 0
    assert re.match(r"published is removed from the cache: \d\.\d kB are free again\.", said.out)
    assert [p for p in cache.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    refused(run("remove", "published"), "Nothing of 'published' is in the cache.")
    assert server.paths() == [server.path]


def test_a_users_copy_counts_before_what_could_be_fetched(run, tmp_path, monkeypatch):
    (tmp_path / "published").mkdir()
    (tmp_path / "published" / "cells.npy").write_bytes(crops())
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    assert "published your copy CC0" in " ".join(row(run("list")))


def test_a_fetched_file_that_changed_is_told_by_verifying(run):
    run("get", "published")
    downloaded_file(REMOTE).write_bytes(crops()[:-1] + b"x")
    refused(run("verify", "published"), "cells.npy is damaged: its sha256 is", "Delete it; it is fetched again")


def test_a_source_that_is_gone_is_a_sentence_and_the_exit_status_2(run, server):
    server.fail("*", status(404))
    said = run("get", "published")
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("Error: Could not fetch the published cells from http://127.0.0.1")
    assert "nor from https://example.invalid/published/cells.npy (the name of the server is not known here" in said.err
    assert said.err.rstrip().endswith("Try again later, or ask a colleague.")


@pytest.mark.parametrize("kind", ["file", "folder", "zip"])
def test_a_users_copy_is_imported_checked_and_left_alone(run, server, tmp_path, kind):
    folder = tmp_path / "usb stick" / "deep"
    folder.mkdir(parents=True)
    file = folder / "cells.npy"
    file.write_bytes(crops())
    path: Path = {"file": file, "folder": folder.parent, "zip": tmp_path / "copy.zip"}[kind]
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(file, "any/where/cells.npy")
            archive.writestr("any/README", "read me")
    said = run("import", "published", str(path))
    assert said.code == 0, said.err
    assert f"{path} is imported. `pci-bench data get published` reads it." in said.out
    assert run("get", "published").code == 0
    assert server.asked == []
    run("remove", "published")
    assert file.read_bytes() == crops()


def test_a_copy_that_is_another_file_or_not_there_is_refused(run, tmp_path):
    refused(run("import", "published", str(tmp_path / "none")), f"There is no {tmp_path / 'none'}.")
    refused(run("import", "published", str(tmp_path)), "holds no cells.npy, which is the published cells")
    (tmp_path / "cells.npy").write_bytes(crops()[:-1] + b"x")
    refused(run("import", "published", str(tmp_path)), "cells.npy is not the published cells", "its sha256 is")
    assert row(run("list"))[1:5] == ["1.7", "kB", "to", "fetch"]


def test_datasets_that_take_no_copy_say_how_they_are_had(run, tmp_path):
    refused(run("import", "yeast-sim", str(tmp_path)), "takes no files", "`pci-bench data get yeast-sim` gets it")


def test_a_users_own_folder_is_never_removed(run, server, tmp_path, monkeypatch):
    own = tmp_path / "data" / "published"
    own.mkdir(parents=True)
    (own / "cells.npy").write_bytes(crops())
    monkeypatch.setenv("PCI_BENCH_DATA", str(own.parent))
    assert run("get", "published").code == 0
    assert run("remove", "published").code == 0
    assert (own / "cells.npy").read_bytes() == crops()


def test_cells_of_a_dataset_that_nothing_knows_any_more_are_listed_and_removed(run, monkeypatch):
    run("get", "published")
    from pci_bench.api.dataset import DATASETS

    DATASETS._entries.pop("published")
    assert row(run("list"))[:5] == ["published", "6", "in", "the", "cache,"]
    assert run("remove", "published").code == 0
    assert not any(line.startswith("published") for line in run("list").out.splitlines())
