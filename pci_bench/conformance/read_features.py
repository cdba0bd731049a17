"""Contracts of features that are read, not computed: ``file:PATH``, and published measurements."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from pci_bench.api.extractor import EXTRACTORS, ExtractorMeta, Precomputed
from pci_bench.conformance.base import (
    BrokenContractError,
    Finding,
    NotApplicableError,
    Once,
    checked_contracts,
    expect,
    expect_reason,
    some,
)
from pci_bench.conformance.feature_trial import expect_same
from pci_bench.conformance.features import cheap_to_load, description, methods
from pci_bench.data.cells import Cells
from pci_bench.features.availability import unavailable_reason
from pci_bench.features.names import FeatureSet


class ReadTrial:
    """Features that are read for the cells of a dataset."""

    def __init__(self, features: FeatureSet, cells: Cells | None):
        self.features = [features]
        extractor = features.extractor()
        assert isinstance(extractor, Precomputed)
        self.extractor = extractor
        self.meta: ExtractorMeta = self.extractor.meta
        self._cells = cells
        self.once = Once()

    @property
    def cells(self) -> Cells:
        """The cells to read for."""
        cells = self._cells
        if cells is None:
            raise NotApplicableError("it is read for the cells of one dataset: name that with --dataset")
        reason = self.once("reason", lambda: unavailable_reason(self.features[0], cells))
        if reason:
            raise NotApplicableError(str(reason))
        expect_reason(self.extractor.unavailable_reason(cells), f"for {cells.meta.name}")
        return cells

    def whole(self) -> tuple[np.ndarray, list[str]]:
        """Return the features of all cells."""
        cells = self.cells
        return self.once("whole", lambda: self.extractor.load(cells))


def read_columns(trial: ReadTrial) -> str:
    """One row per cell, one float32 column per name, finite or NaN where declared."""
    values, names = trial.whole()
    expect(values.dtype == np.float32, "float32", f"{values.dtype}")
    expect(
        values.shape == (len(trial.cells), len(names)),
        f"a row per cell and a column per name, ({len(trial.cells)}, {len(names)})",
        f"{values.shape}",
    )
    expect(len(set(names)) == len(names), "unique column names", f"{len(names) - len(set(names))} that repeat another")
    wrong = np.isinf(values) if trial.meta.allows_nan else ~np.isfinite(values)
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise BrokenContractError(
            f"expected finite values; found {values[row, column]} in the column '{names[column]}' of the cell "
            f"'{trial.cells.obs['cell'].iloc[row]}'."
        )
    return f"{values.shape[0]:,} cells × {values.shape[1]:,} columns of {trial.cells.meta.name}"


def read_in_any_order(trial: ReadTrial) -> str:
    """Cells backwards, a shuffled subset, and one cell."""
    values, names = trial.whole()
    n = len(trial.cells)
    subset = np.random.default_rng(1).permutation(n)[: max(1, n // 2)]
    for how, index in (
        ("backwards", np.arange(n)[::-1]),
        ("for a shuffled subset", subset),
        ("for one cell", subset[:1]),
    ):
        actual, columns = trial.extractor.load(trial.cells[index])
        expect(columns == names, f"the same columns {how}", some(columns))
        expect_same(trial.features[0], values[index], actual, list(trial.cells.obs["cell"].iloc[index]), names, how)
    return f"backwards, a shuffled subset of {len(subset):,}, and one cell"


CONTRACTS: tuple[tuple[str, Callable[[ReadTrial], str]], ...] = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("it is cheap to load", cheap_to_load),
    ("one float32 column per name, finite or NaN where declared", read_columns),
    ("cells are matched by name, in any order and subset", read_in_any_order),
)


def check_read_features(features: FeatureSet, cells: Cells | None) -> Iterator[Finding]:
    """Yield the findings of features that are read for the cells of a dataset."""
    subject = f"feature set {features}, {EXTRACTORS.origin(features.extractor_name)}"
    yield from checked_contracts(subject, CONTRACTS, ReadTrial(features, cells))
