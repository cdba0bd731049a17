"""Where between two compartments a cell's protein is (paper: Figure 5, Supplementary Data 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pydantic

from pci_bench.api.evaluator import (
    OBS_COLUMN,
    EvaluationContext,
    Evaluator,
    EvaluatorMeta,
    EvaluatorOutput,
    Metric,
    register_evaluator,
)
from pci_bench.data.examples import spread_over_scores
from pci_bench.data.observations import exclusion_groups, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.evaluators.annotated_variability import with_annotations
from pci_bench.evaluators.pairwise_distance import missing_columns
from pci_bench.statistics.compartments import (
    BOTH,
    FIRST,
    NEITHER,
    SECOND,
    Units,
    annotated_cells,
    chance_separation,
    compartment_scores,
    summary,
    summary_spreads,
)
from pci_bench.statistics.pairwise import split_terms
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

BOUNDS = {"both_between": (0.0, 1.0), "separation": (0.0, 1.0)}  # where no value lies outside
MOST_VARIABLE = 10
NO_EXCLUSION = "none"


class MultiLocalizationParams(pydantic.BaseModel):
    """Parameters of the score between two compartments."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    first: str = pydantic.Field("cytosol", min_length=1, description="compartment of negative scores, in any case")
    second: str = pydantic.Field("nucleoplasm", min_length=1, description="compartment of positive scores, in any case")
    exclude: str = pydantic.Field(
        "none",
        min_length=1,
        description="obs column: a cell's averages leave out cells that share its value; none: paper",
    )
    terms: str = pydantic.Field("labels", min_length=1, description="obs column of the ;-joined localization terms")
    variable: str = pydantic.Field(
        "variability",
        min_length=1,
        description="obs column that says which proteins vary from cell to cell, if there is one",
        json_schema_extra=OBS_COLUMN,
    )


@register_evaluator("multi-localization")
class MultiLocalization(Evaluator):
    """Log-ratio of every cell's distances to the averages of two compartments, for cells of either or of both.

    With few cells, a cell's part in its own compartment's average alone separates the compartments, even on noise;
    ``exclude=protein`` measures every cell against averages of other proteins.

    Tables: mean and SD of the score for every protein and cell line annotated with both compartments, and the ten images
    of them with the largest SD, which the paper found to be cells that differ among themselves; where the cells are given,
    crops of some of these. Where the obs column ``variable`` says which proteins are known to vary, ``annotated_variable`` is
    the share of the ten images that it names, and the details hold its share of all images beside it.
    """

    meta = EvaluatorMeta(
        "multi-localization",
        "2",
        "Scores of single cells between two compartments",
        "separation",
        key=("first", "second", "exclude"),
        other_metrics=Metric(decimals=2),
        order_invariant=True,
    )
    Params = MultiLocalizationParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: MultiLocalizationParams
    ) -> str | None:
        """Return why there are no compartments to compare, or None."""
        missing = missing_columns(obs, dataset, "image", "protein", params.terms)
        if missing:
            return missing
        first, second = params.first.strip(), params.second.strip()
        if first.casefold() == second.casefold():
            return f"first and second are both '{first}'; name two compartments"
        annotation = annotated_cells(obs_strings(obs, params.terms), obs_strings(obs, "image"), first, second)
        for group, words in ((FIRST, f"{first} only"), (SECOND, f"{second} only"), (BOTH, f"{first} and {second}")):
            if not (annotation == group).any():
                known = sorted(set().union(*map(split_terms, set(obs_strings(obs, params.terms)))))
                return f"no image of {dataset.display_name} is annotated with {words}; its terms are {', '.join(known)}"
        return (
            None if params.exclude == NO_EXCLUSION else _exclusion_unavailable_reason(obs, dataset, params, annotation)
        )

    def __call__(
        self, adata: AnnData, param_sets: list[MultiLocalizationParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield one output per pair of compartments: medians, intervals, a score per cell, and two tables."""
        for params in param_sets:
            params = params.model_copy(
                update={"exclude": resolve_exclude(params.exclude, Provenance.of(adata).dataset)}
            )
            annotation = annotated_cells(
                obs_strings(adata.obs, params.terms), obs_strings(adata.obs, "image"), params.first, params.second
            )
            used = np.flatnonzero(annotation != NEITHER)
            groups = None if params.exclude == NO_EXCLUSION else exclusion_groups(adata.obs, params.exclude)[used]
            scores = compartment_scores(np.asarray(adata.X)[used], annotation[used], groups)
            output = _output(params, adata, used, annotation[used], scores, groups, context.seed)
            output = with_annotations(output, annotation[used] == BOTH, obs_strings(adata.obs, params.variable)[used])
            yield output if context.cells is None else with_variable_crops(output, context.cells)


def _exclusion_unavailable_reason(
    obs: pd.DataFrame, dataset: DatasetProvenance, params: MultiLocalizationParams, annotation: np.ndarray
) -> str | None:
    """Return why averages cannot leave out what shares a column's value, or None."""
    column = resolve_exclude(params.exclude, dataset)
    if not column:
        return f"{dataset.display_name} declares no confounder"
    if column != "cell" and (missing := missing_columns(obs, dataset, column)):
        return missing
    groups = exclusion_groups(obs, column)
    for compartment, name in ((FIRST, params.first), (SECOND, params.second)):
        if len(np.unique(groups[annotation == compartment])) < 2:
            return f"all cells annotated with {name} only share one '{column}', so with exclude={column} none is left to compare with"
    return None


def _output(
    params: MultiLocalizationParams,
    adata: AnnData,
    used: np.ndarray,
    annotation: np.ndarray,
    scores: np.ndarray,
    groups: np.ndarray | None,
    seed: int,
) -> EvaluatorOutput:
    import pandas as pd

    names = adata.obs["cell"] if "cell" in adata.obs else adata.obs_names.to_series()
    kinds = [f"{params.first} only", f"{params.second} only", f"{params.first} and {params.second}"]
    columns = {c: obs_strings(adata.obs, c)[used] if c in adata.obs else "" for c in ("protein", "cell_line", "image")}
    cells = pd.DataFrame(
        {
            "cell": names.astype(str).to_numpy()[used],
            **columns,
            "annotation": pd.Categorical.from_codes(annotation, pd.Index(kinds)),
            "score": scores,
        }
    )
    # in the order of the cells' names, so that no draw depends on the order of the rows
    order = np.argsort(cells["cell"].to_numpy(str), kind="stable")
    features = standardized(np.asarray(adata.X)[used[order]])
    units = Units.of(annotation[order], pd.factorize(cells["protein"], sort=True)[0][order])
    excluded = None if groups is None else groups[order]
    metrics = summary(scores, annotation)
    spreads = summary_spreads(features, annotation[order], units, excluded, seed=seed)
    intervals = {}
    for name, value in metrics.items():
        low, high = BOUNDS.get(name, (-np.inf, np.inf))
        intervals[name] = spreads[name].interval(value, low=low, high=high)
    metrics["chance_separation"] = chance_separation(features, annotation[order], units, excluded, seed=seed)
    by_cells = [kind for kind, grouped in zip(kinds, units.by_protein, strict=True) if not grouped]
    alone = f" (cells where annotated with {', '.join(by_cells)}, which is one protein)" if by_cells else ""
    proteins, variable = variability(cells[annotation == BOTH])
    described = {
        kind: {
            "proteins": int(group["protein"].nunique()),
            "images": int(group["image"].nunique()),
            "cells": len(group),
            "quartiles": [float(q) for q in np.quantile(group["score"], [0.25, 0.5, 0.75])],
        }
        for kind, group in cells.groupby("annotation", observed=True)
    }
    return EvaluatorOutput(
        params.model_dump(),
        metrics,
        intervals,
        {
            "groups": described,
            "interval": f"random halves of protein{alone} within annotation, averages and standardisation with them",
            "left_out": {"cells": int(adata.n_obs - len(used))},
        },
        cells,
        tables={"proteins": proteins, "variable-images": variable},
    )


def with_variable_crops(output: EvaluatorOutput, cells: Cells) -> EvaluatorOutput:
    """Return an output with crops of its most variable images, as the table ``crops``."""
    assert output.per_cell is not None  # every output of this evaluator has a row per cell
    images = output.tables["variable-images"]["image"].tolist()
    crops = spread_over_scores(cells, output.per_cell, images)
    return replace(output, tables=output.tables | {"crops": crops})


def variability(cells: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return mean and SD (ddof 0) of the score by protein and cell line, and the ten images with the largest SD.

    Parameters
    ----------
    cells
        One row per cell: protein, cell_line, image, score.
    """

    def described(by: list[str]) -> pd.DataFrame:
        grouped = cells.groupby(by, sort=True)
        table = grouped.agg(images=("image", "nunique"), cells=("score", "size"), mean=("score", "mean"))
        return table.assign(sd=grouped["score"].std(ddof=0)).reset_index()

    images = described(["image", "protein", "cell_line"]).drop(columns="images")
    images = images.sort_values(["sd", "image"], ascending=[False, True], kind="stable").head(MOST_VARIABLE)
    return described(["protein", "cell_line"]), images.reset_index(drop=True)
