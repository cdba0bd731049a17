"""Benchmarks of metrics beside accuracy, from the command to their tables, on a few simulated cells."""

from __future__ import annotations

import re
from functools import cache

import pytest

import pci_bench
from pci_bench.reporting.describe import described

OF_METRICS = {"permutations": 19, "k": 5, "resolution": 1.0, "exclude": "confounder"}


@pytest.fixture(scope="module")
def of(tmp_path_factory, simulated_stores):
    """Return what a benchmark prints of two feature sets: its tables and figures, by name, as Markdown and SVG. A benchmark is run once."""

    @cache
    def run(benchmark, **parameters):
        folder = tmp_path_factory.mktemp(benchmark)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PCI_BENCH_CACHE", str(simulated_stores))
            output = pci_bench.run(
                benchmark,
                dataset="yeast-sim",
                features="intensity,noise",
                limit=150,
                parameters=parameters,
                out=folder,
            )
        assert not output.not_run
        return {file.stem: file.read_text() for file in (*folder.glob("tables/*.md"), *folder.glob("figures/*.svg"))}

    return run


def test_metrics_ranks_feature_sets_with_chance_and_significance_beside(of):
    table = of("metrics", **OF_METRICS)["metrics"]
    for text in ("| intensity ", "| noise ", "| by chance, other images only", "corrected p"):
        assert text in table


def test_no_agreement_with_clusters_stands_without_that_of_shuffled_labels(of):
    header = of("metrics", **OF_METRICS)["clusters"].splitlines()[2]
    for measure in ("NMI", "ARI", "silhouette"):
        assert f"| {measure}, shuffled labels " in header


def test_mixing_of_batches_stands_beside_that_of_shuffled_ones(of):
    assert "| iLISI, shuffled " in of("metrics", **OF_METRICS)["mixing"]


def test_calibration_has_chance_beside_its_error_and_sets_with_their_worst_class(of):
    tables = of("calibration", draws=20)
    assert "| by chance, kNN" in tables["calibration"]
    assert "| worst class, logistic regression" in tables["conformal"]


def test_a_figure_of_each_classifier_has_reliability_and_accuracy_by_the_share_kept(of):
    drawn = of("calibration", draws=20)
    for classifier in ("knn", "logistic-regression"):
        figure = drawn[f"calibration-yeast-sim-{classifier}"]
        for text in (
            "confidence",
            "share of cells kept",
            "all other cells",
            "other images only",
            "intensity (control)",
        ):
            assert text in figure


def test_complementarity_has_the_gain_by_fusion_beside_what_each_knows_alone(of):
    header = of("complementarity", k=5, beside="raw-pixels")["complementarity"].splitlines()[2]
    assert "| alone" in header


@pytest.mark.parametrize(
    "name",
    [
        "background-swap",
        "batch-mixing",
        "calibration",
        "clustering-agreement",
        "complementarity",
        "known-measures",
        "label-efficiency",
        "level-distances",
        "map",
        "nuisance-probe",
        "robustness",
        "rotation-sensitivity",
        "why-maps",
    ],
)
def test_an_evaluator_says_what_it_computes_after_whom_and_what_that_costs(name):
    ((_, rows),) = described(f"evaluator:{name}")
    said = dict(rows)
    assert "cost" in said or "Cost: " in said["about"]
    assert re.search(r"\d{4}.*(doi\s|arXiv|PMLR|NIPS)|Figure 2B", said["about"], re.DOTALL)
    assert "nterval" in said["about"] or "null" in said["about"]
