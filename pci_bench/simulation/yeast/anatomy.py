"""The simulated yeast cell: its parts as ellipses, its place in a field of view, and distances to every part.

All lengths are pixels and all positions (row, column), relative to the cell's own origin: the centre of area of mother and
bud. Angles run from the column axis towards increasing rows. Everything is vectorised over the n cells of an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pci_bench.simulation.arithmetic import Random, arctan2, cos, exp, hypot, norm, sin
from pci_bench.simulation.raster import PartsOfCells, between, unit


@dataclass(frozen=True)
class Anatomy(PartsOfCells):
    """Parts of n cells.

    Parameters
    ----------
    stage
        (n,) progress of budding from 0 to 1; negative in unbudded cells.
    mother, mother_axes, mother_angle
        Centre (n, 2), semi-axes (n, 2; the longer one first) and direction (n,) of the longer one.
    bud, bud_axes, bud_angle
        The same for the bud; its first axis points from the neck to the tip. In unbudded cells the semi-axes are 0 and the
        centre is the site where a bud will form.
    neck, axis, neck_radius
        Centre of the bud neck (n, 2), in unbudded cells the future site; unit vector (n, 2) from mother to bud; (n,).
    tip
        (n, 2) far end of the bud; in unbudded cells the neck.
    nuclei, nucleus_radius
        Centres (n, 2, 2) and radii (n, 2) of the mother's and the bud's lobe, one and the same before anaphase.
    poles
        (n, 2, 2) spindle pole bodies, one and the same before they are duplicated.
    nucleolus
        (n, 2, 2) unit vectors from each nuclear lobe's centre to its nucleolus.
    vacuoles, vacuole_radius
        Centres (n, 3, 2) and radii (n, 3) of two lobes in the mother and one in the bud; the radius is 0 where there is none.
    """

    stage: np.ndarray
    mother: np.ndarray
    mother_axes: np.ndarray
    mother_angle: np.ndarray
    bud: np.ndarray
    bud_axes: np.ndarray
    bud_angle: np.ndarray
    neck: np.ndarray
    axis: np.ndarray
    neck_radius: np.ndarray
    tip: np.ndarray
    nuclei: np.ndarray
    nucleus_radius: np.ndarray
    poles: np.ndarray
    nucleolus: np.ndarray
    vacuoles: np.ndarray
    vacuole_radius: np.ndarray

    @property
    def budded(self) -> np.ndarray:
        """(n,) bool."""
        return self.stage >= 0

    def reach(self) -> np.ndarray:
        """Return the largest distance (n,) of any part of a cell from its origin."""
        mother = hypot(*self.mother.T) + self.mother_axes[:, 0]
        bud = hypot(*self.bud.T) + self.bud_axes.max(axis=1)
        farthest: np.ndarray = np.maximum(mother, bud)
        return farthest


def mean_axis(axes: np.ndarray) -> np.ndarray:
    """Return the mean (…) of the two semi-axes (…, 2) of ellipses."""
    means: np.ndarray = (axes[..., 0] + axes[..., 1]) / 2
    return means


def on_ellipse(centre: np.ndarray, axes: np.ndarray, angle: np.ndarray, t: np.ndarray, depth: Any = 0.0) -> np.ndarray:
    """Return points `depth` pixels inside ellipses: t = 0 is the end of the first axis. Leading axes broadcast; (…, 2)."""
    axes = np.maximum(axes - np.asarray(depth)[..., None], 0.3 * axes)
    first, second = axes[..., 0] * cos(t), axes[..., 1] * sin(t)
    points: np.ndarray = centre + first[..., None] * unit(angle) + second[..., None] * unit(angle + np.pi / 2)
    return points


def draw_anatomy(rng: Random, n: int, settings: dict[str, Any]) -> Anatomy:
    """Return n cells in random stages of the cell cycle.

    Parameters
    ----------
    rng
        Where all chance comes from.
    n
        How many cells.
    settings
        ``[anatomy]`` of ``yeast_sim.toml``, with ``radius`` of the screen.
    """
    s = settings
    low, high = s["radius_limits"]
    radius = np.clip(s["radius"] * exp(rng.normal(0, s["radius_spread"], n)), low, high)
    stretch = np.sqrt(between(rng, s["aspect"], n))
    mother_axes = np.stack([radius * stretch, radius / stretch], axis=1)
    mother_angle = rng.uniform(0, 2 * np.pi, n)
    cycle = rng.uniform(0, 1, n)
    stage = np.where(cycle < s["unbudded"], -1.0, (cycle - s["unbudded"]) / (1 - s["unbudded"]))
    progress = np.maximum(stage, 0)
    budded = stage >= 0

    site = rng.normal(0, s["bud_site_spread"], n)  # near the end of the longer axis
    neck = on_ellipse(np.zeros((n, 2)), mother_axes, mother_angle, site)
    axis_angle = arctan2(neck[:, 0], neck[:, 1])
    axis = unit(axis_angle)
    ratio = s["bud_smallest"] + (s["bud_largest"] - s["bud_smallest"]) * progress
    bud_radius = radius * ratio * exp(rng.normal(0, s["bud_spread"], n))
    elongation = 1 + s["bud_stretch"] * (1 - progress) * rng.uniform(0, 1, n)
    bud_axes = np.where(budded[:, None], np.stack([bud_radius * elongation, bud_radius], axis=1), 0.0)
    bud = neck + (bud_axes[:, 0] * s["bud_distance"])[:, None] * axis
    neck_radius = np.where(
        budded, np.minimum(s["neck_radius"] * radius, 0.75 * bud_radius), s["neck_radius"] * 0.9 * radius
    )
    tip = bud + bud_axes[:, :1] * axis

    nuclei, nucleus_radius, poles, nucleolus = _nucleus(rng, stage, radius, neck, axis_angle, bud, bud_axes, s)
    vacuoles, vacuole_radius = _vacuoles(rng, radius, mother_axes, nuclei, nucleus_radius, bud, bud_axes, axis, s)

    area, bud_area = (axes[:, 0] * axes[:, 1] for axes in (mother_axes, bud_axes))
    origin = bud * (bud_area / (area + bud_area))[:, None]
    return Anatomy(
        stage=stage,
        mother=-origin,
        mother_axes=mother_axes,
        mother_angle=mother_angle,
        bud=bud - origin,
        bud_axes=bud_axes,
        bud_angle=axis_angle,
        neck=neck - origin,
        axis=axis,
        neck_radius=neck_radius,
        tip=tip - origin,
        nuclei=nuclei - origin[:, None],
        nucleus_radius=nucleus_radius,
        poles=poles - origin[:, None],
        nucleolus=nucleolus,
        vacuoles=vacuoles - origin[:, None],
        vacuole_radius=vacuole_radius,
    )


def _nucleus(
    rng: Random,
    stage: np.ndarray,
    radius: np.ndarray,
    neck: np.ndarray,
    axis_angle: np.ndarray,
    bud: np.ndarray,
    bud_axes: np.ndarray,
    s: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return nuclear lobes, their radii, spindle poles and directions to the nucleoli, with the mother at the origin.

    Unbudded: anywhere near the middle. With the bud the nucleus moves to the neck; in anaphase the second lobe goes through
    it into the bud while the first moves back.
    """
    n = len(stage)
    progress = np.maximum(stage, 0)
    axis, reach = unit(axis_angle), hypot(*neck.T)
    anaphase = np.clip((progress - s["anaphase"][0]) / (s["anaphase"][1] - s["anaphase"][0]), 0, 1)
    wandering = np.where(stage < 0, s["nucleus_wander"], s["nucleus_wander"] * (1 - progress))
    direction = axis_angle + rng.normal(0, 1, n) * wandering
    share = s["nucleus_offset"][0] + (s["nucleus_offset"][1] - s["nucleus_offset"][0]) * np.minimum(
        progress / s["anaphase"][0], 1
    )
    start = (share * reach)[:, None] * unit(direction)
    rest = (rng.uniform(-0.1, 0.3, n) * reach)[:, None] * axis
    first = start + anaphase[:, None] * (rest - start)
    goal = bud + (0.1 * bud_axes[:, 0])[:, None] * axis
    second = np.where((anaphase > 0)[:, None], start + anaphase[:, None] * (goal - start), first)
    nuclei = np.stack([first, second], axis=1)
    size = s["nucleus_radius"] * radius * exp(rng.normal(0, s["nucleus_spread"], n))
    size = size * (1 - 0.15 * anaphase)
    second_size = np.where(anaphase > 0, np.minimum(size * 0.95, 0.62 * np.maximum(bud_axes[:, 1], 1)), size)
    nucleus_radius = np.stack([size, second_size], axis=1)

    along = axis_angle + rng.normal(0, 1, n) * np.where(anaphase > 0, 0.05, s["spindle_tilt"])
    duplicated = np.clip((progress - s["poles_apart"][0]) / (s["poles_apart"][1] - s["poles_apart"][0]), 0, 1)
    ahead = unit(along)
    turn = np.pi * duplicated  # the second pole wanders round the envelope to the other side
    pole_first = first + size[:, None] * unit(along + turn)
    pole_second = second + second_size[:, None] * ahead
    poles = np.stack([pole_first, pole_second], axis=1)
    side = np.where(rng.uniform(size=n) < 0.5, -1, 1)
    turned = along + np.pi - side * duplicated * np.pi / 2 + rng.normal(0, s["nucleolus_tilt"], n)
    nucleolus = np.stack([unit(turned), unit(turned)], axis=1)
    return nuclei, nucleus_radius, poles, nucleolus


def _vacuoles(
    rng: Random,
    radius: np.ndarray,
    mother_axes: np.ndarray,
    nuclei: np.ndarray,
    nucleus_radius: np.ndarray,
    bud: np.ndarray,
    bud_axes: np.ndarray,
    axis: np.ndarray,
    s: dict[str, Any],
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres and radii of two lobes in the mother and one in the bud: where the nucleus leaves room."""
    n = len(radius)
    away = arctan2(-nuclei[:, 0, 0], -nuclei[:, 0, 1]) + rng.normal(0, s["vacuole_tilt"], n)
    room = mother_axes[:, 1] - s["vacuole_gap"]
    opposite = (room + norm(nuclei[:, 0]) - nucleus_radius[:, 0] - 1) / 2  # touching rim and nucleus
    first_radius = np.minimum(radius * between(rng, s["vacuole_radius"], n), opposite)
    first = np.maximum(room - first_radius, 0)[:, None] * unit(away) * rng.uniform(0.85, 1, n)[:, None]
    turn = np.where(rng.uniform(size=n) < 0.5, -1, 1) * rng.uniform(1.2, 1.9, n)
    second_radius = np.where(
        rng.uniform(size=n) < s["vacuole_second"], first_radius * between(rng, s["vacuole_second_size"], n), 0
    )
    second = np.maximum(room - second_radius, 0)[:, None] * unit(away + turn)
    in_bud = bud + (0.3 * bud_axes[:, 0])[:, None] * unit(arctan2(axis[:, 0], axis[:, 1]) + rng.normal(0, 1, n))
    bud_radius = np.where(bud_axes[:, 1] > s["vacuole_bud_from"], s["vacuole_bud"] * bud_axes[:, 1], 0)
    centres = np.stack([first, second, in_bud], axis=1)
    radii = np.stack([first_radius, second_radius, bud_radius], axis=1)
    for lobe in range(2):  # shrink what would touch the nucleus
        gap = norm(centres - nuclei[:, None, lobe]) - nucleus_radius[:, None, lobe] - 1
        radii = np.minimum(radii, gap)
    radii[:, 1] = np.minimum(radii[:, 1], norm(second - first) - radii[:, 0])
    radii = np.where(radii < s["vacuole_smallest"], 0, radii)
    radii[:, 0] = np.maximum(radii[:, 0], s["vacuole_smallest"])  # every mother has a vacuole, if a small one
    return centres, radii


def place(rng: Random, anatomy: Anatomy, side: float, settings: dict[str, Any]) -> np.ndarray:
    """Return the origins (n, 2) of cells in a square field of `side` pixels around 0, in clumps and hardly overlapping.

    Cells start around a few centres, and are then pushed apart wherever two circles (of mother and bud) overlap.
    """
    n = len(anatomy)
    clumps = rng.uniform(-side / 2, side / 2, (max(1, round(n / settings["cells_per_clump"])), 2))
    origins: np.ndarray = clumps[rng.integers(0, len(clumps), n)] + rng.normal(0, settings["clump_spread"], (n, 2))
    loose = rng.uniform(size=n) < settings["loose"]
    origins = np.where(loose[:, None], rng.uniform(-side / 2, side / 2, (n, 2)), origins)
    budded = np.flatnonzero(anatomy.budded)
    owner = np.concatenate([np.arange(n), budded])
    offsets = np.concatenate([anatomy.mother, anatomy.bud[budded]])
    radii = np.concatenate([mean_axis(anatomy.mother_axes), mean_axis(anatomy.bud_axes[budded])])
    wanted = radii[:, None] + radii - settings["squash"]
    apart = (owner[:, None] < owner) & np.ones_like(wanted, bool)
    for push in range(settings["pushes"]):
        circles = origins[owner] + offsets
        if push % settings["pushes_per_search"] == 0:
            reach = wanted + settings["search"]
            gaps = circles[:, None] - circles
            first, second = np.nonzero(
                apart & (gaps[..., 0] * gaps[..., 0] + gaps[..., 1] * gaps[..., 1] < reach * reach)
            )
        gap = circles[first] - circles[second]
        distance = norm(gap) + 1e-3
        move = (settings["push"] * np.maximum(wanted[first, second] - distance, 0) / (2 * distance))[:, None] * gap
        for axis in range(2):
            origins[:, axis] += np.bincount(owner[first], move[:, axis], n) - np.bincount(
                owner[second], move[:, axis], n
            )
    return origins


@dataclass(frozen=True)
class Shapes:
    """Distances from every pixel to the parts of n cells, in windows (n, w, w) around the cells' origins.

    Distances are negative inside. `height` is the relative thickness of the cell at the pixel (0 outside).
    """

    rows: np.ndarray
    columns: np.ndarray
    mother: np.ndarray
    bud: np.ndarray
    cell: np.ndarray
    height: np.ndarray
    vacuole: np.ndarray
    nucleus: np.ndarray


def shapes(anatomy: Anatomy, shift: np.ndarray, half: int, settings: dict[str, Any]) -> Shapes:
    """Return distances in windows of 2·half pixels.

    Parameters
    ----------
    anatomy
        n cells.
    shift
        (n, 2) position of each cell's origin relative to the window's pixel (half, half), between −0.5 and 0.5.
    half
        Half the window's width.
    settings
        ``[anatomy]`` of ``yeast_sim.toml``.
    """
    ticks = np.arange(-half, half, dtype=np.float32)
    rows = (ticks[:, None] - shift[:, 0, None, None]).astype(np.float32)
    columns = (ticks[None, :] - shift[:, 1, None, None]).astype(np.float32)
    mother, mother_rho = _ellipse(rows, columns, anatomy.mother, anatomy.mother_axes, anatomy.mother_angle)
    height = np.sqrt(np.maximum(1 - mother_rho, 0))
    bud = np.full_like(mother, 99)
    if (budded := np.flatnonzero(anatomy.budded)).size:
        bud[budded], rho = _ellipse(
            rows[budded], columns[budded], anatomy.bud[budded], anatomy.bud_axes[budded], anatomy.bud_angle[budded]
        )
        ratio = (anatomy.bud_axes[budded, 1] / anatomy.mother_axes[budded, 1]).astype(np.float32)[:, None, None]
        height[budded] = np.maximum(height[budded], ratio * np.sqrt(np.maximum(1 - rho, 0)))
    vacuole = np.full_like(mother, 99)
    for lobe in range(anatomy.vacuoles.shape[1]):
        there = np.flatnonzero(anatomy.vacuole_radius[:, lobe] > 0)
        distance = _circle(
            rows[there], columns[there], anatomy.vacuoles[there, lobe], anatomy.vacuole_radius[there, lobe]
        )
        vacuole[there] = np.minimum(vacuole[there], distance)
    nucleus = _circle(rows, columns, anatomy.nuclei[:, 0], anatomy.nucleus_radius[:, 0])
    parted = np.flatnonzero((anatomy.nuclei[:, 0] != anatomy.nuclei[:, 1]).any(axis=1))
    if parted.size:
        second = _circle(rows[parted], columns[parted], anatomy.nuclei[parted, 1], anatomy.nucleus_radius[parted, 1])
        bridge = _segment(rows[parted], columns[parted], anatomy.nuclei[parted, 0], anatomy.nuclei[parted, 1])
        long = norm(anatomy.nuclei[parted, 0] - anatomy.nuclei[parted, 1])
        width = np.maximum(settings["bridge"] * anatomy.nucleus_radius[parted, 0] - 0.06 * long, -9)
        width = np.where(anatomy.stage[parted] > settings["nuclei_apart"], -9, width)
        bridge -= width.astype(np.float32)[:, None, None]
        nucleus[parted] = np.minimum(nucleus[parted], np.minimum(second, bridge))
    cell = mother.copy()
    if budded.size:
        a, b = mother[budded], bud[budded]
        smooth = np.float32(settings["neck_smoothing"])  # a fillet at the neck, where two ellipses would leave a notch
        fillet = np.maximum(smooth - np.abs(a - b), 0)
        cell[budded] = np.minimum(a, b) - fillet * fillet / (4 * smooth)
    return Shapes(rows, columns, mother, bud, cell, height, vacuole, nucleus)


def _ellipse(
    rows: np.ndarray, columns: np.ndarray, centre: np.ndarray, axes: np.ndarray, angle: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the approximate signed distance to ellipses and the squared relative radius (1 on the outline)."""
    centre, axes, angle = (np.asarray(a, np.float32)[..., None, None] for a in (centre, axes, angle))
    cosine, sine = cos(angle).astype(np.float32), sin(angle).astype(np.float32)
    y, x = rows - centre[:, 0], columns - centre[:, 1]
    u = (x * cosine + y * sine) / axes[:, 0]
    v = (y * cosine - x * sine) / axes[:, 1]
    u *= u
    v *= v
    rho = u + v
    slope = np.sqrt(u / (axes[:, 0] * axes[:, 0]) + v / (axes[:, 1] * axes[:, 1])) + np.float32(1e-6)
    return (rho - np.sqrt(rho)) / slope, rho


def _circle(rows: np.ndarray, columns: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Return the signed distance to circles."""
    centre, radius = (np.asarray(a, np.float32)[..., None, None] for a in (centre, radius))
    y, x = rows - centre[:, 0], columns - centre[:, 1]
    distance: np.ndarray = np.sqrt(y * y + x * x) - radius
    return distance


def _segment(rows: np.ndarray, columns: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the distance to line segments."""
    start, end = (np.asarray(a, np.float32)[..., None, None] for a in (start, end))
    y, x = rows - start[:, 0], columns - start[:, 1]
    dy, dx = end[:, 0] - start[:, 0], end[:, 1] - start[:, 1]
    along = np.clip((y * dy + x * dx) / (dy * dy + dx * dx + np.float32(1e-6)), 0, 1)
    y, x = y - along * dy, x - along * dx
    distance: np.ndarray = np.sqrt(y * y + x * x)
    return distance
