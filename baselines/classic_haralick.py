"""The paper's classic features of human cells: intensity, correlation with the markers, and Haralick's texture."""

from pathlib import Path

import numpy as np

from pci_bench import Cells, Channel, Compute, Extractor, ExtractorMeta, register_extractor

DISTANCES = (1, 2, 4, 8, 16)
TEXTURE = (
    "angular_second_moment",
    "contrast",
    "correlation",
    "variance",
    "inverse_difference_moment",
    "sum_average",
    "sum_variance",
    "sum_entropy",
    "entropy",
    "difference_variance",
    "difference_entropy",
    "information_measure_1",
    "information_measure_2",
)


@register_extractor("classic-haralick")
class ClassicHaralick(Extractor):
    """Sum, mean and SD of every protein channel, its Pearson correlation with every marker, and its texture at five scales.

    Intensity and correlation are of the raw crop (correlation does not depend on the scale; 0 where a channel is constant).
    **Ours**, because paper and code do not say: texture has 256 grey levels, round(255 × the crop rescaled to [0, 1]), halves
    to even, a constant crop being 0; every pixel of the crop counts, zeros included; the mean over the four directions.
    """

    meta = ExtractorMeta(
        "classic-haralick",
        "1",
        "Classic features: intensity, correlation, Haralick texture",
        {"": "3 statistics, a correlation with every marker, 13 Haralick features at 1, 2, 4, 8, 16 px"},
        rescale="raw",
        groups=("paper",),
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        rows, columns = cells.crop_shape
        return (
            f"crops of {rows}×{columns} px hold no two pixels {DISTANCES[-1]} px apart in every direction"
            if min(rows, columns) <= DISTANCES[-1]
            else None
        )

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return GFP_sum, GFP_correlation_RFP, GFP_contrast_4px and so on, for every protein channel."""
        markers = [c.name for c in channels if c.role == "marker"]
        columns = ["sum", "mean", "sd", *(f"correlation_{m}" for m in markers)]
        columns += [f"{feature}_{d}px" for d in DISTANCES for feature in TEXTURE]
        return [f"{c.name}_{column}" for c in channels if c.role == "protein" for column in columns]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the measurement of a batch."""
        from .compiled.haralick import haralick

        proteins, markers = ([i for i, c in enumerate(channels) if c.role == r] for r in ("protein", "marker"))

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            columns = []
            for protein in crops[:, proteins].swapaxes(0, 1).astype(np.float64):
                columns += [statistic(protein, axis=(1, 2)) for statistic in (np.sum, np.mean, np.std)]
                columns += [correlation(protein, crops[:, marker]) for marker in markers]
                columns += [haralick(grey_levels(protein), DISTANCES).reshape(len(crops), -1)]
            return {"": np.column_stack(columns).astype(np.float32)}

        return compute


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation of the pixels of each pair of images, 0 where one is constant. (n, rows, columns) -> (n,)."""
    varied = (np.ptp(first, axis=(1, 2)) > 0) & (np.ptp(second, axis=(1, 2)) > 0)
    first, second = (images - images.mean(axis=(1, 2), keepdims=True, dtype=np.float64) for images in (first, second))
    products = (first * second).sum(axis=(1, 2))
    sizes = np.sqrt((first**2).sum(axis=(1, 2)) * (second**2).sum(axis=(1, 2)))
    correlations: np.ndarray = np.divide(products, sizes, out=np.zeros_like(products), where=varied)
    return correlations


def grey_levels(images: np.ndarray) -> np.ndarray:
    """Return images as uint8: minimum 0, maximum 255, rounded with halves to even; 0 where constant. (n, rows, columns)."""
    low = images.min(axis=(1, 2), keepdims=True)
    span = images.max(axis=(1, 2), keepdims=True) - low
    levels: np.ndarray = np.rint(255 * ((images - low) / np.where(span > 0, span, 1)))
    return levels.astype(np.uint8)
