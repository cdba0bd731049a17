"""The encoder of paired cell inpainting with random, untrained weights: a control for the architecture."""

import re
from pathlib import Path

import numpy as np

from pci_bench import Channel, Compute, ExtractorMeta, UserError, register_extractor, register_fetcher
from pci_bench.inpainting.features import CROPS_PER_PASS, OUTPUTS, EncoderLayers, encoder_compute
from pci_bench.system.arguments import check_seed
from pci_bench.weights import read_header, save

FAMILY = "pci-random"
WIDTH = 0.25  # of the trained networks that are shipped: a control differs in nothing but training
SEEDS = ("seed0", "seed1", "seed2")


@register_extractor(FAMILY)
class RandomEncoder(EncoderLayers):
    """Glorot-uniform weights from NumPy's generator, zero biases, batch norm at its start; as wide as the shipped networks.

    The seed stands in the place of the weights: ``pci-random-conv3@seed7``; without one, it is ``seed0``. Groups hold three.
    """

    meta = ExtractorMeta(
        FAMILY,
        "2",
        "Random-weight encoder",
        OUTPUTS,
        roles=("protein", "marker"),
        groups=("controls",),
        headline="conv3",
        weights=FAMILY,
        replicates=SEEDS,
        batch=CROPS_PER_PASS,
        concurrent=True,
    )

    def open(self, channels: tuple[Channel, ...], weights: Path | None, device: str) -> Compute:
        """Return the random encoder's pass."""
        import torch
        from torch import nn

        from pci_bench.inpainting.network import SourceEncoder

        assert weights is not None
        config = read_header(weights).config
        encoder = SourceEncoder(len(channels), config["width"])
        rng = np.random.default_rng(config["seed"])
        for conv in encoder.convs:
            assert isinstance(conv, nn.Conv2d)
            outputs, inputs, *size = conv.weight.shape
            limit = np.sqrt(6 / ((inputs + outputs) * np.prod(size)))
            conv.weight.data = torch.from_numpy(rng.uniform(-limit, limit, conv.weight.shape).astype(np.float32))
        return encoder_compute(encoder, device)


@register_fetcher(FAMILY)
def drawn(name: str) -> Path:
    """Return the weights file of a seed, made now: it holds the seed and the width, and the numbers are drawn when it is opened."""
    matched = re.fullmatch(r"seed(\d+)", name)
    if matched is None:
        raise UserError(f"There are no weights {FAMILY}@{name}; their names are seed0, seed1, seed2 and so on.")
    check_seed(int(matched[1]))
    config = {"seed": int(matched[1]), "width": WIDTH}
    return save(FAMILY, name, {}, channels=(), config=config, source="NumPy's random generator")
