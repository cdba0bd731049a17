"""Whether a feature set can be had for some cells, and which weights it then runs with."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from pci_bench import weights as weight_files
from pci_bench.api.extractor import EXTRACTORS, ExtractorMeta, Precomputed
from pci_bench.api.model import MODELS
from pci_bench.api.plugins import checked_reason
from pci_bench.api.segmenter import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.errors import UserError
from pci_bench.features.names import FeatureSet

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells


def code_of(features: FeatureSet, doing: str, names: Iterable[str] = ()) -> AbstractContextManager[None]:
    """Return the context in which the code of a feature set's extractor runs; by default itself cannot be had for it."""
    return EXTRACTORS.code(features.extractor_name, doing, names or (str(features),))


def resolve_weights(features: FeatureSet, cells: Cells) -> FeatureSet:
    """Return the feature set with its own or the dataset's default weights filled in, where it needs weights and names none."""
    extractor = features.extractor()
    family = extractor.meta.weights
    if family is None or features.weights:
        return features
    if extractor.meta.replicates:
        return replace(features, weights=extractor.meta.replicates[0])
    return replace(features, weights=extractor.default_weights() or weight_files.default_name(family, cells.meta.name))


def unavailable_reason(features: FeatureSet, cells: Cells, segmenter: str = DEFAULT_SEGMENTER) -> str | None:
    """Return why a feature set (weights resolved) cannot be had for these cells, or None.

    Weights that come from a hub or with a package are had now, if they are not available yet; others are fetched by `pci-bench weights get` alone.
    """
    extractor = features.extractor()
    meta = extractor.meta
    if not cells.has_crops and (meta.roles or not isinstance(extractor, Precomputed)):
        return f"measures crops, and {cells.meta.name} has profiles and no crops"
    roles = {c.role for c in cells.channels}
    if missing := [r for r in meta.roles if r not in roles]:
        return f"needs a {missing[0]} channel, and {cells.meta.name} has none"
    with code_of(features, "in unavailable_reason()"):
        if reason := checked_reason(extractor.unavailable_reason(cells)):
            return reason
    if meta.simulated_masks and not (cells.has_masks and cells.meta.simulated_masks):
        return f"reads the true masks of simulated cells, and {cells.meta.name} has none"
    if needs_segmenter(meta, cells) and (reason := _segmenter_unavailable_reason(segmenter, str(features))):
        return f"{cells.meta.name} has no masks to measure with, and the segmenter {segmenter} cannot be run: {reason}"
    file = None
    if meta.weights:
        if features.weights is None:
            return (
                f"needs a trained network, and {cells.meta.name} has none of its own; {features.base}@NAME takes another's "
                f"(`pci-bench weights list`){f', `pci-bench train {meta.weights}` makes one' if meta.weights in MODELS else ''}"
            )
        try:
            file = weight_files.at_first_use(meta.weights, features.weights)
        except UserError as error:
            return str(error).rstrip(".")
        if file is None:
            return weight_files.how_to_get(meta.weights, features.weights)
        if reason := weight_files.unavailable_reason(file, cells.channels):
            return reason
    with code_of(features, "in output_unavailable_reason()"):
        return checked_reason(extractor.output_unavailable_reason(features.output, cells.channels, file))


def _segmenter_unavailable_reason(segmenter: str, features: str) -> str | None:
    with SEGMENTERS.code(segmenter, "in unavailable_reason()", [features]):
        return checked_reason(SEGMENTERS.get(segmenter).unavailable_reason())


def needs_segmenter(meta: ExtractorMeta, cells: Cells) -> bool:
    """Return whether an extractor's masks are a segmenter's: the dataset has none, or only those that it was drawn from."""
    return meta.masks and (not cells.has_masks or (cells.meta.simulated_masks and not meta.simulated_masks))
