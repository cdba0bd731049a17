"""Terminals and streams: closed, full, of another encoding, left by their reader, of impossible sizes."""

from __future__ import annotations

import os
import subprocess

import pytest
from command_line import SCRIPT, environment
from faults import FEW, RUN, Fault, with_crops

from pci_bench.cli import streams

ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FAULTS = [
    Fault("an ASCII stream", ("describe", "loo-knn"), ("loo-knn",), code=0, own=True, environment=ASCII),
    Fault("an error on an ASCII stream", ("data", "get", "folder:×²μ"), ("there is no folder", "x2\\u03bc"), own=True, environment=ASCII),
    Fault("a C locale", ("list",), ("Feature",), code=0, own=True, environment=C_LOCALE),
    Fault("TERM=dumb", ("list", "evaluators"), ("loo-knn",), code=0, own=True, environment={"TERM": "dumb"}),
    Fault("no columns", ("describe", "nosuch"), ("There is nothing named 'nosuch'",), own=True, environment={"COLUMNS": "0", "LINES": "²"}),
    Fault("one column, and no colour", ("list", "evaluators"), ("loo-knn",), code=0, own=True, environment={"COLUMNS": "1", "NO_COLOR": "1"}),
    Fault("JSON on an ASCII stream", (*RUN, "--dataset", "folder:crops", *FEW, "--json"), ("\\u03bc",), with_crops(**{"images.csv": "image,label\nw0,μ\nw1,b\nw2,μ\nw3,b\n"}), code=0, own=True, environment=ASCII),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, meet):
    meet(fault)


@pytest.fixture
def shell(here, cache):
    """A function that gives a line to bash, with the command line as ``$P``, and returns status and standard error."""

    def run(line: str, **more: str) -> tuple[int, str]:
        told = environment(cache, **more) | {"P": str(SCRIPT)}
        done = subprocess.run(["bash", "-c", line], env=told, cwd=here, capture_output=True, text=True, timeout=120)
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        return done.returncode, done.stderr

    return run


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("$P schema >&-", 0, ""),
        ("$P describe nosuch 2>&-", 2, ""),
        ("$P list evaluators <&- >&- 2>&-", 0, ""),
        ("$P list | head -1 >/dev/null; exit ${PIPESTATUS[0]}", 0, ""),
        ("$P --help | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("$P compare expected:yeast-sim expected:yeast-sim | true; exit ${PIPESTATUS[0]}", 0, ""),
        ("$P schema >/dev/full", 2, "Error: Could not write to standard output: the disk is full."),
        ("$P --version >/dev/full", 2, "Error: Could not write to standard output: the disk is full."),
        ("$P describe nosuch 2>/dev/full", 2, ""),
    ],
)
def test_a_stream_that_takes_nothing_changes_no_exit_status_but_a_full_one(shell, line, code, words):
    found, err = shell(line)
    assert found == code, err
    assert words in err
    assert err.count("Error") == bool(words)


def test_what_a_stream_cannot_encode_is_said_in_ascii():
    assert "3 × 5 – µ…".encode("ascii", streams.CANNOT_ENCODE) == b"3 x 5 - \\xb5..."
    assert "a\udcff".encode("utf-8", streams.CANNOT_ENCODE) == b"a\\udcff"


@pytest.mark.parametrize("value", ["0", "-5", "x", "²", "7"])
def test_impossible_sizes_of_a_terminal_are_forgotten(monkeypatch, value):
    monkeypatch.setenv("COLUMNS", value)
    monkeypatch.setenv("LINES", "24")
    streams.forget_impossible_sizes()
    assert "COLUMNS" not in os.environ
    assert os.environ["LINES"] == "24"
