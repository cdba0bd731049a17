"""Leave-one-out k-nearest-neighbour classification (paper: Table 1, Figure 2A, Supplementary Table 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    AS_GIVEN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    register_evaluator,
)
from pci_bench.data.examples import NEIGHBOURS
from pci_bench.data.observations import exclusion_columns, exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.labelled import (
    CLASSIFICATION_METRICS,
    SUBSET,
    LabelledCells,
    classification_unavailable_reason,
    labelled,
    resolved,
)
from pci_bench.statistics.chance import permutations_for, permuted_labels
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS
from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.neighbors import (
    Metric,
    Neighborhoods,
    directionless,
    directions,
    expected_confusion,
    loo_neighbors,
    majority_vote,
    most_frequent,
    neighborhoods,
    one_right_and_one_wrong,
    search_depth,
)
from pci_bench.statistics.scaling import standardized, standardized_within

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


__all__ = ["LooKnn", "LooKnnParams", "loo_neighbors", "majority_vote", "neighborhoods", "neighbours_of"]

MAX_EXAMPLES, NEIGHBOURS_SHOWN = 40, 8
SCALES = ("all", "none")


class LooKnnParams(pydantic.BaseModel):
    """Parameters of leave-one-out kNN."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value neighbours must not share; of several joined by +, no value of any",
    )
    scale: str = pydantic.Field(
        "all",
        min_length=1,
        description="standardise over all evaluated cells, or 'none', or an obs column within whose values to standardise",
        json_schema_extra=AS_GIVEN,
    )
    candidates: Literal["all", "balanced"] = pydantic.Field(
        "all", description="all other cells may be neighbours, or every class loses a group as the cell's own does"
    )
    subset: str = pydantic.Field("", description=SUBSET)
    metric: Metric = pydantic.Field(
        "euclidean",
        description="nearest is the smallest distance, or the highest correlation or cosine of two cells' features",
    )


class Votes(NamedTuple):
    """Of every k: the shares of predictions, and what permuted labels of the excluded groups and of whole images score."""

    shares: dict[int, np.ndarray]
    chance: dict[int, dict[str, Any]]
    recognition: dict[int, dict[str, Any]]


@register_evaluator("loo-knn")
class LooKnn(Evaluator):
    """Balanced accuracy of the majority of a cell's k nearest neighbours, the cell itself left out.

    Distances are Euclidean on standardised features. With ``metric=correlation`` the nearest cell is the one with the highest Pearson
    correlation over features, as for profiles of treatments; then ``scale=none`` keeps what a plate's controls have scaled.

    ``scale=screen`` standardises every screen by itself, so that screens can be compared whose measurements are offset. Features that
    were post-processed (``postprocess``) are not standardised again: ``scale=all`` is then ``scale=none``.

    ``exclude=field`` also leaves out neighbours of the cell's own field of view. ``exclude=compound+batch`` leaves out those of the
    same compound and those of the same batch: a neighbour shares neither. That is "not same compound or batch" of Ando et al. 2017
    (doi 10.1101/161422), and ``exclude=compound`` is "not same compound" of Ljosa et al. 2013.

    An exclusion alone takes candidates from the cell's own class and from no other, so that even features that know nothing fall
    below chance. With ``candidates=balanced`` every class loses one field: the cell's own field where that has cells of the class,
    else a field of it that is drawn in proportion to its cells. A prediction is then a share: how often a class wins over 120 fixed
    draws. It is conditional on k and on the thinned reference of one field fewer per class; a class that lies in one field has no
    candidates. Features that know nothing, or that only recognise the field, are at chance.

    Intervals are of a delete-one-field jackknife: fields are drawn anew both as predicted cells and as neighbours
    (:mod:`pci_bench.statistics.jackknife`). ``details["chance"]`` is what permuted labels score: labels of cells where only the cell
    is left out, else of whole fields. Where only the cell is left out, ``details["recognition"]`` is the score of labels that whole
    fields exchange: what recognising the field alone achieves.

    The table ``example-neighbours`` holds the first neighbours of a few cells, of every class one predicted right and one wrong.
    With balanced candidates there is none: neighbours differ from draw to draw, and no k of them decide.
    """

    meta = EvaluatorMeta(
        "loo-knn",
        "2",
        "Leave-one-out k-nearest-neighbour classification",
        "balanced_accuracy",
        key=("k", "exclude"),
        metrics=CLASSIFICATION_METRICS,
        order_invariant=True,
        reusable=True,
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = LooKnnParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: LooKnnParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude, params.subset):
            return reason
        if params.scale not in SCALES and params.scale not in obs:
            return (
                f"scale = '{params.scale}' is neither 'all' nor 'none' nor a column of {dataset.display_name}; its columns are "
                f"{', '.join(obs.columns)}"
            )
        if params.candidates == "balanced" and len(exclusion_columns(obs, params.exclude)) > 1:
            return "candidates=balanced takes one group off every class, and needs one column in exclude"
        if params.candidates == "balanced" and resolve_exclude(params.exclude, dataset) == "cell":
            return "candidates=balanced needs an exclusion coarser than the cell. Name one with exclude"
        if params.k >= (count := int(labelled(obs, params.subset).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset.display_name} has {count}. Use a smaller --k"
        return None

    def unavailable_reason(self, adata: AnnData, params: LooKnnParams) -> str | None:
        """Return which cells have no correlation or cosine with others, or None."""
        if params.metric == "euclidean":
            return None
        cells = LabelledCells.of(adata, params.subset)
        without = directionless(_scaled(cells, params.scale), params.metric)
        if not without.any():
            return None
        constant = "all equal" if params.metric == "correlation" else "all 0"
        return (
            f"metric={params.metric} is not defined for {int(without.sum()):,} of {len(without):,} cells, whose features are {constant} "
            f"(first '{cells.names[without.argmax()]}'). Use metric=euclidean, or leave these cells out"
        )

    def __call__(
        self, adata: AnnData, param_sets: list[LooKnnParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield one output per parameters: metrics, intervals, chance, per-class recalls, confusion, predictions, examples."""
        for subset in dict.fromkeys(p.subset for p in param_sets):
            yield from self._of_subset(adata, subset, [p for p in param_sets if p.subset == subset], context)

    def _of_subset(
        self, adata: AnnData, subset: str, param_sets: list[LooKnnParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the outputs of the parameters that evaluate the same cells."""
        cells = LabelledCells.of(adata, subset)
        dataset, kept = Provenance.of(adata).dataset, labelled(adata.obs, subset)
        searches = [p.model_copy(update={"exclude": resolve_exclude(p.exclude, dataset)}) for p in param_sets]
        groups = {x: _groups(adata.obs, x)[:, kept] for x in dict.fromkeys(p.exclude for p in searches)}
        groupings = {exclude: _numbered(kinds) for exclude, kinds in groups.items()}
        units, strata, singly = units_and_strata(cells.groups, cells.labels, cells.names)
        interval = _interval_name(cells, singly)
        order = np.argsort(cells.names, kind="stable")
        drawn = np.random.default_rng(0).permutation(order)  # examples: the same whatever the seed and the cells' order
        by_space: dict[tuple[str, Metric], dict[str, Neighborhoods]] = {}
        for scale, metric in dict.fromkeys((p.scale, p.metric) for p in searches):
            features = directions(_scaled(cells, scale), metric)
            most = max(p.k for p in searches if (p.scale, p.metric) == (scale, metric))
            depth = search_depth(most, len(features), singly, groupings)
            by_space[scale, metric] = neighborhoods(features, cells.labels, groupings, depth, order, context.blocks)

        def permuted(groups: np.ndarray) -> np.ndarray:
            enough = max(permutations_for(len(order), p.k) for p in searches)
            return permuted_labels(cells.labels[order], groups[order], enough, context.seed)

        @cache
        def votes(scale: str, metric: Metric, column: str, candidates: str) -> Votes:
            """Return what one pass finds for all k that are asked for."""
            wanted = (scale, metric, column, candidates)
            ks = [p.k for p in searches if (p.scale, p.metric, p.exclude, p.candidates) == wanted]
            neighbors, balanced = by_space[scale, metric][column], candidates == "balanced"
            return Votes(
                neighbors.shares(ks, balanced=balanced),
                neighbors.chance(ks, permuted(groups[column][0]), context.seed, balanced=balanced),
                neighbors.chance(ks, permuted(cells.groups), context.seed)
                if column == "cell" and cells.groups is not None
                else {},
            )

        for params in searches:
            neighbors, balanced = by_space[params.scale, params.metric][params.exclude], params.candidates == "balanced"
            of_all_k = votes(params.scale, params.metric, params.exclude, params.candidates)
            shares = of_all_k.shares[params.k]
            predicted = most_frequent(shares)
            unit = exclusion_columns(adata.obs, params.exclude)[0]
            details: dict[str, Any] = {"chance": {"unit": unit, **of_all_k.chance[params.k]}}
            if of_all_k.recognition:
                details["recognition"] = {"unit": cells.confounder, **of_all_k.recognition[params.k]}
            output = cells.output(
                resolved(params, params.exclude),
                predicted,
                unreachable=unreachable_classes(cells.labels, neighbors.groups),
                details=details,
                confusion=expected_confusion(
                    shares[neighbors.order], cells.labels[neighbors.order], neighbors.n_classes
                )
                if balanced
                else None,
                intervals=neighbors.intervals(shares, params.k, units, strata, balanced=balanced),
                interval_name=interval,
            )
            if balanced and output.per_cell is not None:
                output.per_cell["correct"] = shares[np.arange(len(shares)), cells.labels]
            if not balanced:
                examples = one_right_and_one_wrong(cells.labels, predicted, drawn, MAX_EXAMPLES)
                nearest = neighbors.lists[examples, : min(params.k, NEIGHBOURS_SHOWN)]
                output.tables[NEIGHBOURS] = _neighbours(cells, predicted, examples, nearest)
            yield output


def neighbours_of(adata: AnnData, params: LooKnnParams, names: Sequence[str]) -> pd.DataFrame:
    """Return the nearest neighbours of some labelled cells, in the form of the table ``example-neighbours``.

    Parameters
    ----------
    adata
        The features of all cells.
    params
        Of an evaluation, with the exclusion resolved; all other cells are candidates (``candidates="all"``).
    names
        The cells.

    Examples
    --------
    >>> import pci_bench
    >>> features = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> table = neighbours_of(features, LooKnnParams(k=3), list(features.obs_names[:2]))
    >>> table["rank"].tolist()
    [1, 2, 3, 1, 2, 3]
    """
    from pci_bench.statistics.compiled.neighbors import nearest_of

    cells = LabelledCells.of(adata, params.subset)
    place = {name: i for i, name in enumerate(cells.names)}
    wanted = np.array([place[name] for name in names], np.int64)
    groups = _groups(adata.obs, params.exclude)[:, labelled(adata.obs, params.subset)]
    nearest = nearest_of(directions(_scaled(cells, params.scale), params.metric), wanted, params.k, groups)
    predicted = np.full(len(cells.labels), -1)
    predicted[wanted] = majority_vote(np.where(nearest >= 0, cells.labels[nearest], -1), len(cells.classes))
    return _neighbours(cells, predicted, wanted, nearest[:, :NEIGHBOURS_SHOWN])


def _groups(obs: pd.DataFrame, exclude: str) -> np.ndarray:
    """Return what neighbours must not share, by the columns that an exclusion names: (columns, n) int."""
    return np.stack([exclusion_groups(obs, column) for column in exclusion_columns(obs, exclude)])


def _numbered(kinds: np.ndarray) -> np.ndarray:
    """Return groups numbered from 0 (kinds, n) int, or (n,) where there is one kind."""
    numbered = np.stack([np.unique(groups, return_inverse=True)[1] for groups in kinds])
    return numbered[0] if len(numbered) == 1 else numbered


def _scaled(cells: LabelledCells, scale: str) -> np.ndarray:
    """Return features as neighbours are searched among them (n, d) float64."""
    if scale not in SCALES:
        return standardized_within(cells.values, exclusion_groups(cells.obs, scale))
    return standardized(cells.values) if scale == "all" else np.asarray(cells.values, np.float64)


def _neighbours(cells: LabelledCells, predicted: np.ndarray, examples: np.ndarray, nearest: np.ndarray) -> pd.DataFrame:
    """Return a row for each neighbour, nearest first, of example cells (q,) int, from their lists (q, k) int; −1 is none."""
    import pandas as pd

    row, place = np.nonzero(nearest >= 0)
    of, neighbour = examples[row], nearest[row, place]
    names = cells.names
    return pd.DataFrame(
        {
            "cell": names[of],
            "label": cells.classes[cells.labels[of]],
            "predicted": cells.classes[predicted[of]],
            "rank": place + 1,
            "neighbour": names[neighbour],
            "neighbour_label": cells.classes[cells.labels[neighbour]],
        }
    )


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
