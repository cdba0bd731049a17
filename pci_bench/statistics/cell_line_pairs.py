"""Pairs of images within and between cell lines: drawing them, and moments of their distances. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pci_bench.statistics.intervals import Spread, item_spread
from pci_bench.statistics.pairwise import LocalizedProteins, Statistic, gradient, normalized

BLOCK_ROWS, DRAWS = 2**17, 2**25  # pairs drawn at a time, and at most
SETS = ((True, True), (True, False), (False, True), (False, False))  # (same cell line, same term)
CONDITIONS = ("same_cell_line", "different_cell_line")
METRICS = (*CONDITIONS, "difference")


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


class PairSums:
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
