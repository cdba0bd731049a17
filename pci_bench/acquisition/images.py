"""Images of every kind that microscopes and their programs write: what they hold, and single planes of them.

TIFF, OME-TIFF and ImageJ's stacks, PNG, JPEG and BMP (:mod:`pci_bench.acquisition.image_files`), and OME-Zarr (:mod:`pci_bench.acquisition.ome_zarr`).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pci_bench.acquisition.image_files import pillow_file, pillow_image, tiff_file, tiff_image
from pci_bench.acquisition.ome_zarr import zarr_image
from pci_bench.acquisition.opened_image import Axes, Opened
from pci_bench.data.cells import as_float32
from pci_bench.errors import UserError
from pci_bench.system.shortages import raise_shortage


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


def _chosen_channel(path: Path, axes: Axes, names: tuple[str, ...], channel: int | None) -> int:
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


@contextmanager
def _opened(path: Path) -> Iterator[Opened]:
    """Yield an image; what its decoder raises comes out as a sentence."""
    try:
        if path.is_dir():
            yield zarr_image(path)
        elif path.name.lower().endswith((".tif", ".tiff")):
            with path.open("rb"), tiff_file(path) as file:
                yield tiff_image(path, file)
        else:
            with pillow_file(path) as image:
                yield pillow_image(path, image)
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
