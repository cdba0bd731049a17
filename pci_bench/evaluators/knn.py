"""Leave-one-out k-nearest-neighbour classification (paper: Table 1, Figure 2A, Supplementary Table 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import (
    EvaluatorMeta,
    Outcome,
    Run,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
    standardized,
)
from pci_bench.evaluators.metrics import (
    bootstrap_confusions,
    classification_metrics,
    confusion_counts,
    percentile_interval,
    recalls,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

REPLICATES = 1000


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


def unreachable_classes(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the classes whose cells all lie in one group, so that none can have a neighbour of its class."""
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    classes, counts = np.unique(pairs[:, 0], return_counts=True)
    return classes[counts == 1]


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
        "1",
        "Leave-one-out k-nearest-neighbour classification",
        "balanced_accuracy",
        key=("k", "exclude"),
        any_order=True,
    )
    Params = LooKnnParams

    def skip(self, adata: AnnData, params: LooKnnParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        name = adata.uns.get("pci_bench", {}).get("dataset", {}).get("name", "the table")
        if "label" not in adata.obs or (labelled := _labelled(adata)).sum() == 0:
            return (
                f"{name} has no labels. Give every image a label (for folder:PATH, a column 'label' in PATH/images.csv)"
            )
        if len(set(adata.obs["label"][labelled].astype(str))) < 2:
            return f"all labelled cells of {name} have one label; classification needs at least two classes"
        if params.k >= labelled.sum():
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {name} has {int(labelled.sum())}. Use a smaller --k"
        column = resolve_exclude(adata, params.exclude)
        if not column:
            return f"{name} declares no confounder"
        if column != "cell" and column not in adata.obs:
            return f"{name} has no column '{column}' to exclude by; its columns are {', '.join(adata.obs.columns)}"
        if column != "cell" and _empty(adata.obs[labelled], column):
            return f"the column '{column}' of {name} is empty, so there is nothing to exclude by"
        labels = adata.obs["label"][labelled].astype(str).to_numpy()
        groups = exclusion_groups(adata, column)[labelled]
        if len(unreachable_classes(np.unique(labels, return_inverse=True)[1], groups)) == len(set(labels)):
            return f"every class lies in one '{column}', so with exclude={column} no cell can have a neighbour of its own class"
        return None

    def __call__(self, adata: AnnData, grid: list[LooKnnParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: metrics, intervals, per-class recalls, confusion, predictions."""
        labelled = _labelled(adata)
        if not np.isfinite(values := np.asarray(adata.X)[labelled]).all():
            raise UserError("The features hold NaN or infinite values; leave-one-out kNN needs finite ones.")
        obs = adata.obs[labelled]
        classes, labels = np.unique(obs["label"].astype(str).to_numpy(), return_inverse=True)
        columns = list(dict.fromkeys(resolve_exclude(adata, p.exclude) for p in grid))
        groupings = {column: exclusion_groups(adata, column)[labelled] for column in columns}
        confounder = resolve_exclude(adata, "confounder")
        resampled = (
            exclusion_groups(adata, confounder)[labelled] if confounder in obs and not _empty(obs, confounder) else None
        )
        predictions: dict[tuple[str, int, str], np.ndarray] = {}
        for scale in dict.fromkeys(p.scale for p in grid):
            ks = [p.k for p in grid if p.scale == scale]
            features = standardized(values) if scale == "all" else values
            for (k, position), predicted in loo_knn_predict(features, labels, ks, list(groupings.values())).items():
                predictions[scale, k, columns[position]] = predicted
        for params in grid:
            column = resolve_exclude(adata, params.exclude)
            predicted = predictions[params.scale, params.k, column]
            yield _outcome(
                params.model_copy(update={"exclude": column}).model_dump(),
                classes,
                labels,
                predicted,
                groupings[column],
                resampled,
                confounder,
                obs,
                run.seed,
            )


def _labelled(adata: AnnData) -> np.ndarray:
    labels = adata.obs["label"].astype("string")
    return (labels.notna() & (labels != "")).to_numpy(bool)


def _empty(obs: pd.DataFrame, column: str) -> bool:
    return bool((obs[column].astype("string").fillna("") == "").all())


def _outcome(params, classes, labels, predicted, groups, resampled, confounder, obs, seed) -> Outcome:
    """Return metrics, intervals and details of one set of predictions."""
    import pandas as pd

    n_classes = len(classes)
    confusion = confusion_counts(labels, predicted, n_classes)
    metrics = {name: float(value) for name, value in classification_metrics(confusion).items()}
    replicates, by_group = bootstrap_confusions(
        labels, predicted, resampled, n_classes, replicates=REPLICATES, seed=seed
    )
    intervals = {name: percentile_interval(v) for name, v in classification_metrics(replicates).items()}
    if by_group.all():
        unit = confounder
    elif by_group.any():
        unit = f"{confounder} (cells in {', '.join(classes[~by_group])}, which lie in one {confounder})"
    else:
        unit = "cells"
    unreachable = classes[unreachable_classes(labels, groups)]
    none = int((predicted < 0).sum())
    details = {
        "per_class": {str(c): float(r) for c, r in zip(classes, recalls(confusion), strict=True)},
        "confusion": {
            "labels": [*map(str, classes), *(["(no neighbour)"] if none else [])],
            "counts": confusion[:, : n_classes + bool(none)].tolist(),
        },
        "interval": f"bootstrap of predictions over {unit} within class, {REPLICATES}",
    }
    if len(unreachable):
        details["unreachable_classes"] = [str(c) for c in unreachable]
    table = pd.DataFrame(
        {
            "cell": obs["cell"].astype(str).to_numpy() if "cell" in obs else obs.index.astype(str),
            "label": pd.Categorical.from_codes(labels, classes),
            "predicted": pd.Categorical.from_codes(predicted, classes),
        }
    )
    if resampled is not None:
        table[confounder] = obs[confounder].astype(str).to_numpy()
    return Outcome(params, metrics, intervals, details, table)
