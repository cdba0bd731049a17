"""Writes random weights of Keras' own EfficientNetB0, and what it makes of images.

Run as a program where TensorFlow is installed: ``keras_efficientnet.py WEIGHTS.h5 OUTPUTS.npz IMAGES.npy…``. Images are (n, rows,
columns, 3) up to 255; the network is built for any size, and averages its last maps.
"""

import sys

import numpy as np
import tensorflow as tf


def lively(layer, rng):
    """Return random weights for a layer, batch norms and the normalisation included, so that none could be exchanged unnoticed."""
    arrays = []
    for weight in layer.weights:
        shape, kind = weight.shape, weight.name.partition(":")[0].rpartition("/")[2]
        if kind in ("gamma", "moving_variance", "variance"):
            arrays.append(rng.uniform(0.5, 1.5, shape))
        elif kind.endswith("kernel"):
            inputs = np.prod(shape[:2]) if "dwconv" in layer.name else np.prod(shape[:3])
            arrays.append(rng.normal(0, np.sqrt(2 / inputs), shape))
        else:
            arrays.append(rng.normal(0, 0.2, shape) if kind != "count" else np.asarray(weight))
    return arrays


def main(weights, outputs, *images):
    network = tf.keras.applications.EfficientNetB0(
        include_top=False, weights=None, pooling="avg", input_shape=(None, None, 3)
    )
    rng = np.random.default_rng(0)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(lively(layer, rng))
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    network.save(weights)
    np.savez(outputs, *[network.predict(np.load(file), verbose=0) for file in images])


if __name__ == "__main__":
    main(*sys.argv[1:])
