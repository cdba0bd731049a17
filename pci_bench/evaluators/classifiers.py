"""Cross-validated classifiers (paper: Supplementary Table 2), and the class that a supervised network names itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.evaluators.base import (
    EvaluatorMeta,
    Outcome,
    Run,
    exclusion_groups,
    register_evaluator,
    resolve_exclude,
)
from pci_bench.evaluators.labelled import LabelledCells, labelled, unreachable_classes, why_no_classes, why_not_classify

if TYPE_CHECKING:
    from anndata import AnnData

ITERATIONS = 1000


def stratified_folds(
    labels: np.ndarray, groups: np.ndarray | None, n_folds: int, seed: int
) -> tuple[np.ndarray, int, np.ndarray]:
    """Return each cell's fold, how many folds there are, and the classes that cannot be learned.

    Parameters
    ----------
    labels
        (n,) int.
    groups
        (n,) int: a group lies in one fold as a whole; None where every cell is its own.
    n_folds
        As many folds as wanted; fewer where a class has fewer cells (groups), since each fold needs some of every class.
    seed
        Of the shuffle.

    Returns
    -------
    (folds, n_folds, unreachable)
        (n,) int; the number of folds, at least 2; classes that lie in one group, so that they are never both in training
        and in the held-out fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    parts = np.arange(len(labels)) if groups is None else groups
    unreachable = unreachable_classes(labels, parts)
    pairs = np.unique(np.stack([labels, parts], axis=1), axis=0)
    counts = np.bincount(pairs[:, 0])
    possible = max(2, min(n_folds, int(counts[counts > 1].min(initial=n_folds))))
    kind: Any = StratifiedKFold if groups is None else StratifiedGroupKFold
    import warnings

    folds = np.zeros(len(labels), np.int64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)  # those are in `unreachable`
        splits = kind(possible, shuffle=True, random_state=seed).split(labels, labels, groups)
        for number, (_, held_out) in enumerate(splits):
            folds[held_out] = number
    return folds, possible, unreachable


def l1_logistic_regression(
    features: np.ndarray, positive: np.ndarray, weight: float, c: float
) -> tuple[np.ndarray, int]:
    """Return the coefficients of one class against the rest, the penalised intercept last, and the iterations.

    Minimises |w|₁ + C Σ sᵢ log(1 + exp(−yᵢ w·xᵢ)) with liblinear, where s is `weight` for the class and 1 for the rest: what
    scikit-learn did with several classes and ``class_weight="balanced"`` when the paper was written.

    Parameters
    ----------
    features
        (n, d).
    positive
        (n,) bool.
    weight, c
        The class's weight, and C.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(
        solver="liblinear",
        l1_ratio=1.0,
        C=c,
        class_weight={0: 1.0, 1: weight},
        intercept_scaling=1.0,
        max_iter=ITERATIONS,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it is counted in the result
        model.fit(features, positive)
    return np.append(model.coef_[0], model.intercept_[0]), int(model.n_iter_[0])


def balanced_weights(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Return n / (classes × cells of the class) for every class, 0 for one without cells. (n,) int -> (n_classes,)."""
    counts = np.bincount(labels, minlength=n_classes)
    present = (counts > 0).sum()
    return np.divide(len(labels), present * counts, out=np.zeros(n_classes), where=counts > 0)


def _scaled(training: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both standardised with the training cells' means and SDs; columns constant in training become zeros."""
    both = np.concatenate([training, held_out]).astype(np.float64)
    n = len(training)
    mean, constant = both[:n].mean(axis=0), both[:n].min(axis=0) == both[:n].max(axis=0)
    spread = both[:n].std(axis=0)
    both = (both - mean) / np.where(constant | (spread == 0), 1, spread)
    both[:, constant] = 0
    return both[:n], both[n:]


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


class LogisticRegressionParams(ClassifierParams):
    """Parameters of the logistic regression."""

    c: float = pydantic.Field(1.0, gt=0, description="inverse strength of the L1 penalty")


class RandomForestParams(ClassifierParams):
    """Parameters of the random forest."""

    trees: int = pydantic.Field(500, ge=1, description="number of trees")
    max_features: float = pydantic.Field(0.2, gt=0, le=1, description="share of the features tried at each split")


class _CrossValidated(ABC):
    """Folds, held-out predictions and outcomes; a classifier says how it predicts a fold."""

    meta: EvaluatorMeta

    def skip(self, adata: AnnData, params: ClassifierParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        return why_not_classify(adata, params.exclude)

    def __call__(self, adata: AnnData, grid: list[Any], run: Run) -> Iterator[Outcome]:
        """Yield one outcome per parameters: metrics as means over the folds, and the held-out predictions."""
        cells = LabelledCells.of(adata)
        order = np.argsort(cells.names, kind="stable")  # folds must not depend on the cells' order
        back = np.argsort(order)
        for params in grid:
            column = resolve_exclude(adata, params.exclude)
            groups = None if column == "cell" else exclusion_groups(adata, column)[labelled(adata)]
            labels = cells.labels[order]
            folds, n_folds, unreachable = stratified_folds(
                labels, None if groups is None else groups[order], params.folds, run.seed
            )
            predicted, said = np.full(len(labels), -1), dict[str, Any]()
            for fold in np.unique(folds):
                inside = folds == fold
                training, held_out = cells.values[order[~inside]], cells.values[order[inside]]
                if params.scale == "fold":
                    training, held_out = _scaled(training, held_out)
                predicted[inside] = self.fold(training, labels[~inside], held_out, params, run, said)
            if n_folds < params.folds:
                what = "cells" if groups is None else f"values of '{column}'"
                said["fewer_folds"] = f"{n_folds} folds, since a class has only {n_folds} {what}"
            yield cells.outcome(
                params.model_copy(update={"exclude": column}).model_dump(),
                predicted[back],
                run.seed,
                unreachable=unreachable,
                folds=folds[back],
                details=said,
            )

    @abstractmethod
    def fold(
        self,
        training: np.ndarray,
        labels: np.ndarray,
        held_out: np.ndarray,
        params: Any,
        run: Run,
        said: dict[str, Any],
    ) -> np.ndarray:
        """Return predictions for the held-out cells of a fold (n,) int; what the folds add up goes into `said`."""


@register_evaluator("logistic-regression")
class LogisticRegressionEvaluator(_CrossValidated):
    """Balanced accuracy of L1-penalised logistic regression, one class against the rest, in 5-fold cross-validation.

    Classes and folds are shared among processes with one thread each. The highest score wins; the scaler is fitted within
    the fold (the paper does not say).
    """

    meta = EvaluatorMeta(
        "logistic-regression",
        "1",
        "L1 logistic regression, 5-fold cross-validation",
        "balanced_accuracy",
        key=("exclude",),
        any_order=True,
    )
    Params = LogisticRegressionParams

    def fold(
        self,
        training: np.ndarray,
        labels: np.ndarray,
        held_out: np.ndarray,
        params: Any,
        run: Run,
        said: dict[str, Any],
    ) -> np.ndarray:
        """Return held-out predictions, and count the fits that did not converge."""
        from joblib import Parallel, delayed

        weights = balanced_weights(labels, int(labels.max()) + 1)
        known = np.flatnonzero(weights)
        fits = Parallel(n_jobs=run.threads)(
            delayed(l1_logistic_regression)(training, labels == c, weights[c], params.c) for c in known
        )
        said["unconverged_fits"] = said.get("unconverged_fits", 0) + sum(n >= ITERATIONS for _, n in fits)
        coefficients = np.stack([w for w, _ in fits])
        scores = held_out @ coefficients[:, :-1].T + coefficients[:, -1]
        return known[scores.argmax(axis=1)]


@register_evaluator("random-forest")
class RandomForestEvaluator(_CrossValidated):
    """Balanced accuracy of a random forest (500 trees, 20 % of the features at each split), in 5-fold cross-validation."""

    meta = EvaluatorMeta(
        "random-forest",
        "1",
        "Random forest, 5-fold cross-validation",
        "balanced_accuracy",
        key=("exclude",),
        any_order=True,
    )
    Params = RandomForestParams

    def fold(
        self,
        training: np.ndarray,
        labels: np.ndarray,
        held_out: np.ndarray,
        params: Any,
        run: Run,
        said: dict[str, Any],
    ) -> np.ndarray:
        """Return held-out predictions."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(
            params.trees,
            max_features=params.max_features,
            class_weight="balanced",
            n_jobs=run.threads,
            random_state=run.seed,
        )
        forest.fit(training, labels)
        forest.set_params(n_jobs=1)  # votes are added in one order, so that ties never depend on the threads
        return forest.predict(held_out)


class ArgmaxParams(pydantic.BaseModel):
    """Parameters of the network's own answer: none."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


@register_evaluator("argmax")
class Argmax:
    """Balanced accuracy of the column with the largest value, for features that are one score per class.

    The end-to-end row of Supplementary Table 2: ``deeploc-predictions``. Columns are named by the classes; those that the
    dataset's labels merge are added up, and a class of the network that the dataset does not have is never right.
    """

    meta = EvaluatorMeta("argmax", "1", "The class with the largest score", "balanced_accuracy", any_order=True)
    Params = ArgmaxParams

    def skip(self, adata: AnnData, params: ArgmaxParams) -> str | None:
        """Return why the columns are no scores of the labels, or None."""
        if reason := why_no_classes(adata):
            return reason
        classes = set(adata.obs["label"][labelled(adata)].astype(str))
        if missing := sorted(classes - set(adata.var_names)):
            return (
                f"the columns must be one score for each class, but there is none named {', '.join(missing[:3])}"
                f"{' …' if len(missing) > 3 else ''}. Use it on predictions, such as deeploc-predictions"
            )
        return None

    def __call__(self, adata: AnnData, grid: list[ArgmaxParams], run: Run) -> Iterator[Outcome]:
        """Yield the one outcome."""
        cells = LabelledCells.of(adata)
        merged = adata.uns.get("pci_bench", {}).get("dataset", {}).get("merged", {})
        names = [str(merged.get(name, name)) for name in adata.var_names]
        distinct = list(dict.fromkeys(names))
        scores = np.zeros((len(cells.values), len(distinct)))
        for name, column in zip(names, cells.values.T, strict=True):
            scores[:, distinct.index(name)] += column
        position = {str(c): i for i, c in enumerate(cells.classes)}
        predicted = np.array([position.get(name, -1) for name in distinct])[scores.argmax(axis=1)]
        for params in grid:
            yield cells.outcome(params.model_dump(), predicted, run.seed)
