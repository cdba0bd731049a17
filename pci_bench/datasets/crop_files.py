"""Folders (or archives) of one image file per crop and channel: finding the files of each cell, and reading them."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from pci_bench.cells import Channel
from pci_bench.errors import UserError
from pci_bench.foreign import check_plane
from pci_bench.registry import natural_key

READABLE = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")


class FileTree(Protocol):
    """Files by relative POSIX path."""

    title: str

    def names(self) -> list[str]: ...  # noqa: D102 - a protocol

    def read(self, name: str) -> bytes: ...  # noqa: D102 - a protocol


class FolderTree:
    """The files of a folder."""

    def __init__(self, root: Path):
        self.root = root
        self.title = str(root)

    def names(self) -> list[str]:
        """Return the readable image files below the folder."""
        return sorted(
            p.relative_to(self.root).as_posix()
            for p in self.root.rglob("*")
            if p.suffix.lower() in READABLE and p.is_file() and not p.name.startswith(".")
        )

    def read(self, name: str) -> bytes:
        """Return one file's bytes."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise UserError(f"The file {self.root / name} cannot be read: {error.strerror}.") from error

    def fingerprint(self) -> str:
        """Return a text that changes when a file is added, removed, resized or touched."""
        digest = hashlib.sha256()
        for name in [*self.names(), "images.csv"]:
            file = self.root / name
            if file.exists():
                stat = file.stat()
                digest.update(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()


class ZipTree:
    """The files below one folder of a ZIP archive, read without unpacking; nothing of it is written to disk."""

    def __init__(self, archive: Path, folder: str):
        self.title = f"{archive} ({folder})"
        try:
            self._zip = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile) as error:
            raise UserError(f"{archive} is not a whole ZIP archive ({error}). Run again to fetch it anew.") from error
        self._members = {}
        for name in self._zip.namelist():
            _, found, relative = name.partition(folder.rstrip("/") + "/")
            if found and PurePosixPath(relative).suffix.lower() in READABLE:
                self._members[relative] = name

    def names(self) -> list[str]:
        """Return the readable image files of the archive's folder."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """Return one member's bytes."""
        try:
            return self._zip.read(self._members[name])
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:  # the last: encrypted
            raise UserError(f"{name} in {self.title} is damaged ({error}). Run again to fetch it anew.") from error


@dataclass(frozen=True)
class CropFiles:
    """One cell: the image (folder) it belongs to, its name, and one file per channel."""

    image: str
    name: str
    files: tuple[str, ...]


def content_sha256(tree: FileTree) -> str:
    """Return one hash over the names and bytes of all files, the same for a folder and an archive of it."""
    digest = hashlib.sha256()
    for name in tree.names():
        digest.update(f"{name}\0{hashlib.sha256(tree.read(name)).hexdigest()}\n".encode())
    return digest.hexdigest()


def find_crops(tree: FileTree, suffixes: tuple[str, ...]) -> list[CropFiles]:
    """Return the cells of a tree, in the natural order of their names.

    Parameters
    ----------
    tree
        Files named ``<image folders>/<anything><suffix>.<extension>``.
    suffixes
        One per channel, the protein's first.

    Raises
    ------
    UserError
        Where a crop lacks one of its channels, or there is no crop at all.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for name in tree.names():
        path = PurePosixPath(name)
        for suffix in suffixes:
            if path.stem.endswith(suffix):
                key = (path.parent.as_posix(), path.stem.removesuffix(suffix))
                if suffix in found.setdefault(key, {}):
                    raise UserError(
                        f"{name} and {found[key][suffix]} in {tree.title} are the same crop and channel. Keep one of them."
                    )
                found[key][suffix] = name
    if not found:
        wanted = ", ".join(f"<name>{s}.tif" for s in suffixes)
        raise UserError(
            f"There are no crops in {tree.title}: expected files named {wanted} (or .png), in one folder per image."
        )
    cells = []
    for image, stem in sorted(found, key=lambda key: (natural_key(key[0]), natural_key(key[1]))):
        files = found[image, stem]
        missing = [s for s in suffixes if s not in files]
        if missing:
            present = next(iter(files.values()))
            raise UserError(
                f"The crop {present} in {tree.title} has no {' and no '.join(missing)} file beside it. "
                f"Every crop needs one file per channel ({', '.join(suffixes)})."
            )
        cells.append(CropFiles("" if image == "." else image, stem, tuple(files[s] for s in suffixes)))
    return cells


def read_plane(tree: FileTree, name: str) -> np.ndarray:
    """Return one grey image (rows, columns) as uint8, uint16 or float32.

    Raises
    ------
    UserError
        For a truncated file, a file of another kind, or an image of more than one plane.
    """
    import tifffile
    from PIL import Image

    data = io.BytesIO(tree.read(name))
    try:
        if name.lower().endswith((".tif", ".tiff")):
            with tifffile.TiffFile(data) as file:
                check_plane(file.series[0].shape)
                plane = file.asarray()
        else:
            with Image.open(data) as image:
                check_plane(image.size)
                plane = np.asarray(image.convert("RGB") if image.mode == "P" else image)  # never a palette's indices
    except Exception as error:  # decoders raise many kinds
        raise UserError(
            f"{name} in {tree.title} cannot be read as an image: it is truncated or of another kind ({error})."
        ) from error
    if plane.ndim != 2:
        raise UserError(
            f"{name} in {tree.title} has the shape {plane.shape}; a crop's channel is one grey image (rows, columns)."
        )
    if plane.dtype not in (np.uint8, np.uint16):
        plane = plane.astype(np.float32)
    return plane


def read_crops(tree: FileTree, cells: Iterable[CropFiles]) -> Iterator[np.ndarray]:
    """Yield each cell's crop (1, channels, rows, columns).

    Raises
    ------
    UserError
        Where two channels of a cell, or two cells, differ in size or type.
    """
    first: tuple[str, np.ndarray] | None = None
    for cell in cells:
        planes = []
        for name in cell.files:
            plane = read_plane(tree, name)
            first = first or (name, plane)
            for what, here, there in (("size", plane.shape, first[1].shape), ("type", plane.dtype, first[1].dtype)):
                if here != there:
                    raise UserError(
                        f"{name} in {tree.title} has the {what} {here}, but {first[0]} has {there}. All crops must have one {what}."
                    )
            planes.append(plane)
        yield np.stack(planes)[np.newaxis]


def channels_of(names: Iterable[str], *, marker_floor: float = 0.0) -> tuple[Channel, ...]:
    """Return channels by their names: the first is the protein, the others are markers."""
    return tuple(Channel(n, "marker", marker_floor) if i else Channel(n, "protein") for i, n in enumerate(names))
