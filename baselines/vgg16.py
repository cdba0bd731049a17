"""VGG16 trained on ImageNet: the output of every convolution, under the paper's three input strategies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from pci_bench import Cells, Channel, Compute, Extractor, ExtractorMeta, UserError, import_timm, register_extractor
from pci_bench.data.cells import rescaled
from pci_bench.weights import setting

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTHS = {
    f"block{block}_conv{number}": width
    for block, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1)
    for number in range(1, count + 1)
}
POSITIONS = dict(zip(WIDTHS, (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28), strict=True))  # in timm's sequence
STRATEGIES = {
    "rgb": "markers red and blue, protein green",
    "concatenated": "every channel as grey, features side by side",
    "gfp-only": "the protein as grey",
}
CONVOLUTIONS = {
    f"{strategy}-{layer}": f"{layer}, ReLU, maximum over space ({width} features a pass); {how}"
    for strategy, how in STRATEGIES.items()
    for layer, width in WIDTHS.items()
}
FC2, FC2_SIZE, FC2_WIDTH = "fc2-224", 224, 4096
FULLY_CONNECTED = [f"pre_logits.{layer}.{kind}" for layer in ("fc1", "fc2") for kind in ("weight", "bias")]
SMALLEST = 16  # pixels that four poolings by 2 leave one of
SEED = 2014
CROPS_PER_PASS = 16  # measured: 8 are as quick, with 32 and 64 a pass takes a tenth longer (the cores' caches)

# Markers of the Human Protein Atlas, by which its crops are known: the authors' script shows them to VGG16 as they are.
HUMAN_MARKERS = {"nucleus", "microtubules"}

# Three-channel images of [0, 1] as each set of weights was trained on them: Keras' Caffe mode, and torchvision's.
BGR_MEAN = (103.939, 116.779, 123.68)
RGB_MEAN, RGB_SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Way = int | Literal["rgb"]  # how crops are shown: as `shown` says


def stretched(crops: np.ndarray, channels: tuple[Channel, ...]) -> np.ndarray:
    """Return raw crops as VGG16 is shown them: yeast (and any other) min–max rescaled, human cells unchanged.

    (b, channels, rows, columns) float32 -> the same shape. Human: the authors' script takes the raw crop in [0, 1]. Yeast is
    ours: neither paper nor code says.
    """
    if {c.name for c in channels if c.role == "marker"} >= HUMAN_MARKERS:
        return crops
    return rescaled(crops, channels, "minmax")


def prepared(images: Tensor, preprocessing: str) -> Tensor:
    """Return images as the network was trained to see them. Tensor (b, 3, rows, columns) RGB in [0, 1] -> the same shape.

    Parameters
    ----------
    preprocessing
        ``"keras-bgr"`` (Oxford's weights): whole numbers up to 255, blue first, mean subtracted, nothing divided.
        ``"imagenet-rgb"`` (torchvision's weights): mean subtracted, divided by the standard deviation.
    """
    if preprocessing == "keras-bgr":
        return (images * 255).round().flip(1) - images.new_tensor(BGR_MEAN).reshape(3, 1, 1)
    if preprocessing == "imagenet-rgb":
        mean, sd = (images.new_tensor(values).reshape(3, 1, 1) for values in (RGB_MEAN, RGB_SD))
        return (images - mean) / sd
    raise UserError(
        f"There is no preprocessing '{preprocessing}'; expected keras-bgr or imagenet-rgb. Import the weights again."
    )


def shown(crops: Tensor, channels: Sequence[Channel], way: Way) -> Tensor:
    """Return crops as RGB images. Tensor (b, channels, rows, columns) -> (b, 3, rows, columns).

    `way` is the position of the channel to show as grey, or ``"rgb"``: the protein green, the first marker red, and the
    second blue, where there is one (further markers are left out).
    """
    import torch

    if way != "rgb":
        return crops[:, [way] * 3]
    protein, *markers = protein_then_markers(channels)
    blue = crops[:, markers[1]] if len(markers) > 1 else torch.zeros_like(crops[:, 0])
    return torch.stack([crops[:, markers[0]], crops[:, protein], blue], dim=1)


def protein_then_markers(channels: Sequence[Channel]) -> list[int]:
    """Return the positions of the first protein channel and of all markers."""
    return [
        next(i for i, c in enumerate(channels) if c.role == "protein"),
        *(i for i, c in enumerate(channels) if c.role == "marker"),
    ]


def ways_of(strategy: str, channels: Sequence[Channel]) -> Sequence[Way]:
    """Return the passes that a strategy is made of, as `shown` takes them."""
    if strategy == "rgb":
        return ["rgb"]
    return protein_then_markers(channels) if strategy == "concatenated" else protein_then_markers(channels)[:1]


def split(output: str) -> tuple[str, str]:
    """Return (strategy, layer) of an output: ``gfp-only``, ``block4_conv1``."""
    strategy, _, layer = output.rpartition("-")
    return strategy, layer


def activations(features: nn.Sequential, images: Tensor, layers: set[str]) -> dict[str, Tensor]:
    """Return {layer: (b, width)} from one pass that ends at the deepest of the layers; no map is kept."""
    by_layer: dict[str, Tensor] = {}
    start = 0
    for layer, position in POSITIONS.items():
        if len(by_layer) == len(layers):
            break
        end = position + 2  # the pooling before it, where there is one, the convolution and its ReLU
        images = features[start:end](images)
        start = end
        if layer in layers:
            by_layer[layer] = images.amax(dim=(2, 3))
    return by_layer


def network(state: dict[str, np.ndarray]) -> nn.Module:
    """Return timm's VGG16 without its last layer, with these weights (arrays); the fully connected layers may be absent."""
    import torch

    with torch.device("meta"):  # neither memory nor random numbers for what is replaced at once
        model: nn.Module = import_timm().create_model("vgg16", pretrained=False, num_classes=0)
    try:
        absent, unknown = model.load_state_dict(
            {name: torch.from_numpy(array) for name, array in state.items()}, strict=False, assign=True
        )
    except RuntimeError as error:
        raise UserError(f"These weights do not fit VGG16 ({error}). Import them again.") from error
    if unknown or set(absent) not in (set(), set(FULLY_CONNECTED)):
        raise UserError(
            f"These weights are not VGG16's: {[*unknown, *absent][0]} is too many or missing. Import them again."
        )
    return model.eval()


def vgg16_compute(
    state: dict[str, np.ndarray], preprocessing: str, channels: tuple[Channel, ...], device: str
) -> Compute:
    """Return the function of (crops, outputs) that makes as few and as short passes as the outputs need."""
    import torch
    from torch import nn
    from torch.nn import functional

    model = network(state)
    features = model.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    features.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
    fully_connected = model.get_submodule("pre_logits").to(device) if set(FULLY_CONNECTED) <= set(state) else None

    def seen(images: Tensor) -> Tensor:
        return prepared(images, preprocessing).contiguous(memory_format=torch.channels_last)

    def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
        needed: dict[Way, set[str]] = defaultdict(set)
        for strategy, layer in map(split, outputs - {FC2}):
            for way in ways_of(strategy, channels):
                needed[way].add(layer)
        batch, values = torch.from_numpy(crops).to(device), {}
        with torch.inference_mode():
            passes = {
                way: activations(features, seen(shown(batch, channels, way)), layers) for way, layers in needed.items()
            }
            for output in outputs - {FC2}:
                strategy, layer = split(output)
                values[output] = torch.cat([passes[way][layer] for way in ways_of(strategy, channels)], dim=1)
            if FC2 in outputs:
                assert fully_connected is not None
                grey = shown(batch, channels, *ways_of("gfp-only", channels))
                large = functional.interpolate(grey, (FC2_SIZE, FC2_SIZE), mode="bilinear", align_corners=False)
                values[FC2] = fully_connected(features(seen(large))).flatten(1)
        return {output: value.float().cpu().numpy() for output, value in values.items()}

    return compute


class VGG16Layers(Extractor):
    """What both sets of feature sets have in common: which crops fit, and the columns' names."""

    def on_stretched(self, compute: Compute, channels: tuple[Channel, ...]) -> Compute:
        """Return a function of raw crops that computes from them as they are shown."""
        return lambda crops, outputs: compute(stretched(crops, channels), outputs)

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        rows, columns = cells.crop_shape
        if min(rows, columns) < SMALLEST:
            return f"crops of {rows}×{columns} px are too small for five blocks: at least {SMALLEST}×{SMALLEST} px are needed"
        return None

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return block4_conv1_0 and so on; GFP_block4_conv1_0 where several channels' features stand side by side."""
        if output == FC2:
            return [f"fc2_{i}" for i in range(FC2_WIDTH)]
        strategy, layer = split(output)
        columns = [f"{layer}_{i}" for i in range(WIDTHS[layer])]
        if strategy != "concatenated":
            return columns
        return [f"{channels[way].name}_{column}" for way in protein_then_markers(channels) for column in columns]

    def output_unavailable_reason(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> str | None:
        """Return why an output cannot be had with these channels and weights, or None."""
        strategy, _ = split(output)
        if strategy in ("rgb", "concatenated") and not any(c.role == "marker" for c in channels):
            return f"{strategy} needs a marker channel beside the protein, and there is none. Take gfp-only"
        if output == FC2 and weights is not None and not setting(weights, "fully_connected", bool):
            return (
                f"the weights {weights.stem} have no fully connected layers ('notop'). `pci-bench weights get vgg16@oxford --overwrite` "
                "gets the published file that has them"
            )
        return None


@register_extractor("vgg16")
class VGG16Features(VGG16Layers):
    """VGG16 trained on ImageNet (paper: "Baseline Feature Extraction and Benchmarking"; Supplementary Figure 2).

    Every convolution after its ReLU, maximum over space, at the crop's own size: ``rgb`` shows the first marker red, the protein
    green and the second marker, where there is one, blue; ``concatenated`` shows every channel as grey and puts the features
    side by side; ``gfp-only`` shows the protein as grey. ``fc2-224`` is the last but one fully connected layer (4,096, after
    ReLU) for the protein as grey at 224×224 px, bilinear without anti-aliasing. Crops with the markers nucleus and microtubules
    (human cells) are shown raw, as the authors' script does; others are min–max rescaled first (ours). What then is subtracted
    or divided comes with the weights.
    """

    meta = ExtractorMeta(
        "vgg16",
        "2",
        "VGG16 (ImageNet)",
        CONVOLUTIONS | {FC2: "fc2, ReLU (4096 features); the protein as grey, resized to 224×224 px"},
        groups=("paper",),
        rescale="raw",
        headline="gfp-only-block4_conv1",
        weights="vgg16",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the passes with these weights."""
        from safetensors.numpy import load_file

        assert weights is not None
        preprocessing = setting(weights, "preprocessing", str)
        return self.on_stretched(vgg16_compute(load_file(weights), preprocessing, channels, device), channels)


@register_extractor("vgg16-random")
class RandomVGG16(VGG16Layers):
    """The same convolutions with He-uniform weights from NumPy's generator with one seed, zero biases; ImageNet's mean and SD.

    Without ``fc2-224``: its 120 million weights would be half a gigabyte of random numbers.
    """

    meta = ExtractorMeta(
        "vgg16-random",
        "2",
        "VGG16, random weights",
        CONVOLUTIONS,
        rescale="raw",
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the passes with random weights."""
        rng, inputs = np.random.default_rng(SEED), 3
        state: dict[str, np.ndarray] = {}
        for layer, width in WIDTHS.items():
            limit = np.sqrt(6 / (9 * inputs))
            kernel = rng.uniform(-limit, limit, (width, inputs, 3, 3))
            state |= convolution(POSITIONS[layer], kernel.astype(np.float32), np.zeros(width, np.float32))
            inputs = width
        return self.on_stretched(vgg16_compute(state, "imagenet-rgb", channels, device), channels)


def convolution(position: int, weight: np.ndarray, bias: np.ndarray) -> dict[str, np.ndarray]:
    """Return a layer's arrays by timm's names."""
    return {f"features.{position}.weight": weight, f"features.{position}.bias": bias}
