"""An evaluator with a figure: how much nearer a cell is to its own class than to the next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench import (
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    Result,
    register_evaluator,
    register_figures,
)
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.reporting.figures.base import described
from pci_bench.system.drawing import new_figure

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from matplotlib.figure import Figure


class SilhouetteParams(pydantic.BaseModel):
    """Parameters of the silhouette."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    metric: Literal["euclidean", "cosine"] = pydantic.Field("euclidean", description="distance between cells")


@register_evaluator("class-silhouette")
class ClassSilhouette(Evaluator):
    """Mean silhouette of the labelled classes."""

    meta = EvaluatorMeta(
        "class-silhouette",
        "1",
        "Silhouette of the classes",
        "silhouette",
        key=("metric",),
        metrics={"silhouette": Metric(decimals=3)},
        order_invariant=True,
    )
    Params = SilhouetteParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: Any) -> str | None:
        """Return why there is nothing to compare, or None."""
        labels = obs_strings(obs, "label")
        if 2 <= len(set(labels) - {""}) < (labels != "").sum():
            return None
        return "the silhouette needs two classes, and one of several cells"

    def __call__(self, adata: AnnData, param_sets: list[Any], context: EvaluationContext) -> Iterator[EvaluatorOutput]:
        """Yield the mean over all labelled cells."""
        from sklearn.metrics import silhouette_score

        labels = obs_strings(adata.obs, "label")
        values = np.asarray(adata.X, np.float64)[labels != ""]
        for params in param_sets:
            score = float(silhouette_score(values, labels[labels != ""], metric=params.metric))
            yield EvaluatorOutput(params.model_dump(), {"silhouette": score})


@register_figures("class-silhouette")
def silhouettes(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure: a bar per result, the best on top."""
    ranked = sorted(results, key=lambda r: r.metrics["silhouette"])
    figure = new_figure(6.0, 1.2 + 0.3 * len(ranked))
    axes = figure.subplots()
    names = [f"{r.features.full_name}, {r.evaluator.params['metric']}" for r in ranked]
    axes.barh(names, [r.metrics["silhouette"] for r in ranked], color="#0072B2")
    axes.set_xlabel("mean silhouette of the classes")
    yield "silhouettes", described(figure, ranked, "1: all cells lie within their class; 0: between two.")
