"""The toy data sets, the authors' archive, and a user's own folder of crops."""

from __future__ import annotations

import os
import shutil
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import tifffile

from pci_bench import load_dataset
from pci_bench.data.cells import Channel
from pci_bench.datasets import DATASETS, toy
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress

# ---- the toy data sets from a user's copy


def test_toy_yeast_has_the_authors_cells_proteins_and_fields(toy_cache):
    cells = load_dataset("toy-yeast")
    counts = {"AAC1": 366, "AAC3": 416, "AAH1": 203, "AAP1": 308, "AAR2": 349}  # SCIENCE, section 1
    for column in ("label", "protein", "image"):
        assert cells.obs[column].value_counts().to_dict() == counts
    assert len(cells) == 1642
    assert cells.crop_shape == (64, 64)
    assert cells.channels == (Channel("GFP", "protein"), Channel("RFP", "marker"))
    fields = cells.obs.groupby("protein", observed=True)["field"].unique()
    assert {p: sorted(f) for p, f in fields.items()} == {p: [f"{p}_{i}" for i in range(1, 5)] for p in counts}
    assert (cells.meta.confounder, cells.meta.label, cells.meta.training) == ("field", "protein", "cyclops-wt2")
    assert cells.notes == ()


def test_toy_yeast_pixels_are_those_of_the_files(toy_cache, test_data):
    cells = load_dataset("toy-yeast")
    chosen = np.random.default_rng(0).permutation(len(cells))[:80]
    crops = cells.crops(chosen, rescale="raw")
    for crop, (_, row) in zip(crops, cells.obs.iloc[chosen].iterrows(), strict=True):
        for plane, suffix in zip(crop, ("gfp", "rfp"), strict=True):
            file = test_data / "toy-yeast" / row["image"] / f"{row['cell']}_{suffix}.tif"
            np.testing.assert_array_equal(plane, tifffile.imread(file))


def test_toy_human_is_the_2_by_2_mean_of_the_files_with_a_floor_on_both_markers(toy_cache, test_data):
    cells = load_dataset("toy-human")
    assert len(cells) == 62
    assert cells.crop_shape == (64, 64)
    assert [(c.name, c.role, c.floor) for c in cells.channels] == [
        ("antibody", "protein", 0.0),
        ("nucleus", "marker", 0.05),
        ("microtubules", "marker", 0.05),
    ]
    per_folder = Counter(p.parent.name for p in (test_data / "toy-human").rglob("*_green.tif"))
    assert cells.obs["image"].value_counts().to_dict() == per_folder
    assert set(cells.obs["label"]) == {"A1CF", "A4GALT", "AAAS"}
    assert (cells.obs["image"].str.split("_").str[0] == cells.obs["protein"]).all()
    for crop, (_, row) in zip(cells.crops(slice(None), rescale="raw"), cells.obs.iterrows(), strict=True):
        for plane, suffix in zip(crop, ("green", "blue", "red"), strict=True):
            full = tifffile.imread(test_data / "toy-human" / row["image"] / f"{row['cell']}_{suffix}.tif")
            assert full.shape == (128, 128)
            corners = [full[i::2, j::2].astype(np.float64) for i in (0, 1) for j in (0, 1)]
            np.testing.assert_allclose(plane, sum(corners) / 4, rtol=0, atol=1e-6)


def copy_of(folder: Path, to: Path, change: Callable[[Path], None] = lambda copy: None) -> Path:
    """A copy by links, so that it costs nothing; what `change` writes must be unlinked first."""
    for file in folder.rglob("*.tif"):
        target = to / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(file)
    change(to)
    return to


def add_a_cell(copy: Path) -> None:
    for suffix in ("gfp", "rfp"):
        tifffile.imwrite(copy / "AAC1" / f"AAC1_1_rfp_9999_{suffix}.tif", np.zeros((64, 64), np.float32))


def change_a_pixel(copy: Path) -> None:
    file = copy / "AAC1" / "AAC1_1_rfp_1_gfp.tif"
    file = file if file.exists() else sorted(copy.glob("AAC1/*_gfp.tif"))[0]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)


def remove_a_cell(copy: Path) -> None:
    for suffix in ("gfp", "rfp"):
        sorted(copy.glob(f"AAR2/*_{suffix}.tif"))[0].unlink()


@pytest.mark.parametrize(
    ("change", "found"), [(add_a_cell, "1,643"), (change_a_pixel, "1,642"), (remove_a_cell, "1,641")]
)
def test_an_altered_copy_of_a_toy_dataset_is_refused(test_data, tmp_path, monkeypatch, change, found):
    copy_of(test_data / "toy-yeast", tmp_path / "data" / "toy-yeast", change)
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
    with pytest.raises(UserError, match="is not 'toy-yeast' as pinned") as error:
        load_dataset("toy-yeast")
    assert f"{found} cells found, 1,642 expected" in str(error.value)
    assert str(tmp_path / "data" / "toy-yeast") in str(error.value)


def test_files_that_are_no_crops_may_lie_beside_them(test_data, tmp_path, monkeypatch, toy_cache):
    pinned = load_dataset("toy-human").sha256
    copy = copy_of(test_data / "toy-human", tmp_path / "data" / "toy-human")
    for name in ("README.md", ".DS_Store", "A1CF_762_F2/._x_green.tif", "notes.txt"):
        (copy / name).write_text("not a crop")
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "another cache"))
    assert load_dataset("toy-human").sha256 == pinned


# ---- the authors' archive


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on this machine, as GitHub would."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def archive_of(folder: Path, inside: str, file: Path, extra: dict[str, bytes] | None = None) -> Path:
    """A ZIP archive laid out like GitHub's: one top folder, the rest of the repository around the crops."""
    top = "paired_cell_inpainting-f9d7583c0ffee"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(f"{top}/", "")
        archive.writestr(f"{top}/README.md", "The authors' repository")
        archive.writestr(f"{top}/other_model/toy_dataset/images/X/X_1_rfp_1_gfp.tif", b"another folder's")
        for crop in sorted(folder.rglob("*.tif")):
            archive.write(crop, f"{top}/{inside}/{crop.relative_to(folder).as_posix()}")
        for name, content in (extra or {}).items():
            archive.writestr(name, content)
    return file


def declare(monkeypatch, name: str, url: str) -> None:
    monkeypatch.setitem(toy.DECLARATIONS[name], "url", url)


@pytest.mark.parametrize("name", ["toy-yeast", "toy-human"])
def test_a_toy_dataset_is_fetched_once_as_the_repositorys_archive(test_data, toy_cache, tmp_path, monkeypatch, name):
    pinned = load_dataset(name)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "fetched"))
    archive_of(test_data / name, toy.DECLARATIONS[name]["folder"], tmp_path / "repo.zip")
    with served(tmp_path) as address:
        declare(monkeypatch, name, f"{address}/repo.zip")
        fetched = load_dataset(name)
    assert fetched.sha256 == pinned.sha256
    np.testing.assert_array_equal(fetched.crops(slice(0, 20)), pinned.crops(slice(0, 20)))
    (tmp_path / "repo.zip").unlink()
    assert load_dataset(name).sha256 == pinned.sha256  # from the cache, with no server


def test_one_archive_serves_both_toy_datasets(test_data, toy_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "fetched"))
    yeast, human = (toy.DECLARATIONS[name] for name in ("toy-yeast", "toy-human"))
    crops = {
        f"paired_cell_inpainting-f9d7583c0ffee/{human['folder']}/{crop.relative_to(test_data / 'toy-human').as_posix()}": crop.read_bytes()
        for crop in (test_data / "toy-human").rglob("*.tif")
    }
    archive_of(test_data / "toy-yeast", yeast["folder"], tmp_path / "repo.zip", crops)
    with served(tmp_path) as address:
        declare(monkeypatch, "toy-yeast", f"{address}/repo.zip")
        declare(monkeypatch, "toy-human", f"{address}/repo.zip")
        assert len(load_dataset("toy-human")) == human["cells"]
    assert len(load_dataset("toy-yeast")) == yeast["cells"]  # with no server
    assert len(list((tmp_path / "fetched" / "downloads").glob("*.zip"))) == 1


def corrupt(archive: Path) -> None:
    """Overwrite the compressed bytes of the members, and leave the directory of the archive whole."""
    with zipfile.ZipFile(archive) as opened:
        members = [m for m in opened.infolist() if m.filename.endswith("_green.tif") and m.compress_size > 2000]
    content = bytearray(archive.read_bytes())
    for member in members:
        content[member.header_offset + 500 : member.header_offset + 1500] = b"\xff" * 1000
    archive.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-4000]), "is not a whole ZIP archive"),
        (lambda file: file.write_text("<html>Not found</html>"), "is not a whole ZIP archive"),
        (corrupt, "is damaged"),
    ],
    ids=["truncated", "a web page", "corrupt"],
)
def test_a_damaged_archive_is_named_and_fetched_again_the_next_time(
    test_data, tmp_path, monkeypatch, cache, damage, sentence
):
    folder = toy.DECLARATIONS["toy-human"]["folder"]
    file = archive_of(test_data / "toy-human", folder, tmp_path / "repo.zip")
    damage(file)
    with served(tmp_path) as address:
        declare(monkeypatch, "toy-human", f"{address}/repo.zip")
        with pytest.raises(UserError, match=sentence) as error:
            load_dataset("toy-human")
        assert str(cache) in str(error.value)
        assert "Run again" in str(error.value)
        archive_of(test_data / "toy-human", folder, tmp_path / "repo.zip")
        assert len(load_dataset("toy-human")) == 62


def test_an_archive_with_other_crops_is_refused_and_fetched_again_the_next_time(test_data, tmp_path, monkeypatch):
    folder = toy.DECLARATIONS["toy-human"]["folder"]
    wrong = copy_of(test_data / "toy-human", tmp_path / "copy", lambda copy: next(copy.rglob("*_red.tif")).unlink())
    complete = [p for p in wrong.rglob("*_green.tif") if not Path(str(p).replace("_green", "_red")).exists()]
    for file in complete:  # leave whole cells out, so that it is a well-formed data set
        file.unlink()
        Path(str(file).replace("_green", "_blue")).unlink()
    archive_of(wrong, folder, tmp_path / "repo.zip")
    with served(tmp_path) as address:
        declare(monkeypatch, "toy-human", f"{address}/repo.zip")
        with pytest.raises(UserError, match="not 'toy-human' as pinned: 61 cells found, 62 expected"):
            load_dataset("toy-human")
        archive_of(test_data / "toy-human", folder, tmp_path / "repo.zip")
        assert len(load_dataset("toy-human")) == 62


@pytest.mark.parametrize("kind", ["archive", "folder"])
def test_a_users_copy_of_a_toy_dataset_is_imported_and_checked(test_data, tmp_path, monkeypatch, kind):
    d = toy.DECLARATIONS["toy-human"]
    declare(monkeypatch, "toy-human", "http://127.0.0.1:1/repo.zip")
    whole = test_data / "toy-human"
    lacking = copy_of(
        whole, tmp_path / "lacking", lambda copy: shutil.rmtree(next(p for p in copy.iterdir() if p.is_dir()))
    )
    for folder in (lacking, whole):
        copy = folder if kind == "folder" else archive_of(folder, d["folder"], tmp_path / "mine.zip")
        if folder is lacking:
            with pytest.raises(UserError, match=r"is not 'toy-human' as pinned: .*Nothing was imported\."):
                DATASETS.get("toy-human").import_copy(copy, Progress())
        else:
            DATASETS.get("toy-human").import_copy(copy, Progress())
    assert len(load_dataset("toy-human")) == 62


def test_an_archive_whose_members_point_outside_writes_nothing_outside(test_data, tmp_path, monkeypatch, cache):
    d = toy.DECLARATIONS["toy-human"]
    site, here = tmp_path / "site", tmp_path / "here" / "and" / "there"
    site.mkdir()
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    evil = {f"{up}/evil{i}_{s}.tif": b"x" for i, up in enumerate([f"repo/{d['folder']}/../../../..", "../..", "/tmp"]) for s in ("green", "blue", "red")}  # fmt: skip
    archive_of(test_data / "toy-human", d["folder"], site / "repo.zip", evil)
    before = {p for p in tmp_path.rglob("*") if not p.is_relative_to(cache)}
    with served(site) as address:
        declare(monkeypatch, "toy-human", f"{address}/repo.zip")
        with pytest.raises(UserError, match="leads out of its folder"):
            load_dataset("toy-human")
    assert {p for p in tmp_path.rglob("*") if not p.is_relative_to(cache)} == before
    assert not list(tmp_path.rglob("evil*"))
    assert not list(Path("/tmp").glob("evil*"))


@pytest.mark.parametrize("path", [None, "absent.zip"], ids=["no server", "not found"])
def test_without_a_network_the_user_is_told_what_to_do_instead(tmp_path, monkeypatch, cache, path):
    with served(tmp_path) as address:
        if path:
            declare(monkeypatch, "toy-yeast", f"{address}/{path}")
            with pytest.raises(UserError, match="Could not fetch the dataset 'toy-yeast'") as error:
                load_dataset("toy-yeast")
    if not path:
        declare(monkeypatch, "toy-yeast", f"{address}/repo.zip")  # the server is gone
        with pytest.raises(UserError, match="Could not fetch the dataset 'toy-yeast'") as error:
            load_dataset("toy-yeast")
    assert address in str(error.value)
    assert "PCI_BENCH_DATA" in str(error.value)
    assert not list(cache.rglob("*.zip"))


# ---- a folder of one's own


def planes(*names: str, shape=(8, 8), dtype="float32", seed=0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    return {name: (rng.random(shape) * top).astype(dtype) for name in names}


def crops_of(*suffixes: str, ext="tif", images=("well1", "well2"), n=2, **options) -> dict[str, np.ndarray]:
    return planes(*(f"{i}/cell {c}{s}.{ext}" for i in images for c in range(n) for s in suffixes), **options)


@pytest.mark.parametrize(
    ("suffixes", "channels", "floor"),
    [
        (("_gfp", "_rfp"), ["GFP", "RFP"], 0.0),
        (("_gfp", "_bf"), ["GFP", "brightfield"], 0.0),
        (("_green", "_blue", "_red"), ["antibody", "nucleus", "microtubules"], 0.05),
        (("_green", "_red"), ["antibody", "microtubules"], 0.05),
        (("_gfp",), ["GFP"], 0.0),
        (("_ch1", "_ch2", "_ch3", "_ch4", "_ch5"), ["ch1", "ch2", "ch3", "ch4", "ch5"], 0.0),
        (("",), ["grey"], 0.0),
    ],
)
@pytest.mark.parametrize(("ext", "dtype"), [("tif", "float32"), ("png", "uint8"), ("tif", "uint16"), ("png", "uint16")])
def test_channels_are_found_by_the_suffixes_and_crops_by_their_folders(
    write_crops, suffixes, channels, floor, ext, dtype
):
    files = crops_of(*suffixes, ext=ext, dtype=dtype)
    cells = load_dataset(f"folder:{write_crops(files)}")
    assert cells.obs["cell"].tolist() == ["well1/cell 0", "well1/cell 1", "well2/cell 0", "well2/cell 1"]
    assert cells.obs["image"].tolist() == ["well1", "well1", "well2", "well2"]
    assert [c.name for c in cells.channels] == channels
    assert [c.role for c in cells.channels] == ["protein"] + ["marker"] * (len(channels) - 1)
    assert {c.floor for c in cells.channels[1:]} <= {floor}
    assert cells.channels[0].floor == 0
    top = np.float32(1 if dtype == "float32" else np.iinfo(dtype).max)
    for crop, name in zip(cells.crops(slice(None), rescale="raw"), cells.obs["cell"], strict=True):
        for plane, suffix in zip(crop, suffixes, strict=True):
            np.testing.assert_allclose(plane, files[f"{name}{suffix}.{ext}"] / top, rtol=1e-6)


def test_other_suffixes_floor_and_confounder_are_given_with_the_name(write_crops):
    files = crops_of("_c1", "_c2", "_c3", "_c4")
    root = write_crops({**files, "images.csv": "image,plate\nwell1,A\nwell2,B\n"})
    cells = load_dataset(f"folder:{root}?protein=_c3&markers=_c1,_c4&floor=0.1&confounder=plate")
    assert [(c.name, c.role, c.floor) for c in cells.channels] == [
        ("c3", "protein", 0.0),
        ("c1", "marker", 0.1),
        ("c4", "marker", 0.1),
    ]
    np.testing.assert_array_equal(
        cells.crops([3], rescale="raw")[0], [files[f"well2/cell 1_c{i}.tif"] for i in (3, 1, 4)]
    )
    assert cells.meta.confounder == "plate"
    assert load_dataset(f"folder:{root}?protein=_c2").channels == (Channel("c2", "protein"),)


def test_an_image_is_a_folder_at_any_depth_and_the_folder_itself_where_there_is_none(write_crops):
    names = [f"{i}{s}.tif" for i in ("top", "a/b/deep", "a/x10", "a/x9") for s in ("_gfp", "_rfp")]
    cells = load_dataset(f"folder:{write_crops(planes(*names))}")
    found = dict(zip(cells.obs["cell"], cells.obs["image"], strict=True))
    assert found == {"top": "crops", "a/b/deep": "a/b", "a/x9": "a", "a/x10": "a"}
    assert [c for c in found if "/x" in c] == ["a/x9", "a/x10"]


def test_a_folder_is_named_relative_to_where_one_stands(write_crops, monkeypatch):
    root = write_crops(crops_of("_gfp", "_rfp"))
    monkeypatch.chdir(root.parent)
    assert len(load_dataset("folder:crops")) == 4


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?protien=_gfp", "no option 'protien'.*protein, markers, floor, confounder"),
        ("?floor=high", "floor=high .* is not a number"),
        ("?floor=1", "floor=1 .* is not a number from 0 to below 1"),
        ("?floor=nan", "floor=nan .* is not a number"),
        ("?confounder=plate", "confounder 'plate'"),
        ("?protein=_c1&markers=_c2", "expected files named <name>_c1.tif, <name>_c2.tif"),
        ("?markers=_bf", "protein=_gfp&markers=_bf"),
    ],
)
def test_a_wrong_option_is_a_sentence(write_crops, query, sentence):
    root = write_crops(crops_of("_gfp", "_rfp"))
    with pytest.raises(UserError, match=sentence):
        load_dataset(f"folder:{root}{query}")


# ---- images.csv


def test_labels_and_other_columns_come_from_images_csv(write_crops):
    table = "plate,image,label,labels,dose\np1,well2,ER,ER;Golgi,0.5\np1,well1,007,,2\n"
    cells = load_dataset(f"folder:{write_crops({**crops_of('_gfp', '_rfp'), 'images.csv': table})}")
    assert cells.obs["label"].tolist() == ["007", "007", "ER", "ER"]
    assert cells.obs["dose"].tolist() == [2, 2, 0.5, 0.5]
    assert cells.obs["labels"].fillna("").tolist() == ["", "", "ER;Golgi", "ER;Golgi"]
    assert cells.notes == ()


def test_rows_and_images_that_do_not_match_are_noted_and_stay_unlabelled(write_crops):
    files = {**crops_of("_gfp", "_rfp", images=("a", "b", "c")), "images.csv": "image,label\na,X\nz,Y\n"}
    cells = load_dataset(f"folder:{write_crops(files)}")
    assert cells.obs["label"].isna().tolist() == [False, False, True, True, True, True]
    assert any("1 rows" in note and "'z'" in note for note in cells.notes)
    assert any("2 images" in note and "'b'" in note for note in cells.notes)


def test_a_folder_without_images_csv_has_no_labels_and_says_so(write_crops):
    cells = load_dataset(f"folder:{write_crops(crops_of('_gfp', '_rfp'))}")
    assert "label" not in cells.obs
    assert any("no images.csv" in note for note in cells.notes)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("image,label\nwell1,A\nwell1,B\nwell2,C\n", "more than one row for the image 'well1'"),
        ("picture,label\nwell1,A\n", "has the columns picture, label; it needs a column 'image'"),
        ("image,label\nother,A\nmore,B\n", "No image of .*images.csv .* is a subfolder"),
        ("image,cell\nwell1,A\n", "No cell of .*images.csv .*'A'.* is a crop of .*'well1/cell 0'"),
        ("", "cannot be read as a table"),
        ("image,label\nwell1,A,extra,more\n,,\nwell2,B\nx,y,z,u,v,w\n", "cannot be read as a table"),
        (b"image,label\nwell1,caf\xe9\n", "cannot be read as a table"),
        ("image,label\n", "No image of"),
    ],
    ids=["duplicate", "no image", "no match", "cell", "empty", "ragged", "latin-1", "header only"],
)
def test_a_wrong_images_csv_is_a_sentence(write_crops, content, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        load_dataset(f"folder:{write_crops({**crops_of('_gfp', '_rfp'), 'images.csv': content})}")
    assert "images.csv" in str(error.value)


def test_rows_without_an_image_match_nothing_and_are_noted(write_crops):
    table = "image,label\nwell1,A\n,B\nwell9,C\n,\n"
    cells = load_dataset(f"folder:{write_crops({**crops_of('_gfp', '_rfp'), 'images.csv': table})}")
    assert cells.obs["label"].astype(object).where(cells.obs["label"].notna(), "").tolist() == ["A", "A", "", ""]
    assert any(note.startswith("2 rows") and "no image" in note for note in cells.notes)


def test_a_table_as_excel_saves_it_is_read(write_crops):
    table = b"\xef\xbb\xbfimage,label\r\nwell1,A\r\nwell2,B\r\n"
    cells = load_dataset(f"folder:{write_crops({**crops_of('_gfp', '_rfp'), 'images.csv': table})}")
    assert cells.obs["label"].tolist() == ["A", "A", "B", "B"]


# ---- crops that are wrong


def broken(**changes) -> dict:
    """Well-formed crops with some files changed (None: taken away)."""
    files = crops_of("_gfp", "_rfp")
    for name, content in changes.items():
        files[f"well2/cell 1_{name}"] = content
    return {name: content for name, content in files.items() if content is not None}


def cut_tiff(tmp_path, **options) -> bytes:
    file = tmp_path / "whole.tif"
    tifffile.imwrite(file, planes("x", shape=(64, 64))["x"], **options)
    return file.read_bytes()[:-3000]


@pytest.mark.parametrize(
    ("files", "parts"),
    [
        (broken(**{"rfp.tif": None}), ["well2/cell 1_gfp.tif", "no _rfp file"]),
        (broken(**{"gfp.tif": None}), ["well2/cell 1_rfp.tif", "no _gfp file"]),
        (broken(**{"rfp.tif": np.ones((8, 9), np.float32)}), ["well2/cell 1_rfp.tif", "(8, 9)", "(8, 8)", "one size"]),
        (broken(**{"gfp.tif": np.ones((8, 8), np.uint8)}), ["well2/cell 1_gfp.tif", "uint8", "float32", "one type"]),
        (broken(**{"gfp.tif": np.ones((5, 8, 8), np.float32)}), ["well2/cell 1_gfp.tif", "(5, 8, 8)", "one grey image"]),
        (broken(**{"gfp.tif": b""}), ["well2/cell 1_gfp.tif", "truncated or of another kind"]),
        (broken(**{"gfp.tif": "text"}), ["well2/cell 1_gfp.tif", "truncated or of another kind"]),
        (broken(**{"gfp.png": np.ones((8, 8), np.uint8)}), ["cell 1_gfp.png", "cell 1_gfp.tif", "same crop and channel"]),
        (broken(**{"gfp.tif": np.full((8, 8), np.nan, np.float32)}), ["GFP", "well2/cell 1", "NaN"]),
        ({**crops_of("_gfp", "_rfp"), "well1/cell 0_gfp.tif": np.ones((8, 8, 3), np.uint8)}, ["well1/cell 0_gfp.tif", "(8, 8, 3)"]),
        (planes("w/a_gfp.tif", shape=(1100, 1200)), ["w/a_gfp.tif", "1,100 × 1,200 pixels", "look like fields of view", "data layout", "data prepare"]),
        ({"well1/readme.md": "no crops here"}, ["There are no crops", "one subfolder per image"]),
        ({}, ["There are no crops", "one subfolder per image"]),
        ({**crops_of("_gfp"), **{n: np.zeros((8, 8), np.float32) for n in crops_of("_rfp")}, **{n: np.full((8, 8), 3, np.float32) for n in crops_of("_gfp")}}, ["protein channel GFP", "constant"]),
    ],
    ids=["no marker", "no protein", "size", "type", "stack", "empty file", "text", "twice", "nan", "rgb tiff", "field of view", "no image files", "empty", "constant"],
)  # fmt: skip
def test_a_wrong_folder_is_a_sentence_that_names_the_file(write_crops, files, parts):
    root = write_crops(files)
    with pytest.raises(UserError) as error:
        load_dataset(f"folder:{root}")
    for part in parts:
        assert part in str(error.value)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"rowsperstrip": 4}], ids=["plain", "zlib", "strips"])
def test_a_truncated_tiff_is_named(write_crops, tmp_path, options):
    files = crops_of("_gfp", "_rfp", shape=(64, 64))
    files["well2/cell 0_rfp.tif"] = cut_tiff(tmp_path, **options)
    with pytest.raises(UserError, match=r"well2/cell 0_rfp\.tif .* cannot be read as an image: it is truncated"):
        load_dataset(f"folder:{write_crops(files)}")


@pytest.mark.parametrize("keep", [0.9, 0.5, 20])
def test_a_truncated_png_is_named(write_crops, keep):
    files = crops_of("_gfp", "_rfp", ext="png", dtype="uint8", shape=(64, 64))
    root = write_crops(files)
    file = root / "well2" / "cell 0_rfp.png"
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(UserError, match=r"well2/cell 0_rfp\.png .* cannot be read as an image"):
        load_dataset(f"folder:{root}")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_a_colour_png_is_refused(write_crops, mode):
    from PIL import Image

    root = write_crops(crops_of("_gfp", "_rfp", ext="png", dtype="uint8"))
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).convert(mode).save(root / "well1" / "cell 1_gfp.png")
    with pytest.raises(UserError, match=r"cell 1_gfp\.png"):
        load_dataset(f"folder:{root}")


@pytest.mark.parametrize(
    ("make", "sentence"), [(None, "no folder"), ("file", "is a file"), ("", "Write folder:PATH|PATH")]
)
def test_a_folder_that_is_none_is_a_sentence(tmp_path, make, sentence):
    path = tmp_path / "nowhere"
    if make == "file":
        path.write_text("")
    with pytest.raises(UserError, match=sentence):
        load_dataset("folder:" if make == "" else f"folder:{path}")


@pytest.mark.parametrize("change", ["pixel", "crop", "label"])
def test_a_changed_folder_is_read_anew(write_crops, change):
    root = write_crops({**crops_of("_gfp", "_rfp"), "images.csv": "image,label\nwell1,A\nwell2,B\n"})
    before = load_dataset(f"folder:{root}")
    assert load_dataset(f"folder:{root}").sha256 == before.sha256
    if change == "pixel":
        write_crops(planes("well1/cell 0_gfp.tif", seed=9))
        later = time.time() + 5  # a clock that ticks coarsely must not hide the change
        os.utime(root / "well1" / "cell 0_gfp.tif", (later, later))
    elif change == "crop":
        write_crops(planes("well1/cell 7_gfp.tif", "well1/cell 7_rfp.tif", seed=9))
    else:
        write_crops({"images.csv": "image,label\nwell1,A\nwell2,CC\n"})
    after = load_dataset(f"folder:{root}")
    assert after.sha256 != before.sha256
    assert len(after) == (5 if change == "crop" else 4)
    assert sorted(set(after.obs["label"])) == (["A", "CC"] if change == "label" else ["A", "B"])
