"""The delete-one-group jackknife for cells that are both predicted and predicted from. Pure functions of arrays.

Cells of one image are no independent draws, whole images are. A group (image) matters twice: its own cells are predicted, and its
cells change the predictions for other groups. Both together are what the statistic gains by the group. Its variance is estimated
from how the gains differ between the groups of a stratum (Tukey 1958; strata: Shao and Tu 1995, chapter 6). What depends on two
groups at once stands in the gains of both, so this estimate is too large on average (Efron and Stein 1981). Here the change of
every predicted group by every deleted one is known. The part of these changes that is neither the predicted group's nor the deleted
one's alone is their interaction, and is counted once.
"""

from __future__ import annotations

import numpy as np

MIN_GROUPS = 4  # groups of a stratum among which their interactions can be told from what each of them does alone


def strata_of(groups: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the stratum of every group: the class of its cells; classes that share a group are one stratum.

    (n,) int groups, 0 … largest, each of at least one cell; (n,) int labels -> (groups,) int.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n_groups = int(groups.max()) + 1
    size = n_groups + int(labels.max()) + 1
    edges = coo_matrix((np.ones(len(groups)), (groups, n_groups + labels)), shape=(size, size))
    return np.unique(connected_components(edges, directed=False)[1][:n_groups], return_inverse=True)[1]


def units_and_strata(
    groups: np.ndarray | None, labels: np.ndarray, cells: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is deleted as a whole: groups, and single cells in a stratum that has only one group.

    Parameters
    ----------
    groups
        Group of every cell (n,) int, or None where there are none: then all cells are deleted singly.
    labels, cells
        Class and name of every cell (n,).

    Returns
    -------
    (units, strata, singly)
        Unit of every cell (n,) int, stratum of every unit (units,) int, and which cells are deleted singly (n,) bool.
    """
    names = np.unique(cells, return_inverse=True)[1]
    if groups is None:
        return names, strata_of(names, labels), np.ones(len(labels), bool)
    units = np.unique(groups, return_inverse=True)[1]
    strata = strata_of(units, labels)
    singly = (np.bincount(strata) < 2)[strata][units]
    units = np.unique(np.where(singly, units.max() + 1 + names, units), return_inverse=True)[1]
    return units, strata_of(units, labels), singly


def slopes(confusion: np.ndarray) -> np.ndarray:
    """Return what one more cell of a class, predicted as another, adds to balanced accuracy, macro-F1 and accuracy.

    (n_classes, n_classes + 1) float -> (n_classes, n_classes + 1, 3), the derivatives of
    :func:`pci_bench.statistics.metrics.classification_metrics`.
    """
    n_classes = len(confusion)
    actual, claimed = confusion.sum(axis=1), confusion[:, :n_classes].sum(axis=0)
    correct = np.diagonal(confusion)
    present = actual > 0
    derivatives = np.zeros((n_classes, n_classes + 1, 3))
    right = np.zeros((n_classes, n_classes + 1), bool)
    np.fill_diagonal(right, True)
    recall = correct / np.maximum(actual, 1)
    derivatives[..., 0] = (right - recall[:, None]) / np.maximum(actual, 1)[:, None] / present.sum()
    both = np.maximum(actual + claimed, 1)
    loss = np.where(present, 2 * correct / both**2, 0) / present.sum()
    derivatives[..., 1] = np.where(right, (2 * present / both / present.sum())[:, None], 0) - loss[:, None]
    derivatives[:, :n_classes, 1] -= loss
    derivatives[..., 2] = (right - correct.sum() / actual.sum()) / actual.sum()
    return derivatives


def jackknife_variance(
    own: np.ndarray, pairs: np.ndarray, changes: np.ndarray, strata: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the variance of a sum over groups, and its degrees of freedom.

    Parameters
    ----------
    own
        (groups, statistics): what the predictions for each group's own cells add.
    pairs
        (p, 2) int: a group, and a deleted group whose deletion changes the predictions for cells of the first.
    changes
        (p, statistics): by how much. Changes of a repeated pair add up.
    strata
        (groups,) int: a group is a draw from its stratum. A stratum of one group adds nothing.

    Returns
    -------
    (variance, freedom)
        (statistics,) each; degrees of freedom by Welch and Satterthwaite, at least 1.

    Examples
    --------
    Where no deletion changes another group's predictions, it is the variance of a sum of four independent groups: 4 s².

    >>> import numpy as np
    >>> own = np.array([[1.0], [2.0], [3.0], [6.0]])
    >>> variance, freedom = jackknife_variance(own, np.zeros((0, 2), int), np.zeros((0, 1)), np.zeros(4, int))
    >>> bool(np.isclose(variance[0], 4 * own.var(ddof=1))), freedom.tolist()
    (True, [3.0])
    """
    counts = np.bincount(strata)
    factor = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 0)[:, None]

    def between(values: np.ndarray) -> np.ndarray:
        """Return the variance of each stratum's sum of independent values."""
        means = _sums(strata, values, len(counts)) / counts[:, None]
        variances: np.ndarray = factor * _sums(strata, (values - means[strata]) ** 2, len(counts))
        return variances

    predicted, deleted, changes = _added_up(pairs, changes, len(own))
    gains = between(own - _sums(deleted, changes, len(own)))
    corrected = gains.sum(axis=0) - _interactions(predicted, deleted, changes, strata, counts)
    variance = np.maximum(corrected, between(own).sum(axis=0))  # the part of the others is not negative
    squares = (gains**2 / np.maximum(counts - 1, 1)[:, None]).sum(axis=0)
    freedom = np.divide(gains.sum(axis=0) ** 2, squares, out=np.ones(len(squares)), where=squares > 0)
    return variance, np.maximum(freedom, 1)


def _sums(places: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """Return the sums of the values of each place: (m,) int, (m, statistics) -> (size, statistics)."""
    return np.stack([np.bincount(places, column, size) for column in values.T], axis=1)


def _added_up(pairs: np.ndarray, changes: np.ndarray, n_groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return every pair once, in order, as two columns, and the sums of its changes."""
    keys, place = np.unique(pairs[:, 0] * n_groups + pairs[:, 1], return_inverse=True)
    return *np.divmod(keys, n_groups), _sums(place, changes, len(keys))


def _interactions(
    predicted: np.ndarray, deleted: np.ndarray, changes: np.ndarray, strata: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return by how much interactions of two groups make the variance of the gains too large (statistics,).

    Within a block (predicted groups of one stratum, deleted groups of another) the interaction is the residual of an additive
    model. Its squares stand in the gains of both groups. Two groups of the same stratum have it in common, which the variance
    between their gains does not see: that part is given back.

    Parameters
    ----------
    predicted, deleted, changes
        Of :func:`_added_up`.
    strata
        Stratum of every group (groups,) int.
    counts
        Groups of every stratum (strata,) int.
    """
    n_groups, n_strata = len(strata), len(counts)
    of_predicted, of_deleted = strata[predicted], strata[deleted]
    blocks = np.unique(of_predicted * n_strata + of_deleted)

    def by_block(values: np.ndarray, of_predicted: np.ndarray, of_deleted: np.ndarray) -> np.ndarray:
        """Return sums by stratum of the predicted and of the deleted group: (blocks, statistics)."""
        return _sums(np.searchsorted(blocks, of_predicted * n_strata + of_deleted), values, len(blocks))

    # sums of a predicted group's changes over the deleted groups of a stratum, and of a deleted one's over the predicted groups
    row, row_stratum, row_sums = _added_up(np.stack([predicted, of_deleted], axis=1), changes, n_groups)
    column, column_stratum, column_sums = _added_up(np.stack([deleted, of_predicted], axis=1), changes, n_groups)
    squares, totals = by_block(changes**2, of_predicted, of_deleted), by_block(changes, of_predicted, of_deleted)
    of_rows = by_block(row_sums**2, strata[row], row_stratum)
    of_columns = by_block(column_sums**2, column_stratum, strata[column])
    predicted_stratum, deleted_stratum = np.divmod(blocks, n_strata)
    high, wide = counts[predicted_stratum].astype(float)[:, None], counts[deleted_stratum].astype(float)[:, None]
    residual = squares - of_rows / wide - of_columns / high + totals**2 / (high * wide)
    more = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 0)
    excess: np.ndarray = (
        residual * (more[predicted_stratum] * more[deleted_stratum] * (predicted_stratum != deleted_stratum))[:, None]
    ).sum(axis=0)

    # Within a stratum no group is predicted while it is deleted: the additive model is fitted without the diagonal.
    inside = of_predicted == of_deleted
    predicted, deleted, changes = predicted[inside], deleted[inside], changes[inside]
    large = counts[:, None] >= MIN_GROUPS
    size = np.where(large, counts[:, None], MIN_GROUPS).astype(float)
    mean = (_sums(strata[predicted], changes, n_strata) / (2 * (size - 1)))[strata]
    others = (size - 1)[strata]
    rows, columns = _sums(predicted, changes, n_groups), _sums(deleted, changes, n_groups)
    row_effect = (others * (rows - mean) + columns - mean) / (others**2 - 1)
    column_effect = (others * (columns - mean) + rows - mean) / (others**2 - 1)
    keys, mirrored = predicted * n_groups + deleted, deleted * n_groups + predicted
    both, there, back = np.intersect1d(keys, mirrored, assume_unique=True, return_indices=True)
    mutual = _sums(strata[both // n_groups], changes[there] * changes[back], n_strata)
    own = _sums(strata[predicted], changes**2, n_strata) - _sums(
        strata, row_effect * rows + column_effect * columns, n_strata
    )
    shared = mutual - _sums(strata, column_effect * rows + row_effect * columns, n_strata)
    scale = np.where(large, size * (size - 1) / (size**2 - 3 * size + 1), 0)
    excess += (scale * (own - 2 / (size - 1) * (own + shared))).sum(axis=0)
    return excess


def interval_of(value: float, variance: float, freedom: float, level: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share, symmetric on the scale of log(p / (1 − p)), by Student's t.

    A share of 0 or 1, which has no spread, is its own interval.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    if not (variance > 0 and 0 < value < 1):
        return float(value), float(value)
    half = t.ppf((1 + level) / 2, freedom) * np.sqrt(variance) / (value * (1 - value))
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))
