"""Hard pairs: targets whose morphology differs from the source's (paper: Discussion)."""

from __future__ import annotations

from typing import Any

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.system.progress import Progress
from pci_bench.training.objectives.reconstruction import Reconstruction, ReconstructionModel
from pci_bench.training.pairs import Epoch, draw_epoch, draw_targets
from pci_bench.training.recipe import Recipe

CELLS_PER_PASS = 512


class HardPairs(Reconstruction):
    """The objective of a model of pairs, with the most different of several partners as each cell's target.

    Different in :func:`morphology`, which is measured on the structural markers only. Held-out pairs are drawn as for
    paired cell inpainting, every partner equally likely, so that losses compare.

    Parameters
    ----------
    model, cells, recipe, progress
        As for :class:`~pci_bench.training.objectives.reconstruction.Reconstruction`.
    partners
        How many are drawn for each cell, of which the most different is taken; 1 is paired cell inpainting.
    """

    def __init__(self, model: ReconstructionModel, cells: Cells, recipe: Recipe, progress: Progress, partners: int):
        super().__init__(model, cells, recipe, progress)
        self.partners = partners
        self._measured: np.ndarray | None = None

    def draw(self, crops: np.ndarray, number: int) -> Epoch:
        """Return an epoch's pairs: as usual, but for their targets."""
        images = self.images[self.training]
        epoch = draw_epoch(images, self.recipe.seed, number)
        if self._measured is None:
            self._measured = self._of_training_cells(crops)
        rng = np.random.default_rng([self.recipe.seed, number, 1])
        targets = hard_targets(images, self._measured, self.partners, rng)
        return Epoch(epoch.sources, targets[epoch.sources], epoch.source_flips, epoch.target_flips)

    def _of_training_cells(self, crops: np.ndarray) -> np.ndarray:
        """Return the standardised morphology of the training cells."""
        markers = [i for i, c in enumerate(self.cells.channels) if c.role == "marker"]
        measured: np.ndarray = np.concatenate(
            [
                morphology(self.rescaled(crops, self.training[start : start + CELLS_PER_PASS])[:, markers])
                for start in range(0, len(self.training), CELLS_PER_PASS)
            ]
        )
        spread = measured.std(axis=0)
        standardised: np.ndarray = (measured - measured.mean(axis=0)) / np.where(spread > 0, spread, 1)
        return standardised


def morphology(markers: np.ndarray) -> np.ndarray:
    """Return measures of a cell's shape and texture that flips and quarter turns leave as they are.

    For each marker: mean and SD of its intensity; the SD of its intensity's distribution in space along its major and its
    minor axis, in pixels; and the mean magnitude of its gradient, per pixel.

    Parameters
    ----------
    markers
        Marker channels (n, markers, rows, columns), not negative.

    Returns
    -------
    ndarray
        (n, 5 × markers) float64, marker by marker.

    Examples
    --------
    >>> crop = np.zeros((1, 1, 9, 9))
    >>> crop[0, 0, 4, 2:7] = 1
    >>> np.round(morphology(crop)[0], 2)
    array([0.06, 0.24, 1.41, 0.  , 0.09])
    """
    crops = np.asarray(markers, np.float64)
    rows, columns = np.indices(crops.shape[2:])
    mass = np.maximum(crops.sum(axis=(2, 3)), np.finfo(float).tiny)

    def expected(values: Any) -> np.ndarray:
        return np.asarray((crops * values).sum(axis=(2, 3)) / mass)

    row, column = expected(rows)[..., None, None], expected(columns)[..., None, None]
    down, across, mixed = (
        expected((rows - row) ** 2),
        expected((columns - column) ** 2),
        expected((rows - row) * (columns - column)),
    )
    middle, half = (down + across) / 2, np.hypot((down - across) / 2, mixed)
    gradient = np.hypot(*np.gradient(crops, axis=(2, 3))).mean(axis=(2, 3))
    measures = [
        crops.mean(axis=(2, 3)),
        crops.std(axis=(2, 3)),
        np.sqrt(middle + half),
        np.sqrt(np.maximum(middle - half, 0)),
        gradient,
    ]
    return np.stack(measures, axis=2).reshape(len(crops), -1)


def hard_targets(images: np.ndarray, measured: np.ndarray, partners: int, rng: np.random.Generator) -> np.ndarray:
    """Return for every cell the most different of several other cells of its image, drawn with replacement.

    Parameters
    ----------
    images
        Image of every cell (n,) int; every image has at least two cells.
    measured
        (n, measures); the difference of two cells is the Euclidean distance.
    partners
        How many are drawn.
    rng
        The generator.

    Returns
    -------
    ndarray
        (n,) int positions.

    Examples
    --------
    >>> measured = np.array([[0.0], [1.0], [9.0]])
    >>> hard_targets(np.zeros(3, int), measured, 20, np.random.default_rng(0))
    array([2, 2, 0])
    """
    best, farthest = np.zeros(len(images), np.int64), np.full(len(images), -1.0)
    for _ in range(partners):
        drawn = draw_targets(images, rng.random(len(images)))
        distance = np.linalg.norm(measured[drawn] - measured, axis=1)
        better = distance > farthest
        best[better], farthest[better] = drawn[better], distance[better]
    return best
