"""Import of the authors' weights: a Keras full-model HDF5 file, read through its layer graph."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.errors import UserError
from pci_bench.system.foreign import json_value, opened_hdf5

if TYPE_CHECKING:
    import h5py

    from pci_bench.inpainting.network import PairedCellInpainting

# What lies between two convolutions, from the first one's output to the second one's input. Batch norms carry automatic
# names whose numbers follow creation order, so they are found by walking this graph, never by name.
PATHS = (
    ("conv1_1", "conv2_1", ("relu", "norm", "pool")),
    ("conv2_1", "conv3_1", ("relu", "norm", "pool")),
    ("conv3_1", "conv4_1", ("relu", "norm")),
    ("conv4_1", "conv5_1", ("relu", "norm")),
    ("rfpconv1_1", "rfpconv2_1", ("relu", "norm", "pool")),
    ("rfpconv2_1", "rfpconv3_1", ("relu", "norm", "pool")),
    ("conv6_1", "conv7_1", ("relu",)),
    ("conv7_1", "conv8_1", ("relu",)),
    ("conv8_1", "conv9_1", ("relu", "up")),
    ("conv9_1", "conv10_1", ("relu", "up")),
    ("conv10_1", "y_gfp", ("relu",)),
)
ENCODER_ENDS = (("conv5_1", ("relu", "norm")), ("rfpconv3_1", ("relu", "norm")))
OPERATIONS = {"BatchNormalization": "norm", "MaxPooling2D": "pool", "UpSampling2D": "up", "ReLU": "relu"}
CONVOLUTIONS = {
    **{f"conv{i}_1": f"source_encoder.convs.{i - 1}" for i in range(1, 6)},
    **{f"rfpconv{i}_1": f"marker_encoder.convs.{i - 1}" for i in range(1, 4)},
    **{f"conv{i}_1": f"decoder.convs.{i - 6}" for i in range(6, 11)},
    "y_gfp": "decoder.output",
}


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: str
    config: dict[str, Any]
    inputs: tuple[str, ...]


def load_keras_weights(file: str | Path) -> PairedCellInpainting:
    """Return the authors' network with the weights of a Keras full-model HDF5 file, ready for evaluation.

    Parameters
    ----------
    file
        ``model_weights.h5`` as published, of any Keras version: ``model_config`` and ``model_weights``.

    Returns
    -------
    PairedCellInpainting
        Channels in the published order: protein first (GFP, RFP; or antibody, nucleus, microtubules).

    Raises
    ------
    UserError
        Where the file is not HDF5, is truncated, or holds another network; the message names the first layer that differs.

    Examples
    --------
    >>> network = load_keras_weights("model_weights.h5")  # doctest: +SKIP
    >>> network.config  # doctest: +SKIP
    {'proteins': 1, 'markers': 1, 'width': 1.0}
    """
    import torch

    from pci_bench.inpainting.network import PairedCellInpainting

    config, state = read_keras_weights(Path(file))
    network = PairedCellInpainting(**config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    return network.eval()


def read_keras_weights(file: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return (what the network is constructed with, its state as arrays by our layers' names)."""
    if not file.is_file():
        raise UserError(
            f"There is no file {file}. Expected the Keras HDF5 file of the published weights, model_weights.h5."
        )
    try:
        with opened_hdf5(file) as opened:
            return _network(file, opened)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{file} cannot be read as HDF5: {error}. Download it again.") from error


def _network(file: Path, opened: h5py.File) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if "model_config" not in opened.attrs or "model_weights" not in opened:
        contents = ", ".join([*opened.attrs, *opened][:6]) or "nothing"
        raise UserError(
            f"{file} is an HDF5 file, but not a Keras full model: expected the attribute model_config and the group model_weights, "
            f"found {contents}."
        )
    layers = _layers(file, opened.attrs["model_config"])
    norms = _check_graph(file, layers)
    state: dict[str, np.ndarray] = {}
    for name, ours in CONVOLUTIONS.items():
        arrays = _arrays(file, opened, name, ("kernel", "bias"))
        state[f"{ours}.weight"] = np.ascontiguousarray(arrays["kernel"].transpose(3, 2, 0, 1))
        state[f"{ours}.bias"] = arrays["bias"]
    for name, ours in norms.items():
        arrays = _arrays(file, opened, name, ("gamma", "beta", "moving_mean", "moving_variance"))
        state[f"{ours}.weight"], state[f"{ours}.bias"] = arrays["gamma"], arrays["beta"]
        state[f"{ours}.running_mean"], state[f"{ours}.running_var"] = arrays["moving_mean"], arrays["moving_variance"]
        state[f"{ours}.num_batches_tracked"] = np.array(0, np.int64)
    return _check_shapes(file, state), state


def _layers(file: Path, model_config: str | bytes) -> dict[str, _Layer]:
    try:
        config = json_value(model_config.decode() if isinstance(model_config, bytes) else str(model_config))
        listed = config["config"]["layers"]
        layers = {
            entry["config"]["name"]: _Layer(
                entry["config"]["name"], entry["class_name"], entry["config"], tuple(_inbound(entry["inbound_nodes"]))
            )
            for entry in listed
        }
        if not all(isinstance(layer.config, dict) and isinstance(name, str) for name, layer in layers.items()):
            raise TypeError("a layer's config is no object, or its name no text")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UserError(
            f"The model_config of {file} cannot be read ({type(error).__name__}: {error}). Download the file again."
        ) from error
    for layer in layers.values():
        for name in layer.inputs:
            if name not in layers:
                raise UserError(f"The layer {layer.name} of {file} takes its input from {name}, which is not there.")
    return layers


def _inbound(node: Any) -> Iterator[str]:
    """Yield the names of a layer's inputs: nested lists ``[name, node, tensor, …]`` up to Keras 2, ``keras_history`` in Keras 3."""
    if isinstance(node, dict):
        if "keras_history" in node:
            yield node["keras_history"][0]
        else:
            for value in node.values():
                yield from _inbound(value)
    elif isinstance(node, list):
        if node and isinstance(node[0], str):
            yield node[0]
        else:
            for value in node:
                yield from _inbound(value)


def _check_graph(file: Path, layers: dict[str, _Layer]) -> dict[str, str]:
    """Return our name of each batch norm by its Keras name, after checking that the graph is the paper's.

    Raises
    ------
    UserError
        Naming the first place where it is not.
    """
    missing = [name for name in CONVOLUTIONS if name not in layers]
    if missing:
        raise UserError(
            f"{file} is not a paired cell inpainting network: it has no layer {missing[0]} (its layers: {', '.join(layers)[:200]})."
        )
    for name in CONVOLUTIONS:
        layer, size = layers[name], [1, 1] if name == "y_gfp" else [3, 3]
        wanted = {
            "kernel_size": size,
            "strides": [1, 1],
            "dilation_rate": [1, 1],
            "data_format": "channels_last",
            "activation": None if name == "y_gfp" else "relu",
        }
        if size == [3, 3]:
            wanted["padding"] = "same"
        for key, value in wanted.items():
            actual = layer.config.get(key, [1, 1] if key == "dilation_rate" else None)
            actual = list(actual) if isinstance(actual, tuple | list) else actual
            if key == "activation":  # ReLU may be a layer of its own, which the paths below check
                actual, value = (actual, actual if actual in ("relu", "linear", None) else "relu or linear")
                if name == "y_gfp":
                    value = actual if actual in ("linear", None) else "linear"
            if layer.kind not in ("Conv2D", "Convolution2D") or actual != value:
                raise UserError(
                    f"The layer {name} of {file} does not fit: expected a convolution with {key} {value}, found {layer.kind} with {actual}."
                )
    norms: dict[str, str] = {}

    def follow(end: str, start: str, expected: tuple[str, ...]) -> None:
        operations, names = [], []
        name = end
        while name != start:
            layer = layers[name]
            operation = OPERATIONS.get(layer.kind) or (
                "relu" if layer.kind == "Activation" and layer.config.get("activation") == "relu" else layer.kind
            )
            operations.append(operation)
            names.append(name)
            if len(layer.inputs) != 1 or len(operations) > 6:
                break
            name = layer.inputs[0]
        if name == start and layers[start].config.get("activation") == "relu":
            operations.append("relu")
            names.append(start)
        operations.reverse()
        names.reverse()
        if name != start or tuple(operations) != expected:
            raise UserError(
                f"The network in {file} is wired differently: after {start} expected {' → '.join(expected) or 'nothing'}, "
                f"found {' → '.join(operations) or 'nothing'}."
            )
        for operation, layer_name in zip(operations, names, strict=True):
            config = layers[layer_name].config
            if operation == "norm":
                epsilon = config.get("epsilon", 1e-3)
                if not (isinstance(epsilon, int | float) and abs(epsilon - 1e-3) <= 1e-9):
                    raise UserError(
                        f"The batch norm {layer_name} of {file} has epsilon {config['epsilon']}; expected 0.001."
                    )
                check_axis(layer_name)
                norms[layer_name] = CONVOLUTIONS[start].replace("convs", "norms")
            for key in {"pool": ("pool_size", "strides"), "up": ("size",)}.get(operation, ()):
                if (config.get(key) or [2, 2]) not in ([2, 2], 2):
                    raise UserError(f"The layer {layer_name} of {file} has {key} {config[key]}; expected 2 × 2.")
            if operation == "up" and config.get("interpolation", "nearest") != "nearest":
                raise UserError(
                    f"The layer {layer_name} of {file} interpolates {config['interpolation']}; expected nearest."
                )

    def check_axis(name: str) -> None:
        axis = layers[name].config.get("axis", -1)
        if axis not in (-1, 3, [-1], [3]):
            raise UserError(f"The layer {name} of {file} works along axis {axis}; expected the channels, axis 3.")

    def single_input(name: str) -> str:
        if len(layers[name].inputs) != 1:
            raise UserError(f"The layer {name} of {file} has {len(layers[name].inputs)} inputs; expected one.")
        return layers[name].inputs[0]

    for start, end, expected in PATHS:
        follow(single_input(end), start, expected)
    joined = layers.get(single_input("conv6_1"))
    if joined is None or joined.kind not in ("Concatenate", "Merge") or len(joined.inputs) != 2:
        raise UserError(f"The input of conv6_1 in {file} is not the two encoders side by side.")
    check_axis(joined.name)
    for branch, (start, expected) in zip(joined.inputs, ENCODER_ENDS, strict=True):
        follow(branch, start, expected)
    for first in ("conv1_1", "rfpconv1_1"):
        if layers[single_input(first)].kind != "InputLayer":
            raise UserError(
                f"The input of {first} in {file} is the layer {single_input(first)}; expected the network's input."
            )
    return norms


def _arrays(file: Path, opened: h5py.File, layer: str, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return a layer's arrays by kind, whatever the groups above them are called (``name/name/kernel:0``, ``name/kernel``)."""
    import h5py

    weights = opened["model_weights"]
    group = weights.get(layer) if isinstance(weights, h5py.Group) else None
    arrays: dict[str, np.ndarray] = {}

    def visit(path: str, node: Any) -> None:
        kind = path.rsplit("/", 1)[-1].partition(":")[0]
        if isinstance(node, h5py.Dataset) and kind in wanted:
            if node.dtype.kind != "f" or node.ndim != (4 if kind == "kernel" else 1):
                raise UserError(
                    f"The {kind} of the layer {layer} of {file} has the shape {node.shape} and type {node.dtype}."
                )
            arrays[kind] = np.asarray(node, dtype=np.float32)

    if isinstance(group, h5py.Group):
        group.visititems(visit)
    if absent := [name for name in wanted if name not in arrays]:
        raise UserError(
            f"The layer {layer} of {file} has no {absent[0]} in model_weights. The file is incomplete; download it again."
        )
    if not all(np.isfinite(arrays[name]).all() for name in wanted):
        raise UserError(f"The layer {layer} of {file} holds NaN or infinite weights.")
    return {name: arrays[name] for name in wanted}


def _check_shapes(file: Path, state: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the network's configuration, after checking every shape against it."""
    from pci_bench.inpainting.network import SOURCE_WIDTHS, PairedCellInpainting

    first, marker, output = (
        state[f"{n}.weight"] for n in ("source_encoder.convs.0", "marker_encoder.convs.0", "decoder.output")
    )
    channels, markers, proteins = first.shape[1], marker.shape[1], output.shape[0]
    if channels != proteins + markers:
        raise UserError(
            f"The channels of {file} do not add up: the source encoder takes {channels}, but there are {proteins} predicted protein and "
            f"{markers} marker channels. The source must be the proteins, then the markers."
        )
    import torch

    config = {"proteins": proteins, "markers": markers, "width": first.shape[0] / SOURCE_WIDTHS[0]}
    with torch.device("meta"):  # without memory, since the width is what the file says
        expected = PairedCellInpainting(**config).state_dict()
    for name, tensor in expected.items():
        if tuple(tensor.shape) != state[name].shape:
            raise UserError(f"{name} in {file} has the shape {state[name].shape}; expected {tuple(tensor.shape)}.")
    return config
