"""The comparisons: the same work done by this package and by what a user would use instead, prepared so that a clock can start."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pci_bench.data.cells import Channel, DatasetMeta

OURS = "pci-bench"
CROP = (2, 64, 64)  # channels, rows, columns
CHANNELS = (Channel("GFP", "protein"), Channel("RFP", "marker"))
N_NEIGHBORS = 50
DISTANCES = (1, 2, 4, 8, 16)  # pixels, of the texture

Work = Callable[[], object]


@dataclass(frozen=True)
class Way:
    """One way to do some work.

    Parameters
    ----------
    prepare
        Gives, for a number of items, a function that does the work on all of them. It has done the work on a few already, so
        that what is compiled or planned on first use is not measured.
    needs
        Packages that are not dependencies of this one, without which it is not measured.
    """

    prepare: Callable[[int], Work]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Some work, and the ways to do it, ours first.

    Parameters
    ----------
    title
        What is done, for a table.
    item
        What the work consists of, in the plural.
    size, quick_size
        How many of them.
    ways
        By name; the first is ours.
    operations
        How many floating-point operations of matrix products the work needs, for a number of items; 0 where it is no such product.
    """

    title: str
    item: str
    size: int
    quick_size: int
    ways: Mapping[str, Way]
    operations: Callable[[int], float] = lambda n: 0.0


def _crops(n: int) -> np.ndarray:
    """Return crops (n, 2, 64, 64) in uint8: blurred blobs with shot noise, which compress about as real ones do."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[: CROP[1], : CROP[2]]
    crops = np.empty((n, *CROP), np.uint8)
    for crop in crops:
        for channel in crop:
            (y, x), width = rng.uniform(20, 44, 2), rng.uniform(6, 14)
            blob = 120 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2))
            channel[:] = rng.poisson(blob + 10).clip(0, 255)
    return crops


# ---- features of the inpainting network


def _float_crops(n: int) -> np.ndarray:
    return np.random.default_rng(0).random((n, *CROP), dtype=np.float32)


def _one_pass(precision: str) -> Callable[[int], Work]:
    def prepare(n: int) -> Work:
        from pci_bench.features.compute import products_in
        from pci_bench.inpainting.features import CROPS_PER_PASS, encoder_compute
        from pci_bench.inpainting.network import LAYERS, PairedCellInpainting

        compute, crops = encoder_compute(PairedCellInpainting().source_encoder, "cpu"), _float_crops(n)

        def work() -> None:
            for start in range(0, n, CROPS_PER_PASS):
                with products_in(precision, "cpu"):
                    compute(crops[start : start + CROPS_PER_PASS], set(LAYERS))

        with products_in(precision, "cpu"):
            compute(crops[:CROPS_PER_PASS], set(LAYERS))
        return work

    return prepare


def _torch_batches(n: int) -> Work:
    import torch

    from pci_bench.inpainting.network import PairedCellInpainting

    encoder, crops = PairedCellInpainting().source_encoder.eval(), torch.from_numpy(_float_crops(n))

    def work() -> None:
        with torch.inference_mode():
            for start in range(0, n, 64):
                encoder.features(crops[start : start + 64])

    encoder.features(crops[:16])
    return work


def _keras_batches(n: int) -> Work:
    import keras
    from keras import layers

    from pci_bench.inpainting.network import SOURCE_WIDTHS

    source, outputs = keras.Input((*CROP[1:], CROP[0])), []
    x = source
    for number, filters in enumerate(SOURCE_WIDTHS):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        outputs.append(layers.GlobalMaxPooling2D()(x))
        x = layers.BatchNormalization()(x)
        if number < 2:
            x = layers.MaxPooling2D()(x)
    model = keras.Model(source, outputs)
    crops = np.ascontiguousarray(_float_crops(n).transpose(0, 2, 3, 1))
    model.predict(crops[:64], verbose=0)
    return lambda: model.predict(crops, batch_size=64, verbose=0)


def _encoder_operations(n: int) -> float:
    """Return the operations of the encoder's convolutions, 3×3, on the grids that two poolings leave."""
    from pci_bench.inpainting.network import SOURCE_WIDTHS

    inputs, pixels, total = CROP[0], CROP[1] * CROP[2], 0
    for number, filters in enumerate(SOURCE_WIDTHS):
        total += 2 * 9 * inputs * filters * pixels
        inputs, pixels = filters, pixels // 4 if number < 2 else pixels
    return float(n * total)


# ---- a training step of the inpainting network


def _trained(step: Work) -> Work:
    step()  # which takes the optimizer's memory as well
    return step


def _training(small_grid: bool) -> Callable[[int], Work]:
    def prepare(n: int) -> Work:
        from pci_bench.speed.training_step import torch_step

        return _trained(torch_step(_float_crops(n), 1.0, small_grid))

    return prepare


def _keras_training(n: int) -> Work:
    from pci_bench.speed.training_step import keras_step

    return _trained(keras_step(_float_crops(n), 1.0))


# ---- leave-one-out neighbours


def _planted(n: int) -> np.ndarray:
    """Return standardised features (n, 384) of 17 classes."""
    rng, width = np.random.default_rng(0), 384
    x = rng.normal(size=(n, width)) * np.linspace(0.05, 2, width)
    x += 0.5 * rng.normal(size=(17, width))[rng.integers(0, 17, n)]
    return np.asarray((x - x.mean(axis=0)) / x.std(axis=0))


def _our_neighbors(n: int) -> Work:
    from pci_bench.statistics.compiled.neighbors import nearest

    x = _planted(n)
    nearest(x[:200], N_NEIGHBORS, [np.arange(200)])
    return lambda: nearest(x, N_NEIGHBORS, [np.arange(n)])


def _sklearn_neighbors(n: int) -> Work:
    from sklearn.neighbors import NearestNeighbors

    def search(x: np.ndarray) -> object:
        return NearestNeighbors(n_neighbors=N_NEIGHBORS, algorithm="brute").fit(x).kneighbors()

    x = _planted(n)
    search(x[:200])
    return lambda: search(x)


# ---- distances between images


def _images(n_pairs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features (cells, 384) of images with about 15 cells each, the cells' images, and pairs of images (n, 2).

    They are 4,000 images, or fewer where there are fewer pairs than that.
    """
    rng, n_images, width = np.random.default_rng(0), min(4000, 2 * n_pairs), 384
    images = np.repeat(np.arange(n_images), np.maximum(rng.poisson(15.47, n_images), 5))
    features = rng.standard_normal((len(images), width), dtype=np.float32) * np.linspace(0.05, 2, width, dtype="f4")
    return features, images, rng.integers(0, n_images, (n_pairs, 2))


def _our_distances(n: int) -> Work:
    from pci_bench.statistics.compiled.distances import column_scale, mean_distances

    features, images, pairs = _images(n)

    def work() -> None:
        mean, inverse = column_scale(features, np.arange(len(features)))
        mean_distances(features, images, pairs, mean=mean, inverse=inverse)

    mean_distances(features[:200], images[:200], pairs[:1] * 0, mean=np.zeros(384), inverse=np.ones(384))
    return work


def _scipy_distances(n: int) -> Work:
    from scipy.spatial.distance import cdist

    features, images, pairs = _images(n)
    starts = np.searchsorted(images, np.arange(images[-1] + 2))

    def work() -> None:
        z = features.astype(np.float64)
        z -= z.mean(axis=0)
        z /= z.std(axis=0)
        for i, j in pairs:
            cdist(z[starts[i] : starts[i + 1]], z[starts[j] : starts[j + 1]]).mean()

    return work


# ---- texture


def _our_texture(n: int) -> Work:
    from pci_bench.api.extractor import EXTRACTORS

    extractor = EXTRACTORS.get("classic-haralick")
    crops = np.resize(_crops(min(n, 64)), (n, *CROP)).astype(np.float32) / 255
    compute, outputs = extractor.open(CHANNELS, None, "cpu"), set(extractor.meta.outputs)
    compute(crops[:2], outputs)
    return lambda: compute(crops, outputs)


def _mahotas_texture(n: int) -> Work:
    from mahotas.features import haralick

    crops = np.resize(_crops(min(n, 64)), (n, *CROP))
    haralick(crops[0, 0], distance=1, return_mean=True)

    def work() -> None:
        for crop in crops:
            for channel in crop:
                for distance in DISTANCES:
                    haralick(channel, distance=distance, return_mean=True)

    return work


# ---- random pairs of cells from the disk


STORED_CELLS = 4096


def _pairs(n: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, STORED_CELLS, (n, 2))


def _store_pairs(n: int) -> Work:
    import pandas as pd

    from pci_bench.data.store import StoreWriter, open_store
    from pci_bench.system.progress import Progress

    folder = tempfile.TemporaryDirectory()
    obs = pd.DataFrame({"cell": [f"c{i}" for i in range(STORED_CELLS)], "image": "i"})
    writer = StoreWriter(Path(folder.name), DatasetMeta("drawn", "1", "Drawn"), Progress())
    writer.begin(obs, CHANNELS, crop_shape=CROP[1:], dtype="uint8")
    writer.add(_crops(STORED_CELLS))
    writer.finish()
    cells, pairs = open_store(Path(folder.name)), _pairs(n)

    def work() -> None:
        assert folder.name  # it lives as long as the work
        for pair in pairs:
            cells.stored(pair)

    cells.stored(pairs[0])
    return work


def _tiff_pairs(n: int) -> Work:
    import tifffile

    folder, pairs = tempfile.TemporaryDirectory(), _pairs(n)

    def file(cell: int, channel: int) -> Path:
        return Path(folder.name) / f"c{cell}_{CHANNELS[channel].name}.tif"

    for cell, crop in enumerate(_crops(STORED_CELLS)):
        for channel, image in enumerate(crop):
            tifffile.imwrite(file(cell, channel), image)

    def work() -> None:
        for pair in pairs:
            np.array([[tifffile.imread(file(cell, channel)) for channel in range(CROP[0])] for cell in pair])

    return work


def _hdf5_pairs(n: int) -> Work:
    import h5py

    folder, pairs = tempfile.TemporaryDirectory(), _pairs(n)
    file = Path(folder.name) / "crops.h5"
    with h5py.File(file, "w") as new:
        new.create_dataset("crops", data=_crops(STORED_CELLS), chunks=(1, *CROP), compression="gzip")
    crops = h5py.File(file, rdcc_nbytes=0)["crops"]  # a screen does not fit the cache of chunks

    def work() -> None:
        assert folder.name
        for first, second in pairs:
            np.stack([crops[first], crops[second]])

    return work


COMPARISONS = {
    "extraction": Comparison(
        "features of all five layers, full width",
        "cells",
        128,
        64,
        {
            OURS: Way(_one_pass("float32")),
            "torch, batches of 64": Way(_torch_batches),
            "pci-bench, --precision bfloat16": Way(_one_pass("bfloat16")),
            "Keras (TensorFlow), batches of 64": Way(_keras_batches, ("keras", "tensorflow")),
        },
        _encoder_operations,
    ),
    "training": Comparison(
        "a training step, full width",
        "pairs",
        8,
        4,
        {
            OURS: Way(_training(small_grid=True)),
            "torch, upsampling first": Way(_training(small_grid=False)),
            "Keras (TensorFlow), as published": Way(_keras_training, ("keras", "tensorflow")),
        },
    ),
    "neighbors": Comparison(
        f"leave-one-out kNN, 384 features, k = {N_NEIGHBORS}",
        "cells",
        12_000,
        5_000,
        {OURS: Way(_our_neighbors), "scikit-learn, brute force": Way(_sklearn_neighbors)},
        lambda n: 2.0 * n * n * 384,
    ),
    "distances": Comparison(
        "mean distances of pairs of images, standardised, 384 features",
        "pairs",
        20_000,
        5_000,
        {OURS: Way(_our_distances), "SciPy cdist, a pair at a time": Way(_scipy_distances)},
    ),
    "texture": Comparison(
        "Haralick's texture of two channels at 1, 2, 4, 8, 16 px",
        "cells",
        64,
        16,
        {OURS: Way(_our_texture), "mahotas": Way(_mahotas_texture, ("mahotas",))},
    ),
    "reading": Comparison(
        f"random pairs of {STORED_CELLS:,} cells from the disk's cache",
        "pairs",
        200,
        50,
        {
            OURS: Way(_store_pairs),
            "a TIFF for each channel and cell": Way(_tiff_pairs),
            "HDF5, a gzip chunk for each cell": Way(_hdf5_pairs),
        },
    ),
}
