"""The designed features are what their names say: by plain loops, on cells made by hand, and on simulated anatomy."""

import math
import warnings
from functools import cache

import numpy as np
import pandas as pd
import pytest
from pci_bench_baselines.designed import MEASURES, Designed, bud_neck, designed
from test_yeast_sim import CLEAN

from pci_bench import extract
from pci_bench.data.cells import Channel
from pci_bench.features.extraction import compute_features
from pci_bench.features.names import parse
from pci_bench.simulation.yeast.screen import CLASSES, SETTINGS, draw, plan, sample

NAMES = Designed().names("", (Channel("P", "protein"),))
RNG = np.random.default_rng(0)


def features(protein: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """The features of one cell by name: mother_periphery, budded and so on."""
    return dict(zip([n.removeprefix("P_") for n in NAMES], designed(protein[None], mask), strict=True))


def plain_loops(protein: np.ndarray, mask: np.ndarray) -> list[float]:
    """SCIENCE.md's sentence, pixel by pixel."""
    pixels = [(int(r), int(c)) for r, c in np.ndindex(mask.shape)]
    mother, bud = ([p for p in pixels if mask[p] == label] for label in (1, 2))
    cell = mother + bud
    if not mother:
        return [0.0] * 16
    ground = sorted(float(protein[p]) for p in pixels if mask[p] == 0)
    middle = len(ground) // 2
    if not ground:
        background = float(protein.min())
    elif len(ground) % 2:
        background = ground[middle]
    else:
        background = (ground[middle - 1] + ground[middle]) / 2
    w = {p: max(float(protein[p]) - background, 0.0) for p in cell}

    def touches(p, others):
        return any(max(abs(p[0] - q[0]), abs(p[1] - q[1])) == 1 for q in others)

    outside = [p for p in pixels if p not in w]
    neck = [p for p in mother if touches(p, bud)] + [p for p in bud if touches(p, mother)]
    unit = math.sqrt(len(mother))
    found = []
    for part in (mother, bud):
        total = sum(w[p] for p in part)
        if total == 0:
            found += [0.0] * 7
            continue
        mean = total / len(part)
        centre = (sum(p[0] for p in part) / len(part), sum(p[1] for p in part) / len(part))
        found.append(mean)
        for targets in (outside, [centre], neck):
            distance = {p: min((math.dist(p, t) for t in targets), default=0.0) for p in part}
            weighted = sum(w[p] * distance[p] for p in part) / total
            found.append((weighted - sum(distance.values()) / len(part)) / unit)
        found.append(sum(w[p] * w[q] * math.dist(p, q) for p in part for q in part) / total**2 / unit)
        found.append(total / sum(w.values()))
        found.append(math.sqrt(sum((w[p] - mean) ** 2 for p in part) / len(part)) / mean)
    return [*found, len(bud) / len(mother), float(bool(bud))]


def budding(shape=(64, 64), centre=(34.0, 26.0), radius=13.0, bud_radius=7.0) -> np.ndarray:
    """A round mother, a round bud on its right that touches it, and a neighbour in the corner."""
    rows, columns = np.indices(shape)
    mask = np.where((rows < 12) & (columns > shape[1] - 12), 3, 0)
    to_bud = np.hypot(rows - centre[0], columns - centre[1] - radius - bud_radius + 2)
    mask[to_bud <= bud_radius] = 2
    mask[np.hypot(rows - centre[0], columns - centre[1]) <= radius] = 1
    return mask


CELL = budding()
UNIT = math.sqrt((CELL == 1).sum())


def depth(mask: np.ndarray) -> np.ndarray:
    """Distance of every pixel to the nearest one outside mother and bud, the slow way."""
    inside = (mask == 1) | (mask == 2)
    outside = np.argwhere(~inside)
    found = np.zeros(mask.shape)
    for r, c in np.argwhere(inside):
        found[r, c] = np.sqrt(((outside - (r, c)) ** 2).sum(axis=1).min())
    return found


# --- against an independent implementation ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_features_are_those_of_plain_loops(seed):
    rng = np.random.default_rng(seed)
    protein = rng.random((11, 14)) * rng.choice([1, 100])
    if seed % 3 == 0:  # any scatter of labels
        mask = rng.choice(5, size=protein.shape, p=rng.dirichlet(np.ones(5)))
    elif seed % 3 == 1:
        mask = budding(protein.shape, (5.5, 4.0), 3.5, rng.uniform(1, 3))
    else:  # no bud
        mask = np.where(budding(protein.shape, (6.0, 4.0), 4.2) == 1, 1, 0)
    np.testing.assert_allclose(designed(protein[None], mask), plain_loops(protein, mask), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["no background", "neighbours only", "apart", "no mother", "dark cell", "dark bud"])
def test_what_is_not_there_counts_0_as_in_plain_loops(case):
    protein = RNG.random((9, 12))
    mask = np.zeros((9, 12), int)
    mask[2:7, 1:6], mask[3:6, 6:9] = 1, 2
    if case == "no background":
        mask[mask == 0] = 1
    elif case == "neighbours only":
        mask[mask == 0] = 4
    elif case == "apart":
        mask[:, 6] = 0
    elif case == "no mother":
        mask[mask == 1] = 0
    elif case == "dark cell":
        protein[(mask == 1) | (mask == 2)] = 0
    elif case == "dark bud":
        protein[mask == 2] = 0
    found = features(protein, mask)
    np.testing.assert_allclose(list(found.values()), plain_loops(protein, mask), rtol=1e-10, atol=1e-12)
    zero = {
        "no background": "bud_periphery",
        "apart": "mother_neck",
        "no mother": "budded",
        "dark cell": "mother_variation",
        "dark bud": "bud_fraction",
        "neighbours only": None,
    }[case]
    assert zero is None or found[zero] == 0
    assert found["budded"] == (case != "no mother")


# --- cells made by hand ----------------------------------------------------------------------------------------------


def test_even_protein_is_no_nearer_anything_than_the_pixels_are():
    found = features(np.where(CELL > 0, 0.75, 0.25), CELL)
    areas = (CELL == 1).sum(), (CELL == 2).sum()
    for part, area in zip(("mother", "bud"), areas, strict=True):
        assert found[f"{part}_mean"] == 0.5
        for measure in ("periphery", "centre", "neck", "variation"):
            assert found[f"{part}_{measure}"] == pytest.approx(0, abs=1e-12)
        assert found[f"{part}_fraction"] == pytest.approx(area / sum(areas))
    assert found["mother_spread"] == pytest.approx(128 / (45 * math.pi) / math.sqrt(math.pi), rel=0.01)  # of a disc
    assert found["bud_to_mother_area"] == areas[1] / areas[0]
    assert found["budded"] == 1


def test_a_ring_at_the_outline_is_one_pixel_from_it_and_far_from_the_centre():
    distance = depth(CELL)
    found = features(np.where(distance == 1, 1.0, 0.0), CELL)
    for label, part in ((1, "mother"), (2, "bud")):
        assert found[f"{part}_periphery"] == pytest.approx((1 - distance[label == CELL].mean()) / UNIT)
        assert found[f"{part}_centre"] > 0
    assert found["mother_spread"] > features(np.where(CELL > 0, 1.0, 0.0), CELL)["mother_spread"]


def test_a_dot_at_the_neck_is_at_distance_0_from_it():
    neck = np.argwhere(bud_neck(CELL == 1, CELL == 2))
    for label, part, other in ((1, "mother", "bud"), (2, "bud", "mother")):
        dot = next(tuple(p) for p in neck if CELL[tuple(p)] == label)
        protein = np.zeros(CELL.shape)
        protein[dot] = 5
        found = features(protein, CELL)
        pixels = np.argwhere(label == CELL)
        to_neck = np.sqrt(((pixels[:, None] - neck[None]) ** 2).sum(axis=2)).min(axis=1)
        assert found[f"{part}_neck"] == pytest.approx(-to_neck.mean() / UNIT)
        assert found[f"{part}_spread"] == pytest.approx(0, abs=1e-12)
        assert found[f"{part}_fraction"] == 1
        assert found[f"{part}_variation"] == pytest.approx(math.sqrt(len(pixels) - 1))
        assert [found[f"{other}_{m}"] for m in MEASURES] == [0] * 7


def test_two_dots_of_equal_light_are_half_their_distance_spread():
    protein = np.zeros(CELL.shape)
    protein[30, 20], protein[33, 24] = 2, 2
    assert features(protein, CELL)["mother_spread"] == pytest.approx(5 / 2 / UNIT)


def test_the_neck_is_where_mother_and_bud_touch_at_sides_or_corners():
    mother, bud = np.zeros((2, 6, 6), bool)
    mother[:3, :3], bud[3:, 3:] = True, True
    np.testing.assert_array_equal(np.argwhere(bud_neck(mother, bud)), [[2, 2], [3, 3]])


def test_light_of_neighbours_and_their_share_of_the_crop_change_nothing():
    protein = RNG.random(CELL.shape)
    found = designed(protein[None], CELL)
    np.testing.assert_array_equal(designed(np.where(CELL == 3, 9, protein)[None], CELL), found)
    np.testing.assert_array_equal(designed(protein[None], np.where(CELL == 3, 7, CELL)), found)


# --- invariances -----------------------------------------------------------------------------------------------------

LIT = np.where(CELL > 0, RNG.random(CELL.shape) ** 3, RNG.random(CELL.shape) * 0.1)
LIT = np.rint(LIT * 4096) / 4096  # sums with an offset are exact


@pytest.mark.parametrize("change", [
    lambda image: np.roll(image, (-9, 5), axis=(0, 1)), lambda image: image[::-1], lambda image: image[:, ::-1],
    np.rot90, np.transpose,
], ids=["moved", "upside down", "mirrored", "turned", "transposed"])  # fmt: skip
def test_features_do_not_depend_on_where_the_cell_lies(change):
    mask = np.where(CELL == 3, 0, CELL)  # the neighbour would be wrapped round the crop
    expected = designed(LIT[None], mask)
    np.testing.assert_allclose(designed(change(LIT)[None], change(mask)), expected, rtol=1e-10, atol=1e-12)


def test_background_changes_nothing_and_brightness_the_mean_only():
    expected = features(LIT, CELL)
    np.testing.assert_allclose(list(features(LIT + 2, CELL).values()), list(expected.values()), rtol=1e-12)
    for name, value in features(LIT * 8, CELL).items():
        assert value == pytest.approx(expected[name] * (8 if name.endswith("mean") else 1), rel=1e-10)


def test_distances_are_those_of_the_same_cell_seen_three_times_as_large():
    def seen(times: int) -> dict[str, float]:
        rows, columns = (np.indices((48 * times, 48 * times)) - (times - 1) / 2) / times
        mask = np.where(np.hypot(rows - 24, columns - 34) <= 6.5, 2, 0)
        mask[np.hypot(rows - 24, columns - 17) <= 12] = 1
        return features(np.exp(-((rows - 20) ** 2 + (columns - 14) ** 2) / 50) * (mask > 0), mask)

    once, three_times = seen(1), seen(3)
    for name in (f"{part}_{m}" for part in ("mother", "bud") for m in ("periphery", "centre", "neck", "spread")):
        assert once[name] == pytest.approx(three_times[name], abs=0.01), name


# --- planted anatomy -------------------------------------------------------------------------------------------------


@cache
def anatomy(kind: str) -> pd.DataFrame:
    """Features of every cell of two images of each class of yeast-sim: as published, or without noise and haze."""
    settings = SETTINGS if kind == "published" else CLEAN
    rows = []
    for label in CLASSES:
        for image in [image for image in plan("yeast-sim") if image.label == label][:2]:
            crops, masks = draw("yeast-sim", sample("yeast-sim", image, settings), settings)
            for crop, mask in zip(crops, masks, strict=True):
                rows.append({"label": label, **features(crop[0] / 65535, mask)})
    return pd.DataFrame(rows)


def by_class(kind: str, feature: str) -> list[str]:
    """Classes by their budded cells' mean of a feature, lowest first."""
    cells = anatomy(kind)
    return list(cells[cells["budded"] == 1].groupby("label")[feature].mean().sort_values().index)


BOTH = pytest.mark.parametrize("kind", ["published", "noiseless"])


def test_bud_neck_proteins_are_nearest_the_neck():
    for kind, feature in (("published", "bud_neck"), ("noiseless", "bud_neck"), ("noiseless", "mother_neck")):
        assert by_class(kind, feature)[0] == "BUDNECK", (kind, feature)


@BOTH
def test_periphery_proteins_are_nearest_the_periphery_and_the_most_spread_out(kind):
    assert by_class(kind, "mother_periphery")[0] == "CELLPERIPHERY"
    assert by_class(kind, "mother_spread")[-1] == "CELLPERIPHERY"


@BOTH
def test_vacuolar_proteins_are_farthest_from_the_periphery_and_nearest_the_centre(kind):
    assert by_class(kind, "mother_periphery")[-1] == "VACUOLE"
    assert by_class(kind, "mother_centre")[0] == "VACUOLE"


@BOTH
def test_nuclear_proteins_are_nearer_the_centre_and_farther_from_the_periphery_than_the_pixels_are(kind):
    cells = anatomy(kind)
    nuclear = cells[cells["label"].isin(["NUCLEI", "NUCLEARPERIPHERY", "NUCLEOLUS"])].groupby("label").mean()
    assert len(nuclear) == 3
    assert (nuclear["mother_centre"] < 0).all()
    assert (nuclear["mother_periphery"] > 0).all()


def test_bud_tip_and_actin_proteins_have_the_largest_share_in_the_bud():
    assert set(by_class("published", "bud_fraction")[-2:]) == {"BUDTIP", "ACTIN"}
    # half of a ring at the neck is the bud's, which noise hides
    assert set(by_class("noiseless", "bud_fraction")[-3:]) == {"BUDTIP", "ACTIN", "BUDNECK"}
    assert by_class("noiseless", "bud_fraction")[-1] == "BUDTIP"


@BOTH
def test_bud_tip_proteins_are_far_from_the_neck_in_the_bud(kind):
    assert "BUDTIP" in by_class(kind, "bud_neck")[-2:]


@BOTH
def test_cytoplasmic_proteins_vary_least(kind):
    assert by_class(kind, "mother_variation")[0] == "CYTOPLASM"


# --- through the harness ---------------------------------------------------------------------------------------------


def test_the_harness_gives_named_columns_in_any_order_of_channels_and_cells(make_cells):
    masks = np.stack([CELL, np.where(CELL == 1, 1, 0), np.zeros_like(CELL)]).astype(np.uint16)
    crops = RNG.random((3, 3, 64, 64), dtype=np.float32)
    channels = (Channel("RFP", "marker"), Channel("A", "protein"), Channel("B", "protein"))
    cells = make_cells(crops=crops, channels=channels, masks=masks)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = extract("designed", cells).to_df()
    assert list(found.columns[[0, 7, 14, 28, 29]]) == [
        *("A_mother_mean", "A_bud_mean", "B_mother_mean", "bud_to_mother_area", "budded")
    ]
    for i in range(3):
        expected = designed(crops[i, 1:], masks[i])
        np.testing.assert_array_equal(found.iloc[i], expected.astype(np.float32))
    assert list(found["budded"]) == [1, 0, 0]
    assert (found.iloc[2] == 0).all()
    bud_columns = [c for c in found.columns if "bud" in c]
    assert (found.iloc[1][bud_columns] == 0).all()
    assert (found.iloc[1][["A_mother_neck", "B_mother_neck"]] == 0).all()
    np.testing.assert_array_equal(extract("designed", cells[[2, 0, 1]]).X, found.to_numpy()[[2, 0, 1]])


def test_cells_without_masks_are_segmented_first(make_cells):
    rows, columns = np.indices((64, 64))
    round_cell = (np.hypot(rows - 31.5, columns - 31.5) < 12).astype(np.float32)
    crops = np.stack([np.stack([round_cell * (columns < 32), round_cell])] * 2)
    ((_, found),) = compute_features([parse("designed")], make_cells(crops=crops)).items()
    values = found.to_df().iloc[0]
    assert values["GFP_mother_mean"] > 0
    assert values["GFP_mother_fraction"] == 1
    assert values["budded"] == 0
