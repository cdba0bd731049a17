"""Weights files: what one says of itself, the network in it, and writing one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import numpy as np

from pci_bench.data.cells import Channel
from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import atomic_file, sha256_of
from pci_bench.system.foreign import first_fault, json_value, read_tensors
from pci_bench.weights.names import check_free, check_name, declared, file_of, folders

if TYPE_CHECKING:
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")
Setting = TypeVar("Setting")
HEADER = "pci_bench"
CARD = (".json", ".png", ".md")  # what a training writes beside its weights


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
