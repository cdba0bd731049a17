"""What a page shows first: the first feature set that the benchmark lists, and the evaluator's own number of neighbours."""

from __future__ import annotations

import pytest
from factories import make_result

from pci_bench import UserError
from pci_bench.benchmarks import BENCHMARKS, Benchmark, Evaluation
from pci_bench.features.names import headline_of
from pci_bench.reporting.headline import first_features, headline_k
from pci_bench.reporting.html.classes import featured

SCORES = {"intensity": 0.5, "noise": 0.9, "pci-conv3": 0.7, "pci-conv4": 0.6}


def classified(features, *, benchmark="mine", k=11, default=11):
    evaluator = {"params": {"k": k, "exclude": "cell"}, "key": ("k", "exclude"), "defaults": {"k": default}}
    return make_result(
        benchmark=benchmark,
        features={"name": features},
        evaluator=evaluator,
        metrics={"balanced_accuracy": SCORES[features]},
    )


def names(results):
    return [r.features.name for r in featured(results)]


@pytest.fixture
def declare(own_registries):
    """Register a benchmark named mine that lists some features."""

    def register(*features):
        evaluations = (Evaluation(name="loo-knn"),)
        benchmark = Benchmark(name="mine", title="Mine", datasets=("a",), features=features, evaluate=evaluations)
        BENCHMARKS.register("mine", benchmark)

    return register


def test_the_first_feature_set_of_a_benchmark_is_shown_before_better_ones(declare):
    declare("intensity", "noise", "pci")
    results = [classified(name) for name in SCORES]
    assert names(results) == ["intensity", "noise", "pci-conv3", "pci-conv4"]


def test_of_a_family_that_a_benchmark_lists_first_its_headline_is_shown_first(declare):
    declare("pci", "noise")
    assert names([classified(name) for name in SCORES]) == ["pci-conv4", "noise", "pci-conv3", "intensity"]


@pytest.mark.parametrize("benchmark", [None, "of-a-package-that-is-not-here"])
def test_where_no_benchmark_is_known_the_best_is_shown_first(benchmark):
    results = [classified(name, benchmark=benchmark) for name in SCORES]
    assert first_features(results) == {}
    assert names(results) == ["noise", "pci-conv3", "pci-conv4", "intensity"]


def test_a_benchmark_whose_features_are_not_here_has_no_headline(declare):
    declare("of-a-package-that-is-not-here", "noise")
    assert first_features([classified("noise")]) == {}


def test_every_benchmark_of_ours_has_a_headline():
    first = first_features([classified("noise", benchmark=name) for name in BENCHMARKS.names()])
    assert set(first) == set(BENCHMARKS.names())
    assert first["yeast-knn"] == "pci-conv4"
    assert first["human-proteome"] == "pci-conv3"


@pytest.mark.parametrize(
    ("ks", "default", "shown"), [([1, 5, 11], 11, 11), ([1, 5, 11], 5, 5), ([1, 3, 25], 11, 3), ([1], 11, 1)]
)
def test_the_default_of_the_evaluator_is_the_number_of_neighbours_that_is_shown(ks, default, shown):
    results = [classified("noise", k=k, default=default) for k in ks]
    assert headline_k(results) == shown
    assert [r.evaluator.params["k"] for r in featured(results)] == [shown]


def test_results_without_neighbours_have_no_number_of_them():
    result = make_result(evaluator={"name": "logistic-regression", "params": {}, "defaults": {}})
    assert headline_k([result]) is None


def test_a_group_stands_for_the_first_of_its_families():
    assert headline_of("controls").base == "intensity"
    with pytest.raises(UserError, match="no feature set named 'nothing-like-it'"):
        headline_of("nothing-like-it")
