"""Trained weights are named before the training, and never replaced, hidden or paired with another card silently."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from faults import Fault

from pci_bench import UserError, weights
from pci_bench.system.files import cache_folder
from pci_bench.training.loop import default_name

TRAIN = ("train", "autoencoder", "--dataset", "folder:crops", "--epochs", "1", "--width", "0.04", "--batch", "4")
TRAIN = (*TRAIN, "--device", "cpu")
CANNOT = ("cannot name weights: use letters, digits, dots and dashes", "Give another --name.")


def saved(name: str, value: float = 1.0, **more: object) -> Path:
    """Save small weights."""
    tensors = {"x": np.full(3, value, np.float32)}
    return weights.save("autoencoder", name, tensors, channels=("protein",), config={}, source="a test", **more)


def with_weights(name: str):
    def arrange(folder: Path) -> None:
        cells(folder)
        saved(name, card={".md": b"old"})

    return arrange


def cells(folder: Path) -> None:
    """Write a folder of crops that a training takes."""
    import tifffile

    rng = np.random.default_rng(0)
    for image in range(4):
        (folder / "crops" / f"w{image}").mkdir(parents=True)
        for cell in range(3):
            for suffix in ("gfp", "rfp"):
                crop = rng.random((8, 8)).astype(np.float32)
                tifffile.imwrite(folder / "crops" / f"w{image}" / f"{cell}_{suffix}.tif", crop)


def named(name: str, *, own: bool = False) -> Fault:
    what = f"train --name {name[:12]!r}"
    return Fault(what, (*TRAIN, "--name", name), CANNOT, cells, own=own, absent=("cache/datasets", "cache/training"))


def imported(name: str) -> Fault:
    return Fault(f"import --name {name[:12]!r}", ("weights", "import", "keras-pci", "f.h5", "--name", name), CANNOT)


ILLEGAL = ("", "a/b", "a@b", "../x", "..", "a b", "a,b", "é", "-x", "x.", "x" * 101, "nul", "COM1.v2")
UNTOUCHED = ("cache/datasets", "cache/training")
FAULTS = [
    *(named(name, own=name == "a/b") for name in ILLEGAL),
    *(imported(name) for name in ("", "a/b", "a@b", "../x", "x" * 101)),
    Fault(
        "train a name that is there",
        (*TRAIN, "--name", "mine"),
        ("There are weights autoencoder@mine already", "Give another --name", "--overwrite"),
        with_weights("mine"),
        absent=UNTOUCHED,
    ),
    Fault(
        "train the default name that is there",
        TRAIN,
        ("There are weights autoencoder@crops already", "--overwrite"),
        with_weights("crops"),
        absent=UNTOUCHED,
    ),
    Fault(
        "train the name of shipped weights",
        (*TRAIN, "--name", "yeast-sim"),
        ("autoencoder@yeast-sim is the name of weights that come with pci-bench", "Give another --name"),
        cells,
        absent=UNTOUCHED,
    ),
    Fault(
        "train the name of published weights",
        ("train", "pci", *TRAIN[2:], "--name", "lu2019-yeast", "--overwrite"),
        ("pci@lu2019-yeast is the name of weights that others trained", "Give another --name"),
        cells,
        absent=UNTOUCHED,
    ),
    Fault(
        "train a folder without a name",
        TRAIN,
        ("Made autoencoder@crops",),
        cells,
        code=0,
    ),
    Fault(
        "train a name that is there with --overwrite",
        (*TRAIN, "--name", "mine", "--overwrite"),
        ("Made autoencoder@mine",),
        with_weights("mine"),
        code=0,
    ),
    Fault(
        "train the name of shipped weights with --overwrite",
        (*TRAIN, "--name", "yeast-sim", "--overwrite"),
        ("Made autoencoder@yeast-sim", "Note: features named", "still come from the shipped file"),
        cells,
        code=0,
    ),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


def test_an_import_does_not_replace_other_weights_but_may_repeat_the_same(say, here, test_data):
    file = test_data / "keras-weights-sample" / "model_weights.h5"
    arguments = ("weights", "import", "keras-pci", file, "--name", "mine")
    assert say(*arguments, own=False).code == 0
    assert say(*arguments, own=False).code == 0  # the same bytes
    weights_file = cache_folder() / "weights" / "pci@mine.safetensors"
    content = weights_file.read_bytes()
    other = here / "other.h5"
    import h5py

    other.write_bytes(file.read_bytes())
    with h5py.File(other, "r+") as opened:
        opened.visititems(lambda _, item: item.write_direct(item[()] * 2) if hasattr(item, "write_direct") else None)
    arguments = (*arguments[:3], other, *arguments[4:])
    said = say(*arguments, own=False)
    assert said.code == 2, said.err
    assert "There are weights pci@mine already" in said.err
    assert weights_file.read_bytes() == content
    weights_file.with_suffix(".md").write_text("of the old")
    assert say(*arguments, "--overwrite", own=False).code == 0
    assert weights_file.read_bytes() != content
    assert not weights_file.with_suffix(".md").exists()


def test_all_files_of_a_name_are_replaced_together_or_not_at_all(cache, monkeypatch):
    file = saved("mine", card={".json": b"{}", ".md": b"old", ".png": b"old"})
    before = {p.name: p.read_bytes() for p in file.parent.iterdir()}
    with pytest.raises(UserError, match="already"):
        saved("mine", 2)
    assert {p.name: p.read_bytes() for p in file.parent.iterdir()} == before

    def full(*_):
        raise OSError(28, "full")

    with monkeypatch.context() as patch, weights.overwriting(), pytest.raises(UserError, match="disk is full"):
        patch.setattr(os, "fsync", full)
        saved("mine", 2, card={".md": b"new"})
    assert {p.name: p.read_bytes() for p in file.parent.iterdir()} == before
    with weights.overwriting():
        saved("mine", 2, card={".md": b"new"})
    assert file.with_suffix(".md").read_bytes() == b"new"
    assert sorted(p.suffix for p in file.parent.iterdir()) == [".md", ".safetensors"]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_killed_between_two_renames_no_old_card_stands_beside_new_weights(cache, monkeypatch, renames):
    file = saved("mine", card={".json": b"{}", ".md": b"old", ".png": b"old"})
    replace, done = os.replace, []

    def killed(*paths):
        if len(done) == renames:
            raise SystemExit
        done.append(paths)
        replace(*paths)

    with monkeypatch.context() as patch, weights.overwriting(), pytest.raises(SystemExit):
        patch.setattr(os, "replace", killed)
        saved("mine", 2, card={".json": b"[]", ".md": b"new", ".png": b"new"})
    assert b"old" not in [p.read_bytes() for p in file.parent.iterdir()]


@pytest.mark.parametrize(
    ("dataset", "name"),
    [
        ("toy-yeast", "toy-yeast"),
        ("folder:my/crops", "crops"),
        ("folder:/data/My cells (2)/?protein=_gfp", "My-cells-2"),
        ("folder:/data/" + "x" * 300, "x" * 100),
    ],
)
def test_a_training_without_a_name_is_called_by_its_data(dataset, name):
    assert default_name(dataset) == name


def test_a_folder_of_no_legal_letter_has_a_name_too():
    name = default_name("folder:細胞")
    weights.check_name(name)
    assert name != default_name("folder:酵母")


def test_an_unfinished_training_is_not_discarded_for_one_that_cannot_begin(say, here, cache):
    cells(here)
    assert say(*TRAIN, "--name", "kept", own=False).code == 0
    checkpoint = cache / "training" / "autoencoder@kept" / "checkpoint.pt"
    checkpoint.write_bytes(b"of an unfinished training")
    said = say(*TRAIN, "--name", "kept", "--overwrite", "--restart", "--batch", "500", own=False)
    assert said.code == 2
    assert "fewer than a batch" in said.err
    assert checkpoint.exists()
