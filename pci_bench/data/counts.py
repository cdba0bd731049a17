"""How many cells, images, proteins and classes a dataset has, beside what the paper counts of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.cells import Cells

COLUMNS = {"images": "image", "proteins": "protein", "classes": "label"}


def counts(obs: pd.DataFrame) -> dict[str, int]:
    """Return the numbers of cells, images, proteins and classes in a table of cells; missing values are none of them.

    Examples
    --------
    >>> import pandas as pd
    >>> counts(pd.DataFrame({"cell": ["a", "b", "c"], "image": ["i", "i", None], "protein": ["P", "P", "Q"]}))
    {'cells': 3, 'images': 1, 'proteins': 2, 'classes': 0}
    """
    totals = {"cells": len(obs)}
    for what, column in COLUMNS.items():
        values = obs[column].astype("string").fillna("") if column in obs else None
        totals[what] = 0 if values is None else int(values[values != ""].nunique())
    return totals


def beside_the_papers(name: str, obs: pd.DataFrame, paper: Mapping[str, int]) -> str:
    """Return what was found and what the paper counts, as a sentence; "" where the paper counts nothing.

    Examples
    --------
    >>> import pandas as pd
    >>> beside_the_papers("x", pd.DataFrame({"cell": ["a", "b"], "image": ["i", "i"]}), {"cells": 1000, "images": 1})
    "'x' has 2 cells (the paper: 1,000), 1 images (the paper: 1)."
    """
    totals = counts(obs)
    listed = ", ".join(f"{totals[what]:,} {what} (the paper: {count:,})" for what, count in paper.items())
    return f"'{name}' has {listed}." if listed else ""


def said_of(cells: Cells) -> str:
    """Return the sentence of some cells of a dataset."""
    return beside_the_papers(cells.meta.name, cells.obs, cells.meta.paper)
