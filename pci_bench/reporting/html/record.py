"""The provenance section of a report: arguments, versions, and what could not be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pci_bench.runs.record import RunRecord
from pci_bench.runs.results import Result, key_and_defaults


def recorded(folder: Path) -> RunRecord | None:
    """Return the content of ``run.json``, or None where there is none (`pci-bench evaluate` writes none).

    Raises
    ------
    UserError
        For a file that cannot be read, or that is not of pci-bench.
    """
    return RunRecord.of(folder)


def not_run(record: RunRecord | None) -> list[dict[str, str]]:
    """Return what was not run and why: ``what`` and ``reason``."""
    rows = []
    for entry in record.not_run if record else []:
        what = " on ".join(part for part in (entry.features, entry.evaluator, entry.dataset) if part)
        rows.append({"what": what or "–", "reason": entry.reason.rstrip(".") + "."})
    return rows


def reasons(record: RunRecord | None, dataset: str) -> dict[str, str]:
    """Return the reasons why feature sets were not run on a dataset, by their names."""
    entries = record.not_run if record else []
    return {e.features: e.reason for e in entries if e.dataset == dataset and e.features}


def provenance(record: RunRecord | None, results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return how the results were made, as pairs of a word and what it says."""
    newest = max(results, key=lambda r: str(r.run.get("started", "")))
    run = dict(record.run if record else newest.run)
    versions = run.pop("versions", {})
    versions = versions if isinstance(versions, dict) else {}
    rows: list[tuple[str, str]] = []
    for name, value in (record.arguments if record else {}).items():
        if value not in (None, [], {}):
            rows.append((f"argument {name}", ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    rows += [(name.replace("_", " "), _said(name, value)) for name, value in run.items() if value not in (None, "")]
    rows += [(f"version of {name}", str(value)) for name, value in dict(versions).items()]
    rows += [("note", str(note)) for note in (record.notes if record else [])]
    return rows + _earlier(record, results)


def _earlier(record: RunRecord | None, results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return a row for every earlier run whose results lie in the folder beside those of the recorded one."""
    if record is None:
        return []
    of_last = set(record.results)
    runs: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        if result.path(*key_and_defaults(result)).as_posix() not in of_last:
            facts = [f"{name} {result.run[name]}" for name in ("seed", "package", "device") if name in result.run]
            runs.setdefault((str(result.benchmark or "evaluate"), *facts), []).append(result)
    return [
        (
            "of an earlier run, which the rows above do not describe",
            f"{len(run_results)} results of {', '.join(dict.fromkeys(r.features.full_name for r in run_results))}: {', '.join(facts)}",
        )
        for facts, run_results in runs.items()
    ]


def _said(name: str, value: Any) -> str:
    if name == "peak_rss_bytes" and isinstance(value, int):
        return f"{value / 2**20:,.0f} MiB"
    if name == "seconds" and isinstance(value, float):
        return f"{value:,.1f}"
    return str(value)
