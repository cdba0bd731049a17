"""How many cores a process may use, and setting it for every numerical library."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# OpenBLAS's idle threads look for work in a loop for some 30 ms after every product, which in a run of many small products
# takes as much CPU time as these. With this they sleep; it counts where this module is imported before NumPy.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

_USER_THREADS = os.environ.get("OMP_NUM_THREADS", "")  # as the user started us, before set_threads says it to libraries


def machine_cores() -> int:
    """Return how many cores the system lets this process run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_cores() -> int:
    """Return how many threads this process may use: a core each, or fewer where ``OMP_NUM_THREADS`` says so."""
    return (
        min(machine_cores(), int(_USER_THREADS))
        if _USER_THREADS.isdecimal() and int(_USER_THREADS)
        else machine_cores()
    )


def on_each_core(compute: Callable[[int, int], T]) -> list[T]:
    """Return ``compute(part, parts)`` for as many parts as there are cores, in order: for compiled functions, which run beside each other.

    >>> sum(on_each_core(lambda part, parts: sum(range(10)[part::parts])))
    45
    """
    parts = available_cores()
    if parts == 1:
        return [compute(0, 1)]
    from concurrent.futures import ThreadPoolExecutor  # which every command would wait for

    with ThreadPoolExecutor(parts) as pool:
        return list(pool.map(lambda part: compute(part, parts), range(parts)))


def set_threads(threads: int) -> int:
    """Give torch, BLAS, OpenMP and numba `threads` threads each, and return that number.

    Libraries that are not imported yet find it in their environment variables.
    """
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        if (
            variable != "NUMBA_NUM_THREADS" or "numba" not in sys.modules
        ):  # numba refuses another number once it has begun
            os.environ.setdefault(variable, str(threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "numba" in sys.modules:
        numba = sys.modules["numba"]
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    from threadpoolctl import threadpool_limits

    threadpool_limits(limits=threads)
    return threads
