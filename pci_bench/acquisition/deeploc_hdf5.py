"""HDF5 files of DeepLoc's family: their tables, crops and measured columns, checked."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from pci_bench.data.cells import as_float32
from pci_bench.errors import UserError
from pci_bench.system.text import enumerated

INFO = tomllib.loads(files("pci_bench.acquisition").joinpath("deeploc_hdf5.toml").read_text(encoding="utf-8"))

CELLS_PER_BLOCK = 1024


@dataclass(frozen=True)
class FileFormat:
    """What files are expected to hold.

    Parameters
    ----------
    dataset
        What they are read for, for messages.
    channels
        In the order of a row's planes, one after the other.
    crop_shape
        Rows and columns of a plane.
    classes
        The names that the columns of ``Index`` may have; where there are none, any.
    offset
        What is subtracted from every pixel.
    integers
        Whether pixels may be whole numbers, as they are or saved as such.
    remedy
        What to do about a wrong file, as a sentence.

    Examples
    --------
    >>> FileFormat("mine", ("GFP", "RFP"), (64, 64)).row_length
    8192
    """

    dataset: str
    channels: tuple[str, ...]
    crop_shape: tuple[int, int]
    classes: tuple[str, ...] = ()
    offset: float = 0.0
    integers: bool = True
    remedy: str = "Copy it again."

    @property
    def row_length(self) -> int:
        """The number of pixels of a cell."""
        return len(self.channels) * self.crop_shape[0] * self.crop_shape[1]


@dataclass(frozen=True)
class Part:
    """One numbered part of an open file: ``data3``, ``Index3`` and perhaps ``Info3``, each with one row per cell."""

    number: int
    data: Any
    index: Any
    info: Any | None


@dataclass(frozen=True)
class SplitTable:
    """What one file says of its cells, in the order of its parts.

    Parameters
    ----------
    classes
        The name of each cell's class, as in the file.
    identifiers
        By obs column (``image``, ``plate`` …), each cell's value or None; only what all parts of the file hold.
    """

    classes: list[str]
    identifiers: dict[str, list[str | None]]


def cell_name(split: str, row: int) -> str:
    """Return the name of a cell by its row (from 0) in the joined parts of its file: ``train-000001`` is the first.

    It counts the cells of all classes, so a cell has the same name with every class map.
    """
    return f"{split}-{row + 1:06d}"


@dataclass(frozen=True)
class LabelledFile:
    """A file of labelled cells.

    Parameters
    ----------
    split
        What its cells are called by: ``"train"``.
    path
        Where it is.
    form
        What is expected of it.
    """

    split: str
    path: Path
    form: FileFormat

    def table(self) -> SplitTable:
        """Return what a file says of its cells, after checking everything in it but the pixels.

        Raises
        ------
        UserError
            For a file that is truncated, is not HDF5 or lacks a part, and for parts that do not fit each other or what is
            declared.
        """
        classes: list[str] = []
        identifiers: list[dict[str, list[str | None]]] = []
        with self._opened() as file:
            for part in self._parts(file):
                names = self._class_names(file, part)
                with self._readable():
                    values = np.asarray(part.index[:])
                one_hot = np.isin(values, (0, 1)).all(axis=1) & ((values == 1).sum(axis=1) == 1)
                if not one_hot.all():
                    row = int(np.argmin(one_hot))
                    cell = cell_name(self.split, len(classes) + row)
                    raise UserError(
                        f"{(~one_hot).sum():,} of {len(values):,} rows of Index{part.number} in {self.path} are not one-hot. "
                        f"The first is row {row} (counted from 0), of the cell {cell}: {np.count_nonzero(values[row])} of "
                        "its columns are not 0. Expected one 1, in the column of the cell's class, and 0 elsewhere. "
                        f"{self.form.remedy}"
                    )
                classes.extend(names[column] for column in values.argmax(axis=1))
                identifiers.append({} if part.info is None else self._identifiers(file, part))
        shared = [
            column
            for column in INFO["identifiers"]
            if all(column in part_identifiers for part_identifiers in identifiers)
        ]
        return SplitTable(
            classes, {c: [v for part_identifiers in identifiers for v in part_identifiers[c]] for c in shared}
        )

    def crops(self, kept: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the crops (b, channels, rows, columns) float32 of the cells that are kept, in blocks of at most 1,024 cells.

        Parameters
        ----------
        kept
            (n,) bool, one per row of the joined parts.
        """
        start = 0
        with self._opened() as file:
            for part in self._parts(file):
                for first in range(0, len(part.data), CELLS_PER_BLOCK):
                    with self._readable():
                        block = np.asarray(part.data[first : first + CELLS_PER_BLOCK])
                    chosen = kept[start : start + len(block)]
                    start += len(block)
                    if chosen.any():
                        crops = block[chosen].reshape(-1, len(self.form.channels), *self.form.crop_shape)
                        what = f"data{part.number} in {self.path}"
                        yield as_float32(
                            crops - self.form.offset if self.form.offset else crops, what, exact_integers=True
                        )

    def row_length(self) -> int:
        """Return the number of pixels of a cell, whatever is expected."""
        with self._opened() as file:
            data = next((data for data in self._arrays(file)["data"].values() if data.ndim == 2), None)
            if data is None:
                raise UserError(
                    f"{self.path} has no array data1 of the shape (cells, pixels); it holds {enumerated(sorted(file)) or 'nothing'}. "
                    f"{self.form.remedy}"
                )
            return int(data.shape[1])

    def pixels_are(self) -> str:
        """Return what the file says of its pixels, in its own words; "" where it says nothing."""
        with self._opened() as file, self._readable():
            said = file.attrs.get("data1_columns", "")
            return _text(said) or "" if isinstance(said, (bytes, str)) else ""

    def first_pixels(self) -> np.ndarray:
        """Return the pixels (b, pixels) of the first cells, at most 1,024, as they are in the file."""
        with self._opened() as file:
            data = self._parts(file)[0].data
            with self._readable():
                return np.asarray(data[:CELLS_PER_BLOCK])

    def info_columns(self) -> tuple[str, ...]:
        """Return the names of the ``Info`` columns that all parts of a file hold; none where there is no ``Info``, or no names."""
        with self._opened() as file:
            named = [
                self._column_names(file, part.number, "Info", part.info.shape[1]) or ()
                for part in self._parts(file)
                if part.info is not None
            ]
        return tuple(name for name in named[0] if all(name in names for names in named)) if named else ()

    def info(self, columns: Sequence[str]) -> np.ndarray:
        """Return ``Info`` columns by name, one row per cell in the order of the joined parts: (n, d) float32.

        What is no finite number is NaN.

        Raises
        ------
        UserError
            Where two columns of a part have one of the names.
        """
        blocks = []
        with self._opened() as file:
            for part in self._parts(file):
                assert part.info is not None
                names = self._column_names(file, part.number, "Info", part.info.shape[1]) or ()
                if twice := sorted({name for name in columns if names.count(name) > 1}):
                    raise UserError(
                        f"{self.path} names more than one column of Info{part.number} {enumerated(twice)}. {self.form.remedy}"
                    )
                with self._readable():
                    values = np.asarray(part.info[:])[:, [names.index(column) for column in columns]]
                blocks.append(_numbers(values))
        return np.concatenate(blocks)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """Turn what HDF5 raises on a damaged file into a sentence."""
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # HDF5 raises many kinds
            raise UserError(
                f"{self.path} cannot be read: it is truncated or damaged ({error}). {self.form.remedy}"
            ) from error

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        """Yield an open HDF5 file."""
        import h5py

        with self._readable():
            if self.path.is_file() and not h5py.is_hdf5(self.path):
                raise UserError(
                    f"{self.path} is not an HDF5 file (it has {self.path.stat().st_size:,} bytes). {self.form.remedy}"
                )
            file = h5py.File(self.path, "r")
        with file:
            yield file

    def _arrays(self, file: Any) -> dict[str, dict[int, Any]]:
        """Return the arrays of a file by kind and number."""
        import h5py

        arrays: dict[str, dict[int, Any]] = {"data": {}, "Index": {}, "Info": {}}
        with self._readable():
            for key in file:
                matched = re.fullmatch(r"(data|Index|Info)([1-9]\d*)", key)
                if matched and isinstance(file[key], h5py.Dataset):
                    arrays[matched[1]][int(matched[2])] = file[key]
        return arrays

    def _parts(self, file: Any) -> list[Part]:
        """Return the parts of a file in numeric order, their shapes and types checked."""
        arrays = self._arrays(file)
        numbers = range(1, max([1, *(number for numbered in arrays.values() for number in numbered)]) + 1)
        for kind in ("data", "Index", "Info") if arrays["Info"] else ("data", "Index"):
            for number in numbers:
                if number not in arrays[kind]:
                    raise UserError(
                        f"{self.path} has no array {kind}{number}; it holds {enumerated(sorted(file)) or 'nothing'}. Expected "
                        f"data1 and Index1, and the same numbers of data, Index and (if there is any) Info. {self.form.remedy}"
                    )
        parts = [Part(n, arrays["data"][n], arrays["Index"][n], arrays["Info"].get(n)) for n in numbers]
        for part in parts:
            self._check(part)
        return parts

    def _check(self, part: Part) -> None:
        """Raise where the arrays of a part have shapes or types other than declared."""
        data, index = part.data, part.index
        for kind, array in (("data", data), ("Index", index), ("Info", part.info)):
            where = f"{kind}{part.number} in {self.path}"
            if array is None:
                continue
            if array.ndim != 2:
                raise UserError(f"{where} has the shape {array.shape}; expected (cells, columns). {self.form.remedy}")
            if len(array) != len(data):
                raise UserError(
                    f"{where} has {len(array):,} rows, but data{part.number} has {len(data):,}. Expected one row per "
                    f"cell in each. {self.form.remedy}"
                )
        if data.shape[1] != self.form.row_length:
            raise UserError(
                f"data{part.number} in {self.path} has {data.shape[1]:,} columns; expected {self.form.row_length:,}: the "
                f"{self.form.crop_shape[0]}×{self.form.crop_shape[1]} pixels of {' and then of '.join(self.form.channels)}. {self.form.remedy}"
            )
        if data.dtype.kind not in ("fiu" if self.form.integers else "f"):
            expected = "numbers" if self.form.integers else "float32"
            raise UserError(
                f"data{part.number} in {self.path} holds {data.dtype} values; expected {expected}. {self.form.remedy}"
            )
        if index.dtype.kind not in "buif":
            raise UserError(
                f"Index{part.number} in {self.path} holds {index.dtype} values; expected 0 and 1. {self.form.remedy}"
            )

    def _class_names(self, file: Any, part: Part) -> tuple[str, ...]:
        """Return the class of each column of a part's ``Index``: expected names, each once."""
        index = f"Index{part.number}"
        names = self._column_names(file, part.number, "Index", part.index.shape[1])
        if names is None:
            raise UserError(
                f"{self.path} does not name the columns of {index}. Expected {part.index.shape[1]} class names as the attribute "
                f"Index1_columns of the file, or as an array Index1_columns or label_names in it. {self.form.remedy}"
            )
        if unknown := sorted(set(names) - set(self.form.classes or names)):
            raise UserError(
                f"{self.path} names {enumerated(unknown)} among the columns of {index}, which '{self.form.dataset}' does not know. Its "
                f"classes are {enumerated(self.form.classes)}. Rename the column to one of them."
            )
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise UserError(
                f"{self.path} names more than one column of {index} {enumerated(twice)}. Expected each class once. {self.form.remedy}"
            )
        return names

    def _column_names(self, file: Any, number: int, kind: str, columns: int) -> tuple[str, ...] | None:
        """Return the names of a part's columns, from an attribute of the file or an array in it, or None."""
        candidates = [f"{kind}{number}_columns", f"{kind}1_columns", *(["label_names"] if kind == "Index" else [])]
        with self._readable():
            for name in candidates:
                if name in file.attrs or name in file:
                    values = file.attrs[name] if name in file.attrs else file[name][()]
                    names = tuple(_text(value) or "" for value in np.ravel(values))
                    break
            else:
                return None
        if len(names) != columns:
            raise UserError(
                f"{name} in {self.path} gives {len(names):,} names, but {kind}{number} has {columns:,} columns. Expected one "
                f"name per column. {self.form.remedy}"
            )
        return names

    def _identifiers(self, file: Any, part: Part) -> dict[str, list[str | None]]:
        """Return the values of a part's ``Info`` columns that say where its cells came from, by obs column."""
        assert part.info is not None
        columns = [name.lower() for name in self._column_names(file, part.number, "Info", part.info.shape[1]) or ()]
        identifiers = {}
        for column, names in INFO["identifiers"].items():
            if name := next((name.lower() for name in names if name.lower() in columns), None):
                with self._readable():
                    identifiers[column] = [_text(value) for value in part.info[:, columns.index(name)]]
        return identifiers


def is_feature(column: str) -> bool:
    """Return whether an ``Info`` column may be a feature of a cell: it is no number or name of something, no place, no label."""
    identifiers = {name.lower() for names in INFO["identifiers"].values() for name in names}
    return column.lower() not in identifiers and not any(
        re.fullmatch(pattern, part, re.IGNORECASE) for part in column.split("_") for pattern in INFO["not_features"]
    )


def _numbers(values: np.ndarray) -> np.ndarray:
    """Return values of any type as float32, NaN where they are no finite numbers."""
    import pandas as pd

    if values.dtype.kind not in "fiub":
        texts = np.vectorize(_text, otypes=[object])(values) if values.size else values.astype(object)
        numbers = [pd.to_numeric(pd.Series(column, dtype=object), errors="coerce") for column in texts.T]
        values = np.array(numbers, dtype=np.float64).reshape(len(numbers), len(values)).T
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(np.nan))


def _text(value: Any) -> str | None:
    """Return a name or an identifier as text, whole numbers without decimals; None where it is missing."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return None
        value = int(value) if float(value).is_integer() else float(value)
    return str(value).strip("\0 ") or None
