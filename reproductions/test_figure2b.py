"""Figure 2B: normalized average pairwise distance between images of the same localization term, human cells."""

import pytest
from claims import assert_claims, metric_of


def scores(results):
    """The score by feature set; the more negative, the nearer are images of one term."""
    return metric_of(results, "normalized_distance", statistic="z")


def test_all_scores_are_negative_and_paired_cell_inpainting_is_ahead_of_every_baseline(paper):
    assert_claims(paper.outcome("figure2b"))


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("human-distances")


def test_on_simulated_cells_images_of_one_term_are_nearer_and_noise_sees_no_difference(bundled):
    results = bundled.results("human-distances")
    score_by_set, p = scores(results), metric_of(results, "p")
    assert max(score for name, score in score_by_set.items() if name.startswith("pci-conv")) < -0.5
    assert abs(score_by_set["noise"]) < 0.1
    assert p["noise"] > 0.05
    assert p["pci-conv3@human-sim"] < 0.01


def test_the_score_is_the_mean_of_the_scores_of_the_terms(bundled):
    for result in bundled.results("human-distances"):
        terms = result.tables["terms"]
        assert result.metrics["normalized_distance"] == pytest.approx(terms["score"].mean())
        assert result.metrics["ratio"] == pytest.approx((terms["same"] / terms["different"]).mean())
