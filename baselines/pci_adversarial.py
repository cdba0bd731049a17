"""Paired cell inpainting with an adversarial loss beside the mean squared error (a wish of the paper's Discussion)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import Cells, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta
from pci_bench.inpainting.model import PairedCellInpaintingModel
from pci_bench.training.objectives.reconstruction import Reconstruction

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from pci_bench.system.progress import Progress
    from pci_bench.training.recipe import Recipe

FAMILY, SHARE = "pci-adversarial", 0.01


class Adversarial(Reconstruction):
    """Mean squared error, and 0.01 × (critic of the prediction − 1)²; the critic learns in the same step (Mao et al. 2017).

    The loss that is shown and drawn is the sum of both and of the critic's own; the loss of held-out pairs is the mean squared
    error alone, as that of paired cell inpainting.
    """

    loss_name = "mean squared error, while training with the adversarial loss and the critic's"

    def loss(self, network: torch.nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """Return the loss of a batch: the network's and the critic's, whose gradients do not mix."""
        import torch

        from .networks.adversarial import AdversarialInpainting

        assert isinstance(network, AdversarialInpainting)
        prediction, truth = self.model.predict(network, *batch)
        markers = batch[1][:, truth.shape[1] :]
        predicted, real = torch.cat([prediction, markers], dim=1), torch.cat([truth, markers], dim=1)
        error = torch.nn.functional.mse_loss(prediction.float(), truth.float())
        fooled = (network.critic_that_does_not_learn(predicted).float() - 1).square().mean()
        of_critic = (network.critic(real).float() - 1).square() + network.critic(predicted.detach()).float().square()
        loss: Tensor = error + SHARE * fooled + of_critic.mean()
        return loss


@register_model(FAMILY)
class AdversarialModel(PairedCellInpaintingModel):
    """Paired cell inpainting whose prediction must also pass for a real cell.

    The paper: "loss functions that encourage more realistic outputs, such as adversarial losses, could improve this issue", of
    patterns that markers do not foretell and whose mean over all possibilities is predicted instead.
    """

    meta = ModelMeta(FAMILY, "1", "Paired cell inpainting with an adversarial loss")

    def objective(self, cells: Cells, recipe: Recipe, progress: Progress) -> Adversarial:
        """Return mean squared error and the adversarial loss."""
        return Adversarial(self, cells, recipe, progress)

    def network(self) -> type[nn.Module]:
        """Return the network's class."""
        from .networks.adversarial import AdversarialInpainting

        return AdversarialInpainting


@register_extractor(FAMILY)
class AdversarialFeatures(EncoderLayers):
    """The source cell encoder's layers, as those of paired cell inpainting."""

    meta = encoder_meta(FAMILY, "Paired cell inpainting, adversarial")

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file."""
        from pci_bench.inpainting.network import load_network

        from .networks.adversarial import AdversarialInpainting

        return load_network(weights, AdversarialInpainting).source_encoder
