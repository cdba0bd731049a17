"""Data that would be lost silently: text read as missing, cells left out, values changed on the way in."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import factories
import numpy as np
import pandas as pd
import pytest
import tifffile
from faults import FEW, RUN, Fault, changed, crops, refused, with_crops, write
from PIL import Image

from pci_bench import load_dataset
from pci_bench.acquisition.crop_files import FolderTree, read_plane
from pci_bench.data.annotations import annotate
from pci_bench.data.cells import Channel, DatasetMeta, as_float32
from pci_bench.data.provenance import Provenance
from pci_bench.data.store import StoreWriter
from pci_bench.errors import UserError
from pci_bench.features.files import read_features, write_features
from pci_bench.system.progress import Progress
from pci_bench.system.tabular import read_csv

CROPS = ("data", "get", "folder:crops")
EVALUATE = ("evaluate", "f.csv", "--with", "loo-knn", "--k", "1", "--out", "out")
CHANNELS = (Channel("GFP", "protein"),)
GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)


def tiff(array: np.ndarray = GREY, **options: object) -> bytes:
    """Return a TIFF's bytes."""
    content = io.BytesIO()
    tifffile.imwrite(content, array, **options)
    return content.getvalue()


def image(form: str = "PNG", mode: str = "L", **options: object) -> bytes:
    """Return the bytes of an image as Pillow writes it."""
    content = io.BytesIO()
    Image.fromarray(GREY * 4).convert(mode).save(content, form, **options)
    return content.getvalue()


def turned(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return image(form, exif=exif)


def two_sizes() -> bytes:
    content = io.BytesIO()
    with tifffile.TiffWriter(content) as file:
        file.write(GREY)
        file.write(np.ones((4, 4), np.uint8))
    return content.getvalue()


def one_of(name: str, content: bytes | np.ndarray) -> Callable[[Path], Path]:
    """Return an `arrange` of crops one of which is replaced by another file."""
    replaced = {} if name == "w0/0_gfp.tif" else {"w0/0_gfp.tif": None}
    return with_crops(**replaced, **{name: content})


def all_of(dtype: type, change: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> Callable[[Path], Path]:
    """Return an `arrange` of crops of one type, changed."""
    found = {n: change(c.astype(dtype)) if isinstance(c, np.ndarray) else c for n, c in crops().items()}
    return lambda folder: write(folder / "crops", found)


def with_link(link: str, target: str) -> Callable[[Path], object]:
    return lambda folder: (with_crops()(folder), os.symlink(target, folder / "crops" / link))


def table(*rows: str, header: str = "cell,label,a,b") -> Callable[[Path], object]:
    """Return an `arrange` of a table of 20 sound cells and further rows."""
    sound = [f"c{i},{'xy'[i % 2]},{i},{i % 7}" for i in range(20)]
    return lambda folder: write(folder, {"f.csv": "\n".join([header, *sound, *rows]) + "\n"})


def columns(**columns: object) -> Callable[[Path], object]:
    """Return an `arrange` of a table of 20 cells with these columns."""
    sound = {"cell": [f"c{i}" for i in range(20)], "label": list("xy") * 10, "a": range(20)}
    return lambda folder: pd.DataFrame({**sound, **columns}).to_csv(folder / "f.csv", index=False)


def features_of(kind: str, values: np.ndarray) -> Callable[[Path], object]:
    return lambda folder: factories.write_features(folder / f"f.{kind}", values, [f"c{i}" for i in range(len(values))])


def copies(folder: Path) -> None:
    """Write crops in which half of the cells are copies of other images' cells, as in a second export."""
    found = crops(images=6, cells=6)
    for cell in range(6):
        for suffix in ("gfp", "rfp"):
            for one in (0, 2, 4):
                found[f"w{one + 1}/{cell}_{suffix}.tif"] = found[f"w{one}/{cell}_{suffix}.tif"]
    found["images.csv"] = "image,label\n" + "".join(f"w{i},{'aabbaa'[i]}\n" for i in range(6))
    write(folder / "crops", found)


def twice_exported(folder: Path) -> None:
    write(folder / "crops", changed(**{"w0/0_gfp.png": image()}))


FAULTS = [
    # ---- text read as missing
    Fault(
        "labels NA and None",
        (*RUN, "--dataset", "folder:crops", *FEW, "--json"),
        ('"n_cells": 12, "classes": {"NA": 6, "None": 6}',),
        with_crops(**{"images.csv": "image,label\nw0,NA\nw1,None\nw2,NA\nw3,None\n"}),
        0,
    ),
    Fault(
        "a column of images.csv that is there twice",
        CROPS,
        ("images.csv cannot be read", "the column 'label' twice"),
        with_crops(**{"images.csv": "image,label,label\nw0,a,b\nw1,b,a\nw2,a,a\nw3,b,b\n"}),
    ),
    Fault(
        "rows of images.csv with a field too many",
        CROPS,
        ("images.csv cannot be read", "more fields than there are columns"),
        with_crops(**{"images.csv": "image,label\nw0,a,b\nw1,b,a\nw2,a,a\nw3,b,b\n"}),
    ),
    Fault(
        "NA among the numbers of a feature",
        EVALUATE,
        ("f.csv", "the text 'NA' in row 21", "'c20'", "'a'"),
        table("c20,x,NA,1"),
    ),
    Fault("nan among the numbers of a feature", EVALUATE, ("NaN or infinite", "'c20'", "'a'"), table("c20,x,nan,1")),
    Fault("an empty field among a feature", EVALUATE, ("NaN or infinite", "'c20'", "'a'"), table("c20,x,,1")),
    # ---- cells and columns left out
    Fault(
        "a text in a feature column",
        EVALUATE,
        ("the text 'oops' in row 21 below the header", "'c20'", "'b'"),
        table("c20,x,1,oops"),
        own=True,
    ),
    Fault(
        "a comma as decimal point", EVALUATE, ("the text '1,5' in row 1", "(cell 'c0')"), columns(b=["1,5", *range(19)])
    ),
    Fault(
        "a column of texts",
        EVALUATE,
        ("Note: 1 columns of f.csv hold no number and are metadata, not features: comment.",),
        columns(comment="blurred"),
        0,
    ),
    Fault("a cell twice in a table", EVALUATE, ("f.csv names a cell twice, for example 'c3'",), table("c3,x,9,9")),
    Fault("a row that names no cell", EVALUATE, ("names no cell in 1 rows, first in row 21",), table(",x,9,9")),
    Fault(
        "a feature column twice",
        EVALUATE,
        ("f.csv cannot be read", "the column 'a' twice"),
        table(header="cell,label,a,a"),
    ),
    Fault("a crop exported twice", CROPS, ("are the same crop and channel",), twice_exported),
    Fault(
        "a link to a folder that it lies in",
        CROPS,
        ("crops/w1/again is a link to a folder that it lies in",),
        with_link("w1/again", ".."),
    ),
    Fault("a link to itself", CROPS, ("crops/w9 is a link that leads to no file",), with_link("w9", "w9")),
    Fault(
        "a link to a crop that is gone",
        CROPS,
        ("w1/9_gfp.tif is a link that leads to no file",),
        with_link("w1/9_gfp.tif", "gone.tif"),
    ),
    Fault(
        "crops of another ending",
        CROPS,
        ("2 files in", "are named like crops", "w0/7_gfp.npy"),
        with_crops(**{"w0/7_gfp.npy": b"x", "w0/7_rfp.npy": b"x", "w0/notes.txt": "no crop"}),
        0,
    ),
    Fault(
        "hidden crops",
        CROPS,
        ("2 files in", "are hidden or none of"),
        with_crops(**{"w0/.7_gfp.tif": b"x", "w0/.7_rfp.tif": b"x"}),
        0,
    ),
    Fault(
        "crops in capitals",
        CROPS,
        ("2 images in", "are of no channel (_gfp, _rfp)", "w0/7_GFP.tif"),
        with_crops(**{"w0/7_GFP.tif": b"x", "w0/7_RFP.tif": b"x"}),
        0,
    ),
    Fault(
        "a third channel",
        CROPS,
        ("1 images in", "are of no channel (_gfp, _rfp)", "w0/0_dapi.tif"),
        with_crops(**{"w0/0_dapi.tif": b"x"}),
        0,
    ),
    Fault(
        "copies of crops in other images",
        CROPS,
        (
            "Note: 36 of 36 cells",
            "have the same pixels as another cell ('w0/0' and 'w1/0', for example), 36 of them as a cell of another image",
        ),
        copies,
        0,
    ),
    # ---- values changed on the way in
    Fault("a complex image", CROPS, ("w0/0_gfp.tif in", "holds complex numbers (complex64)"), all_of(np.complex64)),
    Fault(
        "values that float32 cannot hold",
        CROPS,
        ("w0/0_gfp.tif in", "which is more than float32 can hold"),
        all_of(np.float64, lambda a: a * 1e39),
    ),
    Fault(
        "integers that float32 would round",
        CROPS,
        ("w0/0_gfp.tif in", "as int64; float32 rounds integers"),
        all_of(np.int64, lambda a: a + 2**40),
    ),
    Fault(
        "a palette TIFF",
        CROPS,
        ("w0/0_gfp.tif in", "colours from a palette"),
        one_of("w0/0_gfp.tif", tiff(photometric="palette", colormap=np.zeros((3, 256), np.uint16))),
    ),
    Fault(
        "a palette PNG", CROPS, ("w0/0_gfp.png in", "colours from a palette"), one_of("w0/0_gfp.png", image(mode="P"))
    ),
    Fault(
        "an RGBA PNG", CROPS, ("w0/0_gfp.png in", "has the shape (8, 8, 4)"), one_of("w0/0_gfp.png", image(mode="RGBA"))
    ),
    Fault(
        "an RGB TIFF",
        CROPS,
        ("w0/0_gfp.tif in", "has the shape (8, 8, 3)"),
        one_of("w0/0_gfp.tif", np.zeros((8, 8, 3), np.uint8)),
    ),
    Fault(
        "a grey PNG with transparency",
        CROPS,
        ("w0/0_gfp.png in", "has the shape (8, 8, 2)"),
        one_of("w0/0_gfp.png", image(mode="LA")),
    ),
    Fault(
        "a TIFF whose lowest value is white",
        CROPS,
        ("w0/0_gfp.tif in", "lowest value is white"),
        one_of("w0/0_gfp.tif", tiff(photometric="miniswhite")),
    ),
    Fault(
        "a TIFF that is to be turned",
        CROPS,
        ("w0/0_gfp.tif in", "orientation 6"),
        one_of("w0/0_gfp.tif", tiff(extratags=[(274, 3, 1, 6, True)])),
    ),
    Fault(
        "a JPEG that is to be turned",
        CROPS,
        ("w0/0_gfp.jpg in", "orientation 6"),
        one_of("w0/0_gfp.jpg", turned("JPEG")),
    ),
    Fault(
        "a PNG that is to be turned", CROPS, ("w0/0_gfp.png in", "orientation 6"), one_of("w0/0_gfp.png", turned("PNG"))
    ),
    Fault("a TIFF of two sizes", CROPS, ("w0/0_gfp.tif in", "holds 2 images"), one_of("w0/0_gfp.tif", two_sizes())),
    Fault(
        "an animated PNG",
        CROPS,
        ("w0/0_gfp.png in", "holds 2 images"),
        one_of("w0/0_gfp.png", image(save_all=True, append_images=[Image.fromarray(GREY)])),
    ),
    Fault(
        "a one-bit image among grey ones",
        CROPS,
        ("w0/0_gfp.png", "has the type"),
        one_of("w0/0_gfp.png", image(mode="1")),
    ),
    Fault(
        "a one-bit TIFF", CROPS, ("w0/0_gfp.tif in", "lowest value is white"), one_of("w0/0_gfp.tif", tiff(GREY > 9))
    ),
    Fault(
        "complex features",
        ("evaluate", "f.npz", "--with", "loo-knn"),
        ("f.npz holds complex numbers",),
        features_of("npz", np.ones((20, 2), complex)),
    ),
    Fault(
        "complex features in h5ad",
        ("evaluate", "f.h5ad", "--with", "loo-knn"),
        ("f.h5ad holds complex numbers",),
        features_of("h5ad", np.ones((20, 2), complex)),
    ),
    Fault(
        "features that float32 cannot hold",
        EVALUATE,
        ("f.csv holds 1e+39, which is more than float32 can hold",),
        columns(b=1e39),
    ),
]  # fmt: skip - one line per fault


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


# ---- text read as missing, wherever text is read

MISSING_ELSEWHERE = [
    "NA",
    "N/A",
    "n/a",
    "None",
    "null",
    "NULL",
    "nan",
    "NaN",
    "-nan",
    "<NA>",
    "#N/A",
    "#NA",
    "-1.#IND",
    "1.#QNAN",
]
WORDS = pytest.mark.parametrize("word", MISSING_ELSEWHERE)


def some_crops() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 99, (8, 8), np.uint8)


def test_labels_and_images_that_pandas_would_call_missing_are_texts(write_crops):
    files = {
        f"{number}{'NA' * (number == 3)}/{cell}_{suffix}.tif": some_crops() + number
        for number in range(len(MISSING_ELSEWHERE) + 1)
        for cell in range(2)
        for suffix in ("gfp", "rfp")
    }
    for suffix in ("gfp", "rfp"):
        files[f"NA/0_{suffix}.tif"] = some_crops()
    rows = [f"{n}{'NA' * (n == 3)},{word},{word},0{n}" for n, word in enumerate([*MISSING_ELSEWHERE, ""])]
    files["images.csv"] = "\n".join(["image,label,protein,plate", *rows, "NA,a,YFG1,1"])
    obs = load_dataset(f"folder:{write_crops(files)}").obs
    assert set(obs["label"].dropna()) == {*MISSING_ELSEWHERE, "a"}
    assert set(obs["protein"].dropna()) == {*MISSING_ELSEWHERE, "YFG1"}
    assert obs["label"].isna().sum() == obs["protein"].isna().sum() == 2  # the empty fields alone
    assert obs.loc[obs["image"] == "NA", "label"].tolist() == ["a"]
    assert {"01", "1"} <= set(obs["plate"])


@WORDS
@pytest.mark.parametrize("kind", [".csv", ".parquet", ".npz", ".h5ad"])
def test_features_keep_labels_that_pandas_would_call_missing(tmp_path, make_cells, word, kind):
    from pci_bench.features.extraction import annotated

    cells = make_cells(n=3, label=[word, "a", None])
    file = tmp_path / f"f{kind}"
    write_features(annotated(np.ones((3, 2), np.float32), ["x", "y"], cells, Provenance()), file)
    labels = read_features(file).obs["label"].astype("string").fillna("").tolist()
    assert labels == [word, "a", ""]


@WORDS
def test_annotations_keep_words_that_pandas_would_call_missing(tmp_path, make_cells, word):
    (tmp_path / "a.csv").write_text(f"protein,label\nP0,{word}\n{word},a\n")
    cells = make_cells(n=3, protein=["P0", word, "P2"], image=["i0", "i1", "i2"])
    labels = annotate(cells, tmp_path / "a.csv").obs["label"]
    assert labels.tolist()[:2] == [word, "a"]
    assert labels.isna().tolist() == [False, False, True]


@WORDS
def test_tables_of_results_keep_words_that_pandas_would_call_missing(tmp_path, word):
    written = pd.DataFrame({"class": [word, "a", None], "recall": [0.1, float("nan"), 1 / 3]})
    written.to_csv(tmp_path / "t.csv", index=False)
    table = read_csv(tmp_path / "t.csv")
    assert table["class"].fillna("").tolist() == [word, "a", ""]
    np.testing.assert_array_equal(table["recall"], written["recall"])


# ---- what a table of commands cannot say


def test_a_folder_that_cannot_be_read_is_named(say, write_crops, monkeypatch):
    folder = write_crops(crops())
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("w3"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = say("data", "get", f"folder:{folder}", own=False)
    refused(said, f"The folder {folder / 'w3'} cannot be read: Permission denied", "Make it readable")


def test_folders_that_link_to_each_other_are_named(write_crops):
    folder = write_crops(crops())
    os.symlink("../w1", folder / "w0" / "there")
    os.symlink("../w0", folder / "w1" / "back")
    with pytest.raises(UserError, match="is a link to a folder that it lies in"):
        load_dataset(f"folder:{folder}")


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "bool", "float32"])
def test_columns_of_any_type_of_numbers_are_features(tmp_path, dtype):
    table = pd.DataFrame({"cell": ["a", "b"], "x": pd.Series([1, 0], dtype=dtype), "y": [0.5, 1e-3]})
    table.to_parquet(tmp_path / "f.parquet")
    adata = read_features(tmp_path / "f.parquet")
    np.testing.assert_array_equal(adata.X, np.array([[1, 0.5], [0, 1e-3]], np.float32))


def test_folders_behind_links_are_read(write_crops, tmp_path):
    elsewhere = write_crops({n: c for n, c in crops().items() if n.startswith("w3/")}, "elsewhere")
    folder = write_crops({n: c for n, c in crops().items() if not n.startswith("w3/")})
    os.symlink(elsewhere / "w3", folder / "w3")
    assert len(load_dataset(f"folder:{folder}")) == 12


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint32", "float16", "float64"])
def test_other_types_are_read_without_loss(write_crops, dtype):
    values = np.array([[0, 100], [7, 90]]).astype(dtype)
    values = -values if dtype.startswith("int") else values
    folder = write_crops({"w/0_gfp.tif": values})
    plane = read_plane(FolderTree(folder), "w/0_gfp.tif")
    assert plane.dtype == np.float32
    np.testing.assert_array_equal(plane, values)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (np.full((2, 4, 4), -1), "values from -1"),
        (np.full((2, 4, 4), 65536), "to 65536"),
        (np.full((2, 4, 4), 0.5), "float64"),
    ],
)
def test_masks_that_uint16_cannot_hold_are_refused(tmp_path, masks, words):
    store = StoreWriter(tmp_path, DatasetMeta("mine", "1", ""), Progress())
    obs = pd.DataFrame({"cell": ["a", "b"], "image": "w"})
    store.begin(obs, CHANNELS, crop_shape=(4, 4), dtype="uint8", masks=True)
    with pytest.raises(UserError, match=words):
        store.add(np.zeros((2, 1, 4, 4), np.uint8), masks)


def test_crops_that_overflow_float32_are_named_as_such(tmp_path):
    store = StoreWriter(tmp_path, DatasetMeta("mine", "1", ""), Progress())
    store.begin(pd.DataFrame({"cell": ["a"], "image": "w"}), CHANNELS, crop_shape=(4, 4), dtype="float32")
    with pytest.raises(UserError, match="1e\\+39, which is more than float32 can hold"):
        store.add(np.full((1, 1, 4, 4), 1e39))


def test_infinite_values_stay_infinite_and_nan_stays_nan():
    values = np.array([np.nan, np.inf, -np.inf, 1e30])
    np.testing.assert_array_equal(as_float32(values, "these"), values.astype(np.float32))


def test_the_notes_of_a_features_file_are_printed_in_a_run(say, here, write_crops):
    folder = write_crops(crops())
    cells = [f"w{i}/{c}" for i in range(4) for c in range(3)]
    pd.DataFrame({"cell": cells, "a": range(12), "comment": "blurred"}).to_csv(here / "f.csv", index=False)
    said = say(*RUN, "--dataset", f"folder:{folder}", "--features", "file:f.csv", "--k", "1", own=False)
    assert said.code == 0, said.err
    assert "hold no number and are metadata, not features: comment" in " ".join(said.err.split())
