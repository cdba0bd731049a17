"""Stratified folds of cells or groups, and weights that balance classes. Pure functions of arrays."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np


def stratified_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return each cell's fold, how many folds there are, and the classes that cannot be learned.

    Parameters
    ----------
    labels
        (n,) int.
    groups
        (n,) int: a group lies in one fold as a whole; None where every cell is its own.
    n_folds
        As many folds as wanted; fewer where a class has fewer cells (groups), since each fold needs some of every class.
    seed
        Of the shuffle.

    Returns
    -------
    (folds, n_folds, unreachable)
        (n,) int; the number of folds, at least 2; classes that lie in one group, so that they are never both in training
        and in the held-out fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    parts = np.arange(len(labels)) if groups is None else groups
    unreachable = unreachable_classes(labels, parts)
    pairs = np.unique(np.stack([labels, parts], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0])
    possible = max(2, min(n_folds, int(counts[counts > 1].min(initial=n_folds))))
    kind: Any = StratifiedKFold if groups is None else StratifiedGroupKFold
    import warnings

    folds = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # those are in `unreachable`
        splits = kind(possible, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, held_out) in enumerate(splits):
            folds[held_out] = number
    return folds, possible, unreachable


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return n / (classes × cells of the class) for every class, 0 for one without cells. (n,) int -> (n_classes,)."""
    counts = np.bincount(labels, minlength=n_classes)
    present = (counts > 0).sum()
    weights: np.ndarray = np.divide(len(labels), present * counts, out=np.zeros(n_classes), where=counts > 0)
    return weights


def unreachable_classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the classes whose cells all lie in one group: without that group, none of the class is left.

    Parameters
    ----------
    labels
        (n,) int.
    groups
        (n,) int, or (kinds, n): the classes any two cells of which share a group of some kind.

    Examples
    --------
    >>> import numpy as np
    >>> labels, compound, batch = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 2, 3]), np.array([0, 1, 0, 0, 1])
    >>> unreachable_classes(labels, compound).tolist(), unreachable_classes(labels, np.stack([compound, batch])).tolist()
    ([], [])
    >>> unreachable_classes(labels[[0, 2, 3, 4]], np.stack([compound, batch])[:, [0, 2, 3, 4]]).tolist()
    [0]
    """
    if groups.ndim > 1 and len(groups) > 1:
        return np.array([c for c in np.unique(labels) if _all_share(groups[:, labels == c])], dtype=labels.dtype)
    groups = groups.reshape(-1)
    n_groups = int(groups.max(initial=0)) + 1
    classes, counts = np.unique(np.unique(labels * n_groups + groups) // n_groups, return_counts=True)
    unreachable: np.ndarray = classes[counts == 1]
    return unreachable


def _all_share(groups: np.ndarray) -> bool:
    """Return whether any two of n cells share a group of some kind (kinds, n): the pairs that do are counted, by the kinds they share."""
    pairs = 0
    for size in range(1, len(groups) + 1):
        for kinds in combinations(range(len(groups)), size):
            counts = np.unique(groups[list(kinds)], axis=1, return_counts=True)[1].astype(np.int64)
            pairs += (-1) ** (size + 1) * int((counts**2).sum())
    return pairs == int(groups.shape[1]) ** 2
