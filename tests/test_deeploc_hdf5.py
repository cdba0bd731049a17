"""deeploc-hdf5:PATH on a real file of DeepLoc's family, and on files of other channels, sizes and numbers."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import pytest
from test_chong2015_copies import CLASSES, PIXELS, hdf5

import pci_bench
from pci_bench import UserError
from pci_bench.datasets import DATASETS

rng = np.random.default_rng(0)


def load(path, options=""):
    return pci_bench.load_dataset(f"deeploc-hdf5:{path}{options}")


def written(path, data, names=("A", "B"), attribute="Index1_columns", **arrays):
    """Write a file whose cells are of the classes in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data1"] = data
        file["Index1"] = np.eye(len(names))[np.arange(len(data)) % len(names)]
        for name, values in arrays.items():
            file[name] = values
        if attribute == "label_names":
            file[attribute] = np.array(names, "S")
        else:
            file.attrs[attribute] = np.array(names, "S")
    return path


# ---- a real file: cells of the SWAT library, RFP and DIC


@pytest.fixture(scope="module")
def swat(test_data):
    return test_data / "deeploc-swat" / "Schuldiner_test_set.hdf5"


def test_a_real_file_gives_its_pixels_and_classes(swat):
    cells = load(swat, "?channels=RFP,DIC&offset=32768")
    with h5py.File(swat) as file:
        rows = file["data1"][:]
    expected = np.array([[row[:4096].reshape(64, 64), row[4096:].reshape(64, 64)] for row in rows]) - 32768
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), expected)
    with open(swat.with_name("labels.csv"), newline="") as file:
        labels = [row["label"].lower() for row in csv.DictReader(file)]
    assert [label.lower().replace(" ", "_") for label in cells.obs["label"]] == labels
    assert [(c.name, c.role) for c in cells.channels] == [("RFP", "protein"), ("DIC", "marker")]
    assert set(cells.obs["split"]) == {"Schuldiner_test_set"}


def test_without_options_the_file_is_read_and_what_it_lacks_is_said(swat):
    cells = load(swat)
    assert len(cells) == 36
    assert cells.crop_shape == (64, 64)
    assert cells.crops(slice(None), rescale="raw").min() == 32983
    notes = " ".join(cells.notes)
    assert "'RFP channel 64x64, DIC channel 64x64 flattened'" in notes
    assert "between 32,983 and 35,372" in notes
    assert "the option offset=32768 subtracts it" in notes
    assert "offset=" not in " ".join(load(swat, "?offset=32768").notes)


def test_a_real_file_can_be_benchmarked(swat, tmp_path):
    name = f"deeploc-hdf5:{swat}?offset=32768"
    (result,) = pci_bench.run("yeast-knn", dataset=name, features="intensity", k=1, out=tmp_path / "out").results
    assert result.dataset.n_cells == 36
    assert result.paper is None


# ---- other files


def test_the_protein_may_be_any_plane(tmp_path):
    data = rng.random((4, 2 * 16), dtype=np.float32)
    cells = load(written(tmp_path / "a.hdf5", data), "?channels=DIC,RFP&protein=RFP")
    assert [(c.name, c.role) for c in cells.channels] == [("RFP", "protein"), ("DIC", "marker")]
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), data.reshape(4, 2, 4, 4)[:, ::-1])


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (2, 5), (3, 6)])
def test_the_size_of_crops_follows_from_the_rows(tmp_path, channels, side):
    data = rng.random((4, channels * side * side), dtype=np.float32)
    cells = load(written(tmp_path / "a.h5", data))
    assert (len(cells.channels), cells.crop_shape) == (channels, (side, side))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float64])
def test_numbers_of_any_type_keep_their_values(tmp_path, dtype):
    data = rng.integers(0, 100, (4, 32)).astype(dtype)
    cells = load(written(tmp_path / "a.h5", data))
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw").reshape(4, 32), data)


@pytest.mark.parametrize("attribute", ["Index1_columns", "label_names"])
def test_a_folder_pools_its_files_and_each_is_a_split(tmp_path, attribute):
    first, second = rng.random((2, 3, 32), dtype=np.float32)
    written(tmp_path / "b.hdf5", second, names=("B", "C", "A"), attribute=attribute)
    written(tmp_path / "a.h5", first, attribute=attribute)
    (tmp_path / "README").write_text("")
    cells = load(tmp_path)
    assert list(cells.obs["split"]) == ["a"] * 3 + ["b"] * 3
    assert list(cells.obs["label"]) == ["A", "B", "A", "B", "C", "A"]
    np.testing.assert_array_equal(cells.crops(slice(3, 6), rescale="raw").reshape(3, 32), second)


def test_the_image_that_info_names_is_the_confounder(tmp_path):
    file = written(tmp_path / "a.h5", rng.random((4, 32)), Info1=np.array([[1.0], [1.0], [2.0], [2.0]]))
    with h5py.File(file, "a") as opened:
        opened.attrs["Info1_columns"] = np.array(["ImageNumber"], "S")
    cells = load(file)
    assert cells.meta.confounder == "image"
    assert list(cells.obs["image"]) == ["1", "1", "2", "2"]


def test_the_files_of_chong2015_are_of_the_family(tmp_path, monkeypatch):
    (tmp_path / "chong2015").mkdir()
    for split in PIXELS:
        (tmp_path / "chong2015" / f"Chong_{split}_set.hdf5").write_bytes(hdf5(split))
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    general, own = load(tmp_path / "chong2015", "?channels=GFP,RFP"), pci_bench.load_dataset("chong2015:drop")
    assert set(general.obs["label"]) == set(CLASSES)
    in_order = {tuple(crop[0, 0, :3]) for crop in general.crops(slice(None), rescale="raw")}
    assert {tuple(crop[0, 0, :3]) for crop in own.crops(slice(None), rescale="raw")} < in_order


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("?channel=RFP", "has no option 'channel'. Its options are channels, protein, offset"),
        ("?channels=", "gives an option twice, or without a value"),
        ("?channels=RFP,RFP", "must name every channel once"),
        ("?protein=RFP", "is none of its channels"),
        ("?offset=many", "offset=many of .* is not a number"),
        ("?channels=A,B,C", "have 32 pixels, which are not square crops of 3 channels"),
    ],
)
def test_wrong_options_are_sentences(tmp_path, options, sentence):
    file = written(tmp_path / "a.h5", rng.random((4, 32)))
    with pytest.raises(UserError, match=sentence):
        load(file, options)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent.h5", "there is no .*absent.h5. Check the path"),
        ("empty", "there is no file with the ending .hdf5 or .h5 in "),
        ("text.h5", "is not an HDF5 file"),
        ("other.h5", r"has no array data1 of the shape \(cells, pixels\); it holds X"),
        ("odd.h5", "have 7 pixels, which are not square crops of 1 to 5 channels. Name its channels"),
        ("unnamed.h5", "does not name the columns of Index1. Expected 2 class names"),
    ],
)
def test_wrong_files_are_sentences(tmp_path, name, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.h5").write_text("cells")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = np.zeros(3)
    written(tmp_path / "odd.h5", rng.random((4, 7)))
    with h5py.File(written(tmp_path / "unnamed.h5", rng.random((4, 32))), "a") as file:
        del file.attrs["Index1_columns"]
    with pytest.raises(UserError, match=sentence):
        load(tmp_path / name)


def test_the_dataset_is_listed_with_its_argument():
    assert DATASETS.prefixes()["deeploc-hdf5"] == "PATH"
