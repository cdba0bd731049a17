"""The margin of a nearest-neighbour decision, and what patches of a crop contribute to it. Pure functions of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Margins(NamedTuple):
    """Of every query: distances to the nearest reference of its own and of any other class, and which these are.

    (q,) float64 twice, infinity where there is none; (q,) int twice, −1 where there is none.
    """

    own: np.ndarray
    other: np.ndarray
    nearest_own: np.ndarray
    nearest_other: np.ndarray

    @property
    def margin(self) -> np.ndarray:
        """The distance to the nearest of another class minus that to the nearest of its own: positive where 1-NN is right."""
        difference: np.ndarray = self.other - self.own
        return difference


def margins(
    reference: np.ndarray, labels: np.ndarray, groups: np.ndarray, queries: np.ndarray, cells: np.ndarray
) -> Margins:
    """Return the margins of changed cells among unchanged ones that share no group with them.

    Parameters
    ----------
    reference, labels
        Features (n, d) and classes (n,) int of the unchanged cells.
    groups
        (kinds, n) int: a query's neighbours share a group of no kind with its cell.
    queries
        Features (q, d) of changed cells.
    cells
        Which cell each query is (q,) int.

    Examples
    --------
    >>> import numpy as np
    >>> reference, labels = np.array([[0.0], [1.0], [4.0]]), np.array([0, 0, 1])
    >>> margins(reference, labels, np.arange(3)[None], np.array([[0.0], [3.0]]), np.array([0, 0])).margin.tolist()
    [3.0, -1.0]
    """
    from scipy.spatial.distance import cdist

    own, other = np.full((2, len(queries)), np.inf)
    nearest_own, nearest_other = np.full((2, len(queries)), -1)
    for cell in np.unique(cells):
        rows = np.flatnonzero(cells == cell)
        allowed = ~(groups == groups[:, [cell]]).any(axis=0)
        for same, distance, nearest in ((True, own, nearest_own), (False, other, nearest_other)):
            candidates = np.flatnonzero(allowed & ((labels == labels[cell]) == same))
            if len(candidates):
                distances = cdist(queries[rows], reference[candidates])
                place = distances.argmin(axis=1)
                nearest[rows] = candidates[place]
                distance[rows] = distances[np.arange(len(rows)), place]
    return Margins(own, other, nearest_own, nearest_other)


def spread_over_pixels(values: np.ndarray, corners: np.ndarray, patch: int, shape: tuple[int, int]) -> np.ndarray:
    """Return a map (rows, columns) float64 of values of patches: each pixel's is the mean over the patches that cover it, else 0.

    Parameters
    ----------
    values
        (places,) float.
    corners
        Where each patch begins (places, 2) int.
    patch
        Its side.
    shape
        Rows and columns.
    """
    total, covering = np.zeros((2, *shape))
    for value, (row, column) in zip(values, corners, strict=True):
        total[row : row + patch, column : column + patch] += value
        covering[row : row + patch, column : column + patch] += 1
    return total / np.maximum(covering, 1)


def central_share(absolute: np.ndarray) -> float:
    """Return the share of a map's absolute values that lies in the middle half of its rows and columns; a quarter where it is even.

    A map of zeros has a quarter there too.

    >>> central_share(np.ones((8, 8))), central_share(np.zeros((8, 8)))
    (0.25, 0.25)
    """
    values = np.abs(np.asarray(absolute, np.float64))
    rows, columns = values.shape
    middle = values[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4].sum()
    total = values.sum()
    return float(middle / total) if total > 0 else 0.25
