"""How every test of a fault runs a command, and what it checks afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import SCRIPT, Said, call, environment, leftovers, pci_bench
from faults import Fault, noted, refused, whole_stores_only


@pytest.fixture
def with_figures() -> None:
    """Draw the figures of this test's runs: those of others would take most of their time, and have tests of their own."""


@pytest.fixture
def here(tmp_path, cache, monkeypatch, request) -> Path:
    """Commands start in an empty folder; afterwards nothing half-written is in it or in the cache."""
    if "with_figures" not in request.fixturenames:
        request.getfixturevalue("without_figures")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def say(here, cache, capsys, monkeypatch) -> Callable[..., Said]:
    """A function that runs a command in its own process, or (given ``own=False``) in this one."""

    def run(*arguments: object, own: bool = True, data: Path | None = None, **more: str) -> Said:
        if own:
            said = pci_bench(*arguments, cache=cache, cwd=here, data=data, **more)
        else:
            if data is not None:
                monkeypatch.setenv("PCI_BENCH_DATA", str(data))
            said = call(capsys, monkeypatch, *arguments)
        whole_stores_only(cache)
        assert leftovers(here) == []
        return said

    return run


@pytest.fixture
def meet(say, here) -> Callable[[Fault], Said]:
    """A function that arranges a fault, runs its command, and checks how it was met."""

    def run(fault: Fault) -> Said:
        fault.arrange(here)
        said = say(*fault.arguments, own=fault.own, **fault.environment)
        if fault.code == 2:
            refused(said, *fault.words)
        elif fault.code == 0:
            noted(said, *fault.words)
        else:
            assert said.code == fault.code, said.err
        for path in fault.absent:
            assert fault.code == 0 or not (here / path).exists(), path
        return said

    return run


@pytest.fixture
def reader(here):
    """A function that runs a command as a user unknown to the system, who can read everything and write nothing but `mine`."""
    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can become another user")
    (here / "mine").mkdir()
    (here / "mine").chmod(0o777)
    here.chmod(0o755)
    reads = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups", *reads]
    if subprocess.run([*user, "true"], capture_output=True).returncode:
        pytest.skip("setpriv cannot do that here")

    def as_reader(*arguments: object, cache: Path, **more: str):
        told = {**environment(cache), "HOME": "/nonexistent", **more}
        done = subprocess.run([*user, SCRIPT, *map(str, arguments)], env=told, cwd=here, capture_output=True, text=True)
        return Said(done.returncode, done.stdout, done.stderr)

    return as_reader
