"""Profiles of wells made comparable: which measurements replicate, which repeat each other, and z-scores by control wells.

Pure functions of arrays, after the steps of image-based profiling (Caicedo et al. 2017, doi 10.1038/nmeth.4397).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from pci_bench.errors import UserError


def replicate_correlations(values: np.ndarray, treatments: np.ndarray, replicates: int) -> np.ndarray:
    """Return, for each column, the median Pearson correlation between two replicates over all treatments.

    Parameters
    ----------
    values
        (n, d) float, a row per well.
    treatments
        Treatment of every well (n,) int. The first well of a treatment is its first replicate, and so on.
    replicates
        At least 2; treatments that have another number of wells are left out.

    Returns
    -------
    ndarray
        (d,) float64; NaN for a column that is constant over a replicate.

    Raises
    ------
    UserError
        Where fewer than two treatments have that many wells.

    Examples
    --------
    >>> import numpy as np
    >>> values = np.array([[1.0, 5.0], [2.0, 1.0], [4.0, 2.0], [1.0, 2.0], [2.0, 1.0], [4.0, 9.0]])
    >>> replicate_correlations(values, np.array([0, 1, 2, 0, 1, 2]), 2).round(3).tolist()
    [1.0, -0.165]
    """
    names, counts = np.unique(treatments, return_counts=True)
    chosen = np.isin(treatments, names[counts == replicates])
    if replicates < 2 or chosen.sum() < 2 * replicates:
        raise UserError(
            f"{int((counts == replicates).sum())} treatments have {replicates} wells; correlations between replicates need at least "
            "two treatments with the same number of wells, two or more."
        )
    wells = np.flatnonzero(chosen)
    wells = wells[np.argsort(treatments[wells], kind="stable")]
    cube = np.asarray(values, np.float64)[wells.reshape(-1, replicates)]  # (treatments, replicates, d)
    cube = cube - cube.mean(axis=0)
    lengths = np.sqrt((cube**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        pairs = [
            (cube[:, a] * cube[:, b]).sum(axis=0) / (lengths[a] * lengths[b])
            for a, b in combinations(range(replicates), 2)
        ]
    medians: np.ndarray = np.median(pairs, axis=0)
    return medians


def repeating_columns(values: np.ndarray, cutoff: float) -> np.ndarray:
    """Return which columns (d,) bool to leave out so that no two others have an absolute Pearson correlation above a cutoff.

    Of every two columns above it, the one with the larger mean absolute correlation with all columns is left out, the earlier one
    where they are equal. All pairs are looked at, those of columns that another pair has left out as well, so more are left out than
    must be. This is ``findCorrelation`` of the R package caret as it works for 100 columns and more.

    Parameters
    ----------
    values
        (n, d) float, no column constant.
    cutoff
        From 0 to 1.

    Raises
    ------
    UserError
        For a constant column, which has no correlation.

    Examples
    --------
    >>> import numpy as np
    >>> length = np.array([1.0, 2.0, 3.0, 5.0])
    >>> repeating_columns(np.column_stack([length, length**2, [1, 0, 0, 1]]), 0.95).tolist()
    [False, True, False]
    """
    values = np.asarray(values, np.float64)
    if (constant := values.min(axis=0) == values.max(axis=0)).any():
        raise UserError(
            f"Column {int(constant.argmax())} of {len(constant)} is constant and has no correlation with others. Leave it out first."
        )
    centred = values - values.mean(axis=0)
    centred /= np.sqrt((centred**2).sum(axis=0))
    correlations = np.abs(centred.T @ centred)
    means = correlations.mean(axis=0)
    rows, columns = np.nonzero(np.triu(correlations > cutoff, 1))
    left_out = np.zeros(values.shape[1], bool)
    left_out[np.where(means[columns] > means[rows], columns, rows)] = True
    return left_out


def scored_by_controls(values: np.ndarray, plates: np.ndarray, controls: np.ndarray) -> np.ndarray:
    """Return every plate's wells minus the mean of its control wells, over their SD (ddof 1).

    Parameters
    ----------
    values
        (n, d) float.
    plates
        Plate of every well (n,).
    controls
        Which wells are controls (n,) bool.

    Returns
    -------
    ndarray
        (n, d) float64; NaN or infinite where a column is constant over a plate's controls.

    Raises
    ------
    UserError
        Where a plate has fewer than two control wells.

    Examples
    --------
    >>> import numpy as np
    >>> scored_by_controls(np.array([[1.0], [3.0], [6.0]]), np.array(["a", "a", "a"]), np.array([True, True, False])).ravel().round(3)
    array([-0.707,  0.707,  2.828])
    """
    scores = np.empty(values.shape, np.float64)
    for plate in np.unique(plates):
        of_plate = plates == plate
        of_controls = np.asarray(values[of_plate & controls], np.float64)
        if len(of_controls) < 2:
            raise UserError(f"Plate '{plate}' has {len(of_controls)} control wells; z-scores need two at least.")
        with np.errstate(invalid="ignore", divide="ignore"):
            scores[of_plate] = (values[of_plate] - of_controls.mean(axis=0)) / of_controls.std(axis=0, ddof=1)
    return scores
