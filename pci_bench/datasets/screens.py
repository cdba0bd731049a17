"""The paper's large screens, from crops that the user supplies: the layout of ``folder:PATH`` in ``PCI_BENCH_DATA/<name>``."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.api.dataset import DATASETS
from pci_bench.api.registry import origin_of
from pci_bench.data.cells import DatasetMeta
from pci_bench.data.counts import beside_the_papers
from pci_bench.datasets.folder import FolderDataset
from pci_bench.system.arguments import split_list
from pci_bench.system.files import user_data_folder

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.acquisition.crop_files import CropFiles

DECLARATIONS = tomllib.loads(files("pci_bench.datasets").joinpath("screens.toml").read_text(encoding="utf-8"))


class SuppliedScreen(FolderDataset):
    """A screen that cannot be shipped or fetched: crops in ``PCI_BENCH_DATA/<name>/<image>/`` with ``images.csv`` beside them.

    ``images.csv`` names each image's protein and, where they are known, its localization (``label`` where there is one,
    ``labels`` joined by ``;`` where there are several), cell line and plate. Its notes say how many cells, images and proteins
    were found beside what the paper counts, and how many images have fewer cells than the paper keeps.
    """

    def __init__(self, name: str):
        d = DECLARATIONS[name]
        protein, *markers = d["suffixes"]
        self.where = d["where"]
        self.fewest_cells: int = d["fewest_cells"]
        self.options = {"protein": protein, "markers": ",".join(markers), "floor": str(d.get("floor", 0.0))}
        self.meta = DatasetMeta(
            name,
            "1",
            d["title"],
            d["reference"],
            d.get("licence", ""),
            confounder="image",
            label="localization",
            ontology=d["ontology"],
            paper=d["paper"],
        )

    @property
    def root(self) -> Path:
        """Where the user's copy lies, or should."""
        return user_data_folder(self.meta.name) or Path("PCI_BENCH_DATA", self.meta.name)

    def unavailable_reason(self) -> str | None:
        """Return where it comes from, unless the user has it."""
        return None if user_data_folder(self.meta.name) else self.how_to_supply()

    def how_to_supply(self) -> str:
        """Return where the crops come from, and how a user puts them where they are found."""
        first, *rest = self.options["protein"], *split_list(self.options["markers"])
        return (
            f"the crops of {self.meta.name} must be supplied ({self.where}). Put them in PCI_BENCH_DATA/{self.meta.name}/"
            f"<image>/<cell>{first}.tif with {' and '.join(f'<cell>{s}.tif' for s in rest)}, write "
            f"PCI_BENCH_DATA/{self.meta.name}/images.csv with the columns image and protein (and label, cell_line, …), and set "
            "the environment variable PCI_BENCH_DATA"
        )

    def _annotated(self, obs: pd.DataFrame, cells: list[CropFiles]) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Return obs joined with ``images.csv``, and sentences on what did not match and on what the paper counts."""
        obs, notes = super()._annotated(obs, cells)
        small = int((obs["image"].value_counts() < self.fewest_cells).sum())
        counted = beside_the_papers(self.meta.name, obs, self.meta.paper)
        too_few = f" {small:,} images have fewer than {self.fewest_cells} cells; the paper leaves such out."
        return obs, (*notes, counted + (too_few if small else ""))


for _name, _declared in DECLARATIONS.items():
    if not _declared.get("fetched"):  # those have modules of their own
        DATASETS.register(_name, SuppliedScreen(_name), origin=origin_of(SuppliedScreen))
