"""How accuracy grows with the number of labelled cells: draws of labelled cells, two classifiers, and the area under the curve.

Pure functions of arrays.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pci_bench.statistics.folds import stratified_folds
from pci_bench.statistics.intervals import Spread
from pci_bench.statistics.metrics import share_spreads
from pci_bench.statistics.postprocessing import z_scores

Classifier = Literal["logistic", "knn"]
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LabelEfficiency:
    """Which cells were predicted rightly from how many labels of each class.

    Parameters
    ----------
    right
        (draws, numbers of labels, n) bool.
    fewest
        (draws, numbers of labels, classes) int: of how many cells of a class there was a label at least, over folds.
    unconverged
        (draws,) int: fits of the logistic regression that were stopped before they converged.
    n_folds
        Into how many parts the groups were divided.
    """

    right: np.ndarray
    fewest: np.ndarray
    unconverged: np.ndarray
    n_folds: int

    def first(self, draws: int) -> LabelEfficiency:
        """Return the first draws alone, which are those of fewer."""
        return LabelEfficiency(self.right[:draws], self.fewest[:draws], self.unconverged[:draws], self.n_folds)


def drawn_cells(labels: np.ndarray, available: np.ndarray, most: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return up to so many cells of each class that are labelled, in the order in which they are drawn.

    The first of them are the draw of a smaller number, so that a curve is of growing sets of cells.

    Parameters
    ----------
    labels
        (n,) int from 0.
    available
        (n,) bool: which cells may be drawn.
    most
        How many of each class.
    rng
        What draws.

    Examples
    --------
    >>> drawn = drawn_cells(np.array([0, 0, 0, 1]), np.array([True, True, False, True]), 2, np.random.default_rng(0))
    >>> [sorted(cells.tolist()) for cells in drawn]
    [[0, 1], [3]]
    """
    return [rng.permutation(np.flatnonzero((labels == c) & available))[:most] for c in range(int(labels.max()) + 1)]


def label_efficiency(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    counts: Sequence[int],
    *,
    classifier: Classifier = "logistic",
    draws: int = 10,
    folds: int = 5,
    k: int = 11,
    c: float = 1.0,
    scaled: bool = True,
    seed: int = 0,
) -> LabelEfficiency:
    """Return which cells are predicted rightly by what was learned from a few labelled cells of other groups.

    In each draw the groups are divided into folds anew. The cells of a fold are predicted from labelled cells of the others: so many of
    each class, drawn at random, and all where a class has fewer.

    Parameters
    ----------
    features
        (n, d), finite.
    labels
        (n,) int from 0.
    groups
        (n,) int: a labelled cell never shares it with a cell that it predicts; None where every cell is its own.
    counts
        Numbers of labels of each class, growing.
    classifier
        ``logistic``: multinomial logistic regression with an L2 penalty, classes balanced. ``knn``: most of the k nearest labelled cells, of
        as many as there are labels of a class where these are fewer; the first class of those that are as frequent.
    draws, folds
        How often labelled cells are drawn, and into how many parts groups are divided; fewer where a class has fewer groups.
    k, c
        The largest number of neighbours, and the inverse strength of the penalty.
    scaled
        Whether features are standardised, by all cells of the other folds, labelled or not.
    seed
        Of folds and draws.

    Examples
    --------
    >>> labels = np.repeat([0, 1], 20)
    >>> learned = label_efficiency(labels[:, None] * 9.0, labels, None, [1, 3], draws=2)
    >>> learned.right.mean(axis=2).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    """
    n_classes, most = int(labels.max()) + 1, max(counts)
    right = np.zeros((draws, len(counts), len(labels)), bool)
    fewest = np.full((draws, len(counts), n_classes), most)
    unconverged, fewest_folds = np.zeros(draws, np.int64), folds
    for draw, sequence in enumerate(np.random.SeedSequence(seed).spawn(draws)):
        rng = np.random.default_rng(sequence)
        fold, n_folds, _ = stratified_folds(labels, groups, folds, int(rng.integers(2**31)))
        fewest_folds = min(fewest_folds, n_folds)
        for number in np.unique(fold):
            held_out = fold == number
            known, unknown = features[~held_out].astype(np.float64), features[held_out].astype(np.float64)
            if scaled:
                scale = z_scores(known)
                known, unknown = scale.apply(known), scale.apply(unknown)
            drawn = drawn_cells(labels[~held_out], np.ones(len(known), bool), most, rng)
            asked_before: tuple[int, int] | None = None
            for place, count in enumerate(counts):
                fewest[draw, place] = np.minimum(fewest[draw, place], [min(count, len(cells)) for cells in drawn])
                chosen = np.concatenate([cells[:count] for cells in drawn])
                asked = len(chosen), min(k, count) if classifier == "knn" else 0
                if asked != asked_before:  # else no class has more cells than the number before asked for
                    learned = labels[~held_out][chosen]
                    if classifier == "knn":
                        predicted = nearest(known[chosen], learned, unknown, min(k, count))
                    else:
                        predicted, converged = linear_probe(known[chosen], learned, unknown, c)
                        unconverged[draw] += not converged
                asked_before = asked
                right[draw, place, held_out] = predicted == labels[held_out]
    return LabelEfficiency(right, fewest, unconverged, fewest_folds)


def nearest(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray, k: int) -> np.ndarray:
    """Return the most frequent label of the k nearest known rows, the smallest of those that are as frequent. (m, d) -> (m,)."""
    from sklearn.neighbors import KNeighborsClassifier

    search = KNeighborsClassifier(min(k, len(known)), algorithm="brute").fit(known, labels)
    predicted: np.ndarray = search.predict(unknown)
    return predicted


def linear_probe(known: np.ndarray, labels: np.ndarray, unknown: np.ndarray, c: float) -> tuple[np.ndarray, bool]:
    """Return what a logistic regression learned from known rows predicts, (m,), and whether it converged."""
    from sklearn import config_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return np.full(len(unknown), labels[0]), True
    with (
        warnings.catch_warnings(record=True) as caught,
        config_context(assume_finite=True, skip_parameter_validation=True),
    ):
        warnings.simplefilter("always", ConvergenceWarning)
        probe = LogisticRegression(C=c, class_weight="balanced", max_iter=MAX_ITERATIONS).fit(known, labels)
        predicted = probe.predict(unknown)
    return predicted, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def area_weights(counts: Sequence[int]) -> np.ndarray:
    """Return the weight of each point of a curve in its mean height over the logarithm of the number of labels (trapezoids).

    Examples
    --------
    >>> area_weights([1, 10, 100]).tolist(), area_weights([5]).tolist()
    ([0.25, 0.5, 0.25], [1.0])
    """
    if len(counts) == 1:
        return np.ones(1)
    steps = np.diff(np.log10(np.asarray(counts, np.float64)))
    weights: np.ndarray = (np.append(steps, 0) + np.append(0, steps)) / 2 / steps.sum()
    return weights


def curve_spread(
    right: np.ndarray, labels: np.ndarray, groups: np.ndarray | None, weights: np.ndarray, factor: float
) -> tuple[float, np.ndarray, Spread]:
    """Return balanced accuracy at weighted points of a curve: its mean, that of each draw, and its spread over draws and groups.

    The spread adds that of the groups which are predicted, of means over draws, and that of the draws' mean.

    Parameters
    ----------
    right
        (draws, points, n) bool.
    labels, groups
        (n,) int; None draws cells.
    weights
        (points,) with a sum of 1: one point alone, or :func:`area_weights`.
    factor
        On the variance over groups, for those that were learned from.

    Examples
    --------
    >>> right = np.array([[[True, False, True, True]], [[True, True, True, True]]])
    >>> mean, draws, _ = curve_spread(right, np.array([0, 0, 1, 1]), None, np.ones(1), 1.0)
    >>> mean, draws.tolist()
    (0.875, [0.75, 1.0])
    """
    n_classes = int(labels.max()) + 1
    heights = np.tensordot(right.astype(np.float64), weights, axes=(1, 0))  # (draws, n)
    mean, over_groups, _ = share_spreads(labels, heights.mean(axis=0), groups, n_classes)
    by_draw = np.stack([heights[:, labels == c].mean(axis=1) for c in np.unique(labels)]).mean(axis=0)
    parts = [over_groups.times(factor)]
    if len(by_draw) > 1:
        parts.append(Spread(float(by_draw.var(ddof=1)) / len(by_draw), len(by_draw) - 1))
    return mean, by_draw, Spread.total(parts)
