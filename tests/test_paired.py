"""The difference of two results on the same cells: its intervals, McNemar's test, and who may be paired with whom."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pandas as pd
import pytest
from factories import make_result
from typer.testing import CliRunner

import pci_bench
from pci_bench import UserError
from pci_bench.cli.app import app
from pci_bench.runs.results import write_result
from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.paired import bootstrap_differences, jackknife_variance_of, mcnemar_p

N = 400
LABELS = np.array(["a", "b"])[np.arange(N) % 2]
IMAGES = np.array([f"i{i:02}" for i in np.arange(N) // 10])


def result(name, right, *, params=None, sha256="abc", images=IMAGES, **sections):
    """Return a result whose cells are right (n,) bool."""
    guess = np.where(right, LABELS, np.where(LABELS == "a", "b", "a"))
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(N)], "label": LABELS, "predicted": guess, "image": images})
    value = float(np.mean([right[c == LABELS].mean() for c in "ab"]))
    return make_result(
        table,
        dataset={"sha256": sha256, "n_cells": N, "classes": {"a": 200, "b": 200}, "confounder": "image"},
        features={"name": name},
        evaluator={"params": params or {"k": 11, "exclude": "image"}, "training_variance": (1.0, 1.0)},
        metrics={"balanced_accuracy": value},
        **sections,
    )


def drawn(share, seed):
    return np.random.default_rng(seed).random(N) < share


def test_the_difference_is_the_first_minus_the_second_and_counts_who_is_right_alone():
    first, second = drawn(0.9, 1), drawn(0.7, 2)
    difference = pci_bench.paired_difference(result("x", first), result("y", second))
    assert difference.value == pytest.approx(first.mean() - second.mean())
    assert (difference.only_first, difference.only_second) == ((first & ~second).sum(), (~first & second).sum())
    assert (difference.unit, difference.n_units) == ("image", 40)
    assert difference.separable
    back = pci_bench.paired_difference(result("y", second), result("x", first))
    assert back.interval == pytest.approx([-v for v in difference.interval[::-1]])
    assert not pci_bench.paired_difference(result("x", first), result("z", first)).separable


def test_the_bootstrap_and_the_jackknife_agree_where_there_are_many_images():
    images = np.array([f"i{i}" for i in range(N)])
    difference = pci_bench.paired_difference(
        result("x", drawn(0.9, 1), images=images), result("y", drawn(0.7, 2), images=images)
    )
    assert np.allclose(difference.interval, difference.bootstrap, atol=0.01)


def test_whole_images_are_drawn_so_that_alike_cells_do_not_count_as_many():
    by_image = np.repeat(np.random.default_rng(3).random(N // 10) < 0.5, 10)
    alone = pci_bench.paired_difference(result("x", by_image), result("y", ~drawn(0.5, 4)))
    cells = pci_bench.paired_difference(
        result("x", by_image, images=[f"i{i}" for i in range(N)]),
        result("y", ~drawn(0.5, 4), images=[f"i{i}" for i in range(N)]),
    )
    assert np.diff(alone.interval) > 1.8 * np.diff(cells.interval)
    assert np.diff(alone.bootstrap) > 1.8 * np.diff(cells.bootstrap)


@pytest.mark.parametrize(("b", "c"), [(0, 0), (3, 9), (10, 10), (1, 40)])
def test_mcnemar_is_the_sum_over_the_binomial_tails(b, c):
    n = b + c
    expected = min(1.0, 2 * sum(comb(n, i) for i in range(min(b, c) + 1)) / 2**n)
    assert mcnemar_p(b, c) == pytest.approx(expected)


def test_the_bootstrap_draws_units_within_strata_as_a_loop_does():
    rng = np.random.default_rng(0)
    labels, groups = np.arange(60) // 20, np.arange(60) // 5
    gain = rng.integers(-1, 2, 60).astype(float)
    units, strata, _ = units_and_strata(groups, labels, np.arange(60).astype(str))
    found = bootstrap_differences(labels, gain, units, strata, 4000, 1)
    looped = []
    for _ in range(4000):
        means = []
        for label in range(3):
            own = np.unique(groups[labels == label])
            means.append(np.concatenate([gain[groups == g] for g in rng.choice(own, len(own) - 1)]).mean())
        looped.append(np.mean(means))
    assert np.allclose([found.mean(), found.std()], [np.mean(looped), np.std(looped)], atol=0.01)


def test_the_variance_of_replicates_adds_up_over_strata():
    values = [np.array([1.0, 2, 4]), np.array([0.0, 5])]
    strata = np.array([0, 0, 0, 1, 1])
    replicates = np.concatenate([(v.sum() - v) / (len(v) - 1) for v in values])
    assert jackknife_variance_of(replicates, strata)[0] == pytest.approx(sum(v.var(ddof=1) / len(v) for v in values))


def test_results_that_keep_their_headline_without_each_unit_are_paired_by_it():
    def of(name, own):
        table = pd.DataFrame({"unit": list("pqrs"), "stratum": 0, "distance": (sum(own) - np.array(own)) / 3})
        return make_result(
            None,
            {"leave-one-out": table},
            features={"name": name},
            evaluator={"name": "mine", "headline": "distance"},
            metrics={"distance": float(np.mean(own))},
            details={"unit": "plate"},
        )

    first, second = np.array([1.0, 2, 3, 5]), np.array([0.0, 1, 1, 2])
    difference = pci_bench.paired_difference(of("x", first), of("y", second))
    gain = first - second
    half = 3.182446 * gain.std(ddof=1) / 2  # Student's t with 3 degrees of freedom
    assert difference.interval == pytest.approx((gain.mean() - half, gain.mean() + half))
    assert (difference.unit, difference.n_units, difference.bootstrap) == ("plate", 4, None)


def test_other_cells_and_results_without_predictions_are_refused():
    with pytest.raises(UserError, match="different cells"):
        pci_bench.paired_difference(result("x", drawn(0.9, 1)), result("y", drawn(0.9, 1), sha256="other"))
    with pytest.raises(UserError, match="no predictions of the same cells"):
        pci_bench.paired_difference(result("x", drawn(0.9, 1)), make_result(dataset={"n_cells": N, "sha256": "abc"}))


def test_the_command_prints_every_evaluation_that_has_both(tmp_path):
    for number, (name, share) in enumerate((("x", 0.9), ("y", 0.7))):
        for exclude in ("cell", "image"):
            made = result(name, drawn(share, number), params={"k": 11, "exclude": exclude})
            write_result(made, tmp_path / "results" / name / f"{exclude}.json")
    arguments = ["compare-features", "x", "y", "--results", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "x minus y" in done.stdout
    assert "40 images" in done.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [c["evaluation"] for c in found] == ["loo-knn k=11, exclude=cell", "loo-knn k=11, exclude=image"]
    assert all(c["interval"][0] > 0 for c in found)
    for names, sentence in ((["x", "w"], "No result is of 'w'"), (["x", "x"], "the same feature set")):
        refused = CliRunner().invoke(app, ["compare-features", *names, "--results", str(tmp_path)])
        assert refused.exit_code == 2 or isinstance(refused.exception, UserError)
        assert sentence in f"{refused.output}{refused.exception}"


def test_shares_and_yes_or_no_have_the_same_jackknife_also_where_plates_hold_different_numbers_of_cells():
    plates = np.repeat(list("pqrstu"), [150, 100, 60, 40, 30, 20])
    found = []
    for shares in (False, True):
        pair = [result(name, drawn(share, seed), images=plates) for name, share, seed in (("x", 0.9, 1), ("y", 0.7, 2))]
        for one in pair if shares else ():
            right = (one.predictions["label"] == one.predictions["predicted"]).astype(float)
            one.predictions["correct"] = right + np.where(np.arange(N) == 0, 1e-9, 0)  # no whole number
        found.append(pci_bench.paired_difference(*pair).interval)
    assert found[0] == pytest.approx(found[1], abs=1e-6)
    gain = drawn(0.9, 1).astype(float) - drawn(0.7, 2)
    without = [np.mean([gain[(c == LABELS) & (plates != p)].mean() for c in "ab"]) for p in "pqrstu"]
    half = 2.570582 * np.sqrt(5 / 6 * np.square(without - np.mean(without)).sum())  # Student's t, 5 degrees of freedom
    assert np.diff(found[0]) / 2 == pytest.approx(half, rel=1e-6)
