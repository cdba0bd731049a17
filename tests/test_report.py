"""The report: one file that works offline, says what the results say, and never breaks on what is missing."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import painted
import pandas as pd
import pytest
from command_line import call, pci_bench
from painted import CLASSES, CROPLESS, FEATURES, registered, write_folder
from PIL import Image
from report_page import Page

from pci_bench import UserError
from pci_bench.api import loading
from pci_bench.data import cells as cells_module
from pci_bench.data.pictures import coloured, stratified
from pci_bench.datasets import DATASETS
from pci_bench.reporting.html import cells as report_cells
from pci_bench.reporting.html import write_report
from pci_bench.reporting.html.cells import Shown, smallest
from pci_bench.reporting.html.classes import confused_pairs
from pci_bench.reporting.html.words import exclusion
from pci_bench.runs import runner
from pci_bench.runs.recalls import Predictions, recall_intervals
from pci_bench.runs.results import read_results, write_result


@pytest.fixture(scope="module")
def painted_run(tmp_path_factory):
    """A folder of results on the painted cells, and the cache that holds their store and features."""
    root = tmp_path_factory.mktemp("painted")
    with registered(root / "cache"):
        write_folder(root / "run")
        write_report(root / "run")  # the page of tests that change nothing
        yield root


@pytest.fixture
def folder(painted_run, tmp_path, monkeypatch):
    """A copy of the output folder, its cache in use."""
    monkeypatch.setenv("PCI_BENCH_CACHE", str(painted_run / "cache"))
    shutil.copytree(painted_run / "run", tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    return tmp_path / "run"


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def page(painted_run) -> Page:
    """The page of the folder as it is."""
    return Page((painted_run / "run" / "report.html").read_text(encoding="utf-8"))


def test_the_page_is_one_file_that_names_no_address(page):
    assert [link for link in page.links if not link.startswith(("#", "data:"))] == []
    styles = "".join(re.findall(r"<style>(.*?)</style>", page.html, re.S))
    assert set(re.findall(r"url\(\s*[\"']?(.{5})", styles)) == {"data:"}
    assert "@import" not in styles
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.html)[1]
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    ids = re.findall(r'\sid="([^"]+)"', page.html)
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(ids)


def test_tables_hold_the_numbers_of_the_results_with_their_intervals(folder, page):
    table = next(t for t in page.tables if t[0][:2] == ["feature set", "parameters"] and "macro f1 (%)" in t[0])
    rows = {(row[0], row[1]): row for row in table[1:]}
    found = [r for r in read_results(folder) if r.evaluator.name == "loo-knn"]
    assert len(rows) == len(found) == 6 * (len(FEATURES) + 3)
    for result in found:
        params = result.evaluator.params
        value, (low, high) = result.metrics["balanced_accuracy"], result.intervals["balanced_accuracy"]
        balanced = ",candidates=balanced" if params["candidates"] == "balanced" else ""
        row = rows[result.features.full_name, f"k={params['k']},exclude={params['exclude']}{balanced}"]
        assert row[2] == f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
    assert "None of these numbers is a reproduction of the paper" in page.text
    assert "trustworthiness" in str(page.tables)
    assert any("0.900" in row for t in page.tables for row in t)


def test_what_was_not_run_is_said_with_its_reason(folder):
    record = json.loads((folder / "run.json").read_text())
    record["not_run"] = [{"dataset": "painted", "features": "vgg16-fc2-224", "reason": "its weights are not here"}]
    (folder / "run.json").write_text(json.dumps(record))
    page = page_of(folder)
    assert "vgg16-fc2-224 on painted its weights are not here." in page.text
    assert "argument benchmark yeast-knn" in page.text
    assert "version of numpy" in page.text


def with_reason(folder: Path, reason: str) -> Path:
    """Return a folder whose record says of one feature set why it was not run."""
    record = json.loads((folder / "run.json").read_text())
    record["not_run"] = [{"dataset": "painted", "features": "vgg16-fc2-224", "reason": reason}]
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("given", ["parent", "list"])
def test_several_runs_in_one_page_have_their_own_sections_and_records(folder, tmp_path, monkeypatch, given):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    with_reason(folder, "the first's reason")
    with_reason(other, "the second's reason")
    shutil.rmtree(other / "results" / "painted" / "noise")
    monkeypatch.chdir(tmp_path)
    file = write_report(tmp_path) if given == "parent" else write_report([folder, other])
    assert file.resolve() == tmp_path / "report.html"
    page = Page(file.read_text(encoding="utf-8"))
    titles = re.findall(r'<h2 id="dataset-\d+-title">(.*?)</h2>', page.html)
    assert sorted(titles) == ["other: painted", "run: painted"]
    section = {t: page.html.partition(f">{t}</h2>")[2].partition("</section>")[0] for t in titles}
    assert ">noise<" in section["run: painted"]
    assert ">noise<" not in section["other: painted"]
    for words, run in (("the first", "run"), ("the second", "other")):
        of_run = re.search(rf"<h3>{run}</h3>(.*?)(<h3>|</section>)", page.html.partition('id="not-run"')[2], re.S)[1]
        assert words in of_run
    assert page.html.partition('id="provenance"')[2].count("argument benchmark") == 2
    ids = re.findall(r'\sid="([^"]+)"', page.html)
    assert len(ids) == len(set(ids))


def test_nothing_is_said_of_a_run_that_is_not_shown(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "other")
    with_reason(tmp_path / "other", "a reason of elsewhere")
    page = page_of(folder)
    assert "a reason of elsewhere" not in page.text
    assert "other:" not in page.text


def test_names_from_data_are_text_and_never_markup(page):
    assert "<b>odd" not in page.html
    assert "</b> &" not in page.html
    assert CLASSES[3] in page.data["datasets"][0]["classes"][0]["features"][0]["runs"][0]["labels"]


def test_the_bars_and_matrices_are_those_of_the_results(folder, page):
    views = {v["title"]: v for v in page.data["datasets"][0]["classes"]}
    assert set(views) == {"loo-knn, k=1", "loo-knn, k=3"}
    for result in (r for r in read_results(folder) if r.evaluator.name == "loo-knn"):
        balanced = result.evaluator.params["candidates"] == "balanced"
        if result.evaluator.params["exclude"] == "image" and not balanced:
            continue  # the balanced one stands in its place
        features = next(
            f
            for f in views[f"loo-knn, k={result.evaluator.params['k']}"]["features"]
            if f["name"] == result.features.full_name
        )
        said = (
            "all other cells" if result.evaluator.params["exclude"] == "cell" else "other images only, classes balanced"
        )
        run = next(r for r in features["runs"] if r["said"] == said)
        assert run["counts"] == np.rint(result.details["confusion"]["counts"]).tolist()
        bars = next(r for r in features["bars"]["data"]["values"] if r["neighbours"] == said)
        assert len(bars["class"]) == len(CLASSES)
        for label, value, low, high in zip(*(bars[c] for c in ("class", "value", "low", "high")), strict=True):
            assert value == pytest.approx(100 * result.details["per_class"][label], abs=0.051)
            assert low <= value <= high


def test_recall_intervals_are_of_images_and_with_the_factor_of_the_results_own_intervals(folder):
    from scipy import stats

    from pci_bench.statistics.intervals import TRAINING_VARIANCE

    seen = 0
    for result in (r for r in read_results(folder) if r.features.name in FEATURES and r.evaluator.name == "loo-knn"):
        predictions = Predictions.of(result)
        if predictions.correct is not None:
            assert result.evaluator.params["candidates"] == "balanced"
            continue
        mine = predictions.true == 2
        right, image = predictions.predicted[mine] == 2, predictions.groups[mine]
        images = np.unique(image)
        without = np.array([right[image != i].mean() for i in images])
        n = len(images)
        factor = TRAINING_VARIANCE["loo-knn"][result.evaluator.params["exclude"] != "cell"]
        half = stats.t.ppf(0.975, n - 1) * np.sqrt(factor * (n - 1) / n * np.square(without - without.mean()).sum())
        expected = max(right.mean() - half, 0), min(right.mean() + half, 1)
        assert recall_intervals(result, predictions, 4)[2] == pytest.approx(expected)
        seen += 1
    assert seen


def test_confused_pairs_are_ordered_by_share_of_the_true_class_and_no_class_is_confused_with_itself():
    counts = np.array([[90, 10, 0], [3, 5, 2], [0, 0, 8]])
    assert confused_pairs(counts) == [(1, 0, 3, 0.3), (1, 2, 2, 0.2), (0, 1, 10, 0.1)]


def test_example_cells_of_a_confused_pair_are_cells_that_were_confused_so(folder, page):
    seen, results = 0, read_results(folder)
    for view in page.data["datasets"][0]["classes"]:
        for features in view["features"]:
            for run, exclude in zip(features["runs"], ("image", "cell"), strict=True):
                result = next(
                    r
                    for r in results
                    if r.features.full_name == features["name"]
                    and r.evaluator.params.get("exclude") == exclude
                    and r.evaluator.params.get("candidates") == ("all" if exclude == "cell" else "balanced")
                    and f"k={r.evaluator.params['k']}" in view["title"]
                )
                table = result.predictions.set_index("cell")
                for true, predicted, count, _, cells in run["pairs"]:
                    names = [page.data["cells"][c][0] for c in cells]
                    assert len(names) <= 6
                    if (
                        exclude == "cell"
                    ):  # balanced counts are means over draws, examples are of the most frequent prediction
                        assert len(names) == min(count, 6)
                    elif not names:
                        continue
                    assert set(table.loc[names, "label"]) == {run["labels"][true]}
                    assert set(table.loc[names, "predicted"]) == {run["labels"][predicted]}
                    seen += len(names)
    assert seen > 20


def test_the_gallery_shows_right_and_wrong_queries_with_neighbours_that_vote_as_predicted(page):
    galleries = page.data["datasets"][0]["gallery"]
    assert {g["title"].split(", ")[0] for g in galleries} == set(FEATURES)
    verdicts = set()
    for gallery in galleries:
        assert gallery["k"] == 3
        for query in gallery["queries"]:
            assert page.data["cells"][query["cell"]][1] == query["label"]
            votes = [page.data["cells"][n][1] for n in query["neighbours"]]
            most = max(votes.count(v) for v in votes)
            assert query["predicted"] == min(
                v for v in votes if votes.count(v) == most
            )  # ties: the first, as evaluated
            verdicts.add(query["predicted"] == query["label"])
    assert verdicts == {True, False}


def test_the_gallery_is_what_lies_beside_the_results_and_needs_no_features(folder, painted_run, tmp_path, monkeypatch):
    before = page_of(folder).data["datasets"][0]["gallery"]
    shutil.copytree(painted_run / "cache", tmp_path / "cache", ignore=shutil.ignore_patterns("features"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    assert page_of(folder).data["datasets"][0]["gallery"] == before
    for file in (folder / "results").rglob("*.example-neighbours.csv"):
        table = pd.read_csv(file, dtype=str)
        table[table["rank"] == "1"].to_csv(file, index=False)
    for gallery in page_of(folder).data["datasets"][0]["gallery"]:
        assert {len(query["neighbours"]) for query in gallery["queries"]} == {1}


def test_results_without_stored_neighbours_are_named_and_those_of_others_shown(folder):
    for file in (folder / "results" / "painted" / "noise").rglob("*.example-neighbours.csv"):
        file.unlink()
    page = page_of(folder)
    galleries = page.data["datasets"][0]["gallery"]
    assert {g["title"].split(", ")[0] for g in galleries} == set(FEATURES) - {"noise"}
    said = "No neighbours are stored beside results of loo-knn on net-conv1, net-conv2, net-conv3 and noise:"
    assert said in page.text
    assert "Run the benchmark again to write it." in page.text


def test_the_gallery_is_of_whatever_evaluator_stored_neighbours(folder):
    before = page_of(folder).data["datasets"][0]["gallery"]
    for file in (folder / "results").rglob("*.json"):
        result = json.loads(file.read_text(encoding="utf-8"))
        if result["evaluator"]["name"] == "loo-knn":
            result["evaluator"]["name"] = "their-neighbours"
            file.write_text(json.dumps(result), encoding="utf-8")
    assert page_of(folder).data["datasets"][0]["gallery"] == before


def test_the_tile_of_every_cell_is_its_own_crop(folder, page):
    content = base64.b64decode(re.search(r'url\("data:image/\w+;base64,([^"]+)"', page.html)[1])
    image = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(float)
    cells = loading.load(DATASETS.get("painted"))
    expected = coloured(cells.crops(slice(None)), ["protein", "marker"]).astype(float)
    names = cells.obs["cell"].tolist()
    tile, columns = page.data["tile"], page.data["columns"]
    assert page.data["tiles"] == 60
    for place, (name, label) in enumerate(page.data["cells"][:60]):
        y, x = divmod(place, columns)
        seen = image[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile]
        assert np.abs(expected - seen).mean(axis=(1, 2, 3)).argmin() == names.index(name)
        assert label == cells.obs["label"].iloc[names.index(name)]


def test_a_protein_is_green_and_a_marker_magenta():
    crops = np.zeros((1, 2, 1, 2), np.float32)
    crops[0, 0, 0, 0] = crops[0, 1, 0, 1] = 1
    assert coloured(crops, ["protein", "marker"])[0, 0].tolist() == [[0, 255, 0], [204, 0, 204]]


def test_a_sample_takes_as_evenly_from_labels_as_there_are_cells_whatever_their_order(make_cells):
    labels = ["rare"] * 3 + ["some"] * 30 + ["many"] * 200
    cells = make_cells(n=233, label=labels)
    names = stratified(cells, 43)
    counts = {label: sum(labels[int(n.removeprefix("cell"))] == label for n in names) for label in set(labels)}
    assert counts == {"rare": 3, "some": 20, "many": 20}
    assert set(stratified(cells[np.random.default_rng(0).permutation(233)], 43)) == set(names)
    assert len(stratified(cells, 4000)) == 233


def test_tiles_are_never_more_than_asked_for_and_a_cell_has_one():
    shown = Shown()
    shown.give_tiles(0, ["a", "b", "a"], 10)
    shown.give_tiles(0, [str(i) for i in range(20)], 5)
    shown.give_tiles(1, ["a"], 1)
    assert len(shown.tiles) == 6
    assert sorted(shown.tiles.values()) == list(range(6))


def test_the_sprite_is_the_smallest_of_three_kinds_and_gets_coarser_until_it_fits(monkeypatch):
    rng = np.random.default_rng(0)
    flat = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    noise = Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8))
    for image in (flat, noise):
        _, content = smallest(image)
        for kind, options in (("png", {}), ("jpeg", {"quality": 82}), ("webp", {"quality": 82})):
            stream = io.BytesIO()
            image.save(stream, kind, **options)
            assert len(content) <= len(stream.getvalue())
    roomy = len(smallest(noise)[1])
    monkeypatch.setattr(report_cells, "LARGEST_SPRITE", roomy // 2)
    assert len(smallest(noise)[1]) <= roomy // 2


def test_points_of_an_embedding_keep_their_places_and_know_their_cells(folder, page):
    (view,) = page.data["datasets"][0]["umaps"]
    xy = np.frombuffer(base64.b64decode(view["xy"]), "<u2").reshape(-1, 2).astype(float)
    codes, cells = (np.frombuffer(base64.b64decode(view[name]), "<u2") for name in ("codes", "cells"))
    table = next(r for r in read_results(folder) if r.evaluator.name == "umap").predictions.set_index("cell")
    assert len(xy) == 60 + CROPLESS
    assert view["said"].startswith("62 cells, of which 60 have a crop here.")
    assert (cells == 65535).sum() == CROPLESS
    assert view["labels"][-1] == "others"
    known = cells != 65535
    names = [page.data["cells"][c][0] for c in cells[known]]
    assert [view["labels"][c] for c in codes[known]] == table.loc[names, "label"].tolist()
    real = table.loc[names, ["umap_1", "umap_2"]].to_numpy()
    span = (table[["umap_1", "umap_2"]].max() - table[["umap_1", "umap_2"]].min()).max()
    distances = np.linalg.norm(xy[known][0] - xy[known], axis=1) / 65535
    np.testing.assert_allclose(distances, np.linalg.norm(real[0] - real, axis=1) / span, atol=1e-4)


def test_layer_curves_are_of_networks_with_three_layers(page, folder):
    views = page.data["datasets"][0]["layers"]
    assert [v["title"] for v in views] == ["loo-knn, k=3", "loo-knn, k=1"]
    assert {p["network"] for v in views for p in v["chart"]["data"]["values"]} == {"net"}
    by_layer = {
        (r.evaluator.params["k"], exclusion(r), r.features.name): f"{100 * r.metrics['balanced_accuracy']:.1f}"
        for r in read_results(folder)
        if r.features.name.startswith("net-")
    }
    for k, view in zip((3, 1), views, strict=True):
        assert view["columns"] == ["network", "neighbours", "conv1", "conv2", "conv3"]
        assert len(view["rows"]) == 3
        for network, neighbours, *texts in view["rows"]:
            assert network == "net"
            expected = [by_layer[k, neighbours, f"net-conv{i}"] for i in (1, 2, 3)]
            assert [text.split()[0] for text in texts] == expected


def test_without_the_dataset_in_the_cache_the_page_says_how_to_get_it(folder, tmp_path, monkeypatch, painted_run):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "empty"))
    shutil.copytree(painted_run / "cache" / "report", tmp_path / "empty" / "report")
    page = page_of(folder)
    assert "The cells of painted are not in the cache. `pci-bench data get painted` puts them there" in page.text
    assert page.data["tiles"] == 0
    pair = page.data["datasets"][0]["classes"][0]["features"][-1]["runs"][0]["pairs"][0]
    assert all(c < len(page.data["cells"]) for c in pair[4])
    assert not (tmp_path / "empty" / "datasets").exists()  # nothing was built


def test_crops_of_other_cells_than_those_evaluated_are_never_shown(folder):
    for file in (folder / "results").rglob("*.json"):
        content = json.loads(file.read_text())
        content["dataset"]["sha256"] = "0" * 64
        file.write_text(json.dumps(content))
    page = page_of(folder)
    assert "The cells of painted in the cache are not those that were evaluated" in page.text
    assert page.data["tiles"] == 0


def test_an_unknown_dataset_is_a_sentence(folder):
    for file in (folder / "results").rglob("*.json"):
        content = json.loads(file.read_text())
        content["dataset"]["name"] = "elsewhere"
        file.write_text(json.dumps(content))
    assert "Nothing installed knows the dataset 'elsewhere'" in page_of(folder).text


def test_a_folder_with_one_result_and_no_record_is_a_useful_page(folder, tmp_path):
    one = next(r for r in read_results(folder) if r.evaluator.name == "loo-knn")
    write_result(one, tmp_path / "one" / "results" / "d" / "f" / "loo-knn" / "k=1.json")
    page = page_of(tmp_path / "one")
    assert "1 result of yeast-knn" in page.text
    assert "has no run.json" in page.text
    assert page.data["datasets"][0]["layers"] == []


def test_figures_of_the_run_are_in_the_page_until_it_is_full(folder, monkeypatch):
    (folder / "figures").mkdir(exist_ok=True)
    drawn = {
        "a.png": b"first" * 40,
        "b-yellow-blue.png": b"twin",
        "b.png": b"second" * 100,
        "c.png": b"third",
        "old.png": b"x",
    }
    for name, content in drawn.items():
        (folder / "figures" / name).write_bytes(content)
    record = json.loads((folder / "run.json").read_text()) if (folder / "run.json").exists() else None
    assert record is not None
    record["figures"] = [f"figures/{n}" for n in ("c.png", "b.png", "b-yellow-blue.png", "a.png")] + ["../../run.json"]
    (folder / "run.json").write_text(json.dumps(record))
    monkeypatch.setattr("pci_bench.reporting.html.pictures.LARGEST", 300)
    page = page_of(folder)
    shown = [base64.b64decode(s.partition(",")[2]) for s in page.links if s.startswith("data:image/png;base64")]
    assert shown == [drawn["c.png"], drawn["a.png"]]  # in the record's order; b is too large, old is of another run
    assert "not here to keep this file small: b.png." in page.text


def test_the_numbers_of_a_figure_are_beside_it_and_one_click_away_in_the_page(own_registries, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    painted.register()
    output = runner.run("knn", dataset="painted", features=["intensity", "noise"], out=tmp_path / "out")
    page = page_of(tmp_path / "out")
    tables = {file.stem: pd.read_csv(file) for file in (tmp_path / "out" / "figures").glob("*.csv")}
    assert {f.stem for f in (tmp_path / "out" / "figures").glob("*.png")} == tables.keys()
    assert all(page.text.count(f"{stem}.csv") for stem in tables)

    of_cells = [r for r in output if r.evaluator.params["exclude"] == "cell"]
    bars = tables["accuracy-painted"]
    for result in of_cells:
        row = bars[(bars["features"] == result.features.name) & (bars["exclude"] == "cell")].iloc[0]
        assert row["balanced_accuracy"] == pytest.approx(result.metrics["balanced_accuracy"])
    for result in of_cells:
        classes = tables["classes-painted"]
        recalls = classes[classes["features"] == result.features.name]["recall"]
        assert recalls.mean() == pytest.approx(result.metrics["balanced_accuracy"])
    confusion = tables["confusion-painted"]
    same = confusion[confusion["exclude"] == "cell"]
    assert same["cells"].sum() == 60
    right = same[same["true"] == same["predicted"]]["cells"].sum()
    result = next(r for r in of_cells if r.features.full_name == same["features"].iloc[0])
    assert right / 60 == pytest.approx(result.metrics["accuracy"])


def test_missing_predictions_are_named_and_the_rest_is_shown(folder):
    for file in (folder / "results").rglob("*.parquet"):
        file.unlink()
    page = page_of(folder)
    assert "the Parquet file of predictions beside the result is missing" in page.text
    assert "No coordinates for intensity, umap: the Parquet file beside the result is missing" in page.text
    features = page.data["datasets"][0]["classes"][0]["features"][0]
    assert features["said"] == "There are no intervals: the predictions are missing."
    assert set(features["bars"]["data"]["values"][0]["low"]) == {None}
    assert page.data["datasets"][0]["umaps"] == []


def test_every_dataset_of_a_folder_has_a_section(folder):
    for result in [r for r in read_results(folder) if r.features.name == "noise"]:
        result.dataset.name, result.dataset.sha256 = "elsewhere", "1" * 64
        k, exclude = result.evaluator.params["k"], result.evaluator.params["exclude"]
        write_result(result, folder / "results" / "elsewhere" / "noise" / "loo-knn" / f"k={k},exclude={exclude}.json")
    page = page_of(folder)
    assert len(page.data["datasets"]) == 2
    assert {"#dataset-1", "#dataset-2"} <= set(page.links)
    assert "Nothing installed knows the dataset 'elsewhere'" in page.text


def test_a_subset_of_a_dataset_is_reopened_as_the_same_subset(painted_run, tmp_path, monkeypatch):
    from pci_bench.runs import runner

    monkeypatch.setenv("PCI_BENCH_CACHE", str(painted_run / "cache"))
    runner.run("yeast-knn", dataset="painted", features="intensity", k=[3], limit=24, seed=7, out=tmp_path / "some")
    page = page_of(tmp_path / "some")
    expected = cells_module.subsample(loading.load(DATASETS.get("painted")), 24, 7)
    assert {name for name, _ in page.data["cells"]} == set(expected.obs["cell"])
    assert "painted, --limit 24" in page.text


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (lambda f: shutil.rmtree(f / "results"), "There are no results in"),
        (
            lambda f: (f / "run.json").write_text('{"schema": 1, "resu'),
            r"run.json is not the record of a run \(JSONDecodeError",
        ),
        (
            lambda f: (f / "run.json").write_text('{"name": "mlflow"}'),
            "run.json is not the record of a run",
        ),
        (lambda f: (f / "run.json").write_text("[]"), "run.json is not the record of a run"),
        (
            lambda f: next((f / "results").rglob("*.json")).write_text('{"schema": 1, "da'),
            "cannot be read as JSON",
        ),
        (lambda f: (f / "results" / "other.json").write_text('{"accuracy": 1}'), "is not a result of pci-bench"),
    ],
)
def test_a_folder_of_something_else_is_a_sentence(folder, break_it, sentence):
    break_it(folder)
    with pytest.raises(UserError, match=sentence):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_the_command_writes_where_it_is_told_and_mistakes_exit_with_2(
    folder, tmp_path, painted_run, capsys, monkeypatch
):
    cache = painted_run / "cache"
    said = pci_bench("report", folder, "--out", tmp_path / "my report.html", cache=cache, cwd=tmp_path)
    assert said.code == 0, said.err
    assert "MB:" in said.out
    assert "my report.html" in said.out
    assert (tmp_path / "my report.html").read_text().startswith("<!DOCTYPE html>")
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "absent", tmp_path / "my report.html", tmp_path / "empty"):
        said = call(capsys, monkeypatch, "report", wrong)
        assert said.code == 2
        assert said.err.startswith("Error: ")
        assert "Traceback" not in said.err
