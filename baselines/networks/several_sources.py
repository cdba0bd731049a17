"""Paired cell inpainting from more than one source cell."""

import torch
from torch import Tensor

from pci_bench.inpainting.network import PairedCellInpainting, check_crops


class SeveralSources(PairedCellInpainting):
    """Predicts a target's protein from the mean of its source cells' codes, and from its markers.

    Examples
    --------
    >>> network = SeveralSources(width=0.0625).eval()
    >>> tuple(network(torch.zeros(6, 2, 16, 16), torch.zeros(3, 1, 16, 16)).shape)
    (3, 1, 16, 16)
    """

    def forward(self, source: Tensor, target_markers: Tensor) -> Tensor:
        """Return the predicted protein channels of the target cells.

        Parameters
        ----------
        source
            The source cells of the first target, of the second, and so on: (n × sources, proteins + markers, rows, columns).
        target_markers
            Markers of the target cells (n, markers, rows, columns).

        Returns
        -------
        Tensor
            (n, proteins, rows, columns).
        """
        check_crops(source.shape, self.source_encoder.channels)
        check_crops(target_markers.shape, self.markers)
        of_targets = self.source_encoder(source).unflatten(0, (len(target_markers), -1)).mean(dim=1)
        predicted: Tensor = self.decoder(torch.cat([of_targets, self.marker_encoder(target_markers)], dim=1))
        return predicted
