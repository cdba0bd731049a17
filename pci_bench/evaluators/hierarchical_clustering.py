"""Ward clustering of proteins by the mean features of their cells (paper: Figure 4, Supplementary Figures 4 and 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.examples import of_clusters
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.evaluators.comparable import comparable
from pci_bench.evaluators.protein_clusters import (
    ClusterParams,
    Proteins,
    clustering_unavailable_reason,
    clusters_of,
    in_subset,
    terms_by_protein,
    with_proteins,
)
from pci_bench.statistics.linkage import clade, cophenetic_correlation, leaf_order, ward_linkage
from pci_bench.statistics.named_clusters import levels, recovered_classes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

QUALITY_ROWS = 1000


class HierarchicalClusteringParams(ClusterParams):
    """Parameters of the clustering of proteins."""

    around: str = pydantic.Field("", description="protein whose clade is listed; none where empty")
    clade_size: int = pydantic.Field(32, ge=2, description="fewest proteins of that clade")
    min_class: int = pydantic.Field(
        30,
        ge=2,
        description="fewest proteins with one localization only that make it a class which clusters may recover",
    )


def protein_table(proteins: Proteins, clusters: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a row per protein in leaf order: its largest and smallest cluster, label and number of cells."""
    import pandas as pd

    outer, inner = levels(clusters, len(proteins.names))
    table = pd.DataFrame(
        {
            "protein": proteins.names,
            "leaf": np.arange(len(proteins.names)),
            "cluster": outer,
            "subcluster": np.where(inner == outer, "", inner),
            "label": proteins.label,
            "n_cells": proteins.n_cells,
        }
    )
    return table.iloc[proteins.order].reset_index(drop=True)


def feature_table(proteins: Proteins, rows: np.ndarray) -> pd.DataFrame:
    """Return standardised means of some proteins, to three decimals; features in the order of their own Ward tree."""
    import pandas as pd

    d = proteins.features.shape[1]
    columns = leaf_order(ward_linkage(proteins.features.T)) if d > 1 else np.arange(d)
    values = np.round(proteins.features[np.ix_(rows, columns)], 3)
    table = pd.DataFrame(values, columns=proteins.feature_names[columns])
    table.insert(0, "protein", proteins.names[rows], allow_duplicates=True)
    return table


@register_evaluator("hierarchical-clustering")
class HierarchicalClustering(Evaluator):
    """Ward clustering of proteins: mean over each one's cells, standardised over all proteins.

    Tables: the linkage (its leaves are numbered as the proteins are sorted), every protein with its clusters in the tree's order, the features
    that a heat map shows, and the smallest clade of so many proteins around one; where the cells are given, crops of three
    proteins of every cluster. ``recovered_classes`` is the share of localization classes that a cluster is enriched for (the
    paper: "about 15 of the 18"), and the table ``classes`` says which and where.
    """

    meta = EvaluatorMeta(
        "hierarchical-clustering",
        "1",
        "Ward clustering of proteins",
        "cophenetic_correlation",
        key=("k",),
        order_invariant=True,
    )
    Params = HierarchicalClusteringParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: HierarchicalClusteringParams
    ) -> str | None:
        """Return why the proteins cannot be clustered, or None."""
        if reason := clustering_unavailable_reason(obs, params):
            return reason
        chosen = in_subset(terms_by_protein(obs), params.subset, params.subset_terms)
        if params.around and params.around not in chosen:
            return f"the protein '{params.around}', around which a clade is asked for, is not among the {len(chosen)}"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[HierarchicalClusteringParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield clusters, how well tree and labels agree, and tables."""
        import pandas as pd
        from sklearn.metrics import adjusted_rand_score

        terms = terms_by_protein(adata.obs)
        for params, proteins in with_proteins(adata, param_sets):
            n = len(proteins.names)
            clusters, note = clusters_of(proteins, params)
            outer, inner = levels(clusters, n)
            some = np.sort(np.random.default_rng(context.seed).permutation(n)[:QUALITY_ROWS])
            metrics = {
                "cophenetic_correlation": cophenetic_correlation(proteins.features, proteins.linkage, some),
            }
            judged = (proteins.label != "") & (outer != "")
            if len(set(proteins.label[judged])) > 1:  # else there is nothing to agree with
                metrics["adjusted_rand_index"] = float(adjusted_rand_score(proteins.label[judged], outer[judged]))
                if (inner != outer).any():
                    finer = adjusted_rand_score(proteins.label[judged], inner[judged])
                    metrics["adjusted_rand_index_of_subclusters"] = float(finer)
            table = protein_table(proteins, clusters)
            tables = {
                "linkage": pd.DataFrame(proteins.linkage, columns=["left", "right", "height", "proteins"]),
                "proteins": table,
            }
            details: dict[str, Any] = {
                "n_proteins": n,
                "n_clusters": len(set(outer) - {""}),
                "n_judged": int(judged.sum()),
                "cophenetic_proteins": len(some),
                "sizes": {name: len(members) for name, members in clusters.items()},
            }
            classes = recovered_classes(clusters, [terms[str(name)] for name in proteins.names], params.min_class)
            if len(classes):  # else there is none to recover
                metrics["recovered_classes"] = float(classes["recovered"].mean())
                details["recovered_classes"] = {"recovered": int(classes["recovered"].sum()), "classes": len(classes)}
                tables["classes"] = classes
            if note:
                details["clusters_file"] = note
            if context.cells is not None:
                pictured = (obs_strings(adata.obs, "protein"), proteins.names, proteins.features, outer)
                tables["crops"] = of_clusters(context.cells, comparable(adata, np.asarray(adata.X)), *pictured)
            rows = proteins.order
            if params.around:
                (leaf,) = np.flatnonzero(proteins.names == params.around)
                rows = clade(proteins.linkage, int(leaf), params.clade_size)
                same = proteins.label[rows] == proteins.label[leaf]
                share = float(same.mean()) if proteins.label[leaf] else None
                details["clade"] = {
                    "around": params.around,
                    "proteins": len(rows),
                    "label": str(proteins.label[leaf]),
                    "share_of_label": share,
                }
                tables["clade"] = table[table["protein"].isin(proteins.names[rows])].reset_index(drop=True)
            yield EvaluatorOutput(
                params.model_dump(),
                metrics,
                details=details,
                tables=tables | {"features": feature_table(proteins, rows)},
            )
