"""Touching regions of a label image, joined pair by pair, the likeliest pair first.

Only regions that touch are compared, so that a field of thousands of cells costs no more per cell than a crop.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pci_bench.segmentation.outlines import along, hull_area, reaches


@dataclass(frozen=True)
class Region:
    """What is known about a region: its outline (32,), the outline's area, its pixels, their median and largest height."""

    reach: np.ndarray
    outline_area: float
    pixels: int
    median: float
    peak: float


@dataclass(frozen=True)
class Border:
    """What is known about the line between two regions: how far it reaches (32,), and the lower height of every pair of pixels."""

    reach: np.ndarray
    heights: np.ndarray


Cost = Callable[[Region, Region, Border], float]


def joined(labels: np.ndarray, heights: np.ndarray, cost: Cost) -> np.ndarray:
    """Return the regions, neighbours joined for as long as some pair costs less than 1.

    Parameters
    ----------
    labels
        (rows, columns), 0 background and 1 … n, one label per region.
    heights
        (rows, columns), of which every region and border knows its own.
    cost
        A function of two regions and their border. The pair of the least cost is joined first; the joined region's costs
        are then computed anew.

    Returns
    -------
    np.ndarray
        (rows, columns) of labels 1 … m without gaps.
    """
    regions, borders = dict(enumerate(regions_of(labels, heights))), borders_of(labels, heights)
    touching: dict[int, set[int]] = {}
    for first, second in borders:
        touching.setdefault(first, set()).add(second)
        touching.setdefault(second, set()).add(first)
    names = np.arange(len(regions))
    changes = [0] * len(regions)
    heap: list[tuple[float, int, int, int, int]] = []

    def consider(first: int, second: int) -> None:
        price = cost(regions[first], regions[second], borders[first, second])
        if price < 1:
            heapq.heappush(heap, (price, first, second, changes[first], changes[second]))

    for pair in borders:
        consider(*pair)
    while heap:
        _, kept, lost, *then = heapq.heappop(heap)
        if then != [changes[kept], changes[lost]]:
            continue  # one of the two has become another region since
        regions[kept] = _union(regions[kept], regions.pop(lost))
        names[names == lost] = kept
        changes[kept] += 1
        changes[lost] = -1
        touching[kept].remove(lost)
        for neighbor in sorted(touching.pop(lost) - {kept}):
            touching[neighbor].remove(lost)
            border = borders[min(lost, neighbor), max(lost, neighbor)]
            pair = (min(kept, neighbor), max(kept, neighbor))
            borders[pair] = _longer(borders[pair], border) if neighbor in touching[kept] else border
            touching[kept].add(neighbor)
            touching[neighbor].add(kept)
        for neighbor in sorted(touching[kept]):
            consider(min(kept, neighbor), max(kept, neighbor))
    result: np.ndarray = np.unique(names, return_inverse=True)[1][labels]
    return result


def regions_of(labels: np.ndarray, heights: np.ndarray) -> list[Region]:
    """Return what is known of the background and of every region, (n + 1)."""
    from scipy import ndimage

    reach, pixels = reaches(labels), np.bincount(labels.ravel())
    numbers = np.arange(len(reach))
    medians = np.nan_to_num(ndimage.median(heights, labels, numbers))
    peaks = ndimage.maximum(heights, labels, numbers)
    return list(map(Region, reach, hull_area(reach), pixels.tolist(), medians.tolist(), peaks.tolist()))


def borders_of(labels: np.ndarray, heights: np.ndarray) -> dict[tuple[int, int], Border]:
    """Return the border of every pair of regions (the smaller label first) that share one, in order."""
    count = int(labels.max()) + 1
    grid: np.ndarray = np.indices(labels.shape)
    rows, columns = grid[0], grid[1]
    below, beside = (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])
    pairs, lower, places = [], [], []
    for (here, there), (half_row, half_column) in ((below, (0.5, 0.0)), (beside, (0.0, 0.5))):
        a, b = labels[here], labels[there]
        between = (a != b) & (a > 0) & (b > 0)
        a, b = a[between].astype(np.int64), b[between].astype(np.int64)
        pairs.append(np.minimum(a, b) * count + np.maximum(a, b))
        lower.append(np.minimum(heights[here][between], heights[there][between]))
        places.append(along(rows[here][between] + half_row, columns[here][between] + half_column))
    pair, low, place = np.concatenate(pairs), np.concatenate(lower), np.concatenate(places)
    if len(pair) == 0:
        return {}
    order = np.argsort(pair, kind="stable")
    values, starts = np.unique(pair[order], return_index=True)
    reach = np.maximum.reduceat(place[order], starts, axis=0) + 0.5
    parts = np.split(low[order], starts[1:])
    return {divmod(int(v), count): Border(r, p) for v, r, p in zip(values, reach, parts, strict=True)}


def _union(first: Region, second: Region) -> Region:
    reach = np.maximum(first.reach, second.reach)
    pixels = first.pixels + second.pixels
    median = (first.pixels * first.median + second.pixels * second.median) / pixels  # nearly
    return Region(reach, float(hull_area(reach)), pixels, median, max(first.peak, second.peak))


def _longer(first: Border, second: Border) -> Border:
    return Border(np.maximum(first.reach, second.reach), np.concatenate([first.heights, second.heights]))
