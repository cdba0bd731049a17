"""VGG16's weights: Oxford's from Keras' HDF5 files, torchvision's through timm."""

from pathlib import Path
from typing import Any

import numpy as np

from pci_bench import UserError, register_fetcher, register_importer
from pci_bench.system.files import sha256_of
from pci_bench.system.foreign import opened_hdf5
from pci_bench.system.timm_import import downloaded, load_network, state_of
from pci_bench.weights import declared, save, source_of

from .vgg16 import FC2_WIDTH, FULLY_CONNECTED, POSITIONS, WIDTHS, convolution


@register_fetcher("vgg16")
def fetch_vgg16(name: str) -> Path:
    """Download torchvision's weights through timm, save them as ``vgg16@tv_in1k`` and return the file.

    Raises
    ------
    UserError
        Where they cannot be downloaded, with what to do.
    """
    model = f"vgg16.{name}"
    try:
        file = downloaded(model)
    except UserError as error:
        raise UserError(
            f"{error} With a connection, `pci-bench weights get vgg16@{name}` gets them. Those of the paper are others: "
            "`pci-bench weights get vgg16@oxford`."
        ) from error
    source = f"{model} of the Hugging Face hub, {file.name}, sha256 {sha256_of(file)}"
    return save_vgg16(name, state_of(load_network(model, file)), "imagenet-rgb", source)


@register_importer("keras-vgg16")
def import_keras_vgg16(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import Oxford's weights from the Keras HDF5, with or without fully connected layers, as ``vgg16@name``.

    Raises
    ------
    UserError
        For a file that does not fit, or a name that stands for other weights.
    """
    if declared()["vgg16"].get(name, {}).get("fetch"):
        raise UserError(f"The name vgg16@{name} stands for weights that are downloaded. Give these another --name.")
    save_vgg16(name, read_keras_vgg16(file), "keras-bgr", source_of("vgg16", name, file))
    return f"vgg16@{name}", ()


def save_vgg16(name: str, state: dict[str, np.ndarray], preprocessing: str, source: str) -> Path:
    """Save weights with how images are prepared for them, and return the file."""
    config = {"preprocessing": preprocessing, "fully_connected": set(FULLY_CONNECTED) <= set(state)}
    return save("vgg16", name, state, channels=(), config=config, source=source)


def read_keras_vgg16(file: Path) -> dict[str, np.ndarray]:
    """Return VGG16's state by timm's names from a Keras HDF5 file: 13 convolutions, and fc1 and fc2 where it has them.

    Raises
    ------
    UserError
        Where the file is not HDF5, is truncated, or holds another network; the message names the first layer that differs.
    """
    if not file.is_file():
        raise UserError(
            f"There is no file {file}. Expected Keras' HDF5 file of VGG16, with or without 'notop' in its name."
        )
    try:
        with opened_hdf5(file) as opened:
            return _keras_state(file, opened.get("model_weights", opened))
    except UserError:
        raise
    except (ValueError, TypeError, AttributeError) as error:  # an attribute or a group that is something else
        raise UserError(f"{file} cannot be read as Keras' weights of VGG16: {error}. Download it again.") from error


def _keras_state(file: Path, group: Any) -> dict[str, np.ndarray]:
    if "layer_names" not in group.attrs:
        raise UserError(
            f"{file} is an HDF5 file, but not of Keras weights: it has no attribute layer_names (it holds {', '.join(group) or 'nothing'})."
        )
    layers, inputs = [_text(name) for name in group.attrs["layer_names"]], 3
    state: dict[str, np.ndarray] = {}
    for layer, width in WIDTHS.items():
        kernel, bias = _kernel_and_bias(file, group, layers, layer, (3, 3, inputs, width))
        state |= convolution(POSITIONS[layer], np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)), bias)
        inputs = width
    if {"fc1", "fc2"} & set(layers):
        for layer, shape, size in (("fc1", (7 * 7 * inputs, FC2_WIDTH), 7), ("fc2", (FC2_WIDTH, FC2_WIDTH), 1)):
            kernel, bias = _kernel_and_bias(file, group, layers, layer, shape)
            state |= {f"pre_logits.{layer}.weight": as_convolution(kernel, size), f"pre_logits.{layer}.bias": bias}
    return state


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _kernel_and_bias(file: Path, group: Any, layers: list[str], layer: str, shape: tuple[int, ...]) -> list[np.ndarray]:
    """Return a layer's two arrays, checked; whatever Keras called them (block1_conv1_W_1:0, block1_conv1/kernel:0)."""
    if layer not in layers:
        raise UserError(
            f"{file} is not VGG16: it has no layer {layer} (its layers: {', '.join(layers)[:200] or 'none'})."
        )
    stored = [group[layer][_text(name)] for name in group[layer].attrs["weight_names"]]
    stored_shapes = [array.shape for array in stored]
    if stored_shapes != [shape, shape[-1:]]:
        raise UserError(
            f"The layer {layer} of {file} has arrays of the shapes {stored_shapes}; expected a kernel {shape} and a bias {shape[-1:]}, "
            "in TensorFlow's order of dimensions."
        )
    arrays = [np.asarray(array, np.float32) for array in stored]
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"The layer {layer} of {file} holds NaN or infinite weights.")
    return arrays


def as_convolution(kernel: np.ndarray, size: int) -> np.ndarray:
    """Return a dense layer's kernel on flattened maps as that of a convolution over the whole map.

    (size × size × inputs, outputs), whose rows Keras orders by rows, columns, channels -> (outputs, inputs, size, size).
    """
    inputs, outputs = len(kernel) // size**2, kernel.shape[1]
    return np.ascontiguousarray(kernel.reshape(size, size, inputs, outputs).transpose(3, 2, 0, 1))
