"""``file:PATH``: features that someone else computed, matched to a dataset's cells by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.errors import UserError
from pci_bench.features import ExtractorMeta, register_extractor
from pci_bench.foreign import opened_hdf5, read_npz

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.cells import Cells

METADATA = ("cell", "image", "field", "protein", "label", "labels", "cell_line", "plate", "split")  # never features
KINDS = (".h5ad", ".parquet", ".csv", ".npz")


@register_extractor("file", argument="PATH")
class FileFeatures:
    """Features that someone else computed, matched to the dataset's cells by name.

    From an ``.h5ad`` (cells are ``obs_names``), ``.parquet`` or ``.csv`` (a column ``Metadata_cell`` or ``cell``;
    other ``Metadata_*`` columns are ignored), or ``.npz`` (arrays ``X`` and ``cell``, optionally ``names``).
    """

    def __init__(self, argument: str):
        self.path = Path(argument).expanduser()
        self.meta = ExtractorMeta(f"file:{argument}", "1", f"Features of {self.path.name}", roles=())

    def skip(self, cells: Cells) -> str | None:
        """Return None: a wrong file is an error, since the user named it."""
        return None

    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]:
        """Return the values in the cells' order (n, d) and the columns' names.

        Raises
        ------
        UserError
            Where a cell has no row, two rows name one cell, or values are missing.
        """
        adata = read_features(self.path)
        rows = {name: row for row, name in enumerate(adata.obs_names)}
        if len(rows) < adata.n_obs:
            raise UserError(
                f"{self.path} names a cell twice, for example '{adata.obs_names[adata.obs_names.duplicated()][0]}'."
            )
        names = cells.obs["cell"].astype(str)
        missing = [name for name in names if name not in rows]
        if missing:
            raise UserError(
                f"{self.path} has no features for {len(missing):,} of {len(names):,} cells of {cells.meta.name}, for example "
                f"'{missing[0]}' (the file's first is '{next(iter(rows), '')}'). Cells are matched by the dataset's column 'cell'."
            )
        chosen = adata[[rows[name] for name in names]]
        check_finite(chosen, self.path)
        return np.asarray(chosen.X, dtype=np.float32), list(adata.var_names)


def check_finite(adata: AnnData, path: Path) -> None:
    """Raise a sentence that names the first cell and column of a features file whose value is NaN or infinite."""
    finite = np.isfinite(np.asarray(adata.X))
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UserError(
            f"{path} holds NaN or infinite values, first for cell '{adata.obs_names[row]}' in '{adata.var_names[column]}'. "
            "Leave out such cells or columns."
        )


def read_features(path: Path) -> AnnData:
    """Return a features file as AnnData: ``X`` (n, d) float32, cells as ``obs_names``, metadata in ``obs``.

    Raises
    ------
    UserError
        Where the file is absent, of another kind, damaged, or does not say which row is which cell.
    """
    import anndata
    import pandas as pd

    if not path.is_file():
        raise UserError(f"There is no features file {path}. Expected one of {', '.join(KINDS)}.")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"{path} ends in '{kind}'; features are read from {', '.join(KINDS)}.")
    try:
        if kind == ".h5ad":
            with opened_hdf5(path):  # checked, before anything of it is read
                adata = anndata.read_h5ad(path)
            values = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
            adata.X = values.astype(np.float32)
            _check_origin(adata)
            return adata
        if kind == ".npz":
            arrays = read_npz(path)
            if not {"X", "cell"} <= set(arrays):
                raise UserError(
                    f"{path} holds {', '.join(arrays) or 'nothing'}; it needs the arrays X (n, d) and cell (n,)."
                )
            values, cells = arrays["X"], arrays["cell"].astype(str)
            names = arrays["names"].astype(str) if "names" in arrays else [f"x{i}" for i in range(values.shape[-1])]
            labels = {"label": arrays["label"].astype(str)} if "label" in arrays else {}
            if values.ndim != 2 or len(values) != len(cells) or len(names) != values.shape[1]:
                raise UserError(
                    f"The arrays of {path} do not fit together: X {values.shape}, cell {cells.shape}, {len(names)} names."
                )
            obs = pd.DataFrame(labels, index=cells)
            return anndata.AnnData(values.astype(np.float32), obs=obs, var=pd.DataFrame(index=list(names)))
        return _from_table(
            path,
            pd.read_parquet(path)
            if kind == ".parquet"
            else pd.read_csv(path, dtype={"Metadata_cell": str, "cell": str}, float_precision="round_trip"),
        )
    except UserError:
        raise
    except Exception as error:  # each format's reader raises its own kinds
        raise UserError(
            f"{path} cannot be read as {kind} features: it is truncated or of another kind ({error})."
        ) from error


def _check_origin(adata: AnnData) -> None:
    """Raise ValueError where what an ``.h5ad`` says of its origin (``uns["pci_bench"]``) is not as this package writes it."""
    known = adata.uns.get("pci_bench", {})
    if not isinstance(known, Mapping):
        raise ValueError(f"uns['pci_bench'] is a {type(known).__name__}, not a group")
    for part in ("dataset", "features"):
        if not isinstance(known.get(part, {}), Mapping):
            raise ValueError(f"uns['pci_bench']['{part}'] is a {type(known[part]).__name__}, not a group")
        for name, value in known.get(part, {}).items():
            if np.ndim(value) and name not in ("trained_on", "classes"):
                raise ValueError(f"uns['pci_bench']['{part}']['{name}'] is an array; expected one value")


def _from_table(path: Path, table: pd.DataFrame) -> AnnData:
    """Return a table as AnnData: ``Metadata_*`` and text columns are metadata, the other numeric columns are features."""
    import anndata
    import pandas as pd

    table = table.rename(columns=str)
    if {"cell", "Metadata_cell"} <= set(table.columns):
        raise UserError(f"{path} has both 'cell' and 'Metadata_cell' as columns. Leave one of them out.")
    table = table.rename(columns={"Metadata_cell": "cell"})
    if "cell" not in table:
        if table.index.dtype != object:
            raise UserError(f"{path} has no column 'Metadata_cell' (or 'cell') that names the cells.")
        table = table.rename_axis("cell").reset_index()
    metadata = [
        c
        for c in table.columns
        if c.startswith("Metadata_") or c in METADATA or not pd.api.types.is_numeric_dtype(table[c])
    ]
    features = [c for c in table.columns if c not in metadata]
    if not features:
        raise UserError(f"{path} has no numeric column besides its metadata.")
    obs = table[metadata].rename(columns=lambda c: c.removeprefix("Metadata_"))
    obs.index = pd.Index(table["cell"].astype(str))
    return anndata.AnnData(table[features].to_numpy(np.float32), obs=obs, var=pd.DataFrame(index=features))


def write_features(adata: AnnData, path: Path) -> None:
    """Write features in the format that the path's ending names, whole or not at all.

    ``.parquet`` and ``.csv`` have one ``Metadata_<column>`` for every obs column (as pycytominer); ``.npz`` has ``X``,
    ``cell``, ``names`` and, where there are labels, ``label``.
    """
    import pandas as pd

    from pci_bench.files import atomic_file

    kind = path.suffix.lower()
    with atomic_file(path) as temporary:
        if kind == ".h5ad":
            adata.write_h5ad(temporary)
        elif kind == ".npz":
            labels = {"label": adata.obs["label"].astype(str).to_numpy(str)} if "label" in adata.obs else {}
            cells, names = adata.obs_names.to_numpy(str), adata.var_names.to_numpy(str)
            np.savez_compressed(temporary, X=np.asarray(adata.X), cell=cells, names=names, **labels)
        else:
            metadata = adata.obs.reset_index(drop=True).add_prefix("Metadata_")
            table = pd.concat([metadata, pd.DataFrame(np.asarray(adata.X), columns=adata.var_names)], axis=1)
            if kind == ".parquet":
                table.to_parquet(temporary, index=False)
            else:
                table.to_csv(temporary, index=False)
