"""The delete-one-group jackknife for cells that are both predicted and predicted from. Pure functions of arrays.

Cells of one image are no independent draws, whole images are. A group (image) matters twice: its own cells are predicted, and its
cells change the predictions for other groups. Both together are what the statistic gains by the group. Its variance is estimated
from how the gains differ between the groups of a stratum (Tukey 1958; strata: Shao and Tu 1995, chapter 6). What depends on two
groups at once stands in the gains of both, so this estimate is too large on average (Efron and Stein 1981). Here the change of
every predicted group by every deleted one is known. The part of these changes that is neither the predicted group's nor the deleted
one's alone is their interaction, and is counted once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

FEWEST = 4  # groups of a stratum among which their interactions can be told from what each of them does alone


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
    found = np.zeros((n_classes, n_classes + 1, 3))
    right = np.zeros((n_classes, n_classes + 1), bool)
    np.fill_diagonal(right, True)
    recall = correct / np.maximum(actual, 1)
    found[..., 0] = (right - recall[:, None]) / np.maximum(actual, 1)[:, None] / present.sum()
    both = np.maximum(actual + claimed, 1)
    loss = np.where(present, 2 * correct / both**2, 0) / present.sum()
    found[..., 1] = np.where(right, (2 * present / both / present.sum())[:, None], 0) - loss[:, None]
    found[:, :n_classes, 1] -= loss
    found[..., 2] = (right - correct.sum() / actual.sum()) / actual.sum()
    return found


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
    """
    from scipy.sparse import coo_matrix

    n_groups, n_statistics = own.shape
    counts = np.bincount(strata)
    member = coo_matrix((np.ones(n_groups), (np.arange(n_groups), strata))).tocsr()
    factor = np.where(counts > 1, counts / np.maximum(counts - 1, 1), 0)

    def between(values: np.ndarray) -> np.ndarray:
        """Return the variance of each stratum's sum of independent values."""
        variances: np.ndarray = factor * (member.T @ (values - (member.T @ values / counts)[strata]) ** 2)
        return variances

    variance, freedom = np.empty(n_statistics), np.empty(n_statistics)
    for statistic in range(n_statistics):
        change = coo_matrix((changes[:, statistic], pairs.T), shape=(n_groups, n_groups)).tocsr()
        gains = between(own[:, statistic] - np.asarray(change.sum(axis=0)).ravel())
        corrected = gains.sum() - _interactions(change, member, counts)
        variance[statistic] = max(corrected, between(own[:, statistic]).sum())  # the part of the others is not negative
        squares = (gains**2 / np.maximum(counts - 1, 1)).sum()
        freedom[statistic] = max(1.0, gains.sum() ** 2 / squares) if squares > 0 else 1.0
    return variance, freedom


def _interactions(change: csr_matrix, member: csr_matrix, counts: np.ndarray) -> float:
    """Return by how much interactions of two groups make the variance of the gains too large.

    Within a block (predicted groups of one stratum, deleted groups of another) the interaction is the residual of an additive
    model. Its squares stand in the gains of both groups. Two groups of the same stratum have it in common, which the variance
    between their gains does not see: that part is given back.
    """
    rows = change @ member  # (groups, strata): sums of a predicted group's changes over the deleted groups of a stratum
    columns = (
        change.T @ member
    )  # (groups, strata): sums of a deleted group's changes over the predicted ones of a stratum
    squares = (member.T @ change.multiply(change) @ member).toarray()
    totals = (member.T @ rows).toarray()
    of_rows = (member.T @ rows.multiply(rows)).toarray()
    of_columns = (member.T @ columns.multiply(columns)).toarray().T
    sizes = counts.astype(float)
    residual = squares - of_rows / sizes - of_columns / sizes[:, None] + totals**2 / np.outer(sizes, sizes)
    more = np.where(counts > 1, sizes / np.maximum(sizes - 1, 1), 0)
    once = residual * np.outer(more, more)
    np.fill_diagonal(once, 0)
    excess = once.sum()

    # Within a stratum no group is predicted while it is deleted: the additive model is fitted without the diagonal.
    large = counts >= FEWEST
    strata = np.asarray(member.argmax(axis=1)).ravel()
    mine = np.arange(len(strata)), strata
    row, column = np.asarray(rows[mine]).ravel(), np.asarray(columns[mine]).ravel()
    size = np.where(large, sizes, FEWEST)
    mean = (np.diagonal(totals) / (2 * (size - 1)))[strata]
    others = (size - 1)[strata]
    row_effect = (others * (row - mean) + column - mean) / (others**2 - 1)
    column_effect = (others * (column - mean) + row - mean) / (others**2 - 1)
    mutual = (member.T @ change.multiply(change.T) @ member).diagonal()
    own = np.diagonal(squares) - member.T @ (row_effect * row + column_effect * column)
    shared = mutual - member.T @ (column_effect * row + row_effect * column)
    scale = np.where(large, size * (size - 1) / (size**2 - 3 * size + 1), 0)
    return float(excess + (scale * (own - 2 / (size - 1) * (own + shared))).sum())


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
