"""Normalized pairwise distance within a cell line and between cell lines (paper: Table 2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EvaluatorMeta, Outcome, Run, dataset_name, register_evaluator, texts
from pci_bench.evaluators.metrics import percentile_interval
from pci_bench.evaluators.pairwise_distance import (
    REPLICATES,
    LocalizedProteins,
    PairwiseDistanceParams,
    localized_proteins,
    missing_columns,
    normalized,
    standard_distances,
    too_few_terms,
)

if TYPE_CHECKING:
    from anndata import AnnData

AT_ONCE, DRAWS = 2**17, 2**25
SETS = ((True, True), (True, False), (False, True), (False, False))  # (same cell line, same term)
CONDITIONS = ("same_cell_line", "different_cell_line")


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
    found: list[tuple[np.ndarray, np.ndarray]] = []
    count = 0
    for _ in range(DRAWS // AT_ONCE):
        drawn = rng.integers(len(proteins.term), size=(AT_ONCE, 2))
        images = proteins.an_image_of(drawn, rng)
        term, line = proteins.term[drawn], proteins.line[images]
        kept = (drawn[:, 0] != drawn[:, 1]) & ((term[:, 0] == term[:, 1]) == same_term)
        kept &= (line[:, 0] == line[:, 1]) == same_line
        found.append((drawn[kept], images[kept]))
        count += int(kept.sum())
        if count >= pairs:
            break
    return tuple(np.concatenate(parts)[:pairs] for parts in zip(*found, strict=True))  # type: ignore[return-value]


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
    return [kind for kind, found in possible.items() if not found]


class CellLineParams(PairwiseDistanceParams):
    """Parameters of the cell-line control."""

    pairs: int = pydantic.Field(10_000, ge=2, description="pairs drawn with the same term, and with different terms")


@register_evaluator("pairwise-distance-cell-line")
class PairwiseDistanceCellLine:
    """How much of the closeness of images with the same localization term is left between different cell lines.

    As pairwise-distance, but all terms together, and both sets of pairs (same term, different terms) are of images of the
    same cell line, or both of images of different ones. The difference is "different" less "same": what is lost.
    """

    meta = EvaluatorMeta(
        "pairwise-distance-cell-line",
        "1",
        "Normalized average pairwise distance within and between cell lines",
        "different_cell_line",
        key=("pairs", "minimum_proteins"),
        any_order=True,
        reusable=True,
        lower_is_better=True,
    )
    Params = CellLineParams

    def skip(self, adata: AnnData, params: CellLineParams) -> str | None:
        """Return why there are no pairs to draw, or None."""
        missing = missing_columns(adata, "protein", "image", "cell_line", params.terms)
        if missing:
            return missing
        proteins = _localized(adata, params)
        few = too_few_terms(adata, proteins, params.minimum_proteins)
        if few:
            return few
        if len(np.unique(proteins.line)) < 2:
            return f"all evaluated images of {dataset_name(adata)} are of one cell line; at least two are needed"
        absent = impossible_pairs(proteins)
        return f"{dataset_name(adata)} holds no {absent[0]}" if absent else None

    def __call__(self, adata: AnnData, grid: list[CellLineParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: scores within and between cell lines, their difference, and intervals."""
        measured: dict[tuple[int, int, str], tuple[LocalizedProteins, np.ndarray, np.ndarray, np.ndarray]] = {}
        for params in grid:
            key = (params.pairs, params.minimum_proteins, params.terms)
            if key not in measured:
                measured[key] = _measure(adata, _localized(adata, params), params.pairs, run.seed)
            yield _outcome(params, *measured[key], run.seed)


def _localized(adata: AnnData, params: CellLineParams) -> LocalizedProteins:
    protein, image, terms, line = (texts(adata, c) for c in ("protein", "image", params.terms, "cell_line"))
    return localized_proteins(protein, image, terms, line, minimum=params.minimum_proteins)


def _measure(
    adata: AnnData, proteins: LocalizedProteins, pairs: int, seed: int
) -> tuple[LocalizedProteins, np.ndarray, np.ndarray, np.ndarray]:
    """Return the proteins, and pairs of proteins, runs and distances of the four sets of pairs."""
    streams = np.random.SeedSequence(seed).spawn(len(SETS))
    drawn, images = [], []
    for (same_line, same_term), stream in zip(SETS, streams, strict=True):
        rng = np.random.default_rng(stream)
        one, two = draw_constrained_pairs(proteins, pairs, rng, same_line=same_line, same_term=same_term)
        if len(one) < 2:
            raise UserError(
                f"Of {DRAWS:,} random pairs of images of {dataset_name(adata)}, {len(one)} are of "
                f"{'one term' if same_term else 'different terms'} and {'one cell line' if same_line else 'different cell lines'}; "
                "at least 2 are needed. Annotate more images, or use a smaller minimum_proteins."
            )
        drawn.append(one)
        images.append(two)
    starts = np.cumsum([0, *map(len, drawn)])
    return proteins, np.concatenate(drawn), starts, standard_distances(adata, proteins, np.concatenate(images))


def _outcome(
    params: CellLineParams,
    proteins: LocalizedProteins,
    pairs: np.ndarray,
    starts: np.ndarray,
    distances: np.ndarray,
    seed: int,
) -> Outcome:
    from pci_bench.evaluators.compiled.distances import weighted_moments

    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(len(SETS) + 1)[-1])
    count = len(proteins.term)
    weights = np.concatenate([np.ones((1, count)), rng.standard_exponential((REPLICATES, count))])
    means, squares = weighted_moments(distances, starts, pairs, weights)
    same, different = means[:, ::2], means[:, 1::2]  # (replicates, same and different cell line)
    scores = normalized(same, different, squares[:, 1::2], params.statistic)
    if not np.isfinite(scores).all():
        raise UserError(
            "All distances between images of different terms are equal, so those of the same term cannot be normalized by "
            "them. Look at the features: they may hold one value per class only."
        )
    values = {name: scores[:, position] for position, name in enumerate(CONDITIONS)}
    values["difference"] = scores[:, 1] - scores[:, 0]
    drawn = dict(zip(SETS, np.diff(starts).tolist(), strict=True))
    conditions = {
        name: {
            "same_term": float(same[0, position]),
            "different_terms": float(different[0, position]),
            "pairs_of_the_same_term": drawn[name == CONDITIONS[0], True],
            "pairs_of_different_terms": drawn[name == CONDITIONS[0], False],
        }
        for position, name in enumerate(CONDITIONS)
    }
    return Outcome(
        params.model_dump(),
        {name: float(value[0]) for name, value in values.items()},
        {name: percentile_interval(value[1:]) for name, value in values.items()},
        {
            "conditions": conditions,
            "interval": f"Bayesian bootstrap of the pairs over proteins, {REPLICATES}",
            "terms": list(proteins.terms),
            "proteins": count,
            "images": len(proteins.line),
            "cell_lines": int(proteins.line.max()) + 1,
            "cells": int((proteins.image >= 0).sum()),
            "left_out": proteins.left_out,
        },
    )
