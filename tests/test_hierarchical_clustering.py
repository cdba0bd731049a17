"""Clustering of proteins, against SciPy, hand-made trees and planted clusters."""

import numpy as np
import pandas as pd
import pytest
from factories import make_features
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet, fcluster, linkage
from scipy.spatial.distance import pdist
from scipy.stats import false_discovery_control, fisher_exact
from sklearn.metrics import adjusted_rand_score

from pci_bench import UserError
from pci_bench.evaluators.protein_clusters import proteins_of, read_clusters
from pci_bench.reporting.figures.clustering import branches, clustering_figures
from pci_bench.runs.runner import evaluate
from pci_bench.statistics import linkage as trees
from pci_bench.statistics.linkage import clade, cophenetic_correlation, cut, cut_at, leaf_order, ward_linkage
from pci_bench.statistics.named_clusters import letters, levels, named, recovered_classes
from pci_bench.system.drawing import save

# Leaves 0–4: 0 joins 1 (node 5), 3 joins 4 (6), 2 joins them (7), then all (8).
HAND_MADE = np.array([[0, 1, 1, 2], [3, 4, 2, 2], [2, 6, 3, 3], [5, 7, 5, 5]], float)


def features_of(values, proteins, **columns):
    return make_features(values, cell=[f"cell{i:03d}" for i in range(len(values))], protein=proteins, **columns)


def blobs(clusters=4, proteins=6, cells=5, spread=0.05, seed=0):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(clusters, 8)) * 3
    label = np.repeat(np.arange(clusters), proteins * cells)
    protein = np.repeat(np.arange(clusters * proteins), cells)
    values = centre[label] + rng.normal(0, spread, (len(label), 8))
    return features_of(values, [f"P{i:03d}" for i in protein], label=[f"term{i}" for i in label])


@pytest.mark.parametrize("largest", [10_000, 1])
@pytest.mark.parametrize("shape", [(2, 1), (30, 3), (200, 12)])
def test_linkage_is_scipys(shape, largest, monkeypatch):
    monkeypatch.setattr(trees, "MAX_CONDENSED_ROWS", largest)  # 1: distances are computed as they are needed
    values = np.random.default_rng(1).normal(size=shape)
    ours, theirs = ward_linkage(values), linkage(values, method="ward")
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=1e-9)
    for k in {1, 2, min(7, shape[0]), shape[0]}:
        assert adjusted_rand_score(cut(ours, k), fcluster(theirs, k, "maxclust")) == 1
    height = float(np.median(theirs[:, 2]))
    assert adjusted_rand_score(cut_at(ours, height), fcluster(theirs, height, "distance")) == 1


def test_linkage_leaves_its_input_as_it_is():
    values = np.random.default_rng(2).normal(size=(20, 3))
    before = values.copy()
    ward_linkage(values)
    assert np.array_equal(values, before)


@given(st.integers(2, 12), st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_a_cut_gives_as_many_clusters_as_asked_numbered_in_leaf_order_even_with_duplicates(n, seed):
    rng = np.random.default_rng(seed)
    tree = ward_linkage(rng.integers(0, 3, (n, 2)).astype(float))
    for k in range(1, n + 1):
        codes = cut(tree, k)
        in_order = codes[leaf_order(tree)]
        assert len(set(codes)) == k
        assert (np.diff(in_order) >= 0).all()  # contiguous and ascending
        assert (np.diff(in_order) <= 1).all()


def test_a_finer_cut_lies_within_a_coarser_one():
    tree = ward_linkage(np.random.default_rng(3).normal(size=(60, 4)))
    found = named(cut(tree, 5), cut(tree, 11))
    parents = [c for c in found if c.isalpha()]
    assert parents == ["A", "B", "C", "D", "E"]
    for parent in parents:
        parts = [found[c] for c in found if c != parent and c.startswith(parent)]
        if parts:
            assert len(parts) > 1
            assert sorted(np.concatenate(parts)) == sorted(found[parent])
    leaves = sum(1 for c in found if not any(o != c and o.startswith(c) for o in found))
    assert leaves == 11


def test_letters_go_on_as_columns_of_a_spreadsheet():
    assert [letters(i) for i in (0, 25, 26, 27, 51, 52, 701, 702)] == ["A", "Z", "AA", "AB", "AZ", "BA", "ZZ", "AAA"]


@pytest.mark.parametrize(
    ("leaf", "size", "expected"),
    [
        (0, 2, {0, 1}),
        (0, 1, {0}),
        (0, 3, {0, 1, 2, 3, 4}),
        (3, 2, {3, 4}),
        (4, 3, {2, 3, 4}),
        (2, 2, {2, 3, 4}),
        (2, 9, {0, 1, 2, 3, 4}),
    ],
)
def test_a_clade_is_the_smallest_subtree_that_is_large_enough(leaf, size, expected):
    assert set(clade(HAND_MADE, leaf, size).tolist()) == expected


def test_a_clade_is_a_run_of_neighbours_in_leaf_order():
    tree = ward_linkage(np.random.default_rng(4).normal(size=(50, 3)))
    order = leaf_order(tree).tolist()
    for leaf in range(50):
        members = clade(tree, leaf, 8).tolist()
        start = order.index(members[0])
        assert order[start : start + len(members)] == members
        assert leaf in members


def test_cophenetic_correlation_is_scipys_for_all_and_for_some():
    values = np.random.default_rng(5).normal(size=(40, 5))
    tree = ward_linkage(values)
    distances = pdist(values)
    expected, heights = cophenet(tree, distances)
    assert cophenetic_correlation(values, tree, np.arange(40)) == pytest.approx(expected, abs=1e-12)
    some = np.sort(np.random.default_rng(0).permutation(40)[:11])
    square = np.zeros((40, 40))
    square[np.triu_indices(40, 1)] = heights
    pairs = np.array([(i, j) for a, i in enumerate(some) for j in some[a + 1 :]])
    theirs = np.corrcoef(
        square[pairs[:, 0], pairs[:, 1]], np.linalg.norm(values[pairs[:, 0]] - values[pairs[:, 1]], axis=1)
    )
    assert cophenetic_correlation(values, tree, some) == pytest.approx(theirs[0, 1], abs=1e-12)


def test_planted_clusters_are_found():
    (result,) = evaluate("hierarchical-clustering", blobs(), k=4)
    assert result.metrics["adjusted_rand_index"] == 1
    table = result.tables["proteins"]
    assert table.groupby("cluster")["label"].nunique().eq(1).all()
    assert table["cluster"].tolist() == sorted(table["cluster"])  # in leaf order
    assert result.details["sizes"] == {"A": 6, "B": 6, "C": 6, "D": 6}


def test_planted_subclusters_are_found_within_clusters():
    rng = np.random.default_rng(0)
    outer, inner = np.repeat(np.arange(3), 20), np.repeat(np.arange(6), 10)
    values = rng.normal(size=(3, 10))[outer] * 10 + rng.normal(size=(6, 10))[inner] * 2 + rng.normal(0, 0.05, (60, 10))
    adata = features_of(values, [f"P{i}" for i in range(60)], label=[f"s{i}" for i in inner])
    (result,) = evaluate("hierarchical-clustering", adata, k=3, subclusters=6)
    assert result.metrics["adjusted_rand_index_of_subclusters"] == 1
    assert sorted(result.details["sizes"]) == ["A", "A1", "A2", "B", "B1", "B2", "C", "C1", "C2"]


def test_proteins_are_means_of_their_cells_standardised():
    adata = blobs(spread=1.0)
    found = proteins_of(adata, "label")
    frame = pd.DataFrame(adata.X.astype(float)).groupby(adata.obs["protein"].to_numpy()).mean()
    expected = (frame - frame.mean()) / frame.std(ddof=0)
    assert found.names.tolist() == frame.index.tolist()
    np.testing.assert_allclose(found.features, expected, atol=1e-9)
    assert (found.n_cells == 5).all()


def test_a_subset_is_standardised_with_all_proteins():
    adata = blobs(spread=1.0)
    adata.obs["labels"] = [
        f"{t};other" if p == "P000" else t for p, t in zip(adata.obs["protein"], adata.obs["label"], strict=True)
    ]
    everyone = proteins_of(adata, "label")
    only, with_others = proteins_of(adata, "label", "TERM0"), proteins_of(adata, "label", "term0", "any")
    assert only.names.tolist() == [f"P{i:03d}" for i in range(1, 6)]
    assert with_others.names.tolist() == [f"P{i:03d}" for i in range(6)]
    np.testing.assert_array_equal(only.features, everyone.features[1:6])
    assert not np.allclose(only.features.mean(axis=0), 0, atol=0.1)


def test_nothing_depends_on_the_order_of_cells():
    adata = blobs(spread=1.0)
    shuffled = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    one, other = (
        evaluate("hierarchical-clustering", a, k=4, around=["", "P007"], clade_size=3) for a in (adata, shuffled)
    )
    for mine, theirs in zip(one, other, strict=True):
        assert mine.metrics == theirs.metrics
        assert mine.details == theirs.details
        for name, table in mine.tables.items():
            pd.testing.assert_frame_equal(table, theirs.tables[name], check_exact=True)


def test_the_clade_around_a_protein_is_listed():
    (result,) = evaluate("hierarchical-clustering", blobs(), k=4, around="P007", clade_size=6)
    assert result.details["clade"] == {"around": "P007", "proteins": 6, "label": "term1", "share_of_label": 1.0}
    assert sorted(result.tables["clade"]["protein"]) == [f"P{i:03d}" for i in range(6, 12)]
    assert len(result.tables["features"]) == 6


def test_clusters_of_a_file_may_overlap_and_what_does_not_match_is_counted(tmp_path):
    file = tmp_path / "clusters.csv"
    rows = [
        *[("A", f"P{i:03d}") for i in range(12)],
        *[("A1", f"P{i:03d}") for i in range(6)],
        ("B", "P020"),
        ("Z", "none"),
    ]
    file.write_text("cluster,protein\n" + "".join(f"{c},{p}\n" for c, p in [*rows, rows[0]]))
    assert len(read_clusters(file)) == len(rows)
    (result,) = evaluate("hierarchical-clustering", blobs(), clusters=str(file))
    assert result.details["sizes"] == {"A": 12, "A1": 6, "B": 1}
    note = result.details["clusters_file"]
    assert (note["unmatched_proteins"], note["unmatched_for_example"], note["clusters_without_proteins"]) == (
        1,
        ["none"],
        ["Z"],
    )
    table = result.tables["proteins"].set_index("protein")
    assert (table.loc["P003", "cluster"], table.loc["P003", "subcluster"]) == ("A", "A1")
    assert (table.loc["P023", "cluster"], table.loc["P023", "subcluster"]) == ("", "")


def test_levels_are_the_largest_and_the_smallest_cluster():
    outer, inner = levels({"A": np.arange(4), "A1": np.arange(2), "B": np.array([4])}, 6)
    assert outer.tolist() == ["A", "A", "A", "A", "B", ""]
    assert inner.tolist() == ["A1", "A1", "A", "A", "B", ""]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"k": 25}, "25 clusters were asked for, and there are 24 proteins"),
        ({"k": 4, "subclusters": 30}, "30 clusters were asked for"),
        (
            {"subset": "Golgi"},
            "0 proteins have only the term 'Golgi', and clustering needs 3; the terms are term0, term1",
        ),
        ({"around": "MKI67"}, "the protein 'MKI67', around which a clade is asked for, is not among the 24"),
        ({"k": 0}, "does not fit"),
        ({"clusters": "no-such-file.csv"}, "cannot be read as a table of clusters"),
    ],
)
def test_what_cannot_be_clustered_is_said(params, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate("hierarchical-clustering", blobs(), **params)


def test_nan_features_few_proteins_and_other_files_are_said(tmp_path):
    adata = blobs()
    adata.X[3, 2] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        evaluate("hierarchical-clustering", adata)
    with pytest.raises(UserError, match="at least 3 proteins, and the cells name 2"):
        evaluate("hierarchical-clustering", blobs(2, 1), k=1)
    (tmp_path / "other.csv").write_text("gene,cluster\nP000,A\n")
    with pytest.raises(UserError, match="no column 'protein'"):
        evaluate("hierarchical-clustering", blobs(), clusters=str(tmp_path / "other.csv"))
    (tmp_path / "mismatched.csv").write_text("protein,cluster\nX,A\n")
    with pytest.raises(UserError, match=r"no protein of .* is among the 24"):
        evaluate("hierarchical-clustering", blobs(), clusters=str(tmp_path / "mismatched.csv"))


def test_constant_features_give_one_height_and_finite_numbers():
    adata = blobs()
    adata.X[:] = 1
    (result,) = evaluate("hierarchical-clustering", adata, k=4)
    assert result.metrics["cophenetic_correlation"] == 0
    assert result.details["n_clusters"] == 4


def test_branches_join_the_middles_of_what_they_merge():
    lines = branches(HAND_MADE, np.arange(5.0))
    assert lines.shape == (4, 4, 2)
    np.testing.assert_array_equal(lines[0], [(0, 0), (1, 0), (1, 1), (0, 1)])
    np.testing.assert_array_equal(lines[3], [(1, 0.5), (5, 0.5), (5, 2.75), (3, 2.75)])
    some = branches(HAND_MADE, np.array([np.nan, np.nan, 0, 1, 2]))
    assert len(some) == 2  # only the merges within the drawn leaves


def test_heat_maps_are_drawn_of_all_proteins_and_of_a_clade(tmp_path):
    results = evaluate("hierarchical-clustering", blobs(), k=4, subclusters=7, around=["", "P007"], clade_size=6)
    drawn = dict(clustering_figures(results))
    assert len(drawn) == 4
    for stem, figure in drawn.items():
        assert all(file.stat().st_size > 1000 for file in save(figure, tmp_path / stem))


# ---- localization classes that clusters recover


def test_recovered_classes_are_those_of_a_loop_over_fishers_tests():
    rng = np.random.default_rng(0)
    names = np.array(["er", "golgi", "nuclei"])
    terms = [frozenset(rng.choice(names, size=1 + (i % 5 == 0), replace=False)) for i in range(60)]
    clusters = {name: np.flatnonzero(rng.random(60) < 0.3) for name in "ABCD"}
    clusters["E"] = np.array([i for i in range(60) if "er" in terms[i]][:9])
    found = recovered_classes(clusters, terms, 3).set_index("class")
    p = {}
    for cluster, positions in clusters.items():
        for name in names:
            inside, member = np.isin(np.arange(60), positions), np.array([name in t for t in terms])
            counts = [
                [(inside & member).sum(), (inside & ~member).sum()],
                [(~inside & member).sum(), (~inside & ~member).sum()],
            ]
            p[cluster, name] = fisher_exact(counts, alternative="greater").pvalue
    fdr = dict(zip(p, false_discovery_control(list(p.values())), strict=True))
    for name in names:
        best = min(clusters, key=lambda cluster: p[cluster, name])
        row = found.loc[name]
        assert row["cluster"] == best
        assert row["fdr"] == pytest.approx(fdr[best, name], rel=1e-9)
        assert row["recovered"] == (fdr[best, name] <= 0.05)
        assert row["proteins"] == sum(name in t for t in terms)
        assert (row["n"], row["N"]) == (sum(name in terms[i] for i in clusters[best]), len(clusters[best]))
    assert found["recovered"].to_dict() == {"er": True, "golgi": False, "nuclei": False}


def test_a_class_counts_where_enough_proteins_have_it_alone():
    terms = [frozenset({"a"})] * 4 + [frozenset({"b"})] * 3 + [frozenset({"b", "c"})] * 9
    clusters = {"A": np.arange(4), "B": np.arange(4, 16)}
    assert recovered_classes(clusters, terms, 4)["class"].tolist() == ["a"]
    assert recovered_classes(clusters, terms, 3)["class"].tolist() == ["a", "b"]
    assert recovered_classes(clusters, terms, 3)["proteins"].tolist() == [4, 12]
    assert recovered_classes(clusters, terms, 5).empty


def test_planted_classes_are_recovered_and_those_that_features_do_not_tell_are_not():
    adata = blobs(clusters=4, proteins=8)
    rng = np.random.default_rng(3)
    proteins = np.unique(adata.obs["protein"])
    told = adata.obs.groupby("protein")["label"].first()
    shuffled = dict(zip(proteins, rng.permutation(told[proteins]), strict=True))
    (result,) = evaluate("hierarchical-clustering", adata, k=4, min_class=8)
    assert result.metrics["recovered_classes"] == 1
    assert result.details["recovered_classes"] == {"recovered": 4, "classes": 4}
    assert (result.tables["classes"]["n"] == 8).all()
    adata.obs["label"] = [shuffled[p] for p in adata.obs["protein"]]
    (result,) = evaluate("hierarchical-clustering", adata, k=4, min_class=8)
    assert result.metrics["recovered_classes"] == 0
    (result,) = evaluate("hierarchical-clustering", adata, k=4)  # none has 30 proteins
    assert "recovered_classes" not in result.metrics
