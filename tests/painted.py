"""A small data set with a picture for every class, and an output folder of results on it, for tests of the report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pci_bench import Dataset
from pci_bench.api import plugins, registry
from pci_bench.data.cells import Channel, DatasetMeta
from pci_bench.datasets import DATASETS
from pci_bench.runs import runner
from pci_bench.runs.results import Result, read_results, write_result

SIZE, PER_CLASS, IMAGES = 24, 15, 3
CLASSES = ("ring", "spot", "stripe", '<b>odd</b> & "quoted" name, it\'s long')
FEATURES = ("intensity", "raw-pixels", "noise")
CROPLESS = 2  # points of the embedding that are no cells of the data set


@dataclass
class Painted(Dataset):
    """Sixty cells of four classes in twelve images, two channels, 24×24 pixels."""

    meta: DatasetMeta = field(
        default_factory=lambda: DatasetMeta("painted", "1", "Painted cells", confounder="image", label="localization")
    )

    def unavailable_reason(self):
        return None

    def build(self, store):
        labels = np.repeat(CLASSES, PER_CLASS)
        n = len(labels)
        obs = pd.DataFrame(
            {
                "cell": [f"cell {i:02d}" for i in range(n)],
                "image": [f"{label[:4]}{i % IMAGES}" for i, label in enumerate(labels)],
                "label": labels,
            }
        )
        obs["protein"] = obs["image"]
        store.begin(obs, (Channel("GFP", "protein"), Channel("RFP", "marker")), crop_shape=(SIZE, SIZE), dtype="uint8")
        store.add(crops())


def register() -> None:
    """Make the painted cells known; a test does so in registries of its own."""
    DATASETS.register("painted", Painted(), origin=registry.Origin("tests/painted.py", 1))


@contextmanager
def registered(cache: Path) -> Iterator[None]:
    """Make the painted cells known and use a cache, while a module prepares what its tests share."""
    plugins.load_plugins()
    with pytest.MonkeyPatch.context() as patch, DATASETS.temporary():
        patch.setenv("PCI_BENCH_CACHE", str(cache))
        register()
        yield


def crops() -> np.ndarray:
    """Return the cells' crops (60, 2, 24, 24) uint8: the class's picture with noise, and a disc."""
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2
    radius = np.hypot(y, x)
    pictures = [abs(radius - 7) < 1.5, radius < 3, abs(x) < 2, abs(y - x) < 3]
    protein = np.repeat(np.stack(pictures), PER_CLASS, axis=0) * rng.uniform(60, 200, (60, 1, 1))
    for cell, (down, right) in zip(protein, rng.integers(-5, 6, (60, 2)), strict=True):
        cell[:] = np.roll(cell, (down, right), axis=(0, 1))  # so that pixels do not tell every class
    marker = np.repeat((radius < 9)[None], 60, axis=0) * rng.uniform(80, 160, (60, 1, 1))
    noise = rng.normal(30, 30, (60, 2, SIZE, SIZE))
    return np.clip(np.stack([protein, marker], axis=1) + noise, 0, 255).astype(np.uint8)


def write_folder(folder: Path) -> list[Result]:
    """Run kNN on the painted cells into a folder, add a network's layers and an embedding, and return all results."""
    runner.run("yeast-knn", dataset="painted", features=list(FEATURES), k=[1, 3], out=folder, device="cpu")
    ran = read_results(folder)
    for number in (1, 2, 3):
        for result in [r for r in ran if r.features.name == "raw-pixels"]:
            shifted = {name: max(0.0, value - 0.05 * number) for name, value in result.metrics.items()}
            layer = result.model_copy(deep=True).with_tables(result.predictions)
            layer.features.name, layer.metrics = f"net-conv{number}", shifted
            layer.intervals = {name: (max(0.0, v - 0.08), min(1.0, v + 0.04)) for name, v in shifted.items()}
            params = ",".join(f"{k}={v}" for k, v in layer.evaluator.params.items() if k != "scale")
            write_result(layer, folder / "results" / "painted" / layer.features.name / "loo-knn" / f"{params}.json")
    write_result(embedding(ran[0]), folder / "results" / "painted" / "intensity" / "umap" / "neighbours=30.json")
    return read_results(folder)


def embedding(like: Result) -> Result:
    """Return a planted UMAP: the classes in four corners, and points that are no cells of the data set."""
    rng = np.random.default_rng(1)
    corner = np.repeat(np.array([[0, 0], [10, 0], [0, 6], [10, 6]]), PER_CLASS, axis=0)
    points = np.concatenate([corner + rng.normal(0, 0.6, corner.shape), [[5, 3], [5.5, 3]]])
    table = pd.DataFrame(
        {
            "cell": [*(f"cell {i:02d}" for i in range(60)), *(f"stranger {i}" for i in range(CROPLESS))],
            "label": [*np.repeat(CLASSES, PER_CLASS), *[""] * CROPLESS],
            "umap_1": points[:, 0],
            "umap_2": points[:, 1],
        }
    )
    content = like.model_dump(by_alias=True) | {
        "benchmark": "yeast-umap",
        "evaluator": {
            "name": "umap",
            "version": "1",
            "params": {"neighbours": 30, "min_dist": 0.3, "scale": "all", "color": "label"},
        },
        "metrics": {"trustworthiness": 0.9},
        "intervals": {},
        "details": {"n_points": len(table)},
        "paper": None,
    }
    return Result.model_validate(content).with_tables(table)
