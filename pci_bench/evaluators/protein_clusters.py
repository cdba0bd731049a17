"""Proteins and the clusters that they fall into: what evaluators of clusterings share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pydantic

from pci_bench.data.observations import obs_strings
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.evaluators.embedding import protein_means
from pci_bench.statistics.linkage import cut, cut_at, leaf_order, ward_linkage
from pci_bench.statistics.named_clusters import named
from pci_bench.statistics.pairwise import split_terms

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MIN_PROTEINS = 3  # proteins that are worth a tree


class ClusterParams(pydantic.BaseModel):
    """Which proteins are clustered, and which clusters are looked at."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(10, ge=1, description="clusters that the tree is cut into")
    subclusters: int = pydantic.Field(0, ge=0, description="clusters of a second, finer cut; 0 for none")
    height: float = pydantic.Field(
        0, ge=0, allow_inf_nan=False, description="where above 0, the height of the cut, in place of k"
    )
    clusters: str = pydantic.Field("", description="CSV file (protein, cluster) of clusters, in place of any cut")
    subset: str = pydantic.Field("", description="localization term of the proteins to cluster; all where empty")
    subset_terms: Literal["only", "any"] = pydantic.Field(
        "only", description="whether proteins of the subset have its term only, or any others besides"
    )
    label: str = pydantic.Field("label", min_length=1, description="obs column that clusters are compared with")


P = TypeVar("P", bound=ClusterParams)


@dataclass(frozen=True)
class Proteins:
    """Proteins in the order of their names, with the standardised means of their cells' features.

    Parameters
    ----------
    names
        (n,) str.
    features
        (n, d) float64: mean over a protein's cells, then standardised over all proteins, also where these are a subset.
    label
        (n,) str: the one value of a protein's cells, "" where they have none or several.
    n_cells
        (n,) int.
    feature_names
        (d,) str.
    """

    names: np.ndarray
    features: np.ndarray
    label: np.ndarray
    n_cells: np.ndarray
    feature_names: np.ndarray

    @cached_property
    def linkage(self) -> np.ndarray:
        """The Ward linkage, computed once."""
        return ward_linkage(self.features)

    @cached_property
    def order(self) -> np.ndarray:
        """The proteins from one side of the tree to the other."""
        return leaf_order(self.linkage)


def terms_by_protein(
    obs: pd.DataFrame, label: str = "label", labels: str = "labels", *, fold: bool = True
) -> dict[str, frozenset[str]]:
    """Return every protein's terms: all that two columns, the second ``;``-joined, say of any of its cells.

    The column `label` counts where the cell has no `labels`; terms are in lower case, unless `fold` is False.
    """
    terms: dict[str, frozenset[str]] = {}
    rows = zip(obs_strings(obs, "protein"), obs_strings(obs, label), obs_strings(obs, labels), strict=True)
    for protein, single, several in dict.fromkeys(rows):
        if protein:
            text = several or single
            terms[protein] = terms.get(protein, frozenset()) | split_terms(text.casefold() if fold else text)
    return terms


def in_subset(terms: Mapping[str, frozenset[str]], subset: str, terms_of_subset: str) -> set[str]:
    """Return the proteins with a term: those with no other, or (``"any"``) with others besides; all where it is ""."""
    wanted = subset.strip().casefold()
    if not wanted:
        return set(terms)
    return {p for p, t in terms.items() if (t == {wanted} if terms_of_subset == "only" else wanted in t)}


def proteins_of(adata: AnnData, label: str, subset: str = "", terms_of_subset: str = "only") -> Proteins:
    """Return the proteins of some cells; the order of the cells does not enter the last digit.

    Raises
    ------
    UserError
        For NaN or infinite features.
    """
    values = np.asarray(adata.X)
    if not np.isfinite(values).all():
        raise UserError("The features hold NaN or infinite values; clustering needs finite ones.")
    protein, labels = obs_strings(adata.obs, "protein"), obs_strings(adata.obs, label)
    cell = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
    order = np.lexsort((cell, protein))
    means, names = protein_means(values[order], protein[order])
    distinct: dict[str, set[str]] = {name: set() for name in names}
    for name, value in dict.fromkeys(zip(protein, labels, strict=True)):
        if name and value:
            distinct[name].add(value)
    single = np.array([next(iter(d)) if len(d) == 1 else "" for d in distinct.values()])
    kept = in_subset(terms_by_protein(adata.obs), subset, terms_of_subset)
    chosen = np.array([name in kept for name in names])
    n_cells = np.unique(protein[protein != ""], return_counts=True)[1]
    features = comparable(adata, means)[chosen]
    return Proteins(names[chosen], features, single[chosen], n_cells[chosen], adata.var_names.to_numpy(str))


def with_proteins(adata: AnnData, param_sets: Sequence[P]) -> Iterator[tuple[P, Proteins]]:
    """Yield parameters with their proteins; what shares a subset shares the tree."""
    known: dict[tuple[str, str, str], Proteins] = {}
    for params in param_sets:
        key = (params.label, params.subset, params.subset_terms if params.subset else "only")
        if key not in known:
            known[key] = proteins_of(adata, *key)
        yield params, known[key]


def read_clusters(file: Path | str) -> list[tuple[str, str]]:
    """Return the (protein, cluster) rows of a CSV or TSV file, each once; a protein may be in several clusters.

    Raises
    ------
    UserError
        Where the file cannot be read or lacks a column.
    """
    import pandas as pd

    file = Path(file)
    try:
        table = pd.read_csv(file, sep="\t" if file.suffix.lower() == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as a table of clusters ({error}). Name another file.") from error
    if missing := [c for c in ("protein", "cluster") if c not in table]:
        raise UserError(
            f"{file} has the columns {', '.join(map(str, table.columns))} and no column '{missing[0]}'; clusters need one "
            "row for each protein of each cluster, in the columns protein and cluster."
        )
    pairs = [(p.strip(), c.strip()) for p, c in zip(table["protein"], table["cluster"], strict=True)]
    return list(dict.fromkeys(pair for pair in pairs if all(pair)))


def clusters_of(proteins: Proteins, params: ClusterParams) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the members of every cluster, as positions, by name, and what a file of clusters said besides."""
    if params.clusters:
        position = {name: i for i, name in enumerate(proteins.names)}
        pairs = read_clusters(params.clusters)
        members: dict[str, list[int]] = {}
        for protein, cluster in pairs:
            if protein in position:
                members.setdefault(cluster, []).append(position[protein])
        unmatched = sorted({p for p, _ in pairs} - set(position))
        empty = sorted({c for _, c in pairs} - set(members))
        note = {"rows": len(pairs), "unmatched_proteins": len(unmatched), "unmatched_for_example": unmatched[:5]}
        return {c: np.array(sorted(m)) for c, m in members.items()}, note | {"clusters_without_proteins": empty}
    codes = cut_at(proteins.linkage, params.height) if params.height else cut(proteins.linkage, params.k)
    finer = None
    if params.subclusters > codes.max() + 1:
        finer = cut(proteins.linkage, params.subclusters)
    return named(codes, finer), {}


def clustering_unavailable_reason(obs: pd.DataFrame, params: ClusterParams) -> str | None:
    """Return why these proteins cannot be clustered as asked, or None."""
    terms = terms_by_protein(obs)
    chosen = in_subset(terms, params.subset, params.subset_terms)
    if len(terms) < MIN_PROTEINS:
        return f"clustering needs at least {MIN_PROTEINS} proteins, and the cells name {len(terms)} in the column 'protein'"
    if len(chosen) < MIN_PROTEINS:
        known = ", ".join(sorted(frozenset[str]().union(*terms.values()))) or "none"
        what = "the term" if params.subset_terms == "any" else "only the term"
        return f"{len(chosen)} proteins have {what} '{params.subset}', and clustering needs {MIN_PROTEINS}; the terms are {known}"
    if params.clusters:
        pairs = read_clusters(params.clusters)
        return None if {p for p, _ in pairs} & chosen else f"no protein of {params.clusters} is among the {len(chosen)}"
    asked = max(params.k if params.height == 0 else 1, params.subclusters)
    if asked > len(chosen):
        return (
            f"{asked} clusters were asked for, and there are {len(chosen)} proteins; name fewer with k and subclusters"
        )
    return None
