"""How well a segmenter finds the cell in the middle of a crop: intersection over union with what is known to be there.

    PCI_BENCH_TEST_DATA=FOLDER python speed/segmentation.py [--segmenter otsu-watershed] [--cells 2563]

Against the simulated cells' own masks (yeast-sim), and, where PCI_BENCH_TEST_DATA names a folder that holds fields-yeast,
against the publishers' segmentation of two real fields of view (BooneAndrewsLab/CycleNET): 64×64 crops around every object that
lies in its crop as a whole, segmented on the cytoplasm channel. Their objects are cells, mothers with buds and clumps, outlined
generously; those at least 0.9 as large as their convex hull are counted a second time, as single cells.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile
from skimage.measure import regionprops

from pci_bench import load_dataset
from pci_bench.api.segmenter import BUD, MOTHER
from pci_bench.data.cells import Channel, rescaled
from pci_bench.segmentation import DEFAULT_SEGMENTER, SEGMENTERS

CROP = 64
CYTOPLASM = (Channel("cytoplasm", "marker"),)
SINGLE = 0.9  # of the convex hull


def overlap(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return intersection over union (n,) of two stacks of masks (n, rows, columns); 0 where both are empty."""
    union = (truth | predicted).sum(axis=(1, 2))
    return (truth & predicted).sum(axis=(1, 2)) / np.maximum(union, 1)


def summary(what: str, overlaps: np.ndarray) -> str:
    low, middle, high = np.quantile(overlaps, [0.1, 0.5, 0.9])
    shares = ", ".join(f"≥ {bound}: {np.mean(overlaps >= bound):.3f}" for bound in (0.5, 0.75))
    return f"{what:34s} median {middle:.3f} ({low:.3f}–{high:.3f}); {shares}; n = {len(overlaps):,}"


def cell(masks: np.ndarray) -> np.ndarray:
    """Return where the middle cell is, its bud included."""
    return (masks == MOTHER) | (masks == BUD)


def simulated(segmenter: str, limit: int) -> None:
    """Print how well the masks of yeast-sim are found again."""
    cells = load_dataset("yeast-sim")
    segment = SEGMENTERS.get(segmenter).open(cells.channels, "cpu")
    chosen = np.sort(np.random.default_rng(0).permutation(len(cells))[:limit])
    crops = cells.crops(chosen, masks=True)
    truth = crops[:, -1].astype(int)
    segment(crops[:1, :-1])  # imports are not what is timed
    start = time.process_time()
    predicted = segment(crops[:, :-1])
    seconds = time.process_time() - start
    budded, split = (truth == BUD).any(axis=(1, 2)), (predicted == BUD).any(axis=(1, 2))
    buds = overlap(truth == BUD, predicted == BUD)
    print(f"yeast-sim, {len(crops):,} crops, {len(crops) / seconds:.0f} crops per second of one core")
    print(summary("  cell (mother and bud)", overlap(cell(truth), cell(predicted))))
    print(summary("  mother", overlap(truth == MOTHER, predicted == MOTHER)))
    print(summary("  bud, where planted", buds[budded]))
    print(summary("  bud, where planted and found", buds[budded & split]))
    sizes = (truth == BUD).sum(axis=(1, 2))
    for low, high in ((1, 40), (40, 100), (100, 10_000)):
        some = budded & (sizes >= low) & (sizes < high)
        print(
            f"  buds of {low}–{high - 1} px: {split[some].mean():.3f} found, IoU ≥ 0.5: {np.mean(buds[some] >= 0.5):.3f}; n = {some.sum():,}"
        )
    cut = np.ones((CROP, CROP), bool)
    cut[1:-1, 1:-1] = False
    at_border = ((truth == BUD) & cut).any(axis=(1, 2))
    for which, some in (("inside the crop", budded & ~at_border), ("at its border", at_border)):
        print(f"  buds {which}: {split[some].mean():.3f} found; n = {some.sum():,}")
    print(f"  planted buds found: {split[budded].mean():.3f}; buds invented where none is: {split[~budded].mean():.3f}")


def objects(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, bool]]:
    """Yield the crop (rows, columns), the mask and whether it is a single cell, of every object that lies in its crop as a whole."""
    for file in sorted(folder.glob("*_labeled.tiff")):
        image = tifffile.imread(file.with_name(file.name.replace("_labeled", "-ch3sk1fk1fl1")))
        labels = tifffile.imread(file)
        for item in regionprops(labels):
            top, left = (round(c) - CROP // 2 for c in item.centroid)
            window = np.s_[top : top + CROP, left : left + CROP]
            inside = (
                top < item.bbox[0] and left < item.bbox[1] and top + CROP > item.bbox[2] and left + CROP > item.bbox[3]
            )
            if inside and min(top, left) >= 0 and image[window].shape == (CROP, CROP):
                yield image[window], labels[window] == item.label, item.solidity >= SINGLE


def published(segmenter: str, folder: Path) -> None:
    """Print how well the publishers' objects are found."""
    images, truth, single = map(np.array, zip(*objects(folder), strict=True))
    predicted = SEGMENTERS.get(segmenter).open(CYTOPLASM, "cpu")(rescaled(images[:, None], CYTOPLASM, "minmax"))
    overlaps = overlap(truth, cell(predicted))
    print(f"fields-yeast, {len(images):,} objects of the publishers")
    print(summary("  all objects", overlaps))
    print(summary("  single cells", overlaps[single]))
    areas = cell(predicted)[single].sum(axis=(1, 2)) / truth[single].sum(axis=(1, 2))
    print(f"  area over the publishers', single cells: median {np.median(areas):.2f}")
    print(f"  buds found: {np.mean((predicted == BUD).any(axis=(1, 2))):.3f} of all objects")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segmenter", default=DEFAULT_SEGMENTER)
    parser.add_argument("--cells", type=int, default=2563)
    options = parser.parse_args()
    if reason := SEGMENTERS.get(options.segmenter).unavailable_reason():
        parser.exit(1, f"{options.segmenter} cannot be run: {reason}\n")
    simulated(options.segmenter, options.cells)
    folder = Path(os.environ.get("PCI_BENCH_TEST_DATA", "")) / "fields-yeast"
    if "PCI_BENCH_TEST_DATA" in os.environ and folder.is_dir():
        published(options.segmenter, folder)
    else:
        print("fields-yeast: not measured; set PCI_BENCH_TEST_DATA to the folder that holds it")


if __name__ == "__main__":
    main()
