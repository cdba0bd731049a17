"""The single cells of one protein, clustered (paper: Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    OBS_COLUMN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    register_evaluator,
)
from pci_bench.data.examples import as_table, representatives
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.statistics.scaling import all_finite

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def ward_tree(features: np.ndarray) -> np.ndarray:
    """Return Ward's linkage (n − 1, 4) float64 of features (n, d), as :func:`scipy.cluster.hierarchy.linkage` gives it."""
    from scipy.cluster.hierarchy import linkage

    tree: np.ndarray = linkage(np.asarray(features, np.float64), method="ward", optimal_ordering=len(features) <= 1000)
    return tree


def clades(tree: np.ndarray, n_clades: int) -> np.ndarray:
    """Return each leaf's clade (n,) int, numbered from 0 in the order of the leaves, when the tree is cut into n_clades."""
    from scipy.cluster.hierarchy import fcluster, leaves_list

    numbers = fcluster(tree, n_clades, criterion="maxclust")
    order = leaves_list(tree)
    first = {number: place for place, number in reversed(list(enumerate(numbers[order])))}
    rank = {number: i for i, number in enumerate(sorted(first, key=first.__getitem__))}
    return np.array([rank[number] for number in numbers])


class SingleCellParams(pydantic.BaseModel):
    """Parameters of the clustering of single cells."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    protein: str = pydantic.Field(
        "", description="the protein; by default the most variable one (or that of the most variable image)"
    )
    of: Literal["protein", "image"] = pydantic.Field(
        "protein", description="all cells of a protein, as in the paper, or those of one image"
    )
    clades: int = pydantic.Field(4, ge=2, le=12, description="clades that the dendrogram is cut into")
    crops: int = pydantic.Field(4, ge=1, le=8, description="crops shown of each clade")
    truth: str = pydantic.Field(
        "state",
        description="obs column to compare the clades with, where there is one",
        json_schema_extra=OBS_COLUMN,
    )


@register_evaluator("single-cell-clustering")
class SingleCellClustering(Evaluator):
    """Ward's clustering of one protein's cells, with crops of the cells nearest each clade's mean.

    All cells of the protein, of all its images, as in Figure 6 ("we clustered the single cells of each protein"): so clades
    may also be cell lines or stainings, and ``details`` counts the images of each clade. ``of="image"`` takes one image. Features
    are standardised over all cells of the dataset (ours). Where several proteins (images) would do, the one whose cells spread
    the most about their mean is taken, of those with at least ten cells.
    """

    meta = EvaluatorMeta(
        "single-cell-clustering",
        "2",
        "Dendrogram of one protein's cells",
        "cophenetic_correlation",
        key=("protein",),
        needs=("cells",),
    )
    Params = SingleCellParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: SingleCellParams) -> str | None:
        """Return why there is no such protein or too few cells, or None."""
        proteins = obs_strings(obs, "protein")
        if params.protein and params.protein not in proteins:
            known = ", ".join(sorted(set(proteins) - {""})[:3])
            return f"there is no protein '{params.protein}'" + (f"; there are for example {known}" if known else "")
        units = _units(obs, params)
        if _candidates(units, params.clades):
            return None
        if params.protein and params.of == "protein":
            return f"{params.protein} has fewer than {_fewest(params.clades)} cells"
        return f"no {params.of}{f' of {params.protein}' if params.protein else ''} has {_fewest(params.clades)} cells"

    def __call__(
        self, adata: AnnData, param_sets: list[SingleCellParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the tree and the clades; crops where the cells are known."""
        import pandas as pd
        from scipy.cluster.hierarchy import cophenet, leaves_list
        from scipy.spatial.distance import pdist
        from sklearn.metrics import adjusted_rand_score

        if not all_finite(np.asarray(adata.X)):
            raise UserError("The features hold NaN or infinite values; clustering needs finite ones.")
        names = obs_strings(adata.obs, "cell")
        values = comparable(adata, np.asarray(adata.X))
        for params in param_sets:
            units = _units(adata.obs, params)
            unit = most_variable(values, units, params.clades)
            members = np.flatnonzero(units == unit)
            members = members[np.argsort(names[members], kind="stable")]
            features = values[members]
            tree = ward_tree(features)
            numbers = clades(tree, params.clades)
            metrics = {"cophenetic_correlation": _finite(cophenet(tree, pdist(features))[0])}
            truth = obs_strings(adata.obs, params.truth)[members]
            if len(set(truth) - {""}) > 1:
                metrics["adjusted_rand"] = float(adjusted_rand_score(truth, numbers))
            table = pd.DataFrame(
                {"cell": names[members], "image": obs_strings(adata.obs, "image")[members], "clade": numbers}
            )
            table["leaf"] = np.argsort(leaves_list(tree))
            if len(set(truth) - {""}):
                table[params.truth] = truth
            tables = {"linkage": pd.DataFrame(tree, columns=["left", "right", "height", "cells"])}
            if context.cells is not None:
                tables["crops"] = self._crops(context, features, members, numbers, names, params)
            protein = str(obs_strings(adata.obs, "protein")[members[0]])
            details = {
                "protein": protein,
                params.of: unit,
                "n_cells": len(members),
                "n_images": int(table["image"].nunique()),
                "clade_sizes": np.bincount(numbers).tolist(),
                "clade_images": table.groupby("clade")["image"].nunique().tolist(),
            }
            resolved = params.model_copy(update={"protein": protein}).model_dump()
            yield EvaluatorOutput(resolved, metrics, details=details, per_cell=table, tables=tables)

    @staticmethod
    def _crops(
        context: EvaluationContext,
        features: np.ndarray,
        members: np.ndarray,
        numbers: np.ndarray,
        names: np.ndarray,
        params: SingleCellParams,
    ) -> pd.DataFrame:
        assert context.cells is not None
        planes, rows = [], []
        for clade in range(numbers.max() + 1):
            chosen = representatives(features, np.flatnonzero(numbers == clade), params.crops)
            for place, (position, crop) in enumerate(
                zip(members[chosen], context.cells.crops(members[chosen]), strict=True)
            ):
                for channel, plane in zip(context.cells.channels, crop, strict=True):
                    planes.append(plane)
                    rows.append({"clade": clade, "place": place, "cell": names[position], "channel": channel.name})
        return as_table(planes, rows)


def _fewest(clades: int) -> int:
    return max(10, 2 * clades)


def _units(obs: pd.DataFrame, params: SingleCellParams) -> np.ndarray:
    """Return each cell's image or protein (n,) str, "" for cells of other proteins than the one asked for."""
    units = obs_strings(obs, params.of).astype(object)
    if params.protein:
        units[obs_strings(obs, "protein") != params.protein] = ""
    return units.astype(str)


def _candidates(units: np.ndarray, clades: int) -> list[str]:
    names, counts = np.unique(units[units != ""], return_counts=True)
    return [str(name) for name, count in zip(names, counts, strict=True) if count >= _fewest(clades)]


def most_variable(features: np.ndarray, units: np.ndarray, clades: int = 4) -> str:
    """Return the unit (of those with enough cells) with the largest mean squared distance of its cells to their mean."""
    spreads = {name: features[units == name].var(axis=0).sum() for name in _candidates(units, clades)}
    return max(spreads, key=spreads.__getitem__)


def _finite(value: float) -> float:
    """Return a correlation, 0 where all distances are equal."""
    return float(value) if np.isfinite(value) else 0.0
