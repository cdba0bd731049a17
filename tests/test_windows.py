"""What Windows does otherwise, tried by its rules on any system: names, line ends, open files, and what only POSIX has.

What these rules do not cover is seen only where continuous integration runs on Windows itself.
"""

from __future__ import annotations

import ast
import errno
import ntpath
import os
import signal
import subprocess
import sys
from pathlib import Path, PureWindowsPath

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pci_bench import register_dataset
from pci_bench.api.dataset import load_dataset
from pci_bench.data.cells import Channel, DatasetMeta
from pci_bench.system import files
from pci_bench.system.files import atomic_file, atomic_folder, escape
from pci_bench.system.interruption import ended_on_signals
from pci_bench.system.machine import peak_memory
from pci_bench.system.text import csv_table
from pci_bench.system.threads import machine_cores

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [file for folder in ("pci_bench", "baselines") for file in sorted((ROOT / folder).rglob("*.py"))]
ONLY_POSIX = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix"}


@pytest.fixture
def windows(monkeypatch):
    """``sys.platform`` as on Windows, and the longest wait there made short."""
    monkeypatch.setattr(files, "SECONDS_BETWEEN_REPLACEMENTS", 0.0)
    monkeypatch.setattr(sys, "platform", "win32")


# ---- names


def is_reserved(name: str) -> bool:
    """Return what Python knows of Windows' names."""
    return ntpath.isreserved(name) if hasattr(ntpath, "isreserved") else PureWindowsPath(name).is_reserved()


@given(st.text(min_size=1))
@example("NUL")
@example("aux.1")
@example("com1.")
@example("CONIN$")
@example("COM¹")
@example("v1.")
@example("a ")
@example("...")
def test_an_escaped_name_is_no_device_of_windows_and_ends_in_what_windows_keeps(name):
    safe = escape(name)
    assert not is_reserved(safe)
    assert not is_reserved(f"{safe}.json")
    assert not safe.endswith((".", " "))


@pytest.mark.parametrize("names", [("NUL", "%4EUL"), ("v1.", "v1%2E"), ("v1.", "v1"), ("a..", "a.")])
def test_names_that_windows_would_take_for_the_same_stay_different(names):
    assert escape(names[0]).casefold() != escape(names[1]).casefold()


# ---- files


def refuse_read_only_descriptors(monkeypatch):
    """Let ``os.fsync`` refuse a descriptor that may not write, as it does on Windows."""
    fcntl = pytest.importorskip("fcntl")
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)


def test_files_and_folders_are_written_where_a_read_only_descriptor_cannot_be_synced(tmp_path, windows, monkeypatch):
    refuse_read_only_descriptors(monkeypatch)
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    with atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "within").write_text("new")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "folder" / "within").read_text() == "new"


def occupied(monkeypatch, times: int) -> list[Path]:
    """Let ``os.replace`` refuse so many times, as Windows does while a reader has the target open."""
    replace, refused = os.replace, []

    def refusing(source, target):
        if len(refused) < times:
            refused.append(target)
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refusing)
    return refused


def test_a_file_that_a_reader_has_open_for_a_moment_is_replaced_when_it_is_closed(tmp_path, windows, monkeypatch):
    (tmp_path / "file").write_text("old")
    refused = occupied(monkeypatch, 3)
    with atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert len(refused) == 3
    assert (tmp_path / "file").read_text() == "new"


def test_a_file_that_a_reader_keeps_open_is_a_sentence_and_stays(tmp_path, windows, monkeypatch):
    (tmp_path / "file").write_text("old")
    occupied(monkeypatch, files.ATTEMPTS)
    with (
        pytest.raises(files.UserError, match=r"Could not write .*: permission is denied"),
        atomic_file(tmp_path / "file") as temporary,
    ):
        temporary.write_text("new")
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_elsewhere_a_forbidden_place_is_said_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    refused = occupied(monkeypatch, files.ATTEMPTS)
    with pytest.raises(files.UserError, match="permission is denied"), atomic_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert len(refused) == 1


# ---- text


def test_the_hash_of_a_dataset_does_not_depend_on_the_line_ends_of_the_system(own_registries, monkeypatch, tmp_path):
    @register_dataset("lines")
    class Lines:
        """Two cells."""

        meta = DatasetMeta("lines", "1", "Two cells")

        def unavailable_reason(self):
            """Return None: it is always here."""

        def build(self, store):
            """Write both cells."""
            obs = pd.DataFrame({"cell": ["a", "b"], "image": ["w0", "w1"]})
            store.begin(obs, (Channel("GFP", "protein"),), crop_shape=(2, 2), dtype="uint8")
            store.add(np.arange(8, dtype=np.uint8).reshape(2, 1, 2, 2))

    hashes = set()
    for ends in ("\n", "\r\n"):
        monkeypatch.setattr(os, "linesep", ends)
        monkeypatch.setenv("PCI_BENCH_CACHE", str(tmp_path / repr(ends)))
        hashes.add(load_dataset("lines").sha256)
    assert len(hashes) == 1


def test_tables_have_the_same_line_ends_on_every_system(monkeypatch):
    monkeypatch.setattr(os, "linesep", "\r\n")
    assert csv_table(pd.DataFrame({"a": [1]})) == "a\n1\n"


NEEDED = {"read_text": {"encoding"}, "write_text": {"encoding", "newline"}, "to_csv": {"lineterminator"}}


def calls(file: Path):
    """Yield (line, name, keywords) of every call of a method or function in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", None) or getattr(node.func, "id", None)
            yield node.lineno, name, {keyword.arg for keyword in node.keywords}


def test_every_text_file_is_read_and_written_with_a_named_encoding_and_line_ends():
    lacking = [
        f"{file.relative_to(ROOT)}:{line}: {name} without {', '.join(sorted(NEEDED[name] - keywords))}"
        for file in SOURCES
        for line, name, keywords in calls(file)
        if name in NEEDED and NEEDED[name] - keywords
    ]
    assert lacking == []


def test_what_the_encoding_of_a_stream_lacks_is_printed_in_ascii_on_windows():
    program = (
        "import sys; from pci_bench.cli.streams import standard_streams; sys.platform = 'win32'\n"
        "with standard_streams(): print('3 × 5 → \u03bc')"
    )
    told = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=told, check=True)
    assert done.stdout.decode("cp1252").rstrip() == "3 × 5 \\u2192 \\u03bc"


# ---- what only POSIX has


def test_no_module_imports_at_its_top_what_only_posix_has():
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in SOURCES
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and ({alias.name for alias in node.names} | {getattr(node, "module", None)}) & ONLY_POSIX
    ]
    assert found == []


def test_without_the_module_resource_no_peak_of_memory_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None


def test_without_a_set_of_usable_cores_all_are_counted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert machine_cores() == os.cpu_count()


def test_a_system_without_sighup_hears_the_other_signals(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    with ended_on_signals():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
