"""compare: a change is seen, the same is the same, and what cannot be compared is refused."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_result
from hypothesis import given, settings
from hypothesis import strategies as st

from pci_bench import UserError
from pci_bench.cli import terminal
from pci_bench.reporting.comparison import junit, markdown, rows, verdict
from pci_bench.runs.comparison import Difference, compare, read_any
from pci_bench.runs.paired import joined, paired_interval
from pci_bench.runs.results import EvaluatorRecord, write_result
from pci_bench.runs.tolerance import Tolerance, read_tolerance
from pci_bench.statistics.intervals import TRAINING_VARIANCE


def result(
    value=0.5, *, per_class=None, features="intensity", k=11, sha256="abc", version="1", predictions=None, **more
):
    return make_result(
        predictions,
        dataset={"sha256": sha256, "classes": {"a": 500, "b": 500}},
        features={"name": features},
        evaluator={"version": version, "params": {"k": k, "exclude": "cell"}},
        metrics={"balanced_accuracy": value, **more},
        details={"per_class": per_class or {"a": value, "b": value}},
    )


def guesses(right, seed=0, n=1000):
    rng = np.random.default_rng(seed)
    labels = np.array(["a", "b"])[np.arange(n) % 2]
    wrong = rng.random(n) >= right
    other = np.where(labels == "a", "b", "a")
    return pd.DataFrame(
        {"cell": [f"c{i}" for i in range(n)], "label": labels, "predicted": np.where(wrong, other, labels)}
    )


def test_a_set_is_the_same_as_itself():
    found = compare([result(), result(k=5)], [result(), result(k=5)])
    assert found.same
    assert found.compared == 2


@pytest.mark.parametrize(("value", "direction"), [(0.5051, "higher"), (0.4949, "lower")])
def test_a_metric_that_moves_by_more_than_half_a_point_is_a_change_in_either_direction(value, direction):
    found = compare([result(per_class={"a": 0.5})], [result(value, per_class={"a": 0.5})])
    assert [(d.what, d.direction) for d in found.changes] == [("balanced_accuracy", direction)]
    assert compare([result(per_class={"a": 0.5})], [result(0.5049, per_class={"a": 0.5})]).same


def test_two_cells_may_always_move():
    assert Tolerance().of("accuracy", 100) == pytest.approx(0.02)
    assert Tolerance().of("accuracy", 100_000) == 0.005
    assert Tolerance(metrics={"accuracy": 0.1}).of("accuracy", 1000) == 0.1


@pytest.mark.parametrize("n", [7, 92, 300, 333])
def test_two_cells_may_move_though_the_old_number_was_kept_to_six_digits(n):
    kept = round(2 / n, 6)
    assert not Difference("key", "recall of a", kept, 4 / n, 2 / n).changed
    assert Difference("key", "recall of a", kept, 5 / n, 2 / n).changed


def test_classes_that_move_apart_are_seen_behind_an_equal_mean():
    found = compare([result(per_class={"a": 0.5, "b": 0.5})], [result(per_class={"a": 0.6, "b": 0.4})])
    assert {d.what: d.direction for d in found.changes} == {"recall of a": "higher", "recall of b": "lower"}


def test_missing_results_and_metrics_are_changes_and_new_ones_are_listed():
    found = compare([result(), result(k=5), result(k=25, extra=1.0)], [result(), result(k=25), result(k=1)])
    assert not found.same
    assert len(found.missing) == 2
    assert any("k=5" in m for m in found.missing)
    assert any("extra" in m for m in found.missing)
    assert len(found.new) == 1


@pytest.mark.parametrize("change", [{"sha256": "other"}, {"version": "2"}])
def test_other_cells_and_other_protocols_are_refused(change):
    with pytest.raises(UserError, match="cannot be compared"):
        compare([result()], [result(**change)])


def test_nothing_in_common_is_not_the_same():
    with pytest.raises(UserError, match="Nothing was compared"):
        compare([result(k=1)], [result(k=5)])


def test_what_is_not_reproducible_is_never_gated():
    def umap(value):
        one = result(value)
        one.evaluator.name = "umap"
        return one

    with pytest.raises(UserError, match="not reproducible"):
        compare([umap(0.1)], [umap(0.9)])
    assert compare([umap(0.1), result()], [umap(0.9), result()]).same


def test_the_paired_interval_holds_a_real_difference_and_is_narrower_than_an_unpaired_one():
    better, worse = guesses(0.8, seed=1), guesses(0.8, seed=1)
    flipped = worse.index[worse["label"] == worse["predicted"]][:60]
    worse.loc[flipped, "predicted"] = np.where(worse.loc[flipped, "label"] == "a", "b", "a")
    low, high = paired_interval(result(predictions=worse), result(predictions=better))
    assert low > 0
    assert low < 0.06 < high
    # √(2 · 0.8 · 0.2 / 1000) is the standard error of two unpaired accuracies; both sides carry the same factor
    unpaired = 2 * 1.96 * np.sqrt(TRAINING_VARIANCE["loo-knn"][1] * 2 * 0.8 * 0.2 / 1000)
    assert high - low < 0.6 * unpaired


def test_what_a_strangers_evaluator_learned_from_counts_as_it_declares():
    def half_width(name, **declared):
        sides = [result(predictions=guesses(0.8, seed)) for seed in (1, 2)]
        for side in sides:
            side.evaluator = side.evaluator.model_copy(update={"name": name, **declared})
        low, high = paired_interval(*sides)
        return (high - low) / 2

    fixed = half_width("their-classifier", training_variance=(1.0, 1.0))
    assert half_width("their-classifier") == fixed  # it says nothing, and nobody knows it
    assert half_width("their-classifier", training_variance=(1.0, 4.0)) == pytest.approx(2 * fixed)
    before = half_width("loo-knn")  # results that were written before evaluators said it
    assert before == half_width("loo-knn", training_variance=TRAINING_VARIANCE["loo-knn"])
    assert before == pytest.approx(np.sqrt(2) * fixed)


@pytest.mark.parametrize("fold", [False, True])
def test_the_paired_interval_leaves_whole_images_out_of_both_sides(fold):
    from scipy import stats

    rng = np.random.default_rng(0)
    one, other = guesses(0.8, seed=1, n=240), guesses(0.7, seed=2, n=240)
    for table in (one, other):
        table["image"] = [f"{label}{i % 16 // 2}" for i, label in enumerate(table["label"])]
    if fold:
        one["fold"], other["fold"] = np.arange(240) % 3, rng.permutation(np.arange(240) % 4)
    found = paired_interval(result(predictions=one), result(predictions=other.sample(frac=1, random_state=0)))

    def difference(kept):
        values = []
        for table in (one, other):
            folds = table["fold"] if fold else pd.Series(0, table.index)
            right = (table["label"] == table["predicted"])[kept].groupby([folds[kept], table["label"][kept]]).mean()
            values.append(right.groupby(level=0).mean().mean())
        return values[1] - values[0]

    parts = []
    for label in "ab":
        images = one.loc[one["label"] == label, "image"].unique()
        values = np.array([difference(one["image"] != i) for i in images])
        parts.append((len(images) - 1) / len(images) * np.square(values - values.mean()).sum())
    df = sum(parts) ** 2 / sum(p**2 / 7 for p in parts)
    half = stats.t.ppf(0.975, df) * np.sqrt(TRAINING_VARIANCE["loo-knn"][0] * sum(parts))
    value = difference(np.ones(240, bool))
    assert found == pytest.approx((value - half, value + half))


def test_predictions_of_other_cells_give_no_interval():
    some, others = guesses(0.5), guesses(0.5)
    others["cell"] = "x" + others["cell"]
    assert joined(result(predictions=some), result(predictions=others)) is None
    assert paired_interval(result(predictions=some), result(predictions=others)) is None
    assert paired_interval(result(predictions=some), result()) is None


@settings(max_examples=30, deadline=None)
@given(a=st.floats(0, 1), b=st.floats(0, 1))
def test_the_other_way_round_is_the_other_sign(a, b):
    there, back = compare([result(a)], [result(b)]), compare([result(b)], [result(a)])
    assert [d.delta for d in there.differences] == [-d.delta for d in back.differences]
    assert there.same == back.same


def test_what_is_written_for_people_and_for_machines_names_the_change():
    found = compare([result(0.5), result(k=3)], [result(0.6)])
    assert "3 changed (3 higher, 0 lower); 1 missing" in verdict(found)
    text = markdown(found)
    row = next(line for line in text.splitlines() if "balanced_accuracy" in line)
    assert [c.strip() for c in row.split("|")][1:6] == [
        "planted / intensity / loo-knn exclude=cell,k=11",
        "balanced_accuracy (%)",
        "50.00",
        "60.00",
        "+10.00",
    ]
    suite = ElementTree.fromstring(junit(found))
    assert suite.get("failures") == "4"
    assert len(suite.findall("testcase/failure")) == 4


@pytest.mark.parametrize(
    ("metric", "row", "message"),
    [
        ({"unit": "percent"}, ["mine (%)", "20.00", "30.00", "+10.00", "±0.50"], "20.00 % became 30.00 % (+10.00"),
        ({"unit": "number"}, ["mine", "0.2000", "0.3000", "+0.1000", "±0.0050"], "0.2000 became 0.3000 (+0.1000"),
    ],
)
def test_a_strangers_metric_is_compared_in_the_unit_that_its_result_says(metric, row, message):
    def one(value):
        made = make_result(metrics={"mine": value})
        made.evaluator = EvaluatorRecord(
            name="theirs", version="1", params={}, headline="mine", metrics={"mine": metric}
        )
        return made

    found = compare([one(0.2)], [one(0.3)])
    assert [*rows(found)[0].values()][1:6] == row
    assert message in junit(found)


def test_images_are_drawn_by_the_confounder_that_results_name_and_not_by_another_column():
    def sides(**dataset):
        made = [result(predictions=guesses(0.8, seed, n=240)) for seed in (1, 2)]
        for one in made:
            one.predictions.insert(1, "score", np.arange(240))  # a stranger's own column
            one.predictions["plate"] = [f"{label}{i % 16 // 2}" for i, label in enumerate(one.predictions["label"])]
            one.dataset = one.dataset.model_copy(update=dataset)
        return made

    plates = [f"{label}{i % 16 // 2}" for i, label in enumerate(guesses(0.8, 1, n=240)["label"])]
    assert joined(*sides(confounder="plate"))["group"].tolist() == plates
    assert "group" not in joined(*sides(confounder=""))  # declared: there is none
    assert "group" not in joined(*sides(confounder="well"))  # not beside these predictions
    assert joined(*sides())["group"].tolist() == [str(i) for i in range(240)]  # as results were read that do not say


def test_folders_and_files_are_read_and_what_is_none_is_a_sentence(tmp_path):
    write_result(result(), tmp_path / "run" / "results" / "planted" / "k=11.json")
    assert len(read_any(tmp_path / "run")) == 1
    assert len(read_any(tmp_path / "run" / "results")) == 1
    assert len(read_any(tmp_path / "run" / "results" / "planted" / "k=11.json")) == 1
    (tmp_path / "empty").mkdir()
    for where, sentence in (("empty", "no results in"), ("nowhere", "There is no")):
        with pytest.raises(UserError, match=sentence):
            read_any(tmp_path / where)
    (tmp_path / "run" / "report.html").write_text("<!DOCTYPE html>")
    with pytest.raises(
        UserError, match=r"report\.html is not a result of pci-bench: expected a name that ends in \.json"
    ):
        read_any(tmp_path / "run" / "report.html")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "coco.json").write_text(json.dumps({"images": []}))
    with pytest.raises(UserError, match="not a result of pci-bench"):
        read_any(tmp_path / "other")
    (tmp_path / "other" / "coco.json").write_text('{"schema": 1, "bench')
    with pytest.raises(UserError, match="cannot be read as JSON"):
        read_any(tmp_path / "other")


def test_a_report_beside_folders_of_results_is_left_out_of_a_leaderboard(tmp_path, capsys, monkeypatch):
    for name in ("pci-conv1", "pci-conv2"):
        write_result(result(features=name), tmp_path / name / "results" / "planted" / "k=11.json")
    page = tmp_path / "report.html"
    page.write_text("<!DOCTYPE html>")
    said = call(capsys, monkeypatch, "leaderboard", *sorted(tmp_path.iterdir()))
    assert said.code == 0, said.err
    assert f"Left out, since a report holds no results to rank: {page}" in said.err
    assert "pci-conv1" in said.out
    said = call(capsys, monkeypatch, "leaderboard", page)
    assert said.code == 2
    assert "report.html is not a result of pci-bench" in said.err


def test_a_tolerance_is_read_from_toml_and_anything_else_is_a_sentence(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text("absolute = 0.1\n[metrics]\nmacro_f1 = 0.2\n")
    assert read_tolerance(file).of("macro_f1", 10_000) == 0.2
    for text in ("absolute = -1", "wide = 3", "not toml"):
        file.write_text(text)
        with pytest.raises(UserError, match="is not a tolerance"):
            read_tolerance(file)


def test_at_80_columns_no_name_of_a_result_or_number_is_cut(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(terminal.out, "_width", 80)
    for folder, value in (("old", 0.5), ("new", 0.7)):
        one = result(value, per_class={"b": value}, a_metric_with_a_long_name=value)
        one.evaluator.params |= {"exclude": "image", "candidates": "balanced"}
        one.evaluator.key = ("candidates", "exclude", "k")
        write_result(one, tmp_path / folder / "results" / "planted" / "k=11.json")
    said = call(capsys, monkeypatch, "compare", tmp_path / "old", tmp_path / "new")
    assert said.code == 1
    lines = said.out.splitlines()
    assert re.fullmatch(r"planted / intensity / loo-knn \S*exclude=image\S*", lines[0])
    assert sum(bool(re.match(r"a_metric_with_a_long_name +(\(%\) +)?\+?(50|0\.5)", line)) for line in lines) == 1
    assert all(len(line) <= 80 for line in lines[1:-1])
