"""How well batches mix among nearest neighbours. Pure functions of arrays."""

from __future__ import annotations

import numpy as np

STEPS = 100  # halvings of the kernel's width, in its logarithm


def perplexity_weights(distances: np.ndarray, perplexity: float) -> np.ndarray:
    """Return Gaussian weights of neighbours whose perplexity, exp of their entropy, is the same in every row.

    The kernel's width is found by halving an interval, as in t-SNE. Where neighbours are all equally far, weights are equal.

    Parameters
    ----------
    distances
        To each row's neighbours (n, k) float, finite.
    perplexity
        Between 1 and k.

    Examples
    --------
    >>> weights = perplexity_weights(np.array([[1.0, 2.0, 3.0, 4.0]]), 2.0)
    >>> weights.round(3).tolist(), round(float(np.exp(-(weights * np.log(weights)).sum())), 6)
    ([[0.734, 0.231, 0.034, 0.002]], 2.0)
    """
    squares = np.square(distances)
    squares -= squares.min(axis=1, keepdims=True)
    widest = squares.max(axis=1, keepdims=True)
    squares /= np.where(widest > 0, widest, 1)
    low, high = np.full((2, len(squares), 1), -30.0)
    high += 60
    for _ in range(STEPS):
        middle = (low + high) / 2
        weights = np.exp(-np.exp(middle) * squares)
        weights /= weights.sum(axis=1, keepdims=True)
        entropy = -np.sum(weights * np.log(np.where(weights > 0, weights, 1)), axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    return np.asarray(weights)


def inverse_simpson(weights: np.ndarray, batches: np.ndarray, n_batches: int) -> np.ndarray:
    """Return how many batches are as good as present among neighbours: 1 / Σ p², p being each one's weight. (n, k) each -> (n,).

    The local inverse Simpson index of Korsunsky et al. 2019 (doi 10.1038/s41592-019-0619-0).

    >>> inverse_simpson(np.full((2, 4), 0.25), np.array([[0, 0, 1, 1], [0, 0, 0, 0]]), 2).tolist()
    [2.0, 1.0]
    """
    rows = np.arange(len(weights))[:, None] * n_batches
    shares = np.bincount((rows + batches).ravel(), weights.ravel(), len(weights) * n_batches)
    return np.asarray(1 / np.square(shares.reshape(-1, n_batches)).sum(axis=1))


def rejected(batches: np.ndarray, expected: np.ndarray, level: float = 0.05) -> np.ndarray:
    """Return where the batches of k neighbours differ from expected shares, by a χ² test: (n, k) int, (B,) -> (n,) bool.

    As kBET tests it (Büttner et al. 2019, doi 10.1038/s41592-018-0254-1).

    >>> rejected(np.array([[0, 1] * 5, [0] * 10]), np.array([0.5, 0.5])).tolist()
    [False, True]
    """
    from scipy.stats import chi2

    n, k = batches.shape
    rows = np.arange(n)[:, None] * len(expected)
    counts = np.bincount((rows + batches).ravel(), minlength=n * len(expected)).reshape(n, -1)
    known = expected > 0
    wanted = k * expected[known]
    statistic = (np.square(counts[:, known] - wanted) / wanted).sum(axis=1)
    return np.asarray(chi2.sf(statistic, max(1, known.sum() - 1)) < level)
