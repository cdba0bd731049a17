"""Classification metrics from confusion matrices, and their spread over images. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pci_bench.statistics.intervals import Spread, mean_spread, stratified_jackknife


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
    shares: np.ndarray = np.divide(correct, totals, out=np.full(totals.shape, np.nan), where=totals > 0)
    return shares


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


def classification_spreads(
    labels: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray | None,
    n_classes: int,
    *,
    folds: np.ndarray | None = None,
) -> tuple[dict[str, Spread], np.ndarray]:
    """Return the spread of every classification metric over groups of cells, drawn within classes.

    Parameters
    ----------
    labels, predicted
        Classes (n,) int; a prediction of −1 is "none".
    groups
        Group of every cell (n,) int, or None to draw cells.
    n_classes
        Number of classes.
    folds
        (n,) int: metrics are means over folds, and a group is left out of all of them at once. Default: one fold.

    Returns
    -------
    (spreads, by_group)
        By metric; and (n_classes,) bool: which classes were drawn by group, having two at least.
    """
    fold = np.zeros(len(labels), np.int64) if folds is None else np.unique(folds, return_inverse=True)[1]
    n_folds, width = int(fold.max()) + 1, n_classes + 1
    codes = fold * width + np.where(predicted < 0, n_classes, predicted)

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        by_fold = np.moveaxis(counts.reshape(*counts.shape[:-1], n_folds, width), -2, -3)
        return {name: values.mean(axis=-1) for name, values in classification_metrics(by_fold).items()}

    return stratified_jackknife(labels, codes, groups, (n_classes, n_folds * width), statistic)


def recall_spreads(
    labels: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None, n_classes: int
) -> list[Spread]:
    """Return the spread of every class's recall, over its groups of cells; parameters as of :func:`classification_spreads`."""

    def statistic(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {str(c): np.nan_to_num(recalls(counts)[..., c]) for c in range(n_classes)}

    codes = np.where(predicted < 0, n_classes, predicted)
    spreads, _ = stratified_jackknife(labels, codes, groups, (n_classes, n_classes + 1), statistic)
    return [spreads[str(c)] for c in range(n_classes)]


def share_spreads(
    labels: np.ndarray, correct: np.ndarray, groups: np.ndarray | None, n_classes: int
) -> tuple[float, Spread, list[Spread]]:
    """Return balanced accuracy of predictions that are right to a share, its spread, and that of every class's recall.

    Parameters
    ----------
    labels, correct
        Class (n,) int of every cell, and how often it is predicted rightly (n,) float, 0 … 1.
    groups
        Group of every cell (n,) int, or None to draw cells; a class in one group is drawn by cells.
    n_classes
        Number of classes; those without cells do not count.

    Examples
    --------
    >>> share_spreads(np.array([0, 0, 1, 1]), np.array([1.0, 0.5, 0.0, 1.0]), None, 2)[0]
    0.625
    """
    counts = np.bincount(labels, minlength=n_classes)
    recall = np.bincount(labels, correct, n_classes) / np.maximum(counts, 1)
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1].copy()
    by_class = []
    for label in range(n_classes):
        members = np.flatnonzero(labels == label)
        if len(np.unique(units[members])) < 2:
            units[members] = units.max() + 1 + np.arange(len(members))
        code = np.unique(units[members], return_inverse=True)[1]
        by_class.append(mean_spread(correct[members], code) if len(members) > 1 else Spread(0.0, 1.0))
    present = int((counts > 0).sum())
    influence = (correct - recall[labels]) * len(labels) / (present * counts[labels])
    spread = mean_spread(influence, np.unique(units, return_inverse=True)[1])
    return float(recall[counts > 0].mean()), spread, by_class


def drawn_unit(classes: Sequence[str] | np.ndarray, by_group: np.ndarray, confounder: str) -> str:
    """Return what an interval's units are, in words: the confounder, or cells, or which classes are drawn by cells."""
    if by_group.all():
        return confounder
    if not by_group.any():
        return "cells"
    alone = ", ".join(str(c) for c, grouped in zip(classes, by_group, strict=True) if not grouped)
    return f"{confounder} (cells in {alone}, which lie in one {confounder})"
