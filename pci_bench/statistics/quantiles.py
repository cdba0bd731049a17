"""Intervals of quantiles of values whose groups were drawn. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

from pci_bench.statistics.intervals import mean_spread


def quantile_interval(values: np.ndarray, groups: np.ndarray, level: float) -> tuple[float, float, float]:
    """Return a quantile and its 95 % interval, by inverting the distribution function (Woodruff 1952, doi 10.2307/2280781).

    The share of values that are not above the quantile is a mean over cells, whose spread over groups is known; the ends of its interval
    are looked up as quantiles.

    Parameters
    ----------
    values
        (n,) or (n, several of each cell) float.
    groups
        (n,) int, 0 … groups − 1: what was drawn as a whole.
    level
        0 … 1.

    Returns
    -------
    (quantile, low, high)
        The two ends are at most the smallest and the largest value.

    Examples
    --------
    >>> [round(value, 1) for value in quantile_interval(np.arange(101.0), np.arange(101), 0.5)]
    [50.0, 40.1, 59.9]
    """
    quantile = float(np.quantile(values, level))
    below = (values <= quantile).reshape(len(values), -1).mean(axis=1)
    half = mean_spread(below, groups).half_width()
    low, high = np.quantile(values, np.clip([level - half, level + half], 0, 1))
    return quantile, float(min(low, quantile)), float(max(high, quantile))
