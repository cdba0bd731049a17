"""Checksums of what the cache holds, so that a bit that flipped on the disk is noticed when it is read.

Files of our own end in a seal, the SHA-256 of all bytes before it: NumPy and HDF5 read no further than their own end. Files
that end in a footer (Parquet) are listed with their checksums in a JSON beside them, which holds a checksum of itself. What
was written before there were checksums is read as it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

MARK = b"\npci-bench sha256 "
SEAL_BYTES = len(MARK) + 64
OWN = "description_sha256"  # where a JSON holds the checksum of the rest of itself


class DamagedError(ValueError):
    """A file whose bytes are not those that were written."""


def digest_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's bytes, read now."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def seal(path: Path) -> None:
    """Append the checksum of a file's bytes to it."""
    mark = MARK + digest_of(path).encode()
    with open(path, "ab") as stream:
        stream.write(mark)


def check_seal(path: Path) -> None:
    """Raise DamagedError where a file's bytes are not those that were sealed; a file without a seal is not checked."""
    content_bytes = path.stat().st_size - SEAL_BYTES
    if content_bytes < 0:
        return
    digest = hashlib.sha256()
    block = memoryview(bytearray(min(1 << 20, max(content_bytes, 1))))
    with open(path, "rb") as stream:
        stream.seek(content_bytes)
        mark = stream.read(SEAL_BYTES)
        if not mark.startswith(MARK):
            return
        stream.seek(0)
        while (left := content_bytes - stream.tell()) > 0 and (n := stream.readinto(block[: min(left, len(block))])):
            digest.update(block[:n])
    _check_mark(mark, digest)


def _check_mark(mark: bytes, digest: hashlib._Hash) -> None:
    if mark != MARK + digest.hexdigest().encode():
        raise DamagedError("its checksum is not that of what was written")


def unsealed(path: Path) -> bytes:
    """Return the bytes that were sealed, read once and checked; all bytes of a file without a seal."""
    content = path.read_bytes()
    mark = content[-SEAL_BYTES:]
    if not mark.startswith(MARK):
        return content
    _check_mark(mark, hashlib.sha256(memoryview(content)[:-SEAL_BYTES]))
    return content[:-SEAL_BYTES]


def digests_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the checksums of files by their paths below a folder."""
    return {file.relative_to(folder).as_posix(): digest_of(file) for file in files}


def check_digests(digest: Callable[[str], str], digests: Mapping[str, str]) -> None:
    """Raise DamagedError that names the first file whose bytes are not those that were listed, as `digest` says by its name."""
    for name, listed in digests.items():
        if digest(name) != listed:
            raise DamagedError(f"the checksum of {name} is not that of what was written")


def described(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a JSON will hold, with the checksum of itself.

    >>> check_described(described({"cells": 3}))
    >>> check_described(described({"cells": 3}) | {"cells": 2})
    Traceback (most recent call last):
    ...
    pci_bench.system.checksums.DamagedError: its checksum is not that of what was written
    """
    return {**content, OWN: _digest_of_json(content)}


def check_described(content: Mapping[str, Any]) -> None:
    """Raise DamagedError where a JSON is not what was written; one without a checksum is not checked."""
    rest = {key: value for key, value in content.items() if key != OWN}
    if OWN in content and content[OWN] != _digest_of_json(rest):
        raise DamagedError("its checksum is not that of what was written")


def _digest_of_json(content: Mapping[str, Any]) -> str:
    as_read = json.loads(json.dumps(content))  # tuples are lists and keys are texts there
    return hashlib.sha256(json.dumps(as_read, sort_keys=True).encode()).hexdigest()
