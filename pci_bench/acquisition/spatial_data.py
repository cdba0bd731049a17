"""SpatialData stores: Zarr folders that hold images and label images, each an OME-Zarr image, in folders of these names.

They are read as OME-Zarr, without the library; its points, shapes and tables are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pci_bench.system.foreign import read_json

IMAGES, LABELS = "images", "labels"
MARK = "spatialdata_attrs"  # in the attributes of the store, and of each element


def is_store(folder: Path) -> bool:
    """Return whether a folder is a SpatialData store, by its metadata.

    Examples
    --------
    >>> is_store(Path("."))
    False
    """
    try:
        if (folder / "zarr.json").is_file():
            return MARK in read_json(folder / "zarr.json").get("attributes", {})
        return (folder / ".zattrs").is_file() and MARK in read_json(folder / ".zattrs")
    except (OSError, ValueError, TypeError, AttributeError):  # whoever reads it says what is damaged
        return False


def elements(root: Path, images: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the fields of view and the label images among the images below a folder, by the stores that they lie in.

    Parameters
    ----------
    root
        The folder: a store, or one that holds stores.
    images
        Paths from there. What lies in no store is a field of view.
    """
    fields, labels, known = [], [], dict[str, bool]()
    for image in images:
        store, _, rest = ("/" + image).rpartition(f"/{LABELS}/")
        within = store.lstrip("/")
        if rest and "/" not in rest and known.setdefault(within, is_store(root / within)):
            labels.append(image)
        else:
            fields.append(image)
    return fields, labels
