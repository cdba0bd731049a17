"""Another x86-64 processor on this one: processes whose libraries are told to leave some vector units alone.

NumPy, OpenBLAS, torch, oneDNN, MKL, numba and the C library's mathematical functions choose their code by the processor, and
so the last digits. Each of them reads a variable that narrows the choice; a process that starts with all of these computes
what a processor without those units would.

``python tests/emulated_cpu.py [--level x86-64-v3] COMMAND …`` checks in a process of its own that the switch takes effect,
then runs a command so. On a processor without levels (not x86-64) it says so and runs nothing. In tests::

    @emulated_cpu.needs("x86-64-v2")
    def test_…():
        printed = emulated_cpu.python("print(…)")
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class _Level:
    """What each library calls the best code that it may choose; what NumPy and the C library must give up."""

    aten: str
    onednn: str
    mkl: str
    openblas: str
    numba: str
    numpy_gives_up: str  # a pattern for names of CPU features
    libc_gives_up: tuple[str, ...]


_AVX512 = ("AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ")
LEVELS = {
    "x86-64-v2": _Level(
        "default", "SSE41", "COMPATIBLE", "Nehalem", "nehalem", ".*", ("FMA", "FMA4", "AVX2", *_AVX512)
    ),
    "x86-64-v3": _Level("avx2", "AVX2", "AVX2", "Haswell", "haswell", "X86_V4|AVX512.*", _AVX512),
}
ALL = "import numba, scipy.linalg, torch\n"  # the libraries with a switch of their own
_LIBC_BITS = {"FMA": (0, 2, 12), "AVX2": (1, 1, 5), "AVX512F": (1, 1, 16)}  # CPUID leaf's number, register, bit


def unavailable_reason(level: str = "x86-64-v2") -> str | None:
    """Return why this machine cannot stand for one of a level, or None."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"no {level} process can be had on {platform.machine()}"
    if LEVELS[level].aten == "avx2" and not {"X86_V3", "AVX2"} & set(_numpy_uses()):
        return f"this processor is below {level}"
    return None


def needs(level: str = "x86-64-v2") -> pytest.MarkDecorator:
    """Return a mark for tests that want a process of a level; where there can be none, they count as skipped."""
    reason = unavailable_reason(level)
    return pytest.mark.skipif(reason is not None, reason=reason or "")


def environment(level: str = "x86-64-v2") -> dict[str, str]:
    """Return this process's environment with what its libraries need to keep within a level."""
    keep = LEVELS[level]
    given_up = os.environ.get("NPY_DISABLE_CPU_FEATURES", "").split()  # where this process keeps within a level itself
    gives_up = [name for name in [*given_up, *_numpy_uses()] if re.fullmatch(keep.numpy_gives_up, name)]
    return {
        **os.environ,
        "NPY_DISABLE_CPU_FEATURES": " ".join(gives_up),
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=" + ",".join(f"-{name}" for name in keep.libc_gives_up),
        "ATEN_CPU_CAPABILITY": keep.aten,
        "ONEDNN_MAX_CPU_ISA": keep.onednn,
        "MKL_CBWR": keep.mkl,
        "OPENBLAS_CORETYPE": keep.openblas,
        "NUMBA_CPU_NAME": keep.numba,
        "NUMBA_CPU_FEATURES": "",
        "PCI_BENCH_EMULATED_CPU": level,
    }


def python(code: str, *arguments: str, level: str = "x86-64-v2") -> str:
    """Return what Python code prints in a process of a level, which then checks that all it has loaded keeps within it.

    Raises
    ------
    AssertionError
        With what the process said, where it failed.
    """
    end = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import emulated_cpu; emulated_cpu.check()\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{end}", *arguments], env=environment(level), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check() -> None:
    """Raise unless this process, begun with :func:`environment`, keeps within its level: NumPy, the C library and what is loaded.

    Raises
    ------
    AssertionError
        Naming the library that does not.
    """
    level = os.environ["PCI_BENCH_EMULATED_CPU"]
    keep = LEVELS[level]
    kept = [name for name in _numpy_uses() if re.fullmatch(keep.numpy_gives_up, name)]
    assert not kept, f"NumPy still uses {', '.join(kept)} in a process that is to keep within {level}"
    if "torch" in sys.modules:
        import torch

        capability = torch.backends.cpu.get_cpu_capability()
        assert capability.lower() == keep.aten, f"torch uses {capability}, not {keep.aten}"
    import numpy as np
    from threadpoolctl import threadpool_info

    np.dot(np.ones((2, 2)), np.ones((2, 2)))
    if "scipy.linalg" in sys.modules:
        import scipy.linalg

        scipy.linalg.blas.dgemm(1.0, np.ones((2, 2)), np.ones((2, 2)))
    for library in threadpool_info():
        if library["internal_api"] == "openblas":
            assert library["architecture"] == keep.openblas, f"{library['filepath']} is for {library['architecture']}"
    if "numba" in sys.modules:
        from numba.core.registry import cpu_target

        target = cpu_target.target_context.codegen()
        assert target._get_host_cpu_name() == keep.numba, f"numba compiles for {target._get_host_cpu_name()}"
    active = _libc_active()
    left = [name for name in keep.libc_gives_up if name in active]
    assert not left, f"the C library still uses {', '.join(left)}"


def _numpy_uses() -> list[str]:
    """Return the CPU features, or groups of them, that NumPy has code of its own for and uses in this process."""
    from numpy._core import _multiarray_umath as numpy_core

    return [name for name in numpy_core.__cpu_dispatch__ if numpy_core.__cpu_features__[name]]


def _libc_active() -> set[str]:
    """Return which of FMA, AVX2 and AVX512F glibc uses in processes like this; nothing for another C library."""
    maps = Path("/proc/self/maps")
    mapped = maps.read_text().splitlines() if maps.exists() else []
    loaders = {line.split()[-1] for line in mapped if "/ld-linux" in line}
    if not loaders:
        return set()
    told = subprocess.run([loaders.pop(), "--list-diagnostics"], capture_output=True, text=True, check=True).stdout
    active = set()
    for name, (leaf, register, bit) in _LIBC_BITS.items():
        line = re.search(rf"^x86\.cpu_features\.features\[{leaf:#x}\]\.active\[{register:#x}\]=(\w+)$", told, re.M)
        assert line is not None, f"the loader does not say whether the C library uses {name}"
        if int(line[1], 16) >> bit & 1:
            active.add(name)
    return active


def main(arguments: list[str]) -> int:
    """Run a command in the environment of a level; return its exit status."""
    level = "x86-64-v2"
    if arguments[:1] == ["--level"]:
        level, arguments = arguments[1], arguments[2:]
    if reason := unavailable_reason(level):
        print(f"not run: {reason}: {' '.join(arguments)}")
        return 0
    python(ALL, level=level)
    print(f"+ {level}: {' '.join(arguments)}", flush=True)
    return subprocess.run(arguments, env=environment(level)).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
