"""Supplementary Table 2: logistic regression and random forest, 5-fold cross-validation.

With the paper's 30,889 cells, a random forest of 500 trees would take about half an hour of one core for each feature set (extrapolated; speed/classifiers.py).
"""

import pytest
from claims import CONV4, SUPERVISED, UNSUPERVISED, assert_above, metric_of

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.benchmarks import BENCHMARKS

CLASSIFIERS = ["logistic-regression", "random-forest"]


def accuracy_of(results, classifier):
    of_classifier = [r for r in results if r.evaluator.name == classifier]
    return metric_of(of_classifier, "balanced_accuracy", exclude="cell", folds=5, scale="fold")


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_conv4_is_above_every_unsupervised_set(paper, classifier):
    results = paper.results("yeast-classifiers", "chong2015", [CONV4], besides=UNSUPERVISED, exclude=["cell"])
    accuracy = accuracy_of(results, classifier)
    others = set(accuracy) - {CONV4}
    assert others, "nothing besides conv4 could be run"
    assert_above(CONV4, others, accuracy)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_the_supervised_set_is_not_below_conv4(paper, classifier):
    results = paper.results("yeast-classifiers", "chong2015", [CONV4, SUPERVISED], exclude=["cell"])
    accuracy = accuracy_of(results, classifier)
    assert accuracy[SUPERVISED] >= accuracy[CONV4]


def test_no_number_moved(bundled):
    bundled.assert_nothing_moved("yeast-classifiers")


def test_the_benchmark_runs_both_classifiers_with_the_papers_parameters():
    declared = {e.name: e for e in BENCHMARKS.get("yeast-classifiers").evaluate}
    assert set(CLASSIFIERS) <= set(declared)
    logistic, forest = (EVALUATORS.get(name).Params() for name in CLASSIFIERS)
    assert (logistic.folds, logistic.c, logistic.scale) == (5, 1.0, "fold")
    assert (forest.folds, forest.trees, forest.max_features, forest.scale) == (5, 500, 0.2, "fold")
