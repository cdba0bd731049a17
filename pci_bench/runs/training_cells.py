"""Which evaluated cells a supervised network was trained on, and how well it does on the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.statistics.metrics import classification_metrics, classification_spreads, confusion_counts, share_spreads

if TYPE_CHECKING:
    import pandas as pd


def training_cells(obs: pd.DataFrame, dataset: str, trained_on: Mapping[str, str]) -> np.ndarray | None:
    """Return which cells (n,) bool were training cells, or None where the network was trained on another dataset.

    Parameters
    ----------
    obs
        The evaluated cells.
    dataset
        Their dataset; what follows a colon, a variant of the same cells, does not count.
    trained_on
        ``{"dataset": name}``, and ``"split"`` where only the cells with this value in the column ``split`` were training
        cells. Without it, or without that column, every cell counts as one.
    """
    if dataset.partition(":")[0] != trained_on["dataset"].partition(":")[0]:
        return None
    if "split" not in trained_on or "split" not in obs:
        return np.ones(len(obs), bool)
    return (obs["split"].astype("string") == trained_on["split"]).fillna(False).to_numpy(bool)


def without_training_cells(
    predictions: pd.DataFrame, trained: np.ndarray, groups: str, variance: float = 1.0
) -> dict[str, Any]:
    """Return how many predicted cells were training cells, and the metrics of the others: ``{"n": …, "others": …}``.

    Parameters
    ----------
    predictions
        One row per cell: label, predicted (missing where there is none), and perhaps the column `groups`, and `correct`, how often
        the prediction is right; then balanced accuracy is the only metric.
    trained
        Which of them were training cells (n,) bool.
    groups
        Column whose groups intervals draw whole; where there is no such column, they draw cells.
    variance
        What the variance of the predictions is multiplied by, for what they were learned from.
    """
    import pandas as pd

    others = predictions[~trained]
    counts: dict[str, Any] = {"n": int(trained.sum()), "others": {"n": len(others), "metrics": {}, "intervals": {}}}
    if len(others):
        columns = [others[c].astype("string") for c in ("label", "predicted")]
        classes = np.unique(pd.concat(columns).dropna().to_numpy(str))
        labels, predicted = (pd.Categorical(c, categories=classes).codes.astype(np.int64) for c in columns)
        drawn = pd.factorize(others[groups].astype("string"))[0] if groups in others else None
        if "correct" in others:  # each prediction is a share over draws
            shares = others["correct"].to_numpy(float)
            value, spread, _ = share_spreads(labels, shares, drawn, len(classes))
            counts["others"]["metrics"] = {"balanced_accuracy": value}
            counts["others"]["intervals"] = {"balanced_accuracy": spread.times(variance).interval(value, low=0, high=1)}
            return counts
        spreads, _ = classification_spreads(labels, predicted, drawn, len(classes))
        exact = classification_metrics(confusion_counts(labels, predicted, len(classes)))
        counts["others"]["metrics"] = {name: float(value) for name, value in exact.items()}
        counts["others"]["intervals"] = {
            name: spreads[name].times(variance).interval(float(value), low=0, high=1) for name, value in exact.items()
        }
    return counts
