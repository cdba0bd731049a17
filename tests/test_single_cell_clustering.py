"""The dendrogram of one protein's cells: planted states are found, and the choice of cells is what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from factories import make_features
from scipy.cluster.hierarchy import linkage

from pci_bench import UserError, evaluate
from pci_bench.evaluators.single_cell_clustering import clades, most_variable, representatives, ward_tree


def table(seed=0) -> AnnData:
    """Protein V has two states in one image, protein S is the same everywhere, image tiny is too small."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(46, 5))
    state = np.array(["left", "right"] * 10 + [""] * 26)
    features[:20, 0] += np.where(state[:20] == "left", -8, 8)
    image = ["v1"] * 20 + ["s1"] * 20 + ["tiny"] * 6
    protein = ["V"] * 20 + ["S"] * 20 + ["T"] * 6
    names = [f"c{i:02d}" for i in range(46)]
    return make_features(features, cell=names, image=image, protein=protein, state=state)


def test_all_cells_of_a_protein_are_clustered_whatever_their_image():
    """Figure 6: "we clustered the single cells of each protein"."""
    adata = table()
    adata.obs["image"] = np.where(adata.obs["protein"] == "V", [f"v{i % 4}" for i in range(46)], adata.obs["image"])
    (result,) = evaluate("single-cell-clustering", adata, clades=2, protein="V")
    assert set(result.predictions["cell"]) == {f"c{i:02d}" for i in range(20)}
    assert set(result.predictions["image"]) == {"v0", "v1", "v2", "v3"}
    assert result.metrics["adjusted_rand"] == pytest.approx(1)
    assert (result.details["n_images"], result.details["clade_images"]) == (4, [2, 2])  # states take turns
    (one,) = evaluate("single-cell-clustering", table(), clades=2, protein="V", of="image")
    assert one.details["image"] == "v1"


def test_the_most_variable_protein_is_taken_and_its_states_are_its_clades():
    (result,) = evaluate("single-cell-clustering", table(), clades=2)
    assert result.details["protein"] == "V"
    assert result.metrics["adjusted_rand"] == pytest.approx(1)
    assert result.predictions.groupby("clade")["state"].nunique().tolist() == [1, 1]
    assert sorted(result.predictions["leaf"]) == list(range(20))


def test_another_protein_can_be_asked_for():
    (result,) = evaluate("single-cell-clustering", table(), clades=2, protein="S", of="protein")
    assert set(result.predictions["cell"]) == {f"c{i}" for i in range(20, 40)}
    assert "adjusted_rand" not in result.metrics


def test_the_tree_is_wards():
    features = np.random.default_rng(0).normal(size=(30, 4))
    np.testing.assert_allclose(ward_tree(features)[:, 2], linkage(features, "ward")[:, 2])


def test_clades_are_numbered_from_left_to_right():
    from scipy.cluster.hierarchy import leaves_list

    tree = ward_tree(np.random.default_rng(1).normal(size=(25, 3)))
    numbers = clades(tree, 5)[leaves_list(tree)]
    assert numbers[0] == 0
    assert (np.diff(numbers) >= 0).all()
    assert numbers.max() == 4


def test_the_order_of_the_cells_does_not_matter():
    adata = table()
    order = np.random.default_rng(3).permutation(adata.n_obs)
    (first,), (other,) = (evaluate("single-cell-clustering", a, clades=3) for a in (adata, adata[order].copy()))
    pd.testing.assert_frame_equal(first.predictions, other.predictions)
    assert first.metrics == other.metrics


def test_representatives_are_nearest_to_the_mean_of_their_clade():
    features = np.array([[0.0], [1], [2], [10], [30]])
    assert representatives(features, np.array([0, 1, 2]), 2).tolist() == [1, 0]
    assert most_variable(np.repeat([[0.0], [0], [5]], 10, axis=0), np.repeat(["a", "b", "b"], 10), 2) == "b"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"protein": "X"}, "no protein 'X'"),
        ({"protein": "T"}, "T has fewer than 10 cells"),
        ({"protein": "T", "of": "image"}, "no image of T has 10 cells"),
    ],
)
def test_an_unknown_protein_and_too_few_cells_are_sentences(options, sentence):
    with pytest.raises(UserError, match=sentence):
        evaluate("single-cell-clustering", table(), **options)
