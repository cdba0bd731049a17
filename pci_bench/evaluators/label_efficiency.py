"""How many labels a feature set needs: accuracy over the number of labelled cells of each class."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    AS_GIVEN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.labelled import (
    SUBSET,
    LabelledCells,
    classification_unavailable_reason,
    resolved,
)
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.intervals import LEARNED_BY_CLASSIFIER, LEARNED_BY_NEIGHBOURS
from pci_bench.statistics.label_efficiency import (
    Classifier,
    LabelEfficiency,
    area_weights,
    curve_spread,
    label_efficiency,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

BAND = (2.5, 97.5)  # percentiles of the draws


class LabelEfficiencyParams(pydantic.BaseModel):
    """Parameters of the label efficiency."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    classifier: Literal["logistic", "knn"] = pydantic.Field(
        "logistic", description="what learns from the labelled cells: logistic regression, or nearest neighbours"
    )
    exclude: str = pydantic.Field(
        "confounder", min_length=1, description="obs column that labelled cells must not share with those they predict"
    )
    counts: str = pydantic.Field("1,3,10,30,100", description="labels of each class, growing, separated by commas")
    draws: int = pydantic.Field(10, ge=2, le=1000, description="how often labelled cells and folds are drawn")
    folds: int = pydantic.Field(5, ge=2, description="parts of the groups; labels are of the other parts")
    k: int = pydantic.Field(11, ge=1, description="neighbours that vote, or as many as a class has labels if fewer")
    c: float = pydantic.Field(1.0, gt=0, allow_inf_nan=False, description="inverse strength of the L2 penalty")
    scale: Literal["fold", "none"] = pydantic.Field(
        "fold",
        description="standardise with all cells of the other folds, labelled or not",
        json_schema_extra=AS_GIVEN,
    )
    subset: str = pydantic.Field("", description=SUBSET)

    @pydantic.field_validator("counts")
    @classmethod
    def _growing(cls, text: str) -> str:
        parts = [part.strip() for part in text.split(",")]
        if not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise ValueError("expected numbers of labels separated by commas, as 1,3,10")
        if any(int(a) >= int(b) for a, b in itertools.pairwise(parts)):
            raise ValueError("expected growing numbers of labels, as 1,3,10")
        return ",".join(str(int(part)) for part in parts)

    @property
    def numbers(self) -> list[int]:
        """The numbers of labels of each class."""
        return list(map(int, self.counts.split(",")))


@register_evaluator("label-efficiency")
class LabelEfficiencyEvaluator(Evaluator):
    """Balanced accuracy from 1, 3, 10, 30 and 100 labelled cells of each class, by a linear probe or by nearest neighbours.

    In each of 10 draws, the groups that ``exclude`` names are divided into folds anew; cells of a fold are predicted from labelled cells of
    the other folds, of which so many of each class are drawn. A larger number holds the cells of a smaller one. ``exclude=cell`` divides
    cells. Features are standardised with all cells of the other folds, labelled or not, since those can be had without labels.

    ``area`` is the mean height of the curve over the logarithm of the number of labels (trapezoids): an accuracy, whose chance is
    1 / classes, and one number for how little a feature set needs. Intervals are over draws and groups: of groups that are predicted, by a jackknife of
    means over draws, times the variance for those learned from, and of the draws.

    Where a class has fewer cells than a number asks for, all of them are labelled, and ``details`` and a note say so; a class that no other
    group has is never predicted rightly, and counts. The table ``curve`` has a row for each number, with the band of the draws (2.5th to
    97.5th percentile), and ``recalls`` one for each class and number.

    A few labels are how such features are used (Caron et al. 2021, doi 10.1109/ICCV48922.2021.00951, evaluate by kNN and by linear
    probe); a probe without fine-tuning follows Alain and Bengio 2016 (arXiv 1610.01644).
    """

    meta = EvaluatorMeta(
        "label-efficiency",
        "1",
        "Accuracy over the number of labels of each class",
        "area",
        key=("classifier", "exclude"),
        other_metrics=Metric("percent"),
        order_invariant=True,
        reusable=True,
    )
    Params = LabelEfficiencyParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: LabelEfficiencyParams
    ) -> str | None:
        """Return why there is nothing to learn, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude, params.subset):
            return reason
        if "+" in resolve_exclude(params.exclude, dataset):
            return "label-efficiency divides the groups of one column. Name one with exclude"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[LabelEfficiencyParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield one output per parameters: the curve, its area, and what each class had of labels."""
        most = max(params.draws for params in param_sets)  # fewer are the first of them

        @cache
        def learned(
            subset: str,
            column: str,
            numbers: tuple[int, ...],
            classifier: Classifier,
            folds: int,
            k: int,
            c: float,
            scale: str,
        ) -> tuple[LabelledCells, np.ndarray, np.ndarray | None, LabelEfficiency]:
            """Return cells, their labels and groups in the order of their names, and what was learned of them."""
            cells = LabelledCells.of(adata[np.argsort(_names(adata.obs), kind="stable")], subset)
            groups = None if column == "cell" else exclusion_groups(cells.obs, column)
            found = label_efficiency(
                cells.values,
                cells.labels,
                groups,
                numbers,
                classifier=classifier,
                draws=most,
                folds=folds,
                k=k,
                c=c,
                scaled=scale == "fold",
                seed=context.seed,
            )
            return cells, cells.labels, groups, found

        for params in param_sets:
            column = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
            neighbors = params.classifier == "knn"
            cells, labels, groups, found = learned(
                params.subset,
                column,
                tuple(params.numbers),
                params.classifier,
                params.folds,
                params.k if neighbors else 0,
                0.0 if neighbors else params.c,
                params.scale,
            )
            yield self._output(params, cells, column, labels, groups, found.first(params.draws))

    def _output(
        self,
        params: LabelEfficiencyParams,
        cells: LabelledCells,
        column: str,
        labels: np.ndarray,
        groups: np.ndarray | None,
        learned: LabelEfficiency,
    ) -> EvaluatorOutput:
        import pandas as pd

        numbers, factors = (
            params.numbers,
            LEARNED_BY_CLASSIFIER if params.classifier == "logistic" else LEARNED_BY_NEIGHBOURS,
        )
        drawn = groups if groups is not None else cells.groups
        factor, fewest = factors[groups is not None], learned.fewest.min(axis=0)
        metrics: dict[str, float] = {}
        intervals: dict[str, tuple[float, float]] = {}
        rows, recalls = [], []
        points = {f"balanced_accuracy_at_{n}": np.eye(len(numbers))[i] for i, n in enumerate(numbers)}
        for name, weights in {"area": area_weights(numbers), **points}.items():
            mean, by_draw, spread = curve_spread(learned.right, labels, drawn, weights, factor)
            metrics[name] = mean
            intervals[name] = spread.interval(mean, low=0, high=1)
            if name == "area":
                continue
            place = int(weights.argmax())
            low, high = np.percentile(by_draw, BAND)
            rows.append(
                {
                    "labels": numbers[place],
                    "balanced_accuracy": mean,
                    "low": intervals[name][0],
                    "high": intervals[name][1],
                    "draws_low": float(low),
                    "draws_high": float(high),
                }
            )
            right = learned.right[:, place].mean(axis=0)
            recalls += [
                {
                    "class": str(c),
                    "labels": numbers[place],
                    "fewest_labels": int(fewest[place, i]),
                    "recall": float(right[labels == i].mean()),
                }
                for i, c in enumerate(cells.classes)
            ]
        unit = "cell" if drawn is None else column if groups is not None else cells.confounder
        details: dict[str, Any] = {
            "n_cells": len(labels),
            "n_classes": len(cells.classes),
            "draws": params.draws,
            "folds": learned.n_folds,
            "interval": f"over {params.draws} draws and {unit}s, jackknife, variance × {factor:g} for the {unit}s learned from",
        }
        if params.classifier == "logistic":
            details["unconverged_fits"] = int(learned.unconverged.sum())
        short = {str(c): int(fewest[-1, i]) for i, c in enumerate(cells.classes) if fewest[-1, i] < numbers[-1]}
        if short:
            details["fewest_labels"] = short
            listed = ", ".join(f"{name} {count}" for name, count in sorted(short.items(), key=lambda item: item[1])[:5])
            more = f" and {len(short) - 5} more" if len(short) > 5 else ""
            details["fewer_counts"] = (
                f"{len(short)} of {len(cells.classes)} classes have fewer cells in other {unit}s, all of which are labelled: at least {listed}{more}"
            )
        if learned.n_folds < params.folds:
            details["fewer_folds"] = f"{learned.n_folds} folds, since a class has no more values of '{column}'"
        unreachable = unreachable_classes(labels, np.arange(len(labels)) if groups is None else groups)
        if len(unreachable):
            details["unreachable_classes"] = [str(cells.classes[i]) for i in unreachable]
        tables = {"curve": pd.DataFrame(rows), "recalls": pd.DataFrame(recalls)}
        return EvaluatorOutput(resolved(params, column), metrics, intervals, details, tables=tables)


def _names(obs: pd.DataFrame) -> np.ndarray:
    return (obs["cell"] if "cell" in obs else obs.index.to_series()).astype(str).to_numpy()
