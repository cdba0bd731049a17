"""Distances of cells at levels of strictness: against loops, with planted effects, and without each unit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from factories import make_features
from scipy.spatial.distance import cdist

import pci_bench
from pci_bench.data.provenance import DatasetProvenance, Provenance
from pci_bench.statistics.level_distances import PairSums
from pci_bench.statistics.pairwise import term_scores


def screen(seed=0, classes=3, images=6, cells=5, apart=0.0, image_sd=0.0, plate_sd=0.0, features=6):
    """Return features of images nested in classes, each on one of three plates."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(classes * images), cells)
    label, plate = image // images, image % 3
    values = rng.normal(size=(len(image), features)) + apart * np.eye(classes, features)[label]
    values += image_sd * rng.normal(size=(classes * images, features))[image]
    values += plate_sd * rng.normal(size=(classes, 3, features))[label, plate]
    columns = {"label": label, "image": image, "plate": plate}
    obs = {name: np.char.add(name[0], v.astype(str)) for name, v in columns.items()}
    adata = make_features(values, **obs)
    return Provenance(DatasetProvenance("screen", confounder="image", levels=("cell", "image", "plate"))).attach(adata)


def looped(features, labels, groups):
    """Return every class's z by loops over pairs of cells."""
    distances, n = cdist(features, features), int(labels.max()) + 1
    allowed = groups[:, None] != groups
    mean, square = np.zeros((2, n, n))
    for t, u in itertools.product(range(n), repeat=2):
        chosen = distances[(labels[:, None] == t) & (labels == u) & allowed]
        mean[t, u], square[t, u] = chosen.mean(), (chosen**2).mean()
    return term_scores(mean, square, "z")


@pytest.mark.parametrize("level", ["cell", "image", "plate"])
def test_scores_are_those_of_loops_over_pairs_also_without_each_unit(level):
    adata = screen(apart=1, image_sd=1)
    labels, images, plates = (np.unique(adata.obs[c], return_inverse=True)[1] for c in ("label", "image", "plate"))
    groups = {"cell": np.arange(len(labels)), "image": images, "plate": plates}[level]
    values = np.asarray(adata.X, np.float64)
    found, without = PairSums.of(values, labels, groups[None], images).scores("z")
    assert np.allclose(found, looped(values, labels, groups))
    for unit in (0, 7, 17):
        kept = images != unit
        assert np.allclose(without[unit], looped(values[kept], labels[kept], groups[kept]))


def test_units_that_hold_several_groups_are_left_out_with_the_pairs_within_them():
    adata = screen(apart=1)
    labels, images, plates = (np.unique(adata.obs[c], return_inverse=True)[1] for c in ("label", "image", "plate"))
    values = np.asarray(adata.X, np.float64)
    _, without = PairSums.of(values, labels, images[None], plates).scores("z")
    kept = plates != 1
    assert np.allclose(without[1], looped(values[kept], labels[kept], images[kept]))


def test_a_planted_class_is_found_at_every_level_and_none_where_there_is_none():
    def scores(**effects):
        found = pci_bench.evaluate("level-distances", screen(images=12, **effects), exclude="levels")
        return [(r.metrics["normalized_distance"], r.intervals["normalized_distance"]) for r in found]

    for value, (_, high) in scores(apart=2):
        assert value < high < -0.3
    for _, (low, high) in scores():
        assert low < 0 < high


def test_what_images_share_brings_cells_of_a_class_together_only_where_images_may_be_compared_with_themselves():
    cell, image, plate = (
        r.metrics["normalized_distance"]
        for r in pci_bench.evaluate("level-distances", screen(images=12, image_sd=1.5), exclude="levels")
    )
    assert cell < image - 0.05
    assert abs(image) < 0.1
    assert abs(plate) < 0.1


def test_the_difference_of_two_levels_is_paired_and_narrower_than_either():
    cell, image, _ = pci_bench.evaluate("level-distances", screen(images=12, apart=2, image_sd=0.5), exclude="levels")
    difference = pci_bench.paired_difference(cell, image)
    assert difference.unit == "image"
    assert difference.n_units == 36
    assert np.diff(difference.interval) < 0.5 * np.diff(cell.intervals["normalized_distance"])


def test_a_class_in_one_group_is_left_out_and_named():
    adata = screen(apart=1)
    adata.obs["plate"] = np.where(adata.obs["label"] == "l0", "p9", adata.obs["plate"])
    (result,) = pci_bench.evaluate("level-distances", adata, exclude="plate")
    assert result.details["unreachable_classes"] == ["l0"]
    assert set(result.details["per_class"]) == {"l1", "l2"}


def test_mean_average_precision_at_two_levels_is_paired_by_what_it_is_without_each_image():
    adata = screen(apart=1.5, image_sd=0.7)
    cell, image = pci_bench.evaluate("map", adata, exclude=["cell", "image"], permutations=19)
    queries, table = image.predictions, image.table("leave-one-out").set_index("unit")["normalized_map"]
    for name in ("i0", "i9"):
        others = queries[adata.obs.set_index("cell").loc[queries["cell"], "image"].to_numpy(str) != name]
        assert table[name] == pytest.approx(others.groupby("label", observed=True)["normalized"].mean().mean())
    difference = pci_bench.paired_difference(cell, image)
    assert difference.metric == "normalized_map"
    assert difference.interval[0] < difference.value < difference.interval[1]
    assert (difference.unit, difference.n_units) == ("image", 18)
