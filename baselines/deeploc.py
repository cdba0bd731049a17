"""DeepLoc, the paper's supervised upper bound: a network that learned the labels (Kraus et al. 2017)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench import (
    Cells,
    Channel,
    ClassificationModel,
    Compute,
    Extractor,
    ExtractorMeta,
    ModelMeta,
    register_extractor,
    register_model,
)
from pci_bench import weights as weight_files
from pci_bench.datasets.chong2015_copies import DECLARATION

if TYPE_CHECKING:
    from torch import nn

    from pci_bench.api.extractor import TorchFunction

CROP = 64
CLASSES = tuple(DECLARATION["classes"])  # of the published network, in the order of its outputs
ONE_COUNT = 1 / 65535  # of a 16-bit camera, in raw values


def unavailable_reason(channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
    """Return why crops do not suit the network, or None."""
    if channels[0].role != "protein" or all(c.role == "protein" for c in channels):
        return "it needs a protein channel, first, and at least one marker channel"
    if tuple(crop_shape) != (CROP, CROP):
        return f"it takes 60×60 px parts of crops of {CROP}×{CROP} px, and these have {crop_shape[0]}×{crop_shape[1]}"
    return None


@register_model("deeploc")
class DeepLocModel(ClassificationModel):
    """DeepLoc trained on labels, with its published recipe (SD of weights, crops, flips, turns, Adam, decay).

    The default recipe is the published one: batches of 128, Adam at 0.1 × 0.96^⌊step / 25⌋; 30 epochs are 5,100 steps on the
    21,882 training cells of chong2015 (the published weights: 5,000 steps; the code goes on to 10,000). One thing differs:
    the published code takes cells in the order of its files, and here an order is drawn for every epoch, because datasets
    are ordered by image and batch norm needs mixed batches; ``--order stored`` is the published way.

    A channel is divided by its range where that exceeds one count of a 16-bit camera (1/65535 in raw values), so that only
    constant channels are not. The published code says 1, in the units of its files; integers divided by their type's
    maximum, which are the raw values here, would never be divided.
    """

    meta = ModelMeta(
        "deeploc",
        "1",
        "DeepLoc: learn the labels of single cells (supervised)",
        pairs=False,
        supervised=True,
        recipe={"epochs": 30, "batch": 128, "learning_rate": 0.1, "schedule": "exponential", "beta1": 0.9},
    )

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        return unavailable_reason(channels, crop_shape)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels and classes."""
        from .networks.deeploc import DeepLoc

        return DeepLoc(len(channels), classes, width, ONE_COUNT)

    def augmented(self, crops: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a random 60×60 part of each crop, stretched, flipped and turned."""
        from .networks import deeploc

        return deeploc.augmented(deeploc.stretched(crops, ONE_COUNT), rng)

    def probabilities(self, network: nn.Module, crops: np.ndarray, device: str) -> np.ndarray:
        """Return the mean over the five parts of each crop of the softmax."""
        from .networks.deeploc import DeepLoc

        assert isinstance(network, DeepLoc)
        return network.of_cells(crops, ["predictions"], device)["predictions"]


@register_extractor("deeploc")
class DeepLocFeatures(Extractor):
    """The supervised upper bound (paper: "Baseline Feature Extraction and Benchmarking"; Supplementary Tables 1 and 2).

    **Ours**: the paper does not say which of DeepLoc's five parts of a crop its features are of; here, the mean over them.
    The weights ``kraus2017`` are for pixel values in the units of chong2015's files, and divide by a channel's range only
    where that exceeds 1 in them, as published.
    """

    meta = ExtractorMeta(
        "deeploc",
        "2",
        "Supervised (DeepLoc)",
        {
            "fc2": "second fully connected layer after batch norm and ReLU, mean over five parts of the crop (512 at full width)",
            "fc2-centre": "the same of the central part alone",
            "predictions": "probability of each class, mean over five parts of the crop",
        },
        rescale="raw",
        roles=("protein", "marker"),
        groups=("paper",),
        headline="fc2",
        weights="deeploc",
        batch=4,  # twenty parts: more leave the cores' caches
        concurrent=True,
    )

    def unavailable_reason(self, cells: Cells) -> str | None:
        """Return why these crops do not fit, or None."""
        return unavailable_reason(cells.channels, cells.crop_shape)

    def names(self, output: str, channels: tuple[Channel, ...], weights: Path | None = None) -> list[str]:
        """Return fc2_0, fc2_1 … at full width; for predictions, the classes that the weights (by default the published) know."""
        from .networks.deeploc import FULLY_CONNECTED, scaled

        config: dict[str, Any] = (
            {"classes": CLASSES, "width": 1.0} if weights is None else weight_files.read_header(weights).config
        )
        if output == "predictions":
            return list(config["classes"])
        return [f"fc2_{i}" for i in range(scaled(FULLY_CONNECTED["fc_2"], config["width"]))]

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the network's pass over five parts of each crop."""
        from .networks.deeploc import load

        assert weights is not None
        network = load(weights).to(device)
        return lambda crops, outputs: network.of_cells(crops, outputs, device)

    def differentiable(self, output: str, channels: tuple[Channel, ...], weights: Path | None) -> TorchFunction:
        """Return an output of the network; the percentiles by which a crop is stretched count as constants."""
        from .networks.deeploc import load

        assert weights is not None
        network = load(weights).requires_grad_(False)
        return lambda crops: network.outputs_of(network.prepared(crops), [output])[output]
