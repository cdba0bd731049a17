"""Labels and annotations of a CSV file, joined to cells by named columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.acquisition.layout import Labels
from pci_bench.data.cells import OBS_COLUMNS
from pci_bench.errors import UserError
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    import pandas as pd

N_EXAMPLES = 3


def read_labels(labels: Labels, folder: Path) -> pd.DataFrame:
    """Return the table of a layout's labels, a row for each value of the columns that it is joined by.

    Columns that cells have by convention (``label``, ``protein`` …) are texts, whatever they look like: ``01`` is not ``1``.

    Parameters
    ----------
    labels
        The file, and the columns that it is joined by.
    folder
        Where the file's name starts.

    Raises
    ------
    UserError
        Where the file cannot be read, lacks a column, or says two things of one key.
    """
    file, on = folder / labels.file, list(labels.on)
    try:
        table = read_csv(file, text=[*on, *(c for c in OBS_COLUMNS if c not in ("y", "x"))])
    except OSError as error:
        raise UserError(f"The table of labels {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The table of labels {file} is no table that can be read: {error}.") from error
    for column in (*on, *(labels.columns or ())):
        if column not in table:
            raise UserError(f"{file} has no column '{column}'. Its columns are {', '.join(map(str, table.columns))}.")
    table[on] = table[on].fillna("")
    if (twice := table.duplicated(on)).any():
        row = int(twice.to_numpy().argmax())
        raise UserError(
            f"{file}, line {row + 2}: {_key(on, tuple(table.loc[row, on]))} is there twice. Keep one row for each {' and '.join(on)}."
        )
    return table


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
        As :func:`read_labels`, and where the file names a column that the cells have already, or matches no cell.
    """
    import pandas as pd

    file, on, table = folder / labels.file, list(labels.on), read_labels(labels, folder)
    columns = [c for c in table.columns if c not in on] if labels.columns is None else list(labels.columns)
    if clash := [column for column in columns if column in obs]:
        raise UserError(
            f"{file} has a column '{clash[0]}', which the cells have already. Leave it out by [labels] columns, or rename it."
        )
    wanted = pd.MultiIndex.from_arrays([obs[c].astype(str) for c in on])
    given = pd.MultiIndex.from_arrays([table[c].astype(str) for c in on])
    position = given.get_indexer(wanted)
    matched = position >= 0
    if not matched.any():
        raise UserError(
            f"No row of {file} ({f'for example {_key(on, given[0])}' if len(given) else 'there is none'}) is about any cell (for example "
            f"{_key(on, wanted[0])}). Compare how {' and '.join(on)} {'are' if len(on) > 1 else 'is'} written."
        )
    values = table[columns].reindex(position).reset_index(drop=True)  # nothing where it is -1
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
    return ", ".join(f"{column} {value or '(empty)'}" for column, value in zip(on, values, strict=True))


def _examples(on: list[str], keys: pd.Index) -> str:
    texts = [_key(on, key) for key in keys[:N_EXAMPLES]]
    return f"{'; '.join(texts)}{f' and {len(keys) - N_EXAMPLES:,} more' if len(keys) > N_EXAMPLES else ''}"
