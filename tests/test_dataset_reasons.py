"""Why cells cannot be evaluated: an evaluator is asked once, whatever the number of feature sets."""

from __future__ import annotations

from collections import Counter

import painted
import pydantic
import pytest
from factories import make_features

import pci_bench
from pci_bench import Evaluator, EvaluatorMeta, EvaluatorOutput, UserError, register_evaluator
from pci_bench.api.registry import Origin
from pci_bench.benchmarks import BENCHMARKS, Benchmark, Evaluation


@pytest.fixture
def asked(own_registries):
    """How often an evaluator is asked about the cells, and about features, by its parameter; 3 is one too many."""
    calls = {"cells": Counter(), "features": Counter()}

    @register_evaluator("columns")
    class Columns(Evaluator):
        meta = EvaluatorMeta("columns", "1", "Columns", "columns", key=("least",), order_invariant=True)
        Params = pydantic.create_model("Params", least=(int, 1))

        def dataset_reason(self, obs, dataset, params):
            calls["cells"][params.least] += 1
            return "three is one too many" if params.least == 3 else None

        def unavailable_reason(self, adata, params):
            calls["features"][params.least] += 1
            return f"there are {adata.n_vars} columns" if adata.n_vars < params.least else None

        def __call__(self, adata, param_sets, context):
            yield from (EvaluatorOutput(p.model_dump(), {"columns": float(adata.n_vars)}) for p in param_sets)

    return calls


def test_a_run_asks_an_evaluator_about_the_cells_once_for_every_parameter_and_about_each_feature_set(asked):
    painted.register()
    evaluations = (Evaluation(name="columns", least=[1, 3, 12]),)
    benchmark = Benchmark(name="mine", title="Mine", datasets=("painted",), features=("noise",), evaluate=evaluations)
    BENCHMARKS.register("mine", benchmark, origin=Origin(__file__, 1))
    output = pci_bench.run("mine", features=["intensity", "noise", "raw-pixels"], device="cpu")
    assert asked["cells"] == {1: 1, 3: 1, 12: 1}
    assert asked["features"] == {1: 3, 12: 3}  # not for what no features can mend
    assert {r.features.name for r in output if r.evaluator.params["least"] == 1} == {"intensity", "noise", "raw-pixels"}
    assert {s.reason for s in output.not_run} >= {"three is one too many"}


def test_from_python_it_is_asked_once_too_and_a_value_that_cannot_be_is_refused(asked):
    features = make_features([[1.0, 2.0], [3.0, 4.0]])
    (result,) = pci_bench.evaluate("columns", features, least=1)
    assert result.metrics == {"columns": 2.0}
    assert asked["cells"] == {1: 1}
    for least, reason in ((3, "three is one too many"), (5, "there are 2 columns")):
        with pytest.raises(UserError, match=f"columns cannot be run with least = {least}: {reason}"):
            pci_bench.evaluate("columns", features, least=[1, least])
