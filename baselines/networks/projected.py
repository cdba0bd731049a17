"""The source cell encoder of paired cell inpainting with a head after its mean over space, for objectives without a decoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pci_bench import Compute
from pci_bench.inpainting.network import (
    LAYERS,
    SOURCE_WIDTHS,
    SourceEncoder,
    check_crops,
    maximum_over_space,
    scaled,
)
from pci_bench.weights import network_in, read_header

EMBEDDING = "embedding"


def new_encoder(channels: int, width: float) -> SourceEncoder:
    """Return an encoder that says what it is constructed with; it is what is kept after training."""
    encoder = SourceEncoder(channels, width)
    encoder.config = {"channels": channels, "width": width}  # type: ignore[assignment]  # torch's modules hold modules
    return encoder


def embedding_of(encoded: Tensor) -> Tensor:
    """Return the mean over space of the encoder's output. (n, channels, rows, columns) -> (n, channels)."""
    return encoded.mean(dim=(2, 3))


class Projected(nn.Module):
    """An encoder, the mean over space, and a head of one hidden layer: (b, channels, rows, columns) -> (b, outputs).

    Parameters
    ----------
    channels
        Proteins and markers together.
    width
        Factor on every layer's filters; 1 is the paper's.
    outputs
        Of the head, which is left out of what is kept.
    """

    def __init__(self, channels: int, width: float, outputs: int):
        super().__init__()
        self.config = {"channels": channels, "width": width, "outputs": outputs}
        self.encoder = new_encoder(channels, width)
        features = scaled(SOURCE_WIDTHS, width)[-1]
        self.head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs))

    def forward(self, crops: Tensor) -> Tensor:
        """Return the head's outputs."""
        outputs: Tensor = self.head(embedding_of(self.encoder(crops)))
        return outputs


def open_encoder(weights: Path, device: str) -> Compute:
    """Return the function of (crops, outputs) that runs the encoder of a weights file once for all layers and the embedding."""
    encoder = network_in(weights, lambda: new_encoder(**read_header(weights).config)).to(device)
    encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it

    def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
        batch = torch.from_numpy(crops).to(device=device, memory_format=torch.channels_last)
        check_crops(batch.shape, encoder.channels)
        layers = {*outputs} - {EMBEDDING}
        last = len(LAYERS) - 1 if EMBEDDING in outputs else max(LAYERS.index(layer) for layer in layers)
        found = {}
        with torch.inference_mode():
            for number, activation in encoder.activations(batch):
                if LAYERS[number] in layers:
                    found[LAYERS[number]] = maximum_over_space(activation)
                if number == last:
                    break
            if EMBEDDING in outputs:
                found[EMBEDDING] = embedding_of(encoder.norms[last](activation))
        return {output: value.float().cpu().numpy() for output, value in found.items()}

    return compute
