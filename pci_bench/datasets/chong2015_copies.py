"""Copies of the labelled cells of ``chong2015``: where either layout lies, what is fetched, and how a user's copy is taken."""

from __future__ import annotations

import os
import shutil
import tomllib
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Literal

from pci_bench.acquisition.class_images import LabelledCrop, class_folder, find_labelled_crops
from pci_bench.acquisition.crop_files import FileTree, FolderTree, ZipTree
from pci_bench.acquisition.deeploc_hdf5 import FileFormat, LabelledFile
from pci_bench.errors import UserError
from pci_bench.system.files import (
    atomic_file,
    atomic_folder,
    cache_folder,
    make_folder,
    remove_folder,
    sha256_of,
    user_data_folder,
)
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile
from pci_bench.system.room import NoRoomError
from pci_bench.system.text import enumerated

Layout = Literal["hdf5", "images"]

DECLARATION = tomllib.loads(files("pci_bench.datasets").joinpath("chong2015.toml").read_text(encoding="utf-8"))[
    "chong2015"
]
IMAGES = DECLARATION["images"]
CLASSES: tuple[str, ...] = tuple(DECLARATION["classes"])
NAMES: tuple[str, ...] = tuple(DECLARATION["files"].values())
FORM = FileFormat(
    "chong2015",
    tuple(DECLARATION["channels"]),
    (DECLARATION["rows"], DECLARATION["columns"]),
    CLASSES,
    integers=False,
    remedy=f"Copy it again, or fetch it from {DECLARATION['url']}.",
)
IMAGES_REMEDY = f"Copy the images again, or fetch them from {IMAGES['page']}."
IMAGES_ARCHIVE = "images.zip"
MEASURED = "cellprofiler_features.txt"
FOLDERS_ABOVE = 5  # either layout, that are looked into

BY_HAND = "name your own copy: `pci-bench data import chong2015 PATH`"
SOURCES: dict[Layout, RemoteFile] = {
    "hdf5": RemoteFile(
        f"chong2015/{PurePosixPath(DECLARATION['url']).name}",
        (DECLARATION["url"],),
        "the HDF5 files of chong2015",
        BY_HAND,
        licence=DECLARATION["licence"],
    ),
    "images": RemoteFile(
        f"chong2015/{IMAGES_ARCHIVE}",
        (IMAGES["url"],),
        "the mirror of chong2015, images by class",
        BY_HAND,
        licence=IMAGES["licence"],
    ),
}


def layouts_in(folder: Path) -> dict[Layout, Path]:
    """Return where in a folder each of the two layouts lies, below any parent folders: all that decides which copy is read.

    Returns
    -------
    dict
        ``"hdf5"``: the folder that holds one of the three files at least; ``"images"``: the folder that holds folders of
        classes, or an archive ``images.zip``.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "test_set", "images", "ACTIN").mkdir(parents=True)
    ...     {layout: path.name for layout, path in layouts_in(Path(folder)).items()}
    {'images': 'images'}
    """
    found: dict[Layout, Path] = {}
    places = [folder]
    for _ in range(FOLDERS_ABOVE):
        below: list[Path] = []
        for place in places:
            try:
                entries = sorted(os.scandir(place), key=lambda entry: entry.name)
            except OSError as error:
                raise UserError(f"The folder {place} cannot be read: {error.strerror}.") from error
            folders = [entry.name for entry in entries if entry.is_dir()]
            names = {entry.name for entry in entries if entry.is_file()}
            if names & set(NAMES):
                found.setdefault("hdf5", place)
            if set(folders) & set(CLASSES):
                found.setdefault("images", place)
            elif IMAGES_ARCHIVE in names:
                found.setdefault("images", place / IMAGES_ARCHIVE)
            below += [place / name for name in folders if name not in CLASSES]
        places = below
    return found


def find_copy(layout: Layout) -> Path | None:
    """Return where a copy in a layout lies: the user's own, or what was fetched or imported; or None."""
    for folder in (user_data_folder("chong2015"), _fetched_folder()):
        if folder is not None and folder.is_dir() and (place := layouts_in(folder).get(layout)):
            return place
    return None


def _fetched_folder() -> Path:
    return cache_folder() / "downloads" / "chong2015"


def fetched_paths(layout: Layout) -> list[Path]:
    """Return where in the cache a layout is put, and the file that says where it is from."""
    folder = _fetched_folder()
    return [folder / ("hdf5" if layout == "hdf5" else IMAGES_ARCHIVE), folder / f"{layout}.source.txt"]


def source_note(layout: Layout, place: Path) -> str:
    """Return where a copy is from, as a sentence."""
    put, source = fetched_paths(layout)
    if not place.is_relative_to(put) or not source.is_file():
        return f"The cells are read from the user's own copy in {place}."
    return f"The cells are read from what was {source.read_text(encoding='utf-8').strip()}."


def image_tree(place: Path) -> FileTree:
    """Return the images of a folder or an archive."""
    return FolderTree(place) if place.is_dir() else ZipTree(place)


def measured_columns(place: Path) -> str | None:
    """Return the text of the authors' table of CellProfiler's columns beside or among some images, or None where there is none.

    Its first column is ``CellID``, the cells' names; fields and lines end with a tab, as the authors' script writes them.
    """
    from pci_bench.acquisition.archives import Archive

    if place.is_dir():
        tables = [folder / MEASURED for folder in (place, place.parent)]
        return next((table.read_text(encoding="utf-8") for table in tables if table.is_file()), None)
    with Archive(place, lambda name: PurePosixPath(name).name == MEASURED, IMAGES_REMEDY) as archive:
        return archive.read(archive.members[0].name).decode("utf-8") if archive.members else None


def labelled_crops(tree: FileTree) -> list[LabelledCrop]:
    """Return the crops of all classes that a copy of images by class holds."""
    return find_labelled_crops(tree, CLASSES, tuple(IMAGES["suffixes"]), IMAGES_REMEDY)


def fetch_first(layouts: Sequence[Layout], progress: Progress) -> list[str]:
    """Fetch the first layout whose source gives what it should, and return why those before it could not be had, as sentences."""
    from pci_bench.acquisition.download import (
        fetch,
        origin_file,
    )  # with what speaks to servers, which no other command needs

    failures: list[str] = []
    for layout in layouts:
        try:
            fetched = fetch(SOURCES[layout], progress=progress)
            try:
                _take_archive(fetched.path, layout, f"fetched from {fetched.url}, SHA-256 {fetched.sha256}", progress)
            except UserError:
                for file in (
                    fetched.path,
                    origin_file(fetched.path),
                ):  # else every later call would meet the same archive
                    file.unlink(missing_ok=True)
                raise
        except NoRoomError:
            raise
        except UserError as error:
            failures.append(
                str(error).partition(f" Try again later, or {BY_HAND}")[0]
            )  # advice is given once, at the end
            progress.say(failures[-1])
            continue
        break
    return failures


def take_copy(path: Path, progress: Progress) -> None:
    """Put a user's folder or archive of either layout, below any parent folders, where it is looked for.

    Raises
    ------
    UserError
        Where it holds neither, or not all of one.
    """
    origin = f"imported from {path}"
    if path.is_dir():
        layouts = layouts_in(path)
        for layout, place in layouts.items():
            if place.is_file():
                _take_archive(place, layout, origin, progress)
            elif layout == "hdf5":
                _put_files(partial(_copy_files, place), place, origin)
            else:
                _put_images(partial(_pack, place), place, origin)
        if layouts:
            return
    else:
        from pci_bench.acquisition.archives import Archive

        with Archive(path, remedy=FORM.remedy) as archive:
            names = [PurePosixPath(member.name) for member in archive.members]
        for layout, holds in (
            ("hdf5", any(name.name in NAMES for name in names)),
            ("images", any(class_folder(str(name), CLASSES) for name in names)),
        ):
            if holds:
                _take_archive(path, layout, f"{origin}, SHA-256 {sha256_of(path)}", progress)
                return
    raise UserError(
        f"{path} holds no copy of chong2015. Expected a folder or a ZIP archive with {enumerated(NAMES)}, or with one folder of "
        "images per class, <CLASS>/<CLASS>_<number>_gfp.tif and _rfp.tif."
    )


def _take_archive(archive: Path, layout: Layout, origin: str, progress: Progress) -> None:
    """Put what an archive holds where it is looked for."""
    from pci_bench.acquisition.archives import unpack

    if layout == "images":
        _put_images(partial(_copy, archive), archive, origin)
        return

    def unpack_to(folder: Path) -> None:
        unpack(
            archive,
            folder,
            wanted=lambda name: PurePosixPath(name).name in NAMES,
            progress=progress,
            remedy=FORM.remedy,
        )

    _put_files(unpack_to, archive, origin)


def _put_files(write: Callable[[Path], object], source: Path, origin: str) -> None:
    """Write a folder of the three files, which must say what is expected of their cells; else nothing is left of it."""
    folder, note = fetched_paths("hdf5")
    make_folder(folder.parent)
    write(folder)
    try:
        place = layouts_in(folder)["hdf5"]
        if absent := [name for name in NAMES if not (place / name).is_file()]:
            raise UserError(f"{source} holds no {enumerated(absent)} beside the others. {FORM.remedy}")
        for split, name in DECLARATION["files"].items():
            LabelledFile(split, place / name, FORM).table()
    except UserError as error:
        remove_folder(folder)
        raise UserError(str(error).replace(str(folder), str(source))) from error
    note.write_text(f"{origin}\n", encoding="utf-8", newline="\n")


def _put_images(write: Callable[[Path], object], source: Path, origin: str) -> None:
    """Write the archive of images, after checking the names of what it is made of."""
    labelled_crops(image_tree(source))
    archive, note = fetched_paths("images")
    make_folder(archive.parent)
    write(archive)
    note.write_text(f"{origin}\n", encoding="utf-8", newline="\n")


def _copy(source: Path, target: Path) -> None:
    """Copy a file, unless it is the target."""
    if source != target:
        with atomic_file(target) as temporary:
            shutil.copyfile(source, temporary)


def _copy_files(source: Path, folder: Path) -> None:
    """Copy those of the three files that are there."""
    with atomic_folder(folder) as temporary:
        for name in NAMES:
            if (source / name).is_file():
                shutil.copyfile(source / name, temporary / name)


def _pack(folder: Path, target: Path) -> None:
    """Write the images of a folder as an archive, uncompressed."""
    tree = FolderTree(folder)
    with atomic_file(target) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in tree.names():
            archive.write(folder / name, name)
        if measured := measured_columns(folder):
            archive.writestr(MEASURED, measured)
