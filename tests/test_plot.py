"""Public figures: what stands where, against the numbers that were given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from factories import make_cells, make_features, make_result
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.colors import to_hex

from pci_bench import UserError, plot
from pci_bench.reporting.figures.ladder import apart
from pci_bench.runs.results import Result


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def scored(features: str, value: float, exclude: str = "cell", candidates: str = "all", **changes) -> Result:
    section = {"params": {"k": 11, "exclude": exclude, "candidates": candidates}} | changes
    return make_result(
        features={"name": features},
        evaluator=section,
        dataset={"classes": {"a": 500, "b": 500}},
        metrics={"balanced_accuracy": value},
        intervals={"balanced_accuracy": (value - 0.05, value + 0.05)},
    )


RESULTS = [
    scored("pci-conv4", 0.6),
    scored("intensity", 0.8),
    scored("pci-conv4", 0.55, "image"),
    scored("intensity", 0.2, "image"),
    scored("pci-conv4", 0.56, "image", "balanced"),
    scored("intensity", 0.25, "image", "balanced"),
]


def bars(axes) -> list[float]:
    return [round(bar.get_width(), 6) for bar in axes.patches]


# ---- accuracy


def test_bars_are_ranked_by_the_strictest_comparison_and_controls_are_marked():
    axes = plot.accuracy(RESULTS)
    labels = axes.get_yticklabels()  # from the bottom
    assert [label.get_text() for label in labels] == ["intensity (control)", "pci-conv4"]
    assert [label.get_fontstyle() for label in labels] == ["italic", "normal"]
    assert bars(axes) == [
        25,
        56,
        80,
        60,
    ]  # a comparison after the other, the strictest first, from the bottom; unbalanced classes are left out
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "other images only, classes balanced",
        "all other cells",
    ]


def test_intervals_and_chance_are_drawn():
    axes = plot.accuracy(RESULTS[:1])
    interval, chance = (line.get_xdata() for line in axes.lines)
    assert np.allclose(interval, [55, 65])
    assert np.allclose(chance, 50)  # one over the classes, where permuted labels were not measured


def test_a_distance_is_ranked_with_the_lowest_on_top_and_has_no_chance():
    record = {"name": "distances", "params": {}, "headline": "distance"}
    record["metrics"] = {"distance": {"unit": "number", "decimals": 2, "higher_is_better": False}}
    results = [
        make_result(features={"name": name}, evaluator=record, metrics={"distance": value})
        for name, value in (("far", 0.5), ("near", -0.5))
    ]
    axes = plot.accuracy(results)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["far", "near"]
    assert bars(axes) == [0.5, -0.5]
    assert "%" not in axes.get_xlabel().partition(",")[0]
    assert {"-0.50", "0.50"} <= {text.get_text() for text in axes.texts}


def test_a_figure_is_drawn_into_the_axes_that_are_given():
    _, axes = pyplot.subplots()
    assert plot.accuracy(RESULTS, ax=axes) is axes
    assert len(pyplot.get_fignums()) == 1


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "no results"),
        ([*RESULTS, scored("intensity", 0.5, name="other")], "several evaluators: loo-knn, other"),
        ([make_result(metrics={"macro_f1": 0.5}, evaluator={"headline": "accuracy"})], "gives no 'accuracy'"),
    ],
)
def test_what_cannot_be_compared_is_said(results, said):
    with pytest.raises(UserError, match=said):
        plot.accuracy(results)


def test_results_of_other_settings_are_not_mixed_into_one_bar():
    subset = make_result(evaluator={"params": {"k": 11, "exclude": "cell", "subset": "crowded=no"}})
    with pytest.raises(UserError, match=r"differ in subset: None, crowded=no\. Draw those of one"):
        plot.accuracy([*RESULTS, subset])


def test_a_k_that_was_not_evaluated_is_named():
    with pytest.raises(UserError, match="No result has k = 3; there are 11"):
        plot.accuracy(RESULTS, k=3)


# ---- ladder


def test_a_ladder_has_a_line_for_each_feature_set_over_the_comparisons():
    axes = plot.ladder(RESULTS)
    assert [t.get_text().replace("\n", " ") for t in axes.get_xticklabels()] == [
        "all other cells",
        "other images only",
        "other images only, classes balanced",
    ]
    lines = {tuple(np.round(line.get_ydata(), 6)): line for line in axes.lines if len(line.get_ydata()) == 3}
    assert {(60, 55, 56), (80, 20, 25)} == set(lines)
    (chance,) = axes.collections
    assert [[round(float(y)) for _, y in dash] for dash in chance.get_segments()] == [[50, 50]] * 3
    assert lines[80, 20, 25].get_linestyle() == "--"  # a control
    assert [t.get_text() for t in axes.texts if "chance" not in t.get_text()] == ["pci-conv4", "intensity (control)"]


def test_results_with_one_exclusion_are_no_ladder():
    with pytest.raises(UserError, match="at least two kinds of exclusion"):
        plot.ladder(RESULTS[:2])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.2))
def test_names_are_moved_apart_in_their_order_and_no_further_than_needed(places, least):
    moved = apart(np.array(places), least)
    order = np.argsort(-np.array(places), kind="stable")
    assert (-np.diff(moved[order]) >= least - 1e-9).all()
    assert np.isclose(moved.mean(), np.mean(places))
    if (np.diff(np.sort(places)) >= least).all():
        assert np.allclose(moved, places)


# ---- confusion


def test_a_confusion_matrix_is_in_shares_of_the_true_class():
    counts = [[8, 2], [1, 3]]
    result = make_result(
        dataset={"classes": {"a": 10, "b": 4}},
        evaluator={"params": {"k": 11, "exclude": "image"}},
        metrics={"balanced_accuracy": 0.775},
        details={"confusion": {"labels": ["a", "b"], "counts": counts}},
    )
    axes = plot.confusion(result)
    assert axes.images[0].get_array().tolist() == [[80, 20], [25, 75]]
    assert [text.get_text() for text in axes.texts] == ["8", "2", "1", "3"]
    assert "other images only; balanced accuracy 77.5 %" in axes.get_title(loc="left")


def test_a_result_without_a_confusion_matrix_is_refused():
    with pytest.raises(UserError, match="predicts no class"):
        plot.confusion(RESULTS[0])
    with pytest.raises(UserError, match="one result, and was given list"):
        plot.confusion(RESULTS)


# ---- embeddings


def points(axes) -> set[tuple[float, float]]:
    return {tuple(xy) for collection in axes.collections for xy in np.asarray(collection.get_offsets())}


def test_features_are_drawn_at_the_coordinates_that_they_bring():
    adata = make_features(np.zeros((6, 2)), label=list("aabbcc"), plate=list("121212"))
    adata.obsm["X_umap"] = np.arange(18.0).reshape(6, 3)  # of which two are drawn
    axes = plot.umap(adata, color="plate")
    assert points(axes) == {(3.0 * i, 3.0 * i + 1) for i in range(6)}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1", "2"]


def test_a_result_is_drawn_with_a_colour_for_each_class():
    table = pd.DataFrame(
        {"cell": ["x", "y", "z"], "label": ["a", "b", None], "umap_1": [0.0, 1, 2], "umap_2": [3.0, 4, 5]}
    )
    axes = plot.umap(make_result(table, evaluator={"name": "umap"}))
    assert points(axes) == {(0, 3), (1, 4), (2, 5)}
    colours = [to_hex(handle.get_color()) for handle in axes.get_legend().legend_handles]
    assert len(set(colours)) == 3
    assert axes.get_legend().get_texts()[-1].get_text() == "no label"


def test_classes_come_in_groups_of_eight_that_together_are_all_and_keep_their_colours():
    labels = np.array([f"class {i:02d}" for i in range(20) for _ in range(3)])
    adata = AnnData(np.zeros((60, 2), np.float32), pd.DataFrame({"label": labels}, index=[f"c{i}" for i in range(60)]))
    adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(60, 2))
    groups = plot.classes_in_groups(adata)
    assert [len(group) for group in groups] == [7, 7, 6]
    assert sorted(name for group in groups for name in group) == sorted(set(labels))
    colours = {}
    for classes in ([name for group in groups for name in group], *groups):
        legend = plot.umap(adata, classes=classes).get_legend()
        named = {t.get_text(): h.get_color() for t, h in zip(legend.get_texts(), legend.legend_handles, strict=True)}
        others = 20 - len(classes)
        assert (f"{others} others" in named) == (others > 0)
        for name in classes:
            assert colours.setdefault(name, named[name]) == named[name]
    with pytest.raises(UserError, match="no class 'class 99'"):
        plot.umap(adata, classes=["class 99"])


def test_without_an_embedding_or_a_column_there_is_nothing_to_draw():
    with pytest.raises(UserError, match="makes no embedding"):
        plot.umap(RESULTS[0])
    with pytest.raises(UserError, match="no column 'label'"):
        plot.umap(make_features(np.zeros((3, 2))))


# ---- cells


def test_a_mosaic_shows_crops_beneath_their_labels():
    axes = plot.mosaic(make_cells(20, label=["a", "b"] * 10), count=6, columns=4)
    assert [text.get_text() for text in axes.texts] == ["a"] * 3 + ["b"] * 3
    assert len(axes.images) == 6
    lefts = [image.get_extent()[0] for image in axes.images]
    assert lefts[:4] == sorted(lefts[:4])
    assert lefts[4:] == lefts[:2]
    assert "GFP green, RFP magenta" in axes.get_title(loc="left")


def test_no_cells_are_no_mosaic():
    with pytest.raises(UserError, match="nothing to show"):
        plot.mosaic(make_cells(3)[:0])
