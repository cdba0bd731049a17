"""Ladders: one feature set's number at every level of strictness, and how far it falls from each to the next.

As other statistics of several results (:mod:`pci_bench.runs.screens`) they are computed from results and their tables when they are
asked for: the levels of a run may have been evaluated by several commands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.api.evaluator import Metric
from pci_bench.data.observations import strictness
from pci_bench.errors import UserError
from pci_bench.runs.answer import chance_level
from pci_bench.runs.paired import paired_difference
from pci_bench.runs.results import Result, headline, key_and_defaults, metric_of

LEVEL_PARAMS = ("exclude", "candidates")  # in which the results of one ladder differ


@dataclass(frozen=True)
class Drop:
    """How much worse a number is at a stricter level: larger is worse, below 0 it is better there.

    Parameters
    ----------
    loose, strict
        Positions of the two levels in the ladder.
    value, interval
        What is lost, and its 95 % interval, paired over the same cells; None where results keep nothing to pair them by.
    unit
        What the interval draws anew, or "".
    """

    loose: int
    strict: int
    value: float
    interval: tuple[float, float] | None
    unit: str


@dataclass(frozen=True)
class Ladder:
    """One feature set's results of one evaluator that differ in the level of strictness, the loosest first.

    Parameters
    ----------
    candidates
        ``balanced`` where classes are balanced at every level but that of the cell, else ``all``.
    settings
        The parameters that all have in common, those that are not the default.
    metric, form
        What is measured, and how it is printed.
    levels, chance
        The results, and what permuted labels score at each; None where nobody knows it.
    drops
        From each level to the next; of three or more levels also from the first to the last.
    """

    candidates: str
    settings: dict[str, Any]
    metric: str
    form: Metric
    levels: tuple[Result, ...]
    chance: tuple[float | None, ...]
    drops: tuple[Drop, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The obs columns of the levels."""
        return tuple(str(r.evaluator.params["exclude"]) for r in self.levels)

    @property
    def features(self) -> str:
        """The feature set, with its weights."""
        return self.levels[0].features.full_name

    @property
    def dataset(self) -> str:
        """The dataset's name."""
        return self.levels[0].dataset.name


def ladders(results: Sequence[Result]) -> list[Ladder]:
    """Return every ladder of two levels or more that some results hold, in the order of the results.

    Parameters
    ----------
    results
        Of any evaluators with a parameter ``exclude``, feature sets and datasets.

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> (ladder,) = ladders(pci_bench.evaluate("loo-knn", intensity, exclude=["image", "cell"]))
    >>> ladder.columns, f"{ladder.drops[0].value:.3f}", ladder.drops[0].unit
    (('cell', 'image'), '0.148', 'image')
    """
    by_ladder: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        params = result.evaluator.params
        if "exclude" in params and headline(result) in result.metrics:
            common = sorted((n, str(v)) for n, v in params.items() if n not in LEVEL_PARAMS)
            key = (result.dataset.sha256, result.evaluator.name, result.features.full_name, str(common))
            by_ladder.setdefault(key, []).append(result)
    found = []
    for members in by_ladder.values():
        for candidates in ("all", "balanced"):
            levels = {
                str(r.evaluator.params["exclude"]): r
                for r in members
                if r.evaluator.params.get("candidates", "all") == candidates or r.evaluator.params["exclude"] == "cell"
            }
            if len(levels) > 1:
                found.append(_ladder(candidates, list(levels.values())))
    return found


def _ladder(candidates: str, results: list[Result]) -> Ladder:
    """Return the ladder of results of different levels."""
    results = sorted(results, key=lambda r: strictness(str(r.evaluator.params["exclude"]), r.dataset.levels))
    metric = headline(results[0])
    form = metric_of(results[0], metric)
    telling = results[0].telling_params(*key_and_defaults(results[0]))
    steps = [(i, i + 1) for i in range(len(results) - 1)] + ([(0, len(results) - 1)] if len(results) > 2 else [])
    return Ladder(
        candidates,
        {name: value for name, value in telling.items() if name not in LEVEL_PARAMS},
        metric,
        form,
        tuple(results),
        tuple(chance_level([r], metric) for r in results),
        tuple(_drop(results, loose, strict, metric, higher_is_better=form.higher_is_better) for loose, strict in steps),
    )


def _drop(results: list[Result], loose: int, strict: int, metric: str, *, higher_is_better: bool) -> Drop:
    """Return what is lost from one level to another."""
    first, second = (loose, strict) if higher_is_better else (strict, loose)
    value = results[first].metrics[metric] - results[second].metrics[metric]
    try:
        difference = paired_difference(results[first], results[second])
    except UserError:  # results without their tables, as those that are packaged
        return Drop(loose, strict, value, None, "")
    if difference.metric != metric:
        return Drop(loose, strict, value, None, "")
    return Drop(loose, strict, value, difference.interval, difference.unit)
