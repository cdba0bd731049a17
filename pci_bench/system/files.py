"""Cache folders, user paths, locks, and atomic writing of files and folders."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pci_bench.errors import UserError
from pci_bench.system.checksums import digest_of
from pci_bench.system.interruption import postponed, undone
from pci_bench.system.shortages import FORBIDDEN, REMEDIES, error_number, shortage

UNFINISHED = ".writing-"  # then the machine and the process that writes, and something random
SECONDS_UNTIL_ABANDONED = 7 * 24 * 3600.0
SECONDS_BEFORE_SAYING = 1.5  # that another process is waited for
ATTEMPTS = 20
SECONDS_BETWEEN_REPLACEMENTS = 0.05  # on Windows, where a file that another process has open cannot be replaced
DEVICES_OF_WINDOWS = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10))}
)
_UMASK_LOCK = threading.Lock()
MAX_NAME_BYTES, MAX_PATH_BYTES = 255, 4095  # of every file system in use


def check_text(name: str, what: str) -> None:
    """Raise a sentence where a name or path is not UTF-8, which every result is written in."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} {name!r} is not UTF-8, as names in results are. Rename it, or make a link to it."
        ) from error


def user_path(named: str | Path, what: str, *, absolute: bool = False, text: bool = False) -> Path:
    """Return a path that a user named, with ``~`` as the home folder.

    Parameters
    ----------
    named
        As the user wrote it.
    what
        What the user named it for, to begin a sentence: ``"--out"``.
    absolute
        Whether to return it from the root on; else it may start at the current folder.
    text
        Whether it enters results, which are UTF-8; on Linux a path need not be text.

    Raises
    ------
    UserError
        For what no file system holds: a NUL character, a name or path that is too long, ``~`` of an unknown user, symbolic
        links that lead in a circle; for a relative path that must be absolute where the current folder is gone; and for
        one that is not text where it must be.
    """
    given = str(named)
    abbreviated = given if len(given) <= 100 else f"{given[:50]}…{given[-40:]}"
    if text:
        check_text(given, what)
    if "\0" in given:
        raise UserError(f"{what} {abbreviated!r} holds a NUL character. Write a path without it.")
    try:
        path = Path(given).expanduser()
        octets = [len(os.fsencode(part)) for part in path.parts]
    except RuntimeError as error:
        raise UserError(
            f"{what} {abbreviated}: there is no home folder of this user. Write the path without ~."
        ) from error
    except UnicodeEncodeError as error:
        raise UserError(
            f"{what} {abbreviated!r} holds characters that no file name on this system can hold."
        ) from error
    if max(octets, default=0) > MAX_NAME_BYTES or sum(octets) + len(octets) > MAX_PATH_BYTES:
        raise UserError(
            f"{what} {abbreviated} is too long: a name has at most 255 bytes, a path 4095. Use a shorter one."
        )
    try:
        path.stat()
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{what} {abbreviated}: {REMEDIES[errno.ELOOP]}.") from error
    try:
        return path.absolute() if absolute else path
    except FileNotFoundError as error:
        raise UserError(
            f"{what} {abbreviated} starts at the current folder, which is gone. Change to another folder, or name a whole path."
        ) from error


def may_write(folder: Path) -> bool:
    """Return whether files can be made in a folder, or in the nearest of its parents that there is."""
    nearest = next((place for place in (folder, *folder.parents) if os.path.exists(place)), Path())
    return os.access(nearest, os.W_OK | os.X_OK)


def cache_folder() -> Path:
    """Return the folder of everything that can be made again: ``PCI_BENCH_CACHE``, or the platform's cache folder."""
    if named := os.environ.get("PCI_BENCH_CACHE"):
        return user_path(named, "PCI_BENCH_CACHE", absolute=True, text=True)
    from platformdirs import user_cache_path

    try:
        return user_cache_path("pci-bench").expanduser()  # platformdirs 4.0 leaves ~ where there is no home
    except RuntimeError as error:
        raise UserError(
            "There is no home folder to keep a cache in: HOME is not set, and the system knows no home of this user. "
            "Set PCI_BENCH_CACHE to a folder that can be written."
        ) from error


def user_data_folder(name: str) -> Path | None:
    """Return the folder ``PCI_BENCH_DATA/<name>`` of a user's own copy, or None where there is none."""
    root = os.environ.get("PCI_BENCH_DATA")
    folder = user_path(root, "PCI_BENCH_DATA", absolute=True, text=True) / name if root else None
    return folder if folder is not None and folder.is_dir() else None


def escape(name: str) -> str:
    """Return `name` as one path component that every system can hold.

    Everything but letters, digits and ``@=,.+-_~`` is percent-encoded. So are a full stop at the end, which Windows drops, and
    the first letter of the names that Windows keeps for devices. A name too long for a file system keeps its start and ends
    in a hash of the whole.

    Examples
    --------
    >>> escape("timm:resnet18"), escape("k=11,exclude=cell"), escape("NUL"), escape("v1.")
    ('timm%3Aresnet18', 'k=11,exclude=cell', '%4EUL', 'v1%2E')
    """
    octets = name.encode(errors="surrogateescape")  # paths on Linux need not be Unicode
    safe = quote(octets, safe="@=,+")
    stem = safe.rstrip(".")
    safe = stem + "%2E" * (len(safe) - len(stem))
    if safe.partition(".")[0].lower() in DEVICES_OF_WINDOWS:
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
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
    try:
        yield
    except Exception as error:
        number = None if isinstance(error, UserError) or shortage(error) else error_number(error)
        if number not in REMEDIES:
            raise
        raise UserError(f"Could not {action} {path}: {REMEDIES[number]}. Nothing was left half-written.") from error


def make_folder(path: Path) -> Path:
    """Make a folder and its parents, or say in a sentence why that cannot be."""
    with sentences_for_os_errors("make the folder", path):
        for attempt in range(ATTEMPTS):
            try:
                path.mkdir(parents=True, exist_ok=True)
                break
            except (
                FileNotFoundError
            ) as error:  # another process removed a parent just now, or none can be made, as in /proc
                if attempt == ATTEMPTS - 1:
                    raise OSError(errno.EACCES, "no folder can be made here") from error
    return path


def check_writable(folder: Path) -> None:
    """Raise where nothing can be written into a folder; one that is not there yet is not there afterwards either."""
    absent = [p for p in (folder, *folder.parents) if not p.exists()]
    with sentences_for_os_errors("write", folder), _temporary(folder / "probe"):
        pass
    for made in absent:
        with suppress(OSError):  # another process has begun to write there, or has removed it already
            made.rmdir()


def _sync(path: Path) -> None:
    """Have a file's bytes put on the disk; Windows does so only by a descriptor that may write."""
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(source: Path, target: Path) -> None:
    """Move a file or folder to its place; on Windows, wait for a reader (an indexer, say) to close what is there."""
    for attempt in range(ATTEMPTS):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or attempt == ATTEMPTS - 1:
                raise
            time.sleep(SECONDS_BETWEEN_REPLACEMENTS)


def _umask() -> int:
    with _UMASK_LOCK:  # it can only be read by setting it, and two threads would take each other's
        umask = os.umask(0)
        os.umask(umask)
    return umask


def check_replaceable(path: Path) -> None:
    """Raise a sentence where something other than a file is in the place of a file: a folder, or a device as /dev/full."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device, not a file"
        raise UserError(f"Could not write {path}: it is {kind}. Name a file.")


@lru_cache(maxsize=1)
def _machine() -> str:
    """Return a short name of where a process identifier means this process: the host, and the container on it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # another system than Linux
        namespace = ""
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]


def _lives(pid: int) -> bool:
    """Return whether a process of this machine is alive; True where that cannot be told."""
    if sys.platform == "win32":  # where the question would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def finished(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield the paths that nobody is writing: not ``.writing-…``, nor anything within one."""
    return (path for path in paths if not any(part.startswith(UNFINISHED) for part in path.parts))


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that are gone left half-written in a folder.

    That is what a dead process of this machine began, and whatever has not changed for a week.
    """
    with os.scandir(folder) as entries:
        leftovers = [entry for entry in entries if entry.name.startswith(UNFINISHED)]
    for entry in leftovers:
        machine, _, rest = entry.name.removeprefix(UNFINISHED).partition("-")
        pid = rest.partition("-")[0]
        try:
            abandoned = machine == _machine() and pid.isdecimal() and not _lives(int(pid))
            if abandoned or time.time() - entry.stat(follow_symlinks=False).st_mtime > SECONDS_UNTIL_ABANDONED:
                _remove(Path(entry.path))
        except OSError:  # another process was faster, or the file is not ours to remove
            continue


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def _temporary(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """Yield an empty temporary file or folder beside `path`, removed at the end where it is still there."""
    prefix = f"{UNFINISHED}{_machine()}-{os.getpid()}-"
    with ExitStack() as stack:
        with postponed():
            for attempt in range(ATTEMPTS):
                make_folder(path.parent)
                try:
                    if folder:
                        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
                    else:
                        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=path.suffix, dir=path.parent)
                        os.close(descriptor)
                        temporary = Path(name)
                    break
                except FileNotFoundError:  # another process tried whether it can write here, and tidied up
                    if attempt == ATTEMPTS - 1:
                        raise
            stack.callback(_remove, temporary)
            stack.enter_context(undone(lambda: _remove(temporary)))
        remove_leftovers(path.parent)
        yield temporary


@contextmanager
def atomic_file(path: Path, beside: Mapping[Path, bytes | None] | None = None) -> Iterator[Path]:
    """Yield a temporary path that becomes `path` when the block ends well, and is removed when it does not.

    Parameters
    ----------
    path
        The file.
    beside
        Files of the same folder that describe it, by their contents when the block ends: they are replaced with it, or
        (None) removed. Whenever the process is killed, none of an older file stands beside the new one.

    Raises
    ------
    UserError
        Where the disk is full or the place cannot be written; all is then as it was before.
    """
    beside = {} if beside is None else beside
    with sentences_for_os_errors("write", path), ExitStack() as stack:
        check_replaceable(path)
        temporary = stack.enter_context(_temporary(path))
        yield temporary
        ready = {path: temporary}
        for file, content in beside.items():
            if content is not None:
                ready[file] = stack.enter_context(_temporary(file))
                ready[file].write_bytes(content)
        for file in ready.values():
            _sync(file)
            file.chmod(
                0o666 & ~_umask()
            )  # mkstemp's files are private; results are for the group, as open() makes them
        with postponed():
            for file in beside:
                file.unlink(missing_ok=True)
            for file, written in ready.items():
                _replace(written, file)


def copy_if_different(source: Path, target: Path) -> None:
    """Make a file's bytes those of another; nothing is written where they are already."""
    content = source.read_bytes()
    if target.is_file() and target.stat().st_size == len(content) and target.read_bytes() == content:
        return
    with atomic_file(target) as temporary:
        temporary.write_bytes(content)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Yield an empty folder within another, removed at the end; what killed processes left there is removed too."""
    with sentences_for_os_errors("write", parent), _temporary(parent / "run", folder=True) as temporary:
        yield temporary


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that becomes `path`, replacing what was there, when the block ends well."""
    with sentences_for_os_errors("write", path), _temporary(path, folder=True) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        temporary.chmod(0o777 & ~_umask())
        remove_folder(path)
        _replace(temporary, path)


def remove_folder(path: Path) -> None:
    """Remove a folder; it is whole under its name, or no longer there, whenever the process is killed."""
    if path.is_dir():
        with _temporary(path, folder=True) as aside:
            _replace(path, aside / path.name)


@contextmanager
def lock(path: Path, say: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold the only right to make `path`; whoever comes second waits, and says so after a second.

    A process that ends, however it ends, holds nothing any more.
    """
    from filelock import FileLock, Timeout

    held = FileLock(path.with_name(path.name + ".lock"))
    holder = path.with_name(path.name + ".holder.lock")
    with sentences_for_os_errors("lock", path):
        try:
            make_folder(path.parent)
            try:
                held.acquire(timeout=SECONDS_BEFORE_SAYING if say else -1)
            except Timeout:
                assert say is not None
                say(f"Waiting for {_holder(holder)}, which is making {path}. This goes on when that is done or ended.")
                held.acquire()
        except (OSError, UserError) as error:
            if error_number(error) not in FORBIDDEN or may_write(path.parent):
                raise  # else nothing can be made here by this process: what is here can still be read
    try:
        with suppress(OSError):  # on a full disk others wait for a process that they cannot name
            holder.write_text(f"{os.getpid()} {platform.node()}", encoding="utf-8", newline="\n")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        held.release()


def _holder(file: Path) -> str:
    """Return who holds a lock, for a sentence."""
    try:
        pid, _, node = file.read_text(encoding="utf-8").partition(" ")
    except (OSError, ValueError):
        return "another process"
    return f"another process (process id {pid}{'' if node == platform.node() else f' on {node}'})"


def write_json(file: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the file before or after, never a part of it."""
    text = json_text(value)
    with atomic_file(file) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def json_text(value: Any) -> str:
    """Return JSON; NaN and infinity, which JSON cannot hold, raise ValueError."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(
        errors="backslashreplace"
    ).decode()  # half a character (a name that is not UTF-8) as JSON's \udcff
