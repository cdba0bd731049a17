"""Segmenters of whole fields: against planted truth, the publishers' segmentations, and ten-line loops of scikit-image."""

import sys
from pathlib import Path

import numpy as np
import pydantic
import pytest
from PIL import Image
from scipy import ndimage
from skimage import filters, measure, morphology, segmentation
from skimage.feature import blob_log

from pci_bench import FieldSegmenter, UserError, register_field_segmenter
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, in_reading_order, segmenter_params
from pci_bench.api.segmenter import SegmenterMeta
from pci_bench.segmentation.fields.nuclei import estimated_diameter, peaks, without_holes
from pci_bench.segmentation.fields.regions import borders_of, joined
from pci_bench.segmentation.otsu import DYNAMICS, basins, merged_by_depth, smoothed

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))
from field_segmentation import otsu_watershed, planted, yeast

ROWS, COLUMNS = np.indices((128, 160))


def segmented(name: str, image: np.ndarray, **options) -> np.ndarray:
    segmenter = FIELD_SEGMENTERS.get(name)
    return segmenter.open(segmenter.Params(**options), "cpu")(image)


def disc(row: float, column: float, radius: float, flat: float = 1.0) -> np.ndarray:
    return np.hypot((ROWS - row) / flat, COLUMNS - column) <= radius


def photograph(*objects: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return a blurred, noisy field of objects."""
    rng = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(np.any(objects, axis=0).astype(float), 1.2)
    return (0.5 * image + rng.normal(0.05, 0.005, image.shape)).astype(np.float32)


def best_overlaps(truth: np.ndarray, found: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the largest IoU of every object of the truth, and of every found one, by a loop over objects."""
    of_truth, of_found = [], dict.fromkeys(range(1, found.max() + 1), 0.0)
    areas = {item.label: item.area for item in measure.regionprops(found)}
    for item in measure.regionprops(truth):
        best, inside = 0.0, found[item.slice][item.image]
        for other in np.unique(inside[inside > 0]):
            shared = (inside == other).sum()
            iou = shared / (item.area + areas[other] - shared)
            best, of_found[other] = max(best, iou), max(of_found[other], iou)
        of_truth.append(best)
    return of_truth, list(of_found.values())


def scores(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float, float]:
    """Return recall and precision at an IoU of 0.5, and the median IoU of what is found, of (truth, found)."""
    of_truth, of_found = (np.concatenate(both) for both in zip(*(best_overlaps(*pair) for pair in pairs), strict=True))
    return np.mean(of_truth >= 0.5), np.mean(of_found >= 0.5), np.median(of_truth[of_truth >= 0.5])


# ---- planted nuclei


@pytest.mark.parametrize(
    ("diameter", "count", "recall", "precision", "overlap"),
    [(25, 100, 0.95, 0.97, 0.89), (25, 250, 0.92, 0.95, 0.89), (14, 700, 0.86, 0.93, 0.86)],
    ids=["sparse", "dense", "crowded"],
)
def test_planted_nuclei_are_found_better_than_by_a_plain_watershed(diameter, count, recall, precision, overlap):
    fields = [planted(diameter, count, seed) for seed in range(2)]
    found = scores([(truth, segmented("nuclei", image)) for image, truth in fields])
    assert found[0] >= recall
    assert found[1] >= precision
    assert found[2] >= overlap
    plain = scores([(truth, otsu_watershed(image)) for image, truth in fields])
    assert sum(found[:2]) > sum(plain[:2])


@pytest.mark.parametrize("flat", [0.5, 0.7, 1, 1.4])
def test_a_single_nucleus_is_never_cut(flat):
    nucleus = disc(60, 80, 14, flat)
    labels = segmented("nuclei", photograph(nucleus, disc(20, 30, 11)))
    assert labels.max() == 2
    iou = [np.sum(nucleus & (labels == k)) / np.sum(nucleus | (labels == k)) for k in (1, 2)]
    assert max(iou) > 0.8


def test_two_nuclei_that_touch_are_two():
    labels = segmented("nuclei", photograph(disc(60, 60, 12), disc(60, 82, 12), disc(20, 120, 12)))
    assert labels.max() == 3
    assert labels[60, 60] != labels[60, 82]


def test_nuclei_do_not_depend_on_the_exposure():
    image, _ = planted(25, 100, 0)
    assert np.array_equal(segmented("nuclei", image), segmented("nuclei", image * np.float32(0.25)))


@pytest.mark.parametrize("diameter", [10, 16, 24, 40])
def test_the_diameter_is_estimated_from_the_field(diameter):
    rng = np.random.default_rng(0)
    rows, columns = np.indices((400, 400))
    places = np.stack(np.meshgrid(*[np.arange(diameter, 400 - diameter, 2 * diameter)] * 2), -1).reshape(-1, 2)
    image = np.any([np.hypot(rows - r, columns - c) <= diameter / 2 for r, c in places], axis=0)
    blurred = ndimage.gaussian_filter(image.astype(float), 1) + rng.uniform(0, 0.01, image.shape)
    assert estimated_diameter(np.sqrt(blurred)) == pytest.approx(diameter, rel=0.25)


def test_a_given_diameter_is_used():
    image, truth = planted(25, 100, 1)
    given, coarse = (segmented("nuclei", image, diameter=d).max() for d in (25, 70))
    assert abs(given - truth.max()) < 0.1 * truth.max()
    assert coarse < 0.8 * given


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 3), (5, 7), (33, 18)])
@pytest.mark.parametrize("name", ["nuclei", "cells", "otsu-components", "authors-human"])
def test_fields_of_any_size_are_segmented(name, shape):
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    labels = segmented(name, image)
    assert labels.shape == shape
    assert labels.dtype == np.int32


# ---- real fields


def folder_of(test_data: Path, name: str) -> Path:
    if not (test_data / name).is_dir():
        pytest.skip(f"no {name} in {test_data}")
    return test_data / name


def test_yeast_cells_of_real_fields_are_found(test_data):
    """The publishers' objects are cells, mothers with buds and clumps, so a cell that is found may be part of one of theirs."""
    pairs = [(truth, segmented("cells", image)) for image, truth in yeast(folder_of(test_data, "fields-yeast"))]
    recall, precision, overlap = scores(pairs)
    assert recall >= 0.86
    assert precision >= 0.5
    assert overlap >= 0.79
    singles, clumps = [], []
    for truth, found in pairs:
        for item, best in zip(measure.regionprops(truth), best_overlaps(truth, found)[0], strict=True):
            if item.solidity >= 0.9:
                singles.append(best)
            parts = [
                k
                for k in np.unique(found[item.slice][item.image])
                if k and (truth[found == k] == item.label).mean() >= 0.5
            ]
            together = np.isin(found, parts)
            clumps.append((together & (truth == item.label)).sum() / (together | (truth == item.label)).sum())
    assert np.mean(np.array(singles) >= 0.5) >= 0.96
    assert np.mean(np.array(clumps) >= 0.5) >= 0.98


@pytest.mark.parametrize(("line", "smallest", "largest"), [("HEPG2-01", 12, 18), ("HUVEC-01", 19, 27), ("RPE-01", 21, 30), ("U2OS-01", 21, 30)])  # fmt: skip
def test_nuclei_of_real_fields_are_as_many_as_blobs_and_as_large_as_seen(test_data, line, smallest, largest):
    folder = folder_of(test_data, "rxrx1-fields")
    image = np.asarray(Image.open(folder / line / "Plate4" / "B02_s1_w1.png"), np.float32) / 255
    labels = segmented("nuclei", image)
    blobs = blob_log(np.sqrt(image), min_sigma=4, max_sigma=10, num_sigma=5, threshold=None, threshold_rel=0.15)
    assert labels.max() == pytest.approx(len(blobs), rel=0.2)
    assert smallest <= np.median([item.equivalent_diameter_area for item in measure.regionprops(labels)]) <= largest


@pytest.fixture
def nuclei_channel(test_data) -> np.ndarray:
    """The nuclear channel of the human field, downscaled fourfold."""
    image = np.asarray(Image.open(folder_of(test_data, "fields-human") / "57_F11_1_blue.png"), np.float32) / 255
    image = image if image.ndim == 2 else image.max(axis=2)
    return image.reshape(432, 4, 432, 4).mean(axis=(1, 3))


def test_the_papers_rule_is_otsus_threshold_and_connected_components(nuclei_channel):
    expected = measure.label(nuclei_channel > filters.threshold_otsu(nuclei_channel.astype(float)))
    found = segmented("otsu-components", nuclei_channel)
    assert np.array_equal(found, in_reading_order(expected))
    assert found.max() > 10


def test_the_authors_code_is_followed_step_by_step(nuclei_channel):
    image = nuclei_channel.astype(float)
    mask = filters.gaussian(image, sigma=5) > filters.threshold_otsu(image)
    holes = measure.label(~mask, connectivity=1)
    for hole in measure.regionprops(holes):
        if hole.area < 300:
            mask[holes == hole.label] = True
    labels = measure.label(segmentation.clear_border(mask))
    for item in measure.regionprops(labels):
        if item.area <= 100:
            labels[labels == item.label] = 0
    found = segmented("authors-human", nuclei_channel)
    assert np.array_equal(found, in_reading_order(labels))
    assert found.max() > 5


# ---- the parts


def test_labels_are_numbered_as_their_first_pixels_are_read():
    labels = np.random.default_rng(0).integers(0, 30, (20, 30)) * 7
    numbers: dict[int, int] = {0: 0}
    for value in labels.ravel():
        numbers.setdefault(int(value), len(numbers))
    expected = np.vectorize(numbers.get)(labels)
    assert np.array_equal(in_reading_order(labels), expected)
    assert in_reading_order(np.zeros((2, 3), int)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert in_reading_order(np.full((2, 2), 5)).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("seed", range(5))
def test_joining_neighbours_alone_gives_what_comparing_all_pairs_gives(seed):
    rng = np.random.default_rng(seed)
    discs = [disc(*rng.uniform((10, 10), (118, 150)), rng.uniform(6, 13)) for _ in range(25)]
    labels, distance = basins(smoothed(photograph(*discs, seed=seed)))
    distance *= 0.2  # so that more peaks are shallow
    found = joined(labels, distance, lambda a, b, border: (min(a.peak, b.peak) - border.heights.max()) / DYNAMICS)
    assert found.max() < labels.max()
    assert np.array_equal(in_reading_order(found), in_reading_order(merged_by_depth(labels, distance)))


def test_a_border_knows_its_length_and_its_heights():
    labels = np.zeros((20, 20), int)
    labels[5:15, 2:10], labels[8:15, 10:18] = 1, 2
    heights = np.arange(400.0).reshape(20, 20)
    (((first, second), border),) = borders_of(labels, heights).items()
    assert (first, second) == (1, 2)
    assert border.heights.tolist() == [heights[row, 9] for row in range(8, 15)]
    assert border.reach[8] + border.reach[24] == pytest.approx(7)  # along a column


def test_peaks_are_those_of_h_maxima():
    relief = ndimage.gaussian_filter(np.random.default_rng(0).random((60, 60)), 2)
    depth = 0.05 * np.ptp(relief)
    ours, theirs = (measure.label(tops) for tops in (peaks(relief, depth), morphology.h_maxima(relief, depth)))
    assert ours.max() == theirs.max()
    assert all((ours[theirs == k] > 0).any() for k in range(1, theirs.max() + 1))


def test_small_holes_are_filled_and_large_ones_are_not():
    mask = np.ones((30, 30), bool)
    mask[3:5, 3:5], mask[10:20, 10:20] = False, False
    filled = without_holes(mask, 10)
    assert filled[3:5, 3:5].all()
    assert not filled[10:20, 10:20].any()


def test_a_wrong_option_is_a_sentence():
    nuclei = FIELD_SEGMENTERS.get("nuclei")
    assert segmenter_params(nuclei, {"diameter": 20}).diameter == 20
    with pytest.raises(UserError, match=r"nuclei has no parameter 'size'\. Its parameters are diameter\."):
        segmenter_params(nuclei, {"size": 20})
    with pytest.raises(UserError, match=r"diameter = -1 does not fit nuclei"):
        segmenter_params(nuclei, {"diameter": -1})
    with pytest.raises(UserError, match=r"stardist has no parameter 'size'\. It has none\."):
        segmenter_params(FIELD_SEGMENTERS.get("stardist"), {"size": 20})


def test_a_segmenter_of_ones_own_is_one_class(own_registries):
    @register_field_segmenter("brighter-than-half")
    class Bright(FieldSegmenter):
        meta = SegmenterMeta("brighter-than-half", "1", "Brighter than a half")
        Params = pydantic.create_model("Params", __config__={"extra": "forbid", "frozen": True})

        def open(self, params, device):
            return lambda image: in_reading_order(measure.label(image > 0.5))

    assert segmented("brighter-than-half", np.eye(4, dtype=np.float32)).max() == 1
