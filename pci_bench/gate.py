"""The regression gate: runs on embedded data whose numbers may not move unnoticed."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pydantic

from pci_bench import runner
from pci_bench.errors import UserError
from pci_bench.files import escape, write_json
from pci_bench.progress import Progress
from pci_bench.results import Result

KEPT = ("per_class", "n_pairs", "n_points")  # of a result's details


class GatedRun(pydantic.BaseModel):
    """One run of the gate, as ``gate.toml`` declares it."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    benchmark: str
    dataset: str
    features: list[str]
    k: list[int] | None = None


def declared_runs() -> list[GatedRun]:
    """Return the runs of the packaged ``gate.toml``."""
    text = files("pci_bench_tables").joinpath("expected/gate.toml").read_text(encoding="utf-8")
    return [GatedRun(**r) for r in tomllib.loads(text)["run"]]


def gated_results(
    runs: Iterable[GatedRun], *, workers: int | None = None, progress: Progress | None = None
) -> list[Result]:
    """Return the results of some runs, on the CPU and with seed 0."""
    found: list[Result] = []
    for one in runs:
        found += runner.run(
            one.benchmark,
            dataset=one.dataset,
            features=one.features,
            k=one.k,
            device="cpu",
            workers=workers,
            progress=progress,
        )
    return found


def expected(dataset: str | None = None) -> list[Result]:
    """Return the packaged results of one dataset, or of all.

    Raises
    ------
    UserError
        For a dataset without expected numbers, with those that have some.
    """
    folder = files("pci_bench_tables").joinpath("expected")
    names = {f.name.removesuffix(".json"): f for f in folder.iterdir() if f.name.endswith(".json")}
    if dataset is not None and escape(dataset) not in names:
        raise UserError(
            f"There are no expected numbers of {dataset}; there are of {', '.join(sorted(names)) or 'none'}."
        )
    chosen = sorted(names) if dataset is None else [escape(dataset)]
    return [
        Result.model_validate({**record, "run": {}, "intervals": {}})
        for name in chosen
        for record in json.loads(names[name].read_text(encoding="utf-8"))["results"]
    ]


def write_expected(results: Iterable[Result], folder: Path) -> list[Path]:
    """Write results as the expected numbers, one file per dataset, and return the files."""
    by_dataset: dict[str, list[Result]] = {}
    for result in results:
        by_dataset.setdefault(result.dataset.name, []).append(result)
    written = []
    for dataset, mine in by_dataset.items():
        first = mine[0].run
        made = {k: first[k] for k in ("package", "versions", "blas", "device", "threads", "seed") if k in first}
        file = folder / f"{escape(dataset)}.json"
        write_json(file, {"schema": 1, "made": made, "results": [_record(r) for r in mine]})
        written.append(file)
    return written


def _record(result: Result) -> dict[str, Any]:
    """Return what of a result is held still: identity, metrics and recalls, to six digits."""
    whole = result.model_dump(by_alias=True)
    kept: dict[str, Any] = {k: v for k, v in whole["details"].items() if k in KEPT}
    rounded = {
        "metrics": {k: round(v, 6) for k, v in whole["metrics"].items()},
        "details": {k: {c: round(x, 6) for c, x in v.items()} if isinstance(v, dict) else v for k, v in kept.items()},
    }
    return {k: whole[k] for k in ("schema", "benchmark", "dataset", "features", "evaluator")} | rounded
