"""What flows out: one result, one validated JSON file, with its predictions beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EVALUATORS
from pci_bench.files import atomic_file, copy_if_different, escape, json_text
from pci_bench.foreign import check_within, files_within, first_fault, read_json
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
    n_cells: int = pydantic.Field(ge=0)
    classes: dict[str, Annotated[int, pydantic.Field(ge=0)]]
    limit: Annotated[int, pydantic.Field(ge=0)] | None = None


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


class _Confusion(pydantic.BaseModel):
    """Numbers of cells by true class (rows) and predicted class (columns; the last may be "no neighbour")."""

    model_config = pydantic.ConfigDict(allow_inf_nan=False)
    labels: list[str] = pydantic.Field(min_length=1)
    counts: list[list[Annotated[float, pydantic.Field(ge=0, le=2**53)]]]

    @pydantic.model_validator(mode="after")
    def _rectangular(self) -> _Confusion:
        if {len(row) for row in self.counts} != {len(self.labels)} or len(self.counts) > len(self.labels):
            raise ValueError(f"the rows of counts do not have one number for each of {len(self.labels)} labels")
        return self


class _Level(_Part):
    mean: float
    low: float
    high: float


class _Others(_Part):
    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)
    n: int = pydantic.Field(ge=0)
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}


class _TrainingCells(pydantic.BaseModel):
    n: int = pydantic.Field(ge=0)
    others: _Others


class _Details(pydantic.BaseModel):
    """What of an evaluator's details is read when results are compared, ranked, or put into tables and reports."""

    interval: str = ""
    confusion: _Confusion | None = None
    per_class: dict[str, float] = {}
    chance: dict[str, _Level] = {}
    unreachable_classes: list[str] = []
    training_cells: _TrainingCells | None = None
    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)


class _Neighbors(pydantic.BaseModel):
    """What of a classifier's parameters is read by name; others may hold anything that JSON does."""

    k: Annotated[int, pydantic.Field(ge=1)] | None = None
    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)


class _Run(pydantic.BaseModel):
    """What of a result's provenance is read by name."""

    seed: int = 0
    started: str = ""
    package: str = ""
    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)


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


def validated(content: Any) -> Result:
    """Return a result, with those of its details and parameters that are read anywhere checked, too.

    Raises
    ------
    pydantic.ValidationError
        Where anything does not fit.
    """
    result = Result.model_validate(content)
    details = dict(result.details)
    if isinstance(details.get("chance"), dict):  # beside the levels of metrics it says how they were made
        details["chance"] = {name: level for name, level in details["chance"].items() if name in result.metrics}
    _Details.model_validate(details)
    _Run.model_validate(result.run)
    if "confusion" in details:
        _Neighbors.model_validate(result.evaluator.params)
    return result


def read_result(file: Path) -> Result:
    """Return a result file, validated, with its predictions where they lie beside it.

    Raises
    ------
    UserError
        For a file that is not JSON, not a result, or of a schema that this version does not read.
    """
    import pandas as pd

    try:
        content = read_json(file)
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
        result = validated(content)
    except pydantic.ValidationError as error:
        place = {"_Details": "details.", "_Neighbors": "evaluator.params.", "_Run": "run."}.get(error.title, "")
        raise UserError(f"{file} is not a result of pci-bench: {place}{first_fault(error)}.") from error
    parquet = file.with_suffix(".parquet")
    predictions = None
    if parquet.is_file():
        check_within(file.parent, parquet)
        predictions = _read(pd.read_parquet, parquet, "Parquet")
        _check_predictions(predictions, parquet)

    start = f"{file.stem}."
    found = [f for f in sorted(file.parent.glob("*.csv")) if f.name.startswith(start)]
    for beside in found:
        check_within(file.parent, beside)
    tables = {f.stem.removeprefix(start): _read(read_csv, f, "CSV") for f in found}
    return result.with_tables(predictions, tables)


def _read(reader: Callable[[Path], pd.DataFrame], file: Path, form: str) -> pd.DataFrame:
    try:
        return reader(file)
    except (
        Exception
    ) as error:  # Arrow's and pandas' errors are ValueErrors, but those on damaged metadata are of any kind
        raise_shortage(error)
        raise UserError(
            f"{file} cannot be read as {form} ({error}). Run the benchmark again to write it anew."
        ) from error


def read_results(folder: Path) -> list[Result]:
    """Return all results below an output folder: those of its last run in the run's order, then others by their paths."""
    check_within(folder, folder / "results")
    files = files_within(folder / "results", "*.json")
    listed = read_run_file(folder / "run.json").results if (folder / "run.json").exists() else []
    order = {folder / path: position for position, path in enumerate(listed)}
    files.sort(key=lambda file: order.get(file, len(order)))
    if not files:
        raise UserError(
            f"There are no results in {folder}: expected {folder / 'results'} as `pci-bench run` writes it."
        )
    return [read_result(file) for file in files]


def _check_predictions(table: pd.DataFrame, file: Path) -> None:
    """Raise a sentence where a column that is read as numbers holds none."""
    import pandas as pd

    for column in ("correct", "umap_1", "umap_2", "score"):
        if column in table and not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(
                f"{file} has no numbers in its column '{column}'. Run the benchmark again to write it anew."
            )


class Reason(pydantic.BaseModel):
    """What could not be run, and why."""

    features: str = ""
    evaluator: str = ""
    dataset: str = ""
    reason: str = "no reason is recorded"


class RunFile(pydantic.BaseModel):
    """What of an output folder's ``run.json`` its results are read with: their order, and what was not run."""

    schema_: int = pydantic.Field(alias="schema")
    arguments: dict[str, Any] = {}
    results: list[str]
    figures: list[str] = []
    not_run: list[Reason] = []
    notes: list[str] = []
    run: dict[str, Any]


def read_run_file(file: Path) -> RunFile:
    """Return the content of a ``run.json`` that stands beside results.

    Raises
    ------
    UserError
        For a file that cannot be read, is a link out of its folder, or is not of pci-bench.
    """
    check_within(file.parent, file)
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file} cannot be read as JSON ({error}). Run the benchmark again to write it anew."
        ) from error
    try:
        return RunFile.model_validate(content)
    except pydantic.ValidationError as error:
        raise UserError(f"{file} is not the record of a run of pci-bench: {first_fault(error)}.") from error


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
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{file} is not the record of a run ({type(error).__name__}: {error}). {name_it}") from error
    if isinstance(content, dict) and content.get("schema", SCHEMA) != SCHEMA:
        raise UserError(f"{file} has schema {content['schema']}; this version reads {SCHEMA}. Update pci-bench.")
    try:
        return RunRecord.model_validate(content).model_dump()
    except pydantic.ValidationError as error:
        raise UserError(f"{file} is not the record of a run ({first_fault(error)}). {name_it}") from error
