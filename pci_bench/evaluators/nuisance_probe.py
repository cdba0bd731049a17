"""What features know that they should not: the plate, the cell line, the image, by the classifier that predicts the labels."""

from __future__ import annotations

from collections.abc import Iterator
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
from pci_bench.data.observations import exclusion_groups, obs_codes, obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, training_variance
from pci_bench.statistics.metrics import classification_metrics, confusion_counts, share_spreads
from pci_bench.statistics.neighbors import Neighborhoods, majority_vote, neighborhoods
from pci_bench.statistics.nuisance import nested_groups, redrawn_neighbors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

DRAWS, MOST_VOTES = 100, 20_000_000  # of chance; fewer draws, but 20, where cells × draws × k are more
NESTED = ("plate", "field", "image")  # groups that may lie within a nuisance's values, from the coarsest


class NuisanceProbeParams(pydantic.BaseModel):
    """Parameters of the nuisance probe."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    target: str = pydantic.Field("image", min_length=1, description="obs column that is predicted")
    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")


@register_evaluator("nuisance-probe")
class NuisanceProbe(Evaluator):
    """Balanced accuracy with which kNN predicts a nuisance, as the plate, from the features, beside what the class alone predicts of it.

    The classifier is that of the labels: the majority of the k nearest other cells, on standardised features. ``chance`` is the mean
    score when each neighbour is replaced by a random one of its class, 100 times: what features tell that know the class and no
    more, also where classes and plates go together or plates differ in size. ``excess`` is what is above it, and less is better.

    Where the nuisance is made of smaller groups, as a cell line of plates, a plate of fields, a field of images, ``grouped`` takes
    neighbours from other ones of these only, by chance too. It is what features know of the plate that does not come from recognising the
    field.

    That features are judged by what a simple classifier tells from them follows Alain and Bengio 2016 (arXiv 1610.01644); both nulls are ours.

    Intervals are a jackknife over images within the nuisance's values (over cells where it is the image), with the variance
    multiplied for what neighbours are learned from.
    """

    meta = EvaluatorMeta(
        "nuisance-probe",
        "2",
        "What is predicted of the plate, the cell line or the image",
        "excess",
        key=("target",),
        metrics={
            name: Metric("percent", higher_is_better=False)
            for name in (
                "balanced_accuracy",
                "chance",
                "excess",
                "grouped_balanced_accuracy",
                "grouped_chance",
                "grouped_excess",
            )
        },
        order_invariant=True,
        reusable=True,
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = NuisanceProbeParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: NuisanceProbeParams) -> str | None:
        """Return why there is nothing to predict, or None."""
        name = dataset.display_name
        if params.target not in obs:
            return (
                f"{name} has no column '{params.target}' to predict; its columns are {', '.join(map(str, obs.columns))}"
            )
        values = obs_codes(obs, params.target)
        known = values[values >= 0]
        if len(np.unique(known)) < 2:
            return (
                f"the column '{params.target}' of {name} has fewer than two values, and there is nothing to tell apart"
            )
        if np.bincount(known).max() < 2:
            return f"every value of the column '{params.target}' of {name} is of one cell, so no neighbour can share it"
        if params.k >= len(known):
            return f"k = {params.k} needs at least {params.k + 1} cells, and {name} has {len(known)}. Use a smaller --k"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[NuisanceProbeParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield accuracies, chance and excess."""
        values = np.asarray(adata.X)
        if not np.isfinite(values).all():
            raise UserError("The features hold NaN or infinite values; neighbours need finite ones.")
        for params in param_sets:
            yield _probed(adata, values, params, context, self.meta.training_variance)


def _probed(
    adata: AnnData,
    values: np.ndarray,
    params: NuisanceProbeParams,
    context: EvaluationContext,
    factors: tuple[float, float],
) -> EvaluatorOutput:
    """Return the output for one nuisance."""
    known = obs_codes(adata.obs, params.target) >= 0
    obs, values = adata.obs[known], values[known]
    target = np.unique(obs_codes(obs, params.target), return_inverse=True)[1]
    names = obs_strings(obs, "cell") if "cell" in obs else obs.index.to_numpy(str)
    classes = np.unique(obs_strings(obs, "label"), return_inverse=True)[1]
    order = np.argsort(names, kind="stable")
    groups = {c: np.unique(exclusion_groups(obs, c), return_inverse=True)[1] for c in NESTED if c in obs}
    groupings = {"cell": np.unique(names, return_inverse=True)[1]}
    within = nested_groups(target, {c: g for c, g in groups.items() if c != params.target})
    if within is not None:
        groupings[within] = groups[within]
    found = neighborhoods(comparable(adata, values), target, groupings, params.k, order, context.blocks)
    units = groups["image"] if "image" in groups and params.target != "image" else None
    metrics: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    details: dict[str, Any] = {
        "values": len(np.unique(target)),
        "interval": f"jackknife over {'cells' if units is None else 'images'} within {params.target}",
    }
    for column, neighbors in found.items():
        prefix = "" if column == "cell" else "grouped_"
        if column != "cell":
            details["grouped_by"] = column
        levels = _by_chance(neighbors, classes, groupings[column], order, params.k, context.seed)
        value, spread = _score(neighbors, params.k, units)
        whole = units is None or column != "cell"
        spread = spread.times(training_variance(factors, whole_units=whole))
        chance = float(levels.mean())
        metrics |= {
            f"{prefix}balanced_accuracy": value,
            f"{prefix}chance": chance,
            f"{prefix}excess": value - chance,
        }
        intervals[f"{prefix}balanced_accuracy"] = spread.interval(value, low=0, high=1)
        intervals[f"{prefix}excess"] = spread.interval(value - chance, low=-1, high=1)
        low, high = np.quantile(levels, [0.025, 0.975])
        details[f"{prefix}by_chance"] = {"draws": len(levels), "low": float(low), "high": float(high)}
    return EvaluatorOutput(params.model_dump(), metrics, intervals, details)


def _by_chance(
    neighbors: Neighborhoods, classes: np.ndarray, groups: np.ndarray, order: np.ndarray, k: int, seed: int
) -> np.ndarray:
    """Return the balanced accuracies (draws,) of random neighbours of the same classes; cells are gone through in `order`."""
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    nearest = neighbors.lists[order, :k]
    nearest = np.where(nearest >= 0, place[nearest], -1)
    target, rng = neighbors.labels[order], np.random.default_rng(seed)
    levels = []
    for _ in range(min(DRAWS, max(20, MOST_VOTES // nearest.size))):
        drawn = redrawn_neighbors(nearest, classes[order], groups[order], rng)
        predicted = majority_vote(np.where(drawn >= 0, target[drawn], -1), neighbors.n_classes)
        confusion = confusion_counts(target, predicted, neighbors.n_classes)
        levels.append(float(classification_metrics(confusion)["balanced_accuracy"]))
    return np.array(levels)


def _score(neighbors: Neighborhoods, k: int, units: np.ndarray | None) -> tuple[float, Any]:
    """Return the balanced accuracy of the majority of k neighbours, and its spread over units."""
    nearest = neighbors.lists[:, :k]
    votes = np.where(nearest >= 0, neighbors.labels[nearest], -1)
    correct = (majority_vote(votes, neighbors.n_classes) == neighbors.labels).astype(float)
    value, spread, _ = share_spreads(neighbors.labels, correct, units, neighbors.n_classes)
    return value, spread
