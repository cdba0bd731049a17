"""Proteins of the paper's own screen, as published by its first author: counts, and kNN as scikit-learn computes it."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

import pci_bench


@pytest.fixture
def proteins(published):
    with published.in_use():
        return pci_bench.load_dataset("yeast-proteome")


def test_the_files_hold_the_counted_proteins_and_localizations(proteins, published):
    obs = proteins.obs
    assert len(obs) == obs["protein"].nunique() == 3952
    assert (int((obs["labels"] != "").sum()), int(obs["label"].notna().sum()), obs["label"].nunique()) == (
        3581,
        2347,
        21,
    )
    frequent = obs[obs["frequent"] == "yes"]
    assert (len(frequent), frequent["label"].nunique()) == (2308, 17)
    with published.in_use():
        screens = pci_bench.load_dataset("yeast-proteome-screens").obs
    assert screens["screen"].value_counts().to_dict() == {"RAP3": 4010, "WT2": 3952, "ALP3": 3851}


def test_knn_of_17_localizations_is_that_of_scikit_learn(proteins, published):
    kept = (proteins.obs["frequent"] == "yes").to_numpy()
    values = StandardScaler().fit_transform(proteins.profiles()[0][kept].astype(np.float64))
    labels = proteins.obs["label"][kept].astype(str).to_numpy()
    neighbors = (
        KNeighborsClassifier(12, algorithm="brute").fit(values, labels).kneighbors(values, return_distance=False)
    )
    votes = labels[np.array([[j for j in row if j != i][:11] for i, row in enumerate(neighbors)])]
    classes = np.unique(labels)
    predicted = classes[(votes[:, :, None] == classes).sum(axis=1).argmax(axis=1)]
    (result,) = [r for r in published.results("yeast-proteome-knn") if r.evaluator.params["k"] == 11]
    assert result.metrics["accuracy"] == pytest.approx((predicted == labels).mean())
    assert result.metrics["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert result.metrics["balanced_accuracy"] > 3 * result.details["chance"]["balanced_accuracy"]["high"]


def test_proteins_find_themselves_in_another_screen_far_more_often_than_by_chance(published):
    with published.in_use():
        features = pci_bench.extract("profiles", "yeast-proteome-screens")
    for result in pci_bench.evaluate("replicate-retrieval", features, scale=["within", "all"]):
        low, _ = result.intervals["recall_at_1"]
        assert low > 20 * result.metrics["recall_at_1_by_chance"]
