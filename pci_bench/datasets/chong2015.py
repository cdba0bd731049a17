"""``chong2015``: the labelled yeast cells of the paper's Table 1, from DeepLoc's HDF5 files; ``chong2015:images``: another copy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.acquisition.class_images import LabelledCrop
from pci_bench.acquisition.crop_files import FolderTree, channels_of, read_crops, read_plane
from pci_bench.acquisition.deeploc_hdf5 import LabelledFile
from pci_bench.api.dataset import DATASETS, Dataset, register_dataset
from pci_bench.api.registry import origin_of
from pci_bench.data.cells import DatasetMeta
from pci_bench.datasets.chong2015_copies import (
    DECLARATION,
    FORM,
    IMAGES,
    IMAGES_REMEDY,
    SOURCES,
    fetch_first,
    fetched_paths,
    find_copy,
    image_tree,
    labelled_crops,
    source_note,
    take_copy,
)
from pci_bench.datasets.deeploc_hdf5 import fingerprint, write_files
from pci_bench.errors import UserError
from pci_bench.system.files import user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.store import StoreWriter

OWN_COPY = (
    "Your own copy, an archive or a folder: `pci-bench data import chong2015 PATH`, or put {} in a folder "
    "PCI_BENCH_DATA/chong2015, and set the environment variable PCI_BENCH_DATA to the folder that holds 'chong2015'."
)


class _LabelledCells(Dataset):
    """What the copies have in common: labels by a class map, the sources, and how a user's copy is taken."""

    def __init__(self, class_map: str, name: str, declared: dict[str, Any]):
        d = DECLARATION
        if class_map not in d["maps"]:
            known = "; ".join(f"{name}: {declared['title']}" for name, declared in d["maps"].items())
            raise UserError(
                f"The dataset 'chong2015' has no class map '{class_map}'. Write chong2015:MAP with one of these maps "
                f"({known}), or only chong2015 for the map '{d['default_map']}'; chong2015:images or chong2015:images-MAP are "
                "the copy of images by class."
            )
        self.title: str = d["maps"][class_map]["title"]
        self.merged: dict[str, str] = d["maps"][class_map]["merged"]
        self.dropped: list[str] = d["maps"][class_map]["dropped"]
        self.meta = DatasetMeta(
            name,
            declared["version"],
            f"{declared['title']} ({self.title})",
            d["reference"],
            declared["licence"],
            training=d["training"],
            label=d["label"],
            merged=self.merged,
        )

    def label_of(self, name: str) -> str | None:
        """Return the label of one of the files' classes, or None where its cells are left out."""
        return None if name in self.dropped else self.merged.get(name, name)

    def import_copy(self, path: Path, progress: Progress) -> None:
        """Take a folder or an archive that holds either layout, below any parent folders."""
        take_copy(path, progress)

    def _counted(self, labels: pd.Series) -> str:
        """Return what was found beside what the paper counts, without a full stop."""
        paper, kept = DECLARATION["paper"], labels.dropna()
        return (
            f"'{self.meta.name}' has {len(kept):,} cells in {kept.nunique()} classes ({self.title}); the paper counts "
            f"{paper['cells']:,} cells in {paper['classes']} classes"
        )

    def _on_empty_labels(self, labels: pd.Series) -> list[str]:
        """Return that labels of the map have no cell, as a sentence."""
        expected = dict.fromkeys(filter(None, map(self.label_of, DECLARATION["classes"])))
        empty = [label for label in expected if label not in set(labels)]
        return [f"No cell is labelled {enumerated(empty)}."] if empty else []

    def _left_out(self, labels: pd.Series) -> str:
        return f"; {labels.isna().sum():,} of {enumerated(self.dropped)} are left out" if self.dropped else ""


@register_dataset("chong2015")
class Chong2015(_LabelledCells):
    """Crops of the labelled cells of Chong et al. 2015: train, validation and test set pooled, in this order.

    The files give GFP and RFP pixels, one-hot classes and CellProfiler features; ``chong2015.toml`` says which label
    each class gets. ``chong2015`` uses the map ``merge``; ``chong2015:drop`` and ``chong2015:merge-and-drop`` are the
    others. The paper counts 30,889 cells in 17 classes, which no map may give, so a note says what was found. The files
    are not known to tell which image, well, protein or plate a cell came from. Where a column does so for all cells, it
    is the confounder; where none does, there is no confounder, and ``image`` is missing.

    ``pci-bench data get chong2015`` fetches the archive of the files. Where its only host does not answer, the copy of images by
    class is fetched in its place, which is the dataset ``chong2015:images``: other files, of fewer cells, that reproduce nothing.

    Parameters
    ----------
    class_map
        ``"merge"``, ``"drop"`` or ``"merge-and-drop"``.

    Raises
    ------
    UserError
        For another class map.
    """

    def __init__(self, class_map: str = DECLARATION["default_map"]):
        name = "chong2015" if class_map == DECLARATION["default_map"] else f"chong2015:{class_map}"
        super().__init__(class_map, name, DECLARATION)
        paper = DECLARATION["paper"]
        self.meta = replace(self.meta, paper={what: paper[what] for what in ("cells", "classes")})

    def files(self) -> list[LabelledFile]:
        """Return the three files, each there or not; none where none of them is there."""
        folder = find_copy("hdf5")
        return (
            [LabelledFile(split, folder / name, FORM) for split, name in DECLARATION["files"].items()] if folder else []
        )

    def unavailable_reason(self) -> str | None:
        """Return which of the three files are missing, where they can be had and where to put them; or None."""
        names, present = list(DECLARATION["files"].values()), self.files()
        missing = [file.path.name for file in present if not file.path.is_file()] if present else names
        if not missing:
            return None
        own = user_data_folder("chong2015")
        where = present[0].path.parent if present else own or "PCI_BENCH_DATA/chong2015, and there is no such folder"
        other = (
            "chong2015:images is here, another copy of these cells, and reproduces nothing. " if self.stand_in() else ""
        )
        return (
            f"{enumerated(missing)} {'is' if len(missing) == 1 else 'are'} missing in {where}. {other}"
            f"`pci-bench data get chong2015` fetches {DECLARATION['url']} (one academic host, which has been down). {OWN_COPY.format('the files')}"
        )

    def stand_in(self) -> str:
        """Return ``chong2015:images`` where that copy is here."""
        return Chong2015Images().meta.name if find_copy("images") else ""

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the archive of the files; that of the other copy is the download of ``chong2015:images``."""
        return (SOURCES["hdf5"],)

    def other_downloads(self) -> Sequence[RemoteFile]:
        """Return the archive of the mirror, unless that copy is here."""
        return () if self.stand_in() else (SOURCES["images"],)

    def fetched_paths(self) -> Sequence[Path]:
        """Return the archive, and the folder that its files are unpacked to."""
        return [downloaded_file(SOURCES["hdf5"]), *fetched_paths("hdf5")]

    def fetch(self, progress: Progress) -> None:
        """Fetch the archive of the three files; where it cannot be had, the other copy, unless that is here."""
        if self.files():
            return
        failures = fetch_first(["hdf5"] if self.stand_in() else ["hdf5", "images"], progress)
        if failures and not self.stand_in():
            own = OWN_COPY.format(enumerated(list(DECLARATION["files"].values())))
            raise UserError(f"'{self.meta.name}' is not available: {' '.join(failures)} Try again later. {own}")

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the three files, so that changed files are read anew."""
        return fingerprint(file.path for file in self.files())

    def build(self, store: StoreWriter) -> None:
        """Check all files and read their labels, then stream the pixels of the cells that are kept."""
        present = self.files()
        notes = [source_note("hdf5", present[0].path.parent)]
        write_files(store, present, label_of=self.label_of, counted=self._on_counts, notes=notes)

    def _on_counts(self, obs: pd.DataFrame) -> list[str]:
        """Return what was found beside what the paper counts and what is published of each file, as sentences."""
        counts = {split: int((obs["split"] == split).sum()) for split in DECLARATION["files"]}
        splits = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        others = [
            f"{split} {counts[split]:,} (published: {n:,})"
            for split, n in DECLARATION["cells"].items()
            if counts[split] != n
        ]
        return [
            f"{self._counted(obs['label'])}. The files hold {len(obs):,} ({splits}){self._left_out(obs['label'])}.",
            *([f"The files hold other numbers of cells than published: {enumerated(others)}."] if others else []),
            *self._on_empty_labels(obs["label"]),
        ]


class Chong2015Images(_LabelledCells):
    """Another copy of the cells of ``chong2015``: images by class, from the mirror on Kaggle or as the authors unpack the files.

    Files ``<CLASS>/<CLASS>_<i>_gfp.tif`` and ``_rfp.tif``, below any parent folders or in a ZIP archive. The mirror has no DEAD and
    no GHOST, and whether its pixels are those of the files is not known: a note says of which type they are. Results are named
    ``chong2015:images``, and never stand beside a printed number.

    Parameters
    ----------
    class_map
        As of ``chong2015``: ``chong2015:images-drop`` is the map ``drop``.

    Raises
    ------
    UserError
        For another class map.
    """

    def __init__(self, class_map: str = DECLARATION["default_map"]):
        name = "chong2015:images" if class_map == DECLARATION["default_map"] else f"chong2015:images-{class_map}"
        super().__init__(class_map, name, IMAGES)
        self.meta = replace(self.meta, variant_of="chong2015")

    def unavailable_reason(self) -> str | None:
        """Return where the images can be had and where to put them, or None."""
        if find_copy("images"):
            return None
        return (
            f"there are no images in folders of classes. `pci-bench data get chong2015:images` fetches {IMAGES['page']}. Your own copy, "
            "an archive or a folder: `pci-bench data import chong2015:images PATH`, or put the folders in PCI_BENCH_DATA/chong2015, and "
            "set the environment variable PCI_BENCH_DATA to the folder that holds 'chong2015'."
        )

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the archive of the mirror."""
        return (SOURCES["images"],)

    def fetched_paths(self) -> Sequence[Path]:
        """Return the archive of the images, and what says where it is from."""
        return fetched_paths("images")

    def fetch(self, progress: Progress) -> None:
        """Fetch the mirror."""
        if find_copy("images"):
            return
        if failures := fetch_first(["images"], progress):
            raise UserError(f"'{self.meta.name}' is not available: {' '.join(failures)} {self.unavailable_reason()}")

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the images or their archive, so that changed ones are read anew."""
        place = find_copy("images")
        if place is None:
            return ""
        return FolderTree(place).fingerprint() if place.is_dir() else fingerprint([place])

    def build(self, store: StoreWriter) -> None:
        """Find all images, then write the crops of the cells that are kept."""
        place = find_copy("images")
        assert place is not None
        tree = image_tree(place)
        crops = labelled_crops(tree)
        obs = self._obs(crops)
        kept = obs["label"].notna()
        first = read_plane(tree, crops[0].files.files[0])
        if first.shape != FORM.crop_shape:
            rows, columns = FORM.crop_shape
            raise UserError(
                f"{crops[0].files.files[0]} in {tree.title} has {' × '.join(map(str, first.shape))} pixels; expected {rows} × {columns}. "
                f"{IMAGES_REMEDY}"
            )
        notes = (*self._on_counts(crops, obs), *_on_values(str(first.dtype)), source_note("images", place))
        store.begin(obs[kept], channels_of(FORM.channels), crop_shape=first.shape, dtype=str(first.dtype), notes=notes)
        for crop in read_crops(tree, (c.files for c, keep in zip(crops, kept, strict=True) if keep)):
            store.add(crop)

    def _obs(self, crops: Sequence[LabelledCrop]) -> pd.DataFrame:
        """Return one row per cell, with a missing label where the class is left out, and the split where numbers tell it."""
        import pandas as pd

        columns = {
            "cell": [crop.name for crop in crops],
            "image": [None] * len(crops),
            "label": [self.label_of(crop.of_class) for crop in crops],
        }
        if splits := _splits([crop.number for crop in crops]):
            columns["split"] = splits
        return pd.DataFrame(columns, dtype=object)

    def _on_counts(self, crops: Sequence[LabelledCrop], obs: pd.DataFrame) -> list[str]:
        """Return what was found beside what is published, by class, as sentences."""
        by_class = {name: sum(crop.of_class == name for crop in crops) for name in DECLARATION["classes"]}
        absent = [name for name, count in by_class.items() if not count]
        mirror, all_cells = IMAGES["mirror"], DECLARATION["paper"]["cells"]
        notes = [
            "This is another copy of the cells of chong2015, images by class: nothing on it is a reproduction of a printed number.",
            f"{self._counted(obs['label'])}. The images are of {len(crops):,} cells{self._left_out(obs['label'])}.",
            f"Cells by class: {', '.join(f'{name} {count:,}' for name, count in by_class.items() if count)}.",
        ]
        if absent not in ([], mirror["absent"]):
            notes.append(
                f"There are no images of {enumerated(absent)}; expected all {len(by_class)} classes, or all but those that the mirror "
                f"lacks, {enumerated(mirror['absent'])}."
            )
        expected, copy = (mirror["cells"], "the mirror") if absent else (all_cells, "the HDF5 files")
        if len(crops) != expected:
            notes.append(f"The number of cells is not that of {copy}: {len(crops):,} found, {expected:,} expected.")
        counting = f"the cells of {enumerated(IMAGES['order'])}, one after the other, as the authors' script does"
        if "split" in obs:
            notes.append(f"The numbers in the names are taken to count {counting}: 'split' is from them.")
        else:
            notes.append(
                f"The numbers in the names do not count {counting}, so that no split is known: for a network that learned the labels "
                "of one, all cells count as learned."
            )
        return notes


def _splits(numbers: Sequence[int]) -> list[str] | None:
    """Return the split of every cell where numbers count those of all splits in the authors' order; else None.

    Numbers that are counted anew, in each class or over fewer cells, have no gaps.
    """
    published = DECLARATION["cells"]
    total = sum(published.values())
    gaps = max(numbers) - min(numbers) + 1 > len(numbers)
    if len(set(numbers)) < len(numbers) or max(numbers) >= total or not (gaps or len(numbers) == total):
        return None
    of_number = [split for split in IMAGES["order"] for _ in range(published[split])]
    return [of_number[number] for number in numbers]


def _on_values(dtype: str) -> list[str]:
    """Return what whole numbers mean for values that are not rescaled, as a sentence; nothing of other values."""
    if not dtype.startswith("uint"):
        return [f"The images hold {dtype} values, as the HDF5 files do."]
    return [
        f"The images hold {dtype} values, and the HDF5 files float32: values that are not rescaled are fractions of the largest {dtype} "
        "here, not the units of those files, so that deeploc@kraus2017 and features of raw values differ. Crops that are rescaled to "
        "[0, 1] differ by rounding at most, where the images were not scaled one by one."
    ]


def variant(argument: str) -> Dataset:
    """Labelled yeast cells of ``chong2015`` with another class map, or ``chong2015:images``, another copy of them."""
    of_images = argument == "images" or argument.startswith("images-")
    class_map = argument.removeprefix("images").removeprefix("-") if of_images else argument
    return Chong2015Images(*filter(None, [class_map])) if of_images else Chong2015(class_map)


DATASETS.register("chong2015", variant, argument="MAP", origin=origin_of(Chong2015))
