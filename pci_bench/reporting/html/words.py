"""Names of exclusions and parameters in a report."""

from __future__ import annotations

from pci_bench.api.evaluator import EVALUATORS
from pci_bench.reporting.candidates import Candidates
from pci_bench.runs.results import Result, key_and_defaults, metric_of


def exclusion(result: Result) -> str:
    """Return which neighbours, or training cells, a result may use."""
    return Candidates.of(result).words


def setting(result: Result) -> str:
    """Return evaluator and parameters but for the exclusion: ``loo-knn, k=11``."""
    params = result.telling_params(*key_and_defaults(result))
    settings = [f"{name}={value}" for name, value in params.items() if name not in ("exclude", "candidates")]
    return ", ".join([result.evaluator.name, *settings])


def evaluator_title(result: Result) -> str:
    """Return what a result's evaluator does, in a line."""
    name = result.evaluator.name
    return result.evaluator.title or (EVALUATORS.get(name).meta.title if name in EVALUATORS else name)


def metric_title(result: Result, metric: str) -> str:
    """Return a metric's name for a column: ``balanced accuracy (%)``."""
    unit = " (%)" if metric_of(result, metric).unit == "percent" else ""
    return f"{metric.replace('_', ' ')}{unit}"
