"""Weak supervision: the encoder of paired cell inpainting, trained to tell which image or protein a crop is of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pci_bench import Channel, ModelMeta, register_extractor, register_model
from pci_bench.inpainting.features import EncoderLayers, encoder_meta, size_reason
from pci_bench.training.objectives.identity import IdentityModel

if TYPE_CHECKING:
    from torch import nn


@register_model("image-identity")
class ImageIdentityModel(IdentityModel):
    """Tells which image a crop is of, among all images.

    As treatments are told apart by Caicedo et al. (2018), and proteins by Razdaibiedina et al. (2024, "PIFiA"), for datasets
    whose images are all that is known. Like paired cell inpainting, it reads the column ``image`` and never ``label``.
    Where an image has one label, as in ``rxrx1-organelles-train`` (one stain of one field), telling images apart demands
    telling labels apart too, and also plates and cell lines, which are nuisances. Crops are flipped at random, as those of
    paired cell inpainting are.
    """

    meta = ModelMeta(
        "image-identity", "1", "Image identity: tell which image a crop is of (weak supervision)", pairs=False
    )

    def unavailable_reason(self, channels: tuple[Channel, ...], crop_shape: tuple[int, int]) -> str | None:
        """Return why it cannot be trained on such crops, or None."""
        return size_reason(crop_shape)

    def build(self, channels: tuple[Channel, ...], width: float, classes: tuple[str, ...] = ()) -> nn.Module:
        """Return a new network for these channels and groups."""
        from .networks.identity import IdentityClassifier

        return IdentityClassifier(len(channels), len(classes), width)


@register_model("image-in-plate")
class ImageInPlateModel(ImageIdentityModel):
    """Tells which image a crop is of, among the images of its plate.

    Nothing is gained from features of the plate or of its cell line, since all candidates share them. It reads ``image``
    and ``plate``, never ``label``. On ``rxrx1-organelles-train`` a plate has eight images of five stains, so that the task is
    near that of telling the five labels apart within each plate: a far stronger hint than on a screen with hundreds of
    proteins on a plate. Which stains of two plates are the same, it is not told.
    """

    meta = ModelMeta(
        "image-in-plate",
        "1",
        "Image in plate: tell which of its plate's images a crop is of (weak supervision)",
        pairs=False,
    )
    within = "plate"


@register_model("protein-identity")
class ProteinIdentityModel(ImageIdentityModel):
    """Tells which protein a crop is of, among all proteins (Razdaibiedina et al. 2024, "PIFiA").

    It reads ``protein``, never ``label``. On ``rxrx1-organelles-train`` a "protein" is one stain on one plate, so that it comes
    close to the label; on a screen of proteins it is what is known of every image.
    """

    meta = ModelMeta(
        "protein-identity", "1", "Protein identity: tell which protein a crop is of (weak supervision)", pairs=False
    )
    group = "protein"


class IdentityFeatures(EncoderLayers):
    """The encoder's layers; ``conv5`` is what the classifier reads."""

    def encoder(self, weights: Path) -> Any:
        """Return the encoder of a weights file."""
        from pci_bench.inpainting.network import load_network

        from .networks.identity import IdentityClassifier

        return load_network(weights, IdentityClassifier).source_encoder


@register_extractor("image-identity")
class ImageIdentityFeatures(IdentityFeatures):
    """Features of a network that learned which image a crop is of."""

    meta = encoder_meta("image-identity", "Image identity", headline="conv5", roles=("protein",))


@register_extractor("image-in-plate")
class ImageInPlateFeatures(IdentityFeatures):
    """Features of a network that learned which of its plate's images a crop is of."""

    meta = encoder_meta("image-in-plate", "Image identity within plates", headline="conv5", roles=("protein",))


@register_extractor("protein-identity")
class ProteinIdentityFeatures(IdentityFeatures):
    """Features of a network that learned which protein a crop is of."""

    meta = encoder_meta("protein-identity", "Protein identity", headline="conv5", roles=("protein",))
