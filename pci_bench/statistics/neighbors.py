"""Exact nearest neighbours among the cells of other groups, and their votes. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pci_bench.statistics.balanced import holdings, left_out_groups
from pci_bench.statistics.chance import chance_levels
from pci_bench.statistics.jackknife import interval_of, jackknife_variance, slopes
from pci_bench.statistics.metrics import classification_metrics
from pci_bench.system.blocks import HERE, Blocks
from pci_bench.system.threads import on_each_core

Metric = Literal["euclidean", "correlation", "cosine"]


def loo_neighbors(
    features: np.ndarray, k: int, groups: np.ndarray | None = None, blocks: Blocks = HERE
) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's k nearest other rows and their Euclidean distances, exact to float64.

    Parameters
    ----------
    features
        (n, d), finite; used as they are (standardise first where that is wanted).
    k
        1 … n − 1.
    groups
        (n,) int; neighbours come from other groups only. Default: every row is a group, which is leave-one-out. Or (c, n) int:
        neighbours share no group of any of c kinds.
    blocks
        Where rows are searched for: :attr:`pci_bench.EvaluationContext.blocks`, by default this process.

    Returns
    -------
    indices
        (n, k) int64, nearest first, rows at equal distance in index order; never the row itself, even among duplicates.
        −1 where fewer than k rows belong to other groups.
    distances
        (n, k) float64; infinity where the index is −1.

    Raises
    ------
    UserError
        For NaN or infinite features, or k outside 1 … n − 1.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[0.0], [1.0], [3.0], [7.0]])
    >>> indices, distances = loo_neighbors(features, k=2)
    >>> indices.tolist()
    [[1, 2], [0, 2], [1, 0], [2, 1]]
    >>> loo_neighbors(features, k=2, groups=np.array([0, 0, 1, 1]))[0].tolist()
    [[2, 3], [2, 3], [1, 0], [1, 0]]
    """
    from pci_bench.statistics.compiled.neighbors import nearest

    return nearest(features, k, [np.arange(len(features)) if groups is None else np.asarray(groups)], blocks)[0]


def directions(features: np.ndarray, metric: Metric) -> np.ndarray:
    """Return rows whose Euclidean distances order as another metric does: 2 (1 − r) is the squared distance of unit vectors.

    Parameters
    ----------
    features
        (n, d), finite.
    metric
        ``"euclidean"`` returns the rows as they are; ``"correlation"`` takes the mean off each row and divides it by its length,
        so that nearest is the highest Pearson correlation; ``"cosine"`` only divides.

    Returns
    -------
    ndarray
        (n, d) float64. A row without a direction (:func:`directionless`) becomes zeros.

    Examples
    --------
    >>> import numpy as np
    >>> features = np.array([[1.0, 2.0, 4.0], [2.0, 4.0, 8.0], [4.0, 2.0, 1.0]])
    >>> loo_neighbors(directions(features, "correlation"), k=1)[0].ravel().tolist()
    [1, 0, 0]
    """
    rows = np.asarray(features, np.float64)
    if metric == "euclidean":
        return rows
    undefined = directionless(rows, metric)
    rows = rows - rows.mean(axis=1, keepdims=True) if metric == "correlation" else rows
    largest = np.abs(rows).max(axis=1, keepdims=True)
    rows = rows / np.where(largest > 0, largest, 1)  # so that no square leaves float64's range
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    unit: np.ndarray = np.where(undefined[:, None], 0, rows / np.where(lengths > 0, lengths, 1))
    return unit


def directionless(features: np.ndarray, metric: Metric) -> np.ndarray:
    """Return which rows (n,) have no correlation (all values equal) or no cosine (all values 0) with others; none by distance.

    >>> import numpy as np
    >>> directionless(np.array([[0.1, 0.1], [0.0, 0.0], [1.0, 2.0]]), "correlation").tolist()
    [True, True, False]
    """
    if metric == "euclidean":
        return np.zeros(len(features), bool)
    lowest, highest = features.min(axis=1), features.max(axis=1)
    undefined: np.ndarray = lowest == highest if metric == "correlation" else (lowest == 0) & (highest == 0)
    return undefined


def majority_vote(neighbor_labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the most frequent label of each row; ties go to the smallest label, as scikit-learn.

    (n, k) int -> (n,) int. Labels of −1 do not vote; a row without any vote is −1.
    """
    n = len(neighbor_labels)
    rows, places = np.nonzero(neighbor_labels >= 0)
    votes = np.bincount(rows * n_classes + neighbor_labels[rows, places], minlength=n * n_classes).reshape(n, n_classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


ROWS_AT_ONCE = 65_536
JACKKNIFE_DRAWS = 12  # of the draws of left-out groups: an interval needs fewer than a mean


@dataclass(frozen=True)
class Neighborhoods:
    """The neighbours of labelled cells that do not share a group with them, and votes among them.

    Parameters
    ----------
    features
        (n, d) float64.
    labels, groups
        Class and group of every cell (n,) int, from 0; of several kinds of groups, none of which neighbours share, (kinds, n).
    lists
        Neighbours (n, depth) int, nearest first; −1 where there are no more.
    order
        The order (n,) int in which cells are gone through, so that no sum depends on the order of the cells.
    """

    features: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    lists: np.ndarray
    order: np.ndarray

    @property
    def n_classes(self) -> int:
        """The number of classes."""
        return int(self.labels.max()) + 1

    @property
    def own_groups(self) -> np.ndarray:
        """The groups (n,) of the first kind, which balanced candidates and whole-group permutations are of."""
        own: np.ndarray = np.atleast_2d(self.groups)[0]
        return own

    def _draws(self, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
        if balanced:
            return left_out_groups(self.labels, self.own_groups, self.n_classes)
        nothing = np.full((1, self.n_classes), -1)
        return nothing, nothing

    def _deep_enough(self, votes: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        """Call `votes` with rows and their lists, and again with longer lists for those that it says were too short."""
        from pci_bench.statistics.compiled.neighbors import nearest_of

        rows, lists = self.order, self.lists[self.order]
        while len(rows := rows[votes(rows, lists)]):
            lists = nearest_of(self.features, rows, min(2 * lists.shape[1], len(self.labels) - 1), self.groups)

    def shares(self, ks: Sequence[int], *, balanced: bool = False) -> dict[int, np.ndarray]:
        """Return, by k, how often each class is predicted for each cell: (n, n_classes + 1), the last column for "no neighbour".

        The majority of the k nearest neighbours, ties to the smallest label. With `balanced` every other class loses a group as
        well, and the shares are over the draws of :func:`pci_bench.statistics.balanced.left_out_groups`.
        """
        from pci_bench.statistics.compiled import votes

        if not balanced:
            nearest = np.where(self.lists >= 0, self.labels[self.lists], -1)
            sure = np.eye(self.n_classes + 1)  # −1 is the last column
            return {k: sure[majority_vote(nearest[:, :k], self.n_classes)] for k in ks}
        ks = sorted(set(ks))
        left_out, _ = self._draws(balanced=True)
        holds = holdings(self.labels, self.own_groups, self.n_classes)
        shares = np.empty((len(ks), len(self.labels), self.n_classes + 1))

        def vote(rows: np.ndarray, lists: np.ndarray) -> np.ndarray:
            shares[:, rows], short = votes.shares(
                rows, lists, self.labels, self.own_groups, np.array(ks), self.n_classes, left_out, holds
            )
            return np.asarray(short)

        self._deep_enough(vote)
        return dict(zip(ks, shares, strict=True))

    def intervals(
        self, shares: np.ndarray, k: int, units: np.ndarray, strata: np.ndarray, *, balanced: bool = False
    ) -> dict[str, tuple[float, float]]:
        """Return jackknife intervals of balanced accuracy, macro-F1 and accuracy.

        Parameters
        ----------
        shares
            Of :meth:`shares` for the same k.
        k
            How many vote.
        units, strata
            What is deleted as a whole (n,) int, and the stratum of every unit.
        balanced
            As in :meth:`shares`.
        """
        from pci_bench.statistics.compiled import votes

        n_classes = self.n_classes
        confusion = expected_confusion(shares[self.order], self.labels[self.order], n_classes)
        influences = slopes(confusion)
        own = np.zeros((len(strata), influences.shape[2]))
        for start in range(0, len(self.order), ROWS_AT_ONCE):
            rows = self.order[start : start + ROWS_AT_ONCE]
            np.add.at(own, units[rows], np.einsum("ij,ijm->im", shares[rows], influences[self.labels[rows]]))
        left_out, instead = (
            np.ascontiguousarray(d[:: max(1, len(d) // JACKKNIFE_DRAWS)]) for d in self._draws(balanced=balanced)
        )
        unit_of_group = np.full(int(self.own_groups.max()) + 1, -1)
        unit_of_group[self.own_groups] = units
        several = np.unique(self.own_groups[unit_of_group[self.own_groups] != units])
        unit_of_group[several] = -1
        holds = holdings(self.labels, self.own_groups, n_classes)
        deletions: list[tuple[np.ndarray, np.ndarray]] = []

        def vote(rows: np.ndarray, lists: np.ndarray) -> np.ndarray:
            def of_part(part: int, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
                some = slice(len(rows) * part // parts, len(rows) * (part + 1) // parts)
                found: tuple[np.ndarray, np.ndarray, np.ndarray] = votes.deletions(
                    rows[some],
                    lists[some],
                    self.labels,
                    self.own_groups,
                    units,
                    k,
                    left_out,
                    instead,
                    unit_of_group,
                    holds,
                    influences,
                )
                return found

            pairs, changes, short = (np.concatenate(found) for found in zip(*on_each_core(of_part), strict=True))
            deletions.append((pairs, changes))
            return short

        self._deep_enough(vote)
        pairs, changes = (np.concatenate(parts) for parts in zip(*deletions, strict=True))
        variance, freedom = jackknife_variance(own, pairs, changes, strata)
        values = classification_metrics(confusion)
        return {
            name: interval_of(float(value), float(v), float(f))
            for (name, value), v, f in zip(values.items(), variance, freedom, strict=True)
        }

    def chance(
        self, ks: Sequence[int], permuted: np.ndarray, seed: int, *, balanced: bool = False
    ) -> dict[int, dict[str, Any]]:
        """Return what permuted labels (permutations, n), cells in `order`, score: :func:`pci_bench.statistics.chance.chance_levels`."""
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        lists = np.where(self.lists >= 0, place[self.lists], -1)[self.order]
        return chance_levels(lists, permuted, self.own_groups[self.order], ks, self.n_classes, seed, balanced=balanced)


def one_right_and_one_wrong(labels: np.ndarray, predicted: np.ndarray, order: np.ndarray, most: int) -> np.ndarray:
    """Return positions of example cells, at most `most`: of every class one that was predicted right, then one that was not.

    Parameters
    ----------
    labels, predicted
        True and predicted class (n,) int; a prediction of −1, "none", is wrong.
    order
        Positions (n,) in the order in which cells are drawn: the first of each kind is taken.
    most
        How many; the smallest classes' numbers come first.

    Examples
    --------
    >>> import numpy as np
    >>> labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 1])
    >>> one_right_and_one_wrong(labels, predicted, np.array([4, 3, 2, 1, 0]), 40).tolist()
    [2, 1, 4]
    """
    kinds = 2 * labels[order] + (predicted[order] != labels[order])
    positions: np.ndarray = order[np.unique(kinds, return_index=True)[1][:most]]
    return positions


def expected_confusion(shares: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return how often each class is predicted as each, in expectation: (n, n_classes + 1) -> (n_classes, n_classes + 1)."""
    confusion = np.zeros((n_classes, n_classes + 1))
    np.add.at(confusion, labels, shares)
    return confusion


def neighborhoods(
    features: np.ndarray,
    labels: np.ndarray,
    groupings: Mapping[str, np.ndarray],
    depth: int,
    order: np.ndarray | None = None,
    blocks: Blocks = HERE,
) -> dict[str, Neighborhoods]:
    """Return the neighbours under every grouping, from one search.

    Parameters
    ----------
    features, labels
        (n, d) float and (n,) int, used as they are.
    groupings
        Each (n,) int, from 0: neighbours come from other groups only. Or (kinds, n) int: they share a group of no kind.
    depth
        How many neighbours to find, at least the largest k; where votes need more, they are found later.
    order
        The order (n,) in which cells are gone through; by default as they come.
    blocks
        Where rows are searched for.

    Examples
    --------
    >>> import numpy as np
    >>> features, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    >>> found = neighborhoods(features, labels, {"cell": np.arange(4), "image": np.array([0, 0, 1, 1])}, 1)
    >>> found["cell"].shares([1])[1].argmax(axis=1).tolist(), found["image"].shares([1])[1].argmax(axis=1).tolist()
    ([0, 0, 1, 1], [1, 1, 0, 0])
    """
    from pci_bench.statistics.compiled.neighbors import nearest_lists

    order = np.arange(len(labels)) if order is None else order
    searched = nearest_lists(features, depth, list(groupings.values()), blocks)
    return {
        name: Neighborhoods(features, labels, groups, lists, order)
        for (name, groups), lists in zip(groupings.items(), searched, strict=True)
    }


def search_depth(k: int, n: int, singly: np.ndarray, groupings: Mapping[str, np.ndarray]) -> int:
    """Return how many neighbours votes of k mostly need: one more where single cells are deleted and none is left out."""
    return min(n - 1, k + (1 if singly.all() and set(groupings) == {"cell"} else 10 + k // 2))


def most_frequent(shares: np.ndarray) -> np.ndarray:
    """Return the class with the largest share (n,) int, the smallest of equals; −1 for "no neighbour"."""
    best = shares.argmax(axis=1)
    return np.where(best == shares.shape[1] - 1, -1, best)
