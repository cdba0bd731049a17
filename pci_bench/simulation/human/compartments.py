"""Where a simulated human protein is: one function per localization term draws it from the cells' own anatomy.

Everything is drawn on one field of view (rows, columns) at once: `FieldMap` says for each pixel whose it is and how far it is
from the parts of its cell. A function returns a density that is about 1 at its brightest; points and filaments count only
inside their own cell. A new term is one more function here, one more entry in `TERMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pci_bench.simulation.arithmetic import Random, arctan2, exp, norm, total
from pci_bench.simulation.human.anatomy import (
    NUCLEOLI,
    Pull,
    filaments,
    in_cytoplasm,
    in_nucleus,
    radius_at,
)
from pci_bench.simulation.human.field import FieldMap, gaussian_random_field, ridge, spots, strokes
from pci_bench.simulation.raster import inside, unit

STEP = 1.3  # pixels from point to point of a filament: less than what blurring smooths over


@dataclass(frozen=True)
class Protein:
    """What cells stained for one protein share, in all cell lines.

    Parameters
    ----------
    number, name
        Its place in the collection and its name.
    terms
        One localization term or two.
    variant
        The finer morphology, ``""`` where its term has one only.
    mixture
        Share of the signal in the second term, NaN for proteins with one term and for variable ones.
    variable_fraction
        Share of the cells that show the second term in place of the first, NaN where the protein is not variable.
    count, size, patchiness, grain
        Relative number and size of structures; unevenness; fine clumps.
    diffuse, nuclear
        Unspecific binding, relative to the structure's brightness, and how much of it is in the nucleus, 0 … 1.
    brightness
        The brightest pixel of a typical cell, of the camera's range.
    """

    number: int
    name: str
    terms: tuple[str, ...]
    variant: str
    mixture: float
    variable_fraction: float
    count: float
    size: float
    patchiness: float
    grain: float
    diffuse: float
    nuclear: float
    brightness: float


def scattered(rng: Random, n: int, k: int, mean: float, low: float, high: float) -> np.ndarray:
    """Return peaks (n, k) from `low` to `high`: Poisson(mean) of them per cell, at least one; 0 for the rest."""
    number = np.clip(rng.poisson(mean, n), 1, k)
    peaks: np.ndarray = rng.uniform(low, high, (n, k)) * (np.arange(k) < number[:, None])
    return peaks


def cytoplasm_of(field_map: FieldMap, thickness: float) -> np.ndarray:
    """Return how much cytoplasm is seen (rows, columns): less at the thin edge, none in the nucleus."""
    height = 1 - exp(-(field_map.depth + np.float32(0.8)) / np.float32(thickness))
    seen: np.ndarray = np.where(field_map.owner >= 0, height, 0) * (1 - inside(field_map.nucleus))
    return seen


def microtubule_network(rng: Random, field_map: FieldMap, line: dict[str, float]) -> np.ndarray:
    """Return the microtubules of all cells: half of them from the centrosome, half from anywhere, few over the nucleus."""
    anatomy = field_map.anatomy
    n, f = len(anatomy), max(round(line["filaments"]), 4)
    start = in_cytoplasm(rng, anatomy, f, edge=0.95)
    rooted = np.arange(f) < f * min(0.25 + 0.5 * line["radial"], 0.8)
    start = np.where(rooted[:, None], anatomy.centrosome[:, None] + rng.normal(0, 0.8, (n, f, 2)), start)
    pull = Pull(line["radial"], line["axial"], line["tangential"], line["curl"])
    steps = round((0.9 * line["radius"] * np.sqrt(line["elongation"]) + 8) / STEP)
    paths = filaments(rng, anatomy, start, steps, pull, STEP)
    level = rng.uniform(0.35, 1.0, (n, f, 1)) * np.linspace(1.1, 0.7, steps)
    drawn = strokes(field_map, paths, level, 0.4, STEP) * np.float32(0.54)
    return drawn * (1 - np.float32(0.72) * inside(field_map.nucleus + 1))


def nucleoplasm(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The nucleus but for the nucleoli."""
    holes = 1 - np.float32(0.85) * inside(field_map.nucleolus)
    clumps = 1 + np.float32(0.22) * gaussian_random_field(rng, field_map.size, 1.1)
    return np.float32(0.75) * inside(field_map.nucleus) * holes * np.maximum(clumps, 0.1)


def nucleoli(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The nucleoli, whole or as rims."""
    grown = field_map.nucleolus - np.float32(0.7 * (protein.size - 1))
    if protein.variant == "rim":
        shape = np.float32(1.15) * ridge(grown, 0.6) + np.float32(0.12) * inside(grown)
    else:
        shape = inside(grown)
    light: np.ndarray = shape * inside(field_map.nucleus)
    return light


def fibrillar_center(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """One to three small spots in each nucleolus, which itself is faint."""
    anatomy, per = field_map.anatomy, 3
    n, k = len(anatomy), NUCLEOLI * per
    radius = np.repeat(anatomy.nucleolus_radius, per, axis=1)
    away = (0.55 * radius * np.sqrt(rng.uniform(size=(n, k))))[..., None] * unit(rng.uniform(0, 2 * np.pi, (n, k)))
    visible = (rng.uniform(size=(n, k)) < 0.45 * protein.count) | (np.arange(k) % per == 0)
    peak = rng.uniform(0.6, 1.1, (n, k)) * (radius > 0) * visible
    faint = np.float32(0.13) * inside(field_map.nucleolus) + np.float32(0.07) * inside(field_map.nucleus)
    return spots(field_map, np.repeat(anatomy.nucleoli, per, axis=1) + away, peak, 0.6 * protein.size) + faint


def nuclear_speckles(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """Fifteen to forty uneven blotches in the nucleus, in faint nucleoplasm."""
    n, k = len(field_map.anatomy), 44
    peak = scattered(rng, n, k, 24 * protein.count, 0.3, 0.9)
    blotches = spots(field_map, in_nucleus(rng, field_map.anatomy, k, 0.86), peak, 0.85 * protein.size)
    light: np.ndarray = (
        (blotches + np.float32(0.14)) * inside(field_map.nucleus) * (1 - np.float32(0.8) * inside(field_map.nucleolus))
    )
    return light


def nuclear_bodies(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """A few sharp dots in the nucleus."""
    n, k = len(field_map.anatomy), 9
    peak = scattered(rng, n, k, 4.0 * protein.count, 0.7, 1.1)
    dots = spots(field_map, in_nucleus(rng, field_map.anatomy, k, 0.85), peak, 0.62 * protein.size)
    return dots + np.float32(0.1) * inside(field_map.nucleus)


def nuclear_membrane(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The rim of the nucleus, more or less even."""
    uneven = 1 + np.float32(0.6 * protein.patchiness) * gaussian_random_field(rng, field_map.size, 1.6)
    return ridge(field_map.nucleus + 0.4, 0.7) * np.maximum(uneven, 0.15) + np.float32(0.12) * inside(field_map.nucleus)


def cytosol(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """All of the cytoplasm, nothing in the nucleus."""
    uneven = 1 + np.float32(0.18) * gaussian_random_field(rng, field_map.size, 2.2)
    return np.float32(0.8) * cytoplasm_of(field_map, 6.0) * np.maximum(uneven, 0.1)


def _short_tubules(
    rng: Random, field_map: FieldMap, k: int, steps: int, perinuclear: float, level: np.ndarray, sigma: float
) -> np.ndarray:
    """Return k short tubules per cell, drawn to the cell's axis a little; `level` is (n, k)."""
    start = in_cytoplasm(rng, field_map.anatomy, k, perinuclear, edge=0.85)
    paths = filaments(rng, field_map.anatomy, start, steps, Pull(0.2, 0.25, 0.35, 0.3))
    return strokes(field_map, paths, level, sigma) * (1 - np.float32(0.9) * inside(field_map.nucleus - 0.5))


def mitochondria(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """Tubules around the nucleus, or fragments of them."""
    area = _areas(field_map)
    if protein.variant == "fragmented":
        k = 54
        visible = np.arange(k) < np.clip(area / 20 * protein.count, 10, k)[:, None]
        positions = in_cytoplasm(rng, field_map.anatomy, k, 0.22, edge=0.85)
        return spots(field_map, positions, rng.uniform(0.4, 1.0, visible.shape) * visible, 0.95 * protein.size)
    k = 34
    visible = np.arange(k) < np.clip(area / 32 * protein.count, 7, k)[:, None]
    return _short_tubules(
        rng, field_map, k, 15, 0.22, rng.uniform(0.35, 0.85, visible.shape) * visible, 0.62 * protein.size
    )


def _areas(field_map: FieldMap) -> np.ndarray:
    """Return the area of each cell's ellipse (n,)."""
    areas: np.ndarray = np.pi * field_map.anatomy.axes[:, 0] * field_map.anatomy.axes[:, 1]
    return areas


def endoplasmic_reticulum(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """A fine net that thins out towards the edge, and the nuclear envelope."""
    away = np.maximum(field_map.nucleus, 0)
    share = away / (away + field_map.depth + np.float32(0.5))
    net = exp(np.float32(-1.3) * np.abs(gaussian_random_field(rng, field_map.size, 0.9)))
    inner = cytoplasm_of(field_map, 3.0) * exp(np.float32(-1.9 / protein.size) * share) * (np.float32(0.2) + net)
    light: np.ndarray = np.float32(0.8) * inner + np.float32(0.3) * ridge(field_map.nucleus, 0.8) * (
        field_map.owner >= 0
    )
    return light


def golgi_apparatus(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """A ribbon of clumps beside the nucleus, on the centrosome's side."""
    anatomy, n, k = field_map.anatomy, len(field_map.anatomy), 20
    to = anatomy.centrosome - anatomy.nucleus
    spread = rng.uniform(0.45, 0.95, (n, 1)) * protein.size
    angle = arctan2(to[:, 0], to[:, 1])[:, None] + spread * rng.uniform(-1, 1, (n, k))
    edge = radius_at(anatomy.nucleus_outline, np.arange(n)[:, None], angle)
    gap = rng.uniform(1.0, 2.2, (n, 1)) + rng.gamma(1.6, 0.6, (n, k))
    positions = anatomy.nucleus[:, None] + (edge + gap)[..., None] * unit(angle)
    peak = scattered(rng, n, k, 13 * protein.count, 0.35, 0.95)
    return spots(field_map, positions, peak, 0.85)


def vesicles(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """Dots in the cytoplasm: many everywhere, many near the nucleus, or a few large ones."""
    anatomy, n, k = field_map.anatomy, len(field_map.anatomy), 70
    density = _areas(field_map) / 16 * protein.count
    if protein.variant == "sparse":
        peak = scattered(rng, n, k, 7 * protein.count, 0.7, 1.1)
        return spots(field_map, in_cytoplasm(rng, anatomy, k, edge=0.85), peak, 1.05 * protein.size)
    perinuclear = 0.8 if protein.variant == "perinuclear" else 0.0
    number = np.clip(rng.poisson(np.minimum(density * (0.55 if perinuclear else 1.0), k)), 6, k)
    peak = rng.uniform(0.3, 1.0, (n, k)) * (np.arange(k) < number[:, None])
    return spots(field_map, in_cytoplasm(rng, anatomy, k, perinuclear), peak, 0.65 * protein.size)


def plasma_membrane(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The edge of the cell all round, and faintly its upper face."""
    uneven = 1 + np.float32(0.55 * protein.patchiness) * gaussian_random_field(rng, field_map.size, 1.8)
    rim = ridge(field_map.depth - np.float32(0.8), 0.9) * np.maximum(uneven, 0.1)
    return np.where(field_map.owner >= 0, rim + np.float32(0.16), 0)


def microtubules(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The same microtubules as in the marker."""
    light: np.ndarray = np.minimum(field_map.network, 1.3) * np.float32(0.9)
    return light


def actin_filaments(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """Straight parallel stress fibres across the cell, over the nucleus too, and the cortex."""
    anatomy, n, f = field_map.anatomy, len(field_map.anatomy), 15
    direction = anatomy.angle + rng.normal(0, 0.25, n)
    along, across = unit(direction), unit(direction + np.pi / 2)
    width = np.sqrt(anatomy.axes[:, 0] * anatomy.axes[:, 1])[:, None]
    aside = 0.85 * np.linspace(-1, 1, f) * anatomy.axes[:, 1:] + rng.normal(0, 0.6, (n, f))
    place = aside / (anatomy.axes[:, 1:] + 1)
    length = np.sqrt(np.maximum(1 - place * place, 0)) * anatomy.axes[:, :1]
    ends = length * rng.uniform(0.75, 1.05, (n, f))
    steps = 44
    run = np.linspace(-1, 1, steps)
    bend = rng.normal(0, 0.05, (n, f, 1)) * width[..., None] * (run * run)
    paths = (ends[..., None] * run)[..., None] * along[:, None, None] + (aside[..., None] + bend)[..., None] * across[
        :, None, None
    ]
    visible = rng.uniform(size=(n, f)) < 0.75 * protein.count
    level = rng.uniform(0.35, 1.0, (n, f)) * visible * ends * (2 / steps)
    fibres = strokes(field_map, paths, level, 0.6)
    cortex = np.float32(0.4) * ridge(field_map.depth - np.float32(0.8), 0.9) * (field_map.owner >= 0)
    return np.float32(0.9) * fibres + cortex + np.float32(0.06) * cytoplasm_of(field_map, 6.0)


def intermediate_filaments(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """A wavy cage, dense round the nucleus and open towards the edge."""
    anatomy, n, f = field_map.anatomy, len(field_map.anatomy), 26
    start = in_cytoplasm(rng, anatomy, f, 0.35, edge=0.8)
    paths = filaments(rng, anatomy, start, 20, Pull(0.05, 0.1, 0.75, 0.45), STEP)
    level = rng.uniform(0.25, 0.8, (n, f)) * (np.arange(f) < 20 * protein.count)
    drawn = strokes(field_map, paths, level, 0.75 * protein.size, STEP)
    return np.float32(0.7) * drawn * (1 - np.float32(0.75) * inside(field_map.nucleus + 1))


def centrosome(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """A pair of dots beside the nucleus, in faint cytosol."""
    anatomy, n = field_map.anatomy, len(field_map.anatomy)
    apart = rng.uniform(0.4, 1.3, n)[:, None] * unit(rng.uniform(0, 2 * np.pi, n))
    positions = np.stack([anatomy.centrosome - apart, anatomy.centrosome + apart], axis=1)
    dots = spots(field_map, positions, rng.uniform(0.7, 1.0, (n, 2)), 0.7 * protein.size)
    return dots + np.float32(0.07) * cytoplasm_of(field_map, 6.0)


def cell_junctions(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """The edge where it touches another cell, in short stretches; faint cytosol."""
    uneven = 1 + np.float32(0.3 + 0.5 * protein.patchiness) * gaussian_random_field(rng, field_map.size, 1.4)
    rim = (
        ridge(field_map.depth - np.float32(0.8), 0.8)
        * field_map.touching
        * field_map.touching
        * np.maximum(uneven, 0.05)
    )
    return np.where(field_map.owner >= 0, rim, 0) + np.float32(0.06) * cytoplasm_of(field_map, 6.0)


def focal_adhesion_sites(rng: Random, field_map: FieldMap, protein: Protein) -> np.ndarray:
    """Short dashes near the edge that point outwards, in faint cytosol."""
    anatomy, n, k, steps = field_map.anatomy, len(field_map.anatomy), 34, 7
    angle = rng.uniform(0, 2 * np.pi, (n, k))
    edge = radius_at(anatomy.outline, np.arange(n)[:, None], angle)
    start = np.maximum(edge - rng.gamma(1.5, 0.8, (n, k)) - 1.0, 0.4 * edge)
    # long cells pull along their axis, so dashes lean that way
    lean = np.clip(anatomy.axes[:, :1] / anatomy.axes[:, 1:] - 1, 0, 1)[..., None]
    axis = unit(anatomy.angle)[:, None] * np.sign(total(unit(angle) * unit(anatomy.angle)[:, None]))[..., None]
    heading = (1 - 0.6 * lean) * unit(angle) + 0.6 * lean * axis
    heading /= norm(heading)[..., None]
    run = -np.linspace(0, 1, steps) * rng.uniform(2.5, 4.5, (n, k, 1)) * protein.size
    paths = (start[..., None] * unit(angle))[:, :, None] + run[..., None] * heading[:, :, None]
    visible = np.arange(k) < np.clip(total(edge) / k * protein.count, 9, k)[:, None]
    dashes = strokes(field_map, paths, rng.uniform(0.4, 1.0, (n, k)) * visible, 0.65, 0.6)
    light: np.ndarray = dashes * (1 - inside(field_map.nucleus)) + np.float32(0.1) * cytoplasm_of(field_map, 6.0)
    return light


TERMS: dict[str, Callable[[Random, FieldMap, Protein], np.ndarray]] = {
    "nucleoplasm": nucleoplasm,
    "nucleoli": nucleoli,
    "nucleoli fibrillar center": fibrillar_center,
    "nuclear speckles": nuclear_speckles,
    "nuclear bodies": nuclear_bodies,
    "nuclear membrane": nuclear_membrane,
    "cytosol": cytosol,
    "mitochondria": mitochondria,
    "endoplasmic reticulum": endoplasmic_reticulum,
    "Golgi apparatus": golgi_apparatus,
    "vesicles": vesicles,
    "plasma membrane": plasma_membrane,
    "microtubules": microtubules,
    "actin filaments": actin_filaments,
    "intermediate filaments": intermediate_filaments,
    "centrosome": centrosome,
    "cell junctions": cell_junctions,
    "focal adhesion sites": focal_adhesion_sites,
}
