"""Test runs of an extractor on synthetic cells, through the harness and by calling it directly."""

from __future__ import annotations

import os
import shutil
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import weights as weight_files
from pci_bench.api.extractor import EXTRACTORS, Compute, ExtractorMeta
from pci_bench.api.plugins import load_plugin
from pci_bench.api.skipped import Skipped
from pci_bench.conformance.base import (
    BrokenContractError,
    NotApplicableError,
    Once,
    changed_state,
    expect,
    expect_reason,
    global_state,
    same_bits,
    some,
)
from pci_bench.conformance.planted import LAYOUTS, planted
from pci_bench.data.cells import Cells, Channel
from pci_bench.features.availability import resolve_weights, unavailable_reason
from pci_bench.features.extraction import ExtractionOptions, column_names, compute_features
from pci_bench.features.names import FeatureSet
from pci_bench.system.files import cache_folder, escape
from pci_bench.system.threads import set_threads

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Ready:
    """Synthetic cells that the extractor runs on, and the feature sets with the weights that fit them."""

    extractor: Any
    cells: Cells
    wanted: list[FeatureSet]
    weights: Path | None

    @property
    def outputs(self) -> set[str]:
        """The outputs asked for."""
        return {f.output for f in self.wanted}

    def names(self, output: str, computed: int) -> list[str]:
        """Return the columns' names of an output with these weights, of which `computed` columns came."""
        return column_names(self.extractor, output, self.cells.channels, self.weights, computed)


@dataclass(frozen=True)
class Called:
    """What an extractor gave in its first call, {output: (n, d)}, which warnings it caused and what it changed."""

    values: dict[str, np.ndarray]
    warnings: list[str]
    changed: list[str]


class FeatureTrial:
    """One extractor with one set of weights, and the synthetic cells that it is tried on.

    Parameters
    ----------
    features
        The outputs to try, all of one extractor and one set of weights.
    device
        ``"cpu"`` or ``"cuda"``.
    cells
        How many ordinary cells; awkward ones are added.
    size
        Rows and columns of their crops.
    layouts
        Which channels they have: ``"yeast"``, ``"human"``.
    """

    def __init__(
        self,
        features: Sequence[FeatureSet],
        device: str = "cpu",
        *,
        cells: int = 8,
        size: int = 64,
        layouts: Sequence[str] = tuple(LAYOUTS),
    ):
        self.features = list(features)
        self.extractor = features[0].extractor()
        self.meta: ExtractorMeta = self.extractor.meta
        self.device = device
        self.once = Once()
        self.environment = dict(os.environ)
        salt = uuid.uuid4().hex
        self._options: dict[str, Any] = {"cells": cells, "size": size, "salt": salt}
        self._options["simulated_masks"] = self.meta.simulated_masks
        self.layouts = {name: planted(LAYOUTS[name], **self._options) for name in layouts}

    def of_type(self, layout: str, dtype: str) -> Cells:
        """Return a layout's cells stored as another type."""
        return planted(LAYOUTS[layout], dtype=dtype, **self._options)

    def ready(self) -> dict[str, Ready]:
        """Return the layouts that it runs on.

        Raises
        ------
        NotApplicableError
            Where it runs on none, with the reasons.
        """
        ready, reasons = self.once("ready", self._ready)
        if not ready:
            raise NotApplicableError("; ".join(dict.fromkeys(reasons)))
        return ready

    def _ready(self) -> tuple[dict[str, Ready], list[str]]:
        ready, reasons = {}, []
        for layout, cells in self.layouts.items():
            names = self._weights(cells)
            if not names:
                reasons.append(no_weights(str(self.meta.weights)))
            for name in names:
                wanted = [replace(f, weights=name) for f in self.features]
                refused = [unavailable_reason(f, cells) for f in wanted]
                if runs := [f for f, reason in zip(wanted, refused, strict=True) if reason is None]:
                    expect_reason(
                        self.extractor.unavailable_reason(cells), f"for cells with the channels {roles_of(cells)}"
                    )
                    file = weight_files.find(self.meta.weights, name) if self.meta.weights and name else None
                    ready[layout] = Ready(self.extractor, cells, runs, file)
                    break
                reasons += [reason for reason in refused if reason]
        return ready, reasons

    def _weights(self, cells: Cells) -> list[str | None]:
        """Return the names of weights that may do: those asked for, the extractor's own, or all of its family available locally."""
        first = self.features[0]
        if self.meta.weights is None or first.weights:
            return [first.weights]
        if self.extractor.default_weights() is not None:
            return [resolve_weights(first, cells).weights]
        return [name for family, name in weight_files.availability() if family == self.meta.weights]

    def one(self) -> Ready:
        """Return the first layout that it runs on, for contracts that need one."""
        return next(iter(self.ready().values()))

    def measured(self, wanted: Sequence[FeatureSet], cells: Cells) -> dict[FeatureSet, AnnData | Skipped]:
        """Return features of some cells, as a run would compute them; nothing stays in the cache."""
        try:
            return compute_features(wanted, cells, ExtractionOptions(self.device, workers=1))
        finally:
            folder = cache_folder() / "features" / f"{escape(cells.meta.name)}-{cells.sha256[:12]}"
            shutil.rmtree(folder, ignore_errors=True)

    def whole(self, layout: str) -> dict[FeatureSet, AnnData]:
        """Return the features of all cells of a layout, computed once: what other ways to get them are compared with."""
        ready = self.ready()[layout]
        return self.once(("whole", layout), lambda: computed_only(self.measured(ready.wanted, ready.cells)))

    def called(self, layout: str) -> Called:
        """Return what the extractor itself gives for all cells of a layout, and what was noticed on the way."""
        return self.once(("called", layout), lambda: self._called(self.ready()[layout]))

    def _called(self, ready: Ready) -> Called:
        before = global_state(randomness=False)  # which imports may change
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            compute = self.extractor.open(ready.cells.channels, ready.weights, self.device)
            values = rows(compute, ready.cells, self.meta, ready.outputs)
        messages = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning | UserWarning)]
        return Called(values, list(dict.fromkeys(messages)), changed_state(before, randomness=False))

    def names(self, output: str, layout: str) -> list[str]:
        """Return the names of an output's columns."""
        return self.extractor.names(output, LAYOUTS[layout])


# ---- how cells are measured


def batches(cells: Cells, meta: ExtractorMeta) -> Iterator[tuple[np.ndarray, int]]:
    """Yield crops as an extractor gets them, filled up with zeros to its batch, and how many of them are cells."""
    for start in range(0, len(cells), meta.batch):
        crops = cells.crops(slice(start, min(start + meta.batch, len(cells))), rescale=meta.rescale, masks=meta.masks)
        filled = np.zeros((meta.batch, *crops.shape[1:]), np.float32)
        filled[: len(crops)] = crops
        yield filled, len(crops)


def rows(compute: Compute, cells: Cells, meta: ExtractorMeta, outputs: set[str]) -> dict[str, np.ndarray]:
    """Return what an opened extractor gives for all cells, {output: (n, d)}, as it gives it."""
    collected: dict[str, list[np.ndarray]] = {output: [] for output in sorted(outputs)}
    for crops, count in batches(cells, meta):
        values = compute(crops, set(outputs))
        for output in collected:
            expect(output in values, f"the output '{output}', which was asked for", f"{some(values) or 'nothing'}")
            shape = np.shape(values[output])
            expect(
                len(shape) == 2 and shape[0] == meta.batch,
                f"one row per crop, ({meta.batch}, d)",
                f"the shape {shape} for {meta.batch} crops{f' and the output {output}' if output else ''}",
            )
            collected[output].append(np.asarray(values[output])[:count])
    return {output: np.concatenate(parts) for output, parts in collected.items()}


def measured_in_a_worker(
    wanted: list[FeatureSet],
    cells: Cells,
    weights: Path | None,
    device: str,
    threads: int,
    plugins: list[Path],
) -> dict[str, np.ndarray] | None:
    """Return {output: (n, d)} computed in a worker process, or None where the feature set is not known there."""
    for file in plugins:
        load_plugin(file)
    if wanted[0].extractor_name not in EXTRACTORS:
        return None
    set_threads(threads)
    extractor = wanted[0].extractor()
    compute = extractor.open(cells.channels, weights, device)
    return rows(compute, cells, extractor.meta, {f.output for f in wanted})


def weights_that_fit(family: str, channels: tuple[Channel, ...]) -> str | None:
    """Return the name of the first weights available locally that run on these channels."""
    for (file_family, name), file in weight_files.availability().items():
        if file_family == family and weight_files.unavailable_reason(file, channels) is None:
            return name
    return None


def no_weights(family: str) -> str:
    """Return that no weights of a family are available, and how to get the first declared ones."""
    declared = list(weight_files.declared().get(family, {}))
    remedy = (
        weight_files.how_to_get(family, declared[0]) if declared else "`pci-bench weights list` shows what there is"
    )
    return f"no weights {family}@… that fit are available: {remedy}"


def roles_of(cells: Cells) -> str:
    """Return the channels' roles as text."""
    return " + ".join(c.role for c in cells.channels)


def computed_only(computed: dict[FeatureSet, AnnData | Skipped]) -> dict[FeatureSet, AnnData]:
    """Return features, all of which were computed.

    Raises
    ------
    BrokenContractError
        Where the extractor ran on the cells before, but not in this way.
    """
    features = {}
    for feature_set, result in computed.items():
        if isinstance(result, Skipped):
            raise BrokenContractError(
                f"expected {feature_set} to run, as on other cells with these channels; found 'not run: {result.reason}'."
            )
        features[feature_set] = result
    return features


def named(names: Sequence[str], column: int) -> str:
    """Return the name of a column; there may be more columns than names."""
    return names[column] if column < len(names) else f"number {column}, which has no name"


def expect_same(
    feature_set: FeatureSet,
    expected: np.ndarray,
    actual: np.ndarray,
    cells: list[str],
    names: Sequence[str],
    how: str,
) -> None:
    """Check that features (n, d) are bit-equal; the sentence names cells, and the first column with both values."""
    expect(actual.shape == expected.shape, f"{feature_set} of the shape {expected.shape} {how}", f"{actual.shape}")
    differ = ~same_bits(np.asarray(expected, np.float32), np.asarray(actual, np.float32))
    if differ.any():
        row, column = np.argwhere(differ)[0]
        which = [cells[i] for i in np.unique(np.nonzero(differ)[0])]
        raise BrokenContractError(
            f"expected the same bits {how}; found other values of {feature_set} for {len(which)} of {len(cells)} cells "
            f"({some(which)}), first {actual[row, column]!s} in place of {expected[row, column]!s} in the column '{named(names, column)}'."
        )


def expect_same_by_cell(
    expected: dict[FeatureSet, AnnData], actual: dict[FeatureSet, AnnData], how: str, *, by_name: bool = False
) -> None:
    """Check that features are bit-equal for each cell; with `by_name`, the columns may come in another order."""
    for feature_set, adata in actual.items():
        reference = expected[feature_set]
        whole = reference[adata.obs_names]
        if by_name:
            lost, new = set(whole.var_names) - set(adata.var_names), set(adata.var_names) - set(whole.var_names)
            expect(
                not lost and not new,
                f"columns of the same names {how}",
                f"{some(sorted(new))} for {some(sorted(lost))}",
            )
            adata = adata[:, whole.var_names]
        names = list(whole.var_names)
        expect_same(feature_set, np.asarray(whole.X), np.asarray(adata.X), list(adata.obs_names), names, how)
