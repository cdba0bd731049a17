"""Whether screens agree on the distances between localization classes: a statistic of several results.

A result is of one dataset, so what several say together has no file to be stored in; and `pci-bench table` is given folders of results,
which different runs may have written. So it is computed from the tables beside the results when it is asked for, as the interval of
the difference of two results is (:mod:`pci_bench.runs.paired`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pci_bench.runs.results import Result
from pci_bench.statistics.class_distances import PERMUTATIONS, agreement, nearness

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PERMUTATIONS", "Screens"]


@dataclass(frozen=True)
class Screens:
    """The results of ``class-distances`` of one feature set with the same parameters on several screens.

    Parameters
    ----------
    features, params
        The feature set without its weights, and the parameters as text.
    results
        By screen. The networks of the screens are different ones.
    """

    features: str
    params: str
    results: dict[str, Result]

    @classmethod
    def of(cls, results: Sequence[Result]) -> list[Screens]:
        """Return every feature set and parameters that have results on two screens or more."""
        by_features: dict[tuple[str, str], dict[str, Result]] = {}
        for r in results:
            params = r.label(tuple(r.evaluator.params), {}, by_name=True)  # all of them
            by_features.setdefault((r.features.name, params), {}).setdefault(r.dataset.name, r)
        return [cls(*key, by_screen) for key, by_screen in by_features.items() if len(by_screen) > 1]

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How far each two screens agree: :func:`pci_bench.statistics.class_distances.agreement`."""
        first = next(iter(self.results.values()))
        return agreement({name: r.table("distances") for name, r in self.results.items()}, seed=int(first.run["seed"]))

    def nearness(self, name: str, partner: str) -> list[tuple[int, int] | None]:
        """Return, on every screen, the place of a class among the others by its distance from another class."""
        return [nearness(r.table("distances"), name, partner) for r in self.results.values()]
