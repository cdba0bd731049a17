"""Calibration against scikit-learn and loops; perfect confidence stays within its null, planted excess is found, coverage holds and breaks."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features
from scipy.stats import betabinom, binom
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import auc, brier_score_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import pci_bench
from pci_bench.statistics.calibration import (
    accuracy_by_share,
    brier,
    calibrated_null,
    conformal_sets,
    reliability,
)


def calibrated(n, classes=4, seed=0, sharpness=1.0):
    """Probabilities, and labels that are drawn by them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(classes, 1 / sharpness), n)
    return probabilities, (rng.random((n, 1)) > np.cumsum(probabilities, axis=1)).sum(axis=1).clip(max=classes - 1)


def test_bins_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    confidence = rng.random(1000)
    correct = rng.random(1000) < confidence**2
    found = reliability(confidence, correct, 10)
    accuracy, mean = calibration_curve(correct, confidence, n_bins=10, strategy="quantile")
    np.testing.assert_allclose(found.accuracy, accuracy)
    np.testing.assert_allclose(found.confidence, mean)
    assert found.expected_error == pytest.approx(np.abs(accuracy - mean).mean())


def test_equally_confident_predictions_share_a_bin():
    confidence = np.repeat([3, 5, 7, 11], [10, 500, 20, 70]) / 11
    found = reliability(confidence, np.ones(600), 10)
    assert set(found.confidence.round(6)) >= {round(5 / 11, 6)}
    assert found.counts.sum() == 600


def test_the_error_of_perfect_confidence_is_within_its_null_as_often_as_promised_and_zero_without_bias():
    above, debiased = [], []
    for seed in range(60):
        probabilities, labels = calibrated(400, seed=seed)
        confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        found = reliability(confidence, correct, 10)
        above.append(found.expected_error > np.quantile(calibrated_null(confidence, 10, 60, seed), 0.95))
        squares = np.square(found.accuracy - found.confidence)
        by_chance = found.accuracy * (1 - found.accuracy) / (found.counts - 1)
        debiased.append(((squares - by_chance) * found.counts).sum() / 400)
    assert sum(above) <= binom.ppf(0.999, 60, 0.08)
    assert abs(np.mean(debiased)) < 4 * np.std(debiased) / np.sqrt(60)


@pytest.mark.parametrize("excess", [0.1, 0.25])
def test_planted_overconfidence_is_found_by_its_size(excess):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.4, 0.7, 5000)
    found = reliability(truth + excess, rng.random(5000) < truth, 10)
    assert found.expected_error == pytest.approx(excess, abs=0.02)
    assert found.debiased_root_mean_square == pytest.approx(excess, abs=0.02)


def test_the_brier_score_is_that_of_scikit_learn_and_its_parts_add_up():
    probabilities, labels = calibrated(500)
    probabilities = probabilities.round(1) + 1e-9
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    found = brier(probabilities, labels, 10)
    ours = found.scores.mean()
    assert ours == pytest.approx(brier_score_loss(labels, probabilities, labels=range(4), scale_by_half=False))
    assert found.reliability - found.resolution + found.uncertainty == pytest.approx(ours, abs=0.02)
    votes = np.random.default_rng(1).multinomial(2, np.full(3, 1 / 3), 300) / 2  # three levels: each a bin of its own
    drawn = np.random.default_rng(2).integers(0, 3, 300)
    exact = brier(votes, drawn, 300)
    assert exact.reliability - exact.resolution + exact.uncertainty == pytest.approx(exact.scores.mean())


def test_knowing_only_the_shares_of_classes_scores_the_uncertainty():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    found = brier(np.tile([0.5, 0.3, 0.2], (100, 1)), labels, 10)
    assert found.scores.mean() == pytest.approx(found.uncertainty)
    assert (found.reliability, found.resolution) == (pytest.approx(0), pytest.approx(0))


def test_rejection_of_ties_is_the_mean_over_their_orders():
    rng = np.random.default_rng(0)
    confidence, correct = rng.integers(3, 8, 60) / 11, rng.random(60) < 0.6
    curves = []
    for _ in range(4000):
        order = np.lexsort((rng.random(60), -confidence))
        curves.append(np.cumsum(correct[order]) / np.arange(1, 61))
    found = accuracy_by_share(confidence, correct)
    np.testing.assert_allclose(found, np.mean(curves, axis=0), atol=0.03)
    assert found[-1] == pytest.approx(correct.mean())
    assert found.mean() == pytest.approx(auc(np.arange(1, 61), found) / 59, abs=0.02)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_conformal_sets_are_those_of_a_loop(error, by_class):
    probabilities, labels = calibrated(90)
    parts = np.random.default_rng(1).integers(0, 3, 90)
    sets = conformal_sets(probabilities, labels, parts, error, by_class=by_class)
    for cell in range(90):
        for label in range(4):
            others = [
                1 - probabilities[other, labels[other]]
                for other in range(90)
                if parts[other] != parts[cell] and (not by_class or labels[other] == label)
            ]
            as_odd = sum(score >= 1 - probabilities[cell, label] - 1e-12 for score in others)
            assert sets[cell, label] == ((as_odd + 1) / (len(others) + 1) > error - 1e-9)  # a conformal p-value


def test_coverage_of_exchangeable_cells_is_within_its_bounds_for_each_class_too():
    probabilities, labels = calibrated(4000, sharpness=3)
    labels[:] = np.where(np.random.default_rng(5).random(4000) < 0.3, 0, labels)  # confidence need not be right
    parts = np.arange(4000) % 2
    covered = {
        b: conformal_sets(probabilities, labels, parts, 0.1, by_class=b)[np.arange(4000), labels] for b in (False, True)
    }

    def bounds(tested, calibration):
        rank = np.ceil((calibration + 1) * 0.9)
        return betabinom.ppf([0.0005, 0.9995], tested, rank, calibration + 1 - rank)

    for part in (0, 1):
        low, high = bounds(2000, 2000)
        assert low <= covered[False][parts == part].sum() <= high
        for label in range(4):
            inside, others = ((parts == p) & (labels == label) for p in (part, 1 - part))
            low, high = bounds(inside.sum(), others.sum())
            assert low <= covered[True][inside].sum() <= high


def cells(*, shift=0.0, seed=0, n=480):
    """Three classes of cells on four plates; what displaces a class is another direction on every plate, the more so by `shift`."""
    rng = np.random.default_rng(seed)
    label, plate = np.arange(n) % 3, np.arange(n) // 3 % 4
    values = rng.normal(size=(n, 6)) + shift * rng.normal(size=(3, 4, 6))[label, plate]
    values[np.arange(n), label] += 1.5
    provenance = {"dataset": {"name": "planted", "confounder": "plate"}}
    return make_features(values, provenance, label=[f"c{i}" for i in label], plate=[f"p{i}" for i in plate])


@pytest.mark.parametrize("classifier", ["knn", "logistic-regression"])
def test_sets_cover_cells_of_plates_that_are_alike_and_too_few_of_plates_that_are_not(classifier):
    by_shift = {}
    for shift in (0.0, 1.5):
        results = [
            result
            for seed in range(4)
            for result in pci_bench.evaluate(
                "calibration", cells(shift=shift, seed=seed), classifier=classifier, exclude=["cell", "plate"], draws=5
            )
        ]
        by_shift[shift] = {
            exclude: np.mean([r.metrics["coverage"] for r in results if r.evaluator.params["exclude"] == exclude])
            for exclude in ("cell", "plate")
        }
    assert 0.88 < by_shift[0.0]["plate"] < 0.95
    assert 0.88 < by_shift[1.5]["cell"] < 0.95
    errors = {
        exclude: np.mean(
            [
                pci_bench.evaluate(
                    "calibration", cells(shift=1.5, seed=seed), classifier=classifier, exclude=exclude, draws=5
                )[0].metrics["ece"]
                for seed in range(4)
            ]
        )
        for exclude in ("cell", "plate")
    }
    assert errors["plate"] > 2 * errors["cell"]


def test_probabilities_are_votes_of_neighbours_of_other_plates_and_of_a_regression_on_them():
    adata = cells()
    x, labels = StandardScaler().fit_transform(adata.X.astype(float)), adata.obs["label"].to_numpy(str)
    plates = adata.obs["plate"].to_numpy(str)
    expected = np.zeros((len(x), 3))
    for plate in np.unique(plates):
        inside = plates == plate
        expected[inside] = KNeighborsClassifier(11).fit(x[~inside], labels[~inside]).predict_proba(x[inside])
    (result,) = pci_bench.evaluate("calibration", adata, exclude="plate")
    found = result.predictions.set_index("cell").loc[adata.obs["cell"]]
    np.testing.assert_allclose(found["confidence"], expected.max(axis=1))
    assert result.metrics["brier"] == pytest.approx(
        brier_score_loss(labels, expected, labels=["c0", "c1", "c2"], scale_by_half=False)
    )
    (result,) = pci_bench.evaluate("calibration", adata, exclude="plate", classifier="logistic-regression")
    found = result.predictions.set_index("cell").loc[adata.obs["cell"]]
    for plate in np.unique(plates):  # four plates are four folds, scaled within
        inside = plates == plate
        scaler = StandardScaler().fit(adata.X[~inside].astype(float))
        scores = []
        for label in np.unique(labels):  # classes are equally large, so that weights are 1
            model = LogisticRegression(l1_ratio=1, solver="liblinear", C=1, tol=1e-8, max_iter=5000)
            model.fit(scaler.transform(adata.X[~inside].astype(float)), labels[~inside] == label)
            scores.append(model.predict_proba(scaler.transform(adata.X[inside].astype(float)))[:, 1])
        shares = np.transpose(scores) / np.sum(scores, axis=0)[:, None]
        np.testing.assert_allclose(found["confidence"][inside], shares.max(axis=1), atol=0.01)


def test_features_that_know_nothing_gain_nothing_by_rejection():
    rng = np.random.default_rng(0)
    adata = cells(n=1200)
    adata.X = rng.normal(size=adata.shape).astype(np.float32)
    (result,) = pci_bench.evaluate("calibration", adata)
    assert abs(result.metrics["rejection_gain"]) < 0.05
    assert result.metrics["brier_resolution"] < 0.03
