"""Views of crops: what a network is to find alike. Cheap, and from nothing but a random generator's state."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SHARPEST, DARKEST = 0.35, 1e-3  # pixels; below which a pixel's logarithm is not taken


@dataclass(frozen=True)
class Augmentation:
    """How strongly views differ from their crop; every number is a bound, and what is drawn is uniform up to it.

    The defaults are set beforehand: a turn, a mirror image, a few pixels of shift and a fifth more or less magnification are
    the same cell to a biologist; gamma, contrast and brightness are what exposure and background change between plates, and
    each channel has its own; blur and noise are focus and camera.

    Parameters
    ----------
    side
        The view's side as a share of the crop's; the rest is room for the shift.
    zoom
        Largest magnification, and its inverse the smallest; as far as the crop has the pixels.
    turns
        Whether a view is turned by quarters and mirrored: one of eight.
    blur
        Largest SD of the Gaussian that each pixel of a view is a weighted mean by, in pixels of the crop.
    gamma
        Largest exponent of a channel's pixels, and its inverse the smallest.
    contrast
        A channel's deviations from its mean are multiplied by 1 ± this.
    brightness
        ± this is added to a channel.
    noise
        Largest SD of normal noise.
    """

    side: float = 0.75
    zoom: float = 1.25
    turns: bool = True
    blur: float = 1.0
    gamma: float = 2.0
    contrast: float = 0.4
    brightness: float = 0.2
    noise: float = 0.05


def side_of(crop_side: int, augmentation: Augmentation) -> int:
    """Return the side of the views of crops of a side, in pixels: divisible by 4, as the networks want it.

    Examples
    --------
    >>> side_of(64, Augmentation())
    48
    """
    return max(4, 4 * round(augmentation.side * crop_side / 4))


def views(crops: np.ndarray, rng: np.random.Generator, augmentation: Augmentation) -> np.ndarray:
    """Return one view of every crop.

    Parameters
    ----------
    crops
        (b, channels, side, side) float32 in [0, 1].
    rng
        Where all that is random comes from.
    augmentation
        How strongly views may differ.

    Returns
    -------
    ndarray
        (b, channels, :func:`side_of`, :func:`side_of`) float32. What moves pixels is the same for all channels of a crop,
        what changes values is drawn for each. Values may leave [0, 1].

    Examples
    --------
    >>> views(np.zeros((3, 2, 64, 64), np.float32), np.random.default_rng(0), Augmentation()).shape
    (3, 2, 48, 48)
    """
    n, side = len(crops), crops.shape[2]
    a, to = augmentation, side_of(crops.shape[2], augmentation)
    largest = min(math.log(a.zoom), math.log((side - 1) / (to - 1)))  # of the step between a view's points
    step = np.exp(rng.uniform(-math.log(a.zoom), largest, n))
    blur = np.maximum(rng.uniform(0, a.blur, n), SHARPEST)
    start = rng.random((2, n)) * (side - 1 - (to - 1) * step)
    flips = rng.integers(0, 2, (2, n)).astype(bool) & a.turns
    transposed = rng.integers(0, 2, n).astype(bool) & a.turns
    rows, columns = (
        _weights(_points(where, step, to, mirrored), blur, side) for where, mirrored in zip(start, flips, strict=True)
    )
    seen = rows[:, None] @ crops @ columns[:, None].swapaxes(2, 3)
    seen[transposed] = seen[transposed].swapaxes(2, 3)
    return _exposed(seen, rng, a)


def _points(start: np.ndarray, step: np.ndarray, count: int, mirrored: np.ndarray) -> np.ndarray:
    """Return where along a side the pixels of each view lie (n, count), in pixels of the crop."""
    points = start[:, None] + step[:, None] * np.arange(count)
    points[mirrored] = points[mirrored, ::-1]
    return points


def _weights(points: np.ndarray, blur: np.ndarray, side: int) -> np.ndarray:
    """Return the weights (n, points, side) of the pixels of a row in the values at points: a Gaussian's, with sum 1."""
    distance = (np.arange(side, dtype=np.float32) - points[..., None].astype(np.float32)) / blur[:, None, None].astype(
        np.float32
    )
    weights = np.exp(-0.5 * distance * distance)
    normalised: np.ndarray = weights / weights.sum(axis=2, keepdims=True)
    return normalised


def _exposed(seen: np.ndarray, rng: np.random.Generator, a: Augmentation) -> np.ndarray:
    """Return views with gamma, contrast, brightness and noise of each channel changed."""
    shape = (*seen.shape[:2], 1, 1)

    def drawn(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    exponent = np.exp(drawn(-math.log(a.gamma), math.log(a.gamma)))
    factor, shift, sd = (
        1 + drawn(-a.contrast, a.contrast),
        drawn(-a.brightness, a.brightness),
        drawn(0, a.noise),
    )
    if a.gamma != 1:
        np.maximum(seen, DARKEST, out=seen)
        np.log(seen, out=seen)
        seen *= exponent
        np.exp(seen, out=seen)
    mean = seen.mean(axis=(2, 3), keepdims=True)
    seen *= factor
    seen += mean * (1 - factor) + shift
    if a.noise:
        seen += sd * rng.standard_normal(seen.shape, np.float32)
    return seen
