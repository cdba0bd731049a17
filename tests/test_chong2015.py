"""The dataset chong2015, on small HDF5 files written here in every layout that is accepted, and in every wrong one."""

import re
import subprocess
import sys

import h5py
import numpy as np
import pytest

import pci_bench
from pci_bench import UserError
from pci_bench.api.registry import Origin, Registry
from pci_bench.data.provenance import Provenance
from pci_bench.datasets import DATASETS
from pci_bench.datasets.chong2015_copies import DECLARATION
from pci_bench.features.extraction import annotated

# fmt: off
CLASSES = [
    "ACTIN", "BUDNECK", "BUDTIP", "CELLPERIPHERY", "CYTOPLASM", "ENDOSOME", "ER", "GOLGI", "MITOCHONDRIA",
    "NUCLEARPERIPHERY", "NUCLEI", "NUCLEOLUS", "PEROXISOME", "SPINDLE", "SPINDLEPOLE", "VACUOLARMEMBRANE", "VACUOLE",
    "DEAD", "GHOST",
]
# fmt: on
FILES = {"train": "Chong_train_set.hdf5", "valid": "Chong_valid_set.hdf5", "test": "Chong_test_set.hdf5"}
FEATURES = ["Cells_AreaShape_Area", "Cells_Intensity_MeanIntensity_GFP", "Cells_Texture_Contrast_GFP"]
rng = np.random.default_rng(0)
PIXELS = {split: rng.random((19, 8192), dtype=np.float32) for split in FILES}  # one cell of each class per file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's folder chong2015, still empty, and a cache of its own."""
    made = tmp_path / "data" / "chong2015"
    made.mkdir(parents=True)
    monkeypatch.setenv("PCI_BENCH_DATA", str(made.parent))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    return made


def write(path, pixels, *, sizes=None, layout="attributes", as_type=bytes, info=None, features=FEATURES, order=None):
    """Write one file; its cells are of the classes in `order`, by default of each class once."""
    order = list(range(19)) * (len(pixels) // 19) if order is None else order
    info = np.zeros((len(pixels), len(features)), np.float32) if info is None else info
    names = {"Index1_columns": CLASSES, "Info1_columns": features}
    if layout == "label_names":
        names = {"label_names": CLASSES}
    with h5py.File(path, "w") as file:
        for name, values in names.items():
            values = np.array(values, "S") if as_type is bytes else np.array(values, object)
            if layout == "attributes":
                file.attrs[name] = values
            else:
                file.create_dataset(name, data=values, dtype=None if as_type is bytes else h5py.string_dtype())
        start = 0
        for number, size in enumerate(sizes or [len(pixels)], start=1):
            rows = slice(start, start + size)
            file[f"data{number}"] = pixels[rows]
            file[f"Index{number}"] = np.eye(19, dtype=np.float32)[order[rows]]
            file[f"Info{number}"] = info[rows]
            start += size


def write_all(folder, **options):
    for split, name in FILES.items():
        write(folder / name, PIXELS[split], **options)


def pooled():
    """The crops of train, valid and test, read independently: GFP is the first half of a row, RFP the second."""
    rows = [row for split in ("train", "valid", "test") for row in PIXELS[split]]
    return np.array([[row[:4096].reshape(64, 64), row[4096:].reshape(64, 64)] for row in rows])


def message(folder, name="chong2015"):
    with pytest.raises(UserError) as caught:
        pci_bench.load_dataset(name)
    text = str(caught.value)
    assert text.rstrip().endswith(".")
    return text


@pytest.mark.parametrize("as_type", [bytes, str])
@pytest.mark.parametrize("layout", ["attributes", "datasets", "label_names"])
def test_pixels_and_labels_are_those_of_the_files_in_every_layout(folder, layout, as_type):
    write_all(folder, layout=layout, as_type=as_type)
    cells = pci_bench.load_dataset("chong2015")
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), pooled())
    expected = ["SPINDLE" if name == "SPINDLEPOLE" else name for name in CLASSES] * 3
    assert list(cells.obs["label"]) == expected
    assert list(cells.obs["split"]) == ["train"] * 19 + ["valid"] * 19 + ["test"] * 19
    assert list(cells.obs["cell"][[0, 18, 19, 56]]) == ["train-000001", "train-000019", "valid-000001", "test-000019"]
    assert [(c.name, c.role) for c in cells.channels] == [("GFP", "protein"), ("RFP", "marker")]
    assert (cells.meta.training, cells.meta.label, cells.meta.name) == ("cyclops-wt2", "localization", "chong2015")


def test_parts_are_joined_in_numeric_order(folder):
    write_all(folder, sizes=[1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 3])
    with h5py.File(folder / FILES["train"]) as file:
        assert list(file)[:5] == [
            "Index1",
            "Index10",
            "Index11",
            "Index12",
            "Index2",
        ]  # HDF5's own order is not numeric
    cells = pci_bench.load_dataset("chong2015")
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), pooled())
    assert list(cells.obs["label"][:4]) == CLASSES[:4]


def test_every_part_may_name_its_columns_in_its_own_order(folder):
    write_all(folder, sizes=[9, 10])
    with h5py.File(folder / FILES["test"], "a") as file:
        file["Index2"][...] = file["Index2"][:][:, ::-1]
        file.attrs["Index2_columns"] = np.array(CLASSES[::-1], "S")
    cells = pci_bench.load_dataset("chong2015:drop")
    assert list(cells.obs["label"][cells.obs["split"] == "test"]) == CLASSES[:17]


def test_files_larger_than_one_block_are_read_whole(folder, monkeypatch):
    monkeypatch.setattr("pci_bench.acquisition.deeploc_hdf5.CELLS_PER_BLOCK", 4)
    write_all(folder, sizes=[9, 10])
    cells = pci_bench.load_dataset("chong2015:merge-and-drop")
    kept = [row for row in range(57) if row % 19 < 17]
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), pooled()[kept])


def test_no_more_than_a_block_of_pixels_is_read_at_once(folder, monkeypatch):
    monkeypatch.setattr("pci_bench.acquisition.deeploc_hdf5.CELLS_PER_BLOCK", 4)
    write_all(folder)
    sizes, read = [], h5py.Dataset.__getitem__

    def counted(dataset, key, **options):
        values = read(dataset, key, **options)
        sizes.append(values.size if dataset.name.startswith("/data") else 0)
        return values

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    pci_bench.load_dataset("chong2015")
    assert max(sizes) == 4 * 8192


@pytest.mark.parametrize(
    ("name", "classes", "gone"),
    [
        ("chong2015", 18, {"SPINDLEPOLE"}),
        ("chong2015:merge", 18, {"SPINDLEPOLE"}),
        ("chong2015:drop", 17, {"DEAD", "GHOST"}),
        ("chong2015:merge-and-drop", 16, {"SPINDLEPOLE", "DEAD", "GHOST"}),
    ],
)
def test_a_class_map_merges_or_leaves_out_what_it_declares(folder, name, classes, gone):
    write_all(folder)
    cells = pci_bench.load_dataset(name)
    assert set(cells.obs["label"].cat.categories) == set(CLASSES) - gone
    assert cells.obs["label"].nunique() == classes
    dropped = gone & {"DEAD", "GHOST"}
    kept = [row for row in range(57) if CLASSES[row % 19] not in dropped]
    np.testing.assert_array_equal(cells.crops(slice(None), rescale="raw"), pooled()[kept])
    assert (cells.obs["label"] == "SPINDLE").sum() == (6 if "SPINDLEPOLE" in gone else 3)


def test_cells_keep_their_names_whatever_the_class_map_leaves_out(folder):
    for split, name in FILES.items():
        write(folder / name, PIXELS[split], order=list(range(19))[::-1])  # GHOST and DEAD come first
    every, kept = pci_bench.load_dataset("chong2015"), pci_bench.load_dataset("chong2015:drop")
    assert kept.obs["cell"].iloc[0] == "train-000003"
    names = dict(zip(every.obs["cell"], every.crops(slice(None), rescale="raw"), strict=True))
    crops = kept.crops(slice(None), rescale="raw")
    np.testing.assert_array_equal(crops, np.array([names[cell] for cell in kept.obs["cell"]]))


def test_every_map_is_declared_with_the_number_of_classes_it_gives():
    assert DECLARATION["classes"] == CLASSES
    for declared in DECLARATION["maps"].values():
        labels = {declared["merged"].get(name, name) for name in CLASSES if name not in declared["dropped"]}
        assert len(labels) == declared["classes"]
    assert {name: declared["classes"] for name, declared in DECLARATION["maps"].items()} == {
        "merge": 18,
        "drop": 17,
        "merge-and-drop": 16,
    }


def test_the_dataset_stands_alone_and_takes_a_map():
    assert "chong2015" in DATASETS.names()
    assert DATASETS.prefixes()["chong2015"] == "MAP"
    assert "chong2015:drop" in DATASETS
    assert DATASETS.get("chong2015:merge").meta == DATASETS.get("chong2015").meta
    assert DATASETS.get("chong2015:drop").meta.name == "chong2015:drop"
    assert DATASETS.origin("chong2015") == DATASETS.origin("chong2015:drop")
    with pytest.raises(UserError, match=r"no class map 'mrege'.*merge: .*drop: .*merge-and-drop: "):
        DATASETS.get("chong2015:mrege")
    with pytest.raises(UserError, match="no dataset named 'chong2015:'"):
        DATASETS.get("chong2015:")


def test_a_name_belongs_to_one_file_whether_alone_or_with_an_argument():
    registry = Registry("dataset", autoload=False)
    registry.register("a", object(), origin=Origin("here.py", 1))
    with pytest.raises(UserError, match="Two plug-ins register the dataset 'a'"):
        registry.register("a", object, argument="PATH", origin=Origin("elsewhere.py", 1))


def test_what_was_found_is_told_beside_what_the_paper_counts(folder):
    write_all(folder)
    notes = " ".join(pci_bench.load_dataset("chong2015:merge-and-drop").notes)
    assert "51 cells in 16 classes" in notes
    assert "the paper counts 30,889 cells in 17 classes" in notes
    assert "57 (train 19, valid 19, test 19); 6 of DEAD and GHOST are left out." in notes
    notes = " ".join(pci_bench.load_dataset("chong2015").notes)
    assert "57 cells in 18 classes" in notes
    assert "left out" not in notes


def test_without_an_identifier_there_is_no_image_and_no_confounder(folder):
    write_all(folder)
    cells = pci_bench.load_dataset("chong2015")
    assert cells.meta.confounder is None
    assert cells.obs["image"].isna().all()
    assert not {"plate", "protein", "well", "field"} & set(cells.obs)
    assert any("there is no confounder" in note for note in cells.notes)
    assert pci_bench.load_dataset("chong2015").obs.equals(cells.obs)  # as stored


def write_with_identifiers(folder, **columns):
    """Write files whose Info holds more columns; a column is a function of the cell's position among all 57."""
    for position, (split, name) in enumerate(FILES.items()):
        cells = np.arange(19) + 19 * position
        info = np.column_stack([np.zeros((19, 3)), *(column(cells) for column in columns.values())])
        write(folder / name, PIXELS[split], info=info.astype(np.float32), features=[*FEATURES, *columns])


def test_an_image_number_in_info_is_the_image_and_the_confounder(folder):
    write_with_identifiers(folder, IMAGE_ImageNumber=lambda cell: cell // 4)
    cells = pci_bench.load_dataset("chong2015:drop")
    kept = [cell for cell in range(57) if cell % 19 < 17]
    assert list(cells.obs["image"]) == [str(cell // 4) for cell in kept]
    assert cells.meta.confounder == "image"
    assert any("'image' is the confounder" in note for note in cells.notes)
    assert DATASETS.get("chong2015:drop").meta.confounder is None


def test_images_are_numbered_within_their_plate(folder):
    write_with_identifiers(folder, ImageNumber=lambda cell: cell % 3, Plate=lambda cell: 1 + cell // 30)
    cells = pci_bench.load_dataset("chong2015")
    assert list(cells.obs["image"]) == [f"{1 + cell // 30}/{cell % 3}" for cell in range(57)]
    assert cells.meta.confounder == "image"
    assert set(cells.obs["plate"]) == {"1", "2"}


def test_a_well_on_a_plate_is_an_image(folder):
    write_with_identifiers(folder, Metadata_Well=lambda cell: cell % 5, Metadata_Plate=lambda cell: cell // 30)
    cells = pci_bench.load_dataset("chong2015")
    assert list(cells.obs["image"][:2]) == ["0/0", "0/1"]
    assert cells.meta.confounder == "image"


@pytest.mark.parametrize(("column", "name"), [("plate", "Plate"), ("protein", "orf"), ("well", "Metadata_Well")])
def test_another_identifier_is_the_confounder_but_makes_no_image(folder, column, name):
    write_with_identifiers(folder, **{name: lambda cell: cell // 10})
    cells = pci_bench.load_dataset("chong2015")
    assert list(cells.obs[column]) == [str(cell // 10) for cell in range(57)]
    assert cells.meta.confounder == column
    assert cells.obs["image"].isna().all()


def test_identifiers_may_be_text(folder):
    for split, name in FILES.items():
        info = np.array([[b"0.5", b"YAL001C" if row < 9 else b"YBR002W"] for row in range(19)])
        write(folder / name, PIXELS[split], info=info, features=["Cells_Area", "ORF"])
    cells = pci_bench.load_dataset("chong2015")
    assert set(cells.obs["protein"]) == {"YAL001C", "YBR002W"}


@pytest.mark.parametrize("values", [lambda cell: 0 * cell, lambda cell: np.where(cell % 2, cell, np.nan)])
def test_an_identifier_that_is_constant_or_incomplete_is_no_confounder(folder, values):
    write_with_identifiers(folder, ImageNumber=values)
    cells = pci_bench.load_dataset("chong2015")
    assert cells.meta.confounder is None


def test_an_identifier_that_only_some_files_hold_is_not_used(folder):
    write_with_identifiers(folder, ImageNumber=lambda cell: cell // 4)
    write(folder / FILES["valid"], PIXELS["valid"])
    cells = pci_bench.load_dataset("chong2015")
    assert cells.meta.confounder is None
    assert cells.obs["image"].isna().all()


def test_features_can_be_extracted_without_images(folder):
    write_all(folder)
    cells = pci_bench.load_dataset("chong2015")
    adata = annotated(cells.crops(slice(None)).mean(axis=(2, 3)), ["GFP", "RFP"], cells, Provenance())
    adata.write_h5ad(folder / "features.h5ad")
    assert len(adata) == 57


def test_files_of_float64_are_stored_as_float32(folder):
    write_all(folder)
    write(folder / FILES["test"], PIXELS["test"].astype(np.float64))
    crops = pci_bench.load_dataset("chong2015").crops(slice(None), rescale="raw")
    assert crops.dtype == np.float32
    np.testing.assert_array_equal(crops, pooled())


def test_files_without_info_are_enough(folder):
    write_all(folder)
    for name in FILES.values():
        with h5py.File(folder / name, "a") as file:
            del file["Info1"], file.attrs["Info1_columns"]
    assert len(pci_bench.load_dataset("chong2015")) == 57


def test_changed_files_are_read_anew(folder):
    write_all(folder)
    before = pci_bench.load_dataset("chong2015")
    write(folder / FILES["test"], PIXELS["test"][::-1].repeat(2, axis=0), order=sorted([*range(19), *range(19)]))
    after = pci_bench.load_dataset("chong2015")
    assert (len(before), len(after)) == (57, 76)
    assert before.sha256 != after.sha256


def test_missing_files_are_named_with_the_place_to_get_and_to_put_them(folder):
    write_all(folder)
    (folder / FILES["valid"]).unlink()
    text = message(folder)
    assert f"Chong_valid_set.hdf5 is missing in {folder}" in text
    assert "http://spidey.ccbr.utoronto.ca/~okraus/DeepLoc_full_datasets.zip" in text
    assert "`pci-bench data import chong2015 PATH`" in text
    assert "PCI_BENCH_DATA/chong2015" in text


@pytest.mark.parametrize("state", ["unset", "empty", "no folder"])
def test_without_any_file_all_three_are_named(folder, monkeypatch, state):
    if state == "unset":
        monkeypatch.delenv("PCI_BENCH_DATA")
    if state == "no folder":
        folder.rmdir()
    assert "Chong_train_set.hdf5, Chong_valid_set.hdf5 and Chong_test_set.hdf5 are missing in" in message(folder)
    assert "are missing" in DATASETS.get("chong2015").unavailable_reason()


def test_nothing_is_missing_when_the_files_are_there(folder):
    write_all(folder)
    assert DATASETS.get("chong2015").unavailable_reason() is None
    assert DATASETS.get("chong2015:drop").unavailable_reason() is None


def test_a_truncated_file_is_named(folder):
    write_all(folder)
    path = folder / FILES["valid"]
    path.write_bytes(path.read_bytes()[:-5000])
    assert f"{path} cannot be read: it is truncated or damaged" in message(folder)


@pytest.mark.parametrize("content", [b"", b"<html>404 Not Found</html>"])
def test_a_file_of_another_kind_is_named(folder, content):
    write_all(folder)
    path = folder / FILES["train"]
    path.write_bytes(content)
    assert f"{path} is not an HDF5 file (it has {len(content)} bytes)" in message(folder)


def replace(file, name, values):
    del file[name]
    file[name] = values


def set_row(file, row, values):
    file["Index1"][row] = values


def compress_badly(file):
    """Store pixels in a compressed chunk whose bytes are then no valid compression."""
    values = file["data1"][:]
    del file["data1"]
    data = file.create_dataset("data1", values.shape, "f4", chunks=values.shape, compression="gzip")
    data.id.write_direct_chunk((0, 0), b"not compressed")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda f: f.__delitem__("data1"),
            r"has no array data1; it holds Index1 and Info1\. Expected data1 and Index1",
        ),
        (lambda f: f.__delitem__("Index1"), r"has no array Index1; it holds Info1 and data1"),
        (lambda f: f.move("Info1", "Info2"), r"has no array data2"),
        (lambda f: f.move("data1", "data3"), r"has no array data1"),
        (lambda f: [f.__delitem__(key) for key in list(f)], r"has no array data1; it holds nothing"),
        (lambda f: replace(f, "Index1", f["Index1"][:-1]), r"Index1 in .* has 18 rows, but data1 has 19\."),
        (lambda f: replace(f, "Info1", f["Info1"][:-2]), r"Info1 in .* has 17 rows, but data1 has 19\."),
        (lambda f: replace(f, "data1", f["data1"][:, :4096]), r"data1 in .* has 4,096 columns; expected 8,192"),
        (lambda f: replace(f, "data1", f["data1"][:].reshape(19, 2, 64, 64)), r"has the shape \(19, 2, 64, 64\)"),
        (
            lambda f: replace(f, "data1", np.zeros((19, 8192), "u2")),
            r"data1 in .* holds uint16 values; expected float32",
        ),
        (lambda f: replace(f, "Index1", np.full((19, 19), b"x")), r"Index1 in .* holds \|S1 values; expected 0 and 1"),
        (
            lambda f: set_row(f, 3, 0),
            r"1 of 19 rows of Index1 in .* not one-hot.*row 3 .* train-000004: 0 of its columns",
        ),
        (lambda f: set_row(f, 7, [1, 1] + [0] * 17), r"not one-hot.*row 7 .* train-000008: 2 of its columns are not 0"),
        (lambda f: set_row(f, 0, [0.5] + [0] * 18), r"not one-hot.*train-000001"),
        (lambda f: set_row(f, 0, np.nan), r"not one-hot.*train-000001"),
        (
            lambda f: f.attrs.__delitem__("Index1_columns"),
            r"does not name the columns of Index1\. Expected 19 class names",
        ),
        (lambda f: f.attrs.__setitem__("Index1_columns", CLASSES[:-1]), r"gives 18 names, but Index1 has 19 columns"),
        (lambda f: f.attrs.__setitem__("Info1_columns", FEATURES[:-1]), r"gives 2 names, but Info1 has 3 columns"),
        (
            lambda f: f.attrs.__setitem__("Index1_columns", [*CLASSES[:-1], "SHMOO"]),
            r"names SHMOO among the columns of Index1.* does not know\. Its classes are ACTIN, BUDNECK",
        ),
        (
            lambda f: f.attrs.__setitem__("Index1_columns", [*CLASSES[:-1], "ACTIN"]),
            r"more than one column of Index1 ACTIN\. Expected each class once",
        ),
        (lambda f: f["data1"].__setitem__((5, 4096), np.nan), r"RFP of cell 'train-000006' .* NaN or infinite"),
        (compress_badly, r"Chong_train_set.hdf5 cannot be read: it is truncated or damaged"),
    ],
)
def test_a_wrong_file_is_met_with_a_sentence(folder, damage, sentence):
    write_all(folder)
    with h5py.File(folder / FILES["train"], "a") as file:
        damage(file)
    text = message(folder)
    assert re.search(sentence, text), text
    assert not list((folder.parent.parent / "cache").rglob("store.json"))  # nothing half-made is kept


def test_importing_the_module_imports_no_heavy_package():
    code = (
        "import sys, pci_bench.datasets.chong2015; print([m for m in ('h5py', 'pandas', 'zarr') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
