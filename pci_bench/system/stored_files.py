"""The files of a folder, on this machine or in an object store (``s3://``, ``gs://``), read alike."""

from __future__ import annotations

import hashlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pci_bench.errors import UserError
from pci_bench.system.checksums import digest_of

Place = Path | str  # a folder of this machine, or the URL of one in an object store
LIBRARIES = {"s3": "s3fs", "gs": "gcsfs"}  # of a kind of URL, each an extra of its name
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket FSSPEC_S3='{\"anon\": true}'",
    "gs": 'GOOGLE_APPLICATION_CREDENTIALS; for a public bucket FSSPEC_GS=\'{"token": "anon"}\'',
}


class StoredFiles(ABC):
    """Files by their names below a folder."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """Return how many bytes a file has, or None where there is none."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""

    @abstractmethod
    def digest(self, name: str) -> str:
        """Return the hexadecimal SHA-256 of a file."""

    @abstractmethod
    def array(self, name: str) -> Any:
        """Return a Zarr array below the folder; its chunks are read when they are asked for."""


@dataclass(frozen=True)
class LocalFiles(StoredFiles):
    """Files of this machine."""

    folder: Path

    def size(self, name: str) -> int | None:
        """Return how many bytes a file has, or None where there is none."""
        file = self.folder / name
        return file.stat().st_size if file.is_file() else None

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        return (self.folder / name).read_bytes()

    def digest(self, name: str) -> str:
        """Return the hexadecimal SHA-256 of a file, read in pieces."""
        return digest_of(self.folder / name)

    def array(self, name: str) -> Any:
        """Return a Zarr array below the folder."""
        import zarr

        return zarr.open_array(self.folder / name, mode="r", zarr_format=3)


@dataclass(frozen=True)
class ObjectFiles(StoredFiles):
    """Objects of a store, through fsspec, which takes addresses and credentials from the environment."""

    url: str

    @cached_property
    def _files(self) -> Any:
        import fsspec

        return fsspec.filesystem(self.url.partition(":")[0], use_listings_cache=False)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """The size of every object, from one listing."""
        root = self.url.partition("://")[2].rstrip("/") + "/"
        with sentences_for_object_stores(self.url):
            found = self._files.find(root, detail=True)
        return {name.removeprefix(root): int(info["size"]) for name, info in found.items()}

    def size(self, name: str) -> int | None:
        """Return how many bytes an object has, or None where there is none."""
        return self._sizes.get(name)

    def read(self, name: str) -> bytes:
        """Return the bytes of an object."""
        with sentences_for_object_stores(self.url):
            content: bytes = self._files.cat_file(f"{self.url}/{name}")
        return content

    def digest(self, name: str) -> str:
        """Return the hexadecimal SHA-256 of an object."""
        return hashlib.sha256(self.read(name)).hexdigest()

    def array(self, name: str) -> Any:
        """Return a Zarr array below the URL."""
        import zarr

        with sentences_for_object_stores(self.url):
            store = zarr.storage.FsspecStore.from_url(f"{self.url}/{name}", read_only=True)
            return zarr.open_array(store, mode="r", zarr_format=3)


def files_at(place: Place) -> StoredFiles:
    """Return the files of a folder, or below a URL.

    >>> files_at("s3://bucket/a")
    ObjectFiles(url='s3://bucket/a')
    """
    return ObjectFiles(place) if isinstance(place, str) else LocalFiles(place)


def missing_library(url: str) -> str | None:
    """Return what is not installed that reads a URL and the command that installs it, or None."""
    kind = url.partition(":")[0]
    if importlib.util.find_spec(LIBRARIES[kind]) is not None:
        return None
    return f"{kind}:// is read by {LIBRARIES[kind]}, which is not installed. Run: pip install 'pci-bench[{kind}]'"


@contextmanager
def sentences_for_object_stores(url: str) -> Iterator[None]:
    """Turn what an object store refuses into a sentence: no such bucket or object, no access, no connection.

    Raises
    ------
    UserError
        In place of what the library raised.
    """
    kind = url.partition(":")[0]
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError as error:
        raise UserError(
            f"There is no store of cells at {url}: {_said(error)}. Check the bucket and the path."
        ) from error
    except Exception as error:  # of botocore, aiohttp and others, each a kind of its own
        if isinstance(error, PermissionError) or type(error).__name__ in (
            "NoCredentialsError",
            "PartialCredentialsError",
        ):
            remedy = f"credentials are taken from the environment ({CREDENTIALS[kind]})"
            raise UserError(
                f"Access to {url} is denied: {_said(error)}. Check the bucket's permissions; {remedy}."
            ) from error
        own = " (AWS_ENDPOINT_URL names a store of your own)" if kind == "s3" else ""
        raise UserError(
            f"{url} cannot be read: {type(error).__name__}: {_said(error)}. Check the connection{own}, and run the command again."
        ) from error


def _said(error: Exception) -> str:
    return str(error).strip().rstrip(".")
