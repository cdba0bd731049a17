"""The regression gate: runs on bundled simulated data whose numbers may not move unnoticed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pydantic

from pci_bench.errors import UserError
from pci_bench.runs import comparison, runner
from pci_bench.runs.results import Result, validated
from pci_bench.runs.tolerance import Tolerance, read_tolerance
from pci_bench.system.files import escape, write_json
from pci_bench.system.foreign import first_fault, json_value, toml_value
from pci_bench.system.progress import Progress

KEPT = ("per_class",)  # of a result's details
PROVENANCE = ("package", "git", "started", "versions", "blas", "device", "threads", "seed")
# Rows and columns of a table that must not change, Table 3 among them; larger ones are trees and single cells.
MAX_TABLE_SHAPE = (80, 12)
HOW_TO_ACCEPT = (
    "If the change is meant: pci-bench gate --accept tables/expected, and say in the commit why the numbers moved."
)
TOLERANCE = "tolerance.toml"


class GatedRun(pydantic.BaseModel):
    """One run of the gate, as ``gate.toml`` declares it; ``quick`` are the features that ``pytest reproductions`` runs it with."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    dataset: str
    features: list[str]
    with_evaluators: list[str] = []
    quick: list[str] = []
    parameters: dict[str, list[Any]] = {}


def folder() -> Traversable:
    """Return the packaged folder of ``gate.toml`` and of the expected numbers."""
    return files("pci_bench_tables").joinpath("expected")


def how_to_accept(place: Path | None) -> str:
    """Return the command that makes the numbers of now the expected ones, as a sentence."""
    return (
        HOW_TO_ACCEPT.replace("--accept tables/expected", f"--expected {place} --accept {place}")
        if place
        else HOW_TO_ACCEPT
    )


def declared_runs(place: Path | None = None) -> list[GatedRun]:
    """Return the runs of ``gate.toml`` in a folder, by default the packaged one."""
    try:
        return [GatedRun(**r) for r in _declaration(place)["run"]]
    except (KeyError, TypeError, pydantic.ValidationError) as error:
        what = (
            first_fault(error) if isinstance(error, pydantic.ValidationError) else f"it has no tables [[run]] ({error})"
        )
        raise UserError(
            f"{(place or folder()).joinpath('gate.toml')} does not declare the gate's runs: {what}."
        ) from error


def metrics_only(place: Path | None = None) -> set[str]:
    """Return the evaluators of whose results only the metrics are held."""
    return set(_declaration(place).get("metrics_only", ()))


def tolerance_in(place: Path | None) -> Tolerance | None:
    """Return what ``tolerance.toml`` in a folder says; None, for the packaged one, where there is no such file."""
    file = place / TOLERANCE if place else None
    return read_tolerance(file) if file is not None and file.is_file() else None


def _declaration(place: Path | None) -> dict[str, Any]:
    file = (place or folder()).joinpath("gate.toml")
    try:
        return toml_value(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read as TOML ({error}).") from error


def gated_results(
    runs: Iterable[GatedRun],
    *,
    place: Path | None = None,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> list[Result]:
    """Return the results of some runs, on the CPU and with seed 0, with those of their tables that must not change.

    Parameters
    ----------
    runs
        As :func:`declared_runs` returns them.
    place
        The folder that declares them, by default the packaged one.
    cache
        Where datasets and features are made; by default a folder that starts empty and is removed, since the user's cache may
        hold features from before the code changed.
    workers, progress
        As in :func:`pci_bench.run`.
    """
    all_results: list[Result] = []
    coarse = metrics_only(place)
    with _making_everything_in(cache):
        for gated_run in runs:
            results = runner.run(
                gated_run.benchmark,
                dataset=gated_run.dataset,
                features=gated_run.features,
                with_evaluators=gated_run.with_evaluators,
                parameters=gated_run.parameters,
                device="cpu",
                workers=workers,
                progress=progress,
            )
            all_results += [
                _with_small_tables(_with_metrics_only(r) if r.evaluator.name in coarse else r) for r in results
            ]
    return all_results


@contextmanager
def _making_everything_in(cache: Path | None) -> Iterator[None]:
    """Use another cache than the user's; processes that are started meanwhile do so too."""
    before = os.environ.get("PCI_BENCH_CACHE")
    with TemporaryDirectory(prefix="pci-bench-gate-", ignore_cleanup_errors=True) as temporary:
        os.environ["PCI_BENCH_CACHE"] = str(cache or temporary)
        try:
            yield
        finally:
            if before is None:
                del os.environ["PCI_BENCH_CACHE"]
            else:
                os.environ["PCI_BENCH_CACHE"] = before


def _with_metrics_only(result: Result) -> Result:
    details = {name: value for name, value in result.details.items() if name not in KEPT}
    return result.model_copy(update={"details": details}).with_tables(None, result.tables)


def _with_small_tables(result: Result) -> Result:
    tables = comparison.without_examples(result)
    small = {n: t for n, t in tables.items() if len(t) <= MAX_TABLE_SHAPE[0] and t.shape[1] <= MAX_TABLE_SHAPE[1]}
    return result.with_tables(result.predictions, small)


def expected(dataset: str | None = None, place: Path | None = None) -> list[Result]:
    """Return the results of one dataset, or of all, that a folder holds, by default the packaged one.

    Raises
    ------
    UserError
        For a dataset without expected numbers, with those that have some.
    """
    names = {f.name.removesuffix(".json"): f for f in (place or folder()).iterdir() if f.name.endswith(".json")}
    if dataset is not None and escape(dataset) not in names:
        raise UserError(
            f"There are no expected numbers of {dataset}; there are of {', '.join(sorted(names)) or 'none'}."
        )
    chosen = sorted(names) if dataset is None else [escape(dataset)]
    return [result for name in chosen for result in _read_expected(names[name])]


def _read_expected(file: Traversable) -> list[Result]:
    """Return the results of a file of expected numbers."""
    try:
        records = json_value(file.read_text(encoding="utf-8-sig"))["results"]
        return [_read_record(record) for record in records]
    except pydantic.ValidationError as error:
        what = first_fault(error)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
    raise UserError(f"{file} does not hold expected numbers ({what}). {HOW_TO_ACCEPT}")


def _read_record(record: dict[str, Any]) -> Result:
    import pandas as pd

    tables = {name: pd.DataFrame(**table) for name, table in record.pop("tables", {}).items()}
    return validated({**record, "run": {}, "intervals": {}}).with_tables(None, tables)


def compared(
    before: Sequence[Result],
    results: Sequence[Result],
    tolerance: Tolerance | None = None,
    place: Path | None = None,
) -> comparison.Comparison:
    """Return expected numbers and results side by side, by a tolerance (the packaged one); `place` is where they are expected.

    Raises
    ------
    UserError
        Where they cannot be compared, for example because an evaluator has another version now; with how to accept them.
    """
    try:
        return comparison.compare(before, results, tolerance)
    except UserError as error:
        raise UserError(f"{error} {how_to_accept(place)}") from error


def write_expected(results: Iterable[Result], into: Path) -> list[Path]:
    """Write results as the expected numbers, one file per dataset and with provenance, and return the files."""
    by_dataset: dict[str, list[Result]] = {}
    for result in results:
        by_dataset.setdefault(result.dataset.name, []).append(result)
    written = []
    for dataset, dataset_results in by_dataset.items():
        first = dataset_results[0].run
        made = {k: first[k] for k in PROVENANCE if k in first}
        file = into / f"{escape(dataset)}.json"
        write_json(file, {"schema": 1, "made": made, "results": [_record(r) for r in dataset_results]})
        written.append(file)
    return written


def _record(result: Result) -> dict[str, Any]:
    """Return what of a result must not change: identity, metrics, recalls and small tables, to six digits."""
    whole = result.model_dump(by_alias=True)
    kept: dict[str, Any] = {k: v for k, v in whole["details"].items() if k in KEPT}
    rounded = {
        "metrics": {k: round(v, 6) for k, v in whole["metrics"].items()},
        "details": {k: {c: round(x, 6) for c, x in v.items()} if isinstance(v, dict) else v for k, v in kept.items()},
    }
    tables = {
        n: json.loads(t.to_json(orient="split", index=False, double_precision=6)) for n, t in result.tables.items()
    }
    record = {k: whole[k] for k in ("schema", "benchmark", "dataset", "features")} | rounded
    record["evaluator"] = {
        k: whole["evaluator"][k] for k in ("name", "version", "params")
    }  # the rest is the evaluator's
    return record | ({"tables": tables} if tables else {})
