"""What the simulated cells of yeast and human share: parts of many cells at once, directions, spans, and edges in pixels."""

from __future__ import annotations

from typing import Self

import numpy as np

from pci_bench.simulation.arithmetic import Random, cos, sin


class PartsOfCells:
    """Base of a dataclass whose fields are arrays with one entry for each of n cells."""

    def __len__(self) -> int:
        return len(next(iter(vars(self).values())))

    def __getitem__(self, index: np.ndarray) -> Self:
        """Return the cells at `index`."""
        return type(self)(**{name: values[index] for name, values in vars(self).items()})


def unit(angle: np.ndarray) -> np.ndarray:
    """Return unit vectors (…, 2) as (row, column) of angles (…)."""
    return np.stack([sin(angle), cos(angle)], axis=-1)


def between(rng: Random, span: list[float], size: int | tuple[int, ...]) -> np.ndarray:
    """Return numbers (size) between the two of `span`."""
    drawn: np.ndarray = rng.uniform(span[0], span[1], size)
    return drawn


def inside(distance: np.ndarray) -> np.ndarray:
    """Return 1 inside, 0 outside, with an edge one pixel wide, from signed distances to an outline."""
    return np.clip(np.float32(0.5) - distance, 0, 1)
