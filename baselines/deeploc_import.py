"""Import of DeepLoc's weights: a ``.npz`` of the variables of its TensorFlow checkpoint (``docs/deeploc.md``)."""

from pathlib import Path

import numpy as np

from pci_bench import UserError, register_importer, weights
from pci_bench.datasets.chong2015_copies import DECLARATION
from pci_bench.system.foreign import read_npz

LAYERS = (*(f"conv_{i}" for i in range(1, 9)), "fc_1", "fc_2", "final_layer")
# What an array is, by the last part of its variable's name. Running means and variances are called Squeeze and Squeeze_1 by
# checkpoints written after TensorFlow 1.1.
KINDS = {
    "weights": "weights",
    "biases": "biases",
    "gamma": "gamma",
    "beta": "beta",
    "mean": "mean",
    "Squeeze": "mean",
    "variance": "variance",
    "Squeeze_1": "variance",
}
OURS = {
    "weights": "affine.{}.weight",
    "biases": "affine.{}.bias",
    "gamma": "norms.{}.weight",
    "beta": "norms.{}.bias",
    "mean": "norms.{}.running_mean",
    "variance": "norms.{}.running_var",
}
WRAPPERS = ("Variable", "ExponentialMovingAverage")
OF_THE_OPTIMIZER = ("Adam", "Adam_1", "beta1_power", "beta2_power", "global_step")
SEE = "docs/deeploc.md lists the arrays of such a file, and how to write one"


@register_importer("deeploc-npz")
def import_deeploc(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import the variables of a DeepLoc checkpoint as the weights ``deeploc@name``; return that name and the channel roles.

    Raises
    ------
    UserError
        For a file that cannot be read, or arrays that are missing, twice there, unexpected, of wrong shape or not finite.
    """
    if not file.is_file():
        raise UserError(f"There is no file {file}. Expected the .npz of a DeepLoc checkpoint's variables; {SEE}.")
    return save_variables(file, name)


def save_variables(
    file: Path, name: str, source: str | None = None, *, called: str = ""
) -> tuple[str, tuple[str, ...]]:
    """Save the variables in a ``.npz`` as ``deeploc@name``; return that name and the channel roles.

    Parameters
    ----------
    file
        The variables.
    source
        Where they came from; by default `file`.
    called
        What they came from, in messages; by default `file`.
    """
    called = called or str(file)
    arrays, classes = read_arrays(file, called)
    channels, width, n_classes = check_arrays(called, arrays)
    if classes is None:
        classes = DECLARATION["classes"]
    if len(classes) != n_classes:
        raise UserError(
            f"{called} has {n_classes} outputs, but names {len(classes)} classes. Expected an array 'classes' with one name "
            f"for each output; without it, the {len(DECLARATION['classes'])} of the published network are meant."
        )
    roles = ("protein", *["marker"] * (channels - 1))
    weights.check_declared_channels("deeploc", name, roles)
    weights.save(
        "deeploc",
        name,
        {OURS[kind].format(layer): _turned(array) for (layer, kind), array in arrays.items()}
        | {f"norms.{layer}.num_batches_tracked": np.array(0, np.int64) for layer in LAYERS},
        channels=roles,
        config={"channels": channels, "classes": list(classes), "width": width, "smallest_range": 1.0},
        source=source or weights.source_of("deeploc", name, file),
        trained_on=weights.declared().get("deeploc", {}).get(name, {}).get("trained_on"),
    )
    return f"deeploc@{name}", roles


def read_arrays(file: Path, called: str) -> tuple[dict[tuple[str, str], np.ndarray], list[str] | None]:
    """Return the arrays of a ``.npz`` by (layer, kind), and the names of its classes or None; what an optimizer left is ignored."""
    try:
        content = read_npz(file)
    except (OSError, ValueError) as error:
        raise UserError(f"{called} cannot be read as a .npz of plain arrays ({error}). {SEE}.") from error
    classes = content.pop("classes", None)
    arrays: dict[tuple[str, str], np.ndarray] = {}
    names: dict[tuple[str, str], str] = {}
    for name, array in content.items():
        parts = [part for part in name.split("/") if part not in WRAPPERS]
        if not parts or parts[-1] in OF_THE_OPTIMIZER:  # a step counter has no name but Variable
            continue
        layer, kind = next((part for part in parts if part in LAYERS), None), KINDS.get(parts[-1])
        if layer is None or kind is None:
            raise UserError(f"{called} has an array '{name}', which is of no layer of DeepLoc. {SEE}.")
        if (layer, kind) in arrays:
            raise UserError(
                f"{called} has the {kind} of {layer} twice: '{names[layer, kind]}' and '{name}'. Leave one out."
            )
        arrays[layer, kind], names[layer, kind] = array, name
    return arrays, None if classes is None else [str(name) for name in classes]


def check_arrays(called: str, arrays: dict[tuple[str, str], np.ndarray]) -> tuple[int, float, int]:
    """Return the numbers of channels, the width and the number of classes of a file's network, all its arrays checked."""
    from .networks.deeploc import CONVOLUTIONS, shapes

    for layer in LAYERS:
        for kind in OURS:
            if (layer, kind) not in arrays:
                raise UserError(f"{called} has no {kind} of the layer {layer}. {SEE}.")
    first, last = arrays["conv_1", "weights"].shape, arrays["final_layer", "weights"].shape
    if len(first) != 4 or len(last) != 2 or first[2] < 2 or last[1] < 2:
        raise UserError(
            f"The weights of conv_1 and final_layer in {called} have the shapes {first} and {last}; expected (3, 3, channels, "
            f"filters) with at least 2 channels and (inputs, classes) with at least 2 classes. {SEE}."
        )
    width = first[3] / CONVOLUTIONS["conv_1"]
    for layer, shape in shapes(first[2], width, last[1]).items():
        for kind in OURS:
            array, expected = arrays[layer, kind], shape if kind == "weights" else shape[-1:]
            if array.shape != expected:
                raise UserError(
                    f"The {kind} of {layer} in {called} have the shape {array.shape}; expected {expected}. {SEE}."
                )
            if array.dtype.kind != "f" or not np.isfinite(array).all():
                raise UserError(f"The {kind} of {layer} in {called} are not all finite numbers. Write the file again.")
    return first[2], width, last[1]


def _turned(array: np.ndarray) -> np.ndarray:
    """Return weights in torch's order, outputs before inputs before rows and columns; vectors as they are."""
    order = {4: (3, 2, 0, 1), 2: (1, 0)}.get(array.ndim, (0,))
    return np.ascontiguousarray(array.transpose(order), dtype=np.float32)
