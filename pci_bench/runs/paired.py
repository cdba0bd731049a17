"""The difference between two results on the same cells, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.evaluator import LEAVE_ONE_OUT, Metric
from pci_bench.errors import UserError
from pci_bench.runs.results import Result, headline, metric_of, parameters, training_variance
from pci_bench.statistics.intervals import LEVEL, Spread, stratified_jackknife
from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.paired import bootstrap_differences, jackknife_variance_of, mcnemar_p, mean_gain

if TYPE_CHECKING:
    import pandas as pd


BOOTSTRAP_DRAWS = 2000
PREDICTION_COLUMNS = ("cell", "label", "predicted", "fold", "correct")


@dataclass(frozen=True)
class PairedDifference:
    """By how much one result is above another on the same cells, as a fraction where the metric is one.

    Parameters
    ----------
    metric
        What differs.
    first, second
        Its two values.
    interval
        The 95 % interval of the first minus the second: a jackknife over units, which are left out of both sides at once.
    bootstrap
        The same by a bootstrap that draws whole units anew; None where results keep no predictions.
    only_first, only_second
        How many cells the first alone, and the second alone, predicts rightly; None where predictions are shares or are not kept.
    mcnemar_p
        Of McNemar's exact test of these two numbers. It takes cells for independent, so it is a check and not the answer.
    n_cells, unit, n_units
        How many cells there are, what is drawn anew, and how many of them there are.

    Examples
    --------
    >>> interval, none = (0.1, 0.3), None
    >>> difference = PairedDifference("balanced_accuracy", 0.9, 0.7, interval, none, none, none, none, 400, "image", 40)
    >>> round(difference.value, 3), difference.separable
    (0.2, True)
    """

    metric: str
    first: float
    second: float
    interval: tuple[float, float]
    bootstrap: tuple[float, float] | None
    only_first: int | None
    only_second: int | None
    mcnemar_p: float | None
    n_cells: int
    unit: str
    n_units: int

    @property
    def value(self) -> float:
        """The first minus the second."""
        return self.first - self.second

    @property
    def separable(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


def paired_difference(first: Result, second: Result, *, seed: int = 0) -> PairedDifference:
    """Return by how much one result is above another on the same cells: two feature sets, or one at two levels of strictness.

    Parameters
    ----------
    first, second
        Results with predictions, of which balanced accuracy is compared; or results of an evaluator that keeps its headline
        without each unit (the table ``leave-one-out``).
    seed
        Of the bootstrap.

    Returns
    -------
    PairedDifference
        First minus second. Units are the values of the dataset's confounder, drawn within their classes; cells where there is none.
        Both intervals are widened by the factor for what predictions were learned from. Features, their scaling, and whatever is
        coarser than the unit (cell lines where units are plates) are taken as given.

    Raises
    ------
    UserError
        For results that are of different cells, or that keep nothing by which they could be paired.

    Examples
    --------
    >>> import pci_bench
    >>> cells = pci_bench.load_dataset("yeast-sim")[::4]
    >>> (first,), (second,) = (pci_bench.evaluate("loo-knn", pci_bench.extract(f, cells)) for f in ("intensity", "noise"))
    >>> difference = paired_difference(first, second)
    >>> f"{difference.value:.3f}", difference.unit, difference.separable
    ('0.214', 'image', True)
    """
    what = " and ".join(f"{r.features.full_name} ({r.evaluator.name})" for r in (first, second))
    if first.dataset.sha256 != second.dataset.sha256 or first.dataset.n_cells != second.dataset.n_cells:
        raise UserError(
            f"{what} were evaluated on different cells ({first.dataset.n_cells:,} of {first.dataset.name}, "
            f"{second.dataset.n_cells:,} of {second.dataset.name}), which cannot be paired. Name results of one run."
        )
    if (replicates := _joined_replicates(first, second)) is not None:
        metric, unit, strata, values = replicates
        spread = _spread_of(first, second, unit, values, strata)
        a, b = first.metrics[metric], second.metrics[metric]
        return PairedDifference(
            metric, a, b, spread.interval(a - b), None, None, None, None, first.dataset.n_cells, unit, len(values)
        )
    both = joined(second, first)
    if both is None or both.empty or any("balanced_accuracy" not in r.metrics for r in (first, second)):
        raise UserError(
            f"{what} cannot be paired: they keep no predictions of the same cells. Use results of a classifier, such as loo-knn, that "
            "lie with their tables where `pci-bench run` wrote them."
        )
    value, spread = _difference(second, first, both)
    labels = np.unique(both["label"].astype(str).to_numpy(), return_inverse=True)[1]
    groups = _groups(both)
    right = {side: both[f"right_{side}"].to_numpy(float) for side in ("new", "old")}
    gain = right["new"] - right["old"]
    units, strata, singly = units_and_strata(groups, labels, both.index.to_numpy(str))
    drawn = bootstrap_differences(labels, gain, units, strata, BOOTSTRAP_DRAWS, seed)
    student = Spread(1.0, spread.df).half_width() / Spread(1.0, np.inf).half_width()  # few units: as the jackknife's
    widened = student * np.sqrt(_factor(first, second, groups)) * (drawn - drawn.mean())
    low, high = value + np.quantile(widened, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    whole = not any((r % 1 != 0).any() for r in right.values())
    alone = [int((gain == sign).sum()) for sign in (1, -1)] if whole else None
    return PairedDifference(
        "balanced_accuracy",
        first.metrics["balanced_accuracy"],
        second.metrics["balanced_accuracy"],
        spread.interval(value, low=-1, high=1),
        (float(max(low, -1)), float(min(high, 1))),
        None if alone is None else alone[0],
        None if alone is None else alone[1],
        None if alone is None else mcnemar_p(*alone),
        len(both),
        "cell" if singly.all() else str(confounder_column(first)),
        len(strata),
    )


@dataclass(frozen=True)
class FeatureComparison:
    """The difference of two feature sets in one evaluation: on which dataset, by what, and of which two."""

    dataset: str
    evaluation: str
    names: tuple[str, str]
    form: Metric
    difference: PairedDifference


def feature_differences(
    results: Sequence[Result], first: str, second: str, *, seed: int = 0
) -> list[FeatureComparison]:
    """Return the paired difference of two feature sets in every evaluation that has both.

    Parameters
    ----------
    results
        Of any runs; where several are of the same, the newest counts.
    first, second
        Names of feature sets, with their weights or without where the results hold one of them only.
    seed
        Of the bootstrap.

    Raises
    ------
    UserError
        For a name that no result or several feature sets have, or where no evaluation has both.
    """
    names = [_full_name(results, name) for name in (first, second)]
    if names[0] == names[1]:
        raise UserError(f"'{first}' and '{second}' are the same feature set, {names[0]}. Name two.")
    found: dict[tuple[str, str], dict[str, Result]] = {}
    for result in sorted(results, key=lambda r: str(r.run.get("started", ""))):
        evaluation = f"{result.evaluator.name} {parameters(result, separator=', ')}".strip()
        found.setdefault((result.dataset.name, evaluation), {})[result.features.full_name] = result
    both = {key: (of[names[0]], of[names[1]]) for key, of in found.items() if set(names) <= set(of)}
    pairable = {key: pair for key, pair in both.items() if _is_pairable(*pair)}
    if not pairable:
        raise UserError(
            f"No evaluation has {names[0]} and {names[1]} with predictions of the same cells. Run a classifier with both, as "
            f"`pci-bench run knn --features {names[0]},{names[1]}`, and name its folder."
        )
    compared = []
    for (dataset, evaluation), pair in pairable.items():
        difference = paired_difference(*pair, seed=seed)
        form = metric_of(pair[0], difference.metric)
        compared.append(FeatureComparison(dataset, evaluation, (names[0], names[1]), form, difference))
    return compared


def _full_name(results: Sequence[Result], name: str) -> str:
    """Return the one feature set of some results that a name stands for."""
    known = list(dict.fromkeys(r.features.full_name for r in results))
    meant = [full for full in known if full == name] or [full for full in known if full.partition("@")[0] == name]
    if not meant:
        raise UserError(f"No result is of '{name}'. These are of {', '.join(known)}.")
    if len(meant) > 1:
        raise UserError(f"'{name}' stands for {len(meant)} feature sets; name one of them: {', '.join(meant)}.")
    return meant[0]


def _is_pairable(first: Result, second: Result) -> bool:
    """Return whether two results are of the same cells and hold what a paired difference takes."""
    if first.dataset.sha256 != second.dataset.sha256:
        return False
    if _joined_replicates(first, second) is not None:
        return True
    return all("balanced_accuracy" in r.metrics for r in (first, second)) and joined(first, second) is not None


def paired_interval(old: Result, new: Result, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the interval of the difference in balanced accuracy, by a jackknife over what the results' intervals draw.

    Images (the dataset's confounder, a column beside the predictions) are left out of both sides at once, within a class;
    without such a column, or in a class of one image, cells are. The variance is multiplied for what the predictions were
    learned from (:func:`pci_bench.runs.results.training_variance`). Results with folds of cells are means over folds.

    None where a side has no predictions, or they are of different cells.
    """
    both = joined(old, new)
    if both is None:
        return None
    value, spread = _difference(old, new, both)
    return spread.interval(value, level=level, low=-1, high=1)


def _groups(both: pd.DataFrame) -> np.ndarray | None:
    """Return the group of every joined cell (n,) int, or None where there are none."""
    return np.unique(both["group"].to_numpy(str), return_inverse=True)[1] if "group" in both else None


def _factor(old: Result, new: Result, groups: np.ndarray | None) -> float:
    """Return what the variance is multiplied by for the cells that predictions were learned from."""
    return max(training_variance(r, grouped=groups is not None) for r in (old, new))


def _difference(old: Result, new: Result, both: pd.DataFrame) -> tuple[float, Spread]:
    """Return the difference in balanced accuracy of joined predictions, new minus old, and its spread."""
    names, labels = np.unique(both["label"].astype(str).to_numpy(), return_inverse=True)
    groups = _groups(both)
    n_classes = len(names)
    factor = _factor(old, new, groups)
    right_old, right_new = (both[f"right_{side}"].to_numpy(float) for side in ("old", "new"))
    if any((right % 1 != 0).any() for right in (right_old, right_new)):
        value, spread = mean_gain(labels, right_new - right_old, groups, both.index.to_numpy(str))
        return value, spread.times(factor)
    sides: list[tuple[int, np.ndarray, np.ndarray]] = []  # number of folds, each cell's, whether it is right
    for result, side in ((old, "old"), (new, "new")):
        fold = np.zeros(len(both), np.int64)
        if f"fold_{side}" in both and result.evaluator.params.get("exclude", "cell") == "cell":
            fold = np.unique(both[f"fold_{side}"].to_numpy(), return_inverse=True)[1]
        sides.append((int(fold.max()) + 1, fold, both[f"right_{side}"].to_numpy(int)))
    widths = [2 * folds for folds, _, _ in sides]
    codes = np.array([2 * fold + right for _, fold, right in sides])

    def difference(counts: np.ndarray) -> dict[str, np.ndarray]:
        joint = counts.reshape(*counts.shape[:-1], *widths)
        values = []
        for axis, (folds, _, _) in zip((-1, -2), sides, strict=True):
            own = joint.sum(axis=axis).reshape(*counts.shape[:-1], folds, 2)
            cells = own.sum(axis=-1)
            share = np.divide(own[..., 1], cells, out=np.zeros(cells.shape), where=cells > 0)
            values.append((share.sum(axis=-2) / np.maximum((cells > 0).sum(axis=-2), 1)).mean(axis=-1))
        return {"difference": values[1] - values[0]}

    shape = (n_classes, widths[0] * widths[1])
    code = codes[0] * widths[1] + codes[1]
    spreads, _ = stratified_jackknife(labels, code, groups, shape, difference)
    value = float(
        difference(np.bincount(labels * shape[1] + code, minlength=shape[0] * shape[1]).reshape(shape))["difference"]
    )
    return value, spreads["difference"].times(factor)


def separable(better: Result, worse: Result, metric: str, *, comparisons: int = 1) -> bool:
    """Return whether the interval of the paired difference leaves out 0; without predictions, whether intervals are disjoint.

    Parameters
    ----------
    better, worse
        Two results of one evaluation.
    metric
        What is compared.
    comparisons
        How many pairs could be compared: the paired interval's level is 1 − 0.05 / `comparisons` (Bonferroni), so that with
        a chance of at most 5 % any two equally good ones of a ranking are called different.
    """
    level = 1 - (1 - LEVEL) / comparisons
    paired = paired_interval(worse, better, level) if metric == "balanced_accuracy" else None
    if paired is None and metric == headline(better) and (replicates := _joined_replicates(better, worse)) is not None:
        spread = _spread_of(better, worse, replicates[1], replicates[3], replicates[2])
        paired = spread.interval(better.metrics[metric] - worse.metrics[metric], level=level)
    if paired is not None:
        return paired[0] > 0
    if metric not in better.intervals or metric not in worse.intervals:
        return better.metrics[metric] != worse.metrics[metric]
    return better.intervals[metric][0] > worse.intervals[metric][1]


def joined(old: Result, new: Result) -> pd.DataFrame | None:
    """Return one row per cell with how often each side is right, its folds, and its ``group`` where both know the confounder.

    None where a side has no predictions, or they are not of the same cells.
    """
    before, after = old.predictions, new.predictions
    if before is None or after is None or not {"cell", "label", "predicted"} <= set(before) & set(after):
        return None
    sides = [
        table.assign(right=_rightness(table)).set_index("cell")[["label", "right", *({"fold"} & set(table))]]
        for table in (before, after)
    ]
    if set(sides[0].index) != set(sides[1].index):
        return None
    if len({*map(len, sides), sides[0].index.nunique()}) > 1:
        return None
    per_cell = sides[0].add_suffix("_old").join(sides[1].add_suffix("_new")).rename(columns={"label_old": "label"})
    confounder = confounder_column(old)
    if confounder is not None and confounder == confounder_column(new):
        per_cell["group"] = before.set_index("cell")[confounder].astype("string").fillna("")
    return per_cell


def _joined_replicates(first: Result, second: Result) -> tuple[str, str, np.ndarray, np.ndarray] | None:
    """Return the headline, what is left out, and strata and differences (units,) of what both results give without each unit.

    None where a side keeps no such table, or they are of different units.
    """
    metric = headline(first)
    if any(LEAVE_ONE_OUT not in r.tables or metric not in r.metrics for r in (first, second)):
        return None
    tables = [r.table(LEAVE_ONE_OUT).astype({"unit": str}).set_index("unit") for r in (first, second)]
    if set(tables[0].index) != set(tables[1].index) or any(metric not in table for table in tables):
        return None
    values = tables[0][metric] - tables[1][metric].reindex(tables[0].index)
    unit = str(first.details.get("unit", first.dataset.confounder or "cell"))
    return metric, unit, tables[0]["stratum"].to_numpy(int), values.to_numpy(float)


def _spread_of(first: Result, second: Result, unit: str, values: np.ndarray, strata: np.ndarray) -> Spread:
    """Return the spread of a difference from its values without each unit, widened for what the numbers were learned from."""
    factor = max(training_variance(r, grouped=unit != "cell") for r in (first, second))
    return Spread(*jackknife_variance_of(values, strata)).times(factor)


def _rightness(predictions: pd.DataFrame) -> pd.Series:
    """Return how often each prediction is right: 0 or 1, or a share where it was made in several draws."""
    if "correct" in predictions:
        return predictions["correct"].astype(float)
    return (predictions["label"].astype(str) == predictions["predicted"].astype(str)).astype(float)


def confounder_column(result: Result) -> str | None:
    """Return the column beside a result's predictions that holds the dataset's confounder, or None.

    Of results that were written before they said it: the first column that is none of the predictions' own.
    """
    columns = [] if result.predictions is None else list(map(str, result.predictions))
    if result.dataset.confounder is None:
        return next((c for c in columns if c not in PREDICTION_COLUMNS), None)
    return result.dataset.confounder if result.dataset.confounder in columns else None
