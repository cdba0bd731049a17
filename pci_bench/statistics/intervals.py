"""95 % intervals from how an estimate varies over images or proteins: jackknife, clusters, pairs. Pure functions of arrays.

Every interval here is estimate ± t · standard error. The truth that it covers is the mean of the estimate over other draws of the
units (images, proteins) from where these came; ``python speed/coverage.py`` measures how often it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95
CHUNK = 256  # jackknife replicates at a time

# A prediction also depends on the cells that were learned from, and those were drawn too. By how much the variance of the held-out
# predictions must be multiplied for it: (units are on both sides of a split, a unit is on one side as a whole). Measured ratios
# of the variance over redrawn data to that of the predictions (speed/coverage.py): 0.9–1.6 and 1.1–1.6 for classifiers, 1.1–1.6 and
# 1.4–2.2 for kNN, hardly less with more folds; so a constant, and not Nadeau and Bengio's 1 + folds · test / training.
NOTHING_LEARNED = (1.0, 1.0)
LEARNED_BY_NEIGHBOURS = (1.45, 2.0)
LEARNED_BY_CLASSIFIER = (1.25, 1.5)
TRAINING_VARIANCE = {  # of results that were written before they said it
    "loo-knn": LEARNED_BY_NEIGHBOURS,
    "logistic-regression": LEARNED_BY_CLASSIFIER,
    "random-forest": LEARNED_BY_CLASSIFIER,
}


def training_variance(factors: tuple[float, float], *, whole_units: bool) -> float:
    """Return the factor on the variance of an evaluator's predictions for what they were learned from.

    Parameters
    ----------
    factors
        The evaluator's (``EvaluatorMeta.training_variance``): where splits divide units, and where units are whole.
    whole_units
        Whether a resampled unit (an image; a cell where there are no images) is never on both sides of a split.
    """
    return factors[whole_units]


def training_variance_of(factors: tuple[float, float], params: Mapping[str, Any], *, grouped: bool) -> float:
    """Return :func:`training_variance` from an evaluation's parameters, and whether intervals draw groups and not cells."""
    return training_variance(factors, whole_units=not grouped or params.get("exclude", "cell") != "cell")


@dataclass(frozen=True)
class Spread:
    """The variance of an estimate, and the degrees of freedom of that variance (infinite where it is known)."""

    variance: float
    df: float

    def half_width(self, level: float = LEVEL) -> float:
        """Return what the interval reaches to either side.

        Examples
        --------
        >>> round(Spread(1.0, np.inf).half_width(), 2), round(Spread(1.0, 3).half_width(), 2)
        (1.96, 3.18)
        """
        from scipy.special import ndtri, stdtrit

        if self.variance <= 0:
            return 0.0
        tail = 1 - (1 - level) / 2
        quantile = ndtri(tail) if np.isinf(self.df) else stdtrit(self.df, tail)
        return float(quantile * np.sqrt(self.variance))

    def interval(
        self, value: float, *, level: float = LEVEL, low: float = -np.inf, high: float = np.inf
    ) -> tuple[float, float]:
        """Return the interval around a value, cut where no value can lie."""
        half = self.half_width(level)
        return float(max(value - half, min(low, value))), float(min(value + half, max(high, value)))

    def log_interval(self, value: float) -> tuple[float, float]:
        """Return the interval around a positive value by its logarithm, for what is skewed as squares are."""
        if value <= 0:
            return value, value
        factor = float(np.exp(self.half_width() / value))
        return value / factor, value * factor

    def times(self, factor: float) -> Spread:
        """Return the spread with another variance."""
        return Spread(factor * self.variance, self.df)

    @staticmethod
    def total(parts: list[Spread]) -> Spread:
        """Return the spread of a sum of independent parts (Satterthwaite's degrees of freedom)."""
        variance = sum(p.variance for p in parts)
        doubt = sum(p.variance**2 / p.df for p in parts if p.variance > 0)
        return Spread(variance, variance**2 / doubt if doubt > 0 else np.inf)


Statistic = Callable[[np.ndarray], dict[str, np.ndarray]]


def stratified_jackknife(
    labels: np.ndarray, codes: np.ndarray, groups: np.ndarray | None, shape: tuple[int, int], statistic: Statistic
) -> tuple[dict[str, Spread], np.ndarray]:
    """Return the variance of statistics of counts over groups of cells that are drawn within classes.

    One group of one class is left out at a time, from everything that is counted, so that an image is left out of all folds
    at once; the class's other groups count for it, so that a class keeps its share. What groups that hold several classes do to one another's classes is added up before it is squared.

    Parameters
    ----------
    labels, codes
        (n,) int: each cell's class, and what it counts as.
    groups
        (n,) int, or None to draw cells. A class with fewer than two groups is drawn by cells.
    shape
        Numbers of classes and of codes.
    statistic
        (…, classes, codes) counts -> values (…) by name.

    Returns
    -------
    (spreads, by_group)
        By name; and (classes,) bool: which classes were drawn by group.
    """
    n_classes, n_codes = shape
    totals = np.bincount(labels * n_codes + codes, minlength=n_classes * n_codes).reshape(n_classes, n_codes)
    by_group = np.zeros(n_classes, bool)
    alone: dict[str, list[Spread]] = {}
    shared: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}  # (groups, deviations) of every class drawn by group
    for label in np.flatnonzero(totals.sum(axis=1) > 1).tolist():
        members = labels == label
        own = None if groups is None else np.unique(groups[members])
        by_group[label] = own is not None and len(own) > 1
        if groups is not None and own is not None and by_group[label]:
            code = np.searchsorted(own, groups[members])
            rows = np.bincount(code * n_codes + codes[members], minlength=len(own) * n_codes).reshape(-1, n_codes)
            times = np.ones(len(own))
        else:
            rows = np.eye(n_codes, dtype=np.int64)[totals[label] > 0]
            times = totals[label][totals[label] > 0].astype(float)
        n = times.sum()
        for name, values in _left_out(totals, label, rows, n / (n - 1), statistic).items():
            deviations = (values - np.average(values, weights=times)) * np.sqrt((n - 1) / n)
            if by_group[label]:
                assert own is not None
                shared.setdefault(name, []).append((own, deviations))
            else:
                alone.setdefault(name, []).append(Spread(float(times @ deviations**2), n - 1))
    names = [*dict.fromkeys([*alone, *shared])] or list(statistic(totals))
    return {
        name: Spread.total([*alone.get(name, []), *_joined_classes(shared.get(name, []))]) for name in names
    }, by_group


def _left_out(
    totals: np.ndarray, label: int, rows: np.ndarray, scale: float, statistic: Statistic
) -> dict[str, np.ndarray]:
    """Return statistics of the counts where each row is subtracted from one class's, and scaled."""
    values_by_name: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        counts = np.repeat(totals[None].astype(float), len(part), axis=0)
        counts[:, label] = (totals[label] - part) * scale
        for name, values in statistic(counts).items():
            values_by_name.setdefault(name, []).append(values)
    return {name: np.concatenate(values) for name, values in values_by_name.items()}


def _joined_classes(classes: list[tuple[np.ndarray, np.ndarray]]) -> list[Spread]:
    """Return one spread for each set of classes that share groups, from their groups and deviations."""
    if not classes:
        return []
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    groups = np.concatenate([own for own, _ in classes])
    names, code = np.unique(groups, return_inverse=True)
    deviations = np.concatenate([values for _, values in classes])
    owner = np.repeat(np.arange(len(classes)), [len(own) for own, _ in classes])
    size = len(classes) + len(names)
    links = coo_array((np.ones(len(code)), (owner, len(classes) + code)), shape=(size, size))
    component = connected_components(links, directed=False)[1]
    summed = np.bincount(code, deviations, minlength=len(names))
    spreads = []
    for number in np.unique(component):
        inside = component[len(classes) :] == number
        joined = [
            Spread(float(v @ v), len(v) - 1) for place, (_, v) in enumerate(classes) if component[place] == number
        ]
        df = min(Spread.total(joined).df, inside.sum() - 1)
        spreads.append(Spread(float(np.square(summed[inside]).sum()), df))
    return spreads


def mean_spread(values: np.ndarray, groups: np.ndarray) -> Spread:
    """Return the spread of a mean of values whose groups were drawn; 0 where there is one group.

    Parameters
    ----------
    values
        (n,) float.
    groups
        (n,) int, 0 … groups − 1.
    """
    sums = np.bincount(groups, values - values.mean())
    n = len(sums)
    return Spread(float(np.square(sums).sum()) / len(values) ** 2 * n / max(n - 1, 1), max(n - 1, 1))


def pair_spread(influence: np.ndarray, pairs: np.ndarray, strata: np.ndarray) -> Spread:
    """Return the spread of an estimate from pairs of items, where pairs that share an item vary together.

    The sum over items of what all their pairs do, squared, minus what was counted twice: the two items of one pair (Fafchamps
    and Gubert 2007; Aronow, Samii and Assenova 2015). So the variance of the draw of pairs counts once, and that of the items.

    Parameters
    ----------
    influence
        (m,) float: by how much each pair moves the estimate, summing to 0 within each mean that it is made of.
    pairs
        (m, 2) int: its two items.
    strata
        (items,) int: what items are drawn within.
    """
    items = len(strata)
    low, high = pairs.min(axis=1), pairs.max(axis=1)
    dyads, code = np.unique(low * items + high, return_inverse=True)
    summed = np.bincount(code, influence, minlength=len(dyads))
    by_item = np.bincount(pairs.ravel(), np.repeat(influence, 2), minlength=items)
    return item_spread(by_item, float(np.square(summed).sum()), strata)


def item_spread(by_item: np.ndarray, twice: float, strata: np.ndarray) -> Spread:
    """Return the spread from each item's summed influence (items,), and the sum of squares that their squares hold twice."""
    counts = np.bincount(strata)
    centred = by_item - (np.bincount(strata, by_item) / np.maximum(counts, 1))[strata]
    squares = np.bincount(strata, np.square(centred))
    parts = [
        Spread(square * n / max(n - 2, 1), max(n - 2.0, 1))  # and not n − 1: a mean over pairs of n items
        for square, n in zip(squares.tolist(), counts.tolist(), strict=True)
        if n > 1
    ]
    total = Spread.total(parts)
    return Spread(max(total.variance - twice, twice), total.df)
