"""The centre cell on another background: which pixels are the cell's, where backgrounds come from, and how they are pasted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.data.changes import CropChange
from pci_bench.data.observations import obs_strings

Background = Literal["same class", "other class", "cell-free", "mean", "zero"]
BACKGROUNDS: tuple[Background, ...] = ("same class", "other class", "cell-free", "mean", "zero")

FEATHER = 2  # pixels outside the cell over which it fades into the other background
CANDIDATES = 16  # donors of which the one is taken whose own cell is hidden best
MOST_CROPS = 256  # of an image from which its cell-free background is put together
CHUNK = 1024  # crops that are read at once
CENTRE = (1, 2)  # labels of the cell in the middle and of its bud


def cell_region(masks: np.ndarray, margin: float = 0) -> np.ndarray:
    """Return which pixels belong to the cell in the middle (b, rows, columns) bool.

    Parameters
    ----------
    masks
        Labels of segmented cells (b, rows, columns): 1 the cell in the middle, 2 its bud, 3 and above others.
    margin
        Pixels around the mask that are also the cell's, where they are nearer to it than to any other cell: what masks of nuclei
        need.

    Examples
    --------
    >>> cell_region(np.array([[[0, 1, 0, 0, 0, 3, 0]]]), margin=2)[0, 0].astype(int).tolist()
    [1, 1, 1, 0, 0, 0, 0]
    """
    own = np.isin(masks, CENTRE)
    if margin <= 0:
        return own
    distance = _distance(own)
    return own | (distance <= margin) & (distance < _distance(masks > max(CENTRE)))


def free_region(masks: np.ndarray, margin: float = 0) -> np.ndarray:
    """Return which pixels are farther from all cells than a margin, and than two pixels (b, rows, columns) bool."""
    return _distance(masks > 0) > max(margin, FEATHER)


def _distance(regions: np.ndarray) -> np.ndarray:
    """Return each pixel's distance in pixels to a region (b, rows, columns), 0 within it; infinite where there is none."""
    from scipy.ndimage import distance_transform_edt

    distances = np.full(regions.shape, np.inf)
    for distance, region in zip(distances, regions, strict=True):
        if region.any():
            distance[:] = distance_transform_edt(~region)
    return distances


def drawn_donors(
    names: np.ndarray, labels: np.ndarray, images: np.ndarray, strata: np.ndarray, regions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each cell a cell of its class and one of another class, both of other images: (n,) int twice, −1 where there is none.

    A class other than the cell's own is drawn first, all alike, then 16 of its cells, of which the one is taken whose own region
    reaches least beyond the cell's: it is to be hidden behind it. What is drawn depends on the cells' names and not on their
    order. Donors come from the cell's stratum, as its cell line, or where that has none from all cells.

    Parameters
    ----------
    names
        The cells' names (n,) str.
    labels, images, strata
        Class, image and stratum of every cell (n,) int.
    regions
        Pixels of every cell (n, rows, columns) bool.

    Examples
    --------
    >>> names, labels, images = np.array(["a", "b", "c"]), np.array([0, 0, 1]), np.array([0, 1, 2])
    >>> same, other = drawn_donors(names, labels, images, np.zeros(3, int), np.ones((3, 2, 2), bool))
    >>> same.tolist(), other.tolist() in ([2, 2, 0], [2, 2, 1])
    ([1, 0, -1], True)
    """
    order = np.argsort(names, kind="stable")
    everywhere = {int(c): order[labels[order] == c] for c in np.unique(labels)}
    within = {
        (int(s), c): members[strata[members] == s] for s in np.unique(strata) for c, members in everywhere.items()
    }
    donors = np.full((2, len(names)), -1)
    for cell, name in enumerate(names):
        rng = np.random.default_rng(np.frombuffer(hashlib.sha256(name.encode()).digest(), "<u4"))
        own, stratum = int(labels[cell]), int(strata[cell])
        others = [c for c in rng.permutation(list(everywhere)).tolist() if c != own]
        for kind, classes in enumerate(([own], others)):
            pools = [within[stratum, c] for c in classes] + [everywhere[c] for c in classes]
            eligible = next((p for pool in pools if len(p := pool[images[pool] != images[cell]])), None)
            if eligible is not None:
                drawn = rng.choice(eligible, min(CANDIDATES, len(eligible)), replace=False)
                beyond = (regions[drawn] & ~regions[cell]).sum(axis=(1, 2))
                donors[kind, cell] = drawn[beyond.argmin()]
    return donors[0], donors[1]


@dataclass(frozen=True, eq=False)
class BackgroundSwap(CropChange):
    """The centre cell on another background, in all channels.

    Inside the cell's region (:func:`cell_region`) pixels stay as they are; over the next two pixels they fade linearly into the
    new background.

    ``same class`` and ``other class``: the crop of the cell's donor. Where that donor's own cell would show, there is the
    donor's cell-free background. ``cell-free``: the pixels of the donor's crop that are far enough from all cells
    (:func:`free_region`), and for the others those of the other crops of its image, in a seeded order, and where these have none
    the nearest pixel that was found. ``mean``: each channel's mean of what is replaced. ``zero``: each channel's minimum in the crop,
    which is 0 once it is rescaled to [0, 1].

    Parameters
    ----------
    background
        One of these.
    donors
        Position of each cell's donor (n,) int; not used for ``mean`` and ``zero``.
    margin
        Of :func:`cell_region`, in pixels.
    matched
        Whether a donor's pixels outside the cell are brought to the mean and the SD of those that they replace, channel by
        channel, and cut at 0 and 1; else they are raw.
    """

    background: Background
    donors: np.ndarray
    margin: float = 0
    matched: bool = False
    version = "2"

    @cached_property
    def name(self) -> str:
        """The background, the margin, and a digest of the donors."""
        if not self.has_donors:
            return f"background {self.background}, margin {self.margin:g} px"
        digest = hashlib.sha256(self.donors.astype("<i8").tobytes()).hexdigest()[:16]
        brightness = "matched" if self.matched else "raw"
        return f"background {self.background}, {brightness}, margin {self.margin:g} px, donors {digest}"

    @property
    def has_donors(self) -> bool:
        """Whether pixels of other cells are used."""
        return self.background not in ("mean", "zero")

    def crops(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return the crops on the other background."""
        crops = cells.crops(positions, rescale="raw")
        region = regions_of(cells, self.margin)[0][positions]
        outside = ~region[:, None]
        if self.background == "zero":
            background = crops.min(axis=(2, 3), keepdims=True)
        elif self.background == "mean":
            background = _moments(crops, outside)[0]
        else:
            background = self._donated(cells, positions)
            if self.matched:
                (old_mean, old_sd), (mean, sd) = _moments(crops, outside), _moments(background, outside)
                background = np.clip((background - mean) * (old_sd / np.where(sd > 0, sd, 1)) + old_mean, 0, 1)
        share = np.clip(1 - _distance(region) / (FEATHER + 1), 0, 1)[:, None]
        return np.where(outside, share * crops + (1 - share) * background, crops).astype(np.float32)

    def masks(self, cells: Cells, positions: np.ndarray) -> np.ndarray | None:
        """Return the centre cell's labels, and of a donor's crop the labels of the other cells that can be seen."""
        region = regions_of(cells, self.margin)[0][positions]
        own = labels_of(cells, positions)
        others = np.zeros_like(own)
        if self.background in ("same class", "other class"):
            others = labels_of(cells, self.donors[positions])
            others = np.where(np.isin(others, CENTRE) | region, 0, others)
        return np.where(np.isin(own, CENTRE), own, others).astype(np.uint16)

    def _donated(self, cells: Cells, positions: np.ndarray) -> np.ndarray:
        """Return the backgrounds that donors give (b, channels, rows, columns)."""
        donors = self.donors[positions]
        crops, (regions, free) = cells.crops(donors, rescale="raw"), regions_of(cells, self.margin)
        images = obs_strings(cells.obs, "image")[donors]
        empty = np.stack([_cell_free(cells, self.margin, image) for image in images])
        kept = free[donors] if self.background == "cell-free" else ~regions[donors]
        return np.where(kept[:, None], crops, empty)


def labels_of(cells: Cells, positions: np.ndarray) -> np.ndarray:
    """Return the labels (b, rows, columns) int of the segmented cells in some crops."""
    return cells.masks(positions).astype(np.int64)


@lru_cache(maxsize=2)  # every condition asks again
def regions_of(cells: Cells, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return every cell's own pixels and those that are free of cells (n, rows, columns) bool twice."""
    own, free = np.empty((2, len(cells), *cells.crop_shape), bool)
    for start in range(0, len(cells), CHUNK):
        chunk = np.arange(start, min(start + CHUNK, len(cells)))
        labels = labels_of(cells, chunk)
        own[chunk], free[chunk] = cell_region(labels, margin), free_region(labels, margin)
    return own, free


@lru_cache(maxsize=4096)
def _cell_free(cells: Cells, margin: float, image: str) -> np.ndarray:
    """Return an image's cell-free background, put together from its crops (channels, rows, columns) float32."""
    from scipy.ndimage import distance_transform_edt

    names = obs_strings(cells.obs, "cell")
    members = np.flatnonzero(obs_strings(cells.obs, "image") == image)
    members = np.array(sorted(members, key=lambda m: hashlib.sha256(str(names[m]).encode()).digest()))[:MOST_CROPS]
    background, found = np.zeros((len(cells.channels), *cells.crop_shape), np.float32), np.zeros(cells.crop_shape, bool)
    for crop, free in zip(cells.crops(members, rescale="raw"), regions_of(cells, margin)[1][members], strict=True):
        background = np.where(free & ~found, crop, background)
        found |= free
    if not found.any():  # an image that is full of cells: the darkest of its pixels stands for what is behind them
        crops = cells.crops(members, rescale="raw")
        return np.broadcast_to(np.quantile(crops, 0.01, axis=(0, 2, 3))[:, None, None], background.shape).astype(
            np.float32
        )
    rows, columns = distance_transform_edt(~found, return_distances=False, return_indices=True)
    return background[:, rows, columns]


def _moments(crops: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean and the SD of each channel's chosen pixels (b, channels, 1, 1) float64, 0 where none is chosen."""
    counts = np.maximum(chosen.sum(axis=(2, 3), keepdims=True), 1)
    mean = (crops * chosen).sum(axis=(2, 3), keepdims=True, dtype=np.float64) / counts
    squares = (np.square(crops - mean) * chosen).sum(axis=(2, 3), keepdims=True)
    return mean, np.sqrt(squares / counts)
