"""Features made comparable: values that are not defined, and standardised columns. Pure functions of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

COLUMNS_AT_ONCE = 16
ROWS_AT_ONCE = 8192

IMPUTATION_RULE = (
    "A value that is not defined for a cell is its column's mean over the other cells of the run, "
    "and 0 in a column that is defined for none."
)


def impute_nan(values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return features without NaN, and what was replaced.

    Parameters
    ----------
    values
        (n, d) float; NaN where a feature is not defined for a cell.

    Returns
    -------
    values
        (n, d) of the same type: a NaN is its column's mean over all n cells, and 0 where the column holds nothing else.
    note
        How many values and columns, and the rule as a sentence; empty where nothing was NaN.
    """
    missing = np.isnan(values)
    columns = missing.any(axis=0)
    if not columns.any():
        return values, {}
    ordered = np.sort(values[:, columns], axis=0)  # sorted: no number may depend on the cells' order
    known = len(values) - missing[:, columns].sum(axis=0)
    means = np.zeros(values.shape[1])
    means[columns] = np.nansum(ordered, axis=0, dtype=np.float64) / np.maximum(known, 1)
    note = {"values": int(missing.sum()), "columns": int(columns.sum()), "rule": IMPUTATION_RULE}
    return np.where(missing, means.astype(values.dtype), values), note


def all_finite(values: np.ndarray) -> bool:
    """Return whether a table holds neither NaN nor infinity, looked at by rows: a mask of all of it would take gigabytes.

    >>> all_finite(np.array([[1.0], [np.inf]]))
    False
    """
    return all(np.isfinite(values[start : start + ROWS_AT_ONCE]).all() for start in range(0, len(values), ROWS_AT_ONCE))


def standardized(features: np.ndarray, reference: np.ndarray | None = None) -> np.ndarray:
    """Return columns minus their mean over their SD (ddof 0), in float64; constant columns become zeros.

    (n, d) -> (n, d). Paper: "centering and scaling features by their mean and standard deviation". Mean, SD and which columns are
    constant are those of `reference` (m, d) where it is given.

    >>> import numpy as np
    >>> standardized(np.array([[3.0, 7.0]]), reference=np.array([[1.0, 5.0], [2.0, 5.0]])).tolist()
    [[3.0, 0.0]]
    """
    values = np.array(features, dtype=np.float64)  # changed in place: there may be gigabytes of them
    known = values if reference is None else np.array(reference, dtype=np.float64)
    constant = known.min(axis=0) == known.max(axis=0)
    mean = known.mean(axis=0)
    values -= mean
    if reference is not None:
        known -= mean
    spread = _standard_deviations(known)
    values[:, constant] = 0
    values /= np.where(constant | (spread == 0), 1, spread)
    return values


def _standard_deviations(values: np.ndarray) -> np.ndarray:
    """Return ``values.std(axis=0)``, bit for bit, without a copy of all of them: NumPy sums a single column in another order."""
    starts = range(0, max(values.shape[1] - 1, 1), COLUMNS_AT_ONCE)
    ends = [*starts[1:], values.shape[1]]
    return np.concatenate([values[:, start:end].std(axis=0) for start, end in zip(starts, ends, strict=True)])


def standardized_within(features: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return features standardised by themselves within each group, as :func:`standardized` does over all rows.

    Parameters
    ----------
    features
        (n, d), finite.
    groups
        (n,) int.

    Returns
    -------
    ndarray
        (n, d) float64; zeros in a column that is constant within a group.

    Examples
    --------
    >>> import numpy as np
    >>> standardized_within(np.array([[1.0], [3.0], [101.0], [103.0]]), np.array([0, 0, 1, 1])).ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    scaled = np.empty(features.shape, np.float64)
    for group in np.unique(groups):
        scaled[groups == group] = standardized(features[groups == group])
    return scaled
