"""Which evaluated cells a supervised network was trained on, and how well it does on the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.evaluators.balanced import bootstrap_recalls
from pci_bench.evaluators.metrics import (
    bootstrap_confusions,
    classification_metrics,
    confusion_counts,
    percentile_interval,
)

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


def without_training_cells(predictions: pd.DataFrame, trained: np.ndarray, groups: str, seed: int) -> dict[str, Any]:
    """Return how many predicted cells were training cells, and the metrics of the others: ``{"n": …, "others": …}``.

    Parameters
    ----------
    predictions
        One row per cell: label, predicted (missing where there is none), and perhaps the column `groups`, and `correct`, how often
        the prediction is right; then balanced accuracy is the only metric.
    trained
        Which of them were training cells (n,) bool.
    groups
        Column whose groups the bootstrap draws whole; where there is no such column, it draws cells.
    seed
        Of the bootstrap.
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
            correct = others["correct"].to_numpy(float)
            exact_recalls = pd.Series(correct).groupby(labels).mean()
            drawn_recalls = bootstrap_recalls(labels, correct, drawn, len(classes), replicates=1000, seed=seed)
            counts["others"]["metrics"] = {"balanced_accuracy": float(exact_recalls.mean())}
            counts["others"]["intervals"] = {
                "balanced_accuracy": percentile_interval(np.nanmean(drawn_recalls, axis=1))
            }
            return counts
        replicates, _ = bootstrap_confusions(labels, predicted, drawn, len(classes), seed=seed)
        exact = classification_metrics(confusion_counts(labels, predicted, len(classes)))
        counts["others"]["metrics"] = {name: float(value) for name, value in exact.items()}
        counts["others"]["intervals"] = {
            name: percentile_interval(values) for name, values in classification_metrics(replicates).items()
        }
    return counts
