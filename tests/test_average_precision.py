"""Mean average precision against scikit-learn, copairs, random orders and all assignments of labels; planted kinds are found, absent ones are not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score

import pci_bench
from pci_bench.statistics.average_precision import (
    average_precisions,
    corrected_p,
    expected_average_precision,
    map_significance,
)


def by_scikit_learn(features, labels, groups):
    """Average precision of every row among rows of other groups, one by one; NaN without positives or without others."""
    distances, found = cdist(features, features), []
    for row in range(len(labels)):
        others = np.array(
            [other for other in range(len(labels)) if not (groups[:, other] == groups[:, row]).any()], int
        )
        same = labels[others] == labels[row]
        found.append(average_precision_score(same, -distances[row, others]) if 0 < same.sum() < len(same) else np.nan)
    return np.array(found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 60), st.integers(2, 4), st.integers(1, 2))
def test_average_precision_is_that_of_scikit_learn_whatever_is_excluded(seed, n, kinds, exclusions):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(n, 3)), rng.integers(0, kinds, n)
    groups = np.stack([rng.integers(0, 5, n) for _ in range(exclusions)])
    found = average_precisions(features, labels, groups)
    expected = by_scikit_learn(features, labels, groups)
    np.testing.assert_allclose(found.precision, expected, atol=1e-12)
    for label in range(labels.max() + 1):
        own = found.normalized[labels == label]
        if not np.isnan(own).all():
            assert found.scores[0, label] == pytest.approx(np.nanmean(own))


@pytest.mark.parametrize(("positives", "candidates"), [(1, 1), (1, 4), (2, 5), (3, 5), (6, 7)])
def test_chance_is_the_mean_over_all_orders(positives, candidates):
    orders = set(permutations([1] * positives + [0] * (candidates - positives)))
    scores = [average_precision_score(order, -np.arange(candidates)) for order in orders]
    expected = expected_average_precision(np.array(positives), np.array(candidates))
    assert float(expected) == pytest.approx(np.mean(scores))


def test_copairs_finds_the_same_precisions_normalised_too():
    score = pytest.importorskip("copairs.map", reason="not installed: pip install 'pci-bench[ecosystem]'")
    rng = np.random.default_rng(0)
    features, obs = (
        rng.normal(size=(80, 6)),
        pd.DataFrame({"kind": rng.choice(list("abc"), 80), "plate": rng.choice(list("xyz"), 80)}),
    )
    for metric in ("cosine", "euclidean"):
        (result,) = pci_bench.evaluate(
            "map", make_features(features, **obs), positives="kind", exclude="plate", metric=metric, scale="none"
        )
        theirs = score.average_precision(
            obs, features, ["kind"], ["plate"], [], ["kind", "plate"], distance=metric, progress_bar=False
        )
        ours = result.predictions.set_index("cell").loc[[f"cell{i}" for i in range(80)]]
        for name, of_copairs in (
            ("average_precision", "average_precision"),
            ("normalized", "normalized_average_precision"),
        ):
            np.testing.assert_allclose(ours[name], theirs[of_copairs], atol=1e-5)


def test_an_exact_p_is_the_share_of_all_ways_to_exchange_labels_between_images():
    rng = np.random.default_rng(3)
    images = np.repeat(np.arange(6), 3)
    of_image = np.array([0, 0, 1, 1, 1, 1])
    features = rng.normal(size=(18, 2)) + 0.9 * of_image[images][:, None]
    found, significance = map_significance(features, of_image[images], images, images, 99, 0)
    every = np.array(sorted(set(permutations(of_image))))  # 15
    scores = []
    for assigned in every:
        expected = expected_average_precision(np.array(3 * (assigned == 0).sum() - 3), np.array(15))
        precision = by_scikit_learn(features, assigned[images], images[None])[assigned[images] == 0]
        scores.append(((precision - expected) / (1 - expected)).mean())
    assert significance.exact.all()
    assert significance.smallest.tolist() == [1 / 15, 1 / 15]
    assert significance.p[0] == np.mean(np.array(scores) >= found.scores[0, 0] - 1e-9)


def cells(*, effect=0.0, of_image=0.0, images=12, per_image=8, seed=0, d=4):
    """Cells in images of three kinds, one of which is displaced; images have displacements of their own."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), per_image)
    kind = image % 3
    values = rng.normal(size=(len(image), d)) + of_image * rng.normal(size=(images, d))[image]
    values[:, 0] += effect * (kind == 0)
    names = [f"image{i}" for i in image]
    return make_features(values, label=[f"kind{k}" for k in kind], image=names, protein=[f"p{i % 6}" for i in image])


def test_a_kind_that_is_displaced_is_found_and_the_others_stay_at_chance_between_them():
    (result,) = pci_bench.evaluate("map", cells(effect=100, d=1), exclude="image", permutations=499)
    groups = result.table("groups").set_index("group")
    assert groups.loc["kind0", "normalized"] == pytest.approx(1)
    assert groups.loc["kind0", "corrected_p"] <= 0.01
    halved = expected_average_precision(
        np.array(24), np.array(56)
    )  # among the nearer ones of two kinds, 24 are its own
    of_all = expected_average_precision(np.array(24), np.array(88))
    assert groups.loc["kind1":, "normalized"].mean() == pytest.approx((halved - of_all) / (1 - of_all), abs=0.1)
    assert result.metrics["normalized_map"] == pytest.approx(groups["normalized"].mean())


def test_p_is_uniform_where_kinds_are_alike_even_if_images_are_not():
    """Exchanging labels cell by cell would call every image of its own a kind of its own."""
    by_image, by_cell = [], []
    for seed in range(40):
        adata = cells(of_image=2, seed=seed, images=15, per_image=4)
        for found, permute in ((by_image, ""), (by_cell, "cell")):
            (result,) = pci_bench.evaluate("map", adata, permutations=59, permute=permute)
            found += result.table("groups")["p"].tolist()
    assert np.mean(np.array(by_image) <= 0.1) < 0.2
    assert 0.4 < np.mean(by_image) < 0.6
    assert np.mean(np.array(by_cell) <= 0.1) > 0.6


def test_kinds_whose_p_cannot_reach_a_twentieth_are_named():
    adata = cells(effect=9, images=6)  # two images of a kind: 15 ways
    with pytest.warns(
        UserWarning, match=r"p cannot reach 0.05 for kind0, kind1, kind2: .*'image' in fewer than 20 ways"
    ):
        (result,) = pci_bench.evaluate("map", adata)
    groups = result.table("groups")
    assert groups["exact"].all()
    assert groups["p"].min() == pytest.approx(1 / 15)
    assert result.metrics["significant_groups"] == 0


@pytest.mark.filterwarnings("ignore:.*p cannot reach")
def test_images_and_proteins_are_ranked_by_the_means_of_their_cells():
    adata = cells(effect=4, seed=2)
    for unit, number in (("image", 12), ("protein", 6)):
        (result,) = pci_bench.evaluate("map", adata, unit=unit, scale="none")
        queries = result.table("queries")
        obs = adata.obs[[unit, "label"]].reset_index(drop=True)
        means = pd.DataFrame(adata.X).groupby([obs[unit], obs["label"]]).mean()
        labels = np.unique(means.index.get_level_values("label"), return_inverse=True)[1]
        expected = by_scikit_learn(means.to_numpy(), labels, np.arange(len(means))[None])
        assert len(queries) == number
        np.testing.assert_allclose(queries["average_precision"], expected, atol=1e-6)


def test_positives_may_share_another_column_or_two():
    adata = cells(effect=4)
    (of_protein,) = pci_bench.evaluate("map", adata, positives="protein", permutations=19)
    (of_both,) = pci_bench.evaluate("map", adata, positives="protein+label", permutations=19)
    assert of_protein.table("groups")["group"].tolist() == [f"p{i}" for i in range(6)]
    assert of_both.table("groups")["group"].tolist() == [f"p{i}+kind{i % 3}" for i in range(6)]
    assert of_protein.metrics == of_both.metrics


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_corrected_p_are_those_of_a_loop(values):
    p = np.array(values)
    order = np.argsort(p)
    expected, lowest = np.empty(len(p)), 1.0
    for rank in range(len(p), 0, -1):
        lowest = min(lowest, p[order[rank - 1]] * len(p) / rank)
        expected[order[rank - 1]] = lowest
    np.testing.assert_allclose(corrected_p(p), expected)


def test_a_family_without_any_effect_is_selected_as_seldom_as_promised_whatever_its_size():
    rng = np.random.default_rng(0)
    families = np.repeat(["small", "large"], [2, 30])
    false = [(corrected_p(rng.random(32), families) < 1).any() for _ in range(2000)]
    assert np.mean(false) == pytest.approx(0.05, abs=0.015)
    planted = np.r_[[0.5, 0.5], np.full(15, 1e-4), rng.random(15)]
    corrected = corrected_p(planted, families)
    assert (corrected[:2] == 1).all()
    assert (corrected[2:17] <= 0.05).all()


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"positives": "dose"}, "no values in a column 'dose'"),
        ({"positives": "cell"}, "no cell of .* has another of its own cell"),
        ({"exclude": "label"}, "no cell of .* has another of its own label"),
        ({"families": "protein"}, "'protein' are no families"),
        ({"subset": "label=none"}, "no cell of"),
    ],
)
def test_what_cannot_be_retrieved_is_said(params, said):
    with pytest.raises(pci_bench.UserError, match=said):
        pci_bench.evaluate("map", cells(), **params)
