"""The hypergeometric test of how enriched terms are in clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Enrichment:
    """Counts and probabilities of every cluster (rows) with every term (columns).

    Parameters
    ----------
    found
        (clusters, terms) int: proteins of the cluster that belong to the term.
    cluster_size, term_size
        (clusters,) and (terms,) int.
    p
        (clusters, terms): chance of as many or more, of as many proteins drawn from all without replacement.
    fdr
        (clusters, terms): p adjusted by Benjamini and Hochberg.
    """

    found: np.ndarray
    cluster_size: np.ndarray
    term_size: np.ndarray
    p: np.ndarray
    fdr: np.ndarray


def enrichment(clusters: np.ndarray, terms: np.ndarray, adjusted: Literal["all", "cluster"] = "all") -> Enrichment:
    """Return how enriched each term is in each cluster: hypergeometric upper tail, adjusted by Benjamini and Hochberg.

    The background are all proteins given.

    Parameters
    ----------
    clusters
        (clusters, n) bool; a protein may be in several or none.
    terms
        (n, terms) bool.
    adjusted
        Over ``"all"`` tests at once, or over the terms of each ``"cluster"`` by itself.

    Examples
    --------
    >>> import numpy as np
    >>> tests = enrichment(np.array([[True, True, False, False]]), np.array([[True], [True], [False], [False]]))
    >>> tests.found.tolist(), round(float(tests.p[0, 0]), 4)
    ([[2]], 0.1667)
    """
    from scipy.stats import false_discovery_control, hypergeom

    overlaps = np.rint(clusters.astype(np.float64) @ terms.astype(np.float64)).astype(np.int64)
    cluster_size, term_size = clusters.sum(axis=1), terms.sum(axis=0)
    p = hypergeom.sf(overlaps - 1, terms.shape[0], term_size[None, :], cluster_size[:, None]).reshape(overlaps.shape)
    p = np.clip(p, 0, 1)
    fdr = (
        false_discovery_control(p, axis=None if adjusted == "all" else 1, method="bh").reshape(p.shape) if p.size else p
    )
    return Enrichment(overlaps, cluster_size, term_size, p, fdr)
