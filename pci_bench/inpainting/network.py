"""The network of paired cell inpainting (paper: "Architecture", Figure 1C; order of layers as in the authors' code)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from pci_bench.errors import UserError

SOURCE_WIDTHS = (96, 256, 384, 384, 256)
MARKER_WIDTHS = (16, 32, 32)
DECODER_WIDTHS = (256, 384, 384, 256, 96)
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
EPSILON, MOMENTUM = 1e-3, 0.01  # Keras' epsilon 1e-3 and momentum 0.99


def scaled(widths: Iterable[int], width: float) -> list[int]:
    """Return layer widths times a factor, at least 1 each."""
    return [max(1, round(w * width)) for w in widths]


def convolution(inputs: int, outputs: int, size: int = 3) -> nn.Conv2d:
    """Return a same-padded convolution, Glorot-uniform weights and zero biases."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


class ConvolutionStack(nn.Module):
    """Convolution → ReLU → batch norm, some followed by 2×2 max-pooling: the form of both encoders."""

    def __init__(self, inputs: int, widths: list[int], pooled: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList(convolution(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))
        self.norms = nn.ModuleList(nn.BatchNorm2d(w, eps=EPSILON, momentum=MOMENTUM) for w in widths)
        self.pooled = pooled

    def activations(self, x: Tensor) -> Iterable[tuple[int, Tensor]]:
        """Yield each layer's number and its ReLU output, before batch norm and pooling."""
        for number, conv in enumerate(self.convs):
            if number:
                x = self._passed_on(number - 1, x)
            x = F.relu(conv(x), inplace=True)
            yield number, x

    def _passed_on(self, number: int, x: Tensor) -> Tensor:
        norm = self.norms[number]
        assert isinstance(norm, nn.BatchNorm2d)
        pooled = number in self.pooled
        pooled_first = pooled and not self.training and bool((norm.weight >= 0).all())
        if pooled_first:  # the same bits from a quarter of the pixels: the norm keeps their order
            x = F.max_pool2d(x, 2)
        x = norm(x)
        return F.max_pool2d(x, 2) if pooled and not pooled_first else x

    def forward(self, x: Tensor) -> Tensor:
        """Return the last layer's output after batch norm."""
        last = 0
        for number, x in self.activations(x):  # noqa: B007, B020 - the last one counts
            last = number
        return self._passed_on(last, x)


class SourceEncoder(ConvolutionStack):
    """The source cell encoder on protein and marker channels: what is kept after training.

    Parameters
    ----------
    channels
        Proteins and markers together, the proteins first.
    width
        Factor on the number of filters; 1 is the paper's.
    """

    def __init__(self, channels: int, width: float = 1.0):
        super().__init__(channels, scaled(SOURCE_WIDTHS, width), pooled=(0, 1))
        self.channels = channels

    @overload
    def features(self, x: Tensor, layers: Iterable[str] = LAYERS) -> dict[str, Tensor]: ...

    @overload
    def features(self, x: np.ndarray, layers: Iterable[str] = LAYERS) -> dict[str, np.ndarray]: ...

    def features(
        self, x: Tensor | np.ndarray, layers: Iterable[str] = LAYERS
    ) -> dict[str, Tensor] | dict[str, np.ndarray]:
        """Return max-pooled activations of the layers, from one pass that ends at the deepest of them.

        The ReLU output of each convolution, before its batch norm, maximum over space (paper: "we extract representations
        by maximum pooling"; which side of the batch norm, the authors' code).

        Parameters
        ----------
        x
            Rescaled crops (n, channels, rows, columns), proteins first; rows and columns divisible by 4. Tensor or array.
        layers
            Any of conv1 … conv5.

        Returns
        -------
        dict
            ``{"conv1": (n, 96), "conv2": (n, 256), "conv3": (n, 384), "conv4": (n, 384), "conv5": (n, 256)}``, tensors for
            a tensor and arrays for an array.

        Raises
        ------
        UserError
            For a wrong number of channels, a size not divisible by 4, or layers that there are not.
        """
        layers = list(layers)
        if not layers or not set(layers) <= set(LAYERS):
            raise UserError(
                f"There are features of the layers {', '.join(LAYERS)}; asked for: {', '.join(layers) or 'none'}."
            )
        wanted = {LAYERS.index(layer) for layer in layers}
        weight = next(self.parameters())
        crops = torch.as_tensor(x, dtype=weight.dtype, device=weight.device)
        check_crops(crops.shape, self.channels)
        pooled = {}
        with torch.inference_mode():
            for number, activation in self.activations(crops):
                if number in wanted:
                    pooled[LAYERS[number]] = maximum_over_space(activation)
                if number == max(wanted):
                    break
        return pooled if isinstance(x, Tensor) else {layer: value.cpu().numpy() for layer, value in pooled.items()}


def maximum_over_space(x: Tensor) -> Tensor:
    """Return the maximum of each channel. (n, channels, rows, columns) -> (n, channels).

    Over rows, then over columns, with channels last: both at once takes torch up to 16 times as long in that layout.
    """
    return x.permute(0, 2, 3, 1).amax(dim=1).amax(dim=1)


def check_crops(shape: Iterable[int], channels: int) -> None:
    """Raise a sentence unless `shape` is (n, channels, rows, columns) with rows and columns divisible by 4."""
    shape = tuple(shape)
    if len(shape) != 4 or shape[1] != channels:
        raise UserError(f"Expected crops of shape (n, {channels}, rows, columns), proteins first; got {shape}.")
    if shape[2] % 4 or shape[3] % 4 or not shape[2] or not shape[3]:
        raise UserError(
            f"Crops of {shape[2]}×{shape[3]} pixels do not fit the network: rows and columns must be divisible by 4."
        )


class Decoder(nn.Module):
    """The reversed encoder: three convolutions, twice upsampling and a convolution, and a linear 1×1 output."""

    def __init__(self, inputs: int, outputs: int, width: float):
        super().__init__()
        widths = scaled(DECODER_WIDTHS, width)
        self.convs = nn.ModuleList(convolution(i, o) for i, o in zip([inputs, *widths[:-1]], widths, strict=True))
        self.output = convolution(widths[-1], outputs, size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the prediction at four times the rows and columns of `x`."""
        for number, conv in enumerate(self.convs):
            assert isinstance(conv, nn.Conv2d)
            x = F.relu(conv(x) if number < 3 else upsampled_convolution(x, conv.weight, conv.bias))
        x = self.output(x)
        return x


def upsampled_convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the same-padded 3×3 convolution of `x` upsampled ×2 (nearest), computed on the small grid.

    Each output pixel of the large grid sees at most 2×2 different pixels of the small one, so the kernel's rows and columns
    that fall on one pixel are added first: four 2×2 kernels, one for each position within a pixel, at 4/9 of the products.

    Parameters
    ----------
    x
        (n, inputs, rows, columns).
    weight, bias
        Of the 3×3 convolution: (outputs, inputs, 3, 3), (outputs,).

    Returns
    -------
    Tensor
        (n, outputs, 2 × rows, 2 × columns).
    """
    first, middle, last = weight.unbind(dim=2)
    by_row = (torch.stack([first, middle + last], dim=2), torch.stack([first + middle, last], dim=2))
    kernels = []
    for rows in by_row:
        left, centre, right = rows.unbind(dim=3)
        kernels += [torch.stack([left, centre + right], dim=3), torch.stack([left + centre, right], dim=3)]
    stacked = F.conv2d(x, torch.cat(kernels), None if bias is None else bias.repeat(4), padding=1)
    interleaved: Tensor = _Interleaved.apply(stacked)  # type: ignore[no-untyped-call]  # torch has no types for it
    return interleaved


class _Interleaved(torch.autograd.Function):
    """The four phases of an upsampled convolution, put where they belong; its gradient is taken apart in one pass.

    (n, 4 × outputs, rows + 1, columns + 1) -> (n, outputs, 2 × rows, 2 × columns).
    """

    @staticmethod
    def forward(ctx: Any, stacked: Tensor) -> Tensor:
        n, four_outputs, rows, columns = stacked.shape
        outputs = four_outputs // 4
        ctx.shape = stacked.shape
        whole = torch.empty(
            (n, outputs, 2 * rows - 2, 2 * columns - 2),
            dtype=stacked.dtype,
            device=stacked.device,
            memory_format=torch.channels_last,
        )
        for phase in range(4):
            r, c = divmod(phase, 2)
            part = stacked[:, phase * outputs : (phase + 1) * outputs, r : r + rows - 1, c : c + columns - 1]
            whole[:, :, r::2, c::2] = part
        return whole

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        _, four_outputs, rows, columns = ctx.shape
        outputs = four_outputs // 4
        stacked = torch.empty(
            ctx.shape, dtype=gradient.dtype, device=gradient.device, memory_format=torch.channels_last
        ).zero_()
        for phase in range(4):
            r, c = divmod(phase, 2)
            part = stacked[:, phase * outputs : (phase + 1) * outputs, r : r + rows - 1, c : c + columns - 1]
            part.copy_(gradient[:, :, r::2, c::2])
        return stacked


class PairedCellInpainting(nn.Module):
    """Predicts the protein channels of a target cell from a source cell and the target's markers.

    Parameters
    ----------
    proteins, markers
        Numbers of channels; yeast 1 and 1, human 1 and 2.
    width
        Factor on every layer's filters; 1 is the paper's: 7,323,521 numbers with one protein and one marker, counted as
        Keras does, with the running means and variances of batch norm (7,320,609 trainable ones without).

    Examples
    --------
    >>> network = PairedCellInpainting(width=0.0625).eval()
    >>> with torch.inference_mode():
    ...     predicted = network(torch.zeros(3, 2, 64, 64), torch.zeros(3, 1, 64, 64))
    ...     features = network.source_encoder.features(torch.zeros(3, 2, 64, 64))
    >>> tuple(predicted.shape), {layer: tuple(pooled.shape) for layer, pooled in features.items()}["conv5"]
    ((3, 1, 64, 64), (3, 16))
    """

    def __init__(self, proteins: int = 1, markers: int = 1, width: float = 1.0):
        super().__init__()
        self.config = {"proteins": proteins, "markers": markers, "width": width}
        self.markers = markers
        marker_widths = scaled(MARKER_WIDTHS, width)
        self.source_encoder = SourceEncoder(proteins + markers, width)
        self.marker_encoder = ConvolutionStack(markers, marker_widths, pooled=(0, 1))
        self.decoder = Decoder(scaled(SOURCE_WIDTHS, width)[-1] + marker_widths[-1], proteins, width)

    def forward(self, source: Tensor, target_markers: Tensor) -> Tensor:
        """Return the predicted protein channels of the target cells.

        Parameters
        ----------
        source
            Source cells (n, proteins + markers, rows, columns), proteins first.
        target_markers
            Markers of the target cells (n, markers, rows, columns).

        Returns
        -------
        Tensor
            (n, proteins, rows, columns).
        """
        check_crops(source.shape, self.source_encoder.channels)
        check_crops(target_markers.shape, self.markers)
        codes = torch.cat([self.source_encoder(source), self.marker_encoder(target_markers)], dim=1)
        predicted: Tensor = self.decoder(codes)
        return predicted


class Autoencoder(nn.Module):
    """The same source cell encoder and decoder without target markers; reconstructs its input (paper: "autoencoder").

    Parameters
    ----------
    channels
        Proteins and markers together.
    width
        Factor on every layer's filters; 1 is the paper's.
    """

    def __init__(self, channels: int = 2, width: float = 1.0):
        super().__init__()
        self.config = {"channels": channels, "width": width}
        self.source_encoder = SourceEncoder(channels, width)
        self.decoder = Decoder(scaled(SOURCE_WIDTHS, width)[-1], channels, width)

    def forward(self, source: Tensor) -> Tensor:
        """Return the reconstruction. (n, channels, rows, columns) -> the same."""
        check_crops(source.shape, self.source_encoder.channels)
        reconstruction: Tensor = self.decoder(self.source_encoder(source))
        return reconstruction


Network = TypeVar("Network", bound=nn.Module)


@overload
def load_network(file: Path) -> PairedCellInpainting: ...


@overload
def load_network(file: Path, kind: type[Network]) -> Network: ...


def load_network(file: Path, kind: Any = PairedCellInpainting) -> Any:
    """Return the network of a pci-bench weights file, ready for evaluation."""
    from pci_bench.weights import network_in, read_header

    config = read_header(file).config
    return network_in(file, lambda: kind(**config))
