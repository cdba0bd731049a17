"""Where in a crop a nearest-neighbour decision comes from: maps of occlusion for any features, and of gradients for networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

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
from pci_bench.data.examples import as_table
from pci_bench.data.observations import exclusion_columns, exclusion_groups, resolve_exclude
from pci_bench.data.occlusion import Fill, Occlusion, occluded, places
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import LabelledCells, classification_unavailable_reason, labelled
from pci_bench.features.gradients import margin_gradient
from pci_bench.features.names import parse
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.margins import Margins, central_share, margins, spread_over_pixels
from pci_bench.statistics.neighbors import one_right_and_one_wrong
from pci_bench.statistics.scaling import standardized

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.api.extractor import TorchFunction
    from pci_bench.data.cells import Cells, Rescale

EXAMPLES = "examples"
CROPS_AT_A_TIME = 4096
SAME = 1e-3  # of the largest value: sums of another order differ by less


class WhyMapsParams(pydantic.BaseModel):
    """Parameters of the maps."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value neighbours must not share; of several joined by +, no value of any",
    )
    patch: int = pydantic.Field(8, ge=1, le=64, description="side of the covered patch in pixels")
    stride: int = pydantic.Field(4, ge=1, le=64, description="distance between neighbouring patches in pixels")
    fill: Fill = pydantic.Field(
        "border", description="what covers a patch: the mean of the crop's outermost pixels, or of the crop"
    )
    classes: int = pydantic.Field(
        5, ge=1, le=20, description="classes shown, from the most frequent; two cells of each"
    )


class Gradients(NamedTuple):
    """A network as a function, and how it is given crops."""

    function: TorchFunction
    rescale: Rescale

    def give(self, crops: Cells, chosen: np.ndarray, values: np.ndarray) -> bool:
        """Return whether the network gives the features (n, d) of some cells, which those that were post-processed are not."""
        import torch

        with torch.inference_mode():
            found = self.function(torch.from_numpy(crops.crops(chosen, rescale=self.rescale))).numpy()
        expected = values[chosen]
        return found.shape == expected.shape and bool(
            np.abs(found - expected).max(initial=0) <= SAME * np.abs(expected).max(initial=0)
        )


@register_evaluator("why-maps")
class WhyMaps(Evaluator):
    """Which parts of a cell's crop its nearest-neighbour decision comes from.

    The margin is the distance to the nearest cell of another class minus the distance to the nearest of the cell's own, Euclidean on
    standardised features, among unchanged cells; it is positive where the nearest neighbour is right. *Occlusion*: a patch of all channels is set
    to the mean of the crop's outermost pixels, features are computed anew, and what the margin loses by it is the patch's contribution
    (Zeiler and Fergus 2014, doi 10.1007/978-3-319-10590-1_53); a pixel has the mean over the patches that cover it. Positive parts
    speak for the own class, negative ones for another. *Gradient*, for networks whose features are not post-processed: the absolute derivative of the margin by each
    pixel that the network is given, added over channels (Simonyan, Vedaldi and Zisserman 2014, arXiv 1312.6034).

    Of each of the most frequent classes there are two cells, the same for every feature set: in a seeded draw the first whose nearest
    neighbour by brightness (mean and SD of each channel) is right, and the first whose is wrong. A handful of cells shows how
    features can fail, and proves nothing about all.

    ``centre`` is the share of a map's absolute values in the middle half of rows and columns, mean over the cells: a quarter where the map
    is even. ``gradient_centre`` is the same of gradients. Intervals are over the cells' images, of these cells.

    Cost: two cells of each class times the places of the patch, 2,250 extractions of 64×64 pixels and five classes.
    """

    meta = EvaluatorMeta(
        "why-maps",
        "1",
        "Where nearest-neighbour decisions come from",
        "centre",
        key=("exclude",),
        metrics={"cells": Metric("count")},
        other_metrics=Metric("percent"),
        needs=("extractor",),
        order_invariant=True,
    )
    Params = WhyMapsParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: WhyMapsParams) -> str | None:
        """Return why there is nothing to classify, or None."""
        return classification_unavailable_reason(obs, dataset, params.exclude)

    def __call__(
        self, adata: AnnData, param_sets: list[WhyMapsParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield shares, and the maps as the table ``examples``."""
        assert context.cells is not None
        cells, dataset = LabelledCells.of(adata), Provenance.of(adata).dataset
        kept = labelled(adata.obs)
        crops = context.cells[kept]
        brightness = standardized(_brightness(crops))
        gradients = _gradients(adata, crops, context)
        for params in param_sets:
            exclude = resolve_exclude(params.exclude, dataset)
            groups = np.stack(
                [exclusion_groups(adata.obs, column)[kept] for column in exclusion_columns(adata.obs, exclude)]
            )
            chosen, by_brightness = _chosen(cells, brightness, groups, params.classes, context.seed)
            if not len(chosen):
                raise UserError(
                    f"With exclude={exclude} no cell of these classes has a neighbour of its own and one of another class. Exclude less."
                )
            resolved = params.model_copy(update={"exclude": exclude})
            yield _output(cells, crops, chosen, by_brightness, groups, resolved, context, gradients)


def _brightness(cells: Cells) -> np.ndarray:
    """Return the mean and SD of each channel of raw crops (n, 2 × channels)."""
    parts = []
    for start in range(0, len(cells), CROPS_AT_A_TIME):
        crops = cells.crops(slice(start, start + CROPS_AT_A_TIME), rescale="raw")
        parts.append(np.concatenate([crops.mean(axis=(2, 3)), crops.std(axis=(2, 3))], axis=1))
    return np.concatenate(parts)


def _gradients(adata: AnnData, cells: Cells, context: EvaluationContext) -> Gradients | None:
    """Return the network that the features are of, or None where there is none to differentiate."""
    known = Provenance.of(adata).features
    try:
        features = parse(f"{known.name}@{known.weights}" if known.weights else known.name)
    except UserError:
        return None
    extractor = features.extractor()
    if extractor.meta.weights is not None and context.weights is None:
        return None
    function = extractor.differentiable(features.output, cells.channels, context.weights)
    return None if function is None else Gradients(function, extractor.meta.rescale)


def _chosen(
    cells: LabelledCells, brightness: np.ndarray, groups: np.ndarray, classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions of two cells of each of the most frequent classes, and whether brightness alone gets each right (c,) bool.

    Cells that have no neighbour of their own or of another class are left out.
    """
    counts = np.bincount(cells.labels)
    shown = np.argsort(-counts, kind="stable")[:classes]
    order = np.random.default_rng(seed).permutation(np.argsort(cells.names, kind="stable"))
    order = order[np.isin(cells.labels[order], shown)]
    found = margins(brightness, cells.labels, groups, brightness[order], order)
    order, right = order[(both := np.isfinite(found.own) & np.isfinite(found.other))], (found.margin > 0)[both]
    guess = np.full(len(cells.labels), -1)
    guess[order[right]] = cells.labels[order[right]]
    chosen = one_right_and_one_wrong(cells.labels, guess, order, 2 * classes)
    return chosen, guess[chosen] >= 0


def _output(
    cells: LabelledCells,
    crops: Cells,
    chosen: np.ndarray,
    by_brightness: np.ndarray,
    groups: np.ndarray,
    params: WhyMapsParams,
    context: EvaluationContext,
    gradients: Gradients | None,
) -> EvaluatorOutput:
    """Return the maps of some cells, and which share of each lies in the middle."""
    assert context.features_of is not None
    reference = cells.compared()
    unchanged = margins(reference, cells.labels, groups, reference[chosen], chosen)
    occlusion = Occlusion(params.patch, params.stride, params.fill)
    corners = places(crops.crop_shape, params.patch, params.stride)
    covered = np.asarray(context.features_of(occluded(crops[chosen], occlusion)).X)
    if not np.isfinite(covered).all():
        raise UserError(f"The features hold NaN or infinite values after {occlusion.name}; expected finite ones.")
    without = margins(reference, cells.labels, groups, cells.compared(covered), np.repeat(chosen, len(corners)))
    lost = unchanged.margin[:, None] - without.margin.reshape(len(chosen), len(corners))
    maps = {"occlusion": [spread_over_pixels(row, corners, params.patch, crops.crop_shape) for row in lost]}
    if gradients is not None and gradients.give(crops, chosen, cells.values):
        maps["gradient"] = _gradient_maps(cells, crops, chosen, reference, unchanged, gradients)
    units = np.unique(obs_images(cells)[chosen], return_inverse=True)[1]
    metrics, intervals = {}, {}
    for kind, name in (("occlusion", "centre"), ("gradient", "gradient_centre")):
        if kind in maps:
            shares = np.array([central_share(m) for m in maps[kind]])
            metrics[name] = float(shares.mean())
            intervals[name] = mean_spread(shares, units).interval(metrics[name], low=0, high=1)
    details = {"interval": "jackknife over images, of these cells", "cells": [str(n) for n in cells.names[chosen]]}
    return EvaluatorOutput(
        params.model_dump(),
        {**metrics, "cells": float(len(chosen))},
        intervals,
        details,
        tables={EXAMPLES: _examples(cells, crops, chosen, by_brightness, unchanged, maps)},
    )


def obs_images(cells: LabelledCells) -> np.ndarray:
    """Return the image of every cell (n,) int; without images each is its own."""
    column = "image" if "image" in cells.obs else "cell"
    return exclusion_groups(cells.obs, column)


def _gradient_maps(
    cells: LabelledCells,
    crops: Cells,
    chosen: np.ndarray,
    reference: np.ndarray,
    unchanged: Margins,
    gradients: Gradients,
) -> list[np.ndarray]:
    """Return the absolute gradient of each cell's margin, added over channels: (rows, columns) each."""
    values = np.asarray(cells.values, np.float64)
    varies = values.min(axis=0) < values.max(axis=0)
    mean, scale = values.mean(axis=0), np.where(varies, values.std(axis=0), 0)
    given = crops.crops(chosen, rescale=gradients.rescale)
    return [
        np.abs(margin_gradient(gradients.function, crop, reference[own], reference[other], mean, scale)).sum(axis=0)
        for crop, own, other in zip(given, unchanged.nearest_own, unchanged.nearest_other, strict=True)
    ]


def _examples(
    cells: LabelledCells,
    crops: Cells,
    chosen: np.ndarray,
    by_brightness: np.ndarray,
    unchanged: Margins,
    maps: dict[str, list[np.ndarray]],
) -> pd.DataFrame:
    """Return a row for each channel and map of each cell; pixels of maps are shares of ``scale``.

    Those of occlusion go from −scale (0) over nothing (128) to +scale (255), those of gradients from 0 to scale.
    """
    planes: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    shown = crops.crops(chosen)
    for i, cell in enumerate(chosen):
        right = bool(unchanged.margin[i] > 0)
        nearest = unchanged.nearest_own[i] if right else unchanged.nearest_other[i]
        words = {
            "cell": str(cells.names[cell]),
            "label": str(cells.classes[cells.labels[cell]]),
            "predicted": str(cells.classes[cells.labels[nearest]]),
            "right_by_brightness": bool(by_brightness[i]),
            "margin": round(float(unchanged.margin[i]), 6),
        }
        for channel, plane in zip(crops.channels, shown[i], strict=True):
            planes.append(plane)
            rows.append({**words, "panel": channel.name, "kind": "crop", "scale": 1.0})
        for kind, of_cells in maps.items():
            scale = float(np.abs(of_cells[i]).max())
            share = of_cells[i] / scale if scale > 0 else of_cells[i]
            planes.append(share if kind == "gradient" else (128 + 127 * share) / 255)
            rows.append({**words, "panel": kind, "kind": kind, "scale": round(scale, 6)})
    return as_table(planes, rows)
