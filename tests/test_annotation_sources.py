"""Annotations that are known by a name: an ontology for the enrichment of clusters, and localizations of yeast proteins."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from command_line import call, refused
from factories import make_features
from servers import FileServer

from pci_bench import evaluate
from pci_bench.acquisition.annotation_files import get_annotations, read_huh
from pci_bench.data import annotation_sources as declared
from pci_bench.data.annotation_sources import annotation_sources, annotations_file
from pci_bench.data.annotations import annotate
from pci_bench.data.ontology import read_gaf
from pci_bench.datasets import DATASETS
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress

RELEASE = "http://release.geneontology.org/2018-11-15/"
CURRENT = "http://current.geneontology.org/"


def bundled(suffix: str) -> bytes:
    """The ontology and annotations of the simulated human cells stand in for the Gene Ontology's."""
    return files("pci_bench.datasets").joinpath(f"human_sim{suffix}").read_bytes()


@pytest.fixture
def server(monkeypatch):
    with FileServer() as one:
        monkeypatch.setenv("PCI_BENCH_MIRROR", one.address)
        yield one


def test_an_ontology_is_fetched_once_and_its_own_date_and_version_are_said(server, cache, capsys, monkeypatch):
    server.mirror(f"{RELEASE}ontology/go-basic.obo", bundled(".obo"))
    server.mirror(f"{RELEASE}annotations/goa_human.gaf.gz", gzip.compress(bundled(".gaf")))
    said = call(capsys, monkeypatch, "data", "get", "go-human")
    assert said.code == 0, said.err
    lines = bundled(".gaf").decode().splitlines()
    rows = sum(not line.startswith("!") for line in lines)
    version = next(
        line.split(": ")[1] for line in bundled(".obo").decode().splitlines() if line.startswith("data-version")
    )
    text = " ".join(said.out.split())
    assert "release 2018-11-15" in text
    assert version in text
    assert f"{rows:,} rows" in text
    assert "SHA-256 is" in said.err  # none is published, so that of what came first is said
    assert annotation_sources()["go-human"].file("obo").read_bytes() == bundled(".obo")
    asked = len(server.asked)
    assert call(capsys, monkeypatch, "data", "get", "go-human").code == 0
    assert len(server.asked) == asked
    listed = " ".join(call(capsys, monkeypatch, "data", "list").out.split())
    assert re.search(r"go-human ready, [\d.]+ kB CC BY 4.0 go-yeast to fetch", listed)
    server.mirror(f"{RELEASE}annotations/sgd.gaf.gz", gzip.compress(bundled(".gaf")))
    assert call(capsys, monkeypatch, "data", "get", "go-yeast").code == 0
    assert len(server.asked) == asked + 1  # both have the same ontology
    assert "as it came: release 2018-11-15" in call(capsys, monkeypatch, "data", "verify", "go-yeast").out
    assert call(capsys, monkeypatch, "data", "remove", "go-human").code == 0
    assert annotation_sources()["go-human"].file("gaf") is None
    assert annotation_sources()["go-yeast"].file("obo") is not None  # which go-yeast needs


def test_the_enrichment_of_clusters_takes_a_source_by_its_name(server):
    """As a parameter, or as what the dataset says is its own."""
    _, rows = read_gaf(str(files("pci_bench.datasets").joinpath("human_sim.gaf")))
    names = sorted({row.symbol for row in rows})
    values = np.random.default_rng(0).normal(size=(len(names), 6))
    by_parameter = make_features(values, cell=None, protein=names)
    by_dataset = make_features(values, {"dataset": {"name": "x", "ontology": "go-human"}}, cell=None, protein=names)
    for adata, named in ((by_parameter, {"obo": "go-human", "gaf": "go-human"}), (by_dataset, {})):
        with pytest.raises(UserError, match="go-human is not in the cache; `pci-bench data get go-human` fetches it"):
            evaluate("go-enrichment", adata, k=5, **named)
    server.mirror(f"{RELEASE}ontology/go-basic.obo", bundled(".obo"))
    server.mirror(f"{RELEASE}annotations/goa_human.gaf.gz", gzip.compress(bundled(".gaf")))
    get_annotations(annotation_sources()["go-human"], Progress())
    own = make_features(
        values, {"dataset": {"name": "x", "ontology": "pci_bench.datasets:human_sim"}}, cell=None, protein=names
    )
    (expected,) = evaluate("go-enrichment", own, k=5)
    for adata, named in ((by_parameter, {"obo": "go-human", "gaf": "go-human"}), (by_dataset, {})):
        (result,) = evaluate("go-enrichment", adata, k=5, **named)
        assert result.metrics == expected.metrics
        assert result.details == expected.details
    for screen, source in {"hpa-v18": "go-human", "cyclops-wt2": "go-yeast", "nop1pr-orf": "go-yeast"}.items():
        assert DATASETS.get(screen).meta.ontology == source


def test_a_users_copy_of_a_table_is_imported_and_of_an_ontology_refused(test_data, server, capsys, monkeypatch):
    file = test_data / "yeast-proteome" / "allOrfData.txt"
    said = call(capsys, monkeypatch, "data", "import", "huh2003", str(file))
    assert said.code == 0, said.err
    assert "`pci-bench data get huh2003` reads it" in said.out
    assert call(capsys, monkeypatch, "data", "get", "huh2003").code == 0
    assert server.asked == []
    refused(call(capsys, monkeypatch, "data", "import", "huh2003", __file__), "not the annotations huh2003")
    refused(call(capsys, monkeypatch, "data", "import", "go-human", str(file)), "--set obo=FILE --set gaf=FILE")


def test_releases_are_never_mixed(server):
    server.mirror(f"{RELEASE}ontology/go-basic.obo", bundled(".obo"))  # its annotations are gone
    newer = bundled(".obo").replace(b"data-version: ", b"data-version: newer-")
    server.mirror(f"{CURRENT}ontology/go-basic.obo", newer)
    server.mirror(f"{CURRENT}annotations/gaf/HUMAN-uniprot.gaf.gz", gzip.compress(bundled(".gaf")))
    said = get_annotations(annotation_sources()["go-human"], Progress())
    assert "release current" in said[0]
    assert "not the pinned one" in said[1]
    assert annotation_sources()["go-human"].file("obo").read_bytes() == newer


def test_what_is_no_ontology_is_told_and_fetched_again(server, capsys, monkeypatch):
    server.mirror(f"{RELEASE}ontology/go-basic.obo", bundled(".obo")[:900])
    server.mirror(f"{RELEASE}annotations/goa_human.gaf.gz", gzip.compress(bundled(".gaf")))
    with pytest.raises(UserError, match="not a whole OBO file"):
        get_annotations(annotation_sources()["go-human"], Progress())
    server.mirror(f"{RELEASE}ontology/go-basic.obo", bundled(".obo"))
    assert "release 2018-11-15" in get_annotations(annotation_sources()["go-human"], Progress())[0]
    refused(call(capsys, monkeypatch, "data", "get", "go-human", "--retry"), "'go-human' takes no --retry")


def test_every_pinned_file_says_its_licence_and_where_it_is():
    for source in annotation_sources().values():
        for release in source.releases:
            for remote in release.files.values():
                assert remote.licence
                assert all(url.startswith(("http://", "https://")) for url in remote.urls)


def test_localizations_of_huh_2003_are_those_of_the_columns_that_say_so(test_data):
    """The summary that is read against the 23 columns of the same table, each true or false."""
    file = test_data / "yeast-proteome" / "allOrfData.txt"
    assert (
        hashlib.sha256(file.read_bytes()).hexdigest()
        == annotation_sources()["huh2003"].releases[0].files["table"].digest[7:]
    )
    raw = pd.read_csv(file, sep="\t", quoting=csv.QUOTE_NONE, dtype=str, keep_default_na=False, index_col=False)
    seen = raw[raw["GFP visualized?"] == "visualized"]
    places = list(raw.columns[raw.columns.get_loc("ambiguous") : raw.columns.get_loc("bud") + 1])
    assert len(places) == 23
    expected = {row["yORF"]: {c for c in places if row[c] == "T"} - {"ambiguous"} for _, row in seen.iterrows()}
    table = read_huh(file)
    rows = list(csv.DictReader(io.StringIO(table.text)))
    found = {row["synonyms"] or row["protein"]: set(row["labels"].split(";")) for row in rows}
    assert found == {frame: terms for frame, terms in expected.items() if terms}
    assert (table.proteins, table.several, table.ambiguous) == (
        len(found),
        sum(len(terms) > 1 for terms in found.values()),
        sum(not terms for terms in expected.values()),
    )
    names = [row["protein"] for row in rows]
    assert len(set(names)) == len(names)


def test_annotations_by_name_reach_the_cells(test_data, server, cache, capsys, monkeypatch, make_cells, tmp_path):
    refused(
        call(capsys, monkeypatch, "run", "yeast-knn", "--dataset", "yeast-sim", "--annotations", "huh2003"),
        "`pci-bench data get huh2003` fetches it",
    )
    url = annotation_sources()["huh2003"].releases[0].files["table"].urls[0]
    server.mirror(url, (test_data / "yeast-proteome" / "allOrfData.txt").read_bytes())
    said = call(capsys, monkeypatch, "data", "get", "huh2003")
    assert said.code == 0, said.err
    cells = make_cells(6, image=list("abcdef"), protein=["TFC3", "YAL001C", "VPS8", "NUP2", "none", "VPS8"])
    obs = annotate(cells, annotations_file("huh2003")).obs
    assert obs["labels"].astype(object).fillna("").tolist() == [
        *("cytoplasm;nucleus", "cytoplasm;nucleus", "endosome", "nuclear periphery", "", "endosome"),
    ]
    with pytest.raises(UserError, match="is an ontology, not a table"):
        annotations_file("go-human")
    assert annotations_file(tmp_path / "own.csv") == tmp_path / "own.csv"


def test_a_synonym_counts_where_it_belongs_to_one_protein_and_is_no_name(make_cells, tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("protein,synonyms,label\nA,B;Y1,x\nB,Y2;Y3,y\nC,Y3,z\n")
    cells = make_cells(5, image=list("abcde"), protein=["A", "B", "Y1", "Y2", "Y3"])
    assert annotate(cells, file).obs["label"].astype(object).fillna("").tolist() == ["x", "y", "x", "y", ""]


def test_another_table_is_not_taken_for_huhs(tmp_path):
    file = tmp_path / "allOrfData.txt"
    file.write_text("yORF\tGene name\nYAL001C\tTFC3\n")
    with pytest.raises(UserError, match="not the table allOrfData"):
        read_huh(file)
    assert declared.TABLE in annotation_sources()["huh2003"].releases[0].files
