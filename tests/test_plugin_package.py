"""What a stranger writes: the example package, installed by itself, and every plug-in printed in docs/plugins.md."""

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

from pci_bench import extract, load_dataset
from pci_bench.contracts import checked
from pci_bench.evaluators.base import EVALUATORS
from pci_bench.registry import load_plugin_file
from pci_bench.segmentation import SEGMENTERS

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
def registries(own_registries, monkeypatch):
    for one in (EVALUATORS, SEGMENTERS):
        monkeypatch.setattr(one, "_entries", dict(one._entries))


# ---- the plug-ins of the documentation


def loaded(folder: Path, block: str) -> Path:
    file = folder / f"{block}.py"
    file.write_text(BLOCKS[block])
    load_plugin_file(file)
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
    load_plugin_file(DOCS / "example-plugin" / "ring_means.py")
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
    assert Path(site, "ring_means.py").is_file()
    return python


def fresh(python: Path, *arguments: object, cache: Path, cwd: Path) -> Said:
    """Run pci-bench in the fresh environment."""
    command = [python, "-m", "pci_bench", *map(str, arguments)]
    done = subprocess.run(command, env=environment(cache), cwd=cwd, capture_output=True, text=True, timeout=120)
    return Said(done.returncode, done.stdout, done.stderr)


def test_an_installed_package_is_run_and_tested_by_name(python, tmp_path, write_crops):
    rng = np.random.default_rng(0)
    files: dict[str, np.ndarray | str] = {"images.csv": "image,label\nw0,middle\nw1,rim\nw2,middle\nw3,rim\n"}
    y, x = np.mgrid[-1:1:20j, -1:1:20j]
    for image in range(4):
        for cell in range(4):
            protein = (np.hypot(y, x) < 0.5) == (image % 2 == 0)
            for channel, bright in (("gfp", protein), ("rfp", np.hypot(y, x) < 0.8)):
                crop = rng.integers(0, 60, (20, 20)) + 100 * bright
                files[f"w{image}/c{cell}_{channel}.tif"] = crop.astype(np.uint8)
    dataset = f"folder:{write_crops(files)}"
    said = fresh(
        *(python, "run", "yeast-knn", "--dataset", dataset, "--features", "ring-means,intensity", "--k", "3"),
        *("--device", "cpu", "--out", "out"),
        cache=tmp_path / "cache",
        cwd=tmp_path,
    )
    assert said.code == 0, said.err
    (file,) = (tmp_path / "out" / "results").glob("*/ring-means/loo-knn/k=3,exclude=image.json")
    result = json.loads(file.read_text())
    assert result["metrics"]["balanced_accuracy"] == 1
    assert result["features"]["dim"] == 12
    said = fresh(python, "test", "ring-means", cache=tmp_path / "cache", cwd=tmp_path)
    assert said.code == 0, said.out + said.err
    lines = said.out.splitlines()
    assert lines[0].startswith("Feature set ring-means, ")
    assert str(python.parents[1]) in lines[0]  # the installed copy, not the one in the checkout
    assert "  passed          bit-equal in two processes: the same bits as one process, 5 and 6 cells" in lines
    assert lines[-1] == "14 contracts passed, 0 failed, 1 not applicable (these were not tried)."


def test_where_the_package_is_not_installed_its_name_is_unknown(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "describe", "ring-means")
    assert said.code == 2
    assert "nothing named 'ring-means'" in said.err
