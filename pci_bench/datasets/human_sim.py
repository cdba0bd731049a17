"""``human-sim``, ``human-sim-train`` and ``human-sim-full``: simulated human cells, made on first use from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.api.loading import shipped_checksum
from pci_bench.data.cells import DatasetMeta
from pci_bench.simulation.human.collection import (
    CHANNELS,
    SETTINGS,
    Parameters,
    draw,
    easy_settings,
    identity,
    nuclear_masks,
    parameters_of,
    plan,
    sample,
    simulate,
    table,
)

if TYPE_CHECKING:
    from pci_bench.data.store import StoreWriter

__all__ = ["Parameters", "easy_settings", "nuclear_masks", "simulate"]


LEVELS = ("cell", "image", "plate", "cell_line", "protein")  # each protein is in two images, of two cell lines


class SimulatedCollection(Dataset):
    """A collection that is drawn from a seed. Its content hash is that of version, seed and parameters; its pixels and masks,
    the same on every processor, have the checksum that ``checksums.toml`` ships.
    """

    name: str
    ontology = ""

    def __init__(self) -> None:
        self.parameters = parameters_of(self.name)
        self.meta = DatasetMeta(
            self.name,
            SETTINGS["version"],
            self.parameters.title,
            SETTINGS["reference"],
            SETTINGS["licence"],
            confounder="image",
            training="human-sim-train",
            label="localization",
            ontology=self.ontology,
            simulated_masks=True,
            levels=LEVELS,
        )

    def source_fingerprint(self) -> str:
        """Return what the content depends on."""
        return identity(self.name, self.parameters)

    def build(self, store: StoreWriter) -> None:
        """Draw all images, and write them in order."""
        plans, samples = plan(self.parameters), []
        with store.progress.stage(f"placing the cells of {self.name}", len(plans)) as advance:
            for image in plans:
                samples.append(sample(self.parameters, image))
                advance(1)
        store.begin(
            table(samples),
            CHANNELS,
            crop_shape=(SETTINGS["crop"], SETTINGS["crop"]),
            dtype="uint8",
            masks=True,
            identity=self.source_fingerprint(),
            checksum=shipped_checksum(self.name, self.source_fingerprint()),
        )
        for drawn in samples:
            crops, masks, _ = draw(self.parameters, drawn)
            store.add(crops, masks)


@register_dataset("human-sim")
class HumanSim(SimulatedCollection):
    """The small labelled collection: every localization with its variants, mixtures and variable proteins."""

    name = "human-sim"
    ontology = "pci_bench.datasets:human_sim"


@register_dataset("human-sim-train")
class HumanSimTrain(SimulatedCollection):
    """The collection that networks are trained on: other proteins, cells and plates."""

    name = "human-sim-train"


@register_dataset("human-sim-full")
class HumanSimFull(SimulatedCollection):
    """The collection at full size: at least 30 proteins of every localization, in three cell lines each."""

    name = "human-sim-full"
