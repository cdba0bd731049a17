"""The weights in the package: whole, small, with a card that tells the truth, and better than the guesses they must beat."""

import json

import numpy as np
import pytest

import pci_bench
from pci_bench import weights
from pci_bench.datasets import DATASETS

SHIPPED = {"pci": "pci-conv4", "autoencoder": "autoencoder-conv4", "deeploc": "deeploc-fc2"}


@pytest.fixture(params=SHIPPED)
def shipped(request):
    file = weights.find(request.param, "yeast-sim")
    assert file is not None
    return file


def test_a_shipped_file_is_small_and_comes_with_a_card_its_numbers_and_its_curve(shipped):
    assert shipped.stat().st_size < 16e6
    assert shipped.with_suffix(".png").is_file()
    card, facts = (
        shipped.with_suffix(".md").read_text(encoding="utf-8"),
        json.loads(shipped.with_suffix(".json").read_text(encoding="utf-8")),
    )
    assert facts["dataset"]["sha256"] in card
    assert len(facts["history"]) == facts["recipe"]["epochs"]
    for value in facts["references"].values():
        assert f"{value:.5f}" in card
    assert "Table 1" in card


def test_paired_cell_inpainting_beats_copying_the_source_on_held_out_images():
    facts = json.loads(weights.find("pci", "yeast-sim").with_suffix(".json").read_text(encoding="utf-8"))
    references = facts["references"]
    trained = references["the trained network, weights rounded to float16"]
    assert trained < references["copying the source"]


def test_weights_were_trained_on_the_version_of_the_screen_that_the_package_generates_today(shipped):
    facts = json.loads(shipped.with_suffix(".json").read_text(encoding="utf-8"))
    meta = DATASETS.get("yeast-sim-train").meta
    assert (facts["dataset"]["name"], facts["dataset"]["version"]) == (meta.name, meta.version)


def test_shipped_weights_give_finite_features_that_differ_between_cells(shipped, make_cells):
    family = shipped.stem.partition("@")[0]
    adata = pci_bench.extract(f"{SHIPPED[family]}@yeast-sim", make_cells(6, (64, 64)))
    assert np.isfinite(adata.X).all()
    assert (adata.X.std(axis=0) > 0).mean() > 0.5
