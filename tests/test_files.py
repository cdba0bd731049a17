"""Names that are safe as files, and writing that is atomic."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pci_bench.errors import UserError
from pci_bench.system import files
from pci_bench.system.files import atomic_file, atomic_folder, cache_folder, escape, lock, sha256_of, user_data_folder

# ---- names


@given(st.text(min_size=1))
@example("../../etc/passwd")
@example("..")
@example(".")
@example("x" * 500)
@example("é" * 200)
@example("folder:C:\\crops?protein=_c1")
@example("nul\0byte")
def test_an_escaped_name_is_one_safe_path_component(name):
    safe = escape(name)
    assert not set(safe) & set('/\\\0:*?"<>|%\n ') - {"%"}
    assert safe not in ("", ".", "..")
    assert len(safe.encode()) <= 200  # leaves room for a hash and an ending in 255
    assert safe.isascii()


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2, unique=True))
@example(["a/b", "a%2Fb"])
@example([".", "%2E"])
@example(["a" * 300, "a" * 301])
@example(["a" * 300 + "b", "a" * 300 + "c"])
@example(["é", "e\u0301"])
def test_two_names_never_share_a_file(names):
    assert escape(names[0]) != escape(names[1])


@pytest.mark.parametrize("name", ["pci-conv4@lu2019-yeast", "k=11,exclude=cell", "toy-yeast", "v1.2_x+y"])
def test_ordinary_names_stay_readable(name):
    assert escape(name) == name


def test_a_name_that_is_not_unicode_is_escaped_too():
    """Paths on Linux are bytes; Python hands over those that are not UTF-8 with surrogates."""
    name = os.fsdecode(b"folder:caf\xe9")
    assert escape(name).startswith("folder%3Acaf")
    assert escape(name) != escape("folder:cafe")
    assert escape(os.fsdecode(b"\xe9" * 300)) != escape(os.fsdecode(b"\xe9" * 301))


# ---- places


def test_the_cache_and_the_data_are_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("PCI_BENCH_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("PCI_BENCH_CACHE")
    assert cache_folder().name == "pci-bench"
    assert user_data_folder("toy-yeast") is None
    monkeypatch.setenv("PCI_BENCH_DATA", str(tmp_path))
    assert user_data_folder("toy-yeast") is None
    (tmp_path / "toy-yeast").mkdir()
    assert user_data_folder("toy-yeast") == tmp_path / "toy-yeast"


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "f").write_bytes(b"abc" * 100000)
    assert sha256_of(tmp_path / "f") == hashlib.sha256(b"abc" * 100000).hexdigest()


# ---- files


def test_a_file_appears_whole_and_leaves_nothing_beside_it(tmp_path):
    target = tmp_path / "new" / "deep" / "result.json"
    with atomic_file(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        temporary.write_text("one")
        assert not target.exists()
    with atomic_file(target) as temporary:
        temporary.write_text("two")
        assert target.read_text() == "one"
    assert target.read_text() == "two"
    assert list(target.parent.iterdir()) == [target]


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["while writing", "at the end"])
def test_on_a_full_disk_the_old_file_stays_and_the_user_is_told(tmp_path, monkeypatch, where):
    target = tmp_path / "result.json"
    target.write_text("old")
    if where == "at the end":
        monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full") as error, atomic_file(target) as temporary:
        temporary.write_text("half of the ne")
        if where == "while writing":
            full()
    assert str(target) in str(error.value)
    assert "PCI_BENCH_CACHE" in str(error.value)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_on_a_really_full_disk_a_write_is_a_sentence():
    """/dev/full refuses every write as a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with (
        pytest.raises(UserError, match="the disk is full"),
        files.sentences_for_os_errors("write", Path("somewhere")),
        open("/dev/full", "w") as stream,
    ):
        stream.write("x" * 100_000)


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, exception):
    target = tmp_path / "result.json"
    target.write_text("old")
    with pytest.raises(exception), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise exception
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.EACCES, "permission is denied"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.ENOTDIR, "is a file, not a folder"),
    ],
)
def test_what_a_file_system_refuses_is_a_sentence(tmp_path, monkeypatch, number, sentence):
    def refuse(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(UserError, match=sentence) as error, atomic_file(tmp_path / "f"):
        pytest.fail("there was nowhere to write")
    assert str(tmp_path / "f") in str(error.value)


def test_an_error_of_another_kind_is_not_mistaken_for_the_disks(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "f"):
        open(tmp_path / "an input that is missing")


def test_a_file_where_a_folder_should_be_is_a_sentence(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(UserError, match="is a file, not a folder"), atomic_file(tmp_path / "runs" / "a" / "b.json"):
        pytest.fail("there was nowhere to write")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_a_written_file_has_the_rights_that_open_would_give(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "f") as temporary:
            temporary.write_text("x")
    finally:
        os.umask(before)
    assert (tmp_path / "f").stat().st_mode & 0o777 == mode


# ---- folders


def test_a_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "store"
    for content in ("old", "new"):
        with atomic_folder(target) as temporary:
            (temporary / content).mkdir()
            (temporary / content / "chunk").write_text(content)
    assert [p.name for p in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("exception", [RuntimeError, KeyboardInterrupt, OSError(errno.ENOSPC, "full")])
def test_a_folder_that_could_not_be_finished_leaves_the_old_one(tmp_path, exception):
    target = tmp_path / "store"
    target.mkdir()
    (target / "chunk").write_text("old")
    expected = UserError if isinstance(exception, OSError) else exception
    with pytest.raises(expected), atomic_folder(target) as temporary:
        (temporary / "chunk").write_text("half")
        raise exception
    assert (target / "chunk").read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# ---- locks


def test_whoever_comes_second_waits(tmp_path):
    events, inside = [], threading.Event()

    def second():
        inside.wait(10)
        events.append("second asks")
        with lock(tmp_path / "made"):
            events.append("second has it")

    thread = threading.Thread(target=second)
    thread.start()
    with lock(tmp_path / "made"):
        inside.set()
        thread.join(0.3)
        assert thread.is_alive()
        events.append("first is done")
    thread.join(10)
    assert events == ["second asks", "first is done", "second has it"]
