"""How far clusters of cells and their distances agree with the labels, beside what shuffled labels give."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    AS_GIVEN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import exclusion_groups, obs_codes, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.labelled import (
    SUBSET,
    LabelledCells,
    classes_unavailable_reason,
    labelled,
    subset_unavailable_reason,
)
from pci_bench.statistics.chance import permuted_labels
from pci_bench.statistics.clustering import (
    BesideNull,
    agreement,
    leiden_clusters,
    mean_silhouettes,
    neighbor_graph,
    shuffled_within,
)
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix

MEASURES = ("nmi", "ari", "silhouette")
NULLS = {
    "cells": "among all cells",
    "confounder": "among cells of one value of '{confounder}'",
    "images": "whole images, exchanged",
}


class ClusteringParams(pydantic.BaseModel):
    """Parameters of the agreement of clusters with labels."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    resolution: float = pydantic.Field(
        1.0, gt=0, allow_inf_nan=False, description="of Leiden: more gives more clusters"
    )
    null: Literal["cells", "confounder", "images"] = pydantic.Field(
        "cells",
        description="labels are shuffled among all cells, or among those that share the confounder's value, or exchanged between images",
    )
    k: int = pydantic.Field(15, ge=1, description="nearest neighbours that are joined in the graph")
    scale: Literal["all", "none"] = pydantic.Field(
        "all", description="standardise over all evaluated cells, or not", json_schema_extra=AS_GIVEN
    )
    permutations: int = pydantic.Field(100, ge=2, description="of labels, for the null")
    subset: str = pydantic.Field("", description=SUBSET)


@register_evaluator("clustering-agreement")
class ClusteringAgreement(Evaluator):
    """Normalised mutual information and adjusted Rand index of Leiden's clusters and the labels, and the labels' silhouette.

    Each beside its null: the same number for shuffled labels and the same clusters and distances. ``nmi`` is the value,
    ``nmi_null`` and ``nmi_null_95`` the mean and the 95th percentile of the null, ``nmi_excess`` the value minus the mean, and
    ``nmi_z`` that over the null's standard deviation; likewise ``ari`` and ``silhouette``. Feature sets are compared by the
    excess: what they score with shuffled labels differs between them, and says nothing about biology (MorphoHELM 2026).

    ``null=cells`` shuffles the labels of single cells. ``null=confounder`` shuffles them among cells of one plate (or what the
    dataset's confounder is), so that different numbers of a class on the plates stay. ``null=images`` exchanges the labels of whole images: what is in excess
    of it is more than images being unlike each other.

    NMI is I(clusters; labels) over the mean of both entropies, 1 where they are the same partition. ARI (Hubert and Arabie 1985, doi
    10.1007/BF01908075) is (agreeing pairs − their mean at random) / (largest number of such pairs − their mean at random).

    Clusters: the graph of the k nearest neighbours (Euclidean, all features; no embedding), Leiden (Traag, Waltman and van Eck 2019,
    doi 10.1038/s41598-019-41695-z) by graspologic-native. Silhouette: Rousseeuw 1987, mean over cells.
    """

    meta = EvaluatorMeta(
        "clustering-agreement",
        "1",
        "Agreement of clusters with labels, in excess of shuffled labels",
        "nmi_excess",
        key=("resolution", "null"),
        metrics={
            "clusters": Metric("count"),
            **{f"{name}_z": Metric(decimals=1) for name in MEASURES},
            **{f"{name}_{part}": Metric(higher_is_better=False) for name in MEASURES for part in ("null", "null_95")},
        },
        order_invariant=True,
        reusable=True,
    )
    Params = ClusteringParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ClusteringParams) -> str | None:
        """Return why there is nothing to compare, or why a null would leave labels as they are, or None."""
        name = dataset.display_name
        if reason := subset_unavailable_reason(obs, dataset, params.subset):
            return reason
        kept = obs[labelled(obs, params.subset)] if "label" in obs else obs
        if reason := classes_unavailable_reason(kept, dataset):
            return reason
        if params.k >= len(kept):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {name} has {len(kept)}. Use a smaller --k"
        if params.null == "cells":
            return None
        column = "image" if params.null == "images" else resolve_exclude("confounder", dataset)
        if not column:
            return f"{name} declares no confounder within which labels could be shuffled"
        values = obs_strings(kept, column)
        if not (values != "").all():
            return f"null={params.null} needs the column '{column}' of every labelled cell of {name}"
        labels = obs_codes(kept, "label")
        one_each = len(np.unique(np.stack([values, labels.astype(str)]), axis=1)[0]) == len(np.unique(values))
        if params.null == "confounder" and one_each:
            return f"every '{column}' of {name} has one label, so that shuffling within it changes nothing; use null=images"
        if params.null == "images" and len(np.unique(values)) < 2:
            return f"all labelled cells of {name} are of one image, so that there is none to exchange labels with"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[ClusteringParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield each measure beside its null; graphs, clusters and silhouettes are shared among parameters."""
        import pandas as pd

        confounder = resolve_exclude("confounder", Provenance.of(adata).dataset)

        @cache
        def cells(subset: str) -> LabelledCells:
            return LabelledCells.of(adata[np.argsort(_names(adata.obs), kind="stable")], subset)

        @cache
        def features(subset: str, scale: str) -> np.ndarray:
            values = cells(subset).values
            return standardized(values) if scale == "all" else np.asarray(values, np.float64)

        @cache
        def graph(subset: str, scale: str, k: int) -> csr_matrix:
            return neighbor_graph(features(subset, scale), k)

        @cache
        def clusters_of(subset: str, scale: str, k: int, resolution: float) -> np.ndarray:
            return leiden_clusters(graph(subset, scale, k), resolution, context.seed)

        @cache
        def shuffled(subset: str, null: str, permutations: int) -> np.ndarray:
            labels, obs = cells(subset).labels, cells(subset).obs
            if null == "images":
                return permuted_labels(labels, exclusion_groups(obs, "image"), permutations, context.seed)
            groups = exclusion_groups(obs, confounder) if null == "confounder" else np.zeros(len(labels), np.int64)
            return shuffled_within(labels, groups, permutations, context.seed)

        @cache
        def silhouette(subset: str, scale: str, null: str, permutations: int) -> BesideNull:
            labels, null_labels = cells(subset).labels, shuffled(subset, null, permutations)
            first, *others = mean_silhouettes(features(subset, scale), np.concatenate([labels[None], null_labels]))
            return BesideNull(float(first), np.array(others))

        for params in param_sets:
            labels = cells(params.subset).labels
            clusters = clusters_of(params.subset, params.scale, params.k, params.resolution)
            null_labels = shuffled(params.subset, params.null, params.permutations)
            measures = agreement(clusters, labels, null_labels) | {
                "silhouette": silhouette(params.subset, params.scale, params.null, params.permutations)
            }
            metrics = {
                name: value for measure, found in measures.items() for name, value in found.metrics(measure).items()
            }
            values = params.model_dump()
            yield EvaluatorOutput(
                values if params.subset else {n: v for n, v in values.items() if n != "subset"},
                {"clusters": float(clusters.max() + 1), **metrics},
                details={"labels_shuffled": NULLS[params.null].format(confounder=confounder)},
                per_cell=pd.DataFrame(
                    {
                        "cell": cells(params.subset).names,
                        "label": cells(params.subset).classes[labels],
                        "cluster": clusters,
                    }
                ),
            )


def _names(obs: pd.DataFrame) -> np.ndarray:
    return obs_strings(obs, "cell") if "cell" in obs else obs.index.to_numpy(str)
