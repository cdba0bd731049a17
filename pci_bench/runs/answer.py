"""What results of one evaluation say together: who is best, who cannot be told apart from it, and what strictness costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from pci_bench.features.names import seeds_of
from pci_bench.runs.paired import separable
from pci_bench.runs.results import Result, metric_of


@dataclass(frozen=True)
class Standing:
    """What one feature set reaches, as a fraction where the metric is one.

    Parameters
    ----------
    name
        The feature set, with its weights; of several seeds without the seed.
    value
        Its number, the mean of several seeds.
    low, high
        Its 95 % interval; of several seeds the smallest and the largest number. None where there is none.
    seeds
        How many differ in nothing but the seed of their weights.
    """

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    seeds: int = 1


def standings(results: Sequence[Result], metric: str) -> list[Standing]:
    """Return what every feature set reaches in one column, the best first; seeds are one.

    Parameters
    ----------
    results
        Of one evaluator with one set of parameters on one dataset.
    metric
        A metric of theirs; results without it are left out.
    """
    by_name: dict[tuple[str, bool], list[Result]] = {}
    for result in results:
        if metric in result.metrics:
            by_name.setdefault(seeds_of(result.features.full_name), []).append(result)
    found = []
    for (shared, _), members in by_name.items():
        values = [r.metrics[metric] for r in members]
        if len(members) > 1:
            found.append(Standing(shared, mean(values), min(values), max(values), len(members)))
        else:
            low, high = members[0].intervals.get(metric, (None, None))
            found.append(Standing(members[0].features.full_name, values[0], low, high))
    sign = -1 if not results or metric_of(results[0], metric).higher_is_better else 1
    return sorted(found, key=lambda s: (sign * s.value, s.name))


def inseparable_from_best(results: Sequence[Result], metric: str) -> list[str]:
    """Return the names of the feature sets that cannot be told apart from the best one, better ones first.

    Each is compared with the best by :func:`pci_bench.runs.paired.separable`, at the level that a ranking of so many has.

    Parameters
    ----------
    results
        Those that compete, of one evaluator with one set of parameters on one dataset.
    metric
        What they are ranked by.
    """
    competing = [r for r in results if metric in r.metrics]
    if len(competing) < 2:
        return []
    sign = -1 if metric_of(competing[0], metric).higher_is_better else 1
    best, *others = sorted(competing, key=lambda r: (sign * r.metrics[metric], r.features.full_name))
    comparisons = len(competing) * (len(competing) - 1) // 2
    tied = []
    for other in others:
        pair = (best, other) if sign < 0 else (other, best)
        if not separable(*pair, metric, comparisons=comparisons):
            tied.append(other.features.full_name)
    return tied


def chance_level(results: Sequence[Result], metric: str) -> float | None:
    """Return what permuted labels score: measured where it was, one over the classes for balanced accuracy, else None.

    Parameters
    ----------
    results
        Of one column.
    metric
        As it is named in results.
    """
    levels: list[float] = [
        r.details["chance"][metric]["mean"] for r in results if metric in r.details.get("chance", {})
    ]
    if levels:
        return mean(levels)
    shuffled = [r.metrics[f"chance_{metric}"] for r in results if f"chance_{metric}" in r.metrics]
    if shuffled:
        return mean(shuffled)
    if metric == "balanced_accuracy" and results and results[0].dataset.classes:
        return 1 / len(results[0].dataset.classes)
    return None


def share_lost(loose: float, strict: float, loose_chance: float, strict_chance: float) -> float | None:
    """Return which share of what a number has above chance is gone in a stricter comparison; None where it has nothing above.

    >>> round(share_lost(0.9, 0.5, 0.1, 0.1), 3), share_lost(0.1, 0.1, 0.1, 0.1)
    (0.5, None)
    """
    above = loose - loose_chance
    return None if above <= 0 else (above - (strict - strict_chance)) / above
