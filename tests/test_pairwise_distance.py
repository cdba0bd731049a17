"""Distances between images: the compiled loop against SciPy, the draws against their probabilities, scores by hand."""

from __future__ import annotations

import itertools
from functools import cache, partial

import anndata
import numpy as np
import pandas as pd
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import chisquare, kstest, ortho_group
from sklearn.preprocessing import StandardScaler

import pci_bench
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.benchmarks import BENCHMARKS, Benchmark
from pci_bench.conformance import evaluators as contracts
from pci_bench.errors import UserError
from pci_bench.reporting.figures import draw
from pci_bench.reporting.tables.declaration import TABLES, printed_value
from pci_bench.runs.results import Result
from pci_bench.statistics.cell_line_pairs import SETS, draw_constrained_pairs, impossible_pairs
from pci_bench.statistics.compiled.distances import column_scale, mean_distances
from pci_bench.statistics.pairwise import (
    draw_pairs,
    localized_proteins,
    normalized,
    permutation_p,
    proteins_to_shuffle,
    term_scores,
)
from pci_bench.statistics.scaling import standardized


def by_cdist(features, images, pairs):
    """SciPy, a pair at a time."""
    values = np.asarray(features, np.float64)
    return np.array([cdist(values[images == i], values[images == j]).mean() for i, j in pairs])


def human(
    *, terms=3, proteins=12, lines=2, cells=5, d=6, term=1.0, line=0.0, spread=0.3, seed=0, name="planted", **columns
):
    """Features of proteins with one term each, imaged once in every cell line; effects are SDs, a cell's own is 1."""
    rng = np.random.default_rng(seed)
    t, p, where = (x.ravel() for x in np.mgrid[:terms, :proteins, :lines])
    count = rng.integers(1, cells + 1, len(t))
    means = rng.normal(size=(terms, d))[t] * term + rng.normal(size=(lines, d))[where] * line
    means += rng.normal(size=(terms, proteins, d))[t, p] * spread
    rows = np.repeat(np.arange(len(t)), count)
    obs = {
        "image": [f"image{i}" for i in rows],
        "protein": [f"P{t[i]}-{p[i]:02}" for i in rows],
        "labels": [f"term{t[i]}" for i in rows],
        "cell_line": [f"line{where[i]}" for i in rows],
    }
    of = {"dataset": {"name": name}, "features": {"name": "planted"}}
    return make_features(means[rows] + rng.normal(size=(len(rows), d)), of, **obs | columns)


def organised(adata, minimum=2, *, lines=False):
    columns = [adata.obs[c].astype(str).to_numpy() for c in ("protein", "image", "labels")]
    return localized_proteins(*columns, adata.obs["cell_line"].to_numpy() if lines else None, minimum=minimum)


# The compiled loop


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([1, 2, 3, 4, 5, 31, 32, 33, 65]), min_size=1, max_size=5),
    d=st.integers(1, 9),
    offset=st.sampled_from([0.0, -3.5, 1e4]),
    double=st.booleans(),
    seed=st.integers(0, 999),
)
def test_mean_distances_are_those_of_cdist(sizes, d, offset, double, seed):
    rng = np.random.default_rng(seed)
    images = rng.permutation(np.concatenate([np.repeat(np.arange(len(sizes)), sizes), [-1, -1]]))
    features = (rng.normal(size=(len(images), d)) + offset).astype(np.float64 if double else np.float32)
    pairs = rng.integers(0, len(sizes), (rng.integers(0, 90), 2))
    np.testing.assert_allclose(
        mean_distances(features, images, pairs), by_cdist(features, images, pairs), rtol=1e-12, atol=0
    )


def test_many_pairs_of_many_features_on_standardised_columns():
    rng = np.random.default_rng(0)
    images = np.sort(rng.integers(0, 60, 700))
    features = (rng.normal(size=(700, 384)) * rng.uniform(0.1, 50, 384) + 200).astype(np.float32)
    features[:, 5] = 7
    mean, inverse = column_scale(features, np.arange(700))
    pairs = rng.integers(0, 60, (500, 2))
    expected = by_cdist(StandardScaler().fit_transform(features.astype(np.float64)), images, pairs)
    np.testing.assert_allclose(
        mean_distances(features, images, pairs, mean=mean, inverse=inverse), expected, rtol=1e-11
    )


def test_identical_images_are_at_distance_0_only_where_all_their_cells_are_one_point():
    point = np.random.default_rng(0).normal(size=7).astype(np.float32)
    features = np.concatenate([np.tile(point, (6, 1)), np.eye(3, 7), np.eye(3, 7)])
    images = np.repeat([0, 1, 2, 3], [2, 4, 3, 3])
    found = mean_distances(features, images, [[0, 1], [2, 3], [2, 2]])
    assert found[0] == 0
    np.testing.assert_allclose(found[1:], [6 / 9 * np.sqrt(2)] * 2, rtol=1e-15)


def test_a_pairs_distance_has_the_same_bits_in_any_order_and_company():
    rng = np.random.default_rng(1)
    images, features = np.repeat(np.arange(40), 7), rng.normal(size=(280, 13))
    pairs = rng.integers(0, 40, (300, 2))
    found = mean_distances(features, images, pairs)
    assert (mean_distances(features, images, pairs[:, ::-1]) == found).all()
    turn = rng.permutation(300)
    assert (mean_distances(features, images, pairs[turn]) == found[turn]).all()
    assert (mean_distances(features, images, pairs[17:18]) == found[17]).all()
    shuffled = rng.permutation(280)
    np.testing.assert_allclose(mean_distances(features[shuffled], images[shuffled], pairs), found, rtol=1e-13)


def test_distances_do_not_change_when_the_feature_space_is_rotated_or_moved():
    rng = np.random.default_rng(2)
    images, features = np.repeat(np.arange(10), 4), rng.normal(size=(40, 6))
    pairs = np.array(list(itertools.combinations(range(10), 2)))
    turned = features @ ortho_group.rvs(6, random_state=0) + rng.normal(size=6)
    np.testing.assert_allclose(
        mean_distances(turned, images, pairs), mean_distances(features, images, pairs), rtol=1e-12
    )


@pytest.mark.parametrize("n", [1, 3, 8192, 20_000])
def test_column_scale_is_that_of_standardized_features(n):
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(n + 50, 4)) * [1, 100, 1e-3, 0] + [0, 5, -1, 0.1]).astype(np.float32)
    rows = rng.permutation(n + 50)[:n]
    mean, inverse = column_scale(features, rows)
    np.testing.assert_allclose((features[rows] - mean) * inverse, standardized(features[rows]), rtol=1e-9, atol=1e-9)


# Which proteins, and which pairs


def test_a_term_of_30_proteins_is_evaluated_and_one_of_29_is_not():
    names = [f"P{i:03}" for i in range(89)]
    terms = ["nucleoli"] * 30 + ["vesicles"] * 29 + ["cytosol"] * 30
    found = localized_proteins(np.array(names), np.array(names), np.array(terms), None, minimum=30)
    assert found.terms == ("cytosol", "nucleoli")
    assert np.bincount(found.term).tolist() == [30, 30]
    assert found.left_out == {
        "proteins_of_several_terms": 0,
        "terms_of_too_few_proteins": {"vesicles": 29},
        "cells": 29,
    }


def test_a_protein_counts_by_the_terms_of_all_its_images_and_cells_without_a_name_do_not():
    protein = np.array(["A", "A", "A", "B", "B", "C", "C", "D", "", "E", "F", "F"], object)
    image = np.array(["1", "2", "2", "3", "4", "5", "6", "7", "8", "", "9", "9"], object)
    terms = np.array(["x", " x ", "x;", "x", "y", "x;y", "x;y", "x", "x", "x", "", "x"], object)
    found = localized_proteins(protein, image, terms, None, minimum=2)
    assert found.terms == ("x",)  # of A (two images), D and F; B and C have x and y; E has no image
    assert np.diff(found.starts).tolist() == [2, 1, 1]
    assert found.image.tolist() == [0, 1, 1, -1, -1, -1, -1, 2, -1, -1, -1, 3]
    assert found.left_out == {"proteins_of_several_terms": 2, "terms_of_too_few_proteins": {}, "cells": 7}


def test_images_of_one_name_are_told_apart_by_protein_and_cells_without_a_line_are_left_out():
    protein = np.array(["A", "A", "B", "B", "B"], object)
    image, terms = np.array(["1"] * 5, object), np.array(["x"] * 5, object)
    line = np.array(["a", "b", "a", "a", ""], object)
    found = localized_proteins(protein, image, terms, line, minimum=2)
    assert found.image.tolist() == [0, 1, 2, 2, -1]
    assert found.line.tolist() == [0, 1, 0]


@pytest.fixture
def uneven():
    """Seven proteins of three terms, with one to four images in three cell lines."""
    rows = [
        ("P1", "x", "abc"), ("P2", "x", "a"), ("P3", "x", "ab"), ("Q1", "y", "b"), ("Q2", "y", "aabc"),
        ("R1", "z", "c"), ("R2", "z", "ca"),
    ]  # fmt: skip
    cells = [(p, f"{p}-{i}", t, line) for p, t, lines in rows for i, line in enumerate(lines) for _ in range(2)]
    return localized_proteins(*np.array(cells, object).T, minimum=2)


def assert_drawn_as_expected(drawn, expected):
    """Compare how often each pair of images was drawn with its probability, over unordered pairs."""
    counts = pd.Series(map(tuple, np.sort(drawn, axis=1))).value_counts()
    assert set(counts.index) <= set(expected)
    weights = np.array(list(expected.values()))
    assert chisquare(counts.reindex(list(expected), fill_value=0), weights / weights.sum() * len(drawn)).pvalue > 1e-3


def probabilities(proteins, allowed):
    """The ten-line loop: two distinct proteins uniformly, an image of each uniformly, then the condition."""
    found = {}
    owner = np.repeat(np.arange(len(proteins.term)), np.diff(proteins.starts))
    for a, b in itertools.combinations(range(len(owner)), 2):
        if owner[a] != owner[b] and allowed(owner[a], owner[b], a, b):
            found[a, b] = 1 / np.prod(np.diff(proteins.starts)[[owner[a], owner[b]]])
    return found


def test_pairs_are_drawn_uniformly_from_proteins_then_images(uneven):
    pairs, images, starts = draw_pairs(uneven, 20_000, np.random.default_rng(0))
    owner = np.repeat(np.arange(7), np.diff(uneven.starts))
    assert (owner[images] == pairs).all()
    assert (pairs[:, 0] != pairs[:, 1]).all()
    for run, (one, other) in enumerate(itertools.product(range(3), repeat=2)):
        mine = slice(starts[run], starts[run + 1])
        assert (uneven.term[pairs[mine]] == [one, other]).all()
        wanted = {one, other}
        expected = probabilities(uneven, lambda p, q, a, b, w=wanted: {uneven.term[p], uneven.term[q]} == w)
        if one == other:
            expected = {k: v for k, v in expected.items() if (uneven.term[owner[list(k)]] == one).all()}
        assert_drawn_as_expected(images[mine], expected)


@pytest.mark.parametrize(("same_line", "same_term"), SETS)
def test_constrained_pairs_meet_their_conditions_as_often_as_the_data_does(uneven, same_line, same_term):
    rng = np.random.default_rng(0)
    pairs, images = draw_constrained_pairs(uneven, 20_000, rng, same_line=same_line, same_term=same_term)
    assert len(pairs) == len(images) == 20_000

    def allowed(p, q, a, b):
        return (uneven.term[p] == uneven.term[q]) == same_term and (uneven.line[a] == uneven.line[b]) == same_line

    assert_drawn_as_expected(images, probabilities(uneven, allowed))


def test_which_kinds_of_pairs_cannot_be_had():
    def kinds(*rows):
        cells = [(p, f"{p}{line}", t, line) for p, t, lines in rows for line in lines]
        return impossible_pairs(localized_proteins(*np.array(cells, object).T, minimum=2))

    assert kinds(("P", "x", "ab"), ("Q", "x", "a"), ("R", "y", "a"), ("S", "y", "b")) == []
    assert kinds(("P", "x", "a"), ("Q", "x", "b"), ("R", "y", "a"), ("S", "y", "b")) == ["two proteins of one term in one cell line"]  # fmt: skip
    assert kinds(("P", "x", "a"), ("Q", "x", "a"), ("R", "y", "b"), ("S", "y", "b")) == [
        "proteins of different terms in one cell line",
        "two proteins of one term in different cell lines",
    ]


def test_fewer_pairs_than_asked_for_are_said(monkeypatch):
    monkeypatch.setattr("pci_bench.statistics.cell_line_pairs.DRAWS", 2**17)
    (result,) = pci_bench.evaluate("pairwise-distance-cell-line", human(), minimum_proteins=5, pairs=60_000)
    drawn = [c[k] for c in result.details["conditions"].values() for k in c if k.startswith("pairs")]
    assert min(drawn) < 60_000  # a third of 2¹⁷ draws have one term, half of those one line
    assert max(drawn) < 2**17


# Scores


def test_z_is_the_difference_of_means_over_the_sd_of_the_pooled_other_pairs():
    rng = np.random.default_rng(0)
    distances = rng.gamma(5, 2, (4, 4, 50)) + np.eye(4)[:, :, None]
    mean, square = distances.mean(axis=2), (distances**2).mean(axis=2)
    z, ratio = (term_scores(mean, square, statistic) for statistic in ("z", "ratio"))
    for term in range(4):
        other = distances[term, np.arange(4) != term].ravel()
        assert z[term] == pytest.approx((distances[term, term].mean() - other.mean()) / other.std())
        assert ratio[term] == pytest.approx(distances[term, term].mean() / other.mean() - 1)


def test_distances_that_do_not_vary_give_0_or_infinity_but_never_rounding_noise():
    assert normalized(np.array([3.0]), np.array([3.0]), np.array([9.0 + 1e-15]), "z") == 0
    assert normalized(np.array([0.0]), np.array([0.0]), np.array([0.0]), "ratio") == 0
    assert normalized(np.array([0.0]), np.array([3.0]), np.array([9.0 + 1e-15]), "z") == -np.inf


def expectation(adata, allowed_same, allowed_different, by_term):
    """Means and SD over all pairs of proteins and images, by enumeration: what infinitely many draws would give."""
    obs = adata.obs
    values = StandardScaler().fit_transform(np.asarray(adata.X, np.float64))
    images = obs.drop_duplicates("image").set_index("image")
    cells = {i: values[(obs["image"] == i).to_numpy()] for i in images.index}
    between = {(a, b): cdist(cells[a], cells[b]).mean() for a, b in itertools.combinations(images.index, 2)}
    per_protein = images["protein"].value_counts()
    rows = []
    for a, b in itertools.permutations(images.index, 2):
        one, other = images.loc[a], images.loc[b]
        if one["protein"] != other["protein"]:
            weight = 1 / (per_protein[one["protein"]] * per_protein[other["protein"]])
            rows.append((one["labels"], other["labels"], one["cell_line"] == other["cell_line"], weight, a, b))
    table = pd.DataFrame(rows, columns=["term", "other", "line", "weight", "a", "b"])
    table["distance"] = [between.get((a, b), between.get((b, a))) for a, b in zip(table["a"], table["b"], strict=True)]
    scores = []
    for term in sorted(set(obs["labels"])) if by_term else [None]:
        mine = table if term is None else table[table["term"] == term]
        same = mine[(mine["term"] == mine["other"]) & allowed_same(mine)]
        other = mine[(mine["term"] != mine["other"]) & allowed_different(mine)].copy()
        if by_term:
            other["weight"] /= other.groupby("other")["weight"].transform("sum")  # every other term alike
        mean = np.average(other["distance"], weights=other["weight"])
        sd = np.sqrt(np.average((other["distance"] - mean) ** 2, weights=other["weight"]))
        scores.append((np.average(same["distance"], weights=same["weight"]) - mean) / sd)
    return np.array(scores)


def test_scores_are_those_of_enumerating_all_pairs():
    adata = human(terms=3, proteins=5, term=0.8)
    adata = adata[~adata.obs["protein"].isin(["P1-00", "P1-01"])].copy()  # terms of different numbers of proteins
    (result,) = pci_bench.evaluate("pairwise-distance", adata, minimum_proteins=2, pairs=40_000)
    expected = expectation(adata, lambda t: True, lambda t: True, by_term=True)
    found = [t["score"] for t in result.details["per_term"].values()]
    np.testing.assert_allclose(found, expected, atol=0.02)  # SD of a mean of 40,000: 0.005
    assert result.metrics["normalized_distance"] == pytest.approx(np.mean(found))


def test_cell_line_scores_are_those_of_enumerating_all_pairs():
    adata = human(terms=3, proteins=5, lines=3, term=0.8, line=1.0)
    (result,) = pci_bench.evaluate("pairwise-distance-cell-line", adata, minimum_proteins=2, pairs=40_000)
    same = expectation(adata, lambda t: t["line"], lambda t: t["line"], by_term=False)
    different = expectation(adata, lambda t: ~t["line"], lambda t: ~t["line"], by_term=False)
    assert result.metrics["same_cell_line"] == pytest.approx(same[0], abs=0.02)
    assert result.metrics["different_cell_line"] == pytest.approx(different[0], abs=0.02)
    assert result.metrics["difference"] == result.metrics["different_cell_line"] - result.metrics["same_cell_line"]


def test_planted_terms_are_closer_and_significant():
    (planted,) = pci_bench.evaluate("pairwise-distance", human(term=1.0), minimum_proteins=10, pairs=300)
    assert planted.metrics["normalized_distance"] < -0.5
    assert planted.metrics["ratio"] < 0.95
    assert planted.metrics["p"] == 0.001
    assert planted.intervals["normalized_distance"][1] < 0
    assert all(term["score"] < 0 and term["p"] < 0.05 for term in planted.details["per_term"].values())


def test_features_that_know_no_terms_score_0_and_their_p_is_uniform(monkeypatch):
    monkeypatch.setattr("pci_bench.statistics.pairwise.permutation_p", partial(permutation_p, permutations=99))
    nulls = [pci_bench.evaluate("pairwise-distance", human(term=0.0, seed=s), minimum_proteins=10, pairs=100, seed=s)[0] for s in range(25)]  # fmt: skip
    scores = np.array([null.metrics["normalized_distance"] for null in nulls])
    low, high = np.array([null.intervals["normalized_distance"] for null in nulls]).T
    assert abs(scores.mean()) < 0.05
    assert ((low < 0) & (high > 0)).sum() >= 22
    assert kstest([null.metrics["p"] for null in nulls], "uniform").pvalue > 1e-3


def test_permutation_p_is_uniform_where_terms_mean_nothing_even_if_proteins_differ():
    term, found = np.repeat([0, 1, 2], [3, 6, 4]), []
    for seed in range(150):
        rng = np.random.default_rng(seed)
        own = rng.gamma(1, 1, 13)
        distances = own[:, None] + own + rng.gamma(2, 0.3, (13, 13))
        distances = np.triu(distances, 1) + np.triu(distances, 1).T
        found.append(permutation_p(distances, term, "z", rng, permutations=99)[1])
    assert kstest(found, "uniform").pvalue > 1e-3
    assert np.mean(np.array(found) <= 0.05) < 0.12


def test_permutation_p_is_the_share_of_all_ways_to_deal_the_terms():
    rng = np.random.default_rng(3)
    points, term = rng.normal(size=(6, 2)), np.array([0, 0, 0, 1, 1, 1])
    distances = cdist(points, points)

    def score(labels):
        same = np.mean([[distances[i, j] for i, j in itertools.combinations(np.flatnonzero(labels == t), 2)] for t in (0, 1)])  # fmt: skip
        other = distances[np.ix_(labels == 0, labels == 1)]
        return (same - other.mean()) / other.std()

    every = [score(np.isin(np.arange(6), zeros).astype(int)) for zeros in itertools.combinations(range(6), 3)]
    share = np.mean(np.array(every) <= score(term) + 1e-12)
    _, found = permutation_p(distances, term, "z", rng, permutations=4000)
    assert found == pytest.approx(share, abs=0.03)  # SD 0.008 at most


def test_the_permutation_test_takes_few_proteins_of_every_term():
    adata = human(terms=3, proteins=40, lines=1, cells=1)
    proteins = organised(adata)
    chosen = proteins_to_shuffle(proteins, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == len(chosen)
    assert np.bincount(proteins.term[chosen]).tolist() == [30, 30, 30]


def test_a_planted_difference_between_lines_shows_and_its_absence_does_too():
    grid = {"minimum_proteins": 10, "pairs": 4000}
    (present,) = pci_bench.evaluate("pairwise-distance-cell-line", human(lines=3, line=2.0), **grid)
    assert present.metrics["difference"] > 0.2
    assert present.intervals["difference"][0] > 0
    (absent,) = pci_bench.evaluate("pairwise-distance-cell-line", human(lines=3, line=0.0), **grid)
    low, high = absent.intervals["difference"]
    assert low < 0 < high
    assert abs(absent.metrics["difference"]) < 0.1
    assert absent.metrics["same_cell_line"] < -0.5


BOTH = ("pairwise-distance", "pairwise-distance-cell-line")


@pytest.mark.parametrize("name", BOTH)
def test_order_scale_and_names_that_sort_alike_change_nothing(name):
    adata = human(seed=4)
    grid = {"minimum_proteins": 5, "pairs": 200}
    (first,) = pci_bench.evaluate(name, adata, **grid)
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    shuffled.X = shuffled.X * np.float32(4) + np.float32(1)
    for column in ("protein", "labels", "image", "cell_line"):
        shuffled.obs[column] = "renamed " + shuffled.obs[column].astype(str)
    (again,) = pci_bench.evaluate(name, shuffled, **grid)
    for metric, value in first.metrics.items():
        assert again.metrics[metric] == pytest.approx(value, rel=1e-5)  # float32 rounds the moved features
        if metric in first.intervals:
            assert again.intervals[metric] == pytest.approx(first.intervals[metric], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(name):
    adata = human(seed=4)
    first, again, other = (pci_bench.evaluate(name, adata, minimum_proteins=5, pairs=50, seed=s)[0] for s in (0, 0, 1))
    assert (first.metrics, first.intervals, first.details) == (again.metrics, again.intervals, again.details)
    assert first.metrics != other.metrics


@pytest.mark.parametrize("name", BOTH)
def test_every_metric_lies_in_its_interval_and_forms_agree_on_what_is_closer(name):
    z, ratio = pci_bench.evaluate(name, human(), minimum_proteins=5, pairs=400, statistic=["z", "ratio"])
    assert [r.evaluator.params["statistic"] for r in (z, ratio)] == ["z", "ratio"]
    for result in (z, ratio):
        assert all(low < result.metrics[metric] < high for metric, (low, high) in result.intervals.items())
    if name == "pairwise-distance":
        assert ratio.metrics["ratio"] == pytest.approx(1 + ratio.metrics["normalized_distance"]) == z.metrics["ratio"]
    headline = EVALUATORS.get(name).meta.headline
    assert z.metrics[headline] < ratio.metrics[headline] < 0


def test_the_table_of_terms_says_what_the_details_say():
    (result,) = pci_bench.evaluate("pairwise-distance", human(terms=4), minimum_proteins=5, pairs=50)
    table = result.tables["terms"].set_index("term")
    assert table.index.tolist() == [f"term{i}" for i in range(4)]
    assert table.to_dict("index") == result.details["per_term"]
    assert (table["low"] < table["score"]).all()
    assert (table["score"] < table["high"]).all()
    assert (table["proteins"] == 12).all()
    assert (table["images"] == 24).all()
    assert result.details["left_out"] == {
        "proteins_of_several_terms": 0,
        "terms_of_too_few_proteins": {},
        "cells": 0,
    }


def test_cells_that_are_not_evaluated_neither_count_nor_scale():
    adata = human()
    (alone,) = pci_bench.evaluate("pairwise-distance", adata, minimum_proteins=5, pairs=50)
    stranger = adata[:40].copy()
    stranger.X = stranger.X * 1e4
    stranger.obs["protein"] = "two terms"
    stranger.obs["image"] = "image of two"
    stranger.obs["labels"] = "term0;term1"
    stranger.obs_names = [f"other{i}" for i in range(40)]
    more = anndata.concat([adata, stranger])
    more.uns = adata.uns
    (found,) = pci_bench.evaluate("pairwise-distance", more, minimum_proteins=5, pairs=50)
    assert found.metrics == alone.metrics
    assert found.details["left_out"]["cells"] == 40
    assert found.details["left_out"]["proteins_of_several_terms"] == 1


def test_images_of_one_cell_and_terms_of_two_proteins_are_enough():
    adata = human(terms=2, proteins=2, lines=2, cells=1)
    for name in BOTH:
        (result,) = pci_bench.evaluate(name, adata, minimum_proteins=2, pairs=20)
        assert np.isfinite(list(result.metrics.values())).all()


@pytest.mark.parametrize("name", BOTH)
def test_the_contracts_of_evaluators_are_kept_where_there_are_enough_proteins(name):
    trial = contracts.EvaluatorTrial(name)
    trial.adata, params = human(label="ER"), trial.evaluator.Params
    grid = [params(minimum_proteins=5, pairs=50, statistic=s) for s in ("z", "ratio")] + [
        params(minimum_proteins=12, pairs=60)
    ]
    trial.once("grid", lambda: (grid, []))
    for check in ("numbers", "same_seed", "grid_or_alone", "input_is_kept", "any_order"):
        getattr(contracts, check)(trial)


@pytest.mark.parametrize("column", [None, ""])
def test_where_no_protein_is_named_images_of_one_label_take_their_place(column):
    grid = {"minimum_proteins": 5, "pairs": 60}
    (found,) = pci_bench.evaluate("pairwise-distance", human(protein=column), unit="protein-or-image", **grid)
    named = human()
    named.obs["protein"] = named.obs["image"]
    (expected,) = pci_bench.evaluate("pairwise-distance", named, **grid)
    assert (found.metrics, found.intervals) == (expected.metrics, expected.intervals)
    assert found.details == expected.details | {"unit": "image"}
    (proteins,) = pci_bench.evaluate("pairwise-distance", human(), unit="protein-or-image", **grid)
    (alone,) = pci_bench.evaluate("pairwise-distance", human(), **grid)
    assert (proteins.metrics, proteins.details) == (alone.metrics, alone.details)  # the column, where there is one


def test_an_image_with_cells_of_two_labels_stands_once_for_each():
    mixed = human(terms=2, proteins=6, lines=1, protein=None)
    mixed.obs["image"] = [f"{i % 4}" for i in range(mixed.n_obs)]
    images = mixed.obs.groupby("labels")["image"].nunique()
    (found,) = pci_bench.evaluate("pairwise-distance", mixed, unit="protein-or-image", minimum_proteins=2, pairs=50)
    assert {term: row["images"] for term, row in found.details["per_term"].items()} == images.to_dict()
    assert found.details["left_out"]["cells"] == 0
    with pytest.raises(
        UserError, match=r"shared by at least 5 images that have one term only \(most: term0 4, term1 4\)"
    ):
        pci_bench.evaluate("pairwise-distance", mixed, unit="protein-or-image", minimum_proteins=5)


# What cannot be run, and why


@pytest.mark.parametrize("name", BOTH)
def test_features_that_are_all_equal_are_no_closer_than_expected(name):
    adata = human()
    adata.X[:] = 3
    (result,) = pci_bench.evaluate(name, adata, minimum_proteins=5, pairs=50)
    assert result.metrics[EVALUATORS.get(name).meta.headline] == 0
    assert result.metrics.get("p", 1) == result.metrics.get("ratio", 1) == 1


@pytest.mark.parametrize("name", BOTH)
def test_one_value_per_class_cannot_be_normalized(name):
    adata = human(terms=2)
    adata.X[:] = adata.obs["labels"].str[-1].astype(float).to_numpy()[:, None]
    with pytest.raises(UserError, match="are equal, so th"):
        pci_bench.evaluate(name, adata, minimum_proteins=5, pairs=50)
    (ratio,) = pci_bench.evaluate(name, adata, minimum_proteins=5, pairs=50, statistic="ratio")
    assert ratio.metrics[EVALUATORS.get(name).meta.headline] == -1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("name", BOTH)
def test_nan_features_are_refused(name, bad):
    adata = human()
    adata.X[3, 2] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        pci_bench.evaluate(name, adata, minimum_proteins=5, pairs=50)


FEW = "shared by at least 30 proteins that have one term only (most: term0 12, term1 12, term2 12)"
SKIPPED = {
    "no proteins": ({"protein": None}, {}, "planted has no column 'protein'; its columns are cell, image, labels, cell_line"),
    "no terms": ({"labels": None}, {}, "planted has no column 'labels'"),
    "empty terms": ({"labels": ""}, {}, "the column 'labels' of planted is empty"),
    "missing terms": ({"labels": np.nan}, {}, "the column 'labels' of planted is empty"),
    "another column": ({}, {"terms": "go"}, "planted has no column 'go'"),
    "too few proteins": ({}, {"minimum_proteins": 30}, f"in planted no localization term is {FEW}; at least two terms"),
    "one term": ({"labels": "nucleoli"}, {}, "in planted only nucleoli is shared by at least 5 proteins"),
    "several terms each": ({"labels": "a;b"}, {}, "in planted no localization term is shared by at least 5 proteins"),
    "one protein": ({"protein": "P"}, {}, "in planted no localization term is shared by at least 5"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("columns", "grid", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_what_cannot_be_evaluated_gives_its_reason(name, columns, grid, reason):
    with pytest.raises(UserError) as caught:
        pci_bench.evaluate(name, human(**columns), **({"minimum_proteins": 5} | grid))
    assert str(caught.value).startswith(f"{name} cannot be run: {reason}")


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"cell_line": None}, "planted has no column 'cell_line'"),
        ({"cell_line": ""}, "the column 'cell_line' of planted is empty"),
        ({"cell_line": "U-2 OS"}, "all evaluated images of planted are of one cell line"),
    ],
)
def test_cell_lines_must_be_known_and_differ(columns, reason):
    with pytest.raises(UserError, match=f"^pairwise-distance-cell-line cannot be run: {reason}"):
        pci_bench.evaluate("pairwise-distance-cell-line", human(**columns), minimum_proteins=5)


def test_lines_that_split_the_terms_are_a_reason():
    adata = human(terms=2, lines=1)
    adata.obs["cell_line"] = adata.obs["labels"]
    with pytest.raises(UserError, match="planted holds no proteins of different terms in one cell line"):
        pci_bench.evaluate("pairwise-distance-cell-line", adata, minimum_proteins=5)


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ({"minimum_proteins": 1}, "minimum_proteins = 1 does not fit"),
        ({"pairs": 1}, "pairs = 1 does not fit"),
        ({"statistic": "median"}, "statistic = 'median' does not fit"),
        ({"plates": 3}, "{} has no parameter 'plates'"),
    ],
)
@pytest.mark.parametrize("name", BOTH)
def test_a_wrong_parameter_is_a_sentence(name, grid, sentence):
    with pytest.raises(UserError) as caught:
        pci_bench.evaluate(name, human(), **grid)
    assert str(caught.value).startswith(sentence.format(name))


# Declarations


def test_a_benchmark_may_set_a_parameter_for_one_dataset():
    for name in ("human-distances", "human-cell-lines"):
        benchmark = BENCHMARKS.get(name)
        assert [e.grid["minimum_proteins"] for e in benchmark.evaluations_on("hpa-v18")] == [[30]]
        assert [e.grid["minimum_proteins"] for e in benchmark.evaluations_on("human-sim")] == [[4]]
        assert [e.grid["statistic"] for e in benchmark.evaluations_on("human-sim")] == [["z"]]
    with pytest.raises(ValueError, match="sets 'minimum', which no evaluation declares"):
        Benchmark(
            name="x",
            title="x",
            datasets=("human-sim",),
            features=("noise",),
            evaluate=({"name": "pairwise-distance", "pairs": 10},),
            on={"human-sim": {"minimum": 3}},
        )


# Typed again from the design's SCIENCE.md, section 4.
FIGURE_2B = {"pci-conv3@lu2019-human": -0.574, "pci-conv4@lu2019-human": -0.349, "classic-haralick": -0.274}
FIGURE_2B |= {"autoencoder-conv3@lu2019-human": -0.281, "vgg16-gfp-only-block4_conv1@oxford": -0.325}
TABLE_2 = {
    "classic-haralick": (-0.3027, -0.1813, 0.1214),
    "vgg16-gfp-only-block4_conv1@oxford": (-0.2525, -0.1515, 0.1010),
    "autoencoder-conv3@lu2019-human": (-0.2486, -0.0965, 0.1521),
    "pci-conv3@lu2019-human": (-0.4855, -0.3953, 0.0902),
    "pci-conv4@lu2019-human": (-0.2656, -0.2271, 0.0385),
}


@cache
def made(evaluator):
    return pci_bench.evaluate(evaluator, human(cells=1), minimum_proteins=5, pairs=20)[0]


def result(evaluator, features, dataset="hpa-v18", limit=None, version="1", **params):
    name, _, weights = features.partition("@")
    content = made(evaluator).model_dump(by_alias=True)
    content["dataset"] |= {"name": dataset, "limit": limit, "version": version}
    content["features"] |= {"name": name, "weights": weights or None}
    content["evaluator"]["params"] |= {"minimum_proteins": 30} | params
    return Result.model_validate(content)


def test_printed_values_stand_beside_the_papers_own_parameters_only():
    assert {k: v[0] for k, v in TABLES.get("figure2b").printed.items()} == FIGURE_2B
    assert {k: tuple(v[:3]) for k, v in TABLES.get("table2").printed.items()} == TABLE_2
    assert all(v[3:] == ["none"] * 4 for v in TABLES.get("table2").printed.values())
    for same, different, difference in TABLE_2.values():
        assert different - same == pytest.approx(difference, abs=1e-9)
    figure = result("pairwise-distance", "pci-conv3@lu2019-human", pairs=1000)
    assert printed_value(figure).value == -0.574
    table = result("pairwise-distance-cell-line", "classic-haralick", pairs=10_000)
    assert printed_value(table).metrics == {"same_cell_line": -0.3027, "different_cell_line": -0.1813, "difference": 0.1214}  # fmt: skip
    for other in (
        {"pairs": 999},
        {"minimum_proteins": 4},
        {"statistic": "ratio"},
        {"dataset": "human-sim"},
        {"limit": 5},
        {"version": "release 18, 24 genes (part)"},
    ):
        assert printed_value(result("pairwise-distance", "pci-conv3@lu2019-human", **({"pairs": 1000} | other))) is None
    assert printed_value(result("pairwise-distance", "pci-conv3@human-sim", pairs=1000)) is None


def test_figures_name_every_feature_set_and_every_term(tmp_path):
    one = [pci_bench.evaluate(name, human(terms=4), minimum_proteins=3, pairs=20)[0] for name in BOTH]
    names = [f"set{i}" for i in range(9)]
    results = [r.model_copy(update={"features": r.features.model_copy(update={"name": n})}) for n in names for r in one]
    assert {f.stem for f in draw(results, tmp_path)} == {
        "distances-planted",
        "distances-planted-terms",
        "cell-lines-planted",
    }
    for stem in ("distances-planted", "cell-lines-planted"):
        assert all(f">{name}<" in (tmp_path / f"{stem}.svg").read_text() for name in names)
    terms = (tmp_path / "distances-planted-terms.svg").read_text()
    assert all(terms.count(f">{term} (12)<") == 1 for term in ("term0", "term1", "term2", "term3"))
    assert "2 more not shown" in terms
