"""Where two classifications of the same cells differ, class by class. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

OUTCOMES = ("both", "only A", "only B", "neither")


def outcomes(right_a: np.ndarray, right_b: np.ndarray) -> np.ndarray:
    """Return the place in :data:`OUTCOMES` of every cell, from who is right (n,) bool each.

    >>> [OUTCOMES[i] for i in outcomes(np.array([True, True, False, False]), np.array([True, False, True, False]))]
    ['both', 'only A', 'only B', 'neither']
    """
    return 2 * (1 - np.asarray(right_a, np.int64)) + (1 - np.asarray(right_b, np.int64))


def outcome_counts(labels: np.ndarray, outcome: np.ndarray, n_classes: int) -> np.ndarray:
    """Return how many cells of every class have every outcome: (n,) int twice -> (n_classes, 4) int."""
    flat = np.bincount(labels * len(OUTCOMES) + outcome, minlength=n_classes * len(OUTCOMES))
    return flat.reshape(n_classes, len(OUTCOMES))


def drawn_examples(labels: np.ndarray, outcome: np.ndarray, wanted: int, order: np.ndarray, most: int) -> np.ndarray:
    """Return positions of the first cells of every class that have an outcome, class by class.

    Parameters
    ----------
    labels, outcome
        Class and outcome of every cell (n,) int.
    wanted
        The outcome, a place in :data:`OUTCOMES`.
    order
        Positions (n,) in the order in which cells are drawn.
    most
        How many of a class.

    Examples
    --------
    >>> labels, outcome = np.array([0, 0, 0, 1]), np.array([1, 1, 1, 1])
    >>> drawn_examples(labels, outcome, 1, np.array([3, 2, 1, 0]), 2).tolist()
    [2, 1, 3]
    """
    chosen = [order[(labels[order] == c) & (outcome[order] == wanted)][:most] for c in np.unique(labels)]
    return np.concatenate([np.zeros(0, np.int64), *chosen])
