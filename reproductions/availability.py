"""What the paper's numbers need: whether it is here, how to get it, and the runs with it."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import pci_bench
from pci_bench import weights
from pci_bench.acquisition.deeploc_hdf5 import DECLARATION
from pci_bench.acquisition.download import fetch
from pci_bench.datasets import DATASETS
from pci_bench.errors import UserError
from pci_bench.features.names import parse
from pci_bench.runs.results import Result
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile

TO_COMPARE_WITH = " (one more row to compare with)"


def lacking(dataset: str, features: Iterable[str] = ()) -> list[str]:
    """Return a sentence for everything that is not here and that these features on this dataset need."""
    reasons = []
    if reason := DATASETS.get(dataset).unavailable_reason():
        reasons.append(f"{dataset}: {reason}")
    for feature_set in map(parse, features):
        family, name = feature_set.extractor().meta.weights, feature_set.weights
        if family and name and weights.find(family, name) is None:
            reasons.append(f"{family}@{name}: {_how_to_get(family, name)}")
    return list(dict.fromkeys(reason.rstrip(".") for reason in reasons))


def _how_to_get(family: str, name: str) -> str:
    if name not in weights.declared().get(family, {}):
        return "the paper's weights were not published, as far as we know; imported under this name, they would be used"
    return weights.how_to_get(family, name)


def fetch_lacking(dataset: str, features: Iterable[str] = ()) -> None:
    """Fetch, check and import what can be had; what cannot stays lacking.

    Raises
    ------
    UserError
        Where one or more cannot be fetched, or there is no folder of the user's to put a dataset into.
    """
    if dataset == "chong2015" and DATASETS.get(dataset).unavailable_reason():
        fetch_chong2015(DECLARATION["url"])
    failures = []
    for feature_set in map(parse, features):
        family, name = feature_set.extractor().meta.weights, feature_set.weights
        if family and name:
            try:
                weights.fetched(family, name)
            except UserError as error:  # others may be had
                failures.append(str(error))
    if failures:
        raise UserError(" ".join(dict.fromkeys(failures)))


def fetch_chong2015(url: str) -> None:
    """Download the archive of the three HDF5 files into ``PCI_BENCH_DATA/chong2015``."""
    root = os.environ.get("PCI_BENCH_DATA")
    if not root:
        raise UserError("Set PCI_BENCH_DATA to the folder in which --fetch is to make 'chong2015'.")
    instead = DATASETS.get("chong2015").unavailable_reason() or "run again"
    archive = fetch(
        RemoteFile(Path(url).name, (url,), "the labelled crops chong2015", instead), progress=Progress()
    ).path
    with zipfile.ZipFile(archive) as opened:
        members = {Path(name).name: name for name in opened.namelist()}
        if absent := [name for name in DECLARATION["files"].values() if name not in members]:
            raise UserError(f"{archive} holds no {absent[0]}; it holds {', '.join(sorted(members))[:200]}.")
        for name in DECLARATION["files"].values():
            target = Path(root) / "chong2015" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(members[name]) as source, open(target, "wb") as copy:
                shutil.copyfileobj(source, copy)


@dataclass
class Paper:
    """The benchmarks with the paper's data and published weights; each is run once, and features come from the user's cache."""

    fetch: bool
    lacks: Callable[[list[str]], None]
    beside: Callable[[str], None] = lambda sentence: None  # said in the summary: ours beside what the paper states
    ran: dict[Any, list[Result]] = field(default_factory=dict)

    def need(self, dataset: str) -> None:
        """Skip the test and say what it lacks, where the dataset is not here (after trying to fetch it, where that was asked for)."""
        if self.fetch and lacking(dataset):
            try:
                fetch_lacking(dataset)
            except UserError as error:
                self.lacks([f"--fetch: {error}"])
        if missing := lacking(dataset):
            self.lacks(missing)
            pytest.skip(f"[paper] lacks {dataset}")

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
            Feature sets that a claim compares with, as many as are available; where none is, the test is skipped.
        **parameters
            Of the evaluators, in place of what the benchmark declares.
        """
        if self.fetch and lacking(dataset, [*needed, *besides]):
            try:
                fetch_lacking(dataset, [*needed, *besides])
            except UserError as error:
                self.lacks([f"--fetch: {error}"])
        missing, others = lacking(dataset, needed), [name for name in besides if not lacking(dataset, [name])]
        self.lacks([f"{m}{TO_COMPARE_WITH}" for m in lacking(dataset, besides) if m not in missing])
        if not missing and besides and not others:
            missing = lacking(dataset, besides)
        if missing:
            self.lacks(missing)
            pytest.skip(f"[paper] lacks {', '.join(m.partition(': ')[0] for m in missing)}")
        key = (benchmark, dataset, *needed, *others, str(parameters))
        if key not in self.ran:
            self.ran[key] = list(
                pci_bench.run(benchmark, dataset=dataset, features=[*needed, *others], parameters=parameters)
            )
        return self.ran[key]
