"""One file from one address: resumed where it was interrupted, tried again where a failure passes, given up where nothing comes."""

from __future__ import annotations

import email.utils
import http.client
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

import certifi

from pci_bench.system.files import write_json
from pci_bench.system.room import check_room

CHUNK_BYTES = 1 << 16
NOT_SATISFIABLE = 416  # what a server says to a range that starts behind the end
PASSING = frozenset({429, 500, 502, 503, 504})  # statuses that the same request may not meet again
SCHEMES = ("http", "https")


@dataclass(frozen=True)
class Patience:
    """How long a server may keep us waiting, and how often it is asked again.

    Attributes
    ----------
    silence
        Seconds without any byte.
    window, least
        In every `window` seconds at least `least` bytes must come, so that a server that trickles is given up as well.
    retries
        How often a request is repeated after a failure that may pass: 429, 500, 502, 503, 504, or a connection that was
        dropped. Where `least` bytes more came than ever before, the count begins again.
    backoff
        Seconds before the first repetition; every further one waits twice as long, without chance.
    longest
        The most seconds that a server may ask for by ``Retry-After``.
    """

    silence: float = 30.0
    window: float = 60.0
    least: int = 60_000
    retries: int = 4
    backoff: float = 1.0
    longest: float = 120.0


PATIENCE = Patience()


class DownloadError(Exception):
    """Why a file could not be fetched, without a full stop."""


class PassingError(DownloadError):
    """A failure that may pass.

    Parameters
    ----------
    reason
        Without a full stop.
    retry_after
        The seconds that the server asks to wait, where it does.
    """

    def __init__(self, reason: str, retry_after: float | None = None):
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass
class Pace:
    """When the next request may go to a host.

    Attributes
    ----------
    at_most_per_second
        Requests to one host; None for no limit.
    """

    at_most_per_second: float | None = None
    _next: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def seconds_until_turn(self, host: str) -> float:
        """Take the host's next turn, and return how long to wait for it."""
        interval = 1 / self.at_most_per_second if self.at_most_per_second else 0.0
        with self._lock:
            now = time.monotonic()
            turn = max(self._next.get(host, 0.0), now)
            self._next[host] = turn + interval
        return turn - now

    def hold(self, host: str, seconds: float) -> None:
        """Let no request go to a host for so long: it asked for that."""
        with self._lock:
            self._next[host] = max(self._next.get(host, 0.0), time.monotonic() + seconds)


@dataclass
class Client:
    """How servers are asked, for one file or for many.

    Attributes
    ----------
    patience
        When a server is given up.
    say
        Told before every repetition.
    pace
        Shared by all requests.
    cancelled
        Ends all transfers of this client when it is set.
    """

    patience: Patience = PATIENCE
    say: Callable[[str], object] = lambda sentence: None
    pace: Pace = field(default_factory=Pace)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def open(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Return a server's answer, when it is its turn."""
        self.wait(self.pace.seconds_until_turn(urlsplit(url).netloc))
        answer: http.client.HTTPResponse = _opener().open(Request(url, headers=headers), timeout=self.patience.silence)
        return answer

    def wait(self, seconds: float) -> None:
        """Wait, or raise as soon as all is cancelled."""
        if self.cancelled.wait(seconds) if seconds > 0 else self.cancelled.is_set():
            raise DownloadError("it was cancelled")


class _Redirects(HTTPRedirectHandler):
    """Follows servers to http and https alone."""

    def http_error_302(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage
    ) -> IO[bytes] | None:
        target = headers.get("location") or headers.get("uri") or ""
        scheme = urlsplit(target).scheme.lower()
        if scheme and scheme not in SCHEMES:
            raise DownloadError(f"the server sends us on to {target[:200]}, and only http and https are followed")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@lru_cache(maxsize=1)
def _opener() -> OpenerDirector:
    """Return what speaks http and https, with the system's certificates and, as containers often have none, those of certifi."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    opener = OpenerDirector()
    for handler in (
        ProxyHandler(),
        UnknownHandler(),
        HTTPHandler(),
        HTTPSHandler(context=context),
        HTTPDefaultErrorHandler(),
        _Redirects(),
        HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@dataclass(frozen=True)
class Part:
    """What came of a file so far, and which version of which address it is of.

    Attributes
    ----------
    folder
        Holds both, and nothing of another file.
    """

    folder: Path

    @property
    def content(self) -> Path:
        """The bytes."""
        return self.folder / "content"

    @property
    def _note(self) -> Path:
        return self.folder / "source.json"

    def noted(self) -> dict[str, str | int | None]:
        """Return the address, the version and the length of the whole; nothing where that is not known."""
        try:
            content = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def note(self, url: str, version: str, total: int | None) -> None:
        """Say whose bytes those are."""
        write_json(self._note, {"url": url, "version": version, "bytes": total})

    def length(self) -> int:
        """Return how many bytes came."""
        return self.content.stat().st_size if self.content.is_file() else 0

    def length_of(self, url: str) -> int:
        """Return how many bytes came from an address."""
        return self.length() if self.noted().get("url") == url else 0

    def is_whole(self, url: str) -> bool:
        """Return whether all came that the server promised."""
        noted = self.noted()
        return self.content.is_file() and noted.get("url") == url and noted.get("bytes") == self.length()

    def discard(self) -> None:
        """Forget all of it."""
        self.content.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)


Shown = Callable[
    [int | None], AbstractContextManager[Callable[[int], None]]
]  # of the length of the whole; then of the place


def download(url: str, part: Part, client: Client, shown: Shown, *, size: int | None, checked: bool) -> None:
    """Make a part whole with what an address gives, after the bytes that an earlier call left there.

    Parameters
    ----------
    url
        The address, http or https.
    part
        What came so far, in a folder that is there; it is kept where this fails.
    client
        How the server is asked.
    shown
        Called with the length of the whole, where the server says it, when bytes begin to come; returns a context whose value
        is called with the number of bytes that are here.
    size
        The length that the file must have; None where it is not known.
    checked
        Whether the file has a known digest. Where it has none, bytes of which the server named no version are not continued, as
        the rest might be of another.

    Raises
    ------
    DownloadError
        Where the server refuses, sends a web page, says nothing, trickles, ends too early every time, sends us to a file of this
        machine, or has a file of another length.
    NoRoomError
        Where the disk has too little room, before a byte is fetched.
    """
    if urlsplit(url).scheme.lower() not in SCHEMES:
        raise DownloadError("its address is not of http or https")
    patience, host = client.patience, urlsplit(url).netloc
    failures, furthest = 0, part.length_of(url)
    while not part.is_whole(url):
        try:
            _ask(url, part, client, shown, size, checked)
            return
        except PassingError as error:
            if (came := part.length_of(url)) >= furthest + patience.least:
                failures, furthest = 0, came
            failures += 1
            if failures > patience.retries:
                again = f", {failures} times" if failures > 1 else ""
                raise DownloadError(f"{error}{again}") from error
            seconds = patience.backoff * 2 ** (failures - 1)
            if error.retry_after is not None:
                seconds = max(seconds, error.retry_after)
                if seconds > patience.longest:
                    raise DownloadError(f"{error} and asks to wait for {seconds:,.0f} s") from error
                client.pace.hold(host, seconds)
            client.say(f"{host}: {error}. Trying again in {seconds:.3g} s.")
            client.wait(seconds)


def _ask(url: str, part: Part, client: Client, shown: Shown, size: int | None, checked: bool) -> None:
    """Ask once, and write what comes."""
    version = part.noted().get("version")
    start = part.length_of(url) if version or checked else 0
    headers = {"User-Agent": "pci-bench", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version:
            headers["If-Range"] = str(version)  # another version is sent from its beginning
    try:
        answer = client.open(url, headers)
    except HTTPError as error:
        error.close()
        if error.code == NOT_SATISFIABLE and start:
            part.discard()
            return _ask(url, part, client, shown, size, checked)
        if 300 <= error.code < 400:
            raise DownloadError(f"the server sends us on again and again ({error.code})") from error
        reason = f"the server answers {error.code} {str(error.reason).partition(chr(10))[0]}".rstrip(" .")
        if error.code in PASSING:
            raise PassingError(reason, _seconds(error.headers.get("Retry-After"))) from error
        raise DownloadError(reason) from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _failure(error, client.patience) from error
    with answer:
        if answer.headers.get_content_type() == "text/html":
            raise DownloadError("the server sent a web page in place of the file")
        content_range = answer.headers.get("Content-Range", "")
        if answer.status != http.client.PARTIAL_CONTENT or not content_range.startswith(f"bytes {start}-"):
            start = 0
        version = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        declared = answer.headers.get("Content-Length", "")
        total = start + int(declared) if declared.isdecimal() else None
        if size is not None and total is not None and total != size:
            raise DownloadError(f"the server's file has {total:,} bytes, not the {size:,} expected")
        total = size if total is None else total
        check_room(part.folder, (total or 0) - start, "the download")
        part.note(url, "" if version.startswith("W/") else version, total)  # a weak tag serves no range
        with shown(total) as move, open(part.content, "r+b" if start else "wb") as stream:
            stream.seek(start)
            try:
                _copy(answer, stream, total, client, move)
            finally:
                stream.flush()
                os.fsync(stream.fileno())
            received = stream.tell()
            if total is not None and received < total:
                raise PassingError(f"the connection ended after {received:,} of {total:,} bytes")
    if total is None:
        part.note(url, "", received)


def _copy(
    answer: http.client.HTTPResponse,
    stream: BinaryIO,
    total: int | None,
    client: Client,
    move: Callable[[int], None],
) -> None:
    """Write all that comes, as it comes; raise where in a window too little comes, or in all too much."""
    patience, since, received = client.patience, time.monotonic(), 0
    move(stream.tell())
    while True:
        client.wait(0)
        try:
            piece = answer.read1(CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _failure(error, patience) from error
        if not piece:
            return
        stream.write(piece)
        received += len(piece)
        move(stream.tell())
        if total is not None and stream.tell() > total:
            stream.truncate(0)  # this is another file
            raise DownloadError(f"more than the {total:,} bytes expected came")
        if (now := time.monotonic()) - since >= patience.window:
            if received < patience.least:
                raise DownloadError(f"only {received:,} bytes came in {now - since:.2g} s")
            since, received = now, 0


def _failure(error: BaseException, patience: Patience) -> DownloadError:
    """Return why a connection failed, and whether that may pass."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
    if isinstance(cause, TimeoutError):
        return DownloadError(f"the server says nothing for {patience.silence:g} s")
    if isinstance(cause, socket.gaierror):
        return DownloadError(f"the name of the server is not known here ({cause.strerror}): is there a network")
    reason = (getattr(cause, "strerror", None) or str(cause) or type(cause).__name__).rstrip(".")
    dropped = isinstance(cause, (ConnectionError, http.client.IncompleteRead, ssl.SSLEOFError))
    if dropped and not isinstance(cause, ConnectionRefusedError):
        return PassingError(f"the connection was lost ({reason})")
    return DownloadError(reason)


def _seconds(retry_after: str | None) -> float | None:
    """Return for how long a server asks to wait: it may say seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
