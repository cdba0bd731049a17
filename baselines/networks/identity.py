"""The source cell encoder with a classifier behind it."""

from torch import Tensor, nn

from pci_bench.inpainting.network import SOURCE_WIDTHS, SourceEncoder, check_crops, maximum_over_space, scaled


class IdentityClassifier(nn.Module):
    """The source cell encoder, its last layer's maximum over space, a hidden layer as wide, and logits.

    Parameters
    ----------
    channels
        Proteins and markers together.
    groups
        How many groups of cells it tells apart.
    width
        Factor on every layer's filters; 1 is that of paired cell inpainting.

    Examples
    --------
    >>> import torch
    >>> tuple(IdentityClassifier(2, 7, 0.0625).eval()(torch.zeros(3, 2, 16, 16)).shape)
    (3, 7)
    """

    def __init__(self, channels: int, groups: int, width: float = 1.0):
        super().__init__()
        self.config = {"channels": channels, "groups": groups, "width": width}
        self.source_encoder = SourceEncoder(channels, width)
        features = scaled(SOURCE_WIDTHS, width)[-1]
        self.classifier = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, groups))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits. (n, channels, rows, columns) -> (n, groups)."""
        check_crops(x.shape, self.source_encoder.channels)
        logits: Tensor = self.classifier(maximum_over_space(self.source_encoder(x)))
        return logits
