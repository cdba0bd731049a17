"""A small paper: cells in the layout of chong2015, a network in that of the authors, their addresses on a local server, and printed numbers.

The printed numbers are those of scikit-learn's k-NN, so `pci-bench reproduce table1` has something to match. The facts that are
published of the real files (checksum, printed numbers) are replaced by those of these files through a plug-in.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from test_chong2015 import CLASSES, FILES, write
from test_inpainting import NARROW, lively, write_keras

import pci_bench
from pci_bench import weights
from pci_bench.inpainting import PairedCellInpainting

CELLS_PER_FILE = 57  # three of each of the 19 classes
LAYERS = [f"pci-conv{i}@lu2019-yeast" for i in range(1, 6)]
PLUGIN = """
import json
from pathlib import Path

from pci_bench import weights
from pci_bench.datasets import DATASETS
from pci_bench.reporting.tables.declaration import TABLES
from pci_bench.reproduction import claims

facts = json.loads(Path(__file__).with_suffix(".json").read_text())
weights.declared()["pci"]["lu2019-yeast"]["digest"] = facts["digest"]
TABLES.get("table1").printed.update(facts["printed"])
claims.LAYERS[:] = facts["order"]
if facts["cells"]:
    DATASETS.get("chong2015").meta.paper["cells"] = facts["cells"]
"""


@dataclass(frozen=True)
class SmallPaper:
    """The files, and what is printed of them.

    Attributes
    ----------
    archive, images, network
        The bytes of the archive of the three HDF5 files, of the mirror's archive of images by class (the same pixels), and of the
        authors' HDF5 of weights.
    accuracies
        In percent by feature set, k = 11, each cell predicted from all others: scikit-learn's.
    """

    archive: bytes
    images: bytes
    network: bytes
    accuracies: dict[str, float]

    def plugin(self, folder: Path, off: float = 0.0, cells: int | None = 3 * CELLS_PER_FILE) -> Path:
        """Write and return a plug-in that prints these accuracies, that of conv4 `off` points away, and counts so many cells."""
        folder.mkdir(exist_ok=True)
        printed = {name: [round(value + off * ("conv4" in name), 2)] for name, value in self.accuracies.items()}
        blob = hashlib.sha1(b"blob %d\0" % len(self.network) + self.network).hexdigest()
        order = sorted(self.accuracies, key=self.accuracies.__getitem__, reverse=True)
        facts = {"digest": f"git-blob:{blob}", "printed": printed, "order": order, "cells": cells}
        (folder / "small_paper_facts.json").write_text(json.dumps(facts))
        file = folder / "small_paper_facts.py"
        file.write_text(PLUGIN)
        return file


def crops_of(rng: np.random.Generator) -> np.ndarray:
    """Return rows of GFP and RFP pixels: a spot, whose place and width are the class's."""
    order = np.arange(CELLS_PER_FILE) % 19
    rows, columns = np.mgrid[:64, :64]
    spots = [
        np.exp(-((rows - 20 - 4 * (c % 5)) ** 2 + (columns - 20 - 6 * (c // 5)) ** 2) / (4 + 6 * c)) for c in order
    ]
    pixels = np.stack(spots)[:, None].repeat(2, axis=1) + rng.normal(0, 0.15, (CELLS_PER_FILE, 2, 64, 64))
    return np.clip(pixels, 0, 1).reshape(CELLS_PER_FILE, -1).astype(np.float32)


def small_paper(folder: Path, monkeypatch) -> SmallPaper:
    """Write the files below a folder, and return them with what scikit-learn says of them."""
    data = folder / "data" / "chong2015"
    data.mkdir(parents=True)
    rng = np.random.default_rng(0)
    archive, images = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened, zipfile.ZipFile(images, "w") as mirror:
        for number, name in enumerate(FILES.values()):
            pixels = crops_of(rng)
            write(data / name, pixels, layout="attributes")
            opened.write(data / name, f"DeepLoc_full_datasets/{name}")
            for row, crop in enumerate(pixels.reshape(-1, 2, 64, 64)):
                of_class = CLASSES[row % 19]
                for plane, suffix in zip(crop, ("gfp", "rfp"), strict=True):
                    content = io.BytesIO()
                    tifffile.imwrite(content, plane)
                    place = f"images/{of_class}/{of_class}_{number * CELLS_PER_FILE + row}_{suffix}.tif"
                    mirror.writestr(place, content.getvalue())
    file = folder / "model_weights.h5"
    write_keras(file, lively(PairedCellInpainting(1, 1, NARROW)))
    with monkeypatch.context() as patch:
        patch.setenv("PCI_BENCH_CACHE", str(folder / "cache"))
        patch.setenv("PCI_BENCH_DATA", str(folder / "data"))
        weights.IMPORTERS.get("keras-pci")(file, "narrow")
        cells = pci_bench.load_dataset("chong2015")
        accuracies = {
            name: by_scikit_learn(pci_bench.extract(name.replace("lu2019-yeast", "narrow"), cells)) for name in LAYERS
        }
    assert len({round(accuracy, 2) for accuracy in accuracies.values()}) > 2, "the layers must not be alike"
    return SmallPaper(archive.getvalue(), images.getvalue(), file.read_bytes(), accuracies)


def by_scikit_learn(adata, k: int = 11) -> float:
    """Return leave-one-out balanced accuracy in percent, each cell predicted from all others."""
    x = np.asarray(adata.X, np.float64)
    spread = x.std(axis=0)
    x = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    labels = adata.obs["label"].to_numpy(str)
    predicted = []
    for row in range(len(x)):
        others = np.arange(len(x)) != row
        predicted.append(KNeighborsClassifier(k, algorithm="brute").fit(x[others], labels[others]).predict(x[[row]])[0])
    return 100 * balanced_accuracy_score(labels, predicted)
