"""Figure 4 and Table 3: clusters of all human proteins, and the cellular components that they stand for.

The clusters of the paper were picked by hand, so none of its numbers can be asserted.
"""

import pytest

from pci_bench.reporting.enrichment import printed

FEATURES = "pci-conv3@lu2019-human"
SUBSET = "vesicles"


def of(results, evaluator, **params):
    return [
        r
        for r in results
        if r.evaluator.name == evaluator and all(r.evaluator.params[k] == v for k, v in params.items())
    ]


def test_the_clade_around_mki67_holds_it_and_at_least_32_proteins(paper):
    results = paper.results("human-proteome", "hpa-v18", [FEATURES])
    (result,) = of(results, "hierarchical-clustering", around="MKI67")
    clade = result.tables["clade"]
    assert "MKI67" in set(clade["protein"])
    assert len(clade) >= 32


def test_no_number_moved(embedded):
    embedded.assert_nothing_moved("human-proteome")


def test_every_protein_is_in_one_cluster_and_the_clade_is_part_of_the_tree(embedded):
    results = embedded.results("human-proteome")
    clustered = of(results, "hierarchical-clustering", subset="")
    assert {r.features.name for r in clustered} == {"pci-conv3", "intensity"}
    for result in clustered:
        assert result.details["n_clusters"] == result.evaluator.params["k"]
        assert result.details["n_proteins"] == 103
        if around := result.evaluator.params["around"]:
            assert around in set(result.tables["clade"]["protein"])


def test_terms_are_found_in_clusters_of_learned_features(embedded):
    (learned,) = [r for r in of(embedded.results("human-proteome"), "go-enrichment") if r.features.name == "pci-conv3"]
    assert learned.metrics["enriched_clusters"] > 0


def test_the_printed_table_is_read_as_numbers_of_proteins():
    table = printed()
    assert (table["n"] <= table["N"]).all()
    assert table["fdr"].dropna().between(0, 0.05).all()
    assert table.loc[(table["cluster"] == "B") & (table["term"] == "Nucleoplasm"), ["n", "N"]].values.tolist() == [
        [303, 706]  # printed "303706"
    ]
    assert table.groupby("cluster")["N"].nunique().eq(1).all()
    rim = table[table["term"] == "Nucleolar Rim"].iloc[0]
    assert (rim["cluster"], rim["n"], rim["N"]) == ("D1", 14, 32)


def test_sub_clusters_are_smaller_than_their_clusters():
    sizes = printed().groupby("cluster")["N"].first()
    for name in sizes.index[sizes.index.str.len() > 1]:
        assert sizes[name] < sizes[name[0]], name


@pytest.mark.parametrize("subset", [SUBSET])
def test_a_subset_is_clustered_by_itself(embedded, subset):
    for result in of(embedded.results("human-proteome"), "hierarchical-clustering", subset=subset):
        assert 0 < result.details["n_proteins"] < 103
