"""What a notebook shows of cells, results and runs, and that the three tutorials run."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from factories import make_cells, make_result
from PIL import Image

import pci_bench
from pci_bench.data.pictures import GAP, mosaic, sampled, tile_side
from pci_bench.runs.runner import RunOutput


def picture_of(text: str) -> np.ndarray:
    (data,) = re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


# ---- cells


def test_cells_are_shown_by_a_mosaic_of_a_few_of_them():
    cells = make_cells(60, label=[f"class{i % 5}" for i in range(60)])
    text = cells._repr_html_()
    picture = picture_of(text)
    assert picture.shape == (2 * 16 + GAP, 12 * (16 + GAP) - GAP, 3)
    assert html.escape(repr(cells)) in text
    assert "GFP green, RFP magenta" in text


def test_a_tile_of_a_mosaic_is_the_protein_in_green_and_the_marker_in_magenta():
    crops = np.zeros((2, 2, 4, 4), np.float32)
    crops[0, 0, 1, 1] = crops[1, 1, 2, 2] = 1
    first, second = np.split(mosaic(make_cells(crops=crops), [0, 1]), [4 + GAP], axis=1)
    assert first[1, 1].tolist() == [0, 255, 0]
    assert second[2, 2].tolist() == [204, 0, 204]
    assert (first[:, 4:] == 255).all()  # the gap


def test_a_mosaic_has_every_label_as_often_as_any_other_and_in_their_order():
    labels = np.array(["rare"] * 4 + ["b"] * 40 + ["a"] * 56)
    chosen = labels[sampled(make_cells(100, label=labels), 12)]
    assert chosen.tolist() == ["a"] * 4 + ["b"] * 4 + ["rare"] * 4


def test_large_crops_are_made_smaller():
    cells = make_cells(3, shape=(200, 200))
    assert tile_side(cells) == 64
    assert picture_of(cells._repr_html_()).shape[0] == 64


def test_no_cells_are_shown_by_words_alone():
    assert "<img" not in make_cells(5)[:0]._repr_html_()


def test_names_from_a_file_are_not_taken_for_html():
    text = make_cells(4, name="<script>", label=["<b>", "<b>", "c", "c"])._repr_html_()
    assert "<script>" not in text
    assert "<b>," not in text


@pytest.mark.parametrize("n", [1, 13, 24])
def test_few_cells_make_a_small_mosaic(n):
    assert mosaic(make_cells(n), range(n)).shape[1] == min(n, 12) * (16 + GAP) - GAP


# ---- results


def knn_result(features: str, value: float, exclude: str = "cell", candidates: str = "all", k: int = 11):
    return make_result(
        features={"name": features},
        evaluator={"params": {"k": k, "exclude": exclude, "candidates": candidates}},
        metrics={"balanced_accuracy": value, "accuracy": value / 2},
        intervals={"balanced_accuracy": (value - 0.1, value + 0.1)},
    )


def columns_of(text: str) -> dict[str, list[str]]:
    """Return the columns of the only table of a page by their headers."""
    (table,) = ElementTree.fromstring(f"<div>{text}</div>").iter("table")
    header, *body = (["".join(cell.itertext()) for cell in row] for row in table.iter("tr"))
    return dict(zip(header, zip(*body, strict=True), strict=True))


def a_run() -> RunOutput:
    """Return a run in which the honest column turns the order round."""
    results = [
        knn_result("pci-conv4", 0.5),
        knn_result("pci-conv4", 0.45, "image"),
        knn_result("pci-conv4", 0.48, "image", "balanced"),
        knn_result("intensity", 0.7),
        knn_result("intensity", 0.2, "image", "balanced"),
        knn_result("<i>mine</i>", 0.6, "image", "balanced"),
        knn_result("pci-conv4", 0.99, "image", "balanced", k=5),
    ]
    return RunOutput("yeast-knn", None, results)


def test_results_are_a_table_with_a_row_for_each_and_a_column_for_each_number():
    other = make_result(evaluator={"name": "other", "params": {"pairs": 5}}, metrics={"distance": -0.5})
    results = [*a_run(), other]
    frame = pci_bench.results_frame(results)
    assert len(frame) == len(results)
    for row, result in zip(frame.to_dict("records"), results, strict=True):
        assert (row["dataset"], row["features"], row["evaluator"]) == (
            "planted",
            result.features.name,
            result.evaluator.name,
        )
        for name, value in [*result.evaluator.params.items(), *result.metrics.items()]:
            assert row[name] == value
        for metric, (low, high) in result.intervals.items():
            assert (row[f"{metric}_low"], row[f"{metric}_high"]) == (low, high)
    assert frame["distance"].isna().sum() == len(results) - 1
    assert "distance_low" not in frame  # no result has an interval of it
    assert frame["balanced_accuracy"].dtype == float


def test_a_parameter_that_is_called_as_a_metric_keeps_its_value():
    frame = pci_bench.results_frame(
        [make_result(evaluator={"params": {"accuracy": "fast"}}, metrics={"accuracy": 0.5})]
    )
    assert frame.loc[0, ["accuracy", "param_accuracy"]].tolist() == [0.5, "fast"]


def test_no_results_are_a_table_without_rows():
    assert pci_bench.results_frame([]).shape[0] == 0
    assert a_run().to_frame().equals(pci_bench.results_frame(a_run()))


def test_a_run_is_shown_ranked_by_the_strictest_column_with_controls_marked():
    lines = str(a_run()).splitlines()
    assert "k = 11" in lines[0]
    assert re.split(r"  +", lines[1]) == ["feature set", "other images only, classes balanced", "all other cells"]
    assert [line.split("  ")[0] for line in lines[3:6]] == ["<i>mine</i>", "pci-conv4", "intensity (control)"]
    assert re.split(r"  +", lines[4])[1] == "48.0 [38.0, 58.0]"


def test_a_ranking_is_of_results_with_the_same_settings():
    subset = make_result(
        evaluator={
            "params": {"k": 11, "exclude": "cell", "subset": "few"},
            "defaults": {"subset": "all"},
            "key": ["k"],
        },
        metrics={"balanced_accuracy": 0.3},
    )
    titles = [line for line in str(RunOutput("b", None, [*a_run(), subset])).splitlines() if line.startswith("loo-knn")]
    assert len(titles) == 2
    assert titles[1] == "loo-knn, k = 11, subset = few, on planted (1,000 cells): balanced accuracy (%)"


def test_progress_is_silent_unless_it_is_asked_for(capsys):
    cells = make_cells(4)
    pci_bench.extract("intensity", cells)
    assert capsys.readouterr() == ("", "")
    pci_bench.extract("intensity", cells, progress=True, refresh="always")
    assert "extracting intensity" in capsys.readouterr().err


def test_feature_sets_are_named_by_a_list_or_a_text_alike(write_crops):
    rng = np.random.default_rng(0)
    crops = {
        f"{image}/{cell}_{channel}.png": rng.integers(0, 255, (16, 16), np.uint8)
        for image in ("a1", "a2", "b1", "b2")
        for cell in range(3)
        for channel in ("gfp", "rfp")
    }
    folder = write_crops(crops | {"images.csv": "image,label\na1,a\na2,a\nb1,b\nb2,b\n"})
    text, named = (
        pci_bench.run("yeast-knn", dataset=f"folder:{folder}", features=features, k=1)
        for features in ("intensity, noise", ["intensity", "noise"])
    )
    assert [r.metrics for r in text] == [r.metrics for r in named]
    assert list(dict.fromkeys(r.features.name for r in text)) == ["intensity", "noise"]


def test_a_notebook_shows_the_same_table_and_takes_no_name_for_html():
    text = a_run()._repr_html_()
    table = columns_of(text)
    assert table["feature set"] == ("<i>mine</i>", "pci-conv4", "intensity (control)")
    assert table["all other cells"] == ("–", "50.0 [40.0, 60.0]", "70.0 [60.0, 80.0]")


def test_a_result_is_one_line_and_one_row():
    result = knn_result("intensity", 0.25)
    assert repr(result) == str(result)
    assert "intensity on planted, 1,000 cells: balanced accuracy 25.0 % [15.0, 35.0], accuracy 12.5 %" in repr(result)
    table = columns_of(result._repr_html_())
    assert [table[c] for c in ("features", "k", "balanced_accuracy")] == [("intensity",), ("11",), ("0.250",)]


# ---- tutorials

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"


@pytest.fixture(scope="module")
def kernel_environment(tmp_path_factory) -> dict[str, str]:
    """A cache of its own, and nothing of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("tutorials")
    places = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    return {
        **{name: value for name, value in os.environ.items() if name != "MPLBACKEND"},
        **{name: str(folder / name.lower()) for name in places},
        "PCI_BENCH_CACHE": str(folder / "cache"),
        "PCI_BENCH_DATA": str(folder),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture
def with_organelles(kernel_environment, real_organelles) -> dict[str, str]:
    """The same with the images that a user's tutorials fetch."""
    return kernel_environment | real_organelles


def executed(name: str, environment: dict[str, str], folder: Path) -> list[str]:
    """Run a tutorial in a kernel of its own, and return what its cells show, as HTML or text, "picture" for a figure."""
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install 'pci-bench[test]'")
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install 'pci-bench[test]'")
    notebook = nbformat.read(TUTORIALS / f"{name}.ipynb", as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    shown = []
    for output in (output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs):
        data = output.get("data", {})
        assert output.output_type != "error"
        if output.output_type == "stream" and output.name == "stderr":
            assert "Warning" not in output.text, output.text
        shown.append("picture" if "image/png" in data else data.get("text/html", data.get("text/plain", "")))
    return shown


@pytest.mark.parametrize("file", sorted(TUTORIALS.glob("*.ipynb")), ids=lambda file: file.stem)
def test_tutorials_are_kept_without_their_outputs(file):
    for cell in json.loads(file.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
            assert len("".join(cell["source"]).splitlines()) <= 30


def test_the_tutorial_on_real_cells_runs(with_organelles, tmp_path):
    shown = executed("real-cells", with_organelles, tmp_path)
    assert shown.count("picture") == 3
    assert sum("data:image/png" in text for text in shown) == 1  # the cells themselves
    assert sum("intensity <i>(control)</i>" in text for text in shown) == 1  # the ranking of the run


def test_the_tutorial_on_a_model_of_ones_own_runs(with_organelles, tmp_path):
    shown = executed("own-model", with_organelles, tmp_path)
    assert shown.count("picture") == 1
    assert "my-network" in shown[-1]


def test_the_tutorial_on_images_of_ones_own_runs(kernel_environment, tmp_path):
    shown = executed("own-images", kernel_environment, tmp_path)
    assert shown.count("picture") == 2
    assert any("my-screen" in text for text in shown)
