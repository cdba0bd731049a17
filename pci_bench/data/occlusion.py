"""Crops with a patch covered, one cell for each place of the patch: what features do when they cannot see a part."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.data.changes import CropChange, changed

Fill = Literal["border", "mean"]


def starts(side: int, patch: int, stride: int) -> np.ndarray:
    """Return where patches begin along a side: every `stride` pixels, and once more at the end where that is not reached.

    >>> starts(64, 8, 4)[-2:].tolist(), starts(10, 4, 4).tolist(), starts(4, 8, 4).tolist()
    ([52, 56], [0, 4, 6], [0])
    """
    last = max(0, side - patch)
    return np.unique(np.append(np.arange(0, last + 1, stride), last))


def places(shape: tuple[int, int], patch: int, stride: int) -> np.ndarray:
    """Return rows and columns at which patches begin (places, 2) int, row by row."""
    rows, columns = (starts(side, patch, stride) for side in shape)
    return np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)


@dataclass(frozen=True)
class Occlusion(CropChange):
    """A square patch of all channels is set to one value for each channel: of cells that :func:`occluded` made, another patch of each.

    Parameters
    ----------
    patch, stride
        The patch's side, and the distance between neighbouring patches, in pixels.
    fill
        ``"border"``: the mean of the crop's outermost pixels; ``"mean"``: the mean of the crop. Of each channel, to the nearest
        value that the crops can hold where they are stored as integers.
    """

    patch: int = 8
    stride: int = 4
    fill: Fill = "border"
    version = "1"

    @property
    def name(self) -> str:
        """What is done and how much."""
        return f"patches of {self.patch} every {self.stride} pixels covered, {self.fill}"

    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return raw crops (b, channels, rows, columns), the cells' places being in turn those of :func:`places`."""
        crops = cells.crops(positions, rescale="raw")
        corners = places(cells.crop_shape, self.patch, self.stride)
        outermost = np.ones(cells.crop_shape, bool)
        if self.fill == "border":
            outermost[1:-1, 1:-1] = False
        values = crops[:, :, outermost].mean(axis=2, dtype=np.float64)
        for crop, value, position in zip(crops, values, positions, strict=True):
            row, column = corners[position % len(corners)]
            crop[:, row : row + self.patch, column : column + self.patch] = value[:, None, None]
        return crops


def occluded(cells: Cells, occlusion: Occlusion) -> Cells:
    """Return every cell once for each place of the patch, one after the other, under names of their own.

    Examples
    --------
    >>> import pandas as pd
    >>> from pci_bench.data.cells import Channel, DatasetMeta
    >>> obs = pd.DataFrame({"cell": ["a"], "image": ["1"]})
    >>> crops = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    >>> cell = Cells(obs, (Channel("GFP", "protein"),), DatasetMeta("one", "1", "One cell"), "any text", crops)
    >>> covered = occluded(cell, Occlusion(patch=2, stride=2))
    >>> covered.obs["cell"].tolist()
    ['a without 0,0', 'a without 0,2', 'a without 2,0', 'a without 2,2']
    >>> covered.crops([3], rescale="raw")[0, 0, 2:].tolist()
    [[8.0, 9.0, 7.5, 7.5], [12.0, 13.0, 7.5, 7.5]]
    """
    corners = places(cells.crop_shape, occlusion.patch, occlusion.stride)
    repeated = copy.copy(cells[np.repeat(np.arange(len(cells)), len(corners))])
    names = [f"{name} without {row},{column}" for name in cells.obs["cell"].astype(str) for row, column in corners]
    repeated.obs = repeated.obs.assign(cell=names)
    repeated.sha256 = hashlib.sha256(f"{repeated.sha256} {len(corners)} places".encode()).hexdigest()
    return changed(repeated, occlusion)
