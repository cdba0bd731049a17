"""Distorted crops: noise, blur, uneven light, contrast, rotation, resolution and shift, each by a strength of which 0 is none.

All work on raw crops as float32 (integers divided by their type's maximum, floats as they are) and on all channels alike. Where crops
are stored as integers, results are clipped to [0, 1] and rounded to these integers again, as a camera would: what has values between
them is told from every real crop by that alone, by texture of grey levels for example. What is random (the noise, directions, the sense of a rotation) is drawn from the cell's
name alone and is the same for every strength, so that a curve over strengths follows one draw. Strength 0 returns the same bits.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.data.changes import CropChange


@dataclass(frozen=True)
class Distortion(CropChange):
    """A change of crops by one strength.

    Parameters
    ----------
    strength
        0 changes nothing; :attr:`strengths` are the declared ones.

    Attributes
    ----------
    kind, unit
        What is done, and what the strength is of.
    strengths
        At which it is measured, ascending from 0.
    """

    strength: float

    version = "2"
    kind: ClassVar[str]
    unit: ClassVar[str]
    strengths: ClassVar[tuple[float, ...]]

    @property
    def name(self) -> str:
        """What is done and how much: ``"blur 2"``."""
        return f"{self.kind} {self.strength:g}"

    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return distorted raw crops (b, channels, rows, columns) float32 of the cells at `positions` (b,) int."""
        crops = cells.crops(positions, rescale="raw")
        if self.strength == 0 or len(crops) == 0:
            return crops
        names = cells.obs["cell"].astype(str).to_numpy()[positions]
        return self.distorted(crops, names).astype(np.float32, copy=False)

    @abstractmethod
    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return distorted crops (b, channels, rows, columns) of raw ones and their cells' names (b,) str."""


class Noise(Distortion):
    """Independent normal noise on every pixel; its SD is `strength` times the SD of the crop's channel.

    The sum is clipped to [0, 1], or as far beyond as the crop's channel itself goes.
    """

    kind, unit = "noise", "SD of noise / SD of the channel"
    strengths = (0, 0.25, 0.5, 1, 2)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return crops with noise."""
        drawn = np.stack([_generator(self.kind, name).standard_normal(crops.shape[1:]) for name in names])
        spread = crops.std(axis=(2, 3), keepdims=True, dtype=np.float64)
        low = np.minimum(crops.min(axis=(2, 3), keepdims=True), 0)
        high = np.maximum(crops.max(axis=(2, 3), keepdims=True), 1)
        noisy: np.ndarray = np.clip(crops + self.strength * spread * drawn, low, high)
        return noisy


class Blur(Distortion):
    """Convolution with a Gaussian of SD `strength` pixels, cut off at 4 SD; beyond the edge the crop is mirrored (d c b a | a b c d)."""

    kind, unit = "blur", "SD of the Gaussian (pixels)"
    strengths = (0, 0.5, 1, 2, 4)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return blurred crops."""
        from scipy.ndimage import gaussian_filter

        sigma = (0, 0, self.strength, self.strength)
        blurred: np.ndarray = gaussian_filter(crops, sigma, mode="reflect", truncate=4)
        return blurred


class Illumination(Distortion):
    """Light that falls off linearly across the crop: pixels times 1 − `strength` · u, where u goes from 0 at one end to 1 at the other.

    The direction is drawn from all angles; the ends are the outermost corners in it. What was 0 stays 0, and nothing is clipped.
    """

    kind, unit = "illumination", "share of light lost at the dark end"
    strengths = (0, 0.2, 0.4, 0.6, 0.8)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return crops in uneven light."""
        rows, columns = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in crops.shape[2:])
        angles = _angles(self.kind, names)
        sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
        along = (rows[:, None] * sine + columns * cosine) / (abs(sine) + abs(cosine))
        dimmed: np.ndarray = crops * (1 - self.strength * (along + 1) / 2)[:, None]
        return dimmed


class Contrast(Distortion):
    """A gamma of 2 to the power of `strength` between each channel's own lowest and highest pixel, which stay as they are.

    Dim structures become dimmer. A constant channel stays as it is.
    """

    kind, unit = "contrast", "log2 of gamma"
    strengths = (0, 0.5, 1, 1.5, 2)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return crops of another contrast."""
        low = crops.min(axis=(2, 3), keepdims=True).astype(np.float64)
        span = crops.max(axis=(2, 3), keepdims=True) - low
        changed: np.ndarray = low + span * ((crops - low) / np.where(span > 0, span, 1)) ** 2**self.strength
        return changed


class Rotation(Distortion):
    """A turn by `strength` degrees about the crop's centre, half of the cells either way, by cubic splines.

    What comes in from beyond the edge is the mirrored crop (d c b a | a b c d); values are clipped to the channel's own range. Masks
    are turned to the nearest pixel, and nothing comes in.
    """

    kind, unit = "rotation", "angle (degrees)"
    strengths = (0, 15, 30, 45, 90)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return turned crops."""
        from scipy.ndimage import rotate

        turned = np.stack(
            [
                rotate(crop, degrees, axes=(1, 2), reshape=False, order=3, mode="reflect")
                for crop, degrees in zip(crops, self._degrees(names), strict=True)
            ]
        )
        low, high = crops.min(axis=(2, 3), keepdims=True), crops.max(axis=(2, 3), keepdims=True)
        clipped: np.ndarray = np.clip(turned, low, high)
        return clipped

    def masks(self, cells: Cells, positions: np.ndarray) -> np.ndarray | None:
        """Return turned labels of segmented cells (b, rows, columns), or None."""
        from scipy.ndimage import rotate

        masks = super().masks(cells, positions)
        if masks is None or self.strength == 0 or len(masks) == 0:
            return masks
        degrees = self._degrees(cells.obs["cell"].astype(str).to_numpy()[positions])
        return np.stack([rotate(mask, d, reshape=False, order=0) for mask, d in zip(masks, degrees, strict=True)])

    def _degrees(self, names: np.ndarray) -> np.ndarray:
        turned: np.ndarray = np.where(_angles(self.kind, names) < np.pi, self.strength, -self.strength)
        return turned


class Resolution(Distortion):
    """Pixels 1 + `strength` times as large: means over the larger pixels, then linear interpolation back to the crop's size.

    A large pixel that covers a part of a small one takes that share of it; a side has round(side / (1 + strength)) large pixels, at
    least 1. Beyond the outermost centres the outermost value holds.
    """

    kind, unit = "resolution", "size of a pixel − 1"
    strengths = (0, 0.5, 1, 2, 3)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return crops of a lower resolution."""
        by_row, by_column = (_down_and_up(side, max(1, round(side / (1 + self.strength)))) for side in crops.shape[2:])
        coarse: np.ndarray = by_row @ crops.astype(np.float64) @ by_column.T
        return coarse


class Shift(Distortion):
    """A shift by `strength` pixels in a direction drawn from all angles, to whole pixels in rows and columns.

    What comes in is the mirrored crop (d c b a | a b c d); into masks nothing comes in.
    """

    kind, unit = "shift", "distance (pixels)"
    strengths = (0, 2, 4, 8, 16)

    def distorted(self, crops: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Return shifted crops."""
        return np.stack(
            [
                crop[:, rows][:, :, columns]
                for crop, (rows, columns) in zip(crops, self._sources(crops, names), strict=True)
            ]
        )

    def masks(self, cells: Cells, positions: np.ndarray) -> np.ndarray | None:
        """Return shifted labels of segmented cells (b, rows, columns), or None."""
        masks = super().masks(cells, positions)
        if masks is None or self.strength == 0 or len(masks) == 0:
            return masks
        names = cells.obs["cell"].astype(str).to_numpy()[positions]
        shifted = np.zeros_like(masks)
        for mask, source, (down, right) in zip(shifted, masks, self._pixels(names), strict=True):
            there, here = zip(
                *(_overlap(side, by) for side, by in zip(mask.shape, (down, right), strict=True)), strict=True
            )
            mask[there] = source[here]
        return shifted

    def _pixels(self, names: np.ndarray) -> np.ndarray:
        """Return by how many rows and columns each cell moves (b, 2) int."""
        angles = _angles(self.kind, names)
        return np.rint(self.strength * np.stack([np.sin(angles), np.cos(angles)], axis=1)).astype(int)

    def _sources(self, crops: np.ndarray, names: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return which rows and columns each crop's rows and columns come from."""
        height, width = crops.shape[2:]
        return [(_mirrored(height, down), _mirrored(width, right)) for down, right in self._pixels(names)]


DISTORTIONS: dict[str, type[Distortion]] = {
    kind.kind: kind for kind in (Noise, Blur, Illumination, Contrast, Rotation, Resolution, Shift)
}


def _generator(kind: str, name: str) -> np.random.Generator:
    """Return a generator that a cell's name and the kind of change decide."""
    digest = hashlib.sha256(f"{kind} {name}".encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _angles(kind: str, names: np.ndarray) -> np.ndarray:
    """Return an angle from 0 to 2 π for every cell's name."""
    return np.array([_generator(kind, name).uniform(0, 2 * np.pi) for name in names])


def _mirrored(side: int, by: int) -> np.ndarray:
    """Return which pixel each of a side's pixels comes from where it is moved by some, mirrored at the ends."""
    place = (np.arange(side) - by) % (2 * side)
    return np.where(place < side, place, 2 * side - 1 - place)


def _overlap(side: int, by: int) -> tuple[slice, slice]:
    """Return where pixels that are moved by some and stay within a side go to, and where they come from."""
    by = int(np.clip(by, -side, side))
    return slice(max(0, by), side + min(0, by)), slice(max(0, -by), side - max(0, by))


def _down_and_up(side: int, large: int) -> np.ndarray:
    """Return the matrix (side, side) of averaging over so many large pixels and interpolating back."""
    edges = np.arange(large + 1) * side / large
    pixels = np.arange(side)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    down = np.clip(overlap, 0, None) * large / side
    place = np.clip((pixels + 0.5) * large / side - 0.5, 0, large - 1)
    up = np.clip(1 - abs(place[:, None] - np.arange(large)), 0, None)
    matrix: np.ndarray = up @ down
    return matrix
