"""Whether clusters and distances agree with labels, beside what shuffled labels give. Pure functions of arrays.

Both measures have levels of their own for each feature set: mutual information rises with the number of clusters, and a silhouette falls
with the number of dimensions that labels do not explain. So a value says nothing without that of shuffled labels on the same
features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.statistics.neighbors import loo_neighbors

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ROWS = 512  # at a time


def neighbor_graph(features: np.ndarray, k: int) -> csr_matrix:
    """Return the graph that joins two rows where one is among the other's k nearest: (n, n) of 0 and 1, symmetric.

    >>> neighbor_graph(np.array([[0.0], [1.0], [3.0]]), 1).toarray().tolist()
    [[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    """
    from scipy.sparse import csr_matrix

    n = len(features)
    neighbors, _ = loo_neighbors(features, k)
    rows = np.repeat(np.arange(n), k)
    directed = csr_matrix((np.ones(n * k), (rows, neighbors.ravel())), shape=(n, n))
    return csr_matrix(directed.maximum(directed.T))


def leiden_clusters(graph: csr_matrix, resolution: float, seed: int) -> np.ndarray:
    """Return each node's cluster (n,) int by the Leiden algorithm (Traag, Waltman and van Eck 2019, doi 10.1038/s41598-019-41695-z)."""
    from graspologic_native import leiden_csr

    edges = (graph.indptr.astype(np.int64), graph.indices.astype(np.int32), graph.data.astype(np.float64))
    _, cluster_of = leiden_csr(*edges, graph.shape[0], resolution=resolution, seed=seed)
    return np.array([cluster_of[node] for node in range(graph.shape[0])], np.int64)


def mean_silhouettes(features: np.ndarray, assignments: np.ndarray) -> np.ndarray:
    """Return the mean silhouette of every assignment of labels (Rousseeuw 1987), by Euclidean distance.

    Of a row it is (b − a) / max(a, b), where a is its mean distance from the others of its label and b that from the nearest other
    label; 0 where it is alone.

    Parameters
    ----------
    features
        (n, d), finite.
    assignments
        (assignments, n) int from 0; each with two labels at least.

    Examples
    --------
    >>> mean_silhouettes(np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[0, 0, 1, 1], [0, 1, 0, 1]])).round(2).tolist()
    [0.9, -0.45]
    """
    from scipy.spatial.distance import cdist

    n, n_labels = assignments.shape[1], int(assignments.max()) + 1
    members = np.zeros((n, len(assignments), n_labels))
    members[np.arange(n)[:, None], np.arange(len(assignments)), assignments.T] = 1
    counts = members.sum(axis=0)
    totals = np.zeros(len(assignments))
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        distances = cdist(features[rows], features)
        sums = (distances @ members.reshape(n, -1)).reshape(-1, *counts.shape)
        own = assignments.T[rows, :, None]
        sizes = np.take_along_axis(np.broadcast_to(counts, sums.shape), own, axis=2)[..., 0]
        inside = np.take_along_axis(sums, own, axis=2)[..., 0] / np.maximum(sizes - 1, 1)
        means = np.divide(sums, counts, out=np.full(sums.shape, np.inf), where=counts > 0)
        np.put_along_axis(means, own, np.inf, axis=2)
        outside = means.min(axis=2)
        larger = np.maximum(inside, outside)
        silhouettes = np.divide(outside - inside, larger, out=np.zeros(larger.shape), where=(sizes > 1) & (larger > 0))
        totals += silhouettes.sum(axis=0)
    over_rows: np.ndarray = totals / n
    return over_rows


@dataclass(frozen=True)
class BesideNull:
    """A value beside those of shuffled labels.

    Parameters
    ----------
    value
        Of the labels as they are.
    null
        Of shuffled ones (permutations,).

    Examples
    --------
    >>> BesideNull(0.5, np.array([0.1, 0.2, 0.3])).metrics("nmi")["nmi_excess"]
    0.3
    """

    value: float
    null: np.ndarray

    def metrics(self, name: str) -> dict[str, float]:
        """Return the value, the null's mean and 95th percentile, value − mean, and that over the null's SD (0 where it has none)."""
        mean, spread = float(self.null.mean()), float(self.null.std(ddof=1))
        excess = round(self.value - mean, 12)  # no last digit of equal values
        return {
            name: self.value,
            f"{name}_null": mean,
            f"{name}_null_95": float(np.quantile(self.null, 0.95)),
            f"{name}_excess": excess,
            f"{name}_z": excess / spread if spread > 1e-12 else 0.0,
        }


def agreement(clusters: np.ndarray, labels: np.ndarray, shuffled: np.ndarray) -> dict[str, BesideNull]:
    """Return normalised mutual information and adjusted Rand index of clusters and labels, beside those of shuffled labels.

    Parameters
    ----------
    clusters, labels
        (n,) int.
    shuffled
        (permutations, n) int.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        name: BesideNull(float(score(labels, clusters)), np.array([score(other, clusters) for other in shuffled]))
        for name, score in (("nmi", normalized_mutual_info_score), ("ari", adjusted_rand_score))
    }


def shuffled_within(labels: np.ndarray, groups: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Return labels shuffled among the rows of each group: (permutations, n) int.

    >>> shuffled_within(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 2, 0).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    rng = np.random.default_rng(seed)
    by_group = np.argsort(groups, kind="stable")
    shuffled = np.empty((permutations, len(labels)), labels.dtype)
    for number in range(permutations):
        shuffled[number, by_group] = labels[np.lexsort((rng.random(len(labels)), groups))]
    return shuffled
