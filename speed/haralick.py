"""Haralick's texture of simulated yeast crops at 1, 2, 4, 8, 16 px: ours beside mahotas, interleaved, in CPU time of one core, with memory.

    python speed/haralick.py [--crops 1024] [--repeats 5]

Each measurement is a fresh process, so that peak memory is its own; mahotas measures the first 32 crops.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

MEASURE = r"""
import json, resource, sys, time
import numpy as np
from mahotas.features import haralick as mahotas
from pci_bench.simulation.yeast.screen import draw, plan, sample
from pci_bench_baselines.classic_haralick import DISTANCES, grey_levels
from pci_bench_baselines.compiled.haralick import haralick
name, n = sys.argv[1], int(sys.argv[2])
crops = np.concatenate([draw("yeast-sim", sample("yeast-sim", image))[0][:, 0] for image in plan("yeast-sim")[:8]])
images = grey_levels(np.resize(crops, (n, *crops.shape[1:])).astype(float))
haralick(images[:2], DISTANCES)  # compiled code is loaded before the clock starts
if name == "mahotas":
    measure = lambda: np.array([[mahotas(i, distance=d, return_mean=True) for d in DISTANCES] for i in images])
else:
    measure = lambda: haralick(images, DISTANCES)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak(), time.process_time()
features = measure()
seconds = time.process_time() - start
print(json.dumps({"ms": 1000 * seconds / n, "grown_mb": peak() - before, "features": features[:32].tolist()}))
"""


def measure(name: str, crops: int) -> dict:
    """Return milliseconds per crop, memory growth, and the features of the first crops."""
    single_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    command = [sys.executable, "-c", MEASURE, name, str(crops)]
    done = subprocess.run(command, env={**os.environ, **single_thread}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    crops = {"mahotas": min(32, options.crops), "ours": options.crops}
    runs: dict[str, list[dict]] = {name: [] for name in crops}
    for _ in range(options.repeats):
        for name, n in crops.items():
            runs[name].append(measure(name, n))
    ms = {name: statistics.median(run["ms"] for run in measured) for name, measured in runs.items()}
    print(f"13 features at 1, 2, 4, 8, 16 px of 64×64 crops, CPU time of one core, median of {options.repeats}")
    print(f"{'':10}{'ms/crop':>9}{'crops/s':>9}{'× mahotas':>11}{'MB grown':>10}")
    for name, measured in runs.items():
        grown = statistics.median(run["grown_mb"] for run in measured)
        print(f"{name:10}{ms[name]:9.3f}{1000 / ms[name]:9.0f}{ms['mahotas'] / ms[name]:11.1f}{grown:10.1f}")
    mahotas, ours = (np.array(runs[name][0]["features"])[: crops["mahotas"]] for name in crops)
    difference = np.abs(ours - mahotas)
    relative = np.divide(difference, np.abs(mahotas), out=np.zeros_like(mahotas), where=difference > 0)
    print(f"largest relative difference: {relative.max():.1e}")


if __name__ == "__main__":
    main()
