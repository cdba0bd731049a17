"""Kills at random times of run, train, extract and data get: the next run gives the numbers of an uninterrupted one.

Some minutes, so under the marker ``slow``: ``pytest -m slow -n 0 tests/faults``.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest
from command_line import SCRIPT, environment, leftovers
from test_interruption import PLUGIN, SENTENCE, heard
from test_lost_work import cells

pytestmark = pytest.mark.slow

CPU = ("--device", "cpu")
WITH = ("--plugin", str(PLUGIN))
RUN = ("run", "yeast-knn", "--dataset", "numbered", "--features", "number,intensity", "--k", "1", *CPU, *WITH)
RUN = (*RUN, "--workers", "2", "--out", "out")
TRAIN = ("train", "autoencoder", "--dataset", "folder:crops", "--epochs", "40", "--width", "0.04", "--batch", "4", *CPU)
COMMANDS = {
    "run": RUN,
    "train": TRAIN,
    "extract": ("extract", "number", "--dataset", "numbered", "--out", "number.h5ad", *CPU, *WITH),
    "data get": ("data", "get", "numbered", *WITH),
}
KILLS = [
    (seed, command, name)
    for seed, (command, name) in enumerate(
        (command, ("SIGKILL", "SIGTERM", "SIGINT")[(i + j) % 3]) for i in range(5) for j, command in enumerate(COMMANDS)
    )
]


def metrics(folder: Path) -> object:
    read = {p.name: json.loads(p.read_text()) for p in sorted((folder / "out" / "results").rglob("*.json"))}
    return {name: (r["features"]["name"], r["metrics"], r["intervals"]) for name, r in read.items()}


def trained(folder: Path) -> object:
    from safetensors.numpy import load_file

    (file,) = (folder / "cache" / "weights").glob("*.safetensors")
    assert len(list(file.parent.iterdir())) == 4
    return {name: array.tobytes() for name, array in load_file(file).items()}


def extracted(folder: Path) -> object:
    adata = anndata.read_h5ad(folder / "number.h5ad")
    return adata.X.tobytes(), list(adata.obs_names)


def stored(folder: Path) -> object:
    (file,) = (folder / "cache" / "datasets").glob("*/*/store.json")
    return json.loads(file.read_text())["stored_sha256"]


NUMBERS: dict[str, Callable[[Path], object]] = {
    "run": metrics,
    "train": trained,
    "extract": extracted,
    "data get": stored,
}


def started(folder: Path, arguments: tuple[str, ...]) -> subprocess.Popen:
    return subprocess.Popen(
        [SCRIPT, *arguments],
        env=environment(folder / "cache"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heard,
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Callable[[str], tuple[object, float]]:
    """A function that returns what an uninterrupted command gives, and the seconds that it takes."""
    known: dict[str, tuple[object, float]] = {}

    def run(command: str) -> tuple[object, float]:
        if command not in known:
            folder = tmp_path_factory.mktemp("whole")
            cells(folder)
            began = time.monotonic()
            process = started(folder, COMMANDS[command])
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said
            known[command] = NUMBERS[command](folder), time.monotonic() - began
        return known[command]

    return run


@pytest.mark.parametrize(("seed", "command", "name"), KILLS, ids=[f"{s}-{c}-{n}" for s, c, n in KILLS])
def test_after_a_kill_at_a_random_time_the_next_run_gives_the_same_numbers(tmp_path, whole, seed, command, name):
    expected, seconds = whole(command)
    cells(tmp_path)
    process = started(tmp_path, COMMANDS[command])
    time.sleep(random.Random(seed).uniform(0.1, seconds))
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    print(f"{command} {name}: exit {process.returncode}; {said.splitlines()[-1:]}")
    number = int(getattr(signal, name))
    if name == "SIGKILL":
        assert process.returncode in (0, -number), said
    else:  # so early that Python does not hear signals yet, it ends as any program does
        assert process.returncode in (0, 128 + number) or (process.returncode == -number and said == ""), said
        assert "Traceback" not in said
        assert leftovers(tmp_path) == []
        if process.returncode == 128 + number:
            assert said.splitlines()[-1].startswith(SENTENCE[name])
    again = COMMANDS[command]
    if command == "train" and list(tmp_path.glob("cache/weights/*.safetensors")):
        assert process.returncode in (0, -9)
        assert NUMBERS[command](tmp_path) == expected
        return
    if command == "train" and list(tmp_path.glob("cache/training/*/checkpoint.pt")):
        again = (*again, "--resume")
    process = started(tmp_path, again)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert NUMBERS[command](tmp_path) == expected


def test_four_processes_share_one_cache_and_one_output_folder(tmp_path, whole):
    expected, _ = whole("run")
    for _ in range(2):
        four = [started(tmp_path, RUN) for _ in range(4)]
        said = [process.communicate(timeout=300)[1] for process in four]
        assert [process.returncode for process in four] == [0] * 4, said
        assert not any("Traceback" in s for s in said)
        assert metrics(tmp_path) == expected
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert all((tmp_path / "out" / path).is_file() for path in [*record["results"], *record["figures"]])
        assert leftovers(tmp_path) == []
        shutil.rmtree(tmp_path / "cache" / "evaluations")  # the second time all four evaluate at once


def test_four_processes_of_different_seeds_leave_whole_files(tmp_path):
    four = [started(tmp_path, (*RUN, "--seed", str(seed))) for seed in range(4)]
    said = [process.communicate(timeout=300)[1] for process in four]
    assert [process.returncode for process in four] == [0] * 4, said
    assert leftovers(tmp_path) == []
    for file in (tmp_path / "out").rglob("*.json"):
        json.loads(file.read_text())
    done = subprocess.run(
        [SCRIPT, "table", "table1", "--results", "out"], env=environment(tmp_path / "cache"), cwd=tmp_path
    )
    assert done.returncode == 0
