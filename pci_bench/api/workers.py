"""What a worker process needs of the process that starts it: its plug-ins, its cache, and its life."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pci_bench.api.plugins import load_plugin, plugin_files
from pci_bench.system.files import cache_folder
from pci_bench.system.threads import set_threads
from pci_bench.system.workers import stay_with


@dataclass(frozen=True)
class WorkerSetup:
    """The surroundings of a task that is handed to a worker process, which outlives a call and keeps those it began with.

    Parameters
    ----------
    plugins
        Files and folders of plug-ins that were loaded.
    cache
        The cache folder.
    parent
        The process that hands tasks over.
    cores
        How many the worker may use.
    """

    plugins: tuple[Path, ...]
    cache: Path
    parent: int
    cores: int

    @classmethod
    def here(cls, cores: int) -> WorkerSetup:
        """Return the surroundings of this process, for workers of so many cores."""
        return cls(tuple(plugin_files()), cache_folder(), os.getpid(), cores)

    def begin(self) -> None:
        """Take them over in a worker process; it then ends when its parent does."""
        stay_with(self.parent)
        os.environ["PCI_BENCH_CACHE"] = str(self.cache)
        set_threads(self.cores)
        for file in self.plugins:
            load_plugin(file)
