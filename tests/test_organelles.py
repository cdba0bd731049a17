"""The real benchmark: what its cells are, and that the front page's numbers come out of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import pci_bench
import pci_bench.datasets
from pci_bench.datasets.rxrx1 import declared, pinned_files

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture
def organelles(real_organelles, monkeypatch):
    """The cells of rxrx1-organelles, cut from real fields."""
    for name, value in real_organelles.items():
        monkeypatch.setenv(name, value)
    return pci_bench.load_dataset("rxrx1-organelles")


def test_every_nucleus_is_shown_once_and_stains_are_balanced_within_a_plate(organelles):
    obs = organelles.obs
    assert not obs.duplicated(["field", "y", "x"]).any()
    counts = obs.groupby(["plate", "label"], observed=True).size().unstack()
    assert counts.shape == (8, 5)
    assert (counts.max(axis=1) - counts.min(axis=1) <= 3).all()


def test_images_are_a_stain_of_a_field_and_plates_those_not_trained_on(organelles):
    obs = organelles.obs
    assert (obs["image"] == obs["field"] + "/" + obs["label"].astype(str)).all()
    assert set(obs["number"]) == {"3", "4"}
    assert (obs["crowded"] == np.where(obs["cell_line"] == "HEPG2", "yes", "no")).all()


def test_own_nuclei_lie_in_the_middle_and_have_the_area_that_the_table_says(organelles):
    masks = organelles.stored_masks(slice(None))
    assert ((masks == 1).sum(axis=(1, 2)) <= organelles.obs["nucleus_area"]).all()  # cut off by the crop's edge
    middle = masks[:, 24:40, 24:40]
    assert ((middle == 1).sum(axis=(1, 2)) > 0).all()


def test_the_readmes_numbers_come_out_of_these_cells(organelles):
    text = README.read_text()
    table = text.partition("<!-- organelles: seven -->")[2].partition("<!-- end -->")[0]
    rows = dict(re.findall(r"^\| (pci-conv4@rxrx1|intensity) \| ([\d.]+) \[", table, re.MULTILINE))
    sparse = organelles[(organelles.obs["crowded"] == "no").to_numpy()]
    assert f"{len(organelles):,} cells of four human cell lines" in text
    for name, printed in rows.items():
        features = pci_bench.extract(name.partition("@")[0], sparse)
        (result,) = pci_bench.evaluate("loo-knn", features, k=11, exclude="cell_line")
        assert 100 * result.metrics["balanced_accuracy"] == pytest.approx(float(printed), abs=0.5)
    assert set(rows) == {"pci-conv4@rxrx1", "intensity"}


def test_every_file_is_pinned_by_a_checksum_and_its_licence_is_said():
    pinned = pinned_files()
    assert len(pinned) == 180
    assert all(len(sha256) == 64 and size > 0 for _, sha256, size in pinned.values())
    assert "CC BY-NC-SA" in declared()["licence"]
    for name in ("rxrx1-organelles", "rxrx1-organelles-train"):
        assert "CC BY-NC-SA" in pci_bench.datasets.DATASETS.get(name).meta.licence
