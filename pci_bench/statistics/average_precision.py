"""Mean average precision: how far up a ranking by distance those of the same kind stand. Pure functions of arrays.

Average precision of a query is the mean, over its positives, of the share of positives among those at least as near (Kalinin et al.
2025, doi 10.1038/s41467-025-60306-2). Chance depends on how many positives and candidates there are, so it is normalised:
0 is a random order, 1 all positives first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np

from pci_bench.statistics.chance import permuted_labels

ROWS = 256  # queries at a time
LEVEL = 0.05
MAX_EXACT = 2_000  # assignments of a label that are all tried
MIN_PERMUTATIONS = 99
MAX_STEPS = 30_000_000_000  # rows × candidates × permutations; for more rows there are fewer permutations


def expected_average_precision(positives: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """Return the mean average precision of a random order, of M positives among L candidates.

    It is (H + (M − 1) (L − H) / (L − 1)) / L, where H = 1 + 1/2 + … + 1/L (Bestgen 2015, doi 10.1016/j.patrec.2015.03.005).

    Parameters
    ----------
    positives, candidates
        (…) int, 1 ≤ M ≤ L.

    Examples
    --------
    Of one positive among two, half of the orders have 1 and half 1/2.

    >>> float(expected_average_precision(np.array(1), np.array(2)))
    0.75
    """
    of_one, for_more = _chances(int(np.max(candidates)))[1:]
    expected: np.ndarray = of_one[candidates] + (positives - 1) * for_more[candidates]
    return expected


def _chances(n: int) -> np.ndarray:
    """Return 1 / r, H(L) / L and (L − H(L)) / (L (L − 1)) for 0 … n: (3, n + 1)."""
    ranks = np.arange(1, n + 1, dtype=np.float64)
    harmonic = np.cumsum(1 / ranks)
    chances = np.zeros((3, n + 1))
    chances[:, 1:] = 1 / ranks, harmonic / ranks, (ranks - harmonic) / (ranks * np.maximum(ranks - 1, 1))
    return chances


@dataclass(frozen=True)
class AveragePrecisions:
    """What :func:`average_precisions` finds.

    Parameters
    ----------
    precision
        Average precision of every row (n,) float; NaN where it has no positives, or nothing else.
    positives, candidates
        How many each has (n,) int.
    scores
        (assignments, labels): mean normalised average precision of each label's queries, NaN where there is none.
    """

    precision: np.ndarray
    positives: np.ndarray
    candidates: np.ndarray
    scores: np.ndarray

    @property
    def expected(self) -> np.ndarray:
        """What a random order gives each row (n,), NaN where it has no average precision."""
        return np.where(np.isnan(self.precision), np.nan, expected_average_precision(self.positives, self.candidates))

    @property
    def normalized(self) -> np.ndarray:
        """(AP − expected) / (1 − expected) of each row (n,)."""
        expected = self.expected
        normalized: np.ndarray = (self.precision - expected) / (1 - expected)
        return normalized


def average_precisions(
    features: np.ndarray, assignments: np.ndarray, groups: np.ndarray | None = None
) -> AveragePrecisions:
    """Return average precisions of every row among the rows that share no group with it, by Euclidean distance.

    Rows of equal distance stand in index order.

    Parameters
    ----------
    features
        (n, d), finite. Unit vectors for a cosine or a correlation (:func:`pci_bench.statistics.neighbors.directions`).
    assignments
        Labels (n,) int from 0, −1 for none; or (assignments, n), the first of which is the real one.
    groups
        (n,) or (kinds, n) int. Default: every row is a group.

    Examples
    --------
    >>> found = average_precisions(np.array([[0.0], [1.0], [3.0], [7.0]]), np.array([0, 1, 0, 1]))
    >>> found.precision.round(3).tolist(), found.positives.tolist(), found.candidates.tolist()
    ([0.5, 0.333, 0.5, 0.5], [1, 1, 1, 1], [3, 3, 3, 3])
    """
    from pci_bench.statistics.compiled.average_precision import add_average_precisions

    codes = np.atleast_2d(assignments)
    n, n_labels = len(features), int(codes.max()) + 1
    codes = np.ascontiguousarray(codes.T, dtype=np.int16 if n_labels < 2**15 else np.int32)
    kinds = np.atleast_2d(np.arange(n) if groups is None else groups)
    sums, counts = np.zeros((2, codes.shape[1], n_labels))
    precision, positives, candidates = np.full(n, np.nan), np.zeros(n, np.int64), np.zeros(n, np.int64)
    values = np.asarray(features, np.float64)
    squares = np.einsum("ij,ij->i", values, values)
    chances = _chances(n)
    for start in range(0, n, ROWS):
        rows = np.arange(start, min(start + ROWS, n))
        orders = np.argsort(squares[None] - 2 * values[rows] @ values.T, axis=1, kind="stable")
        add_average_precisions(rows, orders, kinds, codes, chances, sums, counts, precision, positives, candidates)
    scores = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return AveragePrecisions(precision, positives, candidates, scores)


@dataclass(frozen=True)
class Significance:
    """Whether labels stand higher than chance.

    Parameters
    ----------
    p
        By label (labels,): the share of assignments of labels with a score at least as high.
    exact
        Whether all assignments of the label were tried, and not some drawn.
    smallest
        The smallest p that the number of assignments allows.
    permutations
        How many were drawn for the labels without an exact one.
    """

    p: np.ndarray
    exact: np.ndarray
    smallest: np.ndarray
    permutations: int


def map_significance(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    units: np.ndarray,
    permutations: int,
    seed: int,
) -> tuple[AveragePrecisions, Significance]:
    """Return average precisions, and p-values of every label's mean normalised one.

    Labels are exchanged between units, since cells of an image are no independent draws. Where every unit has one label and there
    are at most 2,000 ways to give a label to as many units, all are tried: p is exact. Else p = (1 + as high) / (1 + drawn)
    (Phipson and Smyth 2010, doi 10.2202/1544-6115.1585).

    Parameters
    ----------
    features, labels, groups
        As of :func:`average_precisions`; every row has a label.
    units
        Unit of every row (n,) int.
    permutations, seed
        How many are drawn, fewer for many rows, and what they depend on.
    """
    n, n_labels = len(labels), int(labels.max()) + 1
    units = np.unique(units, return_inverse=True)[1]
    drawn = max(min(permutations, MIN_PERMUTATIONS), min(permutations, MAX_STEPS // n**2))
    found = average_precisions(
        features, np.concatenate([labels[None], permuted_labels(labels, units, drawn, seed)]), groups
    )
    observed, null = found.scores[0], found.scores[1:]
    known = ~np.isnan(null)
    higher = (null >= observed - 1e-12) & known
    p = (1 + higher.sum(axis=0)) / (1 + known.sum(axis=0))
    smallest = 1.0 / (1 + known.sum(axis=0))
    exact = np.zeros(n_labels, bool)
    pairs = np.unique(np.stack([units, labels], axis=1), axis=0)
    if len(pairs) == units.max() + 1:  # every unit has one label
        for label in range(n_labels):
            ways = comb(len(pairs), int((pairs[:, 1] == label).sum()))
            smallest[label] = max(smallest[label], 1 / ways)
            if ways <= MAX_EXACT and not np.isnan(observed[label]):
                p[label] = _exact_p(features, pairs[:, 1] == label, groups, units)
                exact[label], smallest[label] = True, 1 / ways
    p[np.isnan(observed)] = 1
    return found, Significance(p, exact, smallest, drawn)


def _exact_p(features: np.ndarray, has_label: np.ndarray, groups: np.ndarray | None, units: np.ndarray) -> float:
    """Return the share of all assignments of a label to as many units whose score is at least that of the real one."""
    n_units, size = len(has_label), int(has_label.sum())
    assigned = np.array([has_label, *(np.isin(np.arange(n_units), c) for c in combinations(range(n_units), size))])
    scores = average_precisions(features, assigned[:, units].astype(np.int64), groups).scores[:, 1]
    scores = scores[~np.isnan(scores)]
    return float((scores[1:] >= scores[0] - 1e-12).mean())


def corrected_p(p: np.ndarray, families: Sequence[str] | np.ndarray | None = None) -> np.ndarray:
    """Return p-values corrected for their number, by Benjamini and Hochberg, or first by family and then within.

    A family is selected where Benjamini and Hochberg's correction of its Simes p (the smallest p · size / rank) is at most 0.05.
    Within a selected one they are corrected among themselves, times all families over those selected (Benjamini and Bogomolov 2014,
    doi 10.1111/rssb.12028); those of others become 1. The smallest p of a family in place of Simes' would select families of many
    members too often.

    Parameters
    ----------
    p
        (m,) float.
    families
        Of every p (m,), or None.

    Examples
    --------
    >>> corrected_p(np.array([0.01, 0.02, 0.9])).tolist()
    [0.03, 0.03, 0.9]
    >>> corrected_p(np.array([0.01, 0.02, 0.9]), ["a", "a", "b"]).tolist()
    [0.04, 0.04, 1.0]
    """
    from scipy.stats import false_discovery_control

    if families is None:
        return np.asarray(false_discovery_control(p))
    names, family = np.unique(np.asarray(families), return_inverse=True)
    within = np.empty(len(p))
    simes = np.empty(len(names))
    for number in range(len(names)):
        members = family == number
        within[members] = false_discovery_control(p[members])
        simes[number] = within[members].min()  # the smallest of p · size / rank
    selected = false_discovery_control(simes) <= LEVEL
    factor = len(names) / max(1, int(selected.sum()))
    return np.where(selected[family], np.minimum(1, within * factor), 1.0)
