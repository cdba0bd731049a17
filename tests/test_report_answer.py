"""What a report opens with: the ranking in the strictest column, and sentences that follow from planted numbers."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from factories import make_result

from pci_bench.api.plugins import load_plugins
from pci_bench.reporting.html.answers import answer_of, answer_views, evaluations
from pci_bench.reporting.html.sentences import sentences
from pci_bench.runs.answer import chance_level, inseparable_from_best, share_lost, standings
from pci_bench.runs.results import MetricRecord

CLASSES, CELLS = ("a", "b", "c", "d"), 400
ALL, IMAGES, BALANCED = {"exclude": "cell"}, {"exclude": "image"}, {"exclude": "image", "candidates": "balanced"}


@pytest.fixture(autouse=True)
def _known_feature_sets():
    load_plugins()


def planted(name, right, params=ALL, *, weights=None, k=11, seed=0):
    """Return a result in which a share of the cells is right, each feature set wrong on cells of its own."""
    labels = np.array(CLASSES)[np.arange(CELLS) % len(CLASSES)]
    order = np.random.default_rng([seed, *name.encode()]).permutation(CELLS // len(CLASSES))
    guess = labels.copy()
    for label in CLASSES:
        cells = np.flatnonzero(labels == label)[order]
        guess[cells[round(right * len(cells)) :]] = CLASSES[(CLASSES.index(label) + 1) % len(CLASSES)]
    value = float(np.mean([(guess == labels)[labels == label].mean() for label in CLASSES]))
    return make_result(
        pd.DataFrame({"cell": [f"c{i}" for i in range(CELLS)], "label": labels, "predicted": guess}),
        dataset={"sha256": "abc", "n_cells": CELLS, "classes": dict.fromkeys(CLASSES, CELLS // len(CLASSES))},
        features={"name": name, "weights": weights},
        evaluator={"params": {"k": k, **params}},
        metrics={"balanced_accuracy": value},
        intervals={"balanced_accuracy": (value - 0.04, value + 0.04)},
    )


def said(results):
    (evaluation,) = evaluations(results)
    return sentences(answer_of(evaluation))


def both(name, loose, strict, **options):
    return [planted(name, loose, ALL, **options), planted(name, strict, IMAGES, **options)]


def test_the_best_of_the_strictest_column_is_named_whoever_leads_the_loosest():
    best, tied, cost = said(
        [*both("autoencoder-conv3", 0.95, 0.4), *both("pci-conv4", 0.9, 0.7), *both("noise", 0.26, 0.25)]
    )
    assert best == (
        "Of 2 feature sets that need no labels, pci-conv4 is best where cells are compared with other images only: "
        "balanced accuracy 70.0 % [66.0, 74.0]."
    )
    assert tied == "The other one, autoencoder-conv3, can be told apart from it: 40.0 % [36.0, 44.0]."
    lost = round(100 * (0.9 - 0.7) / (0.9 - 1 / 4))
    assert cost == (
        f"Compared with all other cells, pci-conv4 reaches 90.0 %: of what that is above chance, {lost} % is lost in the strictest "
        "column. The best control, noise, reaches 25.0 % there; chance is 25.0 %."
    )


def test_where_paired_cell_inpainting_loses_its_place_is_said():
    results = [
        *both("designed", 0.9, 0.9), *both("autoencoder-conv3", 0.8, 0.8), *both("pci-conv4", 0.9, 0.6), *both("pci-conv1", 0.5, 0.4)
    ]  # fmt: skip
    best, tied, _ = said(results)
    assert "designed is best" in best
    assert "The next is autoencoder-conv3: 80.0 %" in tied
    assert tied.endswith("Paired cell inpainting, pci-conv4, is number 3 of 4: 60.0 % [56.0, 64.0].")


def test_what_the_cells_cannot_tell_apart_is_listed():
    close = [
        planted(name, share, IMAGES) for name, share in (("pci-conv4", 0.7), ("designed", 0.69), ("pci-conv1", 0.3))
    ]
    assert said(close)[1] == "designed cannot be told apart from it."
    assert inseparable_from_best(close, "balanced_accuracy") == ["designed"]
    assert said(close[:2])[1] == "designed cannot be told apart from it."


def test_one_feature_set_is_no_ranking():
    best, tied, cost = said(both("pci-conv4", 0.9, 0.7))
    assert best.startswith(
        "One feature set that needs no labels was run, pci-conv4, so nothing is ranked: balanced accuracy 70.0 %"
    )
    assert "controls and chance only" in tied
    assert cost.endswith("Chance is 25.0 %; no control was run.")


def test_controls_alone_are_not_ranked():
    best, _, cost = said([*both("noise", 0.25, 0.25), *both("intensity", 0.5, 0.3)])
    assert "there are only controls" in best
    assert cost == "The best control, intensity, reaches 30.0 % there; chance is 25.0 %."


def test_of_one_column_it_is_said_that_what_it_owes_to_images_is_not_known():
    cost = said([planted("pci-conv4", 0.9), planted("designed", 0.5)])[2]
    assert "Cells were compared in one way only, with all other cells" in cost
    assert "lost" not in cost


def test_a_control_that_is_as_good_is_a_warning():
    cost = said([*both("pci-conv4", 0.9, 0.3), *both("raw-pixels", 0.9, 0.5)])[2]
    assert "A control, raw-pixels, is as good or better: 50.0 %" in cost


def test_a_number_that_rises_in_the_strictest_column_has_lost_nothing():
    assert "nothing is lost" in said(both("pci-conv4", 0.6, 0.7))[2]


def test_a_supervised_feature_set_never_wins():
    results = [*both("pci-conv4", 0.9, 0.5), *both("deeploc-fc2", 0.99, 0.99), *both("designed", 0.4, 0.4)]
    assert "Of 2 feature sets that need no labels, pci-conv4 is best" in said(results)[0]
    (view,) = answer_views(results)
    assert [row[:2] for row in view["rows"]] == [
        ["pci-conv4", "competing"],
        ["designed", "competing"],
        ["deeploc-fc2", "learned from labels: an upper bound"],
    ]


def test_balanced_classes_are_stricter_and_replace_unbalanced_ones():
    results = [planted("pci-conv4", share, params) for share, params in ((0.9, ALL), (0.7, IMAGES), (0.6, BALANCED))]
    best = said([*results, planted("designed", 0.3, BALANCED)])[0]
    assert "other images only, classes balanced: balanced accuracy 60.0 %" in best


def test_the_chart_and_the_ladder_hold_what_their_files_hold():
    (view,) = answer_views([*both("pci-conv4", 0.9, 0.7), *both("pci-conv1", 0.6, 0.5), *both("noise", 0.26, 0.25)])
    drawn = view["chart"]["data"]["values"]
    assert [[d["name"].removeprefix("≈ "), d["value"], d["low"], d["high"]] for d in drawn] == [
        [row[0], *row[4:7]] for row in view["rows"]
    ]
    assert view["chart"]["encoding"]["y"]["sort"][-2:] == ["controls:", "noise"]
    points = view["ladder"]["chart"]["data"]["values"]
    assert [[p["name"], p["value"]] for p in points] == [[row[0], row[2]] for row in view["ladder"]["rows"]]
    assert {row[1] for row in view["ladder"]["rows"]} == {"all other cells", "other images only"}
    assert view["ladder"]["key"][0][2:] == ["pci-conv4", "90.0 → 70.0"]


def test_one_column_has_no_ladder():
    (view,) = answer_views([planted("pci-conv4", 0.9)])
    assert view["ladder"] is None


def test_a_family_has_one_colour_and_its_members_symbols_of_their_own():
    (view,) = answer_views([r for n in range(1, 6) for r in both(f"pci-conv{n}", 0.9 - 0.05 * n, 0.5)])
    key = view["ladder"]["key"]
    assert len({colour for _, colour, *_ in key}) == 1
    assert len({letter for letter, *_ in key}) == 5


def test_a_crowded_ladder_highlights_eight():
    results = [r for n in range(12) for r in both(f"timm:net{n}", 0.9, 0.9 - 0.05 * n)]
    (view,) = answer_views(results)
    assert [name for _, _, name, _ in view["ladder"]["key"]] == [f"timm:net{n}" for n in range(8)]
    assert "4 more stand in the tables" in view["ladder"]["reading"]
    assert len(view["rows"]) == 12


def test_seeds_are_one_row_with_their_mean_and_range():
    seeds = [planted("pci-random-conv1", share, weights=f"seed{n}", seed=n) for n, share in enumerate((0.3, 0.4, 0.5))]
    (standing,) = standings(seeds, "balanced_accuracy")
    assert (standing.name, standing.seeds) == ("pci-random-conv1", 3)
    assert (standing.value, standing.low, standing.high) == pytest.approx((0.4, 0.3, 0.5))


def test_where_less_is_better_the_least_is_best():
    results = [planted("pci-conv4", 0.2), planted("designed", 0.5)]
    for one in results:
        one.evaluator.metrics["balanced_accuracy"] = MetricRecord(unit="percent", higher_is_better=False)
    assert "pci-conv4 is best" in said(results)[0]


def test_an_embedding_is_an_answer_only_where_there_is_no_other():
    umap = make_result(evaluator={"name": "umap", "params": {}}, metrics={"trustworthiness": 0.9})
    assert [e.results[0].evaluator.name for e in evaluations([umap, planted("designed", 0.5)])] == ["loo-knn"]
    assert [e.results[0].evaluator.name for e in evaluations([umap])] == ["umap"]


def test_a_coarser_exclusion_is_stricter_than_balanced_classes():
    results = [planted(name, share, params) for name in ("designed", "pci-conv4")
               for share, params in ((0.9, ALL), (0.5, {"exclude": "cell_line"}), (0.7, BALANCED))]  # fmt: skip
    (evaluation,) = evaluations(results)
    assert [level.column for level in evaluation.levels] == ["cell", "image", "cell_line"]
    assert "other cell lines only" in sentences(answer_of(evaluation))[0]


def test_measured_chance_replaces_one_over_the_classes():
    one = planted("pci-conv4", 0.9)
    assert chance_level([one], "balanced_accuracy") == 1 / 4
    one.details["chance"] = {"balanced_accuracy": {"mean": 0.21, "low": 0.2, "high": 0.22}}
    assert chance_level([one], "balanced_accuracy") == 0.21
    assert chance_level([one], "trustworthiness") is None


@pytest.mark.parametrize(("loose", "strict", "lost"), [(0.9, 0.5, 0.5), (0.9, 0.1, 1.0), (0.5, 0.9, -1.0)])
def test_the_share_lost_is_of_what_is_above_chance(loose, strict, lost):
    assert share_lost(loose, strict, 0.1, 0.1) == pytest.approx(lost)


def test_no_sentence_has_two_semicolons_and_each_ends():
    for results in (
        [*both("pci-conv4", 0.9, 0.7), *both("noise", 0.3, 0.2)],
        [planted("noise", 0.3)],
        both("designed", 0.8, 0.8),
    ):
        for text in said(results):
            assert text.endswith(".")
            assert all(part.count(";") < 2 for part in re.split(r"\. ", text))
