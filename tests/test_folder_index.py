"""Folders of very many crops: looked at whole once, and whatever changes afterwards is seen."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from pathlib import Path

import pytest
from command_line import call

from pci_bench.acquisition import folder_index
from pci_bench.acquisition.folder_index import folder_fingerprint, note_of

LONG_AGO = time.time() - 3600


@pytest.fixture
def many(tmp_path, cache, monkeypatch) -> Path:
    """A folder of 24 crops that were written an hour ago, which is many here, and of which 4 are drawn."""
    monkeypatch.setattr(folder_index, "MANY_FILES", 20)
    monkeypatch.setattr(folder_index, "DRAWN", 4)
    root = tmp_path / "crops"
    for image in "abc":
        (root / image).mkdir(parents=True)
        for number in range(8):
            (root / image / f"c{number}_gfp.tif").write_bytes(b"x" * number)
    (root / "images.csv").write_text("image,label\na,one\n", encoding="utf-8")
    for path in [*root.rglob("*"), root]:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return root


def by_a_loop(root: Path) -> str:
    lines = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.tif"))
    lines += [name for name in ("images.csv", "cells.csv") if (root / name).exists()]
    stats = [(name, (root / name).stat()) for name in lines]
    text = "".join(f"{name}\0{stat.st_size}\0{stat.st_mtime_ns}\n" for name, stat in stats)
    return hashlib.sha256(text.encode()).hexdigest()


def listings(root: Path, monkeypatch) -> list[Path]:
    """The folders of crops that are listed from now on."""
    listed: list[Path] = []
    scandir = os.scandir

    def listing(folder):
        if Path(folder).is_relative_to(root):
            listed.append(Path(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", listing)
    return listed


def test_a_folder_of_many_files_is_listed_once(many, monkeypatch):
    listed = listings(many, monkeypatch)
    first = folder_fingerprint(many)
    assert len(listed) == 4
    assert folder_fingerprint(many) == first
    assert len(listed) == 4
    assert by_a_loop(many) == first


def test_a_folder_of_few_files_is_looked_at_each_time(many, monkeypatch):
    monkeypatch.setattr(folder_index, "MANY_FILES", 25)
    first = folder_fingerprint(many)
    assert not note_of(many).exists()
    (many / "b" / "c3_gfp.tif").write_bytes(b"longer than before")
    assert folder_fingerprint(many) == by_a_loop(many) != first


@pytest.mark.parametrize(
    "change", ["added", "removed", "renamed", "new folder", "folder removed", "table", "new table"]
)
def test_whatever_comes_or_goes_is_seen(many, change):
    first = folder_fingerprint(many)
    assert note_of(many).exists()
    match change:
        case "added":
            (many / "b" / "c9_gfp.tif").write_bytes(b"")
        case "removed":
            (many / "b" / "c3_gfp.tif").unlink()
        case "renamed":
            (many / "b" / "c3_gfp.tif").rename(many / "b" / "c30_gfp.tif")
        case "new folder":
            shutil.copytree(many / "a", many / "d" / "e")
        case "folder removed":
            shutil.rmtree(many / "b")
        case "table":
            (many / "images.csv").write_text("image,label\na,two\n", encoding="utf-8")
        case "new table":
            (many / "cells.csv").write_text("cell\n", encoding="utf-8")
    assert folder_fingerprint(many) == by_a_loop(many) != first


def test_files_that_are_all_written_anew_in_place_are_seen(many):
    first = folder_fingerprint(many)
    for file in many.rglob("*.tif"):
        file.write_bytes(b"anew")
    assert folder_fingerprint(many) == by_a_loop(many) != first


def test_what_is_overwritten_and_not_drawn_is_seen_once_the_note_is_removed(many, capsys, monkeypatch):
    first = folder_fingerprint(many)
    known = folder_index._read(note_of(many))
    assert known is not None
    assert len(known.drawn) == 4
    other = next(p for p in sorted(many.rglob("*.tif")) if p.relative_to(many).as_posix() not in known.drawn)
    other.write_bytes(b"anew")
    assert folder_fingerprint(many) == first
    removed = call(capsys, monkeypatch, "data", "remove", f"folder:{many}")
    assert removed.code == 0, removed.err
    assert folder_fingerprint(many) == by_a_loop(many) != first


def test_a_folder_that_has_just_changed_is_not_noted(many):
    (many / "a" / "c9_gfp.tif").write_bytes(b"")
    folder_fingerprint(many)
    assert not note_of(many).exists()


@pytest.mark.parametrize("damage", [b"", b"{", b"[1]", b'{"fingerprint": "x"}'])
def test_a_damaged_note_is_written_anew(many, damage):
    first = folder_fingerprint(many)
    note_of(many).write_bytes(damage)
    assert folder_fingerprint(many) == first
    assert folder_index._read(note_of(many)) is not None
