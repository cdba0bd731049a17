"""CellProfiler's measurements of the cell in the middle of the crop, as cp_measure computes them."""

import warnings
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from pci_bench import Cells, Channel, Compute, Extractor, ExtractorMeta, UserError, register_extractor

# Pixels between those that are compared: CellProfiler's default, and with 5 and 10 those of Cell Painting.
SCALES = (3, 5, 10)
GRAY_LEVELS = 256
RINGS, WEDGES = 4, 8
COSTES_STEPS = 255  # what CellProfiler takes for an image whose file does not tell its scale
# fmt: off
HARALICK = [
    "AngularSecondMoment", "Contrast", "Correlation", "Variance", "InverseDifferenceMoment", "SumAverage", "SumVariance",
    "SumEntropy", "Entropy", "DifferenceVariance", "DifferenceEntropy", "InfoMeas1", "InfoMeas2",
]
INTENSITY = [
    "IntegratedIntensity", "MeanIntensity", "StdIntensity", "MinIntensity", "MaxIntensity", "IntegratedIntensityEdge",
    "MeanIntensityEdge", "StdIntensityEdge", "MinIntensityEdge", "MaxIntensityEdge", "MassDisplacement",
    "LowerQuartileIntensity", "MedianIntensity", "MADIntensity", "UpperQuartileIntensity",
]
BOTH_WAYS = ["K", "Manders", "RWC", "Costes"]
ZERNIKES = [f"{n}_{m}" for n in range(10) for m in range(n % 2, n + 1, 2)]
SHAPE = [
    "Area", "BoundingBoxArea", "BoundingBoxMaximum_X", "BoundingBoxMaximum_Y", "BoundingBoxMinimum_X",
    "BoundingBoxMinimum_Y", "Center_X", "Center_Y", "Compactness", "ConvexArea", "Eccentricity", "EquivalentDiameter",
    "EulerNumber", "Extent", "FormFactor", "MajorAxisLength", "MaxFeretDiameter", "MaximumRadius", "MeanRadius",
    "MedianRadius", "MinFeretDiameter", "MinorAxisLength", "Orientation", "Perimeter", "Solidity",
    "InertiaTensor_0_0", "InertiaTensor_0_1", "InertiaTensor_1_0", "InertiaTensor_1_1",
    "InertiaTensorEigenvalues_0", "InertiaTensorEigenvalues_1",
    *(f"SpatialMoment_{p}_{q}" for p in range(3) for q in range(4)),
    *(f"CentralMoment_{p}_{q}" for p in range(3) for q in range(4) if p + q != 1),  # those are 0 by definition
    *(f"NormalizedMoment_{p}_{q}" for p in range(4) for q in range(4) if p + q > 1),  # the others are never finite
    *(f"HuMoment_{i}" for i in range(7)),
    *(f"Zernike_{name}" for name in ZERNIKES),
]
# fmt: on


@register_extractor("cellprofiler")
class CellProfiler(Extractor):
    """What CellProfiler 4.2 measures of one cell, bud included, under CellProfiler's names."""

    meta = ExtractorMeta(
        "cellprofiler",
        "1",
        "CellProfiler, measured by cp-measure",
        rescale="raw",
        groups=("paper",),
        batch=32,
        masks=True,
        processes=True,
        allows_nan=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return that the crops' values are not CellProfiler's 0 to 1, or None."""
        first = cells.stored(slice(0, 256))
        return None if first.dtype.kind == "u" else out_of_range(first)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return the columns: of the shape, of every channel, and of every two channels."""
        images = [channels[position].name for position in reading_order(channels)]
        return [
            *(f"AreaShape_{name}" for name in SHAPE),
            *(name for image in images for name in names_of_image(image)),
            *(name for pair in combinations(images, 2) for name in names_of_pair(*pair)),
        ]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return a function that measures crop by crop; where no cell was found, all is NaN."""
        order, names = reading_order(channels), self.names("", channels)
        images = [channels[position].name for position in order]

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            pixels, masks = crops[:, order], crops[:, -1]
            if reason := out_of_range(pixels):
                raise UserError(f"The feature set cellprofiler cannot be measured: {reason}.")
            values = np.full((len(crops), len(names)), np.nan)
            for row, mask in enumerate(masks):
                cell = (mask == 1) | (mask == 2)
                if cell.any():
                    features = measured(dict(zip(images, pixels[row], strict=True)), cell)
                    values[row] = [features[name] for name in names]
            values[~np.isfinite(values)] = np.nan
            return {"": values.astype(np.float32)}

        return compute


def reading_order(channels: Sequence[Channel]) -> list[int]:
    """Return the positions of channels in the order of the columns, which does not depend on the dataset's: proteins first."""
    return sorted(range(len(channels)), key=lambda p: (channels[p].role != "protein", channels[p].name))


def out_of_range(crops: np.ndarray) -> str | None:
    """Return what is wrong with pixel values that are not in CellProfiler's range of 0 to 1, or None."""
    if not crops.size or (crops.min() >= 0 and crops.max() <= 1):
        return None
    return (
        f"CellProfiler's images are 0 to 1, and these crops hold floats from {crops.min():.4g} to {crops.max():.4g}. "
        "Store counts as uint8 or uint16, or divide them by the detector's largest value"
    )


def names_of_image(image: str) -> list[str]:
    """Return the columns that are measured of one channel."""
    directions = [(name, scale, direction) for scale in SCALES for direction in range(4) for name in HARALICK]
    return [
        *(f"Intensity_{name}_{image}" for name in INTENSITY),
        *(f"Location_{name}_{axis}_{image}" for name in ("CenterMassIntensity", "MaxIntensity") for axis in "XYZ"),
        *(f"Texture_{n}_{image}_{s}_{d:02d}_{GRAY_LEVELS}" for n, s, d in directions),
        *(f"Texture_{n}_{image}Rescaled_{s}_{d:02d}_{GRAY_LEVELS}" for n, s, d in directions),
        *(f"Granularity_{size}_{image}" for size in range(1, 17)),
        *(
            f"RadialDistribution_{name}_{image}_{ring}of{RINGS}"
            for name in ("FracAtD", "MeanFrac", "RadialCV")
            for ring in range(1, RINGS + 1)
        ),
        *(f"RadialDistribution_ZernikeMagnitude_{image}_{name}" for name in ZERNIKES),
    ]


def names_of_pair(first: str, second: str) -> list[str]:
    """Return the columns that are measured of two channels; what is not symmetric is measured both ways."""
    pairs = (f"{first}_{second}", f"{second}_{first}")
    return [
        f"Correlation_Correlation_{pairs[0]}",
        f"Correlation_Overlap_{pairs[0]}",
        *(f"Correlation_{name}_{pair}" for name in BOTH_WAYS for pair in pairs),
    ]


def measured(images: dict[str, np.ndarray], cell: np.ndarray) -> dict[str, float]:
    """Return what CellProfiler measures of one cell, by name.

    Parameters
    ----------
    images
        By name, (rows, columns) float32 from 0 to 1: as float64, some pixels would get another gray level than CellProfiler's.
    cell
        (rows, columns) bool: the cell's pixels, at least one.
    """
    # Of cells of a few pixels and of constant images much is not defined; the libraries give NaN, and say so every time.
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        features = shape(cell)
        features |= radial_distribution(images, cell)
        features |= zernike_moments(images, cell)
        for name, image in images.items():
            features |= intensity(name, image, cell)
            features |= texture(name, image, cell)
            features |= texture(f"{name}Rescaled", stretched(image), cell)
            features |= granularity(name, image, cell)
        for first, second in combinations(images, 2):
            features |= colocalization(first, images[first], second, images[second], cell)
    return features


def shape(cell: np.ndarray) -> dict[str, float]:
    """Return size and shape, moments included."""
    from cp_measure.core.measureobjectsizeshape import get_feret, get_sizeshape

    mask = cell.astype(np.intp)
    features = get_sizeshape(mask, None, new_features=False) | get_feret(mask, None)
    return {f"AreaShape_{name}": value[0] for name, value in features.items()}


def intensity(name: str, image: np.ndarray, cell: np.ndarray) -> dict[str, float]:
    """Return intensities in the cell and on its edge, and where the brightest pixel is."""
    from cp_measure.core.numba.measureobjectintensity import get_intensity

    features = get_intensity(cell.astype(np.intp), image, legacy=True)
    rows, columns = np.nonzero(cell)
    brightest = position_of_maximum(image[cell])
    features["Location_MaxIntensity_X"], features["Location_MaxIntensity_Y"] = columns[[brightest]], rows[[brightest]]
    return {f"{measurement}_{name}": value[0] for measurement, value in features.items()}


def texture(name: str, image: np.ndarray, cell: np.ndarray) -> dict[str, float]:
    """Return Haralick's 13 texture features at every scale in 4 directions."""
    from cp_measure.core.numba.measuretexture import get_texture

    features = {}
    for scale in SCALES:
        for key, value in get_texture(cell.astype(np.intp), image, scale, GRAY_LEVELS).items():
            measurement, where = key.split("_", 1)
            features[f"Texture_{measurement}_{name}_{where}"] = value[0]
    return features


def stretched(image: np.ndarray) -> np.ndarray:
    """Return an image rescaled to its own range, as CellProfiler's module RescaleIntensity does; a constant one becomes 0."""
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def granularity(name: str, image: np.ndarray, cell: np.ndarray) -> dict[str, float]:
    """Return the percentage of the cell's signal in structures of 1, 2 … 16 steps of opening."""
    from cp_measure.core.measuregranularity import get_granularity

    return {f"{key}_{name}": value[0] for key, value in get_granularity(cell.astype(np.intp), image).items()}


def radial_distribution(images: dict[str, np.ndarray], cell: np.ndarray) -> dict[str, float]:
    """Return how the signal is spread over rings from the cell's middle to its edge.

    The middle is the pixel that is farthest from the edge, and distances are measured within the cell: rings and wedges depend
    on the mask alone, so they are found once for all images.
    """
    from centrosome.cpmorphology import distance_to_edge
    from centrosome.propagate import propagate

    to_edge = distance_to_edge(cell.astype(int))
    row, column = np.unravel_index(position_of_maximum(to_edge), cell.shape)
    middle = np.zeros(cell.shape, int)
    middle[row, column] = 1
    reached, from_middle = propagate(np.zeros(cell.shape), middle, cell, 1)
    inside = reached > 0
    ring = (from_middle / (from_middle + to_edge + 0.001) * RINGS)[inside].astype(int)
    down, right = (places - place for places, place in zip(np.nonzero(inside), (row, column), strict=True))
    wedge = (down > 0) + 2 * (right > 0) + 4 * (abs(down) > abs(right))

    def sums(weights: np.ndarray | None = None) -> np.ndarray:
        totals = np.bincount(ring * WEDGES + wedge, weights, minlength=RINGS * WEDGES)
        return totals.reshape(RINGS, WEDGES).astype(float)

    pixels = sums()
    share = pixels.sum(axis=1) / pixels.sum()
    features = {}
    for name, image in images.items():
        signal = sums(image[inside])
        means = signal / pixels  # NaN in a wedge without pixels
        fraction = signal.sum(axis=1) / signal.sum()
        measures = {
            "FracAtD": fraction,
            "MeanFrac": fraction / (share + np.finfo(float).eps),
            "RadialCV": np.where(share > 0, np.nanstd(means, axis=1) / np.nanmean(means, axis=1), 0),
        }
        for key, of_rings in measures.items():
            for ring_number, value in enumerate(of_rings, start=1):
                features[f"RadialDistribution_{key}_{name}_{ring_number}of{RINGS}"] = value
    return features


def zernike_moments(images: dict[str, np.ndarray], cell: np.ndarray) -> dict[str, float]:
    """Return the magnitudes of the Zernike moments of the shape and of every image, in the smallest circle round the cell."""
    from centrosome import zernike

    (centre,), (radius,) = zernike.minimum_enclosing_circle(cell.astype(int), np.array([1]))
    rows, columns = np.nonzero(cell)
    indexes = zernike.get_zernike_indexes(10)
    x, y = (columns - centre[1]) / radius, (rows - centre[0]) / radius
    moments = zernike.construct_zernike_polynomials(x, y, indexes)
    of_shape = np.abs(moments.sum(axis=0)) / (np.pi * radius**2)
    features = {f"AreaShape_Zernike_{n}_{m}": value for (n, m), value in zip(indexes, of_shape, strict=True)}
    for name, image in images.items():
        of_image = np.abs(image[cell].astype(float) @ moments) / len(rows)
        for (n, m), value in zip(indexes, of_image, strict=True):
            features[f"RadialDistribution_ZernikeMagnitude_{name}_{n}_{m}"] = value
    return features


def colocalization(
    first: str, first_image: np.ndarray, second: str, second_image: np.ndarray, cell: np.ndarray
) -> dict[str, float]:
    """Return correlation and colocalization of two images in the cell."""
    from cp_measure.core import measurecolocalization as cp

    mask = cell.astype(np.intp)
    values = {
        **cp.get_correlation_pearson(first_image, second_image, mask),
        **cp.get_correlation_overlap(first_image, second_image, mask),
        **cp.get_correlation_manders_fold(first_image, second_image, mask),
        **cp.get_correlation_rwc(first_image, second_image, mask),
    }
    of_first, of_second = costes(first_image, second_image, cell)
    values |= {"Correlation_Costes_1": [of_first], "Correlation_Costes_2": [of_second]}
    pairs = (f"{first}_{second}", f"{second}_{first}")
    features = {
        f"Correlation_{n}_{p}": values[f"Correlation_{n}_{i}"][0] for n in BOTH_WAYS for i, p in enumerate(pairs, 1)
    }
    features[f"Correlation_Correlation_{pairs[0]}"] = values["Correlation_Pearson"][0]
    features[f"Correlation_Overlap_{pairs[0]}"] = values["Correlation_Overlap"][0]
    return features


def costes(first: np.ndarray, second: np.ndarray, cell: np.ndarray) -> tuple[float, float]:
    """Return Costes' coefficients both ways: as in CellProfiler, the thresholds are the whole image's, the sums the cell's."""
    from cp_measure.core.measurecolocalization import bisection_costes

    thresholds = bisection_costes(None, None, first.ravel(), second.ravel(), COSTES_STEPS)
    if not np.isfinite(thresholds).all():
        return np.nan, np.nan
    both = cell & (first > thresholds[0]) & (second > thresholds[1])
    if not both.any():
        return 0.0, 0.0
    return tuple(
        image[both].sum() / image[cell & (image >= threshold)].sum()
        for image, threshold in zip((first, second), thresholds, strict=True)
    )


def position_of_maximum(values: np.ndarray) -> int:
    """Return where in the flattened array the maximum is; of several, the one that CellProfiler takes.

    CellProfiler takes the last of NumPy's unstable sort, which is another one on processors with vector instructions for it.
    Extended precision has no such instructions, so it is sorted alike everywhere, and as on CellProfiler's own NumPy.
    """
    return int(np.argsort(values.astype(np.longdouble), axis=None)[-1])
