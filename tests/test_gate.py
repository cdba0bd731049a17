"""The gate: green where nothing changed, red where the code moves a number, and never green while measuring nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import painted
import pandas as pd
import pydantic
import pytest
from command_line import call
from factories import make_result
from painted import CLASSES

from pci_bench import UserError
from pci_bench.api import registry
from pci_bench.api.evaluator import EVALUATORS, EvaluatorMeta
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.evaluators import knn
from pci_bench.features.names import select
from pci_bench.reporting.comparison import markdown
from pci_bench.runs.comparison import compare
from pci_bench.runs.gate import compared, declared_runs, expected, gated_results, write_expected
from pci_bench.runs.results import read_result, write_result
from pci_bench.runs.tolerance import Tolerance, default_tolerance, read_tolerance
from pci_bench.statistics import neighbors

RUNS = """
[[run]]
benchmark  = "yeast-knn"
dataset    = "painted"
features   = ["intensity", "raw-pixels"]
parameters = { k = [2, 4] }
"""


@pytest.fixture(scope="module")
def accepted(tmp_path_factory) -> Path:
    """A folder with a gate of painted cells and its expected numbers, as ``--accept`` writes them."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "gate.toml").write_text(RUNS)
    with painted.registered(folder / "cache"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("pci_bench.runs.gate.folder", lambda: folder)
        write_expected(gated_results(declared_runs()), folder)
    return folder


@pytest.fixture
def gate(accepted, own_registries, capsys, monkeypatch, tmp_path):
    """A function that runs ``pci-bench gate`` on a copy of that folder, which is its attribute ``folder``."""
    folder = tmp_path / "expected"
    shutil.copytree(accepted, folder)
    painted.register()
    monkeypatch.setattr("pci_bench.runs.gate.folder", lambda: folder)

    def run(*arguments):
        return call(capsys, monkeypatch, "gate", "--workers", 1, *arguments)

    run.folder = folder
    return run


def words(said) -> str:
    return " ".join(said.out.split())


def test_where_nothing_changed_it_is_green_and_says_how_much_was_compared(gate):
    said = gate()
    assert said.code == 0, said.out + said.err
    numbers = 12 * (
        3 + len(CLASSES)
    )  # two feature sets, two k, three kinds of candidates; three metrics and the recalls
    assert f"{numbers} numbers of 12 results compared: all the same." in words(said)


def late_ties(neighbor_labels, n_classes):
    """The vote with ``>=`` in place of ``>``: the last of the labels that tie."""
    votes = np.stack([(neighbor_labels == c).sum(axis=1) for c in range(n_classes)], axis=1)
    best, most = np.zeros(len(votes), int), np.zeros(len(votes), int)
    for label in range(n_classes):
        wins = votes[:, label] >= most
        best[wins], most[wins] = label, votes[wins, label]
    return best


def test_a_vote_that_breaks_ties_the_other_way_is_caught_and_named(gate, monkeypatch):
    monkeypatch.setattr(neighbors, "majority_vote", late_ties)
    said = gate("--format", "md")
    assert said.code == 1
    assert "painted / intensity / loo-knn exclude=cell,k=2" in said.out
    assert "pci-bench gate --accept tables/expected" in said.err
    row = next(line for line in said.out.splitlines() if "k=2" in line and "recall of" in line)
    old, new, change, allowed = (float(cell.strip(" ±")) for cell in row.split("|")[3:7])
    assert new - old == pytest.approx(change, abs=2e-4)
    assert abs(change) > allowed


def test_a_standardisation_that_forgets_the_spread_is_caught(gate, monkeypatch):
    monkeypatch.setattr(knn, "standardized", lambda values: np.asarray(values, float) - np.mean(values, axis=0))
    said = gate()
    assert said.code == 1
    assert "changed (" in said.out


def test_a_broken_extractor_is_caught_although_the_users_cache_holds_its_numbers_from_before(gate, monkeypatch):
    import pci_bench

    pci_bench.run("yeast-knn", dataset="painted", features=["intensity"], k=[2], device="cpu")  # fills the user's cache
    extractor = EXTRACTORS.get("intensity")
    whole = extractor.function

    def without_spread(crops):
        values = whole(crops).copy()
        values[:, 1::4] = values[:, 0::4]  # the mean once more, where the SD should be
        return values

    monkeypatch.setattr(extractor, "function", without_spread)
    said = gate()
    assert said.code == 1
    assert "painted / intensity /" in words(said)
    assert "painted / raw-pixels /" not in words(said)


def test_the_users_cache_is_left_alone(gate, cache):
    assert gate().code == 0
    assert not cache.exists()


def test_accept_writes_numbers_that_are_then_expected_and_says_what_made_them(gate, monkeypatch, tmp_path):
    monkeypatch.setattr(neighbors, "majority_vote", late_ties)
    said = gate("--accept", gate.folder)
    assert said.code == 0
    assert f"Accepted: {gate.folder / 'painted.json'}" in said.out
    made = json.loads((gate.folder / "painted.json").read_text())["made"]
    assert made["versions"]["numpy"] == np.__version__
    assert {"package", "git", "started", "blas", "device", "threads", "seed"} <= set(made)
    assert gate().code == 0


def test_a_dataset_without_expected_numbers_or_without_runs_is_a_sentence(gate):
    said = gate("--dataset", "toy-yeast")
    assert (said.code, "The gate has no run on toy-yeast. It runs on painted." in said.err) == (2, True)
    (gate.folder / "painted.json").unlink()
    said = gate()
    assert said.code == 2
    assert "There are no expected numbers of painted" in said.err
    assert "Traceback" not in said.err


def test_an_evaluator_of_another_version_is_not_compared_and_it_is_said_how_to_accept_it(accepted, monkeypatch):
    monkeypatch.setattr("pci_bench.runs.gate.folder", lambda: accepted)
    old, new = expected("painted"), expected("painted")
    new[0].evaluator.version = "next"
    with pytest.raises(
        UserError, match=r"the evaluator's version is 2 in one and next in the other\. .*gate --accept tables"
    ):
        compared(old, new)
    assert compared(old, old).same


def test_an_expected_result_that_is_no_longer_made_is_a_change(gate):
    (gate.folder / "gate.toml").write_text(RUNS.replace(', "raw-pixels"', ""))
    said = gate()
    assert said.code == 1
    assert "Missing: painted / raw-pixels / loo-knn" in words(said)


# ---- the packaged numbers


def test_the_packaged_gate_declares_runs_that_have_expected_numbers():
    for run in declared_runs():
        found = [r for r in expected(run.dataset) if r.benchmark == run.benchmark]
        assert found, run
        names = {r.features.name for r in found}
        assert {f.base for f in select(run.quick)} <= names == {f.base for f in select(run.features)}
        assert all(EVALUATORS.get(r.evaluator.name).meta.other_metrics.reproducible for r in found)


def test_expected_numbers_hold_small_tables_as_they_were():
    (result,) = [
        r for r in expected("human-sim") if (r.features.name, r.evaluator.name) == ("pci-conv3", "pairwise-distance")
    ]
    terms = result.tables["terms"]
    assert len(terms) == 18
    assert terms["score"].dtype == float
    assert terms["score"].mean() == pytest.approx(result.metrics["normalized_distance"], abs=1e-4)


# ---- tables and evaluators of other kinds


def result(metrics, tables=None, *, predictions=None, evaluator="some-distance", n=1000):
    parts = {"dataset": {"n_cells": n}, "features": {"name": "x"}, "evaluator": {"name": evaluator}}
    return make_result(predictions, tables, benchmark=None, metrics=metrics, **parts)


TERMS = pd.DataFrame({"term": ["ER", "Golgi", "nucleus"], "score": [-0.5, -0.2, 0.1], "same": [10.0, 20.0, 40.0]})


def changes(old, new, tolerance=None):
    found = compare([result({"score": 1.0}, old)], [result({"score": 1.0}, new)], tolerance)
    return [(d.key.rpartition(": ")[2], d.what, d.old, d.new) for d in found.changes], found


def test_results_without_predictions_of_cells_are_compared_by_their_metrics():
    found = compare([result({"score": -0.5})], [result({"score": -0.6})])
    assert [(d.what, d.interval) for d in found.changes] == [("score", None)]
    scores = pd.DataFrame({"cell": ["a", "b"], "score": [0.1, 0.2]})
    one, other = (result({"score": s}, predictions=scores) for s in (0.5, 0.5))
    assert compare([one], [other]).same


def test_a_table_that_moved_is_named_by_its_row_and_column_and_the_order_of_rows_does_not_matter():
    assert changes({"terms": TERMS}, {"terms": TERMS[::-1]})[0] == []
    moved = TERMS.assign(score=[-0.5, -0.3, 0.11])
    found, _ = changes({"terms": TERMS}, {"terms": moved})
    assert found == [("table terms", "2 of 6 numbers moved, most: score of row Golgi", -0.2, -0.3)]


def test_a_column_of_large_values_may_move_in_proportion():
    assert changes({"terms": TERMS}, {"terms": TERMS.assign(same=[10.1, 20.0, 40.0])})[0] == []  # 0.005 of 40 is 0.2
    assert changes({"terms": TERMS}, {"terms": TERMS.assign(same=[10.3, 20.0, 40.0])})[0] != []
    named = Tolerance(metrics={"same": 1.0})
    assert changes({"terms": TERMS}, {"terms": TERMS.assign(same=[10.3, 20.0, 40.0])}, named)[0] == []


def test_rows_columns_and_tables_of_one_side_only_are_listed():
    _, found = changes({"terms": TERMS, "a": TERMS}, {"terms": TERMS[1:].drop(columns="same"), "b": TERMS})
    start = "planted / x / some-distance: "
    assert found.missing == [f"{start}table a", f"{start}table terms: column same", f"{start}table terms: row ER"]
    assert found.new == [f"{start}table b"]
    assert not found.same


def test_texts_that_differ_are_counted_and_a_number_that_became_nan_is_a_change():
    clusters = pd.DataFrame({"protein": list("abcdef"), "cluster": list("AABBCC")})
    assert changes({"p": clusters}, {"p": clusters.assign(cluster=list("AABBBB"))})[0] == []  # two may move
    found, _ = changes({"p": clusters}, {"p": clusters.assign(cluster=list("AAAABB"))})
    assert found == [("table p", "texts that differ", 0.0, 4.0)]
    found, _ = changes({"terms": TERMS}, {"terms": TERMS.assign(score=[-0.5, np.nan, 0.1])})
    assert [(where, what) for where, what, *_ in found] == [
        ("table terms", "1 of 6 numbers moved, most: score of row Golgi")
    ]
    gaps = TERMS.assign(score=[-0.5, np.nan, 0.1])
    assert changes({"terms": gaps}, {"terms": gaps})[0] == []


def test_tables_that_were_written_and_read_are_the_same(tmp_path):
    table = TERMS.assign(note=["", 'x, "y"', "é"], p=[1e-12, 1 / 3, np.nan])
    one = result({"score": 1.0}, {"terms": table})
    write_result(one, tmp_path / "r.json")
    found = compare([one], [read_result(tmp_path / "r.json")])
    assert found.same, markdown(found)
    assert not found.new


def test_pictures_in_tables_are_never_compared():
    one, other = (pd.DataFrame({"cell": ["a"], "pixels": [p]}) for p in ("eJwD", "eJwE"))
    assert changes({"crops": one}, {"crops": other})[0] == []
    assert changes({}, {"crops": other})[1].new == []


def test_example_neighbours_are_never_compared_and_results_without_them_are_the_same():
    one, other = (pd.DataFrame({"cell": ["a"], "rank": [1], "neighbour": [n]}) for n in "bc")
    assert changes({"example-neighbours": one}, {"example-neighbours": other})[0] == []
    for before, after in (({}, {"example-neighbours": one}), ({"example-neighbours": one}, {})):
        found = changes(before, after)[1]
        assert found.same
        assert (found.new, found.missing) == ([], [])


def test_a_class_that_is_gone_is_missing():
    old, new = (result({"score": 1.0}) for _ in range(2))
    old.details["per_class"], new.details["per_class"] = {"a": 0.5, "b": 0.5}, {"a": 0.5, "c": 0.5}
    found = compare([old], [new])
    assert (found.missing, found.new) == (
        ["planted / x / some-distance: recall of b"],
        ["planted / x / some-distance: recall of c"],
    )


def test_errors_of_pixels_have_a_tolerance_of_their_own_and_a_users_file_keeps_it(tmp_path):
    assert default_tolerance().of("balanced_accuracy", 10_000) == 0.005
    assert default_tolerance().of("matched", 100) == 0.0001
    found = compare([result({"matched": 0.0108})], [result({"matched": 0.0110})])
    assert [(d.what, d.decimals) for d in found.changes] == [("matched", 6)]
    assert "0.010800" in markdown(found)
    file = tmp_path / "t.toml"
    file.write_text("absolute = 0.1\n")
    assert read_tolerance(file).of("matched", 100) == 0.0001
    assert read_tolerance(file).of("score", 100) == 0.1


def test_an_embedding_beside_other_results_is_noted_and_not_compared(own_registries):
    class Picture:
        meta = EvaluatorMeta("planted-picture", "1", "A picture", "trust", picture=True)
        Params = pydantic.BaseModel

    EVALUATORS.register("planted-picture", Picture(), origin=registry.Origin(__file__, 1))
    points = pd.DataFrame({"protein": ["a", "b"], "umap_1": [0.0, 1.0]})
    pictures = [
        result({"trust": t}, {"proteins": points.assign(umap_1=t)}, evaluator="planted-picture") for t in (0.1, 0.9)
    ]
    found = compare([pictures[0], result({"s": 1.0})], [pictures[1], result({"s": 1.0})])
    assert found.same
    assert found.notes == ["planted / x / planted-picture: not reproducible, not compared"]


def test_of_an_evaluator_that_last_digits_move_only_metrics_are_held(gate):
    text = (gate.folder / "gate.toml").read_text()
    (gate.folder / "gate.toml").write_text(f'metrics_only = ["loo-knn"]\n{text}')
    assert gate("--accept", gate.folder).code == 0
    held = json.loads((gate.folder / "painted.json").read_text())["results"]
    assert all(record["metrics"] and not record["details"] for record in held)
    said = gate()
    assert said.code == 0
    assert "36 numbers of 12 results compared: all the same." in words(said)


def test_a_folder_of_ones_own_is_a_gate_with_its_own_tolerance_junit_and_json(
    accepted, own_registries, capsys, monkeypatch, tmp_path
):
    folder = tmp_path / "mine"
    shutil.copytree(accepted, folder)
    painted.register()

    def gate(*arguments):
        return call(capsys, monkeypatch, "gate", "--expected", folder, "--workers", 1, *arguments)

    assert gate().code == 0
    record = json.loads((folder / "painted.json").read_text())
    record["results"][0]["metrics"]["accuracy"] += 0.3
    (folder / "painted.json").write_text(json.dumps(record))
    said = gate("--format", "json", "--junit", tmp_path / "gate.xml")
    assert said.code == 1
    told = json.loads(said.out)
    assert told["same"] is False
    (changed,) = told["changed"]
    assert changed["number"] == "accuracy"
    assert changed["new"] - changed["old"] == pytest.approx(-0.3, abs=1e-6)
    assert 'failures="1"' in (tmp_path / "gate.xml").read_text()
    assert f"--expected {folder} --accept {folder}" in said.err
    (folder / "tolerance.toml").write_text("absolute = 0.5\n")
    assert gate().code == 0
    (tmp_path / "narrow.toml").write_text("absolute = 0.0\ncells = 0\n")
    assert gate("--tolerance", tmp_path / "narrow.toml").code == 1


def test_a_gate_that_takes_features_from_the_users_cache_leaves_them_there(gate, cache):
    assert gate("--use-cache").code == 0
    assert list((cache / "features").iterdir())


def test_a_folder_that_is_none_or_declares_nothing_is_a_sentence(capsys, monkeypatch, tmp_path):
    said = call(capsys, monkeypatch, "gate", "--expected", tmp_path / "gone")
    assert said.code == 2
    assert "gone is no folder. It holds gate.toml" in said.err
    said = call(capsys, monkeypatch, "gate", "--expected", tmp_path)
    assert said.code == 2
    assert "gate.toml cannot be read" in said.err
