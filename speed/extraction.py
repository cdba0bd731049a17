"""Features of paired cell inpainting: one pass for all layers beside one pass per layer and cell, as the authors' script does.

    python speed/extraction.py [--cells 256] [--threads 2]

Random weights; the numbers do not depend on them. Interleaved, median of three.
"""

import argparse
import statistics
import time

import numpy as np
import torch

from pci_bench.inpainting import PairedCellInpainting
from pci_bench.inpainting.features import CROPS_PER_PASS, encoder_compute
from pci_bench.inpainting.network import LAYERS
from pci_bench.system.threads import available_cores, set_threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=256)
    parser.add_argument("--threads", type=int, default=available_cores())
    options = parser.parse_args()
    set_threads(options.threads)
    crops = np.random.default_rng(0).random((options.cells, 2, 64, 64), dtype=np.float32)
    encoder = PairedCellInpainting().source_encoder
    ours = encoder_compute(encoder, "cpu")
    plain = PairedCellInpainting().source_encoder.eval()

    def one_pass() -> int:
        for start in range(0, len(crops), CROPS_PER_PASS):
            ours(crops[start : start + CROPS_PER_PASS], set(LAYERS))
        return len(crops)

    def one_layer_and_cell_at_a_time() -> int:
        some = crops[:16]
        for crop in some:
            for layer in LAYERS:
                plain.features(torch.from_numpy(crop[None]), [layer])
        return len(some)

    def batched_plain_torch() -> int:
        for start in range(0, len(crops), 64):
            plain.features(torch.from_numpy(crops[start : start + 64]))
        return len(crops)

    ways = {
        "pci-bench, one pass": one_pass,
        "torch, batches of 64": batched_plain_torch,
        "a cell and a layer at a time": one_layer_and_cell_at_a_time,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    one_pass()
    for _ in range(3):
        for name, way in ways.items():
            start = time.perf_counter()
            rates[name].append(way() / (time.perf_counter() - start))
    slowest = statistics.median(rates["a cell and a layer at a time"])
    print(f"conv1–conv5 of {options.cells} yeast crops, {options.threads} threads, median of 3")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{name:32}{rate:8.1f} cells/s  {rate / slowest:5.1f} ×")


if __name__ == "__main__":
    main()
