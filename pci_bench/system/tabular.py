"""Reading CSV so that no text is taken for a missing value: only an empty field is missing."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def read_csv(file: Path | IO[str], *, text: Iterable[str] = (), index: bool = False) -> pd.DataFrame:
    r"""Return a table in which ``NA``, ``None``, ``null`` and ``nan`` are texts, and numbers are as exact as they were written.

    Parameters
    ----------
    file
        Comma-separated, UTF-8 (with or without a byte-order mark).
    text
        Columns whose values are names, though they may look like numbers: ``01`` is not ``1``.
    index
        Whether the first column may lack a name, as R and pandas write row names.

    Raises
    ------
    ValueError
        Where a column is there twice, or a row has more fields than there are columns.

    >>> table = read_csv(io.StringIO("image,label,score\nw0,NA,1.5\nw1,,\n"))
    >>> table["label"].isna().tolist(), table["score"].tolist()
    ([False, True], [1.5, nan])
    """
    import pandas as pd

    content = file.read_text(encoding="utf-8-sig") if isinstance(file, Path) else file.read()
    try:
        header = next(csv.reader(io.StringIO(content)), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if twice := [name for name in dict.fromkeys(header) if name and header.count(name) > 1]:
        raise ValueError(f"it has the column '{twice[0]}' twice; keep one")
    options: dict[str, Any] = {} if index else {"index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # fields beyond the last column would be left out
        try:
            table: pd.DataFrame = pd.read_csv(
                io.StringIO(content),
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,
                na_values=[""],
                float_precision="round_trip",
                **options,
            )
        except pd.errors.ParserWarning as error:
            raise ValueError("a row has more fields than there are columns") from error
    return table
