"""Files of a repository at a commit, each known by its SHA-256: a user's own copy, or fetched into the cache."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from pci_bench.api.dataset import Dataset
from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import cache_folder, user_data_folder
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, check_digest
from pci_bench.system.room import megabytes

ADDRESS = "https://raw.githubusercontent.com/{repository}/{commit}/{path}"


@dataclass(frozen=True)
class PinnedFiles:
    """The files that a dataset is made from.

    Parameters
    ----------
    dataset
        Its name, which is also that of a user's own folder below ``PCI_BENCH_DATA``.
    declaration
        A CSV of ``pci_bench.datasets`` with the columns repository, commit, path, git_blob_sha1, sha256 and bytes.
    licence
        Of the files.
    """

    dataset: str
    declaration: str
    licence: str = ""

    def remotes(self) -> tuple[RemoteFile, ...]:
        """Return the files, where they are and by what they are known."""
        return tuple(
            RemoteFile(
                f"{self.dataset}/{Path(row['path']).name}",
                (ADDRESS.format(**row),),
                f"{Path(row['path']).name} of the dataset '{self.dataset}'",
                f"put a copy of its files into a folder '{self.dataset}' and set PCI_BENCH_DATA to the folder that holds it",
                digest=f"sha256:{row['sha256']}",
                size=int(row["bytes"]),
                licence=self.licence,
            )
            for row in _rows(self.declaration)
        )

    @property
    def folder(self) -> Path:
        """Where the files lie: a user's own copy if there is one, else the cache."""
        return user_data_folder(self.dataset) or cache_folder() / "downloads" / self.dataset

    def unavailable_reason(self) -> str | None:
        """Return which files are missing and the command that gets them, or None."""
        remotes, folder = self.remotes(), self.folder
        missing = [remote for remote in remotes if not (folder / Path(remote.name).name).is_file()]
        if not missing:
            return None
        if user_data_folder(self.dataset) is not None:
            names = ", ".join(Path(remote.name).name for remote in missing)
            return f"{folder} lacks {names}. Copy {'it' if len(missing) == 1 else 'them'} there from {_source(self.declaration)}"
        amount = megabytes(sum(remote.size or 0 for remote in missing))
        return f"`pci-bench data get {self.dataset}` fetches {len(missing)} files, {amount}, from {_source(self.declaration)}"

    def fetch(self, progress: Progress) -> None:
        """Fetch the files that the cache lacks, unless a user has an own copy."""
        from pci_bench.acquisition.download import fetch  # with what speaks to servers, which no other command needs

        if user_data_folder(self.dataset) is None:
            for remote in self.remotes():
                fetch(remote, progress=progress)

    def paths(self) -> dict[str, Path]:
        """Return where each file lies, by its name, after a look at every byte.

        Raises
        ------
        UserError
            Where one is missing or another file than the pinned one.
        """
        found = {}
        for remote in self.remotes():
            file = self.folder / Path(remote.name).name
            try:
                if not file.is_file():
                    raise DamagedError("it is missing")
                check_digest(file, remote.digest)
            except DamagedError as error:
                raise UserError(
                    f"{file} is not the file of that name in {_source(self.declaration)}: {error}. Remove it and fetch or copy it again."
                ) from error
            found[file.name] = file
        return found

    def fingerprint(self) -> str:
        """Return what the files' content is known by."""
        return " ".join(remote.digest for remote in self.remotes())


class PinnedDataset(Dataset):
    """A dataset that is made from pinned files, which a user copies or ``pci-bench data get`` fetches.

    Parameters
    ----------
    files
        The files.
    """

    files: PinnedFiles

    def unavailable_reason(self) -> str | None:
        """Return which files are missing and the command that gets them, or None."""
        return self.files.unavailable_reason()

    def downloads(self) -> Sequence[RemoteFile]:
        """Return the files, whether they are here or not."""
        return self.files.remotes()

    def own_copy(self) -> Path | None:
        """Return the folder of ``PCI_BENCH_DATA`` with a user's own files, or None."""
        return user_data_folder(self.files.dataset)

    def fetch(self, progress: Progress) -> None:
        """Fetch the files, unless they are here."""
        self.files.fetch(progress)

    def import_copy(self, path: Path, progress: Progress) -> None:
        """Take a folder with the files, or an archive of one."""
        from pci_bench.acquisition.download import import_files

        import_files(self.files.remotes(), path, progress=progress)


@cache
def _rows(declaration: str) -> tuple[dict[str, str], ...]:
    text = files("pci_bench.datasets").joinpath(declaration).read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _source(declaration: str) -> str:
    """Return the repositories and commits that the files are in, in words."""
    pairs = dict.fromkeys((row["repository"], row["commit"][:7]) for row in _rows(declaration))
    return " and ".join(f"github.com/{repository} (commit {commit})" for repository, commit in pairs)
