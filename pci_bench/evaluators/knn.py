"""Leave-one-out k-nearest-neighbour classification (paper: Table 1, Figure 2A, Supplementary Table 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from pci_bench.evaluators.base import (
    EvaluatorMeta,
    Outcome,
    Run,
    dataset_name,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
    standardized,
)
from pci_bench.evaluators.intervals import training_variance
from pci_bench.evaluators.labelled import LabelledCells, labelled, unreachable_classes, why_not_classify

if TYPE_CHECKING:
    from anndata import AnnData


def loo_neighbors(features: np.ndarray, k: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's k nearest other rows and their Euclidean distances, exact to float64.

    Parameters
    ----------
    features
        (n, d), finite; used as they are (standardise first where that is wanted).
    k
        1 … n − 1.
    groups
        (n,) int; neighbours come from other groups only. Default: every row is a group, which is leave-one-out.

    Returns
    -------
    indices
        (n, k) int64, nearest first, rows at equal distance in index order; never the row itself, even among duplicates.
        −1 where fewer than k rows belong to other groups.
    distances
        (n, k) float64; infinity where the index is −1.

    Raises
    ------
    UserError
        For NaN or infinite features, or k outside 1 … n − 1.
    """
    from pci_bench.evaluators.compiled.neighbors import nearest

    return nearest(features, k, [np.arange(len(features)) if groups is None else np.asarray(groups)])[0]


def majority_vote(neighbor_labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the most frequent label of each row; ties go to the smallest label, as scikit-learn.

    (n, k) int -> (n,) int. Labels of −1 do not vote; a row without any vote is −1.
    """
    n = len(neighbor_labels)
    rows, places = np.nonzero(neighbor_labels >= 0)
    votes = np.bincount(rows * n_classes + neighbor_labels[rows, places], minlength=n * n_classes).reshape(n, n_classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


def loo_knn_predict(
    features: np.ndarray, labels: np.ndarray, ks: Sequence[int], groupings: Sequence[np.ndarray]
) -> dict[tuple[int, int], np.ndarray]:
    """Return leave-one-out predictions for every k and grouping, from one search at the largest k.

    Parameters
    ----------
    features
        (n, d).
    labels
        (n,) int, 0 … classes − 1.
    ks
        Numbers of neighbours.
    groupings
        Each (n,) int: neighbours come from other groups only.

    Returns
    -------
    dict
        (n,) int predictions by (k, position of the grouping); −1 where a row has no possible neighbour.
    """
    from pci_bench.evaluators.compiled.neighbors import nearest

    n_classes = int(labels.max()) + 1
    found = {}
    for position, (indices, _) in enumerate(nearest(features, max(ks), groupings)):
        votes = np.where(indices >= 0, labels[indices], -1)
        for k in ks:
            found[k, position] = majority_vote(votes[:, :k], n_classes)
    return found


class LooKnnParams(pydantic.BaseModel):
    """Parameters of leave-one-out kNN."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    exclude: str = pydantic.Field("cell", min_length=1, description="obs column whose value neighbours must not share")
    scale: Literal["all", "none"] = pydantic.Field("all", description="standardise over all evaluated cells, or not")


@register_evaluator("loo-knn")
class LooKnn:
    """Balanced accuracy of the majority of a cell's k nearest neighbours, the cell itself left out.

    Distances are Euclidean on standardised features. ``exclude=field`` also leaves out neighbours of the cell's own field
    of view, so that recognising the field does not count as recognising the class.
    """

    meta = EvaluatorMeta(
        "loo-knn",
        "2",
        "Leave-one-out k-nearest-neighbour classification",
        "balanced_accuracy",
        key=("k", "exclude"),
        any_order=True,
        reusable=True,
    )
    Params = LooKnnParams

    def skip(self, adata: AnnData, params: LooKnnParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        if reason := why_not_classify(adata, params.exclude):
            return reason
        if params.k >= (count := int(labelled(adata).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset_name(adata)} has {count}. Use a smaller --k"
        return None

    def __call__(self, adata: AnnData, grid: list[LooKnnParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: metrics, intervals, per-class recalls, confusion, predictions."""
        cells = LabelledCells.of(adata)
        values, labels = cells.values, cells.labels
        columns = list(dict.fromkeys(resolve_exclude(adata, p.exclude) for p in grid))
        groupings = {column: exclusion_groups(adata, column)[labelled(adata)] for column in columns}
        predictions: dict[tuple[str, int, str], np.ndarray] = {}
        for scale in dict.fromkeys(p.scale for p in grid):
            ks = [p.k for p in grid if p.scale == scale]
            features = standardized(values) if scale == "all" else values
            for (k, position), predicted in loo_knn_predict(features, labels, ks, list(groupings.values())).items():
                predictions[scale, k, columns[position]] = predicted
        for params in grid:
            column = resolve_exclude(adata, params.exclude)
            predicted = predictions[params.scale, params.k, column]
            resolved = params.model_copy(update={"exclude": column}).model_dump()
            yield cells.outcome(
                resolved,
                predicted,
                unreachable=unreachable_classes(labels, groupings[column]),
                variance=training_variance(self.meta.name, whole_units=cells.whole_units(groupings[column])),
            )
