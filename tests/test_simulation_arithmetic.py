"""Arithmetic of the simulations: close to NumPy's and SciPy's, and the same bits with other vector units."""

import numpy as np
import pytest
from scipy import ndimage, stats

from pci_bench.simulation import arithmetic
from pci_bench.simulation.arithmetic import Random


@pytest.mark.parametrize(
    ("name", "low", "high", "allowed"),
    [("sin", -300, 300, 1e-13), ("cos", -300, 300, 1e-13), ("exp", -79, 5, 1e-12), ("log", 1e-6, 1e6, 1e-13)],
)
def test_functions_agree_with_numpy(name, low, high, allowed):
    x = np.linspace(low, high, 20_011)
    np.testing.assert_allclose(getattr(arithmetic, name)(x), getattr(np, name)(x), rtol=0, atol=allowed)


def test_float32_exponentials_and_angles_agree_with_numpy():
    x = np.linspace(-79, 20, 20_011, dtype=np.float32)
    assert arithmetic.exp(x).dtype == np.float32
    np.testing.assert_allclose(arithmetic.exp(x), np.exp(x.astype(float)), rtol=3e-7)
    y = np.roll(x, 777)
    assert arithmetic.arctan2(y, x).dtype == np.float32
    np.testing.assert_allclose(arithmetic.arctan2(y, x), np.arctan2(y.astype(float), x), atol=2e-5)


def test_angles_agree_with_numpy_in_all_directions_and_at_the_axes():
    angle = np.arange(-180, 181) * np.pi / 180
    y, x = np.sin(angle), np.cos(angle)
    np.testing.assert_allclose(arithmetic.arctan2(y, x), np.arctan2(y, x), atol=1e-14)
    corners = np.array([[0.0, 0.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    np.testing.assert_allclose(arithmetic.arctan2(*corners.T), [0, np.pi, np.pi / 2, -np.pi / 2], atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 50, 51, 4001])
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.98, 1])
def test_a_quantile_is_numpys_of_the_same_numbers_in_float64(n, share):
    values = np.random.default_rng(n).gamma(1, size=n).astype(np.float32)
    found = arithmetic.quantile(values, share)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.quantile(values.astype(float), share), rtol=3e-7)


def test_exponentials_of_very_negative_numbers_are_normal_numbers():
    assert arithmetic.exp(np.float32([-1e6])) > np.finfo(np.float32).tiny


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_blurring_agrees_with_scipy(sigma):
    image = np.random.default_rng(0).normal(size=(50, 41)).astype(np.float32)
    expected = ndimage.gaussian_filter(image, sigma, truncate=3, mode="nearest")
    np.testing.assert_allclose(arithmetic.gaussian_filter(image, sigma), expected, atol=2e-6)


def test_random_numbers_have_the_distributions_of_their_names():
    rng = Random(5)
    assert stats.kstest(rng.standard_normal(20_000), "norm").pvalue > 0.01
    assert stats.kstest(rng.uniform(2, 5, 20_000), "uniform", (2, 3)).pvalue > 0.01
    assert stats.kstest(rng.gamma(1.6, 0.6, 20_000), "gamma", (1.6, 0, 0.6)).pvalue > 0.01
    counts = np.bincount(rng.poisson(4.0, 20_000), minlength=20)[:12]
    assert (
        stats.chisquare(counts, stats.poisson(4).pmf(np.arange(12)) / stats.poisson(4).cdf(11) * counts.sum()).pvalue
        > 0.01
    )


def test_random_numbers_depend_on_the_whole_key():
    assert not np.array_equal(Random(1, 2).uniform(size=5), Random(1, 3).uniform(size=5))
    assert np.array_equal(Random(1, 2).normal(0, 1, 5), Random(1, 2).normal(0, 1, 5))


@pytest.mark.parametrize("table", [arithmetic._normal_quantiles(), arithmetic._gamma_quantiles(1.6)])
def test_tables_are_rounded_so_coarsely_that_libraries_cannot_differ(table):
    assert np.array_equal(table * 4096, np.rint(table * 4096))


def test_the_unrounded_quantiles_are_far_from_where_rounding_would_turn():
    from scipy.special import gammaincinv, ndtri

    for quantiles in (ndtri((np.arange(65_536) + 0.5) / 65_536), gammaincinv(1.6, (np.arange(4096) + 0.5) / 4096)):
        fraction = np.abs((quantiles * 4096) % 1 - 0.5)
        assert fraction.min() > 1e-8  # libraries agree to about 1e-12 of these values
