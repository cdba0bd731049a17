"""DeepLoc's network (Kraus et al. 2017, doi 10.15252/msb.20177551), its preparation of crops, and what it gives for a cell."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

CROP, INPUT = 64, 60
CONVOLUTIONS = {f"conv_{i}": width for i, width in enumerate((64, 64, 128, 128, 256, 256, 256, 256), 1)}
FULLY_CONNECTED = {"fc_1": 512, "fc_2": 512}
FINAL = "final_layer"
POOLED = ("conv_2", "conv_4", "conv_8")
POOLED_SIDE = 8  # 60 → 30 → 15 → 8
EPSILON, MOMENTUM = 1e-3, 0.5
WEIGHTS_SD, BIAS = 0.1, 0.1
PERCENTILES = (0.1, 99.9)
FIVE = ((2, 2), (0, 0), (0, 4), (4, 0), (4, 4))  # rows and columns where the five crops begin, the centre first


def stretched(crops: np.ndarray, smallest_range: float) -> np.ndarray:
    """Return crops, each channel stretched by its percentiles as DeepLoc does. (b, channels, rows, columns) float32 -> same.

    Values above the 99.9 percentile are set to it, and the 0.1 percentile is subtracted, so that values below it become
    negative; then the channel is divided by the range between the two, where that exceeds `smallest_range`.
    """
    low, high = bounds(crops)
    span = high - low
    divided: np.ndarray = (np.minimum(crops, high) - low) / np.where(span > smallest_range, span, 1)
    return divided.astype(np.float32)


def bounds(crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the percentiles of each crop's channels between which DeepLoc stretches them (b, channels, 1, 1) each."""
    low, high = np.percentile(crops, PERCENTILES, axis=(2, 3), keepdims=True)
    return low, high


def augmented(crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return one 60×60 part of each 64×64 crop, flipped and turned at random, all channels alike.

    The part begins at row and column 0–3 (never 4: the published code's draw leaves it out); rows and columns are flipped
    half of the time each; then it is turned by 0°, 90° or 180° (never 270°).
    """
    n = len(crops)
    starts = rng.integers(0, CROP - INPUT, size=(n, 2))
    flips = rng.integers(0, 2, size=(n, 2)).astype(bool)
    turns = rng.integers(0, 3, size=n)
    parts = np.empty((*crops.shape[:2], INPUT, INPUT), np.float32)
    for crop, part, (row, column), (rows, columns), turn in zip(crops, parts, starts, flips, turns, strict=True):
        cut = crop[:, row : row + INPUT, column : column + INPUT]
        cut = cut[:, :: -1 if rows else 1, :: -1 if columns else 1]
        part[:] = np.rot90(cut, turn, axes=(1, 2))
    return parts


def five_parts(crops: np.ndarray) -> np.ndarray:
    """Return the centre and the corners of every crop. (b, channels, 64, 64) -> (b, 5, channels, 60, 60)."""
    return np.stack([crops[:, :, r : r + INPUT, c : c + INPUT] for r, c in FIVE], axis=1)


def shapes(channels: int, width: float, classes: int) -> dict[str, tuple[int, ...]]:
    """Return each layer's weights as TensorFlow has them: (rows, columns, inputs, outputs), or (inputs, outputs)."""
    layer_shapes: dict[str, tuple[int, ...]] = {}
    inputs = channels
    for name, full in CONVOLUTIONS.items():
        layer_shapes[name] = (3, 3, inputs, inputs := scaled(full, width))
    inputs *= POOLED_SIDE * POOLED_SIDE
    for name, full in FULLY_CONNECTED.items():
        layer_shapes[name] = (inputs, inputs := scaled(full, width))
    return {**layer_shapes, FINAL: (inputs, classes)}


def scaled(full: int, width: float) -> int:
    """Return a layer's width times a factor, at least 1."""
    return max(1, round(full * width))


class DeepLoc(nn.Module):
    """Eight convolutions and three fully connected layers, each with bias, batch norm and (but for the last) ReLU.

    Weights begin as normal numbers of SD 0.1 truncated at two SD, biases at 0.1. The running variance is that of n − 1, as
    everywhere in torch; TensorFlow's is that of n.

    Parameters
    ----------
    channels
        Of the crops, the protein first.
    classes
        Their names, in the order of the last layer's outputs.
    width
        Factor on every layer's width but the last's; 1 is the published one.
    smallest_range
        Of a channel that is divided by its range (:func:`stretched`).
    """

    def __init__(self, channels: int, classes: Iterable[str], width: float = 1.0, smallest_range: float = 1.0):
        super().__init__()
        self.classes = tuple(classes)
        self.config: dict[str, Any] = {
            "channels": channels,
            "classes": list(self.classes),
            "width": width,
            "smallest_range": smallest_range,
        }
        self.affine, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for name, (*size, inputs, outputs) in shapes(channels, width, len(self.classes)).items():
            layer: nn.Conv2d | nn.Linear
            if size:
                rows, columns = size
                layer = nn.Conv2d(inputs, outputs, (rows, columns), padding=1)
                self.norms[name] = nn.BatchNorm2d(outputs, eps=EPSILON, momentum=MOMENTUM)
            else:
                layer = nn.Linear(inputs, outputs)
                self.norms[name] = nn.BatchNorm1d(outputs, eps=EPSILON, momentum=MOMENTUM)
            assert layer.bias is not None
            nn.init.trunc_normal_(layer.weight, std=WEIGHTS_SD, a=-2 * WEIGHTS_SD, b=2 * WEIGHTS_SD)
            nn.init.constant_(layer.bias, BIAS)
            self.affine[name] = layer

    def fc2(self, x: Tensor) -> Tensor:
        """Return the second fully connected layer after batch norm and ReLU. (n, channels, 60, 60) -> (n, 512)."""
        for name in CONVOLUTIONS:
            x = F.relu(self.norms[name](self.affine[name](x)), inplace=True)
            if name in POOLED:  # ceil_mode: TensorFlow's SAME fills up at the end, and the filling is never the maximum
                x = F.max_pool2d(x, 2, ceil_mode=True)
        x = x.permute(0, 2, 3, 1).flatten(1)  # rows, columns, channels: TensorFlow's order
        for name in FULLY_CONNECTED:
            x = F.relu(self.norms[name](self._fully_connected(name, x)))
        return x

    def logits(self, fc2: Tensor) -> Tensor:
        """Return the last layer after batch norm. (n, 512) -> (n, classes)."""
        logits: Tensor = self.norms[FINAL](self._fully_connected(FINAL, fc2))
        return logits

    def _fully_connected(self, name: str, x: Tensor) -> Tensor:
        """Return a fully connected layer's output; in evaluation by one thread.

        More threads share the sums of a matrix product out among them, which changes their last bits.
        """
        layer: Callable[[Tensor], Tensor] = self.affine[name]
        if self.training:
            return layer(x)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return layer(x)
        finally:
            torch.set_num_threads(threads)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits. (n, channels, 60, 60) -> (n, classes)."""
        return self.logits(self.fc2(x))

    def of_cells(self, crops: np.ndarray, outputs: Iterable[str], device: str) -> dict[str, np.ndarray]:
        """Return what it gives for cells, as means over the five parts of each.

        Parameters
        ----------
        crops
            Raw crops (b, channels, 64, 64) float32.
        outputs
            ``"fc2"`` (b, 512), ``"fc2-centre"`` (of the central part alone) and ``"predictions"``, probabilities (b, classes).
        device
            Where the network is.
        """
        parts = five_parts(stretched(crops, self.config["smallest_range"]))
        with torch.inference_mode():
            batch = torch.from_numpy(parts).to(device=device)
            computed = self.outputs_of(batch, outputs)
        return {output: value.float().cpu().numpy() for output, value in computed.items()}

    def outputs_of(self, parts: Tensor, outputs: Iterable[str]) -> dict[str, Tensor]:
        """Return what it gives for the five parts (b, 5, channels, 60, 60) of cells, as :meth:`of_cells` does."""
        fc2 = self.fc2(parts.flatten(0, 1).contiguous(memory_format=torch.channels_last))
        by_cell = fc2.unflatten(0, (-1, len(FIVE)))
        computed = {}
        for output in outputs:
            if output == "predictions":
                computed[output] = self.logits(fc2).softmax(dim=1).unflatten(0, (-1, len(FIVE))).mean(dim=1)
            else:
                computed[output] = by_cell[:, 0] if output == "fc2-centre" else by_cell.mean(dim=1)
        return computed

    def prepared(self, crops: Tensor) -> Tensor:
        """Return the stretched parts (b, 5, channels, 60, 60) of raw crops (b, channels, 64, 64), for gradients.

        The percentiles count as constants.
        """
        low, high = (torch.from_numpy(p).to(crops) for p in bounds(crops.detach().numpy()))
        span = high - low
        divided = (torch.minimum(crops, high) - low) / torch.where(span > self.config["smallest_range"], span, 1)
        return torch.stack([divided[:, :, r : r + INPUT, c : c + INPUT] for r, c in FIVE], dim=1)


def load(file: Path) -> DeepLoc:
    """Return the network of a weights file, ready for evaluation: each batch norm is part of the layer before it.

    In evaluation a batch norm is one factor and one summand per channel, which the layer's weights and bias can hold; results
    are the same up to rounding, and a sixth of the time is saved.
    """
    from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

    from pci_bench.weights import network_in, read_header

    config = read_header(file).config
    network = network_in(file, lambda: DeepLoc(**config))
    for name, layer in network.affine.items():
        fuse: Callable[..., nn.Module] = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
        network.affine[name], network.norms[name] = fuse(layer, network.norms[name]), nn.Identity()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    return network
