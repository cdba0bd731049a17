"""The authors' demonstration crops: real cells, small enough to try everything on."""

from __future__ import annotations

import re
import tomllib
import zipfile
from abc import abstractmethod
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.acquisition.crop_files import (
    CropFiles,
    FileTree,
    FolderTree,
    ZipTree,
    channels_of,
    content_sha256,
    find_crops,
    read_crops,
    read_plane,
)
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import DatasetMeta, halved
from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, make_folder, temporary_folder, user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file

if TYPE_CHECKING:
    from pci_bench.data.store import StoreWriter

DECLARATIONS = tomllib.loads(files("pci_bench.datasets").joinpath("toy.toml").read_text(encoding="utf-8"))


class AuthorsDemonstration(Dataset):
    """Crops from the user's copy under ``PCI_BENCH_DATA``, or from the authors' repository at the pinned commit.

    Label = protein: each of the folders holds one protein, so a kNN accuracy on them says how well proteins (and
    fields of view) are told apart. An image is a folder; its fields are the declared confounder.
    """

    name: str

    def __init__(self) -> None:
        self.declaration = d = DECLARATIONS[self.name]
        self.meta = DatasetMeta(
            self.name,
            "1",
            d["title"],
            d["reference"],
            d["licence"],
            confounder="field",
            training=d["training"],
            label="protein",
            levels=("cell", "field"),
        )

    @abstractmethod
    def parse(self, cell: CropFiles) -> tuple[str, str]:
        """Return (protein, field) of a cell, by its file's name."""

    def build(self, store: StoreWriter) -> None:
        """Write the user's copy, or what the repository's archive holds, downloaded now."""
        if folder := user_data_folder(self.name):
            remedy = "Remove what does not belong there, or use your own crops as the dataset folder:PATH"
            self._write(FolderTree(folder), store, remedy)
            return
        from pci_bench.acquisition.download import fetch, forget

        (remote,) = self.downloads()
        archive = fetch(remote, progress=store.progress).path
        try:
            self._write(
                ZipTree(archive, self.declaration["folder"]), store, f"Run again to fetch it anew, or {remote.instead}"
            )
        except UserError:
            forget(archive)  # else every later run would meet the same wrong archive
            raise

    def _remote(self, *, imported: bool) -> RemoteFile:
        """Return the archive of the repository, one for all that is in it; what a user imports may hold this dataset alone, and is its own."""
        d = self.declaration
        instead = (
            f"copy the folder {d['folder']} of the repository to a folder '{self.name}' and set PCI_BENCH_DATA to the "
            "folder that holds it"
        )
        name = self.name if imported else d["archive"]
        return RemoteFile(f"{name}.zip", (d["url"],), f"the dataset '{self.name}'", instead, licence=d["licence"])

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the archive, where there is no copy of the user's own."""
        if user_data_folder(self.name):
            return ()
        imported = self._remote(imported=True)
        return (imported if downloaded_file(imported).is_file() else self._remote(imported=False),)

    def fetched_paths(self) -> Sequence[Path]:
        """Return where the archive is kept."""
        return (downloaded_file(self._remote(imported=True)), downloaded_file(self._remote(imported=False)))

    def import_copy(self, path: Path, progress: Progress) -> None:
        """Take the repository's archive, or a folder of the crops."""
        from pci_bench.acquisition.download import import_file

        if path.is_file():
            self._check(ZipTree(path, self.declaration["folder"]), "Nothing was imported")
            import_file(self._remote(imported=True), path, progress=progress)
            return
        tree = FolderTree(path)
        self._check(tree, "Nothing was imported")
        with temporary_folder(make_folder(cache_folder() / "downloads")) as folder:
            archive = folder / "copy.zip"
            with zipfile.ZipFile(archive, "w") as written:
                for name in tree.names():
                    written.writestr(f"{self.declaration['folder']}/{name}", tree.read(name))
            import_file(self._remote(imported=True), archive, progress=progress)

    def _check(self, tree: FileTree, remedy: str) -> list[CropFiles]:
        """Return the cells of a tree, or raise where they are not the pinned ones."""
        d = self.declaration
        cells = find_crops(tree, tuple(d["suffixes"]))
        if content_sha256(tree) != d["sha256"]:
            raise UserError(
                f"{tree.title} is not '{self.name}' as pinned: {len(cells):,} cells found, {d['cells']:,} expected, or a file differs. "
                f"{remedy}."
            )
        return cells

    def _write(self, tree: FileTree, store: StoreWriter, remedy: str) -> None:
        """Write the crops, after checking that they are the pinned ones."""
        import pandas as pd

        d = self.declaration
        cells = self._check(tree, remedy)
        parsed = [self.parse(c) for c in cells]
        obs = pd.DataFrame(
            {
                "cell": [c.name for c in cells],
                "image": [c.image for c in cells],
                "field": [field for _, field in parsed],
                "protein": [protein for protein, _ in parsed],
                "label": [protein for protein, _ in parsed],
            }
        )
        first = read_plane(tree, cells[0].files[0])
        halve = d.get("halve", False)
        rows, columns = (s // 2 if halve else s for s in first.shape)
        channels = channels_of(d["channels"], marker_floor=d.get("floor", 0.0))
        store.begin(obs, channels, crop_shape=(rows, columns), dtype=str(first.dtype))
        for crop in read_crops(tree, cells):
            store.add(halved(crop) if halve else crop)


@register_dataset("toy-yeast")
class ToyYeast(AuthorsDemonstration):
    """Files ``PROT/PROT_FIELD_rfp_CELL_{gfp,rfp}.tif``: an image is a protein's folder, a field is PROT_FIELD."""

    name = "toy-yeast"

    def parse(self, cell: CropFiles) -> tuple[str, str]:
        """Return (protein, field)."""
        matched = re.fullmatch(r"((.+)_\d+)_rfp_\d+", cell.name)
        if matched is None:
            raise UserError(f"The file {cell.files[0]} of toy-yeast is not named PROTEIN_FIELD_rfp_CELL_gfp.tif.")
        return matched[2], matched[1]


@register_dataset("toy-human")
class ToyHuman(AuthorsDemonstration):
    """Files ``GENE_PLATE_WELL/PLATE_WELL_FIELD_…_CELL_{green,blue,red}.tif``: an image is a folder."""

    name = "toy-human"

    def parse(self, cell: CropFiles) -> tuple[str, str]:
        """Return (gene, field)."""
        return cell.image.split("_")[0], cell.name.rpartition("_")[0]
