"""Robustness: what is unchanged is loo-knn's, areas are those under the curves, and features lose what a change takes from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from factories import make_cells

import pci_bench
from pci_bench.data.distortions import DISTORTIONS
from pci_bench.reporting.figures.robustness import robustness_figures
from pci_bench.runs.paired import paired_interval
from pci_bench.runs.results import Result, read_results, write_result
from pci_bench.statistics.metrics import classification_metrics, confusion_counts
from pci_bench.statistics.neighbors import majority_vote
from pci_bench.statistics.robustness import area_shares, reference_neighbors, trapezoid_weights

CLASSES, PER_IMAGE, IMAGES = 2, 6, 8


def spots(n: int = CLASSES * PER_IMAGE * IMAGES, side: int = 32) -> pci_bench.Cells:
    """Return cells with a round spot in the middle, twice as bright in every second image; the class is the brightness."""
    rng = np.random.default_rng(4)
    image = np.arange(n) // PER_IMAGE
    bright = image % CLASSES
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    spot = np.exp(-(rows**2 + columns**2) / 40)
    scale = (0.3 + 0.3 * bright + rng.uniform(-0.02, 0.02, n)).astype(np.float32)
    crops = (scale[:, None, None, None] * np.stack([spot, spot])).astype(np.float32)
    labels = np.array(["dim", "bright"])[bright]
    return make_cells(crops=crops, image=[f"i{i}" for i in image], label=labels, name="spots")


@pytest.fixture
def brightness(own_registries: None) -> str:
    @pci_bench.register_features("brightness", version="1", rescale="raw", names=lambda channels: ["mean"])
    def brightness(crops: np.ndarray) -> np.ndarray:
        """Return the mean pixel of a crop."""
        mean: np.ndarray = crops.mean(axis=(1, 2, 3))[:, None]
        return mean

    return "brightness"


def evaluated(cells: pci_bench.Cells, features: str, **params: Any) -> list[Result]:
    return pci_bench.evaluate("robustness", pci_bench.extract(features, cells), cells=cells, **params)


def textured(n: int = 90) -> pci_bench.Cells:
    rng = np.random.default_rng(8)
    label = np.arange(n) // 3 % 3
    crops = np.clip(rng.normal(0.4 + 0.05 * label[:, None, None, None], 0.1, (n, 2, 16, 16)), 0, 1).astype(np.float32)
    return make_cells(crops=crops, label=np.array(["a", "b", "c"])[label], image=[f"i{i // 6}" for i in range(n)])


def test_without_a_change_it_is_leave_one_out_to_the_last_bit():
    cells = textured()
    given = {"k": [1, 5, 11], "exclude": ["cell", "image", "image+cell"]}
    results = evaluated(cells, "intensity", changes="noise", steps=1, **given)
    expected = pci_bench.evaluate("loo-knn", pci_bench.extract("intensity", cells), **given)
    assert len(results) == 9
    for result, loo in zip(results, expected, strict=True):
        assert result.metrics["unchanged"] == loo.metrics["balanced_accuracy"]
        assert (result.predictions["predicted"] == loo.predictions["predicted"]).all()


def test_neighbours_are_those_of_a_loop_over_unchanged_cells_of_other_groups():
    rng = np.random.default_rng(0)
    reference, queries = rng.normal(size=(2, 40, 5))
    reference[7] = reference[3]
    groups = np.stack([np.arange(40), rng.integers(0, 6, 40)])
    found = reference_neighbors(reference, queries, 9, groups)
    for i in range(40):
        allowed = [j for j in range(40) if not (groups[:, j] == groups[:, i]).any()]
        expected = sorted(allowed, key=lambda j: (((reference[j] - queries[i]) ** 2).sum(), j))[:9]
        assert found[i].tolist() == expected


def test_a_query_without_enough_neighbours_has_none_in_the_rest():
    values = np.arange(4.0)[:, None]
    assert reference_neighbors(values, values, 3, np.array([0, 0, 0, 1]))[0].tolist() == [3, -1, -1]


def test_areas_are_those_under_the_curves_that_the_table_holds():
    cells = textured()
    (result,) = evaluated(cells, "intensity", k=5)
    table = result.tables["curves"]
    assert list(table["change"].unique()) == list(DISTORTIONS)
    areas = []
    for kind, curve in table.groupby("change", sort=False):
        x, y = curve["strength"].to_numpy(), curve["balanced_accuracy"].to_numpy()
        areas.append(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum() / x[-1])
        assert result.metrics[f"area_{kind}"] == pytest.approx(areas[-1])
        np.testing.assert_allclose(curve["difference"], y - y[0], atol=1e-12)
    assert result.metrics["mean_area"] == pytest.approx(np.mean(areas))
    assert result.metrics["lost"] == pytest.approx(result.metrics["unchanged"] - np.mean(areas))
    assert result.details["extractions"] == 28


def test_a_point_of_a_curve_is_the_vote_of_unchanged_neighbours_for_features_of_changed_crops():
    cells = textured()
    (result,) = evaluated(cells, "intensity", k=5, changes="blur")
    before = np.asarray(pci_bench.extract("intensity", cells).X, float)
    after = np.asarray(pci_bench.extract("intensity", pci_bench.changed(cells, DISTORTIONS["blur"](2))).X, float)
    mean, spread = before.mean(axis=0), np.where(before.std(axis=0) > 0, before.std(axis=0), 1)
    labels = np.unique(cells.obs["label"].astype(str), return_inverse=True)[1]
    distances = ((((after - mean) / spread)[:, None] - ((before - mean) / spread)[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    predicted = majority_vote(labels[distances.argsort(axis=1, kind="stable")[:, :5]], 3)
    expected = classification_metrics(confusion_counts(labels, predicted, 3))["balanced_accuracy"]
    curve = result.tables["curves"].set_index("strength")
    assert curve.loc[2, "balanced_accuracy"] == pytest.approx(float(expected))


def test_mean_brightness_is_untouched_by_rotation_and_falls_with_the_light(brightness):
    (result,) = evaluated(spots(), brightness, k=5)
    assert result.metrics["unchanged"] == 1
    assert result.metrics["area_rotation"] == 1
    assert result.metrics["area_shift"] > 0.9
    curves = result.tables["curves"].set_index(["change", "strength"])["balanced_accuracy"]
    assert curves["illumination", 0.2] == 1  # 10 % less light: still nearer to its own class
    assert curves["illumination", 0.8] == 0.5  # 40 % less: every bright cell looks dim
    light = result.tables["curves"].query("change == 'illumination'")["difference_high"]
    assert light.iloc[-1] < 0
    rotation = result.tables["curves"].query("change == 'rotation'")
    assert (rotation[["difference", "difference_low", "difference_high"]] == 0).all(axis=None)


def test_features_that_know_nothing_are_at_chance_however_cells_are_changed(brightness):
    cells = spots()
    cells.obs["label"] = np.random.default_rng(0).permutation(cells.obs["label"].to_numpy())
    (result,) = evaluated(cells, brightness, k=5, changes="blur+illumination+shift", steps=2)
    for name in ("unchanged", "mean_area", "area_blur", "area_illumination", "area_shift"):
        low, high = result.intervals[name]
        assert low <= 1 / CLASSES <= high
    assert result.intervals["lost"][0] <= 0 <= result.intervals["lost"][1]


def test_two_feature_sets_are_compared_by_the_same_cells_areas(brightness):
    cells = spots()
    ((bright,), (texture,)) = (
        evaluated(cells, name, k=5, changes="illumination") for name in (brightness, "raw-pixels")
    )
    low, high = paired_interval(bright, texture)
    assert low <= texture.metrics["mean_area"] - bright.metrics["mean_area"] <= high


def test_fewer_steps_take_the_largest_strength_and_one_in_the_middle():
    cells = textured()
    one, two = evaluated(cells, "intensity", k=5, changes="blur+noise", steps=[1, 2])
    assert one.tables["curves"]["strength"].tolist() == [0, 4, 0, 2]
    assert two.tables["curves"]["strength"].tolist() == [0, 1, 4, 0, 0.5, 2]
    assert set(one.metrics) == {"mean_area", "unchanged", "lost", "area_blur", "area_noise"}


def test_a_change_that_there_is_not_is_named():
    with pytest.raises(pci_bench.UserError, match="no change 'fog'; there are noise, blur"):
        evaluated(textured(), "intensity", changes="noise+fog")


@pytest.mark.parametrize("places", [[0, 1], [0, 0.5, 1, 2, 4], [0, 2, 4, 8, 16]])
def test_trapezoid_weights_integrate_straight_lines_exactly(places):
    weights = trapezoid_weights(places)
    assert weights.sum() == pytest.approx(1)
    assert weights @ (3 * np.array(places) + 2) == pytest.approx(3 * places[-1] / 2 + 2)
    np.testing.assert_allclose(area_shares(np.ones((len(places), 3), bool), places), 1)


def test_figures_have_a_panel_for_each_change_and_a_line_for_each_set_also_from_files(tmp_path):
    cells = textured()
    for name in ("intensity", "raw-pixels"):
        for result in evaluated(cells, name, k=5, exclude=["cell", "image"], changes="noise+rotation+shift", steps=1):
            write_result(result, tmp_path / result.path(("k", "exclude"), {}))
    drawn = dict(robustness_figures(read_results(tmp_path)))
    assert list(drawn) == ["robustness-planted", "robustness-planted-other-images"]
    panels = [axes for axes in drawn["robustness-planted"].axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == ["noise", "rotation", "shift"]
    assert all(len(axes.lines) == 3 for axes in panels)  # two sets and chance
