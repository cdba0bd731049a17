"""Two feature sets cell by cell: counts against a loop, planted strengths, neighbours, the page and its command."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from command_line import call, refused
from factories import make_cells, make_result
from report_page import Page

import pci_bench
from pci_bench.data.examples import NEIGHBOURS
from pci_bench.reporting.html.disagreement import rendered_disagreement, sentences, write_disagreement
from pci_bench.runs.disagreement import Disagreement, neighbours, pairs_of
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.results import write_result
from pci_bench.statistics.disagreement import OUTCOMES

CLASSES = ("a", "b", "c")


def result(name: str, right: np.ndarray, seed: int = 0, **changed):
    """Return a result on 240 cells of 24 images, each of one class, that are predicted rightly where it says so."""
    labels = np.array(CLASSES)[np.arange(240) // 10 % 3]
    predicted = np.where(right, labels, np.array(CLASSES)[(np.arange(240) // 10 + 1) % 3])
    images = [f"i{i // 10}" for i in range(240)]
    table = pd.DataFrame(
        {"cell": [f"c{i:03d}" for i in range(240)], "label": labels, "predicted": predicted, "image": images}
    )
    sections = {
        "dataset": {"confounder": "image"},
        "features": {"name": name},
        "evaluator": {"params": {"k": 11, "exclude": "cell"}},
        "metrics": {"balanced_accuracy": float(np.mean([right[labels == c].mean() for c in CLASSES]))},
    }
    return make_result(table.sample(frac=1, random_state=seed), **(sections | changed))


def planted(p_a=(0.9, 0.5, 0.5), p_b=(0.5, 0.5, 0.9)):
    """Return two results: A is better in the class a, B in c, and neither in b."""
    rng, label = np.random.default_rng(6), np.arange(240) // 10 % 3
    shared = rng.uniform(size=240)
    a, b = (np.where(label == 1, shared, rng.uniform(size=240)) < np.array(p)[label] for p in (p_a, p_b))
    return a, b


def test_classes_are_counted_as_a_loop_counts_them_whatever_the_order_of_the_rows():
    a, b = planted()
    table = Disagreement.of(result("A", a), result("B", b, seed=1)).by_class().set_index("class")
    label = np.arange(240) // 10 % 3
    for number, name in enumerate(CLASSES):
        counts = dict.fromkeys(OUTCOMES, 0)
        for i in np.flatnonzero(label == number):
            counts[{(1, 1): "both", (1, 0): "only A", (0, 1): "only B", (0, 0): "neither"}[int(a[i]), int(b[i])]] += 1
        assert table.loc[name, list(OUTCOMES)].to_dict() == counts
        assert table.loc[name, "difference"] == pytest.approx(a[label == number].mean() - b[label == number].mean())
    assert table.loc["all", "cells"] == 240


def test_the_last_row_is_the_difference_of_balanced_accuracies_with_its_paired_interval():
    one, other = (
        result(name, right) for name, right in zip("AB", planted((0.8, 0.7, 0.6), (0.5, 0.5, 0.6)), strict=True)
    )
    total = Disagreement.of(one, other).by_class().iloc[-1]
    assert total["difference"] == pytest.approx(one.metrics["balanced_accuracy"] - other.metrics["balanced_accuracy"])
    assert (total["low"], total["high"]) == pytest.approx(paired_interval(other, one), abs=0.02)


def test_planted_strengths_are_found_in_their_classes_and_none_where_none_is():
    one, other = (result(name, right) for name, right in zip("AB", planted(), strict=True))
    found = Disagreement.of(one, other)
    table = found.by_class().set_index("class")
    assert table.loc["a", "low"] > 0
    assert table.loc["c", "high"] < 0
    assert table.loc["b", ["only A", "only B", "difference", "low", "high"]].tolist() == [0, 0, 0, 0, 0]
    text = " ".join(sentences(found))
    assert "A is ahead in a, where" in text
    assert "B is ahead in c, where" in text


def test_the_same_predictions_differ_in_nothing():
    right = planted()[0]
    table = Disagreement.of(result("A", right), result("B", right)).by_class()
    assert (table[["only A", "only B", "difference", "low", "high"]] == 0).all(axis=None)


def test_examples_are_of_every_class_and_of_those_that_only_one_gets_right():
    a, b = planted()
    examples = Disagreement.of(result("A", a), result("B", b)).examples(2)
    assert examples.groupby(["label", "outcome"]).size().max() == 2
    assert set(examples["outcome"]) == {"only A", "only B"}
    for row in examples.to_dict("records"):
        i = int(row["cell"][1:])
        assert (a[i], b[i]) == ((True, False) if row["outcome"] == "only A" else (False, True))
        assert (row["predicted_a"] == row["label"]) == a[i]


def test_pairs_are_of_one_evaluation_of_the_same_cells():
    right = planted()[0]
    other_k = {"evaluator": {"params": {"k": 5, "exclude": "cell"}}}
    results = [
        result("A", right),
        result("A", right, **other_k),
        result("B", right),
        result("C", right, dataset={"sha256": "z"}),
    ]
    assert pairs_of(results, "A", "B") == [(results[0], results[2])]
    for names, words in (
        (("A", "C"), "No evaluation here has predictions of single cells by both A and C"),
        (("A", "A"), "the same feature set"),
        (("A", "X"), "There are no results of X. There are results of A, B, C"),
    ):
        with pytest.raises(pci_bench.UserError, match=words):
            pairs_of(results, *names)
    weighted = [result("pci", right, features={"name": "pci", "weights": w}) for w in ("one", "two")]
    with pytest.raises(pci_bench.UserError, match=r"several weights: pci@one, pci@two"):
        pairs_of([*weighted, results[0]], "pci", "A")
    assert len(pairs_of([*weighted, results[0]], "pci@two", "A")) == 1


@pytest.fixture
def run(tmp_path):
    """Two feature sets of cells in memory, evaluated and written into a folder; their features are in the cache."""
    rng, image = np.random.default_rng(8), np.arange(120) // 6
    brightness = (0.4 + 0.05 * (image % 3))[:, None, None, None]
    crops = np.clip(rng.normal(brightness, 0.1, (120, 2, 16, 16)), 0, 1).astype(np.float32)
    cells = make_cells(crops=crops, label=np.array(CLASSES)[image % 3], image=[f"i{i}" for i in image])
    results = []
    for name in ("intensity", "raw-pixels"):
        results += pci_bench.evaluate("loo-knn", pci_bench.extract(name, cells), exclude=["cell", "image"])
    for one in results:
        write_result(one, tmp_path / "run" / one.path(("k", "exclude"), {"scale": "all", "candidates": "all"}))
    return tmp_path / "run", cells, results


def test_the_page_shows_crops_and_the_neighbours_that_voted_and_a_command_writes_it(run, capsys, monkeypatch):
    folder, cells, results = run
    one, other = pairs_of(results, "intensity", "raw-pixels")[0]
    for side in (one, other):  # what loo-knn stored is what is found again
        stored = side.tables[NEIGHBOURS]
        names = list(dict.fromkeys(stored["cell"]))[:5]
        lists, reason = neighbours(side, cells, names)
        assert reason == ""
        for name in names:
            rows = stored[stored["cell"] == name]
            assert lists[name] == list(zip(rows["neighbour"], rows["neighbour_label"].astype(str), strict=True))
    found = Disagreement.of(one, other)
    page = Page(rendered_disagreement(found, cells))
    assert f"Of {len(cells)} cells intensity alone gets" in page.text
    assert page.html.count('class="crop"') > 7 * len(found.examples())
    assert "not in the cache" not in page.text
    said = call(capsys, monkeypatch, "explain", folder, "intensity", "raw-pixels", "--exclude", "cell")
    assert said.code == 0
    assert "only A" in said.out
    files = sorted(f.name for f in (folder / "explain").iterdir())
    assert len(files) == 3
    assert {name.rpartition(".")[2] for name in files} == {"csv", "html"}
    table = pd.read_csv(next(f for f in (folder / "explain").iterdir() if f.name.endswith("classes.csv")))
    pd.testing.assert_frame_equal(table, found.by_class(), check_exact=False)
    refused(call(capsys, monkeypatch, "explain", folder, "intensity", "vgg16"), "no results of vgg16", "raw-pixels")
    refused(
        call(capsys, monkeypatch, "explain", folder, "intensity", "raw-pixels", "--k", 3), "neighbours 3; it has 11"
    )


def test_neighbours_of_post_processed_features_are_those_that_voted(run):
    _, cells, _ = run
    features = pci_bench.extract("raw-pixels", cells)
    (processed,) = pci_bench.evaluate("loo-knn", features, postprocess="l2")
    stored = processed.tables[NEIGHBOURS]
    name = stored["cell"].iloc[0]
    lists, reason = neighbours(processed, cells, [name])
    assert reason == ""
    assert [n for n, _ in lists[name]] == stored.loc[stored["cell"] == name, "neighbour"].tolist()


def test_features_that_are_no_longer_those_evaluated_show_only_what_the_result_brought_along(run):
    _, cells, results = run
    one, _ = pairs_of(results, "intensity", "raw-pixels")[0]
    predictions, tables = one.predictions.copy(), one.tables
    kept = tables[NEIGHBOURS]["cell"].iloc[0]
    others = [name for name in predictions["cell"] if name not in set(tables[NEIGHBOURS]["cell"])][:2]
    predictions["predicted"] = predictions["label"].astype(str).iloc[::-1].to_numpy()
    lists, reason = neighbours(one.with_tables(predictions, tables), cells, [kept, *others])
    assert list(lists) == [kept]
    assert "not in the cache as they were evaluated" in reason


def test_without_the_cells_the_page_says_why_there_are_no_crops(tmp_path):
    a, b = planted()
    files = write_disagreement(Disagreement.of(result("A", a), result("B", b)), tmp_path)
    page = Page(files[0].read_text(encoding="utf-8"))
    assert "Nothing installed knows the dataset" in page.text
    assert 'class="crop"' not in page.html
