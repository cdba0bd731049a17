"""Fetching a file once into the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pci_bench.errors import UserError
from pci_bench.files import cache_folder, make_folder
from pci_bench.progress import Progress


class _DownloadBar:
    """What pooch calls while it downloads, passed on to our progress."""

    total = 0

    def __init__(self, progress: Progress, title: str):
        self._stage = progress.stage(title, None)
        self._advance: Any = self._stage.__enter__()

    def update(self, n: int) -> None:
        self._advance(n)

    def reset(self) -> None:
        """Pooch resets the bar before it completes it; there is nothing to do."""

    def close(self) -> None:
        self._stage.__exit__(None, None, None)


def fetch(url: str, name: str, *, purpose: str, instead: str, progress: Progress, sha256: str | None = None) -> Path:
    """Return the path of a downloaded file; it is fetched only when the cache has none.

    Parameters
    ----------
    url, name
        Where it is, and what to call it in the cache.
    purpose, instead
        For messages: what the file is for, and what the user can do without a network.
    progress
        Shows the download.
    sha256
        The file's hash; None only where the caller verifies the contents itself.

    Raises
    ------
    UserError
        Where the file cannot be fetched or is not the expected one.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")  # our progress says what is fetched
    folder = make_folder(cache_folder() / "downloads")
    downloader = pooch.HTTPDownloader(timeout=30, progressbar=_DownloadBar(progress, f"fetching {purpose}"))
    try:
        return Path(pooch.retrieve(url, known_hash=sha256, fname=name, path=folder, downloader=downloader))
    except (requests.RequestException, OSError, ValueError) as error:
        (folder / name).unlink(missing_ok=True)
        reason = type(error).__name__ if isinstance(error, requests.RequestException) else str(error)
        raise UserError(f"Could not fetch {purpose} from {url} ({reason}). Try again later, or {instead}.") from error
