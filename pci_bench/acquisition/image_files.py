"""Image files as Pillow and tifffile open them: PNG, JPEG, BMP, TIFF, OME-TIFF and ImageJ's stacks."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.acquisition.opened_image import LARGEST_FIELD, Axes, Opened
from pci_bench.errors import UserError
from pci_bench.system.foreign import check_plane, check_room

if TYPE_CHECKING:
    import tifffile
    from PIL.Image import Image

COLOURS = ("red", "green", "blue", "alpha")
PILLOW_CHANNELS = {"L": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4}
PILLOW_TYPES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}  # else uint8


def unlike_shown_tiff(first: tifffile.TiffPage) -> str | None:
    """Return why the values of a TIFF's page are not the grey values that it shows, or None."""
    import tifffile

    orientation = first.tags.get("Orientation")
    return _unlike(
        palette=first.photometric == tifffile.PHOTOMETRIC.PALETTE,
        inverted=first.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        orientation=1 if orientation is None else int(orientation.value),
    )


def unlike_shown(image: Image, *, header_only: bool = False) -> str | None:
    """Return why the values of a PNG, BMP or JPEG are not the grey values that it shows, or None.

    Parameters
    ----------
    image
        The open file.
    header_only
        Whether to leave out what may stand behind the pixels: how a PNG is to be turned.
    """
    from PIL import ExifTags

    images = getattr(image, "n_frames", 1)
    orientation = 1
    if not (header_only and image.format == "PNG"):
        orientation = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    turned = _unlike(palette=image.mode == "P", inverted=False, orientation=orientation)
    return f"holds {images} images" if images > 1 else turned


def _unlike(*, palette: bool, inverted: bool, orientation: int) -> str | None:
    """Return why stored values are not the grey values that an image shows, or None."""
    if palette:
        return "is an image of colours from a palette"
    if inverted:
        return "says that its lowest value is white"
    if orientation not in (0, 1):
        return f"says that it is to be turned before it is shown (orientation {orientation})"
    return None


def _refuse(path: Path, unlike: str | None) -> None:
    if unlike:
        raise UserError(f"{path} {unlike}; a field of view is one image, stored as it is shown.")


# ---- PNG, JPEG, BMP


@contextmanager
def pillow_file(path: Path) -> Iterator[Image]:
    """Open a PNG, JPEG or BMP whose values are grey or colours as they are shown; pixels are not decoded yet."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
        image = Image.open(path)
    with image:
        check_plane(image.size, LARGEST_FIELD)
        _refuse(path, unlike_shown(image, header_only=True))
        if image.mode not in PILLOW_CHANNELS:
            kind = "black and white only" if image.mode == "1" else f"colours as {image.mode}"
            raise UserError(f"{path} holds {kind}; grey images and those of red, green and blue are read.")
        if image.format == "PNG":
            with path.open("rb") as file:
                depth = file.read(25)[24]
            if depth == 16 and image.mode in ("LA", "RGB", "RGBA"):
                raise UserError(
                    f"{path} is a PNG of colours with 16 bits each, of which only 8 could be read. Save it as TIFF."
                )
        yield image


def pillow_image(path: Path, image: Image) -> Opened:
    """Return an open PNG, JPEG or BMP."""
    channels = PILLOW_CHANNELS[image.mode]
    axes = Axes("YXS" if channels > 1 else "YX", (*image.size[::-1], *([channels] if channels > 1 else [])))
    names = ("grey", "alpha") if channels == 2 else COLOURS[:channels] if channels > 1 else ()

    def pixels(index: tuple[int | slice, ...]) -> np.ndarray:
        _refuse(path, unlike_shown(image))
        return np.asarray(image)[index]

    return Opened(axes, np.dtype(PILLOW_TYPES.get(image.mode, "uint8")), names, None, pixels)


# ---- TIFF


@contextmanager
def tiff_file(path: Path) -> Iterator[tifffile.TiffFile]:
    """Open a TIFF whose pages can all be found."""
    import tifffile

    lost: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        if "TiffPages" in record.getMessage():  # the chain of pages breaks off, which tifffile only logs
            lost.append(record.getMessage().partition("> ")[2])
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        # An OME-TIFF may name others that hold more of its planes: only this file is read.
        with tifffile.TiffFile(path, _multifile=False) as file:
            len(file.pages)
            if lost:
                raise ValueError(lost[0])
            yield file
    finally:
        logger.removeFilter(keep)


def tiff_image(path: Path, file: tifffile.TiffFile) -> Opened:
    """Return the only image of a TIFF."""
    import tifffile

    ome = file.ome_metadata or ""
    if "<!ENTITY" in ome or "<!DOCTYPE" in ome:
        raise ValueError("its OME-XML defines entities, which are not read")
    if len(file.series) != 1:
        raise UserError(f"{path} holds {len(file.series)} images. Save each as a file of its own.")
    series, first = file.series[0], file.pages.first
    _refuse(path, unlike_shown_tiff(first))
    kinds = tifffile.PHOTOMETRIC
    if first.photometric not in (kinds.MINISBLACK, kinds.RGB) and not (
        first.photometric == kinds.YCBCR and first.compression in (6, 7)  # JPEG, which is decoded to RGB
    ):
        raise UserError(
            f"{path} holds colours as {kinds(first.photometric).name}; grey images and those of red, green and blue are read."
        )
    axes = Axes(series.axes.replace("I", "Q"), tuple(map(int, series.shape)))
    check_plane((axes.length("Y"), axes.length("X")), LARGEST_FIELD)
    coloured = first.photometric != kinds.MINISBLACK and series.kind != "ome" and axes.length("C") == 1
    names = COLOURS[: axes.length("S")] if coloured else ()
    bits: int | None = first.bitspersample if first.bitspersample not in (8, 16, 32, 64) else None
    if (most := first.tags.get("MaxSampleValue")) is not None and bits is None and series.dtype.kind == "u":
        values = int(np.max(most.value))  # some programs write the largest value there is: no power of two
        if values > 0 and (values + 1).bit_count() == 1 and values < np.iinfo(series.dtype).max:
            bits = values.bit_length()
    if series.kind == "ome":
        names, significant = _ome(ome)
        bits = significant if significant and significant < 8 * series.dtype.itemsize else bits
    return Opened(axes, series.dtype, names, bits, lambda index: _tiff_pixels(path, file, axes, index))


def _ome(text: str) -> tuple[tuple[str, ...], int | None]:
    """Return the names of an OME-XML's channels, none where one lacks its name, and the bits in use."""
    from xml.etree import ElementTree

    root = ElementTree.fromstring(text)
    pixels = next((node for node in root.iter() if node.tag.endswith("}Pixels") or node.tag == "Pixels"), None)
    if pixels is None:
        return (), None
    names: list[str] = []
    for node in pixels:
        if node.tag.rpartition("}")[2] == "Channel":
            samples = int(node.get("SamplesPerPixel", 1))
            name = node.get("Name", "")
            names += [name] if samples == 1 else [f"{name} {colour}".strip() for colour in COLOURS[:samples]]
    significant = pixels.get("SignificantBits")
    return tuple(names) if all(names) else (), int(significant) if significant else None


def _tiff_pixels(path: Path, file: tifffile.TiffFile, axes: Axes, index: tuple[int | slice, ...]) -> np.ndarray:
    """Return one plane, of whose file only its page is read where each plane has its own."""
    series, key = file.series[0], file.pages.first
    inner = len(key.shape)
    outer = axes.lengths[: len(axes.lengths) - inner]
    if axes.lengths[len(outer) :] == key.shape and len(series.pages) == math.prod(outer):
        at = [place for place in index[: len(outer)] if isinstance(place, int)]
        page = series.pages[int(np.ravel_multi_index(at, outer)) if outer else 0]
        if page is None:
            raise ValueError("one of its planes is missing")
        size = file.filehandle.size
        if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise ValueError("its pixels end before they should")
        if not page.dataoffsets or not all(page.databytecounts):
            raise ValueError("some of its pixels were never written")
        return np.asarray(page.asarray())[index[len(outer) :]]
    if series.dataoffset is not None:  # one page stands for all planes, which follow each other
        kind = series.dtype.newbyteorder(file.byteorder)
        return np.memmap(path, kind, "r", series.dataoffset, axes.lengths)[index]
    check_room("its header", axes.lengths, series.dtype.itemsize)
    return np.asarray(series.asarray())[index]
