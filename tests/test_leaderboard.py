"""Rankings: order, groups, and what must not be ranked together."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from factories import make_result

from pci_bench import UserError
from pci_bench.runs.leaderboard import chosen, compact_letters, csv, json_rows, markdown, rankings
from pci_bench.runs.paired import separable


def result(name, right, *, n=400, sha256="abc", started="2026-01-01", predictions=True, interval=0.02):
    labels = np.array(["a", "b"])[np.arange(n) % 2]
    guess = labels.copy()
    wrong = np.arange(n) >= round(right * n)
    guess[wrong] = np.where(labels[wrong] == "a", "b", "a")
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(n)], "label": labels, "predicted": guess})
    value = float(np.mean(guess == labels))
    return make_result(
        table if predictions else None,
        dataset={"sha256": sha256, "n_cells": n, "classes": {"a": n, "b": n}},
        features={"name": name},
        evaluator={"params": {"k": 11, "exclude": "cell"}},
        metrics={"balanced_accuracy": value},
        intervals={"balanced_accuracy": (value - interval, value + interval)},
        run={"started": started},
    )


def test_the_best_comes_first_and_what_the_cells_cannot_tell_apart_shares_a_letter():
    (ranking,) = rankings([result("low", 0.5), result("high", 0.9), result("almost", 0.8975)])
    assert [(p.rank, p.result.features.name, p.group) for p in ranking.places] == [
        (1, "high", "a"),
        (2, "almost", "a"),
        (3, "low", "b"),
    ]


def test_letters_are_shared_by_those_pairs_alone_that_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    for count in range(1, 9):
        for _ in range(20):
            alike = {(i, j) for i in range(count) for j in range(i + 1, count) if rng.random() < 0.5}
            groups = compact_letters(count, alike)
            shared = {(i, j) for i in range(count) for j in range(i + 1, count) if set(groups[i]) & set(groups[j])}
            assert shared == alike
            assert all(groups)
            assert "".join(sorted(set("".join(groups)))) == "abcdefghijklmnopqrstuvwxyz"[: len(set("".join(groups)))]


def test_groups_overlap_where_the_middle_one_is_like_both_others():
    (ranking,) = rankings(
        [result(name, value, predictions=False) for name, value in (("x", 0.9), ("y", 0.87), ("z", 0.84))]
    )
    assert [(p.result.features.name, p.group) for p in ranking.places] == [("x", "a"), ("y", "ab"), ("z", "b")]


def test_the_strictest_comparison_is_ranked_first():
    loose = [result("x", 0.9), result("y", 0.8)]
    strict = [r.model_copy(deep=True) for r in loose]
    for one in strict:
        one.evaluator.params |= {"exclude": "image"}
    assert ["image" in r.params for r in rankings([*loose, *strict])] == [True, False]


def test_without_predictions_intervals_decide():
    def groups(second):
        found = [result("first", 0.9, predictions=False), result("second", second, predictions=False)]
        return [p.group for p in rankings(found)[0].places]

    assert groups(0.87) == ["a", "a"]
    assert groups(0.85) == ["a", "b"]


def test_the_newest_of_one_feature_set_counts():
    (ranking,) = rankings(
        [result("x", 0.9, started="2026-01-01"), result("x", 0.6, started="2026-02-01"), result("y", 0.7)]
    )
    assert [p.result.features.name for p in ranking.places] == ["y", "x"]


def test_other_cells_are_not_ranked_together_and_one_feature_set_is_no_ranking():
    with pytest.raises(UserError, match="different cells"):
        rankings([result("x", 0.9), result("y", 0.9, sha256="other")])
    with pytest.raises(UserError, match="nothing to rank"):
        rankings([result("x", 0.9)])


def test_numbers_are_printed_as_in_tables_and_chance_stands_beside_them():
    shares, scores = [result("x", 0.9), result("y", 0.7)], [result("x", 0.9), result("y", 0.7)]
    for one in scores:
        one.evaluator.name, one.evaluator.params = "multi-localization", {"first": "a", "second": "b"}
        one.metrics = {"separation": one.metrics["balanced_accuracy"], "chance_separation": 0.61}
    text = markdown(rankings([*shares, *scores]))
    assert "balanced accuracy (%)" in text
    assert "| 90.0 " in text
    assert "separation (%)" not in text
    row = next(line for line in text.splitlines() if "0.90" in line)
    assert [c.strip() for c in row.split("|")][1:] == ["1", "x", "0.90", "", "0.61", "a", ""]


def test_more_feature_sets_need_clearer_differences():
    better, worse = result("first", 0.9), result("second", 0.86)
    assert separable(better, worse, "balanced_accuracy")
    assert not separable(better, worse, "balanced_accuracy", comparisons=1000)


def test_markdown_and_csv_hold_the_same_ranking():
    found = rankings([result("low", 0.5), result("high", 0.9)])
    text = markdown(found)
    assert text.index("high") < text.index("low")
    assert "90.0" in text
    table = pd.read_csv(io.StringIO(csv(found)))
    assert table["features"].tolist() == ["high", "low"]
    assert table["value"].tolist() == [0.9, 0.5]
    assert table["group"].tolist() == ["a", "b"]


def test_evaluators_exclusions_numbers_of_neighbours_and_the_metric_are_chosen():
    results = [result("x", 0.9), result("y", 0.7)]
    others = [r.model_copy(deep=True) for r in results]
    for other in others:
        other.evaluator.params |= {"k": 5, "exclude": "image"}
        other.metrics["macro_f1"] = 1 - other.metrics["balanced_accuracy"]
    both = [*results, *others]
    assert chosen(both) == both
    assert chosen(both, k=[5]) == chosen(both, exclude=["image"]) == others
    assert chosen(both, evaluators=["loo-knn"], k=[11], exclude=["cell"]) == results
    (ranking,) = rankings(both, "macro_f1")
    assert [row["features"] for row in json_rows([ranking])] == ["y", "x"]
    assert [row["rank"] for row in json_rows([ranking])] == [1, 2]
    for wanted, sentence in (
        ({"k": [7]}, "number of neighbours 7; these have 11, 5"),
        ({"exclude": ["plate"]}, "exclusion plate; these have cell, image"),
        ({"evaluators": ["umap"]}, "evaluator umap; these have loo-knn"),
    ):
        with pytest.raises(UserError, match=sentence):
            chosen(both, **wanted)
    with pytest.raises(UserError, match=r"nothing to rank by 'p'.*balanced_accuracy, macro_f1"):
        rankings(both, "p")
