"""Levels of strictness: which columns they are, and one search for all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from factories import make_features, make_result
from typer.testing import CliRunner

import pci_bench
from pci_bench import UserError
from pci_bench.api.dataset import DATASETS
from pci_bench.cli.app import app
from pci_bench.data.cells import DatasetMeta
from pci_bench.data.observations import levels_of
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.reporting.candidates import Candidates, ladder_of

IMAGES = np.repeat(np.arange(24), 5)  # of two classes, on three plates, of two cell lines


def screen(levels=(), **columns):
    """Return features of 120 cells in 24 images, with the columns of a screen."""
    values = np.random.default_rng(1).normal(size=(120, 4)) + (IMAGES % 2)[:, None]
    known = {"label": IMAGES % 2, "image": IMAGES, "plate": IMAGES % 3, "cell_line": IMAGES // 12, "well": 0}
    obs = {name: np.char.add(name[0], np.broadcast_to(v, 120).astype(str)) for name, v in (known | columns).items()}
    features = make_features(values, **obs)
    return Provenance(DatasetProvenance("screen", confounder="image", levels=tuple(levels))).attach(features)


def test_one_call_evaluates_every_level_as_if_it_were_named():
    features = screen()
    found = pci_bench.evaluate("loo-knn", features, k=3, exclude="levels")
    named = pci_bench.evaluate("loo-knn", features, k=3, exclude=["cell", "image", "plate", "cell_line"])
    assert [r.evaluator.params for r in found] == [r.evaluator.params for r in named]
    assert [r.metrics for r in found] == [r.metrics for r in named]
    assert found[0].dataset.levels == ("cell", "image", "plate", "cell_line")


def test_coarser_levels_are_those_for_which_classes_can_be_balanced():
    found = pci_bench.evaluate("loo-knn", screen(), k=3, exclude="coarser-levels", candidates="balanced")
    assert [r.evaluator.params["exclude"] for r in found] == ["image", "plate", "cell_line"]


def test_classifiers_know_the_same_levels_and_a_level_that_is_named_too_is_evaluated_once():
    found = pci_bench.evaluate("random-forest", screen(), folds=2, trees=3, exclude=["levels", "plate"])
    assert [r.evaluator.params["exclude"] for r in found] == ["cell", "image", "plate", "cell_line"]


def test_levels_that_a_dataset_declares_are_taken_in_its_order():
    features = screen(levels=("cell", "plate", "image"))
    assert [r.evaluator.params["exclude"] for r in pci_bench.evaluate("loo-knn", features, k=3, exclude="levels")] == [
        "cell",
        "plate",
        "image",
    ]


def test_what_divides_no_class_is_no_level():
    obs = screen().obs.assign(
        experiment=lambda o: o["cell_line"],  # the same groups again
        protein=lambda o: o["label"],  # a class lies in one group
        field=lambda o: o["image"].where(o["plate"] != "p0", ""),  # unknown for some cells
        donor=[f"d{i}" for i in range(120)],  # no two cells share one
    )
    assert levels_of(obs, DatasetProvenance("mine")) == ("cell", "image", "plate", "experiment")


def test_a_confounder_of_another_name_is_a_level():
    obs = screen().obs.rename(columns={"image": "slide"}).drop(columns=["plate", "cell_line"])
    assert levels_of(obs, DatasetProvenance("mine", confounder="slide")) == ("cell", "slide")


def test_without_a_level_coarser_levels_are_refused_with_the_columns_there_are():
    features = make_features(np.eye(4), label=list("abab"))
    with pytest.raises(
        UserError, match=r"no level of strictness beyond the cell itself: none of its columns \(cell, label\)"
    ):
        pci_bench.evaluate("loo-knn", features, k=1, exclude="coarser-levels")


def test_declared_levels_survive_a_file_and_lists_of_json(tmp_path):
    import anndata

    features = screen(levels=("cell", "plate"))
    features.write_h5ad(tmp_path / "f.h5ad")
    read = anndata.read_h5ad(tmp_path / "f.h5ad")
    assert Provenance.of(read).dataset.levels == ("cell", "plate")
    assert DatasetMeta("a", "1", "A", levels=["cell", "plate"]).levels == ("cell", "plate")


def test_the_strictest_column_is_the_datasets_last_level():
    def of(exclude, levels):
        return make_result(dataset={"levels": levels}, evaluator={"params": {"exclude": exclude}})

    for levels in (("cell", "plate", "protein"), ("cell", "protein", "plate")):
        found = ladder_of([of(exclude, levels) for exclude in ("protein", "cell", "plate")])
        assert tuple(kind.column for kind in found) == levels
    assert Candidates.of(of("plate", levels)) == Candidates("plate")


def test_the_command_takes_levels_too(tmp_path):
    screen(levels=("cell", "plate")).write_h5ad(tmp_path / "f.h5ad")
    arguments = ["evaluate", str(tmp_path / "f.h5ad"), "--with", "loo-knn", "--k", "3", "--exclude", "levels", "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert [r["evaluator"]["params"]["exclude"] for r in json.loads(done.stdout)] == ["cell", "plate"]


@pytest.mark.parametrize("name", ["yeast-sim", "human-sim", "rxrx1-organelles", "toy-yeast", "bbbc021"])
def test_a_shipped_dataset_says_its_levels_the_cell_first(name):
    levels = DATASETS.get(name).meta.levels
    assert levels[0] == "cell"
    assert len(levels) > 1
