"""About how long work takes on this machine, from rates that were measured on another and the two machines' matrix multiplication."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.extractor import EXTRACTORS
from pci_bench.api.plugins import source_of
from pci_bench.features.jobs import Job, by_extractor, is_network, stage_name
from pci_bench.system.devices import resolve_device
from pci_bench.system.foreign import toml_value
from pci_bench.system.text import enumerated
from pci_bench.system.threads import available_cores
from pci_bench.weights import read_header

if TYPE_CHECKING:
    from pci_bench.data.cells import Cells

SIDE = 768  # of the matrices
MINUTE = 60.0  # what is done sooner is begun at once
LONGEST_MINUTE = 90.0  # seconds that are still said to be one
NAMED = 4  # parts of the work in the sentence, the longest first


@cache
def rates() -> dict[str, Any]:
    """Return ``rates.toml``, which ``speed/rates.py`` prints."""
    return toml_value(files("pci_bench.features").joinpath("rates.toml").read_text(encoding="utf-8"))


def matmul_gflops(seconds: float = 0.2) -> float:
    """Return how many 10⁹ float32 operations a second one core does in matrix products, measured in about so many CPU seconds."""
    from threadpoolctl import threadpool_limits

    a = np.random.default_rng(0).random((SIDE, SIDE), np.float32)
    with threadpool_limits(limits=1):
        a @ a
        started, products = time.process_time(), 0
        while (spent := time.process_time() - started) < seconds:
            a @ a
            products += 1
    return 2 * SIDE**3 * products / spent / 1e9


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(40), duration(700), duration(9000)
    ('a minute', '12 minutes', '2.5 hours')
    """
    if seconds < LONGEST_MINUTE:
        return "a minute"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def _part(seconds: float) -> str:
    return duration(seconds) if seconds >= MINUTE / 2 else "under a minute"


@dataclass(frozen=True)
class Work:
    """A part of what is about to be done.

    Parameters
    ----------
    name
        What is said of it.
    seconds
        CPU seconds of the machine that ``rates.toml`` is of; None where nobody measured it.
    network
        Whether it is done on a GPU where there is one, of which no rate is known.
    """

    name: str
    seconds: float | None
    network: bool = False


def sentence(work: Iterable[Work], device: str = "auto") -> str | None:
    """Return about how long some work takes on all cores, and what of it takes how long; None for less than a minute.

    This machine is measured, and a GPU looked for, only where it might be more.

    Examples
    --------
    >>> sentence([Work("designed", 3e5), Work("evaluation", 10.0), Work("mine", None)], "cpu")  # doctest: +ELLIPSIS
    'About ... hours on ... core...: designed. How long mine takes is not known.'
    >>> sentence([Work("designed", 3.0)]) is None
    True
    """
    work = list(work)
    if sum(w.seconds or 0 for w in work) < MINUTE / 4:
        return None
    if any(w.network for w in work) and resolve_device(device) != "cpu":
        work = [Work(f"{w.name} on a GPU", None) if w.network else w for w in work]
    cores = available_cores()
    factor = rates()["gflops"] / matmul_gflops(0.03) / cores
    known = sorted(((w.seconds * factor, w.name) for w in work if w.seconds is not None), reverse=True)
    total = sum(seconds for seconds, _ in known)
    if total < MINUTE:
        return None
    parts = [(s, name) for s, name in known[:NAMED] if s >= total / 20]
    said = [name if len(parts) == 1 or total < LONGEST_MINUTE else f"{name} ({_part(s)})" for s, name in parts]
    unknown = list(dict.fromkeys(w.name for w in work if w.seconds is None))
    besides = f" How long {enumerated(unknown)} take{'s' if len(unknown) == 1 else ''} is not known." if unknown else ""
    return f"About {duration(total)} on {cores} core{'s' if cores > 1 else ''}: {', '.join(said)}.{besides}"


def extraction(jobs: Sequence[Job], cells: Cells) -> list[Work]:
    """Return the passes over some cells that feature sets need; parts that are in the cache are not counted."""
    pixels = math.prod(cells.crop_shape) / math.prod(rates()["crop"])
    work = []
    for of_extractor in by_extractor(jobs).values():
        first = of_extractor[0]
        done = min(job.cells_in_parts() for job in of_extractor) / len(cells)
        rate = None if _foreign(first) else rate_of(first.features.base)
        seconds = None
        if rate is not None:
            key, per_cell = rate
            sized = 1.0 if key.startswith(tuple(rates()["resized"])) else pixels
            seconds = per_cell * len(cells) * (1 - done) * sized * _width(first) ** rates()["width_power"]
        network = is_network(first.extractor, first.weights)
        work.append(Work(f"extraction of {stage_name(of_extractor)}", seconds, network))
    return work


def _foreign(job: Job) -> bool:
    """Return whether a plug-in brings the extractor, so that its name says nothing about its rate."""
    return bool(source_of(EXTRACTORS.origin(job.features.extractor_name).file))


def _width(job: Job) -> float:
    """Return the width of a network, 1 for the published one's and where its file says nothing that could be one."""
    width = read_header(job.weights).config.get("width", 1.0) if job.weights is not None else 1.0
    return float(width) if isinstance(width, int | float) and 0 < width < math.inf else 1.0


def rate_of(features: str) -> tuple[str, float] | None:
    """Return the name in ``rates.toml`` that a feature set's begins with, the longest, and CPU seconds of a cell; None of others.

    >>> rate_of("pci-conv3")[0], rate_of("vgg16-rgb-block1_conv1")[0], rate_of("mine")
    ('pci', 'vgg16-rgb', None)
    """
    known = rates()["seconds_per_cell"]
    keys = [key for key in known if features == key or features.startswith((f"{key}-", f"{key}:"))]
    longest = max(keys, key=len, default=None)
    return None if longest is None else (longest, float(known[longest]))


def evaluation_seconds(name: str, n_cells: int) -> float | None:
    """Return CPU seconds of an evaluator on one feature set of the paper's width, by one set of parameters, where it was measured."""
    rate = rates()["evaluators"].get(name)
    return None if rate is None else float(rate["seconds"] * (n_cells / rate["cells"]) ** rate["power"])


def training(
    model: str, epochs: int, n_cells: int, crop_shape: tuple[int, int], width: float, *, bfloat16: bool
) -> Work:
    """Return a training of a network of some width; of models that were not measured, the seconds are not known."""
    work = Work(f"training of {model}, {epochs} epoch{'s' if epochs > 1 else ''}", None, network=True)
    if (rate := rates()["training"].get(model)) is None:
        return work
    pixels = math.prod(crop_shape) / math.prod(rates()["crop"])
    scale = pixels * width ** rates()["training_width_power"] / (rates()["bfloat16"] if bfloat16 else 1.0)
    return replace(work, seconds=rate * epochs * n_cells * scale)
