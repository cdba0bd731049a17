"""Labels and annotations of a CSV file, joined to cells by named columns."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pci_bench.acquisition.layout import Labels
from pci_bench.errors import UserError
from pci_bench.system.tabular import read_csv

N_EXAMPLES = 3


def join_labels(obs: pd.DataFrame, labels: Labels, folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return the table of cells with the columns of a CSV file, and sentences that count what did not match on either side.

    Parameters
    ----------
    obs
        One row per cell.
    labels
        The file, and the columns that it is joined by.
    folder
        Where the file's name starts.

    Raises
    ------
    UserError
        Where the file cannot be read, lacks a column or names one that the cells have already, says two things of one key,
        or matches no cell.
    """
    file = folder / labels.file
    on = list(labels.on)
    try:
        table = read_csv(file, text=on)
    except OSError as error:
        raise UserError(f"The table of labels {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The table of labels {file} is no table that can be read: {error}.") from error
    columns = [c for c in table.columns if c not in on] if labels.columns is None else list(labels.columns)
    for column in (*on, *columns):
        if column not in table:
            raise UserError(f"{file} has no column '{column}'. Its columns are {', '.join(map(str, table.columns))}.")
    for column in on:
        if column not in obs:
            raise UserError(f"[labels] on names '{column}', but the cells' columns are {', '.join(obs.columns)}.")
    if clash := [column for column in columns if column in obs]:
        raise UserError(
            f"{file} has a column '{clash[0]}', which the cells have already. Leave it out by [labels] columns, or rename it."
        )
    if (twice := table.duplicated(on)).any():
        row = int(twice.to_numpy().argmax())
        key = ", ".join(f"{c} {v}" for c, v in table.loc[row, on].items())
        raise UserError(f"{file}, line {row + 2}: {key} is there twice. Keep one row for each {' and '.join(on)}.")
    wanted = pd.MultiIndex.from_arrays([obs[c].astype(str) for c in on])
    given = pd.MultiIndex.from_arrays([table[c].astype(str) for c in on])
    position = given.get_indexer(wanted)
    matched = position >= 0
    if not matched.any():
        raise UserError(
            f"No row of {file} (for example {_key(on, given[0]) if len(given) else 'none'}) is about any cell (for example "
            f"{_key(on, wanted[0])}). Compare how {' and '.join(on)} are written."
        )
    values = table[columns].iloc[position.clip(0)].reset_index(drop=True)
    values[~matched] = pd.NA
    joined = pd.concat([obs.reset_index(drop=True), values], axis=1)
    notes = []
    if not matched.all():
        keys = wanted[~matched].unique()
        notes.append(
            f"{int((~matched).sum()):,} of {len(obs):,} cells have no row in {file.name}: {_examples(on, keys)}."
        )
    unused = given[~given.isin(wanted)]
    if len(unused):
        notes.append(
            f"{len(unused):,} of {len(table):,} rows of {file.name} are about no cell: {_examples(on, unused)}."
        )
    return joined, notes


def _key(on: list[str], key: object) -> str:
    values = key if isinstance(key, tuple) else (key,)
    return ", ".join(f"{column} {value}" for column, value in zip(on, values, strict=True))


def _examples(on: list[str], keys: pd.Index) -> str:
    texts = [_key(on, key) for key in keys[:N_EXAMPLES]]
    return f"{'; '.join(texts)}{f' and {len(keys) - N_EXAMPLES:,} more' if len(keys) > N_EXAMPLES else ''}"
