"""More than one source cell for every target."""

from __future__ import annotations

import numpy as np

from pci_bench.data.cells import Cells
from pci_bench.errors import UserError
from pci_bench.system.progress import Progress
from pci_bench.training.crops import Batches
from pci_bench.training.objectives.reconstruction import Reconstruction, ReconstructionModel
from pci_bench.training.pairs import flipped
from pci_bench.training.recipe import Recipe


class SeveralSources(Reconstruction):
    """The objective of a model that predicts a cell from `sources` others of its image; single sources for held-out pairs.

    An epoch visits every cell as a source once; where an image's cells do not fill its last group, others of them are drawn a
    second time. A batch is so many source cells, of as many targets as there are groups: what an epoch costs and sees is what
    one of paired cell inpainting does, with fewer targets.

    Parameters
    ----------
    model, cells, recipe, progress
        As for :class:`~pci_bench.training.objectives.reconstruction.Reconstruction`.
    sources
        How many for each target.

    Raises
    ------
    UserError
        As there; and for images with too few cells, or a batch that groups do not fill.
    """

    unit = "source cells"

    def __init__(self, model: ReconstructionModel, cells: Cells, recipe: Recipe, progress: Progress, sources: int):
        super().__init__(model, cells, recipe, progress)
        self.sources = sources
        if recipe.batch % sources:
            raise UserError(
                f"{model.meta.name} has {sources} source cells for each target, and a batch of {recipe.batch} is not divisible by "
                f"that. Use another --batch, such as {recipe.batch + sources - recipe.batch % sources}."
            )
        counts = np.bincount(self.images[self.training])
        enough = counts[self.images[self.training]] > sources
        if not enough.all():
            progress.say(
                f"  {int((~enough).sum()):,} cells of {cells.meta.name} are of images with fewer than {sources + 1} cells; they are left out."
            )
        self.training = self.training[enough]
        if len(self.training) == 0:
            raise UserError(
                f"{model.meta.name} cannot be trained on {cells.meta.name}: it needs images with at least {sources + 1} cells."
            )

    def batches(self, crops: np.ndarray, number: int) -> Batches:
        """Return the batches of an epoch: (sources, group by group; targets), rescaled and flipped."""
        rng = np.random.default_rng([self.recipe.seed, number])
        groups, targets = draw_groups(self.images[self.training], self.sources, rng)
        flips = rng.integers(0, 2, size=(len(groups), self.sources + 1, 2)).astype(bool)
        batch = self.recipe.batch // self.sources

        def prepared(position: int) -> tuple[np.ndarray, np.ndarray]:
            where = slice(position * batch, (position + 1) * batch)
            source = self.rescaled(crops, self.training[groups[where].ravel()])
            target = self.rescaled(crops, self.training[targets[where]])
            return flipped(source, flips[where, :-1].reshape(-1, 2)), flipped(target, flips[where, -1])

        return Batches(prepared, len(groups) // batch, self.recipe.batch)


def draw_groups(images: np.ndarray, sources: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return groups of source cells of one image each, and a target for each group that is none of them.

    Parameters
    ----------
    images
        Image of every cell (n,) int; every image has more than `sources` cells.
    sources
        How many cells a group has.
    rng
        The generator.

    Returns
    -------
    groups : ndarray
        (groups, sources) int positions: every cell once, and where the last group of an image is not full, others of its
        cells once more. Their order is random.
    targets : ndarray
        (groups,) int positions, each other cell of the image equally likely.

    Examples
    --------
    >>> groups, targets = draw_groups(np.zeros(7, int), 2, np.random.default_rng(0))
    >>> groups.shape, targets.shape
    ((4, 2), (4,))
    """
    groups, targets = [], []
    for image in np.unique(images):
        members = rng.permutation(np.flatnonzero(images == image))
        last = len(members) % sources
        if last:
            members = np.concatenate([members, rng.permutation(members[:-last])[: sources - last]])
        for group in members.reshape(-1, sources):
            groups.append(group)
            targets.append(rng.choice(np.setdiff1d(members, group)))
    order = rng.permutation(len(groups))
    return np.stack(groups)[order], np.stack(targets)[order]
