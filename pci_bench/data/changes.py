"""Changed crops: what features do where the picture is another one and the cell the same."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from pci_bench.data.cells import Cells


class CropChange(ABC):
    """A way to change the crops of a dataset, as a pure function of its cells; a small frozen dataclass.

    It is drawn from cells' names where it is random, so that a cell's changed crop is the same whichever others are measured.

    Attributes
    ----------
    name
        What is done and how much, unique among changes: ``"blur, sigma 2 px"``. It is part of the key of the features.
    version
        Changes whenever its pixels do.

    Examples
    --------
    >>> @dataclass(frozen=True)
    ... class Darker(CropChange):
    ...     factor: float
    ...     version = "1"
    ...
    ...     @property
    ...     def name(self):
    ...         return f"darker, times {self.factor:g}"
    ...
    ...     def crops(self, cells, positions):
    ...         return cells.crops(positions, rescale="raw") * np.float32(self.factor)
    >>> Darker(0.5).name
    'darker, times 0.5'
    """

    version: str

    @property
    @abstractmethod
    def name(self) -> str:
        """What is done and how much."""

    @abstractmethod
    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return changed raw crops (b, channels, rows, columns) float32 of the cells at `positions` (b,) int."""

    def masks(self, cells: Cells, positions: np.ndarray) -> np.ndarray | None:
        """Return the labels of segmented cells (b, rows, columns) in the changed crops, or None; by default as they were."""
        return cells.masks(positions) if cells.has_masks else None


def changed(cells: Cells, change: CropChange) -> Cells:
    """Return the same cells with changed crops: the table is the same, the hash another, and pixels are made when they are read.

    Crops that are stored as integers stay on their grid, clipped to it, as a camera would: texture would tell values between grey
    levels from real ones. Features of changed crops are computed and kept like those of any cells.

    Examples
    --------
    >>> import pandas as pd
    >>> from pci_bench.data.cells import Channel, DatasetMeta
    >>> @dataclass(frozen=True)
    ... class Dark(CropChange):
    ...     version, name = "1", "dark"
    ...
    ...     def crops(self, cells, positions):
    ...         return 0 * cells.crops(positions, rescale="raw")
    >>> obs = pd.DataFrame({"cell": ["a"], "image": ["1"]})
    >>> meta = DatasetMeta("one", "1", "One cell")
    >>> cells = Cells(obs, (Channel("GFP", "protein"),), meta, "any text", np.ones((1, 1, 4, 4), np.float32))
    >>> changed(cells, Dark()).crops(slice(None)).max()
    np.float32(0.0)
    """
    sha256 = hashlib.sha256(f"{cells.sha256} {change.name} {change.version}".encode()).hexdigest()
    return Cells(
        cells.obs,
        cells.channels,
        cells.meta,
        sha256,
        _ChangedCrops(cells, change),
        masks=_ChangedMasks(cells, change) if cells.has_masks else None,
        notes=cells.notes,
    )


@dataclass(frozen=True)
class _ChangedCrops:
    """Crops by position, changed when they are read."""

    cells: Cells
    change: CropChange

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.cells), len(self.cells.channels), *self.cells.crop_shape)

    @property
    def dtype(self) -> np.dtype:
        return self.cells.dtype

    def __getitem__(self, index: Any) -> np.ndarray:
        crops = self.change.crops(self.cells, np.arange(len(self.cells))[index])
        if self.dtype.kind == "u":
            crops = np.rint(np.iinfo(self.dtype).max * np.clip(crops, 0, 1))
        return crops.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class _ChangedMasks:
    """Masks of changed crops by position."""

    cells: Cells
    change: CropChange

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.cells), *self.cells.crop_shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint16)

    def __getitem__(self, index: Any) -> np.ndarray:
        masks = self.change.masks(self.cells, np.arange(len(self.cells))[index])
        assert masks is not None
        return masks
