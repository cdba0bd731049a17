"""Leave-one-out kNN: ours beside scikit-learn's brute force and faiss, interleaved, on one core, with memory.

    python speed/knn.py [--cells 30889] [--features 384] [--k 50] [--repeats 3]

Each measurement is a fresh process, so that peak memory is its own. faiss is measured where it is installed.
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
name, n, d, k = sys.argv[1], *map(int, sys.argv[2:])
rng = np.random.default_rng(0)
x = rng.normal(size=(n, d)) * np.linspace(0.05, 2, d) + 0.5 * rng.normal(size=(17, d))[rng.integers(0, 17, n)]
x = (x - x.mean(axis=0)) / x.std(axis=0)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

if name.startswith("ours"):
    from pci_bench.statistics.compiled.neighbors import nearest
    groups = [np.arange(n)] if name == "ours" else [np.arange(n), rng.integers(0, 300, n)]
    nearest(x[:200], k, [g[:200] for g in groups])  # compiled code is loaded before the clock starts
    search = lambda: nearest(x, k, groups)[0]
elif name == "scikit-learn":
    from sklearn.neighbors import NearestNeighbors
    def search():
        distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(x).kneighbors()
        return indices, distances
else:
    import faiss
    faiss.omp_set_num_threads(1)
    y = x.astype(np.float32)
    def search():
        index = faiss.IndexFlatL2(d)
        index.add(y)
        distances, indices = index.search(y, k + 1)
        return indices[:, 1:], np.sqrt(np.maximum(distances[:, 1:], 0))
before, start = peak(), time.perf_counter()
indices, distances = search()
seconds = time.perf_counter() - start
rows = rng.choice(n, 500, replace=False)
exact = np.empty((500, k))
order = np.empty((500, k), np.int64)
for place, row in enumerate(rows):
    every = ((x - x[row]) ** 2).sum(axis=1)
    every[row] = np.inf
    order[place] = np.lexsort((np.arange(n), every))[:k]
    exact[place] = np.sqrt(every[order[place]])
print(json.dumps({"seconds": seconds, "grown_mb": peak() - before,
                  "wrong_rows": int((indices[rows] != order).any(axis=1).sum()),
                  "error": float(np.abs(distances[rows] / exact - 1).max())}))
"""


def measure(name: str, cells: int, features: int, k: int) -> dict | None:
    """Return seconds, memory growth, and disagreements with a float64 loop on 500 rows; None where it is not installed."""
    single_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    command = [sys.executable, "-c", MEASURE, name, str(cells), str(features), str(k)]
    done = subprocess.run(command, env={**os.environ, **single_thread}, capture_output=True, text=True, check=False)
    if "No module named 'faiss'" in done.stderr:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=30889)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--k", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    names = ["ours", "ours, two exclusions", "scikit-learn", "faiss"]
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            if measured := measure(name, options.cells, options.features, options.k):
                runs[name].append(measured)
    print(
        f"{options.cells:,} cells × {options.features} features, k = {options.k}, one core, median of {options.repeats}"
    )
    reference = statistics.median(r["seconds"] for r in runs["scikit-learn"])
    print(
        f"{'':22}{'seconds':>9}{'× scikit-learn':>16}{'MB grown':>10}{'rows unlike float64 loop':>26}{'distance error':>16}"
    )
    for name, measured in runs.items():
        if not measured:
            print(f"{name:22} not installed")
            continue
        seconds = statistics.median(r["seconds"] for r in measured)
        grown = statistics.median(r["grown_mb"] for r in measured)
        last = measured[-1]
        print(
            f"{name:22}{seconds:9.1f}{reference / seconds:16.2f}{grown:10.0f}{last['wrong_rows']:>18} of 500{last['error']:16.1e}"
        )


if __name__ == "__main__":
    main()
