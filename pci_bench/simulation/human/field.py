"""A field of view of simulated human cells: whose each pixel is, and drawing points, lines and texture into it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pci_bench.simulation.arithmetic import Random, exp, gaussian_filter, hypot
from pci_bench.simulation.human.anatomy import NUCLEOLI, Anatomy, radius_towards

FAR = np.float32(99)


@dataclass(frozen=True)
class FieldMap:
    """A field of view, pixel by pixel, before any stain.

    Parameters
    ----------
    anatomy, origins
        The n cells and their middles (n, 2).
    owner
        (rows, columns) number of the cell, −1 outside.
    depth
        Distance to the cell's edge, 0 outside.
    nucleus, nucleolus
        Signed distances to their outlines, negative inside; far away (99) outside of the cell, or of the nucleus.
    touching
        0 … 1: whether the nearest stretch of the edge is shared with another cell.
    network
        Microtubules (rows, columns), which marker and protein share.
    """

    anatomy: Anatomy
    origins: np.ndarray
    owner: np.ndarray
    depth: np.ndarray
    nucleus: np.ndarray
    nucleolus: np.ndarray
    touching: np.ndarray
    network: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def size(self) -> int:
        """Rows, and columns, of the field."""
        return len(self.owner)


def ridge(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a Gaussian ridge of standard deviation `width` where `distance` is 0."""
    scaled = distance * np.float32(1 / width)
    return exp(np.float32(-0.5) * scaled * scaled)


def rasterize(anatomy: Anatomy, origins: np.ndarray, size: int) -> FieldMap:
    """Return the field_map of cells with middles `origins` (n, 2) in a field of `size`² pixels; its network is still empty.

    A pixel belongs to the cell in which it is relatively nearest to the middle; a nucleus always belongs to its own cell.
    """
    from scipy.ndimage import distance_transform_edt

    nearest = np.ones((size, size), np.float32)
    owner = np.full((size, size), -1, np.int32)
    nucleus = np.full((size, size), FAR, np.float32)
    outline, nucleus_outline = (part.astype(np.float32) for part in (anatomy.outline, anatomy.nucleus_outline))
    reach = np.ceil(anatomy.outline.max(axis=1)).astype(int) + 1
    for i, (row, column) in enumerate(origins):
        (top, bottom), (left, right) = (_span(middle, reach[i], size) for middle in (row, column))
        y, x = _offsets(top, bottom, left, right, row, column)
        here = (slice(top, bottom), slice(left, right))
        share = hypot(y, x) / radius_towards(outline, i, y, x)
        closer = share < nearest[here]
        nearest[here][closer] = share[closer]
        owner[here][closer] = i
    claimed = np.full((size, size), -1, np.int32)
    kernel = np.ceil(anatomy.nucleus_outline.max(axis=1)).astype(int) + 4
    for i, (row, column) in enumerate(origins + anatomy.nucleus):
        (top, bottom), (left, right) = (_span(middle, kernel[i], size) for middle in (row, column))
        y, x = _offsets(top, bottom, left, right, row, column)
        here = (slice(top, bottom), slice(left, right))
        distance = hypot(y, x) - radius_towards(nucleus_outline, i, y, x)
        closer = distance < nucleus[here]
        nucleus[here][closer] = distance[closer]
        claimed[here][closer & (distance < 1.2)] = i
    owner = np.where(claimed >= 0, claimed, owner)
    nucleus[owner < 0] = FAR

    edge, shared = _edges(owner)
    depth = np.where(owner >= 0, distance_transform_edt(~edge), 0).astype(np.float32)
    # smoothing both says which kind of edge is near: shared with a neighbour, or free
    smooth_edge, smooth_shared = (gaussian_filter(e.astype(np.float32), 2.0) for e in (edge, shared))
    touching = np.clip(smooth_shared / np.maximum(smooth_edge, np.float32(1e-4)), 0, 1)
    return FieldMap(anatomy, origins, owner, depth, nucleus, _nucleolus(anatomy, origins, owner, nucleus), touching)


def _span(middle: float, reach: int, size: int) -> tuple[int, int]:
    """Return first and last row (or column) within `reach` of `middle` that the field has."""
    low = int(np.floor(middle)) - reach
    return min(max(low, 0), size), min(max(low + 2 * reach + 1, 0), size)


def _offsets(top: int, bottom: int, left: int, right: int, row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (h, 1) and columns (1, w) of a window, relative to a point."""
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    return y, np.arange(left, right, dtype=np.float32)[None] - np.float32(column)


def _edges(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outermost pixels of cells (rows, columns) bool, and those that touch another cell."""
    edge, shared = np.zeros(owner.shape, bool), np.zeros(owner.shape, bool)
    for first, second in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = owner[first] != owner[second]
        both = differs & (owner[first] >= 0) & (owner[second] >= 0)
        for side in (first, second):
            edge[side] |= differs
            shared[side] |= both
    return edge & (owner >= 0), shared


def _nucleolus(anatomy: Anatomy, origins: np.ndarray, owner: np.ndarray, nucleus: np.ndarray) -> np.ndarray:
    """Return the signed distance to the nearest nucleolus, in nuclei."""
    result = np.full(owner.shape, FAR, np.float32)
    rows, columns = np.nonzero(nucleus < 0.5)
    cell, down, right = owner[rows, columns], rows.astype(np.float32), columns.astype(np.float32)
    best = np.full(len(rows), FAR, np.float32)
    places = (anatomy.nucleoli + origins[:, None]).astype(np.float32)
    radii = np.where(anatomy.nucleolus_radius > 0, anatomy.nucleolus_radius, -FAR).astype(np.float32)
    for lobe in range(NUCLEOLI):
        middle = places[cell, lobe]
        distance = hypot(down - middle[:, 0], right - middle[:, 1]) - radii[cell, lobe]
        np.minimum(best, distance, out=best)
    result[rows, columns] = best
    return result


def deposit(field_map: FieldMap, positions: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sum (rows, columns) of points, each shared by the four pixels around it.

    Parameters
    ----------
    field_map
        Points outside of their own cell are left out.
    positions
        (n, k, 2) relative to the middles of the n cells.
    weight
        (n, k).
    """
    size = field_map.size
    amount = np.ascontiguousarray(weight, np.float32).ravel()
    at = (positions + field_map.origins[:, None]).astype(np.float32).reshape(-1, 2)
    cell = np.repeat(np.arange(len(positions), dtype=np.int32), positions.shape[1])
    down, right = at.T
    within = (amount > 0) & (down >= 0) & (down < size - 1) & (right >= 0) & (right < size - 1)
    down, right, amount, cell = down[within], right[within], amount[within], cell[within]
    own = field_map.owner.ravel()[(np.rint(down) * size + np.rint(right)).astype(np.int32)] == cell
    down, right, amount = down[own], right[own], amount[own]
    top, left = np.floor(down), np.floor(right)
    index = (top * size + left).astype(np.int32)
    down, right = down - top, right - left
    below, above = amount * down, amount * (1 - down)
    indices = np.concatenate([index, index + 1, index + size, index + size + 1])
    amounts = np.concatenate([above * (1 - right), above * right, below * (1 - right), below * right])
    return np.bincount(indices, amounts, size * size).reshape(size, size).astype(np.float32)


def spots(field_map: FieldMap, positions: np.ndarray, peak: np.ndarray, sigma: float) -> np.ndarray:
    """Return Gaussian spots of the given peaks (n, k)."""
    return np.float32(2 * np.pi * sigma * sigma) * gaussian_filter(deposit(field_map, positions, peak), sigma)


def strokes(field_map: FieldMap, paths: np.ndarray, level: np.ndarray, sigma: float, step: float = 1.0) -> np.ndarray:
    """Return filaments along paths (n, f, steps, 2) with brightness `level` (n, f) or (n, f, steps) on the ridge."""
    n, f, steps, _ = paths.shape
    weight = np.broadcast_to(level.reshape(n, f, -1), (n, f, steps)).reshape(n, -1)
    drawn = deposit(field_map, paths.reshape(n, -1, 2), weight)
    return np.float32(np.sqrt(2 * np.pi) * sigma * step) * gaussian_filter(drawn, sigma)


def gaussian_random_field(rng: Random, size: int, scale: float) -> np.ndarray:
    """Return a smooth random field (size, size) of mean 0 and SD 1."""
    noise = gaussian_filter(rng.standard_normal((size, size)), scale)
    return noise * np.float32(2 * np.sqrt(np.pi) * scale)
