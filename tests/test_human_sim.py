"""The simulated human cells: the same in any process and order, true to their own anatomy, and planted as promised."""

import copy
import hashlib
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import replace
from functools import cache
from importlib.resources import files

import emulated_cpu
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_edt, label
from scipy.stats import spearmanr

from pci_bench.api.loading import load, shipped_checksum, verify
from pci_bench.data.cells import validated_obs
from pci_bench.data.store import pixel_checksum
from pci_bench.datasets import DATASETS
from pci_bench.datasets.human_sim import SimulatedCollection
from pci_bench.errors import UserError
from pci_bench.simulation.arithmetic import Random
from pci_bench.simulation.human.collection import (
    LINES,
    SETTINGS,
    Parameters,
    Simulation,
    draw,
    nuclear_masks,
    parameters_of,
    plan,
    proteins,
    sample,
    simulate,
    table,
)
from pci_bench.simulation.human.compartments import TERMS
from pci_bench.simulation.human.ontology import ONTOLOGY, annotations_text, null_ids, ontology_text, planted_ids
from pci_bench.simulation.human.optics import render

SMALL = parameters_of("human-sim")


def clean_settings() -> dict:
    """The published numbers, without noise, haze, background, unspecific binding and fine clumps."""
    settings = copy.deepcopy(SETTINGS)
    settings["signal"] = 1.0
    settings["proteins"].update(diffuse=[0.0, 0.0], grain=[0.0, 0.0], brightness=[0.3, 0.3], cell_spread=0.0)
    settings["optics"].update(
        blur=[0.3, 0.3], image_jitter=0.0, haze=[0.0, 0.0], antibody_gain=[1.0, 1.0], background=[0.0, 0.0],
        read_noise=[0.0, 0.0], gain=[0.0, 0.0],
    )  # fmt: skip
    return settings


CLEAN = clean_settings()


@cache
def clean(term: str, seed: int = 5) -> Simulation:
    """One clean protein of a term (of each of its variants), in all four cell lines."""
    wanted = Parameters(
        seed=seed,
        terms=(term,),
        proteins_per_term=1,
        proteins_per_variant=1,
        lines_per_protein=4,
        cells_per_image=(6, 6),
    )
    return simulate(wanted, CLEAN)


def light_of(simulation: Simulation) -> np.ndarray:
    """Antibody (n, 64, 64) of the cell in the middle, 0 elsewhere."""
    return np.where(simulation.masks == 1, simulation.crops[:, 0], 0).astype(float)


def to_edge(masks: np.ndarray) -> np.ndarray:
    """Distance (n, 64, 64) of the pixels of a region to its outline, 0 outside."""
    return np.stack([distance_transform_edt(mask) for mask in masks])


def correlations(one: np.ndarray, other: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Pearson's correlation (n,) of two channels in a region of each crop."""
    return np.array([np.corrcoef(a[w], b[w])[0, 1] for a, b, w in zip(one, other, where, strict=True)])


# --- what is promised of the collections -----------------------------------------------------------------------------


def test_the_small_collection_has_about_2000_cells_and_every_localization_in_every_line():
    images = plan(SMALL)
    assert 1500 <= sum(image.cells for image in images) <= 2500
    assert min(image.cells for image in images) >= 5
    members, lines = defaultdict(set), defaultdict(Counter)
    for image in images:
        if len(image.protein.terms) == 1:
            members[image.protein.terms[0]].add(image.protein.name)
            lines[image.protein.terms[0]][image.line] += 1
    assert set(members) == set(TERMS)
    assert len(TERMS) == 18
    assert min(len(m) for m in members.values()) >= 4
    assert all(set(counts) == set(LINES) and min(counts.values()) >= 2 for counts in lines.values())
    per_protein = Counter(image.protein.name for image in images)
    assert set(per_protein.values()) == {2}


def test_at_full_size_30_proteins_have_each_localization_alone():
    alone = Counter(p.terms[0] for p in proteins(parameters_of("human-sim-full")) if len(p.terms) == 1)
    assert set(alone) == set(TERMS)
    assert min(alone.values()) >= 30


def test_the_training_collection_shares_no_protein_scene_or_pixel_with_the_others():
    first = {}
    for name in ("human-sim", "human-sim-train", "human-sim-full"):
        parameters = parameters_of(name)
        image = plan(parameters)[0]
        one = sample(parameters, replace(image, cells=6))
        first[name] = (image.protein.name, one.acquisition, one.scene.origins[0].tobytes())
    for kind in zip(*first.values(), strict=True):
        assert len({str(value) for value in kind}) == 3
    assert sum(image.cells for image in plan(parameters_of("human-sim-train"))) > 15_000


def test_all_three_are_registered_and_train_on_the_same():
    for name in ("human-sim", "human-sim-train", "human-sim-full"):
        meta = DATASETS.get(name).meta
        assert meta.name == name
        assert meta.training == "human-sim-train"
        assert DATASETS.get(name).unavailable_reason() is None


# --- determinism -----------------------------------------------------------------------------------------------------

DIGESTS = """
import hashlib, sys
from pci_bench.simulation.human.collection import draw, parameters_of, plan, sample, table
p = parameters_of("human-sim")
for number in map(int, sys.argv[1:]):
    one = sample(p, plan(p)[number])
    parts = [part.tobytes() for part in draw(p, one)] + [table([one]).to_csv().encode()]
    print(hashlib.sha256(b"".join(parts)).hexdigest())
"""
IMAGES = (9, 3, 4)


@pytest.fixture(scope="module")
def digests() -> list[str]:
    """Pixels, masks and obs of three images, drawn here."""
    images = [sample(SMALL, plan(SMALL)[number]) for number in IMAGES]
    parts = [[part.tobytes() for part in draw(SMALL, one)] + [table([one]).to_csv().encode()] for one in images]
    return [hashlib.sha256(b"".join(part)).hexdigest() for part in parts]


def test_an_image_is_the_same_in_another_process_and_after_other_images(digests):
    numbers = [str(number) for number in reversed(IMAGES)]
    elsewhere = subprocess.run([sys.executable, "-c", DIGESTS, *numbers], capture_output=True, text=True, check=True)
    assert elsewhere.stdout.split() == digests[::-1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize("level", emulated_cpu.LEVELS)
def test_an_image_has_the_same_pixels_masks_and_obs_on_another_processor(digests, level):
    if reason := emulated_cpu.unavailable_reason(level):
        pytest.skip(reason)
    printed = emulated_cpu.python(DIGESTS, *map(str, IMAGES), level=level)
    assert printed.split() == digests


@pytest.fixture(scope="module")
def built(simulated_stores):
    """The small collection, stored as a user's is, whose pixels building compares with the shipped checksum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(simulated_stores))
        yield load(DATASETS.get("human-sim"))


def test_the_small_collection_has_the_shipped_checksum(built):
    checksum = shipped_checksum("human-sim", DATASETS.get("human-sim").source_fingerprint())
    masks = built.crops(slice(None), masks=True)[:, 3]
    assert checksum == pixel_checksum(built.stored(slice(None)), masks)


@pytest.mark.parametrize("name", ["human-sim", "human-sim-train", "human-sim-full"])
def test_every_collection_ships_a_checksum_of_its_present_parameters(name):
    assert shipped_checksum(name, DATASETS.get(name).source_fingerprint()) is not None


def test_importing_the_generator_imports_nothing_heavy():
    code = (
        "import sys; import pci_bench.simulation.human.ontology; "
        "print([m for m in ('torch', 'sklearn', 'pandas', 'zarr', 'scipy', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Tiny(SimulatedCollection):
    """Two proteins, built and stored as the real collections are."""

    name = "human-sim"

    def __init__(self, **changes):
        super().__init__()
        self.parameters = Parameters(terms=("cytosol",), proteins_per_term=2, cells_per_image=(5, 5), **changes)


def test_a_collection_is_stored_with_masks_and_a_hash_that_follows_every_parameter(tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path))
    dataset = Tiny(seed=1)
    cells = load(dataset)
    assert verify(dataset) == cells.sha256
    simulated = simulate(dataset.parameters)
    np.testing.assert_array_equal(cells.stored(slice(None)), simulated.crops)
    np.testing.assert_array_equal(cells.crops(slice(None), masks=True)[:, 3], simulated.masks)
    assert [(c.name, c.role, c.floor) for c in cells.channels] == [
        ("antibody", "protein", 0.0), ("nucleus", "marker", 0.05), ("microtubules", "marker", 0.05)
    ]  # fmt: skip
    changes = [
        {"seed": 2},
        {"seed": 1, "stream": 1},
        {"seed": 1, "line_strength": 0.5},
        {"seed": 1, "lines_per_protein": 3},
    ]
    assert len({dataset.source_fingerprint(), *(Tiny(**change).source_fingerprint() for change in changes)}) == 5


# --- obs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kinds() -> Simulation:
    """Clean proteins of every kind: single, with variants, mixed and variable."""
    wanted = Parameters(
        seed=8, terms=("vesicles", "cytosol"), proteins_per_term=1, proteins_per_variant=1, mixed_proteins=1,
        variable_proteins=1, cells_per_image=(5, 7), variable_cells=(8, 10),
    )  # fmt: skip
    return simulate(wanted, CLEAN)


def test_obs_is_valid_and_what_belongs_to_an_image_is_constant_in_it(kinds):
    obs = validated_obs(kinds.obs, "test")
    constant = ["protein", "cell_line", "plate", "labels", "subcluster", "mixture", "variable_fraction"]
    assert (obs.groupby("image")[constant].nunique(dropna=False) == 1).all(axis=None)
    assert (obs.groupby("protein")[["labels", "mixture", "variable_fraction"]].nunique(dropna=False) == 1).all(
        axis=None
    )
    assert obs["image"].value_counts().min() >= 5
    two = obs["labels"].str.contains(";")
    assert (obs["label"].isna() == two).all()
    assert (obs.loc[~two, "label"].astype(str) == obs.loc[~two, "labels"]).all()
    assert obs["mixture"].notna().sum() > 0
    assert (obs["mixture"].notna() | (obs["variable_fraction"] > 0)).equals(two)
    assert set(obs.loc[obs["label"] == "vesicles", "subcluster"]) == {
        "vesicles: even", "vesicles: perinuclear", "vesicles: sparse"
    }  # fmt: skip
    assert (obs.loc[obs["label"] == "cytosol", "subcluster"] == "").all()


def test_simulated_cells_serve_as_any_cells(kinds):
    cells = kinds.cells()
    crops = cells.crops(slice(0, 4), masks=True)
    assert crops.shape == (4, 4, 64, 64)
    assert crops[:, :3].min() >= 0
    assert crops[:, :3].max() <= 1


def test_the_cells_of_a_variable_protein_have_the_second_localization_in_the_planted_fraction(kinds):
    variable = kinds.obs[kinds.obs["variable_fraction"] > 0]
    assert variable["protein"].nunique() == 5
    for _, image in variable.groupby("image"):
        second = image["labels"].iloc[0].split(";")[1]
        assert (image["state"] == second).sum() == round(image["variable_fraction"].iloc[0] * len(image))
        assert (image["second"] == (image["state"] == second)).all()


def test_a_variable_cell_shows_the_localization_of_its_state(kinds):
    light = light_of(kinds)
    in_nucleus = np.where(kinds.nuclei == 1, light, 0).sum(axis=(1, 2)) / light.sum(axis=(1, 2))
    chosen = ((kinds.obs["variable_fraction"] > 0) & (kinds.obs["labels"] == "cytosol;nucleoplasm")).to_numpy()
    nuclear = (kinds.obs["state"] == "nucleoplasm").to_numpy()
    assert 0 < nuclear[chosen].mean() < 1
    assert (in_nucleus[chosen & nuclear] > 0.8).all()
    assert (in_nucleus[chosen & ~nuclear] < 0.2).all()


# --- the mixture is what integrating light gives -----------------------------------------------------------------------


@pytest.mark.parametrize(("first", "tolerance"), [("cytosol", 0.04), ("nucleoli", 0.1)])
def test_the_mixture_is_the_share_of_light_in_the_second_compartment(first, tolerance):
    wanted = Parameters(seed=4, terms=("cytosol",), proteins_per_term=0, mixed_proteins=5, lines_per_protein=2)
    nominal, measured = [], []
    for image in plan(wanted, CLEAN):
        if image.protein.terms[0] != first:
            continue
        one = sample(wanted, image, CLEAN)
        pixels, ground = render(Random(0), one.scene, image.protein, one.line, one.acquisition, CLEAN)
        nuclear = ground.nucleus < 0
        # some proteins fill more of the nucleolus than others; its soft edge, half a pixel outside, is part of it
        outline = 0.7 * (image.protein.size - 1) + 0.5
        where = nuclear if first == "cytosol" else nuclear & (ground.nucleolus > outline)
        n = len(ground.anatomy)
        total, second = (
            np.bincount(ground.owner.ravel() + 1, light.ravel(), n + 1)[1:]
            for light in (pixels[0].astype(float), pixels[0] * where.astype(float))
        )
        shares = (second / np.maximum(total, 1e-9))[: image.cells]
        assert np.abs(shares - one.scene.second[: image.cells]).mean() < tolerance
        nominal.append(image.protein.mixture)
        measured.append(shares.mean())
    assert len(nominal) == 10
    assert spearmanr(nominal, measured).statistic > 0.95


# --- masks -----------------------------------------------------------------------------------------------------------


def test_masks_hold_the_cell_in_the_middle_its_nucleus_and_the_neighbours(kinds):
    masks, nuclei = kinds.masks, kinds.nuclei
    assert masks.dtype == np.uint16
    assert (masks[:, 32, 32] == 1).all()
    assert (nuclei[:, 32, 32] == 1).all()
    assert ((nuclei == 0) | (nuclei == masks)).all()
    assert not (masks == 2).any()
    for mask in masks:
        others = np.unique(mask[mask > 2])
        np.testing.assert_array_equal(others, np.arange(3, 3 + len(others)))
    rows, columns = np.mgrid[:64, :64]
    middle = nuclei == 1
    for axis in (rows, columns):
        mean = (axis * middle).sum(axis=(1, 2)) / middle.sum(axis=(1, 2))
        assert np.abs(mean - 32).max() < 3
    area = middle.sum(axis=(1, 2))
    np.testing.assert_allclose(area, kinds.obs["nucleus_area"], rtol=0.25)
    assert ((masks == 1).sum(axis=(1, 2)) > 1.3 * area).mean() > 0.97
    assert (masks > 2).any(axis=(1, 2)).mean() > 0.8


def test_the_markers_show_nucleus_and_cytoplasm(kinds):
    nucleus, tubules = (kinds.crops[:, c].astype(float) for c in (1, 2))
    core = to_edge(kinds.nuclei == 1) > 2
    cytoplasm = (kinds.masks == 1) & (kinds.nuclei == 0)
    outside = kinds.masks == 0
    for i in range(len(kinds.masks)):
        assert nucleus[i][core[i]].mean() > 8 * nucleus[i][cytoplasm[i]].mean()
        assert tubules[i][cytoplasm[i]].mean() > 1.5 * tubules[i][core[i]].mean()
        if outside[i].sum() > 50:
            assert tubules[i][cytoplasm[i]].mean() > 5 * tubules[i][outside[i]].mean()


def test_nuclear_masks_of_a_stored_collection_can_be_drawn_again():
    image = plan(SMALL)[2]
    drawn = draw(SMALL, sample(SMALL, image))
    np.testing.assert_array_equal(nuclear_masks("human-sim", image.name), drawn[2])
    with pytest.raises(UserError, match="no image 'H9999_SIM-A'"):
        nuclear_masks("human-sim", "H9999_SIM-A")


# --- the eighteen localizations --------------------------------------------------------------------------------------


@pytest.mark.parametrize("term", TERMS)
def test_every_localization_is_visible_in_nearly_every_cell(term):
    brightest = light_of(clean(term)).max(axis=(1, 2))
    assert (brightest > 25).mean() > 0.9


@pytest.mark.parametrize(("term", "least", "most"), [
    ("nucleoplasm", 0.97, 1), ("nucleoli", 0.97, 1), ("nucleoli fibrillar center", 0.95, 1),
    ("nuclear speckles", 0.97, 1), ("nuclear bodies", 0.95, 1), ("nuclear membrane", 0.75, 1),
    ("cytosol", 0, 0.05), ("mitochondria", 0, 0.1), ("endoplasmic reticulum", 0, 0.3), ("Golgi apparatus", 0, 0.15),
    ("vesicles", 0, 0.08), ("plasma membrane", 0, 0.25), ("focal adhesion sites", 0, 0.05), ("cell junctions", 0, 0.05),
])  # fmt: skip
def test_the_share_of_light_in_the_nucleus_is_that_of_the_localization(term, least, most):
    simulation = clean(term)
    light = light_of(simulation)
    shares = np.where(simulation.nuclei == 1, light, 0).sum(axis=(1, 2)) / light.sum(axis=(1, 2))
    assert least <= np.median(shares) <= most


def test_the_nuclear_membrane_is_the_rim_of_the_nucleus_and_the_nucleoplasm_is_not():
    def rim_to_middle(term: str) -> float:
        simulation = clean(term)
        depth = to_edge(simulation.nuclei == 1)
        light = light_of(simulation)
        rim, middle = (depth > 0) & (depth < 1.6), depth > 4
        return np.median([x[r].mean() / x[m].mean() for x, r, m in zip(light, rim, middle, strict=True)])

    assert rim_to_middle("nuclear membrane") > 3
    assert rim_to_middle("nucleoplasm") < 1.2


def test_nucleoli_are_where_the_nuclear_marker_is_dim_and_nucleoplasm_where_it_is_bright():
    for term, sign in (("nucleoli", -1), ("nucleoli fibrillar center", -1), ("nucleoplasm", 1)):
        simulation = clean(term)
        core = to_edge(simulation.nuclei == 1) > 2
        assert (sign * correlations(simulation.crops[:, 0], simulation.crops[:, 1], core) > 0.1).mean() > 0.9, term


def test_microtubules_are_those_of_the_marker_and_other_filaments_are_not():
    def median(term: str) -> float:
        simulation = clean(term)
        where = (simulation.masks == 1) & (simulation.nuclei == 0)
        return float(np.median(correlations(simulation.crops[:, 0], simulation.crops[:, 2], where)))

    assert median("microtubules") > 0.85
    for other in ("actin filaments", "intermediate filaments", "mitochondria", "cytosol"):
        assert median(other) < 0.6, other


def test_the_centrosome_is_one_place_and_the_golgi_apparatus_is_on_its_side_of_the_nucleus():
    rows, columns = np.mgrid[:64, :64]
    simulation = clean("centrosome")
    light, truth = light_of(simulation), simulation.obs
    near = []
    for i, one in enumerate(light):
        y, x = np.unravel_index(one.argmax(), one.shape)
        near.append(np.hypot(y - truth["centrosome_y"][i], x - truth["centrosome_x"][i]))
    assert np.mean(np.array(near) < 3) > 0.85
    simulation = clean("Golgi apparatus")
    light, truth = light_of(simulation), simulation.obs
    same_side = []
    for i, one in enumerate(light):
        y, x = ((axis * one).sum() / one.sum() for axis in (rows, columns))
        to_golgi = np.array([y - truth["nucleus_y"][i], x - truth["nucleus_x"][i]])
        to_pole = truth.loc[i, ["centrosome_y", "centrosome_x"]].to_numpy(float) - truth.loc[
            i, ["nucleus_y", "nucleus_x"]
        ].to_numpy(float)
        same_side.append(to_golgi @ to_pole > 0)
    assert np.mean(same_side) > 0.9


def depth_shares(term: str) -> np.ndarray:
    """Mean light (n, 2) in the outer 2.5 pixels and in the rest of the cytoplasm deeper than 5."""
    simulation = clean(term)
    depth, light = to_edge(simulation.masks == 1), light_of(simulation)
    inner = (depth > 5) & (simulation.nuclei == 0)
    border = np.zeros((64, 64), bool)
    border[3:-3, 3:-3] = True  # where the crop ends, the cell does not
    rim = (depth > 0) & (depth < 2.6) & border
    return np.array(
        [(x[r].mean(), x[i].mean()) for x, r, i in zip(light, rim, inner, strict=True) if r.any() and i.any()]
    )


def test_the_plasma_membrane_is_at_the_edge_and_the_reticulum_is_not():
    membrane, reticulum, cytosol = (depth_shares(t) for t in ("plasma membrane", "endoplasmic reticulum", "cytosol"))
    assert np.median(membrane[:, 0] / membrane[:, 1]) > 2.5
    assert np.median(reticulum[:, 0] / reticulum[:, 1]) < np.median(cytosol[:, 0] / cytosol[:, 1]) < 1


def test_focal_adhesions_are_near_the_edge_and_vesicles_anywhere():
    def mean_depth(term: str) -> float:
        simulation = clean(term)
        depth, light = to_edge(simulation.masks == 1), light_of(simulation)
        light[light < 0.35 * light.max(axis=(1, 2), keepdims=True)] = 0  # the faint cytosol
        cytoplasm = (simulation.masks == 1) & (simulation.nuclei == 0)
        even = np.array([d[c].mean() for d, c in zip(depth, cytoplasm, strict=True)])
        return float(np.median((light * depth).sum(axis=(1, 2)) / light.sum(axis=(1, 2)) / even))

    assert mean_depth("focal adhesion sites") < 0.75
    assert mean_depth("vesicles") > 0.9


def test_junctions_are_only_where_two_cells_touch():
    simulation = clean("cell junctions")
    light, depth = light_of(simulation), to_edge(simulation.masks == 1)
    shared, free = [], []
    for i, mask in enumerate(simulation.masks):
        rim = (depth[i] > 0) & (depth[i] < 2.6)
        near_other, near_nothing = (binary_dilation(m, iterations=4) for m in (mask > 2, mask == 0))
        shared.append(light[i][rim & near_other & ~near_nothing])
        free.append(light[i][rim & near_nothing & ~near_other])
    assert np.concatenate(shared).mean() > 6 * np.concatenate(free).mean()


def test_actin_runs_in_one_direction_and_intermediate_filaments_do_not():
    def coherence(term: str) -> float:
        simulation = clean(term)
        inner = to_edge(simulation.masks == 1) > 4
        values = []
        for x, where in zip(simulation.crops[:, 0].astype(float), inner, strict=True):
            y_slope, x_slope = (g[where] for g in np.gradient(x))
            twice = np.hypot((x_slope**2 - y_slope**2).sum(), 2 * (x_slope * y_slope).sum())
            values.append(twice / (x_slope**2 + y_slope**2).sum())
        return float(np.median(values))

    assert coherence("actin filaments") > 0.5
    assert coherence("intermediate filaments") < 0.3


def test_variants_of_vesicles_differ_in_number_and_in_distance_from_the_nucleus():
    simulation = clean("vesicles")
    outside = np.stack([distance_transform_edt(n != 1) for n in simulation.nuclei])
    light = light_of(simulation)
    away = (light * outside).sum(axis=(1, 2)) / light.sum(axis=(1, 2))
    number = np.array([label(x > 0.4 * x.max())[1] for x in light])
    variant = simulation.obs["subcluster"]
    away, number = (
        {v: np.median(a[(variant == f"vesicles: {v}").to_numpy()]) for v in ("even", "perinuclear", "sparse")}
        for a in (away, number)
    )
    assert away["perinuclear"] < 0.75 * away["even"]
    assert number["sparse"] < 0.6 * number["even"]


def test_rims_of_nucleoli_are_dark_inside_and_whole_ones_are_not():
    wanted = Parameters(
        seed=5, terms=("nucleoli",), proteins_per_variant=2, lines_per_protein=1, cells_per_image=(8, 8)
    )
    middles = defaultdict(list)
    for image in plan(wanted, CLEAN):
        one = sample(wanted, image, CLEAN)
        pixels, ground = render(Random(0), one.scene, image.protein, one.line, one.acquisition, CLEAN)
        deep = ground.nucleolus < -1.6
        edge = np.abs(ground.nucleolus) < 0.7
        middles[image.protein.variant].append(pixels[0][deep].mean() / pixels[0][edge].mean())
    assert max(middles["rim"]) < 0.6
    assert min(middles["whole"]) > 1.1


def test_mitochondria_are_tubules_or_fragments():
    simulation = clean("mitochondria")
    longest = defaultdict(list)
    for light, variant in zip(light_of(simulation), simulation.obs["subcluster"], strict=True):
        regions, _ = label(light > 0.35 * light.max())
        sizes = np.bincount(regions.ravel())[1:]
        longest[variant].append(sizes.max())
    assert np.median(longest["mitochondria: tubular"]) > 1.5 * np.median(longest["mitochondria: fragmented"])


# --- cell lines ------------------------------------------------------------------------------------------------------


def test_the_difference_between_cell_lines_is_a_factor_that_can_be_0():
    def spread(strength: float) -> dict[str, float]:
        wanted = Parameters(
            seed=6, terms=("cytosol",), proteins_per_term=4, lines_per_protein=4, cells_per_image=(6, 6),
            line_strength=strength,
        )  # fmt: skip
        simulation = simulate(wanted)
        per_image = simulation.obs[["image", "cell_line", "nucleus_area", "cell_area"]].copy()
        per_image["tubules"] = simulation.crops[:, 2].mean(axis=(1, 2))
        means = per_image.groupby("cell_line")[["nucleus_area", "cell_area", "tubules"]].mean()
        return (means.max() / means.min()).to_dict()

    absent, half, full = spread(0), spread(0.5), spread(1)
    assert absent["nucleus_area"] < 1.15
    assert absent["cell_area"] < 1.15
    assert absent["tubules"] < 1.25
    for name in full:
        assert absent[name] < half[name] < full[name]
    assert full["nucleus_area"] > 1.8
    assert full["cell_area"] > 1.8


def test_the_strongest_difference_still_gives_whole_cells():
    wanted = Parameters(seed=6, terms=("cytosol",), proteins_per_term=1, lines_per_protein=4, line_strength=1.5)
    simulation = simulate(wanted)
    assert set(simulation.obs["cell_line"]) == set(LINES)
    assert ((simulation.masks == 1).sum(axis=(1, 2)) > 1.2 * (simulation.nuclei == 1).sum(axis=(1, 2))).mean() > 0.95
    assert (simulation.nuclei[:, 32, 32] == 1).all()


def test_images_of_a_plate_share_the_microscope_but_for_a_few_percent_and_plates_differ():
    by_plate = defaultdict(list)
    for image in plan(SMALL):
        if len(by_plate[image.plate]) < 6:
            by_plate[image.plate].append(sample(SMALL, replace(image, cells=2)).acquisition)
    by_plate = {plate: images for plate, images in by_plate.items() if len(images) == 6}
    assert len(by_plate) > 3
    shared = [{(a.background, a.read_noise, a.gain) for a in images} for images in by_plate.values()]
    assert all(len(settings) == 1 for settings in shared)
    assert len(set.union(*shared)) == len(by_plate)
    drawn = [[np.log([a.blur, a.haze, a.unspecific, *a.exposure]) for a in images] for images in by_plate.values()]
    within = np.std(np.array(drawn) - np.mean(drawn, axis=1, keepdims=True), axis=(0, 1))
    jitter = SETTINGS["optics"]["image_jitter"]
    assert (within > 0.6 * jitter).all()
    assert (within < 1.2 * jitter).all()
    assert (np.std(np.mean(drawn, axis=1), axis=0) > jitter).all()


@pytest.mark.parametrize("name", ["human-sim", "human-sim-train", "human-sim-full"])
def test_image_plate_protein_and_cell_line_are_four_columns(name):
    images = plan(parameters_of(name))
    of_protein, on_plate = defaultdict(list), defaultdict(list)
    for image in images:
        of_protein[image.protein.name].append(image)
        on_plate[image.plate].append(image)
    for own in of_protein.values():
        assert len(own) >= 2
        assert len({image.plate for image in own}) == len({image.line for image in own}) == len(own)
    limit = SETTINGS["kinds"]["images_per_plate"]
    for own in on_plate.values():
        assert len({image.protein.name for image in own}) == len(own) <= limit
        assert len(own) < limit / 3 or len({image.line for image in own}) > 2


# --- pixels ----------------------------------------------------------------------------------------------------------


def test_crops_are_8_bit_neither_constant_nor_saturated_and_drawn_fast_enough_to_see_it():
    images = plan(SMALL)[:12]
    draw(SMALL, sample(SMALL, images[0]))
    begun = time.process_time()
    crops = np.concatenate([draw(SMALL, sample(SMALL, image))[0] for image in images])
    print(f"{len(crops) / (time.process_time() - begun):.0f} cells per CPU second")
    assert crops.dtype == np.uint8
    assert crops.shape == (sum(i.cells for i in images), 3, 64, 64)
    assert (np.ptp(crops, axis=(2, 3)) > 20).all()
    assert (crops == 255).mean() < 0.01
    background = np.median(np.quantile(crops, 0.02, axis=(2, 3)), axis=0)
    assert (background < 0.05 * 255).all()  # below the markers' floor


# --- ontology --------------------------------------------------------------------------------------------------------


def stanzas(text: str) -> dict[str, dict[str, list[str]]]:
    """A plain reading of OBO: of each term its tags."""
    terms = {}
    for block in text.split("\n[Term]\n")[1:]:
        tags = defaultdict(list)
        for line in block.split("\n[")[0].strip().splitlines():
            tag, value = line.split(": ", 1)
            tags[tag].append(value.split(" ! ")[0])
        terms[tags["id"][0]] = dict(tags)
    return terms


def rows(text: str) -> list[list[str]]:
    return [line.split("\t") for line in text.splitlines() if not line.startswith("!")]


def test_the_shipped_ontology_and_annotations_are_those_of_the_small_collection():
    folder = files("pci_bench.datasets")
    assert folder.joinpath("human_sim.obo").read_text() == ontology_text()
    assert folder.joinpath("human_sim.gaf").read_text() == annotations_text(SMALL)


def test_every_localization_and_variant_is_a_term_and_every_parent_exists():
    terms = stanzas(ontology_text())
    names = {tags["name"][0]: key for key, tags in terms.items()}
    assert set(TERMS) <= set(names)
    for term, variants in SETTINGS["kinds"]["variants"].items():
        for variant in variants:
            assert terms[names[f"{term}: {variant}"]]["is_a"] == [names[term]]
    for key, tags in terms.items():
        parents = tags.get("is_a", []) + [r.removeprefix("part_of ") for r in tags.get("relationship", [])]
        assert all(parent in terms and "is_obsolete" not in terms[parent] for parent in parents)
        assert parents or key == "SIM:0000001" or "is_obsolete" in tags
    assert set(null_ids()) <= set(terms)


def test_annotations_are_whole_gaf_rows_of_the_collections_proteins():
    everyone = {p.name: p for p in proteins(SMALL)}
    text = annotations_text(SMALL)
    assert text.startswith("!gaf-version: 2.2\n")
    terms, planted, denied = stanzas(ontology_text()), 0, 0
    for row in rows(text):
        assert len(row) == 17
        assert row[2] in everyone
        assert row[4] in terms
        assert re.fullmatch(r"\d{8}", row[13])
        true = row[4] in planted_ids(everyone[row[2]])
        if row[3].startswith("NOT"):
            denied += 1
            assert not true
        elif row[4] not in null_ids():
            planted += 1
            assert true
    possible = sum(len(planted_ids(p)) for p in everyone.values())
    assert 0.88 * possible <= planted < possible
    assert denied > 0


def test_null_terms_are_independent_of_the_localization():
    from scipy.stats import kstest

    parameters = parameters_of("human-sim-full")
    everyone = proteins(parameters)
    members = defaultdict(set)
    for row in rows(annotations_text(parameters)):
        members[row[4]].add(row[2])
    low, high = ONTOLOGY["null_share"]
    chosen = {p.name for p in everyone if "nucleoli" in p.terms}
    share, standardised = len(chosen) / len(everyone), []
    for key in null_ids():
        n = len(members[key])
        assert low * len(everyone) - 1 <= n <= high * len(everyone) + 1
        variance = n * share * (1 - share) * (len(everyone) - n) / (len(everyone) - 1)  # hypergeometric
        standardised.append((len(members[key] & chosen) - n * share) / np.sqrt(variance))
    assert kstest(standardised, "norm").pvalue > 0.01


# --- what is not possible --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wanted", "message"), [
    ({"terms": ("nucleolus",)}, "no simulated localization 'nucleolus'"),
    ({"lines_per_protein": 5}, "1 to 4 cell lines, not 5"),
    ({"line_strength": 2.0}, "must be between 0"),
    ({"terms": ("cytosol",), "proteins_per_term": 0}, "every number of proteins is 0"),
    ({"cells_per_image": (1, 1)}, "at least 2 cells"),
])  # fmt: skip
def test_what_cannot_be_simulated_is_a_sentence(wanted, message):
    with pytest.raises(UserError, match=message):
        simulate(Parameters(**wanted))
