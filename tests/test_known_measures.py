"""Known measures from features: found where they are planted, 0 where they are not, and never by fitting the held-out images."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_cells, make_features

from pci_bench import UserError, evaluate
from pci_bench.evaluators.known_measures import known_measures
from pci_bench.statistics.ridge import PENALTIES, held_out_predictions, r_squared


def cells(n=120, seed=0):
    rng = np.random.default_rng(seed)
    crops = rng.random((n, 2, 16, 16), dtype=np.float32) * rng.random((n, 2, 1, 1), dtype=np.float32)
    masks = np.zeros((n, 16, 16), np.uint16)
    for mask in masks:
        mask[4 : rng.integers(6, 12), 4 : rng.integers(6, 12)] = 1
        mask[0, : rng.integers(0, 4)] = 3
        mask[15, : rng.integers(0, 2)] = 4
    return make_cells(crops=crops, masks=masks, image=[f"i{i // 6:02d}" for i in range(n)])


def measured(values, planted, **params):
    adata = make_features(values, image=planted.obs["image"].to_numpy(str))
    (result,) = evaluate("known-measures", adata, cells=planted, **params)
    return result


def test_measures_are_those_of_a_loop():
    planted = cells(20)
    found = known_measures(planted)
    for i in range(20):
        protein, marker, mask = planted.crops([i], rescale="raw", masks=True)[0]
        own = mask == 1
        assert found["area"][i] == own.sum()
        assert found["others"][i] == len(set(mask.ravel().tolist()) - {0, 1})
        assert found["protein_mean"][i] == pytest.approx(protein[own].mean(), rel=1e-5)
        assert found["marker_mean"][i] == pytest.approx(marker[own].mean(), rel=1e-5)


def test_a_planted_measure_is_found_with_its_size_and_others_are_not():
    planted = cells(400)
    area = known_measures(planted)["area"]
    rng = np.random.default_rng(1)
    noise = rng.normal(0, area.std(), 400)  # half of the variance is the area's: R² 0.5
    metrics = measured(np.stack([area + noise, rng.normal(size=400)], axis=1), planted)
    assert metrics.metrics["area"] == pytest.approx(0.5, abs=0.08)
    low, high = metrics.intervals["area"]
    assert low < 0.5 < high
    for name in ("protein_mean", "marker_mean", "others"):
        assert abs(metrics.metrics[name]) < 0.05


def test_more_features_than_cells_that_know_nothing_reach_no_r_squared():
    planted = cells(120)
    metrics = measured(np.random.default_rng(0).normal(size=(120, 300)), planted).metrics
    assert max(metrics.values()) < 0.1


def test_predictions_are_ridge_regressions_by_linear_algebra_with_the_penalty_of_least_left_out_error():
    rng = np.random.default_rng(0)
    x, groups = rng.normal(size=(60, 5)), np.repeat(np.arange(12), 5)
    y = x @ rng.normal(size=5) + rng.normal(size=60)
    predicted, means = held_out_predictions(x, y[:, None], groups, 3)
    found = 0
    for held in (np.isin(groups, part) for part in _parts(groups, 3)):
        a, b = x[~held], y[~held]
        scaled, target = (a - a.mean(0)) / a.std(0), (b - b.mean()) / b.std()

        def left_out(penalty, scaled=scaled, target=target):
            hat = scaled @ np.linalg.solve(scaled.T @ scaled + penalty * np.eye(5), scaled.T) + 1 / len(target)
            return (((target - hat @ target) / (1 - np.diag(hat))) ** 2).sum()

        penalty = min(PENALTIES, key=left_out)
        slopes = np.linalg.solve(scaled.T @ scaled + penalty * np.eye(5), scaled.T @ target)
        expected = ((x[held] - a.mean(0)) / a.std(0)) @ slopes * b.std() + b.mean()
        np.testing.assert_allclose(predicted[held, 0], expected, rtol=1e-6)
        np.testing.assert_allclose(means[held, 0], b.mean())
        found += held.sum()
    assert found == 60


def _parts(groups, n):
    from sklearn.model_selection import GroupKFold

    return [np.unique(groups[test]) for _, test in GroupKFold(n).split(groups, groups=groups)]


def test_r_squared_is_scikit_learns_where_the_mean_is_and_its_interval_covers():
    from sklearn.metrics import r2_score

    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        groups = np.repeat(np.arange(30), 4)
        actual = rng.normal(size=120)
        told = 0.5 * actual + rng.normal(0, 0.5, 120)  # R² of its population: 1 − 0.25 − 0.25
        value, spread = r_squared(actual, told, np.zeros(120), groups)
        low, high = spread.interval(value)
        covered += low <= 0.5 <= high
    assert r_squared(actual, told, np.full(120, actual.mean()), groups)[0] == pytest.approx(r2_score(actual, told))
    assert 0.88 < covered / 200 < 1


def test_cells_without_a_mask_are_left_out_and_too_little_is_said():
    planted = cells(30)
    bare = np.concatenate([planted.crops(slice(None), masks=True)[:20, -1], np.zeros((10, 16, 16))]).astype(np.uint16)
    some = planted.with_masks(bare, "some")
    assert measured(np.random.default_rng(0).normal(size=(30, 2)), some).details["left_out"] == 10
    none = planted.with_masks(0 * bare, "none")
    with pytest.raises(UserError, match="nothing to fit"):
        measured(np.zeros((30, 2)), none)
    with pytest.raises(UserError, match="one value of 'cell_line'"):
        adata = make_features(np.zeros((30, 2)), cell_line="one")
        evaluate("known-measures", adata, cells=planted, exclude="cell_line")
