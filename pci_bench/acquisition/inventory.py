"""What of a dataset is in the cache, what is still to be fetched, and removing it."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path

from pci_bench.acquisition.download import forget, size_on_disk
from pci_bench.api.dataset import DATASETS, Dataset
from pci_bench.api.loading import downloads, fetched_paths, store_folder, unavailable_reason
from pci_bench.data.annotation_sources import AnnotationSource, annotation_sources
from pci_bench.data.cells import DatasetMeta
from pci_bench.data.store import cells_in, classes_in
from pci_bench.errors import UserError
from pci_bench.system.files import cache_folder, escape, finished, lock, remove_folder, user_path
from pci_bench.system.remote import RemoteFile, downloaded_file
from pci_bench.system.room import megabytes


@dataclass(frozen=True)
class Inventory:
    """What of a dataset is here.

    Attributes
    ----------
    state
        ``"ready"``, or what is needed first, in a few words.
    cells, classes
        How many its store holds; where there is none, how many are declared; None where that is not known.
    paths
        Its stores and downloads in the cache, there or not.
    """

    state: str
    cells: int | None
    classes: int | None
    paths: Sequence[Path]

    @cached_property
    def bytes(self) -> int:
        """Of its stores and downloads in the cache; every file of a store is asked for its size."""
        return sum(map(size_on_disk, self.paths))


def inventory_of(dataset: Dataset) -> Inventory:
    """Return what of a dataset is here; nothing is fetched, built or read as a whole."""
    store = store_folder(dataset)
    paths = [*stores(dataset.meta.name), *_of_the_cache(fetched_paths(dataset))]
    declared = declared_counts(dataset.meta)
    if store.exists():
        cells = cells_in(store)
        known = declared.get("classes") if cells == declared.get("cells") else None
        state = "ready, a part" if dataset.meta.is_part else "ready"
        return Inventory(state, cells, known or classes_in(store), paths)
    return Inventory(_state(dataset), declared.get("cells"), declared.get("classes"), paths)


def declared_counts(meta: DatasetMeta) -> Mapping[str, int]:
    """Return how many cells and classes a dataset has by ``counts.toml``, or else by the paper; {} where neither says it."""
    return pinned_counts(meta.name) or meta.paper


def pinned_counts(name: str) -> Mapping[str, int]:
    """Return how many cells and classes a dataset has that is drawn, or whose files are known by their checksums; {} of others."""
    return _counts().get(name, {})


@cache
def _counts() -> dict[str, dict[str, int]]:
    return tomllib.loads(files("pci_bench.datasets").joinpath("counts.toml").read_text(encoding="utf-8"))


def inventory_of_stored(name: str) -> Inventory:
    """Return what is here of a dataset that is known by what it was made from: ``chong2015:images``, ``folder:PATH``, a plug-in's."""
    kept = stores(name)
    try:
        paths = list(_of_the_cache(fetched_paths(DATASETS.get(name))))
    except UserError:  # nothing registers it any longer
        paths = []
    state = "ready" if name.partition(":")[0] in DATASETS.prefixes() else "in the cache"
    cells, classes = (cells_in(kept[0]), classes_in(kept[0])) if len(kept) == 1 else (None, None)
    return Inventory(state, cells, classes, [*kept, *paths])


def _state(dataset: Dataset) -> str:
    """Return what is needed before a dataset without a store can be read."""
    reason, remotes = unavailable_reason(dataset), downloads(dataset)
    if reason is None and dataset.own_copy() is not None:
        return "your copy"
    if missing := _to_fetch(remotes):
        return missing
    if reason:
        return "to fetch" if f"data get {dataset.meta.name}" in reason else "by hand"
    return "fetched" if remotes else "on first use"


def _to_fetch(remotes: Iterable[RemoteFile]) -> str:
    """Return how much of some files is not here yet; "" where all are."""
    missing = [remote for remote in remotes if not downloaded_file(remote).is_file()]
    sizes = [remote.size for remote in missing if remote.size is not None]
    if len(sizes) < len(missing):
        return f"over {megabytes(sum(sizes))} to fetch" if sizes else "to fetch"
    return f"{megabytes(sum(sizes))} to fetch" if missing else ""


def inventory_of_annotations(source: AnnotationSource) -> Inventory:
    """Return what of some annotations is here."""
    here = source.unavailable_reason() is None
    state = "ready" if here else _to_fetch(source.releases[0].files.values()) or "fetched"
    return Inventory(state, None, None, files_of(source))


def files_of(source: AnnotationSource) -> list[Path]:
    """Return where in the cache the files of some annotations lie, there or not."""
    fetched = [downloaded_file(remote) for release in source.releases for remote in release.files.values()]
    return [*fetched, source.joined_table] if source.is_table else fetched


def remove_annotations(source: AnnotationSource) -> int | None:
    """Remove annotations from the cache, but for files that others need; return as :func:`remove`."""
    others = [
        other for other in annotation_sources().values() if other is not source and not other.unavailable_reason()
    ]
    shared = {path for other in others for path in files_of(other)}
    paths = [path for path in files_of(source) if path.exists() and path not in shared]
    return sum(map(forget, paths)) if paths else None


def stores(name: str) -> list[Path]:
    """Return the stores of a dataset in the cache, also those of other versions and sources."""
    folder = cache_folder() / "datasets" / escape(name)
    return sorted(path for path in finished(folder.glob("*")) if path.is_dir())


def stored_names() -> Iterator[str]:
    """Yield the names of the datasets that have stores in the cache, whether anything registers them or not."""
    folders = {path.parent.parent for path in (cache_folder() / "datasets").glob("*/*/store.json")}
    for folder in sorted(folders):
        try:
            description = json.loads(next(folder.glob("*/store.json")).read_text(encoding="utf-8"))
            name = description["meta"]["name"]
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            continue
        if isinstance(name, str):
            yield name


def remove(name: str, dataset: Dataset | None) -> int | None:
    """Remove a dataset's stores and downloads from the cache; return how many bytes that frees, or None where nothing was there.

    What lies outside the cache, or in ``PCI_BENCH_DATA``, is the user's and stays.

    Parameters
    ----------
    name
        Of the dataset.
    dataset
        None where it is no longer known, and only its stores are.
    """
    kept = stores(name)
    paths = [path for path in _of_the_cache(fetched_paths(dataset)) if path.exists()] if dataset is not None else []
    freed = sum(map(size_on_disk, kept))
    for store in kept:
        with lock(store):
            remove_folder(store)
    freed += sum(map(forget, paths))
    return freed if kept or paths else None


def _of_the_cache(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield the paths that are ours."""
    root, named = cache_folder(), os.environ.get("PCI_BENCH_DATA")
    data = user_path(named, "PCI_BENCH_DATA", absolute=True) if named else None
    for path in paths:
        if path.is_relative_to(root) and not (data and path.is_relative_to(data)):
            yield path
