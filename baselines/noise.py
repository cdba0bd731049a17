"""Random features, decided by each cell's name: the chance level of every table."""

import hashlib
from functools import cache

import numpy as np

from pci_bench import Cells, ExtractorMeta, Precomputed, register_extractor

SIZE = 64
STEPS = 4096  # per SD


@register_extractor("noise")
class Noise(Precomputed):
    """Standard normal numbers that a cell's name decides, and nothing else: no pixel is read.

    They are the same on every machine: 16-bit integers of a hash, each looked up in a table of the normal distribution's
    quantiles in steps of 1/4096.
    """

    meta = ExtractorMeta("noise", "3", "Gaussian noise", roles=(), groups=("controls",))

    def load(self, cells: Cells) -> tuple[np.ndarray, list[str]]:
        """Return each cell's numbers (n, 64) and the columns' names."""
        values = [noise(name) for name in cells.obs["cell"].astype(str)]
        return np.array(values, np.float32).reshape(-1, SIZE), [f"noise_{i}" for i in range(SIZE)]


def noise(name: str) -> np.ndarray:
    """Return the numbers of a cell's name. (64,) float32."""
    drawn = hashlib.shake_256(name.encode("utf-8", "surrogatepass")).digest(2 * SIZE)
    return quantiles().take(np.frombuffer(drawn, "<u2"))


@cache
def quantiles() -> np.ndarray:
    """Return the standard normal quantiles of 65,536 equal steps of probability, to the nearest 1/4096. (65536,) float32."""
    from scipy.special import ndtri

    levels = 2**16
    lower = np.rint(STEPS * ndtri((np.arange(levels // 2) + 0.5) / levels))
    return (np.concatenate([lower, -lower[::-1]]) / STEPS).astype(np.float32)
