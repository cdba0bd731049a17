"""UMAP of cells and proteins: what goes in is right, one seed is one picture, and nothing depends on the order of the cells."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from factories import make_features
from sklearn.manifold import trustworthiness

from pci_bench import UserError, evaluate
from pci_bench.evaluators.embedding import embedding_quality, most_common, protein_means


def blobs(per=25, d=6, seed=0, **columns) -> AnnData:
    """Three distant classes."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(["a", "b", "c"], per)
    features = rng.normal(size=(3 * per, d)) + 12 * np.eye(d)[np.repeat([0, 1, 2], per)]
    return make_features(features, cell=[f"c{i:03d}" for i in range(3 * per)], label=labels, **columns)


def test_cells_of_distant_classes_lie_apart():
    (result,) = evaluate("umap", blobs(), neighbours=10)
    table = result.predictions
    centres = table.groupby("label")[["umap_1", "umap_2"]].mean()
    spread = table.groupby("label")[["umap_1", "umap_2"]].std().to_numpy().max()
    distances = [np.linalg.norm(centres.loc[p] - centres.loc[q]) for p, q in (("a", "b"), ("a", "c"), ("b", "c"))]
    assert min(distances) > 2 * spread
    assert result.metrics["label_agreement"] > 0.95


def test_one_seed_is_one_embedding_whatever_the_order_of_the_cells():
    adata = blobs()
    order = np.random.default_rng(1).permutation(adata.n_obs)
    (first,), (again,), (shuffled,) = (evaluate("umap", a, neighbours=10) for a in (adata, adata, adata[order].copy()))
    pd.testing.assert_frame_equal(first.predictions, again.predictions)
    moved = shuffled.predictions.sort_values("cell").reset_index(drop=True)
    pd.testing.assert_frame_equal(first.predictions, moved)
    assert first.metrics == again.metrics == shuffled.metrics


def test_a_protein_is_the_mean_of_its_cells_and_nameless_cells_are_left_out():
    features = np.array([[1.0, 2], [3, 4], [10, 10], [7, 7]])
    means, names = protein_means(features, np.array(["x", "x", "y", ""]))
    assert names.tolist() == ["x", "y"]
    assert means.tolist() == [[2, 3], [10, 10]]


def test_a_proteins_label_is_its_most_frequent_one_and_ties_go_to_the_first():
    values = np.array(["b", "a", "a", "b", "c", ""])
    groups = np.array(["x", "x", "y", "y", "y", "z"])
    assert most_common(values, groups, np.array(["x", "y", "z"])).tolist() == ["a", "a", ""]


def test_proteins_are_embedded_by_their_standardised_means():
    adata = blobs(per=40, protein=[f"p{i % 12}{label}" for i, label in enumerate(np.repeat(["a", "b", "c"], 40))])
    (result,) = evaluate("protein-umap", adata, neighbours=5)
    table = result.tables["proteins"]
    assert len(table) == 36
    assert table["n_cells"].sum() == 120
    assert (table["protein"].str[-1] == table["label"]).all()


def test_trust_is_what_scikit_learn_says_and_agreement_is_a_share_of_neighbours():
    rng = np.random.default_rng(0)
    features, coordinates = rng.normal(size=(60, 5)), rng.normal(size=(60, 2))
    labels = np.where(np.arange(60) < 20, "", np.array(["u", "v"])[np.arange(60) % 2])
    found = embedding_quality(features, coordinates, labels, 0)
    assert found["trustworthiness"] == pytest.approx(trustworthiness(features, coordinates, n_neighbors=15))
    agreeing = []
    for i in range(20, 60):
        others = [j for j in range(20, 60) if j != i]
        near = sorted(others, key=lambda j: np.linalg.norm(coordinates[i] - coordinates[j]))[:15]
        agreeing.append(np.mean([labels[j] == labels[i] for j in near]))
    assert found["label_agreement"] == pytest.approx(np.mean(agreeing))


def test_nan_too_few_cells_and_too_few_proteins_are_sentences():
    adata = blobs()
    with pytest.raises(UserError, match="at least 3"):
        evaluate("umap", adata[:2].copy())
    with pytest.raises(UserError, match="proteins needs at least 3"):
        evaluate("protein-umap", adata)
    adata.X[0, 0] = np.nan
    with pytest.raises(UserError, match="NaN"):
        evaluate("umap", adata)
