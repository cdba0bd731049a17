"""Designed features of budding yeast: where in mother and bud a protein is, as numbers that have a meaning.

**Our reconstruction** of the seven features of Handfield et al. (2013, doi 10.1371/journal.pcbi.1003085), whose software the
paper used: not that software's numbers, and without its model of growth over the cell cycle.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from pci_bench import Channel, Compute, Extractor, ExtractorMeta, register_extractor

MOTHER, BUD = 1, 2
MEASURES = {
    "mean": "mean of w",
    "periphery": "mean distance to the cell's outline, weighted by w, minus the unweighted mean over the same pixels",
    "centre": "the same of the distance to the compartment's centroid",
    "neck": "the same of the distance to the bud neck",
    "spread": "mean distance between two pixels that are drawn in proportion to w",
    "fraction": "share of the cell's w",
    "variation": "coefficient of variation of w",
}


@register_extractor("designed")
class Designed(Extractor):
    """Seven features of the mother and of its bud for every protein channel, the ratio of their areas, and whether there is a bud.

    With w = raw protein minus background, at least 0. Background is the median of the crop's pixels outside all cells, or the
    crop's minimum where there are none. All distances are divided by the square root of the mother's area. What is not
    there counts 0: every feature of a bud where there is none, distances where a compartment has no protein, the distance to
    the neck where mother and bud do not touch, to the outline where the cell fills the crop, and everything where no mother
    was found.
    """

    meta = ExtractorMeta(
        "designed",
        "1",
        "Designed features (our reconstruction of Handfield et al. 2013)",
        {
            "": f"{'; '.join(MEASURES.values())}: each for mother and bud; the bud's area by the mother's; a flag for the bud"
        },
        rescale="raw",
        groups=("paper",),
        masks=True,
        processes=True,
    )

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return GFP_mother_mean … GFP_bud_variation for every protein channel, bud_to_mother_area and budded."""
        proteins = [c.name for c in channels if c.role == "protein"]
        measures = [f"{protein}_{part}_{m}" for protein in proteins for part in ("mother", "bud") for m in MEASURES]
        return [*measures, "bud_to_mother_area", "budded"]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the measurement of a batch whose last channel holds the masks."""
        proteins = [i for i, c in enumerate(channels) if c.role == "protein"]

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            return {"": np.array([designed(crop[proteins], crop[-1]) for crop in crops], dtype=np.float32)}

        return compute


@register_extractor("designed-true-masks")
class DesignedOnTrueMasks(Designed):
    """The designed features on the masks and buds that a simulation drew its cells from: better than any segmentation.

    No real data set has such masks, so this shows what segmentation costs, and is no rival of other features.
    """

    meta = replace(
        Designed.meta,
        name="designed-true-masks",
        title="Designed features on the simulation's own masks",
        simulated_masks=True,
        groups=(),
    )


def designed(proteins: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return the features of one cell.

    Parameters
    ----------
    proteins
        (channels, rows, columns) raw intensities.
    mask
        (rows, columns): 0 background, 1 the mother, 2 its bud, 3 and more other cells.

    Returns
    -------
    numpy.ndarray
        (14 × channels + 2,) float64: `MEASURES` of mother and bud for each channel, the ratio of areas, and 1 for a bud.
    """
    mother, bud = mask == MOTHER, mask == BUD
    if not mother.any():
        return np.zeros(2 * len(MEASURES) * len(proteins) + 2)
    to_outline = distances_to(~(mother | bud))
    to_neck = distances_to(bud_neck(mother, bud))
    unit = np.sqrt(mother.sum())
    columns = []
    for protein in proteins.astype(np.float64):
        outside = protein[mask == 0]
        background = np.median(outside) if outside.size else protein.min()
        weights = np.where(mother | bud, np.maximum(protein - background, 0), 0)
        for part in (mother, bud):
            columns += compartment(np.where(part, weights, 0), part, weights.sum(), to_outline, to_neck, unit)
    return np.array([*columns, bud.sum() / mother.sum(), bud.any()], dtype=np.float64)


def compartment(
    weights: np.ndarray, part: np.ndarray, whole: float, to_outline: np.ndarray, to_neck: np.ndarray, unit: float
) -> list[float]:
    """Return the `MEASURES` of one compartment.

    Parameters
    ----------
    weights, part
        (rows, columns): w, 0 outside the compartment; and which pixels the compartment has.
    whole
        The sum of w over mother and bud.
    to_outline, to_neck
        (rows, columns) pixels.
    unit
        Pixels that count as a distance of 1.
    """
    total = weights.sum()
    if total == 0:  # no pixels, or no protein in them
        return [0.0] * len(MEASURES)
    w = weights[part]
    rows, columns = np.nonzero(part)
    to_centre = np.hypot(rows - rows.mean(), columns - columns.mean())
    nearness = [(w @ d / total - d.mean()) / unit for d in (to_outline[part], to_centre, to_neck[part])]
    return [w.mean(), *nearness, mean_separation(weights) / unit, total / whole, w.std() / w.mean()]


def bud_neck(mother: np.ndarray, bud: np.ndarray) -> np.ndarray:
    """Return the pixels of mother and bud that touch the other one, at a side or a corner. (rows, columns) bool."""
    from scipy.ndimage import binary_dilation

    neck: np.ndarray = (mother & binary_dilation(bud, np.ones((3, 3)))) | (
        bud & binary_dilation(mother, np.ones((3, 3)))
    )
    return neck


def distances_to(pixels: np.ndarray) -> np.ndarray:
    """Return every pixel's Euclidean distance to the nearest of some pixels, 0 everywhere where there are none."""
    from scipy.ndimage import distance_transform_edt

    return distance_transform_edt(~pixels) if pixels.any() else np.zeros(pixels.shape)


def mean_separation(weights: np.ndarray) -> float:
    """Return the mean distance between two pixels that are drawn, each by itself, in proportion to their weights.

    The sum over all pairs of pixels is a sum over displacements of the autocorrelation, which a Fourier transform of twice
    the size gives exactly.
    """
    apart = _displacements(*weights.shape)
    spectrum = np.fft.rfft2(weights, apart.shape)
    together = np.fft.irfft2(spectrum.real**2 + spectrum.imag**2, apart.shape)
    return max(0.0, float((together * apart).sum() / weights.sum() ** 2))  # one bright pixel: 0 up to rounding


@cache
def _displacements(rows: int, columns: int) -> np.ndarray:
    """Return the lengths of all displacements in a crop, in the order of a Fourier transform of twice its size."""
    down, right = (np.fft.fftfreq(2 * n, 1 / (2 * n)) for n in (rows, columns))
    lengths: np.ndarray = np.hypot(down[:, None], right)
    return lengths
