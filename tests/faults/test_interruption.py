"""Ctrl-C, SIGTERM, SIGHUP and killed workers: one sentence, 128 plus the signal's number, and the next run gives the same."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SCRIPT, environment, leftovers, wait_until

CELLS = 3 * 256  # of the dataset that the plug-in brings
PLUGIN = Path(__file__).with_name("signalling.py")
COMMAND = ("run", "yeast-knn", "--dataset", "numbered", "--features", "number", "--k", "1", "--device", "cpu")
COMMAND = (*COMMAND, "--plugin", str(PLUGIN), "--out", "out")
SENTENCE = {
    "SIGINT": "Interrupted. ",
    "SIGTERM": "Ended by SIGTERM. ",
    "SIGHUP": "Ended by SIGHUP: its terminal is gone. ",
}
AGAIN = "Run the same command again: it continues where it stopped."


def heard() -> None:
    """Hear signals that a shell's background jobs ignore."""
    for name in SENTENCE:
        signal.signal(getattr(signal, name), signal.SIG_DFL)


def run(folder: Path, *more: str, **variables: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [SCRIPT, *COMMAND, *more],
        env=environment(folder / "cache", **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=heard,
    )


def numbers(folder: Path) -> dict[str, object]:
    """Return all metrics below an output folder, by file."""
    read = {p.name: json.loads(p.read_text()) for p in (folder / "out" / "results").rglob("*.json")}
    return {name: (r["metrics"], r["intervals"]) for name, r in read.items()}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, object]:
    folder = tmp_path_factory.mktemp("whole")
    assert run(folder).returncode == 0
    return numbers(folder)


@pytest.mark.parametrize(
    ("at", "signals", "continued"),
    [
        ("import", "SIGINT", False),
        ("build", "SIGTERM", False),
        pytest.param("part", "SIGINT,SIGINT", True, marks=pytest.mark.slow),
        pytest.param("compiled", "SIGHUP", True, marks=pytest.mark.slow),
        pytest.param("part", "SIGKILL", True, marks=pytest.mark.slow),
    ],
)
def test_the_end_by_a_signal_is_one_sentence_and_costs_nothing(tmp_path, request, at, signals, continued):
    name = signals.partition(",")[0]
    number = getattr(signal, name)
    done = run(tmp_path, SIGNAL_AT=at, SIGNALS=signals)
    assert (tmp_path / "sent").exists()
    if name == "SIGKILL":
        assert done.returncode == -9
    else:
        assert done.returncode == 128 + number, done.stderr
        assert done.stderr.splitlines()[-1] == SENTENCE[name] + AGAIN
        assert "Traceback" not in done.stderr
        assert leftovers(tmp_path) == []
    assert done.stdout == ""
    if continued:
        again = run(tmp_path)
        assert again.returncode == 0, again.stderr
        assert numbers(tmp_path) == request.getfixturevalue("uninterrupted")
        assert leftovers(tmp_path) == []


def test_a_killed_worker_is_a_sentence_and_what_others_finished_is_kept(tmp_path):
    done = run(tmp_path, "--workers", "2", SIGNAL_AT="part", SIGNALS="SIGKILL")
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        "Error: A worker process was killed or crashed (SIGKILL(-9)) while it computed number, first in "
    )
    assert "'c256' to 'c511' of numbered" in last or "'c0' to 'c255' of numbered" in last
    assert "cells are kept. Run the same command again" in last
    kept = [list(map(int, file.stem.split("-"))) for file in tmp_path.rglob("*.npy")]
    assert f" {sum(stop - start for start, stop in kept)} of {CELLS} cells" in last


@pytest.mark.parametrize("name", ["SIGINT", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_workers_end_with_their_parent_and_say_nothing(tmp_path, name):
    process = subprocess.Popen(
        [SCRIPT, *COMMAND, "--workers", "2"],
        env=environment(tmp_path / "cache", SIGNAL_AT="part"),  # where one of them waits for the signal of this test
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
        start_new_session=True,
    )
    wait_until((tmp_path / "sent").exists, process)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    else:
        process.kill()
    _, said = process.communicate(timeout=30)  # which ends once no process holds the streams
    assert process.returncode == (130 if name == "SIGINT" else -9)
    assert "Traceback" not in said
    if name == "SIGINT":
        assert said.splitlines()[-1] == f"Interrupted. {AGAIN}"
        assert leftovers(tmp_path) == []


@pytest.mark.slow
def test_python_m_and_the_older_entry_point_end_alike(tmp_path):
    for program in (["-m", "pci_bench"], ["-c", "from pci_bench.cli import main; main()"]):
        shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        (tmp_path / "sent").unlink(missing_ok=True)
        done = subprocess.run(
            [sys.executable, *program, *COMMAND],
            env=environment(tmp_path / "cache", SIGNAL_AT="build", SIGNALS="SIGTERM"),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 143, done.stderr
        assert done.stderr.splitlines()[-1] == f"Ended by SIGTERM. {AGAIN}"


@pytest.mark.parametrize("name", SENTENCE)
def test_a_signal_while_the_interpreter_shuts_down_leaves_the_exit_status_as_it_is(tmp_path, name):
    program = "import atexit, os, signal, sys; sys.argv = ['pci-bench', '--version']\n"
    program += f"from pci_bench.entry import main; atexit.register(os.kill, os.getpid(), signal.{name}); main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, preexec_fn=heard)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("pci-bench ")
