"""Which images and files lie below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from pci_bench.acquisition.ome_zarr import zarr_attributes
from pci_bench.api.registry import natural_key
from pci_bench.errors import UserError
from pci_bench.system.files import check_text, finished
from pci_bench.system.shortages import raise_shortage

READABLE = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")


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
                attributes = zarr_attributes(folder)
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
