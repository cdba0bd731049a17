"""What permuted labels score: the chance level of a leave-one-out column, from the neighbours that were found for it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from pci_bench.statistics.metrics import classification_metrics
from pci_bench.system.threads import on_each_core

PERMUTATIONS = 200
MAX_VOTES = 10_000_000  # cells × permutations × k of one level; for more cells there are fewer permutations
MIN_PERMUTATIONS = 20


def permutations_for(n: int, k: int) -> int:
    """Return how many permutations of n cells' labels a chance level of k neighbours is of.

    >>> permutations_for(2_500, 11), permutations_for(1_200_000, 11)
    (200, 20)
    """
    return min(PERMUTATIONS, max(MIN_PERMUTATIONS, MAX_VOTES // (n * k)))


def permuted_labels(labels: np.ndarray, groups: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Return labels with whole groups' labels exchanged: (permutations, n) int.

    Each group takes the labels of another one (or its own), in random order, stretched or cut to its size. Where every group has
    one label, this assigns labels to groups at random; where every cell is a group, to cells. Where all groups have the same mixture,
    as plates may, it permutes cells within them.

    Parameters
    ----------
    labels, groups
        Class and group of every cell (n,) int.
    permutations, seed
        How many, and what they depend on.

    Returns
    -------
    ndarray
        Not to be written to: those of the last four questions are kept, since the feature sets of a run ask the same ones.
    """
    labels, groups = np.ascontiguousarray(labels), np.ascontiguousarray(groups)
    kind = (labels.dtype.str, groups.dtype.str)
    return _permuted_labels(labels.tobytes(), groups.tobytes(), kind, permutations, seed)


@lru_cache(maxsize=4)
def _permuted_labels(
    of_labels: bytes, of_groups: bytes, kind: tuple[str, str], permutations: int, seed: int
) -> np.ndarray:
    """Return permuted labels; arguments as bytes and their types, so that they can be remembered."""
    labels, groups = np.frombuffer(of_labels, kind[0]), np.frombuffer(of_groups, kind[1])
    rng = np.random.default_rng(seed)
    groups = np.unique(groups, return_inverse=True)[1]
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    permuted = np.empty((permutations, len(labels)), labels.dtype)
    by_group = np.argsort(groups, kind="stable")
    place = np.arange(len(labels)) - np.repeat(starts, sizes)
    for number in range(permutations):
        shuffled = labels[np.lexsort((rng.random(len(labels)), groups))]
        donor = np.repeat(rng.permutation(len(sizes)), sizes)
        permuted[number, by_group] = shuffled[starts[donor] + place * sizes[donor] // np.repeat(sizes, sizes)]
    return permuted


def chance_levels(
    lists: np.ndarray,
    permuted: np.ndarray,
    groups: np.ndarray,
    ks: Sequence[int],
    n_classes: int,
    seed: int,
    *,
    balanced: bool = False,
) -> dict[int, dict[str, Any]]:
    """Return, by k, what predictions from neighbours with permuted labels score.

    Parameters
    ----------
    lists
        Neighbours of every cell (n, depth) int, nearest first, −1 where there are no more. Where a list ends before k have voted,
        those on it vote.
    permuted
        Permuted labels (permutations, n) int.
    groups
        What neighbours do not share (n,) int.
    ks, n_classes
        How many vote, and how many classes there are.
    seed
        Of the groups that classes lose.
    balanced
        Whether every other class loses a group as well: in each permutation, that of a random cell of the class.

    Returns
    -------
    dict
        The number of ``permutations``, and the ``mean``, ``low`` and ``high`` (quantiles 0.025 and 0.975) of each metric.
    """
    from pci_bench.statistics.compiled.votes import permuted_confusions

    ks = sorted(set(ks))
    enough = [min(len(permuted), permutations_for(permuted.shape[1], k)) for k in ks]
    draws = np.random.default_rng([seed, 1]).random((enough[0], n_classes))

    def confusions_of(part: int, parts: int) -> np.ndarray:
        labels, own_draws = (np.ascontiguousarray(a[part : enough[0] : parts]) for a in (permuted, draws))
        answered = np.array([len(range(part, number, parts)) for number in enough])
        return permuted_confusions(lists, labels, groups, np.array(ks), answered, n_classes, own_draws, balanced)

    counts = np.empty((len(ks), enough[0], n_classes, n_classes + 1), np.int64)
    by_part = on_each_core(confusions_of)
    for part, confusions in enumerate(by_part):
        counts[:, part :: len(by_part)] = confusions
    levels: dict[int, dict[str, Any]] = {}
    for k, permutations, confusions in zip(ks, enough, counts, strict=True):
        levels[k] = {"permutations": permutations}
        for name, values in classification_metrics(confusions[:permutations]).items():
            low, high = np.quantile(values, [0.025, 0.975])
            levels[k][name] = {"mean": float(values.mean()), "low": float(low), "high": float(high)}
    return levels
