"""Scores of cells between the averages of two compartments, with intervals and chance. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pci_bench.errors import UserError
from pci_bench.statistics.intervals import Spread
from pci_bench.statistics.pairwise import split_terms

HALVES, PERMUTATIONS = 100, 100


NEAREST = 1e-9  # of the distance between the two averages: what a distance of 0 counts as


FIRST, SECOND, BOTH, NEITHER = 0, 1, 2, -1


BLOCK_ROWS = 8192


def compartment_scores(features: np.ndarray, annotation: np.ndarray, groups: np.ndarray | None = None) -> np.ndarray:
    """Return log(d₁ / d₂) of every cell; negative where it is nearer the first compartment (paper: Methods).

    Features are standardised over the given cells (ours). d₁ and d₂ are a cell's Euclidean distances to the average of all
    cells of the first compartment only, and to that of the second only. A distance below 10⁻⁹ of the one between the
    averages counts as that much, so that a cell on an average has a finite score; where the distances are equal, it is 0.

    Parameters
    ----------
    features
        (n, d) float.
    annotation
        (n,) int: 0 for cells of the first compartment only, 1 of the second only; others are scored.
    groups
        (n,) int: the averages that a cell is measured against leave out the cells of its group, since a cell is nearer an
        average that it is part of. Each compartment needs two groups. Default: all cells count, as in the paper.

    Raises
    ------
    UserError
        For NaN or infinite values.

    Examples
    --------
    Two cells of each compartment, and one between them.

    >>> import numpy as np
    >>> features = np.array([[0.0], [2.0], [8.0], [10.0], [5.0]])
    >>> compartment_scores(features, np.array([0, 0, 1, 1, 2])).round(2).tolist()
    [-2.2, -1.95, 1.95, 2.2, 0.0]
    """
    from pci_bench.statistics.compiled.distances import column_scale

    mean, inverse = column_scale(features, np.arange(len(features)))
    if not (np.isfinite(mean).all() and np.isfinite(inverse).all()):
        raise UserError("The features hold NaN or infinite values; distances to compartments need finite ones.")

    def totals(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (2, d) sums and (2, 1) numbers of the cells of each compartment only."""
        alone = [cells[annotation[cells] == compartment] for compartment in (FIRST, SECOND)]
        sums = np.stack([features[some].sum(axis=0, dtype=np.float64) for some in alone])
        return sums, np.array([[len(some)] for some in alone])

    every = np.arange(len(features))
    sums, counts = totals(every)
    least = NEAREST * np.linalg.norm(np.diff(sums / counts, axis=0) * inverse)
    scores = np.empty(len(features))
    codes = np.zeros(len(features), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    by_group = np.argsort(codes, kind="stable")
    for cells in np.split(by_group, np.searchsorted(codes[by_group], np.arange(1, codes.max() + 1))):
        own, own_counts = totals(cells) if groups is not None else (0, 0)
        averages = ((sums - own) / (counts - own_counts) - mean) * inverse
        for start in range(0, len(cells), BLOCK_ROWS):
            some = cells[start : start + BLOCK_ROWS]
            part = (features[some] - mean) * inverse
            to_first, to_second = (
                np.maximum(np.sqrt(np.square(part - average).sum(axis=1)), least) for average in averages
            )
            with np.errstate(divide="ignore", invalid="ignore"):
                scores[some] = np.where(to_first == to_second, 0, np.log(to_first) - np.log(to_second))
    return scores


def separation(first: np.ndarray, second: np.ndarray) -> float:
    """Return the probability that a cell of `first` has a lower score than a cell of `second`; ties count half."""
    ordered = np.sort(first)
    below, up_to = np.searchsorted(ordered, second, "left"), np.searchsorted(ordered, second, "right")
    return float((below + up_to).mean() / (2 * len(first)))


def summary(scores: np.ndarray, annotation: np.ndarray) -> dict[str, float]:
    """Return the medians of the three groups, the share of "both" between the single medians, and the separation."""
    groups = [scores[annotation == group] for group in (FIRST, SECOND, BOTH)]
    first, second, both = (float(np.median(group)) for group in groups)
    between = (groups[2] > min(first, second)) & (groups[2] < max(first, second))
    return {
        "median_first": first,
        "median_second": second,
        "median_both": both,
        "both_between": float(between.mean()),
        "separation": separation(groups[0], groups[1]),
    }


@dataclass(frozen=True)
class Units:
    """What is drawn anew: the proteins of each annotation; the cells of an annotation with one protein.

    Parameters
    ----------
    code
        (n,) int: each cell's unit.
    kind
        (units,) int: each unit's annotation.
    by_protein
        (3,) bool: which annotations are drawn by protein.
    """

    code: np.ndarray
    kind: np.ndarray
    by_protein: np.ndarray

    @classmethod
    def of(cls, annotation: np.ndarray, protein: np.ndarray) -> Units:
        """Return the units of cells with an annotation (n,) int and a protein (n,) int."""
        by_protein = np.array([len(np.unique(protein[annotation == kind])) > 1 for kind in (FIRST, SECOND, BOTH)])
        alone = np.where(by_protein[annotation], protein, np.arange(len(protein)))
        pairs, code = np.unique(np.stack([annotation, alone], axis=1), axis=0, return_inverse=True)
        return cls(code.reshape(-1), pairs[:, 0], by_protein)

    def halves(self, kind: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Return which units are kept (replicates, units) int where half of those of one annotation are left out at random.

        And the factor from the variance over such replicates to that over samples of as many as there are (Shao and Wu 1989:
        (n − d) / d for d left out). Leaving out one at a time would not do, since medians are no smooth functions.
        """
        members = np.flatnonzero(self.kind == kind)
        n, kept = len(members), np.ones((HALVES, len(self.kind)), np.int64)
        left_out = n // 2
        if left_out:
            kept[:, members] = rng.permuted(np.tile(np.arange(n) >= left_out, (HALVES, 1)), axis=1)
        return kept, (n - left_out) / max(left_out, 1)


def scores_of_averages(
    features: np.ndarray,
    units: np.ndarray,
    weights: np.ndarray,
    groups: np.ndarray | None,
    precision: np.ndarray | None = None,
) -> np.ndarray:
    """Return log(d₁ / d₂) of every cell for many pairs of averages, as :func:`compartment_scores` for one.

    Parameters
    ----------
    features
        (n, d) float64, standardised.
    units
        (n,) int: each cell's unit, which counts as a whole.
    weights
        (2, replicates, units): how much each unit counts in the average of the first and of the second compartment.
    groups
        (n,) int: averages leave out the cells of a cell's own group; None: they do not.
    precision
        (replicates, d): what the square of a difference in each feature counts; default 1.

    Returns
    -------
    numpy.ndarray
        (replicates, n) float32; 0 where nothing is left of an average.
    """
    n_units = weights.shape[2]
    if precision is None:
        precision = np.ones((weights.shape[1], features.shape[1]))
    code = np.zeros(len(features), np.int64) if groups is None else np.unique(groups, return_inverse=True)[1]
    sums, sizes = _sums_by(units, features, n_units)
    totals, counts = weights @ sums, weights @ sizes  # (2, replicates, d), (2, replicates)
    scores = np.empty((weights.shape[1], len(features)), np.float32)
    order = np.argsort(code, kind="stable")
    for cells in np.split(order, np.searchsorted(code[order], np.arange(1, code.max() + 1))):
        left, remaining = totals, counts
        if groups is not None:
            own, place = np.unique(units[cells], return_inverse=True)
            own_sums, own_sizes = _sums_by(place, features[cells], len(own))
            left, remaining = totals - weights[..., own] @ own_sums, counts - weights[..., own] @ own_sizes
        some = remaining > 0.5  # a number of cells
        averages = left / np.maximum(remaining, 1)[..., None]
        scaled = averages * precision
        square = (averages * scaled).sum(axis=-1)  # (2, replicates)
        for start in range(0, len(cells), BLOCK_ROWS):
            part = features[cells[start : start + BLOCK_ROWS]]
            norms = precision @ np.square(part).T
            squared_distances = np.maximum(square[..., None] - 2 * scaled @ part.T + norms, 1e-12)
            ratio = 0.5 * (np.log(squared_distances[0]) - np.log(squared_distances[1]))
            scores[:, cells[start : start + BLOCK_ROWS]] = np.where(some.all(axis=0)[:, None], ratio, 0)
    return scores


def precision_of(features: np.ndarray, units: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return 1 / variance of every feature over the cells that are kept (replicates, d); 0 where it is constant."""
    sums, sizes = _sums_by(units, features, weights.shape[1])
    squares, _ = _sums_by(units, np.square(features), weights.shape[1])
    counts = (weights @ sizes)[:, None]
    variance = weights @ squares / counts - np.square(weights @ sums / counts)
    precision: np.ndarray = np.divide(1, variance, out=np.zeros(variance.shape), where=variance > 1e-9)
    return precision


def _sums_by(codes: np.ndarray, values: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return sums (n, d) and numbers (n,) of the rows of each code."""
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n))
    sizes = np.bincount(codes, minlength=n)
    sums = np.zeros((n, values.shape[1]))
    sums[sizes > 0] = np.add.reduceat(values[order], starts[sizes > 0], axis=0)
    return sums, sizes.astype(float)


def weighted_summary(scores: np.ndarray, annotation: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    """Return :func:`summary` of cells that count `weights` (n,) int times each; every annotation must count."""
    ordered, cumulative = [], []
    for kind in (FIRST, SECOND, BOTH):
        members = np.flatnonzero((annotation == kind) & (weights > 0))
        members = members[np.argsort(scores[members], kind="stable")]
        ordered.append(scores[members])
        cumulative.append(np.concatenate([[0], np.cumsum(weights[members])]))
    medians = [_weighted_median(v, np.diff(c)) for v, c in zip(ordered, cumulative, strict=True)]
    low = cumulative[BOTH][np.searchsorted(ordered[BOTH], min(medians[:BOTH]), "right")]
    high = cumulative[BOTH][np.searchsorted(ordered[BOTH], max(medians[:BOTH]), "left")]
    below, up_to = (cumulative[FIRST][np.searchsorted(ordered[FIRST], ordered[SECOND], s)] for s in ("left", "right"))
    wins = float((np.diff(cumulative[SECOND]) * (below + up_to)).sum()) / 2
    return {
        "median_first": medians[FIRST],
        "median_second": medians[SECOND],
        "median_both": medians[BOTH],
        "both_between": float(max(high - low, 0) / cumulative[BOTH][-1]),
        "separation": wins / float(cumulative[FIRST][-1] * cumulative[SECOND][-1]),
    }


def summary_spreads(
    features: np.ndarray, annotation: np.ndarray, units: Units, groups: np.ndarray | None, *, seed: int = 0
) -> dict[str, Spread]:
    """Return the spread of :func:`summary` over proteins within annotations, from random halves of one annotation at a time.

    Averages, and the features' means and SDs, are of the same halves.

    Parameters
    ----------
    features
        (n, d) float64, standardised.
    annotation, units, groups
        (n,) int, each of the three at least once; what is left out; as of :func:`scores_of_averages`.
    seed
        Of the halves.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[Spread]] = {}
    for kind in (FIRST, SECOND, BOTH):
        kept, factor = units.halves(kind, rng)
        weights = np.stack([kept * (units.kind == single) for single in (FIRST, SECOND)])
        scores = scores_of_averages(features, units.code, weights, groups, precision_of(features, units.code, kept))
        summaries = [weighted_summary(s, annotation, w[units.code]) for s, w in zip(scores, kept, strict=True)]
        df = max(float(np.sum(units.kind == kind)) - 1, 1)
        for name in summaries[0]:
            variance = factor * float(np.var([f[name] for f in summaries], ddof=1))
            parts.setdefault(name, []).append(Spread(variance, df))
    return {name: Spread.total(spreads) for name, spreads in parts.items()}


def chance_separation(
    features: np.ndarray, annotation: np.ndarray, units: Units, groups: np.ndarray | None, *, seed: int = 0
) -> float:
    """Return the mean separation where the two single annotations are assigned at random to the units that have one.

    More than 0.5 where cells count in the averages that they are measured against. Parameters as of :func:`summary_spreads`.
    """
    rng = np.random.default_rng([seed, 1])
    single = np.flatnonzero(units.kind != BOTH)
    assigned = np.tile(units.kind, (PERMUTATIONS, 1))
    assigned[:, single] = rng.permuted(assigned[:, single], axis=1)
    weights = np.stack([assigned == kind for kind in (FIRST, SECOND)]).astype(float)
    alone = annotation != BOTH
    scores = scores_of_averages(features[alone], units.code[alone], weights, None if groups is None else groups[alone])
    separations = []
    for values, kinds in zip(scores, assigned, strict=True):
        kind = kinds[units.code[alone]]
        separations.append(separation(values[kind == FIRST], values[kind == SECOND]))
    return float(np.mean(separations))


def _weighted_median(ordered: np.ndarray, weights: np.ndarray) -> float:
    """Return the median of sorted values that occur `weights` times each."""
    above = np.cumsum(weights)
    middle = np.searchsorted(above, [(above[-1] - 1) // 2, above[-1] // 2], "right")
    return float(ordered[middle].mean())


def annotated_cells(terms: np.ndarray, image: np.ndarray, first: str, second: str) -> np.ndarray:
    """Return which cells are of images annotated with the first compartment only, the second only, or exactly both.

    Parameters
    ----------
    terms
        (n,) str, ``;``-joined, ``""`` where missing. An image's terms are those of all its cells.
    image
        (n,) str; cells without an image are not used.
    first, second
        The compartments, upper or lower case.

    Returns
    -------
    numpy.ndarray
        (n,) int: 0, 1 or 2; −1 for cells of other images.
    """
    import pandas as pd

    image_terms: dict[str, frozenset[str]] = {}
    for name, joined in pd.DataFrame({"image": image, "terms": terms}).drop_duplicates().itertuples(index=False):
        image_terms[name] = image_terms.get(name, frozenset()) | split_terms(joined.casefold())
    first, second = first.strip().casefold(), second.strip().casefold()
    groups = {frozenset({first}): FIRST, frozenset({second}): SECOND, frozenset({first, second}): BOTH}
    codes = {name: groups.get(terms_of, NEITHER) for name, terms_of in image_terms.items() if name}
    return np.array([codes.get(name, NEITHER) for name in image], np.int64)
