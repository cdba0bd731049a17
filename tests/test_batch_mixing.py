"""Mixing of batches against t-SNE's perplexity search, root finding and SciPy's χ² test; planted mixtures are told from shuffled ones."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features
from scipy import stats
from scipy.optimize import brentq
from scipy.stats import chisquare, entropy
from sklearn.manifold import _utils

import pci_bench
from pci_bench.statistics.mixing import inverse_simpson, perplexity_weights, rejected


@pytest.mark.parametrize("perplexity", [2.0, 5.0, 10.0])
def test_weights_have_the_perplexity_and_are_those_of_t_sne(perplexity):
    distances = np.sort(np.random.default_rng(0).gamma(3, size=(50, 30)), axis=1)
    weights = perplexity_weights(distances, perplexity)
    np.testing.assert_allclose(np.exp(entropy(weights, axis=1)), perplexity)
    theirs = _utils._binary_search_perplexity(np.square(distances).astype(np.float32), perplexity, 0)
    np.testing.assert_allclose(weights, theirs, atol=1e-4)


def test_weights_are_those_of_a_root_finder_at_any_scale():
    for scale in (1e-6, 1.0, 1e6):
        distances = scale * np.array([[1.0, 1.5, 1.7, 2.0, 4.0, 9.0]])
        squares = np.square(distances[0] / scale)

        def kernel(beta, squares=squares):
            return np.exp(-beta * squares) / np.exp(-beta * squares).sum()

        beta = brentq(lambda b: entropy(kernel(b)) - np.log(3), 1e-6, 10)
        np.testing.assert_allclose(perplexity_weights(distances, 3.0)[0], kernel(beta), atol=1e-8)


def test_neighbours_that_are_all_equally_far_weigh_the_same():
    assert perplexity_weights(np.full((2, 4), 3.0), 2.0).tolist() == [[0.25] * 4] * 2


def test_the_inverse_simpson_index_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    weights, batches = rng.dirichlet(np.ones(12), 40), rng.integers(0, 5, (40, 12))
    expected = [1 / sum(w[b == batch].sum() ** 2 for batch in range(5)) for w, b in zip(weights, batches, strict=True)]
    np.testing.assert_allclose(inverse_simpson(weights, batches, 5), expected)


def test_a_cell_is_rejected_where_scipy_rejects_it():
    rng = np.random.default_rng(0)
    batches, shares = rng.choice(3, (200, 25), p=[0.6, 0.3, 0.1]), np.array([0.4, 0.4, 0.2])
    expected = [chisquare(np.bincount(row, minlength=3), 25 * shares).pvalue < 0.05 for row in batches]
    assert rejected(batches, shares).tolist() == expected
    with_absent = np.append(shares, 0.0)
    assert rejected(batches, with_absent).tolist() == expected


def cells(shift, *, seed=0, n=400):
    """Two classes that lie apart, unevenly on two plates; plates are displaced."""
    rng = np.random.default_rng(seed)
    label, plate = np.arange(n) % 2, (rng.random(n) < np.where(np.arange(n) % 2, 0.7, 0.3)).astype(int)
    values = rng.normal(size=(n, 2))
    values[:, 0] += 20 * label
    values[:, 1] += shift * plate
    provenance = {"dataset": {"name": "planted", "confounder": "plate"}}
    return make_features(values, provenance, label=[f"c{i}" for i in label], plate=[f"p{i}" for i in plate])


def test_plates_that_are_the_same_mix_as_if_shuffled_though_classes_are_unevenly_on_them():
    metrics = [r.metrics for seed in range(6) for r in pci_bench.evaluate("batch-mixing", cells(0, seed=seed))]
    assert np.mean([m["mixing"] for m in metrics]) == pytest.approx(1, abs=0.03)
    assert np.mean([m["accepted"] - m["accepted_null"] for m in metrics]) == pytest.approx(0, abs=0.05)


def test_intervals_are_over_images_where_there_are_some():
    alone = cells(1.0)
    images = alone.copy()
    images.obs["image"] = [f"i{i // 20}" for i in range(images.n_obs)]
    (single,), (grouped,) = (pci_bench.evaluate("batch-mixing", a) for a in (alone, images))
    assert single.metrics == grouped.metrics
    assert "over cells" in single.details["interval"]
    of_cell = images.obs.set_index("cell")["image"]
    table = grouped.predictions
    means = table.groupby(of_cell.loc[table["cell"]].to_numpy(str))["ilisi"].mean()  # images of one size
    half = stats.t.ppf(0.975, 19) * means.std(ddof=1) / np.sqrt(20)
    assert np.diff(grouped.intervals["ilisi"]) / 2 == pytest.approx(half)


def test_the_further_plates_are_apart_the_less_they_mix():
    found = [pci_bench.evaluate("batch-mixing", cells(shift))[0].metrics for shift in (0, 2, 4, 1000)]
    for name in ("mixing", "accepted"):
        assert (np.diff([m[name] for m in found]) < 0).all()
    assert found[-1]["mixing"] == 0
    assert found[-1]["ilisi"] == 1
    assert found[-1]["accepted"] == 0


def test_classes_of_one_batch_or_few_cells_are_left_out_and_named():
    adata = cells(0)
    alone = (adata.obs["label"] == "c0").to_numpy()
    adata.obs.loc[adata.obs_names[alone], "plate"] = "p0"
    (result,) = pci_bench.evaluate("batch-mixing", adata)
    assert result.details["classes_left_out"] == ["c0"]
    assert result.details["cells"] == 200
    with pytest.raises(
        pci_bench.UserError, match="no class of planted has more than 200 cells in two values of 'plate'"
    ):
        pci_bench.evaluate("batch-mixing", adata, k=200)
