"""What a nuisance, such as the plate, can be predicted by beside features: the class alone. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def redrawn_neighbors(
    lists: np.ndarray, classes: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Return neighbours of the same classes, each a random cell that may be one: (n, k) int.

    What such neighbours tell is what features tell that know the class and no more: each cell keeps the classes of its neighbours, and
    everything else about them is chance. Cells of its own group are as little among them as before.

    Parameters
    ----------
    lists
        Neighbours of every cell (n, k) int; −1, none, stays.
    classes, groups
        (n,) int, from 0; neighbours are of other groups.
    rng
        Draws them.

    Examples
    --------
    >>> lists, classes, groups = np.array([[2], [3], [0], [1]]), np.array([0, 1, 0, 1]), np.arange(4)
    >>> redrawn_neighbors(lists, classes, groups, np.random.default_rng(0)).ravel().tolist()  # there is no other of the class
    [2, 3, 0, 1]
    """
    order = np.lexsort((groups, classes))  # each class as a block, within it each group
    keys = classes * (int(groups.max()) + 1) + groups
    wanted = classes[np.maximum(lists, 0)]
    own = wanted * (int(groups.max()) + 1) + groups[:, None]
    first, last = (np.searchsorted(classes[order], wanted, side=side) for side in ("left", "right"))
    own_first, own_last = (np.searchsorted(keys[order], own, side=side) for side in ("left", "right"))
    drawn = first + (rng.random(lists.shape) * (last - first - (own_last - own_first))).astype(np.int64)
    drawn += np.where(drawn >= own_first, own_last - own_first, 0)
    return np.where(lists < 0, -1, order[np.minimum(drawn, len(order) - 1)])


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
