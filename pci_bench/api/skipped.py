"""The record of something that was not run: which, the reason, and its code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pci_bench.errors import PluginError

Code = Literal["dataset unavailable", "features unavailable", "not cached", "not applicable", "failed"]


@dataclass(frozen=True)
class Skipped:
    """A dataset, feature set, evaluation or figure that was asked for and not run.

    Parameters
    ----------
    reason
        A sentence for people, without its full stop: why, and what to do about it.
    code
        Why, for programs: it cannot be had, is not in the cache where nothing is computed, does not fit what it would be
        run on, or its code failed.
    dataset, features, evaluator
        What was not run; empty where that does not matter.
    count
        How many sets of parameters it is true of.
    error
        Of what failed.

    Examples
    --------
    >>> Skipped("get the weights", "features unavailable", "mine", "pci-conv4@w").record()
    {'dataset': 'mine', 'features': 'pci-conv4@w', 'reason': 'get the weights', 'code': 'features unavailable'}
    """

    reason: str
    code: Code
    dataset: str = ""
    features: str = ""
    evaluator: str = ""
    count: int = 1
    error: PluginError | None = field(default=None, compare=False)

    @classmethod
    def failed(cls, error: PluginError, dataset: str = "", features: str = "", evaluator: str = "") -> Skipped:
        """Return what was not run because its code failed."""
        return cls(str(error).removesuffix("."), "failed", dataset, features, evaluator, error=error)

    def record(self) -> dict[str, str]:
        """Return what ``run.json`` holds of it."""
        parts = {"dataset": self.dataset, "features": self.features, "evaluator": self.evaluator, "reason": self.reason}
        count = {"count": str(self.count)} if self.count > 1 else {}
        return {name: text for name, text in parts.items() if text} | count | {"code": self.code}
