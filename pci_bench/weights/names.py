"""Weights by their names: which there are, where they lie, who imports and who downloads them, and which names can be given."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pci_bench.api.registry import Registry, origin_of
from pci_bench.errors import UserError
from pci_bench.system.files import DEVICES_OF_WINDOWS, cache_folder, escape, finished

NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]*[A-Za-z0-9_+-])?")
MAX_NAME_LENGTH = 100

_overwriting: ContextVar[bool] = ContextVar("overwriting", default=False)

Importer = Callable[[Path, str], tuple[str, tuple[str, ...]]]
Fetcher = Callable[[str], Path]
IMPORTERS: Registry[Importer] = Registry("weights import")
FETCHERS: Registry[Fetcher] = Registry("weights source")


def register_importer(kind: str) -> Callable[[Importer], Importer]:
    """Return a decorator for a function of (file, name) that saves someone else's weights and returns (FAMILY@NAME, channel roles).

    Examples
    --------
    >>> @register_importer("my-format")
    ... def from_my_format(file, name):
    ...     raise UserError(f"{file} is not of my format.")
    """

    def register(function: Importer) -> Importer:
        IMPORTERS.register(kind, function, origin=origin_of(function))
        return function

    return register


def register_fetcher(family: str) -> Callable[[Fetcher], Fetcher]:
    """Return a decorator for a function of a name that downloads ``family@name``, saves it and returns the file.

    It is called for names that ``weights.toml`` declares with ``fetch = true``, and raises UserError where it cannot.

    Examples
    --------
    >>> @register_fetcher("my-network")
    ... def from_my_server(name):
    ...     raise UserError(f"my-network@{name} is not on my server.")
    """

    def register(function: Fetcher) -> Fetcher:
        FETCHERS.register(family, function, origin=origin_of(function))
        return function

    return register


@cache
def declared() -> dict[str, dict[str, dict[str, Any]]]:
    """Return ``weights.toml``: {family: {name: declaration}}."""
    return tomllib.loads(files("pci_bench.weights").joinpath("weights.toml").read_text(encoding="utf-8"))


def declared_at(family: str, name: str) -> str:
    """Return the file and line of ``weights.toml`` that declare some weights."""
    file = files("pci_bench.weights").joinpath("weights.toml")
    lines = file.read_text(encoding="utf-8").splitlines()
    return f"{file}:{next((i for i, line in enumerate(lines, 1) if line.strip() == f'[{family}.{name}]'), 1)}"


def default_name(family: str, dataset: str) -> str | None:
    """Return the name of the weights that a dataset's features use when none are named, or None.

    Of several, the first in ``weights.toml`` that is available; where none is, the first.
    """
    named = {dataset.partition(":")[0], "*"}
    names = [n for n, declaration in declared().get(family, {}).items() if named & set(declaration["default_for"])]
    return next((name for name in names if find(family, name)), names[0] if names else None)


def folders() -> tuple[Path, ...]:
    """Return where weights lie: the package's own folder and the cache."""
    return Path(str(files("pci_bench.weights"))), cache_folder() / "weights"


def file_of(family: str, name: str) -> Path:
    """Return the file in the cache that weights of a name are written to."""
    return cache_folder() / "weights" / f"{escape(f'{family}@{name}')}.safetensors"


def shipped(family: str, name: str) -> Path | None:
    """Return the file of weights that come with the package, or None; such a file is used before one in the cache."""
    file = folders()[0] / f"{escape(f'{family}@{name}')}.safetensors"
    return file if file.is_file() else None


def check_name(name: str) -> None:
    """Raise where a text cannot name weights."""
    if not NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH or name.partition(".")[0].lower() in DEVICES_OF_WINDOWS:
        abbreviated = name if len(name) <= MAX_NAME_LENGTH else f"{name[:40]}…"
        raise UserError(
            f"'{abbreviated}' cannot name weights: use letters, digits, dots and dashes, {MAX_NAME_LENGTH} characters at most, with a "
            "letter or digit first, and no name that Windows keeps for a device. Give another --name."
        )


def legal_name(text: str) -> str:
    """Return a name for weights that is as near to a text as the rules allow: ``"My cells (2)"`` gives ``"My-cells-2"``."""
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-._+")[:MAX_NAME_LENGTH].strip("-._+")
    try:
        check_name(name)
    except UserError:
        name = f"weights-{hashlib.sha256(text.encode(errors='surrogateescape')).hexdigest()[:8]}"
    return name


def check_free(family: str, name: str) -> None:
    """Raise where weights of a name would replace others, or never be used; within `overwriting`, only for a wrong name.

    Raises
    ------
    UserError
        For a name that cannot be, that shipped weights have, or that is there already.
    """
    check_name(name)
    if _overwriting.get():
        return
    if shipped(family, name):
        raise UserError(
            f"{family}@{name} is the name of weights that come with pci-bench, which are always used in place of others of "
            "that name. Give another --name, or make a file to be copied into the package by --overwrite."
        )
    if (file := file_of(family, name)).exists():
        raise UserError(
            f"There are weights {family}@{name} already: {file}. Give another --name, or replace them, with their card, by --overwrite."
        )


def check_declared_channels(family: str, name: str, channels: tuple[str, ...]) -> None:
    """Raise a sentence where a name of ``weights.toml`` is about to be given to weights for other channels."""
    declaration = declared().get(family, {}).get(name)
    if declaration and tuple(declaration["channels"]) != channels:
        raise UserError(
            f"The name {family}@{name} stands for weights with the channels {' + '.join(declaration['channels'])}, "
            f"but this file has {' + '.join(channels)}. Give it another --name."
        )


@contextmanager
def overwriting(allowed: bool = True) -> Iterator[None]:
    """Let weights that are saved within the block replace those of the same name."""
    token = _overwriting.set(allowed)
    try:
        yield
    finally:
        _overwriting.reset(token)


def find(family: str, name: str) -> Path | None:
    """Return the file of some weights, or None where it is not available."""
    for folder in folders():
        if (file := folder / f"{escape(f'{family}@{name}')}.safetensors").is_file():
            return file
    return None


def availability() -> dict[tuple[str, str], Path]:
    """Return every weights file there is, by (family, name)."""
    available: dict[tuple[str, str], Path] = {}
    for folder in folders():
        for file in sorted(finished(folder.glob("*.safetensors"))):
            family, _, name = file.stem.partition("@")
            available.setdefault((family, unquote(name)), file)
    return available
