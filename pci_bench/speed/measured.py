"""Measuring the comparisons: a process for every measurement, one way after the other in turn, and a table of medians."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec

from pci_bench import __version__
from pci_bench.errors import UserError
from pci_bench.speed.comparisons import COMPARISONS, OURS
from pci_bench.speed.process import INNER_REPEATS
from pci_bench.system.machine import versions
from pci_bench.system.progress import Progress
from pci_bench.system.text import json_line
from pci_bench.system.threads import available_cores, machine_cores

REPEATS, QUICK_REPEATS = 3, 1  # processes for each way
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
        "TF_NUM_INTRAOP_THREADS",
        "TF_NUM_INTEROP_THREADS",
    ),
    "1",
)
STARTS = {"pci-bench --help": ["-m", "pci_bench", "--help"], "pci-bench list": ["-m", "pci_bench", "list"]}
START_BESIDE = ("importing pandas", ["-c", "import pandas"])


@dataclass(frozen=True)
class Row:
    """A way to do some work, as it was measured.

    Attributes
    ----------
    work, way
        What was done, and by what.
    seconds
        CPU seconds, the median of `measurements`; None where it was not measured.
    times_ours
        How many times as long as this package it takes.
    of_sgemm
        The rate of the work's multiplications, as a share of that of NumPy's float32 matrix products in the same process. It is
        above 1 where a library of convolutions has faster instructions than NumPy's BLAS.
    grown_mb
        By how much the process's peak memory grew.
    reason
        Why it was not measured.
    """

    work: str
    way: str
    measurements: int = 0
    seconds: float | None = None
    times_ours: float | None = None
    of_sgemm: float | None = None
    grown_mb: float | None = None
    reason: str = ""


def machine() -> dict[str, str]:
    """Return what numbers of this machine depend on: processor, cores, system, versions."""
    libraries = {"pci-bench": __version__, **versions()}
    return {
        "processor": _processor(),
        "cores": f"{available_cores()} of {machine_cores()}",
        "threads": "1",
        "system": f"{platform.system()} {platform.machine()}",
        "versions": ", ".join(f"{name} {version}" for name, version in libraries.items()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def measured(*, quick: bool, progress: Progress) -> list[Row]:
    """Return a row for every way of every comparison, ours first, and for the start of commands."""
    repeats = QUICK_REPEATS if quick else REPEATS
    n_processes = repeats * (sum(len(c.ways) for c in COMPARISONS.values()) + len(STARTS) + 1)
    with progress.stage("measuring", n_processes) as advance:
        rows = [row for name in COMPARISONS for row in _compared(name, quick, repeats, advance)]
        return [*rows, *_started(repeats, advance)]


def _compared(name: str, quick: bool, repeats: int, advance: Callable[[int], None]) -> Iterator[Row]:
    """Yield the rows of a comparison, whose ways were measured in turn."""
    comparison = COMPARISONS[name]
    size = comparison.quick_size if quick else comparison.size
    missing = {way: [n for n in ours.needs if find_spec(n) is None] for way, ours in comparison.ways.items()}
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in comparison.ways}
    for _ in range(repeats):
        for way, of_way in runs.items():
            if not missing[way]:
                of_way.append(_in_a_process(name, way, size))
            advance(1)
    middle = {
        way: {key: statistics.median(run[key] for run in of_way) for key in of_way[0]}
        for way, of_way in runs.items()
        if of_way
    }
    for way in runs:
        work = f"{comparison.title}, {size:,} {comparison.item}"
        if missing[way]:
            yield Row(work, way, reason=f"not measured: {' and '.join(missing[way])} not installed")
            continue
        seconds, operations = middle[way]["seconds"], comparison.operations(size)
        peak = operations / seconds / 1e9 / middle[way]["gflops"] if operations and seconds else None
        ratio = seconds / middle[OURS]["seconds"] if middle[OURS]["seconds"] else None
        yield Row(work, way, repeats * INNER_REPEATS, seconds, ratio, peak, middle[way]["grown_mb"])


def _in_a_process(name: str, way: str, size: int) -> dict[str, float]:
    command = [sys.executable, "-m", "pci_bench.speed.process", name, way, str(size)]
    done = subprocess.run(
        command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise UserError(
            f"'{way}' could not be measured ({name}, {size:,}): {(done.stderr.strip().splitlines() or ['it was killed'])[-1]}. "
            f"`{' '.join(command[1:4])} {name} '{way}' {size}` with this Python shows all of it."
        )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def _started(repeats: int, advance: Callable[[int], None]) -> Iterator[Row]:
    """Yield the rows of how long commands take to start, beside what importing a common library takes.

    Each has been started once before, which leaves compiled bytecode, as an installation does.
    """
    commands = {**STARTS, START_BESIDE[0]: START_BESIDE[1]}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def start(arguments: list[str]) -> float:
        before = sum(os.times()[2:4])
        subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, env=environment, check=True)
        return sum(os.times()[2:4]) - before

    for arguments in commands.values():
        start(arguments)
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for _ in range(INNER_REPEATS):
            for name, arguments in commands.items():
                seconds[name].append(start(arguments))
        advance(len(commands))
    middle = {name: statistics.median(of_name) for name, of_name in seconds.items()}
    for name, of_name in seconds.items():
        shortest = middle[next(iter(STARTS))]
        yield Row("start of a process", name, len(of_name), middle[name], middle[name] / shortest if shortest else None)


HEADINGS = ("work", "by", "CPU s", "× ours", "of sgemm", "MB grown")


def cells_of(row: Row) -> tuple[str, ...]:
    """Return a row as it is printed."""
    if row.seconds is None:
        return (row.work, row.way, row.reason, "", "", "")
    return (
        row.work,
        row.way,
        f"{row.seconds:.3g}",
        "" if row.times_ours is None else f"{row.times_ours:.2f}",
        "" if row.of_sgemm is None else f"{100 * row.of_sgemm:.0f} %",
        "" if row.grown_mb is None else f"{row.grown_mb:.0f}",
    )


def written(rows: Sequence[Row], facts: Mapping[str, str], form: str) -> str:
    """Return rows and the machine as Markdown, CSV (rows alone) or JSON.

    Examples
    --------
    >>> print(written([Row("nothing", "nobody", 3, 0.5, 1.0)], {"cores": "1"}, "md"))
    cores: 1
    <BLANKLINE>
    | work | by | CPU s | × ours | of sgemm | MB grown |
    |---|---|---|---|---|---|
    | nothing | nobody | 0.5 | 1.00 |  |  |
    """
    if form == "json":
        return json_line({"machine": dict(facts), "rows": [asdict(row) for row in rows]})
    if form == "csv":
        text = io.StringIO()
        writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
        return text.getvalue().rstrip("\n")
    lines = [f"{name}: {fact}" for name, fact in facts.items()]
    lines += ["", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(cells_of(row)) + " |" for row in rows]
    return "\n".join(lines)
