"""Maps of decisions: margins and gradients against loops and finite differences, and a planted spot where the map must peak."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from factories import make_cells
from pci_bench_baselines.networks.deeploc import DeepLoc

import pci_bench
from pci_bench import weights as weight_files
from pci_bench.data.examples import from_table
from pci_bench.data.occlusion import Occlusion, occluded, places
from pci_bench.features.gradients import margin_gradient
from pci_bench.features.names import parse
from pci_bench.inpainting.features import encoder_function
from pci_bench.inpainting.network import SourceEncoder
from pci_bench.reporting.figures.why_maps import why_maps_figures
from pci_bench.runs.results import Result
from pci_bench.statistics.margins import central_share, margins, spread_over_pixels

SPOT = (22, 7)  # row and column


def spotted(n: int = 60, side: int = 32) -> pci_bench.Cells:
    """Return noisy cells; those of the class "spot" have a bright spot at one place, and brightness is drawn anew for each cell."""
    rng = np.random.default_rng(2)
    image = np.arange(n) // 5
    has_spot = image % 2 == 1
    rows, columns = np.mgrid[:side, :side]
    spot = np.exp(-((rows - SPOT[0]) ** 2 + (columns - SPOT[1]) ** 2) / 8)
    crops = rng.normal(0.3, 0.01, (n, 2, side, side)) + rng.normal(0, 0.02, (n, 2, 1, 1))
    crops[:, 0] += 0.4 * has_spot[:, None, None] * spot
    labels = np.where(has_spot, "spot", "none")
    return make_cells(crops=crops.astype(np.float32), label=labels, image=[f"i{i}" for i in image], name="spotted")


def maps_of(cells: pci_bench.Cells, features: str, **params) -> Result:
    (found,) = pci_bench.evaluate("why-maps", pci_bench.extract(features, cells), cells=cells, **params)
    return found


def occlusion_maps(result: Result) -> dict[str, np.ndarray]:
    """Return each cell's map from the table of examples, in units of its largest value."""
    table = result.tables["examples"]
    planes = from_table(table[table["kind"] == "occlusion"], ["cell"])
    return {cell: (255 * plane - 128) / 127 for (cell,), plane in planes.items()}


def test_the_map_peaks_at_the_spot_that_makes_the_class():
    result = maps_of(spotted(), "raw-pixels")
    table = result.tables["examples"].drop_duplicates("cell").set_index("cell")
    found = occlusion_maps(result)
    assert len(found) == result.metrics["cells"] >= 3
    with_spot = [cell for cell in found if table.loc[cell, "label"] == "spot"]
    assert with_spot
    for cell in with_spot:
        assert table.loc[cell, "predicted"] == "spot"
        peak = np.unravel_index(found[cell].argmax(), found[cell].shape)
        assert np.hypot(*np.subtract(peak, SPOT)) <= 4
        assert found[cell].max() == pytest.approx(1)
        far = found[cell][:12, 16:]
        assert np.abs(far).max() < 0.2
    assert result.metrics["centre"] < 0.5


def test_what_features_do_not_see_has_no_part_in_the_map(own_registries):
    @pci_bench.register_features("top", version="1", rescale="raw", names=lambda channels: [c.name for c in channels])
    def top(crops):
        """Return the mean of the upper quarter, where the spot is not."""
        return crops[:, :, :8].mean(axis=(2, 3))

    for plane in occlusion_maps(maps_of(spotted(), "top")).values():
        assert np.abs(plane[:8]).max() == pytest.approx(1)
        assert (plane[16:] == 0).all()


def test_margins_are_those_of_a_loop_over_cells_of_other_groups():
    rng = np.random.default_rng(1)
    reference, labels = rng.normal(size=(30, 4)), rng.integers(0, 3, 30)
    groups = np.stack([np.arange(30), rng.integers(0, 8, 30)])
    queries, cells = rng.normal(size=(12, 4)), rng.integers(0, 30, 12)
    found = margins(reference, labels, groups, queries, cells)
    for i, cell in enumerate(cells):
        distances = {True: [np.inf], False: [np.inf]}
        for j in range(30):
            if groups[0, j] != groups[0, cell] and groups[1, j] != groups[1, cell]:
                distances[bool(labels[j] == labels[cell])].append(np.linalg.norm(reference[j] - queries[i]))
        assert found.own[i] == pytest.approx(min(distances[True]))
        assert found.other[i] == pytest.approx(min(distances[False]))
        assert np.linalg.norm(reference[found.nearest_own[i]] - queries[i]) == pytest.approx(found.own[i])


def test_a_margin_is_positive_where_the_nearest_neighbour_is_of_the_class():
    cells = spotted()
    features = pci_bench.extract("intensity", cells)
    values = np.asarray(features.X, float)
    labels = np.unique(features.obs["label"].astype(str), return_inverse=True)[1]
    (loo,) = pci_bench.evaluate("loo-knn", features, k=1, scale="none")
    right = (loo.predictions["label"].astype(str) == loo.predictions["predicted"].astype(str)).to_numpy()
    found = margins(values, labels, np.arange(60)[None], values, np.arange(60))
    np.testing.assert_array_equal(found.margin > 0, right)


def test_a_pixel_has_the_mean_of_the_patches_that_cover_it():
    corners, values = places((10, 7), 4, 3)[:5], np.random.default_rng(0).normal(size=5)
    expected = np.zeros((10, 7))
    for y, x in np.ndindex(10, 7):
        covering = [v for v, (r, c) in zip(values, corners, strict=True) if r <= y < r + 4 and c <= x < c + 4]
        expected[y, x] = np.mean(covering) if covering else 0
    np.testing.assert_allclose(spread_over_pixels(values, corners, 4, (10, 7)), expected)


@pytest.mark.parametrize(("shape", "patch", "stride"), [((64, 64), 8, 4), ((10, 7), 4, 3), ((5, 5), 8, 4)])
def test_patches_cover_every_pixel_and_stay_within_the_crop(shape, patch, stride):
    corners = places(shape, patch, stride)
    covered = spread_over_pixels(np.ones(len(corners)), corners, patch, shape)
    np.testing.assert_array_equal(covered, 1)
    assert (corners + min(patch, *shape) <= np.array(shape)).all()
    assert len(np.unique(corners, axis=0)) == len(corners)


@pytest.mark.parametrize("fill", ["border", "mean"])
def test_a_covered_crop_differs_in_its_patch_alone_which_has_the_mean(fill):
    cells = make_cells(3, (12, 12))
    covered, corners = occluded(cells, Occlusion(4, 4, fill)), places((12, 12), 4, 4)
    assert covered.obs["cell"].is_unique
    before, after = cells.crops(slice(None), rescale="raw"), covered.crops(slice(None), rescale="raw")
    border = np.ones((12, 12), bool)
    border[1:-1, 1:-1] = False
    for position, crop in enumerate(after):
        cell, (row, column) = position // len(corners), corners[position % len(corners)]
        patch = np.zeros((12, 12), bool)
        patch[row : row + 4, column : column + 4] = True
        np.testing.assert_array_equal(crop[:, ~patch], before[cell][:, ~patch])
        mean = before[cell][:, border].mean(axis=1) if fill == "border" else before[cell].mean(axis=(1, 2))
        np.testing.assert_allclose(crop[:, patch], np.repeat(mean[:, None], 16, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(covered[5:].crops([2], rescale="raw")[0], after[7])


def test_a_patch_of_a_crop_of_integers_is_an_integer():
    crops = np.random.default_rng(3).integers(0, 256, (2, 2, 12, 12), dtype=np.uint8)
    after = 255 * occluded(make_cells(crops=crops), Occlusion(4, 4)).crops(slice(None), rescale="raw")
    np.testing.assert_allclose(after, np.rint(after), atol=1e-4)


def central_differences(function, crop, own, other, mean, scale, pixels, step=1e-6):
    """Return the derivatives of the margin by some pixels."""

    def margin(changed):
        features = (function(torch.from_numpy(changed[None]))[0].numpy() - mean) / scale
        return np.linalg.norm(features - other) - np.linalg.norm(features - own)

    slopes = []
    for pixel in pixels:
        up, down = crop.copy(), crop.copy()
        up[pixel] += step
        down[pixel] -= step
        slopes.append((margin(up) - margin(down)) / (2 * step))
    return np.array(slopes)


def networks():
    """Return two small networks in float64, as functions of crops."""
    torch.manual_seed(3)
    encoder = SourceEncoder(2, width=0.06).double()
    deeploc = DeepLoc(2, ["a", "b"], width=0.06, smallest_range=0.0).double().eval().requires_grad_(False)
    return {
        "encoder": encoder_function(encoder, "conv4"),
        "deeploc": lambda crops: deeploc.outputs_of(deeploc.prepared(crops), ["fc2"])["fc2"],
    }


@pytest.mark.parametrize("name", ["encoder", "deeploc"])
def test_gradients_of_a_margin_are_its_finite_differences(name):
    function, rng = networks()[name], np.random.default_rng(5)
    crop = rng.uniform(0, 1, (2, 64, 64))
    d = function(torch.from_numpy(crop[None])).shape[1]
    own, other, mean, scale = rng.normal(size=d), rng.normal(size=d), rng.normal(size=d), rng.uniform(0.5, 2, d)
    gradient = margin_gradient(function, crop, own, other, mean, scale)
    between = np.argwhere((crop > 0.1) & (crop < 0.9))  # pixels that move no percentile
    pixels = [tuple(p) for p in between[np.argsort(-np.abs(gradient[tuple(between.T)]))[:40:2]]]
    expected = central_differences(function, crop, own, other, mean, scale, pixels)
    assert np.abs(expected).min() > 1e-7
    np.testing.assert_allclose([gradient[p] for p in pixels], expected, rtol=1e-4, atol=1e-9)


def test_a_feature_that_never_varies_takes_no_part_in_a_gradient():
    def function(crops):
        return torch.stack([crops.sum(dim=(1, 2, 3)), crops.amax(dim=(1, 2, 3))], dim=1)

    crop, zeros = np.random.default_rng(0).uniform(size=(1, 4, 4)), np.zeros(2)
    gradient = margin_gradient(function, crop, np.array([100.0, 5]), np.array([0.0, 3]), zeros, np.array([2.0, 0]))
    np.testing.assert_allclose(gradient, np.ones((1, 4, 4)))  # away from 0 and towards 100, by half each


@pytest.mark.parametrize("name", ["pci-conv4@yeast-sim", "autoencoder-conv3@yeast-sim", "deeploc-fc2@yeast-sim"])
def test_the_function_that_is_differentiated_gives_the_features(name):
    cells = make_cells(3, (64, 64))
    features = parse(name)
    extractor = features.extractor()
    weights = weight_files.find(extractor.meta.weights, features.weights)
    function = extractor.differentiable(features.output, cells.channels, weights)
    given = torch.from_numpy(cells.crops(slice(None), rescale=extractor.meta.rescale))
    expected = np.asarray(pci_bench.extract(name, cells).X)
    np.testing.assert_allclose(function(given).numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_all_feature_sets_show_the_same_cells_and_only_networks_have_gradients():
    cells = make_cells(36, (64, 64), label=np.array(["a", "b", "c"])[np.arange(36) // 4 % 3], image=np.arange(36) // 4)
    results = [maps_of(cells, name, patch=32, stride=32, classes=2) for name in ("pci-conv4@yeast-sim", "intensity")]
    shown = [list(dict.fromkeys(r.tables["examples"]["cell"])) for r in results]
    assert shown[0] == shown[1]
    assert 2 <= len(shown[0]) <= 4
    assert len(set(results[0].tables["examples"]["label"])) == 2
    assert [set(r.metrics) for r in results] == [{"centre", "gradient_centre", "cells"}, {"centre", "cells"}]
    processed = maps_of(cells, "pci-conv4@yeast-sim", patch=32, stride=32, classes=2, postprocess="pca4")
    assert set(processed.metrics) == {"centre", "cells"}  # the network does not give these features
    ((stem, figure),) = why_maps_figures(results)
    assert stem == "why-planted"
    panels = [axes.get_title() for axes in figure.axes[:6]]
    assert panels[:5] == ["GFP", "RFP", "pci-conv4\nocclusion", "pci-conv4\ngradient", "intensity\nocclusion"]


def test_the_middle_half_of_an_even_map_has_a_quarter():
    middle = np.zeros((16, 16))
    middle[6:9, 6:9] = -2
    assert [central_share(m) for m in (np.ones((16, 16)), middle, np.ones((16, 16)) - 1)] == [0.25, 1, 0.25]
