"""Collections of simulated human cells: proteins, images, and the table of what is true of every cell.

An image is one protein in one cell line. It depends on nothing but the seed of its collection, its number and
``human_sim.toml``, so images can be made in any order and by any number of processes. `simulate` makes small collections in
memory, for tests of whatever reads such cells.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import tomllib
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.cells import Cells, Channel, DatasetMeta, validated_obs
from pci_bench.errors import UserError
from pci_bench.simulation.arithmetic import Random, exp, log, total
from pci_bench.simulation.human.anatomy import DIRECTIONS, draw_anatomy, line_of
from pci_bench.simulation.human.compartments import TERMS, Protein
from pci_bench.simulation.human.optics import (
    Acquisition,
    Scene,
    arrange,
    crop_starts,
    crops_of,
    draw_acquisition,
    render,
)

if TYPE_CHECKING:
    import pandas as pd

SETTINGS: dict[str, Any] = tomllib.loads(
    files("pci_bench.simulation.human").joinpath("human_sim.toml").read_text(encoding="utf-8")
)
CHANNELS = (Channel("antibody", "protein"), Channel("nucleus", "marker", 0.05), Channel("microtubules", "marker", 0.05))
LINES = tuple(SETTINGS["lines"])


@dataclass(frozen=True)
class Parameters:
    """What a collection of simulated cells is made of; everything else is in ``human_sim.toml``.

    Parameters
    ----------
    title, prefix
        What it is, and the first letter of its proteins' names.
    seed, stream
        Two collections of one seed and different streams have nothing in common.
    proteins_per_term, proteins_per_variant
        Proteins with one localization: of each term, or of each variant where a term has variants (the planted subclusters).
    mixed_proteins, variable_proteins
        Proteins of each pair of terms: both in every cell in a fixed mixture, or the one or the other from cell to cell.
    lines_per_protein
        In how many of the four cell lines each protein is seen: one image each.
    cells_per_image, variable_cells
        Fewest and most cells of an image, and of an image of a variable protein.
    line_strength
        Factor of the difference between cell lines: 1 as declared, 0 none, at most 1.5.
    terms
        The localization terms of single-term proteins; all where empty.
    """

    title: str = "Simulated human cells"
    prefix: str = "P"
    seed: int = 0
    stream: int = 0
    proteins_per_term: int = 4
    proteins_per_variant: int = 3
    mixed_proteins: int = 0
    variable_proteins: int = 0
    lines_per_protein: int = 2
    cells_per_image: tuple[int, int] = (6, 12)
    variable_cells: tuple[int, int] = (10, 14)
    line_strength: float = 1.0
    terms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if unknown := [term for term in self.terms if term not in TERMS]:
            raise UserError(f"There is no simulated localization '{unknown[0]}'. There are: {', '.join(TERMS)}.")
        if not 1 <= self.lines_per_protein <= len(LINES):
            raise UserError(
                f"A simulated protein is seen in 1 to {len(LINES)} cell lines, not {self.lines_per_protein}."
            )

        for low, high in (self.cells_per_image, self.variable_cells):
            if not 2 <= low <= high:
                raise UserError(
                    f"Simulated images have at least 2 cells, from the fewest to the most; found {low} to {high}."
                )


def parameters_of(name: str) -> Parameters:
    """Return the parameters of a collection of ``human_sim.toml``, such as ``"human-sim"``."""
    declared: dict[str, Any] = SETTINGS["screens"][name]
    spans: dict[str, Any] = {key: tuple(value) for key, value in declared.items() if isinstance(value, list)}
    return Parameters(**{**declared, **spans})


def easy_settings() -> dict[str, Any]:
    """Return a changed copy of ``human_sim.toml`` in which structures stand out: all bright, with little and even unspecific binding.

    For tests of whether an evaluator finds what is planted, which need few cells then. Shapes, kinds and cell lines are those
    of the published collections.
    """
    settings = copy.deepcopy(SETTINGS)
    settings["signal"] = 1.0
    settings["proteins"].update(
        count=[0.75, 1.3],
        size=[0.88, 1.14],
        patchiness=[0.0, 0.6],
        grain=[0.08, 0.32],
        diffuse=[0.02, 0.12],
        brightness=[0.75, 0.75],
        nuclear=[0.5, 0.5],
        cell_spread=0.18,
        unspecific_spread=0.0,
    )
    settings["optics"].update(
        unspecific=[1.0, 1.0], haze=[0.03, 0.1], blur=[0.4, 0.62], read_noise=[0.008, 0.018], gain=[0.002, 0.007]
    )
    return settings


@dataclass(frozen=True)
class ImagePlan:
    """What is decided of an image before it is drawn: its number, protein, cell line, plate and how many cells are cropped."""

    number: int
    protein: Protein
    line: str
    plate: int
    cells: int

    @property
    def name(self) -> str:
        """Return the protein's name and the cell line's."""
        return f"{self.protein.name}_{self.line}"


# Each number is of something that chance decides; no two share a generator.
PROTEINS, PLAN, PLATE, SCENE, PIXELS, ANNOTATIONS = range(6)


def rng_of(parameters: Parameters, *steps: int) -> Random:
    """Return the random numbers of one step, which no other step shares."""
    return Random(parameters.seed, parameters.stream, *steps)


def proteins(parameters: Parameters, settings: dict[str, Any] = SETTINGS) -> list[Protein]:
    """Return the proteins of a collection, of all kinds in random order."""
    kinds = settings["kinds"]
    rng = rng_of(parameters, PROTEINS)
    wanted: list[tuple[tuple[str, ...], str, float, float]] = []
    for term in parameters.terms or TERMS:
        variants = kinds["variants"].get(term, [""])
        count = parameters.proteins_per_variant if term in kinds["variants"] else parameters.proteins_per_term
        wanted += [((term,), variant, np.nan, np.nan) for variant in variants for _ in range(count)]
    for pair in kinds["mixed"]:
        shares = np.linspace(kinds["mixture"][0], kinds["mixture"][1], parameters.mixed_proteins)
        wanted += [(tuple(pair), _variant(pair, kinds), float(share), np.nan) for share in shares]
    for pair in kinds["variable"]:
        low, high = kinds["variable_fraction"]
        shares = np.linspace(low, high, parameters.variable_proteins)
        wanted += [(tuple(pair), _variant(pair, kinds), np.nan, float(share)) for share in shares]
    order = rng.permutation(len(wanted))
    made = []
    for number, index in enumerate(order):
        terms, variant, mixture, fraction = wanted[index]
        own, ranges = rng_of(parameters, PROTEINS, 1 + number), settings["proteins"]
        style = {
            k: float(own.uniform(*ranges[k])) for k in ("count", "size", "patchiness", "grain", "diffuse", "nuclear")
        }
        dimmest, brightest = ranges["brightness"]
        style["brightness"] = dimmest * float(exp(own.uniform() * log(brightest / dimmest)))
        made.append(
            Protein(
                number,
                f"{parameters.prefix}{number + 1:04d}",
                terms,
                variant,
                round(mixture, 4),
                round(fraction, 4),
                **style,
            )
        )
    return made


def _variant(terms: list[str], kinds: dict[str, Any]) -> str:
    """Return the first variant of the first term that has any: proteins of two terms show the usual morphology."""
    return next((kinds["variants"][term][0] for term in terms if term in kinds["variants"]), "")


def plan(parameters: Parameters, settings: dict[str, Any] = SETTINGS) -> list[ImagePlan]:
    """Return the images of a collection: of each protein as many as it has cell lines, each on another plate.

    Cell lines are assigned in turn among the proteins of one localization, so that each has all lines if it has enough proteins.
    Plates hold images of several cell lines and of any proteins, in random order.
    """
    rng = rng_of(parameters, PLAN)
    all_proteins = proteins(parameters, settings)
    line_sets = list(itertools.combinations(LINES, parameters.lines_per_protein))
    line_sets = [line_sets[i] for i in _spread(len(line_sets))]
    assigned: dict[tuple[Any, ...], int] = {}
    pairs = []
    for protein in all_proteins:
        kind = (protein.terms, np.isnan(protein.mixture), np.isnan(protein.variable_fraction))
        turn = assigned.get(kind, 2 * int(rng.integers(len(line_sets) // 2 + 1)))
        assigned[kind] = turn + 1
        pairs += [(protein, line) for line in line_sets[turn % len(line_sets)]]
    # one set of plates for the first image of every protein, another for the second …; which line is first is chance
    per_plate, several = settings["kinds"]["images_per_plate"], parameters.lines_per_protein
    per_set = -(-len(all_proteins) // per_plate)
    place = np.stack([i * per_set * per_plate + rng.permutation(len(all_proteins)) for i in range(several)], axis=1)
    plates = (rng.permuted(place, axis=1) // per_plate).ravel()
    images = []
    for number, ((protein, line), plate) in enumerate(zip(pairs, plates, strict=True)):
        constant = np.isnan(protein.variable_fraction)
        low, high = parameters.cells_per_image if constant else parameters.variable_cells
        images.append(ImagePlan(number, protein, line, int(plate), int(rng.integers(low, high + 1))))
    return images


def _spread(n: int) -> list[int]:
    """Return 0 … n − 1 from both ends in turn: of pairs in order, neighbours then have no line in common."""
    return [i // 2 if i % 2 == 0 else n - 1 - i // 2 for i in range(n)]


@dataclass(frozen=True)
class Sample:
    """One protein in one cell line, before it is drawn: what its cells share, and where everything is."""

    plan: ImagePlan
    line: dict[str, float]
    acquisition: Acquisition
    scene: Scene


def sample(parameters: Parameters, image: ImagePlan, settings: dict[str, Any] = SETTINGS) -> Sample:
    """Return the settings and cells of one image of a collection."""
    placement = settings["placement"]
    rng = rng_of(parameters, SCENE, image.number)
    line = line_of(image.line, parameters.line_strength, settings)
    acquisition = draw_acquisition(rng_of(parameters, PLATE, image.plate), rng, settings["optics"])
    confluence = line["confluence"] * float(exp(rng.normal(0, placement["confluence_spread"])))
    area = np.pi * line["radius"] * line["radius"] / confluence
    side = np.sqrt(image.cells * area) + 2 * placement["surround"]
    drawn = max(int(side * side / area), image.cells) + 2
    anatomy = draw_anatomy(rng, drawn, line, settings["anatomy"])
    second = _second(rng, image, drawn, settings["kinds"]["mixture_spread"])
    return Sample(image, line, acquisition, arrange(rng, anatomy, side, image.cells, second, settings))


def _second(rng: Random, image: ImagePlan, drawn: int, spread: float) -> np.ndarray:
    """Return the share of the protein in its second term (drawn,); of a variable protein 0 or 1, as many 1 as planted."""
    protein = image.protein
    if not np.isnan(protein.variable_fraction):
        cropped = np.arange(image.cells) < round(protein.variable_fraction * image.cells)
        around = rng.uniform(size=drawn - image.cells) < protein.variable_fraction
        return np.concatenate([rng.permutation(cropped), around]).astype(float)
    if not np.isnan(protein.mixture):
        odds = float(log(protein.mixture / (1 - protein.mixture))) + rng.normal(0, spread, drawn)
        return 1 / (1 + exp(-odds))
    return np.zeros(drawn)


def draw(
    parameters: Parameters, drawn: Sample, settings: dict[str, Any] = SETTINGS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image's crops (n, 3, 64, 64) uint8 and masks (n, 64, 64) uint16 of cells and of their nuclei.

    In the masks 1 is the cell in the middle, and 3, 4 … are its neighbours.
    """
    image = drawn.plan
    rng = rng_of(parameters, PIXELS, image.number)
    pixels, field_map = render(rng, drawn.scene, image.protein, drawn.line, drawn.acquisition, settings)
    start = crop_starts(drawn.scene, image.cells, settings["crop"])
    return crops_of(pixels, field_map, start, settings["crop"])


def table(samples: list[Sample], crop: int = SETTINGS["crop"]) -> pd.DataFrame:
    """Return obs: one row per cell, images in order.

    ``label`` is the one localization, missing where there are two; ``labels`` are all, joined by ``;``. ``mixture`` and
    ``variable_fraction`` are the protein's (missing, and 0, where it has none), ``second`` is the cell's own share of signal
    in the second localization, and ``state`` names what the cell shows. ``subcluster`` is the variant of the protein's
    localization. Positions are in the crop (rows ``_y``, columns ``_x``), areas are of whole outlines, in pixels.
    """
    import pandas as pd

    frames = []
    for image_sample in samples:
        image, protein, scene, n = (
            image_sample.plan,
            image_sample.plan.protein,
            image_sample.scene,
            image_sample.plan.cells,
        )
        anatomy, start = scene.anatomy, crop_starts(scene, image_sample.plan.cells, crop)
        second = scene.second[:n]
        single = len(protein.terms) == 1
        variable = not np.isnan(protein.variable_fraction)
        truth: dict[str, Any] = {
            "cell": [f"{image.name}_{i + 1:02d}" for i in range(n)],
            "image": image.name,
            "protein": protein.name,
            "label": protein.terms[0] if single else None,
            "labels": ";".join(protein.terms),
            "cell_line": image.line,
            "plate": f"plate-{image.plate + 1:02d}",
            "subcluster": f"{protein.terms[0]}: {protein.variant}" if single and protein.variant else "",
            "mixture": protein.mixture,
            "variable_fraction": protein.variable_fraction if variable else 0.0,
            "second": np.round(second, 4),
            "state": [protein.terms[round(s)] for s in second] if variable else ";".join(protein.terms),
        }
        for part in ("nucleus", "centrosome"):
            at = getattr(anatomy, part)[:n] + scene.origins[:n] - start
            truth[f"{part}_y"], truth[f"{part}_x"] = np.round(at, 2).T
        for part, outline in (("cell", anatomy.outline), ("nucleus", anatomy.nucleus_outline)):
            truth[f"{part}_area"] = np.round(np.pi * total(outline[:n] * outline[:n]) / DIRECTIONS, 1)
        frames.append(pd.DataFrame(truth))
    return pd.concat(frames, ignore_index=True)


def identity(name: str, parameters: Parameters, settings: dict[str, Any] = SETTINGS) -> str:
    """Return what the content depends on: name, parameters and every number of ``human_sim.toml`` but other collections'."""
    numbers = {key: value for key, value in settings.items() if key != "screens"}
    text = json.dumps([numbers, asdict(parameters)], sort_keys=True)
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()}"


@dataclass(frozen=True)
class Simulation:
    """A collection in memory.

    Parameters
    ----------
    obs
        One row per cell, as `table` says.
    crops
        (n, 3, 64, 64) uint8: antibody, nucleus, microtubules.
    masks, nuclei
        (n, 64, 64) uint16: 1 is the cell in the middle, and its nucleus; 3, 4 … the neighbours.
    parameters, settings
        What it was made from.
    """

    obs: pd.DataFrame
    crops: np.ndarray
    masks: np.ndarray
    nuclei: np.ndarray
    parameters: Parameters
    settings: dict[str, Any]

    def cells(self) -> Cells:
        """Return them as any dataset's cells."""
        meta = DatasetMeta(
            "human-sim",
            SETTINGS["version"],
            self.parameters.title,
            confounder="image",
            label="localization",
            simulated_masks=True,
        )
        sha256 = hashlib.sha256(identity("simulated", self.parameters, self.settings).encode()).hexdigest()
        return Cells(validated_obs(self.obs, meta.name), CHANNELS, meta, sha256, self.crops, masks=self.masks)


def simulate(parameters: Parameters, settings: dict[str, Any] = SETTINGS) -> Simulation:
    """Return a whole collection in memory: meant for small ones, about 20 kB a cell.

    Parameters
    ----------
    parameters
        What is wanted: ``Parameters(seed=1, terms=("cytosol", "nucleoli"), line_strength=0)``.
    settings
        All of ``human_sim.toml``, or a changed copy.
    """
    samples = [sample(parameters, image, settings) for image in plan(parameters, settings)]
    if not samples:
        raise UserError("No simulated proteins were asked for: every number of proteins is 0.")
    crops, masks, nuclei = (
        np.concatenate(parts) for parts in zip(*(draw(parameters, s, settings) for s in samples), strict=True)
    )
    return Simulation(table(samples, settings["crop"]), crops, masks, nuclei, parameters, settings)


def nuclear_masks(name: str, image: str) -> np.ndarray:
    """Return the masks (n, 64, 64) of the nuclei of one image of a collection, drawn again: stored masks show whole cells."""
    parameters = parameters_of(name)
    plans = [image_plan for image_plan in plan(parameters) if image_plan.name == image]
    if not plans:
        raise UserError(f"The dataset '{name}' has no image '{image}'.")
    return draw(parameters, sample(parameters, plans[0]))[2]
