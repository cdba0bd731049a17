"""The registry of datasets, and loading one by name."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from importlib.resources import files

from pci_bench.cells import Cells
from pci_bench.progress import Progress
from pci_bench.registry import Registry, origin_of
from pci_bench.store import Dataset, load

DATASETS: Registry[Dataset] = Registry("dataset")


def register_dataset(name: str, *, argument: str | None = None) -> Callable[[type], type]:
    """Return a class decorator that registers a dataset.

    Parameters
    ----------
    name
        The dataset's name.
    argument
        What follows ``name:``, for datasets that need a path or a variant; the class is then called with it.
    """

    def register(cls: type) -> type:
        DATASETS.register(name, cls() if argument is None else cls, argument=argument, origin=origin_of(cls))
        return cls

    return register


def load_dataset(name: str, *, progress: Progress | None = None) -> Cells:
    """Return the cells of a dataset by its name: ``"toy-yeast"``, ``"folder:my/crops"``.

    It is built on first use and then opened from the cache.

    Raises
    ------
    UserError
        For an unknown name, a dataset that is not at hand, or files that are wrong.
    """
    return load(DATASETS.get(name), progress=progress)


def shipped_checksum(name: str, source: str) -> str | None:
    """Return the checksum of a generated dataset's pixels and masks that ``checksums.toml`` ships.

    Parameters
    ----------
    name
        The dataset's name.
    source
        What it is made from, ``dataset.source()``: other parameters give other pixels, and None is returned.
    """
    declared = tomllib.loads(files("pci_bench.datasets").joinpath("checksums.toml").read_text(encoding="utf-8")).get(
        name, {}
    )
    return declared.get("sha256") if declared.get("source") == source else None
