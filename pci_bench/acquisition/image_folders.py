"""Which images and files lie below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pci_bench.acquisition.ome_zarr import zarr_attributes
from pci_bench.api.registry import natural_key
from pci_bench.errors import UserError
from pci_bench.system.files import check_text, finished
from pci_bench.system.shortages import raise_shortage

READABLE = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg")


def is_readable(name: str) -> bool:
    """Return whether a file's name ends as an image that can be read, and is not hidden."""
    last = name.rpartition("/")[2]
    return not last.startswith(".") and os.path.splitext(last)[1].lower() in READABLE


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
    names = [name for _, files in walk(root, contents, descend) for name, _ in files]
    names.sort()
    return names


def walk(
    root: Path, contents: str, descend: Callable[[Path], bool] = lambda folder: True
) -> Iterator[tuple[str, list[tuple[str, os.DirEntry[str]]]]]:
    """Yield every folder from `root` on, as a POSIX path below it, and its files, each as such a path and its entry.

    Parameters and errors are those of :func:`all_files`. What this costs is one listing per folder: nothing is asked of single files.
    """
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = root / below
        if not descend(here):
            continue
        files: list[tuple[str, os.DirEntry[str]]] = []
        folders: list[str] = []
        for entry in _listed(here, contents):
            name = f"{below}/{entry.name}" if below else entry.name
            is_link = entry.is_symlink()
            if is_link and not os.path.exists(entry.path):
                raise UserError(
                    f"{entry.path} is a link that leads to no file. Remove the link, or bring its file back."
                )
            if not entry.is_dir():
                check_text(name, f"The file name in {root}")
                files.append((name, entry))
                continue
            if is_link:
                _check_no_circle(root, here, Path(entry.path))
            folders.append(name)
        waiting += reversed(folders)
        yield below, files


def _listed(folder: Path, contents: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise_shortage(error)
        raise UserError(
            f"The folder {folder} cannot be read: {error.strerror}. Its {contents} would be missing. Make it readable, "
            "or move it away."
        ) from error


def _check_no_circle(root: Path, folder: Path, link: Path) -> None:
    """Raise a sentence where a link leads to a folder that it lies in."""
    target = link.resolve()
    within = [p.resolve() for p in (folder, *folder.parents) if p.is_relative_to(root)]
    if any(path.is_relative_to(target) for path in within):
        raise UserError(f"{link} is a link to a folder that it lies in. Remove the link.")
