"""Listings of folders as web servers show them: the files below an address, found by following links downwards only."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from pci_bench.acquisition.download import sources
from pci_bench.acquisition.transfer import Client, DownloadError, Pace
from pci_bench.errors import UserError
from pci_bench.system.remote import RemoteFile

MAX_DEPTH = 4  # folders below the one that is asked for
MAX_FILES = 200_000
LARGEST_PAGE = 32 * 2**20  # bytes


class _Links(HTMLParser):
    """Collects where the links of a page lead."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def entries_of(page: str, url: str) -> tuple[list[str], list[str]]:
    """Return the folders and files that a listing shows, as addresses.

    Only what lies directly in the folder counts: links upwards, to other servers, and those that sort the listing do not.

    Parameters
    ----------
    page
        HTML, as the servers Apache and nginx write it.
    url
        The folder's address, which ends in ``/``.

    Examples
    --------
    >>> page = '<a href="?C=N;O=D">Name</a> <a href="/">Parent</a> <a href="plate1/">plate1/</a> <a href="a%20b.tif">a b.tif</a>'
    >>> entries_of(page, "http://example.org/screens/")
    (['http://example.org/screens/plate1/'], ['http://example.org/screens/a%20b.tif'])
    """
    links = _Links()
    links.feed(page)
    folders, files = dict[str, None](), dict[str, None]()
    for target in links.targets:
        address = urljoin(url, target.partition("#")[0])
        name = address.removeprefix(url)
        if "?" in address or not name or name == address or "/" in name.rstrip("/") or ".." in unquote(name):
            continue
        (folders if name.endswith("/") else files)[address] = None
    return list(folders), list(files)


def files_below(url: str, read_page: Callable[[str], str], wanted: tuple[str, ...]) -> list[str]:
    """Return the addresses of the files below a folder whose names end as wanted, in the order of the listings.

    Parameters
    ----------
    url
        The folder's address.
    read_page
        Returns the HTML of an address.
    wanted
        Ends of names, in small letters.

    Raises
    ------
    UserError
        Where there are more folders in each other, or more files, than any screen has.
    """
    found: list[str] = []
    waiting = [(url, 0)]
    while waiting:
        folder, depth = waiting.pop(0)
        if depth > MAX_DEPTH:
            raise UserError(
                f"{url} has more than {MAX_DEPTH} folders in each other ({folder}). Name a folder further down."
            )
        folders, files = entries_of(read_page(folder), folder)
        found += [file for file in files if urlsplit(file).path.lower().endswith(wanted)]
        if len(found) > MAX_FILES:
            raise UserError(f"{url} has more than {MAX_FILES:,} files. Name a folder further down.")
        waiting += [(inner, depth + 1) for inner in folders]
    return found


def page_reader(at_most_per_second: float = 5.0) -> Callable[[str], str]:
    """Return a function that gives the HTML of an address, from the user's mirror where there is one.

    Parameters
    ----------
    at_most_per_second
        Requests to one server.
    """
    client = Client(pace=Pace(at_most_per_second))

    def read_page(url: str) -> str:
        failures = []
        for address in sources(RemoteFile("listing", (url,), "a listing", "name another")):
            try:
                with client.open(address, {"User-Agent": "pci-bench", "Accept": "text/html"}) as answer:
                    content = answer.read(LARGEST_PAGE + 1)
                if len(content) > LARGEST_PAGE:
                    raise ValueError(f"it has more than {LARGEST_PAGE:,} bytes")
                return content.decode("utf-8", errors="replace")
            except (DownloadError, OSError, http.client.HTTPException, ValueError) as error:
                failures.append(f"from {address} ({str(error).rstrip('.')})")
        raise UserError(f"Could not read the listing {', nor '.join(failures)}. Try again later.")

    return read_page
