"""About how long the runs of items take on this machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pci_bench.api import loading
from pci_bench.api.dataset import DATASETS
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.data.store import open_store
from pci_bench.features.estimate import duration, evaluation_seconds, matmul_gflops, rate_of, rates
from pci_bench.reproduction.items import ItemRun
from pci_bench.system.text import enumerated
from pci_bench.system.threads import available_cores


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
        for evaluator in {e.name for e in BENCHMARKS.get(run.benchmark).evaluate}:
            total += len(run.features) * (evaluation_seconds(evaluator, n_cells) or 0.0)
    return Estimate(total * rates()["gflops"] / gflops / cores, tuple(unknown), cores, gflops)


def passes_of(features: Iterable[str]) -> set[str]:
    """Return the passes over all cells that feature sets need, by their names in ``rates.toml``: one gives all layers of a network.

    >>> sorted(passes_of(["pci-conv3@lu2019-yeast", "pci-conv4@lu2019-yeast", "designed", "cellprofiler-chong2015"]))
    ['cellprofiler-chong2015', 'designed', 'pci']
    """
    return {rate[0] for name in features if (rate := rate_of(name.partition("@")[0]))}


def cells_of(run: ItemRun) -> int | None:
    """Return how many cells a run's dataset has: those that are here, else those that are published; None where neither is known."""
    dataset = DATASETS.get(run.dataset)
    folder = loading.store_folder(dataset)
    if folder.exists():
        return len(open_store(folder))
    return run.cells or None
