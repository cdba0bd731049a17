"""CPU seconds of what `pci-bench reproduce` runs, and the rate of this machine's matrix multiplication: the file that its estimates are from.

    python speed/reproduction_rates.py [--cells 96] > pci_bench/reproduction/rates.toml

Feature sets are computed from simulated yeast by networks of the published sizes with random weights, evaluators on planted features of
the paper's width; one core each, in CPU seconds, so that a busy machine says the same.
"""

import argparse
import os
import tempfile
import time

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PCI_BENCH_CACHE"] = tempfile.mkdtemp()

import numpy as np

import pci_bench
from pci_bench import weights
from pci_bench.api.evaluator import EVALUATORS
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import select
from pci_bench.inpainting.network import PairedCellInpainting
from pci_bench.reproduction.estimate import matmul_gflops

POINTS, WIDTH, CLASSES = 3000, 384, 17
EVALUATIONS = {  # of what, and to which power of the number of cells their time grows
    "loo-knn": (2, {"k": [1, 5, 11, 25, 50]}),
    "logistic-regression": (1.5, {}),
    "random-forest": (1.2, {}),
    "umap": (1.1, {}),
}


def random_weights() -> None:
    """Save networks of the published sizes under the name ``random``."""
    import torch
    from pci_bench_baselines.networks.deeploc import DeepLoc
    from pci_bench_baselines.vgg16_import import save_vgg16

    torch.manual_seed(0)
    network = PairedCellInpainting(1, 1)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    weights.save("pci", "random", state, channels=("protein", "marker"), config=network.config, source="random")
    vgg16 = pci_bench.import_timm().create_model("vgg16", pretrained=False, num_classes=0)
    save_vgg16("random", {n: t.numpy() for n, t in vgg16.state_dict().items()}, "keras-bgr", "random")
    classes = [str(i) for i in range(19)]
    deeploc = DeepLoc(2, classes, 1.0)
    state = {n: t.numpy() for n, t in deeploc.state_dict().items()}
    config = {"channels": 2, "classes": classes, "width": 1.0, "smallest_range": 1.0}
    weights.save("deeploc", "random", state, channels=("protein", "marker"), config=config, source="random")


def seconds_per_cell(features: list[str], cells: pci_bench.Cells) -> float:
    """Return CPU seconds of one pass that gives all these feature sets."""
    options = ExtractionOptions(device="cpu", workers=1, refresh="always")
    compute_features(select(features), cells[:8], options)  # compiled
    started = time.process_time()
    for computed in compute_features(select(features), cells, options).values():
        if not hasattr(computed, "X"):
            raise SystemExit(f"{features}: {computed.reason}")
    return (time.process_time() - started) / len(cells)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=96)
    cells = pci_bench.load_dataset("yeast-sim")[: parser.parse_args().cells]
    random_weights()
    print(
        "# CPU seconds of one core that multiplies matrices at `gflops` (float32): python speed/reproduction_rates.py"
    )
    print(f"gflops = {matmul_gflops(1.0):.0f}\n\n[seconds_per_cell]")
    layers = ["block1_conv1", "block4_conv1", "block5_conv3"]
    passes = {
        "pci": [f"pci-conv{i}@random" for i in range(1, 6)],
        "vgg16-gfp-only-block4_conv1": ["vgg16-gfp-only-block4_conv1@random"],
        **{f"vgg16-{way}": [f"vgg16-{way}-{x}@random" for x in layers] for way in ("rgb", "concatenated", "gfp-only")},
        "vgg16-fc2-224": ["vgg16-fc2-224@random"],
        "deeploc": ["deeploc-fc2@random"],
        "designed": ["designed"],
        "classic-haralick": ["classic-haralick"],
    }
    for name, features in passes.items():
        few = cells[:16] if name == "vgg16-fc2-224" else cells
        print(f'"{name}" = {seconds_per_cell(features, few):.2g}', flush=True)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, POINTS)
    import anndata
    import pandas as pd

    centres = rng.normal(size=(CLASSES, WIDTH))
    x = np.maximum(0, centres[labels] + 2 * rng.normal(size=(POINTS, WIDTH))).astype(np.float32)
    obs = pd.DataFrame({"label": labels.astype(str)}, index=[f"c{i}" for i in range(POINTS)])
    print(
        f"\n[evaluators] # seconds for {POINTS:,} cells × {WIDTH} features, and the power of cells to which they grow"
    )
    for name, (power, parameters) in EVALUATIONS.items():
        started = time.process_time()
        if name in EVALUATORS:
            pci_bench.evaluate(name, anndata.AnnData(x, obs), **parameters)
        print(
            f"{name} = {{ seconds = {time.process_time() - started:.2g}, cells = {POINTS}, power = {power} }}",
            flush=True,
        )


if __name__ == "__main__":
    main()
