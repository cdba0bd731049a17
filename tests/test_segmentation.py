"""Segmenters: the cell in the middle, its bud, and what is neither."""

import importlib.util
import re
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage
from scipy.spatial import ConvexHull
from skimage.measure import label as connected
from skimage.measure import regionprops

from pci_bench import UserError
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS
from pci_bench.api.segmenter import BUD, MOTHER, OTHERS
from pci_bench.data.cells import Channel, rescaled
from pci_bench.reporting.describe import described
from pci_bench.segmentation import DEFAULT_SEGMENTER, SEGMENTERS
from pci_bench.segmentation.otsu import without_vacuoles
from pci_bench.segmentation.outlines import hull_area, inside, reaches
from pci_bench.segmentation.split import cut_off, lobe, mother_and_bud, with_bud_split
from pci_bench.simulation.yeast.screen import CLASSES, ImagePlan, draw, sample

GFP, RFP = Channel("GFP", "protein"), Channel("RFP", "marker")
SIZE = 64
ROWS, COLUMNS = np.indices((SIZE, SIZE))


def disc(row: float, column: float, radius: float, *, flat: float = 1.0) -> np.ndarray:
    """Return the pixels of a disc, or of an ellipse that is `flat` times as high as wide."""
    return np.hypot((ROWS - row) / flat, COLUMNS - column) <= radius


def photograph(*cells: np.ndarray, brightness: tuple[float, ...] = (), seed: int = 0) -> np.ndarray:
    """Return a blurred, noisy crop (1, 2, 64, 64) of cells, whose protein channel is noise alone."""
    rng = np.random.default_rng(seed)
    image = np.max([b * c for b, c in zip(brightness or (1.0,) * len(cells), cells, strict=True)], axis=0)
    image = ndimage.gaussian_filter(image.astype(float), 1.0) + rng.normal(0.1, 0.02, image.shape)
    return rescaled(np.stack([rng.random(image.shape), image]).astype(np.float32)[None], (GFP, RFP), "minmax")


def segmented(crops: np.ndarray, channels: tuple[Channel, ...] = (GFP, RFP)) -> np.ndarray:
    return SEGMENTERS.get(DEFAULT_SEGMENTER).open(channels, "cpu")(crops)


def overlap(truth: np.ndarray, found: np.ndarray) -> float:
    return (truth & found).sum() / (truth | found).sum()


# ---- the default segmenter on cells whose shape is known


def test_two_touching_cells_are_separated():
    first, second = disc(32, 25, 11), disc(32, 46, 11)
    (mask,) = segmented(photograph(first, second))
    assert overlap(first, mask == MOTHER) > 0.9
    assert overlap(second, mask == OTHERS) > 0.9
    assert mask.max() == OTHERS


def test_a_cell_in_a_ring_of_others_keeps_its_outline():
    ring = [disc(31 + 21.5 * np.sin(a), 31 + 21.5 * np.cos(a), 9.5) for a in np.arange(6) * np.pi / 3]
    (mask,) = segmented(photograph(disc(31, 31, 10), *ring))
    assert overlap(disc(31, 31, 10), mask == MOTHER) > 0.8
    assert len(np.unique(mask)) == 8  # background, the cell, six others


@pytest.mark.parametrize(("radius", "distance", "bound"), [(4, 17, 0.45), (6, 18, 0.55), (9, 21, 0.85)])
@pytest.mark.parametrize("angle", [0, 40, 110, 200, 315])
def test_a_bud_is_split_from_its_mother_at_the_neck(radius, distance, bound, angle):
    turn = np.deg2rad(angle)
    mother = disc(31, 31, 14)
    bud = disc(31 + distance * np.sin(turn), 31 + distance * np.cos(turn), radius) & ~mother
    (mask,) = segmented(photograph(mother, bud))
    assert overlap(mother, mask == MOTHER) > 0.85
    assert overlap(bud, mask == BUD) > bound
    assert set(np.unique(mask)) == {0, MOTHER, BUD}


@pytest.mark.parametrize("flat", [0.7, 0.85, 1, 1.2])
@pytest.mark.parametrize("radius", [8, 11, 15, 20])
def test_a_single_cell_has_no_bud(radius, flat):
    crops = np.concatenate([photograph(disc(31.3, 31.8, radius, flat=flat), seed=seed) for seed in range(5)])
    for mask in segmented(crops):
        assert set(np.unique(mask)) == {0, MOTHER}
        assert overlap(disc(31.3, 31.8, radius, flat=flat), mask == MOTHER) > 0.8


def test_a_bud_is_dimmer_than_its_mother_and_still_keeps_its_size():
    mother, bud = disc(31, 27, 14), disc(31, 47, 7)
    (mask,) = segmented(photograph(mother, bud, brightness=(1, 0.5)))
    assert overlap(mother, mask == MOTHER) > 0.85
    assert overlap(bud, mask == BUD) > 0.75


def test_the_bud_of_a_neighbour_is_not_taken():
    middle, mother, bud = disc(31, 22, 12), disc(31, 54, 13), disc(31, 39.5, 5)
    (mask,) = segmented(photograph(middle, mother, bud))
    assert overlap(middle, mask == MOTHER) > 0.85
    assert not (mask == BUD).any()


def test_the_cell_that_holds_the_centre_is_taken_however_large_and_bright_another_is():
    middle, other = disc(33, 30, 7), disc(14, 50, 13)
    (mask,) = segmented(photograph(middle, other, brightness=(0.4, 1)))
    assert overlap(middle, mask == MOTHER) > 0.8
    assert (mask[other] >= OTHERS).mean() > 0.8


def test_the_nearest_cell_is_taken_where_none_holds_the_centre():
    near, far = disc(20, 31, 8), disc(50, 14, 10)
    (mask,) = segmented(photograph(near, far))
    assert overlap(near, mask == MOTHER) > 0.8


@pytest.mark.parametrize("vacuole", [disc(31, 33, 7), disc(31, 40, 6)], ids=["inside", "at the rim"])
def test_a_dark_vacuole_belongs_to_the_cell(vacuole):
    cell = disc(31, 31, 15)
    (mask,) = segmented(photograph(cell & ~vacuole, vacuole & cell, brightness=(1, 0.4)))
    assert set(np.unique(mask)) == {0, MOTHER}
    assert overlap(cell, mask == MOTHER) > 0.85


def test_a_gap_between_cells_is_not_filled_as_a_vacuole_is():
    corners = [disc(20, 20, 12), disc(20, 44.5, 12), disc(41.2, 32.2, 12.2)]
    around = ndimage.binary_closing(np.any(corners, axis=0), iterations=1)
    gap = ndimage.binary_fill_holes(around) & ~around
    assert gap.sum() > 20
    assert not without_vacuoles(around)[gap].any()
    ring = disc(31, 31, 15) & ~disc(31, 33, 8)
    assert np.array_equal(without_vacuoles(ring), disc(31, 31, 15))


# ---- what it is shown


def test_a_crop_without_contrast_gives_an_empty_mask_without_a_warning():
    crops = np.zeros((3, 2, SIZE, SIZE), np.float32)
    crops[1] = 0.7
    crops[2, 0] = np.random.default_rng(0).random((SIZE, SIZE))  # the protein channel is not looked at
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = segmented(crops)
        assert segmented(crops[:0]).shape == (0, SIZE, SIZE)
    assert masks.dtype == np.uint16
    assert not masks.any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 3), (16, 16), (48, 80)])
def test_crops_of_any_shape_and_content_give_masks(shape):
    rng = np.random.default_rng(1)
    one_pixel, half = np.zeros((2, *shape), np.float32)
    one_pixel[0, 0] = 1
    half[:, : -(-shape[1] // 2)] = 1
    crops = np.stack([one_pixel, half, 1 - one_pixel, *rng.random((5, *shape), dtype=np.float32)])[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masks = segmented(crops, (RFP,))
    assert masks.shape == (8, *shape)


def test_each_crop_is_segmented_by_itself():
    crops = np.concatenate([photograph(disc(30, 31, 6 + i), disc(50, 55, 9), seed=i) for i in range(6)])
    masks = segmented(crops)
    assert np.array_equal(masks, segmented(crops))
    assert np.array_equal(masks[::-1], segmented(crops[::-1]))
    for i in range(6):
        assert np.array_equal(masks[i : i + 1], segmented(crops[i : i + 1]))


def test_the_first_marker_is_read_wherever_it_stands_and_all_channels_where_there_is_none():
    crops = photograph(disc(31, 31, 12))
    masks = segmented(crops)
    assert np.array_equal(masks, segmented(crops[:, ::-1], (RFP, GFP)))
    second = np.concatenate([crops, photograph(disc(31, 31, 25))[:, 1:]], axis=1)
    assert np.array_equal(masks, segmented(second, (GFP, RFP, Channel("DAPI", "marker"))))
    halves = np.stack([np.where(COLUMNS < 32, crops[0, 1], 0), np.where(COLUMNS < 32, 0, crops[0, 1])])[None]
    both = segmented(halves, (GFP, Channel("antibody", "protein")))
    assert overlap(disc(31, 31, 12), both[0] == MOTHER) > 0.9


def test_a_mirrored_or_turned_crop_has_the_mirrored_or_turned_mask():
    mother, bud = disc(29, 29, 13), disc(43, 44, 8)
    crop = photograph(mother, bud, disc(50, 15, 10), seed=3)
    (mask,) = segmented(crop)
    assert (mask == BUD).any()
    for turned, back in (
        (crop[..., ::-1], lambda m: m[:, ::-1]),
        (crop[..., ::-1, :], lambda m: m[::-1]),
        (crop.transpose(0, 1, 3, 2), lambda m: m.T),
        (np.rot90(crop, axes=(2, 3)), lambda m: np.rot90(m, -1)),
    ):
        (other,) = segmented(np.ascontiguousarray(turned))
        for part in (MOTHER, BUD):
            assert overlap(mask == part, back(other) == part) > 0.93


# ---- real and simulated cells


def test_simulated_cells_and_their_buds_are_found():
    images = [
        draw("yeast-sim", sample("yeast-sim", ImagePlan(200 + i, 200 + i, CLASSES[i], 200 + i, 16))) for i in range(12)
    ]
    crops, masks = (np.concatenate(parts) for parts in zip(*images, strict=True))
    found = segmented(rescaled(crops, (GFP, RFP), "minmax"))
    cells = [overlap((t == MOTHER) | (t == BUD), (f == MOTHER) | (f == BUD)) for t, f in zip(masks, found, strict=True)]
    budded, split = (masks == BUD).any(axis=(1, 2)), (found == BUD).any(axis=(1, 2))
    assert np.median(cells) > 0.9
    assert np.mean(np.array(cells) >= 0.5) > 0.97
    assert split[budded].mean() > 0.6
    assert split[~budded].mean() < 0.1


@pytest.fixture(scope="module")
def field(request):
    """Crops around the publishers' single cells in one real field of view, and their masks."""
    folder = request.getfixturevalue("test_data") / "fields-yeast"
    labels = tifffile.imread(folder / "r01c01f01p01_labeled.tiff")
    image = tifffile.imread(folder / "r01c01f01p01-ch3sk1fk1fl1.tiff")
    crops, truth = [], []
    for item in regionprops(labels):
        top, left = (round(c) - SIZE // 2 for c in item.centroid)
        window = np.s_[top : top + SIZE, left : left + SIZE]
        if min(top, left) >= 0 and image[window].shape == (SIZE, SIZE) and item.solidity > 0.9 and item.area < 1500:
            crops.append(image[window])
            truth.append(labels[window] == item.label)
    return rescaled(np.stack(crops)[:, None], (RFP,), "minmax"), np.stack(truth)


def test_real_cells_are_found_where_their_publishers_found_them(field):
    crops, truth = (part[::2] for part in field)
    found = segmented(crops, (RFP,))
    cells = [overlap(t, (f == MOTHER) | (f == BUD)) for t, f in zip(truth, found, strict=True)]
    assert len(cells) > 80
    assert np.median(cells) > 0.78  # their outlines are generous: ours are 0.86 as large
    assert np.mean(np.array(cells) >= 0.5) > 0.95


# ---- outlines


def test_outlines_agree_with_convex_hulls():
    rng = np.random.default_rng(0)
    labels = connected(ndimage.gaussian_filter(rng.normal(size=(80, 70)), 3) > 0.05)
    areas = hull_area(reaches(labels))
    for k in range(1, labels.max() + 1):
        rows, columns = np.nonzero(labels == k)
        corners = np.concatenate([np.stack([rows + i, columns + j], axis=1) for i in (-0.5, 0.5) for j in (-0.5, 0.5)])
        expected = ConvexHull(corners).volume  # SciPy's name for the area in the plane
        assert expected <= areas[k] + 1e-9
        assert areas[k] < 1.05 * expected


def test_the_outline_of_two_regions_together_is_that_of_their_union():
    labels = np.where(disc(20, 20, 9), 1, np.where(disc(35, 45, 12), 2, 0))
    one, two = reaches(labels)[1:]
    assert np.array_equal(np.maximum(one, two), reaches((labels > 0).astype(int))[1])
    within = inside(one, labels.shape)
    assert within[labels == 1].all()
    assert not within[ndimage.distance_transform_edt(labels != 1) > 1.5].any()


# ---- the bud, from masks alone


def test_a_lobe_is_cut_off_where_it_meets_the_body():
    mother, bud = disc(31, 28, 13), disc(31, 45, 5)
    found = lobe(mother | bud)
    assert overlap(bud & ~mother, found) > 0.7
    labels = cut_off((mother | bud).astype(int), (mother | bud) & ~found, found)
    assert np.array_equal(labels == 2, found)
    mask = with_bud_split((mother | bud).astype(int))
    assert np.array_equal(mask == BUD, found)


@pytest.mark.parametrize(
    "mask",
    [
        disc(31, 31, 14),
        disc(31, 31, 12, flat=1.5),
        (abs(ROWS - 31) < 12) & (abs(COLUMNS - 31) < 12),
        disc(31, 31, 14) & (COLUMNS < 38),  # a cell cut straight, where it touches another
        np.zeros((SIZE, SIZE), bool),
        np.ones((SIZE, SIZE), bool),
    ],
    ids=["disc", "ellipse", "square", "cut disc", "nothing", "everything"],
)
def test_a_convex_cell_has_no_lobe(mask):
    assert not lobe(mask).any()


def regions(*discs: np.ndarray) -> np.ndarray:
    labels = np.zeros((SIZE, SIZE), int)
    for number, one in enumerate(discs, start=1):
        labels[one & (labels == 0)] = number
    return labels


def test_a_bud_is_a_smaller_region_in_contact():
    mother = disc(31, 28, 12)
    assert (mother_and_bud(regions(disc(31, 48, 8), mother)) == BUD).sum() == disc(31, 48, 8).sum()
    for no_bud in (disc(31, 52, 11), disc(31, 54, 8), disc(31, 42, 2.2)):  # as large; apart; too small
        assert not (mother_and_bud(regions(mother, no_bud)) == BUD).any()


def test_a_cell_of_which_the_crop_shows_a_sliver_is_no_bud():
    mother = disc(31, 40, 14)
    sliver, bud_at_the_edge = disc(31, 66, 11), disc(31, 59, 6)
    assert 40 < (sliver & ~mother).sum() < 0.3 * mother.sum()
    assert not (mother_and_bud(regions(mother, sliver)) == BUD).any()
    assert (mother_and_bud(regions(disc(31, 40, 13), bud_at_the_edge)) == BUD).any()


def test_other_regions_are_numbered_from_three_without_gaps():
    labels = regions(disc(10, 10, 6), disc(31, 28, 12), disc(10, 50, 6), disc(31, 46, 6), disc(55, 55, 6)) * 7
    mask = mother_and_bud(labels)
    assert list(np.unique(mask)) == [0, MOTHER, BUD, 3, 4, 5]
    assert mask[31, 28] == MOTHER
    assert mask[31, 46] == BUD


# ---- segmenters that may be installed


def stand_in(monkeypatch, name: str, **attributes) -> types.ModuleType:
    """Put a module of that name where imports find it."""
    module = types.ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, loader=None)
    module.__dict__.update(attributes)
    monkeypatch.setitem(sys.modules, name, module)
    return module


def expected_labels(image: np.ndarray) -> np.ndarray:
    """Return what a segmentation of cells that knows of no buds would say of a photograph."""
    return connected(ndimage.gaussian_filter(image, 1) > 0.5)


@pytest.fixture
def cellpose(monkeypatch, tmp_path) -> list:
    calls: list = []

    class CellposeModel:
        def __init__(self, **options):
            calls.append(options)

        def eval(self, image, **options):
            calls.append((image, options))
            return expected_labels(image).astype(np.uint16), [], np.zeros(256)

    models = stand_in(monkeypatch, "cellpose.models", CellposeModel=CellposeModel, MODEL_DIR=tmp_path)
    stand_in(monkeypatch, "cellpose", models=models)
    return calls


@pytest.fixture
def stardist(monkeypatch) -> list:
    calls: list = []

    class StarDist2D:
        @classmethod
        def from_pretrained(cls, name):
            calls.append(name)
            return cls()

        def predict_instances(self, image):
            calls.append(image)
            return expected_labels(image).astype(np.int32), {"prob": []}

    def normalize(image, low, high):
        calls.append((low, high))
        return image

    stand_in(monkeypatch, "tensorflow")
    stand_in(monkeypatch, "csbdeep")
    stand_in(monkeypatch, "csbdeep.utils", normalize=normalize)
    stand_in(monkeypatch, "stardist")
    stand_in(monkeypatch, "stardist.models", StarDist2D=StarDist2D)
    return calls


@pytest.mark.parametrize("name", ["cellpose", "stardist"])
def test_an_optional_segmenter_chooses_the_middle_cell_and_splits_its_bud(name, request):
    calls = request.getfixturevalue(name)
    mother, bud, other = disc(31, 28, 12), disc(31, 43, 6), disc(55, 55, 7)
    crops = np.concatenate([photograph(mother, bud, other), np.zeros((1, 2, SIZE, SIZE), np.float32)])
    assert SEGMENTERS.get(name).unavailable_reason() is None
    masks = SEGMENTERS.get(name).open((GFP, RFP), "cpu")(crops)
    assert masks.dtype == np.uint16
    assert overlap(mother, masks[0] == MOTHER) > 0.8
    assert overlap(bud & ~mother, masks[0] == BUD) > 0.6
    assert overlap(other, masks[0] == OTHERS) > 0.8
    assert not masks[1].any()
    images = [c[0] if isinstance(c, tuple) and len(c) == 2 and isinstance(c[0], np.ndarray) else c for c in calls]
    (shown,) = [c for c in images if isinstance(c, np.ndarray)]
    assert np.array_equal(shown, crops[0, 1])  # the marker, and no constant crop


def test_cellpose_is_asked_for_cells_that_fill_the_crop_in_single_precision(cellpose):
    import torch

    SEGMENTERS.get("cellpose").open((GFP, RFP), "cpu")(photograph(disc(31, 31, 12)))
    model, (_, options) = cellpose
    assert model == {"device": torch.device("cpu"), "pretrained_model": "cpsam", "use_bfloat16": False}
    assert options == {"max_size_fraction": 1.0}


@pytest.mark.parametrize(("name", "options"), [("cellpose", {"diameter": 30.0}), ("stardist", {})])
def test_an_optional_segmenter_of_fields_gives_all_objects_in_reading_order(name, options, request):
    calls = request.getfixturevalue(name)
    image = photograph(disc(31, 28, 12), disc(55, 55, 7), disc(10, 50, 6))[0, 1]
    segmenter = FIELD_SEGMENTERS.get(name)
    segment = segmenter.open(segmenter.Params(**options), "cpu")
    labels = segment(image)
    assert labels.dtype == np.int32
    assert [labels[10, 50], labels[31, 28], labels[55, 55]] == [1, 2, 3]
    if name == "cellpose":
        assert calls[-1][1] == {"max_size_fraction": 1.0, "diameter": 30.0}
    seen = len(calls)
    assert not segment(np.full_like(image, 0.3)).any()
    assert len(calls) == seen  # a constant field is not shown to it


def test_stardist_is_asked_for_its_fluorescence_model(stardist):
    SEGMENTERS.get("stardist").open((GFP, RFP), "cpu")(photograph(disc(31, 31, 12)))
    assert stardist[0] == "2D_versatile_fluo"
    assert stardist[1] == (1, 99.8)


@pytest.mark.parametrize("name", ["cellpose", "stardist"])
def test_weights_that_cannot_be_had_are_named_with_where_they_belong(name, request, monkeypatch):
    request.getfixturevalue(name)

    def offline(*_, **__):
        raise OSError("Name or service not known")

    if name == "cellpose":
        monkeypatch.setattr(sys.modules["cellpose.models"].CellposeModel, "__init__", offline)
    else:
        monkeypatch.setattr(sys.modules["stardist.models"].StarDist2D, "from_pretrained", offline)
    with pytest.raises(UserError, match=r"(?s)(cpsam|2D_versatile_fluo).*Name or service.*(Download|Go online)"):
        SEGMENTERS.get(name).open((GFP, RFP), "cpu")


@pytest.mark.parametrize("name", ["cellpose", "stardist"])
def test_what_is_not_installed_is_said_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    reason = SEGMENTERS.get(name).unavailable_reason()
    assert re.search(rf"{name}.* not installed: pip install 'pci-bench\[{name}\]'", reason)


# ---- names


def test_an_unknown_segmenter_is_met_with_the_known_ones():
    with pytest.raises(UserError, match=r"no segmenter named 'nonsense'.*pci-bench list segmenters"):
        SEGMENTERS.get("nonsense")
    with pytest.raises(UserError, match="Did you mean otsu-watershed"):
        SEGMENTERS.get("otsu-watersheds")


def test_describe_says_what_a_segmenter_is_and_whether_it_can_be_run():
    ((title, rows),) = described("otsu-watershed")
    said = dict(rows)
    assert title == "segmenter otsu-watershed"
    assert (said["version"], said["available"]) == (SEGMENTERS.get(DEFAULT_SEGMENTER).meta.version, "yes")
    assert "otsu.py:" in said["defined in"]
    with pytest.raises(UserError, match="no segmenter named 'otsu'"):
        described("segmenter:otsu")


def test_the_segmenter_that_the_documentation_shows_works(own_registries):
    page = (Path(__file__).parents[1] / "docs" / "segmentation.md").read_text()
    program = next(
        p for p in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if '@register_segmenter("bright")' in p
    )
    exec(compile(program, "bright.py", "exec"), {"__name__": "bright"})
    mother, bud = disc(31, 28, 12), disc(31, 45, 6)
    (mask,) = SEGMENTERS.get("bright").open((GFP, RFP), "cpu")(photograph(mother, bud))
    assert overlap(mother, mask == MOTHER) > 0.85
    assert overlap(bud & ~mother, mask == BUD) > 0.6
