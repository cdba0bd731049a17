"""Where the cells of chong2015 come from: the archive, the mirror, a user's copy; and what is said of another copy than the paper's."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import h5py
import numpy as np
import pytest
import tifffile
from command_line import call
from factories import make_result
from PIL import Image
from servers import FileServer, instead, status, web_page

import pci_bench
from pci_bench import UserError
from pci_bench.datasets import DATASETS
from pci_bench.datasets.chong2015 import Chong2015, Chong2015Images
from pci_bench.datasets.chong2015_copies import CLASSES, DECLARATION, SOURCES, layouts_in
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.names import parse
from pci_bench.reporting.tables.declaration import printed_value
from pci_bench.runs.training_cells import training_cells
from pci_bench.system.progress import Progress

rng = np.random.default_rng(0)
PIXELS = {split: rng.random((19, 8192), dtype=np.float32) for split in ("test", "valid", "train")}
NAMES = {split: f"Chong_{split}_set.hdf5" for split in PIXELS}
MIRRORED = [name for name in CLASSES if name not in ("DEAD", "GHOST")]


def hdf5(split):
    """The bytes of one of the three files: a cell of each class, in the published layout."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["data1"], file["Index1"] = PIXELS[split], np.eye(19, dtype=np.uint8)
        file.attrs["Index1_columns"] = np.array(CLASSES, "S")
    return content.getvalue()


def files():
    """The files of the published archive, by name."""
    return {f"datasets/{name}": hdf5(split) for split, name in NAMES.items()} | {"datasets/README": b"about them"}


def images(classes=CLASSES, dtype=np.float32, parents="images/"):
    """The files of the authors' unpacking script, by name: their numbers count test, valid and train in this order."""
    made = {}
    cells = [(name, row) for rows in PIXELS.values() for name, row in zip(CLASSES, rows, strict=True)]
    for number, (name, row) in enumerate(cells):
        for channel, plane in zip(("gfp", "rfp"), row.reshape(2, 64, 64), strict=True):
            content = io.BytesIO()
            values = plane if dtype == np.float32 else (plane * np.iinfo(dtype).max).astype(dtype)
            Image.fromarray(values).save(content, "TIFF")  # as the script writes them
            if name in classes:
                made[f"{parents}{name}/{name}_{number}_{channel}.tif"] = content.getvalue()
    return made


def archive(members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, member in members.items():
            made.writestr(name, member)
    return content.getvalue()


def unpacked(members, folder):
    for name, content in members.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Said(Progress):
    """Progress that keeps what it is told."""

    def __init__(self):
        self.sentences = []

    def say(self, sentence):
        self.sentences.append(sentence)


@pytest.fixture
def server(monkeypatch):
    """A server that stands in for both sources, without any file yet; nothing else is asked."""
    with FileServer() as running:
        for layout, path in (("hdf5", "/all.zip"), ("images", "/mirror")):
            monkeypatch.setitem(SOURCES, layout, replace(SOURCES[layout], urls=(running.url(path),)))
        yield running


def loaded(name="chong2015"):
    DATASETS.get(name).fetch(Progress())
    return pci_bench.load_dataset(name)


def in_file_order(splits=("train", "valid", "test")):
    return np.concatenate([PIXELS[split] for split in splits]).reshape(-1, 2, 64, 64)


# ---- sources


def test_the_archive_is_fetched_and_its_hash_and_address_are_said(server, cache):
    server.files["/all.zip"] = archive(files())
    said = Said()
    DATASETS.get("chong2015").fetch(said)
    assert any("no checksum is published; the first download's SHA-256 is" in s for s in said.sentences)
    cells = pci_bench.load_dataset("chong2015")
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), in_file_order())
    assert server.paths() == ["/all.zip"]
    note = next(note for note in cells.notes if "fetched from" in note)
    assert server.url("/all.zip") in note
    assert "SHA-256" in note
    loaded()
    assert server.paths() == ["/all.zip"]  # nothing is fetched twice


@pytest.mark.parametrize(
    "fault", [status(404), web_page, instead(b"no archive"), instead(archive({"a.txt": b"other"}))]
)
def test_where_the_archive_cannot_be_had_the_mirror_is_fetched_and_named_as_what_it_is(
    server, fault, capsys, monkeypatch
):
    server.files |= {"/all.zip": archive(files()), "/mirror": archive(images(MIRRORED))}
    server.fail("/all.zip", fault)
    said = call(capsys, monkeypatch, "data", "get", "chong2015")
    assert said.code == 0, said.err
    assert "'chong2015' could not be had. In its place there is 'chong2015:images'" in said.out
    assert "Cells(chong2015:images: 51 cells" in said.out
    assert "nothing on it is a reproduction" in said.out
    assert "all.zip (" in said.err or "DeepLoc_full_datasets.zip " in said.err
    with pytest.raises(UserError, match=r"'chong2015' is not available.*chong2015:images is here, another copy"):
        pci_bench.load_dataset("chong2015")


def test_where_no_source_answers_one_sentence_has_all_reasons_and_what_to_do(server, capsys, monkeypatch):
    server.fail("/mirror", status(403))
    said = call(capsys, monkeypatch, "data", "get", "chong2015")
    assert said.code == 2
    error = said.err.splitlines()[-1]
    assert error.startswith("Error: 'chong2015' is not available: Could not fetch the HDF5 files of chong2015 from ")
    for words in (
        "404",
        "Could not fetch the mirror of chong2015, images by class from ",
        "403",
        "`pci-bench data import chong2015 PATH`",
    ):
        assert words in error
    assert "`pci-bench data get chong2015`" not in error  # which has just failed


@pytest.mark.parametrize("form", ["archive", "folder"])
@pytest.mark.parametrize("layout", ["hdf5", "images"])
def test_a_users_copy_is_taken_as_an_archive_or_a_folder(form, layout, tmp_path, capsys, monkeypatch):
    members = files() if layout == "hdf5" else images()
    own = tmp_path / "own"
    if form == "archive":
        own.write_bytes(archive(members))
    else:
        unpacked(members, own)
    assert call(capsys, monkeypatch, "data", "import", "chong2015", str(own)).code == 0
    cells = pci_bench.load_dataset("chong2015" if layout == "hdf5" else "chong2015:images")
    assert len(cells) == 57
    assert any(f"imported from {own}" in note for note in cells.notes)
    assert any("SHA-256" in note for note in cells.notes) == (form == "archive")
    found = {tuple(crop) for crop in cells.crops(slice(None), rescale="raw")[:, 0, 0, :3]}
    assert found == {tuple(crop) for crop in in_file_order()[:, 0, 0, :3]}


def test_a_users_folder_wins_over_what_was_fetched(server, tmp_path, monkeypatch):
    server.files["/all.zip"] = archive(files())
    assert len(loaded()) == 57
    own = unpacked(files(), tmp_path / "data" / "chong2015")
    monkeypatch.setenv("PCI_BENCH_DATA", str(own.parent))
    assert any(f"the user's own copy in {own / 'datasets'}" in note for note in loaded().notes)


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"notes.txt": b"nothing"}, "holds no copy of chong2015. Expected a folder or a ZIP archive with Chong_train"),
        (dict(list(files().items())[:2]), "holds no Chong_train_set.hdf5 beside the others"),
        (files() | {"datasets/Chong_valid_set.hdf5": b"<html>"}, "Chong_valid_set.hdf5 is not an HDF5 file"),
        (dict(list(images().items())[:3]), "has no _rfp file beside it"),
        (images() | {"images/CELLS/CELLS_1_gfp.tif": b"", "images/CELLS/CELLS_1_rfp.tif": b""}, "which is no class"),
        (images() | {"images/ER/GOLGI_1_gfp.tif": b"", "images/ER/GOLGI_1_rfp.tif": b""}, "is not named ER_<number>"),
    ],
)
def test_a_copy_that_is_not_whole_is_a_sentence_and_nothing_of_it_is_kept(members, sentence, tmp_path, cache):
    own = tmp_path / "own.zip"
    own.write_bytes(archive(members))
    with pytest.raises(UserError) as caught:
        DATASETS.get("chong2015").import_copy(own, Progress())
    assert sentence in str(caught.value)
    assert DATASETS.get("chong2015").unavailable_reason()
    assert DATASETS.get("chong2015:images").unavailable_reason()


def test_a_truncated_archive_is_a_sentence(tmp_path):
    own = tmp_path / "own.zip"
    own.write_bytes(archive(images())[:-100])
    with pytest.raises(UserError, match="is not a whole ZIP archive"):
        DATASETS.get("chong2015").import_copy(own, Progress())


def test_one_place_says_which_layouts_lie_in_a_folder(tmp_path):
    assert layouts_in(tmp_path) == {}
    unpacked(images(["ER"], parents="test_set/images/"), tmp_path)
    unpacked({"deep/datasets/Chong_test_set.hdf5": b""}, tmp_path)
    assert layouts_in(tmp_path) == {"hdf5": tmp_path / "deep/datasets", "images": tmp_path / "test_set/images"}


# ---- images by class


@pytest.fixture
def own_images(tmp_path, monkeypatch):
    """A function that puts images into the user's folder and loads them."""

    def put(members, name="chong2015:images"):
        unpacked(members, tmp_path / "data" / "chong2015")
        monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
        return pci_bench.load_dataset(name)

    return put


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_images_are_read_as_they_are_and_their_type_is_said(own_images, dtype):
    cells = own_images(images(dtype=dtype))
    row = int(np.flatnonzero(cells.obs["cell"] == "ER_6")[0])
    expected = PIXELS["test"][CLASSES.index("ER")].reshape(2, 64, 64)
    if dtype != np.float32:
        expected = (expected * np.iinfo(dtype).max).astype(dtype) / np.float32(np.iinfo(dtype).max)
    np.testing.assert_allclose(cells.crops(slice(row, row + 1), rescale="raw")[0], expected, rtol=1e-6)
    (note,) = [note for note in cells.notes if "The images hold" in note]
    assert f"The images hold {np.dtype(dtype)} values" in note
    assert ("not the units of those files" in note) == (dtype != np.float32)


def test_compressed_and_packed_images_are_read_alike(own_images, tmp_path):
    members = images(["ER"])
    content = io.BytesIO()
    tifffile.imwrite(content, PIXELS["test"][6].reshape(2, 64, 64)[0], compression="zlib")
    members["images/ER/ER_6_gfp.tif"] = content.getvalue()
    cells = own_images(members)
    row = int(np.flatnonzero(cells.obs["cell"] == "ER_6")[0])
    np.testing.assert_array_equal(
        cells.crops(slice(row, row + 1), rescale="raw")[0], PIXELS["test"][6].reshape(2, 64, 64)
    )


def test_the_class_maps_are_those_of_the_files(own_images):
    assert own_images(images()).obs["label"].nunique() == 18
    assert own_images(images(), "chong2015:images-merge-and-drop").obs["label"].nunique() == 16
    with pytest.raises(UserError, match="no class map 'mrege'"):
        DATASETS.get("chong2015:images-mrege")


def test_other_counts_than_the_published_are_named_with_what_was_found(own_images):
    notes = " ".join(own_images(images(MIRRORED)).notes)
    assert "The number of cells is not that of the mirror: 51 found, 28,166 expected." in notes
    assert "Cells by class: ACTIN 3, BUDNECK 3" in notes
    assert "expected all 19 classes" not in notes


def test_missing_classes_and_another_number_of_all_cells_are_named(own_images):
    notes = " ".join(own_images(images([name for name in CLASSES if name != "ER"])).notes)
    assert (
        "There are no images of ER; expected all 19 classes, or all but those that the mirror lacks, DEAD and GHOST."
        in notes
    )


def test_the_published_numbers_are_not_complained_about(own_images, monkeypatch):
    monkeypatch.setitem(DECLARATION["paper"], "cells", 57)
    monkeypatch.setattr("pci_bench.datasets.chong2015.DECLARATION", DECLARATION)
    assert not any("found," in note for note in own_images(images()).notes)


def test_files_with_other_counts_than_published_are_named(tmp_path, monkeypatch):
    unpacked(files(), tmp_path / "chong2015")
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    notes = " ".join(pci_bench.load_dataset("chong2015").notes)
    assert "other numbers of cells than published: train 19 (published: 21,882), valid 19 (published: 4,491)" in notes


def test_numbers_that_count_all_splits_tell_the_split_of_every_cell(own_images, monkeypatch):
    monkeypatch.setitem(DECLARATION, "cells", {"train": 19, "valid": 19, "test": 19})
    cells = own_images(images(MIRRORED))
    splits = dict(zip(cells.obs["cell"], cells.obs["split"], strict=True))
    assert (splits["ACTIN_0"], splits["ACTIN_19"], splits["ACTIN_38"]) == ("test", "valid", "train")
    trained = training_cells(cells.obs, cells.meta.name, {"dataset": "chong2015", "split": "train"})
    assert trained.sum() == 17


def test_numbers_that_are_counted_anew_tell_no_split(own_images, monkeypatch):
    monkeypatch.setitem(DECLARATION, "cells", {"train": 19, "valid": 19, "test": 19})
    members = {}
    for name, content in images(MIRRORED).items():
        label = name.split("/")[1]
        number = int(name.split("_")[1]) // 19
        members[f"{label}/{label}_{number}_{name[-7:-4]}.tif"] = content
    cells = own_images(members)
    assert "split" not in cells.obs
    assert any("no split is known" in note for note in cells.notes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda made: np.zeros((32, 32), np.float32), "has 32 × 32 pixels; expected 64 × 64"),
        (lambda made: np.zeros((64, 64, 3), np.uint8), "a crop's channel is one grey image"),
    ],
)
def test_images_of_another_kind_are_a_sentence(own_images, change, sentence):
    members = images(["ACTIN"])
    content = io.BytesIO()
    tifffile.imwrite(content, change(None))
    members["images/ACTIN/ACTIN_0_gfp.tif"] = content.getvalue()
    with pytest.raises(UserError) as caught:
        own_images(members)
    assert sentence in str(caught.value)


def test_nothing_on_the_images_stands_beside_a_printed_number():
    meta = Chong2015Images().meta
    assert (meta.name, meta.variant_of, dict(meta.paper)) == ("chong2015:images", "chong2015", {})
    assert Chong2015().meta.variant_of == ""
    result = make_result(
        dataset={"name": "chong2015"},
        features={"name": "pci-conv4", "weights": "lu2019-yeast"},
        evaluator={"name": "loo-knn", "params": {"k": 11, "exclude": "cell", "scale": "all"}},
        metrics={"balanced_accuracy": 0.88},
    )
    assert printed_value(result).value == 87.98
    assert (
        printed_value(result.model_copy(update={"dataset": result.dataset.model_copy(update={"name": meta.name})}))
        is None
    )


MEASURED = ["Cells_AreaShape_Area", "ImageNumber", "Cells_Texture_Contrast_GFP"]


def measured(cells=57):
    """The table of the authors' script: every field and every line end with a tab."""
    lines = ["\t".join(["CellID", *MEASURED, ""])]
    for number in range(cells):
        values = [str(number + 0.5), "3.0", "nan" if number == 1 else str(np.float32(-number))]
        lines.append("\t".join([f"{CLASSES[number % 19]}_{number}", *values, ""]))
    return "\n".join(lines).encode() + b"\n"


@pytest.mark.parametrize("place", ["", "images/"])
@pytest.mark.parametrize("imported", [False, True])
def test_the_columns_that_the_authors_script_writes_beside_images_are_features(
    own_images, tmp_path, monkeypatch, place, imported
):
    members = images() | {f"{place}cellprofiler_features.txt": measured()}
    if imported:
        DATASETS.get("chong2015:images").import_copy(unpacked(members, tmp_path / "own"), Progress())
        cells = pci_bench.load_dataset("chong2015:images-drop")
    else:
        cells = own_images(members, "chong2015:images-drop")
    adata = pci_bench.extract("cellprofiler-chong2015", cells)
    assert list(adata.var_names) == ["Cells_AreaShape_Area", "Cells_Texture_Contrast_GFP"]
    numbers = [int(cell.split("_")[1]) for cell in adata.obs["cell"]]
    expected = np.array([[number + 0.5, np.nan if number == 1 else -number] for number in numbers])
    np.testing.assert_array_equal(adata.X, expected)


def test_without_that_table_the_published_columns_are_not_run(own_images):
    reason = unavailable_reason(parse("cellprofiler-chong2015"), own_images(images(MIRRORED)))
    assert "there is no cellprofiler_features.txt beside the images" in reason


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (measured(50), r"has no row for 7 of 57 cells, for example 'PEROXISOME_50'"),
        (b"a\tb\n1\t2\n", "holds no measurements by cell"),
    ],
)
def test_a_table_of_other_cells_is_a_sentence(own_images, content, sentence):
    cells = own_images(images() | {"cellprofiler_features.txt": content})
    with pytest.raises(UserError, match=sentence):
        pci_bench.extract("cellprofiler-chong2015", cells)
