"""Are two sets of results the same? What ``pci-bench compare`` and the gate in CI ask."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from pci_bench.errors import UserError
from pci_bench.evaluators.base import EVALUATORS
from pci_bench.evaluators.metrics import percentile_interval
from pci_bench.results import Result, read_result, read_results

if TYPE_CHECKING:
    import pandas as pd

REPLICATES = 1000


class Tolerance(pydantic.BaseModel):
    """How far a metric may move: |Δ| ≤ max(absolute, cells / n); by metric where ``metrics`` says so."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    absolute: float = pydantic.Field(0.005, ge=0)
    cells: float = pydantic.Field(2.0, ge=0)
    metrics: dict[str, float] = {}

    def of(self, metric: str, n_cells: int) -> float:
        """Return the largest difference of a metric (or of a class's recall) over n cells that is no change."""
        return max(self.metrics.get(metric, self.absolute), self.cells / max(n_cells, 1))


def read_tolerance(file: Path) -> Tolerance:
    """Return the tolerance of a TOML file: ``absolute``, ``cells`` and a table ``metrics``.

    Raises
    ------
    UserError
        For a file that is not TOML, or holds anything else.
    """
    try:
        return Tolerance(**tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:  # TOML's and pydantic's errors are ValueErrors
        first = error.errors()[0]["msg"] if isinstance(error, pydantic.ValidationError) else error
        raise UserError(
            f"{file} is not a tolerance ({first}). It may hold absolute = 0.005, cells = 2 and a table [metrics]."
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
        return not abs(self.delta) <= self.allowed + 1e-12

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
    params = ",".join(f"{k}={v}" for k, v in sorted(result.evaluator.params.items()))
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
    files = sorted(f for f in where.rglob("*.json") if f.name != "run.json")
    if not files:
        raise UserError(
            f"There are no results in {where}. Name a folder that `pci-bench run` wrote, or one of its result files."
        )
    return [read_result(f) for f in files]


def compare(old: Sequence[Result], new: Sequence[Result], tolerance: Tolerance | None = None) -> Comparison:
    """Return every metric and every class's recall of two sets of results side by side.

    Parameters
    ----------
    old, new
        Results; those of one key (:func:`key_of`) are compared.
    tolerance
        How far numbers may move.

    Raises
    ------
    UserError
        Where results of one key are of other cells, features or protocols, so that a difference would mean nothing; or where
        nothing can be compared.
    """
    tolerance = tolerance or Tolerance()
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
        for metric in dict.fromkeys([*one.metrics, *other.metrics]):
            if metric not in other.metrics:
                found.missing.append(f"{key}: {metric}")
            elif metric not in one.metrics:
                found.new.append(f"{key}: {metric}")
            else:
                allowed = tolerance.of(metric, one.dataset.n_cells)
                interval = paired_interval(one, other) if metric == "balanced_accuracy" else None
                values = one.metrics[metric], other.metrics[metric]
                found.differences.append(Difference(key, metric, *values, allowed, interval))
        found.differences += _by_class(key, one, other, tolerance)
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


def _by_class(key: str, one: Result, other: Result, tolerance: Tolerance) -> list[Difference]:
    before, after = (r.details.get("per_class", {}) for r in (one, other))
    sizes: Mapping[str, int] = one.dataset.classes
    return [
        Difference(key, f"recall of {c}", before[c], after[c], tolerance.of(f"recall of {c}", sizes.get(c, 1)))
        for c in before
        if c in after
    ]


def paired_interval(one: Result, other: Result, seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % bootstrap interval of the difference in balanced accuracy, cells resampled in pairs within class.

    None where a side has no predictions, or they are of different cells.
    """
    if one.predictions is None or other.predictions is None:
        return None
    both = joined(one.predictions, other.predictions)
    if both is None:
        return None
    labels = both["label"].astype(str).to_numpy()
    differences = both["right_new"].to_numpy(int) - both["right_old"].to_numpy(int)
    rng = np.random.default_rng(seed)
    means = []
    for label in np.unique(labels):
        mine = differences[labels == label]
        counts = rng.multinomial(len(mine), np.bincount(mine + 1, minlength=3) / len(mine), size=REPLICATES)
        means.append((counts[:, 2] - counts[:, 0]) / len(mine))
    return percentile_interval(np.mean(means, axis=0))


def joined(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame | None:
    """Return one row per cell with whether each side is right, or None where the sides do not hold the same cells."""
    if not {"cell", "label", "predicted"} <= set(old) & set(new):
        return None
    sides = [
        table.assign(right=table["label"].astype(str) == table["predicted"].astype(str)).set_index("cell")[
            ["label", "right"]
        ]
        for table in (old, new)
    ]
    if set(sides[0].index) != set(sides[1].index):
        return None
    return sides[0].join(sides[1], lsuffix="_old", rsuffix="_new").rename(columns={"label_old": "label"})


def rows(comparison: Comparison, *, everything: bool = False) -> list[dict[str, Any]]:
    """Return the changed numbers (or all of them), largest change first, as rows for a table."""
    chosen = comparison.differences if everything else comparison.changes
    return [
        {
            "result": d.key,
            "number": d.what,
            "old": f"{d.old:.4f}",
            "new": f"{d.new:.4f}",
            "change": f"{d.delta:+.4f}",
            "allowed": f"±{d.allowed:.4f}",
            "paired 95 % interval": "" if d.interval is None else f"[{d.interval[0]:+.4f}, {d.interval[1]:+.4f}]",
            "": d.direction,
        }
        for d in sorted(chosen, key=lambda d: -abs(d.delta))
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
    from tabulate import tabulate

    changed = rows(comparison)
    text = f"**pci-bench compare**: {verdict(comparison)}\n"
    if changed:
        text += f"\n{tabulate(changed, headers='keys', tablefmt='github', disable_numparse=True)}\n"
    for title, entries in (
        ("Missing", comparison.missing),
        ("New", comparison.new),
        ("Not compared", comparison.notes),
    ):
        if entries:
            text += f"\n{title}:\n" + "".join(f"- {e}\n" for e in entries)
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
        case = ElementTree.SubElement(suite, "testcase", classname=d.key, name=d.what)
        if d.changed:
            message = f"{d.old:.4f} became {d.new:.4f} ({d.delta:+.4f}, allowed ±{d.allowed:.4f})"
            ElementTree.SubElement(case, "failure", message=message)
    for key in comparison.missing:
        case = ElementTree.SubElement(suite, "testcase", classname=key, name="present")
        ElementTree.SubElement(case, "failure", message="missing in the new results")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suite, encoding="unicode")
