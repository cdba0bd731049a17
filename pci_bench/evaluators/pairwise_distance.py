"""Normalized average pairwise distance of images whose proteins share a localization term (paper: Figure 2B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

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
from pci_bench.statistics.pairwise import (
    PERMUTATIONS,
    LocalizedProteins,
    Statistic,
    draw_pairs,
    localized_proteins,
    permutation_p,
    proteins_to_shuffle,
    term_influences,
    term_scores,
    term_spreads,
)
from pci_bench.system.blocks import HERE, Blocks

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

INTERVAL = "pairs clustered by both proteins, proteins drawn within terms, features and terms as they are"


class PairwiseDistanceParams(pydantic.BaseModel):
    """Parameters of the normalized average pairwise distance."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    pairs: int = pydantic.Field(
        1000, ge=2, le=10_000_000, description="pairs drawn for every term, and for it with each other term"
    )
    minimum_proteins: int = pydantic.Field(30, ge=2, description="proteins of one term only that must share a term")
    statistic: Statistic = pydantic.Field("z", description="(same − different) / SD, or same / different − 1")
    terms: str = pydantic.Field("labels", min_length=1, description="obs column of the ;-joined localization terms")


class ProteinOrImageParams(PairwiseDistanceParams):
    """Parameters of the distances between proteins, or between images where no protein is named."""

    unit: Literal["protein", "protein-or-image"] = pydantic.Field(
        "protein", description="what pairs are of: proteins; where the dataset names none, images"
    )


@register_evaluator("pairwise-distance")
class PairwiseDistance(Evaluator):
    """How much closer images of proteins with the same localization term are than images of proteins with different ones.

    An image pair's distance is the mean Euclidean distance over all pairs of their cells, on features standardised over all
    evaluated cells. Evaluated are proteins with one localization term, of terms shared by at least ``minimum_proteins`` of
    them. Pairs depend on the seed and the annotations only: every feature set is measured on the same ones. With ``unit`` =
    ``protein-or-image``, where a dataset names no proteins, an image's cells of one label take a protein's place: pairs of a
    label are then of two images, and the details say so.

    Intervals are of proteins drawn within their terms: what all pairs of a protein do moves together, so that the variance
    of the draw of pairs counts once and that of the proteins is not missed. The permutation p has a sample of its own (at most
    30 proteins of every term, one image each, all their pairs), because pairs that were drawn by their terms say nothing
    about shuffled terms.
    """

    meta = EvaluatorMeta(
        "pairwise-distance",
        "2",
        "Normalized average pairwise distance between images of the same localization term",
        "normalized_distance",
        key=("pairs", "minimum_proteins"),
        order_invariant=True,
        reusable=True,
        metrics={
            "normalized_distance": Metric(higher_is_better=False),
            "ratio": Metric(higher_is_better=False),
            "p": Metric(higher_is_better=False),
        },
    )
    Params = ProteinOrImageParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ProteinOrImageParams) -> str | None:
        """Return why there are no pairs to draw, or None."""
        protein = [] if _pairs_are_of_images(obs, params) else ["protein"]
        missing = missing_columns(obs, dataset, *protein, "image", params.terms)
        if missing:
            return missing
        unit = "proteins" if protein else "images"
        return too_few_terms(dataset, _localized(obs, params), params.minimum_proteins, unit)

    def __call__(
        self, adata: AnnData, param_sets: list[ProteinOrImageParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield one output per parameters: overall and per-term scores, ratios, intervals and permutation p."""
        measured: dict[tuple[Any, ...], _Measured] = {}
        for params in param_sets:
            key = (params.pairs, params.minimum_proteins, params.terms, params.unit)
            if key not in measured:
                measured[key] = _measure(adata, _localized(adata.obs, params), params.pairs, context)
            output = _output(params, measured[key], context.seed)
            if _pairs_are_of_images(adata.obs, params):
                output.details["unit"] = "image"
            yield output


def missing_columns(obs: pd.DataFrame, dataset: DatasetProvenance, *columns: str) -> str | None:
    """Return which of the columns are not there or empty and what they must hold, or None."""
    name = dataset.display_name
    for column in columns:
        if column not in obs:
            return f"{name} has no column '{column}'; its columns are {', '.join(map(str, obs.columns))}"
        if not (obs_strings(obs, column) != "").any():
            return f"the column '{column}' of {name} is empty"
    return None


def too_few_terms(
    dataset: DatasetProvenance, proteins: LocalizedProteins, minimum: int, unit: str = "proteins"
) -> str | None:
    """Return why distances to other terms need more terms than are left, or None."""
    if len(proteins.terms) >= 2:
        return None
    subject = f"only {proteins.terms[0]} is" if proteins.terms else "no localization term is"
    rare = proteins.left_out["terms_of_too_few_proteins"]
    most = sorted(rare.items(), key=lambda item: (-item[1], item[0]))[:3]
    others = f" (most: {', '.join(f'{term} {count}' for term, count in most)})" if most else ""
    return (
        f"in {dataset.display_name} {subject} shared by at least {minimum} {unit} that have one term only{others}; "
        f"at least two terms are needed. Use a smaller minimum_proteins, or annotate more {unit}"
    )


def standard_distances(
    adata: AnnData, proteins: LocalizedProteins, pairs: np.ndarray, blocks: Blocks = HERE
) -> np.ndarray:
    """Return the mean distances of image pairs, on features standardised over all evaluated cells, or post-processed.

    Raises
    ------
    UserError
        For NaN or infinite features of evaluated cells.
    """
    from pci_bench.statistics.compiled.distances import column_scale, mean_distances

    features = np.asarray(adata.X)
    mean, inverse = column_scale(features, np.flatnonzero(proteins.image >= 0))
    if not (np.isfinite(mean).all() and np.isfinite(inverse).all()):
        raise UserError("The features hold NaN or infinite values; pairwise distances need finite ones.")
    if Provenance.of(adata).features.postprocess:  # which standardising would undo
        mean, inverse = np.zeros_like(mean), np.ones_like(inverse)
    return mean_distances(features, proteins.image, pairs, mean=mean, inverse=inverse, blocks=blocks)


def _pairs_are_of_images(obs: pd.DataFrame, params: ProteinOrImageParams) -> bool:
    """Return whether images take the place of proteins, since none is named."""
    return params.unit == "protein-or-image" and not (obs_strings(obs, "protein") != "").any()


def _localized(obs: pd.DataFrame, params: ProteinOrImageParams) -> LocalizedProteins:
    protein, image, terms = (obs_strings(obs, c) for c in ("protein", "image", params.terms))
    if _pairs_are_of_images(obs, params):
        protein = np.array([f"{i}\t{t}" if i and t else "" for i, t in zip(image, terms, strict=True)])
    return localized_proteins(protein, image, terms, None, minimum=params.minimum_proteins)


@dataclass(frozen=True)
class _Measured:
    """The distances of one draw: of the pairs, and of all pairs of the tested proteins."""

    proteins: LocalizedProteins
    pairs: np.ndarray
    starts: np.ndarray
    distances: np.ndarray
    tested: np.ndarray
    between: np.ndarray


def _measure(adata: AnnData, proteins: LocalizedProteins, pairs: int, context: EvaluationContext) -> _Measured:
    drawing, testing = (np.random.default_rng(s) for s in np.random.SeedSequence(context.seed).spawn(2))
    drawn, images, starts = draw_pairs(proteins, pairs, drawing)
    tested = proteins_to_shuffle(proteins, testing)
    tested_images = proteins.an_image_of(tested, testing)
    rows, columns = np.triu_indices(len(tested), 1)
    tested_pairs = np.stack([tested_images[rows], tested_images[columns]], axis=1)
    distances = standard_distances(adata, proteins, np.concatenate([images, tested_pairs]), context.blocks)
    between = np.zeros((len(tested), len(tested)))
    between[rows, columns] = between[columns, rows] = distances[len(images) :]
    return _Measured(proteins, drawn, starts, distances[: len(images)], tested, between)


def _output(params: ProteinOrImageParams, measured: _Measured, seed: int) -> EvaluatorOutput:
    """Return metrics, intervals and details of one draw."""
    import pandas as pd

    proteins, terms = measured.proteins, measured.proteins.terms
    shuffling = np.random.default_rng(np.random.SeedSequence(seed).spawn(4)[3])
    means, squares = (
        np.add.reduceat(values, measured.starts[:-1]).reshape(len(terms), len(terms))
        / np.diff(measured.starts).reshape(len(terms), len(terms))
        for values in (measured.distances, measured.distances**2)
    )
    scores = {name: term_scores(means, squares, name) for name in dict.fromkeys((params.statistic, "ratio"))}
    if not all(np.isfinite(score).all() for score in scores.values()):
        unsound = terms[np.flatnonzero(~np.all([np.isfinite(score) for score in scores.values()], axis=0))[0]]
        raise UserError(
            f"All distances between {unsound} and other terms are equal, so the distances within {unsound} cannot be "
            "normalized by them. Look at the features: they may hold one value per class only."
        )
    influences = {name: term_influences(measured.distances, measured.starts, means, squares, name) for name in scores}
    spreads = {
        name: term_spreads(influence, measured.pairs, measured.starts, proteins.term)
        for name, influence in influences.items()
    }
    score, ratios = scores[params.statistic], 1 + scores["ratio"]
    p, overall_p = permutation_p(measured.between, proteins.term[measured.tested], params.statistic, shuffling)
    images = np.diff(proteins.starts[proteins.bounds])
    intervals = [s.interval(v) for s, v in zip(spreads[params.statistic][0], score, strict=True)]
    table = pd.DataFrame(
        {
            "term": terms,
            "score": score,
            "low": [low for low, _ in intervals],
            "high": [high for _, high in intervals],
            "ratio": ratios,
            "p": p,
            "same": np.diagonal(means),
            "different": (means.sum(axis=1) - np.diagonal(means)) / (len(terms) - 1),
            "proteins": np.diff(proteins.bounds),
            "images": images,
        }
    )
    overall, overall_ratio = float(score.mean()), float(ratios.mean())
    return EvaluatorOutput(
        params.model_dump(),
        {"normalized_distance": overall, "ratio": overall_ratio, "p": overall_p},
        {
            "normalized_distance": spreads[params.statistic][1].interval(overall),
            "ratio": spreads["ratio"][1].interval(overall_ratio),
        },
        {
            "per_term": _per_term(table),
            "interval": INTERVAL,
            "permutation": (
                f"terms assigned at random to {len(measured.tested)} proteins (at most "
                f"{np.bincount(proteins.term[measured.tested]).max()} of a term, one image each, all pairs), {PERMUTATIONS}"
            ),
            "proteins": len(proteins.term),
            "images": len(proteins.line),
            "cells": int((proteins.image >= 0).sum()),
            "left_out": proteins.left_out,
        },
        tables={"terms": table},
    )


def _per_term(table: pd.DataFrame) -> dict[str, dict[str, float | int]]:
    """Return the table's rows by term, as plain numbers."""
    columns = [c for c in table.columns if c != "term"]
    return {str(row["term"]): {c: row[c] for c in columns} for row in table.to_dict("records")}
