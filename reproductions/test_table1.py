"""Table 1, Supplementary Table 1 and Figure 2A: single-cell localization by leave-one-out kNN."""

from claims import assert_as_printed, assert_claims, metric_of

from pci_bench.inpainting import PairedCellInpainting
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reproduction.claims import CONV4


def test_table_1_is_as_printed_within_half_a_point(paper):
    assert_as_printed(paper.outcome("table1").numbers)


def test_the_layers_are_in_the_printed_order(paper):
    assert_claims(paper.outcome("table1"))


def test_conv4_is_above_every_unsupervised_set_and_not_above_the_supervised_one(paper):
    assert_claims(paper.outcome("supplementary-table1"))


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("yeast-knn")


def test_nothing_simulated_stands_beside_a_printed_number(bundled):
    assert [r for r in bundled.results("yeast-knn") if r.paper] == []


def test_every_layer_of_the_shipped_network_knows_more_than_noise_and_its_best_more_than_the_marker(bundled):
    accuracy = metric_of(bundled.results("yeast-knn"), "balanced_accuracy", k=11, exclude="cell")
    layers = {name: value for name, value in accuracy.items() if name.startswith("pci-conv")}
    assert min(layers.values()) > 2 * accuracy["noise"]
    assert max(layers.values()) > 2 * accuracy["marker-only@yeast-sim"]


def test_widths_and_number_of_parameters_are_the_papers():
    network = PairedCellInpainting(proteins=1, markers=1)
    assert [c.out_channels for c in network.source_encoder.convs] == [96, 256, 384, 384, 256]
    assert [c.out_channels for c in network.marker_encoder.convs] == [16, 32, 32]
    assert sum(t.numel() for t in network.state_dict().values() if t.is_floating_point()) == 7_323_521


def test_the_tables_agree_where_they_print_the_same():
    """Supplementary Table 1 prints conv4 at k = 11 again."""
    k11 = [c.header for c in TABLES.get("supplementary-table1").columns].index("k = 11")
    assert TABLES.get("supplementary-table1").printed[CONV4][k11] == TABLES.get("table1").printed[CONV4][0]
