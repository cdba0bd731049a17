"""Balanced candidates and chance levels of leave-one-out kNN, by loops over the draws and on data whose answer is known."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from test_knn import table

import pci_bench
from pci_bench.errors import UserError
from pci_bench.reporting.figures.classification import knn_figures
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.fill import CHANCE_ROW, fill
from pci_bench.runs.training_cells import without_training_cells
from pci_bench.statistics.balanced import DRAWS, left_out_groups
from pci_bench.statistics.chance import permuted_labels
from pci_bench.statistics.compiled import neighbors
from pci_bench.statistics.metrics import share_spreads
from pci_bench.statistics.neighbors import expected_confusion, neighborhoods


def screen(rng, *, classes=4, groups=5, size=10, d=5, separation=0.0, strength=0.0):
    """Features, labels and groups: Gaussian classes, whole groups shifted by `strength`, noise of cells."""
    group = np.repeat(np.arange(classes * groups), size)
    label = group % classes
    features = separation * np.eye(classes, d)[label] + strength * rng.normal(size=(classes * groups, d))[group]
    return features + rng.normal(size=(len(label), d)), label, group


def accuracies(features, labels, groups, k, *, balanced):
    near = neighborhoods(features, labels, {"image": groups}, min(len(labels) - 1, 2 * k + 20))["image"]
    confusion = expected_confusion(near.shares([k], balanced=balanced)[k], labels, labels.max() + 1)
    return confusion / confusion.sum(axis=1, keepdims=True)


def by_loop(features, labels, groups, k, left_out):
    """Predictions for one draw of left-out groups, cell by cell."""
    n_classes = labels.max() + 1
    mine = {(g, c) for g, c in zip(groups.tolist(), labels.tolist(), strict=True)}
    predicted = []
    for row in range(len(labels)):
        order = np.lexsort((np.arange(len(labels)), ((features - features[row]) ** 2).sum(axis=1)))
        votes = [
            labels[other]
            for other in order
            if groups[other] != groups[row]
            and ((groups[row], labels[other]) in mine or groups[other] != left_out[labels[other]])
        ][:k]
        counts = Counter(votes)
        predicted.append(max(counts, key=lambda c: (counts[c], -c)) if counts else n_classes)
    return np.array(predicted)


@pytest.mark.parametrize("kind", ["one class per group", "several classes in a group", "strong groups"])
@pytest.mark.parametrize("k", [1, 4])
def test_shares_are_how_often_a_loop_over_the_draws_predicts_each_class(kind, k):
    rng = np.random.default_rng(k)
    features, labels, groups = screen(
        rng, classes=3, groups=3, size=4, d=3, strength=6 if kind == "strong groups" else 0.5
    )
    if kind == "several classes in a group":
        labels = np.where(rng.random(len(labels)) < 0.3, rng.integers(0, 3, len(labels)), labels)
    near = neighborhoods(features, labels, {"image": groups}, k)["image"]  # far too few, so that all are found later
    left_out, _ = left_out_groups(labels, groups, 3)
    expected = np.zeros((len(labels), 4))
    for draw in left_out:
        expected[np.arange(len(labels)), by_loop(features, labels, groups, k, draw)] += 1 / len(left_out)
    np.testing.assert_allclose(near.shares([k], balanced=True)[k], expected, atol=1e-12)


def test_every_group_is_left_out_in_proportion_to_its_cells():
    labels = np.repeat([0, 0, 0, 1, 1, 2], [30, 20, 10, 8, 4, 5])
    groups = np.repeat([7, 1, 4, 0, 2, 9], [30, 20, 10, 8, 4, 5])
    left_out, instead = left_out_groups(labels, groups, 4)
    assert Counter(left_out[:, 0].tolist()) == {7: DRAWS // 2, 1: DRAWS // 3, 4: DRAWS // 6}
    assert Counter(left_out[:, 1].tolist()) == {0: 2 * DRAWS // 3, 2: DRAWS // 3}
    assert set(left_out[:, 2]) == {9}
    assert set(left_out[:, 3]) == {-1}
    assert (instead[:, :2] != left_out[:, :2]).all()
    assert set(instead[:, 0]) == {1, 4, 7}
    assert (instead[:, 2:] == -1).all()
    together = Counter(map(tuple, left_out[:, :2].tolist()))
    assert len(together) == 6  # every pair of groups is left out together at some time


@pytest.mark.parametrize("strength", [0, 1, 5])
@pytest.mark.parametrize("k", [1, 7])
def test_features_that_know_nothing_or_only_the_group_predict_every_class_at_chance_whatever_the_true_one(k, strength):
    """Unequal groups. The rate is a mean over many screens, so its error is known; the unbalanced one is far below."""
    rng = np.random.default_rng(0)
    rates = {True: [], False: []}
    for _ in range(60):
        sizes = rng.integers(2, 12, 12)
        groups = np.repeat(np.arange(12), sizes)
        labels = (groups % 3).astype(np.int64)
        features = strength * rng.normal(size=(12, 4))[groups] + rng.normal(size=(len(groups), 4))
        for balanced in rates:
            rates[balanced].append(accuracies(features, labels, groups, k, balanced=balanced)[:, :3])
    predicted = np.array(rates[True])  # (screens, true class, predicted class)
    by_class = predicted - predicted.mean(axis=1, keepdims=True)  # of a class, less its rate over all true classes
    error = by_class.std(axis=0, ddof=1) / np.sqrt(len(predicted))
    assert (np.abs(by_class.mean(axis=0)) < 4 * error).all()  # nine of them: a false alarm in 2,000
    right = {b: np.array(r).trace(axis1=1, axis2=2) / 3 for b, r in rates.items()}
    assert abs(right[True].mean() - 1 / 3) < 4 * right[True].std(ddof=1) / np.sqrt(60)
    assert right[False].mean() < 1 / 3 - 2 * right[False].std(ddof=1) / np.sqrt(60)


@pytest.mark.parametrize("k", [1, 5])
def test_without_group_effects_balanced_candidates_score_as_all_other_cells_do(k):
    rng = np.random.default_rng(0)
    differences, unbalanced = [], []
    for _ in range(40):
        features, labels, groups = screen(rng, classes=4, groups=8, separation=2)
        cell = np.trace(accuracies(features, labels, np.arange(len(labels)), k, balanced=False)) / 4
        differences.append(np.trace(accuracies(features, labels, groups, k, balanced=True)) / 4 - cell)
        unbalanced.append(np.trace(accuracies(features, labels, groups, k, balanced=False)) / 4 - cell)
    error = np.std(differences, ddof=1) / np.sqrt(40)
    thinner = 0.004  # one cell in eight is missing from every class: that much the same kNN learns less from
    assert abs(np.mean(differences)) < 3 * error + thinner
    assert np.mean(unbalanced) < -thinner - 4 * np.std(unbalanced, ddof=1) / np.sqrt(40)


def test_a_group_that_holds_all_classes_is_left_out_of_all_and_nothing_else_is():
    features, labels, _ = screen(np.random.default_rng(0))
    plates = np.arange(len(labels)) % 5
    near = neighborhoods(features, labels, {"plate": plates}, 30)["plate"]
    assert all(set(labels[plates == p]) == {0, 1, 2, 3} for p in range(5))
    np.testing.assert_allclose(near.shares([5], balanced=True)[5], near.shares([5])[5])


def test_all_of_a_grid_still_comes_from_one_search(monkeypatch):
    searches, nearest = [], neighbors.nearest_lists
    monkeypatch.setattr(neighbors, "nearest_lists", lambda *a: searches.append(len(a[2])) or nearest(*a))
    results = pci_bench.evaluate("loo-knn", table(), k=[1, 5], exclude="field", candidates=["all", "balanced"])
    results += pci_bench.evaluate("loo-knn", table(), k=[1, 5])
    assert searches == [1, 1]
    assert len(results) == 6


def test_a_balanced_result_holds_expected_counts_and_how_often_each_cell_is_right():
    (result,) = pci_bench.evaluate("loo-knn", table(), k=5, exclude="field", candidates="balanced")
    cells, counts = result.predictions, np.array(result.details["confusion"]["counts"])
    assert list(cells.columns) == ["cell", "label", "predicted", "field", "correct"]
    assert counts.sum() == pytest.approx(120)
    assert cells["correct"].between(0, 1).all()
    assert ((cells["correct"] > 0) & (cells["correct"] < 1)).any()
    per_class = cells.groupby("label", observed=True)["correct"].mean()
    assert result.details["per_class"] == pytest.approx(per_class.to_dict())
    assert result.metrics["balanced_accuracy"] == pytest.approx(per_class.mean())
    assert result.metrics["accuracy"] == pytest.approx(cells["correct"].mean())
    surely = cells["correct"] > 0.5
    assert (cells["label"].astype(str) == cells["predicted"].astype(str))[surely].all()
    assert result.evaluator.params["candidates"] == "balanced"


def test_balanced_candidates_need_an_exclusion():
    with pytest.raises(UserError, match="candidates=balanced needs an exclusion coarser than the cell"):
        pci_bench.evaluate("loo-knn", table(), k=5, candidates="balanced")


# Chance


def test_whole_groups_exchange_their_labels():
    labels, groups = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 0]), np.array([3, 3, 3, 0, 0, 1, 1, 1, 1, 7])
    seen = set()
    for permuted in permuted_labels(labels, groups, 200, 0):
        by_group = {g: set(permuted[groups == g].tolist()) for g in (3, 0, 1, 7)}
        assert all(len(found) == 1 for found in by_group.values())
        assigned = tuple(found.pop() for found in by_group.values())
        assert sorted(assigned) == [0, 0, 1, 2]
        seen.add(assigned)
    assert len(seen) == 12


def test_labels_of_cells_are_permuted_where_each_cell_is_a_group_and_within_groups_of_one_mixture():
    labels = np.arange(12) % 3
    for permuted in permuted_labels(labels, np.arange(12)[::-1], 5, 0):
        assert sorted(permuted) == sorted(labels)
        assert permuted.tolist() != labels.tolist()
    for permuted in permuted_labels(labels, np.arange(12) // 6, 5, 0):
        assert sorted(permuted[:6]) == sorted(permuted[6:]) == [0, 0, 1, 1, 2, 2]


def test_the_chance_level_is_what_a_loop_over_permuted_labels_scores():
    adata = table(seed=1)
    labels = np.unique(adata.obs["label"], return_inverse=True)[1]
    fields = np.unique(adata.obs["field"], return_inverse=True)[1]
    order = np.argsort(adata.obs["cell"].to_numpy())
    result, by_field = pci_bench.evaluate("loo-knn", adata, k=4, exclude=["cell", "field"])
    values = np.asarray(adata.X, np.float64)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    for found, exchanged, level in (
        (result, np.argsort(np.argsort(adata.obs["cell"].to_numpy())), "chance"),
        (result, fields, "recognition"),
        (by_field, fields, "chance"),
    ):
        groups = fields if found is by_field else np.arange(120)
        scores = []
        for permuted in permuted_labels(labels[order], exchanged[order], 200, 0):
            mixed = np.empty_like(labels)
            mixed[order] = permuted
            near = neighborhoods(values, mixed, {"x": groups}, 4)["x"]
            right = near.shares([4])[4][np.arange(120), mixed]
            scores.append(np.mean([right[mixed == c].mean() for c in np.unique(mixed)]))
        assert found.details[level]["balanced_accuracy"]["mean"] == pytest.approx(np.mean(scores))
        assert found.details[level]["balanced_accuracy"]["high"] == pytest.approx(np.quantile(scores, 0.975))
        assert found.details[level]["permutations"] == 200
    assert [result.details[n]["unit"] for n in ("chance", "recognition")] == ["cell", "field"]


def test_chance_is_one_over_the_classes_where_candidates_are_balanced_and_below_where_they_are_not():
    rng = np.random.default_rng(0)
    adata = table(n=360, features=rng.normal(size=(360, 6)), field=[f"field{i % 12:02d}" for i in range(360)])
    for k in (1, 9):
        unbalanced, balanced = pci_bench.evaluate(
            "loo-knn", adata, k=k, exclude="field", candidates=["all", "balanced"]
        )
        levels = [r.details["chance"]["balanced_accuracy"]["mean"] for r in (unbalanced, balanced)]
        assert levels[0] < 0.31
        assert levels[1] == pytest.approx(1 / 3, abs=0.015)


def test_recognising_the_field_alone_is_what_whole_fields_exchanging_labels_score():
    rng = np.random.default_rng(0)
    field = np.arange(120) % 12
    adata = table(features=rng.normal(size=(12, 6))[field] * 9 + rng.normal(size=(120, 6)) * 0.1)
    (result,) = pci_bench.evaluate("loo-knn", adata, k=5)
    assert result.metrics["balanced_accuracy"] == result.details["recognition"]["balanced_accuracy"]["mean"] == 1
    assert result.details["chance"]["balanced_accuracy"]["mean"] == pytest.approx(1 / 3, abs=0.02)


def test_spreads_of_shares_draw_groups_or_cells_as_a_loop_over_left_out_ones_does():
    labels = np.repeat([0, 1], 40)
    correct = np.r_[np.repeat([0.0, 1.0, 0.5], [10, 20, 10]), np.tile([0.25, 0.75], 20)]
    groups = np.repeat([0, 1, 2, 3], [10, 20, 10, 40])
    value, whole, (by_group, by_cell, absent) = share_spreads(labels, correct, groups, 3)

    def of_mean(values: np.ndarray, units: np.ndarray) -> float:
        n = len(np.unique(units))
        sums = [(values[units == u] - values.mean()).sum() for u in np.unique(units)]
        return float(np.square(sums).sum()) / len(values) ** 2 * n / (n - 1)

    assert value == pytest.approx((correct[:40].mean() + 0.5) / 2)
    assert by_group.variance == pytest.approx(of_mean(correct[:40], groups[:40]))
    assert by_cell.variance == pytest.approx(of_mean(correct[40:], np.arange(40)))  # one group: cells
    assert absent.variance == 0
    assert whole.variance == pytest.approx((by_group.variance * 2 / 3 + by_cell.variance * 39 / 40) / 4 * 43 / 42)


def test_cells_not_trained_on_are_counted_by_how_often_they_are_right():
    (result,) = pci_bench.evaluate("loo-knn", table(), k=5, exclude="field", candidates="balanced")
    trained = np.arange(120) % 12 < 4
    found = without_training_cells(result.predictions, trained, "field", 1.8)
    others = result.predictions[~trained]
    expected = others.groupby("label", observed=True)["correct"].mean().mean()
    assert found["n"] == 40
    assert found["others"]["metrics"] == {"balanced_accuracy": pytest.approx(expected)}
    low, high = found["others"]["intervals"]["balanced_accuracy"]
    assert low < expected < high


# Tables and figures


def test_the_balanced_column_takes_the_place_of_the_unbalanced_one_and_chance_is_the_last_row():
    adata = table(seed=2)
    results = [
        *pci_bench.evaluate("loo-knn", adata, k=11),
        *pci_bench.evaluate("loo-knn", adata, k=11, exclude="field", candidates=["all", "balanced"]),
    ]
    filled = fill(TABLES.get("table1"), results, {}, "planted")
    assert filled.header_texts() == ["k = 11", "k = 11, other fields only, classes balanced"]
    name, entries = filled.rows[-1]
    levels = [results[0].details["chance"], results[2].details["chance"]]
    assert name == CHANCE_ROW
    assert [e.value for e in entries] == pytest.approx([100 * c["balanced_accuracy"]["mean"] for c in levels])
    assert filled.shown == [results[0], results[2]]
    assert any("Every other class is without one field as well" in note for note in filled.notes)
    assert not any("replicates" in note for note in filled.notes)
    without = fill(TABLES.get("table1"), results[:2], {}, "planted")
    assert without.header_texts() == ["k = 11", "k = 11, other fields only"]
    drawn = dict(knn_figures([r.model_copy() for r in results]))
    assert {"classes-planted", "classes-planted-other-fields-balanced"} <= set(drawn)
