"""Weights of trained networks: which there are, where they lie, and whether they fit a dataset.

A file is ``FAMILY@NAME.safetensors``; its header says which channels it was made for and where it came from. Files lie in
this folder (shipped) or in the cache (imported or trained).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import numpy as np

from pci_bench.api.registry import Registry, origin_of
from pci_bench.data.cells import Channel
from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import DEVICES_OF_WINDOWS, atomic_file, cache_folder, escape, finished, sha256_of
from pci_bench.system.foreign import first_fault, json_value, read_tensors

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")
Setting = TypeVar("Setting")
HEADER = "pci_bench"
CARD = (".json", ".png", ".md")  # what a training writes beside its weights
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


def fetched(family: str, name: str) -> Path | None:
    """Return the file of some weights, downloaded now where that is possible and was not done; None where it must be imported.

    A family of which ``weights.toml`` declares no names is downloaded by any name.

    Raises
    ------
    UserError
        Where the download fails.
    """
    file = find(family, name)
    names = declared().get(family)
    if file is None and (family in FETCHERS if names is None else names.get(name, {}).get("fetch")):
        with FETCHERS.code(family, f"on {name}"):
            file = FETCHERS.get(family)(name)
    return file


def how_to_get(family: str, name: str) -> str:
    """Return why weights are not available and the command that gets them."""
    declaration = declared().get(family, {}).get(name)
    if declaration is None:
        return f"there are no weights {family}@{name} here. `pci-bench weights list` shows what there is"
    if "how" in declaration:
        return f"the weights {family}@{name} are not here yet. {declaration['how']}"
    if declaration.get("fetch"):
        return f"the weights {family}@{name} are not downloaded yet. Run `pci-bench weights get {family}@{name}`"
    if "url" not in declaration:
        return f"the shipped weights {family}@{name} are missing from this installation. Install pci-bench again"
    return (
        f"the weights {family}@{name} are not imported yet. Download {declaration['url']}, "
        f"then `pci-bench weights import {declaration['import']} {Path(declaration['url']).name} --name {name}`"
    )


@dataclass(frozen=True)
class WeightsHeader:
    """What a weights file says of itself."""

    family: str
    name: str
    channels: tuple[str, ...]
    config: dict[str, Any]
    source: str
    trained_on: dict[str, str] | None = None


def read_header(file: Path) -> WeightsHeader:
    """Return the description in a weights file, whose tensors are checked; read once as long as size and time stay the same.

    Raises
    ------
    UserError
        Where the file is damaged, in its tensors too, or was not written by pci-bench.
    """
    from pydantic import ValidationError
    from safetensors import SafetensorError

    _check_shipped(file)
    try:
        state = file.stat()
        return _read_header(file, state.st_size, state.st_mtime_ns)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        what = first_fault(error) if isinstance(error, ValidationError) else error
        raise UserError(
            f"{file} is not a weights file of pci-bench, or is damaged ({what}). Delete it and import the weights again."
        ) from error


@lru_cache(maxsize=64)
def _read_header(file: Path, size: int, modified: int) -> WeightsHeader:
    from pydantic import TypeAdapter
    from safetensors import safe_open

    with safe_open(file, framework="numpy") as opened:
        header = json_value((opened.metadata() or {})[HEADER])
        described = TypeAdapter(WeightsHeader).validate_python(header)
        if "sha256" in header:  # older weights have none
            tensors = ((name, opened.get_tensor(name)) for name in opened.keys())  # noqa: SIM118 - it is no mapping
            if header["sha256"] != _digest(header, tensors):
                raise DamagedError("its checksum is not that of what was written")
    return described


def _check_shipped(file: Path) -> None:
    """Raise where shipped weights are not those that ``weights.toml`` declares."""
    if file.parent != folders()[0]:
        return
    family, _, name = file.stem.partition("@")
    declared_sha256 = declared().get(family, {}).get(unquote(name), {}).get("sha256")
    if declared_sha256 not in (None, sha256_of(file)):
        raise UserError(
            f"The shipped weights {file} are damaged: their checksum is not that of weights.toml. Install pci-bench again."
        )


def _digest(header: Mapping[str, Any], tensors: Iterable[tuple[str, np.ndarray]]) -> str:
    """Return a checksum of what a weights file says of itself and of its tensors, in the order of their names."""
    description = {key: value for key, value in header.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name, array in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name} {array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def setting(file: Path, name: str, kind: type[Setting]) -> Setting:
    """Return what a weights file says of one thing its network is constructed with.

    Raises
    ------
    UserError
        Where it does not say it, or says something of another kind.
    """
    value = read_header(file).config.get(name)
    if not isinstance(value, kind):
        raise UserError(
            f"The header of {file} has config.{name} = {str(value)[:40]}; expected a {kind.__name__}. Import the weights again."
        )
    return value


def network_in(file: Path, make: Callable[[], Network]) -> Network:
    """Return a network with the weights of a pci-bench file, floats as float32, ready for evaluation.

    Parameters
    ----------
    file
        The file.
    make
        Constructs the network that the header describes. It is called twice, first without memory: a header that asks for more
        weights than the file has is refused before any are made.

    Raises
    ------
    UserError
        Where the header describes no network, or another one than the file holds.
    """
    import torch

    try:
        state = read_tensors(file)
        with torch.device("meta"):
            expected = {name: tuple(tensor.shape) for name, tensor in make().state_dict().items()}
        held = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if differing := sorted(n for n in {*held, *expected} if held.get(n) != expected.get(n)):
            name = differing[0]
            raise ValueError(
                f"{name} is {held.get(name, 'missing')} in it; expected {expected.get(name, 'no such weights')}"
            )
        network = make()
        network.load_state_dict({n: t.float() if t.is_floating_point() else t for n, t in state.items()})
    except UserError:
        raise
    except (RuntimeError, ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise UserError(
            f"{file} does not hold the network that its header describes ({error}). Import or train the weights again."
        ) from error
    return network.eval()


def unavailable_reason(file: Path, channels: tuple[Channel, ...]) -> str | None:
    """Return why weights cannot run on these channels, or None; weights that name no channels run on any."""
    made_for, given = read_header(file).channels, tuple(c.role for c in channels)
    if made_for in ((), given):
        return None
    return f"the weights {file.stem} were made for the channels {' + '.join(made_for)}, but these crops have {' + '.join(given)}"


def check_declared_channels(family: str, name: str, channels: tuple[str, ...]) -> None:
    """Raise a sentence where a name of ``weights.toml`` is about to be given to weights for other channels."""
    declaration = declared().get(family, {}).get(name)
    if declaration and tuple(declaration["channels"]) != channels:
        raise UserError(
            f"The name {family}@{name} stands for weights with the channels {' + '.join(declaration['channels'])}, "
            f"but this file has {' + '.join(channels)}. Give it another --name."
        )


def save(
    family: str,
    name: str,
    tensors: dict[str, np.ndarray],
    *,
    channels: tuple[str, ...],
    config: dict[str, Any],
    source: str,
    trained_on: dict[str, str] | None = None,
    card: Mapping[str, bytes] | None = None,
) -> Path:
    """Write weights to the cache and return the file.

    All files of one name are replaced together: no card of older weights stays beside new ones.

    Parameters
    ----------
    family, name
        They are used as ``family-output@name``.
    tensors
        The network's state.
    channels
        Channel roles in order, protein first.
    config
        What the network is constructed with.
    source
        Where the weights came from.
    trained_on
        Whose labels they learned: ``{"dataset": name}``, and ``"split"`` where only cells with this value in the column
        ``split`` were training cells. None for weights that saw no labels.
    card
        What a training writes beside them, by suffix.

    Raises
    ------
    UserError
        As `check_free`; weights that are there already may be saved once more.
    """
    from safetensors.numpy import save_file

    file = file_of(family, name)
    header = {"family": family, "name": name, "channels": channels, "config": config, "source": source}
    if trained_on is not None:
        header["trained_on"] = trained_on
    beside = {file.with_suffix(suffix): (card or {}).get(suffix) for suffix in CARD}
    check_name(name)
    header["sha256"] = _digest(header, tensors.items())
    with atomic_file(file, beside) as temporary:
        save_file(tensors, temporary, metadata={HEADER: json.dumps(header)})
        if file.is_file() and card is None and sha256_of(file) == sha256_of(temporary):
            beside.clear()  # the same once more: what stands beside it still belongs to it
        else:
            check_free(family, name)
    return file


def availability() -> dict[tuple[str, str], Path]:
    """Return every weights file there is, by (family, name)."""
    available: dict[tuple[str, str], Path] = {}
    for folder in folders():
        for file in sorted(finished(folder.glob("*.safetensors"))):
            family, _, name = file.stem.partition("@")
            available.setdefault((family, unquote(name)), file)
    return available
