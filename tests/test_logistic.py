"""The compiled L1 logistic regression, against liblinear, SciPy, and the conditions that a minimum fulfils."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from liblinear import l1_regression
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from pci_bench.statistics.compiled.logistic import TOLERANCE, _rows, l1_logistic_regression


def planted(n=400, d=12, share=0.2, shift=1.0, seed=0):
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < share
    features = rng.normal(size=(n, d))
    features[positive, 0] += shift
    return features, positive


def objective(w, x, positive, weight, c):
    margins = np.where(positive, 1, -1) * (x @ w[:-1] + w[-1])
    return np.abs(w).sum() + c * (np.where(positive, weight, 1) * np.logaddexp(0, -margins)).sum()


def liblinear(x, positive, weight, c, tol=1e-4):
    model = l1_regression(
        C=c,
        class_weight={0: 1.0, 1: weight},
        max_iter=10_000,
        tol=tol,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(x, positive)
    return np.append(model.coef_[0], model.intercept_[0])


def correlated(n, d, factors, seed=0):
    """Non-negative, correlated and standardised, as deep features are."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(n, factors))
    x = np.maximum(0, factor @ rng.normal(size=(factors, d)) / np.sqrt(factors) + 0.3 * rng.normal(size=(n, d)))
    positive = factor[:, 0] + 0.7 * rng.normal(size=n) > 1.5
    return (x - x.mean(axis=0)) / x.std(axis=0), positive


def problems():
    x, positive = planted()
    scales = 10.0 ** np.linspace(-8, 6, x.shape[1])
    far = x.copy()
    far[positive, 0] += 50
    rare = (np.random.default_rng(1).random((3000, 40)) < 0.002).astype(float)
    return {
        "plain": (x, positive, 4.0, 1.0),
        "many cells, correlated": (*correlated(8000, 40, 8), 9.0, 1.0),
        "more features than cells": (*correlated(60, 700, 20), 4.0, 1.0),
        "more features than enter at once": (*correlated(250, 1500, 30), 4.0, 1.0),
        "one cell of the class": (x, np.arange(len(x)) == 3, 200.0, 1.0),
        "nothing but constant columns": (np.full_like(x, 7), positive, 4.0, 1.0),
        "zero columns among others": (np.where(np.arange(12) % 2, x, 0), positive, 4.0, 1.0),
        "duplicated columns": (np.repeat(x, 3, axis=1), positive, 4.0, 1.0),
        "duplicated cells": (np.repeat(x, 3, axis=0), np.repeat(positive, 3), 4.0, 1.0),
        "separable": (far, positive, 4.0, 1.0),
        "separable, hardly penalised": (far, positive, 4.0, 1e4),
        "the label is a column": (np.column_stack([x, positive]), positive, 4.0, 100.0),
        "wildly scaled columns": (x * scales, positive, 4.0, 1.0),
        "heavy tails": (np.random.default_rng(2).standard_cauchy((1000, 20)), np.arange(1000) % 10 == 0, 9.0, 1.0),
        "features that few cells have": (rare, rare[:, :20].any(axis=1), 10.0, 100.0),
        "a penalty that leaves nothing": (x, positive, 4.0, 1e-6),
        "a penalty of nearly nothing": (x, positive, 4.0, 1e4),
    }


@pytest.mark.parametrize("name", problems())
def test_the_objective_is_at_most_that_of_liblinear_and_the_gap_says_how_far_it_can_be_from_the_minimum(name):
    x, positive, weight, c = problems()[name]
    w, gap = l1_logistic_regression(x, positive, weight, c)
    ours = objective(w, x, positive, weight, c)
    assert 0 <= gap <= TOLERANCE
    assert ours <= objective(liblinear(x, positive, weight, c), x, positive, weight, c) * (1 + 1e-6)
    tight = objective(liblinear(x, positive, weight, c, tol=1e-9), x, positive, weight, c)
    assert tight >= ours * (1 - gap - 1e-12)


@pytest.mark.parametrize("name", problems())
def test_no_coefficient_has_a_subgradient_away_from_zero(name):
    x, positive, weight, c = problems()[name]
    w, _ = l1_logistic_regression(x, positive, weight, c, tolerance=1e-9)
    columns = np.column_stack([x, np.ones(len(x))])
    signs = np.where(positive, 1, -1)
    wrong = 1 / (1 + np.exp(np.clip(signs * (columns @ w), -700, 700)))
    terms = columns * (c * np.where(positive, weight, 1) * -signs * wrong)[:, None]
    gradient = terms.sum(axis=0)
    allowed = 1e-3 + 1e-12 * np.abs(terms).sum(axis=0)  # what rounding leaves of sums of large terms
    assert (np.abs(gradient + np.sign(w))[w != 0] <= allowed[w != 0]).all()
    assert (np.abs(gradient) <= 1 + allowed)[w == 0].all()


def test_the_objective_is_the_minimum_that_scipy_finds():
    x, positive = planted(n=150, d=8)
    columns = np.column_stack([x, np.ones(len(x))])

    def halves(v):  # |w| is smooth in its positive and negative parts
        w = v[:9] - v[9:]
        margins = np.where(positive, 1, -1) * (columns @ w)
        return v.sum() + 0.3 * (np.where(positive, 2.5, 1) * np.logaddexp(0, -margins)).sum()

    best = minimize(halves, np.full(18, 0.01), bounds=[(0, None)] * 18, tol=1e-12)
    w, _ = l1_logistic_regression(x, positive, 2.5, 0.3)
    assert objective(w, x, positive, 2.5, 0.3) == pytest.approx(best.fun, rel=1e-6)


@pytest.mark.parametrize("side", [True, False])
def test_a_class_that_is_everything_or_nothing_is_told_by_the_intercept_alone(side):
    x, _ = planted(n=50)
    w, gap = l1_logistic_regression(x - x.mean(axis=0), np.full(50, side), 1.0, 1.0)
    assert gap <= TOLERANCE
    assert not w[:-1].any()
    assert np.sign(w[-1]) == (1 if side else -1)


@pytest.mark.parametrize("scale", [1e160, 1e-300])
def test_values_whose_squares_leave_float64_end_with_finite_coefficients_and_an_honest_gap(scale):
    x, positive = planted(n=60)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        w, gap = l1_logistic_regression(x * scale, positive, 4.0, 1.0)
    assert np.isfinite(w).all()
    assert gap <= TOLERANCE if scale < 1 else gap > TOLERANCE


def test_fits_are_the_same_to_the_last_bit_however_many_run_at_once():
    x, _ = correlated(3000, 60, 10)
    classes = [x[:, j] > 1 for j in range(8)]
    with threadpool_limits(1, "blas"):
        alone = [l1_logistic_regression(x, positive, 5.0, 1.0)[0] for positive in classes]
        with ThreadPoolExecutor(4) as pool:
            together = [w for w, _ in pool.map(lambda positive: l1_logistic_regression(x, positive, 5.0, 1.0), classes)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_cells_and_features_and_their_signs_do_not_matter(seed):
    x, positive = planted(n=120, d=6, seed=seed)
    rng = np.random.default_rng(seed)
    cells, columns, signs = rng.permutation(120), rng.permutation(6), rng.choice([-1, 1], 6)
    first, _ = l1_logistic_regression(x, positive, 3.0, 1.0, tolerance=1e-10)
    other, _ = l1_logistic_regression((x * signs)[cells][:, columns], positive[cells], 3.0, 1.0, tolerance=1e-10)
    np.testing.assert_allclose(other[:-1], (first[:-1] * signs)[columns], atol=1e-5)
    assert other[-1] == pytest.approx(first[-1], abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_either_side_may_be_called_the_class(seed):
    x, positive = planted(n=120, d=6, seed=seed)
    first, _ = l1_logistic_regression(x, positive, 1.0, 1.0, tolerance=1e-10)
    other, _ = l1_logistic_regression(x, ~positive, 1.0, 1.0, tolerance=1e-10)
    np.testing.assert_allclose(other, -first, atol=1e-5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(2, 500), spread=st.floats(0, 8))
def test_sampled_rows_stand_for_all_curvature_and_the_largest_stand_for_themselves(seed, count, spread):
    curvatures = np.exp(spread * np.random.default_rng(seed).normal(size=400))
    rows, multipliers = _rows(curvatures, count)
    assert len(np.unique(rows)) == len(rows) <= count + 1
    itself = np.isclose(multipliers**2, curvatures[rows], rtol=1e-12)
    threshold = multipliers[~itself].max(initial=0) ** 2
    assert np.isin(np.flatnonzero(curvatures > max(threshold, 1e-9 * curvatures.max()) * (1 + 1e-9)), rows).all()
    assert abs((multipliers**2).sum() - curvatures.sum()) <= max(threshold, 1e-9 * curvatures.sum())
