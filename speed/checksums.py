"""The pixels of every generated dataset as one checksum: prints pci_bench/datasets/checksums.toml anew.

python speed/checksums.py [DATASET ...] > checksums.toml
"""

import sys

import numpy as np

HEADER = """\
# SHA-256 of the pixels and masks of every generated dataset (`pci_bench.data.store.pixel_checksum`). They are the same on every
# processor that was tried: x86-64 with AVX-512, and with AVX-512, or AVX2 and FMA too, switched off in the libraries. ARM was not tried.
# Building a dataset and `pci-bench data verify` check them. `source` says of which parameters; other pixels are another version.
# `python speed/checksums.py` draws all of them and prints this file.
"""
NAMES = ("yeast-sim", "yeast-sim-train", "human-sim", "human-sim-train", "human-sim-full")


def drawn(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the crops and masks of a generated dataset."""
    from pci_bench.datasets import human_sim, yeast_sim

    if name.startswith("yeast"):
        cells = yeast_sim.simulate(name, yeast_sim.plan(name))
        return cells.stored(slice(None)), cells.stored_masks(slice(None))
    simulated = human_sim.simulate(human_sim.parameters_of(name))
    return simulated.crops, simulated.masks


def main() -> None:
    from pci_bench.data.store import pixel_checksum
    from pci_bench.datasets import DATASETS

    print(HEADER)
    for name in sys.argv[1:] or NAMES:
        source = DATASETS.get(name).source_fingerprint()
        print(f'[{name}]\nsource = "{source}"\nsha256 = "{pixel_checksum(*drawn(name))}"\n', flush=True)


if __name__ == "__main__":
    main()
