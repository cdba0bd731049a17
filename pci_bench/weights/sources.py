"""Weights that lie elsewhere: what getting them would fetch; fetching, checking and importing them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError
from pci_bench.system.files import lock, sha256_of
from pci_bench.system.progress import Progress
from pci_bench.system.remote import RemoteFile, check_digest
from pci_bench.weights.names import FETCHERS, IMPORTERS, declared, file_of, find, overwriting

if TYPE_CHECKING:
    from pci_bench.acquisition.download import Fetched

OF_THE_PAPER = "lu2019-"  # begins the names of all weights that the paper trained

_importing: ContextVar[Fetched | None] = ContextVar("importing", default=None)


def remote_files(family: str, name: str) -> tuple[RemoteFile, ...]:
    """Return what getting some weights would fetch; () for weights that are shipped, or of which no address is declared.

    Examples
    --------
    >>> (file,) = remote_files("pci", "lu2019-yeast")
    >>> file.digest, file.licence
    ('git-blob:21029d9a1187f7199b0a89df95093f9656c01240', "GPL-2.0, as the authors' repository")
    >>> remote_files("pci", "yeast-sim")
    ()
    """
    declaration = declared().get(family, {}).get(name, {})
    if "urls" not in declaration:
        return ()
    urls = tuple(declaration["urls"])
    again = "try again with a connection"
    if kind := declaration.get("import"):
        again = f"download it by other means and run `pci-bench weights import {kind} {_last(urls[0])} --name {name}`"
    return (
        RemoteFile(
            f"weights/{family}@{name}/{_last(urls[0])}",
            urls,
            f"the weights {family}@{name}",
            again,
            digest=declaration.get("digest", ""),
            size=declaration.get("bytes"),
            licence=declaration.get("licence", ""),
        ),
    )


def at_first_use(family: str, name: str) -> Path | None:
    """Return the file of some weights; those that come from a hub or with a package are had now, where they are not here.

    None for what only `fetched` or an import gets. A family of which ``weights.toml`` declares no names is had by any name.

    Raises
    ------
    UserError
        Where they cannot be had.
    """
    file = find(family, name)
    names = declared().get(family)
    if file is None and (family in FETCHERS if names is None else names.get(name, {}).get("fetch")):
        with FETCHERS.code(family, f"on {name}"):
            file = FETCHERS.get(family)(name)
    return file


def fetched(family: str, name: str, *, progress: Progress | None = None, again: bool = False) -> Path | None:
    """Return the file of some weights: fetched, checked and imported now, where they are not here.

    Parameters
    ----------
    family, name
        They are used as ``family-output@name``.
    progress
        Shows the download; by default nothing is shown.
    again
        Whether to get them although they are here, and replace them.

    Returns
    -------
    Path or None
        None where nothing is declared that could be fetched.

    Raises
    ------
    UserError
        Where no source gives the file, it is another one than was published, or what reads it is not installed.
    """
    progress = progress or Progress()
    if not again and (file := at_first_use(family, name)):
        return file
    declaration = declared().get(family, {}).get(name, {})
    if declaration.get("fetch"):
        with overwriting(), FETCHERS.code(family, f"on {name}"):
            return FETCHERS.get(family)(name)
    if not (remote := remote_files(family, name)):
        return None
    if missing := missing_reader(family, name):
        raise UserError(f"The weights {family}@{name} are not fetched: {missing}.")
    from pci_bench.acquisition.download import fetch  # with what speaks to servers, which no other command needs

    importer = declaration["import"]
    with lock(file_of(family, name), progress.say):
        if not again and (file := find(family, name)):  # another process fetched them meanwhile
            return file
        download = fetch(remote[0], progress=progress)
        with overwriting(), _from(download), IMPORTERS.code(importer, f"on {download.path}"):
            IMPORTERS.get(importer)(download.path, name)
        download.path.unlink(missing_ok=True)  # the weights hold all of it, and where it came from
    return find(family, name)


def source_of(family: str, name: str, file: Path) -> str:
    """Return where weights that are imported came from, for their header; refuse a declared name for another file.

    Every importer asks this: results of a name that ``weights.toml`` declares may stand beside printed numbers.

    Parameters
    ----------
    family, name
        What the weights will be called.
    file
        The file that is imported.

    Raises
    ------
    UserError
        Where the name is declared with a checksum, and the file has another.
    """
    declaration = declared().get(family, {}).get(name, {})
    digests = [declaration["digest"], *declaration.get("accepts", [])] if "digest" in declaration else []
    download = _importing.get()
    here = download is not None and download.path == file
    parts = [download.url if here and download is not None and download.url else file.name]
    faults = []
    for digest in digests:
        try:
            check_digest(file, digest)
        except DamagedError as error:
            faults.append(str(error))
        else:
            parts.append(f"{digest.replace(':', ' ')} as published")
            break
    else:
        if faults:
            raise UserError(
                f"{file} is not a published file of {family}@{name}: {'; '.join(faults)}. Results of that name may stand beside "
                "printed numbers, so no other file can have it. Give this one another --name."
            )
    parts.append(f"sha256 {sha256_of(file)}")
    if here and not digests:
        parts.append("no checksum of it is published: this is what came when it was first fetched")
    return ", ".join(parts)


def how_to_get(family: str, name: str) -> str:
    """Return why weights are not available and the command that gets them, with their size and licence where known."""
    declaration = declared().get(family, {}).get(name)
    if declaration is None and name.startswith(OF_THE_PAPER):
        return f"the paper's weights {family}@{name} were not published, as far as we know; imported under this name, they would be used"
    if declaration is None:
        return f"there are no weights {family}@{name} here. `pci-bench weights list` shows what there is"
    if "how" in declaration:
        return f"the weights {family}@{name} are not here yet. {declaration['how']}"
    if not (declaration.get("fetch") or "urls" in declaration):
        return f"the shipped weights {family}@{name} are missing from this installation. Install pci-bench again"
    size, licence = declaration.get("bytes"), declaration.get("licence")
    facts = [f"{size / 1e6:,.0f} MB"] if size else []
    facts += [f"licence: {licence}"] if licence else []
    known = f" ({'; '.join(facts)})" if facts else ""
    first = f"Run pip install 'pci-bench[{declaration['needs']}]' and" if missing_reader(family, name) else "Run"
    return f"the weights {family}@{name} are not here yet. {first} `pci-bench weights get {family}@{name}`{known}"


def state_to_get(family: str, name: str) -> str:
    """Return in a few words what it takes to have weights that are not here.

    Examples
    --------
    >>> state_to_get("vgg16", "oxford"), state_to_get("pci", "lu2019-yeast")
    ('553 MB to fetch', 'to fetch')
    """
    declaration = declared().get(family, {}).get(name, {})
    if package := declaration.get("package"):
        return "on first use" if _is_installed(package.partition("==")[0]) else "by pip"
    if not (declaration.get("fetch") or "urls" in declaration):
        return "missing"
    size = declaration.get("bytes")
    return f"{size / 1e6:,.0f} MB to fetch" if size else "to fetch"


def missing_reader(family: str, name: str) -> str | None:
    """Return that what reads a file of weights is not installed, and how to install it, or None."""
    needs = declared().get(family, {}).get(name, {}).get("needs")
    if needs is None or find_spec(needs):
        return None
    return f"{needs}, which reads their file, is not installed: pip install 'pci-bench[{needs}]'"


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _last(url: str) -> str:
    return url.rpartition("/")[2]


@contextmanager
def _from(download: Fetched) -> Iterator[None]:
    """Let the import within the block say where its file came from."""
    token = _importing.set(download)
    try:
        yield
    finally:
        _importing.reset(token)
