"""Paired differences of two feature sets as rows for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pci_bench.runs.paired import FeatureComparison

EXPLANATION = (
    "Brackets: 95 % intervals of the first minus the second on the same cells, by a jackknife and by a bootstrap over whole units, both "
    "widened for the cells learned from; * leaves out 0. Only first, only second: cells that it alone gets right. McNemar: the exact p "
    "of these two numbers, which takes cells for independent and is too small where cells of a unit are alike: a check, not the answer."
)


def rows(compared: Sequence[FeatureComparison]) -> dict[str, list[tuple[str, ...]]]:
    """Return the differences by dataset, a header first, numbers as tables print them."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    for comparison in compared:
        difference, form = comparison.difference, comparison.form

        def signed(value: float, scale: float = form.scale, decimals: int = form.printed_decimals) -> str:
            return f"{scale * value:+.{decimals}f}"

        def bounds(interval: tuple[float, float] | None) -> str:
            return "–" if interval is None else f"[{signed(interval[0])}, {signed(interval[1])}]"

        header = ("evaluation", "first", "second", "difference", "jackknife", "bootstrap", "only first", "only second", "McNemar p", "units")  # fmt: skip
        alone = ["–" if n is None else f"{n:,}" for n in (difference.only_first, difference.only_second)]
        tables.setdefault(comparison.dataset, [header]).append(
            (
                comparison.evaluation,
                form.text(difference.first),
                form.text(difference.second),
                f"{signed(difference.value)}{' *' if difference.separable else ''}",
                bounds(difference.interval),
                bounds(difference.bootstrap),
                *alone,
                "–" if difference.mcnemar_p is None else f"{difference.mcnemar_p:.2g}",
                f"{difference.n_units} {difference.unit}s",
            )
        )
    return tables


def as_json(compared: Sequence[FeatureComparison]) -> list[dict[str, Any]]:
    """Return one object for each evaluation."""
    return [
        {
            "dataset": c.dataset,
            "evaluation": c.evaluation,
            "features": list(c.names),
            "value": c.difference.value,
            **asdict(c.difference),
        }
        for c in compared
    ]
