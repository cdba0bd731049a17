"""Distorted crops against libraries and plain loops: the definitions, what strength 0 leaves, and whose draw decides."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_cells, with_pixels
from scipy.interpolate import RectBivariateSpline
from skimage.transform import downscale_local_mean, resize

import pci_bench
from pci_bench.data.distortions import (
    DISTORTIONS,
    Blur,
    Contrast,
    Distortion,
    Illumination,
    Noise,
    Resolution,
    Rotation,
    Shift,
)

ALL = tuple(DISTORTIONS.values())


def smooth_cells(n: int = 6, side: int = 32) -> pci_bench.Cells:
    """Return cells with a few smooth spots each, dark at the edges."""
    rng, (rows, columns) = np.random.default_rng(5), np.mgrid[:side, :side]
    crops = np.zeros((n, 2, side, side), np.float32)
    for crop in crops.reshape(-1, side, side):
        for y, x in rng.uniform(0.35 * side, 0.65 * side, (3, 2)):
            crop += 0.3 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 18)
    return make_cells(crops=crops)


def raw(cells: pci_bench.Cells, change: Distortion) -> np.ndarray:
    return pci_bench.changed(cells, change).crops(slice(None), rescale="raw")


@pytest.mark.parametrize("kind", ALL)
def test_strength_0_returns_the_same_bits_and_features_and_every_other_strength_does_not(kind):
    cells = make_cells(crops=np.random.default_rng(1).integers(0, 256, (9, 2, 16, 16), dtype=np.uint8))
    assert kind.strengths[0] == 0
    assert list(kind.strengths) == sorted(set(kind.strengths))
    np.testing.assert_array_equal(raw(cells, kind(0)), cells.crops(slice(None), rescale="raw"))
    unchanged, again = (pci_bench.extract("intensity", c) for c in (cells, pci_bench.changed(cells, kind(0))))
    np.testing.assert_array_equal(again.X, unchanged.X)
    before = cells.crops(slice(None), rescale="raw")
    assert all(not np.array_equal(raw(cells, kind(s)), before) for s in kind.strengths[1:])


@pytest.mark.parametrize("kind", ALL)
def test_a_cell_is_distorted_alike_whichever_others_are_measured(kind):
    cells = make_cells(9)
    change, some = kind(kind.strengths[2]), [7, 2, 5]
    np.testing.assert_array_equal(raw(cells[some], change), raw(cells, change)[some])
    np.testing.assert_array_equal(pci_bench.changed(cells, change).crops(some, rescale="raw"), raw(cells, change)[some])


@pytest.mark.parametrize("kind", ALL)
def test_crops_of_integers_have_the_same_integers_afterwards_and_others_none(kind):
    integers = np.random.default_rng(1).integers(0, 200, (6, 2, 16, 16), dtype=np.uint8)
    floats = make_cells(crops=integers.astype(np.float32) / np.float32(255))
    change = kind(kind.strengths[2])
    rounded, exact = raw(make_cells(crops=integers), change), raw(floats, change)
    np.testing.assert_array_equal(rounded, np.rint(255 * rounded).astype(np.float32) / np.float32(255))
    np.testing.assert_allclose(rounded, np.clip(exact, 0, 1), atol=0.5001 / 255)
    assert kind is Shift or len(np.unique(exact)) > 256


@pytest.mark.parametrize("kind", ALL)
def test_values_stay_finite_and_within_what_the_crop_or_the_file_can_hold(kind):
    crops = np.random.default_rng(2).uniform(0, 1, (4, 2, 16, 16)).astype(np.float32)
    crops[0, 0], crops[1, 1] = 0.25, 0
    cells = make_cells(crops=crops)
    for strength in kind.strengths:
        distorted = raw(cells, kind(strength))
        assert np.isfinite(distorted).all()
        assert distorted.min() >= 0
        assert distorted.max() <= 1 + 1e-6
    if kind not in (Illumination, Noise):  # nothing else can make structure where there is none
        np.testing.assert_allclose(distorted[0, 0], 0.25, atol=1e-6)


def test_noise_has_the_declared_share_of_the_channels_spread_and_one_draw_for_all_strengths():
    crops = np.random.default_rng(3).normal(0.5, 0.02, (3, 2, 64, 64)).astype(np.float32)
    cells = make_cells(crops=crops)
    one, two = (raw(cells, Noise(s)).astype(float) - crops for s in (1, 2))
    np.testing.assert_allclose(one.std(axis=(2, 3)), crops.std(axis=(2, 3)), rtol=0.05)
    np.testing.assert_allclose(two, 2 * one, atol=1e-6)
    assert abs(np.corrcoef(one[0, 0].ravel(), one[1, 0].ravel())[0, 1]) < 0.05


def test_noise_never_falls_below_0_nor_a_darker_crop_below_itself():
    crops = np.random.default_rng(3).uniform(0, 0.1, (2, 2, 16, 16)).astype(np.float32)
    assert raw(make_cells(crops=crops), Noise(2)).min() == 0
    below = with_pixels(make_cells(crops=crops), "below", crops - np.float32(0.3))
    np.testing.assert_allclose(raw(below, Noise(2)).min(axis=(2, 3)), (crops - np.float32(0.3)).min(axis=(2, 3)))


@pytest.mark.parametrize("sigma", [0.5, 2])
def test_blur_is_a_loop_over_a_gaussian_window_of_the_mirrored_crop(sigma):
    cells = make_cells(2, (12, 9))
    reach = int(4 * sigma + 0.5)
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    expected = np.empty((2, 2, 12, 9))
    for place in np.ndindex(2, 2):
        padded = np.pad(cells.crops(slice(None), rescale="raw")[place], reach, mode="symmetric")
        for y, x in np.ndindex(12, 9):
            expected[place][y, x] = (padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1] * kernel).sum()
    np.testing.assert_allclose(raw(cells, Blur(sigma)), expected, atol=1e-6)


def test_light_falls_off_linearly_from_one_to_what_is_declared():
    cells = with_pixels(make_cells(40, (33, 33)), "bright", np.ones((40, 2, 33, 33), np.float32))
    light = raw(cells, Illumination(0.6)).astype(float)
    np.testing.assert_allclose(light.max(axis=(1, 2, 3)), 1, atol=0.02)
    np.testing.assert_allclose(light.min(axis=(1, 2, 3)), 0.4, atol=0.02)
    np.testing.assert_allclose(light.mean(axis=(1, 2, 3)), 0.7, atol=1e-6)
    np.testing.assert_allclose(np.diff(light, n=2, axis=2), 0, atol=1e-6)
    downwards = np.sign(light[:, 0, -1, 16] - light[:, 0, 0, 16])
    assert 10 < (downwards > 0).sum() < 30
    np.testing.assert_array_equal(light[:, 0], light[:, 1])


def test_gamma_keeps_the_darkest_and_brightest_pixel_and_their_order():
    cells = make_cells(3)
    before, after = cells.crops(slice(None), rescale="raw"), raw(cells, Contrast(1))
    low, high = (f(before, axis=(2, 3), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(after, low + (high - low) * ((before - low) / (high - low)) ** 2, atol=1e-6)
    np.testing.assert_array_equal(after.reshape(6, -1).argsort(axis=1), before.reshape(6, -1).argsort(axis=1))


def test_a_quarter_turn_is_exact_one_way_or_the_other():
    cells = smooth_cells(20)
    before, after = cells.crops(slice(None), rescale="raw"), raw(cells, Rotation(90))
    left, right = (np.abs(after - np.rot90(before, k, axes=(2, 3))).max(axis=(1, 2, 3)) for k in (1, -1))
    np.testing.assert_allclose(np.minimum(left, right), 0, atol=1e-6)
    assert 4 < (left < right).sum() < 16


@pytest.mark.parametrize("degrees", [15, 45])
def test_a_turn_is_an_interpolating_spline_read_at_turned_places(degrees):
    cells = smooth_cells(8)
    before, after = cells.crops(slice(None), rescale="raw").astype(float), raw(cells, Rotation(degrees))
    grid = np.arange(32) - 15.5
    rows, columns = np.meshgrid(grid, grid, indexing="ij")
    inside = np.hypot(rows, columns) < 15
    for crop, turned in zip(before[:, 0], after[:, 0], strict=True):
        spline = RectBivariateSpline(grid, grid, crop)
        angles = np.deg2rad([degrees, -degrees])
        readings = [
            spline.ev(rows * np.cos(a) + columns * np.sin(a), columns * np.cos(a) - rows * np.sin(a)) for a in angles
        ]
        clipped = [np.clip(reading, crop.min(), crop.max()) for reading in readings]
        assert min(np.abs(reading - turned)[inside].max() for reading in clipped) < 1e-3  # of 0.5 at most


def test_a_lower_resolution_is_block_means_linearly_enlarged():
    cells = make_cells(3, (16, 24))
    crops, coarse = cells.crops(slice(None), rescale="raw"), raw(cells, Resolution(1))
    for place in np.ndindex(3, 2):
        means = downscale_local_mean(crops[place], (2, 2))
        enlarged = resize(means, (16, 24), order=1, mode="edge", anti_aliasing=False)
        np.testing.assert_allclose(coarse[place], enlarged, atol=1e-5)


def test_a_lower_resolution_between_whole_factors_keeps_means_of_large_pixels():
    crops = np.zeros((1, 2, 3, 3), np.float32)
    crops[..., 1, 1] = 1
    coarse = raw(
        make_cells(crops=crops), Resolution(0.5)
    )  # two large pixels of 1.5 a side, each with half of the middle one
    np.testing.assert_allclose(coarse, 1 / 9, atol=1e-6)


def test_a_shift_moves_pixels_by_its_length_and_mirrors_what_comes_in():
    cells, distance = make_cells(12), 4
    before, after = cells.crops(slice(None), rescale="raw"), raw(cells, Shift(distance))
    for crop, moved in zip(before, after, strict=True):
        padded = np.pad(crop, ((0, 0), (4, 4), (4, 4)), mode="symmetric")
        by = [
            (y, x)
            for y in range(-4, 5)
            for x in range(-4, 5)
            if np.array_equal(moved, padded[:, 4 - y : 20 - y, 4 - x : 20 - x])
        ]
        assert len(by) == 1
        assert abs(np.hypot(*by[0]) - distance) < 0.75


@pytest.mark.parametrize("kind", ALL)
def test_masks_follow_turns_and_shifts_and_nothing_else(kind):
    masks = np.zeros((6, 16, 16), np.uint16)
    masks[:, 4:9, 5:11] = 1
    pixels = np.repeat(masks[:, None], 2, axis=1).astype(np.float32)
    cells = make_cells(crops=pixels, masks=masks)
    for strength in (0, kind.strengths[2]):
        found = pci_bench.changed(cells, kind(strength)).crops(slice(None), masks=True)
        if strength == 0 or kind not in (Rotation, Shift):
            np.testing.assert_array_equal(found[:, -1], masks)
        else:
            np.testing.assert_array_equal(found[:, -1] > 0, found[:, 0] > 0.5)
