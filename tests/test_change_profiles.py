"""Proteins that changed between two screens: against a loop, planted changes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features
from scipy import stats

import pci_bench
from pci_bench.errors import UserError
from pci_bench.statistics.change_profiles import change_profiles


def by_loop(reference, condition, k):
    """Ten lines of NumPy for every protein and feature."""
    difference, scores = reference - condition, np.empty(reference.shape)
    for protein in range(len(reference)):
        distances = np.sqrt(((reference - reference[protein]) ** 2).sum(axis=1))
        nearest = [i for i in np.argsort(distances, kind="stable") if i != protein][:k]
        for feature in range(reference.shape[1]):
            median = np.median(difference[nearest, feature])
            mad = np.median(np.abs(difference[nearest, feature] - median))
            scores[protein, feature] = 0.6745 * (difference[protein, feature] - median) / mad
    return scores


@pytest.mark.parametrize("k", [3, 10, 79])
def test_scores_are_those_of_a_loop(k):
    rng = np.random.default_rng(0)
    reference, condition = rng.normal(size=(2, 80, 4))
    np.testing.assert_allclose(change_profiles(reference, condition, k), by_loop(reference, condition, k), rtol=1e-10)


def test_a_protein_is_not_its_own_neighbour_even_among_duplicates():
    rng = np.random.default_rng(1)
    reference = np.repeat(rng.normal(size=(8, 3)), 6, axis=0)
    condition = reference + rng.normal(size=(48, 3))
    np.testing.assert_allclose(change_profiles(reference, condition, 5), by_loop(reference, condition, 5))


def test_without_spread_there_is_no_score():
    reference = np.random.default_rng(0).normal(size=(10, 2))
    condition = reference.copy()
    condition[:, 1] += np.arange(10)
    scores = change_profiles(reference, condition, 4)
    assert np.isnan(scores[:, 0]).all()
    assert np.isfinite(scores[:, 1]).all()


def screens(n=120, d=5, seed=0, cells=1):
    """Two screens in which a treatment shifts all proteins of one class, and one protein of the other class."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, d)) + 10 * (np.arange(n) < n // 2)[:, None]
    treated = base + 0.1 * rng.normal(size=(n, d)) + 3.0 * (np.arange(n) < n // 2)[:, None]
    treated[n - 1] += 3.0
    values = np.concatenate([np.repeat(base, cells, axis=0), np.repeat(treated, cells, axis=0)])
    names = np.repeat([f"P{i:03}" for i in range(n)], cells)
    return make_features(
        values,
        {"dataset": {"name": "screened"}},
        protein=np.tile(names, 2),
        screen=np.repeat(["WT2", "RAP3"], n * cells),
    )


@pytest.mark.parametrize("cells", [1, 3])
def test_a_change_that_neighbours_share_is_none_and_one_of_its_own_is_first(cells):
    (result,) = pci_bench.evaluate("change-profiles", screens(cells=cells), neighbours=20)
    table = result.tables["changes"]
    assert table["protein"].iloc[0] == "P119"
    assert table["score"].iloc[0] > 5 * table["score"].iloc[1]
    assert result.evaluator.params["condition"] == "RAP3"  # the one besides WT2
    assert result.metrics["proteins"] == 120
    assert 5 / 600 <= result.metrics["large_scores"] < 0.1
    scores = table.filter(regex="^[0-9]|^x").to_numpy() if cells == 0 else table.iloc[:, 3:].to_numpy()
    assert result.metrics["large_scores"] == pytest.approx((np.abs(scores) > 3).mean())
    np.testing.assert_allclose(table["score"], np.sqrt((scores**2).mean(axis=1)))
    shares = (np.abs(scores) > 3).mean(axis=1)
    half = stats.t.ppf(0.975, 119) * shares.std(ddof=1) / np.sqrt(120)
    low, high = result.intervals["large_scores"]
    assert (low, high) == pytest.approx((max(shares.mean() - half, 0), shares.mean() + half))


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"condition": "ALP3"}, "screened has no screen 'ALP3' in its column 'screen', but RAP3, WT2"),
        (
            {"reference": "WT1"},
            "screened has the screens RAP3, WT2 in its column 'screen'; name one of them as condition",
        ),
        ({"by": "plate"}, "screened has no column 'plate' that tells screens apart"),
        ({"neighbours": 120}, "120 proteins are in both screens, WT2 and RAP3, of screened; 120 neighbours need 121"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(params, sentence):
    with pytest.raises(UserError) as error:
        pci_bench.evaluate("change-profiles", screens(), **params)
    assert sentence in str(error.value)
