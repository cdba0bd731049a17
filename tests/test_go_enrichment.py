"""Ontologies, annotations and enrichment, against enumeration, SciPy's exact test, hand-made graphs and planted terms."""

import gzip
import io
import itertools
import re
from importlib.resources import files
from math import comb

import numpy as np
import pandas as pd
import pytest
from command_line import call
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from report_page import Page
from scipy.stats import fisher_exact, hypergeom, kstest

from pci_bench import UserError
from pci_bench.data.ontology import annotated_terms, memberships, read_gaf, read_obo
from pci_bench.evaluators.go_enrichment import enrichment
from pci_bench.reporting.html import write_report
from pci_bench.reporting.tables.enrichment import enrichment_tables, printed
from pci_bench.runs.results import read_results
from pci_bench.runs.runner import evaluate, write_results

# T:6 (peroxisome) is obsolete; T:3 is part of T:2, which is a T:1; T:5 is both a T:1 and part of T:3.
OBO = """format-version: 1.2
data-version: releases/2019-02-01
default-namespace: cellular_component

[Term]
id: T:1
name: root

[Term]
id: T:2
name: nucleus
alt_id: T:22
is_a: T:1 ! root

[Term]
id: T:3
name: nucleolus
is_a: T:1
relationship: part_of T:2 ! nucleus

[Term]
id: T:4
name: cytosol
is_a: T:1 {source="x"} ! root
relationship: adjacent_to T:2

[Term]
id: T:5
name: rim
is_a: T:4
relationship: part_of T:3

[Term]
id: T:6
name: gone
is_obsolete: true

[Term]
id: T:7
name: transport
namespace: biological_process

[Typedef]
id: part_of
name: part of
"""


def gaf_row(symbol, term, qualifier="", identifier=None, synonyms="", evidence="IDA"):
    identifier = identifier or f"Q-{symbol}"
    fields = ("UniProtKB", identifier, symbol, qualifier, term, "REF:1", evidence, "", "C", "a name", synonyms)
    return "\t".join((*fields, "protein", "taxon:9606", "20190201", "UniProt", "", ""))


def gaf(*rows):
    return "!gaf-version: 2.2\n!date-generated: 2019-02-03\n" + "\n".join(rows) + "\n"


@pytest.fixture
def ontology(tmp_path):
    (tmp_path / "go.obo").write_text(OBO)
    return read_obo(tmp_path / "go.obo")


# ---- the tests of enrichment


def test_p_is_the_share_of_all_draws_with_as_many_or_more():
    n, size, term = 8, 3, np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    draws = [sum(term[list(d)]) for d in itertools.combinations(range(n), size)]
    for found in range(size + 1):
        members = [*np.flatnonzero(term)[:found], *np.flatnonzero(~term)[: size - found]]
        cluster = np.isin(np.arange(n), members)[None]
        tests = enrichment(cluster, term[:, None])
        assert tests.found.tolist() == [[found]]
        assert tests.p[0, 0] == pytest.approx(np.mean([d >= found for d in draws]), abs=1e-12)
        assert len(draws) == comb(n, size)


@given(st.integers(4, 40), st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_p_is_fishers_one_sided_and_fdr_a_loop(n, seed):
    rng = np.random.default_rng(seed)
    clusters, terms = rng.random((3, n)) < 0.4, rng.random((n, 5)) < 0.3
    tests = enrichment(clusters, terms)
    for c, t in np.ndindex(3, 5):
        inside, term = clusters[c], terms[:, t]
        table = [[(inside & term).sum(), (inside & ~term).sum()], [(~inside & term).sum(), (~inside & ~term).sum()]]
        assert tests.p[c, t] == pytest.approx(fisher_exact(table, alternative="greater").pvalue, rel=1e-9, abs=1e-12)
    flat = tests.p.ravel()
    ranked = sorted(range(len(flat)), key=lambda i: flat[i])
    least, expected = 1.0, np.empty(len(flat))
    for rank in range(len(flat), 0, -1):
        least = min(least, flat[ranked[rank - 1]] * len(flat) / rank)
        expected[ranked[rank - 1]] = least
    np.testing.assert_allclose(tests.fdr.ravel(), expected, rtol=1e-12)


def test_a_very_small_p_is_not_zero():
    term = np.arange(12_000) < 1000
    tests = enrichment((np.arange(12_000) < 100)[None], term[:, None])
    exact = sum(np.log10((1000 - i) / (12_000 - i)) for i in range(100))
    assert np.log10(tests.p[0, 0]) == pytest.approx(exact, rel=1e-6)


def test_p_of_terms_given_at_random_is_uniform():
    rng = np.random.default_rng(7)
    n = 300
    clusters = np.eye(10, dtype=bool)[rng.integers(10, size=n)].T
    terms = np.zeros((n, 150), bool)
    for t in range(150):
        terms[rng.permutation(n)[: rng.integers(20, 80)], t] = True
    tests = enrichment(clusters, terms)
    # p is of counts, hence discrete: a uniform draw below each step makes it continuous, exactly uniform where p is right.
    more = np.array(
        [
            [
                sum(
                    comb(int(k), i) * comb(n - int(k), int(size) - i)
                    for i in range(found + 1, min(int(k), int(size)) + 1)
                )
                / comb(n, int(size))
                for k, found in zip(tests.term_size, row.tolist(), strict=True)
            ]
            for size, row in zip(tests.cluster_size, tests.found, strict=True)
        ]
    )
    drawn = more + rng.random(more.shape) * (tests.p - more)
    assert kstest(drawn[0], "uniform").pvalue > 0.01  # terms are independent within a cluster
    assert kstest(drawn[4], "uniform").pvalue > 0.01
    assert (tests.fdr < 0.05).mean() < 0.01
    assert (tests.p <= 0.05).mean() < 0.06  # discreteness makes the test conservative


# ---- ontologies and annotations


def test_ancestors_go_by_is_a_and_part_of_only(ontology):
    assert ontology.version == "releases/2019-02-01"
    assert {k: set(v) for k, v in ontology.ancestors.items()} == {
        "T:1": {"T:1"},
        "T:2": {"T:1", "T:2"},
        "T:3": {"T:1", "T:2", "T:3"},
        "T:4": {"T:1", "T:4"},
        "T:5": {"T:1", "T:2", "T:3", "T:4", "T:5"},
        "T:7": {"T:7"},
    }
    assert ontology.current("T:22") == "T:2"
    assert ontology.current("T:6") is None


def test_annotations_count_for_ancestors_and_the_root_is_left_out(ontology):
    keys, members = memberships(
        {"a": {"T:5"}, "b": {"T:2"}, "c": set()}, ["a", "b", "c"], ontology, "cellular_component"
    )
    assert keys == ["T:2", "T:3", "T:4", "T:5"]
    assert members.tolist() == [[True] * 4, [True, False, False, False], [False] * 4]


def test_proteins_are_found_by_symbol_identifier_and_synonym_and_the_rest_is_counted(ontology, tmp_path):
    rows = [
        gaf_row("NCL", "T:3"),
        gaf_row("NCL", "T:3", evidence="IEA"),
        gaf_row("NCL", "T:4", "NOT|located_in"),
        gaf_row("NCL", "T:22", "part_of"),
        gaf_row("NCL", "T:6"),
        gaf_row("NCL", "T:7"),
        gaf_row("ACTB", "T:4", identifier="P60709", synonyms="hsyn|shared"),
        gaf_row("TUBB", "T:4", synonyms="shared"),
        gaf_row("OTHER", "T:4"),
        gaf_row("DENIED", "T:4", "NOT"),
    ]
    file = tmp_path / "human.gaf.gz"
    file.write_bytes(gzip.compress(gaf(*rows).encode()))
    date, annotations = read_gaf(file)
    assert date == "2019-02-03"
    names = ["DENIED", "NCL", "P60709", "hsyn", "nobody", "shared"]
    found, counts = annotated_terms(names, annotations, ontology, "cellular_component")
    assert found == {
        "DENIED": set(),
        "NCL": {"T:2", "T:3"},
        "P60709": {"T:4"},
        "hsyn": {"T:4"},
        "nobody": set(),
        "shared": set(),
    }
    assert counts == {
        "rows": 8,
        "unknown_term": 1,
        "negated": 2,
        "duplicate": 1,
        "of_other_proteins": 2,
        "unmatched_proteins": 2,
        "ambiguous_proteins": 1,
    }


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.replace("format-version: 1.2\n", ""), "not an ontology in OBO format"),
        (lambda t: t[: t.index("name: nucleolus")], "the term of line .* has no name"),
        (lambda t: t[: t.index("[Term]\nid: T:4")], "T:3 is part_of another term, and no .Typedef. says"),
        (
            lambda t: t.replace("is_a: T:1 ! root", "is_a: T:99"),
            r"T:2 \(nucleus\) has the parent T:99, which is not defined",
        ),
        (lambda t: t.replace("id: T:3", "id: T:2"), "defines the term T:2 twice"),
        (lambda t: t.replace("name: root", "name: root\nis_a: T:5"), "is its own ancestor"),
        (lambda t: t[: t.index("relationship: part_of T:3") + 5], r"line \d+ \('relat'\) is no 'tag: value'"),
        (lambda t: t[: t.index("[Term]")], "it has no term"),
    ],
)
def test_a_truncated_or_foreign_ontology_is_said(tmp_path, change, sentence):
    file = tmp_path / "broken.obo"
    file.write_text(change(OBO))
    with pytest.raises(UserError, match=sentence):
        read_obo(file)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a,b\n1,2\n", "no line '!gaf-version:'"),
        (gaf(gaf_row("NCL", "T:3"), gaf_row("ACTB", "T:4"))[:-60].encode(), "line 4 has 5 columns"),
        (gaf().encode(), "it has no row"),
        (gzip.compress(gaf(gaf_row("NCL", "T:3")).encode())[:-12], "cannot be read as annotations"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_truncated_or_foreign_annotations_are_said(tmp_path, content, sentence):
    file = tmp_path / "broken.gaf"
    file.write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_gaf(file)


def test_a_missing_file_is_said(tmp_path):
    for read in (read_obo, read_gaf):
        with pytest.raises(UserError, match="cannot be read"):
            read(tmp_path / "nowhere")


def test_every_cut_of_the_shipped_ontology_is_read_or_said(tmp_path):
    text = files("pci_bench.datasets").joinpath("human_sim.obo").read_text()
    whole = read_obo(str(files("pci_bench.datasets").joinpath("human_sim.obo")))
    for end in range(0, len(text) - 60, 401):
        (tmp_path / "cut.obo").write_text(text[:end])
        try:
            found = read_obo(tmp_path / "cut.obo")
        except UserError:
            continue
        assert len(found.terms) < len(whole.terms)
        pytest.fail(f"cut at {end} of {len(text)} characters, the ontology was taken for whole")


# ---- the evaluator


def planted(n=240, seed=0):
    """Return proteins in six groups that features tell apart, terms of two of them, and null terms, as files would say it."""
    rng = np.random.default_rng(seed)
    group = np.arange(n) % 6
    values = rng.normal(size=(6, 10))[group] * 4 + rng.normal(0, 0.3, (n, 10))
    terms = {"T:3": group == 0, "T:4": group == 1}
    nulls = {f"N:{t}": rng.permutation(n) < 40 for t in range(30)}
    text = OBO + "".join(f"\n[Term]\nid: {k}\nname: null {k}\nis_a: T:1\n" for k in nulls)
    rows = [gaf_row(f"G{i:03d}", key) for key, members in {**terms, **nulls}.items() for i in np.flatnonzero(members)]
    adata = make_features(values, protein=[f"G{i:03d}" for i in range(n)], label=[f"group{g}" for g in group])
    return adata, text, gaf(*rows)


@pytest.fixture
def files_of_planted(tmp_path):
    adata, text, annotations = planted()
    (tmp_path / "p.obo").write_text(text)
    (tmp_path / "p.gaf").write_text(annotations)
    return adata, {"obo": str(tmp_path / "p.obo"), "gaf": str(tmp_path / "p.gaf"), "k": 6}


def test_planted_terms_are_found_in_their_clusters_and_null_terms_are_not(files_of_planted):
    adata, params = files_of_planted
    (result,) = evaluate("go-enrichment", adata, **params)
    found = result.tables["short"]
    named = found[found["name"] != ""]
    assert sorted(named["name"]) == ["cytosol", "nucleolus", "nucleus"]
    assert (named["proteins"] == "40/40").all()
    assert (named["fdr"].astype(float) < 1e-30).all()
    assert result.metrics["enriched_clusters"] == 2 / 6
    assert result.details["ontology_version"] == "releases/2019-02-01"
    assert result.details["annotations_date"] == "2019-02-03"
    assert len(result.details["without_enrichment"]) == 4
    assert (found["name"] == "").sum() == 4  # clusters without any term are rows too


def test_clusters_without_biology_find_nothing(files_of_planted):
    adata, params = files_of_planted
    shuffled = adata.copy()
    shuffled.X = adata.X[np.random.default_rng(3).permutation(adata.n_obs)]
    (result,) = evaluate("go-enrichment", shuffled, **params)
    assert result.metrics["significant_tests"] == 0
    nulls = result.tables["enrichment"].query("term.str.startswith('N:')")
    assert (nulls["p"] <= 0.05).mean() <= 0.08


def test_nothing_depends_on_the_order_of_cells(files_of_planted):
    adata, params = files_of_planted
    shuffled = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    ((one,), (other,)) = (evaluate("go-enrichment", a, **params) for a in (adata, shuffled))
    assert (one.metrics, one.details) == (other.metrics, other.details)
    for name, table in one.tables.items():
        pd.testing.assert_frame_equal(table, other.tables[name])


def test_annotations_may_come_from_the_table_of_cells(files_of_planted):
    adata, params = files_of_planted
    adata.obs["go"] = np.where(adata.obs["label"] == "group0", "T:3;T:5", "")
    (result,) = evaluate("go-enrichment", adata, **{**params, "gaf": "table"})
    assert result.details["terms_found"] == 4
    del adata.obs["go"]
    with pytest.raises(UserError, match="the obs column go, and it is absent"):
        evaluate("go-enrichment", adata, **{**params, "gaf": "table"})


def test_the_background_of_a_subset_is_the_subset(files_of_planted):
    adata, params = files_of_planted
    adata.obs["labels"] = np.where(np.arange(240) % 6 < 2, "punctate", "diffuse")
    (result,) = evaluate("go-enrichment", adata, **{**params, "k": 2, "subset": "punctate"})
    assert result.details["n_proteins"] == 80
    assert set(result.tables["short"]["name"]) == {"nucleolus", "nucleus", "cytosol"}


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"obo": "dataset"}, "the dataset brings no ontology of its own; name an ontology with obo=FILE"),
        ({"gaf": "dataset"}, "name annotations with gaf=FILE"),
        ({"namespace": "molecular_function"}, "None of the 240 proteins .* with a term of molecular_function"),
        ({"min_size": 200}, "No term of cellular_component has from 200 to 240"),
        ({"k": 1000}, "1000 clusters were asked for"),
    ],
)
def test_what_cannot_be_tested_is_said(files_of_planted, params, sentence):
    adata, files = files_of_planted
    with pytest.raises(UserError, match=sentence):
        evaluate("go-enrichment", adata, **{**files, **params})


def test_a_dataset_brings_its_own_ontology():
    names = sorted({a.symbol for a in read_gaf(str(files("pci_bench.datasets").joinpath("human_sim.gaf")))[1]})
    values = np.random.default_rng(0).normal(size=(len(names), 6))
    of = {"dataset": {"name": "x", "ontology": "pci_bench.datasets:human_sim"}}
    adata = make_features(values, of, cell=None, protein=names)
    (result,) = evaluate("go-enrichment", adata, k=5)
    assert result.details["annotations"]["unmatched_proteins"] == 0
    assert result.details["annotations"]["negated"] > 0
    assert result.details["ontology_version"] == "releases/2019-02-01"


# ---- Table 3


def test_the_printed_table_has_27_clusters_and_reads_303706_as_a_fraction():
    table = printed()
    assert len(table) == 30
    assert table["cluster"].nunique() == 27
    row = table[(table["cluster"] == "B") & (table["term"] == "Nucleoplasm")].iloc[0]
    assert (row["n"], row["N"], row["fdr"]) == (303, 706, 2.63e-24)
    assert (table["n"] <= table["N"]).all()
    assert table.groupby("cluster")["N"].nunique().eq(1).all()
    assert table.drop_duplicates("cluster").query("cluster.str.len() == 1")["N"].sum() <= 11_995


def test_table_3_is_written_in_three_forms_with_its_circumstances(files_of_planted):
    adata, params = files_of_planted
    results = evaluate("go-enrichment", adata, **params)
    ((stem, texts, _),) = enrichment_tables(results)
    assert stem == "table3"
    assert "| nucleolus" in texts["md"]
    assert "40/40" in texts["md"]
    assert "ontology releases/2019-02-01, annotations 2019-02-03" in texts["md"]
    assert "6 clusters and parts" in texts["md"]
    assert "\\toprule" in texts["tex"]
    assert "\\_" in texts["tex"]
    assert texts["csv"].splitlines()[0] == "cluster,term,name,fdr,p,n,N"


def test_table_3_is_printed_from_a_folder_of_results(files_of_planted, tmp_path, capsys, monkeypatch):
    adata, params = files_of_planted
    results = evaluate("go-enrichment", adata, **params)
    write_results(results, tmp_path / "run")
    ((_, texts, _),) = enrichment_tables(results)
    for form in ("md", "csv", "tex"):
        said = call(capsys, monkeypatch, "table", "table3", "--results", tmp_path / "run", "--format", form)
        assert (said.code, said.out.strip()) == (0, texts[form].strip())
    assert "table3" in call(capsys, monkeypatch, "list", "tables").out
    assert "human-proteome" in call(capsys, monkeypatch, "describe", "table3").out
    write_results(evaluate("loo-knn", labelled(adata), k=1), tmp_path / "other")
    said = call(capsys, monkeypatch, "table", "table3", "--results", tmp_path / "other")
    assert said.code == 2
    assert "pci-bench run human-proteome" in said.err


def test_tables_in_memory_have_the_types_that_are_read_back(files_of_planted, tmp_path):
    adata, params = files_of_planted
    (result,) = evaluate("go-enrichment", adata, **params)
    write_results([result], tmp_path)
    (read,) = read_results(tmp_path)
    for name, table in result.tables.items():
        pd.testing.assert_frame_equal(table.replace("", np.nan), read.tables[name], check_exact=True)


def labelled(adata):
    """The same features, with a label for each of two halves."""
    adata = adata.copy()
    adata.obs["label"] = ["a", "b"] * (adata.n_obs // 2)
    return adata


def of_the_papers_clusters(adata, params, tmp_path, obo_changes=(), **more):
    """Return Table 3 of two clusters that bear the paper's names D and E."""
    clusters = tmp_path / "clusters.csv"
    clusters.write_text(
        "protein,cluster\n" + "".join(f"G{i:03d},{'D' if i % 6 == 0 else 'E'}\n" for i in range(240) if i % 6 < 2)
    )
    obo = (tmp_path / "p.obo").read_text()
    for old, new in obo_changes:
        assert old in obo
        obo = obo.replace(old, new)
    (tmp_path / "p.obo").write_text(obo)
    adata.uns["pci_bench"] = {"dataset": {"name": "hpa-v18"}}
    results = evaluate("go-enrichment", adata, **{**params, "clusters": str(clusters), "shown": 3, **more})
    ((_, texts, _),) = enrichment_tables(results)
    return texts, pd.read_csv(io.StringIO(texts["csv"]), keep_default_na=True)


def test_every_printed_row_of_table_3_appears_beside_ours(files_of_planted, tmp_path):
    texts, table = of_the_papers_clusters(*files_of_planted, tmp_path)
    beside = table.dropna(subset="paper_term")
    key = ["cluster", "term"]
    expected = printed()[[*key, "fdr", "n", "N"]].sort_values(key, ignore_index=True)
    found = beside[["cluster", "paper_term", "paper_fdr", "paper_n", "paper_N"]].set_axis(
        [*key, "fdr", "n", "N"], axis=1
    )
    pd.testing.assert_frame_equal(found.sort_values(key, ignore_index=True), expected, check_dtype=False)
    matched = beside.dropna(subset="n")[["cluster", "name", "n", "N"]]
    assert sorted(map(tuple, matched.to_numpy())) == [("D", "nucleolus", 40, 40), ("E", "cytosol", 40, 40)]
    unmatched = [line for line in texts["md"].splitlines() if "| not among ours" in line]
    assert len(unmatched) == 28
    assert sum("by eye" in line for line in unmatched) == 1
    assert "1383" in texts["md"]
    assert list(dict.fromkeys(table["cluster"])) == list(dict.fromkeys(printed()["cluster"]))
    ours_alone = table[table["paper_term"].isna()]
    assert ("D", "nucleus") in set(zip(ours_alone["cluster"], ours_alone["name"], strict=True))


def test_a_renamed_merged_or_replaced_term_of_table_3_is_found_by_its_identifier(files_of_planted, tmp_path):
    """D's nucleolus got another name, E's cytosol another identifier, and D's term is matched though it is not significant."""
    changes = [
        ("id: T:4\nname: cytosol", "id: T:4\nname: cell sap\nalt_id: GO:0005829"),
        ("id: N:0\nname: null N:0", "id: N:0\nname: rib bodies"),
        ("id: T:6\nname: gone\nis_obsolete: true", "id: GO:0005730\nname: gone\nis_obsolete: true\nreplaced_by: N:0"),
        ("name: nucleolus", "name: dense body"),
    ]
    adata, params = files_of_planted
    texts, table = of_the_papers_clusters(adata, params, tmp_path, changes)
    beside = table.dropna(subset=["paper_term", "n"]).set_index("paper_term")
    assert beside["name"].to_dict() == {"Nucleolus": "rib bodies", "Cytosol": "cell sap"}
    inside = sum(("\tN:0\t" in line) and int(line.split("\t")[2][1:]) % 6 == 0 for line in _rows(params["gaf"]))
    assert beside.loc["Nucleolus", "n"] == inside
    assert beside.loc["Nucleolus", "fdr"] > 0.05
    assert "cell sap (printed: Cytosol)" in texts["md"]


def _rows(gaf):
    return [line for line in open(gaf).read().splitlines() if not line.startswith("!")]


def test_a_term_with_two_replacements_has_none(tmp_path):
    two = "is_obsolete: true\nreplaced_by: T:2\nreplaced_by: T:4"
    (tmp_path / "go.obo").write_text(OBO.replace("is_obsolete: true", two))
    assert read_obo(tmp_path / "go.obo").former == {"T:22": "T:2"}
    (tmp_path / "go.obo").write_text(OBO.replace("is_obsolete: true", "is_obsolete: true\nreplaced_by: T:22"))
    found = read_obo(tmp_path / "go.obo")
    assert found.former == {"T:22": "T:2", "T:6": "T:2"}
    assert found.current("T:6") is None  # annotations with obsolete terms stay unknown


def test_per_list_enrichment_is_a_loop_over_clusters_of_annotated_proteins(files_of_planted):
    """As GOrilla: each list against the annotated proteins, with its own adjustment."""
    adata, params = files_of_planted
    (pooled,), (result,) = (evaluate("go-enrichment", adata, **params, protocol=p) for p in ("pooled", "per-list"))
    members = {}
    for line in _rows(params["gaf"]):
        fields = line.split("\t")
        members.setdefault(fields[4], set()).add(fields[2])
    members["T:2"] = set(members["T:3"])  # nucleolus is part of nucleus
    annotated = set().union(*members.values())
    assert 0 < len(annotated) < 240
    assert (pooled.details["background"], result.details["background"]) == (240, len(annotated))
    (tree,) = evaluate("hierarchical-clustering", adata, k=6)
    for cluster, proteins in tree.tables["proteins"].groupby("cluster")["protein"]:
        inside = set(proteins) & annotated
        p = {
            term: hypergeom.sf(len(inside & those) - 1, len(annotated), len(those), len(inside))
            for term, those in members.items()
        }
        ranked, least, adjusted = sorted(p, key=p.__getitem__), 1.0, {}
        for rank in range(len(ranked), 0, -1):
            least = min(least, p[ranked[rank - 1]] * len(ranked) / rank)
            adjusted[ranked[rank - 1]] = least
        tests = result.tables["enrichment"]
        mine = tests[tests["cluster"] == cluster].set_index("term")
        assert set(mine.index) == set(p)
        for term in p:
            assert mine.loc[term, "p"] == pytest.approx(p[term], rel=1e-9)
            assert mine.loc[term, "fdr"] == pytest.approx(adjusted[term], rel=1e-9)
            assert (mine.loc[term, "n"], mine.loc[term, "N"]) == (len(inside & members[term]), len(inside))
    assert not np.allclose(pooled.tables["enrichment"]["fdr"], result.tables["enrichment"]["fdr"])
    ((_, texts, _),) = enrichment_tables([result])
    assert f"against the {len(annotated)} clustered proteins with an annotation" in texts["md"]
    ((_, texts, _),) = enrichment_tables([pooled])
    assert "ours, where the paper's GOrilla took one cluster at a time" in texts["md"]


def test_a_report_shows_table_3_with_the_cluster_in_every_row_and_its_circumstances(files_of_planted, tmp_path):
    adata, params = files_of_planted
    (result,) = evaluate("go-enrichment", adata, **params)
    result.benchmark = "human-proteome"
    write_results([result], tmp_path)
    ((_, texts, _),) = enrichment_tables([result])
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    header, *rows = next(t for t in page.tables if t[0][:2] == ["Cluster", "GO annotation"])
    short = pd.read_csv(io.StringIO(texts["csv"]), dtype={"cluster": str}).fillna({"name": "none"})
    assert header == ["Cluster", "GO annotation", "Enrichment (FDR adjusted)", "Number of proteins"]
    assert [row[0] for row in rows] == short["cluster"].tolist()
    assert [row[1] for row in rows] == short["name"].tolist()
    found = short["n"].notna().to_numpy()
    expected = [f"{n:.0f}/{of}" for n, of in short.loc[found, ["n", "N"]].itertuples(index=False)]
    assert [row[3] for row, has in zip(rows, found, strict=True) if has] == expected
    sorted_by = re.findall(r'data-value="([^"]+)">\d\.\d\de', page.html)
    assert [float(v) for v in sorted_by] == pytest.approx(short.loc[found, "fdr"].tolist(), rel=0.01)
    assert "ontology releases/2019-02-01, annotations 2019-02-03" in page.text


def test_a_report_says_which_table_beside_a_result_is_missing(files_of_planted, tmp_path):
    adata, params = files_of_planted
    (result,) = evaluate("go-enrichment", adata, **params)
    result.benchmark = "human-proteome"
    write_results([result], tmp_path)
    (file,) = tmp_path.rglob("*short.csv")
    file.unlink()
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "The table 'short' of go-enrichment" in page.text
    assert "Run the benchmark again to write it." in page.text
