"""Fetching a file once into the cache: resumed where it was interrupted, given up where nothing comes, checked at the end."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import certifi

from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import lock, make_folder, sha256_of, write_json
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, check_digest, downloaded_file
from pci_bench.system.shortages import REMEDIES, error_number

CHUNK_BYTES = 1 << 16
NOT_SATISFIABLE = 416  # what a server says to a range that starts behind the end


@dataclass(frozen=True)
class Patience:
    """How long a server may keep us waiting.

    Attributes
    ----------
    silence
        Seconds without any byte.
    window, least
        In every `window` seconds at least `least` bytes must come, so that a server that trickles is given up as well.
    """

    silence: float = 30.0
    window: float = 60.0
    least: int = 60_000


class DownloadError(Exception):
    """Why a file could not be fetched, without a full stop."""


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


def fetch(remote: RemoteFile, *, progress: Progress, patience: Patience = Patience()) -> Fetched:
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

    Raises
    ------
    UserError
        Where no source gives it, or what came is not the expected file.
    """
    file = downloaded_file(remote)
    make_folder(file.parent)
    with lock(file):
        if file.is_file():
            with suppress(DamagedError):
                check_digest(file, remote.digest)
                return Fetched(file, _noted(_origin(file)).get("url", ""), sha256_of(file))
        part, failures = file.with_name(f"{file.name}.part"), []
        for url in remote.urls:
            try:
                with progress.stage(f"fetching {remote.purpose}", None) as advance:
                    download(url, part, patience, advance)
                try:
                    check_digest(part, remote.digest)
                except DamagedError as error:
                    _discard(part)
                    raise DownloadError(f"what came is not the expected file: {error}") from error
                os.replace(part, file)
                _discard(part)
                sha256 = sha256_of(file)
                write_json(_origin(file), {"url": url, "sha256": sha256, "bytes": file.stat().st_size})
                return Fetched(file, url, sha256)
            except (DownloadError, OSError) as error:
                number = error_number(error)
                reason = REMEDIES[number] if number in REMEDIES else str(error)
                failures.append(f"from {url} ({reason})")
        kept = part.stat().st_size if part.is_file() else 0
        again = f"The {kept:,} bytes that came are kept, and the same command continues after them. " if kept else ""
        raise UserError(
            f"Could not fetch {remote.purpose} {', nor '.join(failures)}. {again}Try again later, or {remote.instead}."
        )


def _origin(file: Path) -> Path:
    """Return the note of where a file came from."""
    return file.with_name(f"{file.name}.origin.json")


def download(url: str, part: Path, patience: Patience, advance: Callable[[int], None]) -> None:
    """Write what an address gives to a file, after the bytes that an earlier call left there.

    Parameters
    ----------
    url
        The address, http or https.
    part
        The file; ``<part>.json`` beside it says of which version of which address its bytes are.
    patience
        When to give up.
    advance
        Called with the number of bytes of every piece.

    Raises
    ------
    DownloadError
        Where the server refuses, sends a web page, says nothing, trickles, or ends too early.
    """
    note = part.with_name(f"{part.name}.json")
    known = _noted(note) if part.is_file() else {}
    start = part.stat().st_size if known.get("url") == url else 0
    headers = {"User-Agent": "pci-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if known.get("version"):
            headers["If-Range"] = known["version"]  # another version is sent from its beginning
    try:
        answer = urlopen(Request(url, headers=headers), timeout=patience.silence, context=_certificates())
    except HTTPError as error:
        if error.code == NOT_SATISFIABLE and start:
            _discard(part)
            return download(url, part, patience, advance)
        raise DownloadError(
            f"the server answers {error.code} {str(error.reason).partition(chr(10))[0]}".rstrip(" .")
        ) from error
    except (URLError, OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(_reason(error, patience)) from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise DownloadError("the server sent a web page in place of the file")
        if answer.status != http.client.PARTIAL_CONTENT or not answer.headers.get("Content-Range", "").startswith(
            f"bytes {start}-"
        ):
            start = 0
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""  # a weak tag serves no range
        write_json(note, {"url": url, "version": "" if version.startswith("W/") else version})
        declared = answer.headers.get("Content-Length")
        expected = start + int(declared) if declared is not None and declared.isdecimal() else None
        with open(part, "r+b" if start else "wb") as stream:
            stream.seek(start)
            _copy(answer, stream, patience, advance)
            received = stream.tell()
            os.fsync(stream.fileno())
    if expected is not None and received != expected:
        raise DownloadError(f"the connection ended after {received:,} of {expected:,} bytes")


def _copy(
    answer: http.client.HTTPResponse, stream: BinaryIO, patience: Patience, advance: Callable[[int], None]
) -> None:
    """Write all that comes, as it comes; raise where in a window too little comes."""
    since, received = time.monotonic(), 0
    while True:
        try:
            piece = answer.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise DownloadError(_reason(error, patience)) from error
        if not piece:
            return
        stream.write(piece)
        advance(len(piece))
        received += len(piece)
        if (now := time.monotonic()) - since >= patience.window:
            if received < patience.least:
                raise DownloadError(f"only {received:,} bytes came in {now - since:.0f} s")
            since, received = now, 0


def _reason(error: BaseException, patience: Patience) -> str:
    """Return why a connection failed, without a full stop."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return f"the server says nothing for {patience.silence:.0f} s"
    if isinstance(cause, socket.gaierror):
        return f"the name of the server is not known here ({cause.strerror}): is there a network"
    return (str(cause) or type(cause).__name__).rstrip(".")


def _certificates() -> ssl.SSLContext:
    """Return the system's certificates and, as containers often have none, those of certifi."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _noted(note: Path) -> dict[str, str]:
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(f"{part.name}.json").unlink(missing_ok=True)
