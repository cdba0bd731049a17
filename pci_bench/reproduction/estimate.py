"""About how long runs take on this machine, from rates that were measured on another and the two machines' matrix multiplication."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from pci_bench.api import loading
from pci_bench.api.dataset import DATASETS
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.data.store import open_store
from pci_bench.reproduction.items import ItemRun
from pci_bench.system.foreign import toml_value
from pci_bench.system.text import enumerated
from pci_bench.system.threads import available_cores

SIDE = 768  # of the matrices


@dataclass(frozen=True)
class Estimate:
    """About how long something takes.

    Attributes
    ----------
    seconds
        On all cores, of what is known.
    unknown
        The datasets of which it is not known how many cells there will be, and so not how long they take.
    cores, gflops
        Of this machine: cores that may be used, and the rate of one of them.
    """

    seconds: float
    unknown: tuple[str, ...]
    cores: int
    gflops: float

    def text(self) -> str:
        """Return it as half a sentence."""
        cores = f"{self.cores} core{'s' if self.cores > 1 else ''} at {self.gflops:.0f} GFLOP/s"
        if self.unknown and not self.seconds:
            return f"not known before the cells of {enumerated(self.unknown)} are read"
        known = f"about {duration(self.seconds)} on {cores}, less where features are in the cache"
        return known + (
            f"; and what {enumerated(self.unknown)} {'need' if len(self.unknown) > 1 else 'needs'}, whose cells are not read yet"
            if self.unknown
            else ""
        )


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(40), duration(700), duration(9000)
    ('a minute', '12 minutes', '2.5 hours')
    """
    if seconds < 90:
        return "a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


@cache
def rates() -> dict[str, Any]:
    """Return ``rates.toml``, which ``speed/reproduction_rates.py`` prints."""
    return toml_value(files("pci_bench.reproduction").joinpath("rates.toml").read_text(encoding="utf-8"))


def matmul_gflops(seconds: float = 0.2) -> float:
    """Return how many 10⁹ float32 operations a second one core does in matrix products, measured in about so many CPU seconds."""
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    with threadpool_limits(limits=1):
        a @ a
        started, products = time.process_time(), 0
        while (spent := time.process_time() - started) < seconds:
            a @ a
            products += 1
    return 2 * SIDE**3 * products / spent / 1e9


def estimated(runs: Sequence[ItemRun]) -> Estimate:
    """Return about how long runs take; what two of them share counts once."""
    gflops, cores, total = matmul_gflops(), available_cores(), 0.0
    unknown: dict[str, None] = {}
    passes: set[tuple[str, str]] = set()
    for run in runs:
        n_cells = cells_of(run)
        if n_cells is None:
            unknown[run.dataset] = None
            continue
        for key in passes_of(run.features) - {key for dataset, key in passes if dataset == run.dataset}:
            passes.add((run.dataset, key))
            total += rates()["seconds_per_cell"][key] * n_cells
        for evaluation in {e.name for e in BENCHMARKS.get(run.benchmark).evaluate} & set(rates()["evaluators"]):
            rate = rates()["evaluators"][evaluation]
            total += len(run.features) * rate["seconds"] * (n_cells / rate["cells"]) ** rate["power"]
    return Estimate(total * rates()["gflops"] / gflops / cores, tuple(unknown), cores, gflops)


def passes_of(features: Iterable[str]) -> set[str]:
    """Return the passes over all cells that feature sets need, by their names in ``rates.toml``: one gives all layers of a network.

    >>> sorted(passes_of(["pci-conv3@lu2019-yeast", "pci-conv4@lu2019-yeast", "designed", "cellprofiler-chong2015"]))
    ['designed', 'pci']
    """
    known = rates()["seconds_per_cell"]
    found = set()
    for name in features:
        keys = [key for key in known if name.startswith(key)]
        if name.startswith("autoencoder"):
            keys = ["pci"]  # the same encoder, with its own weights
        if keys:
            found.add(max(keys, key=len))
    return found


def cells_of(run: ItemRun) -> int | None:
    """Return how many cells a run's dataset has: those that are here, else those that are published; None where neither is known."""
    dataset = DATASETS.get(run.dataset)
    folder = loading.store_folder(dataset)
    if folder.exists():
        return len(open_store(folder))
    return run.cells or None
