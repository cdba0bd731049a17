"""Datasets: the base class, the registry, and loading one by name from the cache or anew."""

from __future__ import annotations

import hashlib
import json
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from pci_bench.api.plugins import checked_reason, plugin_code, source_of
from pci_bench.api.registry import Registry, instance_of, origin_of
from pci_bench.data import store
from pci_bench.data.cells import Cells, DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.files import atomic_folder, cache_folder, escape, lock
from pci_bench.system.progress import Progress

T = TypeVar("T", bound="Dataset")


class Dataset(ABC):
    """A source of cells. Cheap to construct: files are read in ``build``.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import pci_bench
    >>> class Bright(Dataset):
    ...     meta = DatasetMeta("bright", "1", "Two bright cells")
    ...
    ...     def build(self, store):
    ...         table = pd.DataFrame({"cell": ["a", "b"], "image": ["1", "2"]})
    ...         channels = (pci_bench.Channel("GFP", "protein"),)
    ...         store.begin(table, channels, (4, 4), np.uint8)
    ...         store.add(np.full((2, 1, 4, 4), 200, np.uint8))
    """

    meta: DatasetMeta

    def unavailable_reason(self) -> str | None:
        """Return why the cells cannot be had and the command that gets them, or None; by default they always can."""
        return None

    @abstractmethod
    def build(self, store: store.StoreWriter) -> None:
        """Call ``store.begin(…)`` once, and ``store.add(crops)`` until all cells are written."""

    def source_fingerprint(self) -> str:
        """Return any text that changes with the files that the cells are made from; by default they never change."""
        return ""


DATASETS: Registry[Dataset] = Registry("dataset")

FORMER_METHODS = {"unavailable_reason": "skip", "source_fingerprint": "source"}  # as version 0.1 called them


def register_dataset(name: str, *, argument: str | None = None) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers a dataset.

    Parameters
    ----------
    name
        The dataset's name.
    argument
        What follows ``name:``, for datasets that need a path or a variant; the class is then called with it.

    Examples
    --------
    >>> @register_dataset("my-screen")
    ... class MyScreen(Dataset):
    ...     meta = DatasetMeta("my-screen", "1", "Cells that are not here yet")
    ...
    ...     def unavailable_reason(self):
    ...         return "ask the microscopist"
    ...
    ...     def build(self, store):
    ...         raise NotImplementedError
    >>> unavailable_reason(DATASETS.get("my-screen"))
    'ask the microscopist'
    """

    def register(cls: type[T]) -> type[T]:
        make = instance_of(Dataset, cls, FORMER_METHODS)
        DATASETS.register(name, make() if argument is None else make, argument=argument, origin=origin_of(cls))
        return cls

    return register


def load_dataset(name: str, *, progress: Progress | None = None) -> Cells:
    """Return the cells of a dataset by its name: ``"toy-yeast"``, ``"folder:my/crops"``.

    It is built on first use and then opened from the cache.

    Raises
    ------
    UserError
        For an unknown name, a dataset that is not available, or files that are wrong.

    Examples
    --------
    >>> cells = load_dataset("yeast-sim")
    >>> cells
    Cells(yeast-sim: 2,563 cells of 64×64 px; GFP (protein), RFP (marker))
    >>> cells[:40].crops(slice(0, 3)).shape
    (3, 2, 64, 64)
    """
    return load(DATASETS.get(name), progress=progress)


def _code(dataset: Dataset, doing: str | Callable[[], str]) -> AbstractContextManager[None]:
    """Return the context in which a dataset's own code runs."""
    return plugin_code(origin_of(dataset).file, f"The dataset {dataset.meta.name}", doing)


def unavailable_reason(dataset: Dataset) -> str | None:
    """Return why a dataset cannot be had and the command that gets it, as it says itself, or None."""
    with _code(dataset, "in unavailable_reason()"):
        return checked_reason(dataset.unavailable_reason())


def store_folder(dataset: Dataset) -> Path:
    """Return the folder that holds, or will hold, the dataset's store."""
    with _code(dataset, "when it was asked for its source_fingerprint()"):
        source = dataset.source_fingerprint()
    identity = [store.SCHEMA, dataset.meta.name, dataset.meta.version, source]
    if code := source_of(origin_of(dataset).file):  # of a plug-in
        identity.append(code)
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return cache_folder() / "datasets" / escape(dataset.meta.name) / key


def load(dataset: Dataset, *, progress: Progress | None = None) -> Cells:
    """Return a dataset's cells, from the cache or built now.

    Raises
    ------
    UserError
        Where the dataset cannot be had (its own reason) or its files are wrong.
    """
    progress = progress or Progress()
    folder = store_folder(dataset)
    with lock(folder, progress.say):
        if folder.exists():
            try:
                cells = store.open_store(folder)
                # under what the dataset says of itself today, but for the confounder, which its files may tell
                return cells.with_meta(replace(dataset.meta, confounder=cells.meta.confounder))
            except store.BrokenStoreError as error:
                progress.say(f"{error} It is built again.")
        if reason := unavailable_reason(dataset):
            raise UserError(f"The dataset '{dataset.meta.name}' is not available: {reason}")
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
    """Return the content hash of a cached dataset after reading every pixel and mask of it again.

    Raises
    ------
    UserError
        Where it is not in the cache, or its content is not what was stored, or not what ``checksums.toml`` ships.
    """
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
