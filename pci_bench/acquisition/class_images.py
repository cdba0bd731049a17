"""Crops as images in one folder per class: ``<CLASS>/<CLASS>_<number><channel suffix>.tif``, below any parent folders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from pci_bench.acquisition.crop_files import CropFiles, FileTree, find_crops
from pci_bench.errors import UserError
from pci_bench.system.text import enumerated


@dataclass(frozen=True)
class LabelledCrop:
    """A crop, its class, and its number, which may or may not be counted over all classes."""

    of_class: str
    number: int
    files: CropFiles

    @property
    def name(self) -> str:
        """The class and the number, as the files are named."""
        return f"{self.of_class}_{self.number}"


def class_folder(name: str, classes: Iterable[str]) -> str | None:
    """Return the folder whose subfolder of a class holds a file, "." for the root; None where the file is in no such one.

    Examples
    --------
    >>> class_folder("test_set/images/ER/ER_7_gfp.tif", ["ER"]), class_folder("ER_7_gfp.tif", ["ER"])
    ('test_set/images', None)
    """
    folder = PurePosixPath(name).parent
    return folder.parent.as_posix() if folder.name in classes else None


def find_labelled_crops(
    tree: FileTree, classes: Sequence[str], suffixes: tuple[str, ...], remedy: str
) -> list[LabelledCrop]:
    """Return the crops of a tree in the order of their classes and numbers.

    Parameters
    ----------
    tree
        The files.
    classes
        The names that folders of crops may have.
    suffixes
        One per channel, the protein's first.
    remedy
        What to do about wrong files, as a sentence.

    Raises
    ------
    UserError
        Where a crop lacks a channel, lies in a folder that is no class, is not named by its class and a number, or lies in
        two folders; and where there is none.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from pci_bench.acquisition.crop_files import FolderTree
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for channel in ("gfp", "rfp"):
    ...         file = Path(folder, "images", "ER", f"ER_12_{channel}.tif")
    ...         file.parent.mkdir(parents=True, exist_ok=True)
    ...         file.touch()
    ...     crops = find_labelled_crops(FolderTree(Path(folder)), ["ER"], ("_gfp", "_rfp"), "")
    >>> [(crop.of_class, crop.number) for crop in crops]
    [('ER', 12)]
    """
    found: dict[tuple[str, int], LabelledCrop] = {}
    for files in find_crops(tree, suffixes):
        folder = PurePosixPath(files.image).name
        if folder not in classes:
            raise UserError(
                f"The crop {files.files[0]} in {tree.title} lies in the folder '{folder}', which is no class. Expected one folder "
                f"per class ({enumerated(classes)}). {remedy}"
            )
        start, _, number = files.name.rpartition("_")
        if start != folder or not (number.isascii() and number.isdecimal()):
            raise UserError(
                f"The crop {files.files[0]} in {tree.title} is not named {folder}_<number>{suffixes[0]}.tif, as those of the class "
                f"{folder} are. {remedy}"
            )
        crop = LabelledCrop(folder, int(number), files)
        if other := found.get((folder, crop.number)):
            raise UserError(f"{files.files[0]} and {other.files.files[0]} in {tree.title} are the same crop. {remedy}")
        found[folder, crop.number] = crop
    return [found[key] for key in sorted(found, key=lambda key: (classes.index(key[0]), key[1]))]
