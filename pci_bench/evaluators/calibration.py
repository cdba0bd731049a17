"""Whether the confidence of predictions is what it says, on cells of other groups than it was learned and calibrated on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import exclusion_columns, exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.classifiers import Part, logistic_scores
from pci_bench.evaluators.labelled import (
    SUBSET,
    LabelledCells,
    classification_unavailable_reason,
    labelled,
    resolved,
)
from pci_bench.statistics.calibration import (
    accuracy_by_share,
    brier,
    calibrated_null,
    conformal_sets,
    reliability,
)
from pci_bench.statistics.folds import stratified_folds
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, mean_spread, training_variance
from pci_bench.statistics.neighbors import loo_neighbors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

FOLDS = 5
SHARES = np.linspace(0.05, 1, 20)  # of predictions that are kept, in the table of the accuracy–rejection curve


class CalibrationParams(pydantic.BaseModel):
    """Parameters of the calibration of a classifier."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    classifier: Literal["knn", "logistic-regression"] = pydantic.Field(
        "knn", description="shares of neighbours' votes, or L1 logistic regression, one class against the rest"
    )
    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value cells that are learned from and calibrated on must not share",
    )
    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    bins: int = pydantic.Field(
        10, ge=2, description="of equally many predictions, for the calibration error and the Brier score's parts"
    )
    error: float = pydantic.Field(0.1, gt=0, lt=1, description="how often a conformal set may miss the truth")
    draws: int = pydantic.Field(
        200, ge=2, description="of truth from the stated confidence, for the null of the calibration error"
    )
    subset: str = pydantic.Field("", description=SUBSET)


class _Predictions(NamedTuple):
    """Probabilities of classes (n, classes), and the part of the data that each was predicted as (n,) int."""

    probabilities: np.ndarray
    parts: np.ndarray


@register_evaluator("calibration")
class Calibration(Evaluator):
    """Calibration of k-nearest-neighbour vote shares or of logistic regression, whose cells were neither learned from nor calibrated on.

    Confidence is the probability of the predicted class. ``ece`` is the expected calibration error, the mean of |accuracy − confidence| over
    bins of equally many predictions (Naeini et al. 2015; equal mass: Nixon et al. 2019), beside ``ece_null`` and ``ece_null_95``: the
    mean and the 95th percentile where every prediction is right exactly as often as it says. ``rms_calibration_error`` has what bins of few
    predictions add by chance removed (Kumar, Liang and Ma 2019, arXiv 1909.10155).

    ``brier``, the headline, is the mean over cells of Σ over classes of (probability − truth)² (Brier 1950): 0 at best, less is better. It
    is a proper score, so that no other probabilities than the true ones have a better one. ``brier_reliability`` − ``brier_resolution`` + ``brier_uncertainty`` is it but for
    differences within bins (Murphy 1973).

    ``rejection_area`` is the mean accuracy of the most confident share of the cells, over all shares (the area under the
    accuracy–rejection curve), and ``rejection_gain`` that minus the accuracy: what is won by leaving out cells in the order of confidence.

    Conformal sets hold the truth for at least 90 % (``error=0.1``) of cells that are like those calibrated on. Thresholds for the cells
    of a plate (``exclude=plate``) are from other plates, whose predictions were made without their own plate (cross-conformal, Vovk
    2015, doi 10.1007/s10472-013-9368-4); of ``exclude=cell`` from other folds of cells. ``coverage`` says for how many they do,
    ``lowest_class_coverage`` for how many of the worst class, ``set_size`` how many classes a set has. ``…_by_class`` have a threshold for each class.

    Logistic regression weights classes equally, and its probabilities are those of one class against the rest, made to sum to 1. Tables: ``reliability``, ``rejection``, ``classes``.
    """

    meta = EvaluatorMeta(
        "calibration",
        "1",
        "Whether confidence is what it says: calibration error, Brier score, rejection, conformal sets",
        "brier",
        key=("classifier", "exclude"),
        metrics={
            **{name: Metric(higher_is_better=False) for name in ("brier", "brier_reliability", "brier_uncertainty")},
            **{
                name: Metric("percent", higher_is_better=False)
                for name in ("ece", "ece_null", "ece_null_95", "rms_calibration_error")
            },
            **{
                name: Metric("percent")
                for name in (
                    "accuracy",
                    "confidence",
                    "rejection_area",
                    "rejection_gain",
                    "coverage",
                    "lowest_class_coverage",
                    "coverage_by_class",
                    "lowest_class_coverage_by_class",
                )
            },
            **{name: Metric(decimals=2, higher_is_better=False) for name in ("set_size", "set_size_by_class")},
        },
        order_invariant=True,
        reusable=True,
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = CalibrationParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: CalibrationParams) -> str | None:
        """Return why there is nothing to predict, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude, params.subset):
            return reason
        if params.k >= (count := int(labelled(obs, params.subset).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset.display_name} has {count}. Use a smaller --k"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[CalibrationParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield calibration, proper scores, rejection and conformal sets."""
        for params in param_sets:
            exclude = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
            cells = LabelledCells.of(adata[np.argsort(_names(adata.obs), kind="stable")], params.subset)
            details: dict[str, Any] = {}
            predict = _by_neighbors if params.classifier == "knn" else _by_regression
            yield self._output(
                cells, params, exclude, predict(cells, params, exclude, context, details), context, details
            )

    def _output(
        self,
        cells: LabelledCells,
        params: CalibrationParams,
        exclude: str,
        predictions: _Predictions,
        context: EvaluationContext,
        details: dict[str, Any],
    ) -> EvaluatorOutput:
        """Return what is said of some predictions."""
        import pandas as pd

        probabilities, parts = predictions
        labels, n_classes = cells.labels, len(cells.classes)
        predicted = probabilities.argmax(axis=1)
        confidence, correct = probabilities.max(axis=1), predicted == labels
        binned = reliability(confidence, correct, params.bins)
        null = calibrated_null(confidence, params.bins, params.draws, context.seed)
        score = brier(probabilities, labels, params.bins)
        kept = accuracy_by_share(confidence, correct)
        sizes = np.bincount(labels, minlength=n_classes)
        classes = pd.DataFrame({"class": cells.classes, "cells": sizes})
        conformal: dict[str, float] = {}
        covered: dict[str, np.ndarray] = {}
        for suffix, by_class in (("", False), ("_by_class", True)):
            sets = conformal_sets(probabilities, labels, parts, params.error, by_class=by_class)
            covered[suffix] = sets[np.arange(len(labels)), labels]
            of_class = np.bincount(labels, covered[suffix], n_classes) / sizes
            classes[f"coverage{suffix}"] = of_class
            classes[f"set_size{suffix}"] = np.bincount(labels, sets.sum(axis=1), n_classes) / sizes
            conformal |= {
                f"coverage{suffix}": float(covered[suffix].mean()),
                f"lowest_class_coverage{suffix}": float(of_class.min()),
                f"set_size{suffix}": float(sets.sum(axis=1).mean()),
            }
        metrics = {
            "brier": float(score.scores.mean()),
            "brier_reliability": score.reliability,
            "brier_resolution": score.resolution,
            "brier_uncertainty": score.uncertainty,
            "accuracy": float(correct.mean()),
            "confidence": float(confidence.mean()),
            "ece": binned.expected_error,
            "ece_null": float(null.mean()),
            "ece_null_95": float(np.quantile(null, 0.95)),
            "rms_calibration_error": binned.debiased_root_mean_square,
            "rejection_area": float(kept.mean()),
            "rejection_gain": float(kept.mean() - correct.mean()),
            **conformal,
        }
        units = np.arange(len(labels)) if cells.groups is None else np.unique(cells.groups, return_inverse=True)[1]
        factor = training_variance(self.meta.training_variance, whole_units=cells.groups is None or exclude != "cell")
        spreads = {
            name: (mean_spread(np.asarray(values, np.float64), units).times(factor), high)
            for name, values, high in (
                ("brier", score.scores, 2),
                ("accuracy", correct, 1),
                ("coverage", covered[""], 1),
                ("coverage_by_class", covered["_by_class"], 1),
            )
        }
        ranks = np.ceil(SHARES * len(labels)).astype(np.int64)
        table = pd.DataFrame(
            {
                "cell": cells.names,
                "label": cells.classes[labels],
                "predicted": cells.classes[predicted],
                "confidence": confidence,
                "covered": covered[""],
            }
        )
        if cells.groups is not None:
            table[cells.confounder] = cells.obs[cells.confounder].astype(str).to_numpy()
        return EvaluatorOutput(
            resolved(params, exclude),
            metrics,
            {name: spread.interval(metrics[name], low=0, high=high) for name, (spread, high) in spreads.items()},
            details
            | {
                "calibrated_on": "other folds of cells" if exclude == "cell" else f"other values of '{exclude}'",
                "interval": f"over {'cells' if cells.groups is None else cells.confounder}, variance × {factor:g} for the cells learned from",
            },
            table,
            {
                "reliability": pd.DataFrame(
                    {"confidence": binned.confidence, "accuracy": binned.accuracy, "cells": binned.counts}
                ),
                "rejection": pd.DataFrame({"kept": ranks / len(labels), "accuracy": kept[ranks - 1]}),
                "classes": classes,
            },
        )


def _names(obs: pd.DataFrame) -> np.ndarray:
    return (obs["cell"] if "cell" in obs else obs.index.to_series()).astype(str).to_numpy()


def _by_neighbors(
    cells: LabelledCells, params: CalibrationParams, exclude: str, context: EvaluationContext, details: dict[str, Any]
) -> _Predictions:
    """Return shares of the votes of the k nearest neighbours of other groups; equal ones where there is no neighbour."""
    columns = exclusion_columns(cells.obs, exclude)
    groups = np.stack([exclusion_groups(cells.obs, column) for column in columns])
    neighbors, _ = loo_neighbors(cells.compared(), params.k, groups, context.blocks)
    n, n_classes = len(cells.labels), len(cells.classes)
    rows, places = np.nonzero(neighbors >= 0)
    votes = np.bincount(rows * n_classes + cells.labels[neighbors[rows, places]], minlength=n * n_classes)
    votes = votes.reshape(n, n_classes).astype(np.float64)
    alone = ~votes.any(axis=1)
    if alone.any():
        details["without_neighbours"] = int(alone.sum())
        votes[alone] = 1
    parts = groups[0] if columns != ["cell"] else stratified_folds(cells.labels, None, FOLDS, context.seed)[0]
    return _Predictions(votes / votes.sum(axis=1, keepdims=True), parts)


def _by_regression(
    cells: LabelledCells, params: CalibrationParams, exclude: str, context: EvaluationContext, details: dict[str, Any]
) -> _Predictions:
    """Return probabilities by logistic regression of the other folds, whose groups are whole."""
    from scipy.special import expit

    column = exclusion_columns(cells.obs, exclude)[0]
    groups = None if column == "cell" else exclusion_groups(cells.obs, column)
    folds = stratified_folds(cells.labels, groups, FOLDS, context.seed)[0]
    held_out = [folds == fold for fold in np.unique(folds)]
    order = np.arange(len(cells.labels))
    scored = logistic_scores(
        (Part.of(cells.values, cells.labels, order, inside, "fold") for inside in held_out),
        1.0,
        context.threads,
        details,
    )
    probabilities = np.zeros((len(order), len(cells.classes)))
    for inside, (known, scores) in zip(held_out, scored, strict=True):
        odds = np.zeros((inside.sum(), len(cells.classes)))
        odds[:, known] = expit(scores).T
        probabilities[inside] = odds / odds.sum(axis=1, keepdims=True)
    return _Predictions(probabilities, folds)
