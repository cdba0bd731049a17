"""Clusters and silhouettes beside shuffled labels, against scikit-learn and networkx; planted classes are found, absent ones are not."""

from __future__ import annotations

import networkx
import numpy as np
import pytest
from factories import make_features
from scipy.sparse.csgraph import connected_components
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score, silhouette_score
from sklearn.neighbors import kneighbors_graph

import pci_bench
from pci_bench.statistics.clustering import leiden_clusters, mean_silhouettes, neighbor_graph, shuffled_within


@pytest.mark.parametrize("alone", [False, True])
def test_silhouettes_are_those_of_scikit_learn_for_every_assignment(alone):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(700, 5))
    assignments = np.stack([rng.integers(0, labels, 700) for labels in (2, 3, 6, 6)])
    if alone:
        assignments[:, 0] = assignments.max() + 1
    expected = [silhouette_score(features, labels) for labels in assignments]
    np.testing.assert_allclose(mean_silhouettes(features, assignments), expected)


def test_the_graph_joins_nearest_neighbours_both_ways():
    features = np.random.default_rng(0).normal(size=(80, 3))
    directed = kneighbors_graph(features, 7).toarray()
    assert (neighbor_graph(features, 7).toarray() == np.maximum(directed, directed.T)).all()


def test_clusters_are_connected_the_same_for_a_seed_and_as_good_as_those_of_networkx():
    features = np.random.default_rng(0).normal(size=(400, 3))
    graph = neighbor_graph(features, 10)
    clusters = leiden_clusters(graph, 1.0, 0)
    assert (leiden_clusters(graph, 1.0, 0) == clusters).all()
    for cluster in np.unique(clusters):
        inside = clusters == cluster
        assert connected_components(graph[inside][:, inside])[0] == 1
    drawn = networkx.from_scipy_sparse_array(graph)

    def modularity(parts):
        return networkx.community.modularity(drawn, parts)

    louvain = modularity(networkx.community.louvain_communities(drawn, seed=0))
    assert modularity([set(np.flatnonzero(clusters == c)) for c in np.unique(clusters)]) > 0.98 * louvain
    assert leiden_clusters(graph, 0.2, 0).max() < clusters.max() < leiden_clusters(graph, 4.0, 0).max()


def cells(classes, *, apart=0.0, of_image=0.0, per_image=10, seed=0):
    """Cells of images with one label each, on two plates; classes and images are displaced."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(24), per_image)
    label = image % classes
    values = rng.normal(size=(len(image), 8)) + of_image * rng.normal(size=(24, 8))[image]
    values[np.arange(len(image)), label] += apart
    provenance = {"dataset": {"name": "planted", "confounder": "plate"}}
    plates = image // 12
    return make_features(
        values, provenance, label=[f"c{i}" for i in label], image=[f"i{i}" for i in image], plate=[f"p{i}" for i in plates]
    )  # fmt: skip


def test_values_and_nulls_are_those_of_scikit_learn_on_the_same_clusters():
    adata = cells(3, apart=3)
    (result,) = pci_bench.evaluate("clustering-agreement", adata, permutations=30)
    found = result.predictions.set_index("cell").loc[adata.obs["cell"]]
    labels, clusters = found["label"].to_numpy(), found["cluster"].to_numpy()
    assert result.metrics["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters))
    assert result.metrics["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
    rng = np.random.default_rng(9)
    null = [normalized_mutual_info_score(rng.permutation(labels), clusters) for _ in range(300)]
    assert result.metrics["nmi_null"] == pytest.approx(np.mean(null), abs=4 * np.std(null) / np.sqrt(30))
    assert result.metrics["nmi_excess"] == pytest.approx(result.metrics["nmi"] - result.metrics["nmi_null"])


def test_planted_classes_are_far_in_excess_of_their_null():
    (result,) = pci_bench.evaluate("clustering-agreement", cells(3, apart=12), scale="none", resolution=0.2)
    assert result.metrics["ari"] == 1
    for measure in ("nmi", "ari", "silhouette"):
        assert result.metrics[f"{measure}_excess"] > 0.5
        assert result.metrics[measure] > result.metrics[f"{measure}_null_95"]


def test_where_labels_mean_nothing_values_pass_the_nulls_95th_percentile_as_often_as_promised():
    passed = []
    for seed in range(30):
        (result,) = pci_bench.evaluate("clustering-agreement", cells(3, seed=seed, per_image=4), permutations=20)
        passed += [result.metrics[m] > result.metrics[f"{m}_null_95"] for m in ("nmi", "ari", "silhouette")]
    assert np.mean(passed) < 0.15


def test_images_that_are_unlike_each_other_are_in_excess_of_shuffled_cells_and_not_of_exchanged_images():
    by_null = {"cells": [], "images": []}
    for seed in range(8):
        for result in pci_bench.evaluate(
            "clustering-agreement", cells(3, of_image=3, seed=seed), null=["cells", "images"], permutations=40
        ):
            by_null[result.evaluator.params["null"]].append(result.metrics["nmi_z"])
    assert np.mean(by_null["cells"]) > 10
    assert abs(np.mean(by_null["images"])) < 1.5


def test_labels_shuffled_within_plates_keep_what_each_plate_has():
    rng = np.random.default_rng(0)
    labels, plates = rng.integers(0, 4, 200), rng.integers(0, 3, 200)
    for shuffled in shuffled_within(labels, plates, 5, 0):
        assert (shuffled != labels).any()
        for plate in range(3):
            assert (np.bincount(shuffled[plates == plate]) == np.bincount(labels[plates == plate])).all()


@pytest.mark.parametrize(
    ("params", "obs", "said"),
    [
        ({"null": "confounder"}, {"plate": "image"}, "every 'plate' of .* has one label.*use null=images"),
        ({"null": "images"}, {"image": "name"}, "all labelled cells of .* are of one image"),
        ({"k": 300}, {}, "k = 300 needs at least 301 labelled cells"),
        ({"null": "images"}, {"image": None}, "needs the column 'image' of every labelled cell"),
    ],
)
def test_a_null_that_would_change_nothing_is_refused(params, obs, said):
    adata = cells(3)
    adata.obs["name"] = "one"
    for column, other in obs.items():
        adata.obs[column] = adata.obs[other] if other else ""
    with pytest.raises(pci_bench.UserError, match=said):
        pci_bench.evaluate("clustering-agreement", adata, **params)
