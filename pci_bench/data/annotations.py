"""What is known of proteins, joined onto cells from a table: localization terms, cell lines, ontology terms."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd

from pci_bench.data.cells import Cells, validated_obs
from pci_bench.data.observations import obs_strings
from pci_bench.errors import UserError

KEYS = ("protein", "cell_line")
VALUES = {
    "label": "the one localization, empty where there are several",
    "labels": "all localizations, joined by ;",
    "go": "terms of an ontology, joined by ;",
    "variability": "anything, where the protein varies from cell to cell",
}
SYNONYMS = "synonyms"
KNOWN = (*KEYS, *VALUES, SYNONYMS)
N_EXAMPLES = 3


def annotate(cells: Cells, file: Path | str) -> Cells:
    """Return the same cells with the columns of a table of proteins; `notes` say what did not match.

    Parameters
    ----------
    cells
        With the obs column ``protein``.
    file
        CSV, or TSV, with the column ``protein`` and any of ``label``, ``labels`` (joined by ``;``), ``go`` (terms of an
        ontology, joined by ``;``), ``variability`` (anything, where the protein is known to vary from cell to cell, as the
        columns "Single-cell variation" of the Human Protein Atlas), ``synonyms`` (other names of the protein, joined by ``;``) and
        ``cell_line``. A protein that no row names is found by a synonym that belongs to one protein only. Where the cells have cell lines, a row with one is about the protein in
        this cell line; where they have none, it says the protein's. A column of the table takes the place of the cells'
        own; cells of which it says nothing then have none.

    Raises
    ------
    UserError
        Where the file cannot be read, has unknown columns or no values, says different things of one protein, or matches no
        protein.
    """
    file = Path(file)
    obs = cells.obs
    table = _read(file)
    known_lines = "cell_line" in obs and (obs_strings(obs, "cell_line") != "").any()
    keys = [k for k in KEYS if k in table and (k == "protein" or known_lines)]
    values = [c for c in KNOWN if c in table and c not in (*keys, SYNONYMS)]
    if not values:
        raise UserError(
            f"{file} has the columns {', '.join(table.columns)}, and nothing to join: expected any of "
            f"{', '.join(c for c in KNOWN if c not in (*keys, SYNONYMS))} beside them."
        )
    if "protein" not in obs:
        raise UserError(
            f"The cells of {cells.meta.name} name no proteins (column 'protein'), so {file} cannot be joined."
        )
    blank = table["protein"] == ""
    rows = table[~blank]
    once = rows.drop_duplicates()
    conflicting = once[once.duplicated(keys, keep=False)]
    if len(conflicting):
        first = conflicting[(conflicting[keys] == conflicting[keys].iloc[0]).all(axis=1)]
        column = next(c for c in (*values, SYNONYMS) if c in first and first[c].nunique() > 1)
        differing = " and ".join(f"'{v}'" for v in first[column].unique()[:2])
        raise UserError(
            f"{file} says different things of {' in '.join(first[keys].iloc[0])}: {column} is {differing}. Keep one row "
            f"for each {' and '.join(keys)}; several terms of one protein are joined by ';'."
        )
    if "labels" in values and "label" not in values:  # else the two columns would be of different origin
        once = once.assign(label=[t if ";" not in t else "" for t in once["labels"]])
        values = ["label", *values]
    wanted = pd.MultiIndex.from_arrays([obs_strings(obs, k) for k in keys])
    given = pd.MultiIndex.from_frame(once[keys])
    names = _by_synonym(once)
    proteins = np.array([names.get(p, p) for p in obs_strings(obs, "protein")], dtype=object)
    current = pd.MultiIndex.from_arrays([proteins, *(obs_strings(obs, k) for k in keys[1:])])
    position = given.get_indexer(current)
    position[(obs_strings(obs, "protein") == "")] = -1
    if not (position >= 0).any():
        raise UserError(
            f"No row of {file} (for example '{' in '.join(once[keys].iloc[0]) if len(once) else ''}') is about a protein of "
            f"{cells.meta.name} (for example '{' in '.join(map(str, wanted[0]))}'). Compare the names."
        )
    joined = {c: np.where(position >= 0, once[c].to_numpy(str)[position], "") for c in values}
    new = obs.assign(**{c: pd.Series(v, index=obs.index).mask(v == "", pd.NA) for c, v in joined.items()})
    notes = _notes(file, cells.meta.name, keys, values, once, position, wanted, len(rows) - len(once), int(blank.sum()))
    return cells.with_obs(validated_obs(new, cells.meta.name), notes)


def _by_synonym(table: pd.DataFrame) -> dict[str, str]:
    """Return the protein that a name is a synonym of, for names that are no protein's own and of one protein only."""
    if SYNONYMS not in table:
        return {}
    proteins: dict[str, set[str]] = {}
    for protein, synonyms in zip(table["protein"], table[SYNONYMS], strict=True):
        for synonym in filter(None, (text.strip() for text in synonyms.split(";"))):
            proteins.setdefault(synonym, set()).add(protein)
    own = set(table["protein"])
    return {s: next(iter(found)) for s, found in proteins.items() if len(found) == 1 and s not in own}


def _read(file: Path) -> pd.DataFrame:
    """Return the table as stripped texts, its columns checked."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as a table of annotations ({error}). Check the path.") from error
    header = text.partition("\n")[0]
    separator = "\t" if "\t" in header else ","
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=separator) if any(line)]
    except csv.Error as error:
        raise UserError(f"{file} cannot be read as a table of annotations ({error}).") from error
    columns = [c.strip() for c in lines[0]] if lines else []
    expected = f"The known columns are {', '.join(f'{c} ({VALUES[c]})' if c in VALUES else c for c in KNOWN)}."
    if "protein" not in columns:
        raise UserError(f"{file} has no column 'protein'; it has {', '.join(columns) or 'no columns'}. {expected}")
    if unknown := [c for c in columns if c not in KNOWN]:
        raise UserError(f"{file} has unknown columns: {', '.join(unknown)}. {expected} Rename or remove the others.")
    if twice := [c for c in columns if columns.count(c) > 1]:
        raise UserError(f"{file} has the column '{twice[0]}' twice. Keep one.")
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(columns):
            raise UserError(
                f"{file} has {len(line)} fields in row {number} and {len(columns)} columns. Correct the row."
            )
    return pd.DataFrame([[field.strip() for field in line] for line in lines[1:]], columns=columns, dtype=str)


def _notes(
    file: Path,
    dataset: str,
    keys: list[str],
    values: list[str],
    once: pd.DataFrame,
    position: np.ndarray,
    wanted: pd.MultiIndex,
    duplicates: int,
    nameless: int,
) -> tuple[str, ...]:
    """Return what was joined and what did not match, as sentences."""

    def some(names: list[str]) -> str:
        return f"for example {', '.join(names[:N_EXAMPLES])}"

    used = np.unique(position[position >= 0])
    unused = [" in ".join(row) for row in once[keys].drop(index=once.index[used]).to_numpy()]
    bare = sorted({" in ".join(key) for key in wanted[position < 0]})
    what = "proteins" if keys == ["protein"] else "proteins in cell lines"
    notes = [
        f"Annotations of {file.name}: {', '.join(values)} of {len(used):,} {what}, {(position >= 0).sum():,} of "
        f"{len(position):,} cells of {dataset}."
    ]
    if unused:
        notes.append(f"{len(unused):,} rows of {file.name} match no cell, {some(unused)}.")
    if bare:
        notes.append(f"{len(bare):,} {what} of {dataset} have no row in {file.name}, {some(bare)}.")
    if duplicates:
        notes.append(f"{duplicates:,} rows of {file.name} repeat another and were left out.")
    if nameless:
        notes.append(f"{nameless:,} rows of {file.name} name no protein and were left out.")
    return tuple(notes)
