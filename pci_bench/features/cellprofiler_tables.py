"""Tables of CellProfiler's measurements as CytoTable and pycytominer write them: which columns name a cell, and which describe it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Numbers that say which object a row is of, and are no measurements of it; also where no prefix says that they are metadata.
IDENTIFIER = re.compile(r"(Cells|Cytoplasm|Nuclei)_(Number_Object_Number|ObjectNumber|Parent_\w+)")
IMAGE_METADATA = re.compile(
    r"Image_(Metadata|FileName|PathName|URL|MD5Digest|Frame|Series|TableNumber|ImageNumber)(_.*)?"
)
OBS_OF = {  # the names that evaluators and plots know them by
    "plate": ("Metadata_Plate", "Image_Metadata_Plate"),
    "well": ("Metadata_Well", "Image_Metadata_Well"),
    "site": ("Metadata_Site", "Image_Metadata_Site", "Image_Metadata_FieldID"),
}
TABLE = ("Metadata_TableNumber", "Metadata_Image_TableNumber")
IMAGE = ("Metadata_ImageNumber", "Metadata_Cells_ImageNumber", "Metadata_Nuclei_ImageNumber")
OBJECT = (
    "Metadata_ObjectNumber",
    "Metadata_Cells_Number_Object_Number",
    "Metadata_Cells_ObjectNumber",
    "Metadata_Nuclei_Number_Object_Number",
    "Metadata_Nuclei_ObjectNumber",
    "Metadata_Cytoplasm_Parent_Cells",
    "Metadata_Cytoplasm_Parent_Nuclei",
)


def is_metadata(column: str) -> bool:
    """Return whether a column of such a table says what a row is of, and measures nothing.

    >>> [c for c in ("Nuclei_Parent_Cells", "Image_FileName_DNA", "Nuclei_AreaShape_Area") if is_metadata(c)]
    ['Nuclei_Parent_Cells', 'Image_FileName_DNA']
    """
    return column.startswith("Metadata_") or bool(IDENTIFIER.fullmatch(column) or IMAGE_METADATA.fullmatch(column))


def with_names(table: pd.DataFrame) -> pd.DataFrame | None:
    """Return a table with a column ``cell``, and ``image``, ``plate``, ``well`` and ``site`` where known, or None.

    A cell's name is made of its plate, image and object (``plate1-3-17``), that of a well's profile of plate and well. Of
    images, which are counted anew for every plate, too. None is returned where the columns name neither.
    """
    described = table.copy(deep=False)
    for name, columns in OBS_OF.items():
        if (column := _first(table, columns)) and name not in table and f"Metadata_{name}" not in table:
            described[name] = table[column].astype("string")
    plate = ["plate"] if "plate" in described else []
    image, thing = _first(table, IMAGE), _first(table, OBJECT)
    if image is not None and thing is not None:
        of_image = [*plate, *filter(None, [_first(table, TABLE)]), image]
        described["cell"] = _joined(described, [*of_image, thing])
        if "image" not in table and "Metadata_image" not in table:
            described["image"] = _joined(described, of_image)
        return described
    if plate and "well" in described and thing is None:
        described["cell"] = _joined(described, [*plate, "well"])
        return described
    return None


def _first(table: pd.DataFrame, columns: Iterable[str]) -> str | None:
    return next((c for c in columns if c in table), None)


def _joined(table: pd.DataFrame, columns: list[str]) -> pd.Series:
    """Return the texts of some columns, joined by hyphens; whole numbers have no decimals, and where one is missing, all is."""
    texts = [_texts(table[column]) for column in columns]
    joined = texts[0]
    for text in texts[1:]:
        joined = joined + "-" + text
    return joined


def _texts(values: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_float_dtype(values) and (values.dropna() % 1 == 0).all():
        values = values.astype("Int64")
    return values.astype("string")
