"""DeepLoc's checkpoint: found in an archive or folder, read in a process of its own, imported as its variables are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from command_line import call
from servers import FileServer
from test_deeploc import variables, written

import pci_bench
from pci_bench import UserError, weights
from pci_bench.weights import IMPORTERS

INSIDE = "pretrained_DeepLoc/pretrained_models"  # of the published archive
STAND_IN = '''
"""Reads .npz files in the place of checkpoints."""
import numpy

class train:
    class load_checkpoint:
        def __init__(self, checkpoint):
            self.arrays = numpy.load(f"{checkpoint}.index")
        def get_variable_to_shape_map(self):
            return {name: array.shape for name, array in self.arrays.items()}
        def get_tensor(self, name):
            return self.arrays[name] if name != "graph" else b"text"
'''
with_tensorflow = pytest.mark.skipif(
    find_spec("tensorflow") is None, reason="TensorFlow is not installed: pip install 'pci-bench[tensorflow]'"
)


@pytest.fixture
def stand_in(tmp_path, monkeypatch) -> None:
    """A package `tensorflow` whose checkpoints are .npz files, in this process and in those that it starts."""
    package = tmp_path / "packages" / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(STAND_IN)
    before = [path] if (path := os.environ.get("PYTHONPATH")) else []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), *before]))
    monkeypatch.syspath_prepend(package.parent)


def write_checkpoint(folder: Path, steps: int = 5000, **more: np.ndarray) -> Path:
    """Write a checkpoint of the stand-in as three files, and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"model.ckpt-{steps}"
    written(folder, variables() | {"graph": np.zeros(1)} | more).rename(f"{checkpoint}.index")
    Path(f"{checkpoint}.data-00000-of-00001").write_bytes(b"numbers")
    Path(f"{checkpoint}.meta").write_bytes(b"graph")
    (folder / "checkpoint").write_text(f'model_checkpoint_path: "{checkpoint.name}"')
    return checkpoint


def zipped(folder: Path, archive: Path, inside: str = INSIDE) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for file in sorted(folder.iterdir()):
            opened.write(file, f"{inside}/{file.name}")
    return archive


def features(name: str, make_cells) -> np.ndarray:
    raw = np.random.default_rng(2).gamma(2, 300, (3, 2, 64, 64)).astype(np.float32)
    return np.asarray(pci_bench.extract(f"deeploc-fc2@{name}", make_cells(crops=raw)).X)


def test_an_archive_a_folder_a_file_and_a_name_give_the_same_weights(stand_in, tmp_path, make_cells):
    checkpoint = write_checkpoint(tmp_path / "logs")
    IMPORTERS.get("deeploc-npz")(written(tmp_path, variables()), "by-hand")
    expected = features("by-hand", make_cells)
    ways = {
        "zip": zipped(tmp_path / "logs", tmp_path / "pretrained_DeepLoc.zip"),
        "folder": tmp_path,
        "index": Path(f"{checkpoint}.index"),
        "meta": Path(f"{checkpoint}.meta"),
        "name": checkpoint,
    }
    for name, path in ways.items():
        assert IMPORTERS.get("deeploc-checkpoint")(path, name) == (f"deeploc@{name}", ("protein", "marker"))
        np.testing.assert_array_equal(features(name, make_cells), expected)


def test_of_several_checkpoints_that_of_the_most_steps_is_taken(stand_in, tmp_path, make_cells):
    write_checkpoint(tmp_path / "logs", 10_000)
    write_checkpoint(tmp_path / "logs", 9500, **{"fc_2/biases/Variable": np.full(32, 9, np.float32)})
    IMPORTERS.get("deeploc-checkpoint")(tmp_path / "logs", "newest")
    IMPORTERS.get("deeploc-npz")(written(tmp_path, variables()), "by-hand")
    np.testing.assert_array_equal(features("newest", make_cells), features("by-hand", make_cells))


def test_getting_the_published_weights_needs_no_further_step(stand_in, tmp_path, capsys, monkeypatch):
    write_checkpoint(tmp_path / "logs")
    content = zipped(tmp_path / "logs", tmp_path / "all.zip").read_bytes()
    with FileServer({"/pretrained_DeepLoc.zip": content}) as server:
        url = server.url("/pretrained_DeepLoc.zip")
        monkeypatch.setitem(weights.declared()["deeploc"]["kraus2017"], "urls", [url])
        said = call(capsys, monkeypatch, "weights", "get", "deeploc@kraus2017")
    assert said.code == 0, said.err
    header = weights.read_header(weights.find("deeploc", "kraus2017"))
    assert header.trained_on == {"dataset": "chong2015", "split": "train"}
    for part in (url, hashlib.sha256(content).hexdigest(), "no checksum of it is published"):
        assert part in header.source
        assert part in said.out


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "none.zip", "none.zip is not there. Expected a checkpoint"),
        (
            lambda p: written(p, variables()).rename(p / "model.ckpt-1.npz"),
            "holds none of the files expected; it holds",
        ),
        (lambda p: (p / "a.txt").write_text("text") and p / "a.txt", "is not a whole ZIP or TAR archive"),
        (lambda p: (p / "empty").mkdir() or p / "empty", r"holds no checkpoint \(it holds nothing\)"),
        (lambda p: zipped(write_checkpoint(p / "logs").parent, p / "a.zip").rename(p / "b"), None),
        (lambda p: Path(write_checkpoint(p / "l", **{"x/y": np.zeros(2)}).parent), "'x/y', which is of no layer"),
    ],
    ids=["absent", "another zip", "a text", "an empty folder", "a zip by another name", "another network"],
)
def test_what_holds_no_checkpoint_of_deeploc_is_a_sentence(stand_in, tmp_path, make, sentence):
    if sentence is None:
        IMPORTERS.get("deeploc-checkpoint")(make(tmp_path), "mine")
        return
    with pytest.raises(UserError, match=sentence):
        IMPORTERS.get("deeploc-checkpoint")(make(tmp_path), "mine")
    assert weights.find("deeploc", "mine") is None


def test_a_checkpoint_that_cannot_be_read_is_a_sentence_with_what_tensorflow_said(stand_in, tmp_path):
    checkpoint = write_checkpoint(tmp_path / "logs")
    Path(f"{checkpoint}.index").write_bytes(b"damaged")
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint of TensorFlow \(.*Error"):
        IMPORTERS.get("deeploc-checkpoint")(checkpoint, "mine")


def test_an_archive_that_leads_out_of_its_folder_is_refused(stand_in, tmp_path):
    write_checkpoint(tmp_path / "logs")
    up = zipped(tmp_path / "logs", tmp_path / "up.zip", "../out")
    with pytest.raises(UserError, match="leads out of its folder"):
        IMPORTERS.get("deeploc-checkpoint")(up, "mine")


def test_without_tensorflow_its_installation_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["pci_bench_baselines.deeploc_checkpoint"], "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pci-bench\[tensorflow\]'"):
        IMPORTERS.get("deeploc-checkpoint")(tmp_path, "mine")


@with_tensorflow
def test_a_checkpoint_that_tensorflow_trained_gives_what_tensorflow_computes(tmp_path, make_cells, monkeypatch):
    raw = np.random.default_rng(2).gamma(2, 300, (40, 2, 64, 64)).astype(np.float32)
    low, high = np.percentile(raw, (0.1, 99.9), axis=(2, 3), keepdims=True)
    centres = ((np.minimum(raw, high) - low) / (high - low)).transpose(0, 2, 3, 1)[:, 2:62, 2:62]
    np.save(tmp_path / "parts.npy", centres)
    (tmp_path / "logs").mkdir()
    command = [sys.executable, "deeploc_graph.py", tmp_path / "logs" / "model.ckpt", tmp_path / "parts.npy"]
    subprocess.run([*command, tmp_path / "outputs.npz"], check=True, cwd=Path(__file__).parent)
    content = zipped(tmp_path / "logs", tmp_path / "all.zip").read_bytes()
    with FileServer({"/pretrained_DeepLoc.zip": content}) as server:
        declaration = weights.declared()["deeploc"]["kraus2017"]
        monkeypatch.setitem(declaration, "urls", [server.url("/pretrained_DeepLoc.zip")])
        weights.fetched("deeploc", "kraus2017")
    got = pci_bench.extract("deeploc-fc2-centre@kraus2017", make_cells(crops=raw)).X
    expected = np.load(tmp_path / "outputs.npz")["fc2"]
    assert expected.std() > 0.1
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * expected.max())
