"""Facts of the machine that results record: versions, commit, processor."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from pci_bench import __version__


@cache
def git_revision() -> str | None:
    """Return the commit of the checkout that this package runs from, with ``+changes`` if edited; None if installed."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        ask = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+changes", "--exclude=*"]
        return subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of every package whose numbers enter a result."""
    from importlib.metadata import PackageNotFoundError, version

    by_package = {"python": platform.python_version()}
    for package in ("numpy", "scipy", "scikit-learn", "torch", "numba", "pandas", "anndata", "zarr"):
        try:
            by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return by_package


def blas() -> str:
    """Return the BLAS libraries that are loaded, with version and kernel."""
    from threadpoolctl import threadpool_info

    pools = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return ", ".join(sorted({f"{p['internal_api']} {p['version']} {p.get('architecture', '')}".strip() for p in pools}))


def run_facts(*, device: str, threads: int, seed: int, seconds: float, started: str) -> dict[str, Any]:
    """Return the ``run`` block of a result."""
    return {
        "git": git_revision(),
        "package": __version__,
        "versions": versions(),
        "blas": blas(),
        "device": device,
        "threads": threads,
        "seed": seed,
        "seconds": round(seconds, 3),
        "peak_rss_bytes": peak_memory(),
        "started": started,
    }


def cpu_seconds() -> float:
    """Return the CPU time of this process and of the programs that it ran."""
    return time.process_time() + sum(os.times()[2:4])


def peak_memory() -> int | None:
    """Return the largest resident memory of this process so far in bytes; None where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
