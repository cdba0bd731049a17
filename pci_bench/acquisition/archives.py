"""Archives of others, ZIP and TAR: members that are safe to write, read or unpacked within bounds."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from pci_bench.errors import UserError
from pci_bench.system.files import DEVICES_OF_WINDOWS, MAX_NAME_BYTES, atomic_folder, make_folder
from pci_bench.system.progress import Progress
from pci_bench.system.room import check_room, megabytes
from pci_bench.system.shortages import raise_shortage

BLOCK = 1 << 20
MAX_HEADER = 1 << 24
COMPRESSED = {b"\x1f\x8b": gzip, b"BZh": bz2, b"\xfd7zXZ\x00": lzma}
MAX_RATIO = (
    250  # of what comes out to what is stored; deflate gives up to 1,032, images and tables of numbers less than 50
)
MIN_BYTES_OF_A_BOMB = 1 << 26  # below which no ratio harms
MAX_BYTES = 1 << 40
MAX_MEMBERS = 5_000_000
READING = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    ValueError,
)
UNUSABLE = re.compile(r'[\x00-\x1f<>:"|?*\\]')  # what no name can hold on Windows


class ArchiveError(UserError):
    """An archive that is damaged, or not safe to unpack: a sentence."""


@dataclass(frozen=True)
class Member:
    """A file of an archive.

    Attributes
    ----------
    name
        Its path, with ``/`` between folders; it is safe to write below any folder.
    size
        Its length when unpacked, as the archive declares it.
    """

    name: str
    size: int


class Archive:
    """A ZIP or TAR archive (also ``.tar.gz``, ``.tar.bz2``, ``.tar.xz``), opened for reading.

    Parameters
    ----------
    path
        Of the archive.
    wanted
        Says of a member's name whether it is one of `members`; nothing else of the archive is looked at.
    remedy
        What to do where it is damaged, as a sentence.

    Raises
    ------
    ArchiveError
        Where it is no whole archive, or a wanted member is encrypted, a link, a device, outside its folder, there twice, or of a
        name that some systems cannot hold; and where they would expand without bound.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.zip")
    ...     with zipfile.ZipFile(path, "w") as written:
    ...         written.writestr("images/1.txt", "one")
    ...     with Archive(path) as archive:
    ...         names = [member.name for member in archive.members]
    ...         content = archive.read("images/1.txt")
    >>> names, content
    (['images/1.txt'], b'one')
    """

    def __init__(
        self, path: Path, wanted: Callable[[str], bool] = lambda name: True, remedy: str = "Get another copy."
    ):
        self.path, self.wanted, self.remedy = path, wanted, remedy
        self._opened: zipfile.ZipFile | tarfile.TarFile
        try:
            self._opened = zipfile.ZipFile(path) if zipfile.is_zipfile(path) else _tar(path)
        except READING as error:
            raise_shortage(error)
            kind = "ZIP" if path.suffix.lower() == ".zip" else "ZIP or TAR"
            raise ArchiveError(f"{path} is not a whole {kind} archive ({_brief(error)}). {remedy}") from error
        try:
            self._infos = dict(self._checked())
        except BaseException:
            self.close()
            raise
        self.members = tuple(Member(name, size) for name, (_, size) in self._infos.items())

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._opened.close()
        if isinstance(self._opened, tarfile.TarFile) and self._opened.fileobj is not None:
            self._opened.fileobj.close()

    def shown(self) -> str:
        """Return the first names of all that it holds, for a sentence."""
        names = self._opened.namelist() if isinstance(self._opened, zipfile.ZipFile) else self._opened.getnames()
        return _plain(", ".join(sorted(names)[:5])[:200]) or "nothing"

    def read(self, name: str) -> bytes:
        """Return one member's bytes, no more than the archive declares.

        Raises
        ------
        ArchiveError
            Where they are damaged.
        """
        return b"".join(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield one member's bytes, counted and checked as they come.

        Raises
        ------
        ArchiveError
            Where they are damaged, or more than the archive declares.
        """
        info, size = self._infos[name]
        came = 0
        with self._sentences(name), self._stream(info) as stream:
            while block := stream.read(BLOCK):
                came += len(block)
                if came > size:
                    break
                yield block
        if came != size:
            more = "more" if came > size else f"{came:,}"
            raise ArchiveError(
                f"{name} in {self.path} is damaged: it has {more} bytes, not the {size:,} declared. {self.remedy}"
            )

    def _stream(self, info: zipfile.ZipInfo | tarfile.TarInfo) -> IO[bytes]:
        if isinstance(self._opened, zipfile.ZipFile):
            assert isinstance(info, zipfile.ZipInfo)
            return self._opened.open(info)
        assert isinstance(info, tarfile.TarInfo)
        stream = self._opened.extractfile(info)
        assert stream is not None  # it is a file
        return stream

    @contextmanager
    def _sentences(self, name: str) -> Iterator[None]:
        try:
            yield
        except READING as error:
            raise_shortage(error)
            raise ArchiveError(f"{name} in {self.path} is damaged ({_brief(error)}). {self.remedy}") from error

    def _checked(self) -> Iterator[tuple[str, tuple[zipfile.ZipInfo | tarfile.TarInfo, int]]]:
        """Yield the files by their safe names, with their declared lengths."""
        stored, total, seen, folders = self.path.stat().st_size, 0, dict[str, str](), dict[str, str]()
        for number, (raw, is_folder, size, info) in enumerate(self._listed()):
            if number == MAX_MEMBERS:
                self._refuse(f"it holds more than {MAX_MEMBERS:,} files")
            name = self._safe(raw)
            parts = name.split("/")
            for depth in range(1, len(parts) + is_folder):
                folder = "/".join(parts[:depth])
                if (other := folders.setdefault(_folded(folder), folder)) != folder:
                    self._refuse(f"'{other}' and '{folder}' are one folder where capitals do not count")
            if is_folder:
                continue
            if (other := seen.get(_folded(name), "")) == name:
                self._refuse(f"'{name}' is in it twice")
            if other:
                self._refuse(f"'{other}' and '{name}' are one file where capitals do not count")
            seen[_folded(name)] = name
            total += size
            if total > MAX_BYTES or (total > MIN_BYTES_OF_A_BOMB and total > MAX_RATIO * stored):
                self._refuse(f"its {megabytes(stored)} would become {megabytes(total)} and more")
            yield name, (info, size)
        if both := sorted(set(seen) & set(folders)):
            self._refuse(f"'{seen[both[0]]}' is both a file and a folder")

    def _listed(self) -> Iterator[tuple[str, bool, int, zipfile.ZipInfo | tarfile.TarInfo]]:
        """Yield name, whether it is a folder, length and description of all members; raise for what is neither file nor folder."""
        if isinstance(self._opened, zipfile.ZipFile):
            for info in self._opened.infolist():
                if not self.wanted(info.orig_filename):
                    continue
                kind = stat.S_IFMT(info.external_attr >> 16)
                if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                    self._refuse(f"'{_plain(info.filename[:200])}' is a {'link' if stat.S_ISLNK(kind) else 'device'}")
                if info.flag_bits & 1:
                    self._refuse(
                        f"'{_plain(info.filename[:200])}' is encrypted, and there is no way to give a password"
                    )
                yield info.orig_filename, info.is_dir(), info.file_size, info
            return
        members = iter(self._opened)
        while True:
            try:
                member = next(members, None)
            except READING as error:
                raise_shortage(error)
                raise ArchiveError(
                    f"{self.path} is not a whole TAR archive ({_brief(error)}). {self.remedy}"
                ) from error
            if member is None:
                return
            if member.name == "." or not self.wanted(member.name.removeprefix("./")):
                continue
            if not (member.isreg() or member.isdir()):
                self._refuse(
                    f"'{_plain(member.name[:200])}' is a {'link' if member.issym() or member.islnk() else 'device'}"
                )
            yield member.name.removeprefix("./"), member.isdir(), member.size, member

    def _safe(self, raw: str) -> str:
        """Return a member's name as a relative path, or raise where it leads elsewhere or cannot be a name."""
        shown = _plain(raw[:200])
        parts = raw.removesuffix("/").split("/")
        if raw.startswith("/") or ".." in parts or re.match(r"[A-Za-z]:", raw):
            self._refuse(f"'{shown}' leads out of its folder")
        for part in parts:
            if (
                not part
                or part == "."
                or UNUSABLE.search(part)
                or part[-1] in ". "
                or part.partition(".")[0].rstrip().lower() in DEVICES_OF_WINDOWS
                or len(part.encode(errors="surrogateescape")) > MAX_NAME_BYTES
            ):
                self._refuse(f"'{shown}' holds '{_plain(part[:60])}', which is no name of a file on every system")
        return "/".join(parts)

    def _refuse(self, reason: str) -> None:
        raise ArchiveError(f"{self.path} is refused: {reason}. {self.remedy}")


def unpack(
    path: Path,
    folder: Path,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
    progress: Progress | None = None,
    remedy: str = "Get another copy.",
) -> list[str]:
    """Unpack an archive into a new folder, which is there whole afterwards, or not at all; return the names of its files.

    Parameters
    ----------
    path
        A ZIP or TAR archive.
    folder
        It replaces what is there.
    wanted
        Says of a member's name whether it is unpacked.
    progress
        Shows the bytes.
    remedy
        What to do where the archive is damaged, as a sentence.

    Raises
    ------
    ArchiveError
        As :class:`Archive`; and where no member is wanted.
    NoRoomError
        Where the disk has too little room.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as place:
    ...     with zipfile.ZipFile(Path(place, "a.zip"), "w") as written:
    ...         written.writestr("images/1.txt", "one")
    ...         written.writestr("README", "two")
    ...     names = unpack(Path(place, "a.zip"), Path(place, "a"), wanted=lambda name: name.endswith(".txt"))
    ...     content = Path(place, "a/images/1.txt").read_text()
    >>> names, content
    (['images/1.txt'], 'one')
    """
    progress = progress or Progress()
    with Archive(path, wanted, remedy) as archive:
        if not archive.members:
            raise ArchiveError(f"{path} holds none of the files expected; it holds {archive.shown()}. {remedy}")
        total = sum(member.size for member in archive.members)
        check_room(make_folder(folder.parent), total, f"what {path.name} holds")
        with atomic_folder(folder) as temporary, progress.transfer(f"unpacking {path.name}", total) as move:
            written = 0
            for member in archive.members:
                target = temporary / member.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "xb") as stream:
                    for block in archive.blocks(member.name):
                        stream.write(block)
                        written += len(block)
                        move(written)
        return [member.name for member in archive.members]


class _Bounded:
    """The stream of a TAR archive, of which no header is read that would fill the memory."""

    def __init__(self, stream: IO[bytes]):
        self.seek, self.tell, self.close, self._read = stream.seek, stream.tell, stream.close, stream.read

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        if size > MAX_HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self._read(size)


def _tar(path: Path) -> tarfile.TarFile:
    """Open a TAR archive, compressed or not; who closes it also closes its `fileobj`."""
    with open(path, "rb") as stream:
        start = stream.read(6)
    opened = next((module.open for magic, module in COMPRESSED.items() if start.startswith(magic)), open)
    bounded = _Bounded(opened(path, "rb"))
    try:
        return tarfile.TarFile(fileobj=bounded, mode="r")  # type: ignore[arg-type] # it reads, seeks and tells
    except BaseException:
        bounded.close()
        raise


def is_archive(path: Path) -> bool:
    """Return whether a file begins as an archive that can be unpacked."""
    if zipfile.is_zipfile(path):
        return True
    try:
        archive = _tar(path)
    except READING as error:
        raise_shortage(error)
        return False
    if archive.fileobj is not None:
        archive.fileobj.close()
    return True


def _folded(name: str) -> str:
    """Return a name as file systems compare it that count neither capitals nor how an accent is written."""
    return unicodedata.normalize("NFC", name.casefold())


def _plain(name: str) -> str:
    """Return a name in one line, whatever it holds."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)


def _brief(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0].rstrip(".")[:200]
