"""Supplementary Figure 3: UMAP of single cells. A picture: no coordinate is compared, here or in the gate.

The simulated cells are embedded in ``test_figure3.py``: UMAP is compiled once for each process, which takes longer than it runs.
"""

import numpy as np
import pytest

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.runs import gate


def assert_a_map_of_cells(result):
    points = result.predictions
    assert len(points) == result.dataset.n_cells
    assert np.isfinite(points[["umap_1", "umap_2"]].to_numpy()).all()
    assert 0.5 < result.metrics["trustworthiness"] <= 1  # 0.5: neighbours at random


@pytest.mark.parametrize(
    "features",
    [
        "pci-conv4@lu2019-yeast",
        "autoencoder-conv3@lu2019-yeast",
        "vgg16-gfp-only-block4_conv1@oxford",
        "deeploc-fc2@kraus2017",
    ],
)
def test_every_labelled_cell_has_a_place(paper, features):
    (result,) = paper.results("yeast-umap", "chong2015", [features])
    assert_a_map_of_cells(result)


def test_embeddings_are_never_gated():
    pictures = {name for name in EVALUATORS if not EVALUATORS.get(name).meta.other_metrics.reproducible}
    assert {"umap", "protein-umap"} <= pictures
    assert not pictures & {r.evaluator.name for r in gate.expected()}
