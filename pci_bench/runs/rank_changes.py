"""How the order of feature sets changes with what is done to the features: a statistic of several results.

As :mod:`pci_bench.runs.screens`, it is computed from results that may lie in several folders, when it is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from pci_bench.runs.paired import separable
from pci_bench.runs.results import Result, headline, metric_of

NONE = "none"


@dataclass(frozen=True)
class Agreement:
    """How far the order of feature sets under a post-processing is that under the first one.

    Parameters
    ----------
    tau
        Kendall's tau-b of the two orders: 1 for the same order, −1 for the opposite; None for fewer than two feature sets or
        where all are equal.
    pairs, exchanged
        Pairs of feature sets that have results under both, and how many of them change places.
    separably_exchanged
        How many of these are told apart under both: by the interval of the paired difference, whose level is 1 − 0.05 / pairs.
    """

    tau: float | None
    pairs: int
    exchanged: int
    separably_exchanged: int


@dataclass(frozen=True)
class RankChanges:
    """Results of one evaluation that differ in their feature set and in their post-processing.

    Parameters
    ----------
    results
        By feature set and post-processing, ``"none"`` where there was none.
    """

    results: dict[tuple[str, str], Result]

    @classmethod
    def of(cls, results: Sequence[Result]) -> RankChanges:
        """Return the results by feature set and post-processing; the later counts where there are two of a kind."""
        return cls({(r.features.full_name, str(r.evaluator.params.get("postprocess", NONE))): r for r in results})

    @property
    def metric(self) -> str:
        """What is ranked by: the evaluator's headline."""
        return headline(next(iter(self.results.values())))

    @property
    def postprocessings(self) -> list[str]:
        """The post-processings, none first."""
        return sorted(dict.fromkeys(postprocess for _, postprocess in self.results), key=lambda text: text != NONE)

    @property
    def features(self) -> list[str]:
        """The feature sets by their rank under the first post-processing; then those without a result under it."""
        ranks = self.ranks(self.postprocessings[0])
        names = list(dict.fromkeys(name for name, _ in self.results))
        return sorted(names, key=lambda name: ranks.get(name, len(names) + 1))

    def score(self, features: str, postprocess: str) -> float | None:
        """Return a result's headline, negative where less is better; None where there is no such result."""
        result = self.results.get((features, postprocess))
        if result is None or self.metric not in result.metrics:
            return None
        value = result.metrics[self.metric]
        return value if metric_of(result, self.metric).higher_is_better else -value

    def ranks(self, postprocess: str) -> dict[str, int]:
        """Return the rank of every feature set that has a result under a post-processing; 1 is the best, equal ones share it."""
        scores = {
            name: score
            for name in dict.fromkeys(name for name, _ in self.results)
            if (score := self.score(name, postprocess)) is not None
        }
        return {name: 1 + sum(other > score for other in scores.values()) for name, score in scores.items()}

    def agreement(self, postprocess: str) -> Agreement:
        """Return how far the order under a post-processing is that under the first."""
        from scipy.stats import kendalltau

        first = self.postprocessings[0]
        scores = {
            name: (a, b)
            for name in self.features
            if (a := self.score(name, first)) is not None and (b := self.score(name, postprocess)) is not None
        }
        tau = float(kendalltau(*zip(*scores.values(), strict=True)).statistic) if len(scores) > 1 else float("nan")
        pairs = list(itertools.combinations(scores, 2))
        exchanged = [
            (one, other)
            for one, other in pairs
            if (scores[one][0] - scores[other][0]) * (scores[one][1] - scores[other][1]) < 0
        ]
        separably = sum(
            all(self._separable(one, other, under, len(pairs)) for under in (first, postprocess))
            for one, other in exchanged
        )
        return Agreement(tau if tau == tau else None, len(pairs), len(exchanged), separably)

    def _separable(self, one: str, other: str, postprocess: str, comparisons: int) -> bool:
        """Return whether two feature sets are told apart under a post-processing."""
        pair = [self.results[name, postprocess] for name in (one, other)]
        pair.sort(key=lambda r: r.metrics[self.metric], reverse=True)
        return separable(pair[0], pair[1], self.metric, comparisons=comparisons)
