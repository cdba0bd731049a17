"""Contracts of datasets: the same cells on every build, and metadata that evaluators can use."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.dataset import DATASETS, FORMER_METHODS, Dataset
from pci_bench.conformance.base import (
    BrokenContractError,
    Finding,
    NotApplicableError,
    Once,
    checked_contracts,
    expect,
    expect_described,
    expect_reason,
    known_methods,
    left_alone,
    some,
)
from pci_bench.conformance.segmenters import expect_masks
from pci_bench.data.cells import OBS_COLUMNS, Cells, validated_obs
from pci_bench.data.store import StoreWriter, open_store
from pci_bench.system.progress import Progress

if TYPE_CHECKING:
    import pandas as pd

MANY_CELLS = 5000
CELLS_PER_BLOCK = 256


class TooManyCellsError(NotApplicableError):
    """A dataset of so many cells that building it twice is left to those who ask for it."""


class CountingWriter(StoreWriter):
    """A writer that stops a build as soon as the dataset says how many cells it has, where these are many."""

    most: int | None = None

    def begin(self, obs: pd.DataFrame, *arguments: Any, **options: Any) -> None:
        """Stop where there are many cells; otherwise begin."""
        if self.most is not None and len(obs) > self.most:
            validated_obs(obs, self._meta.name)
            raise TooManyCellsError(
                f"{self._meta.name} has {len(obs):,} cells, and it is built twice for this: ask for it with --full"
            )
        super().begin(obs, *arguments, **options)


class DatasetTrial:
    """One dataset, built twice into a temporary folder.

    Parameters
    ----------
    name
        As it is registered, with its argument.
    folder
        Where to build.
    full
        Whether to build datasets of more than 5,000 cells too.
    """

    def __init__(self, name: str, folder: Path, *, full: bool = False):
        self.name = name
        self.dataset: Dataset = DATASETS.get(name)
        self.folder = folder
        self.full = full
        self.once = Once()
        self.environment = dict(os.environ)

    def built(self, turn: str = "first") -> Path:
        """Return the folder of a build."""

        def build() -> Path:
            reason = self.dataset.unavailable_reason()
            if reason:
                raise NotApplicableError(f"it cannot be had here: {reason}")
            folder = self.folder / turn
            folder.mkdir()
            writer = CountingWriter(folder, self.dataset.meta, Progress())
            writer.most = None if self.full else MANY_CELLS
            try:
                self.dataset.build(writer)
                writer.finish()
            finally:
                writer.close()
            return folder

        return self.once(turn, build)

    def cells(self) -> Cells:
        """Return the cells of the first build."""
        return open_store(self.built())


def with_crops(trial: DatasetTrial) -> Cells:
    """Return the cells of the first build, where they have crops."""
    if not (cells := trial.cells()).has_crops:
        raise NotApplicableError("it has profiles and no crops")
    return cells


def crops_of(cells: Cells) -> Iterator[tuple[int, np.ndarray]]:
    """Yield stored crops, some at a time, and where they begin."""
    for start in range(0, len(cells), CELLS_PER_BLOCK):
        yield start, cells.stored(slice(start, start + CELLS_PER_BLOCK))


# ---- the contracts


def description(trial: DatasetTrial) -> str:
    """Name, version and title are texts; the name is the registered one."""
    meta = trial.dataset.meta
    expect_described(meta, trial.name, "version", "title", "label")
    first, second = trial.dataset.source_fingerprint(), trial.dataset.source_fingerprint()
    same = isinstance(first, str) and first == second
    expect(same, "source_fingerprint() to return the same text each time", f"{first!r}, {second!r}")
    return f"version {meta.version}"


def says_why(trial: DatasetTrial) -> str:
    """unavailable_reason() returns None, or a sentence that says how to get the dataset."""
    reason = trial.dataset.unavailable_reason()
    expect_reason(reason, "")
    return f"it is not available: {reason}" if reason else "it is available"


def builds(trial: DatasetTrial) -> str:
    """It writes as many crops as its table has cells, in one shape and type, and touches no global state."""
    with left_alone("building", trial.environment):
        trial.built()
    return repr(trial.cells())


def table(trial: DatasetTrial) -> str:
    """Cells have unique names, an image each, and a value of the declared confounder; known columns are in order."""
    cells = trial.cells()
    obs = validated_obs(cells.obs, trial.name)
    for column in ("cell", "image"):
        blank = cells.obs[column].astype("string").fillna("").str.strip() == ""
        expect(not blank.any(), f"every cell to have a value of '{column}'", f"{int(blank.sum())} cells without one")
    expect(list(obs.columns) == list(cells.obs.columns), f"columns in the order {some(obs.columns, 11)}", "another")
    confounder = cells.meta.confounder
    expect(
        confounder is None or confounder in obs,
        f"the declared confounder '{confounder}' to be a column",
        f"the columns {some(obs.columns, 20)}",
    )
    own = [c for c in obs.columns if c not in OBS_COLUMNS]
    extra = f", besides {some(own)}" if own else ""
    return f"{len(obs):,} cells, {obs['image'].nunique():,} images; {some((c for c in obs if c in OBS_COLUMNS), 11)}{extra}"


def channels(trial: DatasetTrial) -> str:
    """One protein channel at least, unique names, floors in [0, 1); of profiles, some measurement that differs."""
    cells = trial.cells()
    if not cells.has_crops:
        return expect_profiles(cells)
    cell_channels = cells.channels
    names = [c.name for c in cell_channels]
    expect(
        any(c.role == "protein" for c in cell_channels),
        "a protein channel",
        some((f"{c.name} ({c.role})" for c in cell_channels), 9),
    )
    expect(len(set(names)) == len(names), "unique channel names", some(names, 9))
    wrong = [f"{c.name}: role {c.role}, floor {c.floor}" for c in cell_channels]
    expect(
        all(c.role in ("protein", "marker") and 0 <= c.floor < 1 for c in cell_channels),
        "roles among 'protein' and 'marker', and floors in [0, 1)",
        some(wrong, 9),
    )
    return some((f"{c.name} ({c.role})" for c in cell_channels), 9)


def expect_profiles(cells: Cells) -> str:
    """Check that not every measurement of profiles is constant, and return what they are."""
    values, names = cells.profiles()
    varying = int((values.min(axis=0) < values.max(axis=0)).sum())
    expect(varying > 0 or len(cells) == 1, "a measurement that differs between profiles", "the same values in all")
    return f"no crops: {len(names):,} measurements, {varying:,} of which differ between profiles"


def raw_values(trial: DatasetTrial) -> str:
    """Values are finite; raw values, integers over their type's maximum, lie in [0, 1]."""
    cells = with_crops(trial)
    low, high = np.inf, -np.inf
    for start, crops in crops_of(cells):
        raw = cells.crops(slice(start, start + len(crops)), rescale="raw")
        expect(np.isfinite(raw).all(), "finite values", f"NaN or infinity among the cells from number {start} on")
        low, high = min(low, float(raw.min())), max(high, float(raw.max()))
    expect(high > low, "crops with something on them", f"the value {low:g} everywhere")
    expect(
        low >= 0 and high <= 1,
        "raw values in [0, 1] (integers are divided by their type's maximum; scale floats yourself)",
        f"{low:g} to {high:g}",
    )
    note = "" if high > 0.01 else ". The brightest is below 0.01 of the type's range: raw intensities will be tiny"
    return f"raw values from {low:.3g} to {high:.3g}{note}"


def masks(trial: DatasetTrial) -> str:
    """0 is background, 1 the cell in the middle, 2 its bud, 3 and up are others."""
    cells = with_crops(trial)
    if not cells.has_masks:
        raise NotApplicableError("it has no masks")
    n_masked = 0
    for start in range(0, len(cells), CELLS_PER_BLOCK):
        share = slice(start, min(start + CELLS_PER_BLOCK, len(cells)))
        labels = cells.crops(share, masks=True)[:, -1].astype(np.int64)
        n_masked += expect_masks(labels, list(cells.obs["cell"].iloc[share]))
    return f"{n_masked:,} of {len(cells):,} cells have one"


def same_again(trial: DatasetTrial) -> str:
    """Two builds have the same table, pixels and masks, and so has a store that is opened again."""
    first, second = trial.built(), trial.built("second")
    hashes = [json.loads((folder / "store.json").read_text(encoding="utf-8")) for folder in (first, second)]
    if hashes[0]["stored_sha256"] != hashes[1]["stored_sha256"]:
        first_cells, second_cells = open_store(first), open_store(second)
        if not first_cells.obs.equals(second_cells.obs):
            raise BrokenContractError(
                f"expected two builds with the same table of cells; found other {_changed(first_cells, second_cells)}."
            )
        if not first_cells.has_crops:
            differ = (first_cells.profiles()[0] != second_cells.profiles()[0]).any(axis=1)
            where = some(first_cells.obs["cell"][differ]) if differ.any() else "no row, so in the columns' names"
            raise BrokenContractError(f"expected two builds with the same measurements; found others in {where}.")
        for (start, crops), (_, again) in zip(crops_of(first_cells), crops_of(second_cells), strict=True):
            differ = (crops != again).any(axis=(1, 2, 3))
            if differ.any():
                which = first_cells.obs["cell"].iloc[start + np.flatnonzero(differ)]
                raise BrokenContractError(
                    f"expected two builds with the same pixels; found others in the cells {some(which)}."
                )
        expect_same_labels(first_cells, second_cells)
        raise BrokenContractError("expected two builds with the same hash; found other channels.")
    expect(hashes[0]["sha256"] == hashes[1]["sha256"], "two builds with the same identity", "that it changes")
    opened = trial.cells().sha256
    expect(opened == hashes[0]["sha256"], "the hash to stay when the store is opened", opened)
    return f"sha256 {opened[:16]}…"


def expect_same_labels(first: Cells, second: Cells) -> None:
    """Check that two builds have the same masks, where they have any."""
    if first.has_masks:
        masks, again = (cells.crops(slice(None), masks=True)[:, -1] for cells in (first, second))
        differ = (masks != again).any(axis=(1, 2))
        expect(not differ.any(), "two builds with the same masks", f"others in {some(first.obs['cell'][differ])}")


def _changed(first: Cells, second: Cells) -> str:
    """Return what differs between two tables."""
    if list(first.obs.columns) != list(second.obs.columns) or len(first) != len(second):
        return "columns or numbers of cells"
    return "values of " + some(c for c in first.obs if not first.obs[c].equals(second.obs[c]))


def methods(trial: DatasetTrial) -> str:
    """Its methods are those that are called."""
    return known_methods(trial.dataset, Dataset, FORMER_METHODS)


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("it says why it cannot be had, or nothing", says_why),
    ("it can be built", builds),
    ("its table of cells is whole", table),
    ("its channels are declared", channels),
    ("raw values are finite and in [0, 1]", raw_values),
    ("masks have the centre cell as 1", masks),
    ("two builds are the same", same_again),
)


def check_dataset(name: str, *, full: bool = False) -> Iterator[Finding]:
    """Yield the findings of a dataset, built twice into a temporary folder; of many cells only with `full`."""
    subject = f"dataset {name}, {DATASETS.origin(name)}"
    with tempfile.TemporaryDirectory(prefix="pci-bench-") as folder:
        yield from checked_contracts(subject, CONTRACTS, DatasetTrial(name, Path(folder), full=full))
