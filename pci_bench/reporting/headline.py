"""What pages and figures show first of many results: as benchmarks and evaluators declare it."""

from __future__ import annotations

from collections.abc import Sequence

from pci_bench.benchmarks import BENCHMARKS
from pci_bench.errors import UserError
from pci_bench.features.names import headline_of
from pci_bench.runs.results import Result, key_and_defaults


def first_features(results: Sequence[Result]) -> dict[str | None, str]:
    """Return, by benchmark, the name of the feature set that it lists first: of a family or group, the first one's headline.

    A benchmark that is not known here, as that of a plug-in which is not loaded, has none.
    """
    first: dict[str | None, str] = {}
    for name in {r.benchmark for r in results if r.benchmark is not None and r.benchmark in BENCHMARKS}:
        try:
            first[name] = headline_of(BENCHMARKS.get(name).features[0]).base
        except (UserError, IndexError):  # its features are another plug-in's, which is not loaded
            continue
    return first


def headline_k(results: Sequence[Result]) -> int | None:
    """Return the number of neighbours that stands for all of an evaluator's: its default, else the middle one; None without any."""
    ks = sorted({r.evaluator.params["k"] for r in results if "k" in r.evaluator.params})
    if not ks:
        return None
    default = key_and_defaults(results[0])[1].get("k")
    return default if default in ks else ks[len(ks) // 2]
