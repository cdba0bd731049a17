"""Where tools are run: no home folder, places that can be read only, paths and names that no file system holds."""

from __future__ import annotations

import os
from pathlib import Path

import pci_bench_baselines
import pytest
from command_line import pci_bench
from faults import FEW, RUN, Fault, crops, noted, refused, with_crops, write

from pci_bench import UserError, extract, load_dataset, run
from pci_bench.system import compilation, files, places
from pci_bench.system.files import user_path

LONG, DEEP, TILDE = "x" * 300, "/".join(["y" * 200] * 25), "~nosuchuser/x"
EVALUATION = (*RUN, "--dataset", "folder:crops", *FEW)
TOO_LONG, IN_A_CIRCLE, NO_SUCH_HOME = ("is too long", "255 bytes"), ("in a circle",), ("no home folder of this user",)


def loop(folder: Path) -> None:
    write(folder / "crops", crops())
    (folder / "loop").symlink_to("loop")


def with_folder(name: str):
    def arrange(folder: Path) -> None:
        write(folder / "crops", crops())
        (folder / name).mkdir(parents=True)

    return arrange


def path_faults(what: str, path: str, words: tuple[str, ...], arrange, *only: str) -> list[Fault]:
    """Return the fault of one path for every command that takes one, or only for these: all ask `user_path`."""
    commands = {
        "dataset": ("data", "get", f"folder:{path}"),
        "out": (*EVALUATION, "--out", path),
        "features": (*RUN, "--dataset", "folder:crops", "--features", f"file:{path}"),
        "annotations": (*EVALUATION, "--annotations", path),
        "plugin": ("list", "datasets", "--plugin", path),
        "extract": ("extract", "intensity", "--dataset", "folder:crops", "--out", f"{path}.csv"),
        "evaluate": ("evaluate", path, "--with", "loo-knn"),
        "report": ("report", path),
        "table": ("table", "table1", "--results", path),
        "leaderboard": ("leaderboard", path),
        "compare": ("compare", path, path),
        "tolerance": ("compare", "expected", "expected", "--tolerance", path),
        "junit": ("compare", "expected", "expected", "--junit", path),
        "gate": ("gate", "--accept", path),
        "from": ("run", "--from", path, "--out", "o"),
        "import": ("weights", "import", "keras-pci", path),
    }
    return [Fault(f"{what}: {name}", commands[name], words, arrange) for name in only or commands]


FAULTS = [
    *path_faults("nobody's home", TILDE, NO_SUCH_HOME, with_crops()),
    *path_faults("too long a name", LONG, TOO_LONG, with_crops(), "dataset", "out", "plugin", "extract", "junit"),
    *path_faults("too long a path", DEEP, TOO_LONG, with_crops(), "dataset", "report"),
    *path_faults("a loop of links", "loop", IN_A_CIRCLE, loop, "dataset", "out", "plugin", "features", "from", "gate"),
    Fault("features into a folder", ("extract", "intensity", "--dataset", "folder:crops", "--out", "d.csv"), ("Could not write d.csv: it is a folder",), with_folder("d.csv")),
    Fault("a report into a folder", ("report", "crops", "--out", "d"), ("Could not write d: it is a folder",), with_folder("d")),
    Fault("JUnit into a folder", ("compare", "expected", "expected", "--junit", "."), ("Could not write .: it is a folder",)),
    Fault("run.json is a folder", (*EVALUATION, "--out", "o"), ("Could not write", "run.json: it is a folder"), with_folder("o/run.json")),
    Fault("JUnit to a device", ("compare", "expected", "expected", "--junit", "/dev/null"), ("Could not write /dev/null: it is a device",)),
    Fault("evaluate into a file, told before the features are read", ("evaluate", "f.csv", "--with", "loo-knn", "--out", "f.csv"), ("part of the path is a file",), lambda f: write(f, {"f.csv": "no table"})),
    Fault("a dataset's path is not UTF-8", ("data", "get", "folder:bad\udcff"), ("'bad\\udcff' is not UTF-8", "Rename it")),
    Fault("features' path is not UTF-8", ("evaluate", "bad\udcff.csv", "--with", "loo-knn"), ("is not UTF-8",)),
    Fault("an image's name is not UTF-8", EVALUATION, ("'bad\\udcff/0_gfp.tif' is not UTF-8",), lambda f: write(f / "crops", crops() | {f"bad\udcff/0{s}.tif": crops()["w0/0_gfp.tif"] for s in ("_gfp", "_rfp")})),
    Fault("an output folder's name is not UTF-8", (*EVALUATION, "--out", "bad\udcff"), ("Results, tables and figures: bad",), with_crops(), code=0, own=True),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


@pytest.mark.parametrize("variable", ["PCI_BENCH_CACHE", "PCI_BENCH_DATA"])
@pytest.mark.parametrize(
    ("value", "words"), [(TILDE, "no home folder"), (LONG, "too long"), ("loop", "in a circle"), ("b\udcff", "UTF-8")]
)
def test_a_variable_that_names_no_place_is_a_sentence(say, here, monkeypatch, variable, value, words):
    loop(here)
    monkeypatch.setenv(variable, value)
    refused(say("data", "get", "chong2015", own=False), variable, words)


@pytest.mark.parametrize("value", ["", "relative", "absent/folder"])
def test_a_cache_named_in_any_way_is_made(say, here, monkeypatch, value):
    monkeypatch.setenv("XDG_CACHE_HOME", str(here / "xdg"))
    monkeypatch.setenv("PCI_BENCH_CACHE", value)
    write(here / "crops", crops())
    noted(say("data", "get", "folder:crops", own=False), "12 cells")
    assert list((here / (value or "xdg")).rglob("store.json"))


@pytest.mark.parametrize("name", ["a b\n\r'\":*?=%41,[red]a[/]é😀", "-x"])
def test_an_output_folder_of_any_name_holds_the_run(say, here, name):
    write(here / "crops", crops())
    noted(say(*EVALUATION, f"--out={name}", own=False))
    assert (here / name / "run.json").is_file()


@pytest.mark.parametrize(
    "call",
    [
        lambda: load_dataset("folder:a\0b"),
        lambda: run("yeast-knn", dataset="folder:crops", features="intensity", out="a\0b", device="cpu"),
        lambda: run("yeast-knn", dataset="folder:crops", features="file:a\0b", device="cpu"),
        lambda: run("yeast-knn", dataset="folder:crops", annotations="a\0b", device="cpu"),
        lambda: extract("file:a\0b", "folder:crops"),
    ],
    ids=["dataset", "out", "features", "annotations", "extract"],
)
def test_a_nul_character_in_python_is_a_sentence(here, call):
    write(here / "crops", crops())
    with pytest.raises(UserError, match="NUL character"):
        call()


def test_a_path_starts_at_the_home_folder_where_it_begins_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/x", "--out") == tmp_path / "x"


def test_a_relative_path_where_the_current_folder_is_gone_is_a_sentence(say, here, monkeypatch):
    (here / "gone").mkdir()
    monkeypatch.chdir(here / "gone")
    (here / "gone").rmdir()
    refused(say("data", "get", "folder:crops", own=False), "the current folder, which is gone", "whole path")
    monkeypatch.setenv("PCI_BENCH_CACHE", "cache")
    refused(say("weights", "list", own=False), "PCI_BENCH_CACHE", "which is gone")


# ---- machines without a home folder


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, and a user that the system does not know."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "NUMBA_CACHE_DIR", "MPLCONFIGDIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, "")  # so that what a test sets is taken back
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])


def test_libraries_keep_in_our_cache_what_they_cannot_keep_at_home(homeless, cache):
    places.give_places_to_libraries()
    assert os.environ["NUMBA_CACHE_DIR"] == str(cache / "libraries" / "numba_cache_dir")
    assert os.environ["MPLCONFIGDIR"] == str(cache / "libraries" / "mplconfigdir")


def test_libraries_with_a_home_folder_are_left_alone(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MPLCONFIGDIR", "mine")
    places.give_places_to_libraries()
    assert "NUMBA_CACHE_DIR" not in os.environ
    assert os.environ["MPLCONFIGDIR"] == "mine"


def test_without_any_place_a_cache_is_asked_for(say, homeless, monkeypatch):
    monkeypatch.delenv("PCI_BENCH_CACHE")
    places.give_places_to_libraries()
    refused(say("weights", "list", own=False), "There is no home folder", "Set PCI_BENCH_CACHE")


def test_what_numba_has_no_place_to_keep_is_compiled_all_the_same(monkeypatch):
    import numba.core.caching

    monkeypatch.setattr(numba.core.caching._CacheLocator, "ensure_cache_path", refuse)
    assert compilation.compiled(nogil=True)(add_one).py_func is add_one


def refuse(locator) -> None:
    raise OSError(30, "Read-only file system")


def add_one(x):
    return x + 1


def test_every_compiled_function_falls_back():
    modules = [f for p in (files, pci_bench_baselines) for f in Path(p.__file__).parent.rglob("*.py")]
    assert [f.name for f in modules if "numba.njit" in f.read_text(encoding="utf-8")] == ["compilation.py"]


def test_a_read_only_cache_with_everything_in_it_is_read(say, here, cache, reader):
    write(here / "crops", crops())
    arguments = (*RUN, "--dataset", f"folder:{here / 'crops'}", *FEW, "--out")
    noted(say(*arguments, "first", own=False))
    before = {p: p.stat().st_mtime_ns for p in cache.rglob("*")}
    noted(reader(*arguments, "mine/second", cache=cache, TMPDIR="/nonexistent"), "Results, tables and figures")
    assert {p: p.stat().st_mtime_ns for p in cache.rglob("*")} == before
    (mine,) = (here / "mine" / "second" / "results").rglob("k=1,exclude=cell.json")
    assert mine.relative_to(here / "mine" / "second") in [
        p.relative_to(here / "first") for p in (here / "first").rglob("*.json")
    ]


def test_an_image_table_is_utf8_in_every_locale(here, cache):
    table = "image,label\n" + "".join(f"w{i},{'×²'[i % 2]}\n" for i in range(4))
    write(here / "crops", crops() | {"images.csv": table})
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    noted(pci_bench("data", "get", "folder:crops", cache=cache, cwd=here, **ascii_only), "12 cells")
