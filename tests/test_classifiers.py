"""Cross-validated classifiers, against scikit-learn and against the objective itself."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import AnnData
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from liblinear import l1_regression
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import balanced_accuracy_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from pci_bench import UserError, evaluate
from pci_bench.api.evaluator import EvaluationContext
from pci_bench.evaluators.classifiers import LogisticRegressionEvaluator, LogisticRegressionParams, Part
from pci_bench.statistics.folds import balanced_weights, stratified_folds


def table(features, labels, fields=None, names=None) -> AnnData:
    names = [f"c{i:04d}" for i in range(len(features))] if names is None else names
    of = {"dataset": {"name": "planted", "confounder": "" if fields is None else "field"}}
    return make_features(features, of, cell=names, label=labels, field=fields)


def planted(n=150, d=8, classes=3, shift=1.5, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(n, d))
    features[np.arange(n), labels] += shift
    return features, labels


def test_several_classes_are_weighted_as_liblinear_weights_them_itself():
    """liblinear's own one-vs-rest multiplies only the class's C, not that of the rest; LinearSVC still runs it."""
    features, labels = planted(n=90)
    labels[:40] = 0
    weights = balanced_weights(labels, 3)
    np.testing.assert_allclose(weights, len(labels) / (3 * np.bincount(labels)))
    own = LinearSVC(class_weight="balanced", loss="squared_hinge", dual=False, tol=1e-8, max_iter=10_000).fit(
        features, labels
    )
    for label in range(3):
        alone = LinearSVC(
            class_weight={False: 1.0, True: weights[label]},
            loss="squared_hinge",
            dual=False,
            tol=1e-8,
            max_iter=10_000,
        )
        alone.fit(features, labels == label)
        np.testing.assert_allclose(alone.coef_[0], own.coef_[label], atol=1e-4)


@pytest.mark.parametrize("evaluator", ["logistic-regression", "random-forest"])
def test_held_out_predictions_are_those_of_a_classifier_fitted_on_the_other_folds(evaluator):
    features, labels = planted(n=120)
    names = np.array(["a", "b", "c"])[labels]
    options = {"trees": 25} if evaluator == "random-forest" else {}
    (result,) = evaluate(evaluator, table(features, names), **options)
    found = result.predictions
    features = features.astype(np.float32).astype(float)
    scores = []
    for fold in range(5):
        inside = (found["fold"] == fold).to_numpy()
        mean, sd = features[~inside].mean(axis=0), features[~inside].std(axis=0)
        training, held_out = (features[~inside] - mean) / sd, (features[inside] - mean) / sd
        if evaluator == "random-forest":
            forest = RandomForestClassifier(25, max_features=0.2, class_weight="balanced", random_state=0)
            expected = forest.fit(training, names[~inside]).predict(held_out)
        else:
            weights = balanced_weights(labels[~inside], 3)
            fits = [
                l1_regression(class_weight={0: 1.0, 1: weights[c]}, tol=1e-8, random_state=0).fit(
                    training, labels[~inside] == c
                )
                for c in range(3)
            ]
            expected = np.array(["a", "b", "c"])[np.argmax([f.decision_function(held_out) for f in fits], axis=0)]
        assert found["predicted"][inside].tolist() == expected.tolist()
        scores.append(balanced_accuracy_score(names[inside], expected))
    assert result.metrics["balanced_accuracy"] == pytest.approx(np.mean(scores))
    assert [f["balanced_accuracy"] for f in result.details["folds"]] == pytest.approx(scores)
    low, high = result.intervals["balanced_accuracy"]
    assert low <= result.metrics["balanced_accuracy"] <= high


def test_logistic_regression_is_close_to_plain_one_against_the_rest():
    features, labels = planted(n=300, shift=2.5)
    from sklearn.model_selection import cross_val_score

    plain = OneVsRestClassifier(l1_regression(class_weight="balanced"))
    theirs = cross_val_score(plain, features, labels, cv=5, scoring="balanced_accuracy").mean()
    (ours,) = evaluate("logistic-regression", table(features, [f"k{v}" for v in labels]))
    assert ours.metrics["balanced_accuracy"] == pytest.approx(theirs, abs=0.05)


@pytest.mark.parametrize("scale", ["fold", "none"])
def test_predictions_are_the_same_for_any_number_of_threads(scale):
    features, labels = planted(n=300, classes=5, shift=0.7)
    folds = np.arange(300) % 5

    def predictions(threads):
        parts = (Part.of(features, labels, np.arange(300), folds == fold, scale) for fold in range(5))
        said: dict[str, int] = {}
        found = LogisticRegressionEvaluator().predict(
            parts, LogisticRegressionParams(), EvaluationContext(threads=threads), said
        )
        return np.concatenate(found), said

    alone, said = predictions(1)
    assert said == {"unconverged_fits": 0}
    for threads in (2, 7):
        np.testing.assert_array_equal(predictions(threads)[0], alone)


def test_fits_that_rounding_keeps_from_converging_are_counted():
    features, labels = planted(n=90)
    adata = table(features + 1e9, [f"k{v}" for v in labels])
    adata.X = features + 1e9
    (result,) = evaluate("logistic-regression", adata, scale="none")
    assert result.details["unconverged_fits"] > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_the_cells_and_the_names_of_the_classes_do_not_matter(seed):
    features, labels = planted(n=60, seed=seed)
    order = np.random.default_rng(seed).permutation(60)
    names = np.array([f"c{i}" for i in range(60)])
    (first,) = evaluate("logistic-regression", table(features, [f"k{v}" for v in labels], names=names))
    (other,) = evaluate(
        "logistic-regression", table(features[order], [f"z{v}" for v in labels[order]], names=names[order])
    )
    assert first.metrics == pytest.approx(other.metrics)


def test_a_group_is_never_both_trained_on_and_held_out():
    features, labels = planted(n=200)
    fields = [f"f{i % 20}" for i in range(200)]
    (result,) = evaluate("random-forest", table(features, [f"k{v}" for v in labels], fields), exclude="field", trees=5)
    assert (result.predictions.groupby("field")["fold"].nunique() == 1).all()
    assert result.predictions["fold"].nunique() == 5


def test_folds_of_groups_that_lack_classes_count_all_held_out_predictions_together():
    features, labels = planted(n=90, classes=3)
    fields = np.where(labels == 0, np.arange(90) // 3 % 2, 10 * labels + np.arange(90) // 3 % 7)
    names = np.array([f"k{v}" for v in labels])
    (result,) = evaluate("random-forest", table(features, names, [f"f{v}" for v in fields]), exclude="field", trees=5)
    found = result.predictions
    expected = balanced_accuracy_score(names, found["predicted"])
    assert result.metrics["balanced_accuracy"] == pytest.approx(expected)
    assert np.mean([f["balanced_accuracy"] for f in result.details["folds"]]) != pytest.approx(expected, abs=1e-4)
    low, high = result.intervals["balanced_accuracy"]
    assert low < expected < high


def test_fewer_folds_where_a_class_has_fewer_groups_and_it_is_said():
    features, labels = planted(n=90, classes=2)
    fields = np.where(labels == 0, np.arange(90) % 3, 10 + np.arange(90) % 30)
    (result,) = evaluate(
        "random-forest", table(features, [f"k{v}" for v in labels], [f"f{v}" for v in fields]), exclude="field", trees=5
    )
    assert result.predictions["fold"].nunique() == 3
    assert "3 folds" in result.details["fewer_folds"]


def test_a_class_in_one_group_is_named_and_counts_as_not_learned():
    labels = np.repeat([0, 1, 2], 40)
    features, _ = planted(n=120)
    fields = np.where(labels == 2, "only", np.char.add("f", (np.arange(120) % 6).astype(str)))
    (result,) = evaluate("random-forest", table(features, [f"k{v}" for v in labels], fields), exclude="field", trees=5)
    assert result.details["unreachable_classes"] == ["k2"]
    assert result.details["per_class"]["k2"] == 0


def test_folds_are_stratified():
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    folds, n_folds, unreachable = stratified_folds(labels, None, 5, 0)
    assert n_folds == 5
    assert len(unreachable) == 0
    for fold in range(5):
        assert np.bincount(labels[folds == fold]).tolist() == [10, 6, 4]


def test_constant_features_are_chance_and_no_error():
    labels = [f"k{i % 3}" for i in range(60)]
    (result,) = evaluate("logistic-regression", table(np.ones((60, 4)), labels))
    assert result.metrics["balanced_accuracy"] == pytest.approx(1 / 3)


def test_argmax_is_the_column_with_the_largest_value_and_a_stranger_class_is_wrong():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7], [0.6, 0.3, 0.1]])
    adata = table(scores, ["a", "b", "b", "b"])
    adata.var_names = ["a", "b", "never seen"]
    (result,) = evaluate("argmax", adata)
    assert result.metrics["balanced_accuracy"] == pytest.approx((1 + 1 / 3) / 2)
    assert result.predictions["predicted"].isna().tolist() == [False, False, True, False]


def test_argmax_of_features_that_are_no_scores_is_a_sentence():
    with pytest.raises(UserError, match=r"no.* named a"):
        evaluate("argmax", table(np.ones((4, 2)), ["a", "a", "b", "b"]))


def test_features_with_nan_are_refused():
    features, labels = planted(n=30)
    features[3, 2] = np.nan
    with pytest.raises(UserError, match="NaN"):
        evaluate("logistic-regression", table(features, [f"k{v}" for v in labels]))


def test_scores_of_classes_that_the_labels_merge_are_added_up():
    adata = table(np.array([[0.4, 0.3, 0.3], [0.6, 0.2, 0.2]]), ["other", "SPINDLE"])
    adata.var_names = ["other", "SPINDLE", "SPINDLEPOLE"]
    (apart,) = evaluate("argmax", adata)
    adata.uns["pci_bench"]["dataset"]["merged"] = {"SPINDLEPOLE": "SPINDLE"}
    (merged,) = evaluate("argmax", adata)
    assert apart.predictions["predicted"].tolist() == ["other", "other"]
    assert merged.predictions["predicted"].tolist() == ["SPINDLE", "other"]
