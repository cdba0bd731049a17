"""How well segmenters of whole fields find cells and nuclei.

    PCI_BENCH_TEST_DATA=FOLDER python speed/field_segmentation.py

Three comparisons. Planted nuclei: simulated fields of textured, blurred ellipses that may overlap a little, whose truth is known.
fields-yeast, where the folder holds it: two real fields with the segmentation of their publishers (BooneAndrewsLab/CycleNET).
rxrx1-fields, where the folder holds it: 36 real fields of the DNA stain of four cell lines, of which nobody has published a
segmentation: the count is printed beside that of a blob detector that knows nothing of ours.

An object of the truth counts as found where one object overlaps it with an intersection over union (IoU) of at least 0.5.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.feature import blob_log, peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.measure import regionprops
from skimage.segmentation import watershed

from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, in_reading_order

SINGLE = 0.9  # of its convex hull: an object of the publishers that fills so much is a single cell
LINES = {"HEPG2": "HepG2", "HUVEC": "HUVEC", "RPE": "RPE", "U2OS": "U2OS"}
HEADER = f"{'':34s} {'truth':>6s} {'found':>6s} {'recall':>7s} {'precision':>9s} {'median IoU':>10s} {'CPU s':>6s}"


def segmenter(name: str) -> Callable[[np.ndarray], np.ndarray]:
    found = FIELD_SEGMENTERS.get(name)
    return found.open(found.Params(), "cpu")


def otsu_watershed(image: np.ndarray) -> np.ndarray:
    """Return what scikit-image's documentation does: Otsu's threshold, peaks of the distance transform, watershed."""
    smooth = gaussian(image, 1)
    bright = smooth > threshold_otsu(smooth)
    distance = ndimage.distance_transform_edt(bright)
    peaks = peak_local_max(ndimage.gaussian_filter(distance, 1), min_distance=5, labels=ndimage.label(bright)[0])
    markers = np.zeros(image.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return in_reading_order(watershed(-distance, markers, mask=bright))


def overlaps(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the pixels (n, m) that every object of the truth shares with every found one, of labels without gaps."""
    rows, columns = int(truth.max()) + 1, int(found.max()) + 1
    pairs = np.bincount(truth.ravel().astype(np.int64) * columns + found.ravel(), minlength=rows * columns)
    return pairs.reshape(rows, columns)[1:, 1:]


def agreement(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return the IoU (n, m) of every object of the truth with every found one."""
    shared = overlaps(truth, found)
    sizes, own = np.bincount(truth.ravel())[1:], np.bincount(found.ravel())[1:]
    return shared / (sizes[:, None] + own - shared)


def line(name: str, ious: list[np.ndarray], seconds: float) -> str:
    """Return recall, precision and the median IoU of the found objects of several fields."""
    best = np.concatenate([iou.max(axis=1, initial=0) for iou in ious])
    of_found = np.concatenate([iou.max(axis=0, initial=0) for iou in ious])
    middle = np.median(best[best >= 0.5]) if (best >= 0.5).any() else 0
    numbers = f"{np.mean(best >= 0.5):7.3f} {np.mean(of_found >= 0.5):9.3f} {middle:10.3f}"
    return f"{name:34s} {len(best):6,} {len(of_found):6,} {numbers} {seconds / len(ious):6.2f}"


def planted(diameter: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a field (512, 512) float32 of nuclei and its labels; no nucleus covers more than a tenth of another."""
    rng = np.random.default_rng(seed)
    labels, image, areas = np.zeros((512, 512), int), np.zeros((512, 512)), np.ones(count + 1)
    reach = int(diameter)
    placed = 0
    for _ in range(100 * count):
        row, column = rng.uniform(0, 512, 2)
        angle, size, ratio = rng.uniform(0, np.pi), diameter * rng.lognormal(0, 0.12), rng.uniform(1, 1.6)
        window = tuple(slice(max(0, int(place) - reach), int(place) + reach + 1) for place in (row, column))
        rows, columns = np.arange(512)[window[0], None] - row, np.arange(512)[None, window[1]] - column
        along, across = rows * np.sin(angle) + columns * np.cos(angle), columns * np.sin(angle) - rows * np.cos(angle)
        inside = np.hypot(along / np.sqrt(ratio), across * np.sqrt(ratio)) <= size / 2
        covered = np.bincount(labels[window][inside], minlength=count + 1)
        covered[0] = 0
        if (covered > 0.1 * areas).any() or covered.sum() > 0.1 * inside.sum():
            continue
        placed += 1
        areas[placed] = inside.sum()
        labels[window][inside & (labels[window] == 0)] = placed
        image[window][inside] += rng.lognormal(0, 0.25)
        if placed == count:
            break
    texture = ndimage.gaussian_filter(rng.normal(size=image.shape), diameter / 12)
    haze = 0.5 * ndimage.gaussian_filter(image, 1.5 * diameter)
    image = ndimage.gaussian_filter(image * (1 + 0.15 * texture / texture.std()), 1) + haze + 0.05
    field = rng.poisson(150 * np.maximum(image, 0)) / 1000
    return field.astype(np.float32), in_reading_order(labels)


def measured(methods: dict[str, Callable], fields: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Print a line per method."""
    for name, segment in methods.items():
        segment(fields[0][0][:64, :64])  # imports are not what is timed
        start = time.process_time()
        found = [segment(image) for image, _ in fields]
        seconds = time.process_time() - start
        print(line(f"  {name}", [agreement(t, f) for (_, t), f in zip(fields, found, strict=True)], seconds))


def yeast(folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return image and labels of the fields of yeast."""
    files = sorted(folder.glob("*_labeled.tiff"))
    images = [tifffile.imread(f.with_name(f.name.replace("_labeled", "-ch3sk1fk1fl1"))) for f in files]
    return [
        (image.astype(np.float32) / 65535, in_reading_order(tifffile.imread(file)))
        for image, file in zip(images, files, strict=True)
    ]


def in_parts(truth: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of each object of the truth how many found ones lie mostly inside it, and the IoU of all of them together."""
    shared, own = overlaps(truth, found), np.bincount(found.ravel())[1:]
    members = shared >= 0.5 * own
    together, size = (shared * members).sum(axis=1), (own * members).sum(axis=1)
    return members.sum(axis=1), together / (np.bincount(truth.ravel())[1:] + size - together)


def main() -> None:
    nuclei = {name: segmenter(name) for name in ("nuclei", "otsu-components")} | {"Otsu + watershed": otsu_watershed}
    print(HEADER)
    for what, diameter, count in (("sparse", 25, 100), ("dense", 25, 250), ("crowded", 14, 700)):
        fields = [planted(diameter, count, seed) for seed in range(4)]
        print(f"{what}, nuclei of {diameter} pixels")
        measured(nuclei, fields)
    data = Path(os.environ.get("PCI_BENCH_TEST_DATA", ""))
    if "PCI_BENCH_TEST_DATA" not in os.environ:
        print("Real fields: not measured; set PCI_BENCH_TEST_DATA to the folder that holds them")
        return
    if (data / "fields-yeast").is_dir():
        fields = yeast(data / "fields-yeast")
        print("fields-yeast, all objects of the publishers")
        measured({"cells": segmenter("cells"), "Otsu + watershed": otsu_watershed}, fields)
        for name, segment in {"cells": segmenter("cells"), "Otsu + watershed": otsu_watershed}.items():
            found = [segment(image) for image, _ in fields]
            single = np.concatenate([[item.solidity >= SINGLE for item in regionprops(truth)] for _, truth in fields])
            best = np.concatenate([agreement(t, f).max(axis=1) for (_, t), f in zip(fields, found, strict=True)])
            parts, together = map(
                np.concatenate,
                zip(*(in_parts(t, f) for (_, t), f in zip(fields, found, strict=True)), strict=True),
            )
            outside = sum(
                int(f.max() - (overlaps(t, f).sum(0) >= 0.5 * np.bincount(f.ravel())[1:]).sum())
                for (_, t), f in zip(fields, found, strict=True)
            )
            print(f"  {name}: recall of the {single.sum()} single cells {np.mean(best[single] >= 0.5):.3f};", end=" ")
            print(
                f"objects in one part {np.mean(parts == 1):.3f}, two {np.mean(parts == 2):.3f}, more {np.mean(parts > 2):.3f};",
                end=" ",
            )
            print(
                f"all parts together IoU ≥ 0.5 {np.mean(together >= 0.5):.3f}, median {np.median(together):.3f};",
                end=" ",
            )
            print(f"{outside} found where the publishers have none")
    if (data / "rxrx1-fields").is_dir():
        print("rxrx1-fields, nuclei per field")
        for line_name, title in LINES.items():
            counts = []
            for file in sorted((data / "rxrx1-fields").glob(f"{line_name}-*/Plate*/*_w1.png")):
                image = np.asarray(Image.open(file), np.float32) / 255
                blobs = blob_log(
                    np.sqrt(image), min_sigma=4, max_sigma=10, num_sigma=5, threshold=None, threshold_rel=0.15
                )
                counts.append((segmenter("nuclei")(image).max(), len(blobs)))
            ours, theirs = np.array(counts).T
            correlation = np.corrcoef(ours, theirs)[0, 1]
            print(
                f"  {title}: {len(ours)} fields; nuclei {ours.sum():,}; blobs {theirs.sum():,}; r of the counts {correlation:.3f}"
            )


if __name__ == "__main__":
    main()
