"""The simulated yeast: the same in any process and order, true to its own anatomy, and counted as promised."""

import contextlib
import copy
import hashlib
import io
import json
import subprocess
import sys
import tomllib
from collections import Counter
from functools import cache
from pathlib import Path

import emulated_cpu
import numpy as np
import pandas as pd
import pytest

from pci_bench import Dataset, load_dataset
from pci_bench.api.loading import load, shipped_checksum, store_folder, verify
from pci_bench.data.cells import Channel, DatasetMeta, validated_obs
from pci_bench.data.store import pixel_checksum
from pci_bench.datasets import DATASETS, yeast_sim
from pci_bench.errors import UserError
from pci_bench.simulation.yeast.screen import CLASSES, SETTINGS, ImagePlan, draw, plan, sample, truth

SCREENS = ("yeast-sim", "yeast-sim-train")
CELLS = 16


def clean_settings() -> dict:
    """The published numbers, without noise, haze, illumination, autofluorescence and cells that show no structure."""
    settings = copy.deepcopy(SETTINGS)
    for screen in settings["screens"].values():
        none = [0.0, 0.0, 0.0]
        screen.update(haze=none, autofluorescence=none, illumination=0.0, vignetting=0.0, blur=[0.8, 0.0, 0.0])
        for channel in ("gfp", "rfp"):
            screen[channel].update(read_noise=none, gain=none, background=none)
    settings["optics"]["texture"] = 0.0
    for table in settings["proteins"].values():
        table["penetrance"] = [1.0, 1.0]
        if table.get("cytosol", [0])[0] < 0.5:
            table["cytosol"] = [0.0, 0.0]
    return settings


CLEAN = clean_settings()


def planned(number: int, label: str, cells: int) -> ImagePlan:
    """An image of a protein of its own, on a plate of its own."""
    return ImagePlan(number, number, label, number, cells)


@cache
def clean(label: str, number: int = 0):
    """One clean image of a class: GFP and RFP (n, 64, 64) in counts above the offset, masks, and the true positions."""
    image = sample("yeast-sim", planned(number, label, CELLS), CLEAN)
    crops, masks = draw("yeast-sim", image, CLEAN)
    light = crops.astype(float) - CLEAN["optics"]["offset"]
    return light[:, 0], light[:, 1], masks, pd.DataFrame(truth(image))


def distances(positions: pd.DataFrame, name: str) -> np.ndarray:
    """Distances (n, 64, 64) of every pixel to a named point of each cell."""
    rows, columns = np.mgrid[:64, :64]
    y, x = (positions[f"{name}_{axis}"].to_numpy()[:, None, None] for axis in "yx")
    return np.hypot(rows - y, columns - x)


def centre_only(gfp: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """GFP of the cell in the middle, 0 elsewhere."""
    return np.where((masks == 1) | (masks == 2), gfp, 0)


def brightness(light: np.ndarray, where: np.ndarray) -> float:
    """Mean of a region, one count at least: ratios of dark regions stay finite."""
    return max(float(light[where].mean()), 1.0)


def depths(masks: np.ndarray) -> np.ndarray:
    """Distance (n, 64, 64) of every pixel of the cell in the middle to its outline, 0 outside."""
    from scipy.ndimage import distance_transform_edt

    return np.stack([distance_transform_edt((mask == 1) | (mask == 2)) for mask in masks])


def longest_stretch(light: np.ndarray) -> int:
    """Pixels of the largest connected region that is brighter than 40 % of the maximum."""
    from scipy.ndimage import label

    regions, count = label(light > 0.4 * light.max())
    return int(np.bincount(regions.ravel())[1:].max()) if count else 0


def share(gfp: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Share (n,) of each crop's light that is in a region."""
    return np.where(where, gfp, 0).sum(axis=(1, 2)) / np.maximum(gfp.sum(axis=(1, 2)), 1e-9)


# --- what is promised of the two screens ---------------------------------------------------------------------------


@pytest.mark.parametrize(("screen", "least", "most"), [("yeast-sim", 2300, 2800), ("yeast-sim-train", 19_000, 21_500)])
def test_every_protein_is_in_two_wells_on_different_plates(screen, least, most):
    images = plan(screen)
    assert least <= sum(image.cells for image in images) <= most
    assert {image.label for image in images} == set(CLASSES)
    assert len(CLASSES) == 17
    for protein in {image.protein for image in images}:
        first, second = (image for image in images if image.protein == protein)
        assert first.label == second.label
        assert first.plate != second.plate
    assert min(Counter(image.plate for image in images).values()) > 10
    assert min(Counter(image.label for image in images).values()) >= 6


def test_labels_are_of_single_cells_and_every_class_has_enough(small_table):
    counts = small_table["label"].value_counts()
    assert set(counts.index) == set(CLASSES)
    assert counts.min() >= 60
    budded = small_table["stage"].notna()
    assert budded[small_table["label"].isin(["BUDNECK", "BUDTIP"])].all()
    of_buds = small_table["protein_label"].isin(["BUDNECK", "BUDTIP"])
    assert (small_table["label"][of_buds & ~budded] == "CYTOPLASM").all()
    spindles = small_table[small_table["protein_label"] == "SPINDLE"]
    apart = np.hypot(spindles["pole_y"] - spindles["second_pole_y"], spindles["pole_x"] - spindles["second_pole_x"])
    assert (apart[spindles["label"] == "SPINDLE"] > 2.9).all()
    assert (apart[spindles["label"] == "SPINDLEPOLE"] < 3.1).all()


@pytest.fixture(scope="module")
def small_table() -> pd.DataFrame:
    """The whole table of the test screen: nothing of it needs pixels."""
    return yeast_sim.table("yeast-sim", [sample("yeast-sim", image) for image in plan("yeast-sim")])


def test_the_screens_share_neither_proteins_nor_settings_nor_cells():
    one, other = (sample(screen, planned(0, "GOLGI", 12)) for screen in SCREENS)
    assert one.protein != other.protein
    assert one.acquisition != other.acquisition
    assert not np.array_equal(one.scene.origins[:12], other.scene.origins[:12])
    assert SETTINGS["screens"]["yeast-sim"]["blur"] != SETTINGS["screens"]["yeast-sim-train"]["blur"]


# --- determinism -----------------------------------------------------------------------------------------------------

DIGEST = """
import hashlib
from pci_bench.simulation.yeast.screen import plan, sample, draw
image = plan("yeast-sim")[{number}]
crops, masks = draw("yeast-sim", sample("yeast-sim", image))
print(hashlib.sha256(crops.tobytes() + masks.tobytes()).hexdigest())
"""


def test_an_image_is_the_same_in_another_process_and_after_other_images():
    images = plan("yeast-sim")
    digests = {}
    for number in (9, 3, 4):
        crops, masks = draw("yeast-sim", sample("yeast-sim", images[number]))
        digests[number] = hashlib.sha256(crops.tobytes() + masks.tobytes()).hexdigest()
    elsewhere = subprocess.run(
        [sys.executable, "-c", DIGEST.format(number=4)], capture_output=True, text=True, check=True
    )
    assert elsewhere.stdout.strip() == digests[4]
    assert len(set(digests.values())) == 3


WHOLE = """
import hashlib
import numpy as np
from pci_bench.simulation.yeast.screen import draw, plan, sample, table
from pci_bench.data.store import pixel_checksum
samples = [sample("yeast-sim-train", image) for image in plan("yeast-sim-train")[::200]]
blocks = [draw("yeast-sim-train", drawn) for drawn in samples]
crops, masks = (np.concatenate(parts) for parts in zip(*blocks))
print(pixel_checksum(crops, masks), hashlib.sha256(table("yeast-sim-train", samples).to_csv().encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def printed_here() -> str:
    """What WHOLE prints of images drawn in this process."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(WHOLE, {})
    return printed.getvalue()


@pytest.mark.parametrize("level", emulated_cpu.LEVELS)
def test_images_have_the_same_pixels_masks_and_obs_on_another_processor(printed_here, level):
    if reason := emulated_cpu.unavailable_reason(level):
        pytest.skip(reason)
    assert emulated_cpu.python(WHOLE, level=level) == printed_here


def test_the_test_screen_has_the_shipped_checksum(simulated_stores, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(simulated_stores))
    dataset = DATASETS.get("yeast-sim")
    cells = load(dataset)
    checksum = shipped_checksum("yeast-sim", dataset.source_fingerprint())
    assert checksum == pixel_checksum(cells.stored(slice(None)), cells.crops(slice(None), masks=True)[:, 2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yeast-sim-train", "human-sim-train", "human-sim-full"])
def test_the_large_screens_have_the_shipped_checksums(name):
    program = Path(__file__).parent.parent / "speed" / "checksums.py"
    done = subprocess.run([sys.executable, str(program), name], capture_output=True, text=True, check=True)
    shipped = shipped_checksum(name, DATASETS.get(name).source_fingerprint())
    assert tomllib.loads(done.stdout)[name]["sha256"] == shipped


@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_ships_a_checksum_of_its_present_parameters(screen):
    assert shipped_checksum(screen, DATASETS.get(screen).source_fingerprint()) is not None


def test_importing_the_generator_imports_nothing_heavy():
    code = (
        "import sys; import pci_bench.datasets.yeast_sim as y; "
        "print([m for m in ('torch', 'sklearn', 'pandas', 'zarr', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("screen", SCREENS)
def test_crops_are_uint16_far_from_both_ends_of_the_range(screen):
    for image in plan(screen)[:3]:
        crops, masks = draw(screen, sample(screen, image))
        assert crops.dtype == masks.dtype == np.uint16
        assert crops.shape == (image.cells, 2, 64, 64)
        assert masks.shape == (image.cells, 64, 64)
        assert crops.min() > 0
        assert crops.max() < 20_000
        assert (np.ptp(crops, axis=(2, 3)) > 0).all()


def test_crops_that_overlap_in_the_field_show_the_same_pixels():
    image = sample("yeast-sim", planned(1, "ER", 30))
    crops, _ = draw("yeast-sim", image)
    start = np.rint(image.scene.origins[:30]).astype(int) - 32
    overlaps = 0
    for i in range(30):
        for j in range(i):
            down, right = start[j] - start[i]
            if abs(down) < 40 and abs(right) < 40:
                one = crops[i, :, max(down, 0) : 64 + min(down, 0), max(right, 0) : 64 + min(right, 0)]
                other = crops[j, :, max(-down, 0) : 64 + min(-down, 0), max(-right, 0) : 64 + min(-right, 0)]
                np.testing.assert_array_equal(one, other)
                overlaps += 1
    assert overlaps > 5


def test_cells_of_an_image_share_background_and_noise_and_images_differ():
    def background(number: int) -> tuple[np.ndarray, np.ndarray]:
        image = sample("yeast-sim", planned(number, "NUCLEI", 25))
        crops, masks = draw("yeast-sim", image)
        levels = [np.median(c[0][m == 0]) for c, m in zip(crops, masks, strict=True)]
        noise = [
            np.std(np.diff(c[0].astype(float), axis=1)[(m == 0)[:, 1:]]) for c, m in zip(crops, masks, strict=True)
        ]
        return np.array(levels), np.array(noise)

    measured = [background(number) for number in range(6)]
    for values in zip(*measured, strict=True):
        within = np.mean([v.std() for v in values])
        between = np.std([v.mean() for v in values])
        assert between > 1.5 * within


def test_proteins_of_a_class_differ_and_images_differ_in_expression():
    proteins = [sample("yeast-sim", planned(number, "GOLGI", 12)).protein for number in range(12)]
    assert len({p.expression for p in proteins}) == 12
    assert max(p.count for p in proteins) > 1.2 * min(p.count for p in proteins)
    assert all(0.9 <= p.penetrance <= 1 for p in proteins)


# --- masks and positions ---------------------------------------------------------------------------------------------


def test_masks_hold_the_cell_in_the_middle_its_bud_and_the_neighbours():
    _, rfp, masks, positions = clean("CYTOPLASM")
    budded = positions["stage"].notna().to_numpy()
    assert 0 < budded.sum() < len(budded)
    rows, columns = np.rint(positions[["mother_y", "mother_x"]]).astype(int).to_numpy().T
    assert (masks[np.arange(CELLS), rows, columns] == 1).all()
    assert ((masks == 2).any(axis=(1, 2)) == budded).all()
    for i in np.flatnonzero(budded):
        assert masks[i][round(positions["bud_y"][i]), round(positions["bud_x"][i])] == 2
    area = np.pi * (positions["mother_major"] * positions["mother_minor"]).to_numpy()
    found = (masks == 1).sum(axis=(1, 2))
    whole = ~budded & ~((masks[:, [0, -1]] == 1).any(axis=(1, 2)) | (masks[:, :, [0, -1]] == 1).any(axis=(1, 2)))
    np.testing.assert_allclose(found[whole], area[whole], rtol=0.06)
    for mask in masks:  # neighbours are numbered without gaps
        labels = np.unique(mask[mask > 2])
        np.testing.assert_array_equal(labels, np.arange(3, 3 + len(labels)))
    assert (masks > 2).any(axis=(1, 2)).mean() > 0.7
    light = [(rfp[i][masks[i] > 0].mean(), rfp[i][masks[i] == 0].mean()) for i in range(CELLS)]
    assert all(cell > 4 * ground for cell, ground in light)


def test_true_sizes_are_ordered_and_vacuoles_and_nuclei_are_inside_the_mother():
    *_, positions = clean("CYTOPLASM")
    assert (positions["mother_major"] >= positions["mother_minor"]).all()
    for part in ("vacuole", "nucleus"):
        y, x = (positions[f"{part}_{axis}"] - positions[f"mother_{axis}"] for axis in "yx")
        single = positions["second_nucleus_y"].isna()
        outermost = np.hypot(y, x) + positions[f"{part}_radius"]
        assert (outermost < positions["mother_major"] + 1)[single].all()


def test_the_cell_in_the_middle_has_its_centre_of_area_in_the_middle():
    _, _, masks, _ = clean("CYTOPLASM")
    rows, columns = np.mgrid[:64, :64]
    for mask in masks:
        cell = (mask == 1) | (mask == 2)
        if not (cell[[0, -1]].any() or cell[:, [0, -1]].any()):
            assert abs(rows[cell].mean() - 32) < 2
            assert abs(columns[cell].mean() - 32) < 2


def test_the_marker_is_dark_in_the_vacuole():
    _, rfp, _, positions = clean("CYTOPLASM")
    lumen = distances(positions, "vacuole") < 0.5 * positions["vacuole_radius"].to_numpy()[:, None, None]
    nucleus = distances(positions, "nucleus") < 0.6 * positions["nucleus_radius"].to_numpy()[:, None, None]
    large = (positions["vacuole_radius"] > 4).to_numpy()
    ratio = [rfp[i][lumen[i]].mean() / rfp[i][nucleus[i]].mean() for i in np.flatnonzero(large)]
    assert np.median(ratio) < 0.85
    assert np.mean(np.array(ratio) < 1) > 0.9


# --- the seventeen classes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", CLASSES)
def test_every_class_is_visible_in_nearly_every_cell(label):
    gfp, _, masks, _ = clean(label)
    brightest = centre_only(gfp, masks).max(axis=(1, 2))
    assert (brightest > 20).mean() > 0.9


@pytest.mark.parametrize(("label", "part", "reach", "least"), [
    ("NUCLEI", "nucleus", 1.0, 0.8),
    ("NUCLEOLUS", "nucleus", 1.2, 0.8),
    ("NUCLEARPERIPHERY", "nucleus", 1.5, 0.75),
])  # fmt: skip
def test_nuclear_proteins_are_in_the_nucleus(label, part, reach, least):
    gfp, _, masks, positions = clean(label)
    near = np.full(gfp.shape, np.inf)
    for name in ("nucleus", "second_nucleus"):
        near = np.fmin(near, distances(positions, name))
    radius = positions["nucleus_radius"].to_numpy()[:, None, None]
    assert np.median(share(centre_only(gfp, masks), near < reach * radius + 1)) > least


def test_the_nuclear_envelope_is_brighter_than_the_nucleus_and_the_nucleus_is_full():
    def profile(label: str) -> float:
        gfp, _, _, positions = clean(label)
        single = positions["second_nucleus_y"].isna().to_numpy()
        distance, radius = distances(positions, "nucleus"), positions["nucleus_radius"].to_numpy()[:, None, None]
        ring, middle = np.abs(distance - radius) < 1, distance < 0.4 * radius
        return np.median([brightness(gfp[i], ring[i]) / brightness(gfp[i], middle[i]) for i in np.flatnonzero(single)])

    assert profile("NUCLEARPERIPHERY") > 1.5
    assert profile("NUCLEI") < 0.8


def test_the_nucleolus_is_on_the_other_side_of_the_nucleus_than_the_pole():
    gfp, _, _, positions = clean("NUCLEOLUS")
    rows, columns = np.mgrid[:64, :64]
    single = np.flatnonzero(positions["stage"].isna())  # unbudded: one pole
    near = distances(positions, "nucleus") < 1.3 * positions["nucleus_radius"].to_numpy()[:, None, None]
    sides = []
    for i in single:
        weight = np.where(near[i], gfp[i], 0)
        y = (weight * rows).sum() / weight.sum() - positions["nucleus_y"][i]
        x = (weight * columns).sum() / weight.sum() - positions["nucleus_x"][i]
        to_pole = positions.loc[i, ["pole_y", "pole_x"]].to_numpy(float) - positions.loc[
            i, ["nucleus_y", "nucleus_x"]
        ].to_numpy(float)
        sides.append(y * to_pole[0] + x * to_pole[1])
    assert (np.array(sides) < 0).all()


@pytest.mark.parametrize(("label", "point", "tolerance"), [
    ("BUDNECK", "neck", 5), ("SPINDLEPOLE", "poles", 2.5), ("SPINDLE", "poles", 99),
])  # fmt: skip
def test_the_brightest_pixel_of_neck_and_pole_proteins_is_there(label, point, tolerance):
    gfp, _, masks, positions = clean(label)
    cell = centre_only(gfp, masks)
    names = ("pole", "second_pole") if point == "poles" else (point,)
    distance = np.minimum.reduce([distances(positions, name) for name in names])
    if label == "SPINDLE":  # anywhere on the bar: no farther from both poles than they are from each other
        length = np.hypot(
            positions["pole_y"] - positions["second_pole_y"], positions["pole_x"] - positions["second_pole_x"]
        ).to_numpy()[:, None, None]
        distance = np.maximum.reduce([distances(positions, name) for name in names]) - length
        tolerance = 2.5
    shown = positions.index if label != "BUDNECK" else positions.index[positions["stage"].notna()]
    off = [distance[i].ravel()[cell[i].argmax()] for i in shown]
    assert np.mean(np.array(off) < tolerance) > 0.85


@pytest.mark.parametrize(("label", "joined"), [("SPINDLE", True), ("SPINDLEPOLE", False)])
def test_the_spindle_joins_the_poles_and_the_poles_are_two_dots(label, joined):
    ratios = []
    for number in (0, 1):
        gfp, _, _, positions = clean(label, number)
        first, second = (positions[[f"{p}_y", f"{p}_x"]].to_numpy() for p in ("pole", "second_pole"))
        for i in np.flatnonzero(np.linalg.norm(first - second, axis=1) > 7):
            ends = [gfp[i][tuple(np.rint(p[i]).astype(int))] for p in (first, second)]
            middle = gfp[i][tuple(np.rint((first[i] + second[i]) / 2).astype(int))]
            ratios.append(middle / max(*ends, 1))
    assert len(ratios) >= 4
    assert (np.median(ratios) > 0.5) == joined


def test_the_bud_tip_is_a_cap_on_the_bud():
    gfp, _, masks, positions = clean("BUDTIP")
    budded = np.flatnonzero(positions["bud_major"] > 4)
    cell = centre_only(gfp, masks)
    to_tip, to_neck = distances(positions, "tip"), distances(positions, "neck")
    closer = [to_tip[i].ravel()[cell[i].argmax()] < to_neck[i].ravel()[cell[i].argmax()] for i in budded]
    assert len(closer) >= 4
    assert np.mean(closer) > 0.85


def test_actin_is_denser_in_small_and_middle_buds_than_in_their_mothers():
    ratios = []
    for number in (0, 1):
        gfp, _, masks, positions = clean("ACTIN", number)
        for i in np.flatnonzero((positions["stage"] > 0.1) & (positions["stage"] < 0.8)):
            ratios.append(gfp[i][masks[i] == 2].mean() / max(gfp[i][masks[i] == 1].mean(), 1e-9))
    assert len(ratios) >= 6
    assert np.median(ratios) > 2


@pytest.mark.parametrize(("label", "at_rim"), [("CELLPERIPHERY", True), ("CYTOPLASM", False)])
def test_the_periphery_is_at_the_rim_and_the_cytosol_is_not(label, at_rim):
    gfp, _, masks, _ = clean(label)
    ratios = []
    for light, depth in zip(gfp, depths(masks), strict=True):
        ratios.append(brightness(light, (depth > 0) & (depth <= 3)) / brightness(light, depth > 6))
    assert (np.median(ratios) > 3) == at_rim
    if not at_rim:
        assert np.median(ratios) < 1


def test_cytoplasmic_protein_looks_like_the_marker_and_vacuolar_protein_like_its_opposite():
    def within_mother(label: str) -> float:
        gfp, rfp, _, positions = clean(label)
        inner = distances(positions, "mother") < 0.65 * positions["mother_minor"].to_numpy()[:, None, None]
        return np.median([np.corrcoef(gfp[i][inner[i]], rfp[i][inner[i]])[0, 1] for i in range(CELLS)])

    assert within_mother("CYTOPLASM") > 0.6
    assert within_mother("VACUOLE") < -0.5
    gfp, _, masks, positions = clean("VACUOLE")
    lumen = distances(positions, "vacuole") < positions["vacuole_radius"].to_numpy()[:, None, None] + 1
    assert np.median(share(centre_only(gfp, masks), lumen)) > 0.6


def test_the_vacuolar_membrane_is_a_ring_round_the_vacuole():
    gfp, _, _, positions = clean("VACUOLARMEMBRANE")
    distance, radius = distances(positions, "vacuole"), positions["vacuole_radius"].to_numpy()[:, None, None]
    ring, middle = np.abs(distance - radius) < 1, distance < 0.4 * radius
    large = np.flatnonzero(radius.ravel() > 4)
    assert np.median([brightness(gfp[i], ring[i]) / brightness(gfp[i], middle[i]) for i in large]) > 2


def test_puncta_differ_in_number_between_classes():
    from scipy.ndimage import gaussian_filter, maximum_filter

    def spots(label: str) -> float:
        counts = []
        for number in range(2):
            gfp, _, masks, _ = clean(label, number)
            for light in centre_only(gfp, masks):
                smooth = gaussian_filter(light, 0.5)
                counts.append(((smooth == maximum_filter(smooth, 3)) & (smooth > 0.3 * smooth.max())).sum())
        return float(np.mean(counts))

    assert spots("SPINDLEPOLE") < spots("ENDOSOME") < spots("PEROXISOME") < spots("GOLGI")


def test_the_reticulum_is_the_nuclear_envelope_and_stretches_under_the_membrane():
    gfp, _, masks, positions = clean("ER")
    single = np.flatnonzero(positions["second_nucleus_y"].isna())
    distance, radius = distances(positions, "nucleus"), positions["nucleus_radius"].to_numpy()[:, None, None]
    depth, cell = depths(masks), centre_only(gfp, masks)
    ring = [np.median(gfp[i][np.abs(distance - radius)[i] < 1]) for i in single]
    middle = [np.median(gfp[i][(distance < 0.4 * radius)[i]]) for i in single]
    assert np.median(np.array(ring) / np.maximum(middle, 1)) > 1.5
    elsewhere = np.where(distance > radius + 3, cell, 0)[single]
    assert np.median(share(elsewhere, depth[single] <= 5)) > 0.6


def test_mitochondria_run_along_the_cortex_and_not_through_the_nucleus():
    gfp, _, masks, positions = clean("MITOCHONDRIA")
    depth, cell = depths(masks), centre_only(gfp, masks)
    nucleus = distances(positions, "nucleus") < 0.6 * positions["nucleus_radius"].to_numpy()[:, None, None]
    assert np.median(share(cell, depth <= 8)) > 0.85
    assert np.median(share(cell, depth <= 1)) < 0.2
    assert np.median(share(cell, nucleus)) < 0.06
    assert np.median([longest_stretch(light) for light in cell]) > 1.5 * np.median(
        [longest_stretch(light) for light in centre_only(*clean("GOLGI")[::2][:2])]
    )


def test_golgi_spots_are_spread_through_the_cytosol_of_mother_and_bud_but_not_in_the_vacuole():
    gfp, _, masks, positions = clean("GOLGI")
    depth, cell = depths(masks), centre_only(gfp, masks)
    lumen = distances(positions, "vacuole") < 0.6 * positions["vacuole_radius"].to_numpy()[:, None, None]
    assert np.median(share(cell, depth > 5)) > 0.3  # not only at the cortex
    assert np.median(share(cell, lumen)) < 0.05
    in_bud = share(cell, masks == 2)[(positions["bud_major"] > 7).to_numpy()]
    assert (in_bud > 0).mean() > 0.5


def test_spots_of_endosomes_are_beside_the_vacuole_and_those_of_peroxisomes_near_the_cortex():
    def beside_vacuole(label: str) -> float:
        gfp, _, masks, positions = clean(label)
        gap = distances(positions, "vacuole") - positions["vacuole_radius"].to_numpy()[:, None, None]
        return float(np.median(share(centre_only(gfp, masks), np.abs(gap) < 3)))

    assert beside_vacuole("ENDOSOME") > 1.25 * max(beside_vacuole("PEROXISOME"), beside_vacuole("GOLGI"))
    at_cortex = {}
    for label in ("PEROXISOME", "GOLGI"):
        images = [clean(label, number) for number in (0, 1)]
        shares = [share(centre_only(gfp, masks), depths(masks) <= 5) for gfp, _, masks, _ in images]
        at_cortex[label] = np.concatenate(shares).mean()
    assert at_cortex["PEROXISOME"] > 0.75
    assert at_cortex["PEROXISOME"] > 1.25 * at_cortex["GOLGI"]


def test_neighbours_carry_the_same_protein_in_their_own_anatomy():
    gfp, rfp, masks, _ = clean("CYTOPLASM")
    for i in range(CELLS):
        neighbour = masks[i] > 2
        if neighbour.sum() > 200:
            assert gfp[i][neighbour].mean() > 0.3 * gfp[i][masks[i] == 1].mean()
            assert np.corrcoef(gfp[i][neighbour], rfp[i][neighbour])[0, 1] > 0.2


def test_cells_without_penetrance_have_the_protein_in_the_cytosol():
    settings = copy.deepcopy(CLEAN)
    settings["proteins"]["NUCLEI"]["penetrance"] = [0.0, 0.0]
    image = sample("yeast-sim", planned(0, "NUCLEI", CELLS), settings)
    crops, masks = draw("yeast-sim", image, settings)
    assert not truth(image)["penetrant"].any()
    light = crops.astype(float) - settings["optics"]["offset"]
    together = [np.corrcoef(c[0][m == 1], c[1][m == 1])[0, 1] for c, m in zip(light, masks, strict=True)]
    assert np.median(together) > 0.8


# --- as datasets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    """One image of five classes."""
    few = {label: int(label in CLASSES[:5]) for label in CLASSES}
    monkeypatch.setitem(yeast_sim.SETTINGS, "proteins_per_class", few)


def test_the_dataset_loads_with_labels_masks_and_positions(small):
    cells = load_dataset("yeast-sim")
    assert [c.role for c in cells.channels] == ["protein", "marker"]
    assert (cells.meta.confounder, cells.meta.training, cells.meta.label) == (
        "image",
        "yeast-sim-train",
        "localization",
    )
    assert cells.meta.licence == "BSD-3-Clause"
    assert cells.has_masks
    assert cells.stored(slice(0, 3)).dtype == np.uint16
    pd.testing.assert_frame_equal(validated_obs(cells.obs, "again"), cells.obs)
    assert cells.obs["image"].nunique() == 2 * cells.obs["protein"].nunique() == 10
    assert cells.obs["plate"].nunique() == 2
    assert list(cells.obs["label"].cat.categories) == list(CLASSES[:5])
    assert cells.obs[["y", "x", "mother_y", "neck_x", "nucleus_y", "vacuole_radius", "pole_x"]].notna().all(axis=None)
    assert cells.obs["bud_y"].isna().equals(cells.obs["stage"].isna())
    crops, masks = draw("yeast-sim", sample("yeast-sim", plan("yeast-sim")[1]))
    of_second = np.flatnonzero(cells.obs["image"] == "S002")
    np.testing.assert_array_equal(cells.stored(slice(of_second[0], of_second[-1] + 1)), crops)
    np.testing.assert_array_equal(cells.crops(of_second, masks=True)[:, 2], masks)


def test_the_hash_is_of_the_parameters_and_verify_reads_the_pixels(small, monkeypatch):
    dataset = yeast_sim.YeastSim()
    first = load(dataset).sha256
    assert verify(dataset) == first
    other_optics = {**SETTINGS["optics"], "haze_blur": 6.5}
    monkeypatch.setitem(yeast_sim.SETTINGS, "optics", other_optics)
    assert load(dataset).sha256 != first


class Planted(Dataset):
    """Generated data whose pixels are a little other on every machine."""

    meta = DatasetMeta("planted", "1", "Planted")

    def __init__(self, pixels: int, identity: str | None):
        self.pixels, self.identity = pixels, identity

    def unavailable_reason(self):
        return None

    def source_fingerprint(self):
        return f"{self.pixels} {self.identity}"

    def build(self, store):
        obs = pd.DataFrame({"cell": ["a", "b"], "image": ["i", "i"], "y": [self.pixels / 3, 0]})
        store.begin(obs, (Channel("GFP", "protein"),), crop_shape=(2, 2), dtype="uint16", identity=self.identity)
        store.add(np.arange(8, dtype=np.uint16).reshape(2, 1, 2, 2) + np.uint16(self.pixels))


def test_the_hash_of_generated_data_is_of_what_they_are_made_from():
    assert load(Planted(0, "seed 1")).sha256 == load(Planted(1, "seed 1")).sha256
    assert load(Planted(0, "seed 1")).sha256 != load(Planted(0, "seed 2")).sha256
    assert load(Planted(0, None)).sha256 != load(Planted(1, None)).sha256


def test_generated_data_that_changed_on_disk_are_noticed():
    dataset = Planted(0, "seed 1")
    load(dataset)
    description = store_folder(dataset) / "store.json"
    content = json.loads(description.read_text())
    assert content["stored_sha256"] != content["sha256"]
    import zarr

    zarr.open_array(store_folder(dataset) / "crops.zarr", mode="r+")[0, 0, 0, 0] = 77
    with pytest.raises(UserError, match="no longer holds"):
        verify(dataset)
