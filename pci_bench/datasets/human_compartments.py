"""Where a simulated human protein is: one function per localization term draws it from the cells' own anatomy.

Everything is drawn on one field of view (rows, columns) at once: `Ground` says for each pixel whose it is and how far it is
from the parts of its cell. A function returns a density that is about 1 at its brightest; points and filaments count only
inside their own cell. A new term is one more function here, one more entry in `TERMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from pci_bench.datasets.human_anatomy import (
    NUCLEOLI,
    Anatomy,
    Pull,
    filaments,
    in_cytoplasm,
    in_nucleus,
    radius_at,
    radius_towards,
    unit,
)
from pci_bench.simulation.arithmetic import Random, arctan2, exp, gaussian_filter, hypot, norm, total

FAR = np.float32(99)
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


@dataclass(frozen=True)
class Ground:
    """A field of view, pixel by pixel, before any stain.

    Parameters
    ----------
    anatomy, origins
        The n cells and their middles (n, 2).
    owner
        (rows, columns) number of the cell, −1 outside.
    depth
        Distance to the cell's edge, 0 outside.
    nucleus, nucleolus
        Signed distances to their outlines, negative inside; far away (99) outside of the cell, or of the nucleus.
    touching
        0 … 1: whether the nearest stretch of the edge is shared with another cell.
    network
        Microtubules (rows, columns), which marker and protein share.
    """

    anatomy: Anatomy
    origins: np.ndarray
    owner: np.ndarray
    depth: np.ndarray
    nucleus: np.ndarray
    nucleolus: np.ndarray
    touching: np.ndarray
    network: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    @property
    def size(self) -> int:
        """Rows, and columns, of the field."""
        return len(self.owner)


def inside(distance: np.ndarray) -> np.ndarray:
    """Return 1 inside, 0 outside, with an edge one pixel wide."""
    return np.clip(np.float32(0.5) - distance, 0, 1)


def ridge(distance: np.ndarray, width: float) -> np.ndarray:
    """Return a Gaussian ridge of standard deviation `width` where `distance` is 0."""
    scaled = distance * np.float32(1 / width)
    return exp(np.float32(-0.5) * scaled * scaled)


def survey(anatomy: Anatomy, origins: np.ndarray, size: int) -> Ground:
    """Return the ground of cells with middles `origins` (n, 2) in a field of `size`² pixels; its network is still empty.

    A pixel belongs to the cell in which it is relatively nearest to the middle; a nucleus always belongs to its own cell.
    """
    from scipy.ndimage import distance_transform_edt

    nearest = np.ones((size, size), np.float32)
    owner = np.full((size, size), -1, np.int32)
    nucleus = np.full((size, size), FAR, np.float32)
    outline, nucleus_outline = (part.astype(np.float32) for part in (anatomy.outline, anatomy.nucleus_outline))
    reach = np.ceil(anatomy.outline.max(axis=1)).astype(int) + 1
    for i, (row, column) in enumerate(origins):
        (top, bottom), (left, right) = (_span(middle, reach[i], size) for middle in (row, column))
        y, x = _offsets(top, bottom, left, right, row, column)
        here = (slice(top, bottom), slice(left, right))
        share = hypot(y, x) / radius_towards(outline, i, y, x)
        closer = share < nearest[here]
        nearest[here][closer] = share[closer]
        owner[here][closer] = i
    claimed = np.full((size, size), -1, np.int32)
    kernel = np.ceil(anatomy.nucleus_outline.max(axis=1)).astype(int) + 4
    for i, (row, column) in enumerate(origins + anatomy.nucleus):
        (top, bottom), (left, right) = (_span(middle, kernel[i], size) for middle in (row, column))
        y, x = _offsets(top, bottom, left, right, row, column)
        here = (slice(top, bottom), slice(left, right))
        distance = hypot(y, x) - radius_towards(nucleus_outline, i, y, x)
        closer = distance < nucleus[here]
        nucleus[here][closer] = distance[closer]
        claimed[here][closer & (distance < 1.2)] = i
    owner = np.where(claimed >= 0, claimed, owner)
    nucleus[owner < 0] = FAR

    edge, shared = _edges(owner)
    depth = np.where(owner >= 0, distance_transform_edt(~edge), 0).astype(np.float32)
    # smoothing both says which kind of edge is near: shared with a neighbour, or free
    near, near_shared = (gaussian_filter(e.astype(np.float32), 2.0) for e in (edge, shared))
    touching = np.clip(near_shared / np.maximum(near, np.float32(1e-4)), 0, 1)
    return Ground(anatomy, origins, owner, depth, nucleus, _nucleolus(anatomy, origins, owner, nucleus), touching)


def _span(middle: float, reach: int, size: int) -> tuple[int, int]:
    """Return first and last row (or column) within `reach` of `middle` that the field has."""
    low = int(np.floor(middle)) - reach
    return min(max(low, 0), size), min(max(low + 2 * reach + 1, 0), size)


def _offsets(top: int, bottom: int, left: int, right: int, row: float, column: float) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (h, 1) and columns (1, w) of a window, relative to a point."""
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    return y, np.arange(left, right, dtype=np.float32)[None] - np.float32(column)


def _edges(owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the outermost pixels of cells (rows, columns) bool, and those that touch another cell."""
    edge, shared = np.zeros(owner.shape, bool), np.zeros(owner.shape, bool)
    for one, other in (
        ((slice(1, None),), (slice(None, -1),)),
        ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
    ):
        differs = owner[one] != owner[other]
        both = differs & (owner[one] >= 0) & (owner[other] >= 0)
        for side in (one, other):
            edge[side] |= differs
            shared[side] |= both
    return edge & (owner >= 0), shared


def _nucleolus(anatomy: Anatomy, origins: np.ndarray, owner: np.ndarray, nucleus: np.ndarray) -> np.ndarray:
    """Return the signed distance to the nearest nucleolus, in nuclei."""
    result = np.full(owner.shape, FAR, np.float32)
    rows, columns = np.nonzero(nucleus < 0.5)
    cell, down, right = owner[rows, columns], rows.astype(np.float32), columns.astype(np.float32)
    best = np.full(len(rows), FAR, np.float32)
    places = (anatomy.nucleoli + origins[:, None]).astype(np.float32)
    radii = np.where(anatomy.nucleolus_radius > 0, anatomy.nucleolus_radius, -FAR).astype(np.float32)
    for lobe in range(NUCLEOLI):
        middle = places[cell, lobe]
        distance = hypot(down - middle[:, 0], right - middle[:, 1]) - radii[cell, lobe]
        np.minimum(best, distance, out=best)
    result[rows, columns] = best
    return result


def deposit(ground: Ground, positions: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the sum (rows, columns) of points, each shared by the four pixels around it.

    Parameters
    ----------
    ground
        Points outside of their own cell are left out.
    positions
        (n, k, 2) relative to the middles of the n cells.
    weight
        (n, k).
    """
    size = ground.size
    amount = np.ascontiguousarray(weight, np.float32).ravel()
    at = (positions + ground.origins[:, None]).astype(np.float32).reshape(-1, 2)
    cell = np.repeat(np.arange(len(positions), dtype=np.int32), positions.shape[1])
    down, right = at.T
    within = (amount > 0) & (down >= 0) & (down < size - 1) & (right >= 0) & (right < size - 1)
    down, right, amount, cell = down[within], right[within], amount[within], cell[within]
    own = ground.owner.ravel()[(np.rint(down) * size + np.rint(right)).astype(np.int32)] == cell
    down, right, amount = down[own], right[own], amount[own]
    top, left = np.floor(down), np.floor(right)
    index = (top * size + left).astype(np.int32)
    down, right = down - top, right - left
    below, above = amount * down, amount * (1 - down)
    indices = np.concatenate([index, index + 1, index + size, index + size + 1])
    amounts = np.concatenate([above * (1 - right), above * right, below * (1 - right), below * right])
    return np.bincount(indices, amounts, size * size).reshape(size, size).astype(np.float32)


def spots(ground: Ground, positions: np.ndarray, peak: np.ndarray, sigma: float) -> np.ndarray:
    """Return Gaussian spots of the given peaks (n, k)."""
    return np.float32(2 * np.pi * sigma * sigma) * gaussian_filter(deposit(ground, positions, peak), sigma)


def strokes(ground: Ground, paths: np.ndarray, level: np.ndarray, sigma: float, step: float = 1.0) -> np.ndarray:
    """Return filaments along paths (n, f, steps, 2) with brightness `level` (n, f) or (n, f, steps) on the ridge."""
    n, f, steps, _ = paths.shape
    weight = np.broadcast_to(level.reshape(n, f, -1), (n, f, steps)).reshape(n, -1)
    drawn = deposit(ground, paths.reshape(n, -1, 2), weight)
    return np.float32(np.sqrt(2 * np.pi) * sigma * step) * gaussian_filter(drawn, sigma)


def mottle(rng: Random, size: int, scale: float) -> np.ndarray:
    """Return a smooth random field (size, size) of mean 0 and SD 1."""
    noise = gaussian_filter(rng.standard_normal((size, size)), scale)
    return noise * np.float32(2 * np.sqrt(np.pi) * scale)


def scattered(rng: Random, n: int, k: int, mean: float, low: float, high: float) -> np.ndarray:
    """Return peaks (n, k) from `low` to `high`: Poisson(mean) of them per cell, at least one; 0 for the rest."""
    number = np.clip(rng.poisson(mean, n), 1, k)
    return rng.uniform(low, high, (n, k)) * (np.arange(k) < number[:, None])


def cytoplasm_of(ground: Ground, thickness: float) -> np.ndarray:
    """Return how much cytoplasm is seen (rows, columns): less at the thin edge, none in the nucleus."""
    height = 1 - exp(-(ground.depth + np.float32(0.8)) / np.float32(thickness))
    return np.where(ground.owner >= 0, height, 0) * (1 - inside(ground.nucleus))


def microtubule_network(rng: Random, ground: Ground, line: dict[str, float]) -> np.ndarray:
    """Return the microtubules of all cells: half of them from the centrosome, half from anywhere, few over the nucleus."""
    anatomy = ground.anatomy
    n, f = len(anatomy), max(round(line["filaments"]), 4)
    start = in_cytoplasm(rng, anatomy, f, edge=0.95)
    rooted = np.arange(f) < f * min(0.25 + 0.5 * line["radial"], 0.8)
    start = np.where(rooted[:, None], anatomy.centrosome[:, None] + rng.normal(0, 0.8, (n, f, 2)), start)
    pull = Pull(line["radial"], line["axial"], line["tangential"], line["curl"])
    steps = round((0.9 * line["radius"] * np.sqrt(line["elongation"]) + 8) / STEP)
    paths = filaments(rng, anatomy, start, steps, pull, STEP)
    level = rng.uniform(0.35, 1.0, (n, f, 1)) * np.linspace(1.1, 0.7, steps)
    drawn = strokes(ground, paths, level, 0.4, STEP) * np.float32(0.54)
    return drawn * (1 - np.float32(0.72) * inside(ground.nucleus + 1))


def nucleoplasm(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The nucleus but for the nucleoli."""
    holes = 1 - np.float32(0.85) * inside(ground.nucleolus)
    clumps = 1 + np.float32(0.22) * mottle(rng, ground.size, 1.1)
    return np.float32(0.75) * inside(ground.nucleus) * holes * np.maximum(clumps, 0.1)


def nucleoli(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The nucleoli, whole or as rims."""
    grown = ground.nucleolus - np.float32(0.7 * (protein.size - 1))
    if protein.variant == "rim":
        shape = np.float32(1.15) * ridge(grown, 0.6) + np.float32(0.12) * inside(grown)
    else:
        shape = inside(grown)
    return shape * inside(ground.nucleus)


def fibrillar_center(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """One to three small spots in each nucleolus, which itself is faint."""
    anatomy, per = ground.anatomy, 3
    n, k = len(anatomy), NUCLEOLI * per
    radius = np.repeat(anatomy.nucleolus_radius, per, axis=1)
    away = (0.55 * radius * np.sqrt(rng.uniform(size=(n, k))))[..., None] * unit(rng.uniform(0, 2 * np.pi, (n, k)))
    shown = (rng.uniform(size=(n, k)) < 0.45 * protein.count) | (np.arange(k) % per == 0)
    peak = rng.uniform(0.6, 1.1, (n, k)) * (radius > 0) * shown
    faint = np.float32(0.13) * inside(ground.nucleolus) + np.float32(0.07) * inside(ground.nucleus)
    return spots(ground, np.repeat(anatomy.nucleoli, per, axis=1) + away, peak, 0.6 * protein.size) + faint


def nuclear_speckles(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """Fifteen to forty uneven blotches in the nucleus, in faint nucleoplasm."""
    n, k = len(ground.anatomy), 44
    peak = scattered(rng, n, k, 24 * protein.count, 0.3, 0.9)
    blotches = spots(ground, in_nucleus(rng, ground.anatomy, k, 0.86), peak, 0.85 * protein.size)
    return (blotches + np.float32(0.14)) * inside(ground.nucleus) * (1 - np.float32(0.8) * inside(ground.nucleolus))


def nuclear_bodies(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """A few sharp dots in the nucleus."""
    n, k = len(ground.anatomy), 9
    peak = scattered(rng, n, k, 4.0 * protein.count, 0.7, 1.1)
    dots = spots(ground, in_nucleus(rng, ground.anatomy, k, 0.85), peak, 0.62 * protein.size)
    return dots + np.float32(0.1) * inside(ground.nucleus)


def nuclear_membrane(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The rim of the nucleus, more or less even."""
    uneven = 1 + np.float32(0.6 * protein.patchiness) * mottle(rng, ground.size, 1.6)
    return ridge(ground.nucleus + 0.4, 0.7) * np.maximum(uneven, 0.15) + np.float32(0.12) * inside(ground.nucleus)


def cytosol(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """All of the cytoplasm, nothing in the nucleus."""
    uneven = 1 + np.float32(0.18) * mottle(rng, ground.size, 2.2)
    return np.float32(0.8) * cytoplasm_of(ground, 6.0) * np.maximum(uneven, 0.1)


def _worms(rng: Random, ground: Ground, k: int, steps: int, near: float, level: np.ndarray, sigma: float) -> np.ndarray:
    """Return k short tubules per cell, drawn to the cell's axis a little; `level` is (n, k)."""
    start = in_cytoplasm(rng, ground.anatomy, k, near, edge=0.85)
    paths = filaments(rng, ground.anatomy, start, steps, Pull(0.2, 0.25, 0.35, 0.3))
    return strokes(ground, paths, level, sigma) * (1 - np.float32(0.9) * inside(ground.nucleus - 0.5))


def mitochondria(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """Tubules around the nucleus, or fragments of them."""
    area = _areas(ground)
    if protein.variant == "fragmented":
        k = 54
        shown = np.arange(k) < np.clip(area / 20 * protein.count, 10, k)[:, None]
        positions = in_cytoplasm(rng, ground.anatomy, k, 0.22, edge=0.85)
        return spots(ground, positions, rng.uniform(0.4, 1.0, shown.shape) * shown, 0.95 * protein.size)
    k = 34
    shown = np.arange(k) < np.clip(area / 32 * protein.count, 7, k)[:, None]
    return _worms(rng, ground, k, 15, 0.22, rng.uniform(0.35, 0.85, shown.shape) * shown, 0.62 * protein.size)


def _areas(ground: Ground) -> np.ndarray:
    """Return the area of each cell's ellipse (n,)."""
    return np.pi * ground.anatomy.axes[:, 0] * ground.anatomy.axes[:, 1]


def endoplasmic_reticulum(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """A fine net that thins out towards the edge, and the nuclear envelope."""
    away = np.maximum(ground.nucleus, 0)
    share = away / (away + ground.depth + np.float32(0.5))
    net = exp(np.float32(-1.3) * np.abs(mottle(rng, ground.size, 0.9)))
    inner = cytoplasm_of(ground, 3.0) * exp(np.float32(-1.9 / protein.size) * share) * (np.float32(0.2) + net)
    return np.float32(0.8) * inner + np.float32(0.3) * ridge(ground.nucleus, 0.8) * (ground.owner >= 0)


def golgi_apparatus(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """A ribbon of clumps beside the nucleus, on the centrosome's side."""
    anatomy, n, k = ground.anatomy, len(ground.anatomy), 20
    to = anatomy.centrosome - anatomy.nucleus
    spread = rng.uniform(0.45, 0.95, (n, 1)) * protein.size
    angle = arctan2(to[:, 0], to[:, 1])[:, None] + spread * rng.uniform(-1, 1, (n, k))
    edge = radius_at(anatomy.nucleus_outline, np.arange(n)[:, None], angle)
    gap = rng.uniform(1.0, 2.2, (n, 1)) + rng.gamma(1.6, 0.6, (n, k))
    positions = anatomy.nucleus[:, None] + (edge + gap)[..., None] * unit(angle)
    peak = scattered(rng, n, k, 13 * protein.count, 0.35, 0.95)
    return spots(ground, positions, peak, 0.85)


def vesicles(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """Dots in the cytoplasm: many everywhere, many near the nucleus, or a few large ones."""
    anatomy, n, k = ground.anatomy, len(ground.anatomy), 70
    density = _areas(ground) / 16 * protein.count
    if protein.variant == "sparse":
        peak = scattered(rng, n, k, 7 * protein.count, 0.7, 1.1)
        return spots(ground, in_cytoplasm(rng, anatomy, k, edge=0.85), peak, 1.05 * protein.size)
    near = 0.8 if protein.variant == "perinuclear" else 0.0
    number = np.clip(rng.poisson(np.minimum(density * (0.55 if near else 1.0), k)), 6, k)
    peak = rng.uniform(0.3, 1.0, (n, k)) * (np.arange(k) < number[:, None])
    return spots(ground, in_cytoplasm(rng, anatomy, k, near), peak, 0.65 * protein.size)


def plasma_membrane(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The edge of the cell all round, and faintly its upper face."""
    uneven = 1 + np.float32(0.55 * protein.patchiness) * mottle(rng, ground.size, 1.8)
    rim = ridge(ground.depth - np.float32(0.8), 0.9) * np.maximum(uneven, 0.1)
    return np.where(ground.owner >= 0, rim + np.float32(0.16), 0)


def microtubules(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The same microtubules as in the marker."""
    return np.minimum(ground.network, 1.3) * np.float32(0.9)


def actin_filaments(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """Straight parallel stress fibres across the cell, over the nucleus too, and the cortex."""
    anatomy, n, f = ground.anatomy, len(ground.anatomy), 15
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
    shown = rng.uniform(size=(n, f)) < 0.75 * protein.count
    level = rng.uniform(0.35, 1.0, (n, f)) * shown * ends * (2 / steps)
    fibres = strokes(ground, paths, level, 0.6)
    cortex = np.float32(0.4) * ridge(ground.depth - np.float32(0.8), 0.9) * (ground.owner >= 0)
    return np.float32(0.9) * fibres + cortex + np.float32(0.06) * cytoplasm_of(ground, 6.0)


def intermediate_filaments(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """A wavy cage, dense round the nucleus and open towards the edge."""
    anatomy, n, f = ground.anatomy, len(ground.anatomy), 26
    start = in_cytoplasm(rng, anatomy, f, 0.35, edge=0.8)
    paths = filaments(rng, anatomy, start, 20, Pull(0.05, 0.1, 0.75, 0.45), STEP)
    level = rng.uniform(0.25, 0.8, (n, f)) * (np.arange(f) < 20 * protein.count)
    drawn = strokes(ground, paths, level, 0.75 * protein.size, STEP)
    return np.float32(0.7) * drawn * (1 - np.float32(0.75) * inside(ground.nucleus + 1))


def centrosome(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """A pair of dots beside the nucleus, in faint cytosol."""
    anatomy, n = ground.anatomy, len(ground.anatomy)
    apart = rng.uniform(0.4, 1.3, n)[:, None] * unit(rng.uniform(0, 2 * np.pi, n))
    positions = np.stack([anatomy.centrosome - apart, anatomy.centrosome + apart], axis=1)
    dots = spots(ground, positions, rng.uniform(0.7, 1.0, (n, 2)), 0.7 * protein.size)
    return dots + np.float32(0.07) * cytoplasm_of(ground, 6.0)


def cell_junctions(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """The edge where it touches another cell, in short stretches; faint cytosol."""
    uneven = 1 + np.float32(0.3 + 0.5 * protein.patchiness) * mottle(rng, ground.size, 1.4)
    rim = ridge(ground.depth - np.float32(0.8), 0.8) * ground.touching * ground.touching * np.maximum(uneven, 0.05)
    return np.where(ground.owner >= 0, rim, 0) + np.float32(0.06) * cytoplasm_of(ground, 6.0)


def focal_adhesion_sites(rng: Random, ground: Ground, protein: Protein) -> np.ndarray:
    """Short dashes near the edge that point outwards, in faint cytosol."""
    anatomy, n, k, steps = ground.anatomy, len(ground.anatomy), 34, 7
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
    shown = np.arange(k) < np.clip(total(edge) / k * protein.count, 9, k)[:, None]
    dashes = strokes(ground, paths, rng.uniform(0.4, 1.0, (n, k)) * shown, 0.65, 0.6)
    return dashes * (1 - inside(ground.nucleus)) + np.float32(0.1) * cytoplasm_of(ground, 6.0)


TERMS: dict[str, Callable[[Random, Ground, Protein], np.ndarray]] = {
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
