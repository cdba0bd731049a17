"""What all tests share: the real data, a cache of their own, and small data sets to plant things in."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a core for each process; set before numpy starts its threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import factories
import numpy as np
import pytest
from files_in_folders import write

from pci_bench.api import plugins
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS
from pci_bench.api.model import MODELS
from pci_bench.api.segmenter import SEGMENTERS
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.data.cells import Cells
from pci_bench.datasets import DATASETS
from pci_bench.reporting.figures import FIGURES
from pci_bench.reporting.tables import TABLES
from pci_bench.runs import outputs


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data; tests that need it are skipped where it is absent, but never in CI."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("PCI_BENCH_TEST_DATA", default))
    if not folder.is_dir():
        reason = f"no test data in {folder}: set PCI_BENCH_TEST_DATA to the folder that holds toy-yeast"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache for every test, and none of the data or caches of whoever runs the tests."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("PCI_BENCH_CACHE", str(folder))
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    return folder


@pytest.fixture(scope="session")
def simulated_stores(tmp_path_factory) -> Path:
    """A cache of whole simulated datasets, shared with the reproductions: each is drawn once, under a lock, in either room."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "reproductions-cache"


@pytest.fixture
def simulated_cache(simulated_stores, cache, monkeypatch) -> Path:
    """This test's cache, already holding yeast-sim, which takes seconds to draw."""
    from pci_bench import load_dataset

    with monkeypatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(simulated_stores))
        load_dataset("yeast-sim")
    (cache / "datasets").mkdir(parents=True)
    (cache / "datasets" / "yeast-sim").symlink_to(simulated_stores / "datasets" / "yeast-sim")
    return cache


@pytest.fixture(scope="session")
def real_organelles(test_data, simulated_stores) -> dict[str, str]:
    """Variables with which rxrx1-organelles is cut from real fields, once for all modules, under a lock."""
    folder = simulated_stores.with_name("organelles")
    folder.mkdir(exist_ok=True)
    with suppress(FileExistsError):  # of another process
        (folder / "rxrx1-organelles").symlink_to(test_data / "rxrx1-fields")
    return {"PCI_BENCH_CACHE": str(folder / "cache"), "PCI_BENCH_DATA": str(folder)}


@pytest.fixture
def without_figures(monkeypatch) -> None:
    """Runs in this process draw no figures, which take most of the time of a small one and have tests of their own."""
    monkeypatch.setattr(outputs, "draw", lambda results, folder: [])


@pytest.fixture
def own_registries(monkeypatch) -> Iterator[None]:
    """Let a test register what it likes; afterwards the registries are as they were."""
    plugins.load_plugins()
    monkeypatch.setattr(plugins, "_plugin_files", list(plugins._plugin_files))
    monkeypatch.setattr(plugins, "_plugin_folders", list(plugins._plugin_folders))
    with ExitStack() as stack:
        for one in (
            EXTRACTORS,
            DATASETS,
            EVALUATORS,
            SEGMENTERS,
            FIELD_SEGMENTERS,
            MODELS,
            BENCHMARKS,
            TABLES,
            FIGURES,
        ):
            stack.enter_context(one.temporary())
        yield


@pytest.fixture(scope="session")
def _toy_stores(test_data, simulated_stores) -> Path:
    """Both toy data sets, built once for all tests that only read them, under a lock."""
    from pci_bench import load_dataset

    folder = simulated_stores.with_name("toy-stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(folder))
        patch.setenv("PCI_BENCH_DATA", str(test_data))
        load_dataset("toy-yeast"), load_dataset("toy-human")
    return folder


@pytest.fixture
def toy_cache(_toy_stores, cache) -> Path:
    """This test's cache, already holding the stores of toy-yeast and toy-human."""
    shutil.copytree(_toy_stores, cache)
    return cache


@pytest.fixture
def write_crops(tmp_path) -> Callable[..., Path]:
    """A function that writes a folder of crops: ``{"image/name_gfp.tif": array}`` or ``{"images.csv": text}``."""

    def write_below(files: Mapping[str, np.ndarray | str | bytes], name: str = "crops") -> Path:
        return write(tmp_path / name, files)

    return write_below


@pytest.fixture
def make_cells() -> Callable[..., Cells]:
    """A function that returns cells in memory: random crops, or the given ones, with the given obs columns."""
    return factories.make_cells
