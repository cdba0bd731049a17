"""Cells on disk: a Zarr array of raw crops, a Parquet table of cells, and a description that says what is whole.

A store is a folder: ``crops.zarr`` (n, channels, rows, columns), optionally ``masks.zarr`` (n, rows, columns), or in their
place ``profiles.zarr`` (n, d); ``obs.parquet``, and ``store.json`` with channels, dataset, content hash and the size of every other file, so that a
truncated store is noticed when it is opened. From 65,536 cells on, chunks of crops and masks lie in shards. Bits that flipped on the disk are noticed, too: chunks carry a checksum that is
checked when they are read, and the description holds those of the other files and of itself.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.cells import Cells, Channel, DatasetMeta, Profiles, as_float32, validated_obs
from pci_bench.errors import UserError
from pci_bench.system.checksums import DamagedError, check_described, check_digests, described, digests_of
from pci_bench.system.progress import Progress
from pci_bench.system.shortages import raise_shortage
from pci_bench.system.stored_files import Place, files_at, sentences_for_object_stores

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1  # of stores
CELLS_PER_CHUNK = 256
CELLS_PER_SHARD = 4096  # chunks of very many cells lie in files of so many: a sixteenth of the files, read as fast
MIN_SHARDED_CELLS = 65_536
DIGEST_BYTES = 16


class BrokenStoreError(UserError):
    """A folder that is not a whole store of this schema."""


class StoreWriter:
    """What a dataset writes its cells to, in order, in batches of any size."""

    def __init__(self, folder: Path, meta: DatasetMeta, progress: Progress):
        self._folder = folder
        self._meta = meta
        self.progress = progress
        self._filled = 0
        self._buffered = 0
        self._constant: dict[str, int] = {}
        self._notes: list[str] = []
        self._digests = bytearray()  # DIGEST_BYTES of each cell: Python objects would take five times as much
        self._hash = hashlib.sha256()
        self._mask_hash = hashlib.sha256()
        self._generated: str | None = None
        self._checksum: str | None = None
        self._profiles: Profiles | None = None
        self._crops: Any = None
        self._masks: Any = None
        self._stage: Any = None

    @property
    def added(self) -> int:
        """How many cells were added so far."""
        return self._filled + self._buffered

    def begin(
        self,
        obs: pd.DataFrame,
        channels: tuple[Channel, ...],
        *,
        crop_shape: tuple[int, int],
        dtype: str,
        confounder: str | None = None,
        masks: bool = False,
        notes: tuple[str, ...] = (),
        identity: str | None = None,
        checksum: str | None = None,
    ) -> None:
        """Declare what will be written.

        Parameters
        ----------
        obs
            One row per cell, in the order in which crops will be added.
        channels
            One per channel.
        crop_shape
            Rows and columns.
        dtype
            ``"uint8"``, ``"uint16"`` or ``"float32"``.
        confounder
            Overrides the dataset's confounder, where only the files tell which column it is.
        masks
            Whether segmentation labels are added with the crops.
        notes
            What a user should know of these data, as sentences.
        identity
            For generated data, all that they are made from: generator, version, seed and parameters. The content hash is
            then of this text in place of pixels and table.
        checksum
            For generated data, the SHA-256 that their pixels and masks have on every processor: `pixel_checksum` of all crops
            and masks. Other pixels are an error when the last are written.
        """
        if dtype not in ("uint8", "uint16", "float32"):
            raise UserError(f"Crops of '{self._meta.name}' are {dtype}; they must be uint8, uint16 or float32.")
        self._begin(obs, channels, confounder, notes)
        self._generated = identity
        self._checksum = checksum
        n, shape = len(obs), (len(channels), *crop_shape)
        self._crops = self._array("crops.zarr", (n, *shape), dtype)
        if masks:
            self._masks = self._array("masks.zarr", (n, *crop_shape), "uint16")
        self._buffer: list[tuple[np.ndarray, np.ndarray | None]] = []
        self._stage = self.progress.stage(f"storing {self._meta.name}, {n:,} cells", n)
        self._advance = self._stage.__enter__()

    def write_profiles(
        self,
        obs: pd.DataFrame,
        values: np.ndarray,
        names: Sequence[str],
        *,
        confounder: str | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        """Write a dataset of measured profiles, in place of ``begin`` and ``add``.

        Parameters
        ----------
        obs
            One row per profile: a well, a treatment, a protein. ``cell`` is its name.
        values
            Measurements (n, d), finite; stored as float32.
        names
            One name per column of them.
        confounder, notes
            As in :meth:`begin`.

        Raises
        ------
        UserError
            For another shape, names that repeat, or NaN or infinite values (the first is named).
        """
        self._begin(obs, (), confounder, notes)
        values, names = np.asarray(values), tuple(map(str, names))
        if values.shape != (len(obs), len(names)) or not names:
            raise UserError(
                f"The profiles of '{self._meta.name}' have the shape {values.shape} for {len(obs):,} rows and {len(names):,} names; "
                "expected one row per row of the table and one column per name, one at least."
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"Two measurements of '{self._meta.name}' are called '{twice}'. Names must be unique.")
        values = np.ascontiguousarray(as_float32(values, f"'{self._meta.name}'"))
        if len(bad := np.argwhere(~np.isfinite(values))):
            row, column = bad[0]
            raise UserError(
                f"The profile of '{self._obs['cell'].iloc[row]}' in '{self._meta.name}' holds {values[row, column]} as '{names[column]}' "
                f"({len(bad):,} such values). Leave these rows or columns out, or fill them in before they are stored."
            )
        self._profiles = Profiles(names, values)
        self._array("profiles.zarr", values.shape, "float32")[:] = values
        self._hash.update(values.tobytes())
        self._digests += _digests(values)
        self._filled = len(obs)

    def _begin(
        self, obs: pd.DataFrame, channels: tuple[Channel, ...], confounder: str | None, notes: tuple[str, ...]
    ) -> None:
        """Keep the table and what is said of the cells."""
        from dataclasses import replace

        if len(obs) == 0:
            raise UserError(f"The dataset '{self._meta.name}' holds no cells.")
        if confounder:
            self._meta = replace(self._meta, confounder=confounder)
        self._obs = validated_obs(obs, self._meta.name)
        self._channels = channels
        self._notes.extend(notes)

    def _array(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        """Return a new array of the store, in chunks of whole cells, compressed and with checksums."""
        import zarr
        from zarr.codecs import Crc32cCodec, ZstdCodec

        chunks = (min(shape[0], CELLS_PER_CHUNK), *shape[1:])
        shards = (CELLS_PER_SHARD, *shape[1:]) if shape[0] >= MIN_SHARDED_CELLS else None
        codecs: dict[str, Any] = {"compressors": (ZstdCodec(), Crc32cCodec())}
        return zarr.create_array(self._folder / name, shape=shape, chunks=chunks, shards=shards, dtype=dtype, **codecs)

    @property
    def _cells_per_file(self) -> int:
        """How many cells are written at once, since a chunk is compressed as one, and a shard written as one."""
        return CELLS_PER_SHARD if len(self._obs) >= MIN_SHARDED_CELLS else CELLS_PER_CHUNK

    def add(self, crops: np.ndarray, masks: np.ndarray | None = None) -> None:
        """Write the next crops (b, channels, rows, columns), and their masks (b, rows, columns) where declared.

        Raises
        ------
        UserError
            For a shape or type other than declared, masks missing or not declared, NaN or infinite values (the first such
            cell is named), or too many crops.
        """
        start = self.added
        if start + len(crops) > len(self._obs):
            raise UserError(
                f"The dataset '{self._meta.name}' yields more crops than its table has cells ({len(self._obs):,})."
            )
        expected = (len(crops), *self._crops.shape[1:])
        if crops.shape != expected:
            raise UserError(
                f"Crops of '{self._meta.name}' from cell '{self._obs['cell'].iloc[start]}' on have the shape {crops.shape[1:]}, "
                f"but the first have {expected[1:]}. All crops of a dataset must have one shape."
            )
        if crops.dtype != self._crops.dtype and not crops.dtype.kind == self._crops.dtype.kind == "f":
            raise UserError(
                f"Crops of '{self._meta.name}' from cell '{self._obs['cell'].iloc[start]}' on are {crops.dtype}, but {self._crops.dtype} "
                "was declared. Declare their own type; converted, they would lose values silently."
            )
        if (masks is not None) != (self._masks is not None) or (
            masks is not None and masks.shape != (len(crops), *crops.shape[2:])
        ):
            raise UserError(
                f"'{self._meta.name}' declared {'masks' if self._masks is not None else 'no masks'}, but from cell "
                f"'{self._obs['cell'].iloc[start]}' on {'there are none' if masks is None else f'masks of shape {masks.shape} came'}. "
                "Every batch of crops needs its masks (b, rows, columns) where masks are declared, and none elsewhere."
            )
        if masks is not None and (
            (low := masks.min()) < 0 or masks.max() > 65535 or (masks != masks.astype(np.uint16)).any()
        ):
            raise UserError(
                f"Masks of '{self._meta.name}' from cell '{self._obs['cell'].iloc[start]}' on hold values from {low} to {masks.max()} as "
                f"{masks.dtype}; segmentation labels are whole numbers from 0 to 65,535."
            )
        crops = as_float32(crops, f"'{self._meta.name}'") if crops.dtype.kind == "f" else crops
        if crops.dtype.kind == "f":
            finite = np.isfinite(crops).all(axis=(2, 3))
            if not finite.all():
                cell, channel = np.argwhere(~finite)[0]
                raise UserError(
                    f"Channel {self._channels[channel].name} of cell '{self._obs['cell'].iloc[start + cell]}' in '{self._meta.name}' "
                    f"holds NaN or infinite values ({int((~finite.all(axis=1)).sum())} such cells in this batch). "
                    "Leave these cells out, or repair the files."
                )
        constant = crops.min(axis=(2, 3)) == crops.max(axis=(2, 3))
        for channel, count in zip(self._channels, constant.sum(axis=0), strict=True):
            self._constant[channel.name] = self._constant.get(channel.name, 0) + int(count)
        self._digests += _digests(crops)
        self._buffer.append((crops, masks))
        self._buffered += len(crops)
        if self._buffered >= self._cells_per_file:
            self._flush(whole_files=True)

    def _flush(self, *, whole_files: bool) -> None:
        """Write what is buffered; but for the end, in whole files."""
        crops = np.concatenate([c for c, _ in self._buffer])
        masks = np.concatenate([m for _, m in self._buffer if m is not None]) if self._masks is not None else None
        n = len(crops) // self._cells_per_file * self._cells_per_file if whole_files else len(crops)
        self._crops[self._filled : self._filled + n] = crops[:n]
        self._hash.update(np.ascontiguousarray(crops[:n]).tobytes())
        if masks is not None:
            self._masks[self._filled : self._filled + n] = masks[:n]
            self._mask_hash.update(_mask_bytes(masks[:n]))
        self._filled += n
        self._advance(n)
        self._buffer = [(crops[n:], None if masks is None else masks[n:])]
        self._buffered = len(crops) - n

    def close(self, error: BaseException | None = None) -> None:
        """End the progress stage, where one was begun and has not ended; called by the harness."""
        stage, self._stage = self._stage, None
        if stage is not None:
            stage.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)

    def finish(self) -> None:
        """Write the table and the description; called by the harness."""
        if self._profiles is None:
            layout = self._finish_crops()
        else:
            layout = _profile_layout(self._profiles)
            self._notes += repeated(self._digests, self._obs, self._meta.name, "measurements")
        self._describe(layout)

    def _finish_crops(self) -> bytes:
        """Write the last crops, note what a user should know of them, and return their layout."""
        if self._crops is None:
            raise UserError(f"The dataset '{self._meta.name}' wrote no cells.")
        if self._buffered:
            self._flush(whole_files=False)
        if self._filled != len(self._obs):
            raise UserError(
                f"'{self._meta.name}' has {len(self._obs):,} cells in its table but only {self._filled:,} crops."
            )
        self.close()
        for channel in self._channels:
            count = self._constant[channel.name]
            if count == self._filled and channel.role == "protein":
                raise UserError(
                    f"Every crop of the protein channel {channel.name} of '{self._meta.name}' is constant: there is nothing to measure. "
                    "Check that the right files were given as the protein channel."
                )
            if count:
                self._notes.append(
                    f"{count:,} of {self._filled:,} cells of {self._meta.name} have a constant {channel.name} crop; rescaled, it is all zeros."
                )
        self._notes += repeated(self._digests, self._obs, self._meta.name)
        if self._masks is not None:
            self._hash.update(self._mask_hash.digest())
        if self._checksum not in (None, drawn := self._hash.hexdigest()):
            raise UserError(
                f"The pixels of '{self._meta.name}' drawn on this machine have the checksum {drawn}, not {self._checksum} as on every "
                "other: numbers on them would not be comparable. Check that NumPy is not a modified build, and report it with "
                "the versions of NumPy and Python and the processor."
            )
        return _layout(self._channels, self._crops.dtype, self._crops.shape)

    def _describe(self, layout: bytes) -> None:
        """Write the table and the description."""
        self._obs.to_parquet(self._folder / "obs.parquet")
        _cover(self._hash, layout, self._obs)
        stored = self._hash.hexdigest()
        generated = None if self._generated is None else hashlib.sha256(layout + self._generated.encode()).hexdigest()
        files = sorted(p for p in self._folder.rglob("*") if p.is_file())
        description = {
            "schema": SCHEMA,
            "made_by": "pci-bench",
            "sha256": generated or stored,
            "stored_sha256": stored,
            "checksum": self._checksum,
            "masks_hashed": self._masks is not None,
            "meta": asdict(self._meta),
            "channels": [asdict(c) for c in self._channels],
            **({} if self._profiles is None else {"profiles": self._profiles.names}),
            "notes": self._notes,
            "classes": int(self._obs["label"].nunique()) if "label" in self._obs else 0,
            "files": {p.relative_to(self._folder).as_posix(): p.stat().st_size for p in files},
            "file_sha256": digests_of(self._folder, [p for p in files if p.suffix in (".json", ".parquet")]),
        }
        (self._folder / "store.json").write_text(
            json.dumps(described(description), indent=1), encoding="utf-8", newline="\n"
        )


def _digests(rows: np.ndarray) -> bytes:
    """Return a short hash of each row, one after the other."""
    return b"".join(hashlib.blake2b(row.tobytes(), digest_size=DIGEST_BYTES).digest() for row in rows)


def repeated(digests: bytes | bytearray, obs: pd.DataFrame, dataset: str, what: str = "pixels") -> list[str]:
    """Return a sentence that counts the cells whose crops are equal, byte by byte, to another cell's; none where none is.

    >>> import pandas as pd
    >>> obs = pd.DataFrame({"cell": ["a", "b", "c"], "image": ["w0", "w1", "w1"]})
    >>> repeated(b"1" * DIGEST_BYTES + b"1" * DIGEST_BYTES + b"2" * DIGEST_BYTES, obs, "mine")[0][:75]
    "2 of 3 cells of mine have the same pixels as another cell ('a' and 'b', for"
    """
    import pandas as pd

    halves = pd.DataFrame(np.frombuffer(digests, np.uint64).reshape(-1, 2), columns=["first", "second"])
    equal = halves.duplicated(keep=False).to_numpy()
    if not equal.any():
        return []
    of_pixels = halves[equal].groupby(["first", "second"]).ngroup().to_numpy()
    images = obs["image"][equal].astype("string").fillna("")
    elsewhere = int((images.groupby(of_pixels).transform("nunique") > 1).sum())
    pair = obs["cell"][equal][of_pixels == of_pixels[0]].iloc[:2]
    return [
        f"{int(equal.sum()):,} of {len(obs):,} cells of {dataset} have the same {what} as another cell "
        f"({' and '.join(repr(cell) for cell in pair)}, for example), {elsewhere:,} of them as a cell of another image. A cell and its copy "
        "recognize each other, which flatters every score. Leave copies out."
    ]


def open_store(folder: Place) -> Cells:
    """Return the cells of a store: of a folder, or of its copy at ``s3://…``, where chunks are read when they are asked for.

    Raises
    ------
    BrokenStoreError
        Where the folder is not a store, is of another schema, or a file of it is missing, truncated, changed in size, or damaged.
    UserError
        Where an object store refuses it.
    """
    import pandas as pd

    stored = files_at(folder)
    try:
        description = json.loads(stored.read("store.json"))
        schema, files = description["schema"], description["files"]
        channels = tuple(Channel(**c) for c in description["channels"])
        meta = DatasetMeta(**description["meta"])
        sha256, notes = description["sha256"], tuple(description["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise_shortage(error)
        raise BrokenStoreError(f"{folder} is not a store of cells: {type(error).__name__}: {error}.") from error
    if schema != SCHEMA:
        raise BrokenStoreError(f"{folder} is a store of schema {schema}; this version reads schema {SCHEMA}.")
    has_masks = stored.size("masks.zarr/zarr.json") is not None
    if has_masks and not description.get("masks_hashed"):
        raise BrokenStoreError(f"{folder} was stored before masks were part of a dataset's hash.")
    try:
        check_described(description)
    except DamagedError as error:
        raise BrokenStoreError(f"The store {folder} is damaged: store.json: {error}.") from error
    for name, size in files.items():
        actual_size = stored.size(name)
        if actual_size != size:
            state = "is missing" if actual_size is None else f"has {actual_size:,} bytes instead of {size:,}"
            raise BrokenStoreError(f"The store {folder} is damaged: {name} {state}.")
    try:
        check_digests(
            stored.digest, description.get("file_sha256", {})
        )  # stores made before there were checksums have none
        obs = pd.read_parquet(io.BytesIO(stored.read("obs.parquet")))
        if names := description.get("profiles"):
            values = stored.array("profiles.zarr")
            if values.shape != (len(obs), len(names)):
                raise ValueError(
                    f"it has {len(obs):,} rows and {len(names):,} names but profiles of shape {values.shape}"
                )
            profiles, nothing = (
                Profiles(tuple(names), _Stored(values, folder)),
                np.empty((len(obs), 0, 0, 0), np.float32),
            )
            return Cells(obs, channels, meta, sha256, nothing, notes=notes, profiles=profiles)
        crops = stored.array("crops.zarr")
        masks = stored.array("masks.zarr") if has_masks else None
    except UserError:
        raise
    except Exception as error:  # Zarr and Arrow raise many kinds
        raise_shortage(error)
        raise BrokenStoreError(f"The store {folder} cannot be read: {error}.") from error
    if crops.shape[:2] != (len(obs), len(channels)):
        raise BrokenStoreError(
            f"The store {folder} has {len(obs):,} rows and {len(channels)} channels but crops of shape {crops.shape}."
        )
    stored_masks = None if masks is None else _Stored(masks, folder)
    return Cells(obs, channels, meta, sha256, _Stored(crops, folder), masks=stored_masks, notes=notes)


class _Stored:
    """An array of a store; a chunk that cannot be decoded is a sentence that names the store."""

    def __init__(self, array: Any, folder: Place):
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype = array.dtype
        self._array = array
        self.folder = folder

    def __getitem__(self, index: Any) -> Any:
        try:
            return self._array.oindex[index] if isinstance(index, np.ndarray) else self._array[index]
        except Exception as error:  # each codec raises its own kinds
            raise_shortage(error)
            if isinstance(self.folder, str):
                with sentences_for_object_stores(self.folder):
                    raise
            raise BrokenStoreError(
                f"The store {self.folder} is damaged: a chunk of {self._array.basename or 'its crops'} cannot be read ({error}). "
                "Delete that folder; the next run builds it again."
            ) from error


@dataclass(frozen=True)
class StoredCells:
    """Some cells by where they lie in a store: what another process is given in place of their pixels.

    Parameters
    ----------
    folder, store_sha256
        The store, and the hash of all its cells.
    positions
        Of the cells in it: the first and the one after the last, or all of them, int64.
    meta, sha256
        The dataset, and the hash of the cells that these are a part of.
    """

    folder: Place
    store_sha256: str
    positions: tuple[int, int] | np.ndarray
    meta: DatasetMeta
    sha256: str

    @classmethod
    def of(cls, cells: Cells, start: int, stop: int) -> StoredCells | None:
        """Return the cells from `start` to before `stop`, or None of cells that lie in memory, or whose masks do."""
        source, masks, whole = cells._source, cells._masks, cells.sha256 if cells.part_of is None else cells.part_of[0]
        if not isinstance(source, _Stored) or not (masks is None or isinstance(masks, _Stored)):
            return None
        positions = cells._positions[start:stop]
        first, last = int(positions[0]), int(positions[-1])
        consecutive = np.array_equal(positions, np.arange(first, last + 1))
        return cls(
            source.folder,
            whole,
            (first, last + 1) if consecutive else positions.astype(np.int64),
            cells.meta,
            cells.sha256,
        )

    def open(self) -> Cells:
        """Return the cells.

        Raises
        ------
        BrokenStoreError
            Where there is no such store, or it is damaged or of other cells.
        """
        whole = _opened(self.folder, self.store_sha256)
        positions = self.positions if isinstance(self.positions, np.ndarray) else np.arange(*self.positions)
        cells = whole[positions].with_meta(self.meta)
        cells.sha256, cells.part_of = self.sha256, None
        return cells


@lru_cache(maxsize=4)
def _opened(folder: Place, sha256: str) -> Cells:
    """Return all cells of a store, opened once by a process that is asked for many blocks of them."""
    cells = open_store(folder)
    if cells.sha256 != sha256:
        raise BrokenStoreError(f"The store {folder} holds other cells now. Run the command again.")
    return cells


def cells_in(folder: Path) -> int | None:
    """Return how many cells, or profiles, a store holds, by its array's header alone; None where that cannot be read."""
    for array in ("crops.zarr", "profiles.zarr"):
        try:
            header = json.loads((folder / array / "zarr.json").read_text(encoding="utf-8"))
            return int(header["shape"][0])
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            continue
    return None


def classes_in(folder: Path) -> int | None:
    """Return how many classes the cells of a store have; None where there is none, or it cannot be read.

    The description says it; of stores made before it did, the column of labels is read.
    """
    try:
        return int(json.loads((folder / "store.json").read_text(encoding="utf-8"))["classes"]) or None
    except (OSError, ValueError, KeyError, TypeError):
        import pyarrow.parquet as parquet  # and not pandas, which takes five times as long to import

    try:
        labels = parquet.ParquetFile(folder / "obs.parquet").read(["label"])["label"]
    except (OSError, ValueError, KeyError):
        return None
    return len(labels.unique().drop_null()) or None


def verify_store(folder: Place, progress: Progress, checksum: str | None = None) -> str:
    """Return the content hash of a store after reading every pixel and mask of it again.

    Raises
    ------
    UserError
        Where its content is not what was stored, or its pixels and masks have not the `checksum`.
    """
    cells = open_store(folder)
    digest, mask_digest = hashlib.sha256(), hashlib.sha256()
    if not cells.has_crops:
        values, names = cells.profiles()
        digest.update(values.tobytes())
        _cover(digest, _profile_layout(Profiles(names, values)), cells.obs)
        return _as_stored(folder, digest.hexdigest(), cells.sha256)
    with progress.stage(f"reading {cells.meta.name}", len(cells)) as advance:
        for start in range(0, len(cells), CELLS_PER_CHUNK):
            part = slice(start, start + CELLS_PER_CHUNK)
            crops = cells.stored(part)
            digest.update(np.ascontiguousarray(crops).tobytes())
            if (masks := cells.stored_masks(part)) is not None:
                mask_digest.update(_mask_bytes(masks))
            advance(len(crops))
    layout = _layout(cells.channels, crops.dtype, (len(cells), *crops.shape[1:]))
    if cells.has_masks:
        digest.update(mask_digest.digest())
    description = json.loads(files_at(folder).read("store.json"))
    declared, drawn = description.get("checksum"), digest.hexdigest()
    _cover(digest, layout, cells.obs)
    written = description.get("stored_sha256", cells.sha256)
    _as_stored(folder, digest.hexdigest(), written, unless=not {declared, checksum} <= {None, drawn})
    return cells.sha256


def _as_stored(folder: Place, found: str, written: str, *, unless: bool = False) -> str:
    """Return the hash that a store was written with, where its content still has it.

    Raises
    ------
    UserError
        Where it has not, or `unless` says that something else is wrong.
    """
    if unless or found != written:
        raise UserError(
            f"The store {folder} no longer holds what was written: its hash is {found[:16]}…, "
            f"not {written[:16]}…. Delete that folder; the next run builds it again."
        )
    return written


def pixel_checksum(crops: np.ndarray, masks: np.ndarray) -> str:
    """Return the SHA-256 of crops (n, channels, rows, columns) and of the digest of their masks (n, rows, columns), as hex."""
    digest = hashlib.sha256(np.ascontiguousarray(crops).tobytes())
    digest.update(hashlib.sha256(_mask_bytes(masks)).digest())
    return digest.hexdigest()


def _mask_bytes(masks: np.ndarray) -> bytes:
    """Return what a content hash covers of segmentation labels, whatever integers a dataset gave them as."""
    return np.ascontiguousarray(masks, dtype=np.uint16).tobytes()


def _layout(channels: tuple[Channel, ...], dtype: np.dtype, shape: tuple[int, ...]) -> bytes:
    """Return what every content hash covers: schema, channels, type and shape."""
    return json.dumps([SCHEMA, [asdict(c) for c in channels], str(dtype), list(shape)], sort_keys=True).encode()


def _profile_layout(profiles: Profiles) -> bytes:
    """Return what the content hash of profiles covers besides values and table: schema, and the columns' names."""
    return json.dumps([SCHEMA, "profiles", profiles.names]).encode()


def _cover(digest: hashlib._Hash, layout: bytes, obs: pd.DataFrame) -> None:
    """Have the hash of stored content cover what there is besides pixels: the layout, and the table as CSV, which is never in memory."""
    digest.update(layout)
    obs.to_csv(_Hashed(digest), index=False, lineterminator="\n")


class _Hashed(io.TextIOBase):
    """A text stream whose UTF-8 bytes are hashed and kept nowhere."""

    def __init__(self, digest: hashlib._Hash):
        self._digest = digest

    def write(self, text: str) -> int:
        """Hash a piece of the text."""
        self._digest.update(text.encode())
        return len(text)
