"""Figure 3: UMAP of proteins in three yeast screens (and of simulated cells, for Supplementary Figure 3).

Pictures: no coordinate is compared, here or in the gate.
"""

import numpy as np
import pytest
from test_supplementary_figure3 import assert_a_map_of_cells

FEATURES = "pci-conv4@lu2019-yeast"


def assert_a_map_of_proteins(result):
    points = result.tables["proteins"]
    assert len(points) == result.details["n_points"] >= 3
    assert points["protein"].is_unique
    assert np.isfinite(points[["umap_1", "umap_2"]].to_numpy()).all()
    assert 0.5 < result.metrics["trustworthiness"] <= 1  # 0.5: neighbours at random


@pytest.mark.parametrize("screen", ["cyclops-wt2", "nop1pr-orf", "nup49-orf"])
def test_every_protein_of_a_screen_has_a_place(paper, screen):
    (result,) = paper.results("yeast-screens", screen, [FEATURES])
    assert_a_map_of_proteins(result)


def test_every_protein_of_the_simulated_cells_has_a_place(embedded):
    (result,) = embedded.run("yeast-screens", dataset="yeast-sim", features=["pci-conv4"])
    assert_a_map_of_proteins(result)
    assert result.tables["proteins"]["n_cells"].sum() == result.dataset.n_cells


def test_every_simulated_cell_has_a_place(embedded):
    (result,) = embedded.run("yeast-umap", dataset="yeast-sim", features=["intensity"], limit=200)
    assert_a_map_of_cells(result)
    assert result.evaluator.params["neighbours"] == 30
    assert result.evaluator.params["min_dist"] == 0.3
