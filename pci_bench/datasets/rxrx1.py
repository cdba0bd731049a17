"""``rxrx1-organelles`` and ``rxrx1-organelles-train``: real cells, cut from raw fields of view that are fetched one by one."""

from __future__ import annotations

import csv
import shutil
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.api.loading import store_folder
from pci_bench.data.cells import DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, sha256_of, user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file

if TYPE_CHECKING:
    from pci_bench.acquisition.layout import Layout
    from pci_bench.acquisition.prepare import Prepared
    from pci_bench.data.store import StoreWriter

COPY = "rxrx1-organelles"  # the name of a user's own copy of the fields, for both datasets
VERSION = "1"


@cache
def declared() -> dict[str, Any]:
    """Return ``rxrx1.toml``."""
    return tomllib.loads(files("pci_bench.datasets").joinpath("rxrx1.toml").read_text(encoding="utf-8"))


@cache
def pinned_files() -> dict[str, tuple[str, str, int]]:
    """Return each field's files as ``EXPERIMENT/PlateN/WELL_sS_wC.png``: path in the repository, SHA-256, bytes."""
    text = files("pci_bench.datasets").joinpath("rxrx1_files.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return {row["path"].split("/", 2)[2]: (row["path"], row["sha256"], int(row["bytes"])) for row in rows}


class Organelles(Dataset):
    """Cells of RxRx1 with the stains of five organelles; class = organelle, image = field and stain."""

    name: str

    def __init__(self) -> None:
        content = declared()
        own, shared = content["datasets"][self.name], content["layout"]["dataset"]
        self.meta = DatasetMeta(self.name, VERSION, own["title"], content["reference"], content["licence"], **shared)

    def layout(self) -> Layout:
        """Return how the fields are cut."""
        from pci_bench.acquisition.layout import layout_of  # with pydantic's models, which no other command needs

        content = declared()
        layout = dict(content["layout"])
        layout["stains"] = {**layout["stains"], "draw": content["datasets"][self.name]["draw"]}
        return layout_of(layout, f"rxrx1.toml ({self.name})")

    def wanted(self) -> dict[str, tuple[str, str, int]]:
        """Return the files of the dataset's plates."""
        plates = {f"Plate{number}" for number in declared()["datasets"][self.name]["plates"]}
        return {name: pinned for name, pinned in pinned_files().items() if name.split("/")[1] in plates}

    def source_fingerprint(self) -> str:
        """Return what the cells follow from: the pinned files, the layout and its segmenter."""
        from pci_bench.acquisition.prepare import checked_segmenter

        layout = self.layout()
        return f"{layout.digest()} {checked_segmenter(layout)} {sorted(p[1] for p in self.wanted().values())}"

    def build(self, store: StoreWriter) -> None:
        """Fetch the fields where there is no copy, cut them, and store the cells."""
        own = self.own_copy()
        root = self._checked(own) if own is not None else self._fetched(store.progress)
        parts = store_folder(self).with_suffix(".parts")
        self.prepared(root, parts, store.progress).write(store)
        shutil.rmtree(parts, ignore_errors=True)

    def prepared(self, root: Path, parts: Path, progress: Progress) -> Prepared:
        """Return the fields below a folder, cut."""
        from pci_bench.acquisition.prepare import Source, prepare_fields

        layout = self.layout().model_copy(update={"root": str(root)})
        source = Source(
            layout,
            Path(str(files("pci_bench.datasets"))),
            {"number": frozenset(declared()["datasets"][self.name]["plates"])},
        )
        return prepare_fields(source, parts, strict=True, progress=progress)

    def _checked(self, folder: Path) -> Path:
        """Return a user's own copy, if it is whole."""
        for name, (_, sha256, _) in self.wanted().items():
            file = folder / name
            if not file.is_file() or sha256_of(file) != sha256:
                raise UserError(
                    f"{folder} is no copy of the fields of '{self.name}': {name} {'differs' if file.is_file() else 'is missing'}. "
                    f"Expected {len(self.wanted())} files such as {name}, as in the repository that `pci-bench describe {self.name}` names."
                )
        return folder

    def _remote(self, name: str) -> RemoteFile:
        """Return one of the files."""
        path, sha256, size = pinned_files()[name]
        return RemoteFile(
            f"rxrx1/{name}",
            (declared()["url"] + path,),
            f"{name} of the dataset '{self.name}'",
            f"put a copy of the fields into a folder '{COPY}' and set PCI_BENCH_DATA to the folder that holds it",
            digest=f"sha256:{sha256}",
            size=size,
            licence=declared()["licence"],
        )

    def own_copy(self) -> Path | None:
        """Return the folder ``PCI_BENCH_DATA/rxrx1-organelles``, which holds the fields of both datasets, or None."""
        return user_data_folder(COPY)

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the images, where there is no copy of the user's own."""
        return () if self.own_copy() else self._remotes()

    def fetched_paths(self) -> Sequence[Path]:
        """Return where the images are kept."""
        return [downloaded_file(remote) for remote in self._remotes()]

    def import_copy(self, path: Path, progress: Progress) -> None:
        """Take a folder of the fields, or an archive of one."""
        from pci_bench.acquisition.download import import_files

        import_files(self._remotes(), path, progress=progress)

    def _remotes(self) -> list[RemoteFile]:
        return [self._remote(name) for name in self.wanted()]

    def _fetched(self, progress: Progress) -> Path:
        """Return the folder of the fields, fetched where they are not there."""
        from pci_bench.acquisition.download import (
            fetch_all,
        )  # with what speaks to servers, which no other command needs

        content, remotes = declared(), self._remotes()
        missing = [remote for remote in remotes if not downloaded_file(remote).is_file()]
        if missing:
            megabytes = sum(remote.size or 0 for remote in missing) / 1e6
            progress.say(
                f"{self.name}: fetching {len(missing)} images, {megabytes:.1f} MB, from {content['url']}. RxRx1 is {content['licence']}."
            )
        failures = fetch_all(remotes, progress, title=f"fetching {self.name}").failures
        if failures:
            others = f" {len(failures) - 1:,} more could not be had." if len(failures) > 1 else ""
            raise UserError(next(iter(failures.values())) + others)
        return cache_folder() / "downloads" / "rxrx1"


@register_dataset("rxrx1-organelles")
class RxRx1Organelles(Organelles):
    """Plates 3 and 4: each cell once, its stain drawn by seed and balanced within its plate."""

    name = "rxrx1-organelles"


@register_dataset("rxrx1-organelles-train")
class RxRx1OrganellesTrain(Organelles):
    """Plates 1 and 2: every cell with every stain of its field, for training."""

    name = "rxrx1-organelles-train"
