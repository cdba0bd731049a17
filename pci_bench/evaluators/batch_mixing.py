"""How well plates, or other batches, mix among the nearest neighbours of cells of one class."""

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
from pci_bench.data.observations import exclusion_groups, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.comparable import comparable
from pci_bench.evaluators.labelled import LabelledCells, classes_unavailable_reason, labelled
from pci_bench.statistics.clustering import shuffled_within
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.mixing import inverse_simpson, perplexity_weights, rejected
from pci_bench.statistics.neighbors import loo_neighbors

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class BatchMixingParams(pydantic.BaseModel):
    """Parameters of the mixing of batches."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    batch: str = pydantic.Field(
        "", description="obs column of what should mix, as plates or cell lines; if empty, the dataset's confounder"
    )
    k: int = pydantic.Field(
        30, ge=3, description="nearest neighbours of the same class; the kernel's perplexity is a third of it"
    )
    permutations: int = pydantic.Field(100, ge=2, description="of batches within each class, for the null")


@register_evaluator("batch-mixing")
class BatchMixing(Evaluator):
    """Whether a cell's nearest neighbours of its own class come from all batches, as they would if batches were shuffled.

    ``ilisi`` is the mean over cells of the local inverse Simpson index, 1 / Σ p(batch)², of the k nearest neighbours under a Gaussian
    kernel of perplexity k / 3 (Korsunsky et al. 2019, doi 10.1038/s41592-019-0619-0): as many batches as are as good as present.
    ``ilisi_null`` is the same with batches shuffled within classes, and the headline ``mixing`` is (ilisi − 1) / (ilisi_null − 1): 0 where every
    neighbour is of the cell's own batch, 1 where batches mix as if shuffled. ``accepted`` is the share of cells whose neighbours' batches a χ² test
    does not tell from the class's (p ≥ 0.05), as kBET has it (Büttner et al. 2019, doi 10.1038/s41592-018-0254-1), beside
    ``accepted_null``.

    Neighbours are of the same class, so that classes which are unevenly distributed over batches do not count as badly mixed. Classes
    of one batch, or of no more than k cells, are left out. Distances are Euclidean on standardised features; nothing is
    computed on an embedding. Features that know nothing mix best: read it beside a measure of what they know.
    """

    meta = EvaluatorMeta(
        "batch-mixing",
        "1",
        "How well batches mix among neighbours of the same class",
        "mixing",
        key=("batch",),
        metrics={
            "mixing": Metric(decimals=2),
            "accepted": Metric("percent"),
            "accepted_null": Metric("percent"),
            "ilisi": Metric(decimals=2),
            "ilisi_null": Metric(decimals=2),
        },
        order_invariant=True,
        reusable=True,
    )
    Params = BatchMixingParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: BatchMixingParams) -> str | None:
        """Return why there are no batches that could mix, or None."""
        name, column = dataset.display_name, resolve_exclude(params.batch or "confounder", dataset)
        if "label" not in obs:
            return classes_unavailable_reason(obs, dataset)
        if not column:
            return f"{name} declares no confounder. Name a column with --set batch=COLUMN"
        kept = obs[labelled(obs)]
        values, labels = obs_strings(kept, column), obs_strings(kept, "label")
        if not len(kept) or not (values != "").all():
            return (
                f"{name} has no '{column}' of every labelled cell; its columns are {', '.join(map(str, obs.columns))}"
            )
        if not any(_mixes(values[labels == label], params.k) for label in np.unique(labels)):
            return f"no class of {name} has more than {params.k} cells in two values of '{column}' or more. Use a smaller --k"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[BatchMixingParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield how well batches mix, beside shuffled ones."""
        import pandas as pd

        cells = LabelledCells.of(adata)
        order = np.argsort(cells.names, kind="stable")
        features, labels = comparable(adata, cells.values[order]), cells.labels[order]
        images = obs_strings(cells.obs, "image")
        unit = "image" if (images != "").all() else "cell"
        images = images if unit == "image" else cells.names
        for params in param_sets:
            column = resolve_exclude(params.batch or "confounder", Provenance.of(adata).dataset)
            batches = np.unique(exclusion_groups(cells.obs.iloc[order], column), return_inverse=True)[1]
            n_batches = int(batches.max()) + 1
            ilisi, accepted = np.full((2, len(labels)), np.nan)
            null = np.zeros((2, params.permutations))
            left_out = []
            for label, name in enumerate(cells.classes):
                members = np.flatnonzero(labels == label)
                own = batches[members]
                if not _mixes(own, params.k):
                    left_out.append(str(name))
                    continue
                neighbors, distances = loo_neighbors(features[members], params.k, blocks=context.blocks)
                weights = perplexity_weights(distances, params.k / 3)
                expected = np.bincount(own, minlength=n_batches) / len(own)
                ilisi[members] = inverse_simpson(weights, own[neighbors], n_batches)
                accepted[members] = ~rejected(own[neighbors], expected)
                shuffled = shuffled_within(own, np.zeros(len(own), np.int64), params.permutations, context.seed)
                for number, other in enumerate(shuffled):
                    null[0, number] += inverse_simpson(weights, other[neighbors], n_batches).sum()
                    null[1, number] += (~rejected(other[neighbors], expected)).sum()
            counted = ~np.isnan(ilisi)
            null /= counted.sum()
            value, shuffled_value = float(ilisi[counted].mean()), float(null[0].mean())
            units = np.unique(images[order][counted], return_inverse=True)[1]
            spreads = {
                "ilisi": mean_spread(ilisi[counted], units),
                "mixing": mean_spread(ilisi[counted] / (shuffled_value - 1), units),
                "accepted": mean_spread(accepted[counted], units),
            }
            metrics = {
                "mixing": (value - 1) / (shuffled_value - 1),
                "ilisi": value,
                "ilisi_null": shuffled_value,
                "accepted": float(accepted[counted].mean()),
                "accepted_null": float(null[1].mean()),
            }
            yield EvaluatorOutput(
                {**params.model_dump(), "batch": column},
                metrics,
                {
                    "ilisi": spreads["ilisi"].interval(value, low=1),
                    "mixing": spreads["mixing"].interval(metrics["mixing"]),
                    "accepted": spreads["accepted"].interval(metrics["accepted"], low=0, high=1),
                },
                {
                    "batches": n_batches,
                    "cells": int(counted.sum()),
                    "classes_left_out": left_out,
                    "interval": f"jackknife of cells' values over {unit}s; neighbours and shuffled batches are given",
                },
                per_cell=pd.DataFrame(
                    {
                        "cell": cells.names[order][counted],
                        "label": cells.classes[labels[counted]],
                        "ilisi": ilisi[counted],
                        "accepted": accepted[counted].astype(bool),
                    }
                ),
            )


def _mixes(batches: np.ndarray, k: int) -> bool:
    """Return whether there are more than k cells, of two batches or more."""
    return len(batches) > k and len(np.unique(batches)) > 1
