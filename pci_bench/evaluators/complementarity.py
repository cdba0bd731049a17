"""Whether two feature sets are right for different cells, and what they know together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

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
from pci_bench.data.observations import exclusion_groups, obs_codes, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import LabelledCells, classification_unavailable_reason, labelled
from pci_bench.features.extraction import extract
from pci_bench.statistics.fusion import fusion
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, training_variance
from pci_bench.statistics.metrics import share_spreads
from pci_bench.statistics.scaling import impute_nan

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

MIN_GROUPS = 3


class ComplementarityParams(pydantic.BaseModel):
    """Parameters of the complementarity of two feature sets."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    beside: str = pydantic.Field("intensity", min_length=1, description="the other feature set, by its name")
    exclude: str = pydantic.Field(
        "confounder",
        min_length=1,
        description="obs column whose value neighbours must not share; weights are chosen on its other values",
    )
    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")


@register_evaluator("complementarity")
class Complementarity(Evaluator):
    """What a feature set and another one know together: nearest neighbours in each alone, and in both, side by side.

    ``alone`` and ``beside_alone`` are the balanced accuracies of the two, ``only_this`` and ``only_beside`` the shares of cells that one of them
    alone predicts rightly, ``either`` that of cells which any does: no choice between the two can be better. ``jaccard`` is the number of cells that both
    predict rightly over the number that any does: 1 where they are right for the same cells.

    ``fused`` is the balanced accuracy in the standardised features of both, side by side, with total variances of 1 − w and w. The weight w is chosen
    anew for every plate (``exclude=plate``), on cells of other plates and from neighbours of third plates, never on those
    tested; and so is the better of the two feature sets. ``gain``, the fusion minus the better one, has a paired interval over the confounder's values: the same cells
    on both sides.

    Weights from predictions for cells that nothing was learned from are Wolpert's stacking (1992, doi 10.1016/S0893-6080(05)80023-1).

    Cost: the features of the other set, and a search for neighbours with each of seven weights.

    Tables: ``classes``, cells that both, one or none predicts rightly and the Jaccard index by class; ``weights``, those
    chosen.
    """

    meta = EvaluatorMeta(
        "complementarity",
        "1",
        "What a feature set and another one know together",
        "fused",
        key=("beside", "exclude"),
        metrics={
            **{
                name: Metric("percent")
                for name in ("fused", "alone", "beside_alone", "gain", "either", "only_this", "only_beside")
            },
            **{name: Metric(decimals=2) for name in ("jaccard", "weight")},
        },
        order_invariant=True,
        needs=("cells",),
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = ComplementarityParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ComplementarityParams
    ) -> str | None:
        """Return why weights cannot be chosen on other groups, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude):
            return reason
        name, column = dataset.display_name, resolve_exclude(params.exclude, dataset)
        if column == "cell" or "+" in column:
            return "weights are chosen on other groups than tested: name one column of groups with exclude, as plate"
        groups = len(np.unique(obs_codes(obs[labelled(obs)], column)))
        if groups < MIN_GROUPS:
            return f"the column '{column}' of {name} has {groups} values; weights need three: one tested, one predicted, one to predict from"
        if params.k >= (count := int(labelled(obs).sum())):
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {name} has {count}. Use a smaller --k"
        return None

    def unavailable_reason(self, adata: AnnData, params: ComplementarityParams) -> str | None:
        """Return why there are no two feature sets, or None."""
        known = Provenance.of(adata).features
        if params.beside in (known.name, f"{known.name}@{known.weights}"):
            return f"{params.beside} is not compared with itself"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[ComplementarityParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield what both know, and what they know together."""
        import pandas as pd

        if context.cells is None:
            raise UserError(
                "Another feature set needs the cells' crops. Use `pci-bench run`, or give evaluate() cells=…"
            )
        cells = LabelledCells.of(adata)
        order = np.argsort(cells.names, kind="stable")
        labels, n_classes = cells.labels[order], len(cells.classes)
        drawn = None if cells.groups is None else cells.groups[order]
        for params in param_sets:
            column = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
            other = extract(params.beside, context.cells)
            values = impute_nan(np.asarray(other.X))[0][labelled(adata.obs)][order]
            groups = np.unique(exclusion_groups(cells.obs.iloc[order], column), return_inverse=True)[1]
            found = fusion(cells.values[order], values, labels, groups, params.k)
            this, beside, fused, better = (
                (predicted == labels).astype(float)
                for predicted in (found.first, found.second, found.fused, found.better)
            )
            whole = training_variance(self.meta.training_variance, whole_units=True)
            metrics: dict[str, float] = {}
            intervals: dict[str, tuple[float, float]] = {}
            for name, right, low in (
                ("fused", fused, 0),
                ("alone", this, 0),
                ("beside_alone", beside, 0),
                ("gain", fused - better, -1),
            ):
                metrics[name], spread, _ = share_spreads(labels, right, drawn, n_classes)
                intervals[name] = spread.times(whole).interval(metrics[name], low=low, high=1)
            both, any_right = this * beside, np.maximum(this, beside)
            metrics |= {
                "only_this": float((this > beside).mean()),
                "only_beside": float((beside > this).mean()),
                "either": float(any_right.mean()),
                "jaccard": float(both.sum() / max(1, any_right.sum())),
                "weight": float(found.weights.mean()),
            }

            def of_classes(values: np.ndarray, labels: np.ndarray = labels, n_classes: int = n_classes) -> np.ndarray:
                return np.bincount(labels, values, n_classes)

            classes = pd.DataFrame(
                {
                    "class": cells.classes,
                    "cells": np.bincount(labels, minlength=n_classes),
                    "both": of_classes(both).astype(int),
                    "only_this": of_classes(this > beside).astype(int),
                    "only_beside": of_classes(beside > this).astype(int),
                    "jaccard": of_classes(both) / np.maximum(1, of_classes(any_right)),
                    "fused_minus_better": of_classes(fused - better) / np.bincount(labels, minlength=n_classes),
                }
            )
            values_of = obs_strings(cells.obs.iloc[order], column)
            names = [str(values_of[groups == group][0]) for group in range(len(found.weights))]
            yield EvaluatorOutput(
                {**params.model_dump(), "exclude": column},
                metrics,
                intervals,
                {
                    "beside": {
                        "features": Provenance.of(other).features.name,
                        "weights": Provenance.of(other).features.weights,
                    },
                    "interval": f"paired, over {cells.confounder if drawn is not None else 'cells'} within class, variance × {whole:g} for the cells learned from",
                },
                pd.DataFrame(
                    {
                        "cell": cells.names[order],
                        "label": pd.Categorical.from_codes(labels, pd.Index(cells.classes)),
                        "predicted": pd.Categorical.from_codes(found.fused, pd.Index(cells.classes)),
                    }
                ),
                {"classes": classes, "weights": pd.DataFrame({column: names, "weight": found.weights})},
            )
