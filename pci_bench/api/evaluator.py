"""Evaluators: the base class, what one declares of its metrics, what it gives, and the registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pci_bench.api.params import validated_params
from pci_bench.api.plugins import checked_reason
from pci_bench.api.registry import Registry, instance_of
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.system.blocks import HERE, Blocks
from pci_bench.system.progress import Progress

if TYPE_CHECKING:
    import pandas as pd
    import pydantic
    from anndata import AnnData

    from pci_bench.data.cells import Cells

T = TypeVar("T", bound="Evaluator")

LEAVE_ONE_OUT = (
    "leave-one-out"  # the table of an output that holds its headline without each unit: unit, stratum, value
)


@dataclass(frozen=True)
class Metric:
    """How a metric is printed and compared.

    Parameters
    ----------
    unit
        ``"percent"`` for a fraction that is printed in percent, ``"count"`` for a whole number, else ``"number"``.
    decimals
        How many are printed; by default 1 of percent, none of counts, else 3.
    higher_is_better
        Whether a larger value is the better one.
    reproducible
        Whether the same features give the same value on every machine. What is not, as coordinates of an embedding,
        is never gated.

    Examples
    --------
    >>> Metric("percent").text(0.8793), Metric("number", decimals=2).text(0.8793), Metric("count").text(12)
    ('87.9', '0.88', '12')
    """

    unit: Literal["percent", "count", "number"] = "number"
    decimals: int | None = None
    higher_is_better: bool = True
    reproducible: bool = True

    @property
    def printed_decimals(self) -> int:
        """How many decimals are printed."""
        return {"percent": 1, "count": 0, "number": 3}[self.unit] if self.decimals is None else self.decimals

    @property
    def scale(self) -> float:
        """What a value is multiplied by to be printed."""
        return 100.0 if self.unit == "percent" else 1.0

    def text(self, value: float) -> str:
        """Return a value as it is printed, without its unit."""
        return f"{self.scale * value:.{self.printed_decimals}f}"


@dataclass(frozen=True)
class EvaluatorMeta:
    """What is known about an evaluator before it runs.

    Parameters
    ----------
    name, version
        The version changes whenever its numbers do.
    title
        One line for ``pci-bench list``.
    headline
        The metric that tables, figures and rankings show.
    key
        Parameters that are always part of a result's file name; others only where they are not the default.
    metrics
        How each metric is printed and compared; those that are not named are as ``other_metrics``.
    order_invariant
        Whether the metrics are the same for any order of the cells, which ``pci-bench test`` then checks.
    needs
        What it takes besides features: ``"cells"`` (their crops), ``"model"`` (the weights they were computed with),
        ``"extractor"`` (the same features of changed crops, ``context.features_of``; others are then not given to it).
    reusable
        Whether outputs follow from the features, the cells' table, the parameters and the seed alone, so that a run may take
        those of an earlier one (:mod:`pci_bench.runs.kept`); not where other files are read.
    training_variance
        Of one that learns from the evaluated cells: what the variance of its held-out predictions is multiplied by for it, where
        cells of an image are on both sides of a split, and where an image is on one side as a whole. Those of ours are measured
        (:mod:`pci_bench.statistics.intervals`).
    any_order, lower_is_better, picture
        As version 0.1 said ``order_invariant``, and of the headline (or of all metrics) that smaller is better, or that it is
        not reproducible.

    Examples
    --------
    >>> meta = EvaluatorMeta("spread", "1", "How far cells are apart", "distance", metrics={"distance": Metric(decimals=2)})
    >>> meta.metric("distance").text(0.5)
    '0.50'
    """

    name: str
    version: str
    title: str
    headline: str
    key: tuple[str, ...] = ()
    any_order: InitVar[bool] = False
    lower_is_better: InitVar[bool] = False
    picture: InitVar[bool] = False
    needs: tuple[str, ...] = ()
    reusable: bool = False
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    other_metrics: Metric = Metric()
    order_invariant: bool = False
    training_variance: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self, any_order: bool, lower_is_better: bool, picture: bool) -> None:
        """Take what version 0.1 called otherwise."""
        if any_order:
            object.__setattr__(self, "order_invariant", True)
        if picture:
            object.__setattr__(self, "other_metrics", replace(self.other_metrics, reproducible=False))
        if lower_is_better:
            smaller = replace(self.metric(self.headline), higher_is_better=False)
            object.__setattr__(self, "metrics", {**self.metrics, self.headline: smaller})

    def metric(self, name: str) -> Metric:
        """Return how a metric is printed and compared."""
        return self.metrics.get(name, self.other_metrics)


@dataclass(frozen=True)
class EvaluatorOutput:
    """One evaluation.

    Parameters
    ----------
    params
        All parameters, resolved.
    metrics, intervals
        Numbers, and 95 % intervals of those that have one.
    details
        More to say, as JSON holds it.
    per_cell
        One row per evaluated cell (``cell``, and what was found of it), or None.
    tables
        Further tables by name. Those whose names begin with ``example``, and those with a column ``pixels``, show single cells
        and are never compared. ``leave-one-out`` holds the headline metric without each ``unit`` (image, plate) of a ``stratum``, in a
        column of its name: from it the difference of two results gets its interval (:func:`pci_bench.paired_difference`).

    Examples
    --------
    >>> EvaluatorOutput({"k": 11}, {"accuracy": 0.75}, {"accuracy": (0.7, 0.8)}).metrics["accuracy"]
    0.75
    """

    params: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    per_cell: pd.DataFrame | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def Outcome(  # noqa: N802 - the class of version 0.1, called as one
    params: dict[str, Any],
    metrics: dict[str, float],
    intervals: dict[str, tuple[float, float]] | None = None,
    details: dict[str, Any] | None = None,
    predictions: pd.DataFrame | None = None,
    tables: dict[str, pd.DataFrame] | None = None,
) -> EvaluatorOutput:
    """Return an evaluator's output as version 0.1 called it: what is now ``per_cell`` was ``predictions``.

    Examples
    --------
    >>> Outcome({"k": 11}, {"accuracy": 0.75}) == EvaluatorOutput({"k": 11}, {"accuracy": 0.75})
    True
    """
    return EvaluatorOutput(params, metrics, intervals or {}, details or {}, predictions, tables or {})


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluator may use of the run that it is part of.

    Parameters
    ----------
    seed
        The random seed.
    threads
        How many cores there are.
    progress
        The progress reporter.
    cells
        The cells that the features belong to, in their order, or None where only features are known, as of profiles.
    weights
        The weights file that the features were computed with, or None.
    features_of
        Returns the features under evaluation of other cells, as of :func:`pci_bench.data.changes.changed` ones, through the
        cache; None where they are not computed from crops.
    blocks
        Where long work on arrays is done in blocks of rows: in this process, or on a cluster.

    Examples
    --------
    >>> EvaluationContext(seed=3).threads
    1
    """

    seed: int = 0
    threads: int = 1
    progress: Progress = field(default_factory=Progress)
    cells: Cells | None = None
    weights: Path | None = None
    features_of: Callable[[Cells], AnnData] | None = None
    blocks: Blocks = HERE


Run = EvaluationContext  # as version 0.1 called it


class Evaluator(ABC):
    """Pure array functions behind one object: all sets of parameters at once, so that work is shared.

    Examples
    --------
    >>> import pydantic
    >>> class Largest(Evaluator):
    ...     meta = EvaluatorMeta("largest", "1", "The largest value", "largest", order_invariant=True)
    ...
    ...     class Params(pydantic.BaseModel, extra="forbid"):
    ...         absolute: bool = False
    ...
    ...     def __call__(self, adata, param_sets, context):
    ...         for params in param_sets:
    ...             values = abs(adata.X) if params.absolute else adata.X
    ...             yield EvaluatorOutput(params.model_dump(), {"largest": float(values.max())})
    """

    meta: EvaluatorMeta
    Params: type[pydantic.BaseModel]

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: Any) -> str | None:
        """Return why no feature set of these cells can be evaluated with some parameters and what to do about it, or None.

        It is asked before anything is extracted.
        """
        return None

    def unavailable_reason(self, adata: AnnData, params: Any) -> str | None:
        """Return why these features cannot be evaluated, where others of the same cells can, or None."""
        return None

    @abstractmethod
    def __call__(self, adata: AnnData, param_sets: list[Any], context: EvaluationContext) -> Iterator[EvaluatorOutput]:
        """Yield one output for each set of parameters, in order."""


EVALUATORS: Registry[Evaluator] = Registry("evaluator")

FORMER_METHODS = {"unavailable_reason": "skip"}  # as version 0.1 called them

OBS_COLUMN: dict[str, Any] = {"obs_column": True}  # of a parameter that names a column which is used where there is one

AS_GIVEN: dict[str, Any] = {
    "as_given": "none"
}  # of a parameter that says how features are standardised: its value for not at all


def register_evaluator(name: str) -> Callable[[type[T]], type[T]]:
    """Return a class decorator that registers an :class:`Evaluator`.

    Examples
    --------
    >>> import pydantic
    >>> @register_evaluator("columns")
    ... class Columns(Evaluator):
    ...     meta = EvaluatorMeta("columns", "1", "How many features there are", "columns", order_invariant=True)
    ...     Params = pydantic.create_model("Params")
    ...
    ...     def __call__(self, adata, param_sets, context):
    ...         yield from (EvaluatorOutput({}, {"columns": adata.n_vars}) for _ in param_sets)
    """
    return EVALUATORS.class_decorator(name, lambda cls: instance_of(Evaluator, cls, FORMER_METHODS))


def validated(evaluator: Evaluator, values: dict[str, Any]) -> pydantic.BaseModel:
    """Return an evaluator's parameters, defaults filled in.

    Raises
    ------
    UserError
        Naming the parameter, what was given and what is expected.
    """
    return validated_params(evaluator.meta.name, evaluator.Params, values)


P = TypeVar("P", bound="pydantic.BaseModel")


def as_given(params: P) -> P:
    """Return the parameters that take post-processed features as they are: a declared standardisation would undo it.

    Only a default is changed, of parameters that are declared with ``json_schema_extra=AS_GIVEN``.
    """
    fields = type(params).model_fields
    changed = {
        name: field.json_schema_extra["as_given"]
        for name, field in fields.items()
        if isinstance(field.json_schema_extra, dict)
        and "as_given" in field.json_schema_extra
        and getattr(params, name) == field.default
    }
    return params.model_copy(update=changed) if changed else params


@dataclass
class DatasetReasons:
    """Why evaluators cannot be run on some cells, whatever the features; each is asked once with the same parameters.

    Parameters
    ----------
    obs, dataset
        The cells.
    """

    obs: pd.DataFrame
    dataset: DatasetProvenance
    _known: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def reason(self, evaluator: Evaluator, params: pydantic.BaseModel, requested: Iterable[str] = ()) -> str | None:
        """Return why an evaluator cannot be run with parameters of which a user set those of the names `requested`.

        Beside the evaluator's own reason: a column that it uses where there is one must be there if a user names it.
        """
        name = evaluator.meta.name
        key = name, str(params.model_dump())
        if key not in self._known:
            with EVALUATORS.code(name, "in dataset_reason()", [name]):
                self._known[key] = checked_reason(evaluator.dataset_reason(self.obs, self.dataset, params))
        return self._known[key] or self._missing_column(params, requested)

    def _missing_column(self, params: pydantic.BaseModel, requested: Iterable[str]) -> str | None:
        for name in requested:
            info = type(params).model_fields.get(name)
            if info is not None and info.json_schema_extra == OBS_COLUMN and getattr(params, name) not in self.obs:
                columns = ", ".join(map(str, self.obs.columns))
                return f"{self.dataset.display_name} has no column '{getattr(params, name)}'; its columns are {columns}"
        return None


def features_reason(evaluator: Evaluator, adata: AnnData, params: Any) -> str | None:
    """Return why an evaluator cannot be run on features for their own sake, or None."""
    with EVALUATORS.code(evaluator.meta.name, "in unavailable_reason()", [evaluator.meta.name]):
        return checked_reason(evaluator.unavailable_reason(adata, params))
