"""From simulated cells to what a camera sees: one field of view of two channels, with its masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pci_bench.simulation.arithmetic import Random, exp, gaussian_filter
from pci_bench.simulation.raster import inside
from pci_bench.simulation.yeast.anatomy import Anatomy, place, shapes
from pci_bench.simulation.yeast.proteins import Beads, Protein, cytosol_of, shows_structure, structure_of

COUNT = 16  # expected images are rounded to so many parts of a count before noise is drawn


@dataclass(frozen=True)
class Acquisition:
    """What all cells of an image share besides the protein: the microscope's settings on its plate, and its own focus.

    Parameters
    ----------
    blur
        (2,) standard deviations of the point spread function in GFP and RFP, in pixels.
    haze
        Share of the light that comes from outside of the focal plane.
    background, read_noise, gain, signal
        (2,) each, in counts: medium and camera offset; noise without light; noise variance per count; the brightness of a
        structure or cytosol of density 1.
    autofluorescence
        Of the cells in GFP, in counts.
    illumination
        (3,) slope down, slope right and fall-off towards the field's corners.
    """

    blur: tuple[float, float]
    haze: float
    background: tuple[float, float]
    read_noise: tuple[float, float]
    gain: tuple[float, float]
    signal: tuple[float, float]
    autofluorescence: float
    illumination: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What is in a field of view, before anything is drawn.

    Parameters
    ----------
    anatomy
        All n cells, also those that are too near to the border for a crop.
    origins
        (n, 2) position (row, column) of the cells' origins; the crops of the first cells are wholly inside the field.
    size
        Rows, and columns, of the field.
    level, marker
        (n,) relative amount of the protein and of the cytosolic marker.
    lumen
        (n,) how much of the cytosol's brightness is seen in the vacuole.
    penetrant
        (n,) bool: whether the cell shows the protein's structure.
    """

    anatomy: Anatomy
    origins: np.ndarray
    size: int
    level: np.ndarray
    marker: np.ndarray
    lumen: np.ndarray
    penetrant: np.ndarray


def draw_acquisition(plate: Random, image: Random, screen: dict[str, Any], settings: dict[str, Any]) -> Acquisition:
    """Return the settings of one image.

    Every number is log-normal around its median; its two spreads, over plates and over the images of a plate, are multiplied
    by the one setting ``nuisance``.

    Parameters
    ----------
    plate
        Begins alike for all images of a plate.
    image
        The image's own.
    screen
        A table of ``[screens]`` of ``yeast_sim.toml``.
    settings
        All of it.
    """
    strength = settings["nuisance"]

    def drawn(declared: list[float]) -> float:
        median, over_plates, over_images = declared
        deviation = over_plates * plate.normal(0, 1) + over_images * image.normal(0, 1)
        return float(median * exp(strength * deviation))

    def both(name: str) -> tuple[float, float]:
        return drawn(screen["gfp"][name]), drawn(screen["rfp"][name])

    background, read_noise, gain, signal = (both(name) for name in ("background", "read_noise", "gain", "signal"))
    blur, slope = drawn(screen["blur"]), strength * screen["illumination"]
    return Acquisition(
        blur=(blur, blur + drawn(screen["rfp_blur"])),
        haze=min(drawn(screen["haze"]), 0.9),
        background=background,
        read_noise=read_noise,
        gain=gain,
        signal=(signal[0] * settings["signal_to_noise"], signal[1]),
        autofluorescence=drawn(screen["autofluorescence"]),
        illumination=(
            plate.uniform(-slope, slope),
            plate.uniform(-slope, slope),
            plate.uniform(0, strength * screen["vignetting"]),
        ),
    )


def arrange(rng: Random, anatomy: Anatomy, n: int, protein: Protein, settings: dict[str, Any]) -> Scene:
    """Return a scene whose first `n` cells are far enough from the border for a whole crop.

    Parameters
    ----------
    rng
        Where all chance comes from.
    anatomy
        More than `n` cells. Of ``cells_in_view`` times n that come to lie next to the middle, n at random are first, so that few
        crops overlap; those that the field does not show are left out.
    n
        How many cells will be cropped.
    protein
        What every cell's GFP is fused to.
    settings
        All of ``yeast_sim.toml``.
    """
    optics = settings["optics"]
    faintest, fullest = optics["vacuole_level"]
    side = np.sqrt(len(anatomy) * settings["placement"]["area_per_cell"])
    origins = place(rng, anatomy, side, settings["placement"])
    from_middle = np.abs(origins).max(axis=1)
    order = np.argsort(from_middle, kind="stable")
    whole = min(int(np.rint(n * settings["placement"]["cells_in_view"])), len(order))
    half = int(np.ceil(from_middle[order[whole - 1]])) + settings["crop"] // 2 + 1
    order = np.concatenate([order[:whole][rng.permutation(whole)], order[whole:]])
    order = order[from_middle[order] < half + anatomy.reach()[order]]
    count = len(order)
    return Scene(
        anatomy=anatomy[order],
        origins=origins[order] + half,
        size=2 * half,
        level=protein.expression * exp(rng.normal(0, optics["expression_spread"], count)),
        marker=exp(rng.normal(0, optics["marker_spread"], count)),
        lumen=rng.uniform(faintest, fullest, count),
        penetrant=rng.uniform(size=count) < protein.penetrance,
    )


def render(
    rng: Random, scene: Scene, protein: Protein, acquisition: Acquisition, settings: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return a field's pixels (2, rows, columns) uint16, GFP and RFP, and its parts (rows, columns) int32.

    Parts are 0 in the background, 2·i + 1 in the mother of cell i and 2·i + 2 in its bud.
    """
    optics, anatomy = settings["optics"], scene.anatomy
    window = int(np.ceil(anatomy.reach().max())) + 3
    middle = np.rint(scene.origins).astype(np.int64)
    shape = shapes(anatomy, scene.origins - middle, window, settings["anatomy"])
    cytosol = cytosol_of(shape, scene.lumen, optics["vacuole_edge"])
    density, beads = structure_of(rng, anatomy, shape, protein, settings["proteins"])
    visible = scene.penetrant & shows_structure(protein.label, anatomy)
    visible_level = scene.level * visible
    diffuse = scene.level * np.where(visible, protein.cytosol, optics["cytosol_without_structure"])
    gfp = cytosol * (1 - np.float32(1 - protein.nuclear) * inside(shape.nucleus)) * _per_cell(diffuse)
    if density is not None:
        gfp += density * _per_cell(visible_level)

    stains = np.stack([gfp, cytosol * _per_cell(scene.marker), cytosol], axis=1)
    canvas = np.zeros(
        (3, scene.size + 2 * window, scene.size + 2 * window), np.float32
    )  # wider than the field all round
    parts = np.zeros(canvas.shape[1:], np.int32)
    nearest = np.zeros(canvas.shape[1:], np.float32)
    in_bud = shape.bud < shape.mother
    for i, (top, left) in enumerate(middle):
        there, here = _window(top, left, window, len(nearest))
        canvas[(slice(None), *there)] += stains[i][(slice(None), *here)]
        closer = shape.cell[i][here] < nearest[there]
        nearest[there][closer] = shape.cell[i][here][closer]
        parts[there][closer] = 2 * i + 1 + in_bud[i][here][closer]
    if beads is not None:
        canvas[0] += _splat(beads, visible_level, scene.origins + window, len(nearest))

    inner = slice(window, window + scene.size)
    seen = canvas[:, inner, inner]
    texture = _texture(rng, scene.size, optics["texture"], optics["texture_scale"])
    light = (
        (acquisition.signal[0] * seen[0] + acquisition.autofluorescence * seen[2]) * texture,
        acquisition.signal[1] * seen[1] * texture,
    )
    pixels = [_camera(rng, _focused(light[c], acquisition, c, optics), acquisition, c, optics) for c in range(2)]
    return np.stack(pixels), parts[inner, inner]


def _per_cell(values: np.ndarray) -> np.ndarray:
    """Return (n,) as float32 (n, 1, 1)."""
    return values.astype(np.float32)[:, None, None]


def _window(top: int, left: int, half: int, limit: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the slices of a cell's window in the canvas, which begins `half` pixels before the field, and in the window."""
    spans = [(max(first, 0), min(first + 2 * half, limit)) for first in (int(top), int(left))]
    there = tuple(slice(low, max(low, high)) for low, high in spans)
    here = tuple(slice(s.start - int(first), s.stop - int(first)) for s, first in zip(there, (top, left), strict=True))
    return there, here


def _splat(beads: Beads, level: np.ndarray, origins: np.ndarray, size: int, reach: int = 5) -> np.ndarray:
    """Return the sum (size, size) of all cells' beads."""
    peak = beads.peak * level[:, None]
    positions = beads.positions + origins[:, None]
    middle = np.rint(positions).astype(np.int64)
    there = (peak > 0) & (middle >= reach).all(axis=2) & (middle < size - reach).all(axis=2)
    peak, positions, middle, sigma = peak[there], positions[there], middle[there], beads.sigma[there]
    steps = np.arange(-reach, reach + 1)
    apart = (middle[:, :, None] + steps - positions[:, :, None]) / sigma[:, None, None]
    profile = exp(-0.5 * apart * apart)
    spots = (peak[:, None] * profile[:, 0])[:, :, None] * profile[:, 1][:, None, :]
    index = (middle[:, 0, None] + steps)[:, :, None] * size + (middle[:, 1, None] + steps)[:, None, :]
    return np.bincount(index.ravel(), spots.ravel(), size * size).reshape(size, size).astype(np.float32)


def _texture(rng: Random, size: int, contrast: float, scale: float) -> np.ndarray:
    """Return a smooth random field around 1: organelles that the marker does not enter."""
    noise = gaussian_filter(rng.standard_normal((size, size)), scale)
    return 1 + np.float32(contrast * 2 * np.sqrt(np.pi) * scale) * noise


def _focused(light: np.ndarray, acquisition: Acquisition, channel: int, optics: dict[str, Any]) -> np.ndarray:
    """Return light after the microscope: a sharp image and the haze of what is out of focus."""
    sharp = gaussian_filter(light, acquisition.blur[channel], truncate=3.5)
    step = optics["haze_step"]  # the haze is smooth, so it is computed on a coarser grid
    rows, columns = (length // step * step for length in light.shape)
    coarse = np.zeros((rows // step, columns // step), np.float32)
    for part in range(step * step):
        coarse += light[part // step : rows : step, part % step : columns : step]
    coarse = gaussian_filter(coarse / np.float32(step * step), optics["haze_blur"] / step)
    haze = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)
    haze = np.pad(haze, ((0, light.shape[0] - rows), (0, light.shape[1] - columns)), mode="edge")
    haze = gaussian_filter(haze, step / 2, truncate=2)
    blurred: np.ndarray = sharp + np.float32(acquisition.haze) * (haze - sharp)
    return blurred


def _camera(
    rng: Random, light: np.ndarray, acquisition: Acquisition, channel: int, optics: dict[str, Any]
) -> np.ndarray:
    """Return counts (rows, columns) uint16: illumination, background, shot and read noise."""
    size = len(light)
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    down, right, fall = (np.float32(v) for v in acquisition.illumination)
    lamp = 1 + down * ramp[:, None] + right * ramp[None, :] - fall * (ramp[:, None] ** 2 + ramp[None, :] ** 2)
    expected = np.maximum(lamp, np.float32(0.2)) * (light + np.float32(acquisition.background[channel]))
    expected = np.rint(expected * np.float32(COUNT)) / np.float32(COUNT)
    noise = rng.standard_normal(light.shape)
    side = np.float32(optics["noise_smoothing"][channel])  # a channel that was shifted onto the other one
    if side:
        noise[1:-1] = (1 - 2 * side) * noise[1:-1] + side * (noise[:-2] + noise[2:])
        noise[:, 1:-1] = (1 - 2 * side) * noise[:, 1:-1] + side * (noise[:, :-2] + noise[:, 2:])
        noise /= (1 - 2 * side) * (1 - 2 * side) + 2 * side * side  # the SD is as before
    read, gain = np.float32(acquisition.read_noise[channel]), np.float32(acquisition.gain[channel])
    counts = optics["offset"] + expected + np.sqrt(read * read + gain * expected) * noise
    whole: np.ndarray = np.rint(np.clip(counts, 0, 65535))
    return whole.astype(np.uint16)


def crops_of(pixels: np.ndarray, parts: np.ndarray, origins: np.ndarray, crop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops (n, 2, crop, crop) uint16 of a field's first n cells and their masks (n, crop, crop) uint16.

    In a mask 1 is the mother in the middle, 2 its bud, and 3, 4 … are the neighbours, each with its bud.
    """
    start = crop_starts(origins, crop)
    steps = np.arange(crop)
    rows, columns = (start[:, :1] + steps)[:, :, None], (start[:, 1:] + steps)[:, None, :]
    crops = np.ascontiguousarray(pixels[:, rows, columns].transpose(1, 0, 2, 3))
    crop_parts = parts[rows, columns]
    masks = np.zeros(crop_parts.shape, np.uint16)
    for i, part in enumerate(crop_parts):
        cells = (part + 1) // 2
        counts = np.bincount(cells.ravel(), minlength=i + 2)
        counts[[0, i + 1]] = 0
        new = np.zeros(len(counts), np.uint16)
        new[counts > 0] = np.arange(3, 3 + np.count_nonzero(counts))
        masks[i] = np.where(cells == i + 1, part - 2 * i, new[cells])
    return crops, masks


def crop_starts(origins: np.ndarray, crop: int) -> np.ndarray:
    """Return the first row and column (n, 2) of the crops around origins."""
    starts: np.ndarray = np.rint(origins).astype(np.int64) - crop // 2
    return starts
