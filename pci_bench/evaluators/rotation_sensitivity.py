"""How far features move when the crop is turned or mirrored, beside how far the nearest other cell is."""

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
from pci_bench.data.changes import changed
from pci_bench.data.observations import exclusion_groups, obs_codes
from pci_bench.data.provenance import DatasetProvenance
from pci_bench.data.symmetries import symmetries
from pci_bench.errors import UserError
from pci_bench.evaluators.comparable import comparable
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.neighbors import loo_neighbors
from pci_bench.statistics.quantiles import quantile_interval

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData


class RotationSensitivityParams(pydantic.BaseModel):
    """Parameters of the sensitivity to rotations and flips: none."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


@register_evaluator("rotation-sensitivity")
class RotationSensitivity(Evaluator):
    """Distance between the features of a crop and of its turned or mirrored copy, relative to the nearest cell of another image.

    The seven symmetries of the square move pixels and change none, and a cell has no up or left, so what moves with them is no biology.
    For each cell and symmetry the ratio is |f(turned crop) − f(crop)| / min over cells c of other images of |f(c) − f(crop)|, with features
    standardised by the unchanged cells. ``median`` and ``percentile_95`` are over cells and symmetries; ``farther`` is the share of
    ratios above 1: a turned copy of the cell is farther than another cell. All are 0 for features that do not change.

    Goodfellow et al. 2009 (Measuring invariances in deep networks, NIPS 22) ask of single units how their firing holds under transformations;
    the ratio to the nearest other cell is ours.

    Intervals are over images: of quantiles by Woodruff's inversion, of the share by its mean over cells. Cells whose nearest other cell
    has the very same features are left out where a copy has others.

    Cost: seven extractions of all labelled cells, three where crops are not square.
    """

    meta = EvaluatorMeta(
        "rotation-sensitivity",
        "1",
        "How far features move when crops are turned or mirrored",
        "median",
        metrics={"farther": Metric("percent", higher_is_better=False)},
        other_metrics=Metric(decimals=2, higher_is_better=False),
        order_invariant=True,
        needs=("cells", "extractor"),
    )
    Params = RotationSensitivityParams

    def dataset_reason(
        self, obs: pd.DataFrame, dataset: DatasetProvenance, params: RotationSensitivityParams
    ) -> str | None:
        """Return why no cell has another one to compare with, or None."""
        if len(np.unique(obs_codes(obs, "image"))) < 2:
            return f"all cells of {dataset.display_name} are of one image, and the nearest cell of another image is the measure"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[RotationSensitivityParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield the median, the 95th percentile and the share of copies that are farther than another cell."""
        if context.cells is None or context.features_of is None:
            raise UserError(
                "Turned crops need the cells' crops and features that are computed from them. Use `pci-bench run confounders`, or give evaluate() cells=…"
            )
        values = np.asarray(adata.X)
        images = np.unique(exclusion_groups(adata.obs, "image"), return_inverse=True)[1]
        unchanged = comparable(adata, values)
        nearest = loo_neighbors(unchanged, 1, images, context.blocks)[1][:, 0]
        kinds = symmetries(context.cells.crop_shape)
        moved = np.stack(
            [
                np.linalg.norm(
                    comparable(adata, np.asarray(context.features_of(changed(context.cells, s)).X), values) - unchanged,
                    axis=1,
                )
                for s in kinds
            ],
            axis=1,
        )
        ratios, used = distance_ratios(moved, nearest)
        if not used.any():
            raise UserError("Every cell has the features of a cell of another image, so no distance can be compared.")
        ratios, groups = ratios[used], np.unique(images[used], return_inverse=True)[1]
        far = (ratios > 1).mean(axis=1)
        metrics, intervals = {"farther": float(far.mean())}, {}
        intervals["farther"] = mean_spread(far, groups).interval(metrics["farther"], low=0, high=1)
        for name, level in (("median", 0.5), ("percentile_95", 0.95)):
            metrics[name], *ends = quantile_interval(ratios, groups, level)
            intervals[name] = (ends[0], ends[1])
        details: dict[str, Any] = {
            "median_by_symmetry": {s.name: float(m) for s, m in zip(kinds, np.median(ratios, axis=0), strict=True)},
            "left_out": int((~used).sum()),
            "interval": "over images: quantiles by Woodruff's inversion, the share by its mean over cells",
        }
        for params in param_sets:
            yield EvaluatorOutput(params.model_dump(), metrics, intervals, details)


def distance_ratios(moved: np.ndarray, nearest: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to copies over that to the nearest other cell (n, copies), and which cells have such ratios (n,) bool.

    Parameters
    ----------
    moved
        (n, copies) float.
    nearest
        (n,) float. Where it is 0, ratios are 0 if no copy moved, else there is none.

    Examples
    --------
    >>> ratios, used = distance_ratios(np.array([[1.0, 4.0], [0.0, 0.0], [1.0, 0.0]]), np.array([2.0, 0.0, 0.0]))
    >>> ratios[used].tolist(), used.tolist()
    ([[0.5, 2.0], [0.0, 0.0]], [True, True, False])
    """
    used = (nearest > 0) | (moved == 0).all(axis=1)
    ratios: np.ndarray = moved / np.where(nearest > 0, nearest, 1)[:, None]
    return ratios, used
