"""``profiles:FILE``: a user's own measurements of wells, treatments or proteins, from a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import OBS_COLUMNS, DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.arguments import path_and_options
from pci_bench.system.files import sha256_of, user_path
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from pci_bench.data.store import StoreWriter

OPTIONS = ("label", "confounder", "cell", "image", "protein")
KINDS = (".csv", ".parquet")
PREFIX = "Metadata_"


@register_dataset("profiles", argument="FILE")
class ProfileFile(Dataset):
    """Your own profiles: rows of a ``.csv`` or ``.parquet`` file, as pycytominer writes them: ``Metadata_*`` describes a row, the rest are measurements.

    ``profiles:FILE?label=Metadata_moa&confounder=Metadata_compound`` says which column is the label, and which one rows share for
    other reasons; ``cell``, ``image`` and ``protein`` can be named likewise. Without an option it is the column ``Metadata_label``,
    ``Metadata_cell`` and so on, where there is one; rows are numbered where no column names them, and each is an image of its own.
    """

    def __init__(self, argument: str):
        path, self.options = path_and_options("profiles", argument, OPTIONS)
        self.path: Path = user_path(path, "The table of profiles", absolute=True, text=True)
        confounder = self.options.get("confounder", "").removeprefix(PREFIX) or None
        label = self.options.get("label", "label").removeprefix(PREFIX)
        self.meta = DatasetMeta(
            f"profiles:{argument}", "1", f"Profiles in {self.path.name}", confounder=confounder, label=label
        )

    def unavailable_reason(self) -> str | None:
        """Return a sentence where there is no such file, or another kind of file."""
        if not self.path.is_file():
            return f"there is no file {self.path}. Check the path; a relative one starts at the current folder."
        if self.path.suffix.lower() not in KINDS:
            return f"{self.path} is no table of profiles: expected a file that ends in {' or '.join(KINDS)}."
        return None

    def source_fingerprint(self) -> str:
        """Return the file's content, so that a changed file is read anew."""
        return f"{self.path} {sha256_of(self.path)}" if self.path.is_file() else str(self.path)

    def build(self, store: StoreWriter) -> None:
        """Store the numbers, and the metadata as columns of the table of rows."""
        table = self._read()
        described = [c for c in table.columns if c.startswith(PREFIX)]
        measured = [c for c in table.columns if c not in described]
        for column in measured:
            if table[column].dtype.kind not in "biuf":
                raise UserError(
                    f"The column '{column}' of {self.path} holds texts, for example '{table[column].dropna().iloc[0]}'. Call it "
                    f"{PREFIX}{column} if it describes the rows, or correct it."
                )
        obs = table[described].rename(columns=lambda c: c.removeprefix(PREFIX))
        for name, column in self.options.items():
            if column.removeprefix(PREFIX) not in obs:
                raise UserError(
                    f"{self.path} has no column '{column}' that could be the {name}; its metadata are {', '.join(described) or 'none'}."
                )
            if name != "confounder":
                obs[name] = obs[column.removeprefix(PREFIX)]
        if "cell" not in obs:
            obs["cell"] = [f"row {number}" for number in range(1, len(obs) + 1)]
        if "image" not in obs:
            obs["image"] = obs["cell"]
        for column in obs.columns.intersection(list(OBS_COLUMNS)):
            if column not in ("y", "x"):
                obs[column] = obs[column].astype("string")
        store.write_profiles(obs, table[measured].to_numpy(np.float64), measured)

    def _read(self) -> pd.DataFrame:
        """Return the file's table."""
        import pandas as pd

        try:
            if self.path.suffix.lower() == ".csv":
                return read_csv(self.path, text=[f"{PREFIX}{column}" for column in OBS_COLUMNS])
            return pd.read_parquet(self.path).rename(columns=str)
        except Exception as error:  # each format's reader raises its own kinds
            raise_shortage(error)
            raise UserError(f"{self.path} cannot be read as a table of profiles ({error}).") from error
