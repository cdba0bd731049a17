"""What a nuisance, such as the plate, can be predicted by beside features: the class alone. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def permuted_within(values: np.ndarray, strata: np.ndarray, permutations: int, seed: int) -> np.ndarray:
    """Return values with those of the cells of a stratum exchanged at random: (permutations, n) int.

    Where strata are classes, features that know the class and nothing else predict permuted values as well as the true ones.

    Parameters
    ----------
    values, strata
        (n,) int.
    permutations, seed
        How many, and what they depend on.

    Examples
    --------
    >>> values, strata = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])
    >>> sorted(set(map(tuple, permuted_within(values, strata, 50, 0)[:, :2].tolist())))
    [(0, 1), (1, 0)]
    """
    rng = np.random.default_rng(seed)
    by_stratum = np.argsort(strata, kind="stable")
    permuted = np.empty((permutations, len(values)), values.dtype)
    for row in permuted:
        row[by_stratum] = values[np.lexsort((rng.random(len(values)), strata))]
    return permuted


def nested_groups(target: np.ndarray, columns: Mapping[str, np.ndarray]) -> str | None:
    """Return the first column whose groups lie within one value of the target each, with two groups or more in every value.

    Neighbours can then come from other groups, and still share the value: whole plates of a cell line, fields of a plate.

    Parameters
    ----------
    target
        (n,) int.
    columns
        Groups (n,) int by name, from the coarsest.

    Examples
    --------
    >>> line, plate, image = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), np.arange(4)
    >>> nested_groups(line, {"plate": plate, "image": image})
    'image'
    """
    for name, groups in columns.items():
        pairs = np.unique(np.stack([groups, target]), axis=1)
        nested = pairs.shape[1] == len(np.unique(groups))
        if nested and np.unique(pairs[1], return_counts=True)[1].min() > 1:
            return name
    return None
