"""What flows out: one result, one validated JSON file, with its predictions beside it."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic

from pci_bench import __version__
from pci_bench.errors import UserError
from pci_bench.files import atomic_file, escape

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")


class DatasetRecord(_Part):
    """Which cells were evaluated."""

    name: str
    version: str
    sha256: str
    n_cells: int
    classes: dict[str, int]
    limit: int | None = None


class FeaturesRecord(_Part):
    """Which feature set, computed how."""

    name: str
    weights: str | None
    version: str
    weights_sha256: str | None
    dim: int
    precision: str

    @property
    def full_name(self) -> str:
        """The name with its weights: ``pci-conv4@lu2019-yeast``."""
        return f"{self.name}@{self.weights}" if self.weights else self.name


class EvaluatorRecord(_Part):
    """Which evaluator, with which parameters, all of them resolved."""

    name: str
    version: str
    params: dict[str, Any]


class PaperRecord(_Part):
    """The printed number that this result reproduces, and where it stands."""

    value: float
    table: str


class Result(_Part):
    """One evaluation of one feature set on one dataset.

    Metrics and intervals are fractions (balanced accuracy 0.88, not 88). ``paper`` is filled only where dataset, feature
    set, published weights, evaluator and parameters are all the paper's.
    """

    schema_: int = pydantic.Field(SCHEMA, alias="schema")
    benchmark: str | None
    dataset: DatasetRecord
    features: FeaturesRecord
    evaluator: EvaluatorRecord
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    details: dict[str, Any]
    paper: PaperRecord | None = None
    run: dict[str, Any]
    _predictions: pd.DataFrame | None = pydantic.PrivateAttr(None)
    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=True)

    @property
    def predictions(self) -> pd.DataFrame | None:
        """One row per evaluated cell: cell, label, predicted, and the confounder where there is one."""
        return self._predictions

    def with_predictions(self, table: pd.DataFrame | None) -> Result:
        """Return this result with its predictions attached."""
        self._predictions = table
        return self

    def path(self, key: tuple[str, ...], defaults: dict[str, Any]) -> Path:
        """Return the file's path below an output folder: ``results/<dataset>/<features>/<evaluator>/<params>.json``."""
        named = {k: v for k, v in self.evaluator.params.items() if k in key or v != defaults.get(k)}
        stem = escape(",".join(f"{k}={v}" for k, v in named.items()) or "default")
        folders = (self.dataset.name, self.features.full_name, self.evaluator.name)
        return Path("results", *map(escape, folders), f"{stem}.json")


def write_result(result: Result, file: Path) -> None:
    """Write a result, and its predictions as Parquet beside it; each is whole or not there."""
    if result.predictions is not None:
        with atomic_file(file.with_suffix(".parquet")) as temporary:
            result.predictions.to_parquet(temporary, index=False)
    write_json(file, result.model_dump(by_alias=True))


def write_json(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with atomic_file(file) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_result(file: Path) -> Result:
    """Return a result file, validated, with its predictions where they lie beside it.

    Raises
    ------
    UserError
        For a file that is not JSON, not a result, or of a schema that this version does not read.
    """
    import pandas as pd

    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as JSON ({error}). Run the benchmark again to write it anew."
        ) from error
    if not isinstance(content, dict) or "schema" not in content:
        raise UserError(f"{file} is not a result of pci-bench: it has no 'schema'.")
    if content["schema"] != SCHEMA:
        raise UserError(f"{file} has schema {content['schema']}; this version reads {SCHEMA}. Update pci-bench.")
    try:
        result = Result.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise UserError(
            f"{file} is not a result of pci-bench: {'.'.join(map(str, first['loc']))}: {first['msg']}."
        ) from error
    beside = file.with_suffix(".parquet")
    return result.with_predictions(pd.read_parquet(beside) if beside.is_file() else None)


def read_results(folder: Path) -> list[Result]:
    """Return all results below an output folder, in the order of their paths."""
    files = sorted((folder / "results").rglob("*.json"))
    if not files:
        raise UserError(
            f"There are no results in {folder}: expected {folder / 'results'} as `pci-bench run` writes it."
        )
    return [read_result(file) for file in files]


@cache
def git_revision() -> str | None:
    """Return the commit of the checkout that this package runs from, with ``+changes`` if edited; None if installed."""
    folder = Path(__file__).parent.parent
    if not (folder / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of every package whose numbers enter a result."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "scikit-learn", "torch", "numba", "pandas", "anndata", "zarr"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def blas() -> str:
    """Return the BLAS libraries that are loaded, with version and kernel."""
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return ", ".join(sorted({f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in pools}))


def provenance(*, device: str, threads: int, seed: int, seconds: float, started: str) -> dict[str, Any]:
    """Return the ``run`` block of a result."""
    return {
        "git": git_revision(),
        "package": __version__,
        "versions": versions(),
        "blas": blas(),
        "device": device,
        "threads": threads,
        "seed": seed,
        "seconds": round(seconds, 3),
        "peak_rss_bytes": peak_memory(),
        "started": started,
    }


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far in bytes; None where the system does not tell."""
    if os.name != "posix":
        return None
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
