"""How results are called in a report."""

from __future__ import annotations

from pci_bench.evaluators.base import EVALUATORS
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.tables import decimals_and_scale
from pci_bench.results import Result, parameters


def exclusion(result: Result) -> str:
    """Return which neighbours, or training cells, a result may use."""
    return Candidates.of(result).words


def setting(result: Result) -> str:
    """Return evaluator and parameters but for the exclusion: ``loo-knn, k=11``."""
    said = [p for p in parameters(result).split(",") if p and not p.startswith(("exclude=", "candidates="))]
    return ", ".join([result.evaluator.name, *said])


def evaluator_title(name: str) -> str:
    """Return what an evaluator does, in a line."""
    return EVALUATORS.get(name).meta.title if name in EVALUATORS else name


def metric_title(evaluator: str, metric: str) -> str:
    """Return a metric's name for a column: ``balanced accuracy (%)``."""
    unit = " (%)" if decimals_and_scale(evaluator, metric)[1] == 100 else ""
    return f"{metric.replace('_', ' ')}{unit}"
