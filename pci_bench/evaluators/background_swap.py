"""What other cells in the crop do to a cell's prediction: the centre cell on other backgrounds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

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
from pci_bench.data.backgrounds import BACKGROUNDS, BackgroundSwap, drawn_donors, regions_of
from pci_bench.data.changes import changed
from pci_bench.data.observations import (
    exclusion_columns,
    exclusion_groups,
    obs_strings,
    resolve_exclude,
)
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.errors import UserError
from pci_bench.evaluators.labelled import LabelledCells, classification_unavailable_reason, labelled, resolved
from pci_bench.segmentation.masks import with_masks
from pci_bench.statistics.changed_neighbors import neighbors_of_changed
from pci_bench.statistics.folds import unreachable_classes
from pci_bench.statistics.intervals import LEARNED_BY_NEIGHBOURS, training_variance
from pci_bench.statistics.metrics import share_spreads
from pci_bench.statistics.neighbors import majority_vote

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

STRATUM = "cell_line"  # donors are of the same, where the table has one
UNCHANGED = "unchanged"
EFFECT = "background_effect"
CONDITIONS = {background: background.replace(" ", "_").replace("-", "_") for background in BACKGROUNDS}
DROPS = {f"drop_{name}": Metric("percent", higher_is_better=False) for name in CONDITIONS.values()}


class BackgroundSwapParams(pydantic.BaseModel):
    """Parameters of the background swap."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    k: int = pydantic.Field(11, ge=1, description="number of neighbours that vote")
    exclude: str = pydantic.Field(
        "cell",
        min_length=1,
        description="obs column whose value neighbours must not share; of several joined by +, no value of any",
    )
    margin: float = pydantic.Field(
        0,
        ge=0,
        le=64,
        description="pixels around the mask that also belong to the cell, where masks are of nuclei",
    )
    brightness: Literal["raw", "matched"] = pydantic.Field(
        "raw",
        description="backgrounds as they are, or brought to the mean and SD of what they replace, channel by channel",
    )


@register_evaluator("background-swap")
class BackgroundSwapEvaluator(Evaluator):
    """Balanced accuracy of kNN when everything around the centre cell is replaced, and the cell is the same.

    Gupta, Moses and Lu 2025 (PMLR 311:162-177) compare five settings: the crop as it is, backgrounds of the same class, of another
    class, without cells, and masked out. Here the last is there twice: ``mean``, each channel's mean of what is replaced, and
    ``zero``, its minimum in the crop. ``same_class``, ``other_class`` and ``cell_free`` are of a donor: a cell of another image, and
    of the same cell line where the table has that column. How they are made: :mod:`pci_bench.data.backgrounds`. All of it is ours;
    that paper's donors, borders and cell-free pixels may differ.

    Only the predicted cells change. The neighbours that vote are unchanged cells, which share no value of ``exclude`` with the cell
    and are not of the image of either of its donors; they are the same in every condition, so each drop is paired, but where a class
    has few images, ``unchanged`` is below what ``loo-knn`` has:
    ``drop_x`` = unchanged − x, in balanced accuracy. ``background_effect`` = ``same_class`` − ``other_class``, what that paper
    reports: both are pasted, so it is free of what pasting does. It is 0 for features of the centre cell alone.

    Cost: five extractions of all labelled cells, and three more where brightness is matched.

    Features are standardised with the unchanged cells' means and SDs. Intervals are a jackknife over the dataset's confounder within
    class, with the variance multiplied for what neighbours are learned from, as of two paired results.
    """

    meta = EvaluatorMeta(
        "background-swap",
        "2",
        "Accuracy of cells on other backgrounds",
        EFFECT,
        key=("exclude", "brightness"),
        metrics={EFFECT: Metric("percent", higher_is_better=False), **DROPS},
        other_metrics=Metric("percent"),
        order_invariant=True,
        needs=("cells", "extractor"),
        training_variance=LEARNED_BY_NEIGHBOURS,
    )
    Params = BackgroundSwapParams

    def dataset_reason(self, obs: pd.DataFrame, dataset: DatasetProvenance, params: BackgroundSwapParams) -> str | None:
        """Return why there is nothing to classify or no other background, or None."""
        if reason := classification_unavailable_reason(obs, dataset, params.exclude):
            return reason
        kept = labelled(obs)
        if params.k >= kept.sum():
            return f"k = {params.k} needs at least {params.k + 1} labelled cells, and {dataset.display_name} has {kept.sum()}. Use a smaller --k"
        labels, images = (np.unique(obs_strings(obs, c)[kept], return_inverse=True)[1] for c in ("label", "image"))
        if len(unreachable_classes(labels, images)) == labels.max() + 1:
            return f"every class of {dataset.display_name} lies in one image, so no background of the same class is another image's"
        return None

    def __call__(
        self, adata: AnnData, param_sets: list[BackgroundSwapParams], context: EvaluationContext
    ) -> Iterator[EvaluatorOutput]:
        """Yield accuracies, drops and intervals; the table per cell has what is predicted in each condition."""
        if context.cells is None or context.features_of is None:
            raise UserError(
                "Other backgrounds need the cells' crops and features that are computed from them. Use `pci-bench run confounders`, or give evaluate() cells=…"
            )
        labels_of = LabelledCells.of(adata)
        cells = with_masks(context.cells[np.flatnonzero(labelled(adata.obs))])
        features: dict[tuple[float, str], tuple[np.ndarray, dict[str, np.ndarray]]] = {}
        for params in param_sets:
            key = (params.margin, params.brightness)
            if key not in features:
                features[key] = self._features(cells, labels_of, params, context)
            yield self._output(adata, labels_of, params, *features[key])

    @staticmethod
    def _features(
        cells: Cells, of: LabelledCells, params: BackgroundSwapParams, context: EvaluationContext
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return both donors of every cell (2, n) int, and features by condition, as they are compared."""
        assert context.features_of is not None
        regions, _ = regions_of(cells, params.margin)
        images = exclusion_groups(of.obs, "image")
        strata = exclusion_groups(of.obs, STRATUM) if STRATUM in of.obs else np.zeros(len(images), np.int64)
        same, other = drawn_donors(of.names, of.labels, images, strata, regions)
        without = (same < 0) | (other < 0) | ~regions.any(axis=(1, 2))
        itself = np.arange(len(same))  # on no other background: it is left out
        values = {UNCHANGED: of.compared()}
        for background, name in CONDITIONS.items():
            donors = np.where(without, itself, other if background == "other class" else same)
            swap = BackgroundSwap(background, donors, params.margin, params.brightness == "matched")
            values[name] = of.compared(np.asarray(context.features_of(changed(cells, swap)).X))
        return np.where(without, -1, np.stack([same, other])), values

    def _output(
        self,
        adata: AnnData,
        of: LabelledCells,
        params: BackgroundSwapParams,
        donors: np.ndarray,
        values: dict[str, np.ndarray],
    ) -> EvaluatorOutput:
        """Return the output for some parameters."""
        import pandas as pd

        exclude = resolve_exclude(params.exclude, Provenance.of(adata).dataset)
        used, n_classes = donors[0] >= 0, len(of.classes)
        if not used.any():
            raise UserError(
                "No cell has a mask and donors of its own and of another class, so there is no other background."
            )
        images = exclusion_groups(of.obs, "image")
        kinds = np.stack([exclusion_groups(of.obs, column) for column in exclusion_columns(of.obs, exclude)])
        groups = np.concatenate([kinds, [images, images]])
        of_changed = np.concatenate([kinds[:, used], images[donors[:, used]]])
        correct, predicted = {}, {}
        for name, changed_values in values.items():
            nearest = neighbors_of_changed(values[UNCHANGED], changed_values[used], params.k, groups, of_changed)
            votes = np.where(nearest >= 0, of.labels[nearest], -1)
            predicted[name] = majority_vote(votes, n_classes)
            correct[name] = (predicted[name] == of.labels[used]).astype(float)
        unit = None if of.groups is None else of.groups[used]
        factor = training_variance(self.meta.training_variance, whole_units=of.whole_units(kinds[0]))
        metrics, intervals = {}, {}

        def add(name: str, right: np.ndarray, low: float) -> None:
            value, spread, _ = share_spreads(of.labels[used], right, unit, n_classes)
            metrics[name] = value
            intervals[name] = spread.times(factor).interval(value, low=low, high=1)

        for name, right in correct.items():
            add(name, right, 0)
        for name in CONDITIONS.values():
            add(f"drop_{name}", correct[UNCHANGED] - correct[name], -1)
        add(EFFECT, correct["same_class"] - correct["other_class"], -1)
        names = of.names
        table = pd.DataFrame({"cell": names[used], "label": of.classes[of.labels[used]]})
        for place, name in enumerate(("same_class_donor", "other_class_donor")):
            table[name] = names[donors[place, used]]
        for name, answer in predicted.items():
            table[name] = np.append(of.classes, "")[answer]
        details: dict[str, Any] = {
            "n_cells": int(used.sum()),
            "left_out": int((~used).sum()),
            "interval": f"jackknife of paired predictions over {of.confounder or 'cells'} within class, variance × {factor:g} for the "
            "cells learned from; the cells and their donors as they are",
        }
        return EvaluatorOutput(resolved(params, exclude), metrics, intervals, details, table)
