"""``deeploc-hdf5:PATH``: labelled cells in HDF5 files of DeepLoc's family, and what all datasets of such files share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.acquisition.crop_files import channels_of
from pci_bench.acquisition.deeploc_hdf5 import INFO, FileFormat, LabelledFile, cell_name, is_feature
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.arguments import path_and_options, split_list
from pci_bench.system.files import user_path
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.store import StoreWriter

OPTIONS = ("channels", "protein", "offset")
ENDINGS = (".hdf5", ".h5")
SIGNED_AS_UNSIGNED = 1 << 15  # what is added to the counts of a camera where signed numbers are saved as unsigned ones
MAX_CHANNELS = 5


@register_dataset("deeploc-hdf5", argument="PATH")
class LabelledHdf5(Dataset):
    """Your HDF5 files of labelled cells, in the layout that DeepLoc reads: one file, or all ``.hdf5`` and ``.h5`` files of a folder.

    Arrays ``data1, data2, …`` (cells × pixels, one channel's plane after the other), ``Index1, …`` (one-hot classes, whose
    names ``Index1_columns`` are an attribute of the file or an array in it, or the array ``label_names``) and perhaps
    ``Info1, …``. The first channel is the protein. A cell's ``split`` is the name of its file. Crops are square: their size
    follows from the number of channels, by default the fewest that make them so.

    Options: ``channels``, names in the order of the planes; ``protein``, which of them is the protein, by default the first;
    ``offset``, what to subtract from every pixel (32768 where signed numbers were saved as unsigned ones):
    ``deeploc-hdf5:PATH?channels=DIC,RFP&protein=RFP&offset=32768``.

    Raises
    ------
    UserError
        For other options, and values that fit none.
    """

    def __init__(self, argument: str):
        path, options = path_and_options("deeploc-hdf5", argument, OPTIONS)
        self.path = user_path(path, "The path", absolute=True, text=True)
        self.channels = tuple(split_list(options["channels"])) if "channels" in options else ()
        if len(set(self.channels)) < len(self.channels) or not all(self.channels):
            raise UserError(f"channels={options['channels']} of deeploc-hdf5:{path} must name every channel once.")
        self.protein = options.get("protein", "")
        if self.protein and self.protein not in self.channels:
            raise UserError(
                f"protein={self.protein} of deeploc-hdf5:{path} is none of its channels: name it among them, in the order of the "
                f"planes, for example channels={self.protein},DIC&protein={self.protein}."
            )
        try:
            self.offset = float(options.get("offset", 0))
            if not math.isfinite(self.offset):
                raise ValueError
        except ValueError:
            raise UserError(f"The option offset={options['offset']} of deeploc-hdf5:{path} is not a number.") from None
        self.meta = DatasetMeta(f"deeploc-hdf5:{argument}", "1", f"Labelled cells in {path}", label="label")

    def paths(self) -> list[Path]:
        """Return the files."""
        if not self.path.is_dir():
            return [self.path] if self.path.is_file() else []
        return sorted(file for file in self.path.iterdir() if file.suffix.lower() in ENDINGS and file.is_file())

    def unavailable_reason(self) -> str | None:
        """Return a sentence where there is no such file."""
        if self.paths():
            return None
        if self.path.is_dir():
            return f"there is no file with the ending {' or '.join(ENDINGS)} in {self.path}."
        return f"there is no {self.path}. Check the path; a relative one starts at the current folder."

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the files, so that changed files are read anew."""
        return fingerprint(self.paths())

    def build(self, store: StoreWriter) -> None:
        """Check the files and read their labels, then stream the pixels."""
        paths = self.paths()
        splits = [path.stem for path in paths]
        if twice := sorted({split for split in splits if splits.count(split) > 1}):
            raise UserError(f"{self.path} holds more than one file named {enumerated(twice)}. Keep one of each.")
        form = self._form(paths[0])
        files = [LabelledFile(split, path, form) for split, path in zip(splits, paths, strict=True)]
        order = [form.channels.index(self.protein)] if self.protein else [0]
        order += [channel for channel in range(len(form.channels)) if channel not in order]
        write_files(store, files, notes=[*_on_pixels(files), *_on_offset(files)], order=order)

    def _form(self, path: Path) -> FileFormat:
        """Return the format of a file: the channels that are named, or the fewest that make square crops."""
        length = LabelledFile("", path, FileFormat(self.meta.name, (), (0, 0))).row_length()
        counts = [len(self.channels)] if self.channels else range(1, MAX_CHANNELS + 1)
        for count in counts:
            side = math.isqrt(length // count)
            if side and count * side * side == length:
                names = self.channels or tuple(f"channel {number + 1}" for number in range(count))
                return FileFormat(self.meta.name, names, (side, side), offset=self.offset)
        named = f"{len(self.channels)} channels" if self.channels else f"1 to {MAX_CHANNELS} channels"
        raise UserError(
            f"The rows of data1 in {path} have {length:,} pixels, which are not square crops of {named}. Name its channels, in the "
            "order of the planes: deeploc-hdf5:PATH?channels=GFP,RFP."
        )


def fingerprint(paths: Iterable[Path]) -> str:
    """Return a text that changes with the names, sizes and times of files; those that are not there do not count."""
    files = [(path.name, path.stat()) for path in paths if path.is_file()]
    return "\n".join(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, stat in files)


def write_files(
    store: StoreWriter,
    files: Sequence[LabelledFile],
    *,
    label_of: Callable[[str], str | None] = lambda name: name,
    notes: Sequence[str] = (),
    counted: Callable[[pd.DataFrame], Sequence[str]] = lambda obs: (),
    order: Sequence[int] | None = None,
) -> None:
    """Check all files and read their labels, then stream the pixels of the cells that are kept.

    Parameters
    ----------
    store
        Where to.
    files
        In the order in which they are pooled; all of one format.
    label_of
        Gives the label of a class; None where its cells are left out.
    notes
        Sentences to store.
    counted
        Gives further sentences of the table of all cells.
    order
        Of the channels, the protein's first; by default that of the files.
    """
    form = files[0].form
    order = list(range(len(form.channels))) if order is None else list(order)
    obs = _obs(files, label_of)
    kept = obs["label"].notna()
    identifiers = [c for c in INFO["identifiers"] if c in obs and obs[c][kept].notna().all()]
    confounder = next((c for c in identifiers if obs[c][kept].nunique() > 1), None)
    store.begin(
        obs[kept],
        channels_of([form.channels[channel] for channel in order]),
        crop_shape=form.crop_shape,
        dtype="float32",
        confounder=confounder,
        notes=(*counted(obs), _on_confounder(confounder), _on_info([f.info_columns() for f in files]), *notes),
    )
    for file in files:
        for crops in file.crops(kept[obs["split"] == file.split].to_numpy()):
            store.add(np.ascontiguousarray(crops[:, order]))


def _obs(files: Sequence[LabelledFile], label_of: Callable[[str], str | None]) -> pd.DataFrame:
    """Return one row per cell of the files, with a missing label where the class is left out."""
    import pandas as pd

    tables = {file.split: file.table() for file in files}
    rows = [
        {"cell": cell_name(split, row), "image": None, "label": label_of(name), "split": split}
        for split, table in tables.items()
        for row, name in enumerate(table.classes)
    ]
    obs = pd.DataFrame(rows, columns=["cell", "image", "label", "split"], dtype=object)
    for column in INFO["identifiers"]:
        if all(column in table.identifiers for table in tables.values()):
            obs[column] = pd.Series([v for t in tables.values() for v in t.identifiers[column]], dtype=object)
    if "plate" in obs:  # CellProfiler numbers images, and a microscope names wells, anew on every plate
        within = obs["well"] if "well" in obs and obs["image"].isna().all() else obs["image"]
        pairs = zip(obs["plate"], within, strict=True)
        images = [f"{plate}/{image}" if plate and image else None for plate, image in pairs]
        obs["image"] = pd.Series(images, dtype=object)
    return obs


def _on_confounder(confounder: str | None) -> str:
    """Return what the files tell of where cells came from, as a sentence."""
    if confounder:
        return f"The files tell the {confounder} of every cell, so '{confounder}' is the confounder."
    return (
        "No named column of Info tells the image, well, protein or plate of every cell, so there is no confounder: "
        "a cell's neighbours may come from its own image."
    )


def _on_info(columns: list[tuple[str, ...]]) -> str:
    """Return how many columns of ``Info`` are features, as a sentence."""
    if not all(columns):
        return "Not all files hold named CellProfiler columns (Info)."
    features = sum(map(is_feature, columns[0]))
    return (
        f"Info names {len(columns[0]):,} columns; {features:,} are CellProfiler's features of a cell, and the other "
        f"{len(columns[0]) - features:,} are names, numbers, places or labels, which are never used as features."
    )


def _on_pixels(files: Sequence[LabelledFile]) -> list[str]:
    """Return what the files say of their pixels, each text once, as sentences."""
    said = dict.fromkeys(filter(None, (file.pixels_are() for file in files)))
    return [
        f"The files say of their pixels: '{text}'. Here the channels are {enumerated(files[0].form.channels)}."
        for text in said
    ]


def _on_offset(files: Sequence[LabelledFile]) -> list[str]:
    """Return that pixels look like signed numbers saved as unsigned ones, and the option for it, as a sentence."""
    ranges = [(float(first.min()), float(first.max())) for file in files if (first := file.first_pixels()).size]
    if not ranges or files[0].form.offset:
        return []
    low, high = min(low for low, _ in ranges), max(high for _, high in ranges)
    if not SIGNED_AS_UNSIGNED <= low <= high < 2 * SIGNED_AS_UNSIGNED:
        return []
    return [
        f"The pixels that were looked at lie between {low:,.0f} and {high:,.0f}, as where {SIGNED_AS_UNSIGNED:,} was added to every "
        f"count: the option offset={SIGNED_AS_UNSIGNED} subtracts it. They are stored as they are."
    ]
