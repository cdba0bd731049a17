"""``bbbc021``: profiles of treatments with known mechanisms of action, from published measurements of wells."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.acquisition.pinned import PinnedDataset, PinnedFiles
from pci_bench.api.dataset import register_dataset
from pci_bench.data.cells import DatasetMeta
from pci_bench.statistics.profiles import repeating_columns, replicate_correlations, scored_by_controls

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pci_bench.data.store import StoreWriter

NAME = "bbbc021"


@cache
def declared() -> dict[str, Any]:
    """Return ``bbbc021.toml``."""
    return tomllib.loads(files("pci_bench.datasets").joinpath("bbbc021.toml").read_text(encoding="utf-8"))


@register_dataset(NAME)
class Bbbc021(PinnedDataset):
    """One profile per compound and concentration: the mean over its wells, each scored by the control wells of its plate.

    Measurements are left out whose replicates do not correlate, then those that repeat another (``bbbc021.toml`` has the limits),
    as the vignette ``predict_moa`` of the repository does; only then are wells scored. A row's ``compound`` is its confounder:
    other concentrations of a compound look alike. ``batch`` is the week that all its wells were imaged in.
    """

    def __init__(self) -> None:
        d = declared()
        self.meta = DatasetMeta(
            NAME,
            "1",
            d["title"],
            d["reference"],
            d["licence"],
            confounder="compound",
            label=d["label"],
            levels=("cell", "compound", "compound+batch"),
        )
        self.files = PinnedFiles(NAME, "bbbc021_files.csv", d["licence"])

    def source_fingerprint(self) -> str:
        """Return what the profiles follow from: the pinned files and the limits."""
        return f"{self.files.fingerprint()} {declared()['selection']}"

    def build(self, store: StoreWriter) -> None:
        """Select measurements, score wells, and store the mean of every treatment's wells."""
        wells = read_wells(self.files.paths())
        names = [column for column in map(str, wells.columns) if column.partition("_")[0] in declared()["parts"]]
        values = wells[names].to_numpy(np.float64)
        kept, note = selected(values, wells["treatment"].to_numpy(str))
        controls = (wells["compound"] == declared()["control"]).to_numpy()
        scores = scored_by_controls(values[:, kept], wells["plate"].to_numpy(str), controls)
        treated = wells[~controls]
        first = treated.drop_duplicates("treatment").sort_values("treatment")
        members = [scores[treated.index[treated["treatment"] == name]] for name in first["treatment"]]
        obs = first[["compound", "concentration", "batch"]].assign(
            cell=first["treatment"],
            image=first["treatment"],
            label=first["mechanism"],
            wells=[len(rows) for rows in members],
        )
        profiles = np.stack([rows.mean(axis=0) for rows in members])
        store.write_profiles(obs, profiles, np.array(names)[kept].tolist(), notes=(note,))


def read_wells(paths: dict[str, Path]) -> pd.DataFrame:
    """Return the wells whose mechanism is known, with ``plate``, ``batch``, ``compound``, ``concentration``, ``treatment``, ``mechanism``."""
    import pandas as pd

    d = declared()
    wells, images, mechanisms = (
        pd.read_csv(paths[d[name]], float_precision="round_trip") for name in ("profiles", "images", "mechanisms")
    )
    wells = wells.rename(columns={"Image_Metadata_Plate": "plate", "Image_Metadata_Well": "well"})
    treated = images.rename(
        columns={
            "Image_Metadata_Plate_DAPI": "plate",
            "Image_Metadata_Well_DAPI": "well",
            "Image_Metadata_Compound": "compound",
            "Image_Metadata_Concentration": "concentration",
        }
    )[["plate", "well", "compound", "concentration"]].drop_duplicates()
    known = mechanisms.rename(columns={"moa": "mechanism"})
    joined = wells.merge(treated.merge(known, on=["compound", "concentration"]), on=["plate", "well"])
    doses = joined["concentration"].map("{:g}".format)
    return joined.assign(
        batch=joined["plate"].str.partition("_")[0], treatment=joined["compound"] + " " + doses + " µM"
    )


def selected(values: np.ndarray, treatments: np.ndarray) -> tuple[np.ndarray, str]:
    """Return which measurements (d,) bool of wells (n, d) are kept, and what was left out, as a sentence."""
    limits = declared()["selection"]
    codes = np.unique(treatments, return_inverse=True)[1]
    replicate = ~(replicate_correlations(values, codes, limits["replicates"]) < limits["correlation"])
    kept = replicate.copy()
    kept[replicate] = ~repeating_columns(values[:, replicate], limits["repeating"])
    note = (
        f"{int(kept.sum())} of {len(kept)} measurements are kept: {int((~replicate).sum())} correlate below {limits['correlation']} "
        f"between replicates, and {int(replicate.sum() - kept.sum())} of the others above {limits['repeating']} with another."
    )
    return kept, note
