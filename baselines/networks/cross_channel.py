"""Two networks of half the width: one predicts the protein from the markers, the other the markers from the protein."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pci_bench.inpainting.network import LAYERS, SOURCE_WIDTHS, Decoder, SourceEncoder, check_crops, scaled


class CrossChannelEncoder(nn.Module):
    """Both source cell encoders, each of its own channels; a layer is that of the protein's, then that of the markers'."""

    def __init__(self, proteins: int, markers: int, width: float):
        super().__init__()
        self.proteins, self.channels = proteins, proteins + markers
        self.of_protein = SourceEncoder(proteins, width / 2)
        self.of_markers = SourceEncoder(markers, width / 2)

    def features(self, x: Tensor, layers: Iterable[str] = LAYERS) -> dict[str, Tensor]:
        """Return max-pooled activations of the layers. (n, proteins + markers, rows, columns) -> (n, features) each."""
        layers = list(layers)
        check_crops(x.shape, self.channels)
        of_protein = self.of_protein.features(x[:, : self.proteins], layers)
        of_markers = self.of_markers.features(x[:, self.proteins :], layers)
        return {layer: torch.cat([of_protein[layer], of_markers[layer]], dim=1) for layer in layers}


class CrossChannel(nn.Module):
    """Predicts each cell's protein from its markers, and its markers from its protein.

    Parameters
    ----------
    proteins, markers
        Numbers of channels.
    width
        Factor on the filters of both networks together; 1 is that of paired cell inpainting, of which each has half.

    Examples
    --------
    >>> tuple(CrossChannel(1, 2, 0.125).eval()(torch.zeros(3, 3, 16, 16)).shape)
    (3, 3, 16, 16)
    """

    def __init__(self, proteins: int = 1, markers: int = 1, width: float = 1.0):
        super().__init__()
        self.config = {"proteins": proteins, "markers": markers, "width": width}
        self.encoder = CrossChannelEncoder(proteins, markers, width)
        code = scaled(SOURCE_WIDTHS, width / 2)[-1]
        self.to_markers = Decoder(code, markers, width / 2)
        self.to_protein = Decoder(code, proteins, width / 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return the predicted cells, proteins first. (n, proteins + markers, rows, columns) -> the same."""
        check_crops(x.shape, self.encoder.channels)
        proteins = self.encoder.proteins
        protein = self.to_protein(self.encoder.of_markers(x[:, proteins:]))
        markers = self.to_markers(self.encoder.of_protein(x[:, :proteins]))
        return torch.cat([protein, markers], dim=1)
