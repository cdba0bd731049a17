"""Cross-validated classifiers (paper: Supplementary Table 2), and the class that a supervised network names itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import EvaluationContext, Evaluator, EvaluatorMeta, EvaluatorOutput, register_evaluator
from pci_bench.data.observations import exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.labelled import (
    CLASSIFICATION_METRICS,
    SUBSET,
    LabelledCells,
    classes_unavailable_reason,
    classification_unavailable_reason,
    labelled,
    resolved,
)
from pci_bench.statistics.folds import balanced_weights, stratified_folds
from pci_bench.statistics.intervals import LEARNED_BY_CLASSIFIER, training_variance

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


def _scale(training: np.ndarray, held_out: np.ndarray) -> None:
    """Standardise both in place with the training cells' means and SDs; columns constant in training become zeros."""
    mean, spread = training.mean(axis=0), training.std(axis=0)
    constant = (training.min(axis=0) == training.max(axis=0)) | (spread == 0)
    for values in (training, held_out):
        values -= mean
        values /= np.where(constant, 1, spread)
        values[:, constant] = 0


@dataclass(frozen=True)
class Part:
    """One part of a cross-validation: the cells to learn from, their labels, and the cells held out."""

    training: np.ndarray
    labels: np.ndarray
    held_out: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, labels: np.ndarray, order: np.ndarray, inside: np.ndarray, scale: str) -> Part:
        """Return the part that holds out some cells; ``values[order]`` belong to `labels` and `inside`."""
        training, held_out = (values[order[chosen]].astype(np.float64) for chosen in (~inside, inside))
        if scale == "fold":
            _scale(training, held_out)
        return cls(training, labels[~inside], held_out)


def _scores(part: Part, label: int, weight: float, c: float) -> tuple[np.ndarray, bool]:
    """Return one class's scores of the held-out cells, and whether its fit converged."""
    from pci_bench.statistics.compiled.logistic import TOLERANCE, l1_logistic_regression

    coefficients, gap = l1_logistic_regression(part.training, part.labels == label, weight, c)
    return part.held_out @ coefficients[:-1] + coefficients[-1], gap <= TOLERANCE


def logistic_scores(
    parts: Iterable[Part], c: float, threads: int, details: dict[str, Any]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, for each part, the classes that it learned (k,) int and their scores of the held-out cells (k, m).

    A score is the logarithm of the odds of the class against the rest. Classes and parts are shared among threads.

    Parameters
    ----------
    parts
        Of a cross-validation.
    c
        Inverse strength of the L1 penalty.
    threads
        How many fits run at once.
    details
        Is given the number of fits whose duality gap is above the tolerance: ``unconverged_fits``.
    """
    from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

    from threadpoolctl import threadpool_limits

    asked: list[tuple[np.ndarray, list[Future[tuple[np.ndarray, bool]]]]] = []
    running: set[Future[tuple[np.ndarray, bool]]] = set()
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        try:
            for part in parts:
                weights = balanced_weights(part.labels, int(part.labels.max()) + 1)
                known = np.flatnonzero(weights)
                fits = [pool.submit(_scores, part, int(label), weights[label], c) for label in known]
                asked.append((known, fits))
                running.update(fits)
                while len(running) >= threads:  # the next part is made when there is a core for it
                    running = wait(running, return_when=FIRST_COMPLETED).not_done
                del part
            answers = [(known, [fit.result() for fit in fits]) for known, fits in asked]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    details["unconverged_fits"] = sum(not converged for _, fits in answers for _, converged in fits)
    return [(known, np.stack([scores for scores, _ in fits])) for known, fits in answers]


class ClassifierParams(pydantic.BaseModel):
    """Parameters that both classifiers have."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    folds: int = pydantic.Field(5, ge=2, description="parts of the cross-validation")
    exclude: str = pydantic.Field(
        "cell", min_length=1, description="obs column whose values lie in one fold as a whole"
    )
    scale: Literal["fold", "none"] = pydantic.Field(
        "fold", description="standardise with the training cells of the fold"
    )
    subset: str = pydantic.Field("", description=SUBSET)


class LogisticRegressionParams(ClassifierParams):
    """Parameters of the logistic regression."""

    c: float = pydantic.Field(1.0, gt=0, allow_inf_nan=False, description="inverse strength of the L1 penalty")


class RandomForestParams(ClassifierParams):
    """Parameters of the random forest."""

    trees: int = pydantic.Field(500, ge=1, le=100_000, description="number of trees")
    max_features: float = pydantic.Field(0.2, gt=0, le=1, description="share of the features tried at each split")


class _CrossValidated(Evaluator):
    """Folds, held-out predictions and outputs; a classifier says how it predicts a fold."""

    meta: EvaluatorMeta

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ClassifierParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        return classification_unavailable_reason(obs, dataset, params.exclude, params.subset)

    def __call__(self, adata: AnnData, param_sets: list[Any], context: EvaluationContext) -> Iterator[EvaluatorOutput]:
        """Yield one output per parameters, and the held-out predictions.

        Folds of cells: metrics are means over the folds (paper). Folds of whole groups may lack classes, so that their
        balanced accuracies would be means over different classes: metrics are of all held-out predictions together.
        """
        for params in param_sets:
            cells = LabelledCells.of(adata, params.subset)
            order = np.argsort(cells.names, kind="stable")  # folds must not depend on the cells' order
            back = np.argsort(order)
            column = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
            groups = (
                None if column == "cell" else exclusion_groups(adata.obs, column)[labelled(adata.obs, params.subset)]
            )
            labels = cells.labels[order]
            folds, n_folds, unreachable = stratified_folds(
                labels, None if groups is None else groups[order], params.folds, context.seed
            )
            predicted, details = np.full(len(labels), -1), dict[str, Any]()
            held_out = [folds == fold for fold in np.unique(folds)]
            parts = (Part.of(cells.values, labels, order, inside, params.scale) for inside in held_out)
            for inside, answers in zip(held_out, self.predict(parts, params, context, details), strict=True):
                predicted[inside] = answers
            if n_folds < params.folds:
                what = "cells" if groups is None else f"values of '{column}'"
                details["fewer_folds"] = f"{n_folds} folds, since a class has only {n_folds} {what}"
            whole = cells.whole_units(np.arange(len(labels)) if groups is None else groups)
            yield cells.output(
                resolved(params, column),
                predicted[back],
                unreachable=unreachable,
                folds=folds[back],
                pooled=groups is not None,
                variance=training_variance(self.meta.training_variance, whole_units=whole),
                details=details,
            )

    @abstractmethod
    def predict(
        self, parts: Iterable[Part], params: Any, context: EvaluationContext, details: dict[str, Any]
    ) -> list[np.ndarray]:
        """Return predictions for each part's held-out cells, (n,) int; what the parts add up goes into `details`."""


@register_evaluator("logistic-regression")
class LogisticRegressionEvaluator(_CrossValidated):
    """Balanced accuracy of L1-penalised logistic regression, one class against the rest, in 5-fold cross-validation.

    The objective is liblinear's, and every fit comes with a duality gap; classes and folds are shared among threads. The
    highest score wins; the scaler is fitted within the fold (the paper does not say).
    """

    meta = EvaluatorMeta(
        "logistic-regression",
        "3",
        "L1 logistic regression, 5-fold cross-validation",
        "balanced_accuracy",
        key=("exclude",),
        metrics=CLASSIFICATION_METRICS,
        order_invariant=True,
        training_variance=LEARNED_BY_CLASSIFIER,
    )
    Params = LogisticRegressionParams

    def predict(
        self, parts: Iterable[Part], params: Any, context: EvaluationContext, details: dict[str, Any]
    ) -> list[np.ndarray]:
        """Return held-out predictions, and count the fits whose duality gap is above the tolerance."""
        scored = logistic_scores(parts, params.c, context.threads, details)
        return [known[np.argmax(scores, axis=0)] for known, scores in scored]


@register_evaluator("random-forest")
class RandomForestEvaluator(_CrossValidated):
    """Balanced accuracy of a random forest (500 trees, 20 % of the features at each split), in 5-fold cross-validation."""

    meta = EvaluatorMeta(
        "random-forest",
        "2",
        "Random forest, 5-fold cross-validation",
        "balanced_accuracy",
        key=("exclude",),
        metrics=CLASSIFICATION_METRICS,
        order_invariant=True,
        training_variance=LEARNED_BY_CLASSIFIER,
    )
    Params = RandomForestParams

    def predict(
        self, parts: Iterable[Part], params: Any, context: EvaluationContext, details: dict[str, Any]
    ) -> list[np.ndarray]:
        """Return held-out predictions."""
        from sklearn.ensemble import RandomForestClassifier

        answers = []
        for part in parts:
            forest = RandomForestClassifier(
                params.trees,
                max_features=params.max_features,
                class_weight="balanced",
                n_jobs=context.threads,
                random_state=context.seed,
            )
            forest.fit(part.training, part.labels)
            forest.set_params(n_jobs=1)  # votes are added in one order, so that ties never depend on the threads
            answers.append(forest.predict(part.held_out))
        return answers


class ArgmaxParams(pydantic.BaseModel):
    """Parameters of the network's own answer: none."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


@register_evaluator("argmax")
class Argmax(Evaluator):
    """Balanced accuracy of the column with the largest value, for features that are one score per class.

    The end-to-end row of Supplementary Table 2: ``deeploc-predictions``. Columns are named by the classes; those that the
    dataset's labels merge are added up, and a class of the network that the dataset does not have is never right.
    """

    meta = EvaluatorMeta(
        "argmax",
        "2",
        "The class with the largest score",
        "balanced_accuracy",
        order_invariant=True,
        metrics=CLASSIFICATION_METRICS,
    )
    Params = ArgmaxParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ArgmaxParams) -> str | None:
        """Return why the cells have no labels to tell apart, or None."""
        return classes_unavailable_reason(obs, dataset)

    def unavailable_reason(self, adata: AnnData, params: ArgmaxParams) -> str | None:
        """Return why the columns are no scores of the labels, or None."""
        classes = set(adata.obs["label"][labelled(adata.obs)].astype(str))
        if missing := sorted(classes - set(adata.var_names)):
            return (
                f"the columns must be one score for each class, but there is none named {', '.join(missing[:3])}"
                f"{' …' if len(missing) > 3 else ''}. Use it on predictions, such as deeploc-predictions"
            )
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[ArgmaxParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the one output."""
        cells = LabelledCells.of(adata)
        merged = Provenance.of(adata).dataset.merged
        names = [merged.get(name, name) for name in adata.var_names]
        distinct = list(dict.fromkeys(names))
        scores = np.zeros((len(cells.values), len(distinct)))
        for name, column in zip(names, cells.values.T, strict=True):
            scores[:, distinct.index(name)] += column
        position = {str(c): i for i, c in enumerate(cells.classes)}
        predicted = np.array([position.get(name, -1) for name in distinct])[scores.argmax(axis=1)]
        for params in param_sets:
            yield cells.output(params.model_dump(), predicted)
