"""`pci-bench reproduce table1` from an empty cache, against a local server that serves files of the published layouts."""

import json

import pytest
from command_line import call, pci_bench, refused
from servers import FileServer
from small_paper import LAYERS, small_paper

from pci_bench import weights
from pci_bench.datasets import DATASETS
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reproduction import claims

NO_INTERNET = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return small_paper(tmp_path_factory.mktemp("small-paper"), patch)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cache that starts empty, and that the tests which fetch fill for those after them."""
    return tmp_path_factory.mktemp("shared") / "cache"


@pytest.fixture
def facts(own_registries):
    """Give back what the small paper's plug-in replaces in this process."""
    replaced = [weights.declared()["pci"]["lu2019-yeast"], TABLES.get("table1").printed]
    replaced.append(DATASETS.get("chong2015").meta.paper)
    before, layers = [dict(one) for one in replaced], list(claims.LAYERS)
    yield
    for one, was in zip(replaced, before, strict=True):
        one.clear()
        one.update(was)
    claims.LAYERS[:] = layers


@pytest.fixture
def reproduce(paper, facts, without_figures, tmp_path, capsys, monkeypatch):
    """`pci-bench reproduce …`, with a server that has what is named, and no internet; given ``own``, in a process of its own."""
    (archive,) = (url for remote in DATASETS.get("chong2015").downloads() for url in remote.urls)
    (mirror,) = (url for remote in DATASETS.get("chong2015:images").downloads() for url in remote.urls)
    network = weights.remote_files("pci", "lu2019-yeast")[0].urls[0]
    files = {"archive": (archive, paper.archive), "network": (network, paper.network), "mirror": (mirror, paper.images)}

    def run(*arguments, own=False, cache=tmp_path / "cache", off=0.0, served=("archive", "network"), **counted):
        with FileServer() as server:
            for name in served:
                server.mirror(*files[name])
            command = ("reproduce", *arguments, "--plugin", paper.plugin(tmp_path / "facts", off, **counted))
            named = {"PCI_BENCH_MIRROR": server.address, **NO_INTERNET}
            if own:
                return pci_bench(*command, cache=cache, cwd=tmp_path, **named)
            with monkeypatch.context() as patch:
                patch.chdir(tmp_path)
                for name, value in {"PCI_BENCH_CACHE": str(cache), **named}.items():
                    patch.setenv(name, value)
                return call(capsys, patch, *command)

    return run


def test_from_an_empty_cache_to_the_printed_number(paper, reproduce, shared, tmp_path):
    said = reproduce("table1", "--yes", cache=shared, own=True)
    assert said.code == 0, said.out + said.err
    for name, accuracy in paper.accuracies.items():
        (line,) = [line for line in said.out.splitlines() if line.startswith(name)]
        assert f"{accuracy:.2f}" in line
        assert line.rstrip().endswith("within")
    assert "table1: as printed" in said.out
    assert "Counted: 'chong2015' has 171 cells (the paper: 171)" in said.out
    sources = [line for line in said.out.splitlines() if line.startswith("From: ")]
    assert "spidey.ccbr.utoronto.ca/~okraus/DeepLoc_full_datasets.zip, sha256 " in sources[0]
    assert "as published" in sources[1]
    written = json.loads((tmp_path / "runs/reproduce/table1/reproduction.json").read_text())
    assert written["exit_code"] == 0
    assert {n["features"] for n in written["numbers"]} == set(LAYERS)
    assert (tmp_path / "runs/reproduce/table1/report.html").is_file()


def test_a_number_that_is_5_points_off_is_named_and_the_exit_code_is_1(paper, reproduce, shared):
    said = reproduce("table1", "--yes", cache=shared, off=5.0)
    assert said.code == 1, said.out + said.err
    (line,) = [line for line in said.out.splitlines() if line.startswith("pci-conv4")]
    assert "-5.00" in line
    assert line.rstrip().endswith("OUTSIDE")
    assert "table1: not as printed" in said.out


def test_of_another_number_of_cells_than_the_paper_counts_nothing_is_a_reproduction(reproduce, shared):
    said = reproduce("table1", "--yes", cache=shared, cells=None)
    assert said.code == 2, said.out + said.err
    assert "Not a reproduction: chong2015 has 171 cells, and the paper counts 30,889." in said.out
    assert "within" not in said.out


def test_what_cannot_be_had_is_said_with_every_source_and_the_exit_code_is_2(reproduce, tmp_path):
    said = reproduce("table1", "--yes", served=("network",))
    assert said.code == 2, said.out + said.err
    (sentence,) = [line for line in said.out.splitlines() if line.startswith("Not here: chong2015")]
    assert "spidey.ccbr.utoronto.ca" in sentence
    assert "kaggle.com" in sentence
    assert "pci-bench data import chong2015" in sentence
    assert "Traceback" not in said.err
    assert not list((tmp_path / "runs").rglob("results"))


def test_a_row_that_cannot_be_had_is_left_out_on_demand(paper, reproduce, shared):
    said = reproduce("supplementary-table1", "--yes", cache=shared, served=())
    assert said.code == 2, said.out + said.err
    assert "Not here: deeploc@kraus2017: " in said.out
    assert "`pci-bench reproduce supplementary-table1 --without missing`" in said.out
    said = reproduce("supplementary-table1", "--yes", "--without", "missing", cache=shared, served=())
    assert said.code == 1, said.out + said.err  # the printed numbers of that table are the paper's, these cells are not
    assert "for want of deeploc@kraus2017" in said.out


def test_on_another_copy_of_the_cells_nothing_is_a_reproduction(paper, reproduce, tmp_path):
    said = reproduce("table1", "--yes", "--json", served=("mirror", "network"))
    assert said.code == 2, said.out + said.err
    (outcome,) = json.loads(said.out)
    assert outcome["verdict"] == "not a reproduction"
    assert {n["features"] for n in outcome["numbers"]} == set(LAYERS)
    assert {n["difference"] for n in outcome["numbers"]} == {n["within"] for n in outcome["numbers"]} == {None}
    results = (tmp_path / "runs/reproduce/table1/results").rglob("*.json")
    assert {json.loads(file.read_text())["paper"] for file in results} == {None}


def test_a_dry_run_says_what_is_needed_and_fetches_nothing(capsys, monkeypatch, cache, tmp_path):
    monkeypatch.chdir(tmp_path)
    said = call(capsys, monkeypatch, "reproduce", "table1", "--dry-run")
    assert said.code == 0, said.out + said.err
    for words in ("chong2015", "to fetch", "spidey.ccbr.utoronto.ca", "pci@lu2019-yeast", "GPL-2", "Time: about"):
        assert words in said.out
    assert not (tmp_path / "runs").exists()
    assert not list(cache.glob("downloads/*"))


def test_nothing_of_unknown_size_is_fetched_unasked(capsys, monkeypatch, cache, tmp_path):
    monkeypatch.chdir(tmp_path)
    refused(call(capsys, monkeypatch, "reproduce", "table1"), "files whose size is not said", "--yes")
    assert not (tmp_path / "runs").exists()


def test_without_a_name_everything_is_listed(capsys, monkeypatch):
    said = call(capsys, monkeypatch, "reproduce")
    assert said.code == 0
    assert "table1" in said.out
    assert "supplementary-figure5" in said.out


def test_a_feature_set_that_is_not_there_cannot_be_left_out(capsys, monkeypatch):
    refused(
        call(capsys, monkeypatch, "reproduce", "table1", "--dry-run", "--without", "pci-conv9"),
        "pci-conv9",
        "pci-conv4",
    )
