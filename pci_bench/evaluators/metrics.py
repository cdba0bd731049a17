"""Classification metrics from confusion matrices, and their bootstrap intervals. Pure functions of arrays."""

from __future__ import annotations

import numpy as np


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, n_classes: int) -> np.ndarray:
    """Return how often each class was predicted as each: (n_classes, n_classes + 1) int.

    Parameters
    ----------
    labels
        True classes (n,) int, 0 … n_classes − 1.
    predicted
        Predicted classes (n,) int; −1, "no prediction", is counted in the last column.
    n_classes
        Number of classes.
    """
    columns = np.where(predicted < 0, n_classes, predicted)
    flat = np.bincount(labels * (n_classes + 1) + columns, minlength=n_classes * (n_classes + 1))
    return flat.reshape(n_classes, n_classes + 1)


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Return each class's recall, NaN for a class without cells. (…, classes, classes + 1) -> (…, classes)."""
    totals = confusion.sum(axis=-1)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(correct, totals, out=np.full(totals.shape, np.nan), where=totals > 0)


def classification_metrics(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Return balanced accuracy, macro-F1 and accuracy of confusion matrices (…, classes, classes + 1) -> (…).

    Balanced accuracy is the mean recall over the classes that have cells (paper: "class-balanced accuracy"); macro-F1 the
    mean over the same classes of 2·TP / (2·TP + FP + FN).
    """
    correct = np.diagonal(confusion, axis1=-2, axis2=-1).astype(float)
    actual = confusion.sum(axis=-1)
    claimed = confusion[..., :-1].sum(axis=-2)
    present = actual > 0
    f1 = np.divide(2 * correct, actual + claimed, out=np.zeros(correct.shape), where=actual + claimed > 0)
    n_present = present.sum(axis=-1)
    return {
        "balanced_accuracy": np.nansum(recalls(confusion), axis=-1) / n_present,
        "macro_f1": np.where(present, f1, 0).sum(axis=-1) / n_present,
        "accuracy": correct.sum(axis=-1) / actual.sum(axis=-1),
    }


def bootstrap_confusions(
    labels: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray | None,
    n_classes: int,
    *,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return bootstrap replicates of a confusion matrix, resampled within each class.

    Whole groups (fields, images: cells that share more than their class) are drawn with replacement within a class, since
    cells of a group are no independent draws. A class with fewer than two groups is resampled by cells.

    Parameters
    ----------
    labels, predicted
        Classes (n,) int; a prediction of −1 is "none".
    groups
        Group of every cell (n,) int, or None to resample cells.
    n_classes
        Number of classes.
    replicates, seed
        How many, and what they depend on.

    Returns
    -------
    (confusions, by_group)
        (replicates, n_classes, n_classes + 1) int, and (n_classes,) bool: which classes were resampled by group.
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((replicates, n_classes, n_classes + 1), np.int64)
    by_group = np.zeros(n_classes, bool)
    for label in range(n_classes):
        members = labels == label
        columns = np.where(predicted[members] < 0, n_classes, predicted[members])
        n = len(columns)
        if n == 0:
            continue
        inverse = None if groups is None else np.unique(groups[members], return_inverse=True)[1]
        if inverse is not None and inverse.max() >= 1:
            by_group[label] = True
            n_groups = inverse.max() + 1
            counts = np.bincount(inverse * (n_classes + 1) + columns, minlength=n_groups * (n_classes + 1))
            draws = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=replicates)
            found[:, label] = draws @ counts.reshape(n_groups, n_classes + 1)
        else:
            found[:, label] = rng.multinomial(n, np.bincount(columns, minlength=n_classes + 1) / n, size=replicates)
    return found, by_group


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the central interval that holds `level` of the replicates."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
