"""What a run answers: feature sets ranked by the strictest column, and nothing that nobody asked for."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from command_line import call, refused
from factories import make_result
from rich.console import Console

from pci_bench.benchmarks import BENCHMARKS
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables.answer import answer, ranking_of
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.ranking import Kind, kind_of, ranked, strictest
from pci_bench.runs.results import read_results


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """Two classes of four images, told apart by the brightness of their protein, with a structure that drifts from image to image."""
    folder, rng = tmp_path_factory.mktemp("two") / "crops", np.random.default_rng(0)
    rows = ["image,label"]
    for image in range(8):
        label = ("nucleus", "cytosol")[image % 2]
        rows.append(f"well{image},{label}")
        for cell in range(6):
            for channel in ("gfp", "rfp"):
                (folder / f"well{image}").mkdir(parents=True, exist_ok=True)
                bright = 90 * (label == "nucleus") * (channel == "gfp") + 5 * image
                pixels = (rng.integers(20, 60, (64, 64)) + bright).astype(np.uint8)
                tifffile.imwrite(folder / f"well{image}" / f"c{cell}_{channel}.tif", pixels)
    (folder / "images.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def run(crops, tmp_path, monkeypatch, capsys, without_figures):
    """Run a benchmark on the two classes."""
    monkeypatch.setenv("PCI_BENCH_CACHE", str(crops.parent / "cache"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: call(
        capsys, monkeypatch, "run", *arguments, "--dataset", f"folder:{crops}", "--out", "out"
    )


def test_a_neutral_benchmark_shows_what_was_run_and_nothing_else(run, tmp_path):
    said = run("knn", "--features", "noise,intensity,raw-pixels", "--k", "3,5")
    assert said.code == 0, said.err
    for file in (tmp_path / "out" / "tables").iterdir():
        assert file.stem == "knn"
        text = file.read_text()
        assert "not run" not in text.lower()
        assert "encoder" not in text
    header, _, *rows = (tmp_path / "out" / "tables" / "knn.md").read_text().split("\n\n")[1].splitlines()
    assert [cell.strip() for cell in header.strip("|").split("|")] == [
        "feature set",
        *(f"k = {k}, other images only, classes balanced" for k in (3, 5)),
        *(f"k = {k}" for k in (3, 5)),
    ]
    assert {row.split("|")[1].strip() for row in rows} == {
        "intensity",
        "noise",
        "raw-pixels",
        "chance (permuted labels)",
    }


def test_the_rows_fall_in_the_strictest_column(run, tmp_path):
    assert run("knn", "--features", "noise,intensity,raw-pixels,pci-random").code == 0
    balanced = {
        r.features.full_name: r.metrics["balanced_accuracy"]
        for r in read_results(tmp_path / "out")
        if r.evaluator.params["candidates"] == "balanced"
    }
    rows = (tmp_path / "out" / "tables" / "knn.md").read_text().split("\n\n")[1].splitlines()[2:]
    values = {row.split("|")[1].strip(): float(row.split("|")[2].split()[0]) for row in rows}
    of_controls = list(values.values())[:-1]
    assert of_controls == sorted(of_controls, reverse=True)
    for name in ("noise", "intensity", "raw-pixels"):
        assert values[name] == pytest.approx(100 * balanced[name], abs=0.05)


def test_a_benchmark_in_a_file_that_names_no_table_is_ranked_too(run, tmp_path, own_registries):
    (tmp_path / "mine.toml").write_text(
        '[mine]\ntitle = "Mine"\ndatasets = []\nfeatures = ["noise", "classic-haralick"]\n'
        'evaluate = [{ name = "loo-knn", k = 3, exclude = ["cell", "image"] }]\n'
    )
    said = run("mine.toml")
    assert said.code == 0, said.err
    assert "2 classes: balanced accuracy in % (loo-knn, k = 3)" in said.out
    assert re.search(r"other images only +all other cells", said.out)
    texture, controls, noise = (said.out.index(word) for word in ("classic-haralick", "\ncontrols", "noise"))
    assert texture < controls < noise


def test_distances_are_ranked_where_no_protein_is_named(run, tmp_path):
    said = run("distances", "--features", "noise,intensity")
    assert said.code == 0, said.err
    results = {r.features.name: r for r in read_results(tmp_path / "out")}
    assert {name: r.details["unit"] for name, r in results.items()} == {"noise": "image", "intensity": "image"}
    assert results["intensity"].metrics["normalized_distance"] < results["noise"].metrics["normalized_distance"]
    assert "Less is better." in said.out


def test_without_a_dataset_a_neutral_benchmark_asks_for_one(capsys, monkeypatch):
    for name in ("knn", "classifiers", "distances", "umap"):
        assert BENCHMARKS.get(name).datasets == ()
        refused(call(capsys, monkeypatch, "run", name), "--dataset folder:PATH")


def test_missing_rows_of_a_paper_are_one_line_and_its_tables_are_printed_on_request(run):
    brief = run("yeast-knn", "--features", "noise,intensity")
    assert brief.code == 0
    assert "Table 1" not in brief.out
    assert len([line for line in brief.out.splitlines() if "not asked for" in line]) == 1
    assert brief.out.splitlines()[-2:] == [
        "Results, tables and figures: out",
        "As one page for a browser: pci-bench report out",
    ]
    full = run("yeast-knn", "--features", "noise,intensity", "--tables")
    assert full.out.index("balanced accuracy in %") < full.out.index("Table 1:") < full.out.index("Results, tables")


def test_at_any_width_names_and_headers_are_whole(run, tmp_path):
    assert run("yeast-knn", "--features", "noise,intensity,classic-haralick,pci-random").code == 0
    results = read_results(tmp_path / "out")
    (table,) = TABLES.get("supplementary-table1").filled(results, {})
    for width in (60, 80, 120):
        console = Console(width=width, record=True, file=io.StringIO())
        for part in answer(table, {}, width):
            if not isinstance(part, str):
                console.print(part)
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width
        names = {line[2:].split("  ")[0] for line in lines if line.startswith(("* ", "  "))}
        assert {"noise", "intensity", "classic-haralick", "pci-random-conv1 (3 seeds)"} <= names
        assert "classes balanced" in "\n".join(lines)


def test_the_last_of_the_strictest_exclusions_with_the_default_k_is_the_strictest_column():
    everything, plain, balanced = Candidates(), Candidates("image"), Candidates("image", balanced=True)
    headers = [(f"k = {k}", c) for c in (everything, balanced, plain) for k in (1, 11)]
    params = [{"k": k} for _ in range(3) for k in (1, 11)]
    assert strictest(headers, params, 11) == 3
    assert strictest(headers, params, None) == 2
    assert strictest(headers[:2], params[:2], 11) == 1


def test_where_less_is_better_the_least_is_first():
    from pci_bench.reporting.tables.fill import Entry

    rows = [("a", [Entry(3.0)]), ("b", [Entry(-1.0)]), ("none", [None]), ("c", [Entry(2.0)])]
    found = ranked(rows, 0, higher_is_better=False)
    assert [name for name, _ in found[Kind.features]] == ["b", "c", "a"]


def test_supervised_features_and_controls_do_not_compete():
    kinds = {
        name: kind_of(name) for name in ("deeploc-fc2@yeast-sim", "intensity", "designed-true-masks", "file:mine.csv")
    }
    assert list(kinds.values()) == [Kind.supervised, Kind.control, Kind.true_masks, Kind.features]


def test_runs_on_different_data_do_not_share_a_folder_and_one_table_shows_both(run, crops, capsys, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(crops.parent / "cache"))
    for name in (crops, f"{crops}?confounder=label"):
        words = ("run", "knn", "--features", "intensity", "--set", "exclude=cell", "--dataset", f"folder:{name}")
        said = call(capsys, monkeypatch, *words)
        assert said.code == 0, said.err
    folders = sorted(Path("runs/knn").iterdir())
    assert [len({r.dataset.name for r in read_results(folder)}) for folder in folders] == [1, 1]
    table = call(capsys, monkeypatch, "table", "knn")
    assert table.out.count("## Labels by leave-one-out kNN") == 2
    assert call(capsys, monkeypatch, "report", "runs/knn").code == 0
    assert Path("runs/knn/report.html").is_file()


def test_a_control_that_is_as_good_as_every_feature_set_is_said():
    def said(**values):
        results = [
            make_result(dataset={"classes": {"a": 5, "b": 5}}, features={"name": n}, metrics={"balanced_accuracy": v})
            for n, v in values.items()
        ]
        (table,) = ranking_of(results)
        return " ".join(part for part in answer(table, {}, 110) if isinstance(part, str))

    assert "No feature set is ahead of the control intensity, not even designed" in said(
        designed=0.5, mine=0.4, intensity=0.9
    )
    assert "the control" not in said(designed=0.9, mine=0.4, intensity=0.5)
    assert "the control" not in said(noise=0.9, intensity=0.5)
