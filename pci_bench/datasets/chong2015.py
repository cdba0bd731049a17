"""``chong2015``: the labelled yeast cells of the paper's Table 1, from the three HDF5 files of DeepLoc."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.acquisition.crop_files import channels_of
from pci_bench.acquisition.deeploc_hdf5 import (
    CROP_SHAPE,
    DECLARATION,
    SplitTable,
    cell_name,
    info_columns,
    is_feature,
    read_crops,
    read_table,
)
from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.files import user_data_folder
from pci_bench.system.text import enumerated

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.store import StoreWriter


@register_dataset("chong2015", argument="MAP")
@register_dataset("chong2015")
class Chong2015(Dataset):
    """Crops of the labelled cells of Chong et al. 2015: train, validation and test set pooled, in this order.

    The files give GFP and RFP pixels, one-hot classes and CellProfiler features; ``chong2015.toml`` says which label
    each class gets. ``chong2015`` uses the map ``merge``; ``chong2015:drop`` and ``chong2015:merge-and-drop`` are the
    others. The paper counts 30,889 cells in 17 classes, which no map may give, so a note says what was found. The files
    are not known to tell which image, well, protein or plate a cell came from. Where a column does so for all cells, it
    is the confounder; where none does, there is no confounder, and ``image`` is missing.

    Parameters
    ----------
    class_map
        ``"merge"``, ``"drop"`` or ``"merge-and-drop"``.

    Raises
    ------
    UserError
        For another class map.
    """

    def __init__(self, class_map: str = DECLARATION["default_map"]):
        d = DECLARATION
        if class_map not in d["maps"]:
            known = "; ".join(f"{name}: {declared['title']}" for name, declared in d["maps"].items())
            raise UserError(
                f"The dataset 'chong2015' has no class map '{class_map}'. Write chong2015:MAP with one of these maps "
                f"({known}), or only chong2015 for the map '{d['default_map']}'."
            )
        self.title: str = d["maps"][class_map]["title"]
        self.merged: dict[str, str] = d["maps"][class_map]["merged"]
        self.dropped: list[str] = d["maps"][class_map]["dropped"]
        self.meta = DatasetMeta(
            "chong2015" if class_map == d["default_map"] else f"chong2015:{class_map}",
            d["version"],
            f"{d['title']} ({self.title})",
            d["reference"],
            d["licence"],
            training=d["training"],
            label=d["label"],
            merged=self.merged,
            paper={what: d["paper"][what] for what in ("cells", "classes")},
        )

    def paths(self) -> dict[str, Path]:
        """Return the path of each split's file in the user's folder, there or not; nothing where there is no folder."""
        folder = user_data_folder("chong2015")
        return {split: folder / name for split, name in DECLARATION["files"].items()} if folder else {}

    def unavailable_reason(self) -> str | None:
        """Return which of the three files are missing, where they can be had and where to put them; or None."""
        names, paths = list(DECLARATION["files"].values()), self.paths()
        missing = [path.name for path in paths.values() if not path.is_file()] if paths else names
        if not missing:
            return None
        where = (
            str(next(iter(paths.values())).parent) if paths else "PCI_BENCH_DATA/chong2015, and there is no such folder"
        )
        return (
            f"{enumerated(missing)} {'is' if len(missing) == 1 else 'are'} missing in {where}. Fetch {DECLARATION['url']} "
            f"({DECLARATION['availability']}), put {enumerated(names)} in a folder PCI_BENCH_DATA/chong2015, and set the "
            "environment variable PCI_BENCH_DATA to the folder that holds 'chong2015'."
        )

    def source_fingerprint(self) -> str:
        """Return a fingerprint of the three files, so that changed files are read anew."""
        files = [(path.name, path.stat()) for path in self.paths().values() if path.is_file()]
        return "\n".join(f"{name}\t{stat.st_size}\t{stat.st_mtime_ns}" for name, stat in files)

    def label_of(self, name: str) -> str | None:
        """Return the label of one of the files' classes, or None where its cells are left out."""
        return None if name in self.dropped else self.merged.get(name, name)

    def build(self, store: StoreWriter) -> None:
        """Check all files and read their labels, then stream the pixels of the cells that are kept."""
        paths = self.paths()
        tables = {split: read_table(path, split) for split, path in paths.items()}
        obs = self._obs(tables)
        kept = obs["label"].notna()
        identifiers = [c for c in DECLARATION["identifiers"] if c in obs and obs[c][kept].notna().all()]
        confounder = next((c for c in identifiers if obs[c][kept].nunique() > 1), None)
        store.begin(
            obs[kept],
            channels_of(DECLARATION["channels"]),
            crop_shape=CROP_SHAPE,
            dtype="float32",
            confounder=confounder,
            notes=(self._counted(obs), _on_confounder(confounder), _on_info([info_columns(p) for p in paths.values()])),
        )
        for split, path in paths.items():
            for crops in read_crops(path, kept[obs["split"] == split].to_numpy()):
                store.add(crops)

    def _obs(self, tables: dict[str, SplitTable]) -> pd.DataFrame:
        """Return one row per cell of the files, with a missing label where the class is left out."""
        import pandas as pd

        rows = [
            {"cell": cell_name(split, row), "image": None, "label": self.label_of(name), "split": split}
            for split, table in tables.items()
            for row, name in enumerate(table.classes)
        ]
        obs = pd.DataFrame(rows, columns=["cell", "image", "label", "split"], dtype=object)
        for column in DECLARATION["identifiers"]:
            if all(column in table.identifiers for table in tables.values()):
                obs[column] = pd.Series([v for t in tables.values() for v in t.identifiers[column]], dtype=object)
        if "plate" in obs:  # CellProfiler numbers images, and a microscope names wells, anew on every plate
            within = obs["well"] if "well" in obs and obs["image"].isna().all() else obs["image"]
            pairs = zip(obs["plate"], within, strict=True)
            images = [f"{plate}/{image}" if plate and image else None for plate, image in pairs]
            obs["image"] = pd.Series(images, dtype=object)
        return obs

    def _counted(self, obs: pd.DataFrame) -> str:
        """Return what was found beside what the paper counts, as a sentence."""
        paper, labels = DECLARATION["paper"], obs["label"].dropna()
        splits = ", ".join(f"{split} {count:,}" for split, count in obs["split"].value_counts(sort=False).items())
        left_out = f"; {len(obs) - len(labels):,} of {enumerated(self.dropped)} are left out" if self.dropped else ""
        return (
            f"'{self.meta.name}' has {len(labels):,} cells in {labels.nunique()} classes ({self.title}); the paper "
            f"counts {paper['cells']:,} cells in {paper['classes']} classes. "
            f"The files hold {len(obs):,} ({splits}){left_out}."
        )


def _on_confounder(confounder: str | None) -> str:
    """Return what the files tell of where cells came from, as a sentence."""
    if confounder:
        return f"The files tell the {confounder} of every cell, so '{confounder}' is the confounder."
    return (
        "No named column of Info tells the image, well, protein or plate of every cell, so there is no confounder: "
        "a cell's neighbours may come from its own image."
    )


def _on_info(columns: list[tuple[str, ...]]) -> str:
    """Return how many columns of ``Info`` are features, as a sentence."""
    if not all(columns):
        return "Not all files hold named CellProfiler columns (Info), so 'cellprofiler-chong2015' cannot be had."
    features = sum(map(is_feature, columns[0]))
    return (
        f"Info names {len(columns[0]):,} columns; {features:,} are CellProfiler's features of a cell, and the other "
        f"{len(columns[0]) - features:,} are names, numbers, places or labels, which 'cellprofiler-chong2015' leaves out."
    )
