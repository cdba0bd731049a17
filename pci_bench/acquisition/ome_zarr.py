"""OME-Zarr images (versions 0.4 and 0.5), read with zarr alone: of their metadata only axes, paths of resolutions and names of channels matter."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pci_bench.acquisition.opened_image import LARGEST_FIELD, Axes, Opened
from pci_bench.errors import UserError
from pci_bench.system.foreign import check_plane, check_room, read_json

# What turns a chunk's bytes into numbers and does nothing else; others of numcodecs run what a file says (pickle).
CODECS = ("blosc", "bz2", "crc32", "crc32c", "delta", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd")
CODECS_3 = ("bytes", "transpose", "sharding_indexed", *CODECS, *(f"numcodecs.{name}" for name in CODECS))


def zarr_attributes(path: Path) -> dict[str, Any] | None:
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


def zarr_image(path: Path) -> Opened:
    """Return the highest resolution of an OME-Zarr image."""
    attributes = zarr_attributes(path)
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
    axes = Axes("".join(name.upper() if name in ("t", "c", "z", "y", "x") else "P" for name in names), array.shape)
    check_plane((axes.length("Y"), axes.length("X")), LARGEST_FIELD)

    def pixels(index: tuple[int | slice, ...]) -> np.ndarray:
        import zarr

        if array.blosc:
            _check_blosc(path / place, array, index)
        return np.asarray(zarr.open_array(path / place, mode="r")[index])

    channels = ((attributes or {}).get("omero") or {}).get("channels") or []
    labels = tuple(str(channel.get("label", "")) for channel in channels)
    return Opened(axes, array.dtype, labels if all(labels) else (), None, pixels)


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
