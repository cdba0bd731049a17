"""Folders (or archives) of one image file per crop and channel: finding the files of each cell, and reading them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np

from pci_bench.acquisition.archives import Archive
from pci_bench.acquisition.folder_index import folder_fingerprint
from pci_bench.acquisition.image_files import unlike_shown, unlike_shown_tiff
from pci_bench.acquisition.image_folders import all_files, is_readable
from pci_bench.api.registry import natural_key
from pci_bench.data.cells import Channel, as_float32
from pci_bench.errors import UserError
from pci_bench.system.foreign import check_plane
from pci_bench.system.shortages import raise_shortage


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
        return [name for name in self._all_names() if is_readable(name)]

    def others(self) -> list[str]:
        """Return all other files below the folder: hidden ones, and those of another ending."""
        return [name for name in self._all_names() if not is_readable(name)]

    def _all_names(self) -> list[str]:
        return all_files(self.root, "crops")

    def read(self, name: str) -> bytes:
        """Return one file's bytes."""
        try:
            return (self.root / name).read_bytes()
        except OSError as error:
            raise_shortage(error)
            raise UserError(f"The file {self.root / name} cannot be read: {error.strerror}.") from error

    def fingerprint(self) -> str:
        """Return a text that changes when a file is added, removed, resized or touched."""
        return folder_fingerprint(self.root)


class ZipTree:
    """The files of a ZIP archive, or below one folder of it, read without unpacking; nothing of it is written to disk."""

    def __init__(self, archive: Path, folder: str = ""):
        self.title = f"{archive} ({folder})" if folder else str(archive)
        below = f"{folder.rstrip('/')}/" if folder else ""

        def wanted(name: str) -> bool:
            return below in name and is_readable(name)

        self._archive = Archive(archive, wanted, "Run again to fetch it anew.")
        self._members = {
            member.name[member.name.index(below) + len(below) :]: member.name for member in self._archive.members
        }

    def names(self) -> list[str]:
        """Return the readable image files of the archive's folder."""
        return sorted(self._members)

    def read(self, name: str) -> bytes:
        """Return one member's bytes."""
        return self._archive.read(self._members[name])


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
    by_cell: dict[tuple[str, str], dict[str, str]] = {}
    for name in tree.names():
        path = PurePosixPath(name)
        for suffix in suffixes:
            if path.stem.endswith(suffix):
                key = (path.parent.as_posix(), path.stem.removesuffix(suffix))
                if suffix in by_cell.setdefault(key, {}):
                    raise UserError(
                        f"{name} and {by_cell[key][suffix]} in {tree.title} are the same crop and channel. Keep one of them."
                    )
                by_cell[key][suffix] = name
    if not by_cell:
        wanted = ", ".join(f"<name>{s}.tif" for s in suffixes)
        raise UserError(
            f"There are no crops in {tree.title}: expected files named {wanted} (or .png), in one folder per image."
        )
    cells = []
    for image, stem in sorted(by_cell, key=lambda key: (natural_key(key[0]), natural_key(key[1]))):
        files = by_cell[image, stem]
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
    """Return one grey image (rows, columns) as uint8, uint16 or float32, each pixel as it is in the file.

    Raises
    ------
    UserError
        For a truncated file, a file of another kind, an image of more than one plane or of colours, one that is to be turned
        or inverted before it is shown, and values that float32 cannot hold.
    """
    data = io.BytesIO(tree.read(name))
    try:
        plane, unlike = _tiff(data) if name.lower().endswith((".tif", ".tiff")) else _other_image(data)
    except Exception as error:  # decoders raise many kinds
        raise_shortage(error)
        raise UserError(
            f"{name} in {tree.title} cannot be read as an image: it is truncated or of another kind ({error})."
        ) from error
    if unlike:
        raise UserError(f"{name} in {tree.title} {unlike}; a crop's channel is one grey image, stored as it is shown.")
    if plane.ndim != 2:
        raise UserError(
            f"{name} in {tree.title} has the shape {plane.shape}; a crop's channel is one grey image (rows, columns)."
        )
    if plane.dtype not in (np.uint8, np.uint16):
        plane = as_float32(plane, f"{name} in {tree.title}", exact_integers=True)
    return plane


def _tiff(data: io.BytesIO) -> tuple[np.ndarray, str | None]:
    """Return a TIFF's pixels, and why they are not what the image shows, or None."""
    import tifffile

    with tifffile.TiffFile(data) as file:
        check_plane(file.series[0].shape)
        plane = file.asarray()
        several = f"holds {len(file.series)} images" if len(file.series) > 1 else None
        return plane, several or unlike_shown_tiff(file.pages.first)


def _other_image(data: io.BytesIO) -> tuple[np.ndarray, str | None]:
    """Return the pixels of a PNG, BMP or JPEG, and why they are not what the image shows, or None."""
    from PIL import Image

    with Image.open(data) as image:
        check_plane(image.size)
        unlike = unlike_shown(image)
        return np.asarray(image), unlike


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
