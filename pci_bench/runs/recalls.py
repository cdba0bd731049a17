"""Predictions of a classification as arrays, and the intervals of every class's recall, which results do not store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.runs.paired import confounder_column
from pci_bench.runs.results import training_variance
from pci_bench.statistics.metrics import recall_spreads, share_spreads

if TYPE_CHECKING:
    from pci_bench.runs.results import Result

NO_NEIGHBOUR = "(no neighbour)"


def confusion_of(result: Result) -> tuple[list[str], np.ndarray]:
    """Return labels, and whole numbers of cells by true class (rows) and predicted class (columns)."""
    confusion = result.details["confusion"]
    return [str(c) for c in confusion["labels"]], np.rint(np.array(confusion["counts"], dtype=float)).astype(np.int64)


@dataclass(frozen=True)
class Predictions:
    """A result's table of predictions as codes of its confusion matrix's labels; −1 where a value is none of them.

    `correct` is how often each prediction is right over draws, or None where it was made once.
    """

    n_classes: int
    names: np.ndarray
    true: np.ndarray
    predicted: np.ndarray
    groups: np.ndarray | None
    correct: np.ndarray | None

    @classmethod
    def of(cls, result: Result) -> Predictions | None:
        """Return the predictions of a result, or None where their file is missing or is of something else."""
        import pandas as pd

        table = result.predictions
        if table is None or not {"cell", "label", "predicted"} <= set(table):
            return None
        labels = [label for label in confusion_of(result)[0] if label != NO_NEIGHBOUR]
        true, predicted = (
            pd.Categorical(table[c].astype("string"), categories=labels).codes.astype(np.int64)
            for c in ("label", "predicted")
        )
        confounder = confounder_column(result)
        groups = None if confounder is None else pd.factorize(table[confounder].astype("string"))[0]
        correct = table["correct"].to_numpy(float) if "correct" in table else None
        return cls(len(labels), table["cell"].astype(str).to_numpy(), true, predicted, groups, correct)

    def confused(self, true: int, predicted: int) -> list[str]:
        """Return the names of the cells of a class that were predicted as another (the last column: as none), sorted."""
        wanted = -1 if predicted == self.n_classes else predicted
        return sorted(self.names[(self.true == true) & (self.predicted == wanted)].tolist())


def recall_intervals(result: Result, predictions: Predictions, n_classes: int) -> list[tuple[float, float]]:
    """Return every class's 95 % interval of its recall, over what the result's own intervals draw."""
    known = predictions.true >= 0
    true, predicted = predictions.true[known], predictions.predicted[known]
    groups = None if predictions.groups is None else predictions.groups[known]
    factor = training_variance(result, grouped=groups is not None)
    if predictions.correct is not None:
        correct = predictions.correct[known]
        spreads = share_spreads(true, correct, groups, n_classes)[2]
    else:
        correct = (true == predicted).astype(float)
        spreads = recall_spreads(true, predicted, groups, n_classes)
    shares = [float(correct[true == c].mean()) if (true == c).any() else 0.0 for c in range(n_classes)]
    return [s.times(factor).interval(share, low=0, high=1) for s, share in zip(spreads, shares, strict=True)]
