"""The interval of the difference between two results on the same cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.runs.results import Result, training_variance
from pci_bench.statistics.intervals import LEVEL, stratified_jackknife
from pci_bench.statistics.metrics import share_spreads

if TYPE_CHECKING:
    import pandas as pd


PREDICTION_COLUMNS = ("cell", "label", "predicted", "fold", "correct")


def paired_interval(old: Result, new: Result, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the interval of the difference in balanced accuracy, by a jackknife over what the results' intervals draw.

    Images (the dataset's confounder, a column beside the predictions) are left out of both sides at once, within a class;
    without such a column, or in a class of one image, cells are. The variance is multiplied for what the predictions were
    learned from (:func:`pci_bench.runs.results.training_variance`). Results with folds of cells are means over folds.

    None where a side has no predictions, or they are of different cells.
    """
    both = joined(old, new)
    if both is None:
        return None
    names, labels = np.unique(both["label"].astype(str).to_numpy(), return_inverse=True)
    groups = np.unique(both["group"].to_numpy(str), return_inverse=True)[1] if "group" in both else None
    n_classes = len(names)
    factor = max(training_variance(r, grouped=groups is not None) for r in (old, new))
    right_old, right_new = (both[f"right_{side}"].to_numpy(float) for side in ("old", "new"))
    if any((right % 1 != 0).any() for right in (right_old, right_new)):
        value, spread, _ = share_spreads(labels, right_new - right_old, groups, n_classes)
        return spread.times(factor).interval(value, level=level, low=-1, high=1)
    sides: list[tuple[int, np.ndarray, np.ndarray]] = []  # number of folds, each cell's, whether it is right
    for result, side in ((old, "old"), (new, "new")):
        fold = np.zeros(len(both), np.int64)
        if f"fold_{side}" in both and result.evaluator.params.get("exclude", "cell") == "cell":
            fold = np.unique(both[f"fold_{side}"].to_numpy(), return_inverse=True)[1]
        sides.append((int(fold.max()) + 1, fold, both[f"right_{side}"].to_numpy(int)))
    widths = [2 * folds for folds, _, _ in sides]
    codes = np.array([2 * fold + right for _, fold, right in sides])

    def difference(counts: np.ndarray) -> dict[str, np.ndarray]:
        joint = counts.reshape(*counts.shape[:-1], *widths)
        values = []
        for axis, (folds, _, _) in zip((-1, -2), sides, strict=True):
            own = joint.sum(axis=axis).reshape(*counts.shape[:-1], folds, 2)
            cells = own.sum(axis=-1)
            share = np.divide(own[..., 1], cells, out=np.zeros(cells.shape), where=cells > 0)
            values.append((share.sum(axis=-2) / np.maximum((cells > 0).sum(axis=-2), 1)).mean(axis=-1))
        return {"difference": values[1] - values[0]}

    shape = (n_classes, widths[0] * widths[1])
    code = codes[0] * widths[1] + codes[1]
    spreads, _ = stratified_jackknife(labels, code, groups, shape, difference)
    value = float(
        difference(np.bincount(labels * shape[1] + code, minlength=shape[0] * shape[1]).reshape(shape))["difference"]
    )
    return spreads["difference"].times(factor).interval(value, level=level, low=-1, high=1)


def separable(better: Result, worse: Result, metric: str, *, comparisons: int = 1) -> bool:
    """Return whether the interval of the paired difference leaves out 0; without predictions, whether intervals are disjoint.

    Parameters
    ----------
    better, worse
        Two results of one evaluation.
    metric
        What is compared.
    comparisons
        How many pairs could be compared: the paired interval's level is 1 − 0.05 / `comparisons` (Bonferroni), so that with
        a chance of at most 5 % any two equally good ones of a ranking are called different.
    """
    paired = paired_interval(worse, better, 1 - (1 - LEVEL) / comparisons) if metric == "balanced_accuracy" else None
    if paired is not None:
        return paired[0] > 0
    if metric not in better.intervals or metric not in worse.intervals:
        return better.metrics[metric] != worse.metrics[metric]
    return better.intervals[metric][0] > worse.intervals[metric][1]


def joined(old: Result, new: Result) -> pd.DataFrame | None:
    """Return one row per cell with how often each side is right, its folds, and its ``group`` where both know the confounder.

    None where a side has no predictions, or they are not of the same cells.
    """
    before, after = old.predictions, new.predictions
    if before is None or after is None or not {"cell", "label", "predicted"} <= set(before) & set(after):
        return None
    sides = [
        table.assign(right=_rightness(table)).set_index("cell")[["label", "right", *({"fold"} & set(table))]]
        for table in (before, after)
    ]
    if set(sides[0].index) != set(sides[1].index):
        return None
    if len({*map(len, sides), sides[0].index.nunique()}) > 1:
        return None
    per_cell = sides[0].add_suffix("_old").join(sides[1].add_suffix("_new")).rename(columns={"label_old": "label"})
    confounder = confounder_column(old)
    if confounder is not None and confounder == confounder_column(new):
        per_cell["group"] = before.set_index("cell")[confounder].astype("string").fillna("")
    return per_cell


def _rightness(predictions: pd.DataFrame) -> pd.Series:
    """Return how often each prediction is right: 0 or 1, or a share where it was made in several draws."""
    if "correct" in predictions:
        return predictions["correct"].astype(float)
    return (predictions["label"].astype(str) == predictions["predicted"].astype(str)).astype(float)


def confounder_column(result: Result) -> str | None:
    """Return the column beside a result's predictions that holds the dataset's confounder, or None.

    Of results that were written before they said it: the first column that is none of the predictions' own.
    """
    columns = [] if result.predictions is None else list(map(str, result.predictions))
    if result.dataset.confounder is None:
        return next((c for c in columns if c not in PREDICTION_COLUMNS), None)
    return result.dataset.confounder if result.dataset.confounder in columns else None
