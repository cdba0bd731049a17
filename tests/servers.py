"""A web server on this machine that serves files from memory, and fails in every way in which a server can fail.

>>> with FileServer({"/a.txt": b"some text"}) as server:
...     server.fail("/a.txt", status(500), times=1)
...     url = server.url("/a.txt")  # answers 500 once, then gives the file

A server that stands in for others (``PCI_BENCH_MIRROR=server.address``) gets its files by ``server.mirror(url, content)``.
"""

from __future__ import annotations

import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, urlsplit


@dataclass(frozen=True)
class Served:
    """A file as a server gives it; no ETag and no Content-Type where they are ""."""

    content: bytes
    kind: str = "application/octet-stream"
    tag: str | None = None  # by default made from the content
    ranges: bool = True

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.tag is None else self.tag


@dataclass(frozen=True)
class Asked:
    """One request: its path with the query, and the range that it asked for."""

    path: str
    range: str | None = None


class Request(BaseHTTPRequestHandler):
    """One request, as a fault gets it."""

    files: FileServer

    def do_GET(self):
        self.files.asked.append(Asked(self.path, self.headers.get("Range")))
        fault = self.files._next_fault(self.path)
        try:
            (fault or Request.give)(self)
        except OSError:  # the other side has gone
            self.close_connection = True

    @property
    def wanted(self) -> Served | None:
        """What there is under the path, or None."""
        return self.files._file(self.path)

    def head(self, code=200, length=0, **headers):
        """Send the first lines of an answer; no length where it is None. `Content_Range=…` is a header."""
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def give(self, *, declared: int | None = None, sent: int | None = None, length: bool = True):
        """Answer with the file, or the range of it that is asked for.

        `declared` is another length than the true one, `sent` how many bytes are sent before the connection is closed.
        """
        file = self.wanted
        if file is None:
            return self.head(404)
        headers = {"Content_Type": file.kind} if file.kind else {}
        if file.etag:
            headers["ETag"] = file.etag
        content, code, start = file.content, 200, 0
        asked = self.headers.get("Range", "")
        if file.ranges and asked.startswith("bytes=") and self.headers.get("If-Range", file.etag) == file.etag:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                return self.head(416, 0)
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content, code = content[start:], 206
        self.head(code, (len(content) if declared is None else declared) if length else None, **headers)
        self.wfile.write(content if sent is None else content[:sent])

    def wait(self, seconds: float) -> bool:
        """Wait; True where the test has ended meanwhile."""
        return self.files.ended.wait(seconds)

    def log_message(self, *words):
        pass


Fault = Callable[[Request], None]


class FileServer:
    """Serves files by path on 127.0.0.1, as a context manager.

    Parameters
    ----------
    files
        Contents by path, with or without a query (``"/a.zip"``, ``"/d?download=1"``); a path serves all its queries.
    """

    def __init__(self, files: Mapping[str, bytes | Served] | None = None):
        self.files: dict[str, bytes | Served] = dict(files or {})
        self.asked: list[Asked] = []
        self.ended = threading.Event()
        self._faults: dict[str, list[tuple[Fault, int | None]]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> FileServer:
        handler = type("Handler", (Request,), {"files": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def address(self) -> str:
        """``http://127.0.0.1:PORT/``, as ``PCI_BENCH_MIRROR`` takes it."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return self.address.rstrip("/") + quote(path, safe="/?=&%:@")

    def mirror(self, url: str, content: bytes | Served) -> str:
        """Serve a file in the place of another server, and return its path here."""
        parts = urlsplit(url)
        path = f"/{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else "")
        self.files[path] = content
        return path

    def fail(self, path: str, fault: Fault, times: int | None = None) -> None:
        """Let a path (``"*"``: every path) answer with a fault, always or for so many requests; faults follow each other."""
        self._faults.setdefault(path, []).append((fault, times))

    def mend(self) -> None:
        """Forget all faults."""
        self._faults.clear()

    def paths(self) -> list[str]:
        """Return the paths that were asked for."""
        return [asked.path for asked in self.asked]

    def ranges(self) -> list[str | None]:
        """Return the ranges that were asked for."""
        return [asked.range for asked in self.asked]

    def _file(self, path: str) -> Served | None:
        found = self.files.get(path, self.files.get(path.partition("?")[0]))
        return Served(found) if isinstance(found, bytes) else found

    def _next_fault(self, path: str) -> Fault | None:
        with self._lock:
            for key in (path, path.partition("?")[0], "*"):
                if waiting := self._faults.get(key):
                    fault, times = waiting[0]
                    if times is not None:
                        waiting[0] = (fault, times - 1)
                        if times <= 1:
                            waiting.pop(0)
                    return fault
        return None


# ---- faults


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and nothing else: ``status(429, Retry_After="1")``."""
    return lambda request: request.head(code, 0, **headers)


def redirect(to: str, code: int = 302) -> Fault:
    """Send the client elsewhere."""
    return lambda request: request.head(code, 0, Location=to)


def web_page(request: Request) -> None:
    """Send a page to people in place of the file."""
    request.head(length=None, Content_Type="text/html; charset=utf-8")
    request.wfile.write(b"<html>Log in</html>")


def instead(content: bytes) -> Fault:
    """Send another file."""

    def other(request: Request) -> None:
        request.head(200, len(content), Content_Type="application/octet-stream")
        request.wfile.write(content)

    return other


def ends_after(sent: int) -> Fault:
    """Close the connection after so many bytes."""
    return lambda request: request.give(sent=sent)


def declares(length: int) -> Fault:
    """Declare another length than that of what is sent."""
    return lambda request: request.give(declared=length)


def no_length(request: Request) -> None:
    """Send the file without saying how long it is."""
    request.give(length=False)


def resets_after(sent: int) -> Fault:
    """Reset the connection after so many bytes."""

    def reset(request: Request) -> None:
        request.give(sent=sent)
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.connection.close()

    return reset


def stalls_after(sent: int) -> Fault:
    """Send so many bytes, and then nothing, with the connection open."""

    def stall(request: Request) -> None:
        request.give(sent=sent)
        request.wait(60)

    return stall


def silent(request: Request) -> None:
    """Say nothing at all."""
    request.wait(60)


def trickling(request: Request) -> None:
    """Send one byte every twentieth of a second."""
    file = request.wanted
    request.head(length=len(file.content), Content_Type=file.kind)
    for octet in file.content:
        request.wfile.write(bytes([octet]))
        if request.wait(0.05):
            return
