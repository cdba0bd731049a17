"""The normalised temperature-scaled cross-entropy (NT-Xent; Chen et al. 2020), with views that are not compared."""

from __future__ import annotations

import math
from abc import ABC
from typing import TYPE_CHECKING

from pci_bench.training.objectives.augmented import AugmentedModel

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TEMPERATURE = 0.2


def nt_xent(first: Tensor, second: Tensor, temperature: float, not_compared: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of finding each view's partner among all other views.

    Of 2 b views with unit vectors z, partner p(i), and C(i) the views that i is compared with:
    mean over i of −log( exp(z_i · z_p(i) / T) / Σ_{j ∈ C(i)} exp(z_i · z_j / T) ).

    Parameters
    ----------
    first, second
        (b, d): row i of both belong together. They are normalised here.
    temperature
        T.
    not_compared
        (b, b) bool: whether the cells i and j are not compared, in any of their views. A view is never compared with itself,
        and always with its partner.

    Examples
    --------
    >>> import torch
    >>> float(nt_xent(torch.eye(2), torch.eye(2), 0.01)) < 1e-6
    True
    """
    import torch
    from torch.nn.functional import cross_entropy, normalize

    with torch.autocast(first.device.type, enabled=False):
        vectors = torch.cat([normalize(first.float()), normalize(second.float())])
        n = len(first)
        likeness = vectors @ vectors.T / temperature
        if not_compared is not None:
            excluded = not_compared & ~torch.eye(n, dtype=torch.bool, device=first.device)
            likeness = likeness.masked_fill(excluded.repeat(2, 2), -math.inf)
        likeness = likeness.masked_fill(torch.eye(2 * n, dtype=torch.bool, device=first.device), -math.inf)
        return cross_entropy(likeness, torch.arange(2 * n, device=first.device).roll(n))


class ContrastiveModel(AugmentedModel, ABC):
    """A network from views to vectors (b, d) that learns which two views belong together.

    Views of one image, or of different groups (``within``), are not compared with each other unless they are partners.

    Examples
    --------
    >>> from pci_bench import ModelMeta
    >>> class Brightness(ContrastiveModel):
    ...     meta = ModelMeta("brightness", "1", "Two views of a cell are alike in brightness", pairs=False)
    ...
    ...     def build(self, channels, width, classes=()):
    ...         import torch
    ...
    ...         network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    ...         network.config = {}
    ...         return network
    """

    loss_name = "normalised temperature-scaled cross-entropy"
    couples_cells = True
    gathers = True

    def loss(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of a batch of two views; while training, of the batch that all processes share."""
        import torch

        from pci_bench.training.synchronised import gathered

        first, second, images, groups = batch
        of_first, of_second = network(torch.cat([first, second])).chunk(2)
        if network.training:
            of_first, of_second = gathered(of_first.float()), gathered(of_second.float())
            images, groups = gathered(images), gathered(groups)
        return nt_xent(of_first, of_second, TEMPERATURE, self.not_compared(images, groups))

    def guess(self, batch: tuple[Tensor, ...]) -> float:
        """Return the loss of a network that finds all views equally alike."""
        import torch

        _, _, images, groups = batch
        same = torch.ones(len(images), 1)
        return float(nt_xent(same, same, TEMPERATURE, self.not_compared(images, groups)))

    def not_compared(self, images: Tensor, groups: Tensor) -> Tensor:
        """Return which cells are not compared (b, b): for pairs those of one image, and those of different groups."""
        apart = groups[:, None] != groups[None]
        return apart | (images[:, None] == images[None]) if self.meta.pairs else apart
