"""Fusion of two feature sets against a loop over scikit-learn's neighbours; what is planted in both is gained, and noise gains nothing."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_cells
from sklearn.metrics import balanced_accuracy_score, jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import pci_bench
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.statistics.fusion import WEIGHTS, concatenated, fusion


def by_loops(first, second, labels, groups, k):
    """Fused predictions and weights, by fitting neighbours for every weight, group and pair of groups."""

    def predicted(weight, tested, from_):
        x = np.hstack(
            [
                np.sqrt(share / features.shape[1]) * StandardScaler().fit_transform(features)
                for features, share in ((first, 1 - weight), (second, weight))
            ]
        )
        return KNeighborsClassifier(k, algorithm="brute").fit(x[from_], labels[from_]).predict(x[tested])

    fused, weights = np.empty(len(labels), int), []
    for group in np.unique(groups):
        scores = []
        for weight in WEIGHTS:
            inner = np.empty(len(labels), int)
            for other in np.unique(groups[groups != group]):
                inner[groups == other] = predicted(weight, groups == other, (groups != other) & (groups != group))
            outside = groups != group
            scores.append(balanced_accuracy_score(labels[outside], inner[outside]))
        best = [w for w, score in zip(WEIGHTS, scores, strict=True) if score > max(scores) - 1e-9]
        weights.append(min(best, key=lambda w: (abs(w - 0.5), w)))
        fused[groups == group] = predicted(weights[-1], groups == group, groups != group)
    return fused, weights


@pytest.mark.parametrize("seed", range(3))
def test_weights_and_predictions_are_those_of_loops_in_which_tested_cells_take_no_part(seed):
    rng = np.random.default_rng(seed)
    labels, groups = rng.integers(0, 3, 150), rng.integers(0, 4, 150)
    first = rng.normal(size=(150, 4)) + 0.8 * np.eye(3, 4)[labels]
    second = rng.normal(size=(150, 2)) + 0.8 * np.eye(3, 2)[labels]
    found = fusion(first, second, labels, groups, 5)
    fused, weights = by_loops(first, second, labels, groups, 5)
    assert found.weights.tolist() == weights
    assert (found.fused == fused).all()


def test_side_by_side_each_has_its_share_of_the_variance_however_many_columns():
    rng = np.random.default_rng(0)
    both = concatenated(3 + rng.normal(size=(90, 40)), np.c_[5 * rng.normal(size=(90, 2)), np.ones(90)], 0.25)
    assert both[:, :40].var(axis=0).sum() == pytest.approx(0.75)
    assert both[:, 40:].var(axis=0).sum() == pytest.approx(0.25)


CODES = {"row": (1, 0), "column": (0, 1), "both": (1, 1), "nothing": (0, 0)}


@pytest.fixture
def planted(own_registries):
    """Register features that know the row, the column, both or nothing of four classes, which are two rows of two."""

    def register(seed):
        for name, (row, column) in CODES.items():
            if name in EXTRACTORS:
                continue

            def known(crops, row=row, column=column):
                label = np.rint(crops[:, 0, 0, 0] * 100).astype(int)
                noise = np.random.default_rng(len(crops)).normal(size=(len(crops), 2))
                return np.c_[9 * row * (label // 2), 9 * column * (label % 2)] + noise

            pci_bench.register_features(name, version=str(seed), rescale="raw", names=lambda channels: ["a", "b"])(
                known
            )

    return register


def cells(n=240, seed=0):
    """Cells whose first pixel says their class, on four plates."""
    labels = np.random.default_rng(seed).integers(0, 4, n)
    crops = np.zeros((n, 2, 16, 16), np.float32)
    crops[:, 0, 0, 0] = labels / 100
    plates = [f"p{i % 4}" for i in range(n)]
    return make_cells(
        n, crops=crops, label=[f"c{i}" for i in labels], image=[f"i{i % 8}" for i in range(n)], plate=plates
    )


def test_two_that_know_halves_know_all_together_and_are_right_for_other_cells_than_chance(planted):
    planted(0)
    drawn = cells()
    adata = pci_bench.extract("row", drawn)
    (result,) = pci_bench.evaluate("complementarity", adata, cells=drawn, beside="column", exclude="plate")
    assert result.metrics["alone"] == pytest.approx(0.5, abs=0.1)
    assert result.metrics["beside_alone"] == pytest.approx(0.5, abs=0.1)
    assert result.metrics["fused"] > 0.98
    assert result.metrics["gain"] == pytest.approx(0.5, abs=0.1)
    assert result.intervals["gain"][0] > 0.3
    right = {}
    for name in ("row", "column"):
        (alone,) = pci_bench.evaluate("loo-knn", pci_bench.extract(name, drawn), exclude="plate")
        table = alone.predictions.set_index("cell").loc[drawn.obs["cell"]]
        right[name] = (table["label"].astype(str) == table["predicted"].astype(str)).to_numpy()
        expected = alone.metrics["balanced_accuracy"]
        assert result.metrics["alone" if name == "row" else "beside_alone"] == pytest.approx(expected)
    assert result.metrics["jaccard"] == pytest.approx(jaccard_score(right["row"], right["column"]))
    assert result.metrics["either"] == pytest.approx((right["row"] | right["column"]).mean())
    assert result.metrics["only_this"] == pytest.approx((right["row"] & ~right["column"]).mean())


def test_what_knows_no_more_gains_nothing_and_noise_does_no_harm(planted):
    planted(0)
    drawn = cells()
    adata = pci_bench.extract("both", drawn)
    for beside in ("row", "nothing"):
        (result,) = pci_bench.evaluate("complementarity", adata, cells=drawn, beside=beside, exclude="plate")
        assert result.metrics["alone"] > 0.98
        assert abs(result.metrics["gain"]) < 0.02
        assert result.metrics["only_beside"] < 0.02


def test_a_fusion_of_two_that_know_nothing_does_not_seem_to_gain():
    """Weights chosen on the tested cells would gain some points by chance."""
    gains, chosen_on_tested = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        labels, groups = rng.integers(0, 2, 80), np.arange(80) % 4
        first, second = rng.normal(size=(2, 80, 3))
        found = fusion(first, second, labels, groups, 5)
        gains.append((found.fused == labels).mean() - (found.better == labels).mean())
        alone = max((found.first == labels).mean(), (found.second == labels).mean())
        chosen_on_tested.append(alone - 0.5)
    assert abs(np.mean(gains)) < 3 * np.std(gains) / np.sqrt(30) + 0.005
    assert np.mean(chosen_on_tested) > 0.01


def test_the_same_feature_set_and_too_few_groups_are_refused(planted):
    planted(0)
    drawn = cells()
    adata = pci_bench.extract("row", drawn)
    with pytest.raises(pci_bench.UserError, match="row is not compared with itself"):
        pci_bench.evaluate("complementarity", adata, cells=drawn, beside="row", exclude="plate")
    with pytest.raises(pci_bench.UserError, match="name one column of groups with exclude"):
        pci_bench.evaluate("complementarity", adata, cells=drawn, exclude="cell")
    two = drawn[[i for i, plate in enumerate(drawn.obs["plate"]) if plate in ("p0", "p1")]]
    with pytest.raises(pci_bench.UserError, match="'plate' of planted has 2 values; weights need three"):
        pci_bench.evaluate(
            "complementarity", pci_bench.extract("row", two), cells=two, exclude="plate", beside="column"
        )
