"""How much features tell of measures that are known: the cell's area, its brightness, the number of its neighbours."""

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
from pci_bench.data.backgrounds import CENTRE
from pci_bench.data.observations import exclusion_groups, obs_strings, resolve_exclude
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.segmentation.masks import with_masks
from pci_bench.statistics.ridge import held_out_predictions, r_squared

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

CHUNK = 1024  # crops that are read at once
FEWEST_CELLS = 10


class KnownMeasuresParams(pydantic.BaseModel):
    """Parameters of the regression of known measures."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    exclude: str = pydantic.Field(
        "image", min_length=1, description="obs column whose values lie in one fold as a whole"
    )
    folds: int = pydantic.Field(5, ge=2, description="parts of the cross-validation")


@register_evaluator("known-measures")
class KnownMeasures(Evaluator):
    """R² of known measures of a cell from its features, by ridge regression in folds of whole images.

    ``area`` is the number of pixels of the mask in the middle (of the nucleus, where masks are of nuclei), ``protein_mean`` and
    ``marker_mean`` are the raw means of these channels within it, and ``others`` is the number of other cells in the crop. All follow from
    the crop, so features that keep everything reach 1. R² = 1 − Σ (y − ŷ)² / Σ (y − m)², with m the mean of the training cells: 0 is what
    a constant reaches, and less is worse than that. It is a description and no merit: what a feature set tells of brightness or
    density it can also be misled by.

    Ridge regression is Hoerl and Kennard's (1970, doi 10.1080/00401706.1970.10488634). The penalty is chosen among the training cells
    (:func:`pci_bench.statistics.ridge.held_out_predictions`). Intervals are over the excluded groups, predictions as they are.

    Cost: a ridge regression for each part of the cross-validation; no features of other crops.
    """

    meta = EvaluatorMeta(
        "known-measures",
        "1",
        "What features tell of area, brightness and neighbours",
        "area",
        key=("exclude",),
        other_metrics=Metric(decimals=2),
        order_invariant=True,
        needs=("cells",),
    )
    Params = KnownMeasuresParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: KnownMeasuresParams) -> str | None:
        """Return why there is nothing to fit, or None."""
        column = resolve_exclude(params.exclude, dataset)
        if not column:
            return f"{dataset.display_name} declares no confounder"
        if column != "cell" and column not in obs:
            return f"{dataset.display_name} has no column '{column}' to exclude by; its columns are {', '.join(map(str, obs.columns))}"
        if len(np.unique(exclusion_groups(obs, column))) < 2:
            return f"all cells of {dataset.display_name} have one value of '{column}', so none are held out"
        if len(obs) < FEWEST_CELLS:
            return f"{dataset.display_name} has {len(obs)} cells, and a regression needs {FEWEST_CELLS}"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[KnownMeasuresParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield R² of every measure that varies."""
        if context.cells is None:
            raise UserError(
                "Known measures are taken from the cells' crops and masks. Use `pci-bench run confounders`, or give evaluate() cells=…"
            )
        values = np.asarray(adata.X, np.float64)
        if not np.isfinite(values).all():
            raise UserError("The features hold NaN or infinite values; a regression needs finite ones.")
        names = obs_strings(adata.obs, "cell") if "cell" in adata.obs else adata.obs_names.to_numpy(str)
        measures = known_measures(with_masks(context.cells))
        used = measures["area"] > 0
        order = np.flatnonzero(used)[np.argsort(names[used], kind="stable")]
        varying = {name: column[order] for name, column in measures.items() if len(np.unique(column[order])) > 1}
        if len(order) < FEWEST_CELLS or "area" not in varying:
            raise UserError("Fewer than ten cells have a mask, or all have one area: there is nothing to fit.")
        targets = np.stack(list(varying.values()), axis=1)
        for params in param_sets:
            exclude = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
            groups = np.unique(exclusion_groups(adata.obs, exclude)[order], return_inverse=True)[1]
            if groups.max() == 0:
                raise UserError(f"All cells with a mask have one value of '{exclude}', so none are held out.")
            predicted, means = held_out_predictions(values[order], targets, groups, params.folds)
            metrics, intervals = {}, {}
            for name, actual, told, mean in zip(varying, targets.T, predicted.T, means.T, strict=True):
                metrics[name], spread = r_squared(actual, told, mean, groups)
                intervals[name] = spread.interval(metrics[name], high=1)
            details = {
                "n_cells": len(order),
                "left_out": int((~used).sum()),
                "interval": f"over {exclude} by the delta method, predictions as they are",
            }
            yield EvaluatorOutput({**params.model_dump(), "exclude": exclude}, metrics, intervals, details)


def known_measures(cells: Cells) -> dict[str, np.ndarray]:
    """Return measures of the cell in the middle (n,) float64 by name; 0 where there is no mask. Channels that are not there are left out."""
    columns: dict[str, list[np.ndarray]] = {}
    roles = {
        f"{role}_mean": chosen
        for role in ("protein", "marker")
        if any(chosen := [c.role == role for c in cells.channels])
    }
    for start in range(0, len(cells), CHUNK):
        both = cells.crops(slice(start, start + CHUNK), rescale="raw", masks=True)
        crops, masks = both[:, :-1].astype(np.float64), both[:, -1]
        own = np.isin(masks, CENTRE)
        area = own.sum(axis=(1, 2))
        columns.setdefault("area", []).append(area.astype(np.float64))
        for name, chosen in roles.items():
            sums = (crops[:, chosen].mean(axis=1) * own).sum(axis=(1, 2))
            columns.setdefault(name, []).append(sums / np.maximum(area, 1))
        others = [len(np.unique(mask[mask > max(CENTRE)])) for mask in masks]
        columns.setdefault("others", []).append(np.array(others, np.float64))
    return {name: np.concatenate(parts) for name, parts in columns.items()}
