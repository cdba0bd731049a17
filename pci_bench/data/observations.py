"""Columns of a table of cells as arrays: texts, and the groups that an exclusion names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.provenance import DatasetProvenance

if TYPE_CHECKING:
    import pandas as pd


def obs_strings(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Return an obs column as (n,) str, "" where missing or absent."""
    if column not in obs:
        return np.full(len(obs), "")
    return obs[column].astype("string").fillna("").to_numpy(str)


def resolve_exclude(exclude: str, dataset: DatasetProvenance) -> str:
    """Return the obs column that `exclude` stands for: ``confounder`` is the dataset's declared one (``""`` if none).

    Columns joined by ``+`` are resolved one by one.

    >>> resolve_exclude("confounder", DatasetProvenance("mine", confounder="plate")), resolve_exclude("cell", DatasetProvenance())
    ('plate', 'cell')
    >>> resolve_exclude("compound+confounder", DatasetProvenance("mine", confounder="plate"))
    'compound+plate'
    """
    columns = [dataset.confounder if column == "confounder" else column for column in exclude.split("+")]
    return "+".join(columns) if all(columns) else ""


def exclusion_columns(obs: pd.DataFrame, exclude: str) -> list[str]:
    """Return the obs columns that an exclusion names: the one of this name, or those that it joins by ``+``.

    >>> import pandas as pd
    >>> exclusion_columns(pd.DataFrame({"compound": ["a"], "batch": ["1"]}), "compound+batch")
    ['compound', 'batch']
    """
    return [exclude] if exclude in obs else exclude.split("+")


def obs_codes(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Return a number for each value of an obs column (n,) int, in the order of the values; −1 where missing or empty."""
    import pandas as pd

    codes, values = pd.factorize(obs[column], sort=True)
    empty = (pd.Series(values, dtype="string") == "").to_numpy(bool)
    return np.where(np.append(empty, True)[codes], -1, codes).astype(np.int64)  # −1 is the last place


def exclusion_groups(obs: pd.DataFrame, column: str) -> np.ndarray:
    """Return the groups (n,) int of an obs column; a missing value is a group of its own."""
    if column == "cell" and "cell" not in obs:
        return np.arange(len(obs))
    codes = obs_codes(obs, column)  # sorted: no number may depend on the cells' order
    blank = codes < 0
    codes[blank] = codes.max(initial=0) + 1 + np.arange(blank.sum())
    return codes
