"""The ladder: drops between levels of strictness, their tables and their figures."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from factories import make_features

import pci_bench
from pci_bench.benchmarks import BENCHMARKS
from pci_bench.data.provenance import DatasetProvenance, FeaturesProvenance, Provenance
from pci_bench.reporting.figures import FIGURES
from pci_bench.reporting.tables import TABLES
from pci_bench.reporting.tables.ladder import LadderTable
from pci_bench.runs.ladder import ladders
from pci_bench.runs.paired import paired_interval


def features(name="set", image_sd=0.0, plate_sd=0.0, seed=0):
    """Return features of 3 classes, 8 images of each, on four plates that every class is on."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(24), 6)
    label, plate = image // 8, image % 4
    values = rng.normal(size=(len(image), 5)) + 1.5 * np.eye(3, 5)[label]
    values += image_sd * rng.normal(size=(24, 5))[image] + plate_sd * rng.normal(size=(3, 4, 5))[label, plate]
    obs = {n: np.char.add(n[0], v.astype(str)) for n, v in (("label", label), ("image", image), ("plate", plate))}
    dataset = DatasetProvenance("screen", "1", "abc", confounder="image", levels=("cell", "image", "plate"))
    return Provenance(dataset, FeaturesProvenance(name)).attach(make_features(values, **obs))


@pytest.fixture(scope="module")
def knn():
    """Results of two feature sets at every level, with all candidates and balanced ones."""
    found = []
    for name, image_sd in (("good", 0.3), ("knows-images", 2.0)):
        adata = features(name, image_sd)
        found += pci_bench.evaluate("loo-knn", adata, k=3, exclude="levels")
        found += pci_bench.evaluate("loo-knn", adata, k=3, exclude="coarser-levels", candidates="balanced")
    return found


def test_a_drop_is_the_looser_level_minus_the_stricter_one_paired_over_the_same_cells(knn):
    ladder = ladders(knn)[0]
    assert ladder.columns == ("cell", "image", "plate")
    assert [(d.loose, d.strict) for d in ladder.drops] == [(0, 1), (1, 2), (0, 2)]
    for drop in ladder.drops:
        loose, strict = ladder.levels[drop.loose], ladder.levels[drop.strict]
        value = loose.metrics["balanced_accuracy"] - strict.metrics["balanced_accuracy"]
        assert drop.value == pytest.approx(value)
        assert drop.interval == pytest.approx(paired_interval(strict, loose))
        assert drop.unit == "image"
    assert ladder.drops[2].value == pytest.approx(ladder.drops[0].value + ladder.drops[1].value)


def test_a_planted_effect_of_images_is_lost_where_images_are_others_and_none_is_where_there_is_none(knn):
    found = {(one.features, one.candidates): one for one in ladders(knn)}
    assert found["knows-images", "balanced"].drops[0].interval[0] > 0
    low, high = found["knows-images", "balanced"].drops[1].interval
    assert low < 0 < high
    plain = [pci_bench.evaluate("loo-knn", features(seed=seed), k=3, exclude=["cell", "image"]) for seed in range(5)]
    assert sum(one.drops[0].interval[0] > 0 for one in (ladders(r)[0] for r in plain)) <= 1


def test_balanced_ladders_begin_with_all_other_cells_and_say_chance_at_each_level(knn):
    balanced = [one for one in ladders(knn) if one.candidates == "balanced"]
    assert len(balanced) == 2
    for one in balanced:
        assert [r.evaluator.params["candidates"] for r in one.levels] == ["all", "balanced", "balanced"]
        assert one.chance == pytest.approx([r.details["chance"]["balanced_accuracy"]["mean"] for r in one.levels])


def test_less_is_lost_where_less_is_better_only_if_it_rises():
    results = pci_bench.evaluate("level-distances", features(image_sd=1.5), exclude="levels")
    (ladder,) = ladders(results)
    assert ladder.levels[1].metrics["normalized_distance"] > ladder.levels[0].metrics["normalized_distance"]
    assert ladder.drops[0].value > 0
    assert ladder.drops[0].interval[0] < ladder.drops[0].value < ladder.drops[0].interval[1]


def test_the_table_has_levels_drops_and_chance_and_its_csv_the_same_numbers(knn):
    made = {table.stem: table for table in TABLES.get("ladder").filled(knn, {})}
    assert set(made) == {"ladder", "ladder-balanced"}
    text = made["ladder-balanced"].text("md")
    header = next(line for line in text.splitlines() if line.startswith("| feature set"))
    assert [c.strip() for c in header.split("|")[2:-1]] == [
        "all other cells",
        "other images only",
        "other plates only",
        "lost, all → images",
        "lost, images → plates",
        "lost, all → plates",
    ]
    assert text.index("| good") < text.index("| knows-images") < text.index("| chance (permuted labels)")
    assert "whole images are left out of both levels at once" in text
    assert "and the plates that there are, are taken as given" in text
    table = pd.read_csv(io.StringIO(made["ladder-balanced"].text("csv")))
    assert len(table) == 12
    first = table[(table["feature set"] == "good") & (table["kind"] == "drop")].iloc[0]
    good, other = (one for one in ladders(knn) if one.candidates == "balanced")
    assert first["value"] == pytest.approx(100 * good.drops[0].value, abs=1e-3)
    assert first["low"] == pytest.approx(100 * good.drops[0].interval[0], abs=1e-3)
    chance = [np.mean([one.chance[level] for one in (good, other)]) for level in (0, 1)]
    assert first["chance"] == pytest.approx(100 * (chance[0] - chance[1]), abs=1e-3)
    assert "\\begin" in made["ladder"].text("tex")
    (page,) = made["ladder"].page_tables()
    assert page.is_numeric(1)


def test_results_without_predictions_have_drops_without_intervals(knn):
    bare = [r.model_copy(deep=True).with_tables(None) for r in knn[:2]]
    (ladder,) = ladders(bare)
    assert ladder.drops[0].interval is None
    assert "[" not in LadderTable((ladder,)).body()[0][-1]


def test_levels_of_other_settings_are_other_ladders():
    results = pci_bench.evaluate("level-distances", features(), exclude=["cell", "image"], statistic=["z", "ratio"])
    assert [one.settings for one in ladders(results)] == [{}, {"statistic": "ratio"}]
    stems = [table.stem for table in TABLES.get("ladder-distances").filled(results, {})]
    assert len(set(stems)) == 2


def test_three_levels_are_drawn_as_a_slope_chart_with_chance_at_each(knn):
    drawn = dict(FIGURES.get("loo-knn").function(knn))
    axes = drawn["ladder-screen"].axes[0]
    assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == [
        "all other cells",
        "other images only, classes balanced",
        "other plates only, classes balanced",
    ]
    assert len(axes.collections[0].get_segments()) == 3  # a dash of chance at each level
    assert "ladder-screen" not in dict(FIGURES.get("loo-knn").function(knn[:2]))


def test_the_benchmark_asks_for_levels_by_name_and_fills_registered_tables():
    benchmark = BENCHMARKS.get("ladder")
    assert {e.grid["exclude"][0] for e in benchmark.evaluate} == {"levels", "coarser-levels"}
    assert all(name in TABLES for name in benchmark.tables)
