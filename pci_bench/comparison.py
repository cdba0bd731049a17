"""Are two sets of results the same? What ``pci-bench compare`` and the gate in CI ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EVALUATORS
from pci_bench.evaluators.intervals import LEVEL, stratified_jackknife, training_variance_of
from pci_bench.evaluators.metrics import share_spreads
from pci_bench.foreign import files_within, first_fault, toml_value
from pci_bench.results import Result, key_and_defaults, read_result, read_results
from pci_bench.text import markdown as in_markdown
from pci_bench.text import markdown_table, xml_text

if TYPE_CHECKING:
    import pandas as pd

PREDICTION_COLUMNS = ("cell", "label", "predicted", "fold", "correct")
ROUNDING = 1e-6  # expected numbers are kept to six digits
PIXELS = "pixels"  # the column of a table of pictures (evaluators.examples)


class Tolerance(pydantic.BaseModel):
    """How far a metric may move: |Δ| ≤ max(absolute, cells / n), or what ``metrics`` says of a metric by name."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    absolute: float = pydantic.Field(0.005, ge=0)
    cells: float = pydantic.Field(2.0, ge=0)
    metrics: dict[str, Annotated[float, pydantic.Field(ge=0)]] = {}

    def of(self, metric: str, n_cells: int) -> float:
        """Return the largest difference of a metric (or of a class's recall) over n cells that is no change."""
        return self.metrics.get(metric, max(self.absolute, self.cells / max(n_cells, 1)))

    def of_column(self, column: str, largest: float) -> float:
        """Return the largest difference in a table's column that is no change: more where its values exceed 1."""
        return self.metrics.get(column, self.absolute * max(1.0, largest))


@cache
def default_tolerance() -> Tolerance:
    """Return the packaged tolerance, ``tables/expected/tolerance.toml``."""
    text = files("pci_bench_tables").joinpath("expected/tolerance.toml").read_text(encoding="utf-8")
    return Tolerance(**toml_value(text))


def read_tolerance(file: Path) -> Tolerance:
    """Return the tolerance of a TOML file: ``absolute``, ``cells`` and a table ``metrics``; the default's where it says nothing.

    Raises
    ------
    UserError
        For a file that is not TOML, or holds anything else.
    """
    default = default_tolerance()
    try:
        given = Tolerance(**{**default.model_dump(exclude={"metrics"}), **toml_value(file.read_text(encoding="utf-8"))})
        return given.model_copy(update={"metrics": default.metrics | given.metrics})
    except (OSError, ValueError) as error:  # TOML's and pydantic's errors are ValueErrors
        what = first_fault(error) if isinstance(error, pydantic.ValidationError) else error
        raise UserError(
            f"{file} is not a tolerance ({what}). It may hold absolute = 0.005, cells = 2 and a table [metrics]."
        ) from error


@dataclass(frozen=True)
class Difference:
    """One number in two results: what it is, its values, how far it may move, and the interval of the paired difference."""

    key: str
    what: str
    old: float
    new: float
    allowed: float
    interval: tuple[float, float] | None = None

    @property
    def delta(self) -> float:
        """New less old."""
        return self.new - self.old

    @property
    def changed(self) -> bool:
        """Whether it moved by more than is allowed."""
        return not abs(self.delta) <= self.allowed + ROUNDING

    @property
    def decimals(self) -> int:
        """How many decimals show that it moved."""
        return 4 if self.allowed >= 0.001 else 6

    @property
    def excess(self) -> float:
        """How far it moved, in what it may move."""
        return float(np.nan_to_num(abs(self.delta), nan=np.inf) / max(self.allowed, ROUNDING))

    @property
    def direction(self) -> str:
        """``higher``, ``lower`` or ``same``."""
        return "same" if not self.changed else "higher" if self.delta > 0 else "lower"


@dataclass
class Comparison:
    """What two sets of results have in common, and what they have not."""

    differences: list[Difference] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    compared: int = 0

    @property
    def changes(self) -> list[Difference]:
        """The numbers that moved."""
        return [d for d in self.differences if d.changed]

    @property
    def same(self) -> bool:
        """Whether nothing moved and nothing is missing."""
        return not self.changes and not self.missing


def key_of(result: Result) -> str:
    """Return what a result is of: dataset, feature set with weights, evaluator, parameters."""
    key, defaults = key_and_defaults(result)  # a parameter that older results lack is the default
    params = ",".join(
        f"{k}={v}" for k, v in sorted(result.evaluator.params.items()) if k in key or v != defaults.get(k)
    )
    return " / ".join((result.dataset.name, result.features.full_name, f"{result.evaluator.name} {params}".strip()))


def read_any(where: Path) -> list[Result]:
    """Return the results of an output folder, of a folder of result files, or of one file.

    Raises
    ------
    UserError
        Where there is none, or a file is damaged.
    """
    if where.is_file():
        return [read_result(where)]
    if (where / "results").is_dir():
        return read_results(where)
    if not where.exists():
        raise UserError(f"There is no {where}. Name a folder that `pci-bench run` wrote, or one of its result files.")
    found = [f for f in files_within(where, "*.json") if f.name != "run.json"]
    if not found:
        raise UserError(
            f"There are no results in {where}. Name a folder that `pci-bench run` wrote, or one of its result files."
        )
    return [read_result(f) for f in found]


def compare(old: Sequence[Result], new: Sequence[Result], tolerance: Tolerance | None = None) -> Comparison:
    """Return every metric, every class's recall and every table of two sets of results side by side.

    Parameters
    ----------
    old, new
        Results; those of one key (:func:`key_of`) are compared.
    tolerance
        How far numbers may move; by default :func:`default_tolerance`.

    Raises
    ------
    UserError
        Where results of one key are of other cells, features or protocols, so that a difference would mean nothing; or where
        nothing can be compared.
    """
    tolerance = tolerance or default_tolerance()
    before, after = _by_key(old), _by_key(new)
    found = Comparison(missing=[k for k in before if k not in after], new=[k for k in after if k not in before])
    for key in before:
        if key not in after:
            continue
        one, other = before[key], after[key]
        _check_comparable(key, one, other)
        if one.evaluator.name in EVALUATORS and EVALUATORS.get(one.evaluator.name).meta.picture:
            found.notes.append(f"{key}: a picture, not compared")
            continue
        found.compared += 1
        for metric in _shared(found, key, one.metrics, other.metrics):
            allowed = tolerance.of(metric, one.dataset.n_cells)
            interval = paired_interval(one, other) if metric == "balanced_accuracy" else None
            found.differences.append(
                Difference(key, metric, one.metrics[metric], other.metrics[metric], allowed, interval)
            )
        recalls, others = (
            {f"recall of {c}": v for c, v in r.details.get("per_class", {}).items()} for r in (one, other)
        )
        for recall in _shared(found, key, recalls, others):
            allowed = tolerance.of(recall, one.dataset.classes.get(recall.removeprefix("recall of "), 1))
            found.differences.append(Difference(key, recall, recalls[recall], others[recall], allowed))
        tables, theirs = ({f"table {name}": t for name, t in without_pictures(r).items()} for r in (one, other))
        for name in _shared(found, key, tables, theirs):
            _compare_tables(found, f"{key}: {name}", tables[name], theirs[name], tolerance)
    if not found.compared and not found.notes:
        raise UserError(
            "Nothing was compared: the two sets of results have no dataset, feature set and evaluator with the same parameters in common."
        )
    if not found.compared:
        raise UserError("Nothing was compared: what the two have in common are pictures, which are never gated.")
    return found


def _by_key(results: Sequence[Result]) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for result in results:
        key = key_of(result)
        if key in found and found[key].dataset.sha256 != result.dataset.sha256:
            raise UserError(
                f"One side holds two results of {key}, of different cells. Compare folders of one run each."
            )
        found[key] = result
    return found


def _check_comparable(key: str, one: Result, other: Result) -> None:
    """Raise where two results of one key are of different cells or protocols."""
    pairs = {
        "the dataset's version": (one.dataset.version, other.dataset.version),
        "the cells (sha256)": (one.dataset.sha256, other.dataset.sha256),
        "the precision of the features": (one.features.precision, other.features.precision),
        "the evaluator's version": (one.evaluator.version, other.evaluator.version),
        "the schema": (one.schema_, other.schema_),
    }
    for what, (a, b) in pairs.items():
        if a != b:
            raise UserError(f"{key} cannot be compared: {what} is {str(a)[:16]} in one and {str(b)[:16]} in the other.")


def without_pictures(result: Result) -> dict[str, pd.DataFrame]:
    """Return a result's tables that hold no pixels; in pictures, the last bit differs between machines."""
    return {name: table for name, table in result.tables.items() if PIXELS not in table}


def _shared(found: Comparison, key: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the names that both sides have, after noting those that only one has."""
    found.missing += [f"{key}: {name}" for name in before if name not in after]
    found.new += [f"{key}: {name}" for name in after if name not in before]
    return [name for name in before if name in after]


def _compare_tables(found: Comparison, key: str, old: pd.DataFrame, new: pd.DataFrame, tolerance: Tolerance) -> None:
    """Note rows and columns of one side only, the number that moved the most for what it may, and how many texts differ."""
    import pandas as pd

    columns = _shared(found, key, *({f"column {c}": c for c in t.columns.map(str)} for t in (old, new)))
    names = [c.removeprefix("column ") for c in columns]
    one, other = (t.rename(columns=str)[names] for t in (old, new))
    numbers = [c for c in names if all(pd.api.types.is_numeric_dtype(t[c]) for t in (one, other))]
    texts = [c for c in names if c not in numbers]
    one, other = (t.assign(**{c: t[c].astype("string").fillna("") for c in texts}) for t in (one, other))
    telling = _telling_columns(one, other, texts)
    one, other = (_with_named_rows(t, telling) for t in (one, other))
    shared = _shared(found, key, dict.fromkeys(one.index), dict.fromkeys(other.index))
    one, other = one.loc[shared], other.loc[shared]
    if not shared:
        return
    if numbers:
        found.differences.append(_most_moved(key, one[numbers], other[numbers], tolerance))
    if others := [c for c in texts if c not in telling]:
        unlike = int((one[others].to_numpy(str) != other[others].to_numpy(str)).sum())
        found.differences.append(Difference(key, "texts that differ", 0.0, float(unlike), tolerance.cells))


def _telling_columns(one: pd.DataFrame, other: pd.DataFrame, texts: list[str]) -> list[str]:
    """Return the fewest first columns of text that tell all rows of both tables apart, or none."""
    for count in range(1, len(texts) + 1):
        if not any(t.duplicated(texts[:count]).any() for t in (one, other)):
            return texts[:count]
    return []


def _with_named_rows(table: pd.DataFrame, telling: list[str]) -> pd.DataFrame:
    """Return a table whose rows are named by what tells them apart, or else by their position."""
    if not telling:
        return table.set_axis([f"row {i}" for i in range(len(table))], axis=0)
    return table.set_axis([f"row {', '.join(row)}" for row in table[telling].itertuples(index=False)], axis=0)


def _most_moved(key: str, one: pd.DataFrame, other: pd.DataFrame, tolerance: Tolerance) -> Difference:
    """Return the number of a table that moved the most for what it may, and say how many moved."""
    moved, most = 0, Difference(key, "numbers", 0.0, 0.0, tolerance.absolute)
    for column in one:
        a, b = one[column].to_numpy(float), other[column].to_numpy(float)
        allowed = tolerance.of_column(str(column), float(np.abs(a[np.isfinite(a)]).max(initial=0)))
        with np.errstate(invalid="ignore"):  # infinity less infinity
            distance = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0, np.nan_to_num(np.abs(b - a), nan=np.inf))
        moved += int((distance > allowed + ROUNDING).sum())
        row = int(distance.argmax())
        if distance[row] > 0:
            here = Difference(key, f"{column} of {one.index[row]}", float(a[row]), float(b[row]), allowed)
            most = max(most, here, key=lambda d: d.excess)
    return replace(most, what=f"{moved} of {one.size} numbers moved, most: {most.what}") if moved else most


def paired_interval(one: Result, other: Result, level: float = LEVEL) -> tuple[float, float] | None:
    """Return the interval of the difference in balanced accuracy, by a jackknife over what the results' intervals draw.

    Images (the dataset's confounder, a column beside the predictions) are left out of both sides at once, within a class;
    without such a column, or in a class of one image, cells are. The variance is multiplied for what the predictions were
    learned from (:data:`pci_bench.evaluators.intervals.TRAINING_VARIANCE`). Results with folds of cells are means over folds.

    None where a side has no predictions, or they are of different cells.
    """
    if one.predictions is None or other.predictions is None:
        return None
    both = joined(one.predictions, other.predictions)
    if both is None:
        return None
    names, labels = np.unique(both["label"].astype(str).to_numpy(), return_inverse=True)
    groups = np.unique(both["group"].to_numpy(str), return_inverse=True)[1] if "group" in both else None
    n_classes = len(names)
    factor = max(
        training_variance_of(r.evaluator.name, r.evaluator.params, grouped=groups is not None) for r in (one, other)
    )
    right_old, right_new = (both[f"right_{side}"].to_numpy(float) for side in ("old", "new"))
    if any((right % 1 != 0).any() for right in (right_old, right_new)):
        value, spread, _ = share_spreads(labels, right_new - right_old, groups, n_classes)
        return spread.times(factor).interval(value, level=level, low=-1, high=1)
    sides: list[tuple[int, np.ndarray, np.ndarray]] = []  # number of folds, each cell's, whether it is right
    for result, side in ((one, "old"), (other, "new")):
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
    return spreads["difference"].times(factor).interval(value, level=level, low=-1, high=1)


def joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame | None:
    """Return one row per cell with how often each side is right, its folds, and its ``group`` where both know the confounder.

    None where the sides do not hold the same cells.
    """
    if not {"cell", "label", "predicted"} <= set(old) & set(new):
        return None
    sides = [
        table.assign(right=_rightness(table)).set_index("cell")[["label", "right", *({"fold"} & set(table))]]
        for table in (old, new)
    ]
    if set(sides[0].index) != set(sides[1].index):
        return None
    if len({*map(len, sides), sides[0].index.nunique()}) > 1:
        return None
    found = sides[0].add_suffix("_old").join(sides[1].add_suffix("_new")).rename(columns={"label_old": "label"})
    confounder = confounder_column(old)
    if confounder is not None and confounder == confounder_column(new):
        found["group"] = old.set_index("cell")[confounder].astype("string").fillna("")
    return found


def _rightness(predictions: pd.DataFrame) -> pd.Series:
    """Return how often each prediction is right: 0 or 1, or a share where it was made in several draws."""
    if "correct" in predictions:
        return predictions["correct"].astype(float)
    return (predictions["label"].astype(str) == predictions["predicted"].astype(str)).astype(float)


def confounder_column(predictions: pd.DataFrame) -> str | None:
    """Return the column that holds the dataset's confounder beside predictions: the first that is none of theirs."""
    return next((str(c) for c in predictions if c not in PREDICTION_COLUMNS), None)


def rows(comparison: Comparison, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the changed numbers (or all of them), the largest change for what is allowed first, as rows for a table."""
    chosen = comparison.differences if everything else comparison.changes
    return [
        {
            "result": d.key,
            "number": d.what,
            "old": f"{d.old:.{d.decimals}f}",
            "new": f"{d.new:.{d.decimals}f}",
            "change": f"{d.delta:+.{d.decimals}f}",
            "allowed": f"±{d.allowed:.{d.decimals}f}",
            "paired 95 % interval": "" if d.interval is None else f"[{d.interval[0]:+.4f}, {d.interval[1]:+.4f}]",
            "": d.direction,
        }
        for d in sorted(chosen, key=lambda d: -d.excess)
    ]


def verdict(comparison: Comparison) -> str:
    """Return the outcome in one sentence."""
    n, changes = len(comparison.differences), comparison.changes
    up = sum(d.direction == "higher" for d in changes)
    parts = [f"{n} numbers of {comparison.compared} results compared: "]
    parts.append("all the same" if not changes else f"{len(changes)} changed ({up} higher, {len(changes) - up} lower)")
    if comparison.missing:
        parts.append(f"; {len(comparison.missing)} missing")
    if comparison.new:
        parts.append(f"; {len(comparison.new)} new")
    return "".join(parts) + "."


def markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, for a comment on a pull request."""
    changed = rows(comparison)
    text = f"**pci-bench compare**: {verdict(comparison)}\n"
    if changed:
        text += f"\n{markdown_table(list(changed[0]), [list(row.values()) for row in changed])}\n"
    for title, entries in (
        ("Missing", comparison.missing),
        ("New", comparison.new),
        ("Not compared", comparison.notes),
    ):
        if entries:
            text += f"\n{title}:\n" + "".join(f"- {in_markdown(e)}\n" for e in entries)
    return text


def junit(comparison: Comparison) -> str:
    """Return the comparison as JUnit XML: a test case per number, failed where it changed or is missing."""
    from xml.etree import ElementTree

    failures = len(comparison.changes) + len(comparison.missing)
    suite = ElementTree.Element(
        "testsuite",
        name="pci-bench compare",
        tests=str(len(comparison.differences) + len(comparison.missing)),
        failures=str(failures),
    )
    for d in comparison.differences:
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(d.key), name=xml_text(d.what))
        if d.changed:
            n = d.decimals
            message = f"{d.old:.{n}f} became {d.new:.{n}f} ({d.delta:+.{n}f}, allowed ±{d.allowed:.{n}f})"
            ElementTree.SubElement(case, "failure", message=message)
    for key in comparison.missing:
        case = ElementTree.SubElement(suite, "testcase", classname=xml_text(key), name="present")
        ElementTree.SubElement(case, "failure", message="missing in the new results")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")
