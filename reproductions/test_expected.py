"""The gate's runs on embedded data, the quick part of each: no number of `tables/expected` may move unnoticed."""

import pytest

from pci_bench import comparison, gate

QUICK = ("pci", "classic-haralick", "designed", "intensity", "marker-only", "noise", "raw-pixels")


@pytest.mark.parametrize("run", gate.declared_runs(), ids=lambda r: f"{r.benchmark}-{r.dataset}[embedded]")
def test_no_number_moved(run, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    features = [f for f in QUICK if f in run.features or "controls" in run.features]
    results = gate.gated_results([run.model_copy(update={"features": features})])
    asked = {comparison.key_of(r) for r in results}
    expected = [r for r in gate.expected(run.dataset) if comparison.key_of(r) in asked]
    found = comparison.compare(expected, results)
    assert found.same, (
        f"{comparison.markdown(found)}\nIf the change is meant: pci-bench gate --accept tables/expected, and say why in the commit."
    )
    assert not found.new
    assert len(expected) > len(features)
