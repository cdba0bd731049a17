"""Stores of cells that lie elsewhere and are read where they are: ``store:PATH``, ``s3://BUCKET/FOLDER``, ``gs://BUCKET/FOLDER``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pci_bench.api.dataset import Dataset, register_dataset
from pci_bench.data.cells import DatasetMeta
from pci_bench.errors import UserError
from pci_bench.system.files import user_path
from pci_bench.system.stored_files import Place, missing_library

if TYPE_CHECKING:
    from pathlib import Path

    from pci_bench.data.store import StoreWriter


class StoredDataset(Dataset):
    """Cells of a store that nothing is built of."""

    def build(self, store: StoreWriter) -> None:
        """Raise: a store is there already."""
        raise UserError(f"{self.stored_at()} is a store of cells already, and nothing is built of it.")


@register_dataset("store", argument="PATH")
class StoreOfThisMachine(StoredDataset):
    """A store of cells in a folder: one that was copied from a cache of pci-bench, or of a shared one. It is read where it is."""

    def __init__(self, argument: str):
        self._root = user_path(argument, "The store", absolute=True, text=True)
        self.meta = DatasetMeta(f"store:{argument}", "1", f"The store {argument}")

    def unavailable_reason(self) -> str | None:
        """Return a sentence where there is no such folder."""
        if self._root.is_dir():
            return None
        return f"there is no folder {self._root}. Check the path; a relative one starts at the current folder."

    def stored_at(self) -> Path:
        """Return the folder."""
        return self._root


class ObjectStore(StoredDataset):
    """A store of cells in a bucket. Chunks of crops are read when they are asked for, by every worker for itself."""

    kind: ClassVar[str]

    def __init__(self, argument: str):
        bucket, _, folder = argument.removeprefix("//").partition("/")
        self._url = f"{self.kind}:{argument.rstrip('/')}"
        if not argument.startswith("//") or not bucket or not folder.strip("/"):
            raise UserError(f"{self.kind}:{argument} names no folder of a bucket. Write {self.kind}://BUCKET/FOLDER.")
        self.meta = DatasetMeta(self._url, "1", f"The store {self._url}")

    def unavailable_reason(self) -> str | None:
        """Return which library is not installed, or None."""
        return missing_library(self._url)

    def stored_at(self) -> Place:
        """Return the URL."""
        return self._url


@register_dataset("s3", argument="//BUCKET/FOLDER")
class S3Store(ObjectStore):
    """A store of cells in a bucket of Amazon S3, or of another store that speaks as it does (``AWS_ENDPOINT_URL``), by the extra ``s3``."""

    kind = "s3"


@register_dataset("gs", argument="//BUCKET/FOLDER")
class GoogleStore(ObjectStore):
    """A store of cells in a bucket of Google Cloud Storage, by the extra ``gs``."""

    kind = "gs"
