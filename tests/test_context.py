"""The context of a cell: what a plain loop finds in its mask, and no pixel of the crop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import make_cells, with_pixels
from pci_bench_baselines.context import MEASURES, context

import pci_bench
from pci_bench.features.names import select
from pci_bench.reporting.tables.ranking import mark_of


def plain_loop(mask: np.ndarray) -> dict[str, float]:
    """The measures, pixel by pixel."""
    pixels = [(r, c) for r, c in np.ndindex(mask.shape)]
    own = [p for p in pixels if mask[p] in (1, 2)]
    others = {label: [p for p in pixels if mask[p] == label] for label in set(mask.ravel().tolist()) if label > 2}
    all_others = [p for points in others.values() for p in points]
    diagonal = math.hypot(*mask.shape)
    gaps = [min((math.dist(p, q) for q in all_others), default=diagonal) for p in own]

    def centre(points):
        return [sum(p[i] for p in points) / len(points) for i in (0, 1)]

    apart = [math.dist(centre(own), centre(points)) for points in others.values()] if own else []
    return {
        "area": len(own),
        "others": len(others),
        "others_share": len(all_others) / len(pixels),
        "background_share": sum(mask[p] == 0 for p in pixels) / len(pixels),
        "gap": min(gaps, default=diagonal),
        "distance": sum(apart) / len(apart) if apart else diagonal,
        "contact": sum(g <= 2 for g in gaps) / len(gaps) if all_others and gaps else 0,
    }


@pytest.mark.parametrize("labels", [(1, 3, 4, 5), (1, 2, 3), (1,), (3, 4), ()])
def test_measures_are_those_of_a_plain_loop(labels):
    rng = np.random.default_rng(len(labels))
    mask = np.zeros((14, 18), int)
    for label in labels:
        y, x = rng.integers(0, 11), rng.integers(0, 15)
        mask[y : y + 3, x : x + 3] = label
    assert dict(zip(MEASURES, context(mask), strict=True)) == pytest.approx(plain_loop(mask))


def test_it_reads_the_masks_and_not_the_crops():
    masks = np.zeros((4, 16, 16), np.uint16)
    masks[:, 6:10, 6:10], masks[2:, 0:3, 0:3] = 1, 3
    cells = with_pixels(make_cells(4), "with masks", masks=masks)
    dark = with_pixels(cells, "dark", np.zeros((4, 2, 16, 16), np.float32), masks)
    values = pci_bench.extract("context", cells).X
    np.testing.assert_array_equal(values, pci_bench.extract("context", dark).X)
    assert values[:, 1].tolist() == [0, 0, 1, 1]
    assert (values[:, 0] == 16).all()


def test_it_is_a_control_that_no_default_runs():
    assert mark_of("context") == "control"
    assert "context" not in {f.base for f in select(["controls"])}
