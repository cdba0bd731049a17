"""What users do wrong, and what breaks under them: one sentence, exit status 2, and nothing half-written."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from command_line import SCRIPT, Said, environment, leftovers
from faults import RUN, changed, crops, refused, whole_stores_only

from pci_bench.datasets.chong2015_copies import SOURCES
from pci_bench.system import files

# ---- crops


def all_constant() -> dict[str, np.ndarray | str]:
    return {n: np.full((8, 8), 7, np.uint8) if n.endswith("_gfp.tif") else c for n, c in crops().items()}


def not_finite() -> dict[str, np.ndarray | str]:
    found = crops(dtype=np.float32)
    found["w2/1_rfp.tif"][3, 3] = np.nan
    return found


@pytest.mark.parametrize(
    ("own", "content", "words"),
    [
        (True, {}, ["There are no crops in ", "/crops", "expected one subfolder per image"]),
        (False, changed(**{"w1/2_rfp.tif": None}), ["The crop w1/2_gfp.tif in ", "has no _rfp file beside it"]),
        (False, changed(**{"w1/2_gfp.tif": None}), ["The crop w1/2_rfp.tif in ", "has no _gfp file beside it"]),
        (
            False,
            changed(**{"w3/0_gfp.tif": np.ones((8, 9), np.uint8)}),
            ["w3/0_gfp.tif in ", "has the size (8, 9), but w0/0_gfp.tif has (8, 8)"],
        ),
        (
            False,
            changed(**{"w3/0_gfp.tif": np.ones((8, 8), np.uint16)}),
            ["w3/0_gfp.tif in ", "has the type uint16, but w0/0_gfp.tif has uint8"],
        ),
        (False, changed(**{"w0/0_gfp.tif": np.ones((2, 8, 8), np.uint8)}), ["w0/0_gfp.tif in ", "one grey image"]),
        (False, not_finite(), ["Channel RFP of cell 'w2/1' in 'folder:", "NaN or infinite", "Leave these cells out"]),
        (False, all_constant(), ["Every crop of the protein channel GFP", "is constant", "Check that the right files"]),
        (False, changed(**{"images.csv": None}), ["has no labels", "a column 'label' of images.csv", "cells.csv"]),
        (
            False,
            changed(**{"images.csv": "image,label\n" + "".join(f"w{i},a\n" for i in range(4))}),
            ["all labelled cells of folder:", "have one label", "at least two classes"],
        ),
        (False, changed(**{"images.csv": "picture,label\nw0,a\n"}), ["images.csv", "it needs a column 'image'"]),
        (False, changed(**{"images.csv": b"\xff\xfe\x00image"}), ["images.csv cannot be read as a table"]),
    ],
    ids=[
        *("empty", "no-rfp", "no-gfp", "shapes", "types", "stack", "nan", "all-constant", "no-labels", "one-class"),
        *("wrong-csv", "binary-csv"),
    ],
)
def test_crops_that_cannot_be_used_are_a_sentence(say, here, cache, write_crops, own, content, words):
    folder = write_crops(content)
    said = say(*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1", "--out", "out", own=own)
    refused(said, *words)
    assert not (here / "out").exists()
    assert list((cache / "features").glob("**/*.h5ad")) == []


@pytest.mark.parametrize("kept", [0, 5, 100, 150])
def test_a_truncated_tiff_is_named(say, here, write_crops, kept):
    folder = write_crops(crops())
    file = folder / "w2" / "0_rfp.tif"
    file.write_bytes(file.read_bytes()[:kept])
    said = say(*RUN, "--dataset", f"folder:{folder}", "--out", "out", own=False)
    refused(said, "w2/0_rfp.tif in ", "cannot be read as an image: it is truncated or of another kind")
    assert not (here / "out").exists()


def test_a_missing_folder_and_a_file_in_its_place_are_sentences(say, here):
    said = say(*RUN, "--dataset", "folder:absent", "--out", "out", own=False)
    refused(said, "The dataset 'folder:absent' is not available: there is no folder ", "Check the path")
    (here / "notes.txt").write_text("hello")
    said = say(*RUN, "--dataset", "folder:notes.txt", own=False)
    refused(said, "notes.txt is a file; folder:PATH expects a folder")
    assert sorted(p.name for p in here.iterdir()) == ["cache", "notes.txt"]


def test_one_constant_crop_is_noted_and_run(say, here, write_crops):
    folder = write_crops(changed(**{"w1/1_gfp.tif": np.full((8, 8), 3, np.uint8)}))
    said = say(
        *(
            *RUN,
            "--dataset",
            f"folder:{folder}",
            "--features",
            "intensity,raw-pixels,noise",
            "--k",
            "1",
            "--out",
            "out",
        ),
        own=False,
    )
    assert said.code == 0, said.err
    assert re.search(r"Note: 1 of 12 cells of folder:\S+ have a constant GFP crop; rescaled, it is all zeros", said.out)
    assert len(list((here / "out" / "results").rglob("*.json"))) == 9  # three feature sets, three kinds of candidates
    assert json.loads((here / "out" / "run.json").read_text())["notes"]


def test_a_truncated_demonstration_crop_is_named(say, here, test_data):
    whole = test_data / "toy-human"
    for file in whole.rglob("*.tif"):
        copy = here / "data" / "toy-human" / file.relative_to(whole)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.symlink_to(file)
    copy.unlink()
    copy.write_bytes(file.read_bytes()[:-100])
    said = say("data", "get", "toy-human", data=here / "data", own=False)
    refused(said, "toy-human is not 'toy-human' as pinned: 62 cells found, 62 expected, or a file differs")


# ---- HDF5


def chong(folder: Path) -> Path:
    """Write three small files of the published layout."""
    (folder / "chong2015").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for split in ("train", "valid", "test"):
        with h5py.File(folder / "chong2015" / f"Chong_{split}_set.hdf5", "w") as file:
            file["data1"] = rng.random((6, 2 * 64 * 64), dtype=np.float32)
            file["Index1"] = np.eye(2)[[0, 1] * 3]
            file.attrs["Index1_columns"] = np.array([b"ACTIN", b"GOLGI"])
    return folder


def test_chong2015_from_small_files_runs_and_stands_beside_no_printed_number(say, here):
    said = say(
        *(*RUN, "--dataset", "chong2015", "--features", "intensity", "--k", "1", "--out", "out"),
        data=chong(here / "data"),
        own=False,
    )
    assert said.code == 0, said.err
    assert "'chong2015' has 18 cells in 2 classes" in said.out
    assert "the paper counts 30,889 cells in 17 classes" in said.out
    assert "there is no confounder" in said.out


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda b: b[: len(b) * 2 // 3], ["Chong_valid_set.hdf5 cannot be read: it is truncated or damaged"]),
        (lambda b: b"not HDF5 " * 50, ["Chong_valid_set.hdf5 is not an HDF5 file (it has 450 bytes)"]),
        (lambda b: b"", ["Chong_valid_set.hdf5 is not an HDF5 file (it has 0 bytes)"]),
        (None, ["Chong_valid_set.hdf5 is missing in "]),
    ],
    ids=["truncated", "text", "empty", "missing"],
)
def test_a_file_of_chong2015_that_is_not_whole_is_named_with_where_to_get_it(say, here, damage, words):
    file = chong(here / "data") / "chong2015" / "Chong_valid_set.hdf5"
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage(file.read_bytes()))
    said = say(*RUN, "--dataset", "chong2015", "--out", "out", data=here / "data", own=False)
    refused(said, *words, "http://spidey.ccbr.utoronto.ca/~okraus/DeepLoc_full_datasets.zip")
    assert not (here / "out").exists()


def other_hdf5(file: Path) -> None:
    with h5py.File(file, "w") as opened:
        opened["measurements"] = np.zeros(3)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f, whole: f.write_bytes(whole[: len(whole) // 2]), ["cannot be read as HDF5: it is truncated"]),
        (lambda f, whole: f.write_bytes(os.urandom(5000)), ["cannot be read as HDF5", "or of another kind"]),
        (lambda f, whole: other_hdf5(f), ["is an HDF5 file, but not a Keras full model", "measurements"]),
        (lambda f, whole: None, ["There is no file ", "Expected the Keras HDF5 file of the published weights"]),
        (lambda f, whole: f.mkdir(), ["There is no file "]),
    ],
    ids=["truncated", "random-bytes", "other-hdf5", "missing", "folder"],
)
def test_weights_that_are_not_the_published_layout_are_a_sentence(say, here, cache, test_data, make, words):
    file = here / "model_weights.h5"
    make(file, (test_data / "keras-weights-sample" / "model_weights.h5").read_bytes())
    refused(say("weights", "import", "keras-pci", file, own=False), str(file), *words)
    assert not (cache / "weights").exists()


def test_weights_for_other_channels_keep_out_of_a_published_name(say, cache, test_data):
    file = test_data / "keras-weights-sample" / "model_weights.h5"
    said = say("weights", "import", "keras-pci", file, "--name", "lu2019-yeast", own=False)
    refused(said, "pci@lu2019-yeast stands for weights with the channels protein + marker", "Give it another --name")
    assert not (cache / "weights").exists()


# ---- names and numbers


@pytest.mark.parametrize(
    ("own", "arguments", "words"),
    [
        (True, ("run",), ["Name a benchmark"]),
        (False, ("run", "yeast-kn"), ["There is no benchmark named 'yeast-kn'. Did you mean yeast-knn or "]),
        (
            False,
            (*RUN, "--dataset", "toy-yest"),
            ["no dataset named 'toy-yest'. Did you mean toy-yeast", "list datasets"],
        ),
        (False, (*RUN, "--features", "pci-conv9"), ["no feature set named 'pci-conv9'. Did you mean pci-conv"]),
        (False, (*RUN, "--features", "intensity@mine"), ["'intensity@mine' names weights, but intensity uses none"]),
        (False, (*RUN, "--features", ","), ["No feature set was named", "`pci-bench list features`"]),
        (False, (*RUN, "--features", "file:"), ["'file:' names no PATH. Write file:PATH"]),
        (False, (*RUN, "--dataset", "chong2015:all"), ["no class map 'all'", "merge-and-drop"]),
        (False, ("table", "table-1"), ["no table named 'table-1'. Did you mean table1 or ", "`pci-bench list tables`"]),
        (False, ("describe", "loo-kn"), ["nothing named 'loo-kn'. Did you mean loo-knn"]),
        (False, ("describe", "evaluator:toy-yeast"), ["There is no evaluator named 'toy-yeast'"]),
        (False, (*RUN, "--k", "0"), ["k = 0 does not fit loo-knn", "greater than or equal to 1"]),
        (False, (*RUN, "--k", "-3"), ["k = -3 does not fit loo-knn"]),
        (False, (*RUN, "--k", "abc"), ["--k abc is not a list of whole numbers. Write for example --k 1,5,11."]),
        (False, (*RUN, "--k", "1,,5"), ["--k 1,,5 is not a list of whole numbers"]),
        (False, (*RUN, "--k", "2.5"), ["--k 2.5 is not a list of whole numbers"]),
        (False, (*RUN, "--limit", "-5"), ["The limit is -5; it must be at least 2 cells."]),
        (False, (*RUN, "--limit", "0"), ["The limit is 0; it must be at least 2 cells."]),
        (False, (*RUN, "--workers", "0"), ["The number of workers is 0; it must be at least 1."]),
        (
            False,
            (*RUN, "--device", "gpu"),
            ["There is no device 'gpu'. Use auto, cpu, cuda or, of several, cuda:0, cuda:1"],
        ),
        (False, ("extract", "intensity", "--dataset", "toy-yeast", "--out", "f.txt"), ["ends in '.txt'", ".parquet"]),
        (False, ("extract", "intensity", "--dataset", "toy-yeast", "--out", "f.csv", "--limit", "1"), ["limit is 1"]),
        (
            False,
            ("weights", "import", "torch", "f.pt"),
            ["There is no import 'torch'. Known: deeploc-checkpoint, deeploc-npz, keras-"],
        ),
        (False, ("weights", "get", "pci@nobody"), ["there are no weights pci@nobody here", "weights list"]),
        (False, ("weights", "get", "yeast"), ["'yeast' names no weights. Write FAMILY@NAME"]),
        (False, ("data", "verify", "toy-yeast"), ["'toy-yeast' is not in the cache. `pci-bench data get toy-yeast`"]),
    ],
    ids=lambda value: "-".join(value[-2:]).strip("-") if isinstance(value, tuple) else "",
)
def test_a_wrong_name_or_number_is_a_sentence_before_anything_is_done(
    say, here, cache, test_data, own, arguments, words
):
    refused(say(*arguments, own=own, data=test_data), *words)
    assert {p.name for p in here.iterdir()} <= {"cache"}  # neither runs/ nor anything else
    assert not (cache / "datasets").exists()


@pytest.mark.skipif(Path("/proc/driver/nvidia").exists(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_a_sentence(say, here):
    refused(say(*RUN, "--device", "cuda", own=False), "There is no CUDA device", "Use --device cpu.")
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [(*RUN, "--frobnicate"), ("frobnicate",), (*RUN, "--seed", "-1"), (*RUN, "--limit", "many"), ("describe",)],
)
def test_what_the_parser_does_not_know_is_its_own_message(say, arguments):
    said = say(*arguments, own="--frobnicate" in arguments)
    assert said.code == 2
    assert "Usage: pci-bench" in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_k_larger_than_the_cells_is_refused_before_anything_is_computed(say, here, write_crops):
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--out", "out")
    refused(say(*arguments, "--k", "12", own=False), "k = 12 needs at least 13 labelled cells", "Use a smaller --k")
    assert not (here / "out").exists()
    said = say(*arguments, "--k", "2,12", own=False)
    refused(said, "loo-knn cannot be run with k = 12: k = 12 needs at least 13 labelled cells", f"folder:{folder}")
    assert not (here / "out").exists()


def test_no_dataset_available_names_each_with_what_to_do(say, here, write_crops, monkeypatch):
    for layout, source in SOURCES.items():  # where nobody listens
        monkeypatch.setitem(SOURCES, layout, replace(source, urls=("http://127.0.0.1:9/absent.zip",)))
    (here / "own.toml").write_text("")
    said = say("data", "list", own=False)
    assert said.code == 0
    said = say("data", "get", "chong2015", own=False)
    assert said.code == 2
    for words in ("Error: 'chong2015' is not available", "PCI_BENCH_DATA/chong2015", "Chong_train_set.hdf5"):
        assert words in said.err.splitlines()[-1]


def test_features_that_cannot_be_had_are_a_sentence_with_the_command(say, here, write_crops):
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--k", "1", "--out", "out")
    said = say(*arguments, "--features", "pci-conv4", own=False)
    refused(
        said,
        "Nothing could be run on folder:",
        "has none of its own",
        "pci-conv4@NAME",
        "`pci-bench weights list`",
        "`pci-bench train pci`",
    )
    said = say(*arguments, "--features", "pci-conv4@mine", own=False)
    refused(said, "there are no weights pci@mine here")
    said = say(*arguments, "--features", "intensity", "--refresh", "never", own=False)
    refused(said, "not in the cache", "--refresh never")
    assert not (here / "out").exists()


# ---- plug-ins


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            None,
            ["There is no plug-in file mine.py. --plugin expects the path of a Python file, or of a folder of them."],
        ),
        ("x = 1\nif x\n    pass\n", ["The plug-in mine.py:2 failed: SyntaxError"]),
        ("x = 1\n\nimport absent_package\n", ["The plug-in mine.py:3 failed: ModuleNotFoundError"]),
        (
            "from pci_bench import register_features\n\n"
            '@register_features("noise", version="1", names=lambda channels: ["a"])\n'
            "def mine(crops):\n    return crops[:, 0, 0, :1]\n",
            ["Two plug-ins register the feature set 'noise'", "noise.py:", "mine.py:3", "Rename one of them"],
        ),
    ],
    ids=["missing", "syntax", "import", "taken"],
)
def test_a_broken_plugin_is_named_with_its_line(say, here, own_registries, content, words):
    if content is not None:
        (here / "mine.py").write_text(content)
    refused(say(*RUN, "--plugin", "mine.py", own=False), *words)


def test_a_plugin_that_gives_nan_is_named_with_the_cell(say, here, write_crops, cache, own_registries):
    (here / "mine.py").write_text(
        "import numpy as np\nfrom pci_bench import register_features\n\n"
        '@register_features("mine", version="1", names=lambda channels: ["a"])\n'
        "def mine(crops):\n    return np.log(crops[:, 0, :1, 0] * 0 - 1)\n"
    )
    folder = write_crops(crops())
    arguments = ("--dataset", f"folder:{folder}", "--features", "mine", "--k", "1", "--plugin", "mine.py")
    said = say(*RUN, *arguments, "--out", "out", own=False)
    refused(said, "mine gave NaN or infinite values, first for the cell 'w0/0'")
    assert not (here / "out").exists()
    assert list((cache / "features").rglob("*.npy")) == []


# ---- places that cannot be written


@pytest.mark.parametrize("place", ["file/x", "/proc/nope/out"])
def test_an_output_folder_that_cannot_be_made_is_told_before_anything_is_computed(say, here, cache, test_data, place):
    (here / "file").write_text("in the way")
    said = say(*RUN, "--dataset", "toy-yeast", "--out", place, data=test_data, own=False)
    refused(said, "Could not make the folder", place)
    assert not cache.exists()


def test_an_extract_below_a_file_is_a_sentence(say, here, write_crops):
    folder = write_crops(crops())
    (here / "file").write_text("in the way")
    said = say("extract", "intensity", "--dataset", f"folder:{folder}", "--out", "file/f.csv", own=False)
    refused(said, "Could not make the folder file: part of the path is a file")


def test_a_cache_that_cannot_be_made_is_a_sentence(say, here, write_crops, monkeypatch):
    folder = write_crops(crops())
    (here / "file").write_text("in the way")
    monkeypatch.setenv("PCI_BENCH_CACHE", str(here / "file" / "cache"))
    said = say("data", "get", f"folder:{folder}", own=False)
    refused(said, "Could not make the folder", "part of the path is a file, not a folder")


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of a few kilobytes."""
    mounted = []

    def mount(name: str, kilobytes: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        asked = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        if sys.platform != "linux" or os.geteuid() or subprocess.run(asked, capture_output=True).returncode:
            pytest.skip("only root can mount a small file system, on Linux")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # this process may still map a file in it


FULL = "the disk is full: free some space, or name another place with --out or PCI_BENCH_CACHE"


def test_a_full_cache_is_a_sentence_and_leaves_nothing_half_written(say, small_disk, test_data, monkeypatch):
    disk = small_disk("disk", 3000)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(disk / "cache"))
    said = say("data", "get", "toy-yeast", data=test_data, own=False)
    refused(said, "Could not write", str(disk / "cache" / "datasets" / "toy-yeast"), FULL)
    assert [p for p in disk.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    said = say("data", "get", "toy-human", own=False)
    assert said.code == 0, said.err
    free = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes((free.f_bavail - 5) * free.f_frsize))
    said = say(*RUN, "--dataset", "toy-human", "--features", "raw-pixels", "--k", "1", "--out", "out", own=False)
    refused(said, "Could not write", "raw-pixels", FULL)
    assert leftovers(disk) == []
    assert list(disk.rglob("*.h5ad")) == []
    (disk / "filler").unlink()
    assert say("data", "verify", "toy-human", own=False).code == 0


def test_a_full_output_disk_is_a_sentence_and_what_is_there_is_whole(say, here, small_disk, write_crops):
    disk = small_disk("disk", 48)
    folder = write_crops(crops())
    said = say(*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1,2", "--out", disk / "out")
    refused(said, "Could not write", str(disk / "out"), FULL)
    for file in disk.rglob("*.json"):
        json.loads(file.read_text())
    assert not (disk / "out" / "run.json").exists()


@pytest.fixture
def disk_becomes_full(say, here, write_crops, monkeypatch) -> Callable[[str], None]:
    """A function that checks a run whose disk becomes full at the first file of a kind, and the run after it."""
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1", "--out", "out")
    sync = files._sync

    def check(kind: str) -> None:
        def full(path: Path) -> None:
            if path.name.startswith(".writing-") and path.suffix == kind and "datasets" not in path.parts:
                raise OSError(28, "No space left on device")
            sync(path)

        monkeypatch.setattr(files, "_sync", full)
        refused(say(*arguments, own=False), "Could not write", f"{kind}: {FULL}")
        monkeypatch.setattr(files, "_sync", sync)
        assert say(*arguments, own=False).code == 0

    return check


@pytest.mark.parametrize("kind", [".h5ad", ".npy", ".parquet", ".json", ".tex"])
def test_wherever_the_disk_becomes_full_the_sentence_names_the_file(disk_becomes_full, kind):
    disk_becomes_full(kind)


@pytest.mark.usefixtures("with_figures")
def test_where_the_disk_becomes_full_at_a_figure_the_sentence_names_it(disk_becomes_full):
    disk_becomes_full(".png")


# ---- what others left in the cache


def stored(cache: Path) -> Path:
    (store,) = (p for p in cache.glob("datasets/*/*") if p.is_dir())
    return store


@pytest.mark.parametrize(
    ("pattern", "damage", "words"),
    [
        ("datasets/*/*/crops.zarr/c/**/*", lambda b: b[: len(b) // 2], ["is damaged: crops.zarr/c/", "bytes"]),
        ("datasets/*/*/obs.parquet", lambda b: b[:50], ["is damaged: obs.parquet has 50 bytes instead of"]),
        ("datasets/*/*/store.json", lambda b: b[:70], ["is not a store of cells"]),
        ("features/*/*.h5ad", lambda b: b[: len(b) // 2], ["is damaged or of another origin"]),
        ("features/*/*.h5ad", lambda b: b"these are my notes\n" * 9, ["is damaged or of another origin"]),
    ],
    ids=["zarr", "obs", "description", "features", "garbage"],
)
def test_a_damaged_file_in_the_cache_is_named_and_made_again(say, here, cache, write_crops, pattern, damage, words):
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1", "--json")
    before = say(*arguments, own=False)
    (file,) = (p for p in cache.glob(pattern) if p.is_file())
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    after = say(*arguments, own=False)
    assert after.code == 0, after.err
    (named,) = [line for line in after.err.splitlines() if "again" in line]
    assert str(stored(cache) if "datasets" in pattern else file) in named
    for word in words:
        assert word in named, (word, named)
    assert [r["metrics"] for r in json.loads(after.out)] == [r["metrics"] for r in json.loads(before.out)]
    assert len(file.read_bytes()) >= len(whole) * 0.9
    quiet = say(*arguments, own=False)
    assert "again" not in quiet.err
    assert "extracting" not in quiet.err


def test_features_of_another_origin_in_the_cache_are_named_and_made_again(say, here, cache, write_crops):
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--k", "1", "--json", "--features")
    before = json.loads(say(*arguments, "intensity,raw-pixels", own=False).out)
    ours = {p.name.rpartition("-")[0]: p for p in cache.glob("features/*/*.h5ad")}
    ours["intensity"].write_bytes(ours["raw-pixels"].read_bytes())
    after = say(*arguments, "intensity,raw-pixels", own=False)
    assert re.search(
        r"intensity-\w+\.h5ad is damaged or of another origin \(it belongs to other cells or features\)", after.err
    )
    assert [r["metrics"] for r in json.loads(after.out)] == [r["metrics"] for r in before]

    import anndata

    anndata.AnnData(np.ones((3, 2), np.float32)).write_h5ad(ours["raw-pixels"])  # anybody's, without our description
    after = say(*arguments, "intensity,raw-pixels", own=False)
    assert re.search(r"raw-pixels-\w+\.h5ad is damaged or of another origin", after.err)
    assert [r["metrics"] for r in json.loads(after.out)] == [r["metrics"] for r in before]


def test_a_byte_changed_inside_a_chunk_never_ends_in_a_traceback(say, here, cache, write_crops):
    folder = write_crops(crops(images=20))
    assert say("data", "get", f"folder:{folder}", own=False).code == 0
    (chunk,) = (p for p in stored(cache).glob("crops.zarr/c/**/*") if p.is_file())
    whole = chunk.read_bytes()
    for position in (1, 9, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        chunk.write_bytes(damaged)
        refused(say("data", "verify", f"folder:{folder}", own=False), str(stored(cache)), "Delete that folder")
        said = say(*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1", own=False)
        if said.code:
            refused(said, str(stored(cache)), "Delete that folder")


def test_damaged_weights_in_the_cache_are_named(say, cache, write_crops):
    folder = write_crops(crops())
    (cache / "weights").mkdir(parents=True)
    (cache / "weights" / "pci@mine.safetensors").write_bytes(b"not weights")
    said = say(*RUN, "--dataset", f"folder:{folder}", "--features", "pci-conv4@mine", "--k", "1", own=False)
    refused(said, "pci@mine.safetensors is not a weights file of pci-bench, or is damaged", "Delete it")
    said = say("weights", "list", own=False)
    assert said.code == 0
    assert "pci@lu2019-yeast" in said.out  # the others are listed all the same
    assert "damaged: " in said.out


def test_two_runs_at_once_on_one_cache_compute_once_and_agree(here, cache, test_data):
    arguments = (*RUN, "--dataset", "toy-human", "--features", "raw-pixels,intensity", "--k", "1", "--json")
    both = [
        subprocess.Popen(
            [SCRIPT, *arguments, "--out", f"out{number}"],
            env=environment(cache, test_data),
            cwd=here,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (1, 2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    (one, one_err), (other, other_err) = said
    for stage in ("storing toy-human", "extracting raw-pixels", "extracting intensity"):
        assert (one_err + other_err).count(stage) == 1, stage
    numbers = [[(r["features"], r["metrics"], r["intervals"]) for r in json.loads(out)] for out in (one, other)]
    assert numbers[0] == numbers[1]
    whole_stores_only(cache)


# ---- results and features in files


RESULT_FILE = "results/planted/mine/loo-knn/k=1,exclude=cell.json"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{broken", ["cannot be read as JSON", "Run the benchmark again"]),
        ("[]", ["is not a result of pci-bench: it has no 'schema'"]),
        ('{"schema": 99}', ["has schema 99; this version reads 1. Update pci-bench."]),
        ('{"schema": 1, "benchmark": null}', ["is not a result of pci-bench: dataset: field required"]),
        (None, ["There are no results in out", "as `pci-bench run` writes it"]),
    ],
    ids=["broken", "list", "schema", "incomplete", "nothing"],
)
def test_a_folder_without_sound_results_is_a_sentence(say, here, content, words):
    if content is not None:
        file = here / "out" / RESULT_FILE
        file.parent.mkdir(parents=True)
        file.write_text(content)
        words = [RESULT_FILE, *words]
    said = say("table", "table1", "--results", "out", own=False)
    refused(Said(said.code, said.out, said.err.replace("Field required", "field required")), *words)


def test_a_table_of_a_dataset_without_results_and_broken_predictions_are_sentences(say, here, write_crops):
    folder = write_crops(crops())
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--features", "intensity", "--k", "1", "--out", "out")
    assert say(*arguments, own=False).code == 0
    said = say("table", "table1", "--results", "out", "--dataset", "toy-yeast", own=False)
    refused(said, "out has no results on 'toy-yeast'; it has results on folder:")
    table = next((here / "out").rglob("*.parquet"))
    table.write_bytes(table.read_bytes()[:40])
    refused(say("table", "table1", "--results", "out", own=False), table.name, "cannot be read as Parquet")


def features_csv(rows: list[str]) -> bytes:
    return "\n".join(["Metadata_cell,Metadata_label,a,b", *rows]).encode()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.txt", b"hello", ["f.txt ends in '.txt'; features are read from .h5ad, .parquet, .csv, .npz"]),
        ("f.h5ad", b"hello", ["f.h5ad cannot be read as .h5ad features"]),
        ("f.parquet", b"hello", ["f.parquet cannot be read as .parquet features"]),
        ("f.npz", b"hello", ["f.npz cannot be read as .npz features"]),
        ("f.csv", b"", ["f.csv cannot be read as .csv features"]),
        ("f.csv", b"a,b\n1,2\n", ["f.csv has no column 'Metadata_cell' (or 'cell')"]),
        ("f.csv", b"cell,b\n1,x\n", ["f.csv has no numeric column besides its metadata"]),
        ("f.csv", features_csv([f"c{i},,1,{i}" for i in range(20)]), ["loo-knn cannot be run", "no labels"]),
        ("f.csv", features_csv([f"c{i},x,1,{i}" for i in range(20)]), ["have one label"]),
        ("f.csv", features_csv([f"c{i},{i % 2},1,{i}" for i in range(5)]), ["k = 11 needs at least 12"]),
        (
            "f.csv",
            features_csv([f"c{i},{i % 2},1,{'nan' if i == 4 else i}" for i in range(20)]),
            ["NaN or infinite", "f.csv", "'c4'"],
        ),
        ("absent.csv", None, ["There is no features file absent.csv"]),
    ],
    ids=[
        *("kind", "h5ad", "parquet", "npz", "empty", "no-cell", "no-feature", "no-label", "one-label", "few", "nan"),
        "absent",
    ],
)
def test_features_that_cannot_be_evaluated_are_a_sentence(say, here, name, content, words):
    if content is not None:
        (here / name).write_bytes(content)
    refused(say("evaluate", name, "--with", "loo-knn", "--out", "out", own=False), *words)
    assert not (here / "out").exists()


def test_wrong_evaluators_parameters_and_columns_are_sentences(say, here):
    (here / "f.csv").write_bytes(features_csv([f"c{i},{i % 2},{i % 7},{i}" for i in range(30)]))
    refused(
        say("evaluate", "f.csv", "--with", "lookn", own=False),
        "There is no evaluator named 'lookn'. Did you mean loo-knn?",
    )
    said = say("evaluate", "f.csv", "--with", "loo-knn", "--exclude", "plate", own=False)
    refused(said, "has no column 'plate' to exclude by", "label")
    said = say("evaluate", "f.csv", "--with", "loo-knn", "--k", "0", own=False)
    refused(said, "k = 0 does not fit loo-knn")
    assert say("evaluate", "f.csv", "--with", "loo-knn", own=False).code == 0


def test_a_column_of_numbers_called_label_is_the_label_and_no_feature(say, here):
    rows = "".join(f"c{i},{i % 2},{(i * 7919) % 31}\n" for i in range(40))
    (here / "f.csv").write_text(f"cell,label,a\n{rows}")
    said = say("evaluate", "f.csv", "--with", "loo-knn", own=False)
    assert said.code == 0, said.err
    assert "40 cells × 1 features" in said.out


def test_features_of_other_cells_are_a_sentence(say, here, write_crops):
    folder = write_crops(crops())
    (here / "f.csv").write_bytes(features_csv([f"c{i},{i % 2},1,{i}" for i in range(20)]))
    arguments = (*RUN, "--dataset", f"folder:{folder}", "--k", "1", "--out", "out", "--features")
    refused(say(*arguments, "file:f.csv", own=False), "f.csv has no features for 12 of 12 cells", "'w0/0'", "'c0'")
    refused(say(*arguments, "file:absent.csv", own=False), "There is no features file absent.csv")
    assert not (here / "out").exists()
