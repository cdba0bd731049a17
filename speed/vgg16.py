"""Run time of VGG16 for an image: at 224 px with both fully connected layers, and at 64 px up to block4_conv1, beside the paper's.

    python speed/vgg16.py [--images 16] [--repeats 5]

Random weights, since a run time does not depend on them. One image in a pass, as the authors' script predicts, and 16, as ours. The
printed seconds are of the authors' machine, which the paper does not describe: compare the ratio.
"""

import argparse
import statistics
import time
import tomllib
from importlib.resources import files


def seconds(compute, crops, output: str, batch: int, repeats: int) -> float:
    """Return the median seconds for an image."""
    compute(crops[:batch], {output})  # the first pass plans its convolutions
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        for first in range(0, len(crops), batch):
            compute(crops[first : first + batch], {output})
        durations.append((time.perf_counter() - start) / len(crops))
    return statistics.median(durations)


def main() -> None:
    import numpy as np
    import torch
    from pci_bench_baselines import vgg16

    from pci_bench.data.cells import Channel

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    printed = tomllib.loads(files("pci_bench_tables").joinpath("text", "printed.toml").read_text(encoding="utf-8"))
    paper = printed["vgg16-seconds-per-image"]
    rng, inputs, state = np.random.default_rng(0), 3, {}
    for layer, width in vgg16.WIDTHS.items():
        kernel = rng.standard_normal((width, inputs, 3, 3), np.float32) * np.float32(np.sqrt(2 / (9 * inputs)))
        state |= vgg16.convolution(vgg16.POSITIONS[layer], kernel, np.zeros(width, np.float32))
        inputs = width
    for name, shape in (("fc1", (4096, 512, 7, 7)), ("fc2", (4096, 4096, 1, 1))):
        state[f"pre_logits.{name}.weight"] = np.full(shape, 1e-4, np.float32)
        state[f"pre_logits.{name}.bias"] = np.zeros(shape[0], np.float32)
    channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    compute = vgg16.vgg16_compute(state, "keras-bgr", channels, device)
    crops = rng.random((options.images, 2, 64, 64), dtype=np.float32)
    print(f"{device}, {torch.get_num_threads()} threads; seconds per image, median of {options.repeats}")
    outputs = {"fc2-224": paper["fc2_224"], "gfp-only-block4_conv1": paper["block4_conv1_64"]}
    for batch in (1, min(16, options.images)):
        measured = {output: seconds(compute, crops, output, batch, options.repeats) for output in outputs}
        for output, printed_seconds in outputs.items():
            print(f"  {output:24} {batch:3} in a pass  measured {measured[output]:.4f}  printed {printed_seconds}")
        ours, printed_ratio = (values["fc2-224"] / values["gfp-only-block4_conv1"] for values in (measured, outputs))
        print(f"  {'ratio':24} {batch:3} in a pass  measured {ours:.1f}     printed {printed_ratio:.1f}")
    print(f"printed: {paper['source']}")


if __name__ == "__main__":
    main()
