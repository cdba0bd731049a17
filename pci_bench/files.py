"""Where things are kept, and writing that is whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pci_bench.checksums import digest_of
from pci_bench.errors import UserError


def cache_folder() -> Path:
    """Return the folder of everything that can be made again: ``PCI_BENCH_CACHE``, or the platform's cache folder."""
    if named := os.environ.get("PCI_BENCH_CACHE"):
        return Path(named).expanduser().absolute()
    from platformdirs import user_cache_path

    return user_cache_path("pci-bench")


def user_data_folder(name: str) -> Path | None:
    """Return the folder ``PCI_BENCH_DATA/<name>`` of a user's own copy, or None where there is none."""
    root = os.environ.get("PCI_BENCH_DATA")
    folder = Path(root).expanduser().absolute() / name if root else None
    return folder if folder is not None and folder.is_dir() else None


def escape(name: str) -> str:
    """Return `name` as one safe path component; everything but letters, digits and ``@=,.+-_`` is percent-encoded.

    A name too long for a file system keeps its start and ends in a hash of the whole.
    """
    octets = name.encode(errors="surrogateescape")  # paths on Linux need not be Unicode
    safe = quote(octets, safe="@=,+")
    if safe.strip(".") == "":
        safe = safe.replace(".", "%2E")
    if len(safe) > 150:
        safe = safe[:133] + "-" + hashlib.sha256(octets).hexdigest()[:16]
    return safe


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes; read once as long as size and time stay the same."""
    state = path.stat()
    return _sha256_of(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256_of(path: Path, size: int, modified: int) -> str:
    return digest_of(path)


@contextmanager
def sentences_for_os_errors(action: str, path: Path) -> Iterator[None]:
    """Turn what a file system refuses into a sentence: a full disk, a read-only or forbidden place, a file in the way."""
    remedies = {
        errno.ENOSPC: "the disk is full: free some space, or name another place with --out or PCI_BENCH_CACHE",
        errno.EDQUOT: "the disk quota is used up: free some space, or name another place with --out or PCI_BENCH_CACHE",
        errno.EACCES: "permission is denied: name another place with --out or PCI_BENCH_CACHE",
        errno.EPERM: "permission is denied: name another place with --out or PCI_BENCH_CACHE",
        errno.EROFS: "the file system is read-only: name another place with --out or PCI_BENCH_CACHE",
        errno.ENOTDIR: "part of the path is a file, not a folder: name another place",
        errno.EEXIST: "part of the path is a file, not a folder: name another place",
    }
    try:
        yield
    except OSError as error:
        if error.errno not in remedies:
            raise
        raise UserError(
            f"Could not {action} {path}: {remedies[error.errno]}. Nothing was left half-written."
        ) from error


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, or say in a sentence why that cannot be."""
    with sentences_for_os_errors("make the folder", path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # with all parents asked for, only where none can be made, as in /proc
            raise OSError(errno.EACCES, "no folder can be made here") from error
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well, and is removed when it does not.

    Raises
    ------
    UserError
        Where the disk is full or the place cannot be written; `path` is then as it was before.
    """
    make_folder(path.parent)
    with sentences_for_os_errors("write", path):
        descriptor, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
        os.close(descriptor)
        temporary = Path(name)
        try:
            yield temporary
            _sync(temporary)
            temporary.chmod(
                0o666 & ~_umask()
            )  # mkstemp's files are private; results are for the group, as open() makes them
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def copy_if_different(source: Path, target: Path) -> None:
    """Make a file's bytes those of another; nothing is written where they are already."""
    content = source.read_bytes()
    if target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content:
        return
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, replacing what was there, when the block ends well."""
    make_folder(path.parent)
    with sentences_for_os_errors("write", path):
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=path.parent))
        try:
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _sync(file)
            temporary.chmod(0o777 & ~_umask())
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the only right to make `path`; whoever comes second waits."""
    from filelock import FileLock

    make_folder(path.parent)
    held = FileLock(path.with_name(path.name + ".lock"))
    with sentences_for_os_errors("lock", path):
        held.acquire()
    try:
        yield
    finally:
        held.release()


def write_json(file: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    text = json_text(value)
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Return JSON; NaN and infinity, which JSON cannot hold, raise ValueError."""
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
