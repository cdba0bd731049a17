"""A Dask cluster computes what one process computes, and whatever fails in it costs a block or is a sentence."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from command_line import call, refused, wait_until
from screens import write_layout, write_screen

import pci_bench
from pci_bench.api.cluster import PluginContent, check_answer, facts
from pci_bench.api.plugins import load_plugin
from pci_bench.api.registry import temporary_registrations
from pci_bench.datasets.prepared import prepare_dataset
from pci_bench.errors import UserError
from pci_bench.system import cluster as connection
from pci_bench.system.progress import Progress

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'pci-bench[dask]'")

from dask_processes import Processes

CELLS, BATCH, BLOCK = 700, 64, 256
PLUGIN = '''
"""700 cells whose first pixel says which cell it is, and their means, batch by batch as a test allows."""
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd

import pci_bench

FOLDER = os.environ.get("CLUSTER_TEST_FOLDER")  # in workers alone


@pci_bench.register_dataset("numbered-cells")
class Numbered(pci_bench.Dataset):
    meta = pci_bench.DatasetMeta("numbered-cells", "1", "Cells with numbers")

    def build(self, store):
        cells = range(700)
        table = pd.DataFrame({"cell": [f"c{i}" for i in cells], "image": [f"{i // 10}" for i in cells]})
        table["label"] = [f"class {i // 10 % 2}" for i in cells]
        store.begin(table, (pci_bench.Channel("GFP", "protein"),), crop_shape=(8, 8), dtype="uint16")
        crops = np.random.default_rng(0).integers(0, 65536, (700, 1, 8, 8), np.uint16)
        crops[:, 0, 0, 0] = np.arange(700)
        store.add(crops)


@pci_bench.register_features(
    "held-means", version="1", rescale="raw", processes=True, batch=64, names=lambda channels: ["mean", "sd"]
)
def held_means(crops):
    if FOLDER is not None:
        first, hold = round(float(crops[0, 0, 0, 0]) * 65535), Path(FOLDER, "hold")
        with open(Path(FOLDER, "batches"), "a") as log:
            log.write(f"{os.getpid()} {first}\\n")
        while hold.exists() and first >= int(hold.read_text() or 0):
            time.sleep(0.05)
    return np.stack([crops.mean(axis=(1, 2, 3)), crops.std(axis=(1, 2, 3))], axis=1)


@pci_bench.register_features(
    "together", version="1", rescale="raw", concurrent=True, names=lambda channels: ["crops in this pass"]
)
def together(crops):
    return np.full((len(crops), 1), len(crops))


@pci_bench.register_features("fails", version="1", rescale="raw", processes=True, batch=64, names=lambda channels: ["x"])
def fails(crops):
    raise RuntimeError("no such luck")
'''


def means(cells, **options) -> AnnData:
    """Return the features on the CPU: whether there is a GPU, torch would be asked in every worker, which takes seconds."""
    return pci_bench.extract("held-means", cells, device="cpu", **options)


class Heard(Progress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def say(self, sentence: str) -> None:
        self.sentences.append(sentence)


class Extraction(threading.Thread):
    """An extraction in the background, or other work: its features or its error, and what was said meanwhile."""

    def __init__(self, address: str, work: Callable[..., object] | None = None):
        super().__init__(daemon=True)
        self.address, self.work, self.progress = address, work or partial(means, "numbered-cells"), Heard()
        self.values: np.ndarray | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            done = self.work(scheduler=self.address, progress=self.progress)
            self.values = np.asarray(getattr(done, "X", None))
        except Exception as error:
            self.error = error

    def heard(self, words: str) -> bool:
        return any(words in sentence for sentence in self.progress.sentences)

    def finished(self) -> np.ndarray:
        self.join(120)
        assert self.error is None, self.error
        assert self.values is not None
        return self.values


@pytest.fixture(scope="module")
def plugin(tmp_path_factory) -> Iterator[Path]:
    """The plug-in's file; what it registers is gone after these tests."""
    file = tmp_path_factory.mktemp("plugin") / "numbered.py"
    file.write_text(PLUGIN)
    with temporary_registrations():
        load_plugin(file)
        yield file


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> Iterator[Processes]:
    """A scheduler; tests start the workers that they need."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "SECONDS_BETWEEN_LOOKS", 0.3)
        patch.setattr(connection, "SECONDS_TO_CLOSE", 1.0)
        started = Processes(tmp_path_factory.mktemp("cluster"))
        yield started
        patch.setattr(connection, "SECONDS_TO_CONNECT", 0.5)  # to a scheduler that a test has killed
        with suppress(UserError):
            connection.connected(started.address).close()
        started.stop()


@pytest.fixture
def batches(processes) -> Iterator[Path]:
    """The file of the batches that workers have begun, a process and the first cell each; nothing is held afterwards."""
    log = processes.folder / "batches"
    log.write_text("")
    yield log
    (processes.folder / "hold").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def workers(processes) -> list:
    """Two workers, the first of which is killed by the first test that kills."""
    return [processes.worker(), processes.worker()]


@pytest.fixture(scope="module")
def expected(plugin, tmp_path_factory) -> np.ndarray:
    """The features as this process computes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(tmp_path_factory.mktemp("one-process")))
        return np.asarray(means("numbered-cells").X)


def begun(log: Path) -> list[tuple[int, int]]:
    return [(int(process), int(first)) for process, first in (line.split() for line in log.read_text().splitlines())]


def test_a_selection_of_cells_has_the_bits_of_one_process_and_the_dashboard_is_named(
    processes, workers, plugin, expected, batches
):
    chosen = np.random.default_rng(1).permutation(CELLS)[:600]
    heard = Heard()
    cells = pci_bench.load_dataset("numbered-cells")[chosen]
    features = means(cells, scheduler=processes.address, progress=heard)
    assert np.asarray(features.X).tobytes() == expected[chosen].tobytes()
    assert list(features.obs_names) == [f"c{i}" for i in chosen]
    assert {process for process, _ in begun(batches)} == {worker.pid for worker in workers}
    assert any("2 workers, 2 threads. Its dashboard: http://" in sentence for sentence in heard.sentences)


def test_workers_give_a_network_as_many_crops_at_once_as_were_asked_for(processes, workers, plugin, batches):
    cells = pci_bench.load_dataset("numbered-cells")[:40]
    features = pci_bench.extract("together", cells, device="cpu", batch=24, scheduler=processes.address)
    assert np.asarray(features.X).tolist() == [[24]] * 40


@pytest.mark.slow
@pytest.mark.usefixtures("without_figures")
def test_a_run_on_a_cluster_has_the_results_of_one_on_this_machine(processes, workers, plugin, monkeypatch, tmp_path):
    def results(**options) -> list[tuple]:
        output = pci_bench.run(
            "knn", dataset="numbered-cells", features="held-means,intensity", k=1, device="cpu", **options
        )
        return [(r.features.name, r.evaluator.params, r.metrics, r.intervals) for r in output]

    there = results(scheduler=processes.address)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "another"))
    assert there == results()
    assert {name for name, *_ in there} == {"held-means", "intensity"}


def test_what_fails_in_a_worker_is_the_sentence_of_one_process(
    processes, workers, plugin, capsys, monkeypatch, tmp_path
):
    command = ("extract", "fails", "--dataset", "numbered-cells", "--device", "cpu", "--out", tmp_path / "a.h5ad")
    there = call(capsys, monkeypatch, *command, "--scheduler", processes.address)
    here = call(capsys, monkeypatch, *command)
    assert there.code == here.code == 2
    assert "RuntimeError: no such luck (" in there.err
    assert (
        there.err.splitlines()[-1].partition(" on the cells ")[0] == here.err.splitlines()[-1].partition(" on the")[0]
    )


def test_a_cache_that_workers_do_not_see_is_a_sentence(processes, workers, plugin, monkeypatch, tmp_path):
    if not Path("/proc/self/cwd").exists():
        pytest.skip("needs a path that is another one for each process, as Linux has")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PCI_BENCH_CACHE", "/proc/self/cwd/cache")
    with pytest.raises(UserError, match=r"does not see the cache folder /proc/self/cwd/cache.*set PCI_BENCH_CACHE"):
        means("numbered-cells", scheduler=processes.address)


@pytest.mark.parametrize("segment", ["masks", "centres"])
def test_fields_that_a_cluster_cut_are_those_of_one_process(processes, workers, tmp_path, segment):
    root = write_screen(tmp_path).root
    if segment == "centres":
        table = ["plate,well,y,x", *(f"{p},{w},{10 + p},{20 + 3 * p}" for p in (1, 2) for w in ("A01", "A02"))]
        (root / "centres.csv").write_text("\n".join(table))
        objects = '{ file = "centres.csv", on = { plate = "{plate}", well = "{well}" }, y = "y", x = "x" }'
        layout = write_layout(root, segment=f"objects = {objects}")
    else:
        layout = write_layout(root)
    there, cut = prepare_dataset(layout, "there", scheduler=processes.address)
    here, _ = prepare_dataset(layout, "here", workers=1)
    assert len(cut.parts) == 4
    assert there.stored(slice(None)).tobytes() == here.stored(slice(None)).tobytes()
    assert there.obs.equals(here.obs)


def test_a_killed_worker_costs_its_block_and_no_more(processes, workers, plugin, expected, batches):
    hold = processes.folder / "hold"
    hold.touch()
    extraction = Extraction(processes.address)
    wait_until(lambda: len(begun(batches)) == 2)
    (lost,) = (first for process, first in begun(batches) if process == workers[0].pid)
    processes.stop(workers[0])
    hold.unlink()
    assert extraction.finished().tobytes() == expected.tobytes()
    assert sorted(first for _, first in begun(batches)) == sorted([*_first_cells(), lost])


def test_a_run_without_workers_waits_and_a_plugin_reaches_new_ones_whose_machine_lacks_the_file(
    processes, workers, plugin, expected, batches
):
    hold = processes.folder / "hold"
    hold.touch()
    extraction = Extraction(processes.address)
    wait_until(lambda: begun(batches))
    content = plugin.read_bytes()
    plugin.unlink()
    processes.stop(workers[1])
    wait_until(lambda: extraction.heard(f"No worker is connected to {processes.address}: waiting for one."))
    hold.unlink()
    processes.worker()
    assert extraction.finished().tobytes() == expected.tobytes()
    assert extraction.heard("1 worker is connected")
    plugin.write_bytes(content)


def test_a_lost_scheduler_is_a_sentence_and_what_was_finished_is_kept(processes, workers, plugin, expected, batches):
    (processes.folder / "hold").write_text(str(2 * BLOCK))
    extraction = Extraction(processes.address)
    wait_until(lambda: 2 * BLOCK in [first for _, first in begun(batches)])
    processes.stop(processes.scheduler)
    extraction.join(60)
    message = str(extraction.error)
    assert isinstance(extraction.error, UserError)
    assert f"The connection to the Dask scheduler {processes.address} was lost" in message
    assert "first in the cells 'c512' to 'c699' of numbered-cells. 512 of 700 cells are kept." in message
    assert message.endswith("it continues where it stopped.")
    batches.write_text("")
    values = np.asarray(means("numbered-cells").X)
    assert values.tobytes() == expected.tobytes()


def test_a_scheduler_that_does_not_answer_is_a_sentence(plugin, monkeypatch):
    monkeypatch.setattr(connection, "SECONDS_TO_CONNECT", 0.3)
    with pytest.raises(UserError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:1 within"):
        means("numbered-cells", scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--scheduler", "localhost:8786"], "is not the address of a Dask scheduler"),
        (["--scheduler", "tcp://a:1", "--workers", "2"], "--workers and --scheduler contradict each other"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ["extract", "intensity", "--out", "a.h5ad", "--dataset", "yeast-sim"],
        ["run", "yeast-knn", "--dataset", "yeast-sim"],
        ["data", "prepare", "layout.toml", "--name", "screen"],
    ],
    ids=" ".join,
)
def test_options_that_no_cluster_can_serve_are_refused(capsys, monkeypatch, tmp_path, command, options, words):
    monkeypatch.chdir(tmp_path)
    write_layout(write_screen(tmp_path).root)
    refused(call(capsys, monkeypatch, *command, *options), words)


def test_without_dask_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'pci-bench\[dask\]'"):
        pci_bench.extract("intensity", "yeast-sim", scheduler="tcp://127.0.0.1:1")


def test_cells_in_memory_are_measured_here(make_cells):
    cells = make_cells(8)
    there = pci_bench.extract("intensity", cells, device="cpu", scheduler="tcp://127.0.0.1:1")
    assert there.n_obs == 8


def test_workers_with_another_version_or_none_are_named(cache):
    own = facts(cache)
    with pytest.raises(UserError, match=r"The worker tcp://w:1 has pci-bench 0\.0\.9, and this process"):
        check_answer("tcp://w:1", {**own, "version": "0.0.9", "code": "other"})
    with pytest.raises(UserError, match="The worker tcp://w:1 has another state of pci-bench"):
        check_answer("tcp://w:1", {**own, "code": "other"})
    with pytest.raises(UserError, match=r"cannot run pci-bench \(ModuleNotFoundError: No module named 'pci_bench'"):
        check_answer("tcp://w:1", ModuleNotFoundError("No module named 'pci_bench'"))


@pytest.mark.usefixtures("own_registries")
@pytest.mark.parametrize("kind", ["package", "folder"])
def test_a_plugin_of_several_files_is_loaded_from_its_content(tmp_path, kind):
    folder = tmp_path / "given" / "mine"
    folder.mkdir(parents=True)
    features = (
        '@pci_bench.register_features("mine", version="1", names=lambda channels: ["one"])\ndef mine(crops):\n    '
    )
    if kind == "package":
        (folder / "__init__.py").write_text("from mine import features\n")
        (folder / "values.py").write_text("ONE = 1.0\n")
        (folder / "features.py").write_text(
            f"import numpy as np\nimport pci_bench\nfrom mine.values import ONE\n\n\n{features}return np.full((len(crops), 1), ONE)\n"
        )
    else:
        (folder / "a.py").write_text(
            f"import numpy as np\nimport pci_bench\n\n\n{features}return np.ones((len(crops), 1))\n"
        )
    content = PluginContent.of(folder)
    shutil.rmtree(folder)
    with temporary_registrations():
        content.load(tmp_path / "worker")
        assert "mine" in pci_bench.api.extractor.EXTRACTORS
    assert "mine" not in pci_bench.api.extractor.EXTRACTORS


# ---- faults that take a cluster of their own


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Iterator[Processes]:
    """A scheduler that gives a task to another worker once, and a third time to none."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "1")
    monkeypatch.setattr(connection, "SECONDS_BETWEEN_LOOKS", 0.3)
    folder = tmp_path / "cluster"
    folder.mkdir()
    started = Processes(folder)
    yield started
    connection.connected(started.address).close()
    started.stop()


@pytest.mark.slow
def test_a_block_that_kills_every_worker_is_a_sentence(cluster, plugin, tmp_path):
    (tmp_path / "deadly.py").write_text(
        "import os\nimport pci_bench\n\n\n"
        '@pci_bench.register_features("deadly", version="1", names=lambda channels: ["x"])\n'
        "def deadly(crops):\n    os._exit(1)\n"
    )
    cluster.worker("--nanny")
    with temporary_registrations():
        load_plugin(tmp_path / "deadly.py")
        with pytest.raises(UserError, match=r"2 workers of .* were killed .* first in the cells .* 0 of 700 cells are"):
            pci_bench.extract("deadly", "numbered-cells", device="cpu", scheduler=cluster.address)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("raise ImportError('not here')", r"The worker tcp://\S+ cannot run pci-bench \(ImportError: not here\)"),
        (None, r"The worker tcp://\S+ has pci-bench 0\.0\.9, and this process \d"),
    ],
    ids=["none", "another"],
)
def test_a_worker_with_another_installation_is_refused(cluster, plugin, tmp_path, source, words):
    package = tmp_path / "installed" / "pci_bench"
    own = Path(pci_bench.__file__).parent
    if source is not None:
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source)
    else:
        shutil.copytree(own, package, ignore=shutil.ignore_patterns("__pycache__"))
        text = (own / "__init__.py").read_text()
        (package / "__init__.py").write_text(text.replace(f'"{pci_bench.__version__}"', '"0.0.9"'))
    cluster.worker(path=package.parent)
    with pytest.raises(UserError, match=words):
        means("numbered-cells", scheduler=cluster.address)


@pytest.mark.slow
def test_images_that_a_worker_does_not_see_are_a_sentence(cluster, tmp_path):
    layout = write_layout(write_screen(tmp_path / "screen").root)
    preparation = Extraction(cluster.address, partial(prepare_dataset, layout, "screen"))
    wait_until(lambda: preparation.heard("No worker is connected"))
    (tmp_path / "screen").rename(tmp_path / "elsewhere")
    cluster.worker()
    preparation.join(60)
    assert f"does not see the folder of the images, {tmp_path / 'screen'}." in str(preparation.error)


def _first_cells() -> list[int]:
    """Return the first cell of every batch of every block."""
    return [first for start in range(0, CELLS, BLOCK) for first in range(start, min(start + BLOCK, CELLS), BATCH)]
