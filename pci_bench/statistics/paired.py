"""How two predictions of the same cells differ: a bootstrap of whole groups, and McNemar's test. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

from pci_bench.statistics.intervals import Spread
from pci_bench.statistics.jackknife import units_and_strata

BLOCK = 256  # draws at a time


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Return the two-sided p of McNemar's test that either of two predictions is alone right equally often.

    The exact binomial test of the cells that one of them gets right and the other does not (McNemar 1947, doi 10.1007/BF02295996).
    It takes cells for independent draws. Cells of one image are not, so that p is too small where they are alike.

    Parameters
    ----------
    only_first, only_second
        Numbers of cells that the first alone, and the second alone, predicts rightly.

    Examples
    --------
    >>> round(mcnemar_p(2, 10), 4), mcnemar_p(0, 0)
    (0.0386, 1.0)
    """
    from scipy.stats import binomtest

    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


def bootstrap_differences(
    labels: np.ndarray, differences: np.ndarray, units: np.ndarray, strata: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Return the mean over classes of cells' mean differences, where whole units are drawn anew within their strata: (draws,).

    Parameters
    ----------
    labels, differences
        Class (n,) int of every cell, and by how much one prediction of it is right more often than the other (n,) float.
    units, strata
        Unit (n,) int of every cell, and stratum (units,) int of every unit: of each stratum one unit fewer is drawn than it has, with
        replacement, by which the variance is that of drawing units anew also where there are few (Rao and Wu 1988, doi
        10.1080/01621459.1988.10478591). Units and strata are of :func:`pci_bench.statistics.jackknife.units_and_strata`.
    draws, seed
        How many draws, and what they depend on.

    Examples
    --------
    >>> drawn = bootstrap_differences(np.zeros(4, int), np.array([1.0, 1, 0, 0]), np.arange(4), np.zeros(4, int), 1000, 0)
    >>> round(float(drawn.mean()), 1), round(float(drawn.std()), 2)
    (0.5, 0.29)
    """
    rng, n_classes = np.random.default_rng(seed), int(labels.max()) + 1
    place = units * n_classes + labels
    counts, sums = (
        np.bincount(place, values, minlength=len(strata) * n_classes).reshape(-1, n_classes)
        for values in (np.ones(len(labels)), differences)
    )
    members = [np.flatnonzero(strata == stratum) for stratum in range(int(strata.max()) + 1)]
    means = []
    for start in range(0, draws, BLOCK):
        times = np.zeros((min(BLOCK, draws - start), len(strata)))
        for own in members:
            times[:, own] = rng.multinomial(max(len(own) - 1, 1), np.full(len(own), 1 / len(own)), len(times))
        drawn = times @ counts
        recalls = np.divide(times @ sums, drawn, out=np.zeros(drawn.shape), where=drawn > 0)
        means.append(recalls.sum(axis=1) / (drawn > 0).sum(axis=1))
    return np.concatenate(means)


def means_without_each(labels: np.ndarray, values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the mean over classes of cells' mean values, without each unit: (units,).

    A class that lies in the unit alone keeps its mean.

    Parameters
    ----------
    labels, values, units
        Class (n,) int, value (n,) float and unit (n,) int of every cell, classes and units from 0.

    Examples
    --------
    >>> means_without_each(np.array([0, 0, 1, 1]), np.array([1.0, 0, 0, 0]), np.array([0, 1, 0, 1])).tolist()
    [0.0, 0.5]
    """
    shape = int(units.max()) + 1, int(labels.max()) + 1
    place = units * shape[1] + labels
    sums, counts = (
        np.bincount(place, v, minlength=shape[0] * shape[1]).reshape(shape) for v in (values, np.ones(len(values)))
    )
    means = sums.sum(axis=0) / np.maximum(counts.sum(axis=0), 1)
    left = counts.sum(axis=0) - counts
    without = np.where(left > 0, (sums.sum(axis=0) - sums) / np.maximum(left, 1), means)
    return np.asarray(without[:, counts.sum(axis=0) > 0].mean(axis=1))


def jackknife_variance_of(replicates: np.ndarray, strata: np.ndarray) -> tuple[float, float]:
    """Return the variance of a statistic from its values without one unit each, and its degrees of freedom.

    Of every stratum of n units (n − 1) / n times the sum of squares around the stratum's mean; degrees of freedom by Welch and
    Satterthwaite. A stratum of one unit adds nothing.

    Parameters
    ----------
    replicates, strata
        (units,) float, and the stratum of every unit (units,) int.

    Examples
    --------
    Of a mean it is the variance of the mean.

    >>> values = np.array([1.0, 2, 3, 6])
    >>> replicates = (values.sum() - values) / 3
    >>> bool(np.isclose(jackknife_variance_of(replicates, np.zeros(4, int))[0], values.var(ddof=1) / 4))
    True
    """
    parts = [replicates[strata == stratum] for stratum in np.unique(strata)]
    variances = [(len(p) - 1) / len(p) * float(np.square(p - p.mean()).sum()) for p in parts]
    doubt = sum(v**2 / (len(p) - 1) for v, p in zip(variances, parts, strict=True) if len(p) > 1)
    return sum(variances), max(1.0, sum(variances) ** 2 / doubt) if doubt > 0 else 1.0


def mean_gain(
    labels: np.ndarray, gain: np.ndarray, groups: np.ndarray | None, names: np.ndarray
) -> tuple[float, Spread]:
    """Return the mean over classes of cells' mean gains, and its spread by the exact jackknife over units within classes.

    Parameters
    ----------
    labels, gain
        Class (n,) int from 0, and gain (n,) float of every cell: how much oftener one side is right than the other.
    groups, names
        What is left out as a whole (n,) int, or None for cells; and the cells' names (n,) str.

    Examples
    --------
    >>> labels, gain = np.array([0, 0, 1, 1]), np.array([1.0, 0.0, 0.0, 0.0])
    >>> mean_gain(labels, gain, None, np.array(list("abcd")))[0]
    0.25
    """
    units, strata, _ = units_and_strata(groups, labels, names)
    value = float(np.mean([gain[labels == label].mean() for label in np.unique(labels)]))
    return value, Spread(*jackknife_variance_of(means_without_each(labels, gain, units), strata))
