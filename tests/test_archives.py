"""Archives: what is in them comes out whole and nowhere else, or one sentence says why not."""

from __future__ import annotations

import io
import shutil
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pci_bench import UserError
from pci_bench.acquisition import archives
from pci_bench.acquisition.archives import Archive, is_archive, unpack

FILES = {"images/a/1.tif": b"one" * 1000, "images/b/2.tif": b"two", "README.md": b"read me", "empty.txt": b""}
KINDS = ["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"]


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    """Write an archive of a kind that its ending tells."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
            for name, content in files.items():
                written.writestr(name, content)
        return path
    with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as written:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            written.addfile(info, io.BytesIO(content))
    return path


def below(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_archive_comes_out_whole(tmp_path, kind):
    path = archive_of(tmp_path / f"a.{kind}", FILES)
    assert is_archive(path)
    assert not is_archive(Path(__file__))
    assert unpack(path, tmp_path / "out") == list(FILES)
    assert below(tmp_path / "out") == FILES
    with Archive(path) as archive:
        assert {member.name: archive.read(member.name) for member in archive.members} == FILES
        assert [member.size for member in archive.members] == [len(content) for content in FILES.values()]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_only_what_is_wanted_is_unpacked_and_nothing_else_is_looked_at(tmp_path, kind):
    path = archive_of(tmp_path / f"a.{kind}", {**FILES, "../evil": b"", "AUX.txt": b""})
    unpack(path, tmp_path / "out", wanted=lambda name: name.startswith("images/"))
    assert sorted(below(tmp_path / "out")) == ["images/a/1.tif", "images/b/2.tif"]
    with pytest.raises(UserError, match=r"holds none of the files expected; it holds \.\./evil, AUX\.txt, README\.md"):
        unpack(path, tmp_path / "none", wanted=lambda name: False)
    assert not (tmp_path / "none").exists()


def test_folders_of_their_own_and_a_leading_dot_are_no_obstacle(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "a.txt").write_bytes(b"a")
    with tarfile.open(tmp_path / "a.tar", "w") as written:
        written.add(tmp_path / "in", ".")  # as `tar -cf a.tar .` does
    shutil.make_archive(str(tmp_path / "b"), "zip", tmp_path / "in")
    for name in ("a.tar", "b.zip"):
        unpack(tmp_path / name, tmp_path / "out")
        assert below(tmp_path / "out") == {"deep/a.txt": b"a"}


UNSAFE = [
    "/etc/passwd",
    "../up.txt",
    "a/../../up.txt",
    "C:/windows.txt",
    "a\\b.txt",
    "a:stream",
    "NUL",
    "a/com1.txt",
    "ends.",
    "ends ",
    "a//b",
    "a/./b",
    "new\nline",
    "x" * 300,
]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", UNSAFE, ids=lambda name: repr(name[:20]))
def test_a_name_that_leads_out_or_that_some_system_cannot_hold_is_refused(tmp_path, kind, name):
    folder = tmp_path / "in"
    folder.mkdir()
    path = archive_of(folder / f"a.{kind}", {name: b"x"})
    with pytest.raises(
        UserError, match=r"is refused: '.*' (leads out of its folder|holds '.*', which is no name)"
    ) as error:
        unpack(path, folder / "out")
    assert "\n" not in str(error.value)
    assert [p.name for p in folder.iterdir()] == [path.name]
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a.txt", "A.TXT"], "are one file where capitals do not count"),
        (["stra\u00dfe", "STRASSE"], "are one file where capitals do not count"),
        (["\u00e9.txt", "e\u0301.txt"], "are one file where capitals do not count"),
        (["a/1", "A/2"], "are one folder where capitals do not count"),
        (["a", "a/1"], "is both a file and a folder"),
        (["a/1", "a"], "is both a file and a folder"),
        (["a.txt", "a.txt"], "is in it twice"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_are_one_on_some_system_are_refused(tmp_path, names, words):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        for name in names:
            written.writestr(name, b"")
    with pytest.raises(UserError, match=words):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize(("kind", "word"), [(tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "link"), (tarfile.FIFOTYPE, "device"), (tarfile.CHRTYPE, "device")])  # fmt: skip
def test_links_and_devices_are_refused(tmp_path, kind, word):
    with tarfile.open(tmp_path / "a.tar", "w") as written:
        info = tarfile.TarInfo("evil")
        info.type, info.linkname = kind, "/etc/passwd"
        written.addfile(info)
    with pytest.raises(UserError, match=f"'evil' is a {word}"):
        unpack(tmp_path / "a.tar", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as written:
        zipped = zipfile.ZipInfo("evil")
        zipped.external_attr = (stat.S_IFLNK if word == "link" else stat.S_IFIFO) << 16
        written.writestr(zipped, "/etc/passwd")
    with pytest.raises(UserError, match=f"'evil' is a {word}"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_what_would_fill_the_disk_is_refused_before_a_byte_is_written(tmp_path, kind, monkeypatch):
    path = archive_of(tmp_path / f"a.{kind}", {"zeros": bytes(70_000_000), "rest": b""})
    with pytest.raises(UserError, match=r"its [\d.]+ kB would become 70\.0 MB and more"):
        unpack(path, tmp_path / "out")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))
    monkeypatch.setattr(archives, "MAX_RATIO", 2000)
    with pytest.raises(
        UserError, match=r"too little room for what a\..* holds in .*: it needs 70\.0 MB, and 100\.0 MB are free"
    ):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_bytes_than_declared_are_never_written(tmp_path):
    path = archive_of(tmp_path / "a.zip", {"a.bin": np.random.default_rng(0).bytes(50_000)})
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    content[directory + 24 : directory + 28] = struct.pack("<I", 1000)  # the length when unpacked
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.bin in .* is damaged"):
        unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_header_that_would_fill_the_memory_is_a_sentence(tmp_path):
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes(10240))
    with pytest.raises(UserError, match=r"is not a whole ZIP or TAR archive \(a header of 4,294,967,296 bytes\)"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_archive_names_the_member_or_itself_and_leaves_what_was_there(tmp_path, kind):
    files = {f"{i}.bin": np.random.default_rng(i).bytes(20_000) for i in range(4)}
    path = archive_of(tmp_path / f"a.{kind}", files)
    unpack(path, tmp_path / "out")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:3], b"", b"<html>Log in</html>"):
        path.write_bytes(damaged)
        with pytest.raises(
            UserError, match=r"a\..* is (not a whole (ZIP|TAR|ZIP or TAR) archive|damaged) ?.*Get it again\."
        ) as error:
            unpack(path, tmp_path / "out", remedy="Get it again.")
        assert "\n" not in str(error.value)
        assert below(tmp_path / "out") == files
    if kind == "zip":
        flipped = bytearray(whole)
        flipped[30_000] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(UserError, match=r"1\.bin in .*a\.zip is damaged \(Bad CRC-32 for file '1\.bin'\)"):
            unpack(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "out"]


def test_an_encrypted_member_is_a_sentence(tmp_path):
    path = archive_of(tmp_path / "a.zip", {"secret.txt": b"x"})
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"'secret\.txt' is encrypted, and there is no way to give a password"):
        unpack(path, tmp_path / "out")
