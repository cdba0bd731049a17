"""Synthetic cells for contract tests, drawn from a seed, with the awkward cases among them."""

from __future__ import annotations

import hashlib

import numpy as np

from pci_bench.api.segmenter import BUD, MOTHER, OTHERS
from pci_bench.data.cells import Cells, Channel, DatasetMeta

NAME = "the planted dataset"
LAYOUTS = {
    "yeast": (Channel("GFP", "protein"), Channel("RFP", "marker")),
    "human": (
        Channel("antibody", "protein"),
        Channel("nucleus", "marker", floor=0.05),
        Channel("microtubules", "marker", floor=0.05),
    ),
}
AWKWARD = ("constant", "one_bright_pixel", "nothing_segmented")
BRIGHTEST = 255


def planted(
    channels: tuple[Channel, ...],
    cells: int,
    *,
    dtype: str = "uint16",
    size: int = 64,
    seed: int = 0,
    awkward: bool = True,
    salt: str = "",
    simulated_masks: bool = False,
) -> Cells:
    """Return cells in memory: a mother in the middle, every second one with a bud, and a neighbour in a corner.

    The protein is in a few spots, the first marker fills the cell, a second marker the nucleus. Masks are stored.

    Parameters
    ----------
    channels
        Protein and markers, in any order.
    cells
        How many, the awkward ones not counted.
    dtype
        ``"uint8"``, ``"uint16"`` or ``"float32"``; the values, read as raw crops, are exactly the same in all of them.
    size
        Rows and columns.
    seed
        Other cells for other seeds.
    awkward
        Whether a constant crop, a crop with one bright pixel, and a cell that no segmenter found come last.
    salt
        Part of the hash, so that nothing comes from the cache of another trial.
    simulated_masks
        Whether the masks are declared as those of a simulation.
    """
    import pandas as pd

    rng = np.random.default_rng(seed)
    drawn = [_cell(rng, size, budded=bool(i % 2)) for i in range(cells + awkward)]
    pixels = np.stack([[_channel(drawing, c, channels) for c in channels] for drawing, _ in drawn])
    masks = np.stack([mask for _, mask in drawn])
    names = [f"cell{i}" for i in range(cells)]
    if awkward:
        names += AWKWARD
        masks = np.concatenate([masks[:-1], masks[:2], np.zeros_like(masks[:1])])
        constant = np.full_like(pixels[:1], BRIGHTEST // 3)
        bright = np.zeros_like(constant)
        bright[..., size // 2, size // 2] = BRIGHTEST
        pixels = np.concatenate([pixels[:-1], constant, bright, pixels[-1:]])
    obs = pd.DataFrame({"cell": names, "image": [f"image{i % 3}" for i in range(len(names))]})
    obs["protein"] = obs["image"]
    crops = _as_type(pixels, dtype)
    digest = hashlib.sha256(f"{channels} {dtype} {salt}".encode() + crops.tobytes() + masks.tobytes()).hexdigest()
    meta = DatasetMeta(NAME, "1", NAME, confounder="image", simulated_masks=simulated_masks)
    return Cells(obs, channels, meta, digest, crops, masks=masks)


def with_channels(cells: Cells, order: list[int]) -> Cells:
    """Return the same cells with other, fewer or differently ordered channels."""
    crops, masks = cells.stored(slice(None))[:, order], cells.crops(slice(None), masks=True)[:, -1].astype(np.uint16)
    digest = hashlib.sha256(f"{cells.sha256} {order}".encode()).hexdigest()
    return Cells(cells.obs, tuple(cells.channels[i] for i in order), cells.meta, digest, crops, masks=masks)


def _as_type(pixels: np.ndarray, dtype: str) -> np.ndarray:
    """Return counts 0 … 255 as raw crops: k / 255 is k of uint8, 257 k of uint16, and the nearest float32 of both."""
    if dtype == "uint8":
        return pixels.astype(np.uint8)
    if dtype == "uint16":
        return pixels.astype(np.uint16) * np.uint16(65535 // BRIGHTEST)
    return pixels.astype(np.float32) / np.float32(BRIGHTEST)


def _cell(rng: np.random.Generator, size: int, *, budded: bool) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the brightness of each structure of a crop (rows, columns), 0 … 1, and its mask."""
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    centre, angle = rng.uniform(-0.03, 0.03, 2), rng.uniform(0, 2 * np.pi)
    direction = np.array([np.sin(angle), np.cos(angle)])

    def disc(middle: np.ndarray, radius: float, squeeze: float = 1.0) -> np.ndarray:
        inside: np.ndarray = np.hypot(rows - middle[0], (columns - middle[1]) * squeeze) < radius
        return inside

    radius = rng.uniform(0.17, 0.22)
    mother = disc(centre, radius, rng.uniform(0.9, 1.2))
    bud = disc(centre + direction * (radius + 0.06), 0.1) & ~mother if budded else np.zeros_like(mother)
    neighbour = disc(-0.5 * np.sign(direction), 0.25) & ~mother & ~bud
    mask = np.zeros((size, size), np.uint16)
    mask[neighbour], mask[mother], mask[bud] = OTHERS, MOTHER, BUD
    spots = np.zeros((size, size))
    for place in centre + rng.uniform(-0.12, 0.12, (3, 2)):
        spots += np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / (2 * 0.025**2))
    body = 0.55 * mother + 0.7 * bud + 0.45 * neighbour
    structures = {"spots": 0.2 * body + 0.6 * spots * (mask > 0), "body": body, "nucleus": 0.8 * disc(centre, 0.09)}
    return {name: values + rng.normal(0.08, 0.02, values.shape) for name, values in structures.items()}, mask


def _channel(drawing: dict[str, np.ndarray], channel: Channel, channels: tuple[Channel, ...]) -> np.ndarray:
    """Return the counts of a channel, 0 … 255."""
    markers = [c for c in channels if c.role == "marker"]
    structure = "spots" if channel.role == "protein" else ("body", "nucleus")[min(markers.index(channel), 1)]
    counts: np.ndarray = np.rint(np.clip(drawing[structure], 0, 1) * BRIGHTEST)
    return counts.astype(np.uint8)
