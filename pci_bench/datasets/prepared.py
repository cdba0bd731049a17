"""Datasets that ``pci-bench data prepare`` made of raw fields of view, found by their names."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench.api.dataset import DATASETS, Dataset
from pci_bench.api.loading import load, store_folder
from pci_bench.data.cells import Cells, DatasetMeta
from pci_bench.data.store import StoreWriter
from pci_bench.errors import UserError
from pci_bench.system.files import (
    atomic_file,
    cache_folder,
    escape,
    lock,
    make_folder,
    remove_folder,
    user_path,
    write_json,
)
from pci_bench.system.foreign import read_json
from pci_bench.system.progress import Progress
from pci_bench.system.text import csv_table

if TYPE_CHECKING:
    from pci_bench.acquisition.prepare import Prepared

NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?")
RECORD = "prepared.json"
SCHEMA = 1  # of the record


def prepared_folder(name: str) -> Path:
    """Return the folder of what is known of a prepared dataset: its layout, its record, tables and quality-control page."""
    return cache_folder() / "prepared" / escape(name)


def check_name(name: str) -> None:
    """Raise where a prepared dataset cannot have a name: other commands could not be given it, or it is taken."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"A dataset cannot be named '{name}'. Use small letters, digits, '.', '_' and '-', such as my-screen-2."
        )
    if name in DATASETS and not isinstance(DATASETS.get(name), PreparedDataset):
        raise UserError(f"There is a dataset named '{name}' already ({DATASETS.origin(name)}). Choose another --name.")


@dataclass(frozen=True)
class PreparedRecord:
    """What is known of a prepared dataset without its cells.

    Parameters
    ----------
    meta
        The dataset's description.
    layout
        The layout's file.
    identity
        A hash of all that the cells follow from: the layout, the files of the fields, the code that cuts them.
    counts
        Fields, objects and cells; and how many objects were dropped, by reason.
    """

    meta: DatasetMeta
    layout: str
    identity: str
    counts: Mapping[str, Any]

    def write(self, folder: Path) -> None:
        """Write it into a prepared dataset's folder."""
        write_json(folder / RECORD, {"schema": SCHEMA, **asdict(self)})

    @classmethod
    def read(cls, folder: Path) -> PreparedRecord | None:
        """Return the record of a folder, or None where there is none that can be read."""
        try:
            content = read_json(folder / RECORD)
            if content["schema"] != SCHEMA:
                return None
            return cls(DatasetMeta(**content["meta"]), content["layout"], content["identity"], content["counts"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class PreparedDataset(Dataset):
    """Cells that were cut from raw fields of view and are in the cache.

    Parameters
    ----------
    record
        What is known of it.
    prepared
        The fields that were cut, where its cells are to be stored now.
    """

    def __init__(self, record: PreparedRecord, prepared: Prepared | None = None):
        self.record = record
        self.meta = record.meta
        self._prepared = prepared

    def unavailable_reason(self) -> str | None:
        """Return how to prepare it again, where its cells are no longer in the cache."""
        if self._prepared is not None or store_folder(self).exists():
            return None
        return f"its cells are no longer in the cache. {self._again()}"

    def _again(self) -> str:
        return (
            f"`pci-bench data prepare {shlex.quote(self.record.layout)} --name {self.meta.name}` stores them again; fields that were cut "
            "are kept."
        )

    def build(self, store: StoreWriter) -> None:
        """Store the cells."""
        if self._prepared is None:
            raise UserError(f"The cells of '{self.meta.name}' cannot be read any more. {self._again()}")
        self._prepared.write(store)

    def source_fingerprint(self) -> str:
        """Return the hash of all that the cells follow from."""
        return self.record.identity


@DATASETS.found_by
def prepared_datasets() -> dict[str, Dataset]:
    """Return the prepared datasets of the cache by their names."""
    folders = (cache_folder() / "prepared").glob(f"*/{RECORD}")
    records = (PreparedRecord.read(file.parent) for file in sorted(folders))
    return {record.meta.name: PreparedDataset(record) for record in records if record is not None}


def prepare_dataset(
    layout: Path | str,
    name: str,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    strict: bool = False,
    replace: bool = False,
    progress: Progress | None = None,
) -> tuple[Cells, Prepared]:
    """Return the cells that a layout cuts from raw fields of view, stored under a name that every command takes.

    What an earlier call cut from the same files with the same settings is kept, so a call that was interrupted continues, and
    one with more files cuts only those.

    Parameters
    ----------
    layout
        The layout's file (TOML).
    name
        Of the dataset: small letters, digits, ``.``, ``_`` and ``-``.
    workers
        Processes that share the fields; by default one per core.
    scheduler
        ``"tcp://HOST:PORT"`` of a Dask cluster whose workers cut the fields in their place.
    strict
        Whether one field that cannot be cut ends it all.
    replace
        Whether a dataset of this name that came from another layout is replaced.
    progress
        The progress reporter.

    Returns
    -------
    Cells
        The cells.
    Prepared
        The fields that they were cut from, with what was dropped and why.

    Raises
    ------
    UserError
        For a name that cannot be or is taken, a layout that cannot be used or fits nothing, files that cannot be read.
    """
    from pci_bench.acquisition.layout import read_layout
    from pci_bench.acquisition.prepare import Source, prepare_fields

    progress, file = progress or Progress(), user_path(layout, "The layout", absolute=True, text=True)
    check_name(name)
    folder, declared = prepared_folder(name), read_layout(file)
    with lock(folder, progress.say):
        before = PreparedRecord.read(folder)
        if before is not None and before.layout != str(file) and not replace:
            raise UserError(
                f"'{name}' was prepared from {before.layout}. Choose another --name, or replace it with --replace."
            )
        source = Source(declared, file.parent)
        prepared = prepare_fields(
            source,
            make_folder(folder / "parts"),
            workers=workers,
            scheduler=scheduler,
            strict=strict,
            progress=progress,
        )
        record = PreparedRecord(declared.meta(name, "1"), str(file), identity_of(prepared), _counts(prepared))
        cells = load(PreparedDataset(record, prepared), progress=progress)
        _write_tables(prepared, folder)
        record.write(folder)
        if before is not None and before.identity != record.identity:
            remove_folder(store_folder(PreparedDataset(before)))
        kept = {path.name for path, _ in prepared.parts.values()}
        for stale in [path for path in (folder / "parts").glob("*.npz") if path.name not in kept]:
            stale.unlink()
    return cells, prepared


def remove_prepared(name: str) -> None:
    """Remove a prepared dataset: its cells, and all that is kept of its fields.

    Raises
    ------
    UserError
        Where there is no prepared dataset of this name.
    """
    folder = prepared_folder(name)
    with lock(folder):
        record = PreparedRecord.read(folder)
        if record is None and not folder.is_dir():  # one that was interrupted has no record yet
            raise UserError(f"There is no prepared dataset named '{name}'. `pci-bench data list` shows all of them.")
        if record is not None:
            remove_folder(store_folder(PreparedDataset(record)))
        remove_folder(folder)


def _counts(prepared: Prepared) -> dict[str, Any]:
    """Return how many fields, objects and crops there are, and how many objects were dropped, by reason."""
    table = prepared.joined
    return {
        "fields": len(prepared.parts),
        "failed_fields": len(prepared.left_out),
        "objects": len(table.objects),
        "kept_objects": int((table.objects["reason"] == "").sum()),
        "crops": len(table.obs),
        "dropped": table.drops(),
    }


def _write_tables(prepared: Prepared, folder: Path) -> None:
    """Write what is known of fields and objects, for people: ``fields.csv`` and ``objects.csv``."""
    for name, table in (("fields.csv", prepared.joined.per_field), ("objects.csv", prepared.joined.objects)):
        with atomic_file(folder / name) as temporary:
            temporary.write_text(csv_table(table), encoding="utf-8", newline="\n")


def identity_of(prepared: Prepared) -> str:
    """Return a hash of all that the cells of prepared fields follow from."""
    layout = prepared.source.layout
    labels = (
        "" if layout.labels is None else (prepared.source.folder / layout.labels.file).read_text(encoding="utf-8-sig")
    )
    content = [layout.digest(), [identity for _, identity in prepared.parts.values()], labels, prepared.notes]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
