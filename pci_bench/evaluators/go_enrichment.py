"""Gene Ontology terms that clusters of proteins hold more often than chance (paper: Table 3, Supplementary Figure 5)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.annotation_sources import AnnotationSource, annotation_sources
from pci_bench.data.observations import obs_strings
from pci_bench.data.ontology import (
    Annotation,
    Ontology,
    annotated_terms,
    memberships,
    read_gaf,
    read_obo,
)
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.protein_clusters import (
    ClusterParams,
    clustering_unavailable_reason,
    clusters_of,
    terms_by_protein,
    with_proteins,
)
from pci_bench.statistics.enrichment import Enrichment, enrichment
from pci_bench.system.files import user_path

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

DATASET, TABLE = "dataset", "table"


@lru_cache(maxsize=2)
def _ontology(file: Path, changed: int) -> Ontology:
    """Return an ontology that is read once for all feature sets of a run."""
    return read_obo(file)


@lru_cache(maxsize=2)
def _annotations(file: Path, changed: int) -> tuple[str, list[Annotation]]:
    """Return annotations that are read once for all feature sets of a run."""
    return read_gaf(file)


def _changed(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0


class GoEnrichmentParams(ClusterParams):
    """Parameters of the clusters and of the terms they are tested for."""

    obo: str = pydantic.Field(
        DATASET,
        min_length=1,
        description="OBO file of the ontology, or go-human, go-yeast; 'dataset' for the dataset's own",
    )
    gaf: str = pydantic.Field(
        DATASET,
        min_length=1,
        description="GAF file of annotations, or go-human, go-yeast; 'dataset' for the dataset's own, 'table' for the obs column go (;-joined terms)",
    )
    namespace: str = pydantic.Field("cellular_component", min_length=1, description="part of the ontology")
    min_size: int = pydantic.Field(5, ge=1, description="fewest clustered proteins of a term that is tested")
    max_size: int = pydantic.Field(
        0, ge=0, description="most clustered proteins of a term that is tested; 0 for any number"
    )
    fdr: float = pydantic.Field(0.05, gt=0, le=1, description="largest adjusted p of a term that counts as found")
    shown: int = pydantic.Field(
        2, ge=1, description="terms of each cluster in the short table, the most significant first"
    )
    protocol: Literal["pooled", "per-list"] = pydantic.Field(
        "pooled",
        description="pooled (ours): against all clustered proteins, p adjusted over all clusters and terms; per-list (as "
        "GOrilla): against the annotated ones, p adjusted over the terms of each cluster",
    )


def _source(dataset: DatasetProvenance, given: str) -> AnnotationSource | None:
    """Return the source that a parameter names, or the dataset where it leaves that to it; None where that is no source."""
    return annotation_sources().get(dataset.ontology if given == DATASET else given)


def _file(dataset: DatasetProvenance, given: str, suffix: str) -> Path | None:
    """Return a named file, or the dataset's own, or None where it has none or it was not fetched."""
    if source := _source(dataset, given):
        return source.file(suffix.lstrip("."))
    if given != DATASET:
        return user_path(given, "The file")
    if not dataset.ontology:
        return None
    package, _, stem = dataset.ontology.partition(":")
    return Path(str(files(package).joinpath(stem + suffix)))


@register_evaluator("go-enrichment")
class GoEnrichment(Evaluator):
    """Terms of an ontology in clusters of proteins, against all clustered proteins.

    Clusters are those of ``hierarchical-clustering`` with the same parameters. Annotations count for the ancestors of their
    terms too (``is_a``, ``part_of``); those with the qualifier NOT do not count.

    **Ours** (``protocol="pooled"``): the background are all clustered proteins, also those of which no annotation speaks, and
    p is adjusted (Benjamini and Hochberg) once over all clusters and terms. The paper used GOrilla, which is given one list at
    a time. ``protocol="per-list"`` does so: proteins without an annotation in the namespace (other than its root) count
    neither in a cluster nor in the background, and p is adjusted over the terms of each cluster by itself. The hypergeometric
    upper tail is the same in both.
    """

    meta = EvaluatorMeta(
        "go-enrichment",
        "1",
        "Ontology terms in clusters of proteins",
        "enriched_clusters",
        key=("k",),
        order_invariant=True,
    )
    Params = GoEnrichmentParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: GoEnrichmentParams) -> str | None:
        """Return why there is nothing to test, or None."""
        if reason := clustering_unavailable_reason(obs, params):
            return reason
        for parameter, suffix, what in (("obo", ".obo", "an ontology"), ("gaf", ".gaf", "annotations")):
            if _file(dataset, getattr(params, parameter), suffix) is None:
                if source := _source(dataset, getattr(params, parameter)):
                    return source.unavailable_reason()
                return (
                    f"the dataset brings no ontology of its own; name {what} with {parameter}=FILE, for example go-basic.obo "
                    "and goa_human.gaf of the Gene Ontology, or what `pci-bench data get go-human` fetches with obo=go-human and gaf=go-human"
                )
        if params.gaf == TABLE and not (obs_strings(obs, "go") != "").any():
            return (
                "gaf = 'table' asks for the obs column go, and it is absent or empty; --annotations FILE can bring it"
            )
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[GoEnrichmentParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield how many clusters have terms of their own, and every test."""
        for params, proteins in with_proteins(adata, param_sets):
            clusters, note = clusters_of(proteins, params)
            names = proteins.names.tolist()
            obo = _file(Provenance.of(adata).dataset, params.obo, ".obo")
            assert obo is not None  # or dataset_reason() would have said so
            ontology = _ontology(obo, _changed(obo))
            date, rows = self._rows(adata, params)
            terms_of, counts = annotated_terms(names, rows, ontology, params.namespace)
            if counts["unmatched_proteins"] == len(names):
                raise UserError(
                    f"None of the {len(names):,} proteins (for example '{names[0]}') has an annotation with a term of "
                    f"{params.namespace}. Compare the names of the proteins with the symbols in the file that gaf names, and the "
                    "namespace with the ontology's."
                )
            keys, members = memberships(terms_of, names, ontology, params.namespace)
            annotated, sizes = members.any(axis=1), members.sum(axis=0)
            tested = (sizes >= params.min_size) & (sizes <= (params.max_size or len(names)))
            if not tested.any():
                raise UserError(
                    f"No term of {params.namespace} has from {params.min_size} to {params.max_size or len(names)} of the "
                    f"{len(names):,} clustered proteins. Lower min_size or raise max_size."
                )
            keys, members = [key for key, use in zip(keys, tested, strict=True) if use], members[:, tested]
            tested_keys = frozenset(keys)
            of_cluster = np.zeros((len(clusters), len(names)), bool)
            for row, positions in enumerate(clusters.values()):
                of_cluster[row, positions] = True
            if params.protocol == "per-list":
                tests = enrichment(of_cluster[:, annotated], members[annotated], adjusted="cluster")
            else:
                tests = enrichment(of_cluster, members)
            table = table_of_tests(list(clusters), keys, ontology, tests)
            significant = table[(table["fdr"] <= params.fdr) & (table["n"] > 0)]
            metrics = {
                "enriched_clusters": significant["cluster"].nunique() / len(clusters),
                "significant_tests": len(significant) / tests.p.size,
            }
            short = pick(significant, list(clusters), tests.cluster_size, params.shown)
            details: dict[str, Any] = {
                "n_proteins": len(names),
                "background": int(annotated.sum()) if params.protocol == "per-list" else len(names),
                "ontology_version": ontology.version,
                "annotations_date": date,
                "namespace": params.namespace,
                "annotations": counts,
                "n_clusters": len(clusters),
                "tested_terms": len(keys),
                "tests": int(tests.p.size),
                "terms_found": int(significant["term"].nunique()),
                "without_enrichment": sorted(set(clusters) - set(significant["cluster"])),
                "replaced_terms": {old: new for old, new in sorted(ontology.former.items()) if new in tested_keys},
            }
            if note:
                details["clusters_file"] = note
            yield EvaluatorOutput(
                params.model_dump(), metrics, details=details, tables={"enrichment": table, "short": short}
            )

    def _rows(self, adata: AnnData, params: GoEnrichmentParams) -> tuple[str, list[Annotation]]:
        """Return the date of the annotations, and each."""
        if params.gaf == TABLE:
            terms = terms_by_protein(adata.obs, "go", "go", fold=False)
            return "not said", [Annotation(p, p, (), t, False) for p in sorted(terms) for t in sorted(terms[p])]
        gaf = _file(Provenance.of(adata).dataset, params.gaf, ".gaf")
        assert gaf is not None  # or dataset_reason() would have said so
        return _annotations(gaf, _changed(gaf))


def table_of_tests(clusters: list[str], keys: list[str], ontology: Ontology, tests: Enrichment) -> pd.DataFrame:
    """Return a row per test: cluster, term, n of the cluster's N proteins, the term's K of all, p and adjusted p."""
    import pandas as pd

    c, t = (axis.ravel() for axis in np.indices(tests.p.shape))
    table = pd.DataFrame(
        {
            "cluster": np.array(clusters)[c],
            "term": np.array(keys)[t],
            "name": np.array([ontology.terms[k].name for k in keys])[t],
            "fdr": tests.fdr.ravel(),
            "p": tests.p.ravel(),
            "n": tests.found.ravel(),
            "N": tests.cluster_size[c],
            "K": tests.term_size[t],
        }
    )
    order = np.lexsort((t, -table["n"].to_numpy(), table["p"].to_numpy(), c))
    return table.iloc[order].reset_index(drop=True)


def pick(significant: pd.DataFrame, clusters: list[str], sizes: np.ndarray, n_terms: int) -> pd.DataFrame:
    """Return the most significant terms of each cluster, in its order; a cluster without any has a row without a term."""
    import pandas as pd

    parts = []
    for cluster, size in zip(clusters, sizes, strict=True):
        cluster_terms = significant[significant["cluster"] == cluster].head(n_terms)
        none = pd.DataFrame({"cluster": [cluster], "term": "", "name": "", "N": int(size)})
        parts.append(cluster_terms if len(cluster_terms) else none.reindex(columns=significant.columns))
    table = pd.concat([p.astype(object) for p in parts], ignore_index=True)
    proteins = [f"{n}/{size}" if n == n else f"–/{size}" for n, size in zip(table["n"], table["N"], strict=True)]
    return table.assign(proteins=proteins).infer_objects()  # numbers as they are read back from a file
