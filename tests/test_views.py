"""Views of cells: nothing but the generator's state, as strong as declared; and the contrastive loss against a loop."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from pci_bench.training.objectives.views import SHARPEST, Augmentation, side_of, views

STILL = Augmentation(side=1, zoom=1, turns=False, blur=0, gamma=1, contrast=0, brightness=0, noise=0)


def crops_of(n=40, side=32, seed=0):
    noise = np.random.default_rng(seed).random((n, 2, side, side))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 3, 3))
    low = smooth.min((2, 3), keepdims=True)
    return ((smooth - low) / (smooth.max((2, 3), keepdims=True) - low)).astype(np.float32)


def seen(augmentation, crops=None, seed=0):
    return views(crops_of() if crops is None else crops, np.random.default_rng(seed), augmentation)


def test_views_are_the_same_for_the_same_seed_and_others_for_another():
    crops = crops_of()
    before = crops.copy()
    np.testing.assert_array_equal(seen(Augmentation(), crops, 3), seen(Augmentation(), crops, 3))
    assert (seen(Augmentation(), crops, 3) != seen(Augmentation(), crops, 4)).any()
    np.testing.assert_array_equal(crops, before)


def test_without_augmentation_a_view_is_the_crop_under_the_narrowest_gaussian():
    crops = crops_of()
    expected = ndimage.gaussian_filter(crops, (0, 0, SHARPEST, SHARPEST), mode="constant")
    inside = np.s_[:, :, 3:-3, 3:-3]
    np.testing.assert_allclose(seen(STILL, crops)[inside], expected[inside], atol=1e-5)


def test_a_turned_view_is_one_of_eight_and_all_eight_come():
    crops = crops_of(160)
    plain, turned = seen(STILL, crops), seen(replace(STILL, turns=True), crops)
    found = set()
    for crop, view in zip(plain, turned, strict=True):
        eight = [np.rot90(c, k, (1, 2)) for c in (crop, crop[:, ::-1]) for k in range(4)]
        distances = [np.abs(each - view).max() for each in eight]
        assert min(distances) < 1e-5
        found.add(int(np.argmin(distances)))
    assert found == set(range(8))


def test_the_shift_uses_all_the_room_and_never_leaves_the_crop():
    side = 32
    ramp = np.broadcast_to(np.arange(side, dtype=np.float32)[:, None] / side, (400, 2, side, side))
    first_row = seen(replace(STILL, side=0.75), ramp)[:, 0, 0, 12] * side
    room = side - side_of(side, Augmentation())
    assert 0 <= first_row.min() < 0.1 * room
    assert 0.9 * room < first_row.max() <= room


@pytest.mark.parametrize("zoom", [1.1, 1.25])
def test_the_zoom_is_as_strong_as_declared_and_log_uniform(zoom):
    side = 64
    ramp = np.broadcast_to(np.arange(side, dtype=np.float32)[:, None] / side, (2000, 1, side, side))
    rows = seen(replace(STILL, side=0.75, zoom=zoom), ramp)[:, 0, :, 24] * side
    step = (rows[:, 44] - rows[:, 4]) / 40  # a pixel's value is off by half a pixel at most
    assert 1 / zoom - 0.02 < step.min() < 1 / zoom + 0.02
    assert zoom - 0.02 < step.max() < zoom + 0.02
    assert abs(np.log(step).mean()) < 4 * math.log(zoom) / math.sqrt(3 * len(step))


def test_blur_is_the_gaussian_of_scipy():
    point = np.zeros((300, 1, 32, 32), np.float32)
    point[:, :, 16, 16] = 1
    blurred = seen(replace(STILL, blur=1.5), point)
    sd = np.sqrt((blurred[:, 0] * (np.arange(32) - 16.0)[:, None] ** 2).sum((1, 2)) / blurred[:, 0].sum((1, 2)))
    assert sd.max() < 1.5 + 1e-3
    assert sd.max() > 1.4
    widest = int(np.argmax(sd))
    expected = ndimage.gaussian_filter(point[0, 0], sd[widest], truncate=8)
    np.testing.assert_allclose(blurred[widest, 0], expected, atol=1e-3)


def test_exposure_changes_each_channel_on_its_own_within_the_declared_bounds():
    flat = np.full((4000, 2, 16, 16), 0.5, np.float32)
    exponent = np.log(seen(replace(STILL, gamma=2), flat)[:, :, 8, 8]) / np.log(0.5)
    assert 0.5 - 1e-3 < exponent.min() < 0.52
    assert 1.95 < exponent.max() < 2 + 1e-3
    assert abs(np.corrcoef(exponent.T)[0, 1]) < 0.06
    shift = seen(replace(STILL, brightness=0.2), flat)[:, :, 8, 8] - 0.5
    assert 0.19 < np.abs(shift).max() <= 0.2 + 1e-6
    crops = crops_of(2000, 16)
    factor = seen(replace(STILL, contrast=0.4), crops).std((2, 3)) / seen(STILL, crops).std((2, 3))
    assert 0.6 - 1e-3 < factor.min() < 0.62
    assert 1.38 < factor.max() < 1.4 + 1e-3
    noise = seen(replace(STILL, noise=0.05), flat).std((2, 3))
    assert 0.045 < np.median(np.sort(noise.ravel())[-80:]) < 0.055


def test_the_contrastive_loss_equals_a_loop_also_where_views_are_not_compared():
    import torch

    from pci_bench.training.objectives.contrastive import nt_xent

    rng = np.random.default_rng(0)
    n, temperature = 7, 0.3
    first, second = rng.normal(size=(2, n, 5))
    image = np.array([0, 0, 1, 2, 2, 2, 3])
    for apart in (np.zeros((n, n), bool), image[:, None] == image):
        z = np.concatenate([first, second])
        z /= np.linalg.norm(z, axis=1, keepdims=True)
        losses = []
        for i in range(2 * n):
            partner = (i + n) % (2 * n)
            compared = [j for j in range(2 * n) if j == partner or (j % n != i % n and not apart[i % n, j % n])]
            weights = [math.exp(z[i] @ z[j] / temperature) for j in compared]
            losses.append(-math.log(math.exp(z[i] @ z[partner] / temperature) / sum(weights)))
        of_arrays = nt_xent(torch.tensor(first), torch.tensor(second), temperature, torch.tensor(apart))
        assert float(of_arrays) == pytest.approx(np.mean(losses), rel=1e-5)
