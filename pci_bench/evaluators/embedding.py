"""UMAP of single cells (paper: Supplementary Figure 3) and of proteins (Figure 3)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    AS_GIVEN,
    OBS_COLUMN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

QUALITY_ROWS, QUALITY_NEIGHBORS = 2000, 15


def embedded(features: np.ndarray, neighbours: int, min_dist: float, seed: int) -> np.ndarray:
    """Return UMAP coordinates (n, 2) float64 of features (n, d), Euclidean; one seed gives one embedding.

    With fewer rows than `neighbours`, all others are neighbours. Two rows or fewer lie on a line.
    """
    n = len(features)
    if n <= 3:  # too few for a graph
        return np.column_stack([np.arange(n, dtype=float), np.zeros(n)])
    import warnings

    import umap

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value 1 overridden")  # a seed means one thread, as wanted
        warnings.filterwarnings("ignore", message=".*eigen.*|.*Spectral.*", category=UserWarning)
        reducer = umap.UMAP(
            n_neighbors=min(neighbours, n - 1),
            min_dist=min_dist,
            metric="euclidean",
            random_state=seed,
            n_jobs=1,
            init="spectral" if n > 10 else "random",
        )
        return np.asarray(reducer.fit_transform(features.astype(np.float32)), dtype=np.float64)


def embedding_quality(features: np.ndarray, coordinates: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, float]:
    """Return how far an embedding can be trusted, on at most 2,000 seeded rows.

    ``trustworthiness`` (Venna & Kaski 2001): 1 where the 15 nearest neighbours of the embedding are near in the features too.
    ``label_agreement``: mean share of the 15 nearest neighbours in the embedding that have a row's label, over labelled rows.
    """
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    n = len(features)
    some = np.sort(rng.permutation(n)[:QUALITY_ROWS])
    k = min(QUALITY_NEIGHBORS, (len(some) - 1) // 2)
    metrics = {}
    if k >= 1:
        metrics["trustworthiness"] = float(trustworthiness(features[some], coordinates[some], n_neighbors=k))
    known = some[labels[some] != ""]
    if len(known) > 1:
        neighbors = NearestNeighbors(n_neighbors=min(QUALITY_NEIGHBORS, len(known) - 1)).fit(coordinates[known])
        same = labels[known][neighbors.kneighbors(return_distance=False)] == labels[known][:, None]
        metrics["label_agreement"] = float(same.mean())
    return metrics


def protein_means(features: np.ndarray, proteins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean features of every protein's cells (proteins, d) float64, and the proteins' names, sorted.

    Cells without a protein ("") are left out. Paper: "averaging the features for all single cells for each protein".
    """
    known = proteins != ""
    names, codes = np.unique(proteins[known], return_inverse=True)
    sums = np.zeros((len(names), features.shape[1]))
    np.add.at(sums, codes, np.asarray(features[known], dtype=np.float64))
    return sums / np.bincount(codes, minlength=len(names))[:, None], names


def most_common(values: np.ndarray, groups: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Return every group's most frequent value, empty ones aside; ties go to the first in the alphabet."""
    most_frequent = []
    for name in names:
        group_values = values[(groups == name) & (values != "")]
        distinct, counts = np.unique(group_values, return_counts=True)
        most_frequent.append(distinct[counts.argmax()] if len(distinct) else "")
    return np.array(most_frequent, dtype=object).astype(str)


class UmapParams(pydantic.BaseModel):
    """Parameters of a UMAP of cells; the defaults are Supplementary Figure 3's."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    neighbours: int = pydantic.Field(30, ge=2, description="neighbours in the graph")
    min_dist: float = pydantic.Field(0.3, ge=0, le=1, description="smallest distance between embedded points")
    scale: Literal["all", "none"] = pydantic.Field(
        "all", description="standardise over all cells, or not", json_schema_extra=AS_GIVEN
    )
    color: str = pydantic.Field(
        "label", description="obs column that points are coloured by", json_schema_extra=OBS_COLUMN
    )


class ProteinUmapParams(UmapParams):
    """Parameters of a UMAP of proteins; the defaults are Figure 3's."""

    neighbours: int = pydantic.Field(20, ge=2, description="neighbours in the graph")


class _Umap(Evaluator):
    meta: EvaluatorMeta

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: UmapParams) -> str | None:
        """Return why there is nothing to embed, or None."""
        return "an embedding needs at least 3 cells" if len(obs) < 3 else None

    @abstractmethod
    def rows(self, adata: AnnData, values: np.ndarray, params: UmapParams) -> tuple[np.ndarray, pd.DataFrame]:
        """Return what is embedded (n, d), and a table whose first column names each row."""

    def __call__(
        self, adata: AnnData, param_sets: list[UmapParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield coordinates, and how far they can be trusted."""
        values = np.asarray(adata.X)
        if not np.isfinite(values).all():
            raise UserError("The features hold NaN or infinite values; an embedding needs finite ones.")
        for params in param_sets:
            scaled = standardized(values) if params.scale == "all" else values
            features, table = self.rows(adata, scaled, params)
            order = np.argsort(table.iloc[:, 0].to_numpy(str), kind="stable")  # the result must not depend on the order
            coordinates = np.empty((len(table), 2))
            coordinates[order] = embedded(features[order], params.neighbours, params.min_dist, context.seed)
            labels = table["label"].to_numpy(str)
            metrics = embedding_quality(features[order], coordinates[order], labels[order], context.seed)
            table = table.assign(umap_1=coordinates[:, 0], umap_2=coordinates[:, 1])
            output = self.output(params.model_dump(), metrics, table)
            if params.neighbours > len(table) - 1:
                output.details["fewer_neighbours"] = (
                    f"{len(table) - 1} neighbours, since {len(table)} points have no more"
                )
            yield output

    def output(self, params: dict[str, Any], metrics: dict[str, float], table: pd.DataFrame) -> EvaluatorOutput:
        """Return the output: the table's rows are cells."""
        return EvaluatorOutput(params, metrics, details={"n_points": len(table)}, per_cell=table)


@register_evaluator("umap")
class Umap(_Umap):
    """Single cells in two dimensions: UMAP of the standardised features, Euclidean (Supplementary Figure 3).

    Coordinates are not reproducible on another machine: results say how far their neighbourhoods are those of the features.
    """

    meta = EvaluatorMeta(
        "umap",
        "1",
        "UMAP of single cells",
        "trustworthiness",
        key=("neighbours",),
        order_invariant=True,
        other_metrics=Metric(reproducible=False),
    )
    Params = UmapParams

    def rows(self, adata: AnnData, values: np.ndarray, params: UmapParams) -> tuple[np.ndarray, pd.DataFrame]:
        """Return the features and a table of every cell."""
        import pandas as pd

        names = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
        return values, pd.DataFrame({"cell": names, "label": obs_strings(adata.obs, params.color)})


@register_evaluator("protein-umap")
class ProteinUmap(_Umap):
    """Proteins in two dimensions: UMAP of the mean features of each protein's cells (Figure 3).

    A protein's label is its cells' most frequent one.
    """

    meta = EvaluatorMeta(
        "protein-umap",
        "1",
        "UMAP of proteins",
        "trustworthiness",
        key=("neighbours",),
        order_invariant=True,
        other_metrics=Metric(reproducible=False),
    )
    Params = ProteinUmapParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: UmapParams) -> str | None:
        """Return why there are no proteins to embed, or None."""
        count = len(set(obs_strings(obs, "protein")) - {""})
        return None if count >= 3 else f"an embedding of proteins needs at least 3, and the cells name {count}"

    def rows(self, adata: AnnData, values: np.ndarray, params: UmapParams) -> tuple[np.ndarray, pd.DataFrame]:
        """Return the proteins' mean features and a table of them."""
        import pandas as pd

        proteins, labels = obs_strings(adata.obs, "protein"), obs_strings(adata.obs, params.color)
        means, names = protein_means(values, proteins)
        counts = np.unique(proteins[proteins != ""], return_counts=True)[1]
        table = pd.DataFrame({"protein": names, "label": most_common(labels, proteins, names), "n_cells": counts})
        return means, table

    def output(self, params: dict[str, Any], metrics: dict[str, float], table: pd.DataFrame) -> EvaluatorOutput:
        """Return the output: the rows are proteins, as the table ``proteins``."""
        return EvaluatorOutput(params, metrics, details={"n_points": len(table)}, tables={"proteins": table})
