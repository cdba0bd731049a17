"""Reads the variables of a TensorFlow checkpoint; run as a program of its own: ``tensorflow_variables.py CHECKPOINT OUT.npz``.

It imports nothing of this package, so that TensorFlow and torch never share a process, and writes plain numbers only.
"""

from __future__ import annotations

import sys
from typing import Any


def main(checkpoint: str, out: str) -> None:
    """Write every numeric variable of a checkpoint, by its name, to a ``.npz``."""
    import numpy as np
    import tensorflow as tf

    reader = tf.train.load_checkpoint(checkpoint)
    variables: dict[str, Any] = {}
    for name in sorted(reader.get_variable_to_shape_map()):
        array = np.asarray(reader.get_tensor(name))
        if array.dtype.kind in "fiub":  # a text, as of a graph, would be pickled
            variables[name] = array
    np.savez(out, **variables)


if __name__ == "__main__":
    main(*sys.argv[1:])
