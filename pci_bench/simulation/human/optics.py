"""From simulated human cells to what a camera sees: one field of view of three channels, its masks, and crops of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pci_bench.simulation.arithmetic import Random, exp, gaussian_filter, quantile
from pci_bench.simulation.human.anatomy import Anatomy, place
from pci_bench.simulation.human.compartments import TERMS, Protein, cytoplasm_of, microtubule_network
from pci_bench.simulation.human.field import FieldMap, gaussian_random_field, rasterize, ridge
from pci_bench.simulation.raster import between, inside

GRID = 4096  # steps of brightness, of the camera's range, before noise


@dataclass(frozen=True)
class Acquisition:
    """What all cells of an image share besides the protein; most of it is shared by the images of a plate.

    Parameters
    ----------
    blur, haze
        SD of the point spread function in pixels, and the share of light from outside of the focal plane.
    unspecific
        Factor of unspecific binding: how well the plate was washed.
    exposure
        (3,) brightness of protein, nucleus and microtubules, relative.
    background, read_noise, gain
        (3,) each: medium, noise without light, and noise variance per brightness, of protein, nucleus, microtubules.
    """

    blur: float
    haze: float
    unspecific: float
    exposure: tuple[float, float, float]
    background: tuple[float, float, float]
    read_noise: tuple[float, float, float]
    gain: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What is in a field of view, before anything is drawn.

    Parameters
    ----------
    anatomy, origins
        All n cells and their middles (n, 2); the crops of the first cells are wholly inside the field.
    size
        Rows, and columns, of the field.
    level, markers
        (n,) relative amount of the protein; (n, 2) of the nuclear and the microtubule stain.
    unspecific
        (n,) relative amount of unspecific binding.
    second
        (n,) share of the protein in the second of its terms, 0 … 1.
    """

    anatomy: Anatomy
    origins: np.ndarray
    size: int
    level: np.ndarray
    unspecific: np.ndarray
    markers: np.ndarray
    second: np.ndarray


def draw_acquisition(plate: Random, image: Random, optics: dict[str, Any]) -> Acquisition:
    """Return the settings of one image of a plate: `plate` begins alike for all of its images, which differ by a few percent."""

    def three(name: str) -> tuple[float, float, float]:
        first, second, third = between(plate, optics[name], 3)
        return float(first), float(second), float(third)

    def mildly(value: float) -> float:
        return value * float(exp(image.normal(0, optics["image_jitter"])))

    return Acquisition(
        blur=mildly(plate.uniform(*optics["blur"])),
        haze=mildly(plate.uniform(*optics["haze"])),
        unspecific=mildly(plate.uniform(*optics["unspecific"])),
        exposure=(
            mildly(plate.uniform(*optics["antibody_gain"])),
            mildly(plate.uniform(*optics["nucleus_gain"])),
            mildly(plate.uniform(*optics["microtubule_gain"])),
        ),
        background=three("background"),
        read_noise=three("read_noise"),
        gain=three("gain"),
    )


def arrange(
    rng: Random, anatomy: Anatomy, side: float, cells: int, second: np.ndarray, settings: dict[str, Any]
) -> Scene:
    """Return a scene whose first `cells` cells are whole, and far enough from the border for a whole crop.

    Parameters
    ----------
    rng
        Where all chance comes from.
    anatomy
        More than `cells` cells: those nearest to the middle come first, those that the field does not show are left out.
    side
        Pixels of the square in which they lie.
    cells
        How many will be cropped.
    second
        (n,) share of the protein in its second term: in order, so the first are those of the cropped cells.
    settings
        All of ``human_sim.toml``.
    """
    origins = place(rng, anatomy, side, settings["placement"])
    nuclei = origins + anatomy.nucleus
    from_middle = np.abs(nuclei).max(axis=1)
    order = np.argsort(from_middle, kind="stable")
    reach = anatomy.outline.max(axis=1)
    needed = np.maximum(from_middle + settings["crop"] // 2, np.abs(origins).max(axis=1) + reach)
    half = int(np.ceil(needed[order[:cells]].max())) + 1
    order = order[from_middle[order] < half + reach[order]]
    n = len(order)
    return Scene(
        anatomy=anatomy[order],
        origins=origins[order] + half,
        size=2 * half,
        level=exp(rng.normal(0, settings["proteins"]["cell_spread"], n)),
        unspecific=exp(rng.normal(0, settings["proteins"]["unspecific_spread"], n)),
        markers=exp(rng.normal(0, settings["optics"]["marker_spread"], (n, 2))),
        second=second[:n],
    )


def render(
    rng: Random,
    scene: Scene,
    protein: Protein,
    line: dict[str, float],
    acquisition: Acquisition,
    settings: dict[str, Any],
) -> tuple[np.ndarray, FieldMap]:
    """Return a field's pixels (3, rows, columns) uint8, protein, nucleus, microtubules, and what is where."""
    optics, signal = settings["optics"], settings["signal"]
    unspecific = line["unspecific"] * acquisition.unspecific / signal
    field_map = rasterize(scene.anatomy, scene.origins, scene.size)
    field_map = replace(field_map, network=microtubule_network(rng, field_map, line))
    stains = (
        protein_light(rng, scene, field_map, protein, unspecific, optics),
        _per_pixel(field_map, scene.markers[:, 0]) * _chromatin(rng, field_map, optics) * np.float32(line["chromatin"]),
        _per_pixel(field_map, scene.markers[:, 1])
        * (field_map.network + np.float32(0.1) * cytoplasm_of(field_map, optics["thickness"]))
        * np.maximum(1 + np.float32(optics["microtubule_texture"]) * gaussian_random_field(rng, scene.size, 3.0), 0)
        * np.float32(line["microtubules"]),
    )
    light = [_focused(stain, acquisition, optics) for stain in stains]
    antibody, *markers = acquisition.exposure
    exposure = (antibody * signal * protein.brightness / _typical_peak(light[0], field_map), *markers)
    pixels = [_camera(rng, np.float32(exposure[c]) * light[c], acquisition, c) for c in range(3)]
    return np.stack(pixels), field_map


def protein_light(
    rng: Random, scene: Scene, field_map: FieldMap, protein: Protein, unspecific: float, optics: dict[str, Any]
) -> np.ndarray:
    """Return where antibodies are (rows, columns), in any unit: on the protein, and `unspecific` times as many elsewhere.

    Of a mixture, each compartment's density is divided by its sum in the cell, so that `scene.second` is exactly the share
    of a cell's signal that the second one has. A variable protein's cell has the density of the one or the other.
    """
    first = TERMS[protein.terms[0]](rng, field_map, protein)
    light = first
    if len(protein.terms) == 2:
        second = TERMS[protein.terms[1]](rng, field_map, protein)
        if np.isnan(protein.variable_fraction):
            sums = [_sums(density, field_map) for density in (first, second)]
            typical = np.sqrt(np.median(sums[0]) * np.median(sums[1]))
            weights = [typical * (1 - scene.second) / sums[0], typical * scene.second / sums[1]]
        else:
            weights = [1 - scene.second, scene.second]
        light = _per_pixel(field_map, weights[0]) * first + _per_pixel(field_map, weights[1]) * second
    cytoplasm, nucleus = (
        cytoplasm_of(field_map, optics["thickness"]),
        inside(field_map.nucleus) * (field_map.owner >= 0),
    )
    height = np.float32(2 * (1 - protein.nuclear)) * cytoplasm + np.float32(2 * protein.nuclear) * nucleus
    background = np.float32(protein.diffuse * unspecific * float(quantile(light[field_map.owner >= 0], 0.98)))
    clumps = np.maximum(1 + np.float32(protein.grain) * gaussian_random_field(rng, scene.size, 0.6), 0)
    bound = light * _per_pixel(field_map, scene.level) + background * height * _per_pixel(field_map, scene.unspecific)
    emitted: np.ndarray = bound * clumps
    return emitted


def _per_pixel(field_map: FieldMap, values: np.ndarray) -> np.ndarray:
    """Return each pixel's cell's value (rows, columns), 0 outside."""
    by_pixel: np.ndarray = np.append(values, 0).astype(np.float32)[field_map.owner]
    return by_pixel


def _sums(density: np.ndarray, field_map: FieldMap) -> np.ndarray:
    """Return each cell's sum (n,) of a density; cells cut by the border, which have no crop, have the median of the others."""
    n = len(field_map.anatomy)
    sums = np.bincount(field_map.owner.ravel() + 1, density.ravel(), n + 1)[1:]
    border = np.concatenate([field_map.owner[[0, -1]].ravel(), field_map.owner[:, [0, -1]].ravel()])
    whole = ~np.isin(np.arange(n), border) & (sums > 0)
    return np.where(whole, sums, np.median(sums[whole]))


def _chromatin(rng: Random, field_map: FieldMap, optics: dict[str, Any]) -> np.ndarray:
    """Return the nuclear stain: uneven, with holes where nucleoli are and a slightly brighter rim."""
    uneven = 1 + np.float32(optics["chromatin_texture"]) * gaussian_random_field(rng, field_map.size, 1.3)
    holes = 1 - np.float32(0.55) * inside(field_map.nucleolus)
    rim = np.float32(0.12) * ridge(field_map.nucleus + 1, 0.8)
    light: np.ndarray = inside(field_map.nucleus) * np.maximum(uneven * holes + rim, 0.1) * (field_map.owner >= 0)
    return light


def _typical_peak(light: np.ndarray, field_map: FieldMap) -> float:
    """Return the median over cells of the brightest pixel."""
    from scipy.ndimage import maximum

    present = np.unique(field_map.owner[field_map.owner >= 0])
    return float(np.median(maximum(light, field_map.owner, present)))


def _focused(light: np.ndarray, acquisition: Acquisition, optics: dict[str, Any]) -> np.ndarray:
    """Return light after the microscope: a sharp image and a little haze of what is out of focus."""
    sharp = gaussian_filter(light, acquisition.blur)
    if not acquisition.haze:
        return sharp
    blurred: np.ndarray = sharp + np.float32(acquisition.haze) * (gaussian_filter(sharp, optics["haze_blur"]) - sharp)
    return blurred


def _camera(rng: Random, light: np.ndarray, acquisition: Acquisition, channel: int) -> np.ndarray:
    """Return pixels (rows, columns) uint8: background, shot and read noise; too bright ones are saturated."""
    expected = light + np.float32(acquisition.background[channel])
    # on a grid from here on: a last digit that differs, should there be one, is lost
    expected = np.rint(np.clip(expected, 0, 4) * np.float32(GRID)) / np.float32(GRID)
    read_noise = np.float32(acquisition.read_noise[channel])
    variance = read_noise * read_noise + np.float32(acquisition.gain[channel]) * expected
    noisy = expected + np.sqrt(variance) * rng.standard_normal(light.shape)
    levels: np.ndarray = np.rint(np.clip(noisy, 0, 1) * 255)
    return levels.astype(np.uint8)


def crop_starts(scene: Scene, cells: int, crop: int) -> np.ndarray:
    """Return the first row and column (cells, 2) of the crops, which have the nucleus in the middle."""
    nuclei = scene.origins[:cells] + scene.anatomy.nucleus[:cells]
    starts: np.ndarray = np.rint(nuclei).astype(np.int64) - crop // 2
    return starts


def crops_of(
    pixels: np.ndarray, field_map: FieldMap, start: np.ndarray, crop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the crops (n, 3, crop, crop) of a field, and masks (n, crop, crop) uint16 of cells and of their nuclei.

    In both masks 1 is the cell in the middle, and 3, 4 … are the others, the same in both.
    """
    steps = np.arange(crop)
    rows, columns = (start[:, :1] + steps)[:, :, None], (start[:, 1:] + steps)[:, None, :]
    crops = np.ascontiguousarray(pixels[:, rows, columns].transpose(1, 0, 2, 3))
    owners = field_map.owner[rows, columns]
    masks = np.zeros(owners.shape, np.uint16)
    for i, owner in enumerate(owners):
        others = np.unique(owner[(owner >= 0) & (owner != i)])
        number = np.zeros(len(field_map.anatomy) + 1, np.uint16)  # the last is the background's, −1
        number[others] = np.arange(3, 3 + len(others))
        number[i] = 1
        masks[i] = number[owner]
    return crops, masks, np.where(field_map.nucleus[rows, columns] < 0, masks, 0).astype(np.uint16)
