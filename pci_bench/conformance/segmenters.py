"""Contracts of segmenters: masks that depend on the crop alone, with the middle cell as 1."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np

from pci_bench.api.segmenter import BUD, FORMER_METHODS, MOTHER, Segment, Segmenter
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
from pci_bench.conformance.planted import LAYOUTS, planted, with_channels
from pci_bench.data.cells import Cells
from pci_bench.segmentation import SEGMENTERS


class SegmenterTrial:
    """One segmenter, and the synthetic cells that it is tried on."""

    def __init__(self, name: str, device: str = "cpu", *, cells: int = 8):
        self.name = name
        self.segmenter: Segmenter = SEGMENTERS.get(name)
        self.device = device
        self.layouts = {layout: planted(channels, cells) for layout, channels in LAYOUTS.items()}
        self.once = Once()
        self.environment = dict(os.environ)

    def opened(self, cells: Cells) -> Segment:
        """Return the function that segments crops with these channels."""
        if reason := self.segmenter.unavailable_reason():
            raise NotApplicableError(f"it cannot be run here: {reason}")
        return self.segmenter.open(cells.channels, self.device)

    def whole(self, layout: str) -> np.ndarray:
        """Return the masks of all cells of a layout."""
        cells = self.layouts[layout]
        return self.once(layout, lambda: self.opened(cells)(cells.crops(slice(None))))


def expect_masks(masks: np.ndarray, cells: Sequence[str]) -> int:
    """Return how many of some masks (n, rows, columns) show a cell, having checked what the labels say.

    Where there is any label there is a 1, a 2 only beside a 1, and no other cell is nearer to the middle than these two.
    """
    rows, columns = masks.shape[1:]
    distance = np.hypot(*np.mgrid[:rows, :columns] - np.array([rows - 1, columns - 1])[:, None, None] / 2)
    centre = (masks == MOTHER) | (masks == BUD)
    others = (masks > 0) & ~centre
    lost = [c for c, m in zip(cells, masks, strict=True) if m.any() and not (m == MOTHER).any()]
    expect(not lost, "label 1, the cell in the middle, wherever there is any label", f"none in {some(lost)}")
    nearest, nearest_other = (np.where(where, distance, np.inf).min(axis=(1, 2)) for where in (centre, others))
    far = [c for c, own, foreign in zip(cells, nearest, nearest_other, strict=True) if foreign < own]
    expect(not far, "the labels 1 and 2 nearest the middle of the crop", f"another cell nearer in {some(far)}")
    return int((masks == MOTHER).any(axis=(1, 2)).sum())


def expect_same_masks(expected: np.ndarray, actual: np.ndarray, cells: Sequence[str], how: str) -> None:
    """Check that masks are equal."""
    differ = (expected != actual).any(axis=(1, 2))
    if differ.any():
        which = [c for c, d in zip(cells, differ, strict=True) if d]
        raise BrokenContractError(f"expected the same masks {how}; found others for the cells {some(which)}.")


# ---- the contracts


def description(trial: SegmenterTrial) -> str:
    """Name, version and title are texts; unavailable_reason() returns None or a sentence."""
    meta = trial.segmenter.meta
    expect_described(meta, trial.name, "version", "title")
    reason = trial.segmenter.unavailable_reason()
    expect_reason(reason, "")
    return f"version {meta.version}"


def shape(trial: SegmenterTrial) -> str:
    """Masks are uint16 (b, rows, columns)."""
    for layout, cells in trial.layouts.items():
        masks = trial.whole(layout)
        expected = (len(cells), *cells.crop_shape)
        expect(masks.shape == expected, f"masks of the shape {expected} for {layout} crops", f"{masks.shape}")
        expect(masks.dtype == np.uint16, "uint16", f"{masks.dtype}")
    return f"{some(map(str, expected), 3)} uint16"


def labels(trial: SegmenterTrial) -> str:
    """0 is background, 1 the cell in the middle, 2 its bud, 3 and up are others."""
    counts = {}
    for layout, cells in trial.layouts.items():
        counts[layout] = expect_masks(trial.whole(layout), list(cells.obs["cell"]))
    return "; ".join(
        f"a cell in {count} of {len(trial.layouts[layout])} {layout} crops" for layout, count in counts.items()
    )


def constant(trial: SegmenterTrial) -> str:
    """A constant crop shows no cell, whatever its brightness."""
    for cells in trial.layouts.values():
        crops = np.stack([np.full((len(cells.channels), *cells.crop_shape), v, np.float32) for v in (0, 0.4, 1)])
        masks = trial.opened(cells)(crops)
        labelled = [f"{value:g}" for value, mask in zip((0, 0.4, 1), masks, strict=True) if np.any(mask)]
        expect(
            not labelled, "no label in a constant crop", f"some where the crop is {' and '.join(labelled)} everywhere"
        )
    return "no label in crops of 0, 0.4 and 1 everywhere"


def any_batch(trial: SegmenterTrial) -> str:
    """Alone, and backwards."""
    for layout, cells in trial.layouts.items():
        whole, crops, names = trial.whole(layout), cells.crops(slice(None)), list(cells.obs["cell"])
        segment = trial.opened(cells)
        expect_same_masks(whole, segment(crops[::-1].copy())[::-1], names, "when the crops come backwards")
        alone = np.concatenate([segment(crops[i : i + 1]) for i in range(len(crops))])
        expect_same_masks(whole, alone, names, "for each crop alone")
    return "the same for all crops at once, backwards and one by one"


def repeatable(trial: SegmenterTrial) -> str:
    """A second call gives the same masks and changes neither crops nor global state."""
    for layout, cells in trial.layouts.items():
        whole, crops = trial.whole(layout), cells.crops(slice(None))
        segment = trial.opened(cells)
        given = crops.copy()
        with left_alone("segmenting", trial.environment):
            masks = segment(crops)
        expect(np.array_equal(given, crops), "the crops to be left as they are", "that segmenting changes them")
        expect_same_masks(whole, masks, list(cells.obs["cell"]), "in a second call")
    return "the same masks; crops, random generators, threads and environment untouched"


def channel_order(trial: SegmenterTrial) -> str:
    """The protein behind the markers instead of in front of them."""
    for layout, cells in trial.layouts.items():
        order = [*range(1, len(cells.channels)), 0]
        turned = with_channels(cells, order)
        masks = trial.opened(turned)(turned.crops(slice(None)))
        names = " + ".join(c.name for c in turned.channels)
        expect_same_masks(trial.whole(layout), masks, list(cells.obs["cell"]), f"when the channels are {names}")
    return "the same masks with the protein first and last"


def methods(trial: SegmenterTrial) -> str:
    """Its methods are those that are called."""
    return known_methods(trial.segmenter, Segmenter, FORMER_METHODS)


CONTRACTS = (
    ("its description is complete", description),
    ("its methods are those that are called", methods),
    ("masks are uint16 of the crops' size", shape),
    ("the middle cell is 1", labels),
    ("a constant crop shows no cell", constant),
    ("masks depend on no other crop of a batch", any_batch),
    ("the same when called again, and nothing else changes", repeatable),
    ("the dataset's order of channels is irrelevant", channel_order),
)


def check_segmenter(name: str, *, device: str = "cpu") -> Iterator[Finding]:
    """Yield the findings of a segmenter."""
    subject = f"segmenter {name}, {SEGMENTERS.origin(name)}"
    yield from checked_contracts(subject, CONTRACTS, SegmenterTrial(name, device))
