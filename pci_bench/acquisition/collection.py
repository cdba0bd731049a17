"""Many small files of one server: fetched politely, each once, with a list of what came, when, and what did not."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from pci_bench.acquisition.download import FetchedAll, fetch_all, origin_file
from pci_bench.system.files import atomic_file, make_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, downloaded_file

MANIFEST = "manifest.csv"
SAVED_EVERY = 500  # files


@dataclass(frozen=True)
class Manners:
    """How much is asked of a server.

    Parameters
    ----------
    at_once
        Files that are fetched at the same time.
    per_second
        Most requests to one server in a second.
    """

    at_once: int = 4
    per_second: float = 5.0


POLITE = Manners()


@dataclass(frozen=True)
class Record:
    """One file of a collection.

    Parameters
    ----------
    file
        Its name as a :class:`~pci_bench.system.remote.RemoteFile` has it.
    url
        Where it came from, or was asked for.
    fetched
        The day, in UTC: ``"2026-11-29"``.
    bytes, sha256
        Of its content; 0 and "" where it did not come.
    problem
        Why it did not come; "" where it did.
    """

    file: str
    url: str
    fetched: str
    bytes: int = 0
    sha256: str = ""
    problem: str = ""

    @property
    def said(self) -> str:
        """The file and why it did not come, for a sentence."""
        return f"{PurePosixPath(self.file).name}: {self.problem}"


class Collection:
    """The files of a dataset that are fetched one by one, and the list of them, ``manifest.csv``.

    Parameters
    ----------
    folder
        Of the downloads; the manifest lies in it.
    manners
        How much is asked of a server.
    """

    def __init__(self, folder: Path, manners: Manners | None = None):
        self.folder = folder
        self.manners = manners or POLITE
        self.records = _read(folder / MANIFEST)

    @property
    def failed(self) -> list[Record]:
        """What was asked for and did not come."""
        return [record for record in self.records.values() if record.problem]

    def here(self, remote: RemoteFile) -> bool:
        """Return whether a file was fetched before and is as large as it was then."""
        record = self.records.get(remote.name)
        if record is None or record.problem:
            return False
        file = downloaded_file(remote)
        return file.is_file() and file.stat().st_size == record.bytes

    def forget_failures(self) -> int:
        """Forget what did not come, so that it is asked for again; return how much that is."""
        failed = self.failed
        for record in failed:
            del self.records[record.file]
        return len(failed)

    def spoil(self, remote: RemoteFile, problem: str) -> None:
        """Remove a file that came and is not what it should be; it counts as one that did not come."""
        file = downloaded_file(remote)
        file.unlink(missing_ok=True)
        origin_file(file).unlink(missing_ok=True)  # with the hash that another content would be refused by
        before = self.records.get(remote.name)
        self.records[remote.name] = Record(
            remote.name, before.url if before else remote.urls[0], _today(), problem=problem.rstrip(".")
        )

    def fetch_missing(
        self,
        remotes: Sequence[RemoteFile],
        title: str,
        progress: Progress,
        check: Callable[[Path], str] = lambda file: "",
    ) -> list[RemoteFile]:
        """Return the files that are here once those that were never asked for have been fetched.

        Parameters
        ----------
        remotes
            What is wanted. A file that did not come before is not asked for again, until :meth:`forget_failures`.
        title
            What they are: ``"entries of genes"``.
        progress
            The progress reporter.
        check
            Returns what is wrong with a file that came, or "".
        """
        todo = [r for r in remotes if not self.here(r) and not self._failed(r)]
        for start in range(0, len(todo), SAVED_EVERY):
            part = todo[start : start + SAVED_EVERY]
            try:
                came = fetch_all(
                    part,
                    progress,
                    self.manners.at_once,
                    self.manners.per_second,
                    title=f"fetching {title} {start + 1:,} to {start + len(part):,} of {len(todo):,}",
                )
                for remote in part:
                    self._keep(remote, came, check)
            finally:
                self.save()
        return [r for r in remotes if self.here(r)]

    def _keep(self, remote: RemoteFile, came: FetchedAll, check: Callable[[Path], str]) -> None:
        """Note what became of a file."""
        if fetched := came.files.get(remote.name):
            size = fetched.path.stat().st_size
            url = fetched.url or remote.urls[0]
            self.records[remote.name] = Record(remote.name, url, _today(), size, fetched.sha256)
            if problem := check(fetched.path):
                self.spoil(remote, problem)
        elif problem := came.failures.get(remote.name, ""):
            reason = problem.removeprefix(f"Could not fetch {remote.purpose} ").partition(" Try again later")[0]
            self.records[remote.name] = Record(remote.name, remote.urls[0], _today(), problem=reason.rstrip("."))

    def _failed(self, remote: RemoteFile) -> bool:
        record = self.records.get(remote.name)
        return record is not None and record.problem != ""

    def save(self) -> None:
        """Write the manifest."""
        make_folder(self.folder)
        text = io.StringIO()
        rows = csv.DictWriter(text, [f.name for f in fields(Record)], lineterminator="\n")
        rows.writeheader()
        rows.writerows(asdict(self.records[name]) for name in sorted(self.records))
        with atomic_file(self.folder / MANIFEST) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8", newline="\n")


def _read(file: Path) -> dict[str, Record]:
    """Return the rows of a manifest by their files; a manifest that cannot be read is none: files are then asked for anew."""
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
        return {
            row["file"]: Record(
                row["file"], row["url"], row["fetched"], int(row["bytes"]), row["sha256"], row["problem"]
            )
            for row in rows
        }
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        return {}


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def days_of(records: Iterable[Record]) -> str:
    """Return when files came, for a sentence: a day, or the first and the last."""
    days = sorted({record.fetched for record in records if not record.problem})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else "on no day"
