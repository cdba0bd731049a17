"""Loading datasets: where a dataset's store lies in the cache, opening or building it, and checking its content."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.api.plugins import checked_reason, plugin_code, source_of
from pci_bench.api.registry import origin_of
from pci_bench.data import store
from pci_bench.data.cells import Cells
from pci_bench.errors import UserError
from pci_bench.system.files import atomic_folder, cache_folder, escape, lock
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile
from pci_bench.system.stored_files import Place

if TYPE_CHECKING:
    from pci_bench.api.dataset import Dataset


def _code(dataset: Dataset, doing: str | Callable[[], str]) -> AbstractContextManager[None]:
    """Return the context in which a dataset's own code runs."""
    return plugin_code(origin_of(dataset).file, f"The dataset {dataset.meta.name}", doing)


def unavailable_reason(dataset: Dataset) -> str | None:
    """Return why a dataset cannot be had and the command that gets it, as it says itself, or None."""
    with _code(dataset, "in unavailable_reason()"):
        return checked_reason(dataset.unavailable_reason())


def downloads(dataset: Dataset) -> list[RemoteFile]:
    """Return the files that a dataset would fetch, as it says itself."""
    with _code(dataset, "when it was asked for its downloads()"):
        return list(dataset.downloads())


def fetched_paths(dataset: Dataset) -> list[Path]:
    """Return where in the cache a dataset puts what it fetches, as it says itself."""
    with _code(dataset, "when it was asked for its fetched_paths()"):
        return list(dataset.fetched_paths())


def store_folder(dataset: Dataset) -> Path:
    """Return the folder that holds, or will hold, the dataset's store."""
    with _code(dataset, "when it was asked for its source_fingerprint()"):
        source = dataset.source_fingerprint()
    identity = [store.SCHEMA, dataset.meta.name, dataset.meta.version, source]
    if code := source_of(origin_of(dataset).file):  # of a plug-in
        identity.append(code)
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return cache_folder() / "datasets" / escape(dataset.meta.name) / key


def stored_at(dataset: Dataset) -> Place | None:
    """Return where a store of a dataset's cells lies that is read where it is, as the dataset says itself; None where one is built."""
    with _code(dataset, "when it was asked for its stored_at()"):
        return dataset.stored_at()


def place_of(dataset: Dataset) -> Place | None:
    """Return where a dataset's cells are stored, by the user or in the cache; None where they have yet to be built."""
    folder = store_folder(dataset)
    return stored_at(dataset) or (folder if folder.exists() else None)


def _check_available(dataset: Dataset) -> None:
    """Raise where a dataset cannot be had, with its own reason."""
    if reason := unavailable_reason(dataset):
        raise UserError(f"The dataset '{dataset.meta.name}' is not available: {reason.rstrip('.')}.")


def load(dataset: Dataset, *, progress: Progress | None = None) -> Cells:
    """Return a dataset's cells: from a store of the user's, from the cache, or built now.

    Raises
    ------
    UserError
        Where the dataset cannot be had (its own reason) or its files are wrong.
    """
    progress = progress or Progress()
    if (place := stored_at(dataset)) is not None:
        _check_available(dataset)
        cells = store.open_store(place)
        return cells.with_meta(replace(cells.meta, name=dataset.meta.name))
    folder = store_folder(dataset)
    with lock(folder, progress.say):
        if folder.exists():
            try:
                cells = store.open_store(folder)
                # under what the dataset says of itself today, but for the confounder, which its files may tell
                return cells.with_meta(replace(dataset.meta, confounder=cells.meta.confounder))
            except store.BrokenStoreError as error:
                progress.say(f"{error} It is built again.")
        _check_available(dataset)
        with atomic_folder(folder) as temporary:
            writer = store.StoreWriter(temporary, dataset.meta, progress)
            try:
                with _code(dataset, lambda: f"after {writer.added:,} cells"):
                    dataset.build(writer)
                writer.finish()
            except BaseException as error:  # Ctrl-C too: a live bar must not outlast the build
                writer.close(error)
                raise
        return store.open_store(folder)


def verify(dataset: Dataset, *, progress: Progress | None = None) -> str:
    """Return the content hash of a dataset that is stored after reading every pixel and mask of it again.

    Raises
    ------
    UserError
        Where it is not in the cache, or its content is not what was stored, or not what ``checksums.toml`` ships.
    """
    if (place := stored_at(dataset)) is not None:
        _check_available(dataset)
        return store.verify_store(place, progress or Progress())
    folder = store_folder(dataset)
    if not folder.exists():
        raise UserError(f"'{dataset.meta.name}' is not in the cache. `pci-bench data get {dataset.meta.name}` gets it.")
    checksum = shipped_checksum(dataset.meta.name, dataset.source_fingerprint())
    return store.verify_store(folder, progress or Progress(), checksum)


def shipped_checksum(name: str, source: str) -> str | None:
    """Return the checksum of a generated dataset's pixels and masks that ``checksums.toml`` ships.

    Parameters
    ----------
    name
        The dataset's name.
    source
        What it is made from, its source fingerprint: other parameters give other pixels, and None is returned.
    """
    declared = tomllib.loads(files("pci_bench.datasets").joinpath("checksums.toml").read_text(encoding="utf-8")).get(
        name, {}
    )
    return declared.get("sha256") if declared.get("source") == source else None
