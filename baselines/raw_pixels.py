"""Block means of the pixels as features: a control for coarse patterns."""

import numpy as np

from pci_bench import register_features

GRID = 16


@register_features(
    "raw-pixels",
    version="1",
    title="16×16 block means",
    groups=["controls"],
    names=lambda channels: [
        f"{c.name}_{row}_{column}" for c in channels for row in range(GRID) for column in range(GRID)
    ],
)
def raw_pixels(crops: np.ndarray) -> np.ndarray:
    """Means of a 16×16 grid of blocks in every channel. (b, channels, rows, columns) -> (b, 256 × channels).

    Where rows or columns are no multiple of 16, blocks differ in size by one pixel; crops under 16 pixels repeat pixels.
    """

    def edges(size: int) -> tuple[np.ndarray, np.ndarray]:
        starts = np.arange(GRID) * size // GRID
        return starts, np.maximum(np.append(starts[1:], size) - starts, 1)

    (rows, heights), (columns, widths) = (edges(s) for s in crops.shape[2:])
    sums = np.add.reduceat(np.add.reduceat(crops, rows, axis=2), columns, axis=3)
    means: np.ndarray = sums / (heights[:, None] * widths)
    return means.astype(np.float32).reshape(len(crops), -1)
