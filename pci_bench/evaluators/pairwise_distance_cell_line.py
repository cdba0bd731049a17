"""Normalized pairwise distance within a cell line and between cell lines (paper: Table 2)."""

from __future__ import annotations

from collections.abc import Iterator
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
from pci_bench.statistics.cell_line_pairs import (
    CONDITIONS,
    DRAWS,
    SETS,
    Moments,
    PairSums,
    draw_constrained_pairs,
    impossible_pairs,
)
from pci_bench.statistics.pairwise import LocalizedProteins, localized_proteins

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

ALL_PAIRS, SAMPLING_ERROR = "all_pairs_", "sampling_error_"  # before a metric's name
ALL_PAIRS_WORK = 2e11  # pairs of cells × features that are measured, about 20 seconds of one core
BLOCK_PAIRS = 2**16  # pairs of images at a time


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
        """Yield one output per parameters: scores within and between cell lines, their difference, and intervals."""
        drawn: dict[tuple[int, int, str], Moments] = {}
        whole: dict[tuple[int, str], Moments | None] = {}
        for params in param_sets:
            proteins = _localized(adata.obs, params)
            key = (params.pairs, params.minimum_proteins, params.terms)
            if key not in drawn:
                drawn[key] = sampled_moments(adata, proteins, params.pairs, context)
            if key[1:] not in whole:
                work = float((proteins.image >= 0).sum()) ** 2 / 2 * adata.n_vars
                whole[key[1:]] = all_moments(adata, proteins) if work <= ALL_PAIRS_WORK else None
            yield _output(params, proteins, drawn[key], whole[key[1:]])


def _localized(obs: pd.DataFrame, params: CellLineParams) -> LocalizedProteins:
    protein, image, terms, line = (obs_strings(obs, c) for c in ("protein", "image", params.terms, "cell_line"))
    return localized_proteins(protein, image, terms, line, minimum=params.minimum_proteins)


def sampled_moments(adata: AnnData, proteins: LocalizedProteins, pairs: int, context: EvaluationContext) -> Moments:
    """Return the moments of random pairs, as many of each set as asked for (paper: 10,000)."""
    streams = np.random.SeedSequence(context.seed).spawn(len(SETS))
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
    sums = PairSums(len(proteins.term))
    distances = standard_distances(adata, proteins, np.concatenate(images), context.blocks)
    sums.add(drawn_proteins, which, np.ones(len(drawn_proteins)), distances)
    return sums.moments()


def all_moments(adata: AnnData, proteins: LocalizedProteins) -> Moments:
    """Return the moments of all pairs of images of different proteins, weighted by how often they would be drawn.

    A draw takes two proteins alike, then an image of each alike: a pair's weight is one over the product of the numbers of
    images of its proteins. Pairs are measured block by block, so that memory does not grow with their number.
    """
    sizes = np.diff(proteins.starts)
    owner, count = np.repeat(np.arange(len(sizes)), sizes), int(proteins.starts[-1])
    sums = PairSums(len(sizes))
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


def _output(
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
