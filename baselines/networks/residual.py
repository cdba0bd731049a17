"""Paired cell inpainting with a residual encoder, whose last layer is one vector for a cell (paper: Discussion)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench.inpainting.network import (
    EPSILON,
    MARKER_WIDTHS,
    MOMENTUM,
    ConvolutionStack,
    check_crops,
    convolution,
    maximum_over_space,
    scaled,
    upsampled_convolution,
)

STEM_WIDTH = 96
BLOCK_WIDTHS = (128, 256, 256, 384, 384)
HALVED = (1, 3)  # blocks that begin with a step of two pixels
DECODER_WIDTHS = (256, 256, 96)
BLOCKS = tuple(f"block{i}" for i in range(1, len(BLOCK_WIDTHS) + 1))
POOLED = "pooled"


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=EPSILON, momentum=MOMENTUM)


class ResidualBlock(nn.Module):
    """ReLU(x + two convolutions of it), each with batch norm (He et al. 2016); x by a 1×1 convolution where sizes differ."""

    def __init__(self, inputs: int, outputs: int, step: int):
        super().__init__()
        self.first = convolution(inputs, outputs)
        self.first.stride = (step, step)
        self.second = convolution(outputs, outputs)
        self.norms = nn.ModuleList([_norm(outputs), _norm(outputs)])
        self.shortcut: nn.Module = nn.Identity()
        if step > 1 or inputs != outputs:
            narrow = convolution(inputs, outputs, size=1)
            narrow.stride = (step, step)
            self.shortcut = nn.Sequential(narrow, _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output. (n, inputs, rows, columns) -> (n, outputs, rows / step, columns / step)."""
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.shortcut(x))


class ResidualEncoder(nn.Module):
    """A convolution, 2×2 pooling and five residual blocks, and their last output's mean over space.

    Parameters
    ----------
    channels
        Proteins and markers together.
    width
        Factor on every layer's filters.
    """

    def __init__(self, channels: int, width: float = 1.0):
        super().__init__()
        self.channels = channels
        stem, *blocks = scaled((STEM_WIDTH, *BLOCK_WIDTHS), width)
        self.stem, self.norm = convolution(channels, stem), _norm(stem)
        self.blocks = nn.ModuleList(
            ResidualBlock(before, after, 2 if number in HALVED else 1)
            for number, (before, after) in enumerate(zip([stem, *blocks[:-1]], blocks, strict=True))
        )

    def activations(self, x: Tensor) -> Iterable[Tensor]:
        """Yield the output of every block."""
        x = F.max_pool2d(self.norm(F.relu(self.stem(x))), 2)
        for block in self.blocks:
            x = block(x)
            yield x

    def forward(self, x: Tensor) -> Tensor:
        """Return the last block's mean over space. (n, channels, rows, columns) -> (n, features)."""
        *_, last = self.activations(x)
        return last.mean(dim=(2, 3))

    def features(self, x: Tensor, layers: Iterable[str] = (*BLOCKS, POOLED)) -> dict[str, Tensor]:
        """Return each block's maximum over space, and the last block's mean (``"pooled"``). -> (n, features) each."""
        layers = set(layers)
        check_crops(x.shape, self.channels)
        pooled = {}
        with torch.inference_mode():
            for name, activation in zip(BLOCKS, self.activations(x), strict=True):
                if name in layers:
                    pooled[name] = maximum_over_space(activation)
            if POOLED in layers:
                pooled[POOLED] = activation.mean(dim=(2, 3))
        return pooled


class ResidualInpainting(nn.Module):
    """Predicts a target cell's protein from one vector of the source cell and the target's markers.

    The vector says nothing of where; that is in the markers, which reach the decoder at every resolution.

    Parameters
    ----------
    proteins, markers
        Numbers of channels.
    width
        Factor on every layer's filters.

    Examples
    --------
    >>> network = ResidualInpainting(1, 2, 0.0625).eval()
    >>> tuple(network(torch.zeros(3, 3, 16, 16), torch.zeros(3, 2, 16, 16)).shape)
    (3, 1, 16, 16)
    """

    def __init__(self, proteins: int = 1, markers: int = 1, width: float = 1.0):
        super().__init__()
        self.config = {"proteins": proteins, "markers": markers, "width": width}
        self.markers = markers
        of_markers, (first, second, third) = scaled(MARKER_WIDTHS, width), scaled(DECODER_WIDTHS, width)
        self.source_encoder = ResidualEncoder(proteins + markers, width)
        self.marker_encoder = ConvolutionStack(markers, of_markers, pooled=(0, 1))
        self.decode_code = convolution(scaled(BLOCK_WIDTHS, width)[-1] + of_markers[2], first)
        self.upsample = nn.ModuleList([convolution(first, second), convolution(second, third)])
        self.skips = nn.ModuleList([convolution(of_markers[1], second), convolution(of_markers[0], third)])
        self.output = convolution(third, proteins, size=1)

    def forward(self, source: Tensor, target_markers: Tensor) -> Tensor:
        """Return the predicted protein channels of the target cells, as :class:`PairedCellInpainting` does."""
        check_crops(source.shape, self.source_encoder.channels)
        check_crops(target_markers.shape, self.markers)
        fine, middle, coarse = (x for _, x in self.marker_encoder.activations(target_markers))
        code = self.source_encoder(source)[:, :, None, None].expand(-1, -1, *coarse.shape[2:])
        x = F.relu(self.decode_code(torch.cat([code, coarse], dim=1)))
        for upsample, skip, of_markers in zip(self.upsample, self.skips, (middle, fine), strict=True):
            assert isinstance(upsample, nn.Conv2d)
            x = F.relu(upsampled_convolution(x, upsample.weight, upsample.bias) + skip(of_markers))
        predicted: Tensor = self.output(x)
        return predicted
