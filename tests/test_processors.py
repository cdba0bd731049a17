"""Features on other processors: networks within a stated tolerance, and no gated number beyond its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import emulated_cpu
import numpy as np
import pytest
from factories import with_pixels

from pci_bench import evaluate, extract
from pci_bench.reporting.comparison import markdown
from pci_bench.runs.comparison import compare
from pci_bench.runs.tolerance import default_tolerance

TOLERANCE = 1e-4  # of a column's largest value: what the features of networks may differ by between machines
# Rounding grows with what a unit sums up, not with what is left of it: for units that hardly fire, a column counts as large
# as a hundredth of its layer's largest value.
SMALLEST_COLUMN = 0.01
NETWORKS = """
import sys
import numpy as np, pandas as pd, torch
from pci_bench.data.cells import Cells, Channel, DatasetMeta
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import parse

rng = np.random.default_rng(0)
rows, columns = np.mgrid[:64, :64]
centres, widths = rng.uniform(16, 48, (2, 6, 2, 1, 1)), rng.uniform(4, 12, (6, 2, 1, 1))
spots = np.exp(-((rows - centres[0]) ** 2 + (columns - centres[1]) ** 2) / (2 * widths**2))
crops = np.rint(200 * spots + rng.uniform(0, 40, spots.shape)).astype(np.uint8)
obs = pd.DataFrame({"cell": [f"c{i}" for i in range(6)], "image": "i"})
channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
cells = Cells(obs, channels, DatasetMeta("spots", "1", "Spots"), "spots", crops)
names = ["pci-conv1", "pci-conv4", "pci-conv5", "marker-only", "autoencoder-conv4", "deeploc-fc2", "deeploc-predictions"]
names = [f"{name}@yeast-sim" for name in names] + ["pci-random-conv5", "vgg16-random-gfp-only-block2_conv1"]
computed = compute_features([parse(name) for name in names], cells, ExtractionOptions(device="cpu"))
np.savez(sys.argv[1], **{str(features): np.asarray(adata.X) for features, adata in computed.items()})
print(torch.backends.cpu.get_cpu_capability())
"""


def measured(environment: dict[str, str], file: Path) -> tuple[str, dict[str, np.ndarray]]:
    """Return what torch says of its vector units in a process, and the features that it measured."""
    environment = environment | {"PCI_BENCH_CACHE": str(file.with_suffix("")), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", NETWORKS, str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), dict(np.load(file))


@pytest.mark.parametrize(
    ("aten", "onednn"), [("default", "SSE41"), pytest.param("avx2", "AVX2", marks=pytest.mark.slow)]
)
def test_networks_features_agree_between_processors(tmp_path, aten, onednn):
    """ATEN_CPU_CAPABILITY and ONEDNN_MAX_CPU_ISA as they are, and as on a processor without AVX2, or with it and no more."""
    plain = {k: v for k, v in os.environ.items() if k not in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")}
    capability, here = measured(plain, tmp_path / "native.npz")
    assert all(np.isfinite(values).all() and values.any() for values in here.values())
    narrowed = plain | {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn}
    narrower, there = measured(narrowed, tmp_path / "narrowed.npz")
    for name, values in here.items():
        largest = np.maximum(np.abs(values).max(axis=0), SMALLEST_COLUMN * np.abs(values).max())
        assert (np.abs(there[name] - values) / largest).max() < TOLERANCE, name
    if aten == "default":
        assert narrower == "DEFAULT"
        if emulated_cpu.unavailable_reason("x86-64-v3") is None:
            assert capability != "DEFAULT"


@pytest.fixture(scope="module")
def real_cells(test_data):
    """300 real cells of toy-yeast as an array in memory, and as the same with five pixels one grey level off."""
    from pci_bench import load_dataset
    from pci_bench.data.cells import subsample

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCI_BENCH_DATA", str(test_data))
        cells = subsample(load_dataset("toy-yeast"), 300, 0)
        crops = cells.crops(slice(None), rescale="raw")
    moved, rng = crops.copy(), np.random.default_rng(1)
    for cell in rng.choice(len(cells), 5, replace=False):
        channel, row, column = rng.integers(0, (2, 64, 64))
        value = moved[cell, channel, row, column]
        moved[cell, channel, row, column] = value + (1 if value < 0.5 else -1) / 255
    assert (moved != crops).sum() == 5
    return [with_pixels(cells, name, array) for name, array in (("a", crops), ("b", moved))]


@pytest.fixture(scope="module")
def of_real_cells(real_cells):
    """A function that returns a feature set of both, measured once for all evaluators."""
    found = {}

    def features(name):
        if name not in found:
            found[name] = [extract(name, cells) for cells in real_cells]
        return [adata.copy() for adata in found[name]]

    return features


EVALUATIONS: dict[str, dict[str, list[int | str]]] = {
    "loo-knn": {"k": [1, 11, 50], "exclude": ["cell", "confounder"]},
    "logistic-regression": {},
}


def same(before, after) -> None:
    found = compare(before, after, default_tolerance())
    assert found.same, markdown(found)
    assert found.compared == len(before) > 0


@pytest.mark.parametrize("name", ["intensity", "raw-pixels", "classic-haralick", "designed", "pci-conv4@yeast-sim"])
@pytest.mark.parametrize("evaluator", ["loo-knn", "logistic-regression"])
def test_no_gated_number_of_real_cells_moves_with_last_digits_or_single_pixels(of_real_cells, name, evaluator):
    adata, moved = of_real_cells(name)
    assert not np.array_equal(adata.X, moved.X)
    before = evaluate(evaluator, adata, **EVALUATIONS[evaluator])
    shaken = adata.copy()
    shaken.X = (adata.X * (1 + np.random.default_rng(2).uniform(-1e-6, 1e-6, adata.shape))).astype(np.float32)
    same(before, evaluate(evaluator, shaken, **EVALUATIONS[evaluator]))
    moved.uns = adata.uns  # compared as one dataset
    same(before, evaluate(evaluator, moved, **EVALUATIONS[evaluator]))
