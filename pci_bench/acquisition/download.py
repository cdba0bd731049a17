"""Files of other machines in the cache: fetched once from the first source that gives them, checked, and known by where they came from.

pooch keeps the files: it decides whether one is here, checks what came, and puts it in its place. What comes goes through
:mod:`pci_bench.acquisition.transfer`, as pooch neither resumes nor gives up a server that stalls, nor asks a second source.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from pci_bench.acquisition.archives import is_archive, unpack
from pci_bench.acquisition.transfer import (
    PATIENCE,
    SCHEMES,
    Client,
    DownloadError,
    Pace,
    Part,
    Patience,
    download,
)
from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import (
    atomic_file,
    cache_folder,
    lock,
    make_folder,
    remove_folder,
    sha256_of,
    temporary_folder,
    write_json,
)
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, check_digest, downloaded_file
from pci_bench.system.room import NoRoomError, check_room
from pci_bench.system.shortages import REMEDIES, error_number

MIRROR = "PCI_BENCH_MIRROR"
MAX_FAILURES_IN_A_ROW = 20  # of many files; then the rest is not asked for


@dataclass(frozen=True)
class Fetched:
    """A file that is here.

    Attributes
    ----------
    path
        In the cache.
    url
        Where it came from; "" where it was put there by someone.
    sha256
        Of its bytes.
    """

    path: Path
    url: str
    sha256: str


@dataclass(frozen=True)
class FetchedAll:
    """What became of many files, by their names (:attr:`RemoteFile.name`).

    Attributes
    ----------
    files
        Those that are here.
    failures
        Why each of the others is not: a sentence.
    """

    files: Mapping[str, Fetched]
    failures: Mapping[str, str]


@dataclass(frozen=True)
class Origin:
    """The note beside a file of the cache: where it came from.

    Attributes
    ----------
    url
        The address that gave it; "" where a user imported it.
    sha256
        Of the first file that came; where its owners publish no digest, later ones must be the same.
    bytes
        Its length.
    date
        When it came, in UTC.
    """

    url: str = ""
    sha256: str = ""
    bytes: int = 0
    date: str = ""

    @classmethod
    def of(cls, file: Path) -> Origin:
        """Return the note of a file; an empty one where there is none that can be read."""
        try:
            content = json.loads(origin_file(file).read_text(encoding="utf-8"))
            return cls(**{name: content[name] for name in ("url", "sha256", "bytes", "date") if name in content})
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, file: Path) -> None:
        """Write it beside the file."""
        content = {"url": self.url, "sha256": self.sha256, "bytes": self.bytes, "date": self.date}
        write_json(origin_file(file), content)


def origin_file(file: Path) -> Path:
    """Return where the note of a file lies."""
    return file.with_name(f"{file.name}.origin.json")


def unfinished_folder(file: Path) -> Path:
    """Return the folder of what came so far of a file."""
    return file.with_name(f"{file.name}.fetching")


def sources(remote: RemoteFile) -> tuple[str, ...]:
    """Return the addresses of a file in the order in which they are asked: before each its place on the user's mirror.

    Where ``PCI_BENCH_MIRROR`` is ``http://host:port/``, ``https://example.org/a?b`` is at ``http://host:port/example.org/a?b``.

    Raises
    ------
    UserError
        Where ``PCI_BENCH_MIRROR`` is no address.
    """
    mirror = os.environ.get(MIRROR, "")
    if not mirror:
        return remote.urls
    parts = urlsplit(mirror)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UserError(f"{MIRROR} is '{mirror}', which is no address. Set it to one such as http://localhost:8000/.")
    mirrored = (mirror.rstrip("/") + "/" + url.partition("://")[2] for url in remote.urls)
    return tuple(url for pair in zip(mirrored, remote.urls, strict=True) for url in pair)


def fetch(
    remote: RemoteFile, *, progress: Progress, patience: Patience = PATIENCE, client: Client | None = None
) -> Fetched:
    """Return a file of the cache; it is fetched, from the first source that gives it, only when the cache has none.

    What came before an interruption, a lost connection or a full disk is kept beside it, and the next call continues there.

    Parameters
    ----------
    remote
        What is wanted.
    progress
        Shows the download.
    patience
        When a slow server is given up.
    client
        In place of `patience`, what many downloads share.

    Raises
    ------
    UserError
        Where no source gives it, what came is not the expected file, or the disk has too little room.
    """
    fetched, first = _fetch(remote, progress, client or Client(patience, progress.say))
    if first:
        _say_first(remote, fetched, progress)
    return fetched


def _say_first(remote: RemoteFile, fetched: Fetched, progress: Progress) -> None:
    sentence = f"{remote.purpose}: no checksum is published; the first download's SHA-256 is {fetched.sha256}."
    progress.say(sentence[:1].upper() + sentence[1:])


def _fetch(remote: RemoteFile, progress: Progress, client: Client) -> tuple[Fetched, bool]:
    """Return a file of the cache, and whether it is the first of which only now the digest is known."""
    file = downloaded_file(remote)
    make_folder(file.parent)
    with lock(file, progress.say):
        origin, digest = Origin.of(file), expected_digest(remote)
        if file.is_file():
            with suppress(DamagedError):
                check_digest(file, digest)
                return Fetched(file, origin.url, _sha256(file, digest)), False
        part, failures = Part(unfinished_folder(file)), []
        check_room(file.parent, (remote.size or 0) - part.length(), remote.purpose)
        addresses = sources(remote)
        for number, source in enumerate(addresses, start=1):
            try:
                came, url = _retrieved(source, remote, digest, part, client, progress)
            except (DownloadError, OSError) as error:
                refused = error_number(error)
                reason = REMEDIES[refused] if refused in REMEDIES else str(error)
                failures.append(f"from {source} ({reason})")
                if isinstance(error, OSError):  # of the disk: another source would not help
                    break
                if number < len(addresses):
                    progress.say(f"{source}: {reason}. The next source is asked.")
            else:
                fetched = _put(came, file, url, digest)
                shutil.rmtree(part.folder, ignore_errors=True)
                return fetched, not digest
        kept = part.length()
        if not kept:
            shutil.rmtree(part.folder, ignore_errors=True)
        again = f"The {kept:,} bytes that came are kept, and the same command continues after them. " if kept else ""
        raise UserError(
            f"Could not fetch {remote.purpose} {', nor '.join(failures)}. {again}Try again later, or {remote.instead}."
        )


def expected_digest(remote: RemoteFile) -> str:
    """Return by what a file is known to be the right one: its published digest, or that of the first that came; else ""."""
    sha256 = Origin.of(downloaded_file(remote)).sha256
    return remote.digest or (f"sha256:{sha256}" if sha256 else "")


def _retrieved(
    url: str, remote: RemoteFile, digest: str, part: Part, client: Client, progress: Progress
) -> tuple[Path, str]:
    """Let pooch have a file from one address, or what an earlier call was about to put in its place; return it and its address."""
    import pooch

    make_folder(part.folder)
    _recover(part)
    name = "whole"
    kind, _, value = digest.partition(":")

    def shown(total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        return progress.transfer(f"fetching {remote.purpose}", total)

    def resuming(address: str, target: str, _: object) -> None:
        download(address, part, client, shown, size=remote.size, checked=bool(digest))
        if kind == "git-blob":  # which pooch does not know
            try:
                check_digest(part.content, digest)
            except DamagedError as error:
                part.discard()
                raise DownloadError(_unexpected(str(error), remote)) from error
        os.replace(part.content, target)

    try:
        with _without_log():
            came = pooch.retrieve(
                url,
                known_hash=digest if value and kind != "git-blob" else None,
                fname=name,
                path=part.folder,
                downloader=resuming,
            )
    except UserError:  # ours, of a full disk, is a ValueError as well
        raise
    except ValueError as error:  # pooch's word for a wrong digest; the file is gone then
        part.discard()
        found = re.search(r"but got (\w+)", str(error))
        reason = f"its {kind} is {found[1]}, not {value}" if found else str(error)
        raise DownloadError(_unexpected(reason, remote)) from error
    return Path(came), str(part.noted().get("url", url))


def _unexpected(reason: str, remote: RemoteFile) -> str:
    """Return that what came is another file than the expected one, or than the first that came."""
    if remote.digest:
        return f"what came is not the expected file: {reason}"
    note = origin_file(downloaded_file(remote))
    return (
        f"what came is not the file that came first: {reason}. No checksum is published, so one of the two is wrong or its owners "
        f"changed it; remove {note} to take what comes now"
    )


def _recover(part: Part) -> None:
    """Put back what a process was about to check when it was killed: pooch keeps that under a name of its own."""
    for temporary in sorted(part.folder.glob("tmp*")):
        if temporary.stat().st_size and not part.content.exists():
            os.replace(temporary, part.content)
        else:
            temporary.unlink()


def _put(came: Path, file: Path, url: str, digest: str) -> Fetched:
    """Put a file that was checked, or that is the first, in its place, with the note of where it came from."""
    sha256 = _sha256(came, digest)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    Origin(url, sha256, came.stat().st_size, date).write(file)
    os.replace(came, file)
    return Fetched(file, url, sha256)


def _sha256(file: Path, digest: str) -> str:
    """Return a file's SHA-256, which its checked digest may tell already."""
    kind, _, value = digest.partition(":")
    return value if kind == "sha256" else sha256_of(file)


_SILENT = threading.local()


@contextmanager
def _without_log() -> Iterator[None]:
    """Let pooch tell this thread nothing: what it has to say is said in our words."""
    import pooch

    logger: logging.Logger = pooch.get_logger()
    if _not_silent not in logger.filters:
        logger.addFilter(_not_silent)
    _SILENT.now = True
    try:
        yield
    finally:
        _SILENT.now = False


def _not_silent(record: logging.LogRecord) -> bool:
    return not getattr(_SILENT, "now", False)


# ---- many files


class _OneOfMany(Progress):
    """The progress of one of many files: it moves a bar that all share."""

    def __init__(self, advance: Callable[[int], None]):
        self.advance = advance

    @contextmanager
    def transfer(self, title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """Move the bar by what came; what came of an attempt that failed is taken back, as it may come again."""
        before = 0

        def move(position: int) -> None:
            nonlocal before
            self.advance(position - before)
            before = position

        try:
            yield move
        except BaseException:
            self.advance(-before)
            raise


def fetch_all(
    remotes: Iterable[RemoteFile],
    progress: Progress,
    workers: int = 4,
    at_most_per_second: float | None = None,
    *,
    title: str = "fetching files",
    patience: Patience = PATIENCE,
) -> FetchedAll:
    """Return many files of the cache, those fetched that are not there, some at a time; what cannot be had is listed.

    Parameters
    ----------
    remotes
        What is wanted; no two under one name.
    progress
        Shows one bar: in bytes where all lengths are known, else in files.
    workers
        The most connections at a time, to all hosts together.
    at_most_per_second
        Requests to one host; None for as many as the connections allow. A host that asks to wait is not asked by any of them.
    title
        Of the bar.
    patience
        When a slow server is given up.

    Raises
    ------
    UserError
        Where the disk has too little room for all of them, before a byte is fetched.
    ValueError
        Where two files have one name.
    """
    listed = list(remotes)
    wanted = {remote.name: remote for remote in listed}
    if len(wanted) != len(listed):
        raise ValueError("two files are to be fetched to one place")
    missing = [remote for remote in listed if not downloaded_file(remote).is_file()]
    bytes_known = [remote.size for remote in missing if remote.size is not None]
    if missing:
        check_room(make_folder(cache_folder()), sum(bytes_known), f"{len(missing):,} files")
    in_bytes = len(bytes_known) == len(missing)
    files, failures, firsts, in_a_row = {}, {}, 0, 0
    speaking = threading.Lock()

    def say(sentence: str) -> None:
        with speaking:
            progress.say(sentence)

    client = Client(patience, say, Pace(at_most_per_second))
    with _bar(progress, title, sum(bytes_known) if in_bytes else None, len(listed)) as (moved, done):
        pool = ThreadPoolExecutor(max_workers=max(workers, 1), thread_name_prefix="fetch")
        try:
            asked = {pool.submit(_fetch, remote, _OneOfMany(moved), client): name for name, remote in wanted.items()}
            for future in as_completed(asked):
                name = asked[future]
                try:
                    files[name], first = future.result()
                    firsts, in_a_row = firsts + first, 0
                except NoRoomError:
                    raise
                except UserError as error:
                    failures[name] = str(error)
                    in_a_row += 1
                except CancelledError:
                    failures[name] = (
                        f"It was not asked for, as {MAX_FAILURES_IN_A_ROW} files in a row could not be had."
                    )
                if in_a_row == MAX_FAILURES_IN_A_ROW:
                    for other in asked:
                        other.cancel()
                done()
        except BaseException:  # Ctrl-C too
            client.cancelled.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        pool.shutdown()
    if firsts:
        say(
            f"No checksum is published for {firsts:,} of these files; the first download's SHA-256 is kept beside each."
        )
    return FetchedAll(files, {name: failures[name] for name in wanted if name in failures})


@contextmanager
def _bar(
    progress: Progress, title: str, total: int | None, files: int
) -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Yield what moves one bar by bytes, and what is called for every file that is done; one of them does nothing."""
    if total is None:
        with progress.stage(title, files) as advance:
            yield lambda n: None, lambda: advance(1)
        return
    here, moving = 0, threading.Lock()
    with progress.transfer(title, total) as move:

        def moved(count: int) -> None:
            nonlocal here
            with moving:
                here += count
                move(here)

        yield moved, lambda: None


# ---- what a user has already


def import_file(remote: RemoteFile, copy: Path, *, progress: Progress) -> Fetched:
    """Return a file of the cache that is a user's own copy, checked as a download is.

    Parameters
    ----------
    remote
        What it is a copy of.
    copy
        The user's file, which is left as it is.
    progress
        Told the SHA-256 where no digest is published.

    Raises
    ------
    UserError
        Where it is another file, or the disk has too little room.
    """
    file, size = downloaded_file(remote), copy.stat().st_size
    make_folder(file.parent)
    with lock(file, progress.say):
        digest = expected_digest(remote)
        if remote.size is not None and size != remote.size:
            raise UserError(
                f"{copy} is not {remote.purpose}: it has {size:,} bytes, not the {remote.size:,} expected. It was not imported."
            )
        check_room(file.parent, size, remote.purpose)
        with atomic_file(file.with_name(f"{file.name}.copy")) as temporary:
            shutil.copyfile(copy, temporary)
            try:
                check_digest(temporary, digest)
            except DamagedError as error:
                raise UserError(
                    f"{copy} is not {remote.purpose}: {_unexpected(str(error), remote)}. It was not imported."
                ) from error
        fetched = _put(file.with_name(f"{file.name}.copy"), file, "", digest)
    if not digest:
        _say_first(remote, fetched, progress)
    return fetched


def import_files(remotes: Sequence[RemoteFile], copy: Path, *, progress: Progress) -> None:
    """Put a user's own copy of many files where they are looked for, each checked as a download is.

    Parameters
    ----------
    remotes
        All that are wanted.
    copy
        A folder that holds them, in its subfolders or not, an archive of one, or one of the files. A file is known by the end of its path, as much
        of it as :attr:`RemoteFile.name` has in common.

    Raises
    ------
    UserError
        Where one is missing, and then nothing is imported; or where one is another file. Those before it are kept then.
    """
    if copy.is_file():
        same = [remote for remote in remotes if PurePosixPath(remote.name).name == copy.name]
        if not same and len(remotes) == 1:  # a file of another name, or an archive that holds it
            alike = PurePosixPath(remotes[0].name).suffix == copy.suffix
            same = list(remotes) if alike or not is_archive(copy) else []
        if same:
            import_file(same[0], copy, progress=progress)
            return
        names = {PurePosixPath(remote.name).name for remote in remotes}
        with temporary_folder(make_folder(cache_folder() / "downloads")) as folder:
            unpack(copy, folder / "all", wanted=lambda n: PurePosixPath(n).name in names, progress=progress)
            import_files(remotes, folder / "all", progress=progress)
        return
    by_name: dict[str, list[Path]] = {}
    for file in sorted(copy.rglob("*")):
        by_name.setdefault(file.name, []).append(file)
    found = {remote.name: _alike(remote, by_name, copy) for remote in remotes}
    with progress.stage("importing files", len(remotes)) as advance:
        for remote in remotes:
            import_file(remote, found[remote.name], progress=Progress())
            advance(1)


def _alike(remote: RemoteFile, by_name: Mapping[str, Sequence[Path]], folder: Path) -> Path:
    """Return the file whose path ends most like a name."""
    parts = PurePosixPath(remote.name).parts

    def common(file: Path) -> int:
        pairs = zip(reversed(parts), reversed(file.relative_to(folder).parts), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    candidates = [file for file in by_name.get(parts[-1], ()) if file.is_file()]
    if not candidates:
        raise UserError(f"{folder} holds no {parts[-1]}, which is {remote.purpose}. Nothing was imported.")
    return max(candidates, key=common)


def forget(file: Path) -> int:
    """Remove a file or folder of the cache, with all that is kept beside it; return how many bytes that frees.

    Parameters
    ----------
    file
        Where :func:`fetch` puts it, or a folder that was unpacked.
    """
    freed = 0
    with lock(file):
        for path in (file, origin_file(file), unfinished_folder(file)):
            freed += size_on_disk(path)
            if path.is_dir():
                remove_folder(path)
            else:
                path.unlink(missing_ok=True)
    return freed


def size_on_disk(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder; 0 where nothing is there."""
    if path.is_dir():
        return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
    return path.stat().st_size if path.is_file() else 0


def verify_files(remotes: Iterable[RemoteFile], progress: Progress) -> int:
    """Return how many files of the cache were read again and are what came; those that are not there are left out.

    Raises
    ------
    UserError
        For the first that is damaged, with what to do.
    """
    count = 0
    here = [remote for remote in remotes if downloaded_file(remote).is_file()]
    with progress.stage("reading the files that were fetched", len(here)) as advance:
        for remote in here:
            file = downloaded_file(remote)
            try:
                check_digest(file, expected_digest(remote))
            except DamagedError as error:
                raise UserError(
                    f"{file} is damaged: {error}. Delete it; it is fetched again when it is needed."
                ) from error
            count += 1
            advance(1)
    return count
