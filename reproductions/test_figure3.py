"""Figure 3: UMAP of proteins in three yeast screens (and of simulated cells, for Supplementary Figure 3); distances of classes.

Pictures: no coordinate is compared, here or in the gate. The paper trained one network on each screen ("each model is
independent and trained on an independent dataset") and published that of CyCLOPS WT2 alone. So the other two screens want networks
of their own, which the user would have to bring; features of another screen's network are not what Figure 3 shows.
"""

import numpy as np
import pytest
from claims import assert_claims
from test_supplementary_figure3 import assert_a_map_of_cells

from pci_bench.reporting.tables.screens import printed_in_text
from pci_bench.reproduction.needs import State, weights_need
from pci_bench.statistics.class_distances import nearness

SCREENS = {  # and the network trained on each; only the first is published
    "cyclops-wt2": "pci-conv4@lu2019-yeast",
    "nop1pr-orf": "pci-conv4@lu2019-nop1pr",
    "nup49-orf": "pci-conv4@lu2019-nup49",
}


def assert_a_map_of_proteins(result):
    points = result.tables["proteins"]
    assert len(points) == result.details["n_points"] >= 3
    assert points["protein"].is_unique
    assert np.isfinite(points[["umap_1", "umap_2"]].to_numpy()).all()
    assert 0.5 < result.metrics["trustworthiness"] <= 1  # 0.5: neighbours at random


def of(results, evaluator):
    return [r for r in results if r.evaluator.name == evaluator]


@pytest.mark.parametrize("screen", SCREENS)
def test_every_protein_of_a_screen_has_a_place(paper, screen):
    (result,) = of(paper.results("yeast-screens", screen, [SCREENS[screen]]), "protein-umap")
    assert_a_map_of_proteins(result)


def test_most_classes_are_distinct_and_the_screens_agree_on_their_distances(paper):
    """ "A substantial degree of consistency between clusters in the distances of their learned representations." """
    assert_claims(paper.outcome("figure3"))


@pytest.mark.parametrize("screen", SCREENS)
def test_the_classes_that_the_paper_calls_near_are_near(paper, screen):
    (result,) = of(paper.results("yeast-screens", screen, [SCREENS[screen]]), "class-distances")
    for name, partner in printed_in_text()["near-classes"]["pairs"]:
        if (place := nearness(result.tables["distances"], name, partner)) is not None:  # labels are the user's
            assert place[0] <= max(1, place[1] // 2), f"{partner} is {place[0]}. of {place[1]} from {name}"


def test_the_networks_of_two_screens_were_not_published(monkeypatch, tmp_path):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    states = {screen: weights_need(features).state for screen, features in SCREENS.items()}
    assert states == {
        "cyclops-wt2": State.to_fetch,
        "nop1pr-orf": State.not_published,
        "nup49-orf": State.not_published,
    }


def test_every_protein_of_the_simulated_cells_has_a_place(bundled):
    (result,) = of(bundled.run("yeast-screens", dataset="yeast-sim", features=["pci-conv4"]), "protein-umap")
    assert_a_map_of_proteins(result)
    assert result.tables["proteins"]["n_cells"].sum() == result.dataset.n_cells


def test_every_simulated_cell_has_a_place(bundled):
    (result,) = bundled.run("yeast-umap", dataset="yeast-sim", features=["intensity"], limit=200)
    assert_a_map_of_cells(result)
    assert result.evaluator.params["neighbours"] == 30
    assert result.evaluator.params["min_dist"] == 0.3
