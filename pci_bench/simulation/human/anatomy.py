"""The simulated human cell: outline, nucleus, nucleoli and centrosome; its place in a monolayer; paths of its filaments.

All lengths are pixels and all positions (row, column), relative to the cell's own middle. Angles run from the column axis
towards increasing rows. Outlines are star-shaped: a radius for each of `DIRECTIONS` angles. Everything is vectorised over
the n cells of an image, which are all of one cell line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from pci_bench.errors import UserError
from pci_bench.simulation.arithmetic import Random, arctan2, cos, exp, hypot, norm, sin
from pci_bench.simulation.raster import PartsOfCells, between, unit

DIRECTIONS = 180
NUCLEOLI = 6
STRONGEST = 1.5
_PER_QUADRANT = 256


@dataclass(frozen=True)
class Anatomy(PartsOfCells):
    """Parts of n cells.

    Parameters
    ----------
    axes, angle
        Semi-axes (n, 2; the longer one first) and direction (n,) of the longer one.
    outline
        (n, DIRECTIONS) distance of the cell's edge from its middle.
    nucleus, nucleus_outline
        (n, 2) middle of the nucleus, and the distance (n, DIRECTIONS) of its edge from there.
    nucleoli, nucleolus_radius
        (n, NUCLEOLI, 2) and (n, NUCLEOLI); the radius is 0 where there is none.
    centrosome
        (n, 2) beside the nucleus.
    """

    axes: np.ndarray
    angle: np.ndarray
    outline: np.ndarray
    nucleus: np.ndarray
    nucleus_outline: np.ndarray
    nucleoli: np.ndarray
    nucleolus_radius: np.ndarray
    centrosome: np.ndarray


def line_of(name: str, strength: float, settings: dict[str, Any]) -> dict[str, float]:
    """Return a cell line's numbers, with its difference from the mean of all lines multiplied by `strength`.

    Parameters
    ----------
    name
        A table of ``[lines]`` of ``human_sim.toml``, which `settings` is.
    strength
        1 as declared; 0 makes all lines one.

    Raises
    ------
    UserError
        Where `strength` is not between 0 and 1.5: beyond it shapes would become impossible.
    """
    if not 0 <= strength <= STRONGEST:
        raise UserError(
            f"The strength of the difference between simulated cell lines is {strength:g}; "
            f"it must be between 0 (none) and {STRONGEST:g}."
        )
    lines = settings["lines"]
    if name not in lines:
        raise UserError(f"There is no simulated cell line '{name}'. There are: {', '.join(lines)}.")
    numbers = {}
    for key, value in lines[name].items():
        mean = math.fsum(line[key] for line in lines.values()) / len(lines)
        numbers[key] = max(mean + strength * (value - mean), 0.0)
    return numbers


def radius_at(outline: np.ndarray, cell: np.ndarray | int, angle: np.ndarray) -> np.ndarray:
    """Return the distance (…) of the edge of cells `cell` (…) in directions `angle` (…)."""
    step = np.rint(angle * (DIRECTIONS / (2 * np.pi))).astype(np.intp) % DIRECTIONS
    radii: np.ndarray = outline[cell, step]
    return radii


def radius_towards(outline: np.ndarray, cell: np.ndarray | int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the distance (…) of the edge of cells `cell` (…) in the direction of points (…): quicker than by their angle.

    y / (|y| + |x|) grows with the angle in each half of the plane, and its steps are looked up.
    """
    span = np.abs(y) + np.abs(x)
    turn = y / np.maximum(span, span.dtype.type(1e-30))
    turn = np.where(x < 0, 2 - turn, turn)
    step = np.rint(turn * _PER_QUADRANT).astype(np.intp) % (4 * _PER_QUADRANT)
    radii: np.ndarray = outline[cell, _directions()[step]]
    return radii


@cache
def _directions() -> np.ndarray:
    """Return the direction, of `DIRECTIONS`, of each step of y / (|y| + |x|) from the column axis all round."""
    turn = np.arange(4 * _PER_QUADRANT) / _PER_QUADRANT  # 0 … 4: corners of a square that stands on one of them
    y = np.where(turn < 1, turn, np.where(turn < 3, 2 - turn, turn - 4))
    x = np.where((turn > 1) & (turn < 3), np.abs(y) - 1, 1 - np.abs(y))
    return np.rint(arctan2(y, x) * (DIRECTIONS / (2 * np.pi))).astype(np.intp) % DIRECTIONS


def draw_anatomy(rng: Random, n: int, line: dict[str, float], settings: dict[str, Any]) -> Anatomy:
    """Return n cells of a line; `settings` is ``[anatomy]`` of ``human_sim.toml``, `line` comes from `line_of`."""
    s = settings
    radius = line["radius"] * exp(rng.normal(0, s["radius_spread"], n))
    elongation = np.maximum(line["elongation"] * exp(rng.normal(0, s["elongation_spread"], n)), 1.02)
    nucleus_radius = line["nucleus_radius"] * exp(rng.normal(0, s["nucleus_spread"], n))
    nucleus_elongation = np.maximum(line["nucleus_elongation"] * exp(rng.normal(0, 0.08, n)), 1.02)
    axes = np.stack([radius * np.sqrt(elongation), radius / np.sqrt(elongation)], axis=1)
    nucleus_axes = np.stack(
        [nucleus_radius * np.sqrt(nucleus_elongation), nucleus_radius / np.sqrt(nucleus_elongation)], axis=1
    )
    room = np.maximum(axes - s["nucleus_margin"], 3.0)
    nucleus_axes *= np.minimum(1, (room / nucleus_axes).min(axis=1))[:, None]
    # neighbours lie alike: directions gather around the image's own, more or less
    spread = max(1 - line["alignment"], 0) * np.pi / 2
    angle = rng.uniform(0, np.pi) + rng.uniform(-spread, spread, n)
    tilt = angle + rng.normal(0, s["nucleus_tilt"], n)
    outline = _outline(rng, axes, angle, line["irregular"])
    nucleus_outline = _outline(rng, nucleus_axes, tilt, line["lobing"])
    free = np.maximum(axes - nucleus_axes, 0)
    along, across = (free * np.clip(rng.normal(0, s["nucleus_offset"], (n, 2)), -0.4, 0.4)).T
    nucleus = along[:, None] * unit(angle) + across[:, None] * unit(angle + np.pi / 2)
    nucleoli, nucleolus_radius = _nucleoli(rng, nucleus, nucleus_outline, nucleus_radius, line["nucleoli"], s)
    side = rng.uniform(0, 2 * np.pi, n)
    edge = radius_at(nucleus_outline, np.arange(n), side) + between(rng, s["centrosome_gap"], n)
    return Anatomy(
        axes, angle, outline, nucleus, nucleus_outline, nucleoli, nucleolus_radius, nucleus + edge[:, None] * unit(side)
    )


def _outline(rng: Random, axes: np.ndarray, angle: np.ndarray, bumps: float) -> np.ndarray:
    """Return radii (n, DIRECTIONS) of ellipses with random bumps of relative size `bumps`."""
    directions = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    turned = directions - angle[:, None]
    area = (axes[:, 0] * axes[:, 1])[:, None]
    ellipse = area / hypot(axes[:, 1:] * cos(turned), axes[:, :1] * sin(turned))
    waves = 2 / np.arange(2, 7)
    size = rng.normal(0, 1, (len(axes), len(waves))) * (bumps * waves * np.sqrt(waves))
    phase = rng.uniform(0, 2 * np.pi, size.shape)
    relief = np.zeros_like(ellipse)
    for wave in range(len(waves)):
        relief += size[:, wave, None] * cos((wave + 2) * directions + phase[:, wave, None])
    outline: np.ndarray = ellipse * exp(np.clip(relief, -0.45, 0.45))
    return outline


def _nucleoli(
    rng: Random, nucleus: np.ndarray, outline: np.ndarray, radius: np.ndarray, count: float, s: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return nucleoli that do not touch each other: later ones that would are left out, but never the first."""
    n = len(nucleus)
    number = np.clip(rng.poisson(max(count - 1, 0), n) + 1, 1, NUCLEOLI)
    angle, share = (
        rng.uniform(0, 2 * np.pi, (n, NUCLEOLI)),
        s["nucleolus_reach"] * np.sqrt(rng.uniform(size=(n, NUCLEOLI))),
    )
    place = nucleus[:, None] + (share * radius_at(outline, np.arange(n)[:, None], angle))[..., None] * unit(angle)
    size = radius[:, None] * between(rng, s["nucleolus_radius"], (n, NUCLEOLI))
    size *= np.where(number > 2, 0.8, 1.05)[:, None]
    size[np.arange(NUCLEOLI) >= number[:, None]] = 0
    for later in range(1, NUCLEOLI):
        gap = norm(place[:, :later] - place[:, later : later + 1]) - size[:, :later]
        size[:, later] *= (np.where(size[:, :later] > 0, gap, 99) > size[:, later : later + 1] + 1).all(axis=1)
    return place, size


def place(rng: Random, anatomy: Anatomy, side: float, settings: dict[str, Any]) -> np.ndarray:
    """Return the middles (n, 2) of cells in a square field of `side` pixels around 0, hardly overlapping.

    A cell is three circles along its longer axis; overlapping circles of two cells push both away.
    """
    n = len(anatomy)
    per_side = int(np.ceil(np.sqrt(n)))
    grid = np.stack(np.divmod(rng.permutation(per_side * per_side)[:n], per_side), axis=1) + 0.5
    origins: np.ndarray = (grid / per_side - 0.5) * side + rng.uniform(-0.5, 0.5, (n, 2)) * side / per_side
    run = (anatomy.axes[:, :1] - anatomy.axes[:, 1:]) * np.array([-1.0, 0.0, 1.0])
    offsets = (run[..., None] * unit(anatomy.angle)[:, None]).reshape(-1, 2)
    owner = np.repeat(np.arange(n), 3)
    radii = settings["squash"] * np.repeat(anatomy.axes[:, 1], 3)
    wanted = radii[:, None] + radii
    wanted[owner[:, None] <= owner] = 0
    for push in range(settings["pushes"]):
        circles = origins[owner] + offsets
        if push % settings["pushes_per_search"] == 0:
            reach = np.where(wanted > 0, wanted + settings["search"], 0)
            down, right = (np.subtract.outer(c, c) for c in circles.T)
            first, second = np.nonzero(down * down + right * right < reach * reach)
        gap = circles[first] - circles[second]
        distance = norm(gap) + 1e-3
        move = (settings["push"] * np.maximum(wanted[first, second] - distance, 0) / (2 * distance))[:, None] * gap
        for axis in range(2):
            pushed = np.bincount(owner[first], move[:, axis], n) - np.bincount(owner[second], move[:, axis], n)
            origins[:, axis] += np.clip(pushed, -3, 3)
    return origins


def in_nucleus(rng: Random, anatomy: Anatomy, k: int, reach: float) -> np.ndarray:
    """Return random positions (n, k, 2) in the nucleus, within `reach` of its radius, outside of the nucleoli."""
    n, tries = len(anatomy), 5
    angle = rng.uniform(0, 2 * np.pi, (n, k, tries))
    edge = radius_at(anatomy.nucleus_outline, np.arange(n)[:, None, None], angle)
    share = reach * np.sqrt(rng.uniform(size=(n, k, tries)))
    positions = anatomy.nucleus[:, None, None] + (share * edge)[..., None] * unit(angle)
    gap = norm(positions[:, :, :, None] - anatomy.nucleoli[:, None, None])
    free = (gap > anatomy.nucleolus_radius[:, None, None] + 0.4).all(axis=-1)
    return np.take_along_axis(positions, free.argmax(axis=2)[:, :, None, None], axis=2)[:, :, 0]


def in_cytoplasm(rng: Random, anatomy: Anatomy, k: int, perinuclear: float = 0.0, edge: float = 0.92) -> np.ndarray:
    """Return random positions (n, k, 2) between nucleus and cell edge: evenly, or gathered round the nucleus as `perinuclear` goes to 1."""
    n, tries = len(anatomy), 16 if perinuclear else 6
    cell = np.arange(n)[:, None, None]
    angle = rng.uniform(0, 2 * np.pi, (n, k, tries))
    share = edge * np.sqrt(rng.uniform(size=(n, k, tries)))
    positions = (share * radius_at(anatomy.outline, cell, angle))[..., None] * unit(angle)
    from_nucleus = positions - anatomy.nucleus[:, None, None]
    gap = norm(from_nucleus) - radius_towards(anatomy.nucleus_outline, cell, from_nucleus[..., 0], from_nucleus[..., 1])
    wanted = exp(-perinuclear * np.maximum(gap, 0) / 2.5) > rng.uniform(size=gap.shape)
    good = np.where(gap > 0.6, 1 + wanted, 0)
    return np.take_along_axis(positions, good.argmax(axis=2)[:, :, None, None], axis=2)[:, :, 0]


@dataclass(frozen=True)
class Pull:
    """What bends filaments: weights of three directions, and `curl`, the SD of chance per pixel."""

    radial: float
    axial: float
    tangential: float
    curl: float


def filaments(
    rng: Random, anatomy: Anatomy, start: np.ndarray, steps: int, pull: Pull, step: float = 1.0
) -> np.ndarray:
    """Return paths (n, f, steps, 2) from `start` (n, f, 2) that turn where the edge of the cell would be crossed."""
    n, f = start.shape[:2]
    cell = np.arange(n)[:, None]
    outline = anatomy.outline.astype(np.float32)
    (cy, cx), (ny, nx) = (part.T.astype(np.float32)[..., None] for part in (anatomy.centrosome, anatomy.nucleus))
    sense = np.where(rng.uniform(size=(n, f)) < 0.5, np.float32(-1), np.float32(1))
    ay, ax = (part * sense for part in unit(anatomy.angle).T.astype(np.float32)[..., None])
    hy, hx = unit(rng.uniform(0, 2 * np.pi, (n, f))).astype(np.float32).transpose(2, 0, 1)
    if pull.axial > pull.radial and pull.axial > pull.tangential:
        hy, hx = ay + np.float32(0.4) * hy, ax + np.float32(0.4) * hx
    y, x = (np.ascontiguousarray(part, np.float32) for part in start.transpose(2, 0, 1))
    path = np.empty((n, f, steps, 2), np.float32)
    chance = rng.standard_normal((steps, 2, n, f)) * np.float32(pull.curl * np.sqrt(step))
    margin = rng.uniform(0.8, 5.5, (n, f)).astype(np.float32)  # else all would run along one line
    bend = np.float32(0.15 * step)
    radial, axial, tangential = (bend * np.float32(w) for w in (pull.radial, pull.axial, pull.tangential))
    for i in range(steps):
        path[:, :, i, 0], path[:, :, i, 1] = y, x
        oy, ox, ty, tx = y - cy, x - cx, y - ny, x - nx
        out = radial / (np.sqrt(oy * oy + ox * ox) + 1)
        turn = tangential * sense / (np.sqrt(ty * ty + tx * tx) + 1)
        hy = hy + out * oy + axial * ay + turn * tx + chance[i, 0]
        hx = hx + out * ox + axial * ax - turn * ty + chance[i, 1]
        distance = np.sqrt(y * y + x * x) + np.float32(1e-6)
        leaving = (hy * y + hx * x) / distance
        at_edge = (distance > radius_towards(outline, cell, y, x) - margin) & (leaving > -0.15)
        inward = np.where(at_edge, (leaving + np.float32(0.15)) / distance, 0)
        hy, hx = hy - inward * y, hx - inward * x
        norm = np.float32(step) / (np.sqrt(hy * hy + hx * hx) + np.float32(1e-6))
        y, x = y + norm * hy, x + norm * hx
        hy, hx = hy * norm / np.float32(step), hx * norm / np.float32(step)
    return path
