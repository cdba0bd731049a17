"""Normalized average pairwise distance of images whose proteins share a localization term (paper: Figure 2B)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EvaluatorMeta, Outcome, Run, dataset_name, register_evaluator, texts
from pci_bench.evaluators.intervals import Spread, pair_spread

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

INTERVAL = "pairs clustered by both proteins, proteins drawn within terms, features and terms as they are"
PERMUTATIONS = 999
TESTED_PER_TERM, TESTED = 30, 1200  # proteins of the permutation test: all their pairs are measured
ROUNDING = 1e-7  # an SD below this share of the mean is what is left of float64 after mean(d²) − mean(d)²

Statistic = Literal["z", "ratio"]


@dataclass(frozen=True)
class LocalizedProteins:
    """Proteins of one localization term each, sorted by term and name, and the images of each.

    Parameters
    ----------
    terms
        Names of the terms, sorted; every one is shared by at least the minimum of proteins.
    term
        (proteins,) int: each protein's term.
    starts
        (proteins + 1,) int: a protein's images are ``starts[p] … starts[p + 1] − 1``.
    line
        (images,) int: each image's cell line; all 0 where cell lines were not asked for.
    image
        (cells,) int: each cell's image, −1 for cells that are not evaluated.
    left_out
        What is not evaluated, and why: numbers, as the results' details say them.
    """

    terms: tuple[str, ...]
    term: np.ndarray
    starts: np.ndarray
    line: np.ndarray
    image: np.ndarray
    left_out: dict[str, Any]

    @property
    def bounds(self) -> np.ndarray:
        """(terms + 1,) int: a term's proteins are ``bounds[t] … bounds[t + 1] − 1``."""
        return np.searchsorted(self.term, np.arange(len(self.terms) + 1))

    def an_image_of(self, proteins: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return one image of each protein, drawn uniformly from its images."""
        return self.starts[proteins] + rng.integers(np.diff(self.starts)[proteins])


def split_terms(joined: str) -> frozenset[str]:
    """Return the terms of a ``;``-joined annotation, without blanks around them."""
    return frozenset(filter(None, map(str.strip, joined.split(";"))))


def localized_proteins(
    protein: np.ndarray, image: np.ndarray, terms: np.ndarray, cell_line: np.ndarray | None, *, minimum: int
) -> LocalizedProteins:
    """Return the proteins that have one localization term, of the terms that at least `minimum` of them share.

    A protein's terms are those of all its cells, so a protein whose images are annotated differently has several. An image
    is what shares protein, image name and cell line.

    Parameters
    ----------
    protein, image, terms
        (n,) str for each cell, ``""`` where missing; `terms` are ``;``-joined. Cells that miss one are not evaluated.
    cell_line
        (n,) str, or None where cell lines play no part; where given, cells without one are not evaluated.
    minimum
        Proteins that must share a term, after those without a usable image are left out.
    """
    import pandas as pd

    lines = np.zeros(len(protein), "U1") if cell_line is None else cell_line
    cells = pd.DataFrame({"protein": protein, "image": image, "terms": terms, "line": lines})
    complete = (cells["protein"] != "") & (cells["image"] != "") & (cells["terms"] != "")
    if cell_line is not None:
        complete &= cells["line"] != ""
    annotated: dict[str, frozenset[str]] = {}
    for name, joined in cells.loc[complete, ["protein", "terms"]].drop_duplicates().itertuples(index=False):
        annotated[name] = annotated.get(name, frozenset()) | split_terms(joined)
    single = {name: next(iter(found)) for name, found in annotated.items() if len(found) == 1}
    shared = pd.Series(single, dtype=object).value_counts()
    kept = tuple(sorted(shared.index[shared >= minimum]))
    rare = {str(t): int(shared[t]) for t in sorted(shared.index) if shared[t] < minimum}
    chosen = sorted((t, name) for name, t in single.items() if t in set(kept))
    position = {name: place for place, (_, name) in enumerate(chosen)}

    owner = cells["protein"].map(position).where(complete)
    used = owner.notna().to_numpy()
    units = cells[used].assign(owner=owner[used].astype(np.int64)).groupby(["owner", "image", "line"], sort=True)
    code = np.full(len(cells), -1)
    code[used] = units.ngroup()
    found = units.size().index.to_frame(index=False)
    return LocalizedProteins(
        kept,
        np.searchsorted(kept, [t for t, _ in chosen]) if kept else np.zeros(0, np.int64),
        np.searchsorted(found["owner"], np.arange(len(chosen) + 1)),
        pd.factorize(found["line"], sort=True)[0],
        code,
        {
            "proteins_of_several_terms": sum(len(found) > 1 for found in annotated.values()),
            "terms_of_too_few_proteins": rare,
            "cells": int((~used).sum()),
        },
    )


def draw_pairs(
    proteins: LocalizedProteins, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return random pairs for every term, with itself and with each other term.

    Each draw takes two distinct proteins of the two terms, then one image of each, all uniformly and with replacement
    across draws (ours; the paper says "random protein pairs").

    Returns
    -------
    (proteins, images, starts)
        (m, 2) int each, and (terms² + 1,) int: the pairs of terms t and u are the run t · terms + u.
    """
    bounds = proteins.bounds
    drawn = []
    for one in range(len(proteins.terms)):
        for other in range(len(proteins.terms)):
            first = rng.integers(bounds[one], bounds[one + 1], pairs)
            second = rng.integers(bounds[other], bounds[other + 1] - (one == other), pairs)
            if one == other:
                second += second >= first
            drawn.append(np.stack([first, second], axis=1))
    found = np.concatenate(drawn)
    return found, proteins.an_image_of(found, rng), np.arange(len(drawn) + 1) * pairs


def term_scores(mean: np.ndarray, square: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Return every term's normalized distance; negative where images of the term are closer than expected.

    Parameters
    ----------
    mean, square
        (…, terms, terms): mean distance, and mean squared distance, of image pairs of term t with term u; the diagonal is
        "same term".
    statistic
        ``"z"``: (mean same − mean different) / SD of the different-term pair distances, each other term with the same
        weight. ``"ratio"``: mean same / mean different − 1.

    Returns
    -------
    numpy.ndarray
        (…, terms). Where the different-term distances do not vary and the same-term ones are equal to them, 0; where only
        these differ, z is infinite. The paper prints no formula: both forms are ours.
    """
    terms = mean.shape[-1]
    same = np.diagonal(mean, axis1=-2, axis2=-1)
    different = (mean.sum(axis=-1) - same) / (terms - 1)
    square_different = (square.sum(axis=-1) - np.diagonal(square, axis1=-2, axis2=-1)) / (terms - 1)
    return normalized(same, different, square_different, statistic)


def normalized(
    same: np.ndarray, different: np.ndarray, square_different: np.ndarray, statistic: Statistic
) -> np.ndarray:
    """Return z or the ratio less 1 from mean same, mean different and mean squared different distances, all (…)."""
    gain = same - different
    scale = _scale_of(different, square_different, statistic)
    equal = np.abs(gain) <= ROUNDING * np.abs(different)
    with np.errstate(divide="ignore"):
        return np.divide(gain, scale, out=np.zeros(np.shape(gain)), where=~((scale == 0) & equal))


def _scale_of(different: np.ndarray, square_different: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Return what a difference of means is divided by: the mean, or the SD, of the different-term distances."""
    if statistic == "ratio":
        return different
    scale = np.sqrt(np.maximum(square_different - different**2, 0))
    return np.where(scale > ROUNDING * np.abs(different), scale, 0)


def gradient(same: float, different: float, square_different: float, statistic: Statistic) -> np.ndarray:
    """Return by how much :func:`normalized` moves with each of its three moments (3,); zeros where it is not defined."""
    gain = same - different
    scale = float(_scale_of(np.array(different), np.array(square_different), statistic))
    if scale == 0:
        return np.zeros(3)
    if statistic == "ratio":
        return np.array([1 / scale, -1 / scale - gain / scale**2, 0])
    return np.array([1 / scale, -1 / scale + gain * different / scale**3, -gain / (2 * scale**3)])


def permutation_p(
    distances: np.ndarray,
    term: np.ndarray,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    permutations: int = PERMUTATIONS,
) -> tuple[np.ndarray, float]:
    """Return the probability of scores as low, where terms are dealt to the same proteins at random.

    Parameters
    ----------
    distances
        (proteins, proteins), symmetric: distance of the images of every two of them.
    term
        (proteins,) int, each of 0 … terms − 1 at least twice.
    statistic, rng, permutations
        As in :func:`term_scores`; what the shuffles are drawn from, and how many.

    Returns
    -------
    (per_term, overall)
        (terms,) and one for the mean over terms: (1 + shuffles with a score as low or lower) / (1 + shuffles). Exact where
        terms are exchangeable among the proteins, since all pairs count and none was chosen by its term.
    """
    counts = np.bincount(term).astype(float)
    sizes = np.outer(counts, counts) - np.diag(counts)
    off = distances * ~np.eye(len(term), dtype=bool)
    squares = off**2

    def scores(members: np.ndarray) -> np.ndarray:
        mean, square = (members.T @ (values @ members) / sizes for values in (off, squares))
        own = term_scores(mean, square, statistic)
        return np.append(own, own.mean())

    members = np.eye(len(counts))[term]
    observed = scores(members)
    margin = 1e-9 * (1 + np.abs(observed))  # a shuffle that deals the same terms must count, whatever was rounded
    low = sum((scores(rng.permutation(members)) <= observed + margin).astype(int) for _ in range(permutations))
    p = (1 + low) / (1 + permutations)
    return p[:-1], float(p[-1])


def proteins_to_shuffle(proteins: LocalizedProteins, rng: np.random.Generator) -> np.ndarray:
    """Return the proteins of the permutation test: of every term at most 30, and about 1,200 in all, drawn at random."""
    most = max(2, min(TESTED_PER_TERM, TESTED // len(proteins.terms)))
    chosen = []
    for low, high in zip(proteins.bounds[:-1], proteins.bounds[1:], strict=True):
        chosen.append(np.sort(low + rng.permutation(high - low)[:most]))
    return np.concatenate(chosen)


class PairwiseDistanceParams(pydantic.BaseModel):
    """Parameters of the normalized average pairwise distance."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    pairs: int = pydantic.Field(
        1000, ge=2, le=10_000_000, description="pairs drawn for every term, and for it with each other term"
    )
    minimum_proteins: int = pydantic.Field(30, ge=2, description="proteins of one term only that must share a term")
    statistic: Statistic = pydantic.Field("z", description="(same − different) / SD, or same / different − 1")
    terms: str = pydantic.Field("labels", min_length=1, description="obs column of the ;-joined localization terms")


@register_evaluator("pairwise-distance")
class PairwiseDistance:
    """How much closer images of proteins with the same localization term are than images of proteins with different ones.

    An image pair's distance is the mean Euclidean distance over all pairs of their cells, on features standardised over all
    evaluated cells. Evaluated are proteins with one localization term, of terms shared by at least ``minimum_proteins`` of
    them. Pairs depend on the seed and the annotations only: every feature set is measured on the same ones.

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
        any_order=True,
        reusable=True,
        lower_is_better=True,
    )
    Params = PairwiseDistanceParams

    def skip(self, adata: AnnData, params: PairwiseDistanceParams) -> str | None:
        """Return why there are no pairs to draw, or None."""
        missing = missing_columns(adata, "protein", "image", params.terms)
        if missing:
            return missing
        return too_few_terms(adata, _localized(adata, params), params.minimum_proteins)

    def __call__(self, adata: AnnData, grid: list[PairwiseDistanceParams], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: overall and per-term scores, ratios, intervals and permutation p."""
        measured: dict[tuple[Any, ...], _Measured] = {}
        for params in grid:
            key = (params.pairs, params.minimum_proteins, params.terms)
            if key not in measured:
                measured[key] = _measure(adata, _localized(adata, params), params.pairs, run.seed)
            yield _outcome(params, measured[key], run.seed)


def missing_columns(adata: AnnData, *columns: str) -> str | None:
    """Return which of the columns are not there or empty and what they must hold, or None."""
    name = dataset_name(adata)
    for column in columns:
        if column not in adata.obs:
            return f"{name} has no column '{column}'; its columns are {', '.join(map(str, adata.obs.columns))}"
        if not (texts(adata, column) != "").any():
            return f"the column '{column}' of {name} is empty"
    return None


def too_few_terms(adata: AnnData, proteins: LocalizedProteins, minimum: int) -> str | None:
    """Return why distances to other terms need more terms than are left, or None."""
    if len(proteins.terms) >= 2:
        return None
    found = f"only {proteins.terms[0]} is" if proteins.terms else "no localization term is"
    rare = proteins.left_out["terms_of_too_few_proteins"]
    most = sorted(rare.items(), key=lambda item: (-item[1], item[0]))[:3]
    others = f" (most: {', '.join(f'{term} {count}' for term, count in most)})" if most else ""
    return (
        f"in {dataset_name(adata)} {found} shared by at least {minimum} proteins that have one term only{others}; "
        "at least two terms are needed. Use a smaller minimum_proteins, or annotate more proteins"
    )


def standard_distances(adata: AnnData, proteins: LocalizedProteins, pairs: np.ndarray) -> np.ndarray:
    """Return the mean distances of image pairs, on features standardised over all evaluated cells.

    Raises
    ------
    UserError
        For NaN or infinite features of evaluated cells.
    """
    from pci_bench.evaluators.compiled.distances import column_scale, mean_distances

    features = np.asarray(adata.X)
    mean, inverse = column_scale(features, np.flatnonzero(proteins.image >= 0))
    if not (np.isfinite(mean).all() and np.isfinite(inverse).all()):
        raise UserError("The features hold NaN or infinite values; pairwise distances need finite ones.")
    return mean_distances(features, proteins.image, pairs, mean=mean, inverse=inverse)


def _localized(adata: AnnData, params: PairwiseDistanceParams) -> LocalizedProteins:
    protein, image, terms = (texts(adata, c) for c in ("protein", "image", params.terms))
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


def _measure(adata: AnnData, proteins: LocalizedProteins, pairs: int, seed: int) -> _Measured:
    drawing, testing = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(2))
    drawn, images, starts = draw_pairs(proteins, pairs, drawing)
    tested = proteins_to_shuffle(proteins, testing)
    shown = proteins.an_image_of(tested, testing)
    rows, columns = np.triu_indices(len(tested), 1)
    found = standard_distances(
        adata, proteins, np.concatenate([images, np.stack([shown[rows], shown[columns]], axis=1)])
    )
    between = np.zeros((len(tested), len(tested)))
    between[rows, columns] = between[columns, rows] = found[len(images) :]
    return _Measured(proteins, drawn, starts, found[: len(images)], tested, between)


def term_influences(
    distances: np.ndarray, starts: np.ndarray, mean: np.ndarray, square: np.ndarray, statistic: Statistic
) -> np.ndarray:
    """Return by how much every drawn pair moves the score of the term that it was drawn for: (m,) float.

    Parameters
    ----------
    distances, starts
        (m,), and (terms² + 1,): the pairs of terms t and u are the run t · terms + u.
    mean, square
        (terms, terms): of these runs.
    statistic
        As in :func:`term_scores`.
    """
    terms = len(mean)
    found = np.empty(len(distances))
    for term in range(terms):
        others = np.arange(terms) != term
        moments = mean[term, term], mean[term, others].mean(), square[term, others].mean()
        slopes = gradient(*moments, statistic)
        for other in range(terms):
            run = slice(starts[term * terms + other], starts[term * terms + other + 1])
            d, count = distances[run], starts[term * terms + other + 1] - starts[term * terms + other]
            if other == term:
                found[run] = slopes[0] * (d - mean[term, term]) / count
            else:
                moved = slopes[1] * (d - mean[term, other]) + slopes[2] * (d**2 - square[term, other])
                found[run] = moved / (count * (terms - 1))
    return found


def _spreads(measured: _Measured, influences: np.ndarray) -> tuple[list[Spread], Spread]:
    """Return the spread of every term's score over proteins, and of their mean."""
    proteins = measured.proteins
    terms = len(proteins.terms)
    by_term = []
    for term in range(terms):
        part = slice(measured.starts[term * terms], measured.starts[(term + 1) * terms])
        by_term.append(pair_spread(influences[part], measured.pairs[part], proteins.term))
    return by_term, pair_spread(influences / terms, measured.pairs, proteins.term)


def _outcome(params: PairwiseDistanceParams, measured: _Measured, seed: int) -> Outcome:
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
    spreads = {
        name: _spreads(measured, term_influences(measured.distances, measured.starts, means, squares, name))
        for name in scores
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
    return Outcome(
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
                f"terms dealt at random to {len(measured.tested)} proteins (at most "
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
