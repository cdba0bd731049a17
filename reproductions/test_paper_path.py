"""What the ``[paper]`` tests do, done here with a small file in the layout of chong2015, random weights, and printed values of its own."""

import importlib
import io
import os
import subprocess
import sys
import threading
import tomllib
import zipfile
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import availability
import numpy as np
import pytest
from availability import Paper, fetch_chong2015, fetch_lacking, lacking
from claims import POINTS, assert_as_printed, compared
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

import pci_bench
from pci_bench import UserError, weights
from pci_bench.inpainting import PairedCellInpainting
from pci_bench.reporting.tables import declaration
from pci_bench.reporting.tables.declaration import TABLES, TableDeclaration
from pci_bench.system.files import sha256_of

CONV3, CONV4 = "pci-conv3@lu2019-yeast", "pci-conv4@lu2019-yeast"
CELLS_PER_FILE = 57  # three of each of the 19 classes

DECLARED = """
title     = "A table of a small file"
source    = "computed with scikit-learn in this test"
benchmark = "yeast-knn"
dataset   = "chong2015"
evaluator = "loo-knn"
metric    = "balanced_accuracy"
columns   = [{{ header = "k = 1", params = {{ k = 1 }} }}, {{ header = "k = 5", params = {{ k = 5 }} }}]
rows      = ["pci-conv3", "pci-conv4"]

[printed]
"pci-conv3@lu2019-yeast" = [{0:.2f}, {1:.2f}]
"pci-conv4@lu2019-yeast" = [{2:.2f}, {3:.2f}]
"""


@pytest.fixture(scope="module")
def layouts():
    """The modules of the test suite that write files in the published layouts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "tests")
        yield importlib.import_module("test_chong2015"), importlib.import_module("test_inpainting")


def digest_of(file):
    """The digest of a file, as weights.toml declares it: the small world's network stands for the published one."""
    return f"sha256:{sha256_of(file)}"


def crops_of(rng):
    """Rows of GFP and RFP pixels: a spot, whose place and width are the class's."""
    order = np.arange(CELLS_PER_FILE) % 19
    rows, columns = np.mgrid[:64, :64]
    spots = [
        np.exp(-((rows - 20 - 4 * (c % 5)) ** 2 + (columns - 20 - 6 * (c // 5)) ** 2) / (4 + 6 * c)) for c in order
    ]
    pixels = np.stack(spots)[:, None].repeat(2, axis=1) + rng.normal(0, 0.15, (CELLS_PER_FILE, 2, 64, 64))
    return np.clip(pixels, 0, 1).reshape(CELLS_PER_FILE, -1).astype(np.float32)


@pytest.fixture(scope="module")
def small_world(layouts, tmp_path_factory):
    """A folder of data with chong2015, and a cache with weights that were imported as the paper's are."""
    chong, inpainting = layouts
    root = tmp_path_factory.mktemp("small-world")
    (root / "data" / "chong2015").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in chong.FILES.values():
        chong.write(root / "data" / "chong2015" / name, crops_of(rng), layout="attributes")
    network = inpainting.lively(PairedCellInpainting(1, 1, inpainting.NARROW))
    inpainting.write_keras(root / "model_weights.h5", network)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(root / "cache"))
        patch.setitem(weights.declared()["pci"]["lu2019-yeast"], "digest", digest_of(root / "model_weights.h5"))
        weights.IMPORTERS.get("keras-pci")(root / "model_weights.h5", "lu2019-yeast")
    return root


@pytest.fixture
def in_use(small_world, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_DATA", str(small_world / "data"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(small_world / "cache"))
    return small_world


@cache
def by_scikit_learn(name, k):
    """Leave-one-out accuracy in percent of the small world's cells, each predicted from all others."""
    adata = pci_bench.extract(name, pci_bench.load_dataset("chong2015"))
    x = np.asarray(adata.X, np.float64)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    labels = adata.obs["label"].to_numpy(str)
    predicted = []
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        classifier = KNeighborsClassifier(k, algorithm="brute").fit(x[others], labels[others])
        predicted.append(classifier.predict(x[[row]])[0])
    return 100 * balanced_accuracy_score(labels, predicted)


@pytest.fixture
def declared(in_use):
    """The table of this file's printed values, registered as the paper's are."""

    def declare(off=0.0):
        numbers = [by_scikit_learn(name, k) for name in (CONV3, CONV4) for k in (1, 5)]
        assert len({f"{number:.2f}" for number in numbers}) > 1, "the planted classes must not be alike"
        numbers[2] += off
        table = TableDeclaration(name="small-table", **tomllib.loads(DECLARED.format(*numbers)))
        TABLES.register(table.name, table, origin=pci_bench.api.registry.Origin(__file__, 1))
        declaration._printed.cache_clear()
        return table

    with TABLES.temporary():
        yield declare
    declaration._printed.cache_clear()


def ran():
    messages = []
    results = Paper(False, messages.extend).results("yeast-knn", "chong2015", [CONV3, CONV4], k=[1, 5])
    assert messages == []
    return results


def test_matching_numbers_pass_and_stand_beside_the_printed_ones(declared):
    table = declared()
    results = ran()
    assert_as_printed(results, table, POINTS)
    assert len(compared(results, table)) == 4
    beside = {r.features.full_name: r.paper for r in results if r.evaluator.params["k"] == 1}
    for name, (at_k1, _) in table.printed.items():
        assert beside[name].value == at_k1
        assert beside[name].table == table.source


def test_a_number_that_is_5_points_off_fails_and_is_named_with_its_table_and_row(declared):
    table = declared(off=5.0)
    results = ran()
    with pytest.raises(AssertionError) as failure:
        assert_as_printed(results, table, POINTS)
    (ours,) = [
        100 * r.metrics["balanced_accuracy"]
        for r in results
        if r.features.full_name == CONV4 and r.evaluator.params["k"] == 1
    ]
    sentence = str(failure.value)
    assert sentence.startswith(
        f"small-table, row {CONV4}, column k = 1: ours {ours:.2f}, printed {ours + 5:.2f} (-5.00"
    )
    assert sentence.count("ours") == 1


def test_another_dataset_class_map_subset_or_exclusion_is_not_the_papers(declared):
    table = declared(off=5.0)
    for more in ({"dataset": "chong2015:drop"}, {"dataset": "chong2015", "limit": 100}):
        others = pci_bench.run("yeast-knn", features=[CONV4], k=[1], **more)
        with pytest.raises(AssertionError, match="nothing was compared"):
            assert_as_printed(others, table, POINTS)


def test_what_is_not_here_is_said_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    sentences = lacking("chong2015", [CONV4, "autoencoder-conv3@lu2019-yeast", "intensity"])
    assert len(sentences) == 3
    assert "DeepLoc_full_datasets.zip" in sentences[0]
    assert "Run `pci-bench weights get pci@lu2019-yeast`" in sentences[1]
    assert "not published" in sentences[2]


def test_the_summary_of_pytest_lists_what_lacked_and_how_to_get_it(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PCI_BENCH_", "PYTEST_"))}
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-o",
            "addopts=",
            "-p",
            "no:cacheprovider",
            "-v",
            "test_table1.py",
            "-k",
            "as_printed or printed_order",
        ],
        env=environment | {"PCI_BENCH_CACHE": str(tmp_path)},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_the_layers_are_in_the_printed_order[paper] SKIPPED" in done.stdout
    lacked = done.stdout.split("what [paper] lacked", 1)[1]
    assert (
        "(2 tests) chong2015: Chong_train_set.hdf5, Chong_valid_set.hdf5 and Chong_test_set.hdf5 are missing" in lacked
    )
    assert (
        "(2 tests) pci@lu2019-yeast: the weights pci@lu2019-yeast are not here yet. Run `pci-bench weights get "
        in lacked
    )


@pytest.fixture
def server():
    """A web server of this test; ``serve`` puts a file on it and returns its address."""
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = served.get(self.path)
            self.send_response(200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()

    def serve(path, content):
        served[path] = content
        return f"http://127.0.0.1:{running.server_port}{path}"

    yield serve
    running.shutdown()
    running.server_close()


def test_fetch_gets_the_archive_and_imports_the_weights_by_their_links(small_world, server, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for file in (small_world / "data" / "chong2015").iterdir():
            opened.write(file, f"DeepLoc_full_datasets/{file.name}")
    monkeypatch.setitem(availability.DECLARATION, "url", server("/all.zip", archive.getvalue()))
    link = server("/model_weights.h5", (small_world / "model_weights.h5").read_bytes())
    monkeypatch.setitem(weights.declared()["pci"]["lu2019-yeast"], "urls", [link])
    monkeypatch.setitem(
        weights.declared()["pci"]["lu2019-yeast"], "digest", digest_of(small_world / "model_weights.h5")
    )
    assert len(lacking("chong2015", [CONV4])) == 2
    fetch_lacking("chong2015", [CONV4])
    assert lacking("chong2015", [CONV4]) == []
    assert len(pci_bench.load_dataset("chong2015")) == 3 * CELLS_PER_FILE


def test_a_failed_download_and_another_archive_are_sentences(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    with pytest.raises(UserError, match="Set PCI_BENCH_DATA"):
        fetch_chong2015(server("/a.zip", b"nothing"))
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    with pytest.raises(UserError, match="Could not fetch the labelled crops"):
        fetch_chong2015(server("/gone.zip", b""))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("README.md", "other")
    with pytest.raises(UserError, match=r"holds no Chong_train_set\.hdf5; it holds README\.md"):
        fetch_chong2015(server("/other.zip", archive.getvalue()))
