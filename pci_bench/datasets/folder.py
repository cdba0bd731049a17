"""``folder:PATH``: a user's own crops, one file per crop and channel, one subfolder per image."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pci_bench.acquisition.crop_files import (
    CropFiles,
    FolderTree,
    channels_of,
    find_crops,
    read_crops,
    read_plane,
)
from pci_bench.acquisition.crop_tables import channel_suffixes, with_cell_table
from pci_bench.acquisition.folder_index import note_of
from pci_bench.acquisition.image_folders import READABLE
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import OBS_COLUMNS, DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.arguments import path_and_options, split_list
from pci_bench.system.files import user_path
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from pci_bench.data.store import StoreWriter

KNOWN_SUFFIXES = {
    "_gfp": "GFP",
    "_rfp": "RFP",
    "_bf": "brightfield",
    "_green": "antibody",
    "_blue": "nucleus",
    "_red": "microtubules",
}
MAX_CROP = 1024  # pixels a side, beyond which an image is no crop of a single cell
OPTIONS = ("protein", "markers", "floor", "confounder")


@register_dataset("folder", argument="PATH")
class FolderDataset(Dataset):
    """Your own crops: ``PATH/<image>/<anything><channel suffix>.<tif|png|…>``, with labels in ``PATH/images.csv`` or ``cells.csv``.

    Suffixes are found by themselves: ``_gfp`` with ``_rfp`` or ``_bf``, ``_green`` with ``_blue`` and ``_red`` (human: marker
    floor 0.05), else two to eight endings that every crop has, such as ``_dna`` and ``_actin``; where there are none, every
    file is a crop of one channel. Which is the protein's, and others, are named in the dataset's name:
    ``folder:PATH?protein=_c1&markers=_c2,_c3&floor=0.05&confounder=plate``. ``images.csv`` has a column ``image`` and any obs
    columns, ``label`` among them; with a column ``cell``, or as ``cells.csv``, it has a row for each cell.
    """

    def __init__(self, argument: str):
        path, self.options = path_and_options("folder", argument, OPTIONS)
        self._root = user_path(path, "The folder", absolute=True, text=True)
        self.meta = DatasetMeta(
            f"folder:{argument}",
            "1",
            f"Crops in {path}",
            confounder=self.options.get("confounder", "image"),
            label="label",
        )

    @property
    def root(self) -> Path:
        """The folder."""
        return self._root

    def unavailable_reason(self) -> str | None:
        """Return a sentence where there is no such folder."""
        if not self.root.exists():
            return f"there is no folder {self.root}. Check the path; a relative one starts at the current folder."
        return (
            None
            if self.root.is_dir()
            else f"{self.root} is a file; folder:PATH expects a folder with one subfolder per image."
        )

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the files, so that a changed folder is read anew."""
        return f"{self.root}\n{FolderTree(self.root).fingerprint()}" if self.root.is_dir() else str(self.root)

    def fetched_paths(self) -> Sequence[Path]:
        """Return what is noted of the folder in the cache."""
        return [note_of(self.root)]

    def suffixes(self, names: list[str]) -> tuple[str, ...]:
        """Return one suffix per channel, the protein's first: as the options say, or as the files show."""
        stems = [Path(n).stem for n in names]
        present = [s for s in KNOWN_SUFFIXES if any(stem.endswith(s) for stem in stems)]
        if "markers" in self.options and "protein" not in self.options:
            raise UserError(
                f"folder:{self.root} names markers but no protein. Name both: folder:PATH?protein=_gfp&markers={self.options['markers']}."
            )
        if protein := self.options.get("protein"):
            return (protein, *filter(None, split_list(self.options.get("markers", ""))))
        if "_gfp" in present:
            marker = [s for s in ("_rfp", "_bf") if s in present]
            return ("_gfp", *marker[:1])
        if "_green" in present:
            return ("_green", *(s for s in ("_blue", "_red") if s in present))
        if names and not present:
            return channel_suffixes(names)
        raise UserError(
            f"There are no crops in {self.root}: expected one subfolder per image with one file per crop and channel, tif or png, such as "
            "<name>_gfp.tif and <name>_rfp.tif. Name other suffixes as folder:PATH?protein=_c1&markers=_c2,_c3."
        )

    def build(self, store: StoreWriter) -> None:
        """Write the crops and join the image table."""
        import pandas as pd

        tree = FolderTree(self.root)
        suffixes = self.suffixes(tree.names())
        cells = find_crops(tree, suffixes)
        obs = pd.DataFrame(
            {
                "cell": [f"{c.image}/{c.name}" if c.image else c.name for c in cells],
                "image": [c.image or self.root.name for c in cells],
            }
        )
        first = read_plane(tree, cells[0].files[0])
        if min(first.shape) > MAX_CROP:
            raise UserError(
                f"{cells[0].files[0]} in {self.root} is {first.shape[0]:,} × {first.shape[1]:,} pixels; these look like fields of view, not "
                f"crops of single cells. Cut them: pci-bench data layout {self.root}, then pci-bench data prepare."
            )
        obs, notes = self._annotated(obs, cells)
        notes = (
            *(() if self.options.get("protein") else _channels_note(suffixes)),
            *left_out(tree, suffixes, cells),
            *notes,
        )
        confounder = self.meta.confounder
        if confounder not in obs:
            raise UserError(
                f"folder:{self.root} names the confounder '{confounder}', but images.csv has no such column."
            )
        try:
            floor = float(self.options.get("floor", 0.05 if suffixes[0] == "_green" else 0.0))
            if not 0 <= floor < 1:
                raise ValueError
        except ValueError:
            raise UserError(
                f"The option floor={self.options['floor']} of folder:{self.root} is not a number from 0 to below 1."
            ) from None
        channels = channels_of([KNOWN_SUFFIXES.get(s, s.lstrip("_-") or "grey") for s in suffixes], marker_floor=floor)
        store.begin(obs, channels, crop_shape=first.shape, dtype=str(first.dtype), notes=notes)
        for crop in read_crops(tree, cells):
            store.add(crop)

    def _annotated(self, obs: pd.DataFrame, cells: list[CropFiles]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return obs joined with ``images.csv`` and ``cells.csv``, and sentences on what did not match."""
        notes: tuple[str, ...] = ()
        files = [file for file in (self.root / "images.csv", self.root / "cells.csv") if file.exists()]
        if not files:
            return obs, (f"{self.root} has no images.csv or cells.csv, so its cells have no labels.",)
        for file in files:
            try:
                table = read_csv(file, text=[c for c in OBS_COLUMNS if c not in ("y", "x")])
            except (ValueError, OSError) as error:
                raise UserError(f"{file} cannot be read as a table: {error}.") from error
            if "cell" in table:
                obs, more = with_cell_table(obs, cells, table, file)
            elif file.name == "cells.csv":
                raise UserError(
                    f"{file} has the columns {', '.join(map(str, table.columns))}; it needs a column 'cell' (the crop's name or file)."
                )
            else:
                obs, more = self._with_image_table(obs, table, file)
            notes += more
        return obs, notes

    def _with_image_table(
        self, obs: pd.DataFrame, table: pd.DataFrame, file: Path
    ) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return obs joined with a table of images, and sentences on what did not match."""
        if "image" not in table:
            raise UserError(
                f"{file} has the columns {', '.join(map(str, table.columns))}; it needs a column 'image' (the subfolder's name) or 'cell' (the crop's)."
            )
        nameless = table["image"].isna()
        table = table[~nameless]  # spreadsheets leave such rows at the end
        if (twice := table["image"][table["image"].duplicated()]).size:
            raise UserError(
                f"{file} has more than one row for the image '{twice.iloc[0]}' ({twice.size} such rows). Keep one row per image."
            )
        unused = sorted(set(table["image"]) - set(obs["image"]))
        unlabelled = sorted(set(obs["image"]) - set(table["image"]))
        if len(unused) == len(table):  # none at all included
            raise UserError(
                f"No image of {file} (for example '{unused[0] if unused else ''}') is a subfolder with crops in {self.root} "
                f"(for example '{obs['image'].iloc[0]}')."
            )
        notes = []
        if nameless.any():
            notes.append(f"{int(nameless.sum())} rows of {file} name no image and are left out.")
        if unused:
            notes.append(f"{len(unused)} rows of {file} match no subfolder, for example '{unused[0]}'.")
        if unlabelled:
            notes.append(
                f"{len(unlabelled)} images of {self.root} have no row in images.csv, for example '{unlabelled[0]}'."
            )
        return obs.merge(table, on="image", how="left"), tuple(notes)


def _channels_note(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """Return which channel of a folder was taken for which, where no known suffix says so."""
    if len(suffixes) == 1 or set(suffixes) & set(KNOWN_SUFFIXES):
        return ()
    return (
        f"Channels by the files' names: {suffixes[0]} as the protein's, {', '.join(suffixes[1:])} as markers. "
        f"Say it otherwise as folder:PATH?protein={suffixes[-1]}&markers={','.join(suffixes[:-1])}.",
    )


def left_out(tree: FolderTree, suffixes: tuple[str, ...], cells: list[CropFiles]) -> tuple[str, ...]:
    """Return sentences that count the files of a folder that might be crops and were not read."""
    used = {name for cell in cells for name in cell.files}
    no_channel = [name for name in tree.names() if name not in used]
    like_crops = [n for n in tree.others() if any(s and s.lower() in PurePosixPath(n).name.lower() for s in suffixes)]
    notes = []
    if no_channel:
        notes.append(
            f"{len(no_channel):,} images in {tree.root} are of no channel ({', '.join(suffixes)}) and are left out, "
            f"for example {no_channel[0]}."
        )
    if like_crops:
        notes.append(
            f"{len(like_crops):,} files in {tree.root} are named like crops but are hidden or none of {', '.join(READABLE)}, and are "
            f"left out, for example {like_crops[0]}."
        )
    return tuple(notes)
