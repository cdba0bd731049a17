"""Simulated screens of yeast: proteins, images, and the table of what is true of every cell.

An image is one protein in one well of one plate; every protein is in several wells, each on another plate. An image depends on
nothing but the seed of its screen, its number and ``yeast_sim.toml``, so images can be made in any order and by any number of
processes, and their pixels are the same on every processor.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.cells import Channel
from pci_bench.simulation.arithmetic import Random
from pci_bench.simulation.yeast.anatomy import draw_anatomy
from pci_bench.simulation.yeast.optics import (
    Acquisition,
    Scene,
    arrange,
    crop_starts,
    crops_of,
    draw_acquisition,
    render,
)
from pci_bench.simulation.yeast.proteins import Protein, draw_protein, labels_of

if TYPE_CHECKING:
    import pandas as pd

SETTINGS: dict[str, Any] = tomllib.loads(
    files("pci_bench.simulation.yeast").joinpath("yeast_sim.toml").read_text(encoding="utf-8")
)
CHANNELS = (Channel("GFP", "protein"), Channel("RFP", "marker"))
CLASSES = tuple(sorted(SETTINGS["proteins_per_class"]))


PLAN, PLATE, PROTEIN, PLACES, PIXELS = range(5)  # what chance decides; no two share a generator


@dataclass(frozen=True)
class ImagePlan:
    """What is decided of an image before it is drawn: numbers of image, protein and plate, the protein's class, and how many
    cells are cropped.
    """

    number: int
    protein: int
    label: str
    plate: int
    cells: int


def plan(screen: str, settings: dict[str, Any] = SETTINGS) -> list[ImagePlan]:
    """Return the images of a screen, ``"yeast-sim"`` or ``"yeast-sim-train"``, plate by plate.

    Every set of replicate plates holds all proteins once, in an order of its own.
    """
    declared = settings["screens"][screen]
    rng = _random(screen, settings, PLAN, 0)
    labels = np.repeat(CLASSES, [settings["proteins_per_class"][c] * declared["proteins"] for c in CLASSES])
    labels = rng.permutation(labels)
    images: list[ImagePlan] = []
    low, high = declared["cells_per_image"]
    shape, scale = declared["cells_above_lowest"]
    plates = -(-len(labels) // declared["wells_per_plate"])
    for replicate in range(declared["wells_per_protein"]):
        cells = np.clip(low + np.rint(rng.gamma(shape, scale, len(labels))), low, high)
        for place, protein in enumerate(rng.permutation(len(labels))):
            plate = replicate * plates + place // declared["wells_per_plate"]
            images.append(ImagePlan(len(images), int(protein), str(labels[protein]), plate, int(cells[place])))
    return images


@dataclass(frozen=True)
class Sample:
    """One protein in one well, before it is drawn: what its cells share, and where everything is."""

    plan: ImagePlan
    protein: Protein
    acquisition: Acquisition
    scene: Scene


def sample(screen: str, image: ImagePlan, settings: dict[str, Any] = SETTINGS) -> Sample:
    """Return the protein, settings and cells of one image of a screen."""
    declared, placement = settings["screens"][screen], settings["placement"]
    protein = draw_protein(_random(screen, settings, PROTEIN, image.protein), image.label, settings["proteins"])
    rng = _random(screen, settings, PLACES, image.number)
    acquisition = draw_acquisition(_random(screen, settings, PLATE, image.plate), rng, declared, settings)
    area = image.cells * placement["cells_in_view"] * placement["area_per_cell"]
    side = np.sqrt(area) + 2 * placement["surround"]
    drawn = int(side * side / placement["area_per_cell"]) + 2
    anatomy = draw_anatomy(rng, drawn, {**settings["anatomy"], "radius": declared["radius"]})
    return Sample(image, protein, acquisition, arrange(rng, anatomy, image.cells, protein, settings))


def draw(screen: str, drawn: Sample, settings: dict[str, Any] = SETTINGS) -> tuple[np.ndarray, np.ndarray]:
    """Return an image's crops (n, 2, 64, 64) uint16, GFP and RFP, and masks (n, 64, 64) uint16.

    In a mask 1 is the mother in the middle, 2 its bud, and 3, 4 … are the neighbours, each with its bud.
    """
    rng = _random(screen, settings, PIXELS, drawn.plan.number)
    pixels, parts = render(rng, drawn.scene, drawn.protein, drawn.acquisition, settings)
    return crops_of(pixels, parts, drawn.scene.origins[: drawn.plan.cells], settings["crop"])


def _random(screen: str, settings: dict[str, Any], step: int, number: int) -> Random:
    """Return the chance of one step for one image, plate or protein, which no other shares."""
    return Random(settings["seed"], settings["screens"][screen]["stream"], step, number)


def truth(drawn: Sample, crop: int = SETTINGS["crop"]) -> dict[str, np.ndarray]:
    """Return what is known of an image's cells, as obs columns (n,) by name.

    ``y`` and ``x`` are in the field, all other positions in the crop (rows ``_y``, columns ``_x``); sizes are pixels.
    What a cell has not (bud, second nucleus) is NaN; ``neck`` is then the site of the next bud.
    """
    scene, n = drawn.scene, drawn.plan.cells
    anatomy, origins = scene.anatomy[np.arange(n)], scene.origins[:n]
    start = crop_starts(origins, crop)
    budded = anatomy.budded
    parted = (anatomy.nuclei[:, 0] != anatomy.nuclei[:, 1]).any(axis=1)
    points = {
        "mother": anatomy.mother,
        "bud": np.where(budded[:, None], anatomy.bud, np.nan),
        "neck": anatomy.neck,
        "tip": np.where(budded[:, None], anatomy.tip, np.nan),
        "nucleus": anatomy.nuclei[:, 0],
        "second_nucleus": np.where(parted[:, None], anatomy.nuclei[:, 1], np.nan),
        "vacuole": anatomy.vacuoles[:, 0],
        "pole": anatomy.poles[:, 0],
        "second_pole": anatomy.poles[:, 1],
    }
    columns: dict[str, np.ndarray] = {"y": origins[:, 0], "x": origins[:, 1]}
    columns["stage"] = np.where(budded, anatomy.stage, np.nan)
    for name, point in points.items():
        in_crop = point + origins - start
        columns[f"{name}_y"], columns[f"{name}_x"] = in_crop[:, 0], in_crop[:, 1]
    sizes = {
        "mother_major": anatomy.mother_axes[:, 0],
        "mother_minor": anatomy.mother_axes[:, 1],
        "mother_angle": anatomy.mother_angle,
        "bud_major": np.where(budded, anatomy.bud_axes[:, 0], np.nan),
        "bud_minor": np.where(budded, anatomy.bud_axes[:, 1], np.nan),
        "bud_angle": np.where(budded, anatomy.bud_angle, np.nan),
        "nucleus_radius": anatomy.nucleus_radius[:, 0],
        "vacuole_radius": anatomy.vacuole_radius[:, 0],
    }
    columns.update(sizes)
    rounded = {name: np.round(values, 2) for name, values in columns.items()}
    return {**rounded, "penetrant": scene.penetrant[:n]}


def table(screen: str, samples: list[Sample]) -> pd.DataFrame:
    """Return obs: one row per cell, images in order.

    ``label`` is what the cell shows at its stage, ``protein_label`` the class of its protein.
    """
    import pandas as pd

    prefix, frames = SETTINGS["screens"][screen]["prefix"], []
    for image_sample in samples:
        image, n = f"{prefix}{image_sample.plan.number + 1:03d}", image_sample.plan.cells
        frame = pd.DataFrame({"cell": [f"{image}_{i + 1:02d}" for i in range(n)], "image": image})
        frame["protein"] = f"{prefix}P{image_sample.plan.protein + 1:03d}"
        frame["label"] = labels_of(image_sample.plan.label, image_sample.scene.anatomy)[:n]
        frame["plate"] = f"{prefix}-plate-{image_sample.plan.plate + 1:02d}"
        frame["protein_label"] = image_sample.plan.label
        frames.append(frame.assign(**truth(image_sample)))
    return pd.concat(frames, ignore_index=True)
