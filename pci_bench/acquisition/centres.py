"""Centres of cells from tables of other tools, such as CellProfiler's ``Nuclei.csv`` with ``Image.csv``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.acquisition.fields import FieldOfView
from pci_bench.acquisition.layout import ObjectTable
from pci_bench.acquisition.pattern import filled_in
from pci_bench.errors import UserError
from pci_bench.system.tabular import read_csv

if TYPE_CHECKING:
    import pandas as pd

IMAGE_NUMBER = "ImageNumber"  # what CellProfiler joins its tables by


@dataclass(frozen=True)
class Centres:
    """The centres of a table, by the values of its columns that say which field they are of.

    Parameters
    ----------
    on
        Those columns, and the texts with names of a field's parts that they hold.
    by_key
        (n,) numbers and (n, 2) positions (row, column), by the columns' values.
    file
        The table.
    """

    on: Mapping[str, str]
    by_key: Mapping[tuple[str, ...], tuple[np.ndarray, np.ndarray]]
    file: Path

    def check(self, fields: Sequence[FieldOfView]) -> list[str]:
        """Return sentences that count the rows about no field.

        Raises
        ------
        UserError
            Where no row is about any field.
        """
        keys = {self.key(field) for field in fields}
        rows = {key: len(numbers) for key, (numbers, _) in self.by_key.items()}
        elsewhere = [key for key in rows if key not in keys]
        if len(elsewhere) == len(rows):
            example = f"for example {self._said(elsewhere[0])}" if rows else "there is none"
            raise UserError(
                f"No row of {self.file} ({example}) is about any field of view (for example {self._said(self.key(fields[0]))}). "
                "Compare [segment.objects] on with how the table writes it."
            )
        count, total = sum(rows[key] for key in elsewhere), sum(rows.values())
        return (
            [
                f"{count:,} of {total:,} rows of {self.file.name} are about no field of view: {self._said(elsewhere[0])}, for example."
            ]
            if count
            else []
        )

    def _said(self, key: tuple[str, ...]) -> str:
        return ", ".join(f"{column} {value or '(empty)'}" for column, value in zip(self.on, key, strict=True))

    def key(self, field: FieldOfView) -> tuple[str, ...]:
        """Return the values that the rows of a field have."""
        return tuple(
            filled_in(text, {**field.parts, "field": field.name}, f"[segment.objects] on.{column}")
            for column, text in self.on.items()
        )

    def about(self, field: FieldOfView) -> Centres:
        """Return a table of a field's rows alone, for a worker that cuts this field."""
        key = self.key(field)
        return replace(self, by_key={key: self.by_key[key]} if key in self.by_key else {})

    def of(self, field: FieldOfView) -> tuple[np.ndarray, np.ndarray]:
        """Return the numbers (n,) and centres (n, 2) of a field; none where the table has no row of it."""
        return self.by_key.get(self.key(field), (np.zeros(0, int), np.zeros((0, 2))))


def read_centres(table: ObjectTable, folder: Path) -> Centres:
    """Return the centres of a layout's table.

    Parameters
    ----------
    table
        As the layout declares it.
    folder
        Where its files' names start.

    Raises
    ------
    UserError
        Where a file cannot be read, lacks a column, or a coordinate is no number.
    """
    objects = _read(folder / table.file, list(table.on))
    if table.images is not None:
        images = _read(folder / table.images, list(table.on))
        for frame, name in ((objects, table.file), (images, table.images)):
            if IMAGE_NUMBER not in frame:
                raise UserError(
                    f"{folder / name} has no column '{IMAGE_NUMBER}', by which objects and images are joined."
                )
        wanted = [column for column in table.on if column not in objects and column in images]
        if (twice := images[IMAGE_NUMBER].duplicated()).any():
            raise UserError(
                f"{folder / table.images} has the {IMAGE_NUMBER} {images[IMAGE_NUMBER][twice].iloc[0]} twice. Keep one row."
            )
        objects = objects.merge(images[[IMAGE_NUMBER, *wanted]], on=IMAGE_NUMBER, how="left")
    for column in (table.y, table.x, *table.on):
        if column not in objects:
            raise UserError(
                f"{folder / table.file} has no column '{column}'. Its columns are {', '.join(map(str, objects.columns[:12]))}."
            )
    positions = objects[[table.y, table.x]].to_numpy()
    if positions.dtype.kind not in "iuf" or not np.isfinite(positions.astype(float)).all():
        row = next((i for i, p in enumerate(positions) if not _numbers(p)), 0)
        raise UserError(
            f"{folder / table.file}, line {row + 2}: {table.y} and {table.x} are {' and '.join(map(repr, positions[row].tolist()))}; "
            "expected numbers of pixels."
        )
    by_key = {}
    for key, rows in objects.groupby([objects[column].fillna("") for column in table.on], sort=False).indices.items():
        values = key if isinstance(key, tuple) else (key,)
        by_key[tuple(map(str, values))] = (np.arange(1, len(rows) + 1), positions[rows].astype(np.float64))
    return Centres(dict(table.on), by_key, folder / table.file)


def _read(file: Path, text: list[str]) -> pd.DataFrame:
    try:
        return read_csv(file, text=[*text, IMAGE_NUMBER])
    except OSError as error:
        raise UserError(f"The table of centres {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"The table of centres {file} is no table that can be read: {error}.") from error


def _numbers(values: np.ndarray) -> bool:
    try:
        return bool(np.isfinite(values.astype(float)).all())
    except (TypeError, ValueError):
        return False
