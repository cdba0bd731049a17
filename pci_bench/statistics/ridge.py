"""How much of a measure linear functions of features tell, in groups that they were not fitted on. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

from pci_bench.statistics.intervals import Spread, mean_spread

PENALTIES = np.logspace(-1, 5, 13)


def held_out_predictions(
    features: np.ndarray, targets: np.ndarray, groups: np.ndarray, n_folds: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ridge regression predicts of the targets in folds of whole groups, and the means that it was fitted beside.

    Features and targets are standardised with the training cells. The penalty is, for each target and fold, the one of 13 from
    0.1 to 100,000 with the least leave-one-out error in the training cells.

    Parameters
    ----------
    features, targets
        (n, d) and (n, t) float.
    groups
        (n,) int: each lies in one fold as a whole.
    n_folds
        At least 2; fewer where there are fewer groups.

    Returns
    -------
    (predicted, means)
        (n, t) float64 each: the held-out predictions, and the training cells' means, which predict without features.

    Examples
    --------
    >>> x = np.arange(40.0)[:, None]
    >>> predicted, _ = held_out_predictions(x, 3 * x + 1, np.arange(40) % 8, 4)
    >>> bool(np.abs(predicted - 3 * x - 1).max() < 1)
    True
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold

    predicted, means = np.empty((2, *targets.shape))
    splits = GroupKFold(min(n_folds, len(np.unique(groups)))).split(features, groups=groups)
    for training, held_out in splits:
        x, y = np.asarray(features[training], np.float64), np.asarray(targets[training], np.float64)
        spread, scale = x.std(axis=0), y.std(axis=0)
        spread, scale = np.where(spread > 0, spread, 1), np.where(scale > 0, scale, 1)
        model = RidgeCV(PENALTIES, alpha_per_target=True).fit(
            (x - x.mean(axis=0)) / spread, (y - y.mean(axis=0)) / scale
        )
        told = model.predict((features[held_out] - x.mean(axis=0)) / spread).reshape(len(held_out), -1)
        means[held_out] = y.mean(axis=0)
        predicted[held_out] = told * scale + means[held_out]
    return predicted, means


def r_squared(actual: np.ndarray, predicted: np.ndarray, means: np.ndarray, groups: np.ndarray) -> tuple[float, Spread]:
    """Return R², one minus the squared errors over those of the training means, and its spread over groups (delta method).

    Parameters
    ----------
    actual, predicted, means
        (n,) float.
    groups
        (n,) int, 0 … groups − 1.

    Examples
    --------
    >>> actual, groups = np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4)
    >>> r_squared(actual, actual, np.full(4, 2.5), groups)[0], r_squared(actual, np.full(4, 2.5), np.full(4, 2.5), groups)[0]
    (1.0, 0.0)
    """
    errors, total = (actual - predicted) ** 2, (actual - means) ** 2
    ratio = errors.sum() / total.sum()
    return float(1 - ratio), mean_spread((errors - ratio * total) / total.mean(), groups)
