"""``file:PATH``: features that someone else computed, matched to a dataset's cells by name."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.extractor import ExtractorMeta, Precomputed, register_extractor
from pci_bench.data.cells import as_float32
from pci_bench.data.observations import obs_strings
from pci_bench.data.provenance import check_provenance
from pci_bench.errors import UserError
from pci_bench.features.cellprofiler_tables import OBS_OF, is_metadata, with_names
from pci_bench.features.columns import described_columns
from pci_bench.system.files import atomic_file, user_path
from pci_bench.system.foreign import opened_hdf5, read_npz
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from pci_bench.data.cells import Cells

METADATA = ("cell", "image", "field", "protein", "label", "labels", "cell_line", "plate", "split")  # never features
KINDS = (".h5ad", ".parquet", ".csv", ".npz")
PAGE = 4096  # bytes
MAX_REFUSED_BYTES = 2**24  # of one write that is kept in memory where the disk is full


@register_extractor("file", argument="PATH")
class FileFeatures(Precomputed):
    """Features that someone else computed, matched to the dataset's cells by name.

    From an ``.h5ad`` (cells are ``obs_names``), ``.parquet`` or ``.csv`` (a column ``Metadata_cell`` or ``cell``;
    other ``Metadata_*`` columns are ignored), or ``.npz`` (arrays ``X`` and ``cell``, optionally ``names``). Tables of CytoTable
    and pycytominer name a cell by plate, image and object: ``plate1-3-17``.
    """

    def __init__(self, argument: str):
        self.path = user_path(argument, "The features file", text=True)
        self.meta = ExtractorMeta(f"file:{argument}", "1", f"Features of {self.path.name}", roles=())
        self.notes: list[str] = []

    def unavailable_reason(self, cells: Cells) -> str | None:
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
        self.notes = list(adata.uns.get("pci_bench_notes", []))
        rows = {name: row for row, name in enumerate(adata.obs_names)}
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
    if adata.X is None:
        raise UserError(
            f"{path} has no X. It holds in obsm: {', '.join(adata.obsm) or 'nothing'}. Evaluate one of these with --obsm NAME."
        )
    finite = np.isfinite(np.asarray(adata.X))
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise UserError(
            f"{path} holds NaN or infinite values, first for cell '{adata.obs_names[row]}' in '{adata.var_names[column]}'. "
            "Leave out such cells or columns."
        )


def read_features(path: Path) -> AnnData:
    """Return a features file as AnnData: ``X`` (n, d) float32 or None, cells as ``obs_names``, metadata in ``obs``.

    ``uns["pci_bench_notes"]`` says what of the file is not used, where there is such.

    Raises
    ------
    UserError
        Where the file is absent, of another kind, damaged, does not say which row is which cell, names a cell twice, or holds
        values that are no numbers or that float32 cannot hold.
    """
    if not path.is_file():
        raise UserError(f"There is no features file {path}. Expected one of {', '.join(KINDS)}.")
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise UserError(f"{path} ends in '{kind}'; features are read from {', '.join(KINDS)}.")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Observation names are not unique")  # an error of our own, below
            adata = _READERS[kind](path)
    except UserError:
        raise
    except Exception as error:  # each format's reader raises its own kinds
        raise_shortage(error)
        raise UserError(
            f"{path} cannot be read as {kind} features: it is truncated or of another kind ({error})."
        ) from error
    if (twice := adata.obs_names[adata.obs_names.duplicated()]).size:
        raise UserError(
            f"{path} names a cell twice, for example '{twice[0]}' ({twice.size:,} such rows). Keep one row per cell."
        )
    return adata


def _from_h5ad(path: Path) -> AnnData:
    import anndata

    with opened_hdf5(path):  # checked, before anything of it is read
        adata = anndata.read_h5ad(path)
    if adata.X is None:  # it may hold nothing but embeddings, in obsm
        return adata
    values = adata.X.toarray() if hasattr(adata.X, "toarray") else np.asarray(adata.X)
    adata.X = as_float32(values, str(path))
    check_provenance(adata)
    return adata


def _from_npz(path: Path) -> AnnData:
    import anndata
    import pandas as pd

    arrays = read_npz(path)
    if not {"X", "cell"} <= set(arrays):
        raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}; it needs the arrays X (n, d) and cell (n,).")
    values, cells = arrays["X"], arrays["cell"].astype(str)
    names = arrays["names"].astype(str) if "names" in arrays else [f"x{i}" for i in range(values.shape[-1])]
    labels = {"label": arrays["label"].astype(str)} if "label" in arrays else {}
    if values.ndim != 2 or len(values) != len(cells) or len(names) != values.shape[1]:
        raise UserError(
            f"The arrays of {path} do not fit together: X {values.shape}, cell {cells.shape}, {len(names)} names."
        )
    obs = pd.DataFrame(labels, index=cells)
    return anndata.AnnData(as_float32(values, str(path)), obs=obs, var=pd.DataFrame(index=list(names)))


def _from_parquet(path: Path) -> AnnData:
    import pandas as pd

    return _from_table(path, pd.read_parquet(path))


def _from_csv(path: Path) -> AnnData:
    text = (*METADATA, *(f"Metadata_{column}" for column in METADATA))
    return _from_table(path, read_csv(path, text=text, index=True))


_READERS = {".h5ad": _from_h5ad, ".parquet": _from_parquet, ".csv": _from_csv, ".npz": _from_npz}


def _from_table(path: Path, table: pd.DataFrame) -> AnnData:
    """Return a table as AnnData: ``Metadata_*`` and columns of texts are metadata, the other columns are features."""
    import anndata
    import pandas as pd

    table = table.rename(columns=str)
    if {"cell", "Metadata_cell"} <= set(table.columns):
        raise UserError(f"{path} has both 'cell' and 'Metadata_cell' as columns. Leave one of them out.")
    table = table.rename(columns={"Metadata_cell": "cell"})
    if "cell" not in table:
        named = with_names(table)
        if named is None and table.index.dtype != object:
            raise UserError(
                f"{path} has no column 'Metadata_cell' (or 'cell') that names the cells, nor Metadata_ImageNumber and the number of an "
                "object, as CytoTable writes them, nor Metadata_Plate and Metadata_Well of profiles. Add a column 'Metadata_cell'."
            )
        table = table.rename_axis("cell").reset_index() if named is None else named
    if (nameless := table["cell"].isna()).any():
        raise UserError(
            f"{path} names no cell in {int(nameless.sum()):,} rows, first in row {int(nameless.argmax()) + 1} below the header. "
            "Name the cell, or leave the row out."
        )
    metadata = [c for c in table.columns if is_metadata(c) or c in (*METADATA, *OBS_OF)]
    features = {c: _numbers(path, table, c) for c in table.columns if c not in metadata}
    texts = [c for c, values in features.items() if values is None]
    values = {c: values for c, values in features.items() if values is not None}
    if not values:
        raise UserError(f"{path} has no numeric column besides its metadata.")
    obs = table[[c for c in table.columns if c not in values]].rename(columns=lambda c: c.removeprefix("Metadata_"))
    obs.index = pd.Index(table["cell"].astype(str))
    adata = anndata.AnnData(
        as_float32(pd.DataFrame(values).to_numpy(np.float64, na_value=np.nan), str(path)),
        obs=obs,
        var=described_columns(list(values), (), f"file:{path.name}"),
    )
    if texts:
        adata.uns["pci_bench_notes"] = [
            f"{len(texts):,} columns of {path} hold no number and are metadata, not features: {', '.join(texts)}."
        ]
    return adata


def _numbers(path: Path, table: pd.DataFrame, column: str) -> pd.Series | None:
    """Return a column as numbers, or None where it is clearly metadata: none of its values is a number.

    Raises
    ------
    UserError
        Where some of its values are numbers and some are texts; the first text is named.
    """
    import pandas as pd

    values = table[column]
    if pd.api.types.is_numeric_dtype(values):
        return values
    numbers = [_number(value) for value in values]
    no_number = np.array([number is None for number in numbers])
    if not no_number.any():
        return pd.Series(numbers, index=values.index, dtype=float)
    if no_number.sum() == values.notna().sum():
        return None
    row = int(no_number.argmax())
    raise UserError(
        f"{path} has the text '{values.iloc[row]}' in row {row + 1} below the header (cell '{table['cell'].iloc[row]}') of the column "
        f"'{column}', which otherwise holds numbers. Correct it, or call the column Metadata_{column} if it is no feature."
    )


def _number(value: Any) -> float | None:
    """Return what a text says, if it says a number (``nan`` and ``inf`` too) or is missing (NaN), else None."""
    try:
        return float("nan") if value is None else float(value)
    except (TypeError, ValueError):
        return None


def write_h5ad(adata: AnnData, file: Path) -> None:
    """Write features as ``.h5ad``, with no copy of them in memory."""
    import h5py
    from anndata.io import write_elem

    with _PatientFile(file, "w+") as stream:
        try:
            with h5py.File(stream, "w") as made:
                write_elem(made, "/", adata)
        except Exception:
            stream.check()  # what HDF5 says of a full disk is longer than that it is full
            raise
        stream.check()


class _PatientFile(io.FileIO):
    """A file whose first failure is kept to be asked for, and which looks whole until it is closed.

    HDF5 ends the process where a write fails while it closes, and where it reads other bytes than it wrote: it frees the texts
    that a table held before at the addresses it reads. So what a full disk refuses is kept in memory, by pages, but for large
    blocks: these are the values of an array, and are not read while they are written.
    """

    failure: OSError | None = None

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self._refused: dict[int, bytearray] = {}

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self.failure is not None:
            raise self.failure

    def write(self, content: Any) -> int:
        """Write all of it, or keep what cannot be written."""
        left = memoryview(content).cast("B")
        octets = len(left)
        try:
            while len(left) and self.failure is None:
                left = left[super().write(left) or 0 :]
        except OSError as failure:
            self.failure = failure
        if 0 < len(left) <= MAX_REFUSED_BYTES:
            self._keep(left)
        return octets

    def _keep(self, content: memoryview) -> None:
        """Keep bytes at the file's position, as whole pages."""
        start = self.tell()
        for page in range(start // PAGE, -(-(start + len(content)) // PAGE)):
            if page not in self._refused:
                self.seek(page * PAGE)
                kept = bytearray(PAGE)
                super().readinto(kept)
                self._refused[page] = kept
            first, last = max(start, page * PAGE), min(start + len(content), (page + 1) * PAGE)
            self._refused[page][first - page * PAGE : last - page * PAGE] = content[first - start : last - start]

    def readinto(self, buffer: Any) -> int:
        """Read what was written, or would have been; zeros beyond it."""
        view, start = memoryview(buffer).cast("B"), self.tell()
        got = super().readinto(view) or 0
        if self.failure is None:
            return got
        view[got:] = bytes(len(view) - got)
        for page in self._refused.keys() & set(range(start // PAGE, -(-(start + len(view)) // PAGE))):
            first, last = max(start, page * PAGE), min(start + len(view), (page + 1) * PAGE)
            view[first - start : last - start] = self._refused[page][first - page * PAGE : last - page * PAGE]
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Give it a size."""
        try:
            return super().truncate(size)
        except OSError as failure:
            self.failure = self.failure or failure
            return size or 0


def write_features(adata: AnnData, path: Path) -> None:
    """Write features atomically, in the format that the path's ending names.

    ``.parquet`` and ``.csv`` have one ``Metadata_<column>`` for every obs column (as pycytominer); ``.npz`` has ``X``,
    ``cell``, ``names`` and, where there are labels, ``label``.
    """
    import pandas as pd

    kind = path.suffix.lower()
    with atomic_file(path) as temporary:
        if kind == ".h5ad":
            categorical = adata.copy()
            categorical.strings_to_categoricals()
            write_h5ad(categorical, temporary)
        elif kind == ".npz":
            labels: dict[str, Any] = {"label": obs_strings(adata.obs, "label")} if "label" in adata.obs else {}
            cells, names = adata.obs_names.to_numpy(str), adata.var_names.to_numpy(str)
            np.savez_compressed(temporary, X=np.asarray(adata.X), cell=cells, names=names, **labels)
        else:
            metadata = adata.obs.reset_index(drop=True).add_prefix("Metadata_")
            table = pd.concat([metadata, pd.DataFrame(np.asarray(adata.X), columns=adata.var_names)], axis=1)
            if kind == ".parquet":
                table.to_parquet(temporary, index=False)
            else:
                table.to_csv(temporary, index=False, lineterminator="\n")
