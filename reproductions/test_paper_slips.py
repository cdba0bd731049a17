"""Where the paper contradicts itself, as far as printed numbers show it: docs/paper-slips.md, the page that lists them."""

from claims import UNSUPERVISED

from pci_bench.datasets import DATASETS
from pci_bench.datasets.chong2015_copies import DECLARATION
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reporting.tables.enrichment import printed
from pci_bench.reporting.tables.screens import printed_in_text

KS = [1, 5, 11, 25, 50]
VGG16, AUTOENCODER, CELLPROFILER, _ = UNSUPERVISED


def supplementary_table_1():
    """Return the printed accuracy by feature set and k."""
    table = TABLES.get("supplementary-table1")
    return {
        name: {c.params["k"]: v for c, v in zip(table.columns, values, strict=True) if v != "none"}
        for name, values in table.printed.items()
    }


def test_the_rank_of_vgg16_and_cellprofiler_depends_on_k():
    rows = supplementary_table_1()
    assert [k for k in KS if rows[VGG16][k] > rows[CELLPROFILER][k]] == [1, 5, 11]


def test_k_11_is_best_for_all_sets_but_the_autoencoder():
    best = {name: max(row, key=row.__getitem__) for name, row in supplementary_table_1().items()}
    assert {name for name, k in best.items() if k != 11} == {AUTOENCODER}


def test_the_autoencoder_alone_is_printed_twice_alike_and_rises_to_50():
    rows = supplementary_table_1()
    assert [name for name, row in rows.items() if row[11] == row[25]] == [AUTOENCODER]
    assert [name for name, row in rows.items() if row[50] > row[11]] == [AUTOENCODER]


def test_merging_spindles_alone_leaves_another_number_of_classes_than_printed():
    maps = {name: declared["classes"] for name, declared in DECLARATION["maps"].items()}
    assert maps["merge"] != DATASETS.get("chong2015").meta.paper["classes"] == maps["drop"]


def test_table_3_has_30_rows_of_27_clusters():
    table = printed()
    assert (len(table), table["cluster"].nunique()) == (30, 27)
    majors = table["cluster"].str.fullmatch("[A-M]")
    assert (table.loc[majors, "cluster"].nunique(), table.loc[~majors, "cluster"].nunique()) == (13, 14)
    assert sorted(table.loc[table["cluster"].duplicated(), "cluster"]) == ["A2", "B", "F"]


def test_specks_and_the_spliceosome_are_in_other_clusters_than_the_text_says():
    by_term = printed().groupby("term")["cluster"].agg(list)
    assert by_term["Nuclear Speck"] == ["A2", "A3", "M2"]
    assert by_term["Spliceosomal Complex"] == ["A2"]
    assert "A1" in by_term["Chromosomal Part"]


def test_within_a_cell_line_conv4_is_behind_the_classic_features():
    table = TABLES.get("table2")
    same = [c.header for c in table.columns].index("same cell line")
    assert table.printed["pci-conv4@lu2019-human"][same] > table.printed["classic-haralick"][same]


def test_numbers_of_the_text_say_where_they_are_from():
    for name, entry in printed_in_text().items():
        assert entry["source"].startswith("Lu et al. 2019, "), name
        assert entry["what"], name
        assert entry["held_by"], name
