"""Clusters by name: A, B and so on, what falls into them, and the classes that they are enriched for. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.statistics.enrichment import enrichment

if TYPE_CHECKING:
    import pandas as pd

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
RECOVERED_FDR = 0.05


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
