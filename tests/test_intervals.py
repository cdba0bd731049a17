"""Intervals: t against SciPy, pairs against sums by hand, all pairs of images against a loop, and sampling errors against draws."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from factories import make_features
from scipy import stats
from scipy.spatial.distance import cdist

import pci_bench
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.statistics.intervals import Spread, item_spread, mean_spread, pair_spread, training_variance_of
from pci_bench.statistics.pairwise import gradient, normalized
from pci_bench.statistics.scaling import standardized


@pytest.mark.parametrize("df", [1, 3.5, 200, np.inf])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.999])
def test_an_interval_is_students(df, level):
    quantile = stats.norm.ppf(0.5 + level / 2) if np.isinf(df) else stats.t.ppf(0.5 + level / 2, df)
    low, high = Spread(4.0, df).interval(1.0, level=level)
    assert (low, high) == pytest.approx((1 - 2 * quantile, 1 + 2 * quantile))


def test_an_interval_is_cut_where_no_value_lies_and_holds_its_value():
    assert Spread(1.0, 10).interval(0.9, low=0, high=1) == (0, 1)
    assert Spread(0.0, np.inf).interval(0.9, low=0, high=1) == (0.9, 0.9)
    low, high = Spread(0.01, 10).log_interval(2.0)
    assert low * high == pytest.approx(4.0)


def test_a_sum_of_parts_has_the_degrees_of_freedom_of_welch():
    a, b = np.random.default_rng(0).normal(size=9), 3 * np.random.default_rng(1).normal(size=5)
    total = Spread.total([Spread(np.var(v, ddof=1) / len(v), len(v) - 1) for v in (a, b)])
    welch = stats.ttest_ind(a, b, equal_var=False)
    low, high = total.interval(a.mean() - b.mean())
    assert (low, high) == pytest.approx(tuple(welch.confidence_interval()))


def test_the_spread_of_a_mean_over_groups_of_one_size_is_that_of_their_means():
    values = np.random.default_rng(0).normal(size=(7, 4))
    found = mean_spread(values.ravel(), np.repeat(np.arange(7), 4))
    assert found.variance == pytest.approx(np.var(values.mean(axis=1), ddof=1) / 7)
    assert found.df == 6


def test_pairs_that_share_an_item_are_counted_together_and_each_pair_once():
    rng = np.random.default_rng(0)
    pairs = np.array([p for p in rng.integers(0, 8, (60, 2)) if p[0] != p[1]])
    influence = rng.normal(size=len(pairs))
    influence -= influence.mean()
    found = pair_spread(influence, pairs, np.zeros(8, int))
    sums = np.array([influence[(pairs == item).any(axis=1)].sum() for item in range(8)])
    both = sum(influence[(np.sort(pairs) == d).all(axis=1)].sum() ** 2 for d in itertools.combinations(range(8), 2))
    expected = 8 / 6 * np.square(sums - sums.mean()).sum() - both
    assert found.variance == pytest.approx(max(expected, both))
    assert item_spread(np.zeros(8), 0.0, np.zeros(8, int)).variance == 0


def test_what_was_learned_from_counts_by_evaluator_and_by_what_is_left_out():
    assert training_variance_of(EVALUATORS.get("argmax").meta.training_variance, {}, grouped=True) == 1
    for evaluator in ("loo-knn", "logistic-regression", "random-forest"):
        factors = EVALUATORS.get(evaluator).meta.training_variance
        cell, image, alone = (
            training_variance_of(factors, {"exclude": exclude}, grouped=grouped)
            for exclude, grouped in (("cell", True), ("image", True), ("cell", False))
        )
        assert 1 < cell < image == alone


@pytest.mark.parametrize("statistic", ["z", "ratio"])
def test_the_gradient_is_that_of_small_steps(statistic):
    at = np.array([1.3, 1.7, 3.4])
    steps = 1e-6 * np.eye(3)
    expected = [(normalized(*(at + s), statistic) - normalized(*(at - s), statistic)) / 2e-6 for s in steps]
    assert gradient(*at, statistic) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def proteins_in_lines(seed=0):
    """Proteins of three terms, with one to four images in two cell lines."""
    rng = np.random.default_rng(seed)
    rows, values = [], []
    for number in range(15):
        centre = rng.normal(size=6) + np.eye(6)[number % 3]
        for image in range(1 + number % 4):
            line = f"line{rng.integers(2)}"
            for _ in range(rng.integers(1, 5)):
                rows.append((f"p{number}", f"i{number}-{image}", f"term{number % 3}", line))
                values.append(centre + rng.normal(size=6))
    obs = pd.DataFrame(rows, columns=["protein", "image", "labels", "cell_line"])
    return make_features(values, cell=None, **obs)


def by_a_loop(adata):
    """Table 2 over all pairs of images of different proteins, each weighted by how often it would be drawn."""
    obs, z = adata.obs.reset_index(drop=True), standardized(adata.X)
    images = obs.groupby("image").first()
    cells = obs.groupby("image").indices
    counts = images["protein"].value_counts()
    sets = {key: [] for key in itertools.product([True, False], repeat=2)}
    for one, other in itertools.combinations(images.index, 2):
        a, b = images.loc[one], images.loc[other]
        if a["protein"] != b["protein"]:
            weight = 1 / counts[a["protein"]] / counts[b["protein"]]
            key = (a["cell_line"] == b["cell_line"], a["labels"] == b["labels"])
            sets[key].append((weight, cdist(z[cells[one]], z[cells[other]]).mean()))
    scores = []
    for line in (True, False):
        (w, d), (v, e) = (np.array(sets[line, term]).T for term in (True, False))
        mean = np.average(e, weights=v)
        scores.append((np.average(d, weights=w) - mean) / np.sqrt(np.average((e - mean) ** 2, weights=v)))
    return scores[0], scores[1], scores[1] - scores[0]


def test_all_pairs_are_those_of_a_loop_and_random_pairs_scatter_about_them_as_far_as_is_said(monkeypatch):
    adata = proteins_in_lines()
    expected = by_a_loop(adata)
    monkeypatch.setattr("pci_bench.evaluators.pairwise_distance_cell_line.BLOCK_PAIRS", 40)
    monkeypatch.setattr("pci_bench.statistics.cell_line_pairs.BLOCK_ROWS", 2**12)  # 400 pairs want no more
    names = ("same_cell_line", "different_cell_line", "difference")
    results = [
        pci_bench.evaluate("pairwise-distance-cell-line", adata, minimum_proteins=2, pairs=400, seed=seed)[0]
        for seed in range(60)
    ]
    for name, value in zip(names, expected, strict=True):
        assert results[0].metrics[f"all_pairs_{name}"] == pytest.approx(value)
        errors = np.array([r.metrics[name] for r in results]) - value
        said = np.mean([r.metrics[f"sampling_error_{name}"] for r in results])
        assert abs(errors.mean()) < 4 * said / np.sqrt(60)
        assert 0.6 < errors.std() / said < 1.4  # χ² of 60: 4 standard errors are ± 0.37
    assert results[0].details["all_pairs"] == sum(
        len(adata.obs.loc[adata.obs["protein"] == a, "image"].unique())
        * len(adata.obs.loc[adata.obs["protein"] == b, "image"].unique())
        for a, b in itertools.combinations(adata.obs["protein"].unique(), 2)
    )


def test_where_all_pairs_are_too_many_only_drawn_ones_are_measured(monkeypatch):
    monkeypatch.setattr("pci_bench.evaluators.pairwise_distance_cell_line.ALL_PAIRS_WORK", 1)
    (result,) = pci_bench.evaluate("pairwise-distance-cell-line", proteins_in_lines(), minimum_proteins=2, pairs=50)
    assert result.details["all_pairs"] is None
    assert not any(name.startswith("all_pairs") for name in result.metrics)
    assert result.metrics["sampling_error_difference"] > 0
