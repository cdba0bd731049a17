"""Metrics against scikit-learn; their spread against the binomial distribution and a slow jackknife by hand."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score
from sklearn.preprocessing import StandardScaler

from pci_bench import evaluate
from pci_bench.statistics.metrics import (
    classification_metrics,
    classification_spreads,
    confusion_counts,
    recall_spreads,
    recalls,
)
from pci_bench.statistics.scaling import standardized

pytestmark = [
    pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true"),
    pytest.mark.filterwarnings("ignore:A single label was found"),
]


def labels_and_predictions(n_classes=5, lowest=-1):
    """Any labels and predictions of up to 60 cells; −1 is a cell without a prediction."""
    return st.integers(1, 60).flatmap(
        lambda n: st.tuples(
            hnp.arrays(np.int64, n, elements=st.integers(0, n_classes - 1)),
            hnp.arrays(np.int64, n, elements=st.integers(lowest, n_classes - 1)),
        )
    )


@settings(max_examples=100, deadline=None)
@given(labels_and_predictions())
def test_metrics_are_those_of_scikit_learn_and_no_prediction_is_a_wrong_one(drawn):
    labels, predicted = drawn
    confusion = confusion_counts(labels, predicted, 5)
    found = classification_metrics(confusion)
    present = np.unique(labels)
    assert found["accuracy"] == pytest.approx(accuracy_score(labels, predicted))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    macro_f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(macro_f1)
    expected = recall_score(labels, predicted, labels=present, average=None, zero_division=0)
    np.testing.assert_allclose(recalls(confusion)[present], expected)
    assert np.isnan(np.delete(recalls(confusion), present)).all()


@settings(max_examples=100, deadline=None)
@given(labels_and_predictions())
def test_confusion_counts_are_those_of_scikit_learn_with_no_prediction_in_the_last_column(drawn):
    labels, predicted = drawn
    expected = confusion_matrix(labels, predicted, labels=[0, 1, 2, 3, 4, -1])[:5]
    np.testing.assert_array_equal(confusion_counts(labels, predicted, 5), expected)


def test_macro_f1_over_classes_that_all_have_cells_is_scikit_learns_own_default():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 4, 300), rng.integers(0, 4, 300)
    found = classification_metrics(confusion_counts(labels, predicted, 4))
    assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))


def test_no_prediction_for_any_cell_is_an_accuracy_of_0():
    found = classification_metrics(confusion_counts(np.array([0, 1, 1]), np.array([-1, -1, -1]), 2))
    assert {name: float(value) for name, value in found.items()} == {"balanced_accuracy": 0, "macro_f1": 0, "accuracy": 0}  # fmt: skip


def test_a_stack_of_confusion_matrices_gives_a_metric_of_each():
    rng = np.random.default_rng(0)
    pairs = [(rng.integers(0, 3, 50), rng.integers(-1, 3, 50)) for _ in range(6)]
    confusions = np.stack([confusion_counts(*pair, 3) for pair in pairs]).reshape(2, 3, 3, 4)
    stacked = classification_metrics(confusions)
    for name, values in stacked.items():
        assert values.shape == (2, 3)
        expected = [classification_metrics(confusion_counts(*pair, 3))[name] for pair in pairs]
        np.testing.assert_allclose(values.ravel(), expected)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=st.floats(-1e4, 1e4, width=32))
)
def test_standardized_columns_are_those_of_scikit_learn_but_exactly_0_where_constant(features):
    found = standardized(features)
    constant = (features == features[0]).all(axis=0)
    assert found.dtype == np.float64
    assert (found[:, constant] == 0).all()
    spread = features.astype(np.float64).std(axis=0)
    clear = ~constant & (spread > 1e-9 * np.abs(features).max(axis=0)) & (spread > 1e-9)
    expected = StandardScaler().fit_transform(features.astype(np.float64))
    np.testing.assert_allclose(found[:, clear], expected[:, clear], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.1, -0.1, 1 / 3, 1e7 + 0.1, 1e25, 1e-25, 0])
@pytest.mark.parametrize("n", [3, 10, 1642])
def test_a_constant_column_becomes_exactly_0_though_its_mean_is_rounded(dtype, value, n):
    features = np.column_stack([np.full(n, value), np.arange(n)]).astype(dtype)
    found = standardized(features)
    assert (found[:, 0] == 0).all()
    np.testing.assert_allclose(found[:, 1].std(), 1, rtol=1e-12)
    assert features.dtype == dtype
    assert (features[:, 0] == dtype(value)).all()


def test_a_column_that_varies_in_its_last_bit_only_is_not_taken_for_constant():
    features = np.array([[1.0], [1.0], [np.nextafter(1.0, 2.0)]])
    found = standardized(features)
    assert found[2, 0] > found[0, 0] == found[1, 0]
    assert np.isfinite(found).all()


def test_a_column_whose_spread_underflows_stays_finite():
    found = standardized(np.array([[1e-200], [2e-200], [3e-200]]))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 1e-100


def planted(rng, cells_per_class=200, n_classes=4, accuracy=0.8):
    """Labels, and predictions that are right with the given probability, else the next class."""
    labels = np.repeat(np.arange(n_classes), cells_per_class)
    wrong = rng.random(len(labels)) > accuracy
    return labels, np.where(wrong, (labels + 1) % n_classes, labels)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_spread_of_independent_cells_is_the_binomial_one(grouped):
    labels, predicted = planted(np.random.default_rng(0), cells_per_class=400)
    groups = np.arange(len(labels)) if grouped else None
    spreads, by_group = classification_spreads(labels, predicted, groups, 4)
    assert by_group.tolist() == [grouped] * 4
    per_class = recalls(confusion_counts(labels, predicted, 4))
    expected = (per_class * (1 - per_class) / 399).sum() / 16
    assert spreads["balanced_accuracy"].variance == pytest.approx(expected)


def test_the_spread_is_larger_where_the_cells_of_a_group_are_right_or_wrong_together():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 500)
    groups = np.arange(2000) // 25  # 20 groups of 25 cells in every class
    wrong = (rng.random(80) > 0.7)[groups]
    predicted = np.where(wrong, (labels + 1) % 4, labels)
    alone, whole = (
        classification_spreads(labels, predicted, g, 4)[0]["balanced_accuracy"].variance for g in (None, groups)
    )
    assert whole / alone == pytest.approx(25, rel=0.1)


@pytest.mark.parametrize("folds", [1, 3])
def test_the_spread_is_that_of_a_jackknife_by_hand(folds):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 90, 40])
    groups = np.concatenate([rng.integers(0, 6, 60), rng.integers(10, 22, 90), rng.integers(30, 34, 40)])
    predicted = np.where(rng.random(190) < 0.6, labels, rng.integers(-1, 3, 190))
    fold = rng.integers(0, folds, 190)
    spreads, _ = classification_spreads(labels, predicted, groups, 3, folds=fold)

    def by_hand(kept, weights):
        own = [kept & (fold == f) for f in range(folds)]
        return {
            "balanced_accuracy": np.mean(
                [np.mean([(predicted[o & (labels == c)] == c).mean() for c in range(3)]) for o in own]
            ),
            "accuracy": np.mean([np.average(predicted[o] == labels[o], weights=weights[labels[o]]) for o in own]),
        }

    for name in ("balanced_accuracy", "accuracy"):
        variance = 0.0
        for label in range(3):
            names = np.unique(groups[labels == label])
            weights = np.where(np.arange(3) == label, len(names) / (len(names) - 1), 1)  # a class keeps its share
            values = np.array([by_hand(groups != g, weights)[name] for g in names])
            variance += (len(names) - 1) / len(names) * np.square(values - values.mean()).sum()
        assert spreads[name].variance == pytest.approx(variance)


def test_a_group_of_several_classes_is_left_out_of_all_of_them():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    labels = np.tile([0, 1], 120)
    quality = np.repeat(rng.random(12), 20)
    predicted = np.where(rng.random(240) < quality, labels, 1 - labels)
    together = classification_spreads(labels, predicted, groups, 2)[0]["balanced_accuracy"]
    apart = classification_spreads(labels, predicted, groups + 100 * labels, 2)[0]["balanced_accuracy"]
    assert together.df == 11 < apart.df
    assert together.variance > 1.5 * apart.variance
    values = [np.mean([(predicted == labels)[(groups == g) & (labels == c)].mean() for c in (0, 1)]) for g in range(12)]
    assert together.variance == pytest.approx(np.var(values, ddof=1) / 12)


def test_a_class_in_one_group_is_drawn_by_cells_and_the_others_by_group():
    labels = np.repeat([0, 1], 40)
    groups = np.r_[np.zeros(40, int), np.arange(40) // 10]
    predicted = np.where(np.arange(80) % 3 == 0, 1 - labels, labels)
    _, by_group = classification_spreads(labels, predicted, groups, 2)
    assert by_group.tolist() == [False, True]
    assert recall_spreads(labels, predicted, groups, 2)[0].df == 39


def test_names_of_groups_and_order_of_cells_change_nothing():
    labels, predicted = planted(np.random.default_rng(0), cells_per_class=50)
    groups = np.arange(200) // 5
    first = classification_spreads(labels, predicted, groups, 4)[0]["macro_f1"]
    order = np.random.default_rng(1).permutation(200)
    other = classification_spreads(labels[order], predicted[order], (groups * 17 - 5)[order], 4)[0]["macro_f1"]
    assert other.variance == pytest.approx(first.variance)


@pytest.mark.parametrize("evaluator", ["loo-knn", "logistic-regression", "random-forest", "argmax"])
def test_every_classifier_reports_the_macro_f1_of_its_predictions(evaluator):
    rng = np.random.default_rng(0)
    labels, images = rng.integers(0, 3, 90), rng.integers(0, 9, 90)
    values = rng.normal(size=(90, 3)) + 1.5 * np.eye(3)[labels]
    adata = make_features(values, label=[f"c{i}" for i in labels], image=[f"i{i}" for i in images])
    adata.var_names = ["c0", "c1", "c2"]
    params = {} if evaluator == "argmax" else {"exclude": "image"}  # whose metrics are of all held-out cells together
    params |= {"trees": 10} if evaluator == "random-forest" else {}
    (result,) = evaluate(evaluator, adata, **params)
    table = result.predictions.astype(str)
    assert result.metrics["macro_f1"] == pytest.approx(f1_score(table["label"], table["predicted"], average="macro"))
    assert result.intervals["macro_f1"][0] < result.metrics["macro_f1"] < result.intervals["macro_f1"][1]
