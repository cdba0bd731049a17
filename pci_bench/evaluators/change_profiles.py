"""Which proteins changed between two screens (Lu et al. 2018: protein change profiles)."""

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
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.errors import UserError
from pci_bench.evaluators.embedding import protein_means
from pci_bench.statistics.change_profiles import change_profiles, change_scores
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.scaling import all_finite

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class ChangeProfilesParams(pydantic.BaseModel):
    """Parameters of the changes between two screens."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    condition: str = pydantic.Field(
        "", description="the screen that is compared; the one besides the reference where empty"
    )
    reference: str = pydantic.Field("WT2", min_length=1, description="the screen that it is compared with")
    by: str = pydantic.Field("screen", min_length=1, description="obs column of the screens")
    neighbours: int = pydantic.Field(50, ge=1, description="proteins that look alike in the reference")
    large: float = pydantic.Field(3.0, gt=0, description="a score above it, or below minus it, counts as large")


@register_evaluator("change-profiles")
class ChangeProfiles(Evaluator):
    """How far each protein's change between two screens departs from that of the proteins that look alike in the reference.

    Proteins are means over their cells, as they are: not standardised, since the published scores are of unstandardised features.
    The table ``changes`` has a row for each protein of both screens, the most changed first: ``score``, the root mean square of its
    scores, ``largest``, the feature with the largest one, and the score of every feature
    (:func:`pci_bench.statistics.change_profiles.change_profiles`; positive where the reference's value is the larger one). The
    headline is the share of scores that are large, which is 0.27 % for a normal distribution with the neighbours' spread; more
    says that features have heavy tails or proteins changed, and there is no truth to tell which.
    """

    meta = EvaluatorMeta(
        "change-profiles",
        "1",
        "Proteins that changed between two screens",
        "large_scores",
        key=("condition",),
        metrics={
            "large_scores": Metric("percent", decimals=2),
            "median_score": Metric(decimals=3),
            "proteins": Metric("count"),
        },
        order_invariant=True,
        reusable=True,
    )
    Params = ChangeProfilesParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: ChangeProfilesParams) -> str | None:
        """Return why there are no two screens to compare, or too few proteins, or None."""
        name = dataset.display_name
        if params.by not in obs:
            return (
                f"{name} has no column '{params.by}' that tells screens apart; its columns are {', '.join(obs.columns)}"
            )
        screens = obs_strings(obs, params.by)
        known = ", ".join(sorted(set(screens) - {""}))
        condition = _condition(screens, params)
        if condition is None:
            return f"{name} has the screens {known} in its column '{params.by}'; name one of them as condition, beside '{params.reference}'"
        for screen in (params.reference, condition):
            if screen not in screens:
                return f"{name} has no screen '{screen}' in its column '{params.by}', but {known}"
        proteins = obs_strings(obs, "protein")
        of_both = set(proteins[screens == params.reference]) & set(proteins[screens == condition]) - {""}
        if len(of_both) <= params.neighbours:
            return (
                f"{len(of_both)} proteins are in both screens, {params.reference} and {condition}, of {name}; {params.neighbours} "
                f"neighbours need {params.neighbours + 1}"
            )
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[ChangeProfilesParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the share of large scores, and the table of proteins."""
        import pandas as pd

        values = np.asarray(adata.X)
        if not all_finite(values):
            raise UserError("The features hold NaN or infinite values; changes need finite ones.")
        cells = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
        order = np.argsort(cells, kind="stable")
        values, obs = values[order], adata.obs.iloc[order]
        for params in param_sets:
            screens = obs_strings(obs, params.by)
            condition = _condition(screens, params)
            (reference, names), (changed, others) = (
                protein_means(values[screens == screen], obs_strings(obs, "protein")[screens == screen])
                for screen in (params.reference, condition)
            )
            names, first, second = np.intersect1d(names, others, assume_unique=True, return_indices=True)
            scores = change_profiles(reference[first], changed[second], params.neighbours)
            summary = change_scores(scores)
            defined, of_protein = scores[np.isfinite(scores)], np.nonzero(np.isfinite(scores))[0]
            large = (np.abs(defined) > params.large).astype(float)
            share = float(large.mean()) if len(defined) else 0.0
            spread = mean_spread(large, np.unique(of_protein, return_inverse=True)[1]) if len(defined) else None
            largest = np.where(np.isfinite(scores), np.abs(scores), -1).argmax(axis=1)
            table = pd.DataFrame(
                {"protein": names, "score": summary, "largest": adata.var_names.to_numpy(str)[largest]}
            )
            table = pd.concat([table, pd.DataFrame(scores, columns=adata.var_names)], axis=1)
            yield EvaluatorOutput(
                {**params.model_dump(), "condition": condition},
                {"large_scores": share, "median_score": float(np.median(summary)), "proteins": len(names)},
                {} if spread is None else {"large_scores": spread.interval(share, low=0, high=1)},
                {
                    "undefined_scores": int(scores.size - defined.size),
                    "interval": "over proteins, whose scores are drawn together; their neighbours are given",
                },
                tables={"changes": table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)},
            )


def _condition(screens: np.ndarray, params: ChangeProfilesParams) -> str | None:
    """Return the screen to compare: the named one, or the only one besides the reference; None where that is not one."""
    others = sorted(set(screens) - {"", params.reference})
    return params.condition or (others[0] if len(others) == 1 else None)
