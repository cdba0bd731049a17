"""Weights that were trained with several seeds: how they are named together, and one row of mean ± SD."""

from __future__ import annotations

from statistics import mean, stdev

import pytest
from factories import make_result

from pci_bench import UserError
from pci_bench.features.names import select
from pci_bench.reporting.figures.base import first_of_seeds
from pci_bench.reporting.tables.answer import ranking_of
from pci_bench.reporting.tables.ladder import ladder_tables
from pci_bench.runs.answer import standings


@pytest.fixture
def seeds_here(cache):
    """Files of weights of three seeds, and of others."""
    folder = cache / "weights"
    folder.mkdir(parents=True)
    for name in ("pci@mine-seed0", "pci@mine-seed1", "pci@mine-seed10", "pci@mine", "autoencoder@mine-seed0"):
        (folder / f"{name}.safetensors").write_bytes(b"weights")


def test_a_pattern_of_weights_names_every_seed_there_is(seeds_here):
    named = [str(f) for f in select(["pci-conv4@mine-seed*"])]
    assert named == ["pci-conv4@mine-seed0", "pci-conv4@mine-seed1", "pci-conv4@mine-seed10"]
    assert len(select(["pci-random-conv4@seed*"])) == 3


def test_numbers_after_a_seed_are_further_seeds():
    assert [str(f) for f in select(["pci-conv4@mine-seed0", "1", "12", "intensity"])] == [
        "pci-conv4@mine-seed0",
        "pci-conv4@mine-seed1",
        "pci-conv4@mine-seed12",
        "intensity",
    ]
    with pytest.raises(UserError):
        select(["pci-conv4@mine", "1"])


def test_a_pattern_that_fits_no_weights_says_which_there_are(seeds_here):
    with pytest.raises(UserError, match=r"fits no weights of pci: there are .*mine-seed0, mine-seed1, mine-seed10"):
        select(["pci-conv4@other-*"])


def results(exclude="cell"):
    """Return results of three seeds and of other weights of the same name without a seed."""
    found = []
    for weights, value in (("mine-seed0", 0.5), ("mine-seed1", 0.6), ("mine-seed2", 0.64), ("mine", 0.9)):
        made = make_result(
            dataset={"classes": {"a": 500, "b": 500}},
            features={"name": "pci-conv4", "weights": weights},
            evaluator={"params": {"k": 11, "exclude": exclude}},
            metrics={"balanced_accuracy": value - (0.1 if exclude == "image" else 0)},
        )
        found.append(made)
    return found


def test_seeds_are_one_row_of_mean_and_sd_and_other_weights_of_the_name_are_not_among_them():
    (table,) = ranking_of(results())
    rows = {name: entries[0] for name, entries in table.rows}
    assert set(rows) == {"pci-conv4@mine (3 seeds)", "pci-conv4@mine"}
    seeds = rows["pci-conv4@mine (3 seeds)"]
    assert (seeds.value, seeds.sd) == pytest.approx((mean((50, 60, 64)), stdev((50, 60, 64))))
    assert [s.seeds for s in standings(results(), "balanced_accuracy")] == [1, 3]
    assert [r.features.weights for r in first_of_seeds(results())] == ["mine-seed0", "mine"]


def test_seeds_are_one_row_of_the_ladder_too():
    ((_, texts, _),) = ladder_tables([*results(), *results("image")], "ladder")
    assert "pci-conv4@mine (3 seeds)" in texts["md"]
    assert "58.0 ± 7.2" in texts["md"]
    assert "10.0 ± 0.0" in texts["md"]
