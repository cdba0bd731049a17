"""Work on large arrays that can be done for some rows at a time: here in one piece, or in blocks elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BlockWork:
    """Work whose result has a row for each of n things, and any of its rows can be computed without the others.

    Parameters
    ----------
    title
        What is computed, for progress and sentences.
    function
        ``function(start, stop, *arrays)`` returns the rows from `start` to before `stop` of one result or several, as a tuple of
        arrays. A function of a module, or a ``partial`` of one with small arguments; their bits do not depend on the blocks.
    arrays
        What all rows are computed from.
    rows
        How many there are.
    seconds
        About how long they take one core.

    Examples
    --------
    >>> def doubled(start, stop, values):
    ...     return (2 * values[start:stop],)
    >>> HERE.computed(BlockWork("doubles", doubled, (np.arange(3),), 3, 0.0))[0].tolist()
    [0, 2, 4]
    """

    title: str
    function: Callable[..., tuple[np.ndarray, ...]]
    arrays: tuple[np.ndarray, ...]
    rows: int
    seconds: float


class Blocks:
    """Where rows are computed: in this process, all at once."""

    def computed(self, work: BlockWork) -> tuple[np.ndarray, ...]:
        """Return all rows of each result."""
        return work.function(0, work.rows, *work.arrays)


HERE = Blocks()
