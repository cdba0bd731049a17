"""``yeast-sim`` and ``yeast-sim-train``: two simulated screens of yeast, made on first use from a seed."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.dataset import DATASETS, Dataset, register_dataset
from pci_bench.api.loading import shipped_checksum
from pci_bench.data.cells import Cells, DatasetMeta, validated_obs
from pci_bench.simulation.yeast.screen import CHANNELS, SETTINGS, ImagePlan, draw, plan, sample, table

if TYPE_CHECKING:
    from pci_bench.data.store import StoreWriter


LEVELS = ("cell", "image", "plate", "protein")  # each protein is in two images, on two plates


def simulate(screen: str, images: list[ImagePlan], settings: dict[str, Any] = SETTINGS) -> Cells:
    """Return the cells of some images of a screen in memory: about 24 kB a cell.

    Parameters
    ----------
    screen
        ``"yeast-sim"`` or ``"yeast-sim-train"``.
    images
        Of :func:`plan`, or others.
    settings
        All of ``yeast_sim.toml``, or a changed copy.
    """
    from pci_bench.data.store import pixel_checksum

    samples = [sample(screen, image, settings) for image in images]
    crops, masks = (np.concatenate(p) for p in zip(*(draw(screen, s, settings) for s in samples), strict=True))
    obs = validated_obs(table(screen, samples), screen)
    meta = DATASETS.get(screen).meta
    return Cells(obs, CHANNELS, meta, pixel_checksum(crops, masks), crops, masks=masks)


class SimulatedScreen(Dataset):
    """A screen that is drawn from a seed. Its content hash is that of seed, version and parameters; its pixels have a checksum."""

    name: str

    def __init__(self) -> None:
        declared = SETTINGS["screens"][self.name]
        self.meta = DatasetMeta(
            self.name,
            SETTINGS["version"],
            declared["title"],
            SETTINGS["reference"],
            SETTINGS["licence"],
            confounder="image",
            training="yeast-sim-train",
            label="localization",
            simulated_masks=True,
            levels=LEVELS,
        )

    def source_fingerprint(self) -> str:
        """Return what the content depends on: the screen and every number of ``yeast_sim.toml``."""
        digest = hashlib.sha256(json.dumps(SETTINGS, sort_keys=True).encode()).hexdigest()
        return f"{self.name} {digest}"

    def build(self, store: StoreWriter) -> None:
        """Draw all images, and write them in order."""
        plans, samples = plan(self.name), []
        with store.progress.stage(f"placing the cells of {self.name}", len(plans)) as advance:
            for image in plans:
                samples.append(sample(self.name, image))
                advance(1)
        store.begin(
            table(self.name, samples),
            CHANNELS,
            crop_shape=(SETTINGS["crop"], SETTINGS["crop"]),
            dtype="uint16",
            masks=True,
            identity=self.source_fingerprint(),
            checksum=shipped_checksum(self.name, self.source_fingerprint()),
        )
        for drawn in samples:
            store.add(*draw(self.name, drawn))


@register_dataset("yeast-sim")
class YeastSim(SimulatedScreen):
    """The labelled screen: every protein in two wells on different plates, at least three proteins and 60 cells of every class."""

    name = "yeast-sim"


@register_dataset("yeast-sim-train")
class YeastSimTrain(SimulatedScreen):
    """The screen that networks are trained on: other proteins, plates and acquisition settings."""

    name = "yeast-sim-train"
