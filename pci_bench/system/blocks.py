"""Work on large arrays that can be done for some rows at a time: here in one piece, or in blocks elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pci_bench.system.devices import resolve_device

SECONDS_WORTH_A_GPU = 5.0  # of one core; torch alone takes two to import


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
    """Where rows are computed: in this process, all at once.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"auto"``: of matrix products that take so long that a GPU pays.
    """

    def __init__(self, device: str = "cpu"):
        self._device = device

    def device_for(self, seconds: float) -> str:
        """Return where a matrix product is computed that takes one core about so many seconds."""
        return resolve_device(self._device) if seconds > SECONDS_WORTH_A_GPU else "cpu"

    def computed(self, work: BlockWork) -> tuple[np.ndarray, ...]:
        """Return all rows of each result."""
        return work.function(0, work.rows, *work.arrays)


HERE = Blocks()
