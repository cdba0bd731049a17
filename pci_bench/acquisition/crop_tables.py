"""What belongs to a folder of crops beside the pixels: which channels its files are of, and tables of its cells."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pci_bench.acquisition.crop_files import CropFiles
from pci_bench.api.registry import natural_key
from pci_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

MAX_CHANNELS = 8
_TAG = re.compile(r"[_-][A-Za-z0-9]*[A-Za-z][A-Za-z0-9]*$")


def channel_suffixes(names: Sequence[str]) -> tuple[str, ...]:
    """Return what the names of crops end in for each channel: ``("",)`` where every file is a crop of one channel.

    Channels are two to eight endings with a letter, such as ``_ch1``, that every crop has one file of.

    Examples
    --------
    >>> channel_suffixes(["a/1_dna.png", "a/1_actin.png", "b/7_dna.png", "b/7_actin.png"])
    ('_actin', '_dna')
    >>> channel_suffixes(["a/nucleus_01.png", "a/nucleus_02.png"])
    ('',)
    """
    stems = [(PurePosixPath(n).parent, PurePosixPath(n).stem) for n in names]
    tags = [m[0] if (m := _TAG.search(stem)) else "" for _, stem in stems]
    crops: dict[tuple[PurePosixPath, str], set[str]] = {}
    for (parent, stem), tag in zip(stems, tags, strict=True):
        crops.setdefault((parent, stem.removesuffix(tag)), set()).add(tag)
    distinct = set(tags)
    if "" not in distinct and len(distinct) <= MAX_CHANNELS and all(found == distinct for found in crops.values()):
        return tuple(sorted(distinct, key=natural_key))
    return ("",)


def with_cell_table(
    obs: pd.DataFrame, cells: Sequence[CropFiles], table: pd.DataFrame, file: Path
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return obs joined with a table of single cells, and sentences on what did not match.

    Parameters
    ----------
    obs
        One row per cell, with ``cell`` and ``image``; a column that the table has too keeps its values where the table has none.
    cells
        The files of every row.
    table
        A column ``cell`` and any others. A cell is named by its name, with or without the image in front, or by one of its files,
        with or without its ending. Where there is a column ``image``, names are those within an image; of crops that lie in no
        subfolders it says the image.
    file
        The table's file.

    Raises
    ------
    UserError
        For a name that fits several cells, a cell that is named twice, and a table that names no cell at all.
    """
    rows_of: dict[str, set[int]] = {}
    for row, cell in enumerate(cells):
        paths = [PurePosixPath(name) for name in cell.files]
        keys = {obs["cell"].iloc[row], cell.name, *(key for p in paths for key in (p.as_posix(), p.name, p.stem))}
        for key in keys:
            rows_of.setdefault(key, set()).add(row)
    position: dict[int, int] = {}  # row of obs -> row of the table
    unused = []
    images = table["image"] if "image" in table else [None] * len(table)
    for line, (name, image) in enumerate(zip(table["cell"], images, strict=True)):
        found = (rows_of.get(f"{image}/{name}") if isinstance(image, str) else None) or rows_of.get(str(name), set())
        if len(found) > 1:
            example = obs["cell"].iloc[min(found)]
            raise UserError(
                f"The cell '{name}' of {file} fits {len(found)} crops. Name each with its image in front, as '{example}', or in a column 'image'."
            )
        if not found:
            unused.append(name)
            continue
        (row,) = found
        if row in position:
            raise UserError(
                f"{file} has more than one row for the cell '{obs['cell'].iloc[row]}'. Keep one row per cell."
            )
        position[row] = line
    if not position:
        raise UserError(
            f"No cell of {file} (for example '{unused[0] if unused else ''}') is a crop of {file.parent} (for example "
            f"'{obs['cell'].iloc[0]}'). Its column 'cell' holds the names of crops or of their files."
        )
    flat = not any(cell.image for cell in cells)
    matched = table.drop(columns=["cell", *([] if flat or "image" not in table else ["image"])])
    matched = matched.iloc[list(position.values())].set_axis(obs.index[list(position)]).reindex(obs.index)
    for column in matched:
        values = matched[column]
        obs[column] = values.where(values.notna(), obs[column]) if column in obs else values
    notes = []
    if unused:
        notes.append(f"{len(unused)} rows of {file} match no crop, for example '{unused[0]}'.")
    if len(position) < len(obs):
        missing = next(name for row, name in enumerate(obs["cell"]) if row not in position)
        notes.append(
            f"{len(obs) - len(position)} cells of {file.parent} have no row in {file.name}, for example '{missing}'."
        )
    return obs, tuple(notes)
