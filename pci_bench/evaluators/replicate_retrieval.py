"""Whether a protein finds itself in another screen: retrieval of replicates."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

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
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.embedding import protein_means
from pci_bench.evaluators.labelled import UNSAID
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.neighbors import Metric as Similarity
from pci_bench.statistics.neighbors import directionless, directions
from pci_bench.statistics.retrieval import match_ranks, retrieval_by_chance, retrieval_metrics
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class ReplicateRetrievalParams(pydantic.BaseModel):
    """Parameters of the retrieval of replicates."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    by: str = pydantic.Field(
        "screen", min_length=1, description="obs column of the replicates: screens, plates, batches"
    )
    scale: Literal["within", "all", "none"] = pydantic.Field(
        "within",
        description="standardise the proteins of each replicate by themselves, or of all together, or not",
        json_schema_extra=AS_GIVEN,
    )
    metric: Similarity = pydantic.Field(
        "euclidean",
        description="nearest is the smallest distance, or the highest correlation or cosine of two proteins",
    )


@register_evaluator("replicate-retrieval")
class ReplicateRetrieval(Evaluator):
    """At which rank a protein finds itself among all proteins of another screen.

    Proteins are means over their cells of a screen. Each protein that is in two screens is looked for in either, from the other;
    numbers are means over all such searches. ``recall_at_1`` is the share that find themselves first. Each search has one right
    answer, so its average precision is 1 / rank. ``…_by_chance`` is what ranks drawn at random would score. Intervals are over
    proteins. A treatment that moves a protein lowers its rank, so screens of different conditions are no pure replicates.

    The table ``ranks`` has a row for each search, and ``pairs`` the means of each two screens.
    """

    meta = EvaluatorMeta(
        "replicate-retrieval",
        "1",
        "Whether proteins find themselves in another screen",
        "recall_at_1",
        key=("by", "scale"),
        metrics={
            **{name: Metric("percent") for name in ("recall_at_1", "recall_at_10", "mean_average_precision")},
            **{f"{name}_by_chance": Metric("percent", decimals=2) for name in retrieval_by_chance(2)},
            "median_rank": Metric(decimals=1, higher_is_better=False),
        },
        order_invariant=True,
        reusable=True,
    )
    Params = ReplicateRetrievalParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ReplicateRetrievalParams
    ) -> str | None:
        """Return why no protein can be looked for in another screen, or None."""
        name = dataset.display_name
        if params.by not in obs:
            return f"{name} has no column '{params.by}' that tells replicates apart; its columns are {', '.join(obs.columns)}"
        where, proteins = obs_strings(obs, params.by), obs_strings(obs, "protein")
        known = sorted(set(where) - {""})
        if len(known) < 2:
            return f"all cells of {name} have one value in its column '{params.by}'; replicates need two"
        in_each = [set(proteins[where == value]) - {""} for value in known]
        if not any(len(a & b) > 1 for a, b in itertools.combinations(in_each, 2)):
            return f"no two values of the column '{params.by}' of {name} have two proteins in common"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[ReplicateRetrievalParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield recall, average precision and the median rank, with chance beside them."""
        import pandas as pd

        values = np.asarray(adata.X)
        if not np.isfinite(values).all():
            raise UserError("The features hold NaN or infinite values; retrieval needs finite ones.")
        cells = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
        order = np.argsort(cells, kind="stable")
        values, obs = values[order], adata.obs.iloc[order]
        for params in param_sets:
            screens = _screens(values, obs, params)
            searches, chances = [], []
            for (source, (queries, asked)), (target, (gallery, there)) in itertools.permutations(screens.items(), 2):
                names, first, second = np.intersect1d(asked, there, assume_unique=True, return_indices=True)
                if len(names) < 2:
                    continue
                ranks = match_ranks(queries[first], gallery, second)
                searches.append(
                    pd.DataFrame({"protein": names, "from": source, "to": target, "rank": ranks, "of": len(there)})
                )
                chances += [retrieval_by_chance(len(there))] * len(names)
            table = pd.concat(searches, ignore_index=True)
            found = retrieval_metrics(table["rank"].to_numpy())
            means = {name: float(scores.mean()) for name, scores in found.items()}
            proteins = np.unique(table["protein"].to_numpy(str), return_inverse=True)[1]
            pairs = (
                pd.DataFrame(found)
                .assign(rank=table["rank"])
                .groupby([table["from"], table["to"]])
                .mean()
                .reset_index()
            )
            yield EvaluatorOutput(
                {name: value for name, value in params.model_dump().items() if UNSAID.get(name, ...) != value},
                {
                    **means,
                    **{f"{name}_by_chance": float(np.mean([c[name] for c in chances])) for name in means},
                    "median_rank": float(table["rank"].median()),
                },
                {
                    name: mean_spread(found[name], proteins).interval(value, low=0, high=1)
                    for name, value in means.items()
                },
                {
                    "searches": len(table),
                    "proteins": int(proteins.max()) + 1,
                    "interval": "over proteins, whose searches are drawn together",
                },
                tables={"ranks": table, "pairs": pairs.rename(columns={"rank": "mean_rank"})},
            )


def _screens(
    values: np.ndarray, obs: pd.DataFrame, params: ReplicateRetrievalParams
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return each replicate's proteins as they are compared: features (n, d) float64 and names (n,)."""
    where, proteins = obs_strings(obs, params.by), obs_strings(obs, "protein")
    known = sorted(set(where) - {""})
    found = {value: protein_means(values[where == value], proteins[where == value]) for value in known}
    if params.scale == "all":
        scaled = np.split(
            standardized(np.concatenate([m for m, _ in found.values()])),
            np.cumsum([len(n) for _, n in found.values()])[:-1],
        )
        found = {value: (rows, names) for (value, (_, names)), rows in zip(found.items(), scaled, strict=True)}
    elif params.scale == "within":
        found = {value: (standardized(rows), names) for value, (rows, names) in found.items()}
    for value, (rows, names) in found.items():
        if len(undefined := names[directionless(rows, params.metric)]):
            raise UserError(
                f"metric={params.metric} is not defined for '{undefined[0]}' of '{value}', whose features are all equal "
                f"({len(undefined):,} such proteins there). Use metric=euclidean, or leave them out."
            )
    return {value: (directions(rows, params.metric), names) for value, (rows, names) in found.items()}
