"""Mean distances of image pairs: ours beside a SciPy loop and batched torch, and the evaluators at the paper's size.

    python speed/distances.py [--pairs 10000] [--images 41285] [--features 384] [--repeats 3] [--threads 1] [--full]

Each measurement is a fresh process, interleaved, so that peak memory is its own. Features are random; a pair costs the same
whatever they are. `--full` also times `human-distances`, `human-cell-lines` and `human-multilocalization` on as many cells.
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
name, n_pairs, n_images, d, threads = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
sizes = np.maximum(rng.poisson(15.47, n_images), 5)
images = np.repeat(np.arange(n_images), sizes)
starts = np.concatenate([[0], np.cumsum(sizes)])
x = rng.standard_normal((len(images), d), dtype=np.float32)
x *= np.linspace(0.05, 2, d, dtype=np.float32)
pairs = rng.integers(0, n_images, (n_pairs, 2))

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

if name == "ours":
    from pci_bench.statistics.compiled.distances import column_scale, mean_distances
    mean_distances(x[:200], images[:200], pairs[:1] * 0)  # compiled code is loaded before the clock starts
    def scale():
        return column_scale(x, np.arange(len(x)))
    def measure(scaled):
        return mean_distances(x, images, pairs, mean=scaled[0], inverse=scaled[1])
elif name == "SciPy cdist":
    from scipy.spatial.distance import cdist
    def scale():
        z = x.astype(np.float64)
        z -= z.mean(axis=0)
        z /= z.std(axis=0)
        return z
    def measure(z):
        return np.array([cdist(z[starts[i] : starts[i + 1]], z[starts[j] : starts[j + 1]]).mean() for i, j in pairs])
else:
    import torch
    torch.set_num_threads(threads)
    def scale():
        z = torch.from_numpy(x.copy())
        z -= z.mean(dim=0)
        z /= z.std(dim=0, correction=0)
        return z
    def measure(z):
        most, found = int(sizes.max()), np.empty(n_pairs)
        counts, first = torch.from_numpy(sizes), torch.from_numpy(starts[:-1].copy())
        place = torch.arange(most)
        for start in range(0, n_pairs, 64):
            part = torch.from_numpy(pairs[start : start + 64])
            sides, inside = [], []
            for side in (0, 1):
                image = part[:, side]
                inside.append(place < counts[image, None])
                sides.append(z[torch.where(inside[-1], first[image, None] + place, 0)])
            distances = torch.cdist(sides[0], sides[1])
            both = inside[0][:, :, None] & inside[1][:, None, :]
            found[start : start + 64] = (distances * both).sum(dim=(1, 2)) / both.sum(dim=(1, 2))
        return found

before, begun = peak(), time.perf_counter()
scaled = scale()
middle, used = time.perf_counter(), time.process_time()
found = measure(scaled)
seconds, cpu = time.perf_counter() - middle, time.process_time() - used
grown = peak() - before
del scaled
from scipy.spatial.distance import cdist
mean, spread = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
rows = rng.choice(n_pairs, 200)
exact = [cdist(*((x[starts[i] : starts[i + 1]] - mean) / spread for i in pairs[row])).mean() for row in rows]
error = float(np.abs(found[rows] / exact - 1).max())
print(json.dumps({"scaling": middle - begun, "seconds": seconds, "cpu": cpu, "grown_mb": grown, "error": error, "input_mb": x.nbytes / 2**20}))
"""

FULL = r"""
import json, resource, sys, time
import anndata, numpy as np, pandas as pd
from pci_bench.api.evaluator import EVALUATORS, EvaluationContext, unavailable_reason
from pci_bench.system.threads import set_threads
name, n_pairs, n_images, d, threads = sys.argv[1], *map(int, sys.argv[2:])
set_threads(threads)
rng = np.random.default_rng(0)
n_proteins = max(n_images * 12000 // 41285, 40)
terms = np.array(["Cytosol", "Nucleoplasm", *(f"Term {i:02}" for i in range(16))])
weights = 1 / np.arange(1, 19)
one = rng.choice(18, n_proteins, p=weights / weights.sum())
two = rng.choice(18, n_proteins, p=weights / weights.sum())
labels = np.where(rng.random(n_proteins) < 0.5, terms[one], np.char.add(np.char.add(terms[one], ";"), terms[two]))
protein = rng.integers(0, n_proteins, n_images)
line = rng.choice(20, n_images)
sizes = np.maximum(rng.poisson(15.47, n_images), 5)
image = np.repeat(np.arange(n_images), sizes)
obs = pd.DataFrame({
    "cell": [f"c{i}" for i in range(len(image))],
    "image": np.array([f"image{i}" for i in range(n_images)], object)[image],
    "protein": np.array([f"ENSG{i:08}" for i in range(n_proteins)], object)[protein[image]],
    "labels": labels.astype(object)[protein[image]],
    "cell_line": np.array([f"line{i}" for i in range(20)], object)[line[image]],
})
obs.index = obs["cell"].astype(str).rename(None)
adata = anndata.AnnData(rng.standard_normal((len(image), d), dtype=np.float32), obs=obs)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

evaluator = EVALUATORS.get(name)
params = evaluator.Params()
before, begun, used = peak(), time.perf_counter(), time.process_time()
reason = unavailable_reason(evaluator, adata, params)
assert reason is None, reason
asked = time.perf_counter() - begun
(outcome,) = evaluator(adata, [params], EvaluationContext(0, threads))
print(json.dumps({"asked": asked, "seconds": time.perf_counter() - begun - asked, "cpu": time.process_time() - used, "grown_mb": peak() - before,
                  "headline": outcome.metrics[evaluator.meta.headline], "cells": len(image),
                  "details": {k: outcome.details[k] for k in ("proteins", "images") if k in outcome.details}}))
"""


def measure(program: str, name: str, options: argparse.Namespace) -> dict:
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(options.threads)
    )
    sizes = (options.pairs, options.images, options.features, options.threads)
    command = [sys.executable, "-c", program, name, *map(str, sizes)]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=41_285)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    runs: dict[str, list[dict]] = {"ours": [], "SciPy cdist": [], "batched torch": []}
    for _ in range(options.repeats):
        for name, measured in runs.items():
            measured.append(measure(MEASURE, name, options))
    print(
        f"{options.pairs:,} pairs of {options.images:,} images (≈ 15 cells × {options.features} float32, "
        f"{runs['ours'][0]['input_mb']:.0f} MB), {options.threads} thread(s), median of {options.repeats}"
    )
    middle = {n: {k: statistics.median(r[k] for r in measured) for k in measured[0]} for n, measured in runs.items()}
    print(f"{'':16}{'scaling s':>11}{'pairs s':>9}{'CPU s':>8}{'CPU × ours':>12}{'MB grown':>10}{'error':>10}")
    for name, m in middle.items():
        ratio = m["cpu"] / middle["ours"]["cpu"]  # wall clock tells little where others use the machine
        print(
            f"{name:16}{m['scaling']:11.2f}{m['seconds']:9.3f}{m['cpu']:8.3f}{ratio:12.2f}{m['grown_mb']:10.0f}{m['error']:10.1e}"
        )
    if options.full:
        for name in ("pairwise-distance", "pairwise-distance-cell-line", "multi-localization"):
            m = measure(FULL, name, options)
            print(
                f"{name}, {m['cells']:,} cells, defaults: {m['seconds']:.1f} s (and {m['asked']:.1f} s to ask whether it can "
                f"be run; {m['cpu']:.1f} s of CPU in all), {m['grown_mb']:.0f} MB beyond the features; {m['details']}"
            )


if __name__ == "__main__":
    main()
