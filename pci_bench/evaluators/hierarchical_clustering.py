"""Ward clustering of proteins by the mean features of their cells (paper: Figure 4, Supplementary Figures 4 and 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.examples import of_clusters
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.embedding import protein_means
from pci_bench.statistics.enrichment import enrichment
from pci_bench.statistics.linkage import clade, cophenetic_correlation, cut, cut_at, leaf_order, ward_linkage
from pci_bench.statistics.pairwise import split_terms
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MIN_PROTEINS = 3  # proteins that are worth a tree
QUALITY_ROWS = 1000
RECOVERED_FDR = 0.05
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


# ---- trees: linkages as SciPy's, one row (left, right, height, leaves) per merge


# ---- clusters with names


def letters(number: int) -> str:
    """Return A, B, … Z, AA, AB, … for numbers from 0."""
    text = LETTERS[number % 26]
    return text if number < 26 else letters(number // 26 - 1) + text


def named(codes: np.ndarray, finer: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Return the members of clusters A, B, …, and after each those that it falls into: A1, A2 and so on.

    Parameters
    ----------
    codes
        (n,) int from 0.
    finer
        (n,) int, of clusters each within one of the first; those that are a whole one are not repeated.
    """
    clusters = {}
    for code in range(codes.max() + 1):
        members = np.flatnonzero(codes == code)
        clusters[letters(code)] = members
        parts = np.array([], np.int64) if finer is None else np.unique(finer[members])
        if len(parts) > 1:
            for number, part in enumerate(parts, 1):
                clusters[f"{letters(code)}{number}"] = np.flatnonzero(finer == part)
    return clusters


def levels(clusters: Mapping[str, np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest and the smallest cluster that each of n proteins is in, as names: (n,) str each, "" for none."""
    outer, inner = np.full(n, "", object), np.full(n, "", object)
    by_size = sorted(clusters, key=lambda c: -len(clusters[c]))
    for name in reversed(by_size):
        outer[clusters[name]] = name
    for name in by_size:
        inner[clusters[name]] = name
    return outer.astype(str), inner.astype(str)


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


# ---- proteins


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
    features = standardized(means)[chosen]
    return Proteins(names[chosen], features, single[chosen], n_cells[chosen], adata.var_names.to_numpy(str))


def recovered_classes(
    clusters: Mapping[str, np.ndarray], terms: Sequence[frozenset[str]], min_class: int
) -> pd.DataFrame:
    """Return every localization class, the cluster that is most enriched for it, and whether it is significantly.

    Paper: "We identified clusters enriched for about 15 of the 18 localization classes with more than 30 proteins". **Ours**:
    a class is recovered where a cluster holds more of its proteins than chance, by the hypergeometric test adjusted (Benjamini and
    Hochberg) over all clusters and classes, at 0.05. Classes are those that enough proteins have as their only term, as
    in Figure 2B; their members are all proteins with the term.

    Parameters
    ----------
    clusters
        Positions of each cluster's proteins, by its name.
    terms
        (n,) terms of each protein, a set each.
    min_class
        Fewest proteins that have the class as their only term.

    Returns
    -------
    pandas.DataFrame
        A row per class: class, proteins (K of all n), cluster, n of its N proteins, fdr, recovered; no row where no class is
        large enough.
    """
    import pandas as pd

    single = [next(iter(t)) for t in terms if len(t) == 1]
    classes = sorted(c for c in set(single) if single.count(c) >= min_class)
    members = np.array([[c in t for c in classes] for t in terms], bool).reshape(len(terms), len(classes))
    names = list(clusters)
    inside = np.zeros((len(names), len(terms)), bool)
    for row, positions in enumerate(clusters.values()):
        inside[row, positions] = True
    tests = enrichment(inside, members)
    best = np.lexsort((-tests.found, tests.p), axis=0)[0] if names and classes else np.empty(0, np.int64)
    fdr = tests.fdr[best, np.arange(len(classes))]
    return pd.DataFrame(
        {
            "class": classes,
            "proteins": tests.term_size,
            "cluster": [names[i] for i in best],
            "n": tests.found[best, np.arange(len(classes))],
            "N": tests.cluster_size[best],
            "fdr": fdr,
            "recovered": fdr <= RECOVERED_FDR,
        }
    )


# ---- evaluators


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


class HierarchicalClusteringParams(ClusterParams):
    """Parameters of the clustering of proteins."""

    around: str = pydantic.Field("", description="protein whose clade is listed; none where empty")
    clade_size: int = pydantic.Field(32, ge=2, description="fewest proteins of that clade")
    min_class: int = pydantic.Field(
        30,
        ge=2,
        description="fewest proteins with one localization only that make it a class which clusters may recover",
    )


P = TypeVar("P", bound=ClusterParams)


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


def with_proteins(adata: AnnData, param_sets: Sequence[P]) -> Iterator[tuple[P, Proteins]]:
    """Yield parameters with their proteins; what shares a subset shares the tree."""
    known: dict[tuple[str, str, str], Proteins] = {}
    for params in param_sets:
        key = (params.label, params.subset, params.subset_terms if params.subset else "only")
        if key not in known:
            known[key] = proteins_of(adata, *key)
        yield params, known[key]


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
                tables["crops"] = of_clusters(context.cells, standardized(np.asarray(adata.X)), *pictured)
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
