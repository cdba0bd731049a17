"""Convex outlines of labelled regions, described by how far each region reaches in 32 directions.

The outline of two regions together reaches in every direction as far as the further one, so whether two regions make up one
convex cell is known without looking at their pixels again.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

DIRECTIONS = 32
CACHED_PIXELS = 256 * 256  # the projections of larger images are computed where they are needed: 0.3 GB for 1080×1080
_ANGLES = 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS
_HALF_PIXEL = (np.abs(np.cos(_ANGLES)) + np.abs(np.sin(_ANGLES))) / 2


def reaches(labels: np.ndarray) -> np.ndarray:
    """Return how far each region reaches from the crop's corner, corners of its pixels included.

    Parameters
    ----------
    labels
        (rows, columns), 0 background and 1 … n.

    Returns
    -------
    np.ndarray
        (n + 1, 32) in pixels; zeros for the background and for a label without pixels.
    """
    flat = labels.ravel()
    pixels = np.flatnonzero(_rim(labels))
    pixels = pixels[np.argsort(flat[pixels], kind="stable")]
    starts = np.flatnonzero(np.diff(flat[pixels], prepend=0))
    reach = np.zeros((int(flat.max(initial=0)) + 1, DIRECTIONS))
    if len(starts):
        if labels.size <= CACHED_PIXELS:
            projections = _projections(labels.shape).reshape(-1, DIRECTIONS)[pixels]
        else:
            projections = along(*np.unravel_index(pixels, labels.shape))
        reach[flat[pixels[starts]]] = np.maximum.reduceat(projections, starts, axis=0) + _HALF_PIXEL
    return reach


def hull_area(reach: np.ndarray) -> np.ndarray:
    """Return the area (…) in pixels of the 32-sided polygons that reach so far (…, 32)."""
    step = 2 * np.pi / DIRECTIONS
    around = np.concatenate([reach[..., -1:], reach, reach[..., :1]], axis=-1)
    sides = (around[..., 2:] + around[..., :-2] - 2 * np.cos(step) * reach) / np.sin(step)
    areas: np.ndarray = (reach * sides).sum(axis=-1) / 2
    return areas


def widths(reach: np.ndarray) -> np.ndarray:
    """Return the widths (…, 16) of the outlines that reach so far (…, 32): the first along a row, the ninth along a column."""
    across: np.ndarray = reach[..., : DIRECTIONS // 2] + reach[..., DIRECTIONS // 2 :]
    return across


def roundness(reach: np.ndarray) -> np.ndarray:
    """Return the area of the outlines that reach so far (…, 32), over that of a disc as wide as they are at most."""
    shares: np.ndarray = hull_area(reach) / np.maximum(np.pi / 4 * widths(reach).max(axis=-1) ** 2, 1e-9)
    return shares


def inside(reach: np.ndarray, shape: tuple[int, ...], *, slack: float = 0.0) -> np.ndarray:
    """Return the pixels (rows, columns) bool that lie within the outline (32,), or up to `slack` pixels beyond."""
    within = np.zeros(shape, bool)
    window, pixels = inside_window(reach, shape, slack=slack)
    within[window] = pixels
    return within


def inside_window(
    reach: np.ndarray, shape: tuple[int, ...], *, slack: float = 0.0
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the window of an image of some shape that holds an outline (32,), and which of its pixels lie within (bool)."""
    limit = reach - _HALF_PIXEL + slack + 1e-6  # of the outermost pixels' centres; rounding allowed for
    right, bottom, left, top = limit[:: DIRECTIONS // 4]
    window = np.s_[max(0, int(-top)) : int(bottom) + 1, max(0, int(-left)) : int(right) + 1]
    if np.prod(shape) <= CACHED_PIXELS:
        projections = _projections(shape)[window]
    else:
        rows, columns = (np.arange(length)[part] for length, part in zip(shape, window, strict=True))
        projections = along(*np.meshgrid(rows, columns, indexing="ij"))
    within: np.ndarray = np.all(projections <= limit, axis=-1)
    return window, within


def along(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the position (…, 32) of points (…) along the directions, in pixels."""
    places: np.ndarray = rows[..., None] * np.sin(_ANGLES) + columns[..., None] * np.cos(_ANGLES)
    return places


def _rim(labels: np.ndarray) -> np.ndarray:
    """Return the pixels of regions that have a neighbour of another label, or none at all: outlines hang on these alone."""
    rim = np.ones(labels.shape, bool)
    middle = labels[1:-1, 1:-1]
    rim[1:-1, 1:-1] = (
        (middle != labels[:-2, 1:-1])
        | (middle != labels[2:, 1:-1])
        | (middle != labels[1:-1, :-2])
        | (middle != labels[1:-1, 2:])
    )
    return rim & (labels > 0)


@lru_cache(maxsize=4)
def _projections(shape: tuple[int, ...]) -> np.ndarray:
    """Return the position (rows, columns, 32) of every pixel's centre along the directions."""
    return along(*np.indices(shape))
