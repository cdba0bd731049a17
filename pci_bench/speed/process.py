"""One way of a comparison, measured in this process, whose peak memory is its own: ``python -m pci_bench.speed.process``."""

from __future__ import annotations

import json
import statistics
import sys
import time

INNER_REPEATS = 3


def main(comparison: str, way: str, size: int) -> dict[str, float]:
    """Return CPU seconds of the work, 10⁹ float32 operations a second of matrix products beside it, and MB that memory grew by."""
    from pci_bench.features.estimate import matmul_gflops
    from pci_bench.speed.comparisons import COMPARISONS
    from pci_bench.system.machine import peak_memory

    work = COMPARISONS[comparison].ways[way].prepare(size)
    before, after, seconds, rates = peak_memory() or 0, [], [], []
    for _ in range(INNER_REPEATS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
        after.append(peak_memory() or 0)
        rates.append(matmul_gflops())
    grown = (after[0] - before) / 1e6
    return {"seconds": statistics.median(seconds), "gflops": statistics.median(rates), "grown_mb": grown}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
