"""What plug-in authors write: the example package, installed by itself, and every plug-in printed in docs/plugins.md."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest
from command_line import Said, call, environment
from files_in_folders import write

from pci_bench import extract, load_dataset
from pci_bench.api.plugins import load_plugin
from pci_bench.conformance import checked

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCKS = {
    block.split(".py: ")[0]: f'"""{block}'
    for block in re.findall(r'^```python\n"""(.*?)^```$', (DOCS / "plugins.md").read_text(), re.DOTALL | re.MULTILINE)
}
NAMES = {
    "edges": ["edges"],
    "two_layers": ["two-layers-first", "two-layers-second"],
    "discs": ["discs"],
    "silhouette": ["silhouette"],
    "bright_middle": ["bright-middle"],
}


@pytest.fixture
def registries(own_registries):
    """Let every test register what it likes."""


# ---- the plug-ins of the documentation


def loaded(folder: Path, block: str) -> Path:
    file = folder / f"{block}.py"
    file.write_text(BLOCKS[block])
    load_plugin(file)
    return file


def test_the_documentation_prints_one_plug_in_of_each_kind():
    assert sorted(BLOCKS) == sorted(NAMES)


@pytest.mark.parametrize("block", NAMES)
def test_a_printed_plug_in_keeps_all_contracts(tmp_path, registries, block):
    file = loaded(tmp_path, block)
    for name in NAMES[block]:
        found = list(checked(name))
        assert [f for f in found if f.state == "failed"] == []
        assert len([f for f in found if f.state == "passed"]) >= 6
        assert str(file) in found[0].subject


def test_printed_plug_ins_work_together_in_one_run(tmp_path, registries, capsys, monkeypatch):
    """The dataset, both feature sets and the evaluator, as a user would call them; discs and rings are told apart."""
    plugins = [part for block in NAMES for part in ("--plugin", loaded(tmp_path, block))]
    run = (
        "run",
        "yeast-knn",
        "--dataset",
        "discs",
        "--features",
        "edges,two-layers,intensity",
        "--k",
        "5",
        "--device",
        "cpu",
    )
    said = call(capsys, monkeypatch, *run, "--out", tmp_path / "out", *plugins)
    assert said.code == 0, said.err
    results = [json.loads(file.read_text()) for file in (tmp_path / "out").rglob("k=5,exclude=image.json")]
    accuracy = {r["features"]["name"]: r["metrics"]["balanced_accuracy"] for r in results}
    assert set(accuracy) == {"edges", "two-layers-first", "two-layers-second", "intensity"}
    assert accuracy["intensity"] > 0.95  # a ring is darker than a disc
    file = tmp_path / "edges.h5ad"
    assert call(capsys, monkeypatch, "extract", "edges", "--dataset", "discs", "--out", file, "--device", "cpu", *plugins).code == 0  # fmt: skip
    said = call(capsys, monkeypatch, "evaluate", file, "--with", "silhouette", *plugins)
    assert said.code == 0, said.err
    assert "silhouette" in said.out


def test_the_readme_of_the_example_is_linked_and_its_feature_set_is_what_a_loop_finds(tmp_path, own_registries):
    assert "example-plugin/README.md" in (DOCS / "plugins.md").read_text()
    load_plugin(DOCS / "example-plugin" / "rings" / "ring_means.py")
    loaded(tmp_path, "discs")
    cells = load_dataset("discs")[:3]
    adata = extract("ring-means", cells)
    crops = cells.crops(slice(None))
    places = sorted(((y - 15.5) ** 2 + (x - 15.5) ** 2, y, x) for y in range(32) for x in range(32))
    assert list(adata.var_names)[:2] == ["GFP_ring1", "GFP_ring2"]
    for ring, part in enumerate(np.array_split(np.array(places), 6)):
        y, x = part[:, 1].astype(int), part[:, 2].astype(int)
        np.testing.assert_allclose(adata[:, f"GFP_ring{ring + 1}"].X[:, 0], crops[:, 0, y, x].mean(axis=1), rtol=1e-5)


# ---- the example package


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of a fresh environment with the example installed; its dependencies are those of the running one."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # by addsitedir, which reads the .pth files there too: ours is an editable installation
    borrowed = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    Path(site, "borrowed.pth").write_text(borrowed)
    shutil.copytree(DOCS / "example-plugin", folder / "source")
    install = ("-m", "pip", "--python", python, "install", "--no-deps", "--no-build-isolation", "--no-index")
    done = subprocess.run(
        [sys.executable, *install, "--disable-pip-version-check", folder / "source"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert Path(site, "rings", "benchmarks", "rings.toml").is_file()
    return python


ONE_AFTER_ANOTHER = """
import json, sys
from pci_bench.cli import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["pci-bench", *words]
    main()
"""


def fresh(python: Path, folder: Path, *commands: tuple[object, ...]) -> Said:
    """Run commands in one process of the fresh environment, until one fails; their cache is in the folder."""
    words = json.dumps([list(map(str, command)) for command in commands])
    done = subprocess.run(
        [python, "-c", ONE_AFTER_ANOTHER, words],
        env=environment(folder / "cache"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def disc_and_rim(tmp_path_factory) -> str:
    """The name of a dataset: four images of four cells, the protein in the middle or at the rim."""
    rng = np.random.default_rng(0)
    files: dict[str, np.ndarray | str] = {"images.csv": "image,label\nw0,middle\nw1,rim\nw2,middle\nw3,rim\n"}
    y, x = np.mgrid[-1:1:20j, -1:1:20j]
    for image in range(4):
        for cell in range(4):
            protein = (np.hypot(y, x) < 0.5) == (image % 2 == 0)
            for channel, bright in (("gfp", protein), ("rfp", np.hypot(y, x) < 0.8)):
                crop = rng.integers(0, 60, (20, 20)) + 100 * bright
                files[f"w{image}/c{cell}_{channel}.tif"] = crop.astype(np.uint8)
    return f"folder:{write(tmp_path_factory.mktemp('discs') / 'crops', files)}"


def test_an_installed_package_is_run_and_tested_by_name(python, tmp_path, disc_and_rim):
    run = ("run", "yeast-knn", "--dataset", disc_and_rim, "--features", "ring-means,intensity", "--k", "3")
    said = fresh(python, tmp_path, (*run, "--device", "cpu", "--out", "out"), ("test", "ring-means"))
    assert said.code == 0, said.out + said.err
    (file,) = (tmp_path / "out" / "results").glob("*/ring-means/loo-knn/k=3,exclude=image.json")
    result = json.loads(file.read_text())
    assert result["metrics"]["balanced_accuracy"] == 1
    assert result["features"]["dim"] == 12
    lines = said.out.splitlines()
    (tested,) = [line for line in lines if line.startswith("Feature set ring-means, ")]
    assert str(python.parents[1]) in tested  # the installed copy, not the one in the checkout
    assert "  passed          bit-equal in two processes: the same bits as one process, 5 and 6 cells" in lines
    assert lines[-1] == "15 contracts passed, 0 failed, 1 not applicable (these were not tried)."


@pytest.fixture(scope="module")
def rings(python, disc_and_rim, tmp_path_factory) -> tuple[Said, Path]:
    """What the package's benchmark says, and a folder with what it leaves in ``out`` and with its report."""
    folder = tmp_path_factory.mktemp("rings")
    run = ("run", "rings", "--dataset", disc_and_rim, "--device", "cpu", "--out", "out", "--tables")
    said = fresh(python, folder, run, ("report", "out", "--out", "installed.html"))
    assert said.code == 0, said.err
    return said, folder


def test_an_installed_package_brings_a_benchmark_with_its_table_and_figure(rings, capsys, monkeypatch):
    said, folder = rings
    assert "Silhouettes of the classes" in said.out
    out = folder / "out"
    assert re.search(r"^\| ring-means +\|", (out / "tables" / "silhouettes.md").read_text(), re.MULTILINE)
    assert (out / "figures" / "silhouettes.png").stat().st_size > 0
    said = call(capsys, monkeypatch, "leaderboard", out)  # results are ranked without the plug-in that made them
    assert said.code == 0, said.err
    assert "class-silhouette" in said.out


def rows_of(report: Path) -> list[list[str]]:
    """Return the rows of all tables of a page as texts."""
    page = re.sub(r"<script.*?</script>", "", report.read_text(encoding="utf-8"), flags=re.DOTALL)
    rows = re.findall(r"<tr.*?</tr>", page, re.DOTALL)
    return [[re.sub(r"<.*?>", "", c).strip() for c in re.findall(r"<t[dh].*?</t[dh]>", r, re.DOTALL)] for r in rows]


def test_results_of_a_package_are_reported_as_they_are_where_it_is_not_installed(rings, capsys, monkeypatch):
    """Only the table that the package declares is missing."""
    _, folder = rings
    out, installed = folder / "out", folder / "installed.html"
    said = call(capsys, monkeypatch, "report", out)
    assert said.code == 0, said.err
    report = out / "report.html"
    rows = rows_of(report)
    declared = [["feature set", "Euclidean", "cosine"], ["ring-means"], ["intensity"]]
    assert [r[: len(d)] for r, d in zip(rows_of(installed), declared, strict=False)] == declared
    assert rows == rows_of(installed)[len(declared) :]
    for file in (out / "results").rglob("*.json"):
        result = json.loads(file.read_text())
        number = f"{result['metrics']['silhouette']:.3f}"  # as the package's evaluator declares
        assert [result["features"]["name"], f"metric={result['evaluator']['params']['metric']}", number] in rows
    assert "silhouettes" in report.read_text(encoding="utf-8")  # the figure that the run drew


def test_an_installed_package_brings_a_model_with_an_objective_of_its_own(python, tmp_path, disc_and_rim):
    recipe = ("--epochs", "2", "--width", "0.1", "--batch", "4", "--held-out", "0.25", "--learning-rate", "1e-3")
    train = ("train", "two-views", "--dataset", disc_and_rim, *recipe, "--name")
    run = ("run", "yeast-knn", "--dataset", disc_and_rim, "--features", "two-views@mine", "--k", "1", "--device", "cpu")
    said = fresh(python, tmp_path, (*train, "mine"), (*train, "again"), (*run, "--out", "out"))
    assert said.code == 0, said.err
    assert "normalised temperature-scaled cross-entropy" in (tmp_path / "cache/weights/two-views@mine.md").read_text()
    first, second = ((tmp_path / f"cache/weights/two-views@{n}.json").read_text() for n in ("mine", "again"))
    assert [h["loss"] for h in json.loads(first)["history"]] == [h["loss"] for h in json.loads(second)["history"]]


@pytest.mark.usefixtures("without_figures")
def test_a_folder_is_a_plug_in_too_and_a_benchmark_can_be_a_file(tmp_path, registries, capsys, monkeypatch):
    (tmp_path / "mine" / "benchmarks").mkdir(parents=True)
    shutil.copy(DOCS / "example-plugin" / "rings" / "ring_means.py", tmp_path / "mine" / "features.py")
    (tmp_path / "discs.py").write_text(BLOCKS["discs"])
    declaration = """[%s]
title = "Discs"
datasets = ["discs"]
features = ["ring-means"]
evaluate = [{ name = "loo-knn", k = [3], exclude = ["cell"] }]
"""
    (tmp_path / "mine" / "benchmarks" / "any.toml").write_text(declaration % "mine")
    (tmp_path / "other.toml").write_text(declaration % "other")
    plugins = ("--plugin", tmp_path / "mine", "--plugin", tmp_path / "discs.py")
    for benchmark in ("mine", tmp_path / "other.toml"):
        out = tmp_path / "out" / Path(benchmark).stem
        said = call(capsys, monkeypatch, "run", benchmark, "--out", out, "--device", "cpu", *plugins)
        assert said.code == 0, said.err
        assert len(list((out / "results").rglob("*.json"))) == 1


def test_a_folder_without_a_plug_in_is_a_sentence(tmp_path, capsys, monkeypatch):
    said = call(capsys, monkeypatch, "list", "features", "--plugin", tmp_path)
    assert said.code == 2
    assert "holds no Python file" in said.err


def test_where_the_package_is_not_installed_its_name_is_unknown(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "describe", "ring-means")
    assert said.code == 2
    assert "nothing named 'ring-means'" in said.err
