"""Accuracy over the number of labels: a loop over scikit-learn, planted classes, none, and what a class lacks."""

import numpy as np
import pytest
from factories import make_features
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from pci_bench import UserError, evaluate
from pci_bench.reporting.figures.label_efficiency import label_efficiency_figures
from pci_bench.statistics.folds import stratified_folds
from pci_bench.statistics.label_efficiency import area_weights, curve_spread, drawn_cells, label_efficiency

COUNTS = [1, 3, 10]


def planted(separation, *, images=12, cells=15, classes=3, d=6, seed=0):
    """Features of classes that lie so far apart, cells of images; and labels and images."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), cells)
    labels = image % classes
    centres = separation * np.eye(classes, d)
    return centres[labels] + rng.normal(size=(len(labels), d)), labels, image


def as_table(values, labels, image):
    names = np.array(["a", "b", "c"])[labels]
    columns = {"cell": [f"c{i}" for i in range(len(labels))], "label": names, "image": [f"i{i}" for i in image]}
    of = {"dataset": {"name": "planted", "confounder": "image"}, "features": {"name": "mine"}}
    return make_features(np.asarray(values, np.float32), of, **columns)


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_predictions_are_those_of_a_loop_over_scikit_learn(classifier):
    values, labels, image = planted(1.5)
    found = label_efficiency(values, labels, image, COUNTS, classifier=classifier, draws=2, folds=4, seed=3)
    for draw, sequence in enumerate(np.random.SeedSequence(3).spawn(2)):
        rng = np.random.default_rng(sequence)
        fold, _, _ = stratified_folds(labels, image, 4, int(rng.integers(2**31)))
        for number in range(4):
            train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            assert not set(image[train]) & set(image[test])
            scaler = StandardScaler().fit(values[train])
            chosen = [rng.permutation(np.flatnonzero(labels[train] == c))[:10] for c in range(3)]
            for place, count in enumerate(COUNTS):
                rows = train[np.concatenate([cells[:count] for cells in chosen])]
                model = (
                    LogisticRegression(class_weight="balanced", max_iter=1000)
                    if classifier == "logistic"
                    else KNeighborsClassifier(min(11, count))
                )
                model.fit(scaler.transform(values[rows]), labels[rows])
                expected = model.predict(scaler.transform(values[test])) == labels[test]
                assert (found.right[draw, place, test] == expected).all()


def test_fewer_draws_are_the_first_of_more_and_what_a_classifier_does_not_use_changes_nothing():
    values, labels, image = planted(1.5)
    more = label_efficiency(values, labels, image, COUNTS, classifier="knn", draws=3, c=5.0)
    fewer = label_efficiency(values, labels, image, COUNTS, classifier="knn", draws=2)
    assert (more.first(2).right == fewer.right).all()
    of_two, of_three = evaluate(
        "label-efficiency", as_table(values, labels, image), classifier="knn", counts="3", draws=[2, 3], folds=4
    )
    assert (of_two.details["draws"], of_three.details["draws"]) == (2, 3)
    (alone,) = evaluate(
        "label-efficiency", as_table(values, labels, image), classifier="knn", counts="3", draws=2, folds=4
    )
    assert (alone.metrics, alone.intervals) == (of_two.metrics, of_two.intervals)


def test_a_larger_draw_holds_the_smaller_one_and_only_available_cells():
    labels, available = np.repeat([0, 1, 2], 20), np.arange(60) % 2 == 0
    small = drawn_cells(labels, available, 3, np.random.default_rng(5))
    large = drawn_cells(labels, available, 8, np.random.default_rng(5))
    for c, (few, many) in enumerate(zip(small, large, strict=True)):
        assert (few == many[:3]).all()
        assert available[many].all()
        assert (labels[many] == c).all()


def test_the_area_is_numpys_trapezoid_over_the_logarithm():
    curve, counts = np.array([0.3, 0.5, 0.8, 0.85]), [1, 3, 10, 100]
    expected = np.trapezoid(curve, np.log10(counts)) / 2
    assert curve @ area_weights(counts) == pytest.approx(expected)


def test_an_evaluation_gives_scikit_learns_balanced_accuracy_of_each_draw():
    values, labels, image = planted(1.5)
    found = label_efficiency(values, labels, image, COUNTS, classifier="knn", draws=3)
    scored = [balanced_accuracy_score(labels, np.where(right, labels, (labels + 1) % 3)) for right in found.right[:, 1]]
    mean, by_draw, spread = curve_spread(found.right, labels, image, np.eye(3)[1], 1.0)
    assert by_draw.tolist() == pytest.approx(scored)
    assert mean == pytest.approx(np.mean(scored))
    assert spread.variance > np.var(scored, ddof=1) / 3


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_planted_classes_are_learned_from_one_label_and_a_curve_of_close_ones_grows(classifier):
    (far,) = evaluate(
        "label-efficiency", as_table(*planted(30, d=3)), classifier=classifier, counts="1,10", draws=3, folds=4
    )
    assert far.metrics["area"] == 1.0
    (close,) = evaluate(
        "label-efficiency", as_table(*planted(2)), classifier=classifier, counts="1,3,10", draws=3, folds=4
    )
    heights = [close.metrics[f"balanced_accuracy_at_{n}"] for n in (1, 3, 10)]
    assert heights == sorted(heights)
    assert heights[0] < heights[-1] - 0.1
    assert close.metrics["area"] == pytest.approx(heights @ area_weights([1, 3, 10]))


@pytest.mark.parametrize("classifier", ["logistic", "knn"])
def test_features_that_know_nothing_stay_at_chance_and_the_interval_holds_it(classifier):
    (none,) = evaluate(
        "label-efficiency", as_table(*planted(0)), classifier=classifier, counts="1,10", draws=4, folds=4
    )
    low, high = none.intervals["area"]
    assert low < 1 / 3 < high
    assert none.metrics["area"] == pytest.approx(1 / 3, abs=0.08)


def test_features_that_know_only_the_image_stay_at_chance_where_labels_are_of_other_images():
    values, labels, image = planted(0)
    values = values + 20 * np.random.default_rng(1).normal(size=(12, 6))[image]
    same, other = evaluate(
        "label-efficiency",
        as_table(values, labels, image),
        classifier="knn",
        exclude=["cell", "image"],
        counts="30",
        draws=3,
        folds=4,
    )
    assert same.metrics["area"] > 0.9
    assert other.metrics["area"] < 0.6


def test_classes_with_fewer_cells_are_said_and_kept():
    values, labels, image = planted(3)
    kept = (labels != 2) | (np.arange(len(labels)) % 5 == 0)
    with pytest.warns(
        UserWarning, match="1 of 3 classes have fewer cells in other images, all of which are labelled: at least c 9"
    ):
        (result,) = evaluate(
            "label-efficiency", as_table(values[kept], labels[kept], image[kept]), counts="1,30", draws=2, folds=4
        )
    assert result.details["fewest_labels"] == {"c": 9}
    recalls = result.table("recalls").set_index(["class", "labels"])
    assert recalls.loc[("c", 30), "fewest_labels"] == 9
    assert recalls.loc[("c", 30), "recall"] > 0.5


@pytest.mark.parametrize(
    ("counts", "message"), [("10,3", "growing"), ("a", "separated by commas"), ("0,3", "separated by commas")]
)
def test_wrong_numbers_of_labels_are_refused(counts, message):
    with pytest.raises(UserError, match=message):
        evaluate("label-efficiency", as_table(*planted(1)), counts=counts)


def test_curves_are_drawn_with_their_bands_best_first():
    results = [
        r
        for separation in (1, 4)
        for r in evaluate("label-efficiency", as_table(*planted(separation)), counts="1,10", draws=2, folds=4)
    ]
    results[0] = (
        results[0]
        .model_copy(update={"features": results[0].features.model_copy(update={"name": "noise"})})
        .with_tables(None, results[0].tables)
    )
    ((stem, figure),) = label_efficiency_figures(results)
    assert stem == "label-efficiency-planted-other-images"
    best = results[1].table("curve")
    assert figure.axes[0].lines[0].get_ydata().tolist() == pytest.approx(100 * best["balanced_accuracy"])
    places = [line.get_xdata()[0] for line in figure.axes[0].lines[:2]]
    assert places[0] < 1 < places[1]  # side by side, so that no interval hides another
