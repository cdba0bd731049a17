"""Cells per second and memory of every feature set at 64×64 pixels, beside the loop over single cells that a user would write.

    python speed/throughput.py [--cells 512] [--features vgg16-random,designed,…] [--device auto]

Each family is computed by the harness in a process of its own, from simulated yeast, twice; the second time is shown (the first
one compiles). The loop calls the same extractor with one cell at a time. Networks without weights available locally are skipped, with the
reason. The paper: VGG16 at 64 px up to block4_conv1 0.02 s per image (50 per second), at 224 px with fully connected layers
0.31 s (3 per second), on hardware that it does not name.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

LOOPED = 24


def measure(family: str, n: int, device: str) -> dict[str, object]:
    """Return rates of one family, measured in this process."""
    import resource

    import numpy as np

    from pci_bench import load_dataset
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.api.skipped import Skipped
    from pci_bench.features.availability import resolve_weights
    from pci_bench.features.extraction import ExtractionOptions, compute_features
    from pci_bench.features.names import select
    from pci_bench.system.devices import resolve_device
    from pci_bench.weights import find

    cells = load_dataset("yeast-sim")
    cells = cells[np.arange(n) % len(cells)] if n <= len(cells) else cells
    wanted = select([family])
    extractor = EXTRACTORS.get(wanted[0].extractor_name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = list(compute_features(wanted, cells, ExtractionOptions(refresh="always", device=device)).values())
    if all(isinstance(f, Skipped) for f in results):
        return {"family": family, "reason": results[0].reason.partition(". ")[0]}
    started = time.perf_counter()
    compute_features(wanted, cells, ExtractionOptions(refresh="always", device=device))
    rate = len(cells) / (time.perf_counter() - started)
    after = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    outputs = {f.output for f in wanted}
    features = resolve_weights(wanted[0], cells)
    weights = find(extractor.meta.weights, features.weights) if extractor.meta.weights else None
    compute = extractor.open(cells.channels, weights, resolve_device(device))

    def one_cell(i: int) -> None:
        compute(cells.crops([i], rescale=extractor.meta.rescale, masks=extractor.meta.masks), outputs)

    one_cell(0)
    started = time.perf_counter()
    for i in range(LOOPED):
        one_cell(i)
    loop = LOOPED / (time.perf_counter() - started)
    return {"family": family, "outputs": len(outputs), "rate": rate, "loop": loop, "growth": (after - before) / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=512)
    parser.add_argument("--features", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.cells, options.device)))
        return
    from pci_bench.api.extractor import EXTRACTORS
    from pci_bench.system.threads import available_cores

    families = options.features.split(",") if options.features else EXTRACTORS.names()
    print(f"{options.cells} cells of 64×64 px and two channels, {available_cores()} cores")
    print(f"{'family':24}{'feature sets':>13}{'cells/s':>10}{'one at a time':>15}{'ratio':>8}{'memory, MB':>12}")
    with tempfile.TemporaryDirectory() as cache:
        environment = {"PCI_BENCH_CACHE": os.environ.get("PCI_BENCH_CACHE", cache), **os.environ}
        for family in families:
            command = [
                sys.executable,
                __file__,
                "--one",
                family,
                "--cells",
                str(options.cells),
                "--device",
                options.device,
            ]
            run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
            if run.returncode:
                print(f"{family:24}failed: {run.stderr.strip().splitlines()[-1]}")
                continue
            measured = json.loads(run.stdout.splitlines()[-1])
            if "reason" in measured:
                print(f"{family:24}not run: {measured['reason']}")
                continue
            ratio = measured["rate"] / measured["loop"]
            print(
                f"{family:24}{measured['outputs']:13}{measured['rate']:10.1f}{measured['loop']:15.1f}{ratio:8.1f}{measured['growth']:12.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
