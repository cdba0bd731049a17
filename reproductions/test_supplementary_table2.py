"""Supplementary Table 2: logistic regression and random forest, 5-fold cross-validation.

With the paper's 30,889 cells, a random forest of 500 trees would take about half an hour of one core for each feature set (extrapolated; speed/classifiers.py).
"""

from claims import assert_claims

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.benchmarks import BENCHMARKS

CLASSIFIERS = ["logistic-regression", "random-forest"]


def test_conv4_is_above_every_unsupervised_set_and_not_above_the_supervised_one(paper):
    assert_claims(paper.outcome("supplementary-table2"))


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("yeast-classifiers")


def test_the_benchmark_runs_both_classifiers_with_the_papers_parameters():
    declared = {e.name: e for e in BENCHMARKS.get("yeast-classifiers").evaluate}
    assert set(CLASSIFIERS) <= set(declared)
    logistic, forest = (EVALUATORS.get(name).Params() for name in CLASSIFIERS)
    assert (logistic.folds, logistic.c, logistic.scale) == (5, 1.0, "fold")
    assert (forest.folds, forest.trees, forest.max_features, forest.scale) == (5, 500, 0.2, "fold")
