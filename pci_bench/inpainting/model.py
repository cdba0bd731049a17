"""Paired cell inpainting as a trainable model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pci_bench.api.model import ModelMeta, register_model
from pci_bench.inpainting.features import size_reason
from pci_bench.training.objectives.reconstruction import ReconstructionModel

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from torch import Tensor

    from pci_bench.data.cells import Channel


@register_model("pci")
class PairedCellInpaintingModel(ReconstructionModel):
    """Predicts the target's protein from the source cell and the target's markers (paper: "Paired Cell Inpainting")."""

    meta = ModelMeta("pci", "1", "Paired cell inpainting: predict a cell's protein from another cell of its image")

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        if channels[0].role != "protein" or all(c.role == "protein" for c in channels):
            return "it needs a protein channel, first, and at least one marker channel"
        return size_reason(crop_shape)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> torch.nn.Module:
        """Return a new network for these channels."""
        proteins = sum(c.role == "protein" for c in channels)
        return self.network()(proteins, len(channels) - proteins, width)

    def network(self) -> Callable[[int, int, float], torch.nn.Module]:
        """Return the network's class, constructed of the numbers of proteins and markers and the width."""
        from pci_bench.inpainting.network import PairedCellInpainting

        return PairedCellInpainting

    def predict(self, network: Any, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the predicted and the real protein channels of the targets."""
        proteins = network.config["proteins"]
        return network(source, target[:, proteins:]), target[:, :proteins]
