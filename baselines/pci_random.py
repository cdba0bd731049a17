"""The paper's encoder with random weights: what the architecture gives before any training."""

import numpy as np

from pci_bench import ExtractorMeta, register_extractor
from pci_bench.inpainting.features import CROPS_PER_PASS, OUTPUTS, EncoderLayers, encoder_compute

SEED = 2019


@register_extractor("pci-random")
class RandomEncoder(EncoderLayers):
    """Glorot-uniform weights from NumPy's generator with one seed, zero biases, batch norm at its start."""

    meta = ExtractorMeta(
        "pci-random",
        "1",
        "Random-weight encoder",
        OUTPUTS,
        roles=("protein", "marker"),
        groups=("controls",),
        headline="conv3",
        batch=CROPS_PER_PASS,
    )

    def open(self, channels, weights, device):
        """Return the random encoder's pass."""
        import torch

        from pci_bench.inpainting.network import SourceEncoder

        encoder = SourceEncoder(len(channels))
        rng = np.random.default_rng(SEED)
        for conv in encoder.convs:
            outputs, inputs, *size = conv.weight.shape
            limit = np.sqrt(6 / ((inputs + outputs) * np.prod(size)))
            conv.weight.data = torch.from_numpy(rng.uniform(-limit, limit, conv.weight.shape).astype(np.float32))
        return encoder_compute(encoder, device)
