"""Image files of every kind that microscopes and their programs write: what they hold, and single planes of them.

TIFF, OME-TIFF and ImageJ's stacks, PNG, JPEG, BMP, and OME-Zarr (versions 0.4 and 0.5), which is read with zarr alone: of its
metadata only the axes, the paths of the resolutions and the names of the channels matter here.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.data.cells import as_float32
from pci_bench.errors import UserError
from pci_bench.system.files import check_text, finished
from pci_bench.system.foreign import check_plane, check_room, read_json
from pci_bench.system.shortages import raise_shortage

if TYPE_CHECKING:
    import tifffile
    from PIL.Image import Image

READABLE = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")
LARGEST_FIELD = 2**28  # pixels: 16,384 × 16,384
COLOURS = ("red", "green", "blue", "alpha")
PILLOW_CHANNELS = {"L": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I": 1, "F": 1, "LA": 2, "RGB": 3, "RGBA": 4}
PILLOW_TYPES = {"I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I": "int32", "F": "float32"}  # else uint8
# What turns a chunk's bytes into numbers and does nothing else; others of numcodecs run what a file says (pickle).
CODECS = ("blosc", "bz2", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd")
CODECS_3 = ("bytes", "transpose", "sharding_indexed", *CODECS, *(f"numcodecs.{name}" for name in CODECS))


@dataclass(frozen=True)
class ImageDescription:
    """What an image file holds, by its header.

    Parameters
    ----------
    shape
        Rows and columns.
    dtype
        The type of the stored numbers: ``"uint16"``.
    channels
        How many channels there are; the three colours of an RGB file are three.
    channel_names
        Their names where the file has them, else none.
    z, t
        How many planes of focus and points in time there are.
    bits
        How many bits of a number are used (12 of a 16-bit file), where the file says so.
    """

    shape: tuple[int, int]
    dtype: str
    channels: int = 1
    channel_names: tuple[str, ...] = ()
    z: int = 1
    t: int = 1
    bits: int | None = None


def describe_image(path: Path) -> ImageDescription:
    """Return what an image holds, reading no pixel.

    Parameters
    ----------
    path
        An image file, or the folder of an OME-Zarr image.

    Raises
    ------
    UserError
        For a truncated file, a file of another kind, more than one image in a file, an image of colours from a palette, one
        that is to be turned or inverted before it is shown, and one of more pixels than are read.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp(), "field.tif")
    >>> tifffile.imwrite(file, np.zeros((2, 5, 64, 48), np.uint16), imagej=True, metadata={"axes": "ZCYX"})
    >>> describe_image(file)
    ImageDescription(shape=(64, 48), dtype='uint16', channels=5, channel_names=(), z=2, t=1, bits=None)
    """
    with _opened(path) as image:
        axes = image.axes.named(as_planes=False, path=path)
        return ImageDescription(
            (axes.length("Y"), axes.length("X")),
            image.dtype.name,
            axes.length("C") * axes.length("S"),
            image.channel_names if len(image.channel_names) == axes.length("C") * axes.length("S") else (),
            axes.length("Z"),
            axes.length("T"),
            image.bits,
        )


def read_plane(path: Path, channel: int | None = None, z: int | Literal["max"] | None = None) -> np.ndarray:
    """Return one grey plane of an image, each pixel as it is in the file.

    Parameters
    ----------
    path
        An image file, or the folder of an OME-Zarr image, which is read at its highest resolution.
    channel
        Counted from 0; in an RGB file red, green and blue are 0, 1 and 2. Only a file of one channel can do without.
    z
        The plane of focus, counted from 0, or ``"max"`` for the brightest of all planes at each pixel.

    Returns
    -------
    np.ndarray
        (rows, columns) of uint8, uint16 or float32. Other integers come as uint16, other floats as float32.

    Raises
    ------
    UserError
        As :func:`describe_image`, and for a channel or plane that there is not, a series in time, and values that the three
        types cannot hold.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> file = Path(tempfile.mkdtemp(), "field.tif")
    >>> stack = np.arange(24, dtype=np.uint16).reshape(2, 3, 2, 2)
    >>> tifffile.imwrite(file, stack, imagej=True, metadata={"axes": "ZCYX"})
    >>> read_plane(file, channel=1, z="max")
    array([[16, 17],
           [18, 19]], dtype=uint16)
    """
    with _opened(path) as image:
        axes = image.axes.named(as_planes=channel is None and z is not None, path=path)
        if axes.length("T") != 1:
            raise UserError(
                f"{path} is a series of {axes.length('T')} points in time; fields of view of one point in time are read. "
                "Save each point as a file of its own."
            )
        channel = _chosen_channel(path, axes, image.channel_names, channel)
        at = {"T": 0, "C": channel // axes.length("S"), "S": channel % axes.length("S")}
        plane: np.ndarray | None = None
        for focus in _chosen_planes(path, axes.length("Z"), z):
            here = np.asarray(image.pixels(axes.index({**at, "Z": focus})))
            plane = here if plane is None else np.maximum(plane, here)
    assert plane is not None
    return _as_read(plane.T if axes.order.index("X") < axes.order.index("Y") else plane, path)


def _chosen_channel(path: Path, axes: _Axes, names: tuple[str, ...], channel: int | None) -> int:
    """Return the channel to read; a sentence where it has to be named, or is not there."""
    channels = axes.length("C") * axes.length("S")
    if channel is not None and 0 <= channel < channels:
        return channel
    if channel is None and channels == 1:
        return 0
    known = [f"{i} {name}" for i, name in enumerate(names)] if len(names) == channels else []
    has = f"{path} has {channels} channel{'s' if channels > 1 else ''}" + (f" ({', '.join(known)})" if known else "")
    if channel is None:
        raise UserError(
            f"{has}. Say which one to read: `index = 0` under [channels.NAME], with a number from 0 to {channels - 1}."
        )
    only = f"its index is from 0 to {channels - 1}" if channels > 1 else "its index is 0, or none is given"
    raise UserError(f"{has}, and none with the index {channel}: {only}.")


def _chosen_planes(path: Path, planes: int, z: int | Literal["max"] | None) -> range:
    """Return the planes of focus to read; a sentence where they have to be named, or are not there."""
    if z == "max":
        return range(planes)
    if z is None and planes > 1:
        raise UserError(
            f'{path} has {planes} planes of focus. Say `z = "max"` for the brightest of them at each pixel, or name one, '
            f"`z = 0` to `z = {planes - 1}`."
        )
    focus = z or 0
    if not 0 <= focus < planes:
        raise UserError(
            f"{path} has {planes} plane{'s' if planes > 1 else ''} of focus, and none with the number {focus}: they are "
            f"counted from 0 to {planes - 1}."
        )
    return range(focus, focus + 1)


def _as_read(plane: np.ndarray, path: Path) -> np.ndarray:
    """Return pixels as uint8, uint16 or float32, none of them changed."""
    if plane.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(plane, dtype=plane.dtype.newbyteorder("="))
    if plane.dtype.kind == "b":
        raise UserError(
            f"{path} holds only black and white (1 bit a pixel); a field of view is an image of grey values."
        )
    if plane.dtype.kind in "iu":
        if plane.size and (plane.min() < 0 or plane.max() > np.iinfo(np.uint16).max):
            worst = plane.min() if plane.min() < 0 else plane.max()
            raise UserError(
                f"{path} holds {worst} as {plane.dtype.name}; integers from 0 to 65535 are read. Save it as uint16 or float32."
            )
        return np.ascontiguousarray(plane, dtype=np.uint16)
    return np.ascontiguousarray(as_float32(plane, str(path)).astype(np.float32, copy=False))


# ---- axes


@dataclass(frozen=True)
class _Axes:
    """The axes of an array by their letters, in the order in which they are stored: T, C, S (colour), Z, Y, X, Q (unnamed)."""

    order: str
    lengths: tuple[int, ...]

    def length(self, axis: str) -> int:
        return self.lengths[self.order.index(axis)] if axis in self.order else 1

    def index(self, at: dict[str, int]) -> tuple[int | slice, ...]:
        return tuple(slice(None) if axis in "YX" else at.get(axis, 0) for axis in self.order)

    def named(self, *, as_planes: bool, path: Path) -> _Axes:
        """Return axes without an unnamed one: it is of channels, or of planes of focus where the other is known.

        Parameters
        ----------
        as_planes
            What it is where neither is known.
        """
        for axis in ("Y", "X"):
            if self.order.count(axis) != 1:
                raise UserError(f"{path} has no rows and columns: its axes are {self.order or 'none'}.")
        long = [axis for axis, length in zip(self.order, self.lengths, strict=True) if length > 1]
        unknown = [axis for axis in long if axis not in "TCSZYX"]
        if not unknown:
            return self
        channels, planes = self.length("C") * self.length("S") > 1, self.length("Z") > 1
        if len(unknown) > 1 or unknown[0] != "Q" or (channels and planes):
            lengths = " × ".join(f"{axis} {length}" for axis, length in zip(self.order, self.lengths, strict=True))
            raise UserError(
                f"{path} has axes that are neither channels, planes of focus nor time: {lengths}. Save each image of one field "
                "of view as a file of its own, for example as OME-TIFF."
            )
        kind = "Z" if channels or (as_planes and not planes) else "C"
        order = "".join(
            kind if axis == "Q" and length > 1 else "Q" if axis == kind else axis
            for axis, length in zip(self.order, self.lengths, strict=True)
        )
        return _Axes(order, self.lengths)


# ---- files


@dataclass(frozen=True)
class _Opened:
    """An image whose header was read."""

    axes: _Axes
    dtype: np.dtype[Any]
    channel_names: tuple[str, ...]
    bits: int | None
    pixels: Callable[[tuple[int | slice, ...]], np.ndarray]  # by an index for each axis


@contextmanager
def _opened(path: Path) -> Iterator[_Opened]:
    """Yield an image; what its decoder raises comes out as a sentence."""
    try:
        if path.is_dir():
            yield _zarr_image(path)
        elif path.name.lower().endswith((".tif", ".tiff")):
            with path.open("rb"), _tiff_file(path) as file:
                yield _tiff_image(path, file)
        else:
            with _pillow_file(path) as image:
                yield _pillow_image(path, image)
    except UserError:
        raise
    except Exception as error:  # decoders raise many kinds
        raise_shortage(error)
        if isinstance(error, OSError) and error.errno is not None and error.strerror:
            raise UserError(f"The file {error.filename or path} cannot be read: {error.strerror}.") from error
        if "imagecodecs" in str(error) and importlib.util.find_spec("imagecodecs") is None:
            raise UserError(
                f"{path} is compressed in a way that needs imagecodecs, which is not installed. Run "
                "`pip install imagecodecs`, or save it without compression."
            ) from error
        raise UserError(
            f"{path} cannot be read as an image: it is truncated or of another kind ({str(error).rstrip('.') or type(error).__name__})."
        ) from error


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
def _pillow_file(path: Path) -> Iterator[Image]:
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


def _pillow_image(path: Path, image: Image) -> _Opened:
    channels = PILLOW_CHANNELS[image.mode]
    axes = _Axes("YXS" if channels > 1 else "YX", (*image.size[::-1], *([channels] if channels > 1 else [])))
    names = ("grey", "alpha") if channels == 2 else COLOURS[:channels] if channels > 1 else ()

    def pixels(index: tuple[int | slice, ...]) -> np.ndarray:
        _refuse(path, unlike_shown(image))
        return np.asarray(image)[index]

    return _Opened(axes, np.dtype(PILLOW_TYPES.get(image.mode, "uint8")), names, None, pixels)


# ---- TIFF


@contextmanager
def _tiff_file(path: Path) -> Iterator[tifffile.TiffFile]:
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


def _tiff_image(path: Path, file: tifffile.TiffFile) -> _Opened:
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
    axes = _Axes(series.axes.replace("I", "Q"), tuple(map(int, series.shape)))
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
    return _Opened(axes, series.dtype, names, bits, lambda index: _tiff_pixels(path, file, axes, index))


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


def _tiff_pixels(path: Path, file: tifffile.TiffFile, axes: _Axes, index: tuple[int | slice, ...]) -> np.ndarray:
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


# ---- OME-Zarr


def _zarr_attributes(path: Path) -> dict[str, Any] | None:
    """Return the OME metadata of a Zarr group, or None for what is no group."""
    try:
        if (path / "zarr.json").is_file():
            content = read_json(path / "zarr.json")
            attributes = content.get("attributes", {})
            return dict(attributes.get("ome", {})) if content.get("node_type") == "group" else None
        if (path / ".zgroup").is_file() or (path / ".zattrs").is_file():
            attributes = read_json(path / ".zattrs") if (path / ".zattrs").is_file() else {}
            return dict(attributes) if not (path / ".zarray").is_file() else None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"the metadata of {path.name} are damaged: {error}") from error
    return None


def _zarr_image(path: Path) -> _Opened:
    """Return the highest resolution of an OME-Zarr image."""
    attributes = _zarr_attributes(path)
    images = (attributes or {}).get("multiscales")
    if not images:
        raise UserError(
            f"{path} is a folder, but no OME-Zarr image: it has no 'multiscales' in its metadata. Name an image, such as "
            "plate.zarr/A/1/0 within a plate."
        )
    if len(images) > 1:
        raise UserError(f"{path} holds {len(images)} images. Save each as an OME-Zarr image of its own.")
    if "axes" not in images[0]:
        raise UserError(
            f"{path} does not name its axes as OME-Zarr 0.4 and 0.5 do. Convert it to one of these versions."
        )
    names = [axis["name"] if isinstance(axis, dict) else axis for axis in images[0]["axes"]]
    place = PurePosixPath(images[0]["datasets"][0]["path"])
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(f"its resolution '{place}' lies outside it, where nothing is read")
    array = _zarr_array(path / place)
    if len(names) != len(array.shape):
        raise ValueError(f"it has {len(names)} axes, but its array has {len(array.shape)}")
    axes = _Axes("".join(name.upper() if name in ("t", "c", "z", "y", "x") else "P" for name in names), array.shape)
    check_plane((axes.length("Y"), axes.length("X")), LARGEST_FIELD)

    def pixels(index: tuple[int | slice, ...]) -> np.ndarray:
        import zarr

        if array.blosc:
            _check_blosc(path / place, array, index)
        return np.asarray(zarr.open_array(path / place, mode="r")[index])

    channels = ((attributes or {}).get("omero") or {}).get("channels") or []
    labels = tuple(str(channel.get("label", "")) for channel in channels)
    return _Opened(axes, array.dtype, labels if all(labels) else (), None, pixels)


@dataclass(frozen=True)
class _ZarrArray:
    """What is known of an array by its metadata."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    key: tuple[str, str]  # what a chunk's file name begins with, and what stands between its numbers
    blosc: bool  # whether each chunk's file is what Blosc compressed


def _zarr_array(path: Path) -> _ZarrArray:
    """Return an array's metadata, having checked that reading it asks for no more than them."""
    if (path / "zarr.json").is_file():
        content = read_json(path / "zarr.json")
        kind, chunks = content["data_type"], content["chunk_grid"]["configuration"]["chunk_shape"]
        codecs, known = [codec["name"] for codec in _nested(content["codecs"])], CODECS_3
        blosc = content["codecs"][-1]["name"].endswith("blosc")
        encoding = content.get("chunk_key_encoding") or {"name": "default"}
        default = encoding["name"] == "default"
        between = (encoding.get("configuration") or {}).get("separator", "/" if default else ".")
        key = ("c" + between if default else "", between)
        if content.get("storage_transformers"):
            raise ValueError("it has storage transformers, which are not read")
    else:
        content = read_json(path / ".zarray")
        kind, chunks = content["dtype"], content["chunks"]
        compressor = content.get("compressor") or {"id": None}
        codecs = [codec["id"] for codec in [compressor, *(content.get("filters") or ())] if codec["id"]]
        known, blosc = CODECS, compressor["id"] == "blosc"
        key = ("", content.get("dimension_separator") or ".")
    if others := [codec for codec in codecs if codec not in known]:
        raise ValueError(f"its pixels are coded with '{others[0]}', which is not read; {', '.join(CODECS)} are")
    dtype = np.dtype(str(kind))
    if dtype.kind not in "buif":
        raise ValueError(f"its pixels are of the type {kind}; expected integers or floats")
    shape, chunk = tuple(map(int, content["shape"])), tuple(map(int, chunks))
    if len(chunk) != len(shape) or min(chunk) < 1:
        raise ValueError(f"its array of the shape {shape} has chunks of {chunk}")
    check_room("a chunk of it", chunk, dtype.itemsize)
    return _ZarrArray(shape, dtype.newbyteorder("="), chunk, key, blosc)


def _check_blosc(path: Path, array: _ZarrArray, index: tuple[int | slice, ...]) -> None:
    """Raise ValueError where a chunk is shorter than its header says: Blosc would read whatever follows it in memory."""
    places = [
        range(-(-length // size)) if isinstance(at, slice) else [at // size]
        for length, size, at in zip(array.shape, array.chunks, index, strict=True)
    ]
    before, between = array.key
    for place in itertools.product(*places):
        chunk = path / (before + between.join(map(str, place)))
        if chunk.is_file():  # one that was never written holds the array's fill value
            with chunk.open("rb") as file:
                header = file.read(16)
            if int.from_bytes(header[12:16], "little") != chunk.stat().st_size:
                raise ValueError(f"its chunk {chunk.relative_to(path.parent).as_posix()} is truncated")


def _nested(codecs: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield codecs, and those within the chunks of a shard."""
    for codec in codecs:
        yield codec
        for inner in ("codecs", "index_codecs"):
            yield from _nested((codec.get("configuration") or {}).get(inner, []))


# ---- folders


def is_readable(name: str) -> bool:
    """Return whether a file's name ends as an image that can be read, and is not hidden."""
    path = PurePosixPath(name)
    return path.suffix.lower() in READABLE and not path.name.startswith(".")


def list_images(root: Path) -> list[str]:
    """Return the images below a folder: relative POSIX paths in their natural order, each OME-Zarr image as one path.

    Hidden files and folders, unfinished files and the files within OME-Zarr are left out.

    Raises
    ------
    UserError
        Where there is no such folder, and as :func:`all_files`.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("f10.tif", "f2.tif", ".f3.tif", "notes.txt"):
    ...     (folder / name).touch()
    >>> list_images(folder)
    ['f2.tif', 'f10.tif']
    """
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise UserError(f"The folder of images {root} {what}. Name the folder that holds the images.")
    images: list[str] = []

    def descend(folder: Path) -> bool:
        if folder != root and folder.name.startswith("."):
            return False
        if (folder / ".zarray").is_file() or (folder / "zarr.json").is_file() or (folder / ".zgroup").is_file():
            try:
                attributes = _zarr_attributes(folder)
            except ValueError:  # whoever reads it says what is damaged
                attributes = {"multiscales": True}
            if attributes is None or "multiscales" in attributes:
                images.extend([folder.relative_to(root).as_posix()] if attributes else [])
                return False
        return True

    files = [name for name in all_files(root, "images", descend) if is_readable(name)]
    kept = finished(Path(name) for name in [*images, *files])
    return sorted((path.as_posix() for path in kept), key=natural_key)


def all_files(root: Path, contents: str, descend: Callable[[Path], bool] = lambda folder: True) -> list[str]:
    """Return all files below a folder, links to folders followed, sorted.

    Parameters
    ----------
    root
        The folder.
    contents
        What the files hold, for the message: ``"crops"``.
    descend
        Whether a folder is looked into.

    Raises
    ------
    UserError
        Where a folder cannot be listed, a link leads nowhere or to a folder that it lies in (leaving its files out would
        change the dataset silently), or a name is not Unicode.
    """

    def refuse(error: OSError) -> None:
        raise_shortage(error)
        raise UserError(
            f"The folder {error.filename} cannot be read: {error.strerror}. Its {contents} would be missing. Make it readable, "
            "or move it away."
        ) from error

    names: list[str] = []
    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        here = Path(folder)
        if not descend(here):
            subfolders.clear()
            continue
        within = [p.resolve() for p in (here, *here.parents) if p.is_relative_to(root)]
        for link in (here / name for name in subfolders if (here / name).is_symlink()):
            if any(path.is_relative_to(link.resolve()) for path in within):
                raise UserError(f"{link} is a link to a folder that it lies in. Remove the link.")
        if lost := [here / name for name in files if (here / name).is_symlink() and not os.path.exists(here / name)]:
            raise UserError(f"{lost[0]} is a link that leads to no file. Remove the link, or bring its file back.")
        names += [(here / name).relative_to(root).as_posix() for name in files]
    names.sort()
    for name in names:
        check_text(name, f"The file name in {root}")
    return names
