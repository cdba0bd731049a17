"""Normalized average pairwise distances: pairs, scores, their influences and the permutation test. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pci_bench.statistics.intervals import Spread, pair_spread

Statistic = Literal["z", "ratio"]
PERMUTATIONS = 999


TESTED_PER_TERM, TESTED = 30, 1200  # proteins of the permutation test: all their pairs are measured


ROUNDING = 1e-7  # an SD below this share of the mean is what is left of float64 after mean(d²) − mean(d)²


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
        images: np.ndarray = self.starts[proteins] + rng.integers(np.diff(self.starts)[proteins])
        return images


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
    single = {name: next(iter(own_terms)) for name, own_terms in annotated.items() if len(own_terms) == 1}
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
    images = units.size().index.to_frame(index=False)
    return LocalizedProteins(
        kept,
        np.searchsorted(kept, [t for t, _ in chosen]) if kept else np.zeros(0, np.int64),
        np.searchsorted(images["owner"], np.arange(len(chosen) + 1)),
        pd.factorize(images["line"], sort=True)[0],
        code,
        {
            "proteins_of_several_terms": sum(len(own_terms) > 1 for own_terms in annotated.values()),
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
    for first_term in range(len(proteins.terms)):
        for second_term in range(len(proteins.terms)):
            first = rng.integers(bounds[first_term], bounds[first_term + 1], pairs)
            second = rng.integers(bounds[second_term], bounds[second_term + 1] - (first_term == second_term), pairs)
            if first_term == second_term:
                second += second >= first
            drawn.append(np.stack([first, second], axis=1))
    pair_proteins = np.concatenate(drawn)
    return pair_proteins, proteins.an_image_of(pair_proteins, rng), np.arange(len(drawn) + 1) * pairs


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
    """Return z or the ratio minus 1 from mean same, mean different and mean squared different distances, all (…)."""
    gain = same - different
    scale = _scale_of(different, square_different, statistic)
    equal = np.abs(gain) <= ROUNDING * np.abs(different)
    with np.errstate(divide="ignore"):
        shares: np.ndarray = np.divide(gain, scale, out=np.zeros(np.shape(gain)), where=~((scale == 0) & equal))
    return shares


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
    influences = np.empty(len(distances))
    for term in range(terms):
        others = np.arange(terms) != term
        moments = mean[term, term], mean[term, others].mean(), square[term, others].mean()
        slopes = gradient(*moments, statistic)
        for other_term in range(terms):
            run = slice(starts[term * terms + other_term], starts[term * terms + other_term + 1])
            d, count = distances[run], starts[term * terms + other_term + 1] - starts[term * terms + other_term]
            if other_term == term:
                influences[run] = slopes[0] * (d - mean[term, term]) / count
            else:
                moved = slopes[1] * (d - mean[term, other_term]) + slopes[2] * (d**2 - square[term, other_term])
                influences[run] = moved / (count * (terms - 1))
    return influences


def term_spreads(
    influences: np.ndarray, pairs: np.ndarray, starts: np.ndarray, term: np.ndarray
) -> tuple[list[Spread], Spread]:
    """Return the spread of every term's score over proteins, and of their mean.

    Parameters
    ----------
    influences, starts
        Of :func:`term_influences`, and as there.
    pairs
        (m, 2) int: the proteins of every drawn pair.
    term
        (proteins,) int: each protein's term.
    """
    terms = int(term.max()) + 1
    by_term = []
    for place in range(terms):
        part = slice(starts[place * terms], starts[(place + 1) * terms])
        by_term.append(pair_spread(influences[part], pairs[part], term))
    return by_term, pair_spread(influences / terms, pairs, term)


def permutation_p(
    distances: np.ndarray,
    term: np.ndarray,
    statistic: Statistic,
    rng: np.random.Generator,
    *,
    permutations: int = PERMUTATIONS,
) -> tuple[np.ndarray, float]:
    """Return the probability of scores as low, where terms are assigned to the same proteins at random.

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
    margin = 1e-9 * (1 + np.abs(observed))  # a shuffle that assigns the same terms must count, whatever was rounded
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
