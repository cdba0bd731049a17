"""CPU seconds of what commands run, and the rate of this machine's matrix multiplication: the file that estimates of time are from.

    python speed/rates.py [--cells 96] > pci_bench/features/rates.toml

Feature sets are computed from simulated yeast by networks of the published sizes with random weights, evaluators on planted features of
the paper's width, trainings for a few batches at width 0.25; one core each, in CPU seconds, so that a busy machine says the same.
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
from pci_bench.features.estimate import matmul_gflops
from pci_bench.features.extraction import ExtractionOptions, compute_features
from pci_bench.features.names import select
from pci_bench.inpainting.network import PairedCellInpainting
from pci_bench.training.loop import recipe_of, train

POINTS, WIDTH, CLASSES, IMAGES = 3000, 384, 17, 4  # images of a class
EVALUATIONS = {  # of what, and to which power of the number of cells their time grows
    "loo-knn": (2, {"k": [1, 5, 11, 25, 50]}),
    "logistic-regression": (1.5, {}),
    "random-forest": (1.2, {}),
    "umap": (1.1, {}),
    "map": (2, {}),
    "level-distances": (1.6, {}),
    "batch-mixing": (1.2, {"batch": "plate"}),
    "clustering-agreement": (1.5, {}),
    "calibration": (1.2, {}),
    "nuisance-probe": (1.2, {}),
    "label-efficiency": (0.5, {"exclude": "image"}),
}
TRAINED = ("pci", "autoencoder", "deeploc")  # at this width, on so many cells:
TRAINED_WIDTH, TRAINED_CELLS = 0.25, 640
# Networks' times grow with about these powers of their width (measured between 0.25 and 1); bfloat16 is as much faster with AVX512-BF16.
WIDTH_POWER, TRAINING_WIDTH_POWER, BFLOAT16 = 1.6, 1.5, 1.8


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
    print("# CPU seconds of one core that multiplies matrices at `gflops` (float32): python speed/rates.py")
    print(f"gflops = {matmul_gflops(1.0):.0f}")
    print(f"crop = {list(cells.crop_shape)} # pixels of a cell that was measured")
    print('resized = ["vgg16", "cytoimagenet", "efficientnet-lite0"] # whose times do not grow with the crop')
    print(f"evaluated_features = {WIDTH} # columns of what evaluators were measured on")
    print(f"width_power = {WIDTH_POWER}\ntraining_width_power = {TRAINING_WIDTH_POWER}\nbfloat16 = {BFLOAT16}")
    print("\n[seconds_per_cell]")
    layers = ["block1_conv1", "block4_conv1", "block5_conv3"]
    passes = {
        "pci": [f"pci-conv{i}@random" for i in range(1, 6)],
        "vgg16-gfp-only-block4_conv1": ["vgg16-gfp-only-block4_conv1@random"],
        **{f"vgg16-{way}": [f"vgg16-{way}-{x}@random" for x in layers] for way in ("rgb", "concatenated", "gfp-only")},
        "vgg16-fc2-224": ["vgg16-fc2-224@random"],
        "deeploc": ["deeploc-fc2@random"],
        "designed": ["designed"],
        "classic-haralick": ["classic-haralick"],
        "efficientnet-lite0": ["efficientnet-lite0"],
        "cellprofiler": ["cellprofiler"],
        "intensity": ["intensity"],
        "raw-pixels": ["raw-pixels"],
        "noise": ["noise"],
    }
    for name, features in passes.items():
        few = cells[:16] if name == "vgg16-fc2-224" else cells
        seconds = f"{seconds_per_cell(features, few):.2g}"
        print(f'"{name}" = {seconds}', flush=True)
        if name == "pci":  # the same encoder, with other weights or another input
            for twin in ("autoencoder", "marker-only"):
                print(f'"{twin}" = {seconds}')
    print('"cellprofiler-chong2015" = 0 # read, not measured')
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, POINTS)
    import anndata
    import pandas as pd

    centres = rng.normal(size=(CLASSES, WIDTH))
    x = np.maximum(0, centres[labels] + 2 * rng.normal(size=(POINTS, WIDTH))).astype(np.float32)
    images = labels * IMAGES + rng.integers(0, IMAGES, POINTS)  # of one class, half of them on each of two plates
    obs = pd.DataFrame(
        {"label": labels.astype(str), "image": images.astype(str), "plate": (images % 2).astype(str)},
        index=[f"c{i}" for i in range(POINTS)],
    )
    print(
        f"\n[evaluators] # seconds for {POINTS:,} cells × {WIDTH} features, and the power of cells to which they grow"
    )
    for name, (power, parameters) in EVALUATIONS.items():
        if name in EVALUATORS:
            pci_bench.evaluate(name, anndata.AnnData(x[:500], obs[:500]), **parameters)  # compiled
        started = time.process_time()
        if name in EVALUATORS:
            pci_bench.evaluate(name, anndata.AnnData(x, obs), **parameters)
        print(
            f"{name} = {{ seconds = {time.process_time() - started:.2g}, cells = {POINTS}, power = {power} }}",
            flush=True,
        )
    print("\n[training] # seconds for a cell, or a pair of cells, of an epoch at width 1")
    cells = pci_bench.load_dataset("yeast-sim")[:TRAINED_CELLS]
    for model in TRAINED:
        recipe = recipe_of(model, epochs=1, width=TRAINED_WIDTH, precision="float32")
        started = time.process_time()
        train(model, cells, recipe, name="rate", restart=True, overwrite=True)
        print(
            f"{model} = {(time.process_time() - started) / TRAINED_CELLS / TRAINED_WIDTH**TRAINING_WIDTH_POWER:.2g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
