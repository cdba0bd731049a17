"""Two feature sets in one evaluation: which cells only one of them gets right, by class, and the neighbours that decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.skipped import Skipped
from pci_bench.data.examples import NEIGHBOURS
from pci_bench.errors import UserError
from pci_bench.evaluators.knn import LooKnnParams, neighbours_of
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import parse
from pci_bench.features.postprocessing import NONE, postprocess
from pci_bench.runs.paired import joined
from pci_bench.runs.results import Result, parameters, training_variance
from pci_bench.statistics.disagreement import OUTCOMES, drawn_examples, outcome_counts, outcomes
from pci_bench.statistics.paired import mean_gain

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.cells import Cells

__all__ = ["OUTCOMES", "Disagreement", "neighbours", "pairs_of", "settings"]

EXAMPLES = 3  # of a class and an outcome
ONLY_A, ONLY_B = OUTCOMES.index("only A"), OUTCOMES.index("only B")


def pairs_of(results: Sequence[Result], a: str, b: str) -> list[tuple[Result, Result]]:
    """Return the results of two feature sets that are of one evaluation of the same cells, each with predictions that are made once.

    Parameters
    ----------
    results
        Of any feature sets.
    a, b
        Their names, with weights or, where one set has the name, without.

    Raises
    ------
    UserError
        Where there is no such feature set, or no evaluation of both.
    """
    names = [_full_name(results, name) for name in (a, b)]
    if names[0] == names[1]:
        raise UserError(f"{a} and {b} are the same feature set, {names[0]}. Name two different ones.")
    sides = [[r for r in results if r.features.full_name == name] for name in names]
    pairs = [
        (one, other)
        for one in sides[0]
        for other in sides[1]
        if one.evaluator.name == other.evaluator.name
        and one.evaluator.params == other.evaluator.params
        and one.dataset.sha256 == other.dataset.sha256
        and _predicts(one)
        and _predicts(other)
    ]
    if not pairs:
        raise UserError(
            f"No evaluation here has predictions of single cells by both {names[0]} and {names[1]}, made once for each of the same cells. "
            "Run both with loo-knn or a classifier: pci-bench run knn."
        )
    return pairs


def _full_name(results: Sequence[Result], name: str) -> str:
    known = list(dict.fromkeys(r.features.full_name for r in results))
    matching = [k for k in known if name in (k, k.partition("@")[0])]
    if len(matching) == 1 or name in matching:
        return name if name in matching else matching[0]
    if matching:
        raise UserError(f"{name} is there with several weights: {', '.join(matching)}. Name one of them.")
    raise UserError(f"There are no results of {name}. There are results of {', '.join(known)}.")


def _predicts(result: Result) -> bool:
    table = result.predictions
    return table is not None and {"cell", "label", "predicted"} <= set(table) and "correct" not in table


@dataclass(frozen=True)
class Disagreement:
    """What two results say of the same cells.

    Parameters
    ----------
    a, b
        The results, of one evaluation.
    cells
        One row per cell, by name: its label, what each predicts (``predicted_a``, ``predicted_b``; "" for none), and the outcome.
    groups
        What intervals draw (n,) int: the confounder's values, or None.
    """

    a: Result
    b: Result
    cells: pd.DataFrame
    groups: np.ndarray | None

    @classmethod
    def of(cls, a: Result, b: Result) -> Disagreement:
        """Return what two results say of the same cells, which are put in the order of their names.

        Raises
        ------
        UserError
            Where their predictions are not of the same cells.
        """
        both = joined(a, b)
        if both is None or a.predictions is None or b.predictions is None:
            raise UserError(
                f"The predictions of {a.features.full_name} and {b.features.full_name} are not of the same cells. Run both again."
            )
        both = both.sort_index()
        table = both[["label"]].astype(str)
        for side, result in (("a", a), ("b", b)):
            assert result.predictions is not None
            predicted = result.predictions.set_index("cell")["predicted"].astype("string").fillna("")
            table[f"predicted_{side}"] = predicted.loc[table.index].astype(str)
        right_a, right_b = (both[f"right_{side}"].to_numpy() > 0 for side in ("old", "new"))
        table["outcome"] = np.array(OUTCOMES)[outcomes(right_a, right_b)]
        groups = np.unique(both["group"].to_numpy(str), return_inverse=True)[1] if "group" in both else None
        return cls(a, b, table.reset_index(names="cell"), groups)

    @cached_property
    def classes(self) -> list[str]:
        """The classes' names, sorted."""
        return sorted(self.cells["label"].unique())

    @property
    def _labels(self) -> np.ndarray:
        return np.searchsorted(np.array(self.classes), self.cells["label"].to_numpy(str))

    @property
    def _outcomes(self) -> np.ndarray:
        return np.array([OUTCOMES.index(o) for o in self.cells["outcome"]], np.int64)

    def by_class(self) -> pd.DataFrame:
        """Return a row for each class, then one of all: numbers of cells by outcome, and A's recall minus B's with its 95 % interval.

        The difference of all is of balanced accuracies. Intervals are over images (the dataset's confounder) within class, of the
        same cells on both sides.
        """
        import pandas as pd

        labels, outcome, n_classes = self._labels, self._outcomes, len(self.classes)
        counts = outcome_counts(labels, outcome, n_classes)
        gain = (outcome == ONLY_A).astype(float) - (outcome == ONLY_B)
        factor = max(training_variance(r, grouped=self.groups is not None) for r in (self.a, self.b))
        names = self.cells["cell"].to_numpy(str)
        members = [*(labels == label for label in range(n_classes)), np.ones(len(labels), bool)]
        rows = []
        for name, numbers, own in zip([*self.classes, "all"], [*counts, counts.sum(axis=0)], members, strict=True):
            of_row = np.unique(labels[own], return_inverse=True)[1]
            value, spread = mean_gain(of_row, gain[own], None if self.groups is None else self.groups[own], names[own])
            low, high = spread.times(factor).interval(value, low=-1, high=1)
            rows.append(
                {"class": name, "cells": int(numbers.sum()), **dict(zip(OUTCOMES, map(int, numbers), strict=True))}
                | {"difference": value, "low": low, "high": high}
            )
        return pd.DataFrame(rows)

    def examples(self, most: int = EXAMPLES) -> pd.DataFrame:
        """Return the rows of example cells: of every class the first of a fixed draw that only A, then only B gets right."""
        import pandas as pd

        order = np.random.default_rng(0).permutation(len(self.cells))
        chosen = [drawn_examples(self._labels, self._outcomes, o, order, most) for o in (ONLY_A, ONLY_B)]
        positions = np.concatenate(chosen)
        wanted = self.cells.iloc[positions]
        return pd.DataFrame(wanted.sort_values(["label", "outcome"], kind="stable"))


def neighbours(
    result: Result, cells: Cells | str, names: Sequence[str]
) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """Return the nearest neighbours (name, label) of some cells, nearest first, and a sentence where they could not be had of all.

    Found among features in the cache, if these give the predictions of the result; else those that the result brings along.

    Parameters
    ----------
    result
        Of ``loo-knn``; a classifier has no neighbours.
    cells
        The evaluated cells, or a sentence why they are not there.
    names
        The cells whose neighbours are wanted.
    """
    if result.evaluator.name != "loo-knn":
        return {}, f"{result.evaluator.name} has no neighbours to show."
    found, reason = _computed(result, cells, names)
    if found is None:
        found = result.tables.get(NEIGHBOURS)
    lists: dict[str, list[tuple[str, str]]] = {}
    if found is not None:
        for row in found[found["cell"].astype(str).isin(names)].to_dict("records"):
            lists.setdefault(str(row["cell"]), []).append((str(row["neighbour"]), str(row["neighbour_label"])))
    return lists, reason


def _computed(result: Result, cells: Cells | str, names: Sequence[str]) -> tuple[Any | None, str]:
    """Return a table of neighbours from features in the cache, or None and why not."""
    name = result.features.full_name
    if isinstance(cells, str):
        return None, f"Neighbours by {name} are shown where the result brings them along. {cells}"
    run_again = f"Neighbours by {name} are shown where the result brings them along: its features are not in the cache as they were evaluated. Run the benchmark again."
    if not len(names):
        return None, ""
    try:
        (features,) = compute_features([parse(name)], cells, ExtractionOptions(refresh="never")).values()
    except UserError:  # a file that is not there any more, a plug-in that is not loaded
        return None, run_again
    if isinstance(features, Skipped):
        return None, run_again
    params = dict(result.evaluator.params)
    features = postprocess(features, params.pop("postprocess", NONE))
    table = neighbours_of(features, LooKnnParams(**params), names)
    assert result.predictions is not None
    stored = result.predictions.set_index("cell")["predicted"].astype(str)
    if not (stored.loc[table["cell"]].to_numpy() == table["predicted"].to_numpy(str)).all():
        return None, run_again
    return table, ""


def settings(result: Result) -> str:
    """Return the evaluation in words: ``loo-knn, k=11, exclude=cell``."""
    return ", ".join([result.evaluator.name, *filter(None, [parameters(result, separator=", ")])])
