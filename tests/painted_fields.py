"""A few painted fields of view on two plates, with label images, for tests of preparing and of its quality-control page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

SIZE, CROP, RADIUS, MIN_AREA = 96, 32, 7, 20
CENTRES = [(y, x) for y in (16, 48, 80) for x in (16, 48, 80)]  # of whole cells, whose crops just fit
BORDER = (50, 0)  # of one that touches the field's border
SPECKS = [(32, 30), (32, 62), (64, 30), (64, 62), (32, 10)]
ODD = 'A<b>&"2'  # a well that must be shown as it is
FIELDS = [(plate, well) for plate in ("1", "2") for well in ("A1", ODD, "A3")]
LAYOUT = """
pattern = "plate{plate:[0-9]+}/{well}_{channel}.png"

[channels]
GFP = { role = "protein" }
DNA = { role = "marker" }

[segment]
masks = "plate{plate}/{well}_mask.png"

[crop]
size = 32

[filters]
border   = true
min_area = 20

[dataset]
title      = "Painted fields"
confounder = "plate"
"""
CENTRES_ONLY = LAYOUT.replace(
    'masks = "plate{plate}/{well}_mask.png"',
    'objects = { file = "nuclei.csv", y = "row", x = "column", on = { plate = "{plate}", well = "{well}" } }',
).replace("[filters]\nborder   = true\nmin_area = 20\n", "")


def specks_of(plate: str, well: str) -> int:
    """Return how many specks are in a field: one in the first, none more than five."""
    return 1 + FIELDS.index((plate, well)) % len(SPECKS)


def labels_of(plate: str, well: str) -> np.ndarray:
    """Return a field's label image (96, 96) uint8: nine cells from 1 on, one at the border, then specks."""
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), np.uint8)
    discs = [(*centre, RADIUS) for centre in [*CENTRES, BORDER]]
    discs += [(*centre, 1) for centre in SPECKS[: specks_of(plate, well)]]
    for number, (row, column, radius) in enumerate(discs, 1):
        labels[np.hypot(y - row, x - column) <= radius] = number
    return labels


def image_of(plate: str, well: str, channel: str) -> np.ndarray:
    """Return a field's channel (96, 96) uint8: cells brighter than their ground, both brighter on the second plate."""
    rng = np.random.default_rng([FIELDS.index((plate, well)), channel == "DNA"])
    level = 120 if channel == "DNA" else 60
    ground = 20 * int(plate) + (labels_of(plate, well) > 0) * level
    return np.clip(ground + rng.normal(0, 6, (SIZE, SIZE)), 0, 255).astype(np.uint8)


def write_fields(folder: Path, layout: str = LAYOUT) -> Path:
    """Write the fields, one without a channel, one whose image is damaged, and a table of centres; return the layout's file."""
    rows = []
    for plate, well in FIELDS:
        (folder / f"plate{plate}").mkdir(parents=True, exist_ok=True)
        start = folder / f"plate{plate}" / well
        for channel in ("GFP", "DNA"):
            Image.fromarray(image_of(plate, well, channel)).save(f"{start}_{channel}.png")
        Image.fromarray(labels_of(plate, well)).save(f"{start}_mask.png")
        rows += [(plate, well, y, x) for y, x in CENTRES]
    whole = (folder / "plate1" / "A1_GFP.png").read_bytes()
    (folder / "plate2" / "A8_GFP.png").write_bytes(whole)
    for channel in ("GFP", "DNA", "mask"):
        (folder / "plate2" / f"A9_{channel}.png").write_bytes(whole[:300])
    pd.DataFrame(rows, columns=["plate", "well", "row", "column"]).to_csv(folder / "nuclei.csv", index=False)
    file = folder / "layout.toml"
    file.write_text(layout, encoding="utf-8")
    return file
