"""What an evaluator is: parameters that are validated, a reason when it cannot run, and outcomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pci_bench.arguments import MAX_COUNT
from pci_bench.errors import UserError
from pci_bench.progress import Progress
from pci_bench.registry import Registry, checked_reason, origin_of

if TYPE_CHECKING:
    import pandas as pd
    import pydantic
    from anndata import AnnData

    from pci_bench.cells import Cells


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
        The metric that tables and figures show.
    key
        Parameters that are always part of a result's file name; others only where they are not the default.
    any_order
        Whether the metrics are the same for any order of the cells, which ``pci-bench test`` then checks.
    lower_is_better
        Whether a smaller headline is the better one.
    picture
        Whether its numbers describe a picture that differs between machines, which is never gated.
    needs
        What it takes besides features: ``"cells"`` (their crops), ``"model"`` (the weights they were computed with).
    reusable
        Whether outcomes follow from the features, the cells' table, the parameters and the seed alone, so that a run may take
        those of an earlier one (:mod:`pci_bench.kept`); not where other files are read.
    """

    name: str
    version: str
    title: str
    headline: str
    key: tuple[str, ...] = ()
    any_order: bool = False
    lower_is_better: bool = False
    picture: bool = False
    needs: tuple[str, ...] = ()
    reusable: bool = False


@dataclass(frozen=True)
class Outcome:
    """One evaluation: its parameters (resolved), numbers, 95 % intervals, details, a row per cell, and further tables by name."""

    params: dict[str, Any]
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    predictions: pd.DataFrame | None = None
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What an evaluator may use of the run that it is part of.

    Parameters
    ----------
    seed, threads, progress
        What drives everything random, how many cores there are, and who is told of every stage.
    cells
        The cells that the features belong to, in their order, or None where only features are known.
    weights
        The weights file that the features were computed with, or None.
    """

    seed: int = 0
    threads: int = 1
    progress: Progress = field(default_factory=Progress)
    cells: Cells | None = None
    weights: Path | None = None


class Evaluator(Protocol):
    """Pure array functions behind one object: the whole grid of parameters at once, so that work is shared."""

    meta: EvaluatorMeta
    Params: type[pydantic.BaseModel]

    def skip(self, adata: AnnData, params: Any) -> str | None:
        """Return why these features or parameters cannot be evaluated and what to do about it, or None."""
        ...

    def __call__(self, adata: AnnData, grid: list[Any], run: Run) -> Iterator[Outcome]:
        """Yield one outcome for each set of parameters, in order."""
        ...


EVALUATORS: Registry[Evaluator] = Registry("evaluator")

OBS_COLUMN: dict[str, Any] = {"obs_column": True}  # of a parameter that names a column which is used where there is one

COMPLETION_RULE = (
    "A value that is not defined for a cell is its column's mean over the other cells of the run, "
    "and 0 in a column that is defined for none."
)


def register_evaluator(name: str) -> Callable[[type], type]:
    """Return a class decorator that registers an evaluator."""

    def register(cls: type) -> type:
        EVALUATORS.register(name, cls(), origin=origin_of(cls))
        return cls

    return register


def validated(evaluator: Evaluator, values: dict[str, Any]) -> pydantic.BaseModel:
    """Return an evaluator's parameters, defaults filled in.

    Raises
    ------
    UserError
        Naming the parameter, what was given and what is expected.
    """
    import pydantic

    try:
        params = evaluator.Params(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = ", ".join(evaluator.Params.model_fields)
            raise UserError(f"{evaluator.meta.name} has no parameter '{where}'. Its parameters are {known}.") from error
        raise UserError(
            f"{where} = {first['input']!r} does not fit {evaluator.meta.name}: {first['msg'].lower()}."
        ) from error
    for name, value in params:
        if isinstance(value, int | float) and not abs(value) <= MAX_COUNT:  # NaN is not
            raise UserError(
                f"{name} = {value!r} does not fit {evaluator.meta.name}: a finite number of at most {MAX_COUNT:,} is expected."
            )
    return params


def why_not_asked(evaluator: Evaluator, adata: AnnData, params: Any, asked: Iterable[str]) -> str | None:
    """Return why an evaluator cannot be run with parameters of which a user set those of the names `asked`, or None.

    Beside the evaluator's own reason: a column that it uses where there is one must be there if a user names it.
    """
    if reason := checked_reason(evaluator.skip(adata, params)):
        return reason
    for name in asked:
        info = type(params).model_fields.get(name)
        if info is not None and info.json_schema_extra == OBS_COLUMN and getattr(params, name) not in adata.obs:
            columns = ", ".join(map(str, adata.obs.columns))
            return f"{dataset_name(adata)} has no column '{getattr(params, name)}'; its columns are {columns}"
    return None


def dataset_name(adata: AnnData) -> str:
    """Return the dataset's name, for sentences."""
    return str(adata.uns.get("pci_bench", {}).get("dataset", {}).get("name", "the table"))


def texts(adata: AnnData, column: str) -> np.ndarray:
    """Return an obs column as (n,) str, "" where missing or absent."""
    if column not in adata.obs:
        return np.full(adata.n_obs, "")
    return adata.obs[column].astype("string").fillna("").to_numpy(str)


def resolve_exclude(adata: AnnData, exclude: str) -> str:
    """Return the obs column that `exclude` stands for: ``confounder`` is the dataset's declared one (``""`` if none)."""
    if exclude != "confounder":
        return exclude
    return str(adata.uns.get("pci_bench", {}).get("dataset", {}).get("confounder", ""))


def exclusion_groups(adata: AnnData, column: str) -> np.ndarray:
    """Return the groups (n,) int of an obs column; a missing value is a group of its own."""
    import pandas as pd

    if column == "cell" and "cell" not in adata.obs:
        return np.arange(adata.n_obs)
    values = adata.obs[column]
    codes = pd.factorize(values, sort=True)[0].astype(np.int64)  # sorted: no number may depend on the cells' order
    blank = (codes < 0) | (values.astype("string").fillna("") == "").to_numpy(bool)
    codes[blank] = codes.max(initial=0) + 1 + np.arange(blank.sum())
    return codes


def completed(values: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Return features without NaN, and what was replaced.

    Parameters
    ----------
    values
        (n, d) float; NaN where a feature is not defined for a cell.

    Returns
    -------
    values
        (n, d) of the same type: a NaN is its column's mean over all n cells, and 0 where the column holds nothing else.
    note
        How many values and columns, and the rule as a sentence; empty where nothing was NaN.
    """
    missing = np.isnan(values)
    columns = missing.any(axis=0)
    if not columns.any():
        return values, {}
    ordered = np.sort(values[:, columns], axis=0)  # sorted: no number may depend on the cells' order
    known = len(values) - missing[:, columns].sum(axis=0)
    means = np.zeros(values.shape[1])
    means[columns] = np.nansum(ordered, axis=0, dtype=np.float64) / np.maximum(known, 1)
    note = {"values": int(missing.sum()), "columns": int(columns.sum()), "rule": COMPLETION_RULE}
    return np.where(missing, means.astype(values.dtype), values), note


def standardized(features: np.ndarray) -> np.ndarray:
    """Return columns less their mean over their SD (ddof 0), in float64; constant columns become zeros.

    (n, d) -> (n, d). Paper: "centering and scaling features by their mean and standard deviation".
    """
    values = np.asarray(features, dtype=np.float64)
    constant = values.min(axis=0) == values.max(axis=0)
    centred = values - values.mean(axis=0)
    spread = centred.std(axis=0)
    centred[:, constant] = 0
    return centred / np.where(constant | (spread == 0), 1, spread)
