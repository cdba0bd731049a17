"""Columns of a table of cells as arrays: texts, and the groups that an exclusion names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.provenance import DatasetProvenance

if TYPE_CHECKING:
    import pandas as pd

LEVELS = "levels"  # as an exclusion: one evaluation for each level of strictness
COARSER_LEVELS = "coarser-levels"  # for each but the cell itself

# What cells share, from the finest to the coarsest; other columns are taken to be as fine as images.
COARSENESS = ("cell", "crop", "field", "site", "image", "well", "protein", "compound", "plate", "batch", "replicate", "experiment", "screen", "cell_line", "donor", "laboratory")  # fmt: skip


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


def coarseness(column: str, levels: Sequence[str] = ()) -> int:
    """Return a number that is larger the coarser a column's groups are, by a dataset's levels where it declares them.

    The columns that the levels name take each other's places among the well-known ones, in the order of the levels.

    >>> levels = ("cell", "plate", "protein")
    >>> coarseness("protein") < coarseness("plate"), coarseness("protein", levels) > coarseness("plate", levels)
    (True, True)
    """
    named = [c for c in levels if c in COARSENESS]
    places = sorted(map(COARSENESS.index, named))
    if column in named:
        return places[named.index(column)]
    return COARSENESS.index(column if column in COARSENESS else "image")


def strictness(exclude: str, levels: Sequence[str] = ()) -> tuple[int, int]:
    """Return a key that is larger the stricter an exclusion is, of one column or of several that are joined by ``+``.

    >>> sorted(["plate", "compound+batch", "cell", "compound"], key=strictness)
    ['cell', 'compound', 'plate', 'compound+batch']
    """
    columns = exclude.split("+")
    return max(coarseness(column, levels) for column in columns), len(columns)


def levels_of(obs: pd.DataFrame, dataset: DatasetProvenance) -> tuple[str, ...]:
    """Return the levels of strictness of some cells, the loosest first: the cell itself, then columns whose values it must not share.

    They are the dataset's where it declares them. Else those of the well-known columns, and the confounder, that divide the labelled
    cells: into two groups at least, some class among them not in one group, and in another way than a finer column does.

    >>> import pandas as pd
    >>> obs = pd.DataFrame({"label": list("abab"), "image": list("1234"), "plate": list("xxyy"), "well": list("wwww")})
    >>> levels_of(obs, DatasetProvenance("mine")), levels_of(obs, DatasetProvenance("mine", levels=("cell", "plate")))
    (('cell', 'plate'), ('cell', 'plate'))
    """
    if dataset.levels:
        return dataset.levels
    kept = obs_codes(obs, "label") >= 0 if "label" in obs else np.ones(len(obs), bool)
    labels = obs_codes(obs, "label")[kept] if "label" in obs else np.zeros(len(obs), np.int64)
    known = [*COARSENESS[1:], *({dataset.confounder} - {"", *COARSENESS})]
    levels, partitions = ["cell"], [int(kept.sum())]
    for column in sorted((c for c in known if c in obs), key=coarseness):
        groups = obs_codes(obs, column)[kept]
        if (groups < 0).any():  # a column that is empty for some cells is no level of all
            continue
        count, by_class = len(np.unique(groups)), np.unique(np.stack([labels, groups]), axis=1)
        if count < 2 or count == len(groups) or by_class.shape[1] == len(np.unique(labels)):
            continue
        if count in partitions and any(_same_groups(groups, obs_codes(obs, c)[kept]) for c in levels[1:]):
            continue
        levels.append(column)
        partitions.append(count)
    return tuple(levels)


def _same_groups(groups: np.ndarray, others: np.ndarray) -> bool:
    """Return whether two numberings (n,) int divide cells in the same way."""
    pairs = len(np.unique(np.stack([groups, others]), axis=1).T)
    return pairs == len(np.unique(groups)) and pairs == len(np.unique(others))


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
