"""Pictures of fields of view with their objects outlined: solid where an object is kept, broken and with a symbol where it is not."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.acquisition.cut_fields import read_channels
from pci_bench.acquisition.fields import FieldOfView
from pci_bench.acquisition.prepare import Prepared
from pci_bench.acquisition.quality import KEPT, OUTCOMES, boundaries
from pci_bench.data.cells import as_raw
from pci_bench.reporting.palette import ON_DARK

if TYPE_CHECKING:
    import pandas as pd

LARGEST_SIDE = 700
SIDES = (LARGEST_SIDE, 560, 450, 360, 280)  # the next where a picture would take more bytes than it may
LARGEST_PICTURE = 300_000  # bytes; 24 of them as text leave 5 MB of 15 to everything else
LOW_HIGH = (1.0, 99.7)  # percentiles that are black and white
GREYS = 48
GLYPH = 7  # pixels of a symbol
DASH = 3  # pixels


@dataclass(frozen=True)
class FieldPicture:
    """A field's picture as a data address, its size, and how many objects have each outcome."""

    field: str
    uri: str
    size: int
    width: int
    height: int
    outcomes: dict[str, int]


def shown_channel(prepared: Prepared, field: FieldOfView) -> str:
    """Return the channel that a field is shown in: that which was segmented, or else its first marker, or its first."""
    layout = prepared.source.layout
    if layout.segment.channel is not None:
        return layout.segment.channel
    there = [name for name in layout.order if name in field.files]
    return next((name for name in there if layout.channels[name].role == "marker"), there[0])


def field_picture(prepared: Prepared, field: FieldOfView, objects: pd.DataFrame) -> FieldPicture:
    """Return the picture of a field.

    Parameters
    ----------
    prepared
        The fields that were cut.
    field
        One of them. One channel of it is read.
    objects
        Its rows in :attr:`Joined.objects`.
    """
    layout = prepared.source.layout
    image = as_raw(read_channels(field, (shown_channel(prepared, field),), layout, prepared.source.root))[0]
    labels = prepared.cut(field).labels
    reasons = [reason or KEPT for reason in objects["reason"].astype(str)]
    codes = np.array([OUTCOMES.index(reason) for reason in reasons], int)
    for side in SIDES:
        shape = scaled(image.shape, side)
        pixels = grey_levels(image, shape)
        if labels is not None:
            at_pixels = _labels_at(labels, image.shape, shape, layout.crop.downscale)
            draw_outlines(pixels, at_pixels, objects["number"].to_numpy(int), codes)
        scale = shape[0] / image.shape[0], shape[1] / image.shape[1]
        for y, x, code in zip(objects["y"], objects["x"], codes, strict=True):
            inside = -1 <= y <= image.shape[0] and -1 <= x <= image.shape[1]  # centres of a table may lie anywhere
            if inside and (code or labels is None):
                _stamp(pixels, round((y + 0.5) * scale[0] - 0.5), round((x + 0.5) * scale[1] - 0.5), code)
        content = png(pixels)
        if len(content) <= LARGEST_PICTURE:
            break
    counts = {outcome: reasons.count(outcome) for outcome in OUTCOMES if outcome == KEPT or outcome in reasons}
    uri = f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}"
    return FieldPicture(field.name, uri, len(content), shape[1], shape[0], counts)


def scaled(shape: Sequence[int], side: int) -> tuple[int, int]:
    """Return rows and columns of a picture whose longer side is `side` at most.

    >>> scaled((1080, 2160), 700), scaled((300, 200), 700)
    ((350, 700), (300, 200))
    """
    factor = min(1.0, side / max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def grey_levels(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image (rows, columns) in another shape as levels of grey, uint8 from 0 to 47, between two percentiles of its pixels."""
    from PIL import Image

    low, high = np.percentile(image, LOW_HIGH)
    stretched = np.clip((image - low) / max(float(high - low), np.finfo(np.float32).tiny), 0, 1).astype(np.float32)
    if shape != image.shape:
        stretched = np.asarray(Image.fromarray(stretched).resize(shape[::-1], Image.Resampling.BOX))
    levels: np.ndarray = np.rint(stretched * (GREYS - 1)).astype(np.uint8)
    return levels


def _labels_at(labels: np.ndarray, full: Sequence[int], shape: tuple[int, int], downscale: int) -> np.ndarray:
    """Return the label image of a field in the shape of its picture: of each pixel, the label at its middle."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int) // downscale, n - 1)
        for new, old, n in zip(shape, full, labels.shape, strict=True)
    )
    at_pixels: np.ndarray = labels[rows[:, None], columns]
    return at_pixels


def draw_outlines(pixels: np.ndarray, labels: np.ndarray, numbers: np.ndarray, codes: np.ndarray) -> None:
    """Draw the outlines of objects into levels of grey, each in the colour of its outcome; broken where it is dropped.

    Parameters
    ----------
    pixels
        (rows, columns) uint8, written to.
    labels
        (rows, columns) int.
    numbers, codes
        The objects' numbers in the label image, ascending, and the positions of their outcomes in ``OUTCOMES``.
    """
    rows, columns = np.nonzero(boundaries(labels))
    code = codes[np.searchsorted(numbers, labels[rows, columns])]
    drawn = (code == 0) | ((rows + columns) // DASH % 2 == 0)
    pixels[rows[drawn], columns[drawn]] = GREYS + code[drawn]


def glyph(code: int) -> np.ndarray:
    r"""Return the symbol of an outcome (7, 7) bool.

    >>> print("\n".join("".join(" #"[v] for v in row).rstrip() for row in glyph(3).astype(int)))
       #
      ###
     #####
    #######
     #####
      ###
       #
    """
    half = GLYPH // 2
    y, x = np.mgrid[-half : half + 1, -half : half + 1]
    shapes: list[np.ndarray] = [
        (x == 0) | (y == 0),
        np.maximum(abs(x), abs(y)) < half,
        abs(x) <= (y + half) / 2,
        abs(x) + abs(y) <= half,
        abs(x) <= (half - y) / 2,
        x**2 + y**2 <= half**2,
        abs(y) <= 1,
        (x**2 + y**2 <= half**2) & (x**2 + y**2 >= (half - 1) ** 2),
    ]
    return shapes[code]


def _stamp(pixels: np.ndarray, row: int, column: int, code: int) -> None:
    """Draw the symbol of an outcome around a pixel, black around it, where it lies in the picture."""
    shape = np.pad(glyph(code), 1)
    around = shape.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            around |= np.roll(shape, step, axis)
    half = len(shape) // 2
    for mask, value in ((around, 0), (shape, GREYS + code)):
        y, x = np.nonzero(mask)
        y, x = y + row - half, x + column - half
        inside = (y >= 0) & (x >= 0) & (y < pixels.shape[0]) & (x < pixels.shape[1])
        pixels[y[inside], x[inside]] = value


def png(pixels: np.ndarray) -> bytes:
    """Return levels of grey and colours of outcomes as PNG with a palette."""
    from PIL import Image

    greys = np.repeat(np.rint(np.linspace(0, 255, GREYS)).astype(int), 3).tolist()
    # of each outcome, as the page's charts have it in the dark theme
    colours = [int(colour[i : i + 2], 16) for colour in ON_DARK for i in (1, 3, 5)]
    image = Image.fromarray(pixels)
    image.putpalette(greys + colours)
    stream = io.BytesIO()
    image.save(stream, "png", optimize=True)
    return stream.getvalue()
