"""Robustness: nearest-neighbour accuracy of distorted cells among undistorted ones (noise, blur, light, contrast, …)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
from pci_bench.data.changes import changed
from pci_bench.data.distortions import DISTORTIONS
from pci_bench.data.observations import exclusion_columns, exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import LabelledCells, classification_unavailable_reason, labelled
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, training_variance_of
from pci_bench.statistics.neighbors import majority_vote
from pci_bench.statistics.robustness import area_shares, balanced_spreads, reference_neighbors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

ALL = "all"
UNCHANGED = "unchanged"
CURVES = "curves"  # the name of the table


class RobustnessParams(pydantic.BaseModel):
    """Parameters of robustness."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value neighbours must not share; of several joined by +, no value of any",
    )
    changes: str = pydantic.Field(
        ALL, min_length=1, description=f"all, or some of {', '.join(DISTORTIONS)}, joined by +"
    )
    steps: int = pydantic.Field(
        4, ge=1, le=4, description="strengths beside 0: all four, or the largest and fewer, evenly, of those before it"
    )

    @pydantic.field_validator("changes")
    @classmethod
    def _known_changes(cls, changes: str) -> str:
        if unknown := [kind for kind in kinds_of(changes) if kind not in DISTORTIONS]:
            raise ValueError(f"there is no change '{unknown[0]}'; there are {', '.join(DISTORTIONS)}")
        return changes


def kinds_of(changes: str) -> list[str]:
    """Return the changes that a parameter names."""
    return list(DISTORTIONS) if changes == ALL else list(dict.fromkeys(changes.split("+")))


def strengths_of(kind: str, steps: int) -> list[float]:
    """Return the strengths of a change at which it is measured with so many steps, from 0 to the largest.

    >>> strengths_of("blur", 4), strengths_of("blur", 2), strengths_of("blur", 1)
    ([0, 0.5, 1, 2, 4], [0, 1, 4], [0, 4])
    """
    declared = DISTORTIONS[kind].strengths
    chosen = np.rint(np.linspace(0, len(declared) - 1, steps + 1)).astype(int)
    return [declared[i] for i in np.unique(chosen)]


@dataclass(frozen=True)
class Curve:
    """How one change tells on the cells.

    Parameters
    ----------
    kind
        The change.
    strengths
        Ascending from 0.
    correct
        (strengths, n) bool: whether each cell is predicted rightly.
    """

    kind: str
    strengths: list[float]
    correct: np.ndarray


@register_evaluator("robustness")
class Robustness(Evaluator):
    """Balanced accuracy of the majority of k nearest neighbours where the cell is distorted and its neighbours are not.

    Seven changes of the crops, each at four strengths beside none (:mod:`pci_bench.data.distortions`): noise (SD 0.25, 0.5, 1 and 2 of
    the channel's SD), blur (Gaussian, SD 0.5, 1, 2 and 4 pixels), illumination (0.2, 0.4, 0.6 and 0.8 of the light lost across the crop),
    contrast (gamma 1.4, 2, 2.8 and 4), rotation (15, 30, 45 and 90 degrees), resolution (pixels 1.5, 2, 3 and 4 times as large) and
    shift (2, 4, 8 and 16 pixels). Features are computed anew from the changed crops and standardised by the mean and SD of the unchanged
    ones, among which the neighbours are; the cell's own unchanged crop is never one of them. Networks are not trained again.

    ``area_CHANGE`` is the area under the curve of balanced accuracy over strength, by trapezoids, divided by the largest strength:
    the mean height of the curve. ``mean_area`` is the mean over the changes, ``unchanged`` the accuracy without any change (the number
    of ``loo-knn``), and ``lost`` is ``unchanged`` − ``mean_area``, of the same cells.

    Intervals: a jackknife over the dataset's confounder (images, plates) within class, of each cell's own area, so that differences
    are paired; the variance is multiplied for what neighbours were drawn from (:mod:`pci_bench.statistics.intervals`). What the features
    under a change are is given: a network that was trained with such changes may do better. The table ``curves`` has every point.

    After Hendrycks and Dietterich 2019 (arXiv 1903.12261), whose severities are of photographs.

    Cost: changes × steps extractions of all labelled cells, 28 by default.
    """

    meta = EvaluatorMeta(
        "robustness",
        "1",
        "Nearest-neighbour accuracy of distorted cells",
        "mean_area",
        key=("k", "exclude"),
        metrics={"lost": Metric("percent", higher_is_better=False)},
        other_metrics=Metric("percent"),
        needs=("extractor",),
        order_invariant=True,
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = RobustnessParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: RobustnessParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude):
            return reason
        if params.k >= (count := int(labelled(obs).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset.display_name} has {count}. Use a smaller --k"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[RobustnessParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield areas, and the table ``curves``; features of a change are computed once for all parameters."""
        cells = LabelledCells.of(adata)
        dataset = Provenance.of(adata).dataset
        exclusions = {p.exclude: resolve_exclude(p.exclude, dataset) for p in param_sets}
        kept = labelled(adata.obs)
        groups = {
            x: np.stack([exclusion_groups(adata.obs, column)[kept] for column in exclusion_columns(adata.obs, x)])
            for x in dict.fromkeys(exclusions.values())
        }
        searches = list(dict.fromkeys((exclusions[p.exclude], p.k) for p in param_sets))
        points = list(
            dict.fromkeys(
                (kind, s) for p in param_sets for kind in kinds_of(p.changes) for s in strengths_of(kind, p.steps) if s
            )
        )
        reference = cells.compared()
        unchanged = _predicted(cells, reference, reference, groups, searches)
        correct: dict[tuple[str, float], dict[tuple[str, int], np.ndarray]] = {}
        for kind, strength in points:
            queries = cells.compared(_features(context, kept, kind, strength))
            predicted = _predicted(cells, reference, queries, groups, searches)
            correct[kind, strength] = {search: cells.labels == p for search, p in predicted.items()}
        for params in param_sets:
            search = (exclusions[params.exclude], params.k)
            right = cells.labels == unchanged[search]
            curves = []
            for kind in kinds_of(params.changes):
                strengths = strengths_of(kind, params.steps)
                rows = [right if s == 0 else correct[kind, s][search] for s in strengths]
                curves.append(Curve(kind, strengths, np.stack(rows)))
            resolved = params.model_copy(update={"exclude": search[0]})
            yield _output(cells, resolved, unchanged[search], curves, self.meta.training_variance)


def _features(context: EvaluationContext, kept: np.ndarray, kind: str, strength: float) -> np.ndarray:
    """Return the features of the labelled cells under a change (n, d), finite."""
    assert context.features_of is not None
    assert context.cells is not None
    change = DISTORTIONS[kind](strength)
    values = np.asarray(context.features_of(changed(context.cells[kept], change)).X)
    if not np.isfinite(values).all():
        raise UserError(
            f"The features hold NaN or infinite values where crops have {change.name}; expected finite ones."
        )
    return values


def _predicted(
    cells: LabelledCells,
    reference: np.ndarray,
    queries: np.ndarray,
    groups: dict[str, np.ndarray],
    searches: list[tuple[str, int]],
) -> dict[tuple[str, int], np.ndarray]:
    """Return the class (n,) int that neighbours of the queries vote for, by exclusion and k."""
    votes = {}
    for exclude in dict.fromkeys(x for x, _ in searches):
        ks = [k for x, k in searches if x == exclude]
        nearest = reference_neighbors(reference, queries, max(ks), groups[exclude])
        voting = np.where(nearest >= 0, cells.labels[nearest], -1)
        for k in ks:
            votes[exclude, k] = majority_vote(voting[:, :k], len(cells.classes))
    return votes


def _output(
    cells: LabelledCells,
    params: RobustnessParams,
    predicted: np.ndarray,
    curves: list[Curve],
    factors: tuple[float, float],
) -> EvaluatorOutput:
    """Return areas with intervals, and the curves as a table."""
    import pandas as pd

    variance = training_variance_of(factors, {"exclude": params.exclude}, grouped=cells.groups is not None)
    right = (cells.labels == predicted).astype(float)
    areas = {curve.kind: area_shares(curve.correct, curve.strengths) for curve in curves}
    mean = np.mean(list(areas.values()), axis=0)
    shares = {"mean_area": mean, UNCHANGED: right, "lost": right - mean}
    shares |= {f"area_{kind}": values for kind, values in areas.items()}
    for curve in curves:
        for strength, row in zip(curve.strengths, curve.correct, strict=True):
            shares[f"at {curve.kind} {strength}"] = row.astype(float)
            shares[f"by {curve.kind} {strength}"] = row - right
    found: dict[str, tuple[float, tuple[float, float]]] = {}
    for name, (value, spread) in balanced_spreads(cells.labels, shares, cells.groups, len(cells.classes)).items():
        lowest = -1 if name == "lost" or name.startswith("by ") else 0
        found[name] = value, spread.times(variance).interval(value, low=lowest, high=1)
    rows: list[dict[str, Any]] = []
    for curve in curves:
        for strength in curve.strengths:
            (value, (low, high)), (difference, paired) = (found[f"{of} {curve.kind} {strength}"] for of in ("at", "by"))
            rows.append(
                {
                    "change": curve.kind,
                    "strength": float(strength),
                    "unit": DISTORTIONS[curve.kind].unit,
                    "balanced_accuracy": value,
                    "low": low,
                    "high": high,
                    "difference": difference,
                    "difference_low": paired[0],
                    "difference_high": paired[1],
                }
            )
    metrics = {name: entry for name, entry in found.items() if not name.startswith(("at ", "by "))}
    per_cell = pd.DataFrame(
        {
            "cell": cells.names,
            "label": pd.Categorical.from_codes(cells.labels, pd.Index(cells.classes)),
            "predicted": pd.Categorical.from_codes(predicted, pd.Index(cells.classes)),
            "correct": mean,
        }
    )
    if cells.groups is not None:
        per_cell[cells.confounder] = cells.obs[cells.confounder].astype(str).to_numpy()
    unit = cells.confounder if cells.groups is not None else "cell"
    return EvaluatorOutput(
        params.model_dump(),
        {name: value for name, (value, _) in metrics.items()},
        {name: interval for name, (_, interval) in metrics.items()},
        {
            "extractions": sum(len(curve.strengths) - 1 for curve in curves),
            "interval": f"jackknife over {unit} within class of each cell's own area, variance × {factors[0]:g} for the neighbours (× {factors[1]:g} "
            "where whole groups are left out); lost and differences are paired",
        },
        per_cell,
        {CURVES: pd.DataFrame(rows)},
    )
