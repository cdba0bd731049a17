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


# What is run of a gated run; with -m slow, all of it.
LESS = {
    "yeast-knn": {"features": ["pci-conv4", "classic-haralick"]},
    "yeast-classifiers": {"parameters": {"trees": [20]}},
    "human-distances": {"features": ["pci-conv3"]},
    "human-cell-lines": {"features": ["pci-conv3"]},
}
FROM_CROPS = ("inpainting",)  # its numbers follow from crops, not from features
QUICK = [run.model_copy(update={"features": run.quick}) for run in gate.declared_runs()]
CASES = [
    pytest.param(
        run.model_copy(update=LESS.get(run.benchmark, {})),
        id=run.benchmark,
        marks=[pytest.mark.slow] if run.benchmark in FROM_CROPS else [],
    )
    for run in QUICK
]
CASES += [pytest.param(r, id=f"{r.benchmark}, all", marks=pytest.mark.slow) for r in QUICK if r.benchmark in LESS]


@pytest.mark.parametrize("run", CASES)
def test_no_gated_number_moves_when_features_move_by_a_millionth(bundled, monkeypatch, run):
    before = gate.gated_results([run], cache=bundled.cache)
    monkeypatch.setattr(runner, "compute_features", shaken(runner.compute_features))
    comparison = gate.compared(before, gate.gated_results([run], cache=bundled.cache))
    assert comparison.same, markdown(comparison)
    assert comparison.compared == len(before) > 0
