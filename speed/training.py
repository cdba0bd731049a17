"""Training steps of paired cell inpainting: ours beside upsampling before every convolution, in torch and in Keras.

    python speed/training.py [--width 1.0] [--batch 16] [--threads 2]

Keras is measured where it is installed with a backend (`pip install tensorflow-cpu`); the authors trained with it. Random
crops and weights; one step is forward, backward and Adam. Interleaved, median of three after a step to warm up.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np


def torch_step(crops: np.ndarray, width: float, small_grid: bool) -> Callable[[], None]:
    """Return one step on the pairs (crops, crops)."""
    import torch
    from torch.nn import functional as F  # noqa: N812 - its usual name

    from pci_bench.inpainting import PairedCellInpainting, network

    model = PairedCellInpainting(width=width).train()
    batch = torch.from_numpy(crops)
    if small_grid:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        batch = batch.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.5, 0.999))

    def upsampled_first(x, weight, bias):
        return F.conv2d(F.interpolate(x, scale_factor=2), weight, bias, padding=1)

    on_the_small_grid = network.upsampled_convolution

    def step() -> None:
        network.upsampled_convolution = on_the_small_grid if small_grid else upsampled_first
        try:
            loss = F.mse_loss(model(batch, batch[:, 1:]), batch[:, :1])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        finally:
            network.upsampled_convolution = on_the_small_grid

    return step


def keras_step(crops: np.ndarray, width: float) -> Callable[[], None]:
    """Return one step of the same network written in Keras."""
    import keras
    from keras import layers

    from pci_bench.inpainting.network import DECODER_WIDTHS, MARKER_WIDTHS, SOURCE_WIDTHS, scaled

    def encoder(x, widths):
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    has_keras = bool(find_spec("keras") and find_spec("tensorflow"))
    if has_keras:
        import tensorflow

        from pci_bench.system.threads import available_cores

        tensorflow.config.threading.set_intra_op_parallelism_threads(options.threads or available_cores())
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
    from pci_bench.system.threads import available_cores, set_threads

    threads = set_threads(options.threads or available_cores())
    crops = np.random.default_rng(0).random((options.batch, 2, 64, 64), dtype=np.float32)
    ways = {
        "pci-bench, on the small grid": torch_step(crops, options.width, True),
        "torch, upsampling first": torch_step(crops, options.width, False),
    }
    if has_keras:
        ways["Keras (TensorFlow), as published"] = keras_step(crops, options.width)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for step in ways.values():
        step()
    for _ in range(3):
        for name, step in ways.items():
            started = time.perf_counter()
            step()
            rates[name].append(options.batch / (time.perf_counter() - started))
    ours = statistics.median(rates["pci-bench, on the small grid"])
    print(f"One training step, width {options.width:g}, batches of {options.batch}, {threads} threads, median of 3")
    for name, measured in rates.items():
        rate = statistics.median(measured)
        print(f"{name:34}{rate:8.2f} pairs/s{'' if rate == ours else f'   ours is {ours / rate:.2f} × as fast'}")
    if not has_keras:
        print("Keras is not installed with TensorFlow, so it was not measured.")


if __name__ == "__main__":
    main()
