"""What killed processes leave behind is neither read nor counted, and the next writer removes it; a living one's stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import call
from faults import FEW, RUN, with_crops

from pci_bench import weights
from pci_bench.runs import outputs
from pci_bench.system import files
from pci_bench.system.files import (
    UNFINISHED,
    atomic_file,
    atomic_folder,
    check_writable,
    finished,
    lock,
    remove_leftovers,
)


@pytest.fixture
def gone() -> int:
    """The identifier of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def name(pid: int, suffix: str = "") -> str:
    return f"{UNFINISHED}{files._machine()}-{pid}-abc{suffix}"


def old(path: Path) -> Path:
    os.utime(path, (0, time.time() - 30 * 24 * 3600))
    return path


def test_the_next_writer_removes_what_the_dead_left_and_nothing_else(tmp_path, gone):
    living = [tmp_path / name(os.getppid()), tmp_path / f"{UNFINISHED}elsewhere-{gone}-abc", tmp_path / "result.json"]
    dead = [tmp_path / name(gone, ".json"), tmp_path / f"{UNFINISHED}x1y2"]
    for path in (*living, *dead):
        path.write_text("{")
    old(dead[1])  # as versions before this one named them
    (tmp_path / name(gone, "d")).mkdir()
    (tmp_path / name(gone, "d") / "chunk").write_text("half")
    with atomic_file(tmp_path / "other.json") as temporary:
        temporary.write_text("{}")
    assert sorted(tmp_path.iterdir()) == sorted([*living, tmp_path / "other.json"])


def test_a_folder_of_the_dead_is_removed_by_whoever_writes_a_folder_beside_it(tmp_path, gone):
    (tmp_path / name(gone) / "deep").mkdir(parents=True)
    with atomic_folder(tmp_path / "store") as temporary:
        (temporary / "chunk").write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_finished_leaves_out_what_lies_within_a_leftover(tmp_path, gone):
    assert list(finished([tmp_path / name(gone) / "r.json", tmp_path / "r.json"])) == [tmp_path / "r.json"]


def test_remove_leftovers_does_not_follow_links(tmp_path, gone):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "f").write_text("x")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / name(gone)).symlink_to(tmp_path / "kept")
    remove_leftovers(tmp_path / "here")
    assert (tmp_path / "kept" / "f").exists()
    assert list((tmp_path / "here").iterdir()) == []


def test_readers_of_results_and_weights_ignore_leftovers(here, cache, capsys, monkeypatch, gone):
    monkeypatch.setattr(outputs, "draw", lambda results, folder: [])  # which takes most of the time
    with_crops()(here)
    run = (*RUN, "--dataset", "folder:crops", *FEW, "--out", "out")
    assert call(capsys, monkeypatch, *run).code == 0
    shutil.copytree("out", "before")
    commands = [
        ("report", "out"),
        ("table", "table1", "--results", "out"),
        ("compare", "before", "out"),
        ("compare", "before/results/" + next(p.name for p in Path("before/results").iterdir()), "out"),
        ("leaderboard", "out"),
        ("weights", "list"),
        ("list", "weights"),
        ("data", "list"),
    ]
    without = [call(capsys, monkeypatch, *command) for command in commands]
    for result in [*Path("out/results").rglob("*.json")]:
        result.with_name(name(gone, ".json")).write_text("{half")
        result.with_name(name(gone, ".csv")).write_text("half")
        (result.parent / name(gone, "d")).mkdir(exist_ok=True)
        shutil.copy(result, result.parent / name(gone, "d") / result.name)
    Path("out/figures").mkdir(exist_ok=True)
    Path("out/figures", name(gone, ".png")).write_bytes(b"half")
    weights.save("pci", "mine", {}, channels=(), config={}, source="a test")
    whole = call(capsys, monkeypatch, "weights", "list").out
    (cache / "weights" / name(gone, ".safetensors")).write_bytes(b"half")
    assert call(capsys, monkeypatch, "weights", "list").out == whole
    (cache / "weights" / "pci@mine.safetensors").unlink()
    for command, before in zip(commands, without, strict=True):
        said = call(capsys, monkeypatch, *command)
        assert said.code == before.code, (command, said.err)
        assert "Traceback" not in said.err
        assert UNFINISHED not in said.out + said.err
        if command[0] != "report":
            assert said.out == before.out, command
    assert call(capsys, monkeypatch, *run).code == 0
    assert list(Path("out/results").rglob(f"{UNFINISHED}*")) == []


def test_a_replaced_folder_is_not_taken_apart_under_its_name(tmp_path, monkeypatch):
    target, removed, rmtree = tmp_path / "store", [], shutil.rmtree

    def recorded(path, **options):
        removed.append(Path(path))
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", recorded)
    for content in ("a", "b"):
        with atomic_folder(target) as temporary:
            (temporary / "chunk").write_text(content)
    assert (target / "chunk").read_text() == "b"
    assert removed
    assert all(path.name.startswith(UNFINISHED) for path in removed)


def test_many_may_check_the_same_new_folder_at_once(tmp_path):
    folder = tmp_path / "a" / "b" / "out"
    errors, barrier = [], threading.Barrier(8)

    def check():
        barrier.wait()
        for _ in range(40):
            try:
                check_writable(folder)
                with atomic_file(folder / "x" / f"{threading.get_ident()}") as temporary:
                    temporary.write_text("x")
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=check) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list((folder / "x").iterdir())) == 8


def test_a_check_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []


HOLD = "import sys; from pathlib import Path; from pci_bench.system.files import lock\n"
HOLD += "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


def test_waiting_for_another_process_says_so_with_its_identifier_and_a_dead_one_is_not_waited_for(tmp_path):
    path, said = tmp_path / "made", []
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"

    def say(sentence):
        said.append(sentence)
        holder.kill()

    with lock(path, say):
        holder.wait()
    assert len(said) == 1
    assert f"(process id {holder.pid})" in said[0]
    assert str(path) in said[0]
    began = time.monotonic()
    with lock(path, said.append):
        pass
    assert time.monotonic() - began < 1
    assert len(said) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".lock"]
