"""Small screens of raw fields of view in files, with objects planted at known places."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, CROP = 96, 16
CENTRES = (
    (20, 22),
    (24, 60),
    (60, 30),
    (66, 70),
    (46, 48),
)  # far enough from each other and the border for whole crops


@dataclass
class Screen:
    """A folder of fields: two plates, two wells each, channels 1 (marker) and 2 (protein)."""

    root: Path
    centres: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    images: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    labels: dict[str, np.ndarray] = field(default_factory=dict)

    def path(self, plate: str, well: str, channel: str) -> Path:
        return self.root / f"Plate{plate}" / f"{well}_w{channel}.png"


def discs(centres, radius=5, size=SIZE) -> np.ndarray:
    """Return a label image of discs, numbered from 1."""
    rows, columns = np.indices((size, size))
    labels = np.zeros((size, size), np.uint16)
    for number, (row, column) in enumerate(centres, start=1):
        labels[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = number
    return labels


def write_screen(
    root: Path,
    *,
    channels=("1", "2"),
    plates=("1", "2"),
    wells=("A01", "A02"),
    centres=CENTRES,
    dtype=np.uint8,
    size=SIZE,
):
    """Write a screen and its label images (``masks/``), and return it."""
    screen = Screen(root)
    generator = np.random.default_rng(0)
    for plate in plates:
        for well in wells:
            name = f"{plate}-{well}"
            screen.centres[name], screen.labels[name] = list(centres), discs(centres, size=size)
            for channel in channels:
                noise = generator.integers(0, 30, (size, size))
                image = (noise + np.where(screen.labels[name] > 0, 150, 10)).astype(dtype)
                screen.images[name, channel] = image
                file = screen.path(plate, well, channel)
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(file)
            (root / "masks").mkdir(exist_ok=True)
            Image.fromarray(screen.labels[name]).save(root / "masks" / f"{plate}_{well}.png")
    return screen


def write_layout(
    root: Path, text: str = "", *, segment: str = 'masks = "masks/{plate}_{well}.png"', crop: str = ""
) -> Path:
    """Write ``layout.toml`` beside the screen; `text` is further TOML, after what every layout of these tests has."""
    file = root / "layout.toml"
    file.write_text(
        f"""
pattern = "Plate{{plate}}/{{well}}_w{{channel}}.png"

[channels]
GFP = {{ role = "protein", match = "2" }}
DNA = {{ role = "marker", match = "1" }}

[segment]
{segment}

[crop]
size = {CROP}
{crop}
{text}
""",
        encoding="utf-8",
    )
    return file
