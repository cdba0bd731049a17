"""Leave-one-out k-nearest-neighbour classification (paper: Table 1, Figure 2A, Supplementary Table 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.evaluators.balanced import holdings, left_out_groups
from pci_bench.evaluators.base import (
    EvaluatorMeta,
    Outcome,
    Run,
    dataset_name,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
    standardized,
)
from pci_bench.evaluators.chance import PERMUTATIONS, chance_level, permuted_labels
from pci_bench.evaluators.jackknife import interval_of, jackknife_variance, slopes, units_and_strata
from pci_bench.evaluators.labelled import LabelledCells, labelled, unreachable_classes, why_not_classify
from pci_bench.evaluators.metrics import classification_metrics

if TYPE_CHECKING:
    from anndata import AnnData


def loo_neighbors(features: np.ndarray, k: int, groups: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return every row's k nearest other rows and their Euclidean distances, exact to float64.

    Parameters
    ----------
    features
        (n, d), finite; used as they are (standardise first where that is wanted).
    k
        1 … n − 1.
    groups
        (n,) int; neighbours come from other groups only. Default: every row is a group, which is leave-one-out.

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
    """
    from pci_bench.evaluators.compiled.neighbors import nearest

    return nearest(features, k, [np.arange(len(features)) if groups is None else np.asarray(groups)])[0]


def majority_vote(neighbor_labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return the most frequent label of each row; ties go to the smallest label, as scikit-learn.

    (n, k) int -> (n,) int. Labels of −1 do not vote; a row without any vote is −1.
    """
    n = len(neighbor_labels)
    rows, places = np.nonzero(neighbor_labels >= 0)
    votes = np.bincount(rows * n_classes + neighbor_labels[rows, places], minlength=n * n_classes).reshape(n, n_classes)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), -1)


JACKKNIFE_DRAWS = 12  # of the draws of left-out groups: an interval needs fewer than a mean


@dataclass(frozen=True)
class Neighborhoods:
    """The neighbours of labelled cells that do not share a group with them, and votes among them.

    Parameters
    ----------
    features
        (n, d) float64.
    labels, groups
        Class and group of every cell (n,) int, from 0.
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

    def _draws(self, *, balanced: bool) -> tuple[np.ndarray, np.ndarray]:
        if balanced:
            return left_out_groups(self.labels, self.groups, self.n_classes)
        nothing = np.full((1, self.n_classes), -1)
        return nothing, nothing

    def _deep_enough(self, votes: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        """Call `votes` with rows and their lists, and again with longer lists for those that it says were too short."""
        from pci_bench.evaluators.compiled.neighbors import nearest_of

        rows, lists = self.order, self.lists[self.order]
        while len(rows := rows[votes(rows, lists)]):
            lists = nearest_of(self.features, rows, min(2 * lists.shape[1], len(self.labels) - 1), self.groups)

    def shares(self, k: int, *, balanced: bool = False) -> np.ndarray:
        """Return how often each class is predicted for each cell: (n, n_classes + 1), the last column for "no neighbour".

        The majority of the k nearest neighbours, ties to the smallest label. With `balanced` every other class loses a group as
        well, and the shares are over the draws of :func:`pci_bench.evaluators.balanced.left_out_groups`.
        """
        from pci_bench.evaluators.compiled import votes

        if not balanced:
            nearest = self.lists[:, :k]
            predicted = majority_vote(np.where(nearest >= 0, self.labels[nearest], -1), self.n_classes)
            return np.eye(self.n_classes + 1)[predicted]  # −1 is the last column
        left_out, _ = self._draws(balanced=True)
        holds = holdings(self.labels, self.groups, self.n_classes)
        found = np.empty((len(self.labels), self.n_classes + 1))

        def vote(rows: np.ndarray, lists: np.ndarray) -> np.ndarray:
            found[rows], short = votes.shares(rows, lists, self.labels, self.groups, k, self.n_classes, left_out, holds)
            return np.asarray(short)

        self._deep_enough(vote)
        return found

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
        from pci_bench.evaluators.compiled import votes

        n_classes = self.n_classes
        confusion = expected_confusion(shares[self.order], self.labels[self.order], n_classes)
        worth = slopes(confusion)
        own = np.zeros((len(strata), worth.shape[2]))
        np.add.at(own, units[self.order], np.einsum("ij,ijm->im", shares[self.order], worth[self.labels[self.order]]))
        left_out, instead = (
            np.ascontiguousarray(d[:: max(1, len(d) // JACKKNIFE_DRAWS)]) for d in self._draws(balanced=balanced)
        )
        unit_of_group = np.full(int(self.groups.max()) + 1, -1)
        unit_of_group[self.groups] = units
        several = np.unique(self.groups[unit_of_group[self.groups] != units])
        unit_of_group[several] = -1
        holds = holdings(self.labels, self.groups, n_classes)
        found: list[tuple[np.ndarray, np.ndarray]] = []

        def vote(rows: np.ndarray, lists: np.ndarray) -> np.ndarray:
            pairs, changes, short = votes.deletions(
                rows, lists, self.labels, self.groups, units, k, left_out, instead, unit_of_group, holds, worth
            )
            found.append((pairs, changes))
            return np.asarray(short)

        self._deep_enough(vote)
        pairs, changes = (np.concatenate(parts) for parts in zip(*found, strict=True))
        variance, freedom = jackknife_variance(own, pairs, changes, strata)
        values = classification_metrics(confusion)
        return {
            name: interval_of(float(value), float(v), float(f))
            for (name, value), v, f in zip(values.items(), variance, freedom, strict=True)
        }

    def chance(self, k: int, permuted: np.ndarray, seed: int, *, balanced: bool = False) -> dict[str, Any]:
        """Return what permuted labels (permutations, n), cells in `order`, score: :func:`pci_bench.evaluators.chance.chance_level`."""
        place = np.empty_like(self.order)
        place[self.order] = np.arange(len(self.order))
        lists = np.where(self.lists >= 0, place[self.lists], -1)[self.order]
        return chance_level(lists, permuted, self.groups[self.order], k, self.n_classes, seed, balanced=balanced)


def expected_confusion(shares: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return how often each class is predicted as each, in expectation: (n, n_classes + 1) -> (n_classes, n_classes + 1)."""
    found = np.zeros((n_classes, n_classes + 1))
    np.add.at(found, labels, shares)
    return found


class LooKnnParams(pydantic.BaseModel):
    """Parameters of leave-one-out kNN."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    exclude: str = pydantic.Field("cell", min_length=1, description="obs column whose value neighbours must not share")
    scale: Literal["all", "none"] = pydantic.Field("all", description="standardise over all evaluated cells, or not")
    candidates: Literal["all", "balanced"] = pydantic.Field(
        "all", description="all other cells may be neighbours, or every class loses a group as the cell's own does"
    )


@register_evaluator("loo-knn")
class LooKnn:
    """Balanced accuracy of the majority of a cell's k nearest neighbours, the cell itself left out.

    Distances are Euclidean on standardised features. ``exclude=field`` also leaves out neighbours of the cell's own field
    of view. That alone takes candidates from the cell's own class and from no other, so that even features that know nothing fall
    below chance. With ``candidates=balanced`` every class loses one field: the cell's own field where that has cells of the class,
    else a field of it that is drawn in proportion to its cells. A prediction is then a share: how often a class wins over 120 fixed
    draws. It is conditional on k and on the thinned reference of one field less per class; a class that lies in one field has no
    candidates. Features that know nothing, or that only recognise the field, are at chance.

    Intervals are of a delete-one-field jackknife: fields are drawn anew both as predicted cells and as neighbours
    (:mod:`pci_bench.evaluators.jackknife`). ``details["chance"]`` is what permuted labels score: labels of cells where only the cell
    is left out, else of whole fields. Where only the cell is left out, ``details["recognition"]`` is the score of labels that whole
    fields exchange: what recognising the field alone achieves.
    """

    meta = EvaluatorMeta(
        "loo-knn",
        "2",
        "Leave-one-out k-nearest-neighbour classification",
        "balanced_accuracy",
        key=("k", "exclude"),
        any_order=True,
        reusable=True,
    )
    Params = LooKnnParams

    def skip(self, adata: AnnData, params: LooKnnParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        if reason := why_not_classify(adata, params.exclude):
            return reason
        if params.candidates == "balanced" and resolve_exclude(adata, params.exclude) == "cell":
            return "candidates=balanced needs an exclusion coarser than the cell. Name one with exclude"
        if params.k >= (count := int(labelled(adata).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset_name(adata)} has {count}. Use a smaller --k"
        return None

    def __call__(self, adata: AnnData, grid: list[LooKnnParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: metrics, intervals, chance, per-class recalls, confusion, predictions."""
        cells = LabelledCells.of(adata)
        columns = list(dict.fromkeys(resolve_exclude(adata, p.exclude) for p in grid))
        groupings = {c: np.unique(exclusion_groups(adata, c)[labelled(adata)], return_inverse=True)[1] for c in columns}
        units, strata, singly = units_and_strata(cells.groups, cells.labels, cells.names)
        interval = _interval_name(cells, singly)
        order = np.argsort(cells.names, kind="stable")
        found = {}
        for scale in dict.fromkeys(p.scale for p in grid):
            features = standardized(cells.values) if scale == "all" else np.asarray(cells.values, np.float64)
            depth = _search_depth(max(p.k for p in grid if p.scale == scale), len(features), singly, groupings)
            found[scale] = neighborhoods(features, cells.labels, groupings, depth, order)

        @cache
        def permuted(column: str) -> np.ndarray:
            groups = exclusion_groups(adata, column)[labelled(adata)]
            return permuted_labels(cells.labels[order], groups[order], PERMUTATIONS, run.seed)

        for params in grid:
            column, balanced = resolve_exclude(adata, params.exclude), params.candidates == "balanced"
            near = found[params.scale][column]
            shares = near.shares(params.k, balanced=balanced)
            details: dict[str, Any] = {
                "chance": {
                    "unit": column,
                    **near.chance(params.k, permuted(column), run.seed, balanced=balanced),
                }
            }
            if column == "cell" and cells.groups is not None:
                recognized = near.chance(params.k, permuted(cells.confounder), run.seed)
                details["recognition"] = {"unit": cells.confounder, **recognized}
            outcome = cells.outcome(
                params.model_copy(update={"exclude": column}).model_dump(),
                _most_frequent(shares),
                unreachable=unreachable_classes(cells.labels, near.groups),
                details=details,
                confusion=expected_confusion(shares[near.order], cells.labels[near.order], near.n_classes)
                if balanced
                else None,
                intervals=near.intervals(shares, params.k, units, strata, balanced=balanced),
                interval_name=interval,
            )
            if balanced and outcome.predictions is not None:
                outcome.predictions["correct"] = shares[np.arange(len(shares)), cells.labels]
            yield outcome


def neighborhoods(
    features: np.ndarray,
    labels: np.ndarray,
    groupings: Mapping[str, np.ndarray],
    depth: int,
    order: np.ndarray | None = None,
) -> dict[str, Neighborhoods]:
    """Return the neighbours under every grouping, from one search.

    Parameters
    ----------
    features, labels
        (n, d) float and (n,) int, used as they are.
    groupings
        Each (n,) int, from 0: neighbours come from other groups only.
    depth
        How many neighbours to find, at least the largest k; where votes need more, they are found later.
    order
        The order (n,) in which cells are gone through; by default as they come.

    Examples
    --------
    >>> import numpy as np
    >>> features, labels = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    >>> found = neighborhoods(features, labels, {"cell": np.arange(4), "image": np.array([0, 0, 1, 1])}, 1)
    >>> found["cell"].shares(1).argmax(axis=1).tolist(), found["image"].shares(1).argmax(axis=1).tolist()
    ([0, 0, 1, 1], [1, 1, 0, 0])
    """
    from pci_bench.evaluators.compiled.neighbors import nearest

    order = np.arange(len(labels)) if order is None else order
    searched = nearest(features, depth, list(groupings.values()))
    return {
        name: Neighborhoods(features, labels, groups, lists, order)
        for (name, groups), (lists, _) in zip(groupings.items(), searched, strict=True)
    }


def _search_depth(k: int, n: int, singly: np.ndarray, groupings: Mapping[str, np.ndarray]) -> int:
    """Return how many neighbours votes of k mostly need: one more where single cells are deleted and none is left out."""
    return min(n - 1, k + (1 if singly.all() and set(groupings) == {"cell"} else 10 + k // 2))


def _most_frequent(shares: np.ndarray) -> np.ndarray:
    """Return the class with the largest share (n,) int, the smallest of equals; −1 for "no neighbour"."""
    best = shares.argmax(axis=1)
    return np.where(best == shares.shape[1] - 1, -1, best)


def _interval_name(cells: LabelledCells, singly: np.ndarray) -> str:
    """Return what the intervals are of, and what they take as given."""
    if cells.groups is None or singly.all():
        unit, given = "cell", "cells"
        drawn = "cells are drawn anew, predicted and as neighbours"
    else:
        unit, given = cells.confounder, f"{cells.confounder}s and cells"
        drawn = f"whole {cells.confounder}s are drawn anew, predicted and as neighbours"
        if singly.any():
            alone = ", ".join(cells.classes[np.unique(cells.labels[singly])])
            drawn += f" (single cells of {alone}, which lie in one {cells.confounder})"
    return f"delete-one-{unit} jackknife within class: {drawn}; features, their scaling and the numbers of {given} are given"
