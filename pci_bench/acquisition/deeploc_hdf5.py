"""The three HDF5 files of DeepLoc: their tables, crops and measured columns, checked."""

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

from pci_bench.errors import UserError
from pci_bench.system.text import enumerated

DECLARATION = tomllib.loads(files("pci_bench").joinpath("datasets", "chong2015.toml").read_text(encoding="utf-8"))[
    "chong2015"
]


CROP_SHAPE = (DECLARATION["rows"], DECLARATION["columns"])


PIXELS_PER_CELL = len(DECLARATION["channels"]) * CROP_SHAPE[0] * CROP_SHAPE[1]


CELLS_PER_BLOCK = 1024


FETCH_AGAIN = f"Copy it again, or fetch it from {DECLARATION['url']}."


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


def read_table(path: Path, split: str) -> SplitTable:
    """Return what a file says of its cells, after checking everything in it but the pixels.

    Raises
    ------
    UserError
        For a file that is truncated, is not HDF5 or lacks a part, and for parts that do not fit each other or what is
        declared.
    """
    classes: list[str] = []
    identifiers: list[dict[str, list[str | None]]] = []
    with _opened(path) as file:
        for part in _parts(file, path):
            names = _class_names(file, part, path)
            with _readable(path):
                values = np.asarray(part.index[:])
            one_hot = np.isin(values, (0, 1)).all(axis=1) & ((values == 1).sum(axis=1) == 1)
            if not one_hot.all():
                row = int(np.argmin(one_hot))
                cell = cell_name(split, len(classes) + row)
                raise UserError(
                    f"{(~one_hot).sum():,} of {len(values):,} rows of Index{part.number} in {path} are not one-hot. "
                    f"The first is row {row} (counted from 0), of the cell {cell}: {np.count_nonzero(values[row])} of "
                    "its columns are not 0. Expected one 1, in the column of the cell's class, and 0 elsewhere. "
                    f"{FETCH_AGAIN}"
                )
            classes.extend(names[column] for column in values.argmax(axis=1))
            identifiers.append({} if part.info is None else _identifiers(file, part, path))
    shared = [
        column
        for column in DECLARATION["identifiers"]
        if all(column in part_identifiers for part_identifiers in identifiers)
    ]
    return SplitTable(
        classes, {c: [v for part_identifiers in identifiers for v in part_identifiers[c]] for c in shared}
    )


def read_crops(path: Path, kept: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the crops (b, 2, 64, 64) float32 of the cells that are kept, in blocks of at most 1,024 cells.

    Parameters
    ----------
    path
        One of the three files.
    kept
        (n,) bool, one per row of the joined parts.
    """
    start = 0
    with _opened(path) as file:
        for part in _parts(file, path):
            for first in range(0, len(part.data), CELLS_PER_BLOCK):
                with _readable(path):
                    block = np.asarray(part.data[first : first + CELLS_PER_BLOCK])
                chosen = kept[start : start + len(block)]
                start += len(block)
                if chosen.any():
                    yield (
                        block[chosen]
                        .astype(np.float32, copy=False)
                        .reshape(-1, len(DECLARATION["channels"]), *CROP_SHAPE)
                    )


def info_columns(path: Path) -> tuple[str, ...]:
    """Return the names of the ``Info`` columns that all parts of a file hold; none where there is no ``Info``, or no names."""
    with _opened(path) as file:
        named = [
            _column_names(file, part.number, "Info", part.info.shape[1], path) or ()
            for part in _parts(file, path)
            if part.info is not None
        ]
    return tuple(name for name in named[0] if all(name in names for names in named)) if named else ()


def is_feature(column: str) -> bool:
    """Return whether an ``Info`` column may be a feature of a cell: it is no number or name of something, no place, no label."""
    identifiers = {name.lower() for names in DECLARATION["identifiers"].values() for name in names}
    return column.lower() not in identifiers and not any(
        re.fullmatch(pattern, part, re.IGNORECASE)
        for part in column.split("_")
        for pattern in DECLARATION["info"]["not_features"]
    )


def read_info(path: Path, columns: Sequence[str]) -> np.ndarray:
    """Return ``Info`` columns by name, one row per cell in the order of the joined parts: (n, d) float32.

    What is no finite number is NaN.

    Raises
    ------
    UserError
        Where two columns of a part have one of the names.
    """
    blocks = []
    with _opened(path) as file:
        for part in _parts(file, path):
            assert part.info is not None
            names = _column_names(file, part.number, "Info", part.info.shape[1], path) or ()
            if twice := sorted({name for name in columns if names.count(name) > 1}):
                raise UserError(
                    f"{path} names more than one column of Info{part.number} {enumerated(twice)}. {FETCH_AGAIN}"
                )
            with _readable(path):
                values = np.asarray(part.info[:])[:, [names.index(column) for column in columns]]
            blocks.append(_numbers(values))
    return np.concatenate(blocks)


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


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises on a damaged file into a sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # HDF5 raises many kinds
        raise UserError(f"{path} cannot be read: it is truncated or damaged ({error}). {FETCH_AGAIN}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield an open HDF5 file."""
    import h5py

    with _readable(path):
        if path.is_file() and not h5py.is_hdf5(path):
            raise UserError(f"{path} is not an HDF5 file (it has {path.stat().st_size:,} bytes). {FETCH_AGAIN}")
        file = h5py.File(path, "r")
    with file:
        yield file


def _parts(file: Any, path: Path) -> list[Part]:
    """Return the parts of a file in numeric order, their shapes and types checked."""
    import h5py

    arrays: dict[str, dict[int, Any]] = {"data": {}, "Index": {}, "Info": {}}
    with _readable(path):
        for key in file:
            matched = re.fullmatch(r"(data|Index|Info)([1-9]\d*)", key)
            if matched and isinstance(file[key], h5py.Dataset):
                arrays[matched[1]][int(matched[2])] = file[key]
    numbers = range(1, max([1, *(number for numbered in arrays.values() for number in numbered)]) + 1)
    for kind in ("data", "Index", "Info") if arrays["Info"] else ("data", "Index"):
        for number in numbers:
            if number not in arrays[kind]:
                raise UserError(
                    f"{path} has no array {kind}{number}; it holds {enumerated(sorted(file)) or 'nothing'}. Expected "
                    f"data1 and Index1, and the same numbers of data, Index and (if there is any) Info. {FETCH_AGAIN}"
                )
    parts = [Part(n, arrays["data"][n], arrays["Index"][n], arrays["Info"].get(n)) for n in numbers]
    for part in parts:
        _check(part, path)
    return parts


def _check(part: Part, path: Path) -> None:
    """Raise where the arrays of a part have shapes or types other than declared."""
    data, index = part.data, part.index
    for kind, array in (("data", data), ("Index", index), ("Info", part.info)):
        where = f"{kind}{part.number} in {path}"
        if array is None:
            continue
        if array.ndim != 2:
            raise UserError(f"{where} has the shape {array.shape}; expected (cells, columns). {FETCH_AGAIN}")
        if len(array) != len(data):
            raise UserError(
                f"{where} has {len(array):,} rows, but data{part.number} has {len(data):,}. Expected one row per "
                f"cell in each. {FETCH_AGAIN}"
            )
    if data.shape[1] != PIXELS_PER_CELL:
        raise UserError(
            f"data{part.number} in {path} has {data.shape[1]:,} columns; expected {PIXELS_PER_CELL:,}: the "
            f"{CROP_SHAPE[0]}×{CROP_SHAPE[1]} pixels of {' and then of '.join(DECLARATION['channels'])}. {FETCH_AGAIN}"
        )
    if data.dtype.kind != "f":
        raise UserError(f"data{part.number} in {path} holds {data.dtype} values; expected float32. {FETCH_AGAIN}")
    if index.dtype.kind not in "buif":
        raise UserError(f"Index{part.number} in {path} holds {index.dtype} values; expected 0 and 1. {FETCH_AGAIN}")


def _class_names(file: Any, part: Part, path: Path) -> tuple[str, ...]:
    """Return the class of each column of a part's ``Index``: known names, each once."""
    index, known = f"Index{part.number}", DECLARATION["classes"]
    names = _column_names(file, part.number, "Index", part.index.shape[1], path)
    if names is None:
        raise UserError(
            f"{path} does not name the columns of {index}. Expected {part.index.shape[1]} class names as the attribute "
            f"Index1_columns of the file, or as an array Index1_columns or label_names in it. {FETCH_AGAIN}"
        )
    if unknown := sorted(set(names) - set(known)):
        raise UserError(
            f"{path} names {enumerated(unknown)} among the columns of {index}, which 'chong2015' does not know. Its "
            f"classes are {enumerated(known)}. Rename the column to one of them."
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(
            f"{path} names more than one column of {index} {enumerated(twice)}. Expected each class once. {FETCH_AGAIN}"
        )
    return names


def _column_names(file: Any, number: int, kind: str, columns: int, path: Path) -> tuple[str, ...] | None:
    """Return the names of a part's columns, from an attribute of the file or an array in it, or None."""
    candidates = [f"{kind}{number}_columns", f"{kind}1_columns", *(["label_names"] if kind == "Index" else [])]
    with _readable(path):
        for name in candidates:
            if name in file.attrs or name in file:
                values = file.attrs[name] if name in file.attrs else file[name][()]
                names = tuple(_text(value) or "" for value in np.ravel(values))
                break
        else:
            return None
    if len(names) != columns:
        raise UserError(
            f"{name} in {path} gives {len(names):,} names, but {kind}{number} has {columns:,} columns. Expected one "
            f"name per column. {FETCH_AGAIN}"
        )
    return names


def _identifiers(file: Any, part: Part, path: Path) -> dict[str, list[str | None]]:
    """Return the values of a part's ``Info`` columns that say where its cells came from, by obs column."""
    assert part.info is not None
    columns = [name.lower() for name in _column_names(file, part.number, "Info", part.info.shape[1], path) or ()]
    identifiers = {}
    for column, names in DECLARATION["identifiers"].items():
        if name := next((name.lower() for name in names if name.lower() in columns), None):
            with _readable(path):
                identifiers[column] = [_text(value) for value in part.info[:, columns.index(name)]]
    return identifiers


def _text(value: Any) -> str | None:
    """Return a name or an identifier as text, whole numbers without decimals; None where it is missing."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, (float, np.floating)):
        if not np.isfinite(value):
            return None
        value = int(value) if float(value).is_integer() else float(value)
    return str(value).strip("\0 ") or None
