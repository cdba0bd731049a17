"""How bright every channel is at each distance from the middle of the crop."""

import numpy as np

from pci_bench import register_features

RINGS = 6


@register_features(
    "ring-means",
    version="1",
    title="Mean brightness in 6 rings",
    names=lambda channels: [f"{c.name}_ring{ring}" for c in channels for ring in range(1, RINGS + 1)],
)
def ring_means(crops: np.ndarray) -> np.ndarray:
    """Means in rings of equal area, from the middle outwards. (b, channels, rows, columns) -> (b, 6 × channels)."""
    rows, columns = crops.shape[2:]
    y, x = np.ogrid[:rows, :columns]
    distance = np.hypot((y - (rows - 1) / 2) / rows, (x - (columns - 1) / 2) / columns)
    rings = np.array_split(np.argsort(distance, axis=None, kind="stable"), RINGS)
    pixels = crops.reshape(*crops.shape[:2], -1)
    return np.stack([pixels[..., ring].mean(axis=2) for ring in rings], axis=2).reshape(len(crops), -1)
