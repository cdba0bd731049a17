"""Ward's linkage of many rows in little memory, and cuts, clades and fit of the tree. Pure functions of arrays."""

from __future__ import annotations

import itertools

import numpy as np

MAX_CONDENSED_ROWS = 16384  # rows whose distances are held in memory: 1 GiB of them, and fastcluster's copy


def ward_linkage(features: np.ndarray) -> np.ndarray:
    """Return the Ward linkage of rows, as ``scipy.cluster.hierarchy.linkage(method="ward")``.

    The paper's "maximum likelihood agglomerative" clustering is Ward's for equal spherical Gaussians. Up to 16,384 rows all
    distances are held (n² / 2 float64, twice); for more, they are computed as they are needed: slower, in the memory of
    the features.

    (n, d) -> (n − 1, 4) float64, heights ascending.

    Examples
    --------
    >>> import numpy as np
    >>> ward_linkage(np.array([[0.0], [1.0], [5.0], [7.0]])).round(2).tolist()
    [[0.0, 1.0, 1.0, 2.0], [2.0, 3.0, 2.0, 2.0], [4.0, 5.0, 7.78, 4.0]]
    """
    import fastcluster

    values = np.ascontiguousarray(features, dtype=np.float64)
    many = len(values) > MAX_CONDENSED_ROWS
    linkage: np.ndarray = (
        fastcluster.linkage_vector(values, method="ward")
        if many
        else fastcluster.linkage(values, method="ward", preserve_input=False)
    )
    return linkage


def leaf_order(linkage: np.ndarray) -> np.ndarray:
    """Return the leaves from one side of the tree to the other: (n,) int."""
    from scipy.cluster.hierarchy import leaves_list

    return np.asarray(leaves_list(linkage), np.int64)


def cut(linkage: np.ndarray, clusters: int) -> np.ndarray:
    """Return exactly that many clusters, as if the last merges had not been made: (n,) int, numbered in leaf order."""
    n = len(linkage) + 1
    return _without_last_merges(linkage, n - clusters)


def cut_at(linkage: np.ndarray, height: float) -> np.ndarray:
    """Return the clusters of all merges up to a height: (n,) int, numbered in leaf order."""
    return _without_last_merges(linkage, int(np.searchsorted(linkage[:, 2], height, "right")))


def _without_last_merges(linkage: np.ndarray, merges: int) -> np.ndarray:
    n = len(linkage) + 1
    above = np.arange(n + merges)  # the topmost node that each belongs to
    for row in reversed(range(merges)):
        above[linkage[row, :2].astype(int)] = above[n + row]
    order = leaf_order(linkage)
    _, first, codes = np.unique(above[:n][order], return_index=True, return_inverse=True)
    clusters = np.empty(n, np.int64)
    clusters[order] = np.argsort(np.argsort(first))[codes]
    return clusters


def leaves_below(linkage: np.ndarray, node: int) -> np.ndarray:
    """Return the leaves of a node in leaf order; leaves are nodes 0 to n − 1, merges those from n on."""
    n = len(linkage) + 1
    leaves, stack = [], [node]
    while stack:
        top = stack.pop()
        if top < n:
            leaves.append(top)
        else:
            left, right = linkage[top - n, :2].astype(int)
            stack += [right, left]
    return np.array(leaves, np.int64)


def clade(linkage: np.ndarray, leaf: int, size: int) -> np.ndarray:
    """Return the smallest subtree that holds a leaf and at least `size` leaves: its leaves in leaf order.

    With merges of any height the subtree may be larger than asked for; with more than n it is the whole tree. Paper: "the
    32 proteins closest to MKI67 in our hierarchical clustering".
    """
    n = len(linkage) + 1
    node, leaves = leaf, 1
    for row in range(n - 1):  # a node is merged only after it was made
        if leaves >= size:
            break
        if node in linkage[row, :2]:
            node, leaves = n + row, int(linkage[row, 3])
    return leaves_below(linkage, node)


def cophenetic_correlation(features: np.ndarray, linkage: np.ndarray, some: np.ndarray) -> float:
    """Return Pearson's correlation of Euclidean distances and the heights at which pairs of leaves meet; 0 if constant.

    Parameters
    ----------
    features, linkage
        (n, d) and its tree, of ascending heights.
    some
        Leaves whose pairs count: all, or a sample.
    """
    from scipy.spatial.distance import pdist

    n = len(linkage) + 1
    order = leaf_order(linkage)
    position = np.argsort(order)
    last = position[:n].tolist() + [0] * (n - 1)  # of the leaves of a node: the last one's place
    gaps = np.empty(n - 1)  # heights at which neighbours in leaf order meet
    for row in range(n - 1):
        left, right = linkage[row, :2].astype(int)
        low, high = sorted((last[left], last[right]))
        gaps[low] = linkage[row, 2]
        last[n + row] = high
    places = np.sort(position[some])
    between = np.array([gaps[a:b].max() for a, b in itertools.pairwise(places)])
    heights = np.concatenate([np.maximum.accumulate(between[i:]) for i in range(len(between))])
    distances = pdist(features[order[places]])
    if heights.std() == 0 or distances.std() == 0:
        return 0.0
    return float(np.corrcoef(heights, distances)[0, 1])
