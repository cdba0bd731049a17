"""Datasets: the base class, the registry, and loading one by its name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, TypeVar

from pci_bench.api.loading import load
from pci_bench.api.registry import Registry, instance_of
from pci_bench.data.cells import Cells, DatasetMeta
from pci_bench.data.store import StoreWriter
from pci_bench.errors import UserError
from pci_bench.system.files import user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file
from pci_bench.system.reporter import reporter
from pci_bench.system.stored_files import Place

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
    ...         store.begin(table, channels, crop_shape=(4, 4), dtype="uint8")
    ...         store.add(np.full((2, 1, 4, 4), 200, np.uint8))
    """

    meta: DatasetMeta
    option: ClassVar[str] = ""
    """The option of ``pci-bench data get`` that names the part to be fetched (``"genes"``); "" where all of it is."""

    def unavailable_reason(self) -> str | None:
        """Return why the cells cannot be had and the command that gets them, or None; by default they always can."""
        return None

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the files that :meth:`fetch` or :meth:`build` would fetch, whether they are here already or not; by default none."""
        return ()

    def choose(self: T, choices: Mapping[str, str]) -> T:
        """Return this dataset with a choice of what :meth:`fetch` fetches, as options of ``pci-bench data get`` make it.

        By default nothing can be chosen. A dataset of which a part can be fetched returns a new one that knows the choice.

        Parameters
        ----------
        choices
            What was said, by the option's name without dashes: ``{"genes": "list.txt", "retry": "yes"}``.

        Raises
        ------
        UserError
            For an option that the dataset does not take, or a value that it cannot use.
        """
        if choices:
            raise UserError(
                f"'{self.meta.name}' takes no --{next(iter(choices))}: it is fetched as a whole. Run `pci-bench data get {self.meta.name}`."
            )
        return self

    def fetch(self, progress: Progress) -> None:
        """Fetch what :meth:`build` needs and would not fetch itself, as ``pci-bench data get`` does first; by default nothing.

        Raises
        ------
        UserError
            Where something cannot be had, with what to do.
        """
        return

    def import_copy(self, path: Path, progress: Progress) -> None:
        """Put a user's copy of what :meth:`fetch` fetches where that puts it, checked by the same rules, as ``pci-bench data import`` does.

        By default a dataset takes no copy.

        Parameters
        ----------
        path
            A file, an archive or a folder, which is there.
        progress
            The progress reporter.

        Raises
        ------
        UserError
            Where it is not what the dataset needs, or the dataset takes its files in another way, with which.
        """
        name = self.meta.name
        raise UserError(
            f"'{name}' takes no files by `pci-bench data import`: "
            + f"{(self.unavailable_reason() or f'`pci-bench data get {name}` gets it').rstrip('.')}."
        )

    def own_copy(self) -> Path | None:
        """Return the folder of a user's own copy, ``PCI_BENCH_DATA/<name>``, which is used in place of anything fetched; or None."""
        return user_data_folder(self.meta.name)

    def fetched_paths(self) -> Sequence[Path]:
        """Return where in the cache :meth:`fetch`, :meth:`build` and :meth:`import_copy` put files, there or not; ``data remove`` removes them.

        By default the files of :meth:`downloads`; a dataset that unpacks an archive adds the folder.
        """
        return [downloaded_file(remote) for remote in self.downloads()]

    def stand_in(self) -> str:
        """Return the name of a dataset that is here and holds another copy of these cells, where they cannot be had; by default ""."""
        return ""

    def other_downloads(self) -> Sequence[RemoteFile]:
        """Return the files of another copy of these cells, which :meth:`fetch` gets where those of :meth:`downloads` cannot be had; by default none."""
        return ()

    def stored_at(self) -> Place | None:
        """Return the folder or the URL of a store that holds these cells already, which is then read where it is; by default None."""
        return None

    @abstractmethod
    def build(self, store: StoreWriter) -> None:
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
    >>> DATASETS.get("my-screen").unavailable_reason()
    'ask the microscopist'
    """
    return DATASETS.class_decorator(name, lambda cls: instance_of(Dataset, cls, FORMER_METHODS), argument=argument)


def load_dataset(name: str, *, progress: Progress | bool | None = None) -> Cells:
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
    return load(DATASETS.get(name), progress=reporter(progress))
