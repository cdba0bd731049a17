"""The command line as a user meets it: the installed script in its own process, or its `main` in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(sys.executable).with_name("pci-bench")


@dataclass(frozen=True)
class Said:
    """What a command left: exit status, and what it wrote on both streams."""

    code: int
    out: str
    err: str


def environment(cache: Path, data: Path | None = None, **more: str) -> dict[str, str]:
    """Return this process's environment with nothing of pci-bench in it but these folders."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PCI_BENCH_")}
    named = {} if data is None else {"PCI_BENCH_DATA": str(data)}
    return {**kept, **named, "PCI_BENCH_CACHE": str(cache), **more}


def pci_bench(*arguments: object, cache: Path, cwd: Path, data: Path | None = None, **more: str) -> Said:
    """Run the installed command line in its own process."""
    done = subprocess.run(
        [SCRIPT, *map(str, arguments)],
        env=environment(cache, data, **more),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def call(capsys, monkeypatch, *arguments: object) -> Said:
    """Run the command line in this process, seconds faster."""
    from pci_bench.cli import main

    monkeypatch.setattr(sys, "argv", ["pci-bench", *map(str, arguments)])
    capsys.readouterr()
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr()
    return Said(code, said.out, said.err)


def refused(said: Said, *words: str) -> None:
    """Check that a command ended with 2 and one sentence that holds all words."""
    assert said.code == 2, said.out + said.err
    assert said.err.startswith("Error: ")
    assert said.err.count("\n") == 1
    for word in words:
        assert word in said.err


def wait_until(condition: Callable[[], object], process: subprocess.Popen | None = None, seconds: float = 60) -> None:
    """Return once another process has brought a condition about; fail after some seconds, or when it has ended."""
    patience = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < patience, "it never came about"
        time.sleep(0.02)  # between two looks


def leftovers(*folders: Path) -> list[Path]:
    """Return temporary files and folders that a writer should have removed."""
    return [p for folder in folders for p in folder.rglob(".writing-*")]
