"""Whether proteins find themselves in another screen: ranks by a loop, averages by scikit-learn, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_features
from sklearn.metrics import label_ranking_average_precision_score

import pci_bench
from pci_bench.errors import UserError
from pci_bench.statistics.retrieval import match_ranks, retrieval_by_chance, retrieval_metrics
from pci_bench.statistics.scaling import standardized_within


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_those_of_a_loop(ties):
    rng = np.random.default_rng(0)
    gallery = rng.integers(0, 3, size=(700, 2)) if ties else rng.normal(size=(700, 5))
    matches = rng.permutation(700)[:600]
    queries = gallery[matches] + (rng.integers(0, 2, size=(600, 2)) if ties else rng.normal(size=(600, 5)))
    ranks = match_ranks(queries, gallery, matches)
    for query in range(0, 600, 7):
        distances = ((gallery - queries[query]) ** 2).sum(axis=1)
        own = distances[matches[query]]
        assert ranks[query] == 1 + sum(distances < own) + (sum(distances == own) - 1) / 2


def test_average_precision_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(40, 4)), rng.normal(size=(60, 4))
    matches = rng.permutation(60)[:40]
    truth = np.eye(60, dtype=int)[matches]
    scores = -np.linalg.norm(queries[:, None] - gallery, axis=2)
    ours = retrieval_metrics(match_ranks(queries, gallery, matches))["mean_average_precision"].mean()
    assert ours == pytest.approx(label_ranking_average_precision_score(truth, scores))


def test_chance_is_what_random_features_score():
    rng = np.random.default_rng(2)
    ranks = np.concatenate([match_ranks(*rng.normal(size=(2, 50, 8)), np.arange(50)) for _ in range(400)])
    for name, expected in retrieval_by_chance(50).items():
        assert retrieval_metrics(ranks)[name].mean() == pytest.approx(expected, rel=0.15)


def screens(noise, *, offset=0.0, n=60, cells=2, seed=0):
    """Proteins in three screens; one screen is offset and lacks the last ten proteins."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(n, 6))
    values, proteins, screen = [], [], []
    for number, name in enumerate(("A", "B", "C")):
        count = n - 10 * (name == "C")
        of_screen = base[:count] + offset * number + noise * rng.normal(size=(count, 6))
        values.append(np.repeat(of_screen, cells, axis=0) + 0.01 * rng.normal(size=(count * cells, 6)))
        proteins += [f"P{i}" for i in range(count) for _ in range(cells)]
        screen += [name] * count * cells
    return make_features(np.concatenate(values), {"dataset": {"name": "screened"}}, protein=proteins, screen=screen)


def test_proteins_that_look_the_same_find_themselves_and_strangers_do_not():
    (result,) = pci_bench.evaluate("replicate-retrieval", screens(0.0))
    assert result.metrics["recall_at_1"] == result.metrics["mean_average_precision"] == 1
    assert len(result.tables["ranks"]) == 2 * 60 + 4 * 50
    pairs = result.tables["pairs"]
    assert [*zip(pairs["from"], pairs["to"], strict=True)] == [
        ("A", "B"),
        ("A", "C"),
        ("B", "A"),
        ("B", "C"),
        ("C", "A"),
        ("C", "B"),
    ]
    (result,) = pci_bench.evaluate("replicate-retrieval", screens(50.0))
    low, high = result.intervals["mean_average_precision"]
    assert low < result.metrics["mean_average_precision_by_chance"] < high
    assert "metric" not in result.evaluator.params


def test_an_offset_between_screens_matters_unless_each_is_scaled_by_itself():
    within, together = pci_bench.evaluate("replicate-retrieval", screens(0.3, offset=5.0), scale=["within", "all"])
    assert within.metrics["recall_at_1"] > 0.9 > together.metrics["recall_at_1"] + 0.2
    (by_correlation,) = pci_bench.evaluate("replicate-retrieval", screens(0.3), metric="correlation", scale="none")
    assert by_correlation.evaluator.params["metric"] == "correlation"
    assert by_correlation.metrics["recall_at_1"] > 30 * by_correlation.metrics["recall_at_1_by_chance"]


@pytest.mark.parametrize(
    ("by", "sentence"),
    [
        ("plate", "screened has no column 'plate' that tells replicates apart"),
        ("protein", "no two values of the column 'protein' of screened have two proteins in common"),
    ],
)
def test_what_has_no_replicates_is_a_sentence(by, sentence):
    with pytest.raises(UserError) as error:
        pci_bench.evaluate("replicate-retrieval", screens(1.0), by=by)
    assert sentence in str(error.value)


def test_knn_may_standardise_each_screen_by_itself():
    adata = screens(0.3, offset=5.0, cells=1)
    adata.obs["label"] = [f"class{int(p[1:]) % 4}" for p in adata.obs["protein"]]
    codes = np.unique(adata.obs["screen"], return_inverse=True)[1]
    scaled = standardized_within(np.asarray(adata.X, np.float64), codes)
    for screen in range(3):
        np.testing.assert_allclose(scaled[codes == screen].mean(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(scaled[codes == screen].std(axis=0), 1)
    by_hand = adata.copy()
    by_hand.X = scaled
    ours, theirs = (
        pci_bench.evaluate("loo-knn", a, k=3, exclude="screen", scale=scale)[0]
        for a, scale in ((adata, "screen"), (by_hand, "none"))
    )
    assert ours.metrics == pytest.approx(theirs.metrics)
    with pytest.raises(UserError, match="scale = 'batch' is neither 'all' nor 'none' nor a column of screened"):
        pci_bench.evaluate("loo-knn", adata, scale="batch")
