"""How near cells of one class are to each other at a level of strictness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    LEAVE_ONE_OUT,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.observations import exclusion_columns, exclusion_groups, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.evaluators.labelled import SUBSET, LabelledCells, classification_unavailable_reason, labelled, resolved
from pci_bench.statistics.intervals import Spread
from pci_bench.statistics.jackknife import units_and_strata
from pci_bench.statistics.level_distances import PairSums
from pci_bench.statistics.paired import jackknife_variance_of
from pci_bench.statistics.pairwise import Statistic

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class LevelDistancesParams(pydantic.BaseModel):
    """Parameters of the distances at a level of strictness."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value the two cells of a pair must not share; of several joined by +, no value of any",
    )
    statistic: Statistic = pydantic.Field("z", description="(same − different) / SD, or same / different − 1")
    subset: str = pydantic.Field("", description=SUBSET)


@register_evaluator("level-distances")
class LevelDistances(Evaluator):
    """How much nearer cells of one class are to each other than to cells of other classes, where no pair shares a group.

    With ``exclude=plate`` both kinds of pairs, of one class and of different classes, are of cells on different plates: what cells of a
    plate share brings neither kind together. Distances are Euclidean on features standardised over the evaluated cells. A class's score
    is (mean same − mean different) / SD of the different-class distances, each other class with the same weight, as in Figure 2B;
    ``normalized_distance`` is the mean over classes. All pairs count, so nothing is drawn. Less is better, and 0 is what features
    that know nothing of the class score, at every level.

    Intervals are of a delete-one-image jackknife within classes (whatever the confounder is; cells where there is none): an image is
    left out with all pairs that it is part of. The table ``leave-one-out`` holds the score without each, by which two levels, or two
    feature sets, are compared.
    """

    meta = EvaluatorMeta(
        "level-distances",
        "1",
        "Distances of cells of one class and of others at a level of strictness",
        "normalized_distance",
        key=("exclude",),
        order_invariant=True,
        reusable=True,
        metrics={"normalized_distance": Metric(higher_is_better=False)},
    )
    Params = LevelDistancesParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: LevelDistancesParams) -> str | None:
        """Return why no two cells of a class can be compared, or None."""
        return classification_unavailable_reason(obs, dataset, params.exclude, params.subset)

    def __call__(
        self, adata: AnnData, param_sets: list[LevelDistancesParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the score of every level, with its interval and the scores of the classes."""
        import pandas as pd

        dataset = Provenance.of(adata).dataset
        sums: dict[tuple[str, str], PairSums] = {}
        for params in param_sets:
            cells, kept = LabelledCells.of(adata, params.subset), labelled(adata.obs, params.subset)
            order = np.argsort(cells.names, kind="stable")  # the cells' order must not enter the last digit
            exclude = resolve_exclude(params.exclude, dataset)
            units, strata, singly = units_and_strata(cells.groups, cells.labels, cells.names)
            if (exclude, params.subset) not in sums:
                columns = exclusion_columns(adata.obs, exclude)
                groups = np.stack([exclusion_groups(adata.obs, column)[kept] for column in columns])
                features = comparable(adata, cells.values[order])
                sums[exclude, params.subset] = PairSums.of(
                    features, cells.labels[order], groups[:, order], units[order]
                )
            scores, without = sums[exclude, params.subset].scores(params.statistic)
            reached = ~np.isnan(scores)
            if not np.isfinite(scores[reached]).all() or not reached.any():
                raise UserError(
                    f"All distances between {cells.classes[reached][~np.isfinite(scores[reached])][:1]} and other classes are equal, so "
                    "distances within a class cannot be normalized by them. Look at the features: they may hold one value per class only."
                )
            value, replicates = float(scores[reached].mean()), without[:, reached].mean(axis=1)
            by_cell = cells.groups is None or bool(singly.all())
            unit = "cell" if by_cell else cells.confounder
            names = cells.names if by_cell else cells.obs[cells.confounder].astype(str).to_numpy()
            named = np.where(singly, cells.names, names)
            _, first = np.unique(units, return_index=True)
            table = pd.DataFrame({"unit": named[first], "stratum": strata, "normalized_distance": replicates})
            details = {
                "per_class": {str(c): float(s) for c, s in zip(cells.classes, scores, strict=True) if not np.isnan(s)},
                "unit": unit,
                "interval": f"delete-one-{unit} jackknife within class; features and their scaling are given",
            }
            if not reached.all():
                details["unreachable_classes"] = [str(c) for c in cells.classes[~reached]]
            yield EvaluatorOutput(
                resolved(params, exclude),
                {"normalized_distance": value},
                {"normalized_distance": Spread(*jackknife_variance_of(replicates, strata)).interval(value)},
                details,
                tables={LEAVE_ONE_OUT: table},
            )
