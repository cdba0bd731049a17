"""``cyclops-wt2``: yeast cells of named plates of the CyCLOPS WT2 screen, cut from the raw fields of its server."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pci_bench.api.dataset import DATASETS
from pci_bench.api.registry import origin_of
from pci_bench.datasets.fetched_screen import FetchedScreen, Selection, identity_of
from pci_bench.errors import UserError
from pci_bench.system.arguments import split_list
from pci_bench.system.files import escape, remove_folder, user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    from pci_bench.acquisition.collection import Collection

NAME = "cyclops-wt2"
N_EXAMPLES = 8  # of plates that are named


@cache
def declared() -> dict[str, Any]:
    """Return ``cyclops.toml``."""
    return tomllib.loads(files("pci_bench.datasets").joinpath("cyclops.toml").read_text(encoding="utf-8"))


class CyclopsWT2(FetchedScreen):
    """Cells of the plates that ``pci-bench data get cyclops-wt2 --plates NAMES`` names, or a user's own crops.

    Plates are the folders and archives that the screen's server lists. An image is all fields of a protein on a plate. How the
    server names its files is not published: fields whose names fit no known layout are fetched and not cut, and it is said how
    they can be.
    """

    option = "plates"

    def __init__(self, name: str = NAME, choices: Mapping[str, str] | None = None):
        super().__init__(name, choices)

    def how_to_fetch(self) -> str:
        """Return the command."""
        return f"`pci-bench data get {NAME} --plates NAMES` fetches the raw fields of plates that {declared()['url']} lists"

    def fetch(self, progress: Progress) -> None:
        """Fetch the plates, unpack those that are archives, and find how their fields are named."""
        if user_data_folder(NAME):
            return
        from pci_bench.acquisition.collection import Collection
        from pci_bench.acquisition.listing import page_reader

        before = self.selection()
        if not self.choices and before is not None and self._found(before.layout, before.chosen) == before.fields:
            return
        read_page = page_reader()
        plates = list(before.chosen) if before is not None else []
        if "plates" in self.choices:
            plates = list(dict.fromkeys(filter(None, split_list(self.choices["plates"]))))
        listed = _listed(read_page)
        if not plates:
            raise UserError(f"No plate was named: {self.how_to_fetch()}. It lists {_shown(list(listed))}.")
        collection = Collection(self.folder)
        if "retry" in self.choices:
            progress.say(f"{NAME}: {collection.forget_failures():,} files that did not come are asked for again.")
        wanted = _files_of(plates, listed, read_page)
        here = collection.fetch_missing(wanted, "files", progress)
        self._unpack(here, collection, progress)
        hashes = [(remote.name, collection.records[remote.name].sha256) for remote in here]
        if not here:
            raise UserError(
                f"None of {len(wanted):,} files of {_shown(plates)} could be fetched. `pci-bench data get {NAME} --retry` asks again."
            )
        layout, fields = self._layout_of(plates)
        notes = [f"Raw fields of {len(plates):,} plates of {declared()['url']}: {_shown(plates)}."]
        names = {remote.name for remote in wanted}
        if lost := [record for record in collection.failed if record.file in names]:
            notes.append(
                f"{len(lost):,} of {len(wanted):,} files could not be fetched, for example {lost[0].said}. "
                f"`pci-bench data get {NAME} --retry` asks for them again."
            )
        only = {"plate": tuple(escape(plate) for plate in plates)}
        self.select(
            Selection(
                tuple(plates),
                declared()["url"],
                layout,
                only,
                extent=f"{len(plates):,} of {len(listed):,} plates",
                whole=set(plates) == set(listed) and not lost,
                fields=fields,
                identity=identity_of(hashes),
                notes=tuple(notes),
            )
        )

    def _unpack(self, here: Sequence[RemoteFile], collection: Collection, progress: Progress) -> None:
        """Unpack archives that are not unpacked yet; a damaged one is asked for again."""
        from pci_bench.acquisition.archives import ArchiveError, unpack

        images = tuple(declared()["images"])
        for remote in here:
            if not _is_archive(remote.name):
                continue
            place = PurePosixPath(remote.name.removeprefix(f"{NAME}/archives/")).with_suffix("")
            folder = self.folder / "fields" / place
            if folder.is_dir():
                continue
            try:
                unpack(
                    downloaded_file(remote),
                    folder,
                    wanted=lambda name: name.lower().endswith(images),
                    progress=progress,
                )
            except ArchiveError as error:
                collection.spoil(remote, str(error))
                collection.save()
                remove_folder(folder)
                raise UserError(f"{error} `pci-bench data get {NAME} --retry` fetches it again.") from error

    def _layout_of(self, plates: Sequence[str]) -> tuple[dict[str, Any], int]:
        """Return the first known layout that fits files of the plates, and how many fields it finds."""
        from pci_bench.acquisition.image_folders import list_images

        for content in declared()["layouts"]:
            layout = content | {"root": "."}
            if fields := self._found(layout, plates):
                return layout, fields
        folder = self.folder / "fields"
        names = [f"{escape(plate)}/{name}" for plate in plates for name in list_images(folder / escape(plate))[:1]]
        raise UserError(
            f"The fields of {_shown(plates)} are in {folder}, but their names (for example {enumerated(names[:3]) or 'none'}) fit no known "
            f"layout. `pci-bench data layout {folder} --out layout.toml` proposes one; then `pci-bench data prepare layout.toml "
            "--name my-wt2`."
        )

    def _found(self, layout: Mapping[str, Any], plates: Sequence[str]) -> int:
        """Return how many fields of the plates a layout finds."""
        from pci_bench.acquisition.layout import layout_of
        from pci_bench.acquisition.prepare import Source

        only = {"plate": frozenset(escape(plate) for plate in plates)}
        try:
            return len(Source(layout_of(dict(layout), f"of '{NAME}'"), self.folder, only).find().fields)
        except UserError:
            return 0


def _is_archive(name: str) -> bool:
    return name.lower().endswith(declared()["archive"])


def _listed(read_page: Callable[[str], str]) -> dict[str, str]:
    """Return the addresses of the plates that the server lists, by name."""
    from pci_bench.acquisition.listing import entries_of

    url = declared()["url"]
    folders, found = entries_of(read_page(url), url)
    archives = {PurePosixPath(unquote(file)).stem: file for file in found if _is_archive(file)}
    return archives | {PurePosixPath(unquote(folder)).name: folder for folder in folders}


def _files_of(plates: Sequence[str], listed: Mapping[str, str], read_page: Callable[[str], str]) -> list[RemoteFile]:
    """Return the files of plates."""
    from pci_bench.acquisition.listing import files_below

    if unknown := [plate for plate in plates if plate not in listed]:
        raise UserError(f"{declared()['url']} lists no {enumerated(unknown)}. It lists {_shown(list(listed))}.")
    remotes = []
    for plate in plates:
        address = listed[plate]
        if not address.endswith("/"):
            remotes.append(_remote(f"archives/{escape(plate)}{declared()['archive']}", address))
            continue
        for file in files_below(address, read_page, (*declared()["images"], declared()["archive"])):
            inner = "/".join(escape(part) for part in unquote(file.removeprefix(address)).split("/"))
            remotes.append(_remote(f"{'archives' if _is_archive(file) else 'fields'}/{escape(plate)}/{inner}", file))
    return remotes


def _remote(place: str, url: str) -> RemoteFile:
    """Return a file of a plate."""
    return RemoteFile(
        f"{NAME}/{place}",
        (url,),
        f"{place} of '{NAME}'",
        "supply your own crops as `pci-bench describe cyclops-wt2` says",
    )


def _shown(names: Sequence[str]) -> str:
    """Return names for a sentence, the first few of many."""
    more = len(names) - N_EXAMPLES
    return f"{', '.join(names[:N_EXAMPLES])} and {more:,} more" if more > 0 else enumerated(names) or "none"


DATASETS.register(NAME, CyclopsWT2(), origin=origin_of(CyclopsWT2))
