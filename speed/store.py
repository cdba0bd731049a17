"""Crops on disk: the store's chunks beside shards, other codecs, HDF5 and a TIFF for each channel and cell, the authors' way.

    python speed/store.py DATASET [--pairs 200]

DATASET is one whose store is in the cache; its crops are written anew in every way to a temporary folder, and read again as random
pairs of cells and from first to last, from the disk's cache; CPU time, median of three. HDF5 reads without its cache of chunks, since a
screen does not fit it.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import h5py
import numpy as np
import tifffile
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

import pci_bench

Reader = Callable[[np.ndarray], np.ndarray]


def spent(read: Reader, parts: Sequence[np.ndarray]) -> float:
    """Return the median CPU seconds of reading all parts, of three times."""
    seconds = []
    for _ in range(3):
        started = time.process_time()
        for part in parts:
            read(part)
        seconds.append(time.process_time() - started)
    return statistics.median(seconds)


def zarr_way(
    chunk: int, shard: int | None, codec: Any
) -> tuple[Callable[[Path, np.ndarray], None], Callable[[Path], Reader]]:
    """Return how crops are written to and read from Zarr."""

    def write(place: Path, crops: np.ndarray) -> None:
        inner = crops.shape[1:]
        array = zarr.create_array(
            place,
            shape=crops.shape,
            chunks=(chunk, *inner),
            shards=(shard, *inner) if shard else None,
            dtype=crops.dtype,
            compressors=(codec, Crc32cCodec()),
        )
        step = max(shard or chunk, 256)
        for start in range(0, len(crops), step):
            array[start : start + step] = crops[start : start + step]

    def opened(place: Path) -> Reader:
        array = zarr.open_array(place, mode="r")
        return lambda rows: array[rows[0] : rows[-1] + 1] if len(rows) > 2 else array.oindex[np.sort(rows)]

    return write, opened


def hdf5_way(compression: str) -> tuple[Callable[[Path, np.ndarray], None], Callable[[Path], Reader]]:
    """Return how crops are written to and read from HDF5, a chunk for each cell."""

    def write(place: Path, crops: np.ndarray) -> None:
        with h5py.File(place, "w") as file:
            file.create_dataset("crops", data=crops, chunks=(1, *crops.shape[1:]), compression=compression)

    def opened(place: Path) -> Reader:
        crops = h5py.File(place, rdcc_nbytes=0)["crops"]
        return lambda rows: crops[rows[0] : rows[-1] + 1] if len(rows) > 2 else np.stack([crops[row] for row in rows])

    return write, opened


def tiff_way(compression: str | None) -> tuple[Callable[[Path, np.ndarray], None], Callable[[Path], Reader]]:
    """Return how crops are written to and read from one TIFF for each channel and cell."""

    def write(place: Path, crops: np.ndarray) -> None:
        place.mkdir()
        for cell, crop in enumerate(crops):
            for channel, image in enumerate(crop):
                tifffile.imwrite(place / f"{cell}_{channel}.tif", image, compression=compression)

    def opened(place: Path) -> Reader:
        channels = len(list(place.glob("0_*.tif")))
        return lambda rows: np.array(
            [[tifffile.imread(place / f"{row}_{channel}.tif") for channel in range(channels)] for row in rows]
        )

    return write, opened


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--pairs", type=int, default=200)
    options = parser.parse_args()
    crops = np.asarray(pci_bench.load_dataset(options.dataset).stored(slice(None)))
    size = crops.dtype.itemsize
    ways = {
        "the store: 256 cells, zstd": zarr_way(256, None, ZstdCodec()),
        "256, zstd 1": zarr_way(256, None, ZstdCodec(level=1)),
        "256, zstd 6": zarr_way(256, None, ZstdCodec(level=6)),
        "16, zstd": zarr_way(16, None, ZstdCodec()),
        "256 in shards of 4096, zstd": zarr_way(256, 4096, ZstdCodec()),
        "64 in shards of 4096, zstd": zarr_way(64, 4096, ZstdCodec()),
        "16 in shards of 4096, zstd": zarr_way(16, 4096, ZstdCodec()),
        "1 in shards of 4096, zstd": zarr_way(1, 4096, ZstdCodec()),
        "16 in 4096, Blosc zstd 3, shuffled": zarr_way(
            16, 4096, BloscCodec(cname="zstd", clevel=3, shuffle="shuffle", typesize=size)
        ),
        "16 in 4096, Blosc LZ4, bits shuffled": zarr_way(
            16, 4096, BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=size)
        ),
        "HDF5, a chunk a cell, gzip": hdf5_way("gzip"),
        "HDF5, a chunk a cell, LZF": hdf5_way("lzf"),
        "TIFF": tiff_way(None),
        "TIFF, zlib": tiff_way("zlib"),
    }
    pairs = np.random.default_rng(0).integers(0, len(crops), (options.pairs, 2))
    parts = [np.arange(start, min(start + 256, len(crops))) for start in range(0, len(crops), 256)]
    print(f"{len(crops):,} crops {crops.shape[1:]} {crops.dtype} of {options.dataset}, {crops.nbytes / 1e6:.0f} MB")
    print(f"{'':38}{'write µs/cell':>14}{'pair ms':>9}{'in order µs/cell':>18}{'of raw':>8}{'files':>7}")
    folder = Path(tempfile.mkdtemp())
    try:
        for number, (name, (write, opened)) in enumerate(ways.items()):
            place, started = folder / str(number), time.process_time()
            write(place, crops)
            written = time.process_time() - started
            read = opened(place)
            if (read(parts[0]) != crops[parts[0]]).any():
                raise SystemExit(f"{name} gives other crops than were written.")
            by_pair = spent(read, pairs) / len(pairs)
            in_order = spent(read, parts) / len(crops)
            files = [p for p in place.rglob("*") if p.is_file()] if place.is_dir() else [place]
            share = sum(p.stat().st_size for p in files) / crops.nbytes
            print(
                f"{name:38}{1e6 * written / len(crops):14.0f}{1e3 * by_pair:9.2f}{1e6 * in_order:18.0f}{share:8.2f}{len(files):7,}",
                flush=True,
            )
            shutil.rmtree(place) if place.is_dir() else place.unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
