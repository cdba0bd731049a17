"""A small vision transformer that is shown a quarter of a crop's patches and draws the rest (blocks of timm)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pci_bench import Compute
from pci_bench.system.timm_import import import_timm
from pci_bench.weights import network_in, read_header

HEADS, BLOCKS = 8, 6
DECODER_WIDTH, DECODER_HEADS, DECODER_BLOCKS = 96, 3, 2
SPREAD = 0.02  # of the first weights of what is added to a patch
EPSILON = 1e-6


def _blocks(width: int, heads: int, count: int) -> nn.Sequential:
    block = import_timm().models.vision_transformer.Block
    return nn.Sequential(*[block(width, heads, qkv_bias=True) for _ in range(count)])


def positions(side: int, width: int) -> Tensor:
    """Return sines and cosines of the row and the column of each patch. -> (side², width), width divisible by 4."""
    frequency = 10000 ** (-torch.arange(width // 4) / (width // 4))
    angle = torch.arange(side)[:, None] * frequency
    along = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows, columns = along[:, None].expand(-1, side, -1), along[None].expand(side, -1, -1)
    return torch.cat([rows, columns], dim=2).reshape(side * side, width)


def patches(crops: Tensor, patch: int) -> Tensor:
    """Return the pixels of every patch. (b, channels, side, side) -> (b, patches, channels × patch²)."""
    return nn.functional.unfold(crops, patch, stride=patch).transpose(1, 2)


def normalised_patches(crops: Tensor, patch: int) -> Tensor:
    """Return the pixels of every patch less their mean and divided by their SD, all channels together."""
    pixels = patches(crops, patch)
    variance, mean = torch.var_mean(pixels, dim=2, keepdim=True, correction=0)
    normalised: Tensor = (pixels - mean) / (variance + EPSILON).sqrt()
    return normalised


class Transformer(nn.Module):
    """The encoder: patches with their positions through blocks of attention.

    Parameters
    ----------
    channels
        Of the crops.
    patch
        Its side in pixels.
    length
        Of a patch's vector: divisible by the number of heads, and by 4.
    """

    def __init__(self, channels: int, patch: int, length: int):
        super().__init__()
        self.config: dict[str, Any] = {"channels": channels, "patch": patch, "length": length}
        self.patch, self.length = patch, length
        self.embed = nn.Linear(channels * patch * patch, self.length)
        self.blocks = _blocks(self.length, HEADS, BLOCKS)
        self.norm = nn.LayerNorm(self.length, EPSILON)

    def forward(self, crops: Tensor, shown: Tensor | None = None) -> Tensor:
        """Return a vector for every patch, or for those that are shown. (b, channels, side, side), (b, n) int -> (b, n, length)."""
        tokens = self.embed(patches(crops, self.patch))
        tokens = tokens + positions(crops.shape[2] // self.patch, self.length).to(tokens)
        if shown is not None:
            tokens = tokens.gather(1, shown[..., None].expand(-1, -1, self.length))
        vectors: Tensor = self.norm(self.blocks(tokens))
        return vectors


class MaskedAutoencoder(nn.Module):
    """The encoder, and a smaller transformer that draws the patches that were not shown.

    Parameters
    ----------
    channels, patch, length
        As of :class:`Transformer`.
    """

    def __init__(self, channels: int, patch: int, length: int):
        super().__init__()
        self.config = {"channels": channels, "patch": patch, "length": length}
        self.encoder = Transformer(channels, patch, length)
        self.narrowed = nn.Linear(self.encoder.length, DECODER_WIDTH)
        self.hidden = nn.Parameter(SPREAD * torch.randn(DECODER_WIDTH))
        self.decoder = _blocks(DECODER_WIDTH, DECODER_HEADS, DECODER_BLOCKS)
        self.norm = nn.LayerNorm(DECODER_WIDTH, EPSILON)
        self.pixels = nn.Linear(DECODER_WIDTH, channels * patch * patch)

    def loss(self, crops: Tensor, order: Tensor, shown: int) -> Tensor:
        """Return the mean squared error of the hidden patches, each less its mean and divided by its SD.

        Parameters
        ----------
        crops
            (b, channels, side, side).
        order
            (b, patches) int: the patches in random order; the first `shown` are shown.
        """
        where, patch = order[:, :shown], self.encoder.patch
        tokens = self.narrowed(self.encoder(crops, where))
        every = self.hidden.to(tokens).expand(len(crops), order.shape[1], -1)
        every = every.scatter(1, where[..., None].expand(-1, -1, DECODER_WIDTH), tokens)
        every = every + positions(crops.shape[2] // patch, DECODER_WIDTH).to(tokens)
        drawn = self.pixels(self.norm(self.decoder(every)))
        hidden = order[:, shown:, None].expand(-1, -1, drawn.shape[2])
        truth = normalised_patches(crops, patch).gather(1, hidden)
        return nn.functional.mse_loss(drawn.gather(1, hidden).float(), truth)


def open_transformer(weights: Path, device: str) -> Compute:
    """Return the function of crops that gives the mean of all patches' vectors, with the encoder of a weights file."""
    encoder = network_in(weights, lambda: Transformer(**read_header(weights).config)).to(device)

    def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {"": encoder(torch.from_numpy(crops).to(device)).mean(dim=1).float().cpu().numpy()}

    return compute
