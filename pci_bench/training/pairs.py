"""Pairs of cells and their order, from nothing but a seed and an epoch (paper: "Sampling Pairs")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

NOTHING_HELD_OUT = "nothing held out"


@dataclass(frozen=True)
class Epoch:
    """One epoch's draws.

    Parameters
    ----------
    sources, targets
        (n,) int positions of cells: every cell once as source, its target another cell of its image.
    source_flips, target_flips
        (n, 2) bool: flip rows, flip columns.
    """

    sources: np.ndarray
    targets: np.ndarray
    source_flips: np.ndarray
    target_flips: np.ndarray


def draw_targets(images: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return for every cell another cell of its image, each with the same probability.

    Parameters
    ----------
    images
        Image of every cell (n,) int; every image has at least two cells.
    uniform
        (n,) numbers in [0, 1).

    Returns
    -------
    ndarray
        (n,) int positions.
    """
    order = np.argsort(images, kind="stable")
    _, starts, counts = np.unique(images[order], return_index=True, return_counts=True)
    starts, counts = np.repeat(starts, counts), np.repeat(counts, counts)
    place = np.arange(len(images)) - starts
    drawn = (uniform[order] * (counts - 1)).astype(np.int64)
    drawn = np.minimum(drawn, counts - 2)
    drawn += drawn >= place  # skips the cell itself, so that the others stay equally likely
    targets = np.empty(len(images), np.int64)
    targets[order] = order[starts + drawn]
    return targets


def draw_epoch(images: np.ndarray, seed: int, epoch: int) -> Epoch:
    """Return an epoch's sources, targets and flips; the same for the same images, seed and epoch, whatever came before."""
    rng = np.random.default_rng([seed, epoch])
    n = len(images)
    targets = draw_targets(images, rng.random(n))
    order = rng.permutation(n)
    flips = rng.integers(0, 2, size=(2, n, 2)).astype(bool)
    return Epoch(order, targets[order], flips[0], flips[1])


def flipped(crops: np.ndarray, flips: np.ndarray) -> np.ndarray:
    """Return crops (b, channels, rows, columns), each with all its channels flipped as `flips` (b, 2) says."""
    crops = crops.copy()
    rows, columns = flips[:, 0], flips[:, 1]
    crops[rows] = crops[rows][:, :, ::-1]
    crops[columns] = crops[columns][:, :, :, ::-1]
    return crops


def held_out_images(images: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the images (sorted ints) that are kept from training: `fraction` of all, at least one, drawn by the seed."""
    every = np.unique(images)
    count = min(max(1, round(fraction * len(every))), len(every) - 1)
    return np.sort(np.random.default_rng([seed, 2**31]).permutation(every)[:count])
