"""What every evaluator of labelled cells shares: which cells have a label, and what can be excluded by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluatorOutput, Metric
from pci_bench.data.observations import (
    exclusion_columns,
    exclusion_groups,
    obs_codes,
    obs_strings,
    resolve_exclude,
)
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.metrics import (
    classification_metrics,
    classification_spreads,
    confusion_counts,
    drawn_unit,
    recalls,
)
from pci_bench.statistics.scaling import all_finite, standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


CLASSIFICATION_METRICS = {name: Metric("percent") for name in ("balanced_accuracy", "macro_f1", "accuracy")}

UNSAID = {"subset": "", "metric": "euclidean"}  # parameters that came later: results without them have these values

SUBSET = "only cells with this value of an obs column, as crowded=no; all where it is empty"


def labelled(obs: pd.DataFrame, subset: str = "") -> np.ndarray:
    """Return which cells have a label (n,) bool, and the value of an obs column that `subset` names as ``column=value``."""
    chosen: np.ndarray = obs_codes(obs, "label") >= 0
    column, _, value = subset.partition("=")
    return chosen & (obs_strings(obs, column) == value) if subset else chosen


def resolved(params: pydantic.BaseModel, exclude: str) -> dict[str, Any]:
    """Return parameters as results keep them: the exclusion by its column, a subset and a metric only where they are not the default."""
    values = {**params.model_dump(), "exclude": exclude}
    return {name: value for name, value in values.items() if UNSAID.get(name, ...) != value}


def subset_unavailable_reason(obs: pd.DataFrame, dataset: DatasetProvenance, subset: str) -> str | None:
    """Return why a subset's cells cannot be told, or None."""
    column, equals, value = subset.partition("=")
    if not subset:
        return None
    if not equals or column not in obs:
        return f"subset = '{subset}' is no column=value; the columns of {dataset.display_name} are {', '.join(obs.columns)}"
    if not (obs_strings(obs, column) == value).any():
        values = ", ".join(np.unique(obs_strings(obs, column))[:5])
        return f"no cell of {dataset.display_name} has '{value}' in its column '{column}', but for example {values}"
    return None


HOW_TO_LABEL = {
    "folder": "Give every image one in a column 'label' of images.csv in that folder, or every cell one in cells.csv",
    "profiles": "Name the column that holds them: profiles:FILE?label=COLUMN",
}
HOW_TO_LABEL_PREPARED = (
    'What `data prepare` cuts gets them by label = "{NAME}" under [obs] of its layout, or by a CSV under [labels]'
)


def classes_unavailable_reason(obs: pd.DataFrame, dataset: DatasetProvenance) -> str | None:
    """Return why the cells have no labels to tell apart, or None."""
    name = dataset.display_name
    if "label" not in obs or (codes := obs_codes(obs, "label")).max(initial=-1) < 0:
        prefix = name.partition(":")[0]
        return f"{name} has no labels. {HOW_TO_LABEL.get(prefix, HOW_TO_LABEL_PREPARED)}"
    if len(np.unique(codes[codes >= 0])) < 2:
        return f"all labelled cells of {name} have one label; classification needs at least two classes"
    return None


def classification_unavailable_reason(
    obs: pd.DataFrame, dataset: DatasetProvenance, exclude: str, subset: str = ""
) -> str | None:
    """Return why the cells' labels cannot be predicted from other cells under an exclusion, or None."""
    if reason := subset_unavailable_reason(obs, dataset, subset):
        return reason
    obs = obs[labelled(obs, subset)] if subset else obs
    if reason := classes_unavailable_reason(obs, dataset):
        return reason
    name, labels = dataset.display_name, obs_codes(obs, "label")
    resolved_exclude = resolve_exclude(exclude, dataset)
    if not resolved_exclude:
        return f"{name} declares no confounder"
    kept = labels >= 0
    columns = exclusion_columns(obs, resolved_exclude)
    for column in columns:
        if column != "cell" and column not in obs:
            return f"{name} has no column '{column}' to exclude by; its columns are {', '.join(obs.columns)}"
        if column != "cell" and obs_codes(obs, column)[kept].max() < 0:
            return f"the column '{column}' of {name} is empty, so there is nothing to exclude by"
    groups = np.stack([exclusion_groups(obs, column)[kept] for column in columns])
    if len(unreachable_classes(labels[kept], groups)) == len(np.unique(labels[kept])):
        where = f"every class lies in one '{columns[0]}'"
        if len(columns) > 1:
            where = f"within every class all cells share a value of {' or '.join(columns)}"
        return f"{where}, so with exclude={resolved_exclude} no cell can have a neighbour of its own class"
    return None


@dataclass(frozen=True)
class LabelledCells:
    """The labelled cells of a table of features, and what an output says of predictions for them.

    Parameters
    ----------
    values
        Features (n, d), finite.
    obs
        Their rows of the table.
    classes, labels
        The classes' names, sorted, and each cell's class (n,) int.
    confounder
        The dataset's confounder, or an empty string.
    groups
        What a bootstrap draws by (n,) int: the confounder's values; None where there are none.
    postprocessed
        Whether the features were post-processed, so that they are compared as they are.
    """

    values: np.ndarray
    obs: pd.DataFrame
    classes: np.ndarray
    labels: np.ndarray
    confounder: str
    groups: np.ndarray | None
    postprocessed: bool = False

    @classmethod
    def of(cls, adata: AnnData, subset: str = "") -> LabelledCells:
        """Return the labelled cells of an AnnData, or those of a subset (:func:`labelled`).

        Raises
        ------
        UserError
            For NaN or infinite features.
        """
        kept = labelled(adata.obs, subset)
        values = np.asarray(adata.X) if kept.all() else np.asarray(adata.X)[kept]
        if not all_finite(values):
            raise UserError("The features hold NaN or infinite values; classification needs finite ones.")
        obs = adata.obs[kept]
        classes, labels = np.unique(obs["label"].astype(str).to_numpy(), return_inverse=True)
        confounder = resolve_exclude("confounder", Provenance.of(adata).dataset)
        known = confounder in obs and obs_codes(obs, confounder).max(initial=-1) >= 0
        groups = exclusion_groups(adata.obs, confounder)[kept] if known else None
        postprocessed = bool(Provenance.of(adata).features.postprocess)
        return cls(values, obs, classes, labels, confounder, groups, postprocessed)

    @property
    def names(self) -> np.ndarray:
        """The cells' names (n,) str."""
        return (self.obs["cell"] if "cell" in self.obs else self.obs.index.to_series()).astype(str).to_numpy()

    def compared(self, values: np.ndarray | None = None) -> np.ndarray:
        """Return the features (n, d) float64 as they are compared: standardised, unless they were post-processed.

        Or those of other cells, standardised by these.
        """
        if self.postprocessed:
            return np.asarray(self.values if values is None else values, np.float64)
        return standardized(self.values) if values is None else standardized(values, self.values)

    def whole_units(self, groups: np.ndarray) -> bool:
        """Return whether each unit that intervals draw (the confounder's value, or the cell) lies in one of some groups (n,) int."""
        return self.groups is None or len(np.unique(np.stack([self.groups, groups], axis=1), axis=0)) == len(
            np.unique(self.groups)
        )

    def output(
        self,
        params: dict[str, Any],
        predicted: np.ndarray,
        *,
        unreachable: Sequence[int] | np.ndarray = (),
        folds: np.ndarray | None = None,
        pooled: bool = False,
        variance: float = 1.0,
        details: dict[str, Any] | None = None,
        confusion: np.ndarray | None = None,
        intervals: dict[str, tuple[float, float]] | None = None,
        interval_name: str = "",
    ) -> EvaluatorOutput:
        """Return metrics with intervals, recalls, the confusion matrix and a row per cell.

        Parameters
        ----------
        params
            Parameters, resolved.
        predicted
            Each cell's predicted class (n,) int; −1 where there is none.
        unreachable
            Classes that nothing could be learned about.
        folds
            Each cell's fold (n,) int. Default: one fold.
        pooled
            Whether metrics are of the held-out predictions of all folds together, and not means over the folds.
        variance
            What the variance of the predictions is multiplied by, for what they were learned from.
        details
            More to say.
        confusion
            Expected counts (n_classes, n_classes + 1) float in place of those of `predicted`.
        intervals, interval_name
            By metric, and what they are, where the evaluator has better ones than those of its predictions.
        """
        import pandas as pd

        n_classes = len(self.classes)
        folds = np.zeros(len(predicted), np.int64) if folds is None else folds
        counted = np.zeros(len(predicted), np.int64) if pooled else folds
        metrics = self._means(predicted, counted)
        if intervals is None:
            spreads, by_group = classification_spreads(self.labels, predicted, self.groups, n_classes, folds=counted)
            intervals = {
                name: spreads[name].times(variance).interval(value, low=0, high=1) for name, value in metrics.items()
            }
            unit = drawn_unit(self.classes, by_group, self.confounder)
            interval_name = (
                f"jackknife of predictions over {unit} within class, "
                f"{f'variance × {variance:g} for the cells learned from' if variance != 1 else 'predictor as it is'}"
            )
        if confusion is None:
            confusion = confusion_counts(self.labels, predicted, n_classes)
        else:
            metrics = {name: float(value) for name, value in classification_metrics(confusion).items()}
        none = bool(confusion[:, n_classes].any())
        all_details: dict[str, Any] = {
            "per_class": {str(c): float(r) for c, r in zip(self.classes, recalls(confusion), strict=True)},
            "confusion": {
                "labels": [*map(str, self.classes), *(["(no neighbour)"] if none else [])],
                "counts": confusion[:, : n_classes + none].round(6).tolist(),
            },
            "interval": interval_name,
            **(details or {}),
        }
        if len(unreachable):
            all_details["unreachable_classes"] = [str(self.classes[c]) for c in unreachable]
        table = pd.DataFrame(
            {
                "cell": self.names,
                "label": pd.Categorical.from_codes(self.labels, pd.Index(self.classes)),
                "predicted": pd.Categorical.from_codes(predicted, pd.Index(self.classes)),
            }
        )
        if len(np.unique(folds)) > 1:
            all_details["folds"] = [
                self._means(predicted[inside], folds[inside], self.labels[inside])
                for inside in (folds == f for f in np.unique(folds))
            ]
            table["fold"] = folds
        if self.groups is not None:
            table[self.confounder] = self.obs[self.confounder].astype(str).to_numpy()
        return EvaluatorOutput(params, metrics, intervals, all_details, table)

    def _means(self, predicted: np.ndarray, folds: np.ndarray, labels: np.ndarray | None = None) -> dict[str, float]:
        """Return means over folds of the metrics of some predictions."""
        labels = self.labels if labels is None else labels
        by_fold = [
            classification_metrics(confusion_counts(labels[folds == f], predicted[folds == f], len(self.classes)))
            for f in np.unique(folds)
        ]
        return {name: float(np.mean([m[name] for m in by_fold])) for name in by_fold[0]}
