"""Paired cell inpainting with a critic that tells predicted from real cells."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from pci_bench.inpainting.network import PairedCellInpainting, scaled

CRITIC_WIDTHS = (64, 128, 256)


class AdversarialInpainting(PairedCellInpainting):
    """The network of paired cell inpainting, and a critic of the protein and markers of a cell.

    The critic (Isola et al. 2017: of patches) has three convolutions of 4×4 pixels in steps of two, each with leaky ReLU, and a
    score for each place of what remains, near 1 for real and near 0 for predicted proteins.

    Examples
    --------
    >>> network = AdversarialInpainting(width=0.0625).eval()
    >>> predicted = network(torch.zeros(3, 2, 32, 32), torch.zeros(3, 1, 32, 32))
    >>> tuple(network.critic(torch.cat([predicted, torch.zeros(3, 1, 32, 32)], dim=1)).shape)
    (3, 1, 4, 4)
    """

    def __init__(self, proteins: int = 1, markers: int = 1, width: float = 1.0):
        super().__init__(proteins, markers, width)
        layers: list[nn.Module] = []
        widths = [proteins + markers, *scaled(CRITIC_WIDTHS, width)]
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.critic = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def critic_that_does_not_learn(self, cells: Tensor) -> Tensor:
        """Return the critic's scores, whose gradient reaches the cells and not the critic."""
        weights = {name: parameter.detach() for name, parameter in self.critic.named_parameters()}
        scores: Tensor = torch.func.functional_call(self.critic, weights, (cells,))
        return scores
