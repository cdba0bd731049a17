"""How fast the simulated yeast is drawn on one core: cells per second, by step. At least 200 are wanted.

python speed/simulation.py [--images 25]
"""

import argparse
import os
import resource
import time

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=25, help="images of each screen")
    options = parser.parse_args()
    from pci_bench.datasets import yeast_sim

    print(f"{'':18}{'cells':>7}{'placing, s':>12}{'drawing, s':>12}{'cells/s':>9}{'cells/CPU s':>13}")
    for screen in ("yeast-sim", "yeast-sim-train"):
        plans = yeast_sim.plan(screen)
        yeast_sim.draw(screen, yeast_sim.sample(screen, plans[-1]))  # what is imported on first use
        plans = plans[: options.images]
        begun, cpu = time.perf_counter(), time.process_time()
        samples = [yeast_sim.sample(screen, image) for image in plans]
        placed = time.perf_counter()
        cells = sum(len(yeast_sim.draw(screen, sample)[0]) for sample in samples)
        ended, cpu = time.perf_counter(), time.process_time() - cpu
        print(
            f"{screen:18}{cells:7,}{placed - begun:12.2f}{ended - placed:12.2f}{cells / (ended - begun):9.0f}{cells / cpu:13.0f}"
        )
    print(f"Peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB.")


if __name__ == "__main__":
    main()
