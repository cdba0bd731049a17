"""The CellProfiler features that were published with the cells of chong2015: what the paper's own CellProfiler row is of."""

import io

import numpy as np

from pci_bench import Cells, ExtractorMeta, Precomputed, UserError, register_extractor
from pci_bench.acquisition.deeploc_hdf5 import cell_name, is_feature
from pci_bench.datasets.chong2015 import Chong2015
from pci_bench.datasets.chong2015_copies import MEASURED, find_copy, measured_columns


@register_extractor("cellprofiler-chong2015")
class PublishedCellProfiler(Precomputed):
    """The columns ``Info`` of the three HDF5 files, or of the table that the authors' script writes beside images, matched by name."""

    meta = ExtractorMeta(
        "cellprofiler-chong2015",
        "1",
        "CellProfiler, published with the cells",
        roles=(),
        groups=("paper",),
        allows_nan=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return that these are other cells, or that the files or their columns are missing; or None."""
        if cells.meta.variant_of == "chong2015":
            place = find_copy("images")
            if place is None or measured_columns(place) is None:
                return (
                    f"there is no {MEASURED} beside the images, as the authors' script writes it; the mirror has none"
                )
            return None
        if cells.meta.name.partition(":")[0] != "chong2015":
            return f"it was published for chong2015 only; the feature set cellprofiler measures the crops of {cells.meta.name}"
        dataset = Chong2015()
        if reason := dataset.unavailable_reason():
            return f"it is read from the files of chong2015, and {reason.rstrip('.')}"
        for file in dataset.files():
            if not any(map(is_feature, file.info_columns())):
                return (
                    f"{file.path} holds no named CellProfiler columns: expected Info1 and, as an attribute or an array, the names "
                    "Info1_columns. The feature set cellprofiler measures the crops instead"
                )
        return None

    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]:
        """Return the values in the cells' order (n, d) float32, NaN where the files hold no number, and the columns' names.

        Raises
        ------
        UserError
            Where the files hold other columns than each other, or lack a cell.
        """
        if cells.meta.variant_of:
            return _beside_images(cells)
        first, *others = Chong2015().files()
        names = [name for name in first.info_columns() if is_feature(name)]
        for file in others:
            columns = file.info_columns()
            if lacking := [name for name in names if name not in columns]:
                raise UserError(
                    f"{file.path} lacks {len(lacking):,} of the {len(names):,} CellProfiler columns of {first.path}, for example "
                    f"'{lacking[0]}'. Expected the same columns of Info in all three files; fetch them again."
                )
        values = {file.split: file.info(names) for file in (first, *others)}
        rows = {cell_name(split, row): (split, row) for split, of_file in values.items() for row in range(len(of_file))}
        features = []
        for cell in cells.obs["cell"]:
            if cell not in rows:
                raise UserError(
                    f"The files of chong2015 have no cell '{cell}', so they are not those that the crops were read from. "
                    "Load the dataset anew."
                )
            split, row = rows[cell]
            features.append(values[split][row])
        return np.array(features, dtype=np.float32).reshape(len(features), len(names)), names


def _beside_images(cells: Cells) -> tuple[np.ndarray, list[str]]:
    """Return the values of the table beside the images, in the cells' order, NaN where it holds no number, and their names."""
    import pandas as pd

    place = find_copy("images")
    assert place is not None
    table = pd.read_csv(io.StringIO(measured_columns(place)), sep="\t", index_col=False, dtype=str)
    names = [
        name for name in table.columns if name != "CellID" and is_feature(name) and not name.startswith("Unnamed:")
    ]
    if "CellID" not in table or not names or table["CellID"].duplicated().any():
        raise UserError(
            f"{MEASURED} beside the images in {place} holds no measurements by cell: expected one row per cell, the column CellID and "
            "CellProfiler's columns, separated by tabs."
        )
    rows = table.set_index("CellID").reindex(cells.obs["cell"].astype(str))
    if (lacking := ~cells.obs["cell"].isin(table["CellID"])).any():
        first = cells.obs["cell"][lacking].iloc[0]
        raise UserError(
            f"{MEASURED} beside the images in {place} has no row for {lacking.sum():,} of {len(cells):,} cells, for example '{first}'. "
            "Unpack the files again."
        )
    values = rows[names].apply(pd.to_numeric, errors="coerce").to_numpy(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan)), names
