"""Results: one evaluation, one validated JSON file, with its predictions beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic

from pci_bench.api.evaluator import EVALUATORS, Evaluator, Metric
from pci_bench.errors import UserError
from pci_bench.runs.frame import results_frame
from pci_bench.runs.record import RunRecord
from pci_bench.statistics.intervals import NOTHING_LEARNED, TRAINING_VARIANCE, training_variance_of
from pci_bench.system.files import atomic_file, copy_if_different, escape, json_text
from pci_bench.system.foreign import check_within, files_within, first_fault, read_json
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
NAMES = (
    "cell",
    "neighbour",
    "label",
    "predicted",
    "neighbour_label",
)  # columns of tables: texts, whatever they look like
SHARES = ("balanced_accuracy", "macro_f1", "accuracy")


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)


class DatasetRecord(_Part):
    """Which cells were evaluated.

    ``confounder`` is the dataset's declared column, "" where it declares none; None in results that do not say it yet. ``levels`` are
    the columns by which a comparison is made stricter, the loosest first; empty in results that do not say it yet.
    """

    name: str
    version: str
    sha256: str
    n_cells: int = pydantic.Field(ge=0)
    classes: dict[str, Annotated[int, pydantic.Field(ge=0)]]
    limit: Annotated[int, pydantic.Field(ge=0)] | None = None
    confounder: str | None = None
    levels: tuple[str, ...] = ()


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


class MetricRecord(_Part):
    """How a metric is printed and compared, as its evaluator declares it (:class:`pci_bench.api.evaluator.Metric`)."""

    unit: Literal["percent", "count", "number"] = "number"
    decimals: Annotated[int, pydantic.Field(ge=0, le=17)] | None = None
    higher_is_better: bool = True
    reproducible: bool = True


class EvaluatorRecord(_Part):
    """Which evaluator, with which parameters, all of them resolved, and what is needed to read its numbers without it.

    ``key``, ``headline``, ``metrics`` and ``training_variance`` are as in :class:`pci_bench.api.evaluator.EvaluatorMeta`;
    ``defaults`` are those of its parameters. Results of version 0.1 have none of the five.
    """

    name: str
    version: str
    params: dict[str, Any]
    title: str = ""
    key: tuple[str, ...] | None = None
    defaults: dict[str, Any] = {}
    headline: str = ""
    metrics: dict[str, MetricRecord] = {}
    training_variance: tuple[float, float] | None = None

    @classmethod
    def of(cls, evaluator: Evaluator, params: dict[str, Any], metrics: Iterable[str]) -> EvaluatorRecord:
        """Return the record of an evaluation with some parameters that gave some metrics."""
        meta = evaluator.meta
        return cls(
            name=meta.name,
            version=meta.version,
            params=params,
            title=meta.title,
            key=meta.key,
            defaults={name: info.default for name, info in evaluator.Params.model_fields.items()},
            headline=meta.headline,
            metrics={name: MetricRecord(**asdict(meta.metric(name))) for name in metrics},
            training_variance=meta.training_variance,
        )


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

    Examples
    --------
    >>> import pci_bench
    >>> intensity = pci_bench.extract("intensity", pci_bench.load_dataset("yeast-sim")[::4])
    >>> (result,) = pci_bench.evaluate("loo-knn", intensity, k=5)
    >>> result.features.name, result.dataset.n_cells, result.evaluator.headline
    ('intensity', 641, 'balanced_accuracy')
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

    def __repr__(self) -> str:
        numbers = [f"{name.replace('_', ' ')} {_number_text(self, name)}" for name in self.metrics]
        settings = f" ({parameters(self, separator=', ')})" if self.evaluator.params else ""
        what = f"{self.features.full_name} on {self.dataset.name}, {self.dataset.n_cells:,} cells"
        return f"Result({self.evaluator.name}{settings}, {what}: {', '.join(numbers)})"

    def __str__(self) -> str:
        return repr(self)

    def _repr_html_(self) -> str:
        return str(results_frame([self]).to_html(index=False, na_rep="", float_format="{:.3f}".format))

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

    def table(self, name: str) -> pd.DataFrame:
        """Return a table that the evaluator made besides.

        Raises
        ------
        UserError
            Where its file is missing.
        """
        if name not in self._tables:
            raise UserError(
                f"The table '{name}' of {self.evaluator.name} for {self.features.full_name} on {self.dataset.name} is missing "
                "beside the result. Run the benchmark again to write it."
            )
        return self._tables[name]

    def with_tables(self, predictions: pd.DataFrame | None, tables: dict[str, pd.DataFrame] | None = None) -> Result:
        """Return this result with its predictions and further tables attached."""
        self._predictions, self._predictions_file = predictions, None
        self._tables = dict(tables or {})
        return self

    def with_predictions_in(self, file: Path) -> Result:
        """Return this result with predictions that lie in a Parquet file, which is read when they are asked for."""
        self._predictions_file = file
        return self

    def label(
        self, key: tuple[str, ...], defaults: dict[str, Any], *, separator: str = ",", by_name: bool = False
    ) -> str:
        """Return the parameters that tell this result from its like: those of `key`, and what is not the default.

        They stand as the evaluator declares them, or in the order of their names.
        """
        params = self.telling_params(key, defaults)
        return separator.join(f"{name}={params[name]}" for name in (sorted(params) if by_name else params))

    def telling_params(self, key: tuple[str, ...], defaults: dict[str, Any]) -> dict[str, Any]:
        """Return the parameters of :meth:`label`, with their values."""
        return {k: v for k, v in self.evaluator.params.items() if k in key or v != defaults.get(k)}

    def path(self, key: tuple[str, ...], defaults: dict[str, Any]) -> Path:
        """Return the file's path below an output folder: ``results/<dataset>/<features>/<evaluator>/<params>.json``."""
        stem = escape(self.label(key, defaults) or "default")
        folders = (self.dataset.name, self.features.full_name, self.evaluator.name)
        return Path("results", *map(escape, folders), f"{stem}.json")


def key_and_defaults(result: Result) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Return what a result's parameters are told apart by: its evaluator's key, and the defaults that need no mention.

    Of results of version 0.1, which do not say: as the evaluator says now; all parameters where nobody knows it.
    """
    if result.evaluator.key is not None:
        return result.evaluator.key, result.evaluator.defaults
    if result.evaluator.name not in EVALUATORS:
        return tuple(result.evaluator.params), {}
    evaluator = EVALUATORS.get(result.evaluator.name)
    return evaluator.meta.key, {name: info.default for name, info in evaluator.Params.model_fields.items()}


def headline(result: Result) -> str:
    """Return the metric that tables and rankings show of a result's evaluator; its first where nobody says."""
    if result.evaluator.headline:
        return result.evaluator.headline
    if result.evaluator.name in EVALUATORS:
        return EVALUATORS.get(result.evaluator.name).meta.headline
    return next(iter(result.metrics), "")


def metric_of(result: Result, name: str) -> Metric:
    """Return how a result's metric is printed and compared.

    Of results of version 0.1, which do not say: as the evaluator says now; where nobody knows it, as shares in percent if the
    name is that of a share, else as a number.
    """
    if name in result.evaluator.metrics:
        return Metric(**result.evaluator.metrics[name].model_dump())
    if result.evaluator.name in EVALUATORS:
        return EVALUATORS.get(result.evaluator.name).meta.metric(name)
    return Metric("percent") if name in SHARES else Metric()


def _number_text(result: Result, name: str) -> str:
    """Return a metric as it is printed, with its interval: ``25.7 % [23.1, 28.4]``."""
    form = metric_of(result, name)
    unit = " %" if form.unit == "percent" else ""
    value, *bounds = (
        f"{form.scale * v:.{form.printed_decimals}f}" for v in (result.metrics[name], *result.intervals.get(name, ()))
    )
    return f"{value}{unit}{f' [{bounds[0]}, {bounds[1]}]' if bounds else ''}"


def training_variance(result: Result, *, grouped: bool) -> float:
    """Return what the variance of a result's predictions is multiplied by for the cells that they were learned from.

    Results that were written before evaluators declared it do not say: it is then that of the evaluator's name, or as the
    evaluator says now.

    Parameters
    ----------
    result
        The result.
    grouped
        Whether its intervals draw groups, and not cells.
    """
    record = result.evaluator
    factors = record.training_variance or TRAINING_VARIANCE.get(record.name)
    if factors is None:
        factors = EVALUATORS.get(record.name).meta.training_variance if record.name in EVALUATORS else NOTHING_LEARNED
    return training_variance_of(factors, record.params, grouped=grouped)


def parameters(result: Result, *, separator: str = ",", by_name: bool = False) -> str:
    """Return a result's parameters as its file is named by them, ``k=11,exclude=cell``, or in the order of their names."""
    return result.label(*key_and_defaults(result), separator=separator, by_name=by_name)


def write_result(result: Result, file: Path) -> None:
    """Write a result, its predictions as Parquet and further tables as CSV beside it; each is written atomically."""
    text = json_text(result.model_dump(by_alias=True))  # first, so that what JSON cannot hold leaves no file
    if result.predictions_file is not None:
        copy_if_different(result.predictions_file, file.with_suffix(".parquet"))
    elif result.predictions is not None:
        with atomic_file(file.with_suffix(".parquet")) as temporary:
            result.predictions.to_parquet(temporary, index=False)
    for name, table in result.tables.items():
        with atomic_file(file.with_name(f"{file.stem}.{name}.csv")) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


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
    csv_files = [f for f in sorted(file.parent.glob("*.csv")) if f.name.startswith(start)]
    for csv_file in csv_files:
        check_within(file.parent, csv_file)
    read = partial(read_csv, text=NAMES)
    tables = {f.stem.removeprefix(start): _read(read, f, "CSV") for f in csv_files}
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
    """Return all results below an output folder: those of its last run in the run's order, then others by their paths.

    Raises
    ------
    UserError
        Where there is none, or a file is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pci_bench
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     output = pci_bench.run("yeast-knn", dataset="yeast-sim", features="intensity", k=11, limit=100, out=folder)
    ...     results = read_results(Path(folder))
    >>> [r.evaluator.params["exclude"] for r in results], results == output.results
    (['cell', 'image', 'image'], True)
    """
    check_within(folder, folder / "results")
    files = files_within(folder / "results", "*.json")
    record = RunRecord.of(folder)
    listed = [] if record is None else record.results
    order = {folder / path: position for position, path in enumerate(listed)}
    files.sort(key=lambda file: order.get(file, len(order)))
    if not files:
        raise UserError(
            f"There are no results in {folder}: expected {folder / 'results'} as `pci-bench run` writes it."
        )
    return [read_result(file) for file in files]


def run_folders(folder: Path) -> list[Path]:
    """Return the output folders that a folder is or holds: itself where it has results, else those below it, by their paths.

    Raises
    ------
    UserError
        Where there is none, or a link leads out of the folder.
    """
    if (folder / "results").is_dir():
        return [folder]
    files = files_within(folder, "*.json")
    found = {parent.parent for file in files for parent in file.parents if parent.name == "results"}
    if not found:
        raise UserError(
            f"There are no results in {folder}: expected {folder / 'results'} as `pci-bench run` writes it, or such folders below it."
        )
    return sorted(found)


def _check_predictions(table: pd.DataFrame, file: Path) -> None:
    """Raise a sentence where a column that is read as numbers holds none."""
    import pandas as pd

    for column in ("correct", "umap_1", "umap_2", "score"):
        if column in table and not pd.api.types.is_numeric_dtype(table[column]):
            raise UserError(
                f"{file} has no numbers in its column '{column}'. Run the benchmark again to write it anew."
            )
