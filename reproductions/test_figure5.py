"""Figure 5 and Supplementary Data 2: single cells between two compartments."""

import numpy as np
import pytest
from claims import assert_claims, metric_of

from pci_bench.statistics.compartments import compartment_scores

NOT_FOUND = pytest.mark.xfail(
    strict=True,
    reason="pci@human-sim does not order nucleoli and nucleoplasm on version 2, also not after a million pairs",
)


def medians(results, first, second, **params):
    return {
        which: metric_of(results, f"median_{which}", first=first, second=second, **params)
        for which in ("first", "second", "both")
    }


def test_single_classes_have_medians_of_opposite_sign_with_both_between(paper):
    """And of the ten images with the largest SD more are annotated as variable than of all, where a table says which are."""
    outcome = paper.outcome("figure5")
    if not any("annotated" in claim.text for claim in outcome.claims):
        paper.lacks(["hpa-v18: the Atlas' annotation of single-cell variability (column variability of images.csv)"])
    for claim in outcome.claims:
        paper.beside(f"{claim.text}: {claim.found}")
    assert_claims(outcome)


@pytest.mark.parametrize("first", ["cytosol", pytest.param("nucleoli", marks=NOT_FOUND)])
def test_the_most_variable_simulated_images_are_of_proteins_planted_to_vary(bundled, first):
    results = bundled.results("human-multilocalization")
    (result,) = [
        r
        for r in results
        if r.features.full_name == "pci-conv3@human-sim"
        and (r.evaluator.params["first"], r.evaluator.params["exclude"]) == (first, "protein")
    ]
    known = result.details["annotated_variable"]
    assert known["auc"] > 0.8
    assert result.metrics["annotated_variable"] > known["annotated_images"] / known["images"]


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("human-multilocalization")


@pytest.mark.parametrize("first", ["cytosol", pytest.param("nucleoli", marks=NOT_FOUND)])
def test_the_shipped_network_puts_both_between_the_single_classes(bundled, first):
    results = bundled.results("human-multilocalization")
    median_scores = {
        which: values["pci-conv3@human-sim"]
        for which, values in medians(results, first, "nucleoplasm", exclude="protein").items()
    }
    assert median_scores["first"] < 0 < median_scores["second"]
    assert median_scores["first"] < median_scores["both"] < median_scores["second"]


def test_the_score_changes_its_sign_where_the_compartments_change_places():
    rng = np.random.default_rng(0)
    features, annotation = rng.normal(size=(60, 5)), np.repeat([0, 1, 2], 20)
    swapped = np.array([1, 0, 2])[annotation]
    np.testing.assert_allclose(
        compartment_scores(features, swapped), -compartment_scores(features, annotation), atol=1e-12
    )


def test_a_cell_nearer_the_first_compartment_has_a_negative_score():
    """The Methods of the paper; the text of Figure 5A has the sign reversed."""
    features = np.array([[0.0], [0.2], [10.0], [10.2], [1.0]])
    scores = compartment_scores(features, np.array([0, 0, 1, 1, 2]))
    assert scores[4] == pytest.approx(np.log(0.9 / 9.1))  # nearest 0.1, the average of the first
