"""Raw-intensity statistics of each channel: a control for differences in brightness."""

from collections.abc import Callable

import numpy as np

from pci_bench import register_features

STATISTICS: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "sd": np.std, "min": np.min, "max": np.max}


@register_features(
    "intensity",
    version="1",
    title="Raw intensity",
    rescale="raw",
    groups=["controls"],
    names=lambda channels: [f"{c.name}_{s}" for c in channels for s in STATISTICS],
)
def intensity(crops: np.ndarray) -> np.ndarray:
    """Mean, SD, minimum and maximum of every channel. (b, channels, rows, columns) -> (b, 4 × channels)."""
    values = [statistic(crops, axis=(2, 3)) for statistic in STATISTICS.values()]
    return np.stack(values, axis=2).reshape(len(crops), -1)
