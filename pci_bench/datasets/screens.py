"""The paper's large screens, from crops that the user supplies: the layout of ``folder:PATH`` in ``PCI_BENCH_DATA/<name>``."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path

from pci_bench.cells import DatasetMeta
from pci_bench.datasets.base import DATASETS
from pci_bench.datasets.folder import FolderDataset
from pci_bench.files import user_data_folder
from pci_bench.registry import origin_of

DECLARATIONS = tomllib.loads(files("pci_bench.datasets").joinpath("screens.toml").read_text(encoding="utf-8"))


class SuppliedScreen(FolderDataset):
    """A screen that cannot be shipped or fetched: crops in ``PCI_BENCH_DATA/<name>/<image>/`` with ``images.csv`` beside them.

    ``images.csv`` names each image's protein and, where they are known, its localization (``label`` where there is one,
    ``labels`` joined by ``;`` where there are several), cell line and plate.
    """

    def __init__(self, name: str):
        d = DECLARATIONS[name]
        protein, *markers = d["suffixes"]
        self.where = d["where"]
        self.options = {"protein": protein, "markers": ",".join(markers), "floor": str(d.get("floor", 0.0))}
        self.meta = DatasetMeta(
            name, "1", d["title"], d["reference"], d.get("licence", ""), confounder="image", label="localization"
        )

    @property
    def root(self) -> Path:
        """Where the user's copy lies, or should."""
        return user_data_folder(self.meta.name) or Path("PCI_BENCH_DATA", self.meta.name)

    def skip(self) -> str | None:
        """Return where it comes from, unless the user has it."""
        if user_data_folder(self.meta.name):
            return None
        first, *rest = self.options["protein"], *self.options["markers"].split(",")
        return (
            f"the crops of {self.meta.name} must be supplied ({self.where}). Put them in PCI_BENCH_DATA/{self.meta.name}/"
            f"<image>/<cell>{first}.tif with {' and '.join(f'<cell>{s}.tif' for s in rest)}, write "
            f"PCI_BENCH_DATA/{self.meta.name}/images.csv with the columns image and protein (and label, cell_line, …), and set "
            "the environment variable PCI_BENCH_DATA"
        )


for _name in DECLARATIONS:
    DATASETS.register(_name, SuppliedScreen(_name), origin=origin_of(SuppliedScreen))
