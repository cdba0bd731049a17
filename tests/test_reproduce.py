"""`pci-bench reproduce table1` from an empty cache, against a local server that serves files of the published layouts."""

import json

import pytest
from command_line import pci_bench
from servers import FileServer
from small_paper import LAYERS, small_paper

from pci_bench import weights
from pci_bench.datasets import DATASETS

NO_INTERNET = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return small_paper(tmp_path_factory.mktemp("small-paper"), patch)


@pytest.fixture
def reproduce(paper, tmp_path):
    """`pci-bench reproduce …` in a process of its own, with a cache that starts empty and a server that has what is named."""
    (archive,) = (file for remote in DATASETS.get("chong2015").downloads() for file in remote.urls)
    network = weights.remote_files("pci", "lu2019-yeast")[0].urls[0]

    def run(*arguments, off=0.0, served=("archive", "network")):
        with FileServer() as server:
            if "archive" in served:
                server.mirror(archive, paper.archive)
            if "network" in served:
                server.mirror(network, paper.network)
            return pci_bench(
                "reproduce", *arguments, "--plugin", paper.plugin(tmp_path / "facts", off),
                cache=tmp_path / "cache", cwd=tmp_path, PCI_BENCH_MIRROR=server.address, **NO_INTERNET,
            )  # fmt: skip

    return run


def test_from_an_empty_cache_to_the_printed_number(paper, reproduce, tmp_path):
    said = reproduce("table1", "--yes")
    assert said.code == 0, said.out + said.err
    for name, accuracy in paper.accuracies.items():
        (line,) = [line for line in said.out.splitlines() if line.startswith(name)]
        assert f"{accuracy:.2f}" in line
        assert line.rstrip().endswith("within")
    assert "table1: as printed" in said.out
    assert "From: chong2015: http://spidey.ccbr.utoronto.ca" in said.out
    assert "From: pci@lu2019-yeast: https://" in said.out
    written = json.loads((tmp_path / "runs/reproduce/table1/reproduction.json").read_text())
    assert written["exit_code"] == 0
    assert {n["features"] for n in written["numbers"]} == set(LAYERS)
    assert (tmp_path / "runs/reproduce/table1/report.html").is_file()
    again = reproduce("table1", served=())  # all of it is here
    assert again.code == 0, again.out + again.err


def test_a_number_that_is_5_points_off_is_named_and_the_exit_code_is_1(paper, reproduce):
    said = reproduce("table1", "--yes", off=5.0)
    assert said.code == 1, said.out + said.err
    (line,) = [line for line in said.out.splitlines() if line.startswith("pci-conv4")]
    assert "-5.00" in line
    assert line.rstrip().endswith("OUTSIDE")
    assert "table1: not as printed" in said.out


def test_what_cannot_be_had_is_said_with_every_source_and_the_exit_code_is_2(reproduce, tmp_path):
    said = reproduce("table1", "--yes", served=("network",))
    assert said.code == 2, said.out + said.err
    (sentence,) = [line for line in said.out.splitlines() if line.startswith("Cannot be had: chong2015")]
    assert "spidey.ccbr.utoronto.ca" in sentence
    assert "kaggle.com" in sentence
    assert "pci-bench data import chong2015" in sentence
    assert "Traceback" not in said.err


def test_a_row_that_cannot_be_had_is_left_out_on_demand(paper, reproduce):
    said = reproduce("supplementary-table1", "--yes")
    assert said.code == 2, said.out + said.err
    assert "Cannot be had: deeploc@kraus2017" in said.out
    assert "`pci-bench reproduce supplementary-table1 --without missing`" in said.out
    said = reproduce("supplementary-table1", "--yes", "--without", "missing")
    assert said.code == 1, said.out + said.err  # the printed numbers of that table are the paper's, these cells are not
    assert "Not run: deeploc-fc2@kraus2017" in said.out


def test_a_dry_run_says_what_is_needed_and_fetches_nothing(reproduce, tmp_path):
    said = reproduce("table1", "--dry-run")
    assert said.code == 0, said.out + said.err
    for words in ("chong2015", "to fetch", "spidey.ccbr.utoronto.ca", "pci@lu2019-yeast", "GPL-2", "Time: about"):
        assert words in said.out
    assert not (tmp_path / "runs").exists()
    assert not list((tmp_path / "cache").glob("downloads/*"))


def test_nothing_of_unknown_size_is_fetched_unasked(reproduce, tmp_path):
    said = reproduce("table1")
    assert said.code == 2
    assert "--yes" in said.err
    assert not (tmp_path / "runs").exists()


def test_without_a_name_everything_is_listed(reproduce):
    said = reproduce()
    assert said.code == 0
    assert "table1" in said.out
    assert "supplementary-figure5" in said.out
