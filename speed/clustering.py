"""Ward clustering of proteins at the paper's size (11,995 proteins): ours beside SciPy and fastcluster's other way, with peak memory.

    python speed/clustering.py [--proteins 12000] [--features 384] [--repeats 1]

Features are drawn from 200 planted clusters. Each measurement is a fresh process, so that peak memory is its own; one thread.
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
from pci_bench.statistics.linkage import cut, leaf_order, ward_linkage
name, n, d = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
rng = np.random.default_rng(0)
features = (rng.normal(size=(200, d))[rng.integers(200, size=n)] + rng.normal(0, 2, (n, d)))
ward_linkage(features[:10])  # libraries are loaded before the clock starts
if name == "ours":
    measure = ward_linkage
elif name == "scipy":
    from scipy.cluster.hierarchy import linkage
    measure = lambda x: linkage(x, method="ward")
else:
    from fastcluster import linkage_vector
    measure = lambda x: linkage_vector(x, method="ward")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before, start = peak(), time.process_time()
tree = measure(features)
seconds = time.process_time() - start
grown, whole = peak() - before, peak()
print(json.dumps({"seconds": seconds, "grown_mb": grown, "peak_mb": whole, "heights": tree[:, 2].tolist(),
                  "clusters": cut(tree, 13).tolist()}))
"""


def measure(name: str, proteins: int, features: int) -> dict:
    """Return CPU seconds, memory in MB, merge heights, and 13 clusters."""
    single_thread = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    command = [sys.executable, "-c", MEASURE, name, str(proteins), str(features)]
    done = subprocess.run(command, env={**os.environ, **single_thread}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    import numpy as np
    from sklearn.metrics import adjusted_rand_score

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proteins", type=int, default=12_000)
    parser.add_argument("--features", type=int, default=384)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    names = ("scipy", "linkage_vector", "ours")
    runs: dict[str, list[dict]] = {name: [] for name in names}
    for _ in range(options.repeats):
        for name in names:
            runs[name].append(measure(name, options.proteins, options.features))
    print(f"Ward, {options.proteins:,} × {options.features} float64, CPU time of one core, median of {options.repeats}")
    print(f"{'':16}{'seconds':>9}{'× scipy':>9}{'MB grown':>10}{'MB peak':>9}{'heights differ':>16}{'ARI':>7}")
    first = statistics.median(run["seconds"] for run in runs["scipy"])
    reference = runs["scipy"][0]
    for name, measured in runs.items():
        seconds = statistics.median(run["seconds"] for run in measured)
        heights, reference_heights = np.array(measured[0]["heights"]), np.array(reference["heights"])
        differ = np.max(np.abs(heights - reference_heights) / reference_heights)
        agree = adjusted_rand_score(measured[0]["clusters"], reference["clusters"])
        memory = [statistics.median(run[m] for run in measured) for m in ("grown_mb", "peak_mb")]
        print(
            f"{name:16}{seconds:9.2f}{first / seconds:9.1f}{memory[0]:10.0f}{memory[1]:9.0f}{differ:16.1e}{agree:7.3f}"
        )


if __name__ == "__main__":
    main()
