"""Where a simulated protein is: one function per class draws it from the cells' own anatomy.

A structure is the sum of a density in windows (n, w, w) around the cells and of beads, small Gaussian spots that make up
puncta and tubules. A new class is one more function here and one more table in ``yeast_sim.toml``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pci_bench.simulation.arithmetic import Random, arctan2, exp, norm, sin
from pci_bench.simulation.raster import inside, unit
from pci_bench.simulation.yeast.anatomy import Anatomy, Shapes, mean_axis, on_ellipse


@dataclass(frozen=True)
class Protein:
    """How one protein differs from the others of its class.

    Parameters
    ----------
    label
        The class.
    expression
        Relative to the screen's signal.
    cytosol
        Density in the cytosol relative to the structure.
    penetrance
        Share of the cells that show the structure; the others have the protein in the cytosol.
    count, size, patchiness
        Number of puncta or tubules, their relative size, and how uneven a membrane or rim is; each class reads what it needs.
    nuclear
        Density in the nucleus relative to the cytosol around it.
    """

    label: str
    expression: float
    cytosol: float
    penetrance: float
    count: float
    size: float
    patchiness: float
    nuclear: float


@dataclass(frozen=True)
class Beads:
    """Gaussian spots: positions (n, k, 2) relative to the cells' origins, standard deviations and peaks (n, k)."""

    positions: np.ndarray
    sigma: np.ndarray
    peak: np.ndarray


Structure = tuple[np.ndarray | None, Beads | None]
SHORTEST_SPINDLE = 3.0  # pixels


def draw_protein(rng: Random, label: str, settings: dict[str, Any]) -> Protein:
    """Return a protein of a class; `settings` is ``[proteins]`` of ``yeast_sim.toml``, classes override its defaults."""
    ranges = {**settings["default"], **settings[label]}
    drawn = {
        name: float(rng.uniform(*ranges[name]))
        for name in ("cytosol", "penetrance", "count", "size", "patchiness", "nuclear")
    }
    expression = float(np.clip(exp(rng.normal(0, ranges["expression_spread"])), *ranges["expression_limits"]))
    return Protein(label=label, expression=expression, **drawn)


def cytosol_of(shape: Shapes, vacuole: np.ndarray, softness: float) -> np.ndarray:
    """Return the density of what fills the cytosol (n, w, w): the cell's height to the power 3/4, for a thick optical section.

    Parameters
    ----------
    shape
        Distances of n cells.
    vacuole
        (n,) density seen in the vacuole's middle, of the cytosol above and below it.
    softness
        Width of the vacuole's edge: it is a ball, thinner there.
    """
    root = np.sqrt(np.maximum(shape.height, np.float32(0.2)))
    filled = inside(shape.cell) * root * np.sqrt(root)
    lumen = np.clip(np.float32(0.3) - shape.vacuole / np.float32(softness), 0, 1)
    light: np.ndarray = filled * (1 - lumen * (1 - vacuole.astype(np.float32)[:, None, None]))
    return light


def rim(distance: np.ndarray, width: float, depth: float = 0.0) -> np.ndarray:
    """Return a Gaussian ridge of standard deviation `width` along the line that is `depth` inside an outline."""
    scaled = (distance + np.float32(depth)) / np.float32(width)
    return exp(np.float32(-0.5) * scaled * scaled)


def shows_structure(label: str, anatomy: Anatomy) -> np.ndarray:
    """Return which cells (n,) are in a stage that has the structure of a class: those without show it nowhere.

    A protein of the bud or its neck is diffuse in unbudded cells.
    """
    return anatomy.budded if label in ("BUDNECK", "BUDTIP") else np.ones(len(anatomy), bool)


def labels_of(label: str, anatomy: Anatomy) -> np.ndarray:
    """Return what each cell (n,) of a protein of a class shows, as the classes of single cells are named.

    Before its poles part a cell has no spindle but a pole, and without a bud neither neck nor tip but a diffuse protein.
    """
    labels = np.full(len(anatomy), label, object)
    if label == "SPINDLE":
        labels[spindle_length(anatomy) <= SHORTEST_SPINDLE] = "SPINDLEPOLE"
    labels[~shows_structure(label, anatomy)] = "CYTOPLASM"
    return labels


def spindle_length(anatomy: Anatomy) -> np.ndarray:
    """Return the distance (n,) between the two spindle poles, in pixels."""
    return norm(anatomy.poles[:, 0] - anatomy.poles[:, 1])


def structure_of(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein, settings: dict[str, Any]) -> Structure:
    """Return the structure of a protein's class in n cells, at its class's brightness; `settings` as `draw_protein`."""
    density, beads = STRUCTURES[protein.label](rng, anatomy, shape, protein)
    brightness = {**settings["default"], **settings[protein.label]}["brightness"]
    if density is not None:
        density = density * np.float32(brightness)
    if beads is not None:
        beads = Beads(beads.positions, beads.sigma, beads.peak * brightness)
    return density, beads


def _peaks(rng: Random, shape: tuple[int, int], count: Any, low: float, high: float) -> np.ndarray:
    """Return peaks (n, k) between `low` and `high`: Poisson(count) per cell, but at least one, and 0 for the rest."""
    number = np.maximum(rng.poisson(np.broadcast_to(count, shape[:1])), 1)
    peaks: np.ndarray = rng.uniform(low, high, shape) * (np.arange(shape[1]) < number[:, None])
    return peaks


def _spots(rng: Random, positions: np.ndarray, peak: np.ndarray, sigma: float) -> Beads:
    """Return beads of about one size: those out of the focal plane are wider."""
    return Beads(positions, sigma * rng.uniform(0.9, 1.25, peak.shape), peak)


def _in_cytosol(rng: Random, anatomy: Anatomy, k: int, edge: float = 0.85) -> np.ndarray:
    """Return random positions (n, k, 2) in the cytosol of mother or bud, by area: outside of vacuoles and nucleus."""
    n, tries = len(anatomy), 6
    bud, mother = (axes[:, 0] * axes[:, 1] for axes in (anatomy.bud_axes, anatomy.mother_axes))
    share = bud / (bud + mother)
    in_bud = rng.uniform(size=(n, k)) < share[:, None]
    angle, radius = rng.uniform(0, 2 * np.pi, (n, k, tries)), edge * np.sqrt(rng.uniform(size=(n, k, tries)))
    centre = np.where(in_bud[..., None], anatomy.bud[:, None], anatomy.mother[:, None])[:, :, None]
    axes = np.where(in_bud[..., None], anatomy.bud_axes[:, None], anatomy.mother_axes[:, None])[:, :, None]
    tilt = np.where(in_bud, anatomy.bud_angle[:, None], anatomy.mother_angle[:, None])[:, :, None]
    candidates = on_ellipse(centre, axes * radius[..., None], tilt, angle)
    parts = np.concatenate([anatomy.vacuoles, anatomy.nuclei], axis=1)
    radii = np.concatenate([anatomy.vacuole_radius, anatomy.nucleus_radius], axis=1)
    gaps = norm(candidates[:, :, :, None] - parts[:, None, None]) - radii[:, None, None]
    first = (gaps.min(axis=-1) > 1).argmax(axis=2)
    return np.take_along_axis(candidates, first[:, :, None, None], axis=2)[:, :, 0]


def _on_cortex(rng: Random, anatomy: Anatomy, in_bud: np.ndarray, t: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return positions (n, k, 2) under the membrane: `in_bud` (n, k) bool, `t` the ellipse's parameter, `depth` in pixels."""
    in_bud = in_bud & anatomy.budded[:, None]
    return np.where(
        in_bud[..., None],
        on_ellipse(anatomy.bud[:, None], anatomy.bud_axes[:, None], anatomy.bud_angle[:, None], t, depth),
        on_ellipse(anatomy.mother[:, None], anatomy.mother_axes[:, None], anatomy.mother_angle[:, None], t, depth),
    )


def _tubules(
    rng: Random,
    anatomy: Anatomy,
    k: int,
    beads: int,
    length: tuple[float, float],
    depth: tuple[float, float],
) -> np.ndarray:
    """Return bead positions (n, k, beads, 2) of tubules that run along the cortex; the last third of them is in the bud."""
    n = len(anatomy)
    in_bud = (np.arange(k) >= k - k // 3)[None] & anatomy.budded[:, None]
    size = np.where(in_bud, mean_axis(anatomy.bud_axes)[:, None], mean_axis(anatomy.mother_axes)[:, None])
    span = rng.uniform(*length, (n, k)) / np.maximum(size, 3)
    run = np.linspace(0, 1, beads)
    t = rng.uniform(0, 2 * np.pi, (n, k))[..., None] + np.minimum(span, 4)[..., None] * run
    wave = rng.uniform(0, 2 * np.pi, (n, k))[..., None] + rng.uniform(3, 7, (n, k))[..., None] * run
    deep = rng.uniform(*depth, (n, k))[..., None] * (1 + 0.45 * sin(wave))
    flat = _on_cortex(rng, anatomy, np.repeat(in_bud, beads, axis=1), t.reshape(n, -1), deep.reshape(n, -1))
    return flat.reshape(n, k, beads, 2)


def _line(start: np.ndarray, end: np.ndarray, beads: int) -> np.ndarray:
    """Return beads (n, beads, 2) on the straight line between two points (n, 2)."""
    run = np.linspace(0, 1, beads)[None, :, None]
    return start[:, None] * (1 - run) + end[:, None] * run


def _joined(*beads: Beads) -> Beads:
    """Return all beads of the same n cells as one."""
    return Beads(
        *(np.concatenate([getattr(b, name) for b in beads], axis=1) for name in ("positions", "sigma", "peak"))
    )


def actin(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """Patches under the membrane of the bud (before cytokinesis: at the neck), few in the mother, and faint cables."""
    n, k, cables, links = len(anatomy), 26, 3, 14
    late = (anatomy.stage > 0.88)[:, None]
    in_bud = (rng.uniform(size=(n, k)) < np.where(late, 0.5, 0.85)) & anatomy.budded[:, None]
    at_site = rng.uniform(size=(n, k)) < np.where(late, 0.9, 0.65)
    neck = anatomy.neck - anatomy.mother
    site = arctan2(neck[:, 0], neck[:, 1]) - anatomy.mother_angle
    spread = 0.35 + 1.6 * np.maximum(anatomy.stage, 0)[:, None]
    near_tip = np.where(late, np.pi + rng.normal(0, 0.45, (n, k)), rng.normal(0, 1, (n, k)) * spread)
    near_site = np.where(at_site, site[:, None] + rng.normal(0, 0.35, (n, k)), rng.uniform(0, 2 * np.pi, (n, k)))
    t = np.where(in_bud, near_tip, near_site)
    depth = rng.uniform(0.8, 2.2, (n, k))
    alone = np.where(anatomy.budded[:, None] & ~in_bud & ~late, rng.uniform(size=(n, k)) < 0.55, True)
    peak = _peaks(rng, (n, k), protein.count, 0.45, 1.1) * alone
    patches = _spots(rng, _on_cortex(rng, anatomy, in_bud, t, depth), peak, 0.95 * protein.size)
    runs = []
    for _ in range(cables):
        far = anatomy.mother - rng.uniform(0.2, 0.8, n)[:, None] * neck
        far = far + rng.normal(0, 0.3, (n, 2)) * anatomy.mother_axes[:, 1:]
        runs.append(_line(anatomy.neck, far, links))
    cable = np.concatenate(runs, axis=1)
    faint = np.full(cable.shape[:2], 0.1) * rng.uniform(0.3, 1.2, (n, 1))
    return None, _joined(patches, Beads(cable, np.full(faint.shape, 0.8), faint))


def bud_neck(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A ring seen from its side, a bar across the neck with brighter ends; two rings before the cells part."""
    n, k = len(anatomy), 9
    across = np.stack([-anatomy.axis[:, 1], anatomy.axis[:, 0]], axis=1)
    run = np.linspace(-1, 1, k)
    width = (1.15 * anatomy.neck_radius * protein.size)[:, None, None]
    bar = anatomy.neck[:, None] + width * run[None, :, None] * across[:, None]
    split = np.where(anatomy.stage > 0.8, 1.5, 0.0)[:, None, None] * anatomy.axis[:, None]
    level = 0.35 + 0.35 * run * run
    level = np.where((anatomy.stage > 0.8)[:, None], 0.75, 1) * level * rng.uniform(0.75, 1.25, (n, 1))
    positions = np.concatenate([bar - split, bar + split], axis=1)
    peak = np.concatenate([level, level * (anatomy.stage > 0.8)[:, None]], axis=1)
    return None, Beads(positions, np.full(peak.shape, 0.9), peak)


def bud_tip(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A cap on the bud's tip."""
    size = ((1.0 + 0.62 * anatomy.bud_axes[:, 1]) * protein.size).astype(np.float32)[:, None, None]
    tip = anatomy.tip.astype(np.float32)[:, :, None, None]
    y, x = shape.rows - tip[:, 0], shape.columns - tip[:, 1]
    level = rng.uniform(0.75, 1.25, len(anatomy)).astype(np.float32)[:, None, None]
    return level * rim(shape.cell, 1.3, 1.2) * exp(-(y * y + x * x) / (2 * size * size)), None


def cell_periphery(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A thin ring all round mother and bud, more or less patchy."""
    n, k = len(anatomy), 40
    density = rim(shape.cell, 0.75, 1.0) * np.float32(1 - 0.5 * protein.patchiness)
    in_bud = (
        rng.uniform(size=(n, k)) < (anatomy.bud_axes[:, 0] / (anatomy.bud_axes + anatomy.mother_axes)[:, 0])[:, None]
    )
    positions = _on_cortex(rng, anatomy, in_bud, rng.uniform(0, 2 * np.pi, (n, k)), np.full((n, k), 1.0))
    outlying = _outline_gap(anatomy, positions, in_bud)
    peak = rng.uniform(0.3, 1, (n, k)) * (0.5 * protein.patchiness) * outlying
    return density, _spots(rng, positions, peak, 1.0)


def _outline_gap(anatomy: Anatomy, positions: np.ndarray, in_bud: np.ndarray) -> np.ndarray:
    """Return whether cortical positions (n, k, 2) are on the outer outline: not where mother and bud are joined."""
    from_neck = norm(positions - anatomy.neck[:, None])
    outer: np.ndarray = (from_neck > anatomy.neck_radius[:, None]) | ~anatomy.budded[:, None]
    return outer


def cytoplasm(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """All of the cytosol; more or less of it in the nucleus too."""
    return np.zeros_like(shape.cell), None  # the cytosol itself is added for every protein, with the class's own share


def endosome(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A few rather large spots beside the vacuole."""
    n, k = len(anatomy), 9
    lobe = (rng.uniform(size=(n, k)) < 0.3) & (anatomy.vacuole_radius[:, 1:2] > 0)
    centre = np.where(lobe[..., None], anatomy.vacuoles[:, None, 1], anatomy.vacuoles[:, None, 0])
    radius = np.where(lobe, anatomy.vacuole_radius[:, 1:2], anatomy.vacuole_radius[:, :1])
    beside = centre + (radius + rng.uniform(0.5, 2, (n, k)))[..., None] * unit(rng.uniform(0, 2 * np.pi, (n, k)))
    bounded = norm(beside - anatomy.mother[:, None]) < anatomy.mother_axes[:, 1:] - 1
    free = (anatomy.vacuole_radius[:, :1] == 0) | ~bounded | (rng.uniform(size=(n, k)) < 0.15)
    positions = np.where(free[..., None], _in_cytosol(rng, anatomy, k), beside)
    peak = _peaks(rng, (n, k), protein.count, 0.6, 1.1)
    return None, _spots(rng, positions, peak, 1.5 * protein.size)


def endoplasmic_reticulum(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """The nuclear envelope, stretches under the membrane, and a strand or two between them."""
    n, arcs, beads, links = len(anatomy), 6, 18, 9
    cortical = _tubules(rng, anatomy, arcs, beads, (10, 26), (1.2, 2.2)).reshape(n, -1, 2)
    present = np.repeat(_peaks(rng, (n, arcs), protein.count, 0.3, 0.5), beads, axis=1)
    strands = []
    for _ in range(2):
        angle = rng.uniform(0, 2 * np.pi, n)
        start = anatomy.nuclei[:, 0] + anatomy.nucleus_radius[:, :1] * unit(angle)
        outer = on_ellipse(anatomy.mother, anatomy.mother_axes, anatomy.mother_angle, angle - anatomy.mother_angle, 1.5)
        strands.append(_line(start, outer, links))
    strand = np.concatenate(strands, axis=1)
    faint = np.full(strand.shape[:2], 0.2)
    beads_all = _joined(
        Beads(cortical, np.full(present.shape, 0.85), present), Beads(strand, np.full(faint.shape, 0.8), faint)
    )
    return rim(shape.nucleus, 0.9) * np.float32(0.9), beads_all


def golgi(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """Several small spots of unequal brightness, anywhere in the cytosol of mother and bud."""
    n, k = len(anatomy), 20
    peak = _peaks(rng, (n, k), protein.count, 0.25, 1.0)
    return None, _spots(rng, _in_cytosol(rng, anatomy, k), peak, 1.15 * protein.size)


def mitochondria(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """Tubules that wind along the cortex of mother and bud."""
    n, k, beads = len(anatomy), 8, 22
    positions = _tubules(rng, anatomy, k, beads, (9, 26), (2.0, 4.5))
    peak = np.repeat(_peaks(rng, (n, k), protein.count, 0.45, 0.8), beads, axis=1)
    peak = peak * rng.uniform(0.7, 1.3, peak.shape)
    peak = peak * (rng.permuted(np.tile(np.arange(k) > 0, (n, 1)), axis=1)).repeat(beads, axis=1)
    return None, Beads(positions.reshape(n, -1, 2), np.full(peak.shape, 0.95 * protein.size), peak)


def nuclear_periphery(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A ring round the nucleus, dotted with clusters of pores."""
    n, k = len(anatomy), 10
    which = rng.integers(0, 2, (n, k))
    rows = np.arange(n)[:, None]
    radius = anatomy.nucleus_radius[rows, which]
    positions = anatomy.nuclei[rows, which] + radius[..., None] * unit(rng.uniform(0, 2 * np.pi, (n, k)))
    peak = rng.uniform(0, 0.7, (n, k)) * protein.patchiness
    return rim(shape.nucleus, 0.8), _spots(rng, positions, peak, 0.9)


def nuclei(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """The whole nucleus."""
    return inside(shape.nucleus), None


def nucleolus(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A crescent at the nucleus' edge, away from the spindle pole; one in each lobe after anaphase."""
    density = np.zeros_like(shape.cell)
    parted = (anatomy.nuclei[:, 0] != anatomy.nuclei[:, 1]).any(axis=1)
    for lobe in range(2):
        centre = anatomy.nuclei[:, lobe].astype(np.float32)[..., None, None]
        away = anatomy.nucleolus[:, lobe].astype(np.float32)[..., None, None]
        radius = anatomy.nucleus_radius[:, lobe].astype(np.float32)[:, None, None]
        y, x = shape.rows - centre[:, 0], shape.columns - centre[:, 1]
        bite_y, bite_x = y + 0.75 * radius * away[:, 0], x + 0.75 * radius * away[:, 1]
        within = inside(np.sqrt(y * y + x * x) - radius)
        crescent = within * inside(np.float32(1.1) * radius - np.sqrt(bite_y * bite_y + bite_x * bite_x))
        density = np.maximum(density, np.where((parted | (lobe == 0))[:, None, None], crescent, 0))
    return density, None


def peroxisome(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A few sharp dots, most of them near the cortex."""
    n, k = len(anatomy), 14
    in_bud = rng.uniform(size=(n, k)) < 0.3
    positions = _on_cortex(rng, anatomy, in_bud, rng.uniform(0, 2 * np.pi, (n, k)), rng.uniform(2, 5, (n, k)))
    peak = _peaks(rng, (n, k), protein.count, 0.7, 1.1)
    return None, _spots(rng, positions, peak, 0.75 * protein.size)


def spindle(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """A bar between the poles, through the neck in anaphase; with one pole a dot. A few faint microtubules to the cortex."""
    n, k, links = len(anatomy), 26, 10
    first, second = anatomy.poles[:, 0], anatomy.poles[:, 1]
    length = spindle_length(anatomy)
    bar = _line(first, second, k)
    level = np.where(length > SHORTEST_SPINDLE, 0.4 * length, 1.0)[:, None] / k * np.ones(k)
    astral = []
    for pole in (first, second):
        angle = rng.uniform(0, 2 * np.pi, n)
        reach = pole + (rng.uniform(0.3, 0.7, n) * anatomy.mother_axes[:, 1])[:, None] * unit(angle)
        astral.append(_line(pole, reach, links))
    fibres = np.concatenate(astral, axis=1)
    faint = 0.08 * rng.uniform(0.5, 1.2, (n, 1)) * np.ones(2 * links)
    return None, _joined(
        Beads(bar, np.full(level.shape, 0.85 * protein.size), level), Beads(fibres, np.full(faint.shape, 0.75), faint)
    )


def spindle_pole(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """One dot at the nuclear envelope, or two once the pole is duplicated."""
    apart = spindle_length(anatomy) > 1
    peak = np.stack([np.where(apart, 0.85, 0.6), np.where(apart, 0.85, 0.6)], axis=1)
    return None, _spots(rng, anatomy.poles, peak * rng.uniform(0.8, 1.2, (len(anatomy), 2)), 1.0 * protein.size)


def vacuolar_membrane(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """Rings round the vacuole's lobes."""
    return rim(shape.vacuole, 0.8), None


def vacuole(rng: Random, anatomy: Anatomy, shape: Shapes, protein: Protein) -> Structure:
    """The vacuole's lumen."""
    return inside(shape.vacuole), None


STRUCTURES: dict[str, Callable[[Random, Anatomy, Shapes, Protein], Structure]] = {
    "ACTIN": actin,
    "BUDNECK": bud_neck,
    "BUDTIP": bud_tip,
    "CELLPERIPHERY": cell_periphery,
    "CYTOPLASM": cytoplasm,
    "ENDOSOME": endosome,
    "ER": endoplasmic_reticulum,
    "GOLGI": golgi,
    "MITOCHONDRIA": mitochondria,
    "NUCLEARPERIPHERY": nuclear_periphery,
    "NUCLEI": nuclei,
    "NUCLEOLUS": nucleolus,
    "PEROXISOME": peroxisome,
    "SPINDLE": spindle,
    "SPINDLEPOLE": spindle_pole,
    "VACUOLARMEMBRANE": vacuolar_membrane,
    "VACUOLE": vacuole,
}
