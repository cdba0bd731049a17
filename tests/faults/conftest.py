"""How every test of a fault runs a command, and what it checks afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Said, call, leftovers, pci_bench
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
