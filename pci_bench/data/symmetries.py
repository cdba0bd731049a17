"""Crops turned and mirrored: the symmetries of the square, which move pixels and change none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.data.changes import CropChange


@dataclass(frozen=True)
class Symmetry(CropChange):
    """Crops turned counter-clockwise by quarter turns, after a flip from left to right.

    Examples
    --------
    >>> Symmetry(1).name, Symmetry(2, flipped=True).name
    ('rotated 90°', 'flipped, rotated 180°')
    """

    quarter_turns: int
    flipped: bool = False
    version = "1"

    @property
    def name(self) -> str:
        """What is done."""
        turned = f"rotated {90 * self.quarter_turns}°" if self.quarter_turns else ""
        return ", ".join(part for part in ("flipped" if self.flipped else "", turned) if part) or "as it is"

    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return the crops, turned."""
        return self._moved(cells.crops(positions, rescale="raw"))

    def masks(self, cells: Cells, positions: np.ndarray) -> np.ndarray | None:
        """Return the masks, turned as the crops."""
        masks = super().masks(cells, positions)
        return None if masks is None else self._moved(masks)

    def _moved(self, images: np.ndarray) -> np.ndarray:
        flipped = images[..., ::-1] if self.flipped else images
        return np.ascontiguousarray(np.rot90(flipped, self.quarter_turns, axes=(-2, -1)))


def symmetries(crop_shape: tuple[int, int]) -> list[Symmetry]:
    """Return the seven symmetries that move pixels of a square crop; three of one that is not square.

    >>> len(symmetries((64, 64))), [s.name for s in symmetries((64, 32))]
    (7, ['rotated 180°', 'flipped', 'flipped, rotated 180°'])
    """
    turns = range(4) if crop_shape[0] == crop_shape[1] else (0, 2)
    return [Symmetry(turn, flipped) for flipped in (False, True) for turn in turns if turn or flipped]
