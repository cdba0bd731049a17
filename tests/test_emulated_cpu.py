"""The processes that stand for other processors are what they say."""

import subprocess
import sys
from pathlib import Path

import emulated_cpu
import pytest

DIGITS = """
import hashlib, math
import numpy as np
x = np.random.default_rng(0).normal(size=10_000)
print(hashlib.sha256(np.array([math.exp(v) for v in x])).hexdigest(), hashlib.sha256(np.sin(x)).hexdigest())
"""


@emulated_cpu.needs("x86-64-v3")
def test_the_switch_moves_last_digits_of_numpy_and_of_the_c_library():
    by_level = [emulated_cpu.python(DIGITS, level=level).split() for level in ("x86-64-v2", "x86-64-v3")]
    assert by_level[0][0] != by_level[1][0]
    assert by_level[0][1] != by_level[1][1]


@emulated_cpu.needs("x86-64-v3")
@pytest.mark.parametrize(
    ("variable", "library", "loads"),
    [
        ("NPY_DISABLE_CPU_FEATURES", "NumPy", ""),
        ("ATEN_CPU_CAPABILITY", "torch", "torch, "),
        ("GLIBC_TUNABLES", "C library", ""),
    ],
)
def test_a_library_that_does_not_switch_is_named(variable, library, loads):
    environment = {k: v for k, v in emulated_cpu.environment().items() if k != variable}
    code = f"import {loads}sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import emulated_cpu; emulated_cpu.check()"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{library} " in done.stderr.splitlines()[-1]


def test_a_command_is_run_in_the_process_and_its_exit_status_kept():
    command = [sys.executable, "-c", "import os; print(os.environ.get('ATEN_CPU_CAPABILITY')); raise SystemExit(3)"]
    done = subprocess.run([sys.executable, emulated_cpu.__file__, *command], capture_output=True, text=True)
    if emulated_cpu.unavailable_reason():
        assert (done.returncode, done.stdout.partition(":")[0]) == (0, "not run")
    else:
        assert (done.returncode, done.stdout.splitlines()[-1]) == (3, "default")
