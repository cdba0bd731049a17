"""Raw fields of view that are damaged, missing, or not what a layout says; layouts and tables that are wrong; ends by signals."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from command_line import SCRIPT, environment, leftovers
from faults import Fault, noted, refused
from PIL import Image
from screens import SIZE, write_layout, write_screen
from test_interruption import AGAIN, SENTENCE, heard

from pci_bench import UserError, load_dataset
from pci_bench.acquisition import prepare
from pci_bench.acquisition.cutting import own_masks
from pci_bench.datasets.prepared import prepare_dataset, prepared_folder
from pci_bench.reporting.html.library import plot_library

PREPARE = ("data", "prepare", "screen/layout.toml", "--name", "my-screen", "--workers", "1")
FIRST, SECOND = "screen/Plate1/A01_w1.png", "screen/Plate1/A02_w2.png"
CENTRES = 'objects = { file = "N.csv", on = { W = "{plate}-{well}" } }'
WITH_IMAGES = 'objects = { file = "N.csv", images = "I.csv", on = { W = "{plate}-{well}" } }'
PLACES = "Location_Center_Y,Location_Center_X"


def screen(
    *changes: tuple[str, str],
    labels: str | bytes | None = None,
    on: str = "plate",
    then: Callable[[Path], object] = lambda folder: None,
    **layout: str,
) -> Callable[[Path], None]:
    """Return an `arrange` of a small screen and its layout, texts in which are replaced, and a table of labels."""

    def arrange(folder: Path) -> None:
        root = write_screen(folder / "screen").root
        table = f'[labels]\nfile = "labels.csv"\non = ["{on}"]\n' if labels is not None else ""
        file = write_layout(root, table, **layout)
        for old, new in changes:
            assert old in file.read_text()
            file.write_text(file.read_text().replace(old, new))
        if labels:
            (root / "labels.csv").write_bytes(labels if isinstance(labels, bytes) else labels.encode())
        then(folder)

    return arrange


def files(**contents: str | bytes) -> Callable[[Path], object]:
    """Return what writes files into the screen's folder."""

    def then(folder: Path) -> None:
        for name, content in contents.items():
            (folder / "screen" / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return then


def obs(text: str) -> Callable[[Path], None]:
    return screen(("[segment]", f"[obs]\n{text}\n[segment]"))


def top(text: str) -> Callable[[Path], None]:
    return screen(("pattern =", f"{text}\npattern ="))


def written(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def truncated(folder: Path) -> None:
    content = (folder / FIRST).read_bytes()
    (folder / FIRST).write_bytes(content[: len(content) // 2])


def as_tiff(change: Callable[[str, np.ndarray], np.ndarray], where: str = "Plate?/*.png") -> Callable[[Path], None]:
    """Return what makes TIFFs of images, after a change that is given `Plate1/A01_w1`, for example."""

    def then(folder: Path) -> None:
        for file in (folder / "screen").glob(where):
            name = file.relative_to(folder / "screen").with_suffix("").as_posix()
            tifffile.imwrite(file.with_suffix(".tif"), change(name, np.asarray(Image.open(file))))
            file.unlink()

    return then


def with_nan(name: str, image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float32) / 255
    image[20, 22] = np.nan if name == "Plate1/A02_w2" else image[20, 22]
    return image


def cut_tiff(folder: Path) -> None:
    as_tiff(lambda name, image: image)(folder)
    file = folder / "screen/Plate1/A01_w1.tif"
    file.write_bytes(file.read_bytes()[:4000])


def mask(change: Callable[[np.ndarray], np.ndarray], name: str = "1_A01") -> Callable[[Path], object]:
    """Return what changes one label image, or by the name `*` all of them."""

    def then(folder: Path) -> None:
        for file in (folder / "screen/masks").glob(f"{name}.png"):
            Image.fromarray(change(np.asarray(Image.open(file)))).save(file)

    return then


def as_float_masks(value: float) -> Callable[[Path], object]:
    """Return what makes floats of the label images, and one object of one of them another number."""

    def change(name: str, labels: np.ndarray) -> np.ndarray:
        return np.where((labels == 1) & (name == "masks/1_A01"), value, labels).astype(np.float32)

    return as_tiff(change, "masks/*.png")


def stack(folder: Path) -> None:
    """Replace one image by two planes of different size."""
    (folder / "screen/Plate1/A01_w2.png").unlink()
    for z, columns in ((0, SIZE), (1, SIZE - 6)):
        Image.fromarray(np.ones((SIZE, columns), np.uint8)).save(folder / f"screen/Plate1/z{z}_A01_w2.png")


def ring(labels: np.ndarray) -> np.ndarray:
    rows, columns = np.indices(labels.shape)
    distance = np.hypot(rows - 48, columns - 48)
    return ((distance > 20) & (distance < 21.5)).astype(np.uint8)


FLOAT_MASKS = ("masks/{plate}_{well}.png", "masks/{plate}_{well}.tif")
TIFFS = ("{channel}.png", "{channel}.tif")
ONE_LOST = ("not cut 1-A01", "cells 15")

FAULTS = [
    # files of fields
    Fault("a truncated PNG", PREPARE, (*ONE_LOST, "A01_w1.png cannot be read as an image: it is truncated"), screen(then=truncated), code=0),
    Fault("a truncated TIFF", PREPARE, (*ONE_LOST, "A01_w1.tif cannot be read as an image"), screen(TIFFS, then=cut_tiff), code=0),
    Fault("a web page", PREPARE, (*ONE_LOST, "A01_w1.png cannot be read as an image: it is truncated or of another kind"), screen(then=written(FIRST, b"<html>Log in</html>")), code=0),
    Fault("an empty file", PREPARE, ONE_LOST, screen(then=written(FIRST, b"")), code=0),
    Fault("one bad field with --strict", (*PREPARE, "--strict"), ("The field '1-A01' cannot be cut: ", "A01_w1.png", "Without --strict it is left out, and told."), screen(then=truncated)),
    Fault("NaN in a field", PREPARE, ("not cut 1-A02", "A02_w2.tif holds NaN or infinite values in 1 pixels", "cells 15"), screen(TIFFS, then=as_tiff(with_nan)), code=0),
    Fault("planes of different size", PREPARE, (*ONE_LOST, "z1_A01_w2.png has the size (96, 90), but"), screen(("{well}_w", "{z:(?:z[0-9]_)?}{well}_w"), ('match = "2"', 'match = "2", z = "max"'), then=stack), code=0),
    Fault("fields of different types", PREPARE, ("Fields of view hold pixels of different types: uint8 in '1-A01' and uint16 in '2-A01'. Prepare them as two datasets.",), screen(then=lambda f: [Image.fromarray(np.asarray(Image.open(p)).astype(np.uint16)).save(p) for p in (f / "screen/Plate2").glob("*.png")])),
    Fault("no images", PREPARE, ("No file below ", "there is no image at all", "proposes a pattern"), screen(("pattern = ", 'root = "empty"\npattern = '), segment='segmenter = "nuclei"\nchannel = "DNA"', then=lambda f: (f / "screen/empty").mkdir())),
    Fault("a constant protein channel", PREPARE, ("Every crop of the protein channel GFP of 'my-screen' is constant", "Check that the right files"), screen(then=lambda f: [Image.fromarray(np.full((SIZE, SIZE), 7, np.uint8)).save(p) for p in (f / "screen").glob("*/*_w2.png")])),
    Fault("fields that downscale leaves nothing of", PREPARE, ("has 0×0 pixels after downscale = 200",), screen(crop='downscale = 200\nedge = "pad"')),
    Fault("a link that leads nowhere", PREPARE, ("B01_w1.png is a link that leads to no file",), screen(then=lambda f: os.symlink("/nowhere.png", f / "screen/Plate1/B01_w1.png"))),
    Fault("a link to where it lies", PREPARE, ("is a link to a folder that it lies in",), screen(then=lambda f: os.symlink("..", f / "screen/Plate1/up"))),
    # label images
    Fault("label images of another size", PREPARE, (*ONE_LOST, "masks/1_A01.png has the size (90, 96)"), screen(then=mask(lambda a: a[:90])), code=0),
    Fault("label images that are larger", PREPARE, (*ONE_LOST, "masks/1_A01.png has the size (104, 104)"), screen(then=mask(lambda a: np.pad(a, 4))), code=0),
    Fault("half a number in a label image", PREPARE, (*ONE_LOST, "holds other values than whole numbers from 0 to"), screen(FLOAT_MASKS, then=as_float_masks(1.5)), code=0),
    Fault("infinity in a label image", PREPARE, (*ONE_LOST, "holds other values than whole numbers from 0 to"), screen(FLOAT_MASKS, then=as_float_masks(np.inf)), code=0),
    Fault("a number that no label image has", PREPARE, (*ONE_LOST, "holds other values than whole numbers from 0 to 2,147,483,647"), screen(FLOAT_MASKS, then=as_float_masks(1e12)), code=0),
    Fault("a negative number in a label image", PREPARE, (*ONE_LOST, "holds other values than whole numbers from 0 to"), screen(FLOAT_MASKS, then=as_float_masks(-1.0)), code=0),
    Fault("no objects at all", PREPARE, ("No cell is left of 0 objects in 4 fields of view (no object found)", "Look at the segmentation"), screen(then=mask(np.zeros_like, "*"))),
    Fault("a ring that its crop shows nothing of", PREPARE, ("dropped 1 its crop shows nothing of it", "cells 15"), screen(then=mask(ring)), code=0),
    # layouts
    Fault("a folder in place of a layout", ("data", "prepare", "screen", "--name", "my-screen"), ("The layout ", "/screen cannot be read: Is a directory",), screen()),
    Fault("no layout", ("data", "prepare", "no.toml", "--name", "my-screen"), ("no.toml cannot be read: No such file", "`pci-bench data layout FOLDER` proposes one")),
    Fault("a layout that is no text", PREPARE, ("layout.toml is not TOML",), screen(then=files(**{"layout.toml": b"\xff\xfe\x00"}))),
    Fault("no workers", (*PREPARE[:-1], "0"), ("The number of workers is 0",), screen()),
    Fault("an expression that is not closed", PREPARE, ("holds no regular expression that can be read, '['",), screen(("{well}_w", "{well:[}_w"))),
    Fault("an expression that ends beyond its brace", PREPARE, ("holds no regular expression that can be read, '[^/]*)('",), screen(("{well}_w", "{well:[^/]*)(}_w"))),
    Fault("an expression of too many repetitions", PREPARE, ("the repetition number is too large",), screen(("{well}_w", "{well:A{99999999999}}_w"))),
    Fault("presets in a list", PREPARE, ("there is no preset '['yeast']'",), top('preset = ["yeast"]')),
    Fault("a number in place of a section", PREPARE, ("filters: Input should be a valid dictionary",), top('preset = "yeast"\nfilters = 3')),
    Fault("two channels of the same files", PREPARE, ("[channels] has two that match '2'",), screen(('match = "1"', 'match = "2"'))),
    Fault("NUL in the root", PREPARE, ("The layout's root 'a\\x00' holds a NUL character",), top('root = "a\\u0000"')),
    Fault("nobody's home as root", PREPARE, ("The layout's root ~nosuchuser/x: there is no home folder of this user",), top('root = "~nosuchuser/x"')),
    Fault("a column made of a part that there is not", PREPARE, ("[obs] p = '{nope}' names {nope}, but there are only plate, well",), obs('p = "{nope}"')),
    Fault("a column with a space", PREPARE, ("[obs] gives the column 'cell line', whose name has a space",), obs('"cell line" = "U2OS"')),
    Fault("a column that cells have", PREPARE, ("[obs] gives the column 'x', which cells have already",), obs('x = "{plate}"')),
    Fault("a part of the pattern that cells have as a column", PREPARE, ("The pattern gives the column 'y', which cells have already",), screen(("{plate}", "{y}"))),
    Fault("an area with a space", PREPARE, ("[segment] name gives the column 'my cell_area'",), screen(segment='masks = "masks/{plate}_{well}.png"\nname = "my cell"')),
    Fault("fields that would have one name", PREPARE, ("Two fields of view would have the name 'a'", "[obs] field must tell them apart"), obs('field = "a"')),
    # labels
    Fault("no table of labels", PREPARE, ("labels.csv cannot be read: No such file",), screen(labels="")),
    Fault("a table of labels that is no UTF-8", PREPARE, ("labels.csv is no table that can be read",), screen(labels=b"plate,label\n1,\xe9\n")),
    Fault("a folder in place of labels", PREPARE, ("labels.csv cannot be read: Is a directory",), screen(labels="", then=lambda f: (f / "screen/labels.csv").mkdir())),
    Fault("labels without their key", PREPARE, ("labels.csv has no column 'plate'. Its columns are a, b.",), screen(labels="a,b\n1,2\n")),
    Fault("labels on a column that cells lack", PREPARE, ("[labels] on names 'plato', but the cells' columns are plate, well",), screen(labels="plato,label\n1,2\n", on="plato")),
    Fault("a key that is there twice", PREPARE, ("labels.csv, line 3: plate 1 is there twice. Keep one row for each plate.",), screen(labels="plate,label\n1,a\n1,b\n")),
    Fault("labels that say what cells know", PREPARE, ("labels.csv has a column 'well', which the cells have already",), screen(labels="plate,well\n1,a\n2,b\n")),
    Fault("two tables of labels", PREPARE, ("labels.file: Input should be a valid string",), screen(('"labels.csv"', '["labels.csv", "more.csv"]'), labels="plate,label\n1,a\n")),
    # tables of centres
    Fault("no table of centres", PREPARE, ("The table of centres ", "N.csv cannot be read: No such file"), screen(segment=CENTRES)),
    Fault("centres of other fields", PREPARE, ("No row of ", "N.csv (for example W zz) is about any field of view (for example W 1-A01)"), screen(segment=CENTRES, then=files(**{"N.csv": f"W,{PLACES}\nzz,40,40\n"}))),
    Fault("a centre that is no number", PREPARE, ("N.csv, line 3: Location_Center_Y and Location_Center_X are 40.0 and nan",), screen(segment=CENTRES, then=files(**{"N.csv": f"W,{PLACES}\n1-A01,40,40\n1-A01,40,\n"}))),
    Fault("centres outside the field", PREPARE, ("dropped 2 its crop leaves the field", "cells 1"), screen(segment=CENTRES, crop='edge = "pad"', then=files(**{"N.csv": f"W,{PLACES}\n1-A01,40,40\n1-A01,1e300,3\n1-A01,-3000,4000\n"})), code=0),
    Fault("an image that is there twice", PREPARE, ("I.csv has the ImageNumber 1 twice. Keep one row.",), screen(segment=WITH_IMAGES, then=files(**{"N.csv": f"ImageNumber,{PLACES}\n1,40,40\n", "I.csv": "ImageNumber,W\n1,1-A01\n1,1-A02\n"}))),
    Fault("objects of no image", PREPARE, ("Note: 1 of 2 rows of N.csv are about no field of view: W (empty), for example.", "cells 1"), screen(segment=WITH_IMAGES, then=files(**{"N.csv": f"ImageNumber,{PLACES}\nx,40,40\n1,30,30\n", "I.csv": "ImageNumber,W\n1,1-A01\n2,1-A02\n"})), code=0),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


def test_a_field_that_was_not_cut_is_a_note_of_the_dataset_until_it_is(say, here):
    screen(then=truncated)(here)
    noted(say(*PREPARE, own=False))
    (note,) = load_dataset("my-screen").notes
    assert note.startswith("1 of 4 fields of view could not be cut, for example '1-A01': ")
    write_screen(here / "screen")
    noted(say(*PREPARE, own=False), "cells 20")
    assert load_dataset("my-screen").notes == ()


def test_a_file_that_is_gone_after_the_folder_was_listed_is_a_field_that_is_not_cut(say, here, monkeypatch):
    screen()(here)
    found = prepare.find_fields

    def then_gone(*arguments):
        fields = found(*arguments)
        (here / FIRST).unlink()
        return fields

    monkeypatch.setattr(prepare, "find_fields", then_gone)
    noted(say(*PREPARE, own=False), *ONE_LOST, "A01_w1.png cannot be read any more: No such file")


def test_wrong_labels_are_told_before_a_field_is_cut(say, here, monkeypatch):
    screen(labels="plate,label\n1,a\n1,b\n")(here)
    monkeypatch.setattr(prepare, "cut_field", lambda *arguments: pytest.fail("a field was cut"))
    refused(say(*PREPARE, own=False), "is there twice")


def test_labels_are_texts_whatever_they_look_like(here):
    screen(labels="plate,label,score,kept\n1,01,3,True\n")(here)
    cells, _ = prepare_dataset("screen/layout.toml", "my-screen", workers=1)
    of = cells.obs.drop_duplicates("plate").set_index("plate")
    assert of.loc["1", ["label", "score", "kept"]].tolist() == ["01", 3, True]
    assert of.loc["2", ["label", "score", "kept"]].isna().all()


def test_links_to_folders_elsewhere_are_followed(here):
    screen()(here)
    shutil.move(here / "screen/Plate1", here / "elsewhere")
    (here / "screen/Plate1").symlink_to(here / "elsewhere")
    assert len(prepare_dataset("screen/layout.toml", "my-screen", workers=1)[0]) == 20


@pytest.mark.parametrize("name", ["a b\n'\":*?=%41,[red]a[!]é😀", "x" * 240, "-n"])
def test_wells_of_any_name_are_cut(say, here, name):
    screen()(here)
    for file in (here / "screen").rglob("*A01*"):
        file.rename(file.with_name(file.name.replace("A01", name)))
    noted(say(*PREPARE, own=False), "cells 20")
    obs = load_dataset("my-screen").obs
    assert sorted(obs["well"].unique()) == sorted(["A02", name])
    assert obs["cell"].is_unique


def test_a_slash_in_the_name_of_a_field_is_no_folder(say, here, cache):
    obs('field = "{plate}/../{well}"')(here)
    noted(say(*PREPARE, own=False), "cells 20")
    assert sorted(load_dataset("my-screen").obs["field"].unique())[0] == "1/../A01"
    assert len(list((prepared_folder("my-screen") / "parts").glob("*.npz"))) == 4


def test_numbers_of_objects_may_have_gaps_and_be_large(here):
    screen(FLOAT_MASKS)(here)
    as_tiff(lambda name, labels: np.where(labels > 0, labels * 1000.0 + 70_000, 0).astype(np.float32), "masks/*.png")(
        here
    )
    cells, _ = prepare_dataset("screen/layout.toml", "my-screen", workers=1)
    plain = here / "plain"
    cells_of_plain, _ = prepare_dataset(write_layout(write_screen(plain).root), "plain", workers=1)
    np.testing.assert_array_equal(cells.stored_masks(slice(None)), cells_of_plain.stored_masks(slice(None)))
    assert cells.obs["cell"][0] == "1-A01/71000"


def test_more_objects_in_a_crop_than_a_mask_can_number_are_a_sentence():
    with pytest.raises(UserError, match=r"A crop shows 65,536 objects, but masks number at most 65,5"):
        own_masks(np.arange(1, 2**16 + 1).reshape(1, 256, 256), [1])


# ---- the cache


def test_cells_that_were_deleted_from_the_cache_are_stored_again_without_cutting(say, here, cache, monkeypatch):
    screen(labels="plate,label\n1,a\n2,b\n")(here)
    noted(say(*PREPARE, own=False))
    shutil.rmtree(cache / "datasets")
    run = ("run", "yeast-knn", "--dataset", "my-screen", "--features", "intensity", "--k", "1", "--device", "cpu")
    again = f"`pci-bench data prepare {here / 'screen/layout.toml'} --name my-screen` stores them again"
    refused(say(*run, "--out", "out", own=False), "its cells are no longer in the cache", again)
    noted(say("data", "list", own=False), "my-screen", "by hand")
    monkeypatch.setattr(prepare, "cut_field", lambda *arguments: pytest.fail("a field was cut"))
    noted(say(*PREPARE, own=False), "cells 20")
    noted(say(*run, "--out", "out", own=False), "Results, tables and figures")


def test_a_store_that_is_damaged_says_how_to_get_it_again(say, here, cache):
    screen()(here)
    noted(say(*PREPARE, own=False))
    (table,) = cache.glob("datasets/my-screen/*/obs.parquet")
    table.write_bytes(table.read_bytes()[:-1])
    said = say("data", "get", "my-screen", own=False)
    refused(said, "The cells of 'my-screen' cannot be read any more", "`pci-bench data prepare ")
    noted(say(*PREPARE, own=False), "cells 20")


def test_what_an_interrupted_preparation_left_can_be_removed(say, here, cache, monkeypatch):
    screen()(here)
    cut = prepare.cut_field

    def interrupted(field, *rest):
        if field.name == "2-A01":
            raise KeyboardInterrupt
        return cut(field, *rest)

    monkeypatch.setattr(prepare, "cut_field", interrupted)
    assert say(*PREPARE, own=False).code == 130
    assert len(list(prepared_folder("my-screen").rglob("*.npz"))) == 2
    noted(say("data", "remove", "my-screen", own=False))
    assert not prepared_folder("my-screen").exists()
    refused(say("data", "remove", "my-screen", own=False), "There is no dataset named 'my-screen'")


def test_a_full_disk_is_a_sentence_and_the_next_call_continues(say, here, monkeypatch):
    screen()(here)
    write = prepare.write_cut_field
    full = OSError(errno.ENOSPC, "No space left on device")

    def third(file, cut, identity):
        if "2-A01" in file.name:
            monkeypatch.setattr("pci_bench.acquisition.cut_fields.seal", lambda path: (_ for _ in ()).throw(full))
        write(file, cut, identity)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_cut_field", third)
        refused(say(*PREPARE, own=False), "2-A01.npz", "the disk is full: free some space")
    monkeypatch.undo()
    monkeypatch.setenv("PCI_BENCH_CACHE", str(here / "cache"))
    monkeypatch.chdir(here)
    cut, seen = prepare.cut_field, []
    monkeypatch.setattr(prepare, "cut_field", lambda field, *rest: seen.append(field.name) or cut(field, *rest))
    noted(say(*PREPARE, own=False), "cells 20")
    assert seen == ["2-A01", "2-A02"]


def test_a_prepared_dataset_in_a_cache_that_can_be_read_only_is_read(say, here, cache, reader):
    screen()(here)
    noted(say(*PREPARE, own=False))
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    noted(reader("data", "get", "my-screen", cache=cache, TMPDIR="/nonexistent"), "20 cells")
    refused(
        reader(*PREPARE, cache=cache, TMPDIR="/nonexistent"),
        "Could not write",
        "permission is denied",
        "PCI_BENCH_CACHE",
    )
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before


def test_a_chunk_of_an_ome_zarr_image_that_changed_is_cut_again(here, monkeypatch):
    root = write_screen(here / "screen", plates=("1",), wells=("A01",)).root
    file = write_layout(root)
    file.write_text(file.read_text().replace('{channel}.png"', '{channel}.zarr"'))
    for channel in "12":
        image = np.asarray(Image.open(root / f"Plate1/A01_w{channel}.png"))
        group = zarr.open_group(root / f"Plate1/A01_w{channel}.zarr", mode="w", zarr_format=2)
        array = group.create_array("0", shape=image.shape, chunks=image.shape, dtype=image.dtype)
        array[:] = image
        axes = [{"name": name, "type": "space"} for name in "yx"]
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [{"path": "0"}]}]
    before, _ = prepare_dataset(file, "my-screen", workers=1)
    zarr.open_array(root / "Plate1/A01_w2.zarr/0", mode="r+")[:] = image[::-1]
    after, _ = prepare_dataset(file, "my-screen", workers=1)
    assert len(before) == len(after) == 5
    assert before.sha256 != after.sha256


# ---- processes: plug-in segmenters in workers, signals, two at once

PLUGIN = """
import os, pathlib, signal, threading
import numpy as np, pydantic
from pci_bench import register_field_segmenter, FieldSegmenter, SegmenterMeta

class Params(pydantic.BaseModel, extra="forbid", frozen=True):
    above: float = pydantic.Field(0.4, description="of the largest value")

@register_field_segmenter("bright")
class Bright(FieldSegmenter):
    meta = SegmenterMeta("bright", "1", "Connected bright pixels")
    Params = Params

    def open(self, params, device):
        from scipy import ndimage

        def segment(image):
            with open("cut", "a") as counted:
                counted.write("1")
            number = os.environ.get("SEND")
            if number and len(pathlib.Path("cut").read_text()) == 3:
                os.kill(os.getpid(), int(number))
                threading.Event().wait(60)
            if os.environ.get("FAIL"):
                return 1 / 0
            return ndimage.label(image > params.above)[0].astype(np.int32)

        return segment
"""
BRIGHT = (*PREPARE[:-1], "2", "--plugin", "bright.py")


@pytest.fixture
def bright(here) -> Path:
    screen(segment='segmenter = "bright"\nchannel = "DNA"', labels="plate,label\n1,a\n2,b\n")(here)
    (here / "bright.py").write_text(PLUGIN)
    plot_library()  # into this test's cache: every process would bundle it anew
    return here


def parts(cache: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mtime_ns for file in cache.glob("prepared/my-screen/parts/*.npz")}


def test_a_killed_worker_is_a_sentence_and_the_next_call_continues(say, bright, cache):
    said = say(*BRIGHT, SEND=str(int(signal.SIGKILL)))
    kept = parts(cache)
    refused(
        said,
        "A worker process was killed or crashed (SIGKILL(-9)) while it computed the field '",
        f"{len(kept)} of 4 fields are kept",
    )
    noted(say(*BRIGHT), "cells 20")
    assert {name: time for name, time in parts(cache).items() if name in kept} == kept
    noted(say("data", "verify", "my-screen", own=False))


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_the_end_by_a_signal_keeps_the_fields_that_were_cut(say, bright, cache, name):
    number = int(getattr(signal, name))
    alone = (*BRIGHT[:-3], "1", *BRIGHT[-2:])
    said = subprocess.run(
        [SCRIPT, *alone],
        env=environment(cache, SEND=str(number)),
        cwd=bright,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=heard,
    )
    assert said.returncode == 128 + number, said.stderr
    assert said.stderr.splitlines()[-1] == SENTENCE[name] + AGAIN
    assert "Traceback" not in said.stderr
    assert leftovers(bright) == []
    assert sorted(parts(cache)) == ["1-A01.npz", "1-A02.npz"]
    noted(say(*alone), "cells 20")
    assert len((bright / "cut").read_text()) == 5  # two, the one that was interrupted, and two


def test_two_processes_cut_each_field_once(bright, cache):
    two = [
        subprocess.Popen(
            [SCRIPT, *BRIGHT],
            env=environment(cache),
            cwd=bright,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=200) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    assert all("Cells(my-screen: 20 cells" in out for out, _ in said)
    assert len((bright / "cut").read_text()) == 4
    assert len(list(cache.glob("datasets/my-screen/*/store.json"))) == 1


def test_a_plug_in_segmenter_that_fails_is_named_with_its_line(say, bright, monkeypatch):
    monkeypatch.setenv("FAIL", "1")
    refused(
        say(*BRIGHT[:-3], "1", *BRIGHT[-2:], own=False),
        "The field segmenter bright failed on the field '1-A01': ZeroDivisionError",
        "bright.py:25",
    )


def test_commands_take_a_prepared_dataset_by_its_name(say, here):
    screen(labels="plate,label\n1,a\n2,b\n")(here)
    noted(say(*PREPARE, own=False), "20 cells")
    named, cpu = ("--dataset", "my-screen"), ("--device", "cpu")
    noted(say("list", "datasets", own=False), "my-screen")
    noted(say("data", "list", own=False), "my-screen", "ready")
    noted(say("describe", "my-screen", own=False), "my-screen")
    noted(say("data", "verify", "my-screen", own=False), "my-screen is whole")
    noted(say("extract", "intensity", *named, *cpu, "--out", "f.csv", own=False))
    assert len(pd.read_csv("f.csv")) == 20
    noted(say("run", "yeast-knn", *named, "--features", "intensity", "--k", "1", *cpu, "--out", "out", own=False))
    assert list(Path("out").glob("results/**/*.json"))
    noted(say("train", "pci", *named, "--epochs", "1", "--width", "0.05", "--batch", "4", *cpu, own=False), "my-screen")
