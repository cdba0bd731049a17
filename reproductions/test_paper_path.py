"""What the ``[paper]`` tests do, done here with small files in the published layouts and printed values of their own."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from availability import Paper
from claims import assert_as_printed

import pci_bench
from pci_bench import weights
from pci_bench.datasets import DATASETS
from pci_bench.reporting.tables import declaration
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reproduction.items import items
from pci_bench.reproduction.outcome import numbers_beside

CONV4 = "pci-conv4@lu2019-yeast"
LAYERS = [f"pci-conv{i}@lu2019-yeast" for i in range(1, 6)]


@pytest.fixture(scope="module")
def helpers():
    """The modules of the test suite that write files in the published layouts, and that serve them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1] / "tests")
        yield importlib.import_module("small_paper"), importlib.import_module("servers")


@pytest.fixture(scope="module")
def small(helpers, tmp_path_factory):
    """The small paper, and the folder in which it lies."""
    root = tmp_path_factory.mktemp("small-world")
    with pytest.MonkeyPatch.context() as patch:
        return helpers[0].small_paper(root, patch), root


@pytest.fixture
def published(small, monkeypatch):
    """The facts of the small paper's files in place of the published ones; gives a function that sets its printed numbers."""
    paper, root = small
    monkeypatch.setenv("PCI_BENCH_DATA", str(root / "data"))
    monkeypatch.setenv("PCI_BENCH_CACHE", str(root / "cache"))
    blob = hashlib.sha1(b"blob %d\0" % len(paper.network) + paper.network).hexdigest()
    monkeypatch.setitem(weights.declared()["pci"]["lu2019-yeast"], "digest", f"git-blob:{blob}")

    monkeypatch.setitem(DATASETS.get("chong2015").meta.paper, "cells", 171)

    def declare(off=0.0):
        printed = TABLES.get("table1").printed
        for name, accuracy in paper.accuracies.items():
            monkeypatch.setitem(printed, name, [round(accuracy + off * (name == CONV4), 2)])
        declaration._printed.cache_clear()
        return TABLES.get("table1")

    yield declare
    declaration._printed.cache_clear()


@pytest.fixture
def imported(small, published):
    """The same, with the weights imported under their published name."""
    if weights.find("pci", "lu2019-yeast") is None:
        weights.IMPORTERS.get("keras-pci")(small[1] / "model_weights.h5", "lu2019-yeast")
    return published


def outcome():
    messages = []
    made = Paper(False, messages.extend).outcome("table1")
    assert messages == []
    return made


def test_matching_numbers_pass_and_stand_beside_the_printed_ones(imported):
    table = imported()
    assert_as_printed(outcome().numbers)
    assert {n.features for n in outcome().numbers} == set(LAYERS)
    for result in pci_bench.run("yeast-knn", dataset="chong2015", features=LAYERS, k=11):
        if (
            result.evaluator.params["exclude"] == "cell" and result.features.full_name != CONV4
        ):  # which is printed twice
            assert result.paper.value == table.printed[result.features.full_name][0]
            assert result.paper.table == table.source


def test_a_number_that_is_5_points_off_fails_and_is_named_with_its_table_and_row(imported):
    imported(off=5.0)
    numbers = outcome().numbers
    with pytest.raises(AssertionError) as failure:
        assert_as_printed(numbers)
    (ours,) = [n.ours for n in numbers if n.features == CONV4]
    sentence = str(failure.value)
    assert sentence.startswith(f"table1, row {CONV4}, column k = 11: ours {ours:.2f}, printed {ours + 5:.2f} (-5.00")
    assert sentence.count("ours") == 1


@pytest.mark.parametrize("more", [{"dataset": "chong2015:drop"}, {"dataset": "chong2015", "limit": 100}])
def test_another_dataset_class_map_or_subset_is_not_the_papers(imported, more):
    table, item = imported(), items()["table1"]
    others = pci_bench.run("yeast-knn", features=[CONV4], k=[11], **more)
    numbers = numbers_beside(list(others), table, judged=item.judged, tolerance=item.tolerance)
    with pytest.raises(AssertionError, match="nothing was compared"):
        assert_as_printed(numbers)


def test_what_is_not_here_is_said_with_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("PCI_BENCH_DATA", raising=False)
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    said = []
    with pytest.raises(pytest.skip.Exception, match="lacks chong2015"):
        Paper(False, said.extend).outcome("table1")
    assert any("pci-bench data get chong2015" in sentence for sentence in said)


def test_the_summary_of_pytest_lists_what_lacked_and_how_to_get_it(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PCI_BENCH_", "PYTEST_"))}
    ask = ["-o", "addopts=", "-p", "no:cacheprovider", "-v", "test_table1.py", "-k", "as_printed or printed_order"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *ask],
        env=environment | {"PCI_BENCH_CACHE": str(tmp_path)},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_the_layers_are_in_the_printed_order[paper] SKIPPED" in done.stdout
    lacked = done.stdout.split("what [paper] lacked", 1)[1]
    assert "(2 tests) chong2015: " in lacked
    assert "(2 tests) pci@lu2019-yeast: " in lacked
    assert "`pci-bench data get chong2015`" in lacked


def test_fetch_gets_data_and_weights_by_the_code_of_the_command_reproduce(
    helpers, small, published, tmp_path, monkeypatch
):
    published()
    monkeypatch.delenv("PCI_BENCH_DATA")
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    with helpers[1].FileServer() as server:
        server.mirror(DATASETS.get("chong2015").downloads()[0].urls[0], small[0].archive)
        server.mirror(weights.remote_files("pci", "lu2019-yeast")[0].urls[0], small[0].network)
        monkeypatch.setenv("PCI_BENCH_MIRROR", server.address)
        said = []
        assert_as_printed(Paper(True, said.extend).outcome("table1").numbers)
        assert said == []
