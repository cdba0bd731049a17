"""Mean average precision: whether cells, images or proteins of one kind are nearer to each other than to others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    AS_GIVEN,
    LEAVE_ONE_OUT,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    register_evaluator,
)
from pci_bench.api.evaluator import Metric as Printed
from pci_bench.data.observations import exclusion_columns, exclusion_groups, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import SUBSET, resolved, subset_unavailable_reason
from pci_bench.statistics.average_precision import LEVEL, corrected_p, map_significance
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, training_variance
from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.metrics import share_spreads
from pci_bench.statistics.neighbors import Metric, directionless, directions
from pci_bench.statistics.paired import means_without_each
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class MapParams(pydantic.BaseModel):
    """Parameters of mean average precision."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    positives: str = pydantic.Field(
        "label", min_length=1, description="obs column whose value positives share; of several joined by +, all values"
    )
    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value candidates must not share; of several joined by +, no value of any",
    )
    unit: Literal["cell", "image", "protein"] = pydantic.Field(
        "cell", description="what is ranked: cells, or means over the cells of an image or a protein"
    )
    metric: Metric = pydantic.Field(
        "euclidean", description="nearest is the smallest distance, or the highest cosine or correlation"
    )
    scale: Literal["all", "none"] = pydantic.Field(
        "all", description="standardise over all evaluated cells, or not", json_schema_extra=AS_GIVEN
    )
    permutations: int = pydantic.Field(999, ge=19, description="of labels, for p; fewer for many cells")
    permute: str = pydantic.Field(
        "",
        description="obs column whose values exchange labels as a whole; if empty, images where cells name several, else what is ranked",
    )
    families: str = pydantic.Field(
        "",
        description="obs column within whose values groups are tested after the value as a whole (hierarchical correction); if empty, all together",
    )
    subset: str = pydantic.Field("", description=SUBSET)


@register_evaluator("map")
class MeanAveragePrecision(Evaluator):
    """Mean average precision (mAP) of retrieving a cell's own kind, as Kalinin et al. 2025 (doi 10.1038/s41467-025-60306-2) propose.

    All candidates are ordered by their distance from a query. Average precision is the mean, over the query's positives, of the
    share of positives among those at least as near. Its expectation μ in a random order depends on the numbers of positives and
    candidates (:func:`pci_bench.statistics.average_precision.expected_average_precision`); the headline ``normalized_map`` is the
    mean over queries of (AP − μ) / (1 − μ), then over groups: 0 at random, 1 with all positives first. Queries without a
    positive, or with nothing else, do not count.

    ``exclude=plate`` leaves candidates of the query's own plate out, positives and others. ``unit=image`` ranks means of images.
    ``positives=protein`` or ``positives=compound+dose`` asks for another kind than the label.

    Significance of a group: labels are exchanged between units, by default whole images, which are the independent draws. p is
    exact where at most 2,000 assignments are possible and (1 + as high) / (1 + permutations) elsewhere. It is corrected over groups by Benjamini and Hochberg
    (``corrected_p``), and with ``families=compound`` hierarchically (Benjamini and Bogomolov 2014). Groups whose p cannot reach
    0.05, having too few units, are named.

    The intervals are a jackknife over the confounder's values, the variance times a factor for the candidates. The table
    ``groups`` has mAP and p of every group; ``leave-one-out`` the headline without each unit, by which results are compared.
    """

    meta = EvaluatorMeta(
        "map",
        "1",
        "Mean average precision of retrieving a cell's own kind, normalised, with p-values",
        "normalized_map",
        key=("positives", "exclude", "unit"),
        metrics={
            "map_by_chance": Printed(),
            "significant_groups": Printed("percent"),
        },
        order_invariant=True,
        reusable=True,
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = MapParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: MapParams) -> str | None:
        """Return why there is nothing to retrieve, or None."""
        if reason := subset_unavailable_reason(obs, dataset, params.subset):
            return reason
        name = dataset.display_name
        exclude = resolve_exclude(params.exclude, dataset)
        if not exclude:
            return f"{name} declares no confounder"
        wanted = [
            *params.positives.split("+"),
            *(c for c in exclusion_columns(obs, exclude) if c != "cell"),
            *([] if params.unit == "cell" else [params.unit]),
            *([params.permute] if params.permute else []),
            *([params.families] if params.families else []),
        ]
        for column in wanted:
            if not (obs_strings(obs, column) != "").any():
                return (
                    f"{name} has no values in a column '{column}'; its columns are {', '.join(map(str, obs.columns))}"
                )
        ranked = Ranked.of(obs, params, exclude)
        what = f"{params.unit}s of {name}"
        if len(np.unique(ranked.labels)) < 2:
            return f"all {what} with a value of '{params.positives}' have one; retrieval needs two"
        if len(unreachable_classes(ranked.labels, ranked.groups)) == len(ranked.names):
            return f"with exclude={exclude} no {params.unit} of {name} has another of its own {params.positives} among its candidates"
        if params.families and len(
            np.unique(np.stack([ranked.labels, ranked.codes(params.families)]), axis=1)[0]
        ) > len(ranked.names):
            return f"families = '{params.families}' are no families of groups: {what} of one {params.positives} have several"
        return None

    def unavailable_reason(self, adata: AnnData, params: MapParams) -> str | None:
        """Return which have no cosine or correlation with others, or None."""
        if params.metric == "euclidean":
            return None
        ranked = Ranked.of(adata.obs, params, resolve_exclude(params.exclude, Provenance.of(adata).dataset))
        without = directionless(ranked.features(np.asarray(adata.X)), params.metric)
        if not without.any():
            return None
        return (
            f"metric={params.metric} is not defined for {int(without.sum()):,} of {len(without):,} {params.unit}s, whose features are all "
            f"{'equal' if params.metric == 'correlation' else '0'}. Use metric=euclidean, or leave them out"
        )

    def __call__(
        self, adata: AnnData, param_sets: list[MapParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield mAP with its interval, chance beside it, and a table of groups with p-values."""
        import pandas as pd

        if not np.isfinite(np.asarray(adata.X)).all():
            raise UserError("The features hold NaN or infinite values; retrieval needs finite ones.")
        dataset = Provenance.of(adata).dataset
        confounder = resolve_exclude("confounder", dataset)
        for params in param_sets:
            exclude = resolve_exclude(params.exclude, dataset)
            ranked = Ranked.of(adata.obs, params, exclude)
            column, units = ranked.units(params)
            features = directions(ranked.features(np.asarray(adata.X)), params.metric)
            found, significance = map_significance(
                features, ranked.labels, ranked.groups, units, params.permutations, context.seed
            )
            groups = pd.DataFrame({"group": ranked.names})
            queries = pd.DataFrame(
                {
                    params.unit: ranked.obs[params.unit].astype(str).to_numpy(),
                    params.positives: ranked.names[ranked.labels],
                    "average_precision": found.precision,
                    "normalized": found.normalized,
                    "by_chance": found.expected,
                    "positives": found.positives,
                    "candidates": found.candidates,
                }
            )
            counted = ~np.isnan(found.precision)
            labels = ranked.labels[counted]
            n_groups = len(ranked.names)
            sizes = np.bincount(labels, minlength=n_groups)
            tested = sizes > 0
            groups["queries"] = sizes
            for name in ("average_precision", "normalized", "by_chance"):
                sums = np.bincount(labels, queries[name].to_numpy()[counted], n_groups)
                groups[name] = np.divide(sums, sizes, out=np.full(n_groups, np.nan), where=tested)
            groups["p"] = np.where(tested, significance.p, np.nan)
            groups["corrected_p"] = np.nan
            families = None
            if params.families:
                families = np.array([ranked.strings(params.families)[ranked.labels == g][0] for g in range(n_groups)])
                groups["family"], families = families, families[tested]
            groups.loc[tested, "corrected_p"] = corrected_p(significance.p[tested], families)
            groups["exact"], groups["smallest_p"] = significance.exact, significance.smallest
            drawn = ranked.codes(confounder)[counted] if confounder and confounder in adata.obs else None
            whole = exclude != "cell"
            spreads = {
                metric: share_spreads(labels, queries[name].to_numpy()[counted], drawn, n_groups)[1]
                for metric, name in (("map", "average_precision"), ("normalized_map", "normalized"))
            }
            factor = training_variance(self.meta.training_variance, whole_units=whole or drawn is None)
            metrics = {
                "normalized_map": float(groups["normalized"].mean()),
                "map": float(groups["average_precision"].mean()),
                "map_by_chance": float(groups["by_chance"].mean()),
                "significant_groups": float((groups["corrected_p"][tested] <= LEVEL).mean()),
            }
            names = ranked.obs[params.unit].astype(str).to_numpy()[counted]
            units, strata, singly = units_and_strata(drawn, labels, names)
            by_unit = names if drawn is None else ranked.strings(confounder)[counted]
            unit_names = np.where(singly, names, by_unit)[np.unique(units, return_index=True)[1]]
            without = means_without_each(labels, queries["normalized"].to_numpy()[counted], units)
            replicates = pd.DataFrame({"unit": unit_names, "stratum": strata, "normalized_map": without})
            details: dict[str, Any] = {
                "unit": confounder if drawn is not None and not singly.all() else params.unit,
                "groups": int(tested.sum()),
                "queries": int(counted.sum()),
                "queries_that_do_not_count": int((~counted).sum()),
                "permutations": significance.permutations,
                "labels_exchanged_by": column,
                "interval": f"jackknife of average precisions over {confounder if drawn is not None else 'queries'} within group, variance × {factor:g} for the candidates",
            }
            beyond = tested & (significance.smallest > LEVEL)
            if beyond.any():
                details["fewer_permutations"] = (
                    f"p cannot reach {LEVEL:g} for {', '.join(ranked.names[beyond][:5])}{' …' if beyond.sum() > 5 else ''}: their labels can be "
                    f"exchanged between values of '{column}' in fewer than {round(1 / LEVEL)} ways"
                )
            yield EvaluatorOutput(
                resolved(params, exclude),
                metrics,
                {
                    name: spread.times(factor).interval(metrics[name], low=-1, high=1)
                    for name, spread in spreads.items()
                },
                details,
                queries if params.unit == "cell" else None,
                {
                    "groups": groups,
                    LEAVE_ONE_OUT: replicates,
                    **({} if params.unit == "cell" else {"queries": queries}),
                },
            )


@dataclass(frozen=True)
class Ranked:
    """What is ranked: cells in the order of their names, or means over the cells of an image or a protein.

    Cells that differ in what positives share or candidates must not share are never averaged.

    Parameters
    ----------
    cells
        Positions (c,) int in the table of cells, in the order of the cells' names.
    of_cell
        What is ranked of each (c,) int.
    obs
        A row of the table of cells for each that is ranked (n).
    names, labels
        The values that positives share, sorted, and each one's (n,) int.
    groups
        (kinds, n) int: what candidates must not share.
    scale
        Whether features are standardised first.
    """

    cells: np.ndarray
    of_cell: np.ndarray
    obs: pd.DataFrame
    names: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    scale: bool

    @classmethod
    def of(cls, obs: pd.DataFrame, params: MapParams, exclude: str) -> Ranked:
        """Return what parameters rank of a table of cells."""
        cell = obs_strings(obs, "cell") if "cell" in obs else obs.index.to_numpy(str)
        joined = [obs_strings(obs, column) for column in params.positives.split("+")]
        kept = np.all([values != "" for values in joined], axis=0)
        column, _, value = params.subset.partition("=")
        kept &= (obs_strings(obs, column) == value) if params.subset else True
        kept &= (obs_strings(obs, params.unit) != "") if params.unit != "cell" else True
        cells = np.flatnonzero(kept)
        cells = cells[np.argsort(cell[cells], kind="stable")]
        excluded = [c for c in exclusion_columns(obs, exclude) if c != "cell"]
        first = of_cell = np.arange(len(cells))
        if params.unit != "cell":
            kinds = [params.unit, *params.positives.split("+"), *excluded, params.permute, params.families]
            keys = np.stack([obs_strings(obs, c)[cells] for c in kinds if c])
            _, first, of_cell = np.unique(keys, axis=1, return_index=True, return_inverse=True)
        ranked = obs.iloc[cells[first]]
        ranked = ranked.assign(cell=cell[cells[first]])
        names, labels = np.unique(
            np.array(["+".join(values) for values in zip(*(j[cells[first]] for j in joined), strict=True)], str),
            return_inverse=True,
        )
        groups = [exclusion_groups(ranked, c) for c in excluded] or [np.arange(len(ranked))]
        return cls(cells, of_cell, ranked, names, labels, np.stack(groups), params.scale == "all")

    def features(self, values: np.ndarray) -> np.ndarray:
        """Return the features (n, d) float64 of what is ranked, of those of the table's cells."""
        own = values[self.cells].astype(np.float64)
        own = standardized(own) if self.scale else own
        means = np.zeros((len(self.obs), own.shape[1]))
        np.add.at(means, self.of_cell, own)
        return means / np.bincount(self.of_cell)[:, None]

    def strings(self, column: str) -> np.ndarray:
        """Return each one's value of a column (n,) str."""
        return obs_strings(self.obs, column)

    def codes(self, column: str) -> np.ndarray:
        """Return each one's value of a column (n,) int."""
        return np.unique(self.strings(column), return_inverse=True)[1]

    def units(self, params: MapParams) -> tuple[str, np.ndarray]:
        """Return what exchanges labels, by name, and its number of each one that is ranked (n,) int."""
        if params.permute:
            return params.permute, self.codes(params.permute)
        images = self.codes("image")
        if params.unit == "cell" and (self.strings("image") != "").all() and 0 < images.max() < len(images) - 1:
            return "image", images
        return params.unit, np.arange(len(self.obs))
