"""Whether probabilities are what they say: calibration, proper scores, rejection and conformal sets. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reliability:
    """Mean confidence and accuracy in bins of equally many predictions, from the least confident on.

    Parameters
    ----------
    confidence, accuracy, counts
        Of each bin (bins,).
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray

    @property
    def expected_error(self) -> float:
        """The mean over predictions of |accuracy − confidence| of their bin: the expected calibration error."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float((gaps * self.counts).sum() / self.counts.sum())

    @property
    def debiased_root_mean_square(self) -> float:
        """The root of the mean square of accuracy − confidence, less what bins of few predictions add by chance; 0 where that is all.

        Each bin's square has accuracy · (1 − accuracy) / (n − 1) subtracted (Kumar, Liang and Ma 2019, arXiv 1909.10155).
        """
        several = self.counts > 1
        by_chance = self.accuracy * (1 - self.accuracy) / np.maximum(self.counts - 1, 1)
        squares = (np.square(self.accuracy - self.confidence) - by_chance)[several] * self.counts[several]
        return float(np.sqrt(max(0.0, squares.sum() / max(1, self.counts[several].sum()))))


def reliability(confidence: np.ndarray, correct: np.ndarray, bins: int) -> Reliability:
    """Return confidence and accuracy in bins of equal mass; predictions of the same confidence stay in one bin.

    Parameters
    ----------
    confidence
        Of each prediction (n,), 0 … 1.
    correct
        Whether it is right (n,) bool, or how often.
    bins
        At most so many.

    Examples
    --------
    >>> found = reliability(np.array([0.5, 0.5, 0.9, 0.9]), np.array([0, 1, 1, 1]), 2)
    >>> found.accuracy.tolist(), round(found.expected_error, 3)
    ([0.5, 1.0], 0.05)
    """
    _, level = np.unique(confidence, return_inverse=True)
    counts = np.bincount(level)
    middles = np.cumsum(counts) - counts / 2  # a level goes where its middle lies
    number = np.unique((middles * bins / len(confidence)).astype(np.int64), return_inverse=True)[1][level]
    sizes = np.bincount(number)
    return Reliability(
        np.bincount(number, confidence) / sizes, np.bincount(number, np.asarray(correct, np.float64)) / sizes, sizes
    )


def calibrated_null(confidence: np.ndarray, bins: int, draws: int, seed: int) -> np.ndarray:
    """Return expected calibration errors (draws,) of predictions of the same confidence that are right exactly as often as they say."""
    rng = np.random.default_rng(seed)
    return np.array(
        [reliability(confidence, rng.random(len(confidence)) < confidence, bins).expected_error for _ in range(draws)]
    )


@dataclass(frozen=True)
class Brier:
    """The Brier score of probabilities of several classes, and what it is made of (Murphy 1973).

    Parameters
    ----------
    scores
        Σ over classes of (probability − truth)² for every prediction (n,); 0 … 2.
    reliability, resolution, uncertainty
        Summed over classes: how far bins' probabilities are from shares of truth, how far these shares are from those of all, and what
        knowing nothing but the shares of all would score. The mean score is reliability − resolution + uncertainty, but
        for differences within a bin.
    """

    scores: np.ndarray
    reliability: float
    resolution: float
    uncertainty: float


def brier(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> Brier:
    """Return the Brier score of probabilities (n, classes) of labels (n,) int, and its parts in bins of equal mass of each class.

    >>> found = brier(np.array([[0.5, 0.5], [1.0, 0.0]]), np.array([0, 0]), 5)
    >>> found.scores.tolist(), found.reliability - found.resolution + found.uncertainty
    ([0.5, 0.0], 0.25)
    """
    truth = np.eye(probabilities.shape[1])[labels]
    reliable = resolved = 0.0
    for values, right in zip(probabilities.T, truth.T, strict=True):
        found = reliability(values, right, bins)
        weights = found.counts / len(labels)
        reliable += float(weights @ np.square(found.confidence - found.accuracy))
        resolved += float(weights @ np.square(found.accuracy - right.mean()))
    shares = truth.mean(axis=0)
    return Brier(np.square(probabilities - truth).sum(axis=1), reliable, resolved, float((shares * (1 - shares)).sum()))


def accuracy_by_share(confidence: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Return the accuracy of the m most confident predictions, for m = 1 … n; among equally confident ones, of m drawn at random.

    Its mean is the area under the accuracy–rejection curve (Nadeem, Zucker and Hanczar 2009).

    >>> accuracy_by_share(np.array([0.9, 0.5, 0.5]), np.array([1, 0, 1])).round(3).tolist()
    [1.0, 0.75, 0.667]
    """
    _, level = np.unique(-confidence, return_inverse=True)
    counts = np.bincount(level)
    means = np.bincount(level, np.asarray(correct, np.float64)) / counts
    accuracy: np.ndarray = np.cumsum(np.repeat(means, counts)) / np.arange(1, len(confidence) + 1)
    return accuracy


def conformal_sets(
    probabilities: np.ndarray, labels: np.ndarray, parts: np.ndarray, error: float, *, by_class: bool = False
) -> np.ndarray:
    """Return which classes are in each prediction's set: (n, classes) bool.

    A class is in the set if 1 − its probability is at most the ⌈(m + 1)(1 − error)⌉-th smallest of 1 − probability of the truth among the m
    predictions of the other parts; all classes where that is more than m. Where parts are alike, a set holds the truth with a probability of
    at least 1 − error (Vovk, Gammerman and Shafer 2005; these sets: Sadinle, Lei and Wasserman 2019, doi 10.1080/01621459.2017.1395341).

    Parameters
    ----------
    probabilities, labels
        (n, classes) and (n,) int.
    parts
        Part of each prediction (n,) int.
    error
        How often the truth may be missed.
    by_class
        Whether each class has a threshold of its own, from predictions whose truth it is; then each is covered as often.

    Examples
    --------
    >>> probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
    >>> conformal_sets(probabilities, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 0.4).tolist()
    [[True, False], [True, False], [False, True], [False, False]]
    """
    scores = 1 - probabilities
    of_truth = scores[np.arange(len(labels)), labels]
    sets = np.zeros(scores.shape, bool)
    for part in np.unique(parts):
        inside = parts == part
        for label in range(scores.shape[1]):
            others = np.sort(of_truth[~inside & (labels == label)] if by_class else of_truth[~inside])
            rank = int(np.ceil((len(others) + 1) * (1 - error) - 1e-9))
            threshold = others[rank - 1] if rank <= len(others) else np.inf
            sets[inside, label] = scores[inside, label] <= threshold
    return sets
