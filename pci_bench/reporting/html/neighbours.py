"""A gallery of query cells and their nearest neighbours, one right and one wrong of every class where there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.skipped import Skipped
from pci_bench.data.observations import exclusion_groups
from pci_bench.data.provenance import Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import LabelledCells, labelled
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import parse
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.classes import featured
from pci_bench.reporting.html.words import exclusion
from pci_bench.runs.results import Result, parameters
from pci_bench.statistics.scaling import impute_nan, standardized

if TYPE_CHECKING:
    from anndata import AnnData

    from pci_bench.data.cells import Cells

NEIGHBOURS = 8
FEATURE_SETS = 3
MOST_QUERIES = 40


@dataclass(frozen=True)
class Query:
    """A cell, what was predicted for it, and its nearest neighbours, nearest first."""

    cell: str
    label: str
    predicted: str
    neighbours: list[tuple[str, str]]  # (cell, label)

    @property
    def names(self) -> list[str]:
        """The names of all its cells."""
        return [self.cell, *(name for name, _ in self.neighbours)]


@dataclass(frozen=True)
class Gallery:
    """The queries of one result."""

    result: Result
    queries: list[Query]


@dataclass
class Galleries:
    """Galleries, and sentences about what has none."""

    found: list[Gallery] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def names(self) -> list[str]:
        """Return the names of all cells shown, one query of every gallery after the other."""
        longest = max((len(g.queries) for g in self.found), default=0)
        return [
            name
            for turn in range(longest)
            for g in self.found
            if turn < len(g.queries)
            for name in g.queries[turn].names
        ]


def nearest_to(features: np.ndarray, queries: np.ndarray, k: int, groups: np.ndarray) -> list[np.ndarray]:
    """Return the k nearest rows of other groups for each query, nearest first, equal distances in index order.

    Parameters
    ----------
    features
        (n, d) float64.
    queries
        Positions (q,) int of the query rows.
    k
        How many; fewer where fewer belong to other groups.
    groups
        (n,) int: a query's own group has no neighbours.
    """
    from scipy.spatial.distance import cdist

    distances = cdist(features[queries], features)
    distances[groups[queries][:, None] == groups[None, :]] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return [row[np.isfinite(d[row])] for row, d in zip(order, distances, strict=True)]


def chosen_queries(
    labels: np.ndarray, predicted: np.ndarray, names: np.ndarray, most: int, seed: int = 0
) -> np.ndarray:
    """Return positions of query cells: of every class one that was predicted right and one wrong, seeded; at most `most`."""
    shuffled = np.random.default_rng(seed).permutation(np.argsort(names, kind="stable"))
    found = []
    for label in np.unique(labels):
        for right in (True, False):
            members = [i for i in shuffled if labels[i] == label and (predicted[i] == label) == right]
            found += members[:1]
    return np.array(found[:most], dtype=np.int64)


def galleries(results: Sequence[Result], cells: Cells | str) -> Galleries:
    """Return the galleries of the first kNN results whose features lie in the cache; nothing is computed or fetched."""
    # Balanced candidates differ from draw to draw: no k of them decide.
    mine = [r for r in featured(results) if r.evaluator.name == "loo-knn" and not Candidates.of(r).balanced]
    found = Galleries()
    if not mine:
        found.reasons.append("There are no results of loo-knn in this folder, so there are no neighbours to show.")
        return found
    if isinstance(cells, str):
        found.reasons.append(cells)
        return found
    shown: set[str] = set()
    for name in dict.fromkeys(r.features.full_name for r in mine):
        if len(shown) == FEATURE_SETS:
            break
        of_this = [r for r in mine if r.features.full_name == name]
        adata = _features(of_this[0], cells)
        if isinstance(adata, str):
            found.reasons.append(f"No neighbours by {name}: {adata}.")
            continue
        for result in of_this:
            made = _gallery(result, adata)
            if isinstance(made, str):
                found.reasons.append(f"No neighbours by {name}, {parameters(result)}: {made}.")
            else:
                found.found.append(made)
                shown.add(name)
    return found


def _features(result: Result, cells: Cells) -> AnnData | str:
    """Return the features that a result was computed from, out of the cache, or why they are not to be had."""
    name = result.features.full_name
    try:
        asked = parse(name)
        family = asked.extractor().meta.weights
        if family and result.features.weights and weight_files.find(family, result.features.weights) is None:
            return f"its weights {family}@{result.features.weights} are not available"
        ((_, adata),) = compute_features([asked], cells, ExtractionOptions(refresh="never")).items()
    except UserError as error:
        return str(error).rstrip(".")
    if isinstance(adata, Skipped):
        if adata.code == "not cached":
            return f"its features are not in the cache. `pci-bench extract {name} --dataset {cells.meta.name} --out F.h5ad` computes them"
        return adata.reason
    if (Provenance.of(adata).features.weights_sha256 or None) != result.features.weights_sha256:
        return "the weights of that name have changed since the result was made"
    adata = adata.copy()
    adata.X = impute_nan(np.asarray(adata.X))[0]
    return adata


def _gallery(result: Result, adata: AnnData) -> Gallery | str:
    table = result.predictions
    if table is None or not {"cell", "label", "predicted"} <= set(table):
        return "the file of its predictions is missing"
    exclude = str(result.evaluator.params.get("exclude", "cell"))
    if exclude != "cell" and exclude not in adata.obs:
        return f"the cells have no column '{exclude}'"
    of = LabelledCells.of(adata)
    names, labels = of.names, of.classes[of.labels]
    by_cell = dict(zip(table["cell"].astype(str), table["predicted"].astype("string").fillna(""), strict=True))
    if set(by_cell) != set(names):
        return "its predictions are of other cells"
    predicted = np.array([by_cell[n] for n in names])
    features = standardized(of.values) if result.evaluator.params.get("scale", "all") == "all" else of.values
    queries = chosen_queries(labels, predicted, names, MOST_QUERIES)
    k = min(NEIGHBOURS, int(result.evaluator.params["k"]))
    near = nearest_to(
        np.asarray(features, np.float64), queries, k, exclusion_groups(adata.obs, exclude)[labelled(adata.obs)]
    )
    return Gallery(
        result,
        [
            Query(str(names[q]), str(labels[q]), str(predicted[q]), [(str(names[i]), str(labels[i])) for i in row])
            for q, row in zip(queries, near, strict=True)
        ],
    )


def gallery_views(found: Galleries, dataset: int, shown: Shown) -> list[dict[str, Any]]:
    """Return the galleries for the page; queries of which a cell has no crop are left out."""
    views = []
    for gallery in found.found:
        visible = [q for q in gallery.queries if all(shown.has_tile(dataset, n) for n in q.names)]
        views.append(
            {
                "title": f"{gallery.result.features.full_name}, {exclusion(gallery.result)}",
                "k": gallery.result.evaluator.params["k"],
                "queries": [
                    {
                        "cell": shown.index(dataset, q.cell, q.label),
                        "label": q.label,
                        "predicted": q.predicted or "(no neighbour)",
                        "neighbours": [shown.index(dataset, name, label) for name, label in q.neighbours],
                    }
                    for q in visible
                ],
            }
        )
    return views
