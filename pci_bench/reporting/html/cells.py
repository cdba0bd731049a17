"""The cells that a report shows: reopened where the cache holds them, a stratified sample of their crops in one sprite."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api import loading
from pci_bench.api.dataset import DATASETS
from pci_bench.data.cells import Cells, subsample
from pci_bench.data.observations import obs_strings
from pci_bench.data.pictures import tile_side, tiles, turns
from pci_bench.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

    from pci_bench.runs.results import Result

LARGEST_SAMPLE = 4000
LARGEST_SPRITE = 7_500_000  # bytes; a third more as text, which leaves the rest of 15 MB to everything else
QUALITIES = (82, 70, 55, 40, 25)


def opened(result: Result) -> Cells | str:
    """Return the cells that a result is of, or a sentence why they cannot be shown.

    Nothing is built or fetched: the dataset must lie in the cache, with the content that was evaluated.
    """
    name = result.dataset.name
    if name not in DATASETS:
        return f"Nothing installed knows the dataset '{name}', so there are no crops."
    try:
        dataset = DATASETS.get(name)
        if loading.place_of(dataset) is None:
            return f"The cells of {name} are not in the cache. `pci-bench data get {name}` puts them there; then make the report again."
        cells = loading.load(dataset)
        if result.dataset.limit is not None:
            cells = subsample(cells, result.dataset.limit, int(result.run.get("seed", 0)))
    except UserError as error:
        return f"The cells of {name} cannot be shown. {error}"
    if cells.sha256 != result.dataset.sha256:
        return (
            f"The cells of {name} in the cache are not those that were evaluated (sha256 {cells.sha256[:12]}… instead of "
            f"{result.dataset.sha256[:12]}…), so there are no crops. Run the benchmark again."
        )
    if not cells.has_crops:
        return f"{name} has measured profiles and no crops, so there are no pictures."
    return cells


def scattered(cells: Cells, count: int, column: str, seed: int = 0) -> list[str]:
    """Return names of at most `count` cells, as evenly over a column's values as there are cells, and over images for each value.

    They are drawn by `seed`, independent of the cells' order; where there are more values than cells, so are the values.
    """
    names = cells.obs["cell"].astype(str).to_numpy()
    values, images = obs_strings(cells.obs, column), obs_strings(cells.obs, "image")
    shuffled = np.random.default_rng(seed).permutation(np.argsort(names, kind="stable"))
    of_image = np.unique(np.stack([values, images]), axis=1, return_inverse=True)[1].ravel()[shuffled]
    shuffled = shuffled[np.argsort(turns(of_image), kind="stable")]
    return [str(n) for n in names[shuffled[np.argsort(turns(values[shuffled]), kind="stable")[:count]]]]


@dataclass
class Shown:
    """The cells that a page names: first those with a tile in the sprite, by dataset and name, then those without."""

    tiles: dict[tuple[int, str], int] = field(default_factory=dict)
    others: dict[tuple[int, str], int] = field(default_factory=dict)
    labels: dict[tuple[int, str], str] = field(default_factory=dict)

    def give_tiles(self, dataset: int, names: Iterable[str], most: int) -> None:
        """Give tiles to the first of some cells that have none yet, until the dataset has `most`."""
        left = most - sum(d == dataset for d, _ in self.tiles)
        for name in names:
            if left <= 0:
                return
            if (dataset, name) not in self.tiles:
                self.tiles[dataset, name] = len(self.tiles)
                left -= 1

    def has_tile(self, dataset: int, name: str) -> bool:
        """Return whether a cell can be seen."""
        return (dataset, name) in self.tiles

    def index(self, dataset: int, name: str, label: str) -> int:
        """Return a cell's position in the page's list of cells."""
        key = (dataset, name)
        self.labels.setdefault(key, label)
        if key in self.tiles:
            return self.tiles[key]
        return self.others.setdefault(key, len(self.tiles) + len(self.others))

    def listed(self) -> list[list[str]]:
        """Return name and label of every cell, in the order of their positions."""
        return [[key[1], self.labels.get(key, "")] for key in (*self.tiles, *self.others)]


@dataclass(frozen=True)
class Sprite:
    """All tiles in one image: its text for ``url(…)``, its size in bytes, and how tiles lie in it."""

    uri: str
    size: int
    tile: int
    columns: int
    rows: int


def sprite(shown_cells: Shown, opened_cells: Sequence[Cells | str]) -> Sprite | None:
    """Return the tiles of all shown cells in one image, as the smallest of JPEG, WebP and PNG; None where there are none."""
    from PIL import Image

    if not shown_cells.tiles:
        return None
    available = [c for c in opened_cells if isinstance(c, Cells)]
    tile = max(map(tile_side, available))
    columns = int(np.ceil(np.sqrt(len(shown_cells.tiles))))
    rows = -(-len(shown_cells.tiles) // columns)
    canvas = np.zeros((rows * tile, columns * tile, 3), np.uint8)
    for number, cells in enumerate(opened_cells):
        if not isinstance(cells, Cells):
            continue
        positions = {str(name): position for position, name in enumerate(cells.obs["cell"].astype(str))}
        wanted = sorted(
            (positions[name], place) for (dataset, name), place in shown_cells.tiles.items() if dataset == number
        )
        for start in range(0, len(wanted), 256):  # in the order of the store, whose chunks are of many cells
            batch = wanted[start : start + 256]
            images = tiles(cells, [position for position, _ in batch], tile)
            for pixels, (_, place) in zip(images, batch, strict=True):
                y, x = divmod(place, columns)
                canvas[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile] = pixels
    kind, content = smallest(Image.fromarray(canvas))
    return Sprite(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", len(content), tile, columns, rows)


def smallest(image: Image) -> tuple[str, bytes]:
    """Return the type and the bytes of an image in the smallest of PNG, JPEG and WebP, at a quality that keeps it small."""

    def encoded(kind: str, **options: int) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    best = ("png", encoded("png"))
    for quality in QUALITIES:
        candidates = [best, ("jpeg", encoded("jpeg", quality=quality)), ("webp", encoded("webp", quality=quality))]
        best = min(candidates, key=lambda pair: len(pair[1]))
        if len(best[1]) <= LARGEST_SPRITE:
            break
    return best
