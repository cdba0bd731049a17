"""Files that other people wrote: nothing in them is run, no memory is asked for on their word, nothing outside is read.

What is wrong with a file is a :class:`ValueError` whose text says what and where in the file; who reads it adds the file's
name and what to do.
"""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.errors import UserError
from pci_bench.system.files import finished

if TYPE_CHECKING:
    import h5py
    import numpy as np
    import pydantic
    from torch import Tensor

LARGEST_PLANE = 2**26  # pixels: 8,192 × 8,192
LARGEST_UNWRITTEN = 2**24  # bytes of an HDF5 array of which nothing is in the file

# ---- JSON and TOML


def json_value(text: str) -> Any:
    """Return what a JSON text holds.

    Raises
    ------
    ValueError
        For what Python's reader lets pass or fails on in another way: NaN and infinity, a name that is there twice, nesting
        that is too deep, text that is no Unicode.

    >>> json_value('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            names = [name for name, _ in pairs]
            raise ValueError(f"'{next(n for n in names if names.count(n) > 1)}' is there twice")
        return content

    try:
        value = json.loads(text, object_pairs_hook=once)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be written anywhere
        for path, number in _not_finite(value):
            raise ValueError(f"{path or 'its content'} is {number}, which is no number of JSON")
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def _not_finite(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield where a value is NaN or infinite: Python reads NaN, and 1e999."""
    if isinstance(value, float) and not math.isfinite(value):
        yield path, value
    elif isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _not_finite(item, f"{path}.{key}".strip("."))


def read_json(file: Path) -> Any:
    """Return what a JSON file holds, with or without a byte-order mark; as :func:`json_value`."""
    return json_value(file.read_text(encoding="utf-8-sig"))


def toml_value(text: str) -> dict[str, Any]:
    """Return what a TOML text holds; ValueError where it cannot be read."""
    import tomllib

    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def first_fault(error: pydantic.ValidationError) -> str:
    """Return the first thing that does not fit, by its field: ``dataset.n_cells: Input should be a valid integer``."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"])) or "its content"
    return f"{where}: {first['msg']}"


# ---- sizes


def check_room(what: str, shape: Sequence[int], bytes_each: int) -> None:
    """Raise ValueError where an array would not fit into this machine's memory, before any is asked for."""
    size = bytes_each
    for length in shape:
        size *= int(length)
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 2**40
    if size > memory:
        dimensions = " × ".join(f"{length:,}" for length in shape)
        raise ValueError(
            f"{what} says that it holds {dimensions} values, {size / 2**30:,.0f} GiB; this machine has {memory / 2**30:,.0f}"
        )


def check_plane(shape: Sequence[int], largest: int = LARGEST_PLANE) -> None:
    """Raise ValueError where an image's header names more pixels than any crop, or other plane, has."""
    pixels = 1
    for length in shape:
        pixels *= int(length)
    if pixels > largest:
        raise ValueError(f"its header says {' × '.join(map(str, shape))} pixels; at most {largest:,} are read")


# ---- arrays


def read_npz(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a ``.npz``, none of them of Python objects; ValueError or OSError where it cannot be read."""
    import numpy as np

    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                with archive.open(member) as stream:
                    _check_npy(member.filename, stream, member.file_size)
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, EOFError, RuntimeError, KeyError, TypeError, NotImplementedError, MemoryError) as error:
        raise ValueError(f"it is not a .npz of plain arrays: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError | OSError):
            raise
        raise ValueError(f"it is damaged: {error}") from error  # zlib's and NumPy's own kinds


def _check_npy(name: str, stream: Any, stored: int) -> None:
    """Raise ValueError where an array's header names objects, or more values than the file has."""
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"the array '{name}' is of the format version {version}, which is not read")
    shape, _, dtype = read(stream)
    if dtype.hasobject:
        raise ValueError(f"the array '{name}' holds Python objects, which are never loaded")
    if any(length < 0 for length in shape):
        raise ValueError(f"the array '{name}' says that it has the shape {shape}")
    check_room(f"the array '{name}'", shape, dtype.itemsize)
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > stored:
        raise ValueError(f"the array '{name}' says that it has the shape {shape}, but the file ends before that")


@contextmanager
def opened_hdf5(file: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file that was checked: it refers to no other file, and its arrays fit into memory.

    What is raised inside for a damaged file (OSError, KeyError, RuntimeError) comes out as a ValueError.
    """
    import h5py

    try:
        with h5py.File(file, "r") as opened:
            _check_hdf5(opened)
            yield opened
    except (OSError, KeyError, RuntimeError, MemoryError, RecursionError, UnicodeError) as error:
        raise ValueError(f"it is truncated or of another kind ({error})") from error


def _check_hdf5(opened: h5py.File) -> None:
    import h5py

    seen: set[Any] = set()
    groups: list[tuple[str, Any]] = [("", opened)]
    while groups:
        path, group = groups.pop()
        for name in group:
            where = f"{path}/{name}"
            if isinstance(group.get(name, getlink=True), h5py.ExternalLink):
                raise ValueError(f"'{where}' is a link to another file, which is not followed")
            node = group.get(name)
            if isinstance(node, h5py.Group) and (identity := h5py.h5o.get_info(node.id).addr) not in seen:
                seen.add(identity)
                groups.append((where, node))
            elif isinstance(node, h5py.Dataset):
                if node.external or node.is_virtual:
                    raise ValueError(f"the array '{where}' lies in another file, which is not read")
                check_room(f"the array '{where}'", node.shape or (), node.dtype.itemsize)
                if node.nbytes > LARGEST_UNWRITTEN and not node.id.get_storage_size():
                    raise ValueError(
                        f"the array '{where}' says that it has the shape {node.shape}, but was never written"
                    )


# ---- weights


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a ``.safetensors`` file, else of a file of torch: a state, or a checkpoint that holds one.

    Nothing but tensors and plain values is made (``weights_only``), whatever the file asks for.

    Raises
    ------
    ValueError
        Where the file cannot be read, asks for more than that, or holds no tensors.
    """
    import argparse
    import pickle

    import torch
    from safetensors import SafetensorError

    try:
        if file.suffix.lower() == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(file)
        else:
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    check_room("the archive", [sum(member.file_size for member in archive.infolist())], 1)
            with torch.serialization.safe_globals([argparse.Namespace]):  # training checkpoints keep their arguments
                content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        refused = str(error).partition("GLOBAL ")[2].partition(" ")[0]
        asks = f"it asks for {refused}" if refused else "it holds more than tensors and plain values"
        raise ValueError(f"{asks}, which is not loaded from a file of weights") from error
    except (
        SafetensorError,
        OSError,
        EOFError,
        RuntimeError,
        LookupError,
        TypeError,
        AttributeError,
        MemoryError,
    ) as error:
        raise ValueError(f"it cannot be read as weights: {error}") from error
    except Exception as error:
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"it cannot be read as weights: {type(error).__name__}: {error}") from error
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no tensors by name")
    if others := [name for name in content if not isinstance(name, str)]:
        raise ValueError(f"it has an entry under {str(others[0])[:40]}; expected tensors by name")
    return dict(content)


# ---- folders


def files_within(folder: Path, pattern: str) -> list[Path]:
    """Return the files below a folder whose names fit a pattern, sorted, without those that are being written.

    Raises
    ------
    UserError
        Where the folder holds a link to something outside it: reading it would show what does not belong to the folder.
    """
    root = folder.resolve()
    paths = []
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            if path.is_symlink():
                check_within(root, path)
        paths += [Path(place, name) for name in names if Path(name).match(pattern)]
    return sorted(path for path in finished(paths) if path.is_file())


def check_within(root: Path, path: Path) -> None:
    """Raise a sentence where a path leads out of a folder."""
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links
        inside = False
    if not inside:
        raise UserError(
            f"{path} is a link that leads out of {root}, and is not followed. Put the file itself there, or remove the link."
        )
