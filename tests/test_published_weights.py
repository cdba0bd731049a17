"""Published weights: fetched from the first source that gives them, known by the published checksum, imported without a further step."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from servers import FileServer
from test_inpainting import NARROW, lively, write_keras

import pci_bench
from pci_bench import UserError, weights
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.names import parse
from pci_bench.inpainting import PairedCellInpainting
from pci_bench.system.files import cache_folder
from pci_bench.weights import IMPORTERS

LU2019 = "f9d758315f99b1d680718ad186c26a41fbd7922b"  # the commit of the authors' repository
BLOBS = {  # read off that commit's tree
    "lu2019-yeast": "21029d9a1187f7199b0a89df95093f9656c01240",
    "lu2019-human": "6bcdc197d56ed36d491e12430dc91f88d1bcc91e",
    "lu2019-human-filtered": "0d3bf36baf7708f4ac0ba290108cc79dda696503",
}
NOTOP, WHOLE = "6d6bbae143d832006294945121d1f1fc", "64373286793e3c8b2b4e3219cbf3544b"  # as Keras' own code has them


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A network in the layout of the authors' file."""
    file = tmp_path_factory.mktemp("published") / "model_weights.h5"
    write_keras(file, lively(PairedCellInpainting(1, 1, NARROW)))
    return file


@pytest.fixture
def server():
    with FileServer() as running:
        yield running


@pytest.fixture
def declared(published, server, monkeypatch):
    """The declaration of pci@lu2019-yeast, as if that small network had been published, on a server of which only the second answers."""
    declaration = weights.declared()["pci"]["lu2019-yeast"]
    server.files["/second/model_weights.h5"] = published.read_bytes()
    urls = [server.url("/first/model_weights.h5"), server.url("/second/model_weights.h5")]
    monkeypatch.setitem(declaration, "urls", urls)
    monkeypatch.setitem(declaration, "digest", f"git-blob:{blob_id(published.read_bytes())}")
    return declaration


# ---- what is declared


@pytest.mark.parametrize("name", BLOBS)
def test_the_papers_networks_come_from_one_commit_and_are_known_by_their_blobs(name):
    (remote,) = weights.remote_files("pci", name)
    assert remote.digest == f"git-blob:{BLOBS[name]}"
    assert len(remote.urls) == 2
    assert all(LU2019 in url for url in remote.urls)
    assert {url.split("/")[2] for url in remote.urls} == {"github.com", "raw.githubusercontent.com"}
    assert remote.licence.startswith("GPL-2.0")


def test_vgg16_is_the_file_that_serves_both_of_the_papers_variants():
    (remote,) = weights.remote_files("vgg16", "oxford")
    assert remote.digest == f"md5:{WHOLE}"
    assert all(url.endswith("/vgg16_weights_tf_dim_ordering_tf_kernels.h5") for url in remote.urls)
    assert weights.declared()["vgg16"]["oxford"]["accepts"] == [f"md5:{NOTOP}"]


def test_every_address_has_a_licence_and_an_importer_that_there_is():
    for family, named in weights.declared().items():
        for name, declaration in named.items():
            for remote in weights.remote_files(family, name):
                assert remote.licence
                assert declaration.get("fetch") or declaration["import"] in IMPORTERS
    assert weights.remote_files("pci", "yeast-sim") == weights.remote_files("pci", "mine") == ()


def test_how_to_get_them_is_one_command_with_size_and_licence():
    assert weights.how_to_get("vgg16", "oxford").endswith(
        "Run `pci-bench weights get vgg16@oxford` (553 MB; licence: CC BY 4.0, Visual Geometry Group of Oxford)"
    )


# ---- fetched


def test_getting_them_fetches_checks_and_imports(declared, published, server, cache, capsys, monkeypatch, make_cells):
    said = call(capsys, monkeypatch, "weights", "get", "pci@lu2019-yeast")
    assert said.code == 0, said.err
    assert server.paths() == ["/first/model_weights.h5", "/second/model_weights.h5"]
    content = published.read_bytes()
    source = weights.read_header(weights.find("pci", "lu2019-yeast")).source
    for part in (declared["urls"][1], f"git-blob {blob_id(content)} as published", hashlib.sha256(content).hexdigest()):
        assert part in source
        assert part in said.out
    assert "Licence: GPL-2.0" in said.out
    IMPORTERS.get("keras-pci")(published, "by-hand")
    cells = make_cells(5, (16, 16))
    for layer in ("conv1", "conv5"):
        got, expected = (pci_bench.extract(f"pci-{layer}@{name}", cells).X for name in ("lu2019-yeast", "by-hand"))
        np.testing.assert_array_equal(got, expected)
    assert not list((cache / "downloads").rglob("model_weights.h5"))  # it is not kept twice


def test_what_is_here_is_not_fetched_again_unless_asked(declared, server):
    first = weights.fetched("pci", "lu2019-yeast")
    assert weights.fetched("pci", "lu2019-yeast") == first
    assert len(server.paths()) == 2
    assert weights.fetched("pci", "lu2019-yeast", again=True) == first
    assert len(server.paths()) == 4


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_the_checksum_is_that_of_git(published):
    of_git = subprocess.run(["git", "hash-object", published], capture_output=True, text=True, check=True).stdout
    assert of_git.strip() == blob_id(published.read_bytes())


def test_another_file_than_the_published_one_is_refused_with_both_checksums(
    declared, server, cache, capsys, monkeypatch
):
    other = b"\x89HDF\r\n\x1a\n" + bytes(2000)
    server.files["/second/model_weights.h5"] = other
    said = call(capsys, monkeypatch, "weights", "get", "pci@lu2019-yeast")
    assert said.code == 2
    for part in (
        f"its git-blob is {blob_id(other)}, not {declared['digest'].partition(':')[2]}",
        "404",
        "weights import",
    ):
        assert part in said.err
    assert not re.search(r"\.\.|\s\s", said.err.partition("Error: ")[2].strip())
    assert weights.find("pci", "lu2019-yeast") is None


def test_a_run_fetches_no_published_weights_and_names_the_command(declared, server, make_cells):
    reason = unavailable_reason(parse("pci-conv4@lu2019-yeast"), make_cells(3))
    assert "Run `pci-bench weights get pci@lu2019-yeast` (licence: GPL-2.0" in reason
    assert server.paths() == []


def test_weights_that_nobody_published_are_said_to_be_unknown(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "weights", "get", "timm@hf-hub:timm/resnet10t.c3_in1k")
    assert said.code == 2
    assert "`pci-bench weights get timm@hf-hub--timm--resnet10t.c3_in1k`" in said.err
    said = call(capsys, monkeypatch, "weights", "get", "pci@nobody")
    assert said.code == 2
    assert "there are no weights pci@nobody here" in said.err


# ---- imported by hand


def test_the_published_file_may_have_its_name_and_no_other_file_may(declared, published, tmp_path):
    write_keras(other := tmp_path / "mine.h5", lively(PairedCellInpainting(1, 1, NARROW), seed=1))
    expected = declared["digest"].partition(":")[2]
    with pytest.raises(UserError, match=rf"git-blob is {blob_id(other.read_bytes())}, not {expected}.*another --name"):
        IMPORTERS.get("keras-pci")(other, "lu2019-yeast")
    assert weights.find("pci", "lu2019-yeast") is None
    IMPORTERS.get("keras-pci")(other, "mine")
    IMPORTERS.get("keras-pci")(published, "lu2019-yeast")
    assert weights.read_header(weights.find("pci", "lu2019-yeast")).source.startswith("model_weights.h5, git-blob ")


def test_a_name_may_have_several_published_files(declared, tmp_path, monkeypatch):
    files = [tmp_path / name for name in ("one", "two", "three")]
    for file in files:
        file.write_text(file.name)
    one, two, _ = (f"md5:{hashlib.md5(file.read_bytes()).hexdigest()}" for file in files)
    monkeypatch.setitem(declared, "digest", one)
    monkeypatch.setitem(declared, "accepts", [two])
    for file, digest in ((files[0], one), (files[1], two)):
        assert digest.replace(":", " ") in weights.source_of("pci", "lu2019-yeast", file)
    with pytest.raises(UserError, match=f"not {one[4:]}; its md5 is .* not {two[4:]}"):
        weights.source_of("pci", "lu2019-yeast", files[2])


def test_where_no_checksum_is_published_that_of_the_first_download_is_said(declared, published, monkeypatch):
    monkeypatch.delitem(declared, "digest")
    header = weights.read_header(weights.fetched("pci", "lu2019-yeast"))
    assert (
        f"sha256 {hashlib.sha256(published.read_bytes()).hexdigest()}, no checksum of it is published" in header.source
    )


# ---- what reads a file is not installed


def test_without_what_reads_them_nothing_is_fetched_and_its_installation_is_named(declared, server, monkeypatch):
    monkeypatch.setitem(declared, "needs", "a_package_that_nobody_has")
    with pytest.raises(UserError, match=r"is not installed: pip install 'pci-bench\[a_package_that_nobody_has\]'\."):
        weights.fetched("pci", "lu2019-yeast")
    assert server.paths() == []
    assert "Run pip install 'pci-bench[a_package_that_nobody_has]' and `pci-bench" in weights.how_to_get(
        "pci", "lu2019-yeast"
    )
    assert "a_package_that_nobody_has" not in sys.modules
    assert not (cache_folder() / "weights").exists()
