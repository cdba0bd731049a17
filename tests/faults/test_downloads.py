"""Downloads that trickle, break off, lie, or bring something else: a whole file or a sentence, and the next call continues."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pooch
import pytest
from rich.console import Console
from servers import (
    Fault,
    FileServer,
    Served,
    declares,
    ends_after,
    instead,
    no_length,
    redirect,
    resets_after,
    silent,
    stalls_after,
    status,
    trickling,
    web_page,
)

from pci_bench import UserError
from pci_bench.acquisition import transfer
from pci_bench.acquisition.download import expected_digest, fetch, fetch_all, import_file, origin_file, verify_files
from pci_bench.acquisition.transfer import Patience
from pci_bench.system.progress import ConsoleProgress, Progress
from pci_bench.system.remote import RemoteFile, downloaded_file

CONTENT = bytes(range(256)) * 400
LENGTH = len(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HASTY = Patience(silence=0.4, window=0.3, least=1000, retries=2, backoff=0.01, longest=5)
DIGESTS = {
    "sha256": SHA256,
    "md5": hashlib.md5(CONTENT).hexdigest(),
    "sha1": hashlib.sha1(CONTENT).hexdigest(),
    "git-blob": hashlib.sha1(f"blob {LENGTH}\0".encode() + CONTENT).hexdigest(),
}


class Heard(Progress):
    """Keeps what is said, and where every transfer was."""

    def __init__(self):
        self.said, self.moves = [], []

    def say(self, sentence):
        self.said.append(sentence)

    @contextmanager
    def transfer(self, title, total=None):
        moves = []
        self.moves.append((title, total, moves))
        yield moves.append


@pytest.fixture
def server():
    with FileServer({"/file.zip": CONTENT}) as server:
        yield server


def wanted(*urls: str, **more) -> RemoteFile:
    return RemoteFile("file.zip", urls, "the file", "copy it by hand", **{"digest": f"sha256:{SHA256}", **more})


def fetched(*urls: str, patience=HASTY, **more) -> bytes:
    return fetch(wanted(*urls, **more), progress=Progress(), patience=patience).path.read_bytes()


def in_cache(cache) -> list[str]:
    return sorted(p.name for p in (cache / "downloads").iterdir() if p.suffix != ".lock")


# ---- one fault after the other


@dataclass(frozen=True)
class Row:
    """What a server does, and what the sentence must hold; nothing where the file comes nevertheless."""

    what: str
    fault: Fault
    words: tuple[str, ...] = ()
    times: int | None = None
    size: int | None = None
    ranges: bool = True
    then: Fault | None = None  # once, after the fault
    second: bool = False  # whether there is another source, which gives the file


ROWS = [
    Row("trickles", trickling, ("bytes came in", "are kept")),
    Row("says nothing", silent, ("the server says nothing for",)),
    Row("stalls in the middle", stalls_after(50_000), ("the server says nothing for", "The 50,000 bytes that came are kept")),
    Row("drops in the middle, always", ends_after(50_000), ("ended after 50,000 of 102,400 bytes, 3 times", "are kept"), ranges=False),
    Row("drops in the middle, once", ends_after(50_000), times=1),
    Row("resets the connection, always", resets_after(1000), ("reset", "3 times"), ranges=False),
    Row("resets the connection, once", resets_after(1000), times=1),
    Row("404", status(404), ("the server answers 404",)),
    Row("403", status(403), ("the server answers 403",)),
    Row("500, always", status(500), ("the server answers 500 Internal Server Error, 3 times",)),
    Row("500, once", status(500), times=1),
    Row("502, then 503", status(502), times=1, then=status(503)),
    Row("504, then drops in the middle", status(504), times=1, then=ends_after(50_000)),
    Row("429 with Retry-After, then gives it", status(429, Retry_After="1"), times=1),
    Row("429 with Retry-After of an hour", status(429, Retry_After="3600"), ("answers 429", "asks to wait for 3,600 s")),
    Row("a web page", web_page, ("a web page in place of the file",)),
    Row("redirects to the file", redirect("/elsewhere.zip")),
    Row("redirects in a circle", redirect("/file.zip"), ("sends us on again and again",)),
    Row("redirects to file://", redirect("file:///etc/passwd"), ("sends us on to file:///etc/passwd", "only http and https")),
    Row("redirects to ftp://", redirect("ftp://127.0.0.1/file.zip"), ("sends us on to ftp://", "only http and https")),
    Row("declares too few bytes", declares(500), ("not the expected file", SHA256)),
    Row("declares too few bytes, size known", declares(500), ("file has 500 bytes, not the 102,400 expected",), size=LENGTH),
    Row("declares too many bytes", declares(LENGTH + 5), ("ended after 102,400 of 102,405 bytes",)),
    Row("says no length", no_length),
    Row("sends too much, and no length", lambda r: (r.head(length=None), r.wfile.write(CONTENT * 2)), ("more than the 102,400",), size=LENGTH),
    Row("another file", instead(CONTENT[::-1]), ("not the expected file", "its sha256 is", SHA256)),
    Row("another file, and there is a second source", instead(CONTENT[::-1]), second=True),
    Row("404, and there is a second source", status(404), second=True),
    Row("stalls in the middle, and there is a second source", stalls_after(50_000), second=True),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_every_fault_ends_in_the_whole_file_or_one_sentence(row, server, cache):
    server.files.update({"/elsewhere.zip": CONTENT, "/file.zip": Served(CONTENT, ranges=row.ranges)})
    server.fail("/file.zip", row.fault, times=row.times)
    if row.then:
        server.fail("/file.zip", row.then, times=1)
    url = server.url("/file.zip")
    second = [server.url("/elsewhere.zip")] if row.second else []
    if not row.words:
        assert fetched(url, *second, size=row.size) == CONTENT
    else:
        with pytest.raises(UserError) as error:
            fetched(url, size=row.size)
        said = str(error.value)
        for word in (f"Could not fetch the file from {url}", *row.words):
            assert word in said
        assert said.endswith("Try again later, or copy it by hand.")
        assert "\n" not in said
        assert in_cache(cache) == (["file.zip.fetching"] if "are kept" in said else [])
        server.mend()
        assert fetched(url) == CONTENT
    assert in_cache(cache) == ["file.zip", "file.zip.origin.json"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/file.zip",
        "http://no.such.host.invalid/file.zip",
        "nonsense",
        "file:///etc/passwd",
        "ftp://a/b",
    ],
)
def test_without_a_server_or_a_name_it_is_a_sentence(cache, url):
    with pytest.raises(UserError, match=r"Could not fetch the file from .* copy it by hand\."):
        fetched(url)


# ---- continuing


def test_an_interrupted_download_goes_on_where_it_stopped(server):
    server.fail("/file.zip", stalls_after(50_000), times=1)
    url = server.url("/file.zip")
    with pytest.raises(UserError):
        fetched(url)
    assert fetched(url) == CONTENT
    assert server.ranges() == [None, "bytes=50000-"]
    assert fetched(url) == CONTENT  # from the cache
    assert len(server.asked) == 2


def test_a_dropped_connection_is_tried_again_at_the_byte_where_it_broke(server):
    server.fail(
        "/file.zip", ends_after(30_000), times=3
    )  # more often than there are retries, but more comes every time
    assert fetched(server.url("/file.zip")) == CONTENT
    assert server.ranges() == [None, "bytes=30000-", "bytes=60000-", "bytes=90000-"]


def test_the_waits_between_retries_double_and_a_server_may_ask_for_more(server, monkeypatch):
    waits = []
    monkeypatch.setattr(transfer.Client, "wait", lambda self, seconds: waits.append(seconds) if seconds > 0 else None)
    server.fail("/file.zip", status(503), times=2)
    server.fail("/file.zip", status(429, Retry_After="70"), times=1)
    heard = Heard()
    fetch(wanted(server.url("/file.zip")), progress=heard, patience=Patience())
    assert waits[:3] == [1.0, 2.0, 70.0]
    assert waits[3] == pytest.approx(70, abs=1)  # the same wait, as the host asked for it
    assert [re.sub(r"127.*?: ", "", s) for s in heard.said] == [
        "the server answers 503 Service Unavailable. Trying again in 1 s.",
        "the server answers 503 Service Unavailable. Trying again in 2 s.",
        "the server answers 429 Too Many Requests. Trying again in 70 s.",
    ]


def test_ctrl_c_keeps_what_came(server, cache):
    class Interrupted(Progress):
        @contextmanager
        def transfer(self, title, total=None):
            def stop(position):
                if position:
                    raise KeyboardInterrupt

            yield stop

    url = server.url("/file.zip")
    with pytest.raises(KeyboardInterrupt):
        fetch(wanted(url), progress=Interrupted())
    kept = (cache / "downloads" / "file.zip.fetching" / "content").stat().st_size
    assert 0 < kept <= LENGTH
    assert fetched(url) == CONTENT
    assert server.ranges() == ([None, f"bytes={kept}-"] if kept < LENGTH else [None])


def test_another_version_of_the_file_is_fetched_from_its_beginning(server):
    server.files["/file.zip"] = CONTENT[::-1]
    server.fail("/file.zip", stalls_after(50_000), times=1)
    with pytest.raises(UserError):
        fetched(server.url("/file.zip"))
    server.files["/file.zip"] = CONTENT
    assert fetched(server.url("/file.zip")) == CONTENT


def test_bytes_of_no_known_version_are_continued_only_where_a_digest_is_checked(server):
    server.files["/file.zip"] = Served(CONTENT, tag="")
    for digest, ranges in ((f"sha256:{SHA256}", [None, "bytes=50000-"]), ("", [None, None])):
        server.asked.clear()
        server.fail("/file.zip", stalls_after(50_000), times=1)
        url = server.url("/file.zip")
        with pytest.raises(UserError):
            fetched(url, digest=digest)
        assert fetched(url, digest=digest) == CONTENT
        assert server.ranges() == ranges
        downloaded_file(wanted()).unlink()
        origin_file(downloaded_file(wanted())).unlink()


def test_a_process_killed_while_it_checked_the_file_loses_nothing(server, cache, monkeypatch):
    class KilledError(BaseException):
        pass

    def killed(*_, **__):
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(pooch.core, "hash_matches", killed)
        patched.setattr(os, "remove", lambda path: None)  # nor does a killed process tidy up
        with pytest.raises(KilledError):
            fetched(server.url("/file.zip"))
    assert fetched(server.url("/file.zip")) == CONTENT
    assert len(server.asked) == 1
    assert in_cache(cache) == ["file.zip", "file.zip.origin.json"]


# ---- the right file


@pytest.mark.parametrize("kind", DIGESTS)
def test_a_file_is_known_by_any_digest_and_another_is_refused(server, kind):
    digest = f"{kind}:{DIGESTS[kind]}"
    server.fail("/file.zip", instead(b"another"), times=1)
    with pytest.raises(
        UserError, match=f"what came is not the expected file: its {kind} is [0-9a-f]+, not {DIGESTS[kind]}"
    ):
        fetched(server.url("/file.zip"), digest=digest)
    assert fetched(server.url("/file.zip"), digest=digest) == CONTENT


def test_a_damaged_file_of_the_cache_is_fetched_again(server):
    file = fetch(wanted(server.url("/file.zip")), progress=Progress()).path
    file.write_bytes(CONTENT[:-1] + b"x")
    assert fetched(server.url("/file.zip")) == CONTENT
    assert len(server.asked) == 2


def test_the_second_source_is_asked_where_the_first_has_another_file(server):
    server.files["/wrong.zip"] = CONTENT[::-1]
    with FileServer({"/file.zip": CONTENT}) as second:
        remote = wanted(server.url("/wrong.zip"), server.url("/gone.zip"), second.url("/file.zip"))
        heard = Heard()
        here = fetch(remote, progress=heard, patience=HASTY)
        assert here.path.read_bytes() == CONTENT
        assert [sentence.endswith("The next source is asked.") for sentence in heard.said] == [True, True]
        assert here.url == second.url("/file.zip")
        assert server.paths() == ["/wrong.zip", "/gone.zip"]


def test_all_sources_that_failed_are_named(server):
    with pytest.raises(UserError) as error:
        fetched(server.url("/a"), server.url("/b"))
    assert re.search(r"from http\S+/a \(the server answers 404 [\w ]+\), nor from http\S+/b \(", str(error.value))


def test_where_a_file_came_from_is_written_beside_it(server):
    here = fetch(wanted(server.url("/file.zip")), progress=Progress())
    note = json.loads(origin_file(here.path).read_text())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", note.pop("date"))
    assert note == {"url": server.url("/file.zip"), "sha256": SHA256, "bytes": LENGTH}


def test_without_a_published_checksum_the_first_is_said_and_later_files_must_be_the_same(server):
    heard, remote = Heard(), wanted(server.url("/file.zip"), digest="")
    file = fetch(remote, progress=heard).path
    assert heard.said == [f"The file: no checksum is published; the first download's SHA-256 is {SHA256}."]
    assert expected_digest(remote) == f"sha256:{SHA256}"
    file.unlink()
    server.files["/file.zip"] = CONTENT[::-1]
    with pytest.raises(
        UserError, match=r"what came is not the file that came first: its sha256 is .* No checksum is published"
    ):
        fetch(remote, progress=heard)
    server.files["/file.zip"] = CONTENT
    assert fetch(remote, progress=heard).path.read_bytes() == CONTENT
    assert len(heard.said) == 1


def test_a_file_without_any_digest_that_changed_in_the_cache_is_told_by_verifying(server):
    remote = wanted(server.url("/file.zip"), digest="")
    file = fetch(remote, progress=Progress()).path
    assert verify_files([remote], Progress()) == 1
    file.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(UserError, match=r"file\.zip is damaged: its sha256 is .* Delete it"):
        verify_files([remote], Progress())


# ---- the disk


def test_too_little_room_is_said_before_a_byte_is_fetched(server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 9 * 10**8, 10**8))
    with pytest.raises(
        UserError, match=r"too little room for the file in .*: it needs 2\.50 GB, and 100\.0 MB are free"
    ):
        fetched(server.url("/file.zip"), size=2_500_000_000)
    assert server.asked == []
    remotes = [replace(wanted(server.url("/file.zip")), name=str(i), size=40_000_000) for i in range(3)]
    with pytest.raises(UserError, match=r"too little room for 3 files in .*: it needs 120\.0 MB"):
        fetch_all(remotes, Progress())
    assert server.asked == []
    server.fail("/file.zip", declares(2_500_000_000))  # a length that only the server says
    for digest in (f"sha256:{SHA256}", ""):
        with pytest.raises(UserError, match=r"^There is too little room for the download .* Nothing was written\.$"):
            fetched(server.url("/file.zip"), digest=digest)


def test_a_full_disk_is_a_sentence_and_what_came_is_kept(server, monkeypatch):
    def full(answer, stream, *_):
        stream.write(answer.read1(1000))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(transfer, "_copy", full)
        with pytest.raises(UserError, match=r"the disk is full: free some space.*1,000 bytes that came are kept"):
            fetched(server.url("/file.zip"), server.url("/other.zip"))
    assert len(server.asked) == 1  # another source would need the same room
    assert fetched(server.url("/file.zip")) == CONTENT


# ---- what is shown


@pytest.mark.parametrize("terminal", [True, False])
def test_a_download_is_shown_in_megabytes(server, terminal):
    shown = io.StringIO()
    server.files["/file.zip"] = CONTENT * 20
    console = Console(file=shown, force_terminal=terminal, width=100)
    fetch(wanted(server.url("/file.zip"), digest=""), progress=ConsoleProgress(console), patience=HASTY)
    assert re.search(r"  fetching the file: 2\.0 MB, \d\.\d s\n", shown.getvalue())
    assert ("/2.0 MB" in shown.getvalue()) == terminal


# ---- a mirror


def test_a_mirror_is_asked_first_by_host_path_and_query_and_then_the_address_itself(server, monkeypatch):
    url = "https://example.invalid/data/file.zip?download=1"
    server.mirror(url, CONTENT)
    monkeypatch.setenv("PCI_BENCH_MIRROR", server.address)
    assert fetched(url) == CONTENT
    assert server.paths() == ["/example.invalid/data/file.zip?download=1"]
    downloaded_file(wanted()).unlink()
    server.files.clear()
    with FileServer({"/file.zip": CONTENT}) as own:
        assert fetched(own.url("/file.zip")) == CONTENT
        assert own.paths() == ["/file.zip"]
    assert server.paths()[1:] == [f"/{own.address.split('/')[2]}/file.zip"]


def test_a_mirror_that_is_no_address_is_a_sentence(monkeypatch):
    monkeypatch.setenv("PCI_BENCH_MIRROR", "/srv/mirror")
    with pytest.raises(UserError, match="PCI_BENCH_MIRROR is '/srv/mirror', which is no address"):
        fetched("https://example.invalid/file.zip")


# ---- many files


def many(server, count: int, **more) -> list[RemoteFile]:
    files = {f"/{i}.bin": bytes([i]) * (1000 + i) for i in range(count)}
    server.files.update(files)
    return [
        RemoteFile(f"many{path}", (server.url(path),), f"the image {path}", "copy it", size=len(content), **more)
        for path, content in files.items()
    ]


def test_many_files_come_side_by_side_under_one_bar_and_failures_are_listed(server):
    remotes, heard = many(server, 12), Heard()
    server.fail("/3.bin", status(404))
    server.fail("/5.bin", status(500), times=1)
    done = fetch_all(remotes, heard, title="fetching images", patience=HASTY)
    assert set(done.files) == {remote.name for remote in remotes} - {"many/3.bin"}
    assert list(done.failures) == ["many/3.bin"]
    assert "Could not fetch the image /3.bin" in done.failures["many/3.bin"]
    for name, here in done.files.items():
        assert here.path.read_bytes() == server.files[name.removeprefix("many")]
    ((title, total, moves),) = heard.moves
    assert (title, total) == ("fetching images", sum(remote.size for remote in remotes))
    assert moves[-1] == total - remotes[3].size
    assert heard.said[-1].startswith("No checksum is published for 11 of these files")
    server.mend()
    asked = len(server.asked)
    assert not fetch_all(remotes, heard, patience=HASTY).failures
    assert len(server.asked) == asked + 1


def test_no_more_than_the_allowed_connections_are_open(server):
    open_now, most, counting = [0], [0], threading.Lock()

    def counted(request):
        with counting:
            open_now[0] += 1
            most[0] = max(most[0], open_now[0])
        time.sleep(0.02)
        with counting:  # before the answer, which lets the client go on
            open_now[0] -= 1
        request.give()

    server.fail("*", counted)
    assert len(fetch_all(many(server, 16), Progress(), workers=3).files) == 16
    assert most[0] == 3


def test_a_host_is_asked_no_more_often_than_allowed(server):
    times = []
    server.fail("*", lambda request: (times.append(time.monotonic()), request.give()))
    fetch_all(many(server, 6), Progress(), workers=4, at_most_per_second=20)
    assert max(times) - min(times) >= 5 / 20 * 0.9


def test_a_host_that_asks_to_wait_is_left_alone_by_every_connection():
    pace = transfer.Pace()
    pace.hold("host", 5)
    assert pace.seconds_until_turn("host") == pytest.approx(5, abs=0.1)
    assert pace.seconds_until_turn("another") <= 0


def test_a_host_that_gives_nothing_is_not_asked_for_thousands_of_files(server):
    remotes = many(server, 200)
    server.fail("*", status(404))
    done = fetch_all(remotes, Progress(), patience=HASTY)
    assert len(done.failures) == 200
    assert len(server.asked) < 40
    assert done.failures[remotes[-1].name] == "It was not asked for, as 20 files in a row could not be had."


def test_two_files_cannot_go_to_one_place(server):
    remote = wanted(server.url("/file.zip"))
    with pytest.raises(ValueError, match="one place"):
        fetch_all([remote, remote], Progress())


def test_ctrl_c_ends_all_transfers(server):
    class Interrupted(Progress):
        @contextmanager
        def transfer(self, title, total=None):
            yield lambda position: None
            raise AssertionError

        def say(self, sentence):
            raise KeyboardInterrupt

    server.fail("/2.bin", status(500))
    with pytest.raises(KeyboardInterrupt):
        fetch_all(many(server, 8), Interrupted(), patience=HASTY)


# ---- a user's own copy


def test_a_users_copy_is_taken_only_when_it_is_the_file(tmp_path, server, cache):
    copy, remote = tmp_path / "mine.zip", wanted("http://127.0.0.1:1/", size=LENGTH)
    copy.write_bytes(CONTENT[:-1])
    with pytest.raises(
        UserError,
        match=r"mine\.zip is not the file: it has 102,399 bytes, not the 102,400 expected\. It was not imported",
    ):
        import_file(remote, copy, progress=Progress())
    copy.write_bytes(CONTENT[::-1])
    with pytest.raises(
        UserError, match=r"mine\.zip is not the file: what came is not the expected file: its sha256 is"
    ):
        import_file(remote, copy, progress=Progress())
    assert in_cache(cache) == []
    copy.write_bytes(CONTENT)
    import_file(remote, copy, progress=Progress())
    assert fetch(remote, progress=Progress()).url == ""
    assert in_cache(cache) == ["file.zip", "file.zip.origin.json"]
    assert copy.read_bytes() == CONTENT


def test_a_users_copy_without_a_published_checksum_is_the_first(tmp_path, server):
    copy, remote, heard = tmp_path / "mine.zip", wanted(server.url("/file.zip"), digest=""), Heard()
    copy.write_bytes(CONTENT)
    import_file(remote, copy, progress=heard)
    assert SHA256 in heard.said[0]
    assert expected_digest(remote) == f"sha256:{SHA256}"
    assert server.asked == []
