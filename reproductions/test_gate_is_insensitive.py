"""Another processor moves last digits; no number that the gate holds may move beyond its tolerance for that."""

from __future__ import annotations

import numpy as np
import pytest

from pci_bench.api.skipped import Skipped
from pci_bench.reporting.comparison import markdown
from pci_bench.runs import gate, runner

RELATIVE = 1e-6  # ten times the rounding of float32


def shaken(compute_features):
    """Return what gives the features of `compute_features`, each number changed by up to a millionth of itself."""

    def shaking(*arguments, **options):
        computed = compute_features(*arguments, **options)
        for number, (features, adata) in enumerate(computed.items()):
            if not isinstance(adata, Skipped):
                changes = np.random.default_rng(number).uniform(-RELATIVE, RELATIVE, adata.shape)
                adata = adata.copy()
                adata.X = (adata.X * (1 + changes)).astype(np.float32)
                computed[features] = adata
        return computed

    return shaking


@pytest.mark.parametrize("benchmark", [run.benchmark for run in gate.declared_runs()])
def test_no_gated_number_moves_when_features_move_by_a_millionth(bundled, monkeypatch, benchmark):
    before = bundled.results(benchmark)
    (declared,) = [r for r in gate.declared_runs() if r.benchmark == benchmark]
    monkeypatch.setattr(runner, "compute_features", shaken(runner.compute_features))
    quick = declared.model_copy(update={"features": declared.quick})
    comparison = gate.compared(before, gate.gated_results([quick], cache=bundled.cache))
    assert comparison.same, markdown(comparison)
    assert comparison.compared == len(before) > 0
