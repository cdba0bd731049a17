"""An image whose header was read: its axes, and its pixels by an index for each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pci_bench.errors import UserError

LARGEST_FIELD = 2**28  # pixels: 16,384 × 16,384


@dataclass(frozen=True)
class Axes:
    """The axes of an array by their letters, in the order in which they are stored: T, C, S (colour), Z, Y, X, Q (unnamed)."""

    order: str
    lengths: tuple[int, ...]

    def length(self, axis: str) -> int:
        """Return the length of an axis, 1 where there is none."""
        return self.lengths[self.order.index(axis)] if axis in self.order else 1

    def index(self, at: dict[str, int]) -> tuple[int | slice, ...]:
        """Return the index of a plane: all of its rows and columns, and a place on every other axis, 0 where none is given."""
        return tuple(slice(None) if axis in "YX" else at.get(axis, 0) for axis in self.order)

    def named(self, *, as_planes: bool, path: Path) -> Axes:
        """Return axes without an unnamed one: it is of channels, or of planes of focus where the other is known.

        Parameters
        ----------
        as_planes
            What it is where neither is known.
        """
        for axis in ("Y", "X"):
            if self.order.count(axis) != 1:
                raise UserError(f"{path} has no rows and columns: its axes are {self.order or 'none'}.")
        long = [axis for axis, length in zip(self.order, self.lengths, strict=True) if length > 1]
        unknown = [axis for axis in long if axis not in "TCSZYX"]
        if not unknown:
            return self
        channels, planes = self.length("C") * self.length("S") > 1, self.length("Z") > 1
        if len(unknown) > 1 or unknown[0] != "Q" or (channels and planes):
            lengths = " × ".join(f"{axis} {length}" for axis, length in zip(self.order, self.lengths, strict=True))
            raise UserError(
                f"{path} has axes that are neither channels, planes of focus nor time: {lengths}. Save each image of one field "
                "of view as a file of its own, for example as OME-TIFF."
            )
        kind = "Z" if channels or (as_planes and not planes) else "C"
        order = "".join(
            kind if axis == "Q" and length > 1 else "Q" if axis == kind else axis
            for axis, length in zip(self.order, self.lengths, strict=True)
        )
        return Axes(order, self.lengths)


@dataclass(frozen=True)
class Opened:
    """An image whose header was read."""

    axes: Axes
    dtype: np.dtype[Any]
    channel_names: tuple[str, ...]
    bits: int | None
    pixels: Callable[[tuple[int | slice, ...]], np.ndarray]  # by an index for each axis
