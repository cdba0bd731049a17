"""Figure 6: dendrograms of one protein's cells. Pictures: nothing is printed that could be compared."""

import pytest

import pci_bench

FEATURES = "pci-conv3@lu2019-human"


def assert_a_tree_of_all_its_cells(result):
    """All cells of the protein, whatever their image: the paper clusters "the single cells of each protein"."""
    n = result.details["n_cells"]
    assert result.evaluator.params["of"] == "protein"
    tree, cells = result.tables["linkage"], result.predictions
    assert len(cells) == n
    assert cells["cell"].is_unique
    assert len(tree) == n - 1
    assert tree["height"].is_monotonic_increasing
    assert tree["cells"].iloc[-1] == n
    assert sum(result.details["clade_sizes"]) == n


@pytest.mark.parametrize("protein", ["SMPDL3A", "DECR1", "NEK1"])
def test_the_cells_of_a_protein_make_a_tree(paper, protein):
    (result,) = paper.results("human-single-cell", "hpa-v18", [FEATURES], protein=[protein])
    assert result.details["protein"] == protein
    assert_a_tree_of_all_its_cells(result)
    obs = pci_bench.load_dataset("hpa-v18").obs
    assert set(result.predictions["cell"]) == set(obs.loc[obs["protein"] == protein, "cell"])


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("human-single-cell")


def test_the_cells_of_the_most_variable_simulated_protein_make_a_tree(bundled):
    (result,) = bundled.run("human-single-cell", dataset="human-sim", features=["pci-conv3"])
    assert_a_tree_of_all_its_cells(result)
    with bundled.in_use():
        obs = pci_bench.load_dataset("human-sim").obs
    assert set(result.predictions["cell"]) == set(obs.loc[obs["protein"] == result.details["protein"], "cell"])
