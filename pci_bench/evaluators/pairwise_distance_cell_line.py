"""Normalized pairwise distance within a cell line and between cell lines (paper: Table 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.pairwise_distance import (
    INTERVAL,
    PairwiseDistanceParams,
    missing_columns,
    standard_distances,
    too_few_terms,
)
from pci_bench.statistics.intervals import Spread, item_spread
from pci_bench.statistics.pairwise import LocalizedProteins, Statistic, gradient, localized_proteins, normalized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

BLOCK_ROWS, DRAWS = 2**17, 2**25
SETS = ((True, True), (True, False), (False, True), (False, False))  # (same cell line, same term)
CONDITIONS = ("same_cell_line", "different_cell_line")
METRICS = (*CONDITIONS, "difference")
ALL_PAIRS, SAMPLING_ERROR = "all_pairs_", "sampling_error_"  # before a metric's name
ALL_PAIRS_WORK = 2e11  # pairs of cells × features that are measured, about 20 seconds of one core
BLOCK_PAIRS = 2**16  # pairs of images at a time


def draw_constrained_pairs(
    proteins: LocalizedProteins, pairs: int, rng: np.random.Generator, *, same_line: bool, same_term: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return random pairs of images, of one or of different terms and of one or of different cell lines.

    Each draw takes two proteins, then one image of each, all uniformly; draws of the same protein, or that do not meet the
    conditions, are drawn again (ours). So terms and cell lines are met as often as the data has them: the paper did "not
    control for class imbalance" here.

    Returns
    -------
    (proteins, images)
        (m, 2) int each; fewer than `pairs` where 2²⁵ draws did not hold as many.
    """
    accepted: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for _ in range(DRAWS // BLOCK_ROWS):
        drawn = rng.integers(len(proteins.term), size=(BLOCK_ROWS, 2))
        images = proteins.an_image_of(drawn, rng)
        term, line = proteins.term[drawn], proteins.line[images]
        kept = (drawn[:, 0] != drawn[:, 1]) & ((term[:, 0] == term[:, 1]) == same_term)
        kept &= (line[:, 0] == line[:, 1]) == same_line
        accepted.append((drawn[kept], images[kept]))
        count += int(kept.sum())
        if count >= pairs:
            break
    pair_proteins, pair_images = (np.concatenate(parts)[:pairs] for parts in zip(*accepted, strict=True))
    return pair_proteins, pair_images


def impossible_pairs(proteins: LocalizedProteins) -> list[str]:
    """Return which of the four kinds of pairs the data cannot hold, in words."""
    owner = np.repeat(np.arange(len(proteins.term)), np.diff(proteins.starts))
    term, line = proteins.term[owner], proteins.line

    def some(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the groups that hold at least two values."""
        kinds = np.unique(np.stack([groups, values], axis=1), axis=0)
        return np.flatnonzero(np.bincount(kinds[:, 0]) >= 2)

    several_lines = len(np.unique(line)) >= 2
    possible = {
        "two proteins of one term in one cell line": len(some(term * (line.max() + 1) + line, owner)) > 0,
        "proteins of different terms in one cell line": len(some(line, term)) > 0,
        "two proteins of one term in different cell lines": len(np.intersect1d(some(term, owner), some(term, line)))
        > 0,
        "proteins of different terms in different cell lines": len(proteins.terms) >= 2 and several_lines,
    }
    return [kind for kind, is_possible in possible.items() if not is_possible]


class CellLineParams(PairwiseDistanceParams):
    """Parameters of the cell-line control."""

    pairs: int = pydantic.Field(
        10_000, ge=2, le=10_000_000, description="pairs drawn with the same term, and with different terms"
    )


@register_evaluator("pairwise-distance-cell-line")
class PairwiseDistanceCellLine(Evaluator):
    """How much of the closeness of images with the same localization term is left between different cell lines.

    As pairwise-distance, but all terms together, and both sets of pairs (same term, different terms) are of images of the
    same cell line, or both of images of different ones. The difference is "different" minus "same": what is lost.

    The paper draws 10,000 pairs of each kind; ``sampling_error_…`` is the standard error of that draw, and ``all_pairs_…`` the
    value that it estimates, over all pairs of images (absent where these are too many to measure). Intervals are of other
    proteins of the same terms.
    """

    meta = EvaluatorMeta(
        "pairwise-distance-cell-line",
        "2",
        "Normalized average pairwise distance within and between cell lines",
        "different_cell_line",
        key=("pairs", "minimum_proteins"),
        order_invariant=True,
        reusable=True,
        other_metrics=Metric(decimals=4, higher_is_better=False),
    )
    Params = CellLineParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: CellLineParams) -> str | None:
        """Return why there are no pairs to draw, or None."""
        missing = missing_columns(obs, dataset, "protein", "image", "cell_line", params.terms)
        if missing:
            return missing
        proteins = _localized(obs, params)
        few = too_few_terms(dataset, proteins, params.minimum_proteins)
        if few:
            return few
        if len(np.unique(proteins.line)) < 2:
            return f"all evaluated images of {dataset.display_name} are of one cell line; at least two are needed"
        absent = impossible_pairs(proteins)
        return f"{dataset.display_name} holds no {absent[0]}" if absent else None

    def __call__(
        self, adata: AnnData, param_sets: list[CellLineParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield one outcome per parameters: scores within and between cell lines, their difference, and intervals."""
        drawn: dict[tuple[int, int, str], Moments] = {}
        whole: dict[tuple[int, str], Moments | None] = {}
        for params in param_sets:
            proteins = _localized(adata.obs, params)
            key = (params.pairs, params.minimum_proteins, params.terms)
            if key not in drawn:
                drawn[key] = sampled_moments(adata, proteins, params.pairs, context.seed)
            if key[1:] not in whole:
                work = float((proteins.image >= 0).sum()) ** 2 / 2 * adata.n_vars
                whole[key[1:]] = all_moments(adata, proteins) if work <= ALL_PAIRS_WORK else None
            yield _outcome(params, proteins, drawn[key], whole[key[1:]])


def _localized(obs: pd.DataFrame, params: CellLineParams) -> LocalizedProteins:
    protein, image, terms, line = (obs_strings(obs, c) for c in ("protein", "image", params.terms, "cell_line"))
    return localized_proteins(protein, image, terms, line, minimum=params.minimum_proteins)


@dataclass(frozen=True)
class Moments:
    """What scores, their spread over proteins and their sampling error need to know of the four sets of pairs of images.

    Parameters
    ----------
    counts
        (4,) int: pairs of each set, in the order of ``SETS``.
    means
        (4, 2) float: mean distance and mean squared distance.
    by_protein
        (proteins, 12) float: sums over a protein's pairs, set by set, of weight, weight · distance and weight · distance²;
        weights sum to 1 over a set.
    by_dyad, by_pair
        (12, 12) float: sums of outer products of the same sums over the pairs of two proteins, and of single pairs.
    """

    counts: np.ndarray
    means: np.ndarray
    by_protein: np.ndarray
    by_dyad: np.ndarray
    by_pair: np.ndarray

    def scores(self, statistic: Statistic) -> dict[str, float]:
        """Return the score within and between cell lines, and "different" minus "same"."""
        same, different = self.means[::2], self.means[1::2]
        values = normalized(same[:, 0], different[:, 0], different[:, 1], statistic)
        with np.errstate(invalid="ignore"):  # the caller looks for infinite scores
            return dict(zip(METRICS, map(float, (*values, values[1] - values[0])), strict=True))

    def slopes(self, statistic: Statistic) -> dict[str, np.ndarray]:
        """Return by how much each score moves with the twelve sums of a protein."""
        derivatives = np.zeros((2, len(SETS), 3))
        for place in range(2):
            same, different = self.means[2 * place], self.means[2 * place + 1]
            for part, moment, slope in zip(
                (0, 1, 1), (0, 0, 1), gradient(same[0], different[0], different[1], statistic), strict=True
            ):
                row = 2 * place + part
                derivatives[place, row, 1 + moment] += slope
                derivatives[place, row, 0] -= slope * self.means[row, moment]
        same_line, different_lines = derivatives.reshape(2, -1)
        return dict(zip(METRICS, (same_line, different_lines, different_lines - same_line), strict=True))

    def spreads(self, statistic: Statistic, term: np.ndarray) -> dict[str, Spread]:
        """Return the spread of each score where proteins are drawn within their terms (proteins,) int."""
        return {
            name: item_spread(self.by_protein @ slope, float(slope @ self.by_dyad @ slope), term)
            for name, slope in self.slopes(statistic).items()
        }

    def sampling_errors(self, statistic: Statistic) -> dict[str, float]:
        """Return the standard error of each score that comes from having drawn pairs, and not taken all."""
        return {
            name: float(np.sqrt(max(slope @ self.by_pair @ slope, 0))) for name, slope in self.slopes(statistic).items()
        }


class _Sums:
    """Adds up pairs of images, those of two proteins together at a time."""

    def __init__(self, proteins: int) -> None:
        self.counts = np.zeros(len(SETS), np.int64)
        self.totals = np.zeros((len(SETS), 3))
        self.by_protein = np.zeros((proteins, 3 * len(SETS)))
        self.by_dyad, self.by_pair = np.zeros((2, 3 * len(SETS), 3 * len(SETS)))

    def add(self, pairs: np.ndarray, which: np.ndarray, weights: np.ndarray, distances: np.ndarray) -> None:
        """Add pairs (m, 2) of proteins, each of one set; two proteins' pairs must all come in one call."""
        n, size = len(self.by_protein), len(SETS)
        values = np.stack([weights, weights * distances, weights * distances**2], axis=1)
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        dyads, code = np.unique(low * n + high, return_inverse=True)
        summed = np.stack([np.bincount(code * size + which, v, minlength=len(dyads) * size) for v in values.T], axis=1)
        summed = summed.reshape(len(dyads), -1)
        self.by_dyad += summed.T @ summed
        for side in np.divmod(dyads, n):
            for column in range(summed.shape[1]):
                self.by_protein[:, column] += np.bincount(side, summed[:, column], minlength=n)
        for place in range(size):
            own, block = values[which == place], slice(3 * place, 3 * place + 3)
            self.counts[place] += len(own)
            self.totals[place] += own.sum(axis=0)
            self.by_pair[block, block] += own.T @ own

    def moments(self) -> Moments:
        """Return moments, weights scaled to a sum of 1 in every set."""
        scale = np.repeat(1 / self.totals[:, 0], 3)
        both = np.outer(scale, scale)
        means = self.totals[:, 1:] / self.totals[:, :1]
        return Moments(self.counts, means, self.by_protein * scale, self.by_dyad * both, self.by_pair * both)


def sampled_moments(adata: AnnData, proteins: LocalizedProteins, pairs: int, seed: int) -> Moments:
    """Return the moments of random pairs, as many of each set as asked for (paper: 10,000)."""
    streams = np.random.SeedSequence(seed).spawn(len(SETS))
    drawn, images = [], []
    for (same_line, same_term), stream in zip(SETS, streams, strict=True):
        rng = np.random.default_rng(stream)
        pair_proteins, pair_images = draw_constrained_pairs(
            proteins, pairs, rng, same_line=same_line, same_term=same_term
        )
        if len(pair_proteins) < 2:
            raise UserError(
                f"Of {DRAWS:,} random pairs of images of {Provenance.of(adata).dataset.display_name}, {len(pair_proteins)} are of "
                f"{'one term' if same_term else 'different terms'} and {'one cell line' if same_line else 'different cell lines'}; "
                "at least 2 are needed. Annotate more images, or use a smaller minimum_proteins."
            )
        drawn.append(pair_proteins)
        images.append(pair_images)
    drawn_proteins = np.concatenate(drawn)
    which = np.repeat(np.arange(len(SETS)), [len(part) for part in drawn])
    sums = _Sums(len(proteins.term))
    sums.add(
        drawn_proteins, which, np.ones(len(drawn_proteins)), standard_distances(adata, proteins, np.concatenate(images))
    )
    return sums.moments()


def all_moments(adata: AnnData, proteins: LocalizedProteins) -> Moments:
    """Return the moments of all pairs of images of different proteins, weighted by how often they would be drawn.

    A draw takes two proteins alike, then an image of each alike: a pair's weight is one over the product of the numbers of
    images of its proteins. Pairs are measured block by block, so that memory does not grow with their number.
    """
    sizes = np.diff(proteins.starts)
    owner, count = np.repeat(np.arange(len(sizes)), sizes), int(proteins.starts[-1])
    sums = _Sums(len(sizes))
    first = 0
    while first < len(sizes) - 1:
        last, images = first, 0
        while last < len(sizes) - 1 and (last == first or images < BLOCK_PAIRS):
            images += int(sizes[last]) * (count - int(proteins.starts[last + 1]))
            last += 1
        rows, columns = [], []
        for protein in range(first, last):
            own = np.arange(proteins.starts[protein], proteins.starts[protein + 1])
            others = np.arange(proteins.starts[protein + 1], count)
            rows.append(np.repeat(own, len(others)))
            columns.append(np.tile(others, len(own)))
        pairs = np.stack([np.concatenate(rows), np.concatenate(columns)], axis=1)
        both = owner[pairs]
        term, line = proteins.term[both], proteins.line[pairs]
        which = 2 * (line[:, 0] != line[:, 1]) + (term[:, 0] != term[:, 1])
        sums.add(both, which, 1 / sizes[both].prod(axis=1), standard_distances(adata, proteins, pairs))
        first = last
    return sums.moments()


def _outcome(
    params: CellLineParams, proteins: LocalizedProteins, drawn: Moments, whole: Moments | None
) -> EvaluatorOutput:
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for prefix, moments in (("", drawn), (ALL_PAIRS, whole)):
        if moments is None:
            continue
        scores, spreads = moments.scores(params.statistic), moments.spreads(params.statistic, proteins.term)
        if not np.isfinite(list(scores.values())).all():
            raise UserError(
                "All distances between images of different terms are equal, so those of the same term cannot be normalized by "
                "them. Look at the features: they may hold one value per class only."
            )
        metrics |= {prefix + name: value for name, value in scores.items()}
        intervals |= {prefix + name: spreads[name].interval(value) for name, value in scores.items()}
    metrics |= {SAMPLING_ERROR + name: error for name, error in drawn.sampling_errors(params.statistic).items()}
    conditions = {
        name: {
            "same_term": float(drawn.means[2 * place, 0]),
            "different_terms": float(drawn.means[2 * place + 1, 0]),
            "pairs_of_the_same_term": int(drawn.counts[2 * place]),
            "pairs_of_different_terms": int(drawn.counts[2 * place + 1]),
        }
        for place, name in enumerate(CONDITIONS)
    }
    return EvaluatorOutput(
        params.model_dump(),
        metrics,
        intervals,
        {
            "conditions": conditions,
            "all_pairs": None if whole is None else int(whole.counts.sum()),
            "interval": INTERVAL,
            "terms": list(proteins.terms),
            "proteins": len(proteins.term),
            "images": len(proteins.line),
            "cell_lines": int(proteins.line.max()) + 1,
            "cells": int((proteins.image >= 0).sum()),
            "left_out": proteins.left_out,
        },
    )
