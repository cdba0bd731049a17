"""Other backgrounds: the cell's pixels stay, others' are another image's, and accuracy falls only where it came from there."""

from __future__ import annotations

import numpy as np
import pytest
from factories import make_cells

import pci_bench
from pci_bench.api.evaluator import EvaluationContext
from pci_bench.data.backgrounds import (
    BACKGROUNDS,
    BackgroundSwap,
    cell_region,
    drawn_donors,
    free_region,
    regions_of,
)
from pci_bench.data.changes import changed
from pci_bench.runs.evaluation import evaluate
from pci_bench.segmentation.masks import with_masks
from pci_bench.statistics.changed_neighbors import neighbors_of_changed

SIZE, MIDDLE = 24, slice(8, 16)
CLASSES = ("dim", "bright", "striped")


def cells_with_label_in(where: str, n_images: int = 24, per: int = 6, seed: int = 0):
    """Return cells whose class is the brightness of their middle (`"cell"`) or of a neighbour in the corner (`"background"`).

    Where it is the cell's, every second crop has a neighbour, of one brightness.
    """
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(n_images), per)
    label = image % 3
    level = rng.uniform(0.05, 0.2, (len(image), 2, 1, 1))
    crops = (level + rng.normal(0, 0.01, (len(image), 2, SIZE, SIZE)).clip(-0.04, 0.04)).astype(np.float32)
    masks = np.zeros((len(image), SIZE, SIZE), np.uint16)
    masks[:, MIDDLE, MIDDLE], masks[:, :5, :5] = 1, 3
    signal, nothing = 0.3 + 0.3 * label[:, None, None], 0.5
    crops[:, 0, MIDDLE, MIDDLE] += signal if where == "cell" else nothing
    crops[:, 0, :5, :5] += nothing * (np.arange(len(image)) % 2)[:, None, None] if where == "cell" else signal
    columns = {"cell": [f"c{i:03d}" for i in range(len(image))], "image": [f"i{i:02d}" for i in image]}
    return make_cells(crops=crops, masks=masks, label=[CLASSES[i] for i in label], **columns, name=f"label in {where}")


@pytest.fixture(autouse=True)
def middle_and_corner(own_registries: None) -> None:
    """The mean of the cell, and that of its neighbour."""

    @pci_bench.register_features(
        "middle-and-corner", version="1", rescale="raw", names=lambda channels: ["middle", "corner"]
    )
    def middle_and_corner(crops):
        parts = crops[:, 0, MIDDLE, MIDDLE], crops[:, 0, :5, :5]
        return np.stack([part.mean(axis=(1, 2)) for part in parts], axis=1)


def swapped(cells, **params):
    (result,) = evaluate("background-swap", pci_bench.extract("middle-and-corner", cells), cells=cells, **params)
    return result


@pytest.fixture
def of_background(middle_and_corner: None):
    return swapped(cells_with_label_in("background"), exclude="image")


def test_features_of_the_background_lose_all_they_knew(of_background):
    metrics = of_background.metrics
    assert metrics["unchanged"] == 1
    assert metrics["same_class"] > 0.95
    assert metrics["other_class"] < 0.05
    assert metrics["background_effect"] > 0.9
    for condition in ("cell_free", "mean", "zero"):
        assert metrics[condition] < 0.5, condition


def test_features_of_the_cell_lose_nothing():
    metrics = swapped(cells_with_label_in("cell"), exclude="image").metrics
    assert {metrics[name] for name in ("unchanged", "same_class", "other_class", "cell_free", "mean", "zero")} == {1.0}
    assert metrics["background_effect"] == metrics["drop_other_class"] == 0


def test_drops_are_the_differences_of_balanced_accuracies_as_scikit_learn_has_them(of_background):
    from sklearn.metrics import balanced_accuracy_score

    table = of_background.predictions
    accuracy = {
        name: balanced_accuracy_score(table["label"].astype(str), table[name].astype(str))
        for name in ("unchanged", "cell_free")
    }
    assert of_background.metrics["cell_free"] == pytest.approx(accuracy["cell_free"])
    assert of_background.metrics["drop_cell_free"] == pytest.approx(accuracy["unchanged"] - accuracy["cell_free"])


def test_unchanged_cells_are_predicted_as_by_leave_one_out_where_donors_are_excluded_anyway():
    cells = cells_with_label_in("cell")
    noisy = make_cells(
        crops=cells.crops(slice(None))
        + np.random.default_rng(1).normal(0, 0.3, (len(cells), 2, SIZE, SIZE)).astype(np.float32),
        masks=cells.crops(slice(None), masks=True)[:, -1].astype(np.uint16),
        **{c: cells.obs[c].astype(str) for c in ("cell", "image", "label")},
        cell_line=[f"line{int(i[1:]) // 3 % 2}" for i in cells.obs["image"]],
        name="noisy",
    )
    adata = pci_bench.extract("middle-and-corner", noisy)
    (plain,) = evaluate("loo-knn", adata, k=5, exclude="cell_line")
    (swap,) = evaluate("background-swap", adata, cells=noisy, k=5, exclude="cell_line")
    assert 0.4 < plain.metrics["balanced_accuracy"] < 1
    assert swap.metrics["unchanged"] == pytest.approx(plain.metrics["balanced_accuracy"])


def test_inside_the_cell_no_pixel_changes_and_outside_the_fading_border_all_are_the_donors():
    cells = cells_with_label_in("background")
    donors = np.roll(np.arange(len(cells)), 6)
    before, masks = cells.crops(slice(None), rescale="raw"), cells.crops(slice(None), masks=True)[:, -1]
    far = np.ones((SIZE, SIZE), bool)
    far[5:19, 5:19] = False  # the cell, the two pixels of its border, and the donor's cell behind it
    for background in BACKGROUNDS:
        after = changed(cells, BackgroundSwap(background, donors)).crops(slice(None), rescale="raw")
        np.testing.assert_array_equal(after[:, :, MIDDLE, MIDDLE], before[:, :, MIDDLE, MIDDLE])
        if background == "same class":
            np.testing.assert_array_equal(after[:, :, far], before[donors][:, :, far])
        if background == "zero":
            lowest = np.broadcast_to(before.min(axis=(2, 3))[:, :, None], after[:, :, far].shape)
            np.testing.assert_allclose(after[:, :, far], lowest)
        if background == "mean":
            outside = before[:, :, masks[0] != 1].mean(axis=2)
            np.testing.assert_allclose(after[:, :, 0, 12], outside, rtol=1e-5)
        if background == "cell-free":
            assert after[:, 0, far].max() < 0.25  # no neighbour


def test_a_matched_background_has_the_mean_and_the_spread_of_what_it_replaces():
    cells = cells_with_label_in("background")
    crops = cells.crops(slice(None), rescale="raw")
    donors = np.roll(np.arange(len(cells)), 6)
    after = changed(cells, BackgroundSwap("other class", donors, matched=True)).crops([0], rescale="raw")[0]
    outside = cells.crops([0], masks=True)[0, -1] != 1
    assert abs(after[0, outside].mean() - crops[0, 0, outside].mean()) < 0.01
    assert abs(after[0, outside].std() - crops[0, 0, outside].std()) < 0.02


def test_masks_of_changed_crops_have_the_cell_and_the_donors_neighbours():
    cells = cells_with_label_in("cell")
    donors = np.roll(np.arange(len(cells)), 6)
    for background, neighbours in (("same class", 1), ("cell-free", 0), ("zero", 0)):
        masks = changed(cells, BackgroundSwap(background, donors)).crops([0], masks=True)[0, -1]
        assert (masks == 1).sum() == 64
        assert len(np.unique(masks[masks > 2])) == neighbours


def test_a_region_with_a_margin_is_what_is_near_and_nearer_than_any_other_cell():
    rng = np.random.default_rng(0)
    masks = np.zeros((3, 15, 15), int)
    for mask in masks:
        for label in (1, 3, 4):
            y, x = rng.integers(0, 13, 2)
            mask[y : y + 2, x : x + 2] = label
    region, free = cell_region(masks, margin=4), free_region(masks, margin=4)
    for mask, own, far in zip(masks, region, free, strict=True):
        points = {label: np.argwhere(mask == label) for label in np.unique(mask[mask > 0])}
        for pixel in np.ndindex(mask.shape):
            to = {label: np.sqrt(((p - pixel) ** 2).sum(axis=1)).min() for label, p in points.items()}
            nearest = min((d for label, d in to.items() if label != 1), default=np.inf)
            assert own[pixel] == (mask[pixel] == 1 or (to.get(1, np.inf) <= 4 and to.get(1, np.inf) < nearest))
            assert far[pixel] == (min(to.values()) > 4)


def test_donors_are_of_another_image_of_the_right_class_and_of_the_same_stratum_whatever_the_order():
    rng = np.random.default_rng(0)
    n = 60
    names = np.array([f"n{i:02d}" for i in range(n)])
    images = np.repeat(np.arange(12), 5)
    labels, strata = images % 3, images // 6
    regions = rng.random((n, 4, 4)) > 0.5
    same, other = drawn_donors(names, labels, images, strata, regions)
    for kind in (same, other):
        assert (images[kind] != images).all()
        assert (strata[kind] == strata).all()
    assert (labels[same] == labels).all()
    assert (labels[other] != labels).all()
    assert len(np.unique(other)) > n / 3
    order = rng.permutation(n)
    again, _ = drawn_donors(names[order], labels[order], images[order], strata[order], regions[order])
    np.testing.assert_array_equal(names[order][again], names[same][order])


def test_a_class_in_one_image_has_no_donor_and_is_left_out():
    names, labels, images = np.array(["a", "b", "c"]), np.array([0, 0, 1]), np.array([0, 1, 2])
    same, _ = drawn_donors(names, labels, images, np.zeros(3, int), np.ones((3, 2, 2), bool))
    assert same.tolist() == [1, 0, -1]
    cells = cells_with_label_in("cell")
    alone = cells.with_obs(cells.obs.assign(label=["x" if i == "i00" else "y" for i in cells.obs["image"]]))
    alone = alone.with_obs(alone.obs.assign(label=alone.obs["label"].astype("category")))
    result = swapped(alone, exclude="cell")
    assert result.details["left_out"] == 6


def test_neighbours_of_changed_rows_are_those_of_a_loop():
    rng = np.random.default_rng(0)
    reference, moved = rng.normal(size=(30, 3)), rng.normal(size=(8, 3))
    groups, of_changed = rng.integers(0, 4, (2, 30)), rng.integers(0, 4, (2, 8))
    found = neighbors_of_changed(reference, moved, 3, groups, of_changed)
    for row, indices in zip(range(8), found, strict=True):
        allowed = [j for j in range(30) if (groups[:, j] != of_changed[:, row]).all()]
        nearest = sorted(allowed, key=lambda j: ((reference[j] - moved[row]) ** 2).sum())[:3]
        assert indices.tolist() == nearest


def test_without_masks_a_segmenter_finds_the_cells_and_the_hash_says_so():
    crops = np.zeros((4, 2, 32, 32), np.float32)
    crops[:, :, 10:22, 10:22] = 1
    bare = make_cells(crops=crops)
    found = with_masks(bare[[2, 0]])
    assert found.has_masks
    assert not bare.has_masks
    assert found.sha256 != bare[[2, 0]].sha256
    assert 100 < (found.crops([1], masks=True)[0, -1] == 1).sum() < 200
    assert regions_of(found, 0)[0].shape == (2, 32, 32)


def test_where_crops_are_not_there_or_classes_lie_in_one_image_it_says_so():
    cells = cells_with_label_in("cell")
    adata = pci_bench.extract("intensity", cells)
    with pytest.raises(pci_bench.UserError, match="not computed from crops that are here"):
        evaluate("background-swap", adata)
    one = cells.with_obs(cells.obs.assign(label=cells.obs["image"].astype("category")))
    with pytest.raises(pci_bench.UserError, match="lies in one image"):
        evaluate("background-swap", pci_bench.extract("intensity", one), cells=one)


def test_the_evaluator_needs_crops_in_its_context():
    from pci_bench.api.evaluator import EVALUATORS

    cells = cells_with_label_in("cell")
    evaluator = EVALUATORS.get("background-swap")
    with pytest.raises(pci_bench.UserError, match="pci-bench run confounders"):
        list(evaluator(pci_bench.extract("intensity", cells), [evaluator.Params()], EvaluationContext()))
