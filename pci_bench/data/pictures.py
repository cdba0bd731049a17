"""Crops as pictures: each channel in a colour, cells chosen as evenly over the labels as there are, and mosaics of them."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.observations import obs_strings

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells

LARGEST_TILE = 64
SHOWN = 24  # cells of a mosaic
IN_A_ROW = 12
GAP = 2  # pixels between two crops
COLOURS = {"green": (0.0, 1.0, 0.0), "magenta": (0.8, 0.0, 0.8), "blue": (0.1, 0.3, 1.0), "orange": (0.9, 0.6, 0.0)}


def stratified(cells: Cells, count: int, seed: int = 0) -> list[str]:
    """Return names of at most `count` cells, as evenly over the labels as there are cells; independent of their order."""
    names = cells.obs["cell"].astype(str).to_numpy()
    labels = obs_strings(cells.obs, "label")
    shuffled = np.random.default_rng(seed).permutation(np.argsort(names, kind="stable"))
    return [str(n) for n in names[shuffled[np.lexsort((labels[shuffled], turns(labels[shuffled])))[:count]]]]


def turns(keys: np.ndarray) -> np.ndarray:
    """Return each place's position among those of its key (n,) int.

    >>> turns(np.array(["a", "b", "a", "a", "b"]))
    array([0, 0, 1, 2, 1])
    """
    _, codes, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(codes, kind="stable")
    result = np.empty(len(keys), np.int64)
    result[order] = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    return result


def coloured(crops: np.ndarray, roles: Sequence[str]) -> np.ndarray:
    """Return crops (b, channels, rows, columns) in [0, 1] as uint8 (b, rows, columns, 3): the protein green, others as they come."""
    paints = [COLOURS.get(word, (0.0, 0.0, 0.0)) for word in colours_of(roles)]
    mixed = np.einsum("bcij,ck->bijk", np.clip(crops, 0, 1), np.array(paints, np.float32))
    levels: np.ndarray = np.rint(255 * np.clip(mixed, 0, 1))
    return levels.astype(np.uint8)


def colours_of(roles: Sequence[str]) -> list[str]:
    """Return the colour of each channel in a word: the first protein green, then magenta, blue and orange.

    >>> colours_of(["protein", "marker"]), colours_of(["marker"])
    (['green', 'magenta'], ['magenta'])
    """
    first = list(roles).index("protein") if "protein" in roles else None
    words = iter(list(COLOURS)[1:])
    return ["green" if place == first else next(words, "not shown") for place in range(len(roles))]


def channels_sentence(cells: Cells) -> str:
    """Return how crops are coloured, as a sentence."""
    words = colours_of([c.role for c in cells.channels])
    colours = [f"{c.name} {word}" for c, word in zip(cells.channels, words, strict=True)]
    return f"Every channel is stretched to the minimum and maximum of its crop: {', '.join(colours)}."


def tiles(cells: Cells, positions: Sequence[int], side: int) -> np.ndarray:
    """Return the crops at some positions in colour, as squares of one size: uint8 (n, side, side, 3)."""
    from PIL import Image

    images = coloured(cells.crops(list(positions)), [c.role for c in cells.channels])
    if images.shape[1:3] == (side, side):
        return images
    return np.stack([np.asarray(Image.fromarray(i).resize((side, side), Image.Resampling.BOX)) for i in images])


def tile_side(cells: Cells) -> int:
    """Return the side of a cell's square in pixels: the larger one of its crop, at most 64."""
    return min(LARGEST_TILE, max(cells.crop_shape))


def sampled(cells: Cells, count: int = SHOWN, seed: int = 0) -> np.ndarray:
    """Return positions of at most `count` cells, as evenly over the labels as there are cells, in the order of the labels."""
    position = {name: place for place, name in enumerate(cells.obs["cell"].astype(str))}
    chosen = np.array([position[name] for name in stratified(cells, count, seed)], int)
    order: np.ndarray = chosen[np.argsort(obs_strings(cells.obs, "label")[chosen], kind="stable")]
    return order


def mosaic(cells: Cells, positions: Sequence[int] | np.ndarray, columns: int = IN_A_ROW) -> np.ndarray:
    """Return the crops at some positions side by side, `columns` in a row, on white: uint8 (rows, columns, 3)."""
    side, columns = tile_side(cells), min(columns, len(positions))
    step = side + GAP
    rows = -(-len(positions) // columns)
    canvas = np.full((rows * step - GAP, columns * step - GAP, 3), 255, np.uint8)
    for place, tile in enumerate(tiles(cells, [int(p) for p in positions], side)):
        y, x = (step * n for n in divmod(place, columns))
        canvas[y : y + side, x : x + side] = tile
    return canvas


def cells_html(cells: Cells) -> str:
    """Return cells as a notebook shows them: what they are, a mosaic of a few, and how it is coloured."""
    from PIL import Image

    lines = [f"<b>{html.escape(repr(cells))}</b>"]
    labels = obs_strings(cells.obs, "label")
    if n_labels := len(set(labels) - {""}):
        lines.append(html.escape(f"{n_labels} values of the column label; {(labels == '').sum():,} cells have none."))
    if len(cells):
        chosen = sampled(cells)
        picture, stream = Image.fromarray(mosaic(cells, chosen)).quantize(256), io.BytesIO()  # a third of the bytes
        picture.save(stream, "png", optimize=True)
        shown = ", ".join(dict.fromkeys(str(label) for label in labels[chosen] if label))
        words = f"{len(chosen)} cells{f', of {shown}' if shown else ''}"
        lines.append(
            f'<img alt="{html.escape(words)}" style="max-width: 100%" width="{picture.width}" height="{picture.height}" '
            f'src="data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}">'
        )
        lines.append(html.escape(f"{words}. {channels_sentence(cells)}"))
    return "<br>".join(lines)
