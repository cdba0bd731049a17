"""CytoImageNet's EfficientNetB0 (Hua, Lu and Moses 2021, arXiv 2111.11646): a network that learned from microscopy images alone.

What its authors' evaluation of yeast cells does (``scripts/model_evaluation.py``, "concatenation and normalization"): each channel
of a crop, at its own size, is stretched by its 0.1 and 99.9 percentiles and shown as grey; the network is Keras' own, built for
images of any size, and its last maps are averaged over space; the channels' 1,280 features stand side by side. Of the four ways that
they tried this is the one that they go on with. **Ours**: a constant channel is shown black (theirs divides 0 by 0), and the protein
comes first.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import (
    Cells,
    Channel,
    Compute,
    Extractor,
    ExtractorMeta,
    UserError,
    import_timm,
    register_extractor,
    register_importer,
)
from pci_bench.system.foreign import opened_hdf5
from pci_bench.weights import network_in, save, setting, source_of

from .vgg16 import protein_then_markers

if TYPE_CHECKING:
    from torch import Tensor, nn

FAMILY, KIND = "cytoimagenet", "keras-efficientnetb0"
MODEL = "tf_efficientnet_b0"  # of timm, with TensorFlow's epsilon; the one without "tf_" has another
WIDTH, SMALLEST = 1280, 32  # pixels that five strides of 2 leave one of
PERCENTILES = (0.1, 99.9)
EPSILON = 1e-7  # least standard deviation that Keras' Normalization divides by
CROPS_PER_PASS = 16  # as for VGG16
EXPECTED = "Expected the HDF5 file of the weights of Keras' EfficientNetB0, with or without its top"

# Modules by their names in timm and in Keras; the blocks of the first stage widen nothing.
OUTSIDE = {"conv_stem": "stem_conv", "bn1": "stem_bn", "conv_head": "top_conv", "bn2": "top_bn"}
EXCITATION = {"conv_dw": "dwconv", "se.conv_reduce": "se_reduce", "se.conv_expand": "se_expand"}
FIRST_STAGE = EXCITATION | {"bn1": "bn", "conv_pw": "project_conv", "bn2": "project_bn"}
OTHER_STAGES = EXCITATION | {
    "conv_pw": "expand_conv",
    "bn1": "expand_bn",
    "bn2": "bn",
    "conv_pwl": "project_conv",
    "bn3": "project_bn",
}
OF_A_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}


@register_extractor(FAMILY)
class CytoImageNet(Extractor):
    """EfficientNetB0 trained on CytoImageNet, 890,217 microscopy images of 894 weak labels: a rival, not in the paper.

    Each channel is stretched by its 0.1 and 99.9 percentiles and shown as grey at the crop's own size; the mean over space of the
    last maps (1,280 features a channel), protein first. Its authors report 65.19 % for kNN with k = 11 on the labelled yeast cells
    without dead cells and ghosts.
    """

    meta = ExtractorMeta(
        FAMILY,
        "1",
        "CytoImageNet's EfficientNetB0, each channel as grey",
        rescale="raw",
        weights=FAMILY,
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        rows, columns = cells.crop_shape
        if min(rows, columns) < SMALLEST:
            return f"crops of {rows}×{columns} px are too small for five strides of 2: at least {SMALLEST}×{SMALLEST} px are needed"
        return None

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return GFP_0, GFP_1 and so on."""
        return [f"{channels[i].name}_{k}" for i in protein_then_markers(channels) for k in range(WIDTH)]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the network's pass over all channels."""
        import torch

        assert weights is not None
        mean, variance = (np.asarray(setting(weights, key, list), np.float32) for key in ("mean", "variance"))
        network: Any = network_in(weights, make_network).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        order = protein_then_markers(channels)
        shift, scale = (torch.from_numpy(v).reshape(3, 1, 1).to(device) for v in (mean, deviation(variance)))

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            grey = torch.from_numpy(stretched(crops[:, order])).to(device).flatten(0, 1)
            images = (grey[:, None].expand(-1, 3, -1, -1) - shift) / scale
            with torch.inference_mode():
                maps = network.forward_features(images.contiguous(memory_format=torch.channels_last))
                return {"": maps.mean(dim=(2, 3)).reshape(len(crops), -1).float().cpu().numpy()}

        return compute


def stretched(crops: np.ndarray) -> np.ndarray:
    """Return every crop's channels from 0 (their 0.1 percentile and below) to 1 (their 99.9 percentile and above).

    (b, channels, rows, columns) -> the same shape, float32. The authors go on to 255, which the network divides by.

    Examples
    --------
    >>> stretched(np.array([[[[0.0, 5.0], [10.0, 10.0]]]])).round(2).tolist()
    [[[[0.0, 0.5], [1.0, 1.0]]]]
    """
    low, high = np.percentile(crops, PERCENTILES, axis=(2, 3), keepdims=True)
    span = high - low
    values: np.ndarray = ((np.clip(crops, low, high) - low) / np.where(span > 0, span, 1)).astype(np.float32)
    return values


def deviation(variance: np.ndarray) -> np.ndarray:
    """Return what Keras' Normalization layer divides by."""
    result: np.ndarray = np.maximum(np.sqrt(variance), np.float32(EPSILON))
    return result


def make_network() -> nn.Module:
    """Return timm's network without its classifier and without weights, padded as Keras' for images of any size.

    Such a network of Keras adds one row and column more after an image than before it, wherever it halves one; timm's does so for
    even sizes only.
    """
    from torch import nn

    network: nn.Module = import_timm().create_model(MODEL, pretrained=False, num_classes=0, pad_type="")
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.stride == (2, 2):
            half = module.kernel_size[0] // 2
            module.padding = (0, 0)
            module.register_forward_pre_hook(partial(_pad, (half - 1, half, half - 1, half)))
    return network


def _pad(sides: tuple[int, ...], module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    from torch.nn import functional

    return functional.pad(inputs[0], sides)


# ---- import


@register_importer(KIND)
def import_keras_efficientnetb0(file: Path, name: str) -> tuple[str, tuple[str, ...]]:
    """Import Keras' weights of an EfficientNetB0, as ``cytoimagenet@name``; a classifier in the file is left out.

    Raises
    ------
    UserError
        For a file that cannot be read, lacks a layer or holds another network, or a name that stands for another file.
    """
    if not file.is_file():
        raise UserError(f"There is no file {file}. {EXPECTED}.")
    try:
        with opened_hdf5(file) as opened:
            arrays = keras_arrays(opened.get("model_weights", opened))
    except (ValueError, TypeError, AttributeError) as error:  # an attribute or a group that is something else
        raise UserError(f"{file} cannot be read as weights of Keras: {error}. {EXPECTED}.") from error
    state = timm_state(file, arrays)
    norm = {kind: array for (_, kind), array in arrays.items() if kind in ("mean", "variance")}
    if {kind: array.shape for kind, array in norm.items()} != {"mean": (3,), "variance": (3,)}:
        raise UserError(f"{file} has no layer 'normalization' with the mean and variance of three colours. {EXPECTED}.")
    config = {kind: np.asarray(array, np.float64).tolist() for kind, array in norm.items()}
    save(FAMILY, name, state, channels=(), config=config, source=source_of(FAMILY, name, file))
    return f"{FAMILY}@{name}", ()


def keras_arrays(group: Any) -> dict[tuple[str, str], np.ndarray]:
    """Return {(layer, kind): array} of a group that Keras wrote weights to; the kind is the last part of an array's name."""
    arrays = {}
    for layer in map(_text, group.attrs["layer_names"]):
        for name in map(_text, group[layer].attrs["weight_names"]):
            kind = name.rpartition("/")[2].partition(":")[0]
            arrays[layer, "kernel" if kind == "depthwise_kernel" else kind] = np.asarray(group[layer][name])
    return arrays


def timm_state(file: Path, arrays: dict[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """Return the state of timm's network from Keras' arrays, each checked."""
    import torch

    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in make_network().state_dict().items()}
    state = {}
    for name, shape in expected.items():
        module, _, tensor = name.rpartition(".")
        if tensor == "num_batches_tracked":
            state[name] = np.array(0, np.int64)
            continue
        layer = keras_layer(module)
        kind = OF_A_NORM[tensor] if layer.endswith("bn") else {"weight": "kernel", "bias": "bias"}[tensor]
        if (layer, kind) not in arrays:
            raise UserError(f"{file} is not of EfficientNetB0: it has no {kind} of a layer {layer}. {EXPECTED}.")
        array = arrays[layer, kind]
        if array.ndim == 4:  # rows, columns, inputs, outputs; of a depthwise convolution rows, columns, channels, 1
            array = array.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (3, 2, 0, 1))
        if array.shape != shape:
            raise UserError(
                f"The {kind} of {layer} in {file} has the shape {array.shape}; expected {shape}, outputs first."
            )
        state[name] = np.ascontiguousarray(array, np.float32)
        if not np.isfinite(state[name]).all():
            raise UserError(
                f"The {kind} of {layer} in {file} holds NaN or infinite weights. Write or fetch the file again."
            )
    return state


def keras_layer(module: str) -> str:
    """Return Keras' name of one of timm's modules.

    Examples
    --------
    >>> keras_layer("blocks.1.0.conv_pw"), keras_layer("bn2")
    ('block2a_expand_conv', 'top_bn')
    """
    if module in OUTSIDE:
        return OUTSIDE[module]
    _, stage, repeat, within = module.split(".", 3)
    names = OTHER_STAGES if int(stage) else FIRST_STAGE
    return f"block{int(stage) + 1}{chr(ord('a') + int(repeat))}_{names[within]}"


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)
