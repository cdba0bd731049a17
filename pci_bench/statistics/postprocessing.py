"""Features made comparable after they were computed: z-scores, robust z-scores, principal components, sphering, unit length.

Pure functions of arrays in float64. Each returns an affine map that was fitted on some cells and is applied to any; signs and order of
components are fixed, so that the same cells give the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NORMAL_MAD = 1.4826  # the standard deviation of a normal distribution over its median absolute deviation
NORMAL_MEAN_DEVIATION = 1.2533  # and over its mean absolute deviation
ROUNDING = 1e-5  # of the largest SD of a direction: what lies below is the rounding of float32
EPSILON = 1e-6  # what is added to singular values, as pycytominer does


@dataclass(frozen=True)
class AffineMap:
    """Features minus a centre, times weights.

    Parameters
    ----------
    centre
        (d,) float64.
    weights
        (d,) float64, one for each column; or (d, m), one for each column and component.

    Examples
    --------
    >>> AffineMap(np.array([1.0, 2.0]), np.array([2.0, 0.0])).apply(np.array([[2, 7]])).tolist()
    [[2.0, 0.0]]
    """

    centre: np.ndarray
    weights: np.ndarray

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return (n, d) features as (n, d) or (n, m) float64."""
        centred = np.asarray(values, np.float64) - self.centre
        mapped: np.ndarray = centred * self.weights if self.weights.ndim == 1 else centred @ self.weights
        return mapped


def _inverse(spread: np.ndarray, constant: np.ndarray) -> np.ndarray:
    """Return one over each column's spread (d,); 0 for constant columns."""
    without = constant | (spread == 0)
    inverse: np.ndarray = np.where(without, 0, 1 / np.where(without, 1, spread))
    return inverse


def z_scores(values: np.ndarray) -> AffineMap:
    """Return the map to columns minus their mean over their SD (ddof 0); constant columns become zeros.

    Parameters
    ----------
    values
        (n, d), finite: what the map is fitted on.

    Examples
    --------
    >>> values = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> z_scores(values).apply(values).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    values = np.asarray(values, np.float64)
    mean = values.mean(axis=0)
    return AffineMap(mean, _inverse((values - mean).std(axis=0), values.min(axis=0) == values.max(axis=0)))


def robust_z_scores(values: np.ndarray) -> AffineMap:
    """Return the map to columns minus their median over 1.4826 times their median absolute deviation.

    Where more than half of a column's values are equal that deviation is 0: then it is over 1.2533 times the mean absolute deviation
    from the median (Iglewicz and Hoaglin 1993). Constant columns become zeros.

    Parameters
    ----------
    values
        (n, d), finite: what the map is fitted on.

    Examples
    --------
    >>> values = np.array([[0.0], [1.0], [2.0], [3.0], [100.0]])
    >>> robust_z_scores(values).apply(values).ravel().round(2).tolist()
    [-1.35, -0.67, 0.0, 0.67, 66.1]
    """
    values = np.asarray(values, np.float64)
    median = np.median(values, axis=0)
    deviations = np.abs(values - median)
    spread = NORMAL_MAD * np.median(deviations, axis=0)
    spread = np.where(spread == 0, NORMAL_MEAN_DEVIATION * deviations.mean(axis=0), spread)
    return AffineMap(median, _inverse(spread, values.min(axis=0) == values.max(axis=0)))


def _directions(scaled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return singular values (r,), largest first, and directions (r, d) of centred features; those that are but rounding are left out.

    The largest entry of each direction is positive.
    """
    from scipy.linalg import svd

    _, singular, directions = svd(scaled, full_matrices=False, check_finite=False)
    rank = int((singular > ROUNDING * singular.max(initial=0)).sum())
    directions = directions[:rank]
    largest = directions[np.arange(rank), np.abs(directions).argmax(axis=1)]
    return singular[:rank], directions * np.sign(largest)[:, None]


def principal_components(values: np.ndarray, count: int, *, whitened: bool = False) -> AffineMap:
    """Return the map to the first principal components of the z-scores, or to fewer where there are no more.

    Parameters
    ----------
    values
        (n, d), finite: what the map is fitted on.
    count
        How many components; there are at most n − 1, and at most as many as columns that are not constant.
    whitened
        Whether each component is divided by its standard deviation (ddof 1).

    Examples
    --------
    >>> values = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0]])
    >>> principal_components(values, 64).apply(values).round(3).ravel().tolist()
    [-1.732, 0.0, 1.732]
    """
    scale = z_scores(values)
    singular, directions = _directions(scale.apply(values))
    weights = directions[:count].T
    if whitened:
        weights = weights * (np.sqrt(len(values) - 1) / singular[:count])
    return AffineMap(scale.centre, scale.weights[:, None] * weights)


def sphering(values: np.ndarray) -> AffineMap:
    """Return the map to uncorrelated columns of unit variance that stay as near to the z-scores as they can (ZCA-cor).

    Directions without variance stay at zero. Kessy, Lewin and Strimmer 2018 (doi 10.1080/00031305.2016.1277159).

    Parameters
    ----------
    values
        (n, d), finite: what the map is fitted on.

    Examples
    --------
    >>> values = np.array([[0.0, 0.0], [1.0, 3.0], [2.0, 3.0], [5.0, 4.0]])
    >>> np.cov(sphering(values).apply(values), rowvar=False).round(4).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    scale = z_scores(values)
    singular, directions = _directions(scale.apply(values))
    rotation = (directions.T * (np.sqrt(len(values) - 1) / (singular + EPSILON))) @ directions
    return AffineMap(scale.centre, scale.weights[:, None] * rotation)


def unit_length(values: np.ndarray) -> np.ndarray:
    """Return rows divided by their Euclidean length, in float64; a row of zeros stays one. (n, d) -> (n, d).

    The squared distance of two such rows is 2 − 2 times their cosine, so that neighbours by distance are those by cosine.

    Examples
    --------
    >>> unit_length(np.array([[3, 4], [0, 0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    values = np.asarray(values, np.float64)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    shortened: np.ndarray = values / np.where(length == 0, 1, length)
    return shortened
