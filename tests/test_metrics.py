"""Metrics against scikit-learn; bootstrap intervals against the binomial distribution and a slow bootstrap by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score
from sklearn.preprocessing import StandardScaler

from pci_bench.evaluators.base import standardized
from pci_bench.evaluators.metrics import (
    bootstrap_confusions,
    classification_metrics,
    confusion_counts,
    percentile_interval,
    recalls,
)

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


def balanced(confusions):
    return classification_metrics(confusions)["balanced_accuracy"]


@pytest.mark.parametrize("grouped", [False, True])
def test_the_interval_of_independent_cells_is_the_binomial_one(grouped):
    labels, predicted = planted(np.random.default_rng(0), cells_per_class=400)
    groups = np.arange(len(labels)) if grouped else None
    confusions, by_group = bootstrap_confusions(labels, predicted, groups, 4, replicates=3000, seed=1)
    assert by_group.tolist() == [grouped] * 4
    low, high = percentile_interval(balanced(confusions))
    estimate = balanced(confusion_counts(labels, predicted, 4))
    assert low < estimate < high
    per_class = recalls(confusion_counts(labels, predicted, 4))
    sd = np.sqrt((per_class * (1 - per_class) / 400).sum()) / 4
    assert high - low == pytest.approx(2 * 1.96 * sd, rel=0.08)


def test_the_interval_is_wider_where_the_cells_of_a_group_are_right_or_wrong_together():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 500)
    groups = np.arange(2000) // 25  # 20 groups of 25 cells in every class
    wrong = (rng.random(80) > 0.7)[groups]
    predicted = np.where(wrong, (labels + 1) % 4, labels)
    widths = []
    for unit in (None, groups):
        low, high = percentile_interval(balanced(bootstrap_confusions(labels, predicted, unit, 4)[0]))
        widths.append(high - low)
    assert widths[1] / widths[0] == pytest.approx(5, rel=0.15)  # √25


def test_the_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        labels, predicted = planted(rng, cells_per_class=150, n_classes=3, accuracy=0.75)
        low, high = percentile_interval(balanced(bootstrap_confusions(labels, predicted, None, 3, replicates=400, seed=trial)[0]))  # fmt: skip
        covered += low <= 0.75 <= high
    assert 0.90 <= covered / 300 <= 0.985


def by_hand(labels, predicted, groups, replicates, rng):
    """Draw groups with replacement within each class, collect their cells, ask scikit-learn."""
    found = []
    for _ in range(replicates):
        cells = []
        for label in np.unique(labels):
            mine = np.flatnonzero(labels == label)
            names = np.unique(groups[mine])
            drawn = rng.choice(names, len(names)) if len(names) > 1 else None
            cells += [rng.choice(mine, len(mine))] if drawn is None else [mine[groups[mine] == g] for g in drawn]
        drawn = np.concatenate(cells)
        right = predicted[drawn] == labels[drawn]
        found.append((np.mean([right[labels[drawn] == label].mean() for label in np.unique(labels)]), right.mean()))
    return np.array(found)


def test_replicates_have_the_mean_and_sd_of_a_slow_bootstrap_by_hand():
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [60, 90, 40])
    groups = np.concatenate(
        [rng.integers(0, 6, 60), rng.integers(3, 15, 90), np.full(40, 99)]
    )  # groups of unequal size
    difficulty = rng.random(100)
    predicted = np.where(rng.random(190) < difficulty[groups], labels, rng.integers(-1, 3, 190))
    confusions, by_group = bootstrap_confusions(labels, predicted, groups, 3, replicates=4000, seed=0)
    assert by_group.tolist() == [True, True, False]
    slow = by_hand(labels, predicted, groups, 2500, rng)
    for column, name in enumerate(["balanced_accuracy", "accuracy"]):
        fast = classification_metrics(confusions)[name]
        sd = slow[:, column].std()
        assert fast.mean() == pytest.approx(slow[:, column].mean(), abs=0.12 * sd)
        assert fast.std() == pytest.approx(sd, rel=0.08)


def test_the_bootstrap_depends_on_its_seed_only():
    labels, predicted = planted(np.random.default_rng(0), cells_per_class=50)
    groups = np.arange(200) // 5
    first, again = (bootstrap_confusions(labels, predicted, groups, 4, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = bootstrap_confusions(labels, predicted, groups, 4, seed=4)[0]
    assert (first != other).any()
    renamed = bootstrap_confusions(labels, predicted, groups * 17 - 5, 4, seed=3)[0]
    np.testing.assert_array_equal(first, renamed)


def test_resampling_by_cells_keeps_the_size_of_every_class():
    labels, predicted = np.repeat([0, 1, 3], [5, 30, 1]), np.r_[np.zeros(20, int), np.full(16, -1)]
    confusions, by_group = bootstrap_confusions(labels, predicted, None, 4, replicates=50)
    assert not by_group.any()
    assert confusions.shape == (50, 4, 5)
    assert (confusions.sum(axis=2) == [5, 30, 0, 1]).all()
    assert np.isfinite(balanced(confusions)).all()


def test_resampling_by_group_takes_groups_whole():
    labels, groups = np.zeros(30, int), np.repeat(np.arange(6), 5)
    predicted = np.repeat([0, 0, 1, -1, 1, 0], 5)
    confusions, _ = bootstrap_confusions(labels, predicted, groups, 2, replicates=200)
    assert (confusions % 5 == 0).all()
    assert (confusions[:, 0].sum(axis=1) == 30).all()


def test_a_class_in_one_group_is_resampled_by_cells_and_the_others_by_group():
    labels = np.repeat([0, 1], 40)
    groups = np.r_[np.zeros(40, int), np.arange(40) // 10]
    predicted = np.where(np.arange(80) % 3 == 0, 1 - labels, labels)
    confusions, by_group = bootstrap_confusions(labels, predicted, groups, 2)
    assert by_group.tolist() == [False, True]
    assert confusions[:, 0, 0].std() > 0


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_percentile_interval_holds_the_asked_share_in_its_centre(level):
    low, high = percentile_interval(np.random.default_rng(0).permutation(np.linspace(0, 1, 10_001)), level)
    assert low == pytest.approx((1 - level) / 2)
    assert high == pytest.approx((1 + level) / 2)
