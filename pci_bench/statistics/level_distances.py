"""Distances of cells of one class and of different classes that share no group, and what they are without each unit. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pci_bench.statistics.pairwise import Statistic, normalized

BLOCK_PAIRS = 2**22  # pairs of cells at a time


@dataclass(frozen=True)
class PairSums:
    """Sums over ordered pairs of cells that share no group, by unit and class of the first and by class of the second.

    Parameters
    ----------
    by_unit
        (units, classes, classes, 3) float: numbers of pairs, sums of their distances, sums of their squared distances.
    within
        The same of pairs whose second cell is of the first one's unit too.
    """

    by_unit: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, labels: np.ndarray, groups: np.ndarray, units: np.ndarray) -> PairSums:
        """Return the sums over all pairs of cells, measured block by block.

        Parameters
        ----------
        features
            (n, d) float, used as they are; distances are Euclidean.
        labels, units
            Class and unit of every cell (n,) int, from 0.
        groups
            (kinds, n) int: the two cells of a pair share a group of no kind.
        """
        n, n_classes, n_units = len(labels), int(labels.max()) + 1, int(units.max()) + 1
        values = np.asarray(features, np.float64)
        lengths, members = np.square(values).sum(axis=1), np.eye(n_classes)[labels]
        by_unit, within = np.zeros((2, n_units, n_classes, n_classes, 3))
        for start in range(0, n, max(1, BLOCK_PAIRS // n)):
            rows = slice(start, start + max(1, BLOCK_PAIRS // n))
            squares = np.maximum(lengths[rows, None] + lengths - 2 * values[rows] @ values.T, 0)
            allowed = (groups[:, rows, None] != groups[:, None]).all(axis=0)
            for sums, counted in ((by_unit, allowed), (within, allowed & (units[rows, None] == units))):
                if counted.any():
                    moments = [np.where(counted, part, 0) @ members for part in (1.0, np.sqrt(squares), squares)]
                    np.add.at(sums, (units[rows], labels[rows]), np.stack(moments, axis=2))
        return cls(by_unit, within)

    def scores(self, statistic: Statistic) -> tuple[np.ndarray, np.ndarray]:
        """Return every class's normalized distance (classes,), and the same without each unit (units, classes).

        NaN for a class of which no two cells may be compared. Without a unit whose absence leaves a class no such pair, the class
        keeps its score.
        """
        total = self.by_unit.sum(axis=0)
        left = total - self.by_unit - self.by_unit.swapaxes(1, 2) + self.within
        scores = class_scores(total, statistic)
        without = class_scores(left, statistic)
        return scores, np.where(np.isnan(without), scores, without)


def class_scores(sums: np.ndarray, statistic: Statistic) -> np.ndarray:
    """Return how near cells of one class are to each other, in units of their distances from other classes; negative is nearer.

    Parameters
    ----------
    sums
        (…, classes, classes, 3): numbers of pairs, sums of distances and of squared distances of cells of class t with those of u.
    statistic
        ``"z"``: (mean same − mean different) / SD of the different-class distances, each other class with the same weight.
        ``"ratio"``: mean same / mean different − 1.

    Returns
    -------
    ndarray
        (…, classes); NaN where a class has no pair of its own, or none with another class.

    Examples
    --------
    Two classes on a line, at 0 and 1, and at 10 and 11: distances of 1 within, of 9 to 11 between.

    >>> features, labels = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([0, 0, 1, 1])
    >>> sums = PairSums.of(features, labels, np.arange(4)[None], np.arange(4))
    >>> sums.scores("ratio")[0].round(6).tolist()
    [-0.9, -0.9]
    """
    counts = np.rint(sums[..., 0])  # differences of sums of whole numbers
    known = counts > 0
    mean, square = (np.divide(sums[..., m], counts, out=np.zeros(counts.shape), where=known) for m in (1, 2))
    others = known & ~np.eye(counts.shape[-1], dtype=bool)
    compared = others.sum(axis=-1)
    different, square_different = (
        np.divide(np.where(others, part, 0).sum(axis=-1), compared, out=np.zeros(compared.shape), where=compared > 0)
        for part in (mean, square)
    )
    scores = normalized(np.diagonal(mean, axis1=-2, axis2=-1), different, square_different, statistic)
    own: np.ndarray = np.diagonal(known, axis1=-2, axis2=-1)
    return np.where(own & (compared > 0), scores, np.nan)
