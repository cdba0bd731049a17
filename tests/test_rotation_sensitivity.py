"""Turned crops: exact invariance is 0, and what moves is measured against the nearest cell of another image."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_cells, with_pixels

import pci_bench
from pci_bench.data.changes import changed
from pci_bench.data.symmetries import Symmetry, symmetries
from pci_bench.runs.evaluation import evaluate
from pci_bench.statistics.intervals import mean_spread
from pci_bench.statistics.quantiles import quantile_interval


@pytest.fixture(autouse=True)
def own_features(own_registries: None) -> None:
    """The largest value of each channel; and how much brighter a crop is above than below."""

    def largest(crops):
        return crops.max(axis=(2, 3))

    def slope(crops):
        half = crops.shape[2] // 2
        return crops[:, :, :half].mean(axis=(2, 3)) - crops[:, :, half:].mean(axis=(2, 3))

    for name, function in (("largest", largest), ("slope", slope)):
        pci_bench.register_features(
            name, version="1", rescale="raw", names=lambda channels: [c.name for c in channels]
        )(function)


def measured(features: str, cells):
    (result,) = evaluate("rotation-sensitivity", pci_bench.extract(features, cells), cells=cells)
    return result


def test_features_that_no_turn_changes_have_ratios_of_exactly_0():
    metrics = measured("largest", make_cells(30)).metrics
    assert metrics == {"farther": 0, "median": 0, "percentile_95": 0}


def test_a_planted_gradient_is_found_by_its_size_and_only_by_turns_that_turn_it():
    crops = np.full((6, 2, 16, 16), 0.5, np.float32)
    crops[:, 0, :8] += 0.0625 * np.arange(1, 7, dtype=np.float32)[:, None, None]  # brighter above, by equal steps
    cells = make_cells(crops=crops, image=[f"i{i}" for i in range(6)])
    medians = measured("slope", cells).details["median_by_symmetry"]
    assert medians["flipped"] == 0
    assert medians["rotated 90°"] == pytest.approx(3.5, rel=1e-4)  # of 1 to 6 steps, where the nearest cell is one away
    assert medians["rotated 180°"] == pytest.approx(7, rel=1e-4)


def test_ratios_are_those_of_a_loop_over_turned_arrays():
    from scipy.stats import zscore

    cells = make_cells(30)
    crops, images = cells.crops(slice(None), rescale="raw"), cells.obs["image"].to_numpy(str)

    def slope(crop):
        return np.array([plane[:8].mean() - plane[8:].mean() for plane in crop.astype(float)])

    plain = np.array([slope(c) for c in crops])
    scaled, spread = zscore(plain), plain.std(axis=0)
    ratios = []
    for i, crop in enumerate(crops):
        nearest = min(np.linalg.norm(scaled[i] - scaled[j]) for j in range(30) if images[j] != images[i])
        for mirrored in (crop, crop[:, :, ::-1]):
            for turns in range(4):
                copy = np.stack([np.rot90(plane, turns) for plane in mirrored])
                ratios.append(np.linalg.norm((slope(copy) - plain[i]) / spread) / nearest)
    ratios = np.delete(np.reshape(ratios, (30, 8)), 0, axis=1)
    result = measured("slope", cells)
    assert result.metrics["median"] == pytest.approx(np.median(ratios), rel=1e-4)
    assert result.metrics["percentile_95"] == pytest.approx(np.quantile(ratios, 0.95), rel=1e-4)
    assert result.metrics["farther"] == pytest.approx((ratios > 1).mean(), abs=1e-9)
    by_symmetry = result.details["median_by_symmetry"]
    assert by_symmetry["flipped"] == pytest.approx(0, abs=1e-4)  # left and right are the same to this feature
    assert by_symmetry["rotated 180°"] == max(by_symmetry.values())


def test_the_symmetries_of_a_square_are_a_group_and_others_have_three():
    crops = np.arange(2 * 5 * 5, dtype=np.float32).reshape(1, 2, 5, 5)
    cells = with_pixels(make_cells(1, (5, 5)), "numbers", crops, np.arange(25, dtype=np.uint16).reshape(1, 5, 5))
    copies = [changed(cells, s) for s in symmetries((5, 5))]
    pictures = {c.crops([0], rescale="raw").tobytes() for c in copies} | {crops.tobytes()}
    assert len(pictures) == 8
    twice = changed(changed(cells, Symmetry(1, flipped=True)), Symmetry(3))
    assert twice.crops([0], rescale="raw").tobytes() in pictures
    for copy in copies:
        masks = copy.crops([0], rescale="raw", masks=True)[0]
        np.testing.assert_array_equal(masks[0], masks[-1])
    assert len(symmetries((5, 4))) == 3


def test_intervals_of_the_median_cover_it_95_times_in_100_also_where_cells_of_an_image_are_alike():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        groups = np.repeat(np.arange(30), 5)
        values = rng.normal(size=30)[groups] + rng.normal(size=150)
        _, low, high = quantile_interval(values, groups, 0.5)
        covered += low <= 0 <= high
    assert 0.91 < covered / 300 < 0.99


def test_the_interval_of_a_quantile_of_single_cells_is_nearly_the_binomial_one_of_scipy():
    from scipy.stats import quantile_test

    values = np.random.default_rng(0).normal(size=400)
    exact = quantile_test(values, q=0, p=0.5).confidence_interval()
    found = quantile_interval(values, np.arange(400), 0.5)
    np.testing.assert_allclose(found[1:], [exact.low, exact.high], atol=0.05)
    assert mean_spread((values <= found[0]).astype(float), np.arange(400)).half_width() == pytest.approx(
        0.049, abs=0.001
    )


def test_one_image_has_no_cell_of_another():
    cells = make_cells(6, image="one")
    with pytest.raises(pci_bench.UserError, match="are of one image"):
        evaluate("rotation-sensitivity", pci_bench.extract("largest", cells), cells=cells)
