"""Downloads that trickle, break off, lie, or bring something else: a sentence, and the next call goes on where it stopped."""

from __future__ import annotations

import errno
import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pci_bench import UserError
from pci_bench.acquisition import download as downloads
from pci_bench.acquisition.download import Patience, fetch
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile

CONTENT = bytes(range(256)) * 400
LENGTH = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Patience(silence=0.5, window=0.4, least=1000)


class Server(BaseHTTPRequestHandler):
    """Answers as the function `answer` of the server object does."""

    def do_GET(self):
        self.server.asked.append(self.headers.get("Range"))
        self.server.answer(self)

    def log_message(self, *words):
        pass

    def head(self, code=200, length=LENGTH, kind="application/zip", **headers):
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()


@contextmanager
def server(answer: Callable[[Server], None]) -> Iterator[tuple[str, list[str | None]]]:
    """Yield the address of a server, and the list of the ranges it was asked for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as one:
        one.answer, one.asked, one.given_up, one.daemon_threads = answer, [], threading.Event(), True
        threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{one.server_port}/file.zip", one.asked
        one.given_up.set()
        one.shutdown()


def whole(request: Server, tag: str = '"1"') -> None:
    """Answer with the file, or with the range of it that is asked for."""
    asked = request.headers.get("Range")
    if asked and request.headers.get("If-Range", tag) == tag:
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(CONTENT):
            return request.head(416, 0)
        rest = CONTENT[start:]
        request.head(206, len(rest), ETag=tag, Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        request.wfile.write(rest)
    else:
        request.head(ETag=tag)
        request.wfile.write(CONTENT)


def half(request: Server) -> None:
    request.head(ETag='"1"')
    request.wfile.write(CONTENT[:50_000])


def trickling(request: Server) -> None:
    request.head()
    for octet in CONTENT:
        request.wfile.write(bytes([octet]))
        if request.server.given_up.wait(0.05):
            return


def silent(request: Server) -> None:
    request.server.given_up.wait(60)


def reset(request: Server) -> None:
    import socket
    import struct

    request.head()
    request.wfile.write(CONTENT[:1000])
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.connection.close()


def status(code: int) -> Callable[[Server], None]:
    return lambda request: request.head(code, 0)


def page(request: Server) -> None:
    request.head(length=None, kind="text/html; charset=utf-8")
    request.wfile.write(b"<html>Log in</html>")


def circle(request: Server) -> None:
    request.head(302, 0, Location="/file.zip")


def shorter(request: Server) -> None:
    request.head(length=500)
    request.wfile.write(CONTENT)


@dataclass(frozen=True)
class Answer:
    """What a server does, and what the sentence must hold."""

    what: str
    answer: Callable[[Server], None]
    words: tuple[str, ...]


FAULTS = [
    Answer("trickles", trickling, ("bytes came in", "are kept")),
    Answer("says nothing", silent, ("the server says nothing for",)),
    Answer("breaks off", half, ("ended after 50,000 of 102,400 bytes", "The 50,000 bytes that came are kept")),
    Answer("resets the connection", reset, ("reset",)),
    Answer("says 404", status(404), ("the server answers 404",)),
    Answer("says 500", status(500), ("the server answers 500",)),
    Answer("says 503", status(503), ("the server answers 503",)),
    Answer("sends a web page", page, ("a web page in place of the file",)),
    Answer("redirects in a circle", circle, ("infinite loop",)),
    Answer("declares too few bytes", shorter, ("not the expected file", SHA256)),
]


def fetched(url: str, **more):
    return fetch(wanted(url), progress=Progress(), **more).path


def wanted(url: str) -> RemoteFile:
    return RemoteFile("file.zip", (url,), "the file", "copy it by hand", digest=f"sha256:{SHA256}")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_fault(fault, cache):
    with server(fault.answer) as (url, _), pytest.raises(UserError) as error:
        fetched(url, patience=HASTY)
    said = str(error.value)
    for word in ("Could not fetch the file from http://127.0.0.1", *fault.words):
        assert word in said
    assert said.endswith("Try again later, or copy it by hand.")
    assert "\n" not in said
    assert not (cache / "downloads" / "file.zip").exists()
    with server(whole) as (url, _):
        assert fetched(url).read_bytes() == CONTENT
    assert sorted(p.name for p in (cache / "downloads").iterdir() if p.suffix != ".lock") == [
        "file.zip",
        "file.zip.origin.json",
    ]


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/file.zip", "http://no.such.host.invalid/file.zip", "nonsense"])
def test_without_a_server_or_a_name_it_is_a_sentence(cache, url):
    with pytest.raises(UserError, match=r"Could not fetch the file from .* copy it by hand\."):
        fetched(url)


def test_an_interrupted_download_goes_on_where_it_stopped(cache, monkeypatch):
    state = {"answer": half}
    with server(lambda request: state["answer"](request)) as (url, asked):
        with pytest.raises(UserError):
            fetched(url)
        state["answer"] = whole
        assert fetched(url).read_bytes() == CONTENT
        assert asked == [None, "bytes=50000-"]
        assert fetched(url).read_bytes() == CONTENT  # from the cache
        assert len(asked) == 2


def test_ctrl_c_keeps_what_came(cache):
    class Interrupted(Progress):
        @contextmanager
        def stage(self, title, total=None):
            def stop(n):
                raise KeyboardInterrupt

            yield stop

    with server(whole) as (url, asked):
        with pytest.raises(KeyboardInterrupt):
            fetch(wanted(url), progress=Interrupted())
        kept = (cache / "downloads" / "file.zip.part").stat().st_size
        assert 0 < kept <= len(CONTENT)
        assert fetched(url).read_bytes() == CONTENT
        assert asked == [None, f"bytes={kept}-"]


def test_another_version_of_the_file_is_fetched_from_its_beginning(cache):
    state = {"answer": half}
    with server(lambda request: state["answer"](request)) as (url, _):
        with pytest.raises(UserError):
            fetched(url)
        state["answer"] = lambda request: whole(request, '"2"')
        assert fetched(url).read_bytes() == CONTENT


def test_a_full_disk_is_a_sentence_and_what_came_is_kept(cache, monkeypatch):
    real = downloads._copy

    def full(answer, stream, patience, advance):
        stream.write(answer.read1(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    with server(whole) as (url, _):
        monkeypatch.setattr(downloads, "_copy", full)
        with pytest.raises(UserError, match="the disk is full: free some space"):
            fetched(url)
        monkeypatch.setattr(downloads, "_copy", real)
        assert fetched(url).read_bytes() == CONTENT
