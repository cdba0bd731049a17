"""The compiled texture has mahotas' numbers and the textbook's, and the feature set built on it is what it says."""

import math
import os
import subprocess
import sys
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mahotas.features import haralick as mahotas_haralick
from pci_bench_baselines.classic_haralick import DISTANCES, TEXTURE, correlation, grey_levels
from pci_bench_baselines.compiled.haralick import haralick

from pci_bench import UserError, extract
from pci_bench.data.cells import Channel
from pci_bench.features.extraction import compute_features
from pci_bench.features.names import parse

RNG = np.random.default_rng(0)


def mahotas(images: np.ndarray, distances=DISTANCES) -> np.ndarray:
    """What mahotas gives, one image and distance at a time."""
    return np.array([[mahotas_haralick(image, distance=d, return_mean=True) for d in distances] for image in images])


def bits(probabilities) -> float:
    return -math.fsum(float(p) * math.log2(p) for p in probabilities)


def textbook(image: np.ndarray, d: int) -> np.ndarray:
    """Haralick's 13 features from their definitions, in exact fractions up to the logarithms; mean over directions."""
    rows, columns = image.shape
    levels = int(image.max()) + 1
    measured = []
    for down, right in ((0, d), (d, d), (d, 0), (d, -d)):
        counts: Counter = Counter()
        for r in range(rows):
            for c in range(columns):
                if 0 <= r + down < rows and 0 <= c + right < columns:
                    a, b = int(image[r, c]), int(image[r + down, c + right])
                    counts[a, b] += 1
                    counts[b, a] += 1
        p = {pair: Fraction(n, counts.total()) for pair, n in counts.items()}
        single, total, apart = Counter(), Counter(), Counter()
        for (a, b), share in p.items():
            single[a] += share
            total[a + b] += share
            apart[abs(a - b)] += share
        mean = sum(a * share for a, share in single.items())
        variance = sum((a - mean) ** 2 * share for a, share in single.items())
        covariance = sum((a - mean) * (b - mean) * share for (a, b), share in p.items())
        sum_average = sum(k * share for k, share in total.items())
        hxy, hx = bits(p.values()), bits(single.values())
        hxy1 = -math.fsum(float(share) * math.log2(single[a] * single[b]) for (a, b), share in p.items())
        hxy2 = bits(single[a] * single[b] for a in single for b in single)
        measured.append([
            sum(share**2 for share in p.values()),
            sum((a - b) ** 2 * share for (a, b), share in p.items()),
            covariance / variance if variance else 1,
            variance,
            sum(share / (1 + (a - b) ** 2) for (a, b), share in p.items()),
            sum_average,
            sum((k - sum_average) ** 2 * share for k, share in total.items()),
            bits(total.values()),
            hxy,
            sum((apart[k] - Fraction(1, levels)) ** 2 for k in range(levels)) / levels,
            bits(apart.values()),
            (hxy - hxy1) / hx if hx else 0,
            math.sqrt(max(0, 1 - math.exp(-2 * (hxy2 - hxy)))),
        ])  # fmt: skip
    return np.array(measured, dtype=float).mean(axis=0)


def scattered(share: float, levels, n: int = 8, shape: tuple[int, int] = (40, 33)) -> np.ndarray:
    """Images that are 0 but for some pixels of given levels."""
    return np.where(RNG.random((n, *shape)) < share, RNG.choice(levels, (n, *shape)), 0).astype(np.uint8)


PLANTED = {
    "random": RNG.integers(0, 256, (6, 64, 64), dtype=np.uint8),
    "few levels": RNG.integers(0, 5, (6, 30, 64), dtype=np.uint8),
    "barely larger than the distance": RNG.integers(0, 256, (6, 17, 29), dtype=np.uint8),
    "constant": np.stack([np.full((24, 24), level, np.uint8) for level in (0, 1, 7, 255)]),
    "two values, 0 and 255": scattered(0.3, [255]),
    "two values, 0 and 1": scattered(0.3, [1]),
    "sparse": scattered(0.01, np.arange(1, 256)),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_texture_is_that_of_mahotas_to_1e_9(kind):
    np.testing.assert_allclose(haralick(PLANTED[kind], DISTANCES), mahotas(PLANTED[kind]), rtol=1e-9, atol=0)


def test_texture_of_real_crops_is_that_of_mahotas_to_1e_9(test_data):
    files = sorted((test_data / "toy-yeast").rglob("*_gfp.tif"))[::200]
    images = grey_levels(np.stack([tifffile.imread(file) for file in files]).astype(float))
    assert len(images) >= 8
    assert images.shape[1:] == (64, 64)
    np.testing.assert_allclose(haralick(images, DISTANCES), mahotas(images), rtol=1e-9, atol=0)


# Where two levels are independent their mutual information is 0: the 13th feature is then the root of a rounding error of
# 1e-15, in mahotas as here, and the 12th and mahotas' correlation are such an error.
ROUNDING = np.array([1e-12] * 12 + [1e-7])
sizes = st.tuples(st.integers(3, 9), st.integers(3, 9))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays(np.uint8, sizes, elements=st.integers(0, 9)), st.integers(1, 2))
def test_texture_of_any_small_image_is_that_of_mahotas(image, distance):
    ours = haralick(image[None], [distance])
    error = np.abs(ours - mahotas(image[None], [distance]))
    assert (error <= 1e-9 * np.abs(ours) + ROUNDING).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(arrays(np.uint8, sizes), st.integers(1, 2))
def test_texture_of_any_small_image_follows_from_the_definitions(image, distance):
    ours = haralick(image[None], [distance])[0, 0]
    assert (np.abs(ours - textbook(image, distance)) <= 1e-12 * np.abs(ours) + ROUNDING / 10).all()


def test_one_dark_pixel_among_bright_ones_keeps_its_correlation_where_differences_of_squares_lose_it():
    image = np.full((20, 20), 255, np.uint8)
    image[7, 9] = 254
    np.testing.assert_allclose(haralick(image[None], [1])[0, 0, 2], textbook(image, 1)[2], rtol=1e-12)
    assert abs(mahotas(image[None], [1])[0, 0, 2] / textbook(image, 1)[2] - 1) > 1e-9


def test_an_image_has_the_same_texture_to_the_last_bit_in_any_company():
    images = np.concatenate([PLANTED["random"], np.zeros((1, 64, 64), np.uint8), PLANTED["random"][:2] // 9])
    together = haralick(images, DISTANCES)
    np.testing.assert_array_equal(haralick(images[::-1], DISTANCES)[::-1], together)
    np.testing.assert_array_equal(np.concatenate([haralick(image[None], DISTANCES) for image in images]), together)


TWO_THREADS = """
import numba, numpy as np
from pci_bench_baselines.compiled.haralick import haralick
images = np.random.default_rng(0).integers(0, 256, (6, 40, 40), dtype=np.uint8)
found = []
for threads in (1, 2):
    numba.set_num_threads(threads)
    found.append(haralick(images, [1, 8]).tobytes())
print(found[0] == found[1])
"""


def test_texture_is_the_same_to_the_last_bit_with_one_thread_and_with_two():
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS],
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "True", done.stderr


def test_texture_of_no_image_has_no_row():
    assert haralick(np.zeros((0, 20, 20), np.uint8), DISTANCES).shape == (0, 5, 13)


@pytest.mark.parametrize(("images", "distances", "found"), [
    (np.zeros((1, 20, 20)), [1], "float64"),
    (np.zeros((20, 20), np.uint8), [1], "shape"),
    (np.zeros((1, 16, 20), np.uint8), [1, 16], "16×20"),
    (np.zeros((1, 16, 20), np.uint8), [0, 1], "0, 1 px"),
    (np.zeros((1, 4096, 2048), np.uint8), [1], "4096×2048"),
])  # fmt: skip
def test_images_that_cannot_be_measured_are_refused_by_name(images, distances, found):
    with pytest.raises(UserError, match=found):
        haralick(images, distances)


# --- the feature set -------------------------------------------------------------------------------------------------

HUMAN = (Channel("tubulin", "marker"), Channel("antibody", "protein"), Channel("nucleus", "marker"))


def test_grey_levels_span_0_to_255_and_a_constant_crop_is_black():
    images = np.stack([RNG.random((9, 9)) * 0.01 + 0.3, np.full((9, 9), 0.3)])
    levels = grey_levels(images)
    assert levels.dtype == np.uint8
    assert (levels[0].min(), levels[0].max()) == (0, 255)
    assert not levels[1].any()
    np.testing.assert_array_equal(grey_levels(images * 7 - 1), levels)
    np.testing.assert_array_equal(grey_levels(np.array([[[0, 0.5 / 255, 1.5 / 255, 1]]]))[0, 0], [0, 0, 2, 255])


def test_correlation_is_numpys_and_0_where_a_channel_is_constant():
    one, other = RNG.random((2, 5, 20, 18))
    other[:3] += one[:3]
    expected = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(correlation(one, other), expected, rtol=1e-12)
    one[0], other[1] = 0.1, 0.7
    assert (correlation(one, other)[:2] == 0).all()


def test_every_column_is_what_its_name_says(make_cells):
    crops = RNG.random((5, 3, 24, 20), dtype=np.float32)
    crops[:, 1] += crops[:, 2]
    crops[4, 0] = 0.1
    found = extract("classic-haralick", make_cells(crops=crops, channels=HUMAN)).to_df()
    assert list(found.columns[:5]) == [
        f"antibody_{c}" for c in ("sum", "mean", "sd", "correlation_tubulin", "correlation_nucleus")
    ]
    assert found.shape == (5, 5 + 5 * 13)
    protein = crops[:, 1].astype(float)
    for name, statistic in {"sum": np.sum, "mean": np.mean, "sd": np.std}.items():
        np.testing.assert_allclose(found[f"antibody_{name}"], statistic(protein, axis=(1, 2)), rtol=1e-6)
    for i in range(4):
        for position, marker in ((0, "tubulin"), (2, "nucleus")):
            expected = np.corrcoef(protein[i].ravel(), crops[i, position].ravel())[0, 1]
            assert found[f"antibody_correlation_{marker}"].iloc[i] == pytest.approx(expected, rel=1e-5)
    assert found["antibody_correlation_tubulin"].iloc[4] == 0
    for d in DISTANCES:
        texture = mahotas(grey_levels(protein), [d])[:, 0]
        for place, feature in enumerate(TEXTURE):
            np.testing.assert_allclose(found[f"antibody_{feature}_{d}px"], texture[:, place], rtol=1e-6)


def test_several_proteins_are_measured_each_by_its_name_and_no_marker_is_needed(make_cells):
    crops = RNG.random((4, 2, 20, 20), dtype=np.float32)
    both = extract(
        "classic-haralick", make_cells(crops=crops, channels=(Channel("A", "protein"), Channel("B", "protein")))
    )
    for position, name in enumerate("AB"):
        alone = make_cells(crops=crops[:, [position]], channels=(Channel(name, "protein"),), seed=position + 1)
        columns = [c for c in both.var_names if c.startswith(f"{name}_")]
        expected = extract("classic-haralick", alone)
        assert list(expected.var_names) == columns
        np.testing.assert_array_equal(both[:, columns].X, expected.X)


def test_black_crops_have_finite_features_and_small_crops_are_not_run(make_cells):
    features = extract("classic-haralick", make_cells(crops=np.zeros((2, 2, 17, 17), np.float32)))
    assert np.isfinite(features.X).all()
    ((_, result),) = compute_features(
        [parse("classic-haralick")], make_cells(crops=np.zeros((2, 2, 16, 40), np.float32))
    ).items()
    assert "16 px apart" in result.reason
