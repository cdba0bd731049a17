"""Leave-one-out kNN, from the vote to the results of `pci_bench.evaluate`, against scikit-learn and by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import mode
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, f1_score, recall_score
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.preprocessing import StandardScaler

import pci_bench
from pci_bench.api.evaluator import EVALUATORS, EvaluationContext
from pci_bench.data.observations import exclusion_groups
from pci_bench.errors import UserError
from pci_bench.runs.results import key_and_defaults, read_result, write_result
from pci_bench.statistics.compiled import neighbors
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.neighbors import majority_vote, neighborhoods, one_right_and_one_wrong


def by_scikit_learn(features, labels, k, groups=None):
    """Fit a classifier for every cell, on the cells of other groups."""
    groups = np.arange(len(features)) if groups is None else groups
    predicted = np.full(len(features), -1)
    for row in range(len(features)):
        others = np.flatnonzero(groups != groups[row])
        if len(others):
            classifier = KNeighborsClassifier(min(k, len(others)), algorithm="kd_tree").fit(features[others], labels[others])  # fmt: skip
            predicted[row] = classifier.predict(features[row : row + 1])[0]
    return predicted


def loo_knn_predict(features, labels, ks, groupings):
    """Predictions by k and grouping, from one search."""
    found = neighborhoods(features, labels, dict(enumerate(groupings)), max(ks))
    n_classes = labels.max() + 1
    shares = {(k, position): s for position, near in found.items() for k, s in near.shares(ks).items()}
    assert all(((s == 0) | (s == 1)).all() and (s.sum(axis=1) == 1).all() for s in shares.values())
    return {key: np.where(s[:, n_classes] == 1, -1, s.argmax(axis=1)) for key, s in shares.items()}


def table(n=120, d=6, *, seed=0, confounder="field", name="planted", features=None, **columns):
    """Features of three overlapping classes, each in fields of its own, as `extract` returns them."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % 3
    features = rng.normal(size=(n, d)) + 1.2 * np.eye(3, d)[which] if features is None else features
    obs = {"field": [f"field{i % 12}" for i in range(n)], "label": np.array(["ER", "Golgi", "nucleus"])[which]}
    return make_features(features, {"dataset": {"name": name, "confounder": confounder}}, **obs | columns)


@pytest.fixture
def searches(monkeypatch):
    """The (k, number of groupings) of every neighbour search, as they come."""
    seen = []
    nearest_lists = neighbors.nearest_lists

    def spy(features, k, groupings, *others):
        seen.append((k, len(groupings)))
        return nearest_lists(features, k, groupings, *others)

    monkeypatch.setattr(neighbors, "nearest_lists", spy)
    return seen


# The vote


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 8)), elements=st.integers(-1, 3)))
def test_the_most_frequent_label_wins_and_the_smallest_of_equals(votes):
    expected = []
    for row in votes.tolist():
        counts = [row.count(label) for label in range(4)]
        expected.append(counts.index(max(counts)) if max(counts) else -1)
    assert majority_vote(votes, 4).tolist() == expected


def test_ties_go_to_the_label_that_scikit_learn_chooses():
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 5, size=(200, 4))  # of 4 votes and 5 labels, many tie
    for row, winner in zip(votes, majority_vote(votes, 5), strict=True):
        classifier = KNeighborsClassifier(4).fit(np.arange(4)[:, None], row)
        assert classifier.predict([[1.5]])[0] == winner


def test_minus_1_does_not_vote_and_no_votes_are_no_prediction():
    votes = np.array([[-1, -1, -1, 2], [-1, -1, -1, -1], [-1, 1, 0, 1], [2, 0, -1, -1]])
    assert majority_vote(votes, 3).tolist() == [2, -1, 1, 0]


@pytest.mark.parametrize("seed", [0, 1])
def test_predictions_are_those_of_scikit_learn_left_one_out(seed):
    rng = np.random.default_rng(seed)
    features, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    fields = rng.integers(0, 6, 50)
    ks = [1, 2, 4, 11, 30]
    found = loo_knn_predict(features, labels, ks, [np.arange(50), fields])
    assert set(found) == {(k, position) for k in ks for position in (0, 1)}
    for k in ks:
        np.testing.assert_array_equal(found[k, 0], by_scikit_learn(features, labels, k))
        np.testing.assert_array_equal(found[k, 1], by_scikit_learn(features, labels, k, fields))


def test_a_cell_with_fewer_possible_neighbours_than_k_is_predicted_from_those_and_without_any_not_at_all():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 3)), rng.integers(0, 3, 40)
    groups = np.repeat([0, 1], [37, 3])
    found = loo_knn_predict(features, labels, [9], [groups, np.zeros(40, int)])
    np.testing.assert_array_equal(found[9, 0], by_scikit_learn(features, labels, 9, groups))
    assert (found[9, 1] == -1).all()


def test_duplicates_vote_for_each_other_but_no_cell_for_itself():
    features = np.repeat(np.eye(5), 2, axis=0)
    labels = np.array([0, 1] * 5)  # every cell has one exact copy, of the other class
    found = loo_knn_predict(features, labels, [1], [np.arange(10)])
    assert found[1, 0].tolist() == (1 - labels).tolist()


def test_classes_of_one_group_are_unreachable():
    labels, groups = np.array([0, 0, 1, 1, 2, 3, 3]), np.array([5, 5, 5, 6, 7, 6, 7])
    assert unreachable_classes(labels, groups).tolist() == [0, 2]


def test_missing_values_of_a_column_are_groups_of_their_own():
    column = ["a", None, "", "b", "a", np.nan, ""]
    for values in (column, pd.Categorical(column), pd.array(column, dtype="string")):
        groups = exclusion_groups(pd.DataFrame({"field": values}), "field")
        assert groups[0] == groups[4]
        assert len(set(groups.tolist())) == 6


# Results


def test_the_whole_grid_comes_from_one_search(searches):
    results = pci_bench.evaluate("loo-knn", table(), k=[1, 5, 11, 25], exclude=["cell", "field"])
    assert searches == [(25 + 12 + 10, 2)]  # votes go on beyond k where a field is deleted or left out
    params = [(r.evaluator.params["k"], r.evaluator.params["exclude"]) for r in results]
    assert params == [(k, column) for k in (1, 5, 11, 25) for column in ("cell", "field")]


@pytest.mark.parametrize("scale", ["all", "none"])
def test_every_result_of_a_grid_is_that_of_scikit_learn(scale):
    adata = table(seed=3, features=np.random.default_rng(3).normal(size=(120, 6)) * [1, 5, 1, 0.2, 1, 30] + 4)
    values = np.asarray(adata.X, np.float64)
    values = StandardScaler().fit_transform(values) if scale == "all" else values
    labels = adata.obs["label"].to_numpy()
    codes = np.unique(labels, return_inverse=True)[1]
    for result in pci_bench.evaluate("loo-knn", adata, k=[1, 8], exclude=["cell", "field"], scale=scale):
        params = result.evaluator.params
        groups = pd.factorize(adata.obs[params["exclude"]])[0]
        expected = np.unique(labels)[by_scikit_learn(values, codes, params["k"], groups)]
        assert params["scale"] == scale
        assert result.predictions["predicted"].tolist() == expected.tolist()
        assert result.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, expected))
        assert result.metrics["accuracy"] == pytest.approx(accuracy_score(labels, expected))
        assert result.metrics["macro_f1"] == pytest.approx(f1_score(labels, expected, average="macro"))


def test_scaled_and_unscaled_are_evaluated_together():
    results = pci_bench.evaluate("loo-knn", table(), k=[3], scale=["all", "none"])
    alone = [pci_bench.evaluate("loo-knn", table(), k=3, scale=scale)[0] for scale in ("all", "none")]
    assert [r.evaluator.params["scale"] for r in results] == ["all", "none"]
    assert [r.metrics for r in results] == [r.metrics for r in alone]


def test_the_predictions_of_each_cell_reproduce_metrics_confusion_and_recalls():
    adata = table(n=97)
    for result in pci_bench.evaluate("loo-knn", adata, k=[1, 7], exclude=["cell", "field"]):
        cells = result.predictions
        assert list(cells.columns) == ["cell", "label", "predicted", "field"]
        assert cells["cell"].tolist() == adata.obs["cell"].tolist()
        assert cells["field"].tolist() == adata.obs["field"].tolist()
        labels, predicted = cells["label"].astype(str), cells["predicted"].astype(str)
        assert labels.tolist() == adata.obs["label"].tolist()
        assert result.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        names = result.details["confusion"]["labels"]
        assert names == sorted(set(labels))
        assert result.details["confusion"]["counts"] == confusion_matrix(labels, predicted, labels=names).tolist()
        expected = dict(zip(names, recall_score(labels, predicted, labels=names, average=None), strict=True))
        assert result.details["per_class"] == pytest.approx(expected)
        assert np.mean(list(result.details["per_class"].values())) == pytest.approx(result.metrics["balanced_accuracy"])
        for name, (low, high) in result.intervals.items():
            assert low <= result.metrics[name] <= high
            assert low < high


def test_cells_without_a_label_neither_vote_nor_count():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(120, 6))
    labels = np.array(["ER", "Golgi", "nucleus"])[np.arange(120) % 3].astype(object)
    labels[::5], labels[1::10] = None, ""
    adata = table(features=features, label=labels)
    features[::5] *= 1e6  # nor do they enter the scaling
    labelled = pd.Series(labels).fillna("").to_numpy() != ""
    wild = table(features=features, label=labels)
    only = table(features=features, label=labels)[labelled].copy()
    (result,), (untouched,), (subset,) = (pci_bench.evaluate("loo-knn", a, k=5) for a in (wild, adata, only))
    assert result.metrics == untouched.metrics == subset.metrics
    assert result.intervals == untouched.intervals == subset.intervals
    assert len(result.predictions) == labelled.sum()
    assert result.predictions["cell"].tolist() == np.array(wild.obs["cell"])[labelled].tolist()
    assert sum(result.dataset.classes.values()) == labelled.sum()
    assert result.dataset.n_cells == 120
    scaled = StandardScaler().fit_transform(np.asarray(only.X, np.float64))
    expected = by_scikit_learn(scaled, np.unique(labels[labelled].astype(str), return_inverse=True)[1], 5)
    assert result.predictions["predicted"].cat.codes.tolist() == expected.tolist()


def test_the_order_of_the_cells_changes_no_number():
    adata = table()
    shuffled = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    grid = {"k": [1, 5], "exclude": ["cell", "field"]}
    results, others = (pci_bench.evaluate("loo-knn", a, **grid) for a in (adata, shuffled))
    for result, other in zip(results, others, strict=True):
        assert result.metrics == other.metrics
        assert result.intervals == other.intervals
        assert result.details == other.details


@pytest.mark.parametrize("kind", ["category", "string", object])
def test_labels_of_any_text_type_give_the_same_result(kind):
    plain = table()
    typed = table()
    typed.obs["label"] = typed.obs["label"].astype(kind)
    assert pci_bench.evaluate("loo-knn", typed, k=5)[0].metrics == pci_bench.evaluate("loo-knn", plain, k=5)[0].metrics


def test_confounder_stands_for_the_declared_column_in_results():
    (result,) = pci_bench.evaluate("loo-knn", table(), k=5, exclude="confounder")
    assert result.evaluator.params["exclude"] == "field"
    (named,) = pci_bench.evaluate("loo-knn", table(), k=5, exclude="field")
    assert result.metrics == named.metrics


def test_what_a_grid_names_twice_is_evaluated_once(searches):
    results = pci_bench.evaluate("loo-knn", table(), k=[5, 5], exclude=["field", "confounder", "cell"])
    assert [r.evaluator.params["exclude"] for r in results] == ["field", "cell"]
    assert searches == [(5 + 2 + 10, 2)]


def test_excluding_the_field_undoes_what_only_the_field_explains():
    rng = np.random.default_rng(0)
    field = np.arange(120) % 12
    features = rng.normal(size=(12, 6))[field] * 5 + rng.normal(size=(120, 6)) * 0.1  # fields differ, classes do not
    at_random = np.array(["ER", "Golgi", "nucleus"])[rng.permutation(12)[field] % 3]
    adata = table(features=features, label=at_random)
    by_cell, by_field = pci_bench.evaluate("loo-knn", adata, k=5, exclude=["cell", "field"])
    assert by_cell.metrics["balanced_accuracy"] == 1
    assert by_field.metrics["balanced_accuracy"] < 0.7


def test_a_class_of_one_cell_is_listed_as_unreachable_and_counts_as_wrong():
    labels = np.array(["ER", "Golgi", "nucleus"])[np.arange(120) % 3].astype(object)
    labels[7] = "rare"
    (result,) = pci_bench.evaluate("loo-knn", table(label=labels), k=5)
    assert result.details["unreachable_classes"] == ["rare"]
    assert result.details["per_class"]["rare"] == 0
    assert result.metrics["balanced_accuracy"] == pytest.approx(np.mean(list(result.details["per_class"].values())))


def test_a_class_in_one_field_is_unreachable_without_its_field_only():
    labels = np.array(["ER", "Golgi", "nucleus"])[np.arange(120) % 3].astype(object)
    fields = np.array([f"field{i % 12}" for i in range(120)])
    labels[fields == "field4"] = "local"
    by_cell, by_field = pci_bench.evaluate("loo-knn", table(label=labels), k=3, exclude=["cell", "field"])
    assert "unreachable_classes" not in by_cell.details
    assert by_field.details["unreachable_classes"] == ["local"]
    assert by_field.details["per_class"]["local"] == 0
    for said in (by_field.details["interval"], by_cell.details["interval"]):
        assert said.startswith("delete-one-field jackknife within class")
        assert "(single cells of local, which lie in one field)" in said


def test_cells_without_any_possible_neighbour_are_wrong_and_shown_as_such():
    evaluator = EVALUATORS.get("loo-knn")
    adata = table(group="same")  # `evaluate` would refuse it
    (outcome,) = evaluator(adata, [evaluator.Params(k=3, exclude="group")], EvaluationContext())
    assert outcome.metrics == {"balanced_accuracy": 0, "macro_f1": 0, "accuracy": 0}
    assert outcome.per_cell["predicted"].isna().all()
    assert outcome.details["confusion"]["labels"] == ["ER", "Golgi", "nucleus", "(no neighbour)"]
    assert outcome.details["confusion"]["counts"] == [[0, 0, 0, 40]] * 3


def test_example_neighbours_are_those_of_an_exact_search_nearest_first():
    adata = table(n=90, seed=4)
    x = StandardScaler().fit_transform(adata.X.astype(np.float64))
    names, labels = adata.obs["cell"].to_numpy(str), adata.obs["label"].to_numpy(str)
    results = pci_bench.evaluate("loo-knn", adata, k=[3, 11], exclude=["cell", "field"])
    assert len(results) == 4
    for result in results:
        k, exclude = (result.evaluator.params[name] for name in ("k", "exclude"))
        groups = adata.obs[exclude].to_numpy(str)
        predicted = result.predictions.set_index("cell")["predicted"]
        examples = result.tables["example-neighbours"]
        for cell, rows in examples.groupby("cell"):
            row = list(names).index(cell)
            distances = np.linalg.norm(x - x[row], axis=1)
            nearest = sorted(np.flatnonzero(groups != groups[row]), key=lambda i: distances[i])[: min(k, 8)]
            assert rows["neighbour"].tolist() == names[nearest].tolist()
            assert rows["neighbour_label"].tolist() == labels[nearest].tolist()
            assert rows["rank"].tolist() == list(range(1, len(nearest) + 1))
            assert set(rows["label"]) == {labels[row]}
            assert set(rows["predicted"]) == {predicted[cell]}


def test_example_cells_are_one_right_and_one_wrong_of_every_class_whatever_the_order_of_the_cells():
    adata = table(n=90, seed=4)
    moved = adata[np.random.default_rng(0).permutation(90)].copy()
    found, again = (pci_bench.evaluate("loo-knn", a, k=3)[0].tables["example-neighbours"] for a in (adata, moved))
    pd.testing.assert_frame_equal(found, again)
    queries = found.drop_duplicates("cell")
    kinds = list(zip(queries["label"], queries["label"] == queries["predicted"], strict=True))
    assert kinds == [(label, right) for label in ("ER", "Golgi", "nucleus") for right in (True, False)]


def test_examples_are_at_most_40_cells_and_a_kind_without_cells_is_left_out():
    labels = np.repeat(np.arange(30), 2)
    predicted = np.where(np.arange(60) % 2, labels, -1)
    order = np.random.default_rng(0).permutation(60)
    found = one_right_and_one_wrong(labels, predicted, order, 40)
    assert found.tolist() == [place for c in range(20) for place in (2 * c + 1, 2 * c)]
    assert one_right_and_one_wrong(labels, labels, order, 40)[:1].tolist() == [order[labels[order] == 0][0]]


def test_balanced_candidates_and_cells_without_any_have_no_example_neighbours():
    results = pci_bench.evaluate("loo-knn", table(), k=3, exclude="field", candidates=["all", "balanced"])
    assert ["example-neighbours" in r.tables for r in results] == [True, False]
    evaluator = EVALUATORS.get("loo-knn")
    (outcome,) = evaluator(table(group="same"), [evaluator.Params(k=3, exclude="group")], EvaluationContext())
    assert len(outcome.tables["example-neighbours"]) == 0


def test_names_of_cells_that_look_like_numbers_are_read_as_they_were_written(tmp_path):
    names = [f"{i:03d}" for i in range(120)]
    (result,) = pci_bench.evaluate(
        "loo-knn", table(cell=names, label=[["1", "2", "NA"][i % 3] for i in range(120)]), k=3
    )
    write_result(result, tmp_path / "k=3.json")
    written = read_result(tmp_path / "k=3.json").tables["example-neighbours"]
    pd.testing.assert_frame_equal(written, result.tables["example-neighbours"], check_dtype=False)


@pytest.mark.parametrize(
    ("confounder", "columns", "unit"),
    [
        ("field", {}, "field"),
        ("", {}, "cell"),
        ("plate", {}, "cell"),
        ("field", {"field": ""}, "cell"),
        ("field", {"field": np.nan}, "cell"),
    ],
)
def test_the_interval_says_what_was_resampled(confounder, columns, unit):
    (result,) = pci_bench.evaluate("loo-knn", table(confounder=confounder, **columns), k=3)
    assert result.details["interval"].startswith(f"delete-one-{unit} jackknife within class: ")
    assert f"{unit}s are drawn anew, predicted and as neighbours" in result.details["interval"]
    assert result.details["interval"].endswith("are given")


def test_the_seed_moves_the_permutations_of_the_labels_and_nothing_else():
    first, again, other = (pci_bench.evaluate("loo-knn", table(), k=3, seed=seed)[0] for seed in (0, 0, 1))
    assert first.details == again.details
    assert first.details["chance"] != other.details["chance"]
    assert (first.intervals, first.metrics) == (other.intervals, other.metrics)


def test_a_table_without_provenance_or_a_cell_column_can_be_evaluated():
    adata = table(cell=None)
    del adata.uns["pci_bench"]
    (result,) = pci_bench.evaluate("loo-knn", adata, k=5)
    assert result.metrics == pci_bench.evaluate("loo-knn", table(), k=5)[0].metrics
    assert result.predictions["cell"].tolist() == adata.obs_names.tolist()
    assert list(result.predictions.columns) == ["cell", "label", "predicted"]


# What cannot be run, and why

SKIPPED = {
    "no label column": ({"label": None}, {}, "planted has no labels"),
    "no label at all": ({"label": ""}, {}, "planted has no labels"),
    "missing labels only": ({"label": np.nan}, {}, "planted has no labels"),
    "one label": ({"label": "ER"}, {}, "all labelled cells of planted have one label"),
    "k too large": ({}, {"k": 120}, "k = 120 needs at least 121 labelled cells, and planted has 120"),
    "no such column": (
        {},
        {"exclude": "plate"},
        "planted has no column 'plate' to exclude by; its columns are cell, field, label",
    ),
    "no confounder": ({"confounder": ""}, {"exclude": "confounder"}, "planted declares no confounder"),
    "confounder that is not there": (
        {"confounder": "plate"},
        {"exclude": "confounder"},
        "planted has no column 'plate'",
    ),
    "empty column": ({"field": ""}, {"exclude": "field"}, "the column 'field' of planted is empty"),
    "missing column values": ({"field": np.nan}, {"exclude": "field"}, "the column 'field' of planted is empty"),
    "the label itself": ({}, {"exclude": "label"}, "every class lies in one 'label'"),
    "one field": ({"field": "same"}, {"exclude": "field"}, "every class lies in one 'field'"),
    "one cell per class": ({"label": [f"class{i}" for i in range(120)]}, {}, "every class lies in one 'cell'"),
}


@pytest.mark.parametrize(("columns", "grid", "reason"), SKIPPED.values(), ids=SKIPPED)
def test_what_cannot_be_evaluated_gives_its_reason(columns, grid, reason):
    with pytest.raises(UserError, match=r"^loo-knn cannot be run: ") as caught:
        pci_bench.evaluate("loo-knn", table(**columns), **({"k": 5} | grid))
    assert reason in str(caught.value)


def test_k_counts_labelled_cells():
    labels = np.array(["ER", "Golgi"])[np.arange(120) % 2].astype(object)
    labels[20:] = ""
    with pytest.raises(UserError, match="k = 20 needs at least 21 labelled cells, and planted has 20"):
        pci_bench.evaluate("loo-knn", table(label=labels), k=20)
    assert pci_bench.evaluate("loo-knn", table(label=labels), k=19)


def test_a_column_that_is_empty_for_the_labelled_cells_is_empty():
    labels, fields = np.array(["ER", "Golgi"])[np.arange(120) % 2].astype(object), np.array(["x"] * 120, object)
    labels[60:], fields[:60] = "", ""
    with pytest.raises(UserError, match="the column 'field' of planted is empty"):
        pci_bench.evaluate("loo-knn", table(label=labels, field=fields), k=5, exclude="field")


def test_a_grid_of_which_a_part_cannot_be_evaluated_is_refused_with_every_value_at_fault(searches):
    with pytest.raises(UserError) as caught:
        pci_bench.evaluate("loo-knn", table(), k=[5, 500], exclude=["cell", "plate"])
    assert str(caught.value).startswith("loo-knn cannot be run with k = 500: k = 500 needs at least 501 labelled cells")
    assert "; nor with exclude = plate: planted has no column 'plate'" in str(caught.value)
    assert searches == []


WRONG = {
    "unknown parameter": (
        {"neighbours": 5},
        "loo-knn has no parameter 'neighbours'. Its parameters are k, exclude, scale, candidates, subset, metric.",
    ),
    "k = 0": ({"k": 0}, "k = 0 does not fit loo-knn: input should be greater than or equal to 1."),
    "k among others": ({"k": [1, -3]}, "k = -3 does not fit loo-knn: input should be greater than or equal to 1."),
    "k is text": ({"k": "x"}, "k = 'x' does not fit loo-knn: input should be a valid integer"),
    "k is a fraction": ({"k": 2.5}, "k = 2.5 does not fit loo-knn: input should be a valid integer"),
    "scale": (
        {"scale": "fold"},
        "loo-knn cannot be run: scale = 'fold' is neither 'all' nor 'none' nor a column of planted",
    ),
    "exclude": ({"exclude": ""}, "exclude = '' does not fit loo-knn"),
    "an empty grid": ({"k": []}, "The parameter 'k' is given no value."),
}


@pytest.mark.parametrize(("grid", "sentence"), WRONG.values(), ids=WRONG)
def test_a_wrong_parameter_is_a_sentence(grid, sentence):
    with pytest.raises(UserError) as caught:
        pci_bench.evaluate("loo-knn", table(), **grid)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_features_are_refused_but_not_those_of_cells_without_a_label(bad):
    adata = table()
    adata.X[3, 2] = bad
    with pytest.raises(UserError, match="NaN or infinite"):
        pci_bench.evaluate("loo-knn", adata, k=5)
    labels = adata.obs["label"].astype(object)
    labels.iloc[3] = None
    adata.obs["label"] = labels
    assert len(pci_bench.evaluate("loo-knn", adata, k=5)[0].predictions) == 119


# Real data


def test_published_hela_features_give_the_accuracy_that_scikit_learn_gives(test_data):
    with np.load(test_data / "hela2d-features" / "murphylab.npz") as arrays:
        features, names = arrays["features"], arrays["labels"].astype(str)
    adata = table(len(names), features=features.astype(np.float32), label=names)
    adata.X = features
    (result,) = pci_bench.evaluate("loo-knn", adata, k=11)
    assert result.metrics["accuracy"] == pytest.approx(0.734, abs=5e-4)
    classes, codes = np.unique(names, return_inverse=True)
    nearest = NearestNeighbors(n_neighbors=11).fit(StandardScaler().fit_transform(features)).kneighbors()[1]
    expected = mode(codes[nearest], axis=1).mode  # the smallest of equally frequent ones
    assert result.predictions["predicted"].tolist() == classes[expected].tolist()


def test_mitotic_nuclei_give_the_predictions_of_a_sorted_distance_matrix(test_data):
    folder = test_data / "mitocheck-nuclei"
    with np.load(folder / "crops_64x64_uint8.npz") as arrays:
        crops = arrays["X"]
    cells = pd.read_csv(folder / "labels.csv", dtype=str)
    features = crops.reshape(-1, 8, 8, 8, 8).mean(axis=(2, 4)).reshape(len(crops), 64)  # means of 8×8 pixels
    columns = {"label": cells["label"].to_numpy(), "plate": cells["plate"].to_numpy()}
    adata = table(len(cells), features=features, confounder="plate", **columns)
    results = pci_bench.evaluate("loo-knn", adata, k=[1, 11], exclude=["cell", "confounder"])
    scaled = StandardScaler().fit_transform(np.asarray(adata.X, np.float64))
    classes, codes = np.unique(cells["label"], return_inverse=True)
    norms = (scaled**2).sum(axis=1)
    squares = norms[:, None] + norms - 2 * scaled @ scaled.T
    for result in results:
        groups = pd.factorize(adata.obs[result.evaluator.params["exclude"]])[0]
        allowed = np.where(groups[:, None] != groups, squares, np.inf)
        nearest = np.argsort(allowed, axis=1)[:, : result.evaluator.params["k"]]
        votes = np.apply_along_axis(np.bincount, 1, codes[nearest], minlength=len(classes))
        expected = classes[votes.argmax(axis=1)]
        differing = (result.predictions["predicted"].astype(str).to_numpy() != expected).sum()
        assert differing <= 1  # cells at the same distance may be sorted either way
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a phenotype that is never predicted
            assert result.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(cells["label"], expected), abs=1e-3)  # fmt: skip
    assert [r.evaluator.params["exclude"] for r in results] == ["cell", "plate", "cell", "plate"]


# ---- other metrics, and exclusion by several columns


def by_correlation(features, labels, *kinds):
    """The label of the row with the highest correlation among those that share no group: ten lines of NumPy."""
    correlations = np.corrcoef(features)
    np.fill_diagonal(correlations, -np.inf)
    for groups in kinds:
        correlations[groups[:, None] == groups] = -np.inf
    nearest = correlations.argmax(axis=1)
    return np.where(np.isinf(correlations.max(axis=1)), "", labels[nearest])


def treatments(n=90, d=12, seed=0):
    """Profiles of three mechanisms by 15 compounds in five batches, each row of another strength."""
    rng = np.random.default_rng(seed)
    compound, batch = rng.integers(0, 15, n), rng.integers(0, 5, n)
    directions = rng.normal(size=(3, d))[compound % 3] + 0.5 * rng.normal(size=(15, d))[compound]
    features = (directions + 0.7 * rng.normal(size=(n, d))) * rng.lognormal(size=(n, 1)) + rng.normal(size=(n, 1))
    columns = {
        "compound": compound.astype(str),
        "batch": batch.astype(str),
        "label": np.array(["a", "b", "c"])[compound % 3],
    }
    return make_features(features, {"dataset": {"name": "treated", "confounder": "compound"}}, **columns)


@pytest.mark.parametrize("exclude", ["cell", "compound", "compound+batch", "confounder+batch"])
def test_correlation_predicts_as_ten_lines_of_numpy(exclude):
    adata = treatments()
    kinds = {"cell": [], "compound": ["compound"]}.get(exclude, ["compound", "batch"])
    expected = by_correlation(adata.X, adata.obs["label"].to_numpy(), *(adata.obs[c].to_numpy() for c in kinds))
    (result,) = pci_bench.evaluate("loo-knn", adata, k=1, exclude=exclude, metric="correlation", scale="none")
    assert result.predictions is not None
    assert result.predictions["predicted"].astype("string").fillna("").tolist() == expected.tolist()
    assert result.metrics["accuracy"] == pytest.approx((expected == adata.obs["label"]).mean())
    assert result.evaluator.params["exclude"] == exclude.replace("confounder", "compound")
    assert result.evaluator.params["metric"] == "correlation"


def test_metrics_share_a_call_and_the_default_is_named_nowhere():
    results = pci_bench.evaluate("loo-knn", treatments(), k=[1, 3], metric=["euclidean", "cosine"], scale="none")
    assert [r.evaluator.params.get("metric") for r in results] == [None, "cosine", None, "cosine"]
    alone = pci_bench.evaluate("loo-knn", treatments(), k=[1, 3], scale="none")
    assert [r.metrics for r in results[::2]] == [r.metrics for r in alone]
    assert [r.path(*key_and_defaults(r)).name for r in results[:2]] == [
        "k=1,exclude=cell,scale=none.json",
        "k=1,exclude=cell,scale=none,metric=cosine.json",
    ]


def test_cells_without_a_correlation_are_a_sentence():
    adata = treatments()
    adata.X[7] = 0.3
    with pytest.raises(UserError) as error:
        pci_bench.evaluate("loo-knn", adata, metric="correlation", scale="none")
    assert "metric=correlation is not defined for 1 of 90 cells, whose features are all equal (first 'cell7')" in str(
        error.value
    )
    assert pci_bench.evaluate("loo-knn", adata, metric="correlation")  # standardised, its values differ


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"exclude": "compound+batch", "candidates": "balanced"}, "needs one column in exclude"),
        ({"exclude": "compound+week"}, "treated has no column 'week' to exclude by"),
        ({"metric": "manhattan"}, "metric = 'manhattan' does not fit loo-knn"),
    ],
)
def test_what_several_columns_and_metrics_cannot_do_is_a_sentence(params, sentence):
    with pytest.raises(UserError) as error:
        pci_bench.evaluate("loo-knn", treatments(), **params)
    assert sentence in str(error.value)


def test_classes_without_a_neighbour_of_another_compound_and_batch_are_named():
    adata = treatments()
    of_a = adata.obs["label"] == "a"
    adata.obs.loc[of_a, "batch"] = "0"
    (result,) = pci_bench.evaluate("loo-knn", adata, k=1, exclude="compound+batch", metric="correlation", scale="none")
    assert result.details["unreachable_classes"] == ["a"]
    assert result.details["chance"]["unit"] == "compound"
