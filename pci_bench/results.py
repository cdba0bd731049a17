"""What flows out: one result, one validated JSON file, with its predictions beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EVALUATORS
from pci_bench.files import atomic_file, copy_if_different, escape, finished, json_text
from pci_bench.segmentation.base import DEFAULT_SEGMENTER
from pci_bench.shortages import raise_shortage
from pci_bench.tabular import read_csv

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


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
    """The printed number that this result reproduces, where it stands, and all that are printed of it by metric."""

    value: float
    table: str
    metrics: dict[str, float] = {}


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
    _predictions_file: Path | None = pydantic.PrivateAttr(None)
    _tables: dict[str, pd.DataFrame] = pydantic.PrivateAttr(default_factory=dict)
    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=True, allow_inf_nan=False)

    def __eq__(self, other: object) -> bool:
        """Return whether two results are the same but for the table of predictions, which lies beside the file."""
        return isinstance(other, Result) and self.model_dump() == other.model_dump()

    @property
    def predictions(self) -> pd.DataFrame | None:
        """One row per evaluated cell: cell, label, predicted, and the confounder where there is one."""
        if self._predictions is None and self._predictions_file is not None:
            import pandas as pd

            self._predictions = _read(pd.read_parquet, self._predictions_file, "Parquet")
        return self._predictions

    @property
    def predictions_file(self) -> Path | None:
        """A Parquet file that holds the predictions already, or None."""
        return self._predictions_file

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """What the evaluator made besides, by name."""
        return self._tables

    def with_tables(self, predictions: pd.DataFrame | None, tables: dict[str, pd.DataFrame] | None = None) -> Result:
        """Return this result with its predictions and further tables attached."""
        self._predictions, self._predictions_file = predictions, None
        self._tables = dict(tables or {})
        return self

    def with_predictions_in(self, file: Path) -> Result:
        """Return this result with predictions that lie in a Parquet file, which is read when they are asked for."""
        self._predictions_file = file
        return self

    def label(self, key: tuple[str, ...], defaults: dict[str, Any]) -> str:
        """Return the parameters that tell this result from its like: those of `key`, and what is not the default."""
        return ",".join(f"{k}={v}" for k, v in self.evaluator.params.items() if k in key or v != defaults.get(k))

    def path(self, key: tuple[str, ...], defaults: dict[str, Any]) -> Path:
        """Return the file's path below an output folder: ``results/<dataset>/<features>/<evaluator>/<params>.json``."""
        stem = escape(self.label(key, defaults) or "default")
        folders = (self.dataset.name, self.features.full_name, self.evaluator.name)
        return Path("results", *map(escape, folders), f"{stem}.json")


def key_and_defaults(result: Result) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what a result's parameters are told apart by: its evaluator's key, and the defaults that need no mention.

    All parameters where nobody knows the evaluator.
    """
    if result.evaluator.name not in EVALUATORS:
        return tuple(result.evaluator.params), {}
    evaluator = EVALUATORS.get(result.evaluator.name)
    return evaluator.meta.key, {name: info.default for name, info in evaluator.Params.model_fields.items()}


def parameters(result: Result) -> str:
    """Return a result's parameters as its file is named by them: ``k=11,exclude=cell``."""
    return result.label(*key_and_defaults(result))


def write_result(result: Result, file: Path) -> None:
    """Write a result, its predictions as Parquet and further tables as CSV beside it; each is whole or not there."""
    text = json_text(result.model_dump(by_alias=True))  # first, so that what JSON cannot hold leaves no file
    if result.predictions_file is not None:
        copy_if_different(result.predictions_file, file.with_suffix(".parquet"))
    elif result.predictions is not None:
        with atomic_file(file.with_suffix(".parquet")) as temporary:
            result.predictions.to_parquet(temporary, index=False)
    for name, table in result.tables.items():
        with atomic_file(file.with_name(f"{file.stem}.{name}.csv")) as temporary:
            table.to_csv(temporary, index=False)
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
        raise_shortage(error)
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
    parquet = file.with_suffix(".parquet")
    predictions = _read(pd.read_parquet, parquet, "Parquet") if parquet.is_file() else None

    start = f"{file.stem}."
    found = [f for f in sorted(file.parent.glob("*.csv")) if f.name.startswith(start)]
    tables = {f.stem.removeprefix(start): _read(read_csv, f, "CSV") for f in found}
    return result.with_tables(predictions, tables)


def _read(reader: Callable[[Path], pd.DataFrame], file: Path, form: str) -> pd.DataFrame:
    try:
        return reader(file)
    except (OSError, ValueError) as error:  # Arrow's and pandas' errors are ValueErrors
        raise_shortage(error)
        raise UserError(
            f"{file} cannot be read as {form} ({error}). Run the benchmark again to write it anew."
        ) from error


def read_results(folder: Path) -> list[Result]:
    """Return all results below an output folder: those of its last run in the run's order, then others by their paths."""
    files = sorted(finished((folder / "results").rglob("*.json")))
    try:
        listed = json.loads((folder / "run.json").read_text(encoding="utf-8"))["results"]
        order = {folder / path: position for position, path in enumerate(listed)}
    except (OSError, ValueError, KeyError, TypeError):  # `pci-bench evaluate` writes no run.json
        order = {}
    files.sort(key=lambda file: order.get(file, len(order)))
    if not files:
        raise UserError(
            f"There are no results in {folder}: expected {folder / 'results'} as `pci-bench run` writes it."
        )
    return [read_result(file) for file in files]


class RunArguments(_Part):
    """What :func:`pci_bench.run` was called with, all of it resolved.

    The first records held one dataset as a string, and neither segmenter nor annotations.
    """

    benchmark: str
    dataset: Annotated[list[str], pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v)] = (
        pydantic.Field(min_length=1)
    )
    features: list[str] = pydantic.Field(min_length=1)
    k: list[int] | None = None
    parameters: dict[str, list[Any]] = {}
    limit: int | None
    seed: int = pydantic.Field(ge=0)
    device: str
    segmenter: str = DEFAULT_SEGMENTER
    annotations: str | None = None
    annotations_sha256: str | None = None


class RunRecord(pydantic.BaseModel):
    """What of an output folder's ``run.json`` a repetition needs."""

    schema_: int = pydantic.Field(alias="schema")
    arguments: RunArguments
    datasets: list[dict[str, Any]]
    run: dict[str, Any]


def read_record(file: Path) -> dict[str, Any]:
    """Return a ``run.json``, validated: ``arguments``, ``datasets`` and ``run``.

    Raises
    ------
    UserError
        For a file that is no such record, or is of a schema that this version does not read.
    """
    name_it = "Name the run.json that `pci-bench run` wrote."
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not the record of a run ({type(error).__name__}: {error}). {name_it}") from error
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise UserError(f"{file} has schema {content['schema']}; this version reads {SCHEMA}. Update pci-bench.")
    try:
        return RunRecord.model_validate(content).model_dump()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its content"
        raise UserError(f"{file} is not the record of a run ({where}: {first['msg']}). {name_it}") from error
