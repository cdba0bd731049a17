"""The weights in the package: whole, small, with a card that tells the truth, and better than the guesses they must beat."""

import json

import numpy as np
import pytest
from factories import YEAST

import pci_bench
from pci_bench import weights
from pci_bench.api.model import MODELS
from pci_bench.data.cells import Channel
from pci_bench.datasets import DATASETS

HUMAN = (
    Channel("antibody", "protein"),
    Channel("nucleus", "marker", 0.05),
    Channel("microtubules", "marker", 0.05),
)
SHIPPED = {  # name: the training screen, its channels, the table on its card
    "pci-conv4@yeast-sim": ("yeast-sim-train", YEAST, "Table 1"),
    "autoencoder-conv4@yeast-sim": ("yeast-sim-train", YEAST, "Table 1"),
    "deeploc-fc2@yeast-sim": ("yeast-sim-train", YEAST, "Table 1"),
    "pci-conv3@human-sim": ("human-sim-train", HUMAN, "Figure 2B"),
    "autoencoder-conv3@human-sim": ("human-sim-train", HUMAN, "Figure 2B"),
    "pci-conv4@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "autoencoder-conv4@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "deeploc-fc2@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "image-identity-conv4@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "image-in-plate-conv4@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "contrastive-embedding@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "plate-contrastive-embedding@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "paired-contrastive-embedding@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "pci-conv4@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "pci-residual-pooled@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "cross-channel-conv4@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "self-distillation-embedding@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "rotation-embedding@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "paired-contrastive-embedding@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "paired-contrastive-embedding@rxrx1-long": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "pci-several-sources-conv4@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "pci-hard-pairs-conv4@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "pci-adversarial-conv4@rxrx1-narrow": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "masked-autoencoder@rxrx1": ("rxrx1-organelles-train", YEAST, "organelles-knn"),
    "protein-identity-conv5@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "image-identity-conv5@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "paired-contrastive-embedding@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "pci-conv4@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "contrastive-embedding@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "self-distillation-embedding@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "cross-channel-conv4@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "masked-autoencoder@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
    "rotation-embedding@yeast-sim-short": ("yeast-sim-train", YEAST, "Table 1"),
}


def file_of(features):
    output, _, name = features.partition("@")
    family = output if output in MODELS else output.rpartition("-")[0]  # of one output, or of several
    file = weights.find(family, name)
    assert file is not None
    return file


def facts_of(features):
    return json.loads(file_of(features).with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(params=SHIPPED)
def shipped(request):
    return request.param


def test_all_shipped_weights_are_tested_here():
    named = {str(file_of(f)) for f in SHIPPED}
    assert named == {str(f) for f in weights.find("pci", "yeast-sim").parent.glob("*.safetensors")}


def test_a_shipped_file_is_small_and_comes_with_a_card_its_numbers_and_its_curve(shipped):
    file, facts, table = file_of(shipped), facts_of(shipped), SHIPPED[shipped][2]
    assert file.stat().st_size < 16e6
    assert file.with_suffix(".png").is_file()
    card = file.with_suffix(".md").read_text(encoding="utf-8")
    assert facts["dataset"]["sha256"] in card
    assert len(facts["history"]) == facts["recipe"]["epochs"]
    for value in facts["references"].values():
        assert f"{value:.5f}" in card
    assert table in card
    assert shipped in card


@pytest.mark.parametrize("features", [f for f in SHIPPED if "@rxrx1" in f])
def test_cards_of_networks_trained_on_real_images_name_their_licence(features):
    card, meta = (
        file_of(features).with_suffix(".md").read_text(encoding="utf-8"),
        DATASETS.get("rxrx1-organelles-train").meta,
    )
    assert meta.licence in card
    assert facts_of(features)["dataset"]["licence"] == meta.licence


@pytest.mark.parametrize("features", ["pci-conv4@yeast-sim", "pci-conv3@human-sim", "pci-conv4@rxrx1"])
def test_paired_cell_inpainting_beats_copying_the_source_on_held_out_images(features):
    references = facts_of(features)["references"]
    assert references["the trained network, weights rounded to float16"] < references["copying the source"]


def test_weights_were_trained_on_the_version_of_the_screen_that_the_package_generates_today(shipped):
    trained_on, meta = facts_of(shipped)["dataset"], DATASETS.get(SHIPPED[shipped][0]).meta
    assert trained_on["name"] == meta.name
    assert trained_on["version"] == meta.version


def test_shipped_weights_give_finite_features_that_differ_between_cells(shipped, make_cells):
    adata = pci_bench.extract(shipped, make_cells(6, (64, 64), SHIPPED[shipped][1]))
    assert np.isfinite(adata.X).all()
    assert (adata.X.std(axis=0) > 0).mean() > 1 / 3  # after ReLU, units may be silent for noise
