"""What the paper's numbers need, as `pci-bench reproduce` knows it: whether it is here, getting it, and the runs with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from pci_bench.datasets import DATASETS
from pci_bench.reproduction.items import ItemRun, items
from pci_bench.reproduction.needs import Kind, Need, State, dataset_need, get_for, lacking, needs_of, weights_need
from pci_bench.reproduction.outcome import Outcome
from pci_bench.reproduction.reproduce import compared, output_of, without_some
from pci_bench.runs.results import Result
from pci_bench.system.progress import Progress

TO_COMPARE_WITH = " (one more row to compare with)"


def sentence(need: Need) -> str:
    """Return what lacks, and how to get it."""
    return f"{need.name}: {need.reason}"


@dataclass
class Paper:
    """The benchmarks with the paper's data and published weights; each is run once, and features come from the user's cache."""

    fetch: bool
    lacks: Callable[[list[str]], None]
    beside: Callable[[str], None] = lambda sentence: None  # said in the summary: ours beside what the paper states
    ran: dict[Any, list[Result]] = field(default_factory=dict)

    def _get(self, run: ItemRun) -> None:
        """Fetch what can be fetched of what a run needs, where that was asked for, and say what could not."""
        if self.fetch:
            to_fetch = {need.name for need in needs_of([run]) if need.state is State.to_fetch}
            reasons = get_for([run], Progress())
            self.lacks([f"--fetch: {reason}" for name, reason in reasons.items() if name in to_fetch])

    def need(self, dataset: str) -> None:
        """Skip the test and say what it lacks, where the dataset is not here (after trying to fetch it, where that was asked for)."""
        self._get(ItemRun(benchmark="", dataset=dataset, needed=()))  # its cells alone
        if (need := dataset_need(dataset)).state is not State.here:
            self.lacks([sentence(need)])
            pytest.skip(f"[paper] lacks {dataset}")
        self._all_of(dataset)

    def _all_of(self, dataset: str) -> None:
        """Skip the test where only a part of the dataset was fetched."""
        if (meta := DATASETS.get(dataset).meta).is_part:
            self.lacks([f"{dataset}: only {meta.version} is here"])
            pytest.skip(f"[paper] lacks most of {dataset}")

    def results(
        self,
        benchmark: str,
        dataset: str,
        needed: Sequence[str],
        *,
        besides: Sequence[str] = (),
        **parameters: list[Any],
    ) -> list[Result]:
        """Return the results of what is needed and of what is available besides, or skip the test and say what it lacks.

        Parameters
        ----------
        benchmark, dataset
            Their names.
        needed
            Feature sets without which nothing can be claimed.
        besides
            Feature sets that a claim compares with, as many as are available.
        **parameters
            Of the evaluators, in place of what the benchmark declares.
        """
        run = ItemRun(
            benchmark=benchmark, dataset=dataset, needed=tuple(needed), besides=tuple(besides), parameters=parameters
        )
        return self._ran(run)[1]

    def _ran(self, declared: ItemRun) -> tuple[ItemRun, list[Result]]:
        self._get(declared)
        lacks = lacking(declared)
        missing = {lacks[f].name: sentence(lacks[f]) for f in declared.needed if f in lacks}
        if any(need.kind is Kind.dataset for need in lacks.values()):  # weights that lack as well are said too
            needs = [need for f in declared.needed if (need := weights_need(f)) is not None]
            missing |= {need.name: sentence(need) for need in needs if need.state is not State.here}
        others = [f"{sentence(lacks[f])}{TO_COMPARE_WITH}" for f in declared.besides if f in lacks]
        self.lacks(
            [
                *missing.values(),
                *dict.fromkeys(s for s in others if s.removesuffix(TO_COMPARE_WITH) not in missing.values()),
            ]
        )
        if missing:
            pytest.skip(f"[paper] lacks {', '.join(missing)}")
        self._all_of(declared.dataset)
        run = without_some(declared, lacks)
        key = run.model_dump_json()
        if key not in self.ran:
            self.ran[key] = list(output_of(run))
        return run, self.ran[key]

    def outcome(self, name: str) -> Outcome:
        """Return ours beside what the paper prints and claims of an item, or skip the test and say what it lacks."""
        item = items()[name]
        ran = [self._ran(run) for run in item.runs]
        return compared(item, [r for _, results in ran for r in results], [run for run, _ in ran], {}, [])
