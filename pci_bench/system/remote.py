"""What is known of a file that lies somewhere else: where, how large, and by what it is known that it came whole."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import cache_folder

BLOCK = 1 << 20
KINDS = {"sha256": 64, "sha1": 40, "md5": 32, "git-blob": 40}  # and how many hexadecimal digits each has


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be fetched.

    Parameters
    ----------
    name
        Its place below the cache's folder of downloads; ``/`` makes folders.
    urls
        Where it is; tried in this order.
    purpose
        What it is for, to begin and end sentences: ``"the weights pci@lu2019-yeast"``.
    instead
        What a user without a connection can do: ``"copy it to … and run …"``.
    digest
        ``"KIND:HEX"`` with one of the kinds sha256, sha1, md5 and git-blob; "" where its owners publish none: the SHA-256 of the
        first download is then recorded, and said.
    size
        In bytes; None where it is not known before it is asked for.
    licence
        Of its content.

    Examples
    --------
    >>> RemoteFile("a.h5", ("https://example.org/a.h5",), "an example", "draw one", digest="md5:" + 32 * "0").digest[:4]
    'md5:'
    """

    name: str
    urls: tuple[str, ...]
    purpose: str
    instead: str
    digest: str = ""
    size: int | None = None
    licence: str = ""

    def __post_init__(self) -> None:
        """Refuse a digest that could never match."""
        if self.digest:
            kind, _, value = self.digest.partition(":")
            if len(value) != KINDS.get(kind) or set(value) - set("0123456789abcdef"):
                raise ValueError(f"'{self.digest}' is no digest: expected KIND:HEX with one of {', '.join(KINDS)}")


def downloaded_file(remote: RemoteFile) -> Path:
    """Return where a file lies in the cache, or will lie."""
    return cache_folder() / "downloads" / remote.name


def check_digest(file: Path, digest: str) -> None:
    """Raise DamagedError where a file's digest is not the expected ``"KIND:HEX"``; nothing is checked for "".

    A git blob id is the SHA-1 of ``blob <bytes>``, a NUL and the bytes.

    Raises
    ------
    DamagedError
        With both values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder, "empty")
    ...     file.touch()
    ...     check_digest(file, "git-blob:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    """
    if not digest:
        return
    kind, _, expected = digest.partition(":")
    found = hashlib.new("sha1" if kind == "git-blob" else kind, usedforsecurity=False)
    if kind == "git-blob":
        found.update(f"blob {file.stat().st_size}\0".encode())
    with open(file, "rb") as stream:
        while block := stream.read(BLOCK):
            found.update(block)
    if found.hexdigest() != expected:
        raise DamagedError(f"its {kind} is {found.hexdigest()}, not {expected}")
