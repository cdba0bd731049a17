"""One training step of paired cell inpainting, forward, backward and Adam: ours, in torch as one would write it, and in Keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def torch_step(crops: np.ndarray, width: float, small_grid: bool, *, bfloat16: bool = False) -> Callable[[], None]:
    """Return one step on the pairs (crops, crops).

    Parameters
    ----------
    crops
        (pairs, channels, rows, columns) float32, the protein first.
    width
        Of the network, 1 for the published one's.
    small_grid
        As this package trains: channels last, and convolutions after an upsampling computed on the small grid. Otherwise what is
        upsampled is convolved.
    bfloat16
        As `train --precision bfloat16`: products in bfloat16, weights and their updates in float32.
    """
    import torch
    from torch.nn import functional as F  # noqa: N812 - its usual name

    from pci_bench.inpainting import PairedCellInpainting, network

    model = PairedCellInpainting(width=width).train()
    batch = torch.from_numpy(crops)
    if small_grid:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        batch = batch.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999))

    def upsampled_first(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return F.conv2d(F.interpolate(x, scale_factor=2), weight, bias, padding=1)

    on_the_small_grid = network.upsampled_convolution

    def step() -> None:
        network.upsampled_convolution = on_the_small_grid if small_grid else upsampled_first
        try:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                predicted = model(batch, batch[:, 1:])
            loss = F.mse_loss(predicted.float(), batch[:, :1])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        finally:
            network.upsampled_convolution = on_the_small_grid

    return step


def keras_step(crops: np.ndarray, width: float) -> Callable[[], object]:
    """Return one step of the same network written in Keras, as the authors' is, on the pairs (crops, crops)."""
    import keras
    from keras import layers

    from pci_bench.inpainting.network import DECODER_WIDTHS, MARKER_WIDTHS, SOURCE_WIDTHS, scaled

    def encoder(x: Any, widths: Sequence[int]) -> Any:
        for number, filters in enumerate(scaled(widths, width)):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
            x = layers.BatchNormalization()(x)
            if number < 2:
                x = layers.MaxPooling2D()(x)
        return x

    size = crops.shape[2:]
    source, markers = keras.Input((*size, crops.shape[1])), keras.Input((*size, crops.shape[1] - 1))
    x = layers.Concatenate()([encoder(source, SOURCE_WIDTHS), encoder(markers, MARKER_WIDTHS)])
    for number, filters in enumerate(scaled(DECODER_WIDTHS, width)):
        if number >= 3:
            x = layers.UpSampling2D()(x)
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    model = keras.Model([source, markers], layers.Conv2D(1, 1)(x))
    model.compile(keras.optimizers.Adam(1e-4, beta_1=0.5), "mse")
    batch = np.ascontiguousarray(crops.transpose(0, 2, 3, 1))
    return lambda: model.train_on_batch([batch, batch[..., 1:]], batch[..., :1])
