"""Figures: drawn from whatever results there can be, readable in print, described beneath, and the same bytes each time."""

from __future__ import annotations

import hashlib
import itertools
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from factories import make_features, make_result
from matplotlib.colors import to_hex
from matplotlib.text import Text
from PIL import Image

import pci_bench
from pci_bench.data.examples import as_table, from_table, of_clusters, spread_over_scores
from pci_bench.reporting.figures import FIGURES, draw
from pci_bench.reporting.figures.base import described, provenance_of
from pci_bench.reporting.figures.embedding import looks
from pci_bench.reporting.palette import COLOURS, GREY, HIGHLIGHTED, MOST_CLASSES
from pci_bench.runs.results import Result, read_result, write_result
from pci_bench.system.drawing import SMALLEST, distinct_colours, new_figure, save, shortened, title

LONG = "a very long name of something that nobody would ever want to put into a figure, and yet did"


def result(evaluator="loo-knn", features="pci-conv4", weights="planted", dataset="planted", **fields) -> Result:
    """A result as the runner makes them, with what a test says of it."""
    classes = fields.pop("classes", {"a": 6, "b": 6})
    params, metrics = fields.pop("params", {}), fields.pop("metrics", {})
    predictions, tables = fields.pop("predictions", None), fields.pop("tables", {})
    digest = hashlib.sha256(f"{weights}".encode()).hexdigest()
    return make_result(
        predictions,
        tables,
        dataset={"name": dataset, "version": "7", "sha256": dataset, "n_cells": sum(classes.values())}
        | {"classes": classes, "limit": fields.pop("limit", None)},
        features={"name": features, "weights": weights, "weights_sha256": digest if weights else None},
        evaluator={"name": evaluator, "version": "3", "params": params},
        metrics=metrics,
        intervals={name: (value - 0.05, value + 0.05) for name, value in metrics.items()},
        details=fields.pop("details", {}),
        run={"seed": 5, "package": "9.9", "started": "2026-01-01"},
    )


def classified(labels, features, *, exclude="cell", weights="planted") -> Result:
    counts = np.eye(len(labels), dtype=int) * 9 + 1
    return result(
        features=features,
        weights=weights,
        classes=dict.fromkeys(labels, int(counts[0].sum())),
        params={"k": 11, "exclude": exclude},
        metrics={"balanced_accuracy": 10 / counts[0].sum()},
        details={"confusion": {"labels": list(labels), "counts": counts.tolist()}},
    )


def embedded(labels, *, name="umap", dataset="planted", **fields) -> Result:
    rng = np.random.default_rng(len(labels))
    x, y = rng.normal(size=(2, len(labels)))
    table = pd.DataFrame({"cell": [f"c{i}" for i in range(len(labels))], "label": labels, "umap_1": x, "umap_2": y})
    return result(
        name,
        dataset=dataset,
        params={"neighbours": 20, "min_dist": 0.3},
        details={"n_points": len(labels)},
        predictions=table if name == "umap" else None,
        tables={} if name == "umap" else {"proteins": table.rename(columns={"cell": "protein"})},
        **fields,
    )


def scored(protein="P", cells=1, crops=False) -> Result:
    """Three images, of the first compartment, the second, and both."""
    kinds = [f"{LONG} only", "b only", f"{LONG} and b"]
    rows = [
        {"cell": f"{kind}{i}", "image": kind, "annotation": kind, "score": i - 1.0}
        for kind in kinds
        for i in range(cells)
    ]
    variable = pd.DataFrame([{"image": kinds[2], "protein": protein, "cell_line": None, "cells": cells, "sd": 0.5}])
    tables = {"variable-images": variable}
    if crops:
        planes = [np.full((8, 8), place / 4) for place in range(4)]
        tables["crops"] = as_table(planes, [{"image": kinds[2], "place": place} for place in range(4)])
    return result(
        "multi-localization",
        features="pci-conv3",
        params={"first": LONG, "second": "b", "exclude": "none"},
        metrics={"separation": 1.0},
        predictions=pd.DataFrame(rows),
        tables=tables,
    )


def of_one_protein(leaves=2, clades=2, protein="P", crops=True) -> Result:
    """A tree that joins leaf after leaf, cut into clades of neighbours."""
    n = leaves
    tree = [(0 if i == 0 else n + i - 1, i + 1, i + 1.0, i + 2) for i in range(n - 1)]
    clade = np.minimum(np.arange(n), clades - 1)
    cells = pd.DataFrame(
        {"cell": [f"c{i}" for i in range(n)], "image": "i", "clade": clade, "leaf": np.arange(n), "state": LONG[:20]}
    )
    tables = {"linkage": pd.DataFrame(tree, columns=["left", "right", "height", "cells"])}
    if crops:
        said = [
            {"clade": c, "place": 0, "channel": channel} for c in range(clades) for channel in ("GFP", "RFP", "third")
        ]
        tables["crops"] = as_table([np.eye(8)] * len(said), said)
    details = {"protein": protein, "n_cells": n}
    return result("single-cell-clustering", details=details, predictions=cells, tables=tables)


def inpainted(labels, examples=1) -> Result:
    panels = ("source GFP", "source RFP", "target RFP", "predicted GFP", "real GFP")
    said = [
        {"pair": pair, "label": label, "example": number, "target_label": LONG, "mse": 0.0123, "panel": panel}
        for pair in ("matched", "mismatched")
        for label in labels
        for number in range(examples)
        for panel in panels
    ]
    return result("inpainting-error", tables={"examples": as_table([np.eye(8)] * len(said), said)})


def swapped(features, effect=0.2, *, exclude="cell", brightness="raw", **params) -> Result:
    drops = {f"drop_{name}": effect / 2 for name in ("same_class", "other_class", "cell_free", "mean", "zero")}
    params = {"k": 11, "margin": 0, "exclude": exclude, "brightness": brightness} | params
    metrics = {"background_effect": effect, **drops}
    return result("background-swap", features, weights=None, params=params, metrics=metrics)


def proteins(n=3, k=1, label="", **columns):
    values = np.random.default_rng(0).normal(size=(2 * n, 2))
    columns = {"protein": [f"P{i // 2:02d}" for i in range(2 * n)], "label": label} | columns
    adata = make_features(values, **columns)
    return pci_bench.evaluate("hierarchical-clustering", adata, k=k)


MANY = [f"class {i:02d}" for i in range(40)]
AWKWARD = {
    "one class": lambda: [classified(["only"], "intensity", weights=None)],
    "two classes, long names": lambda: [classified([LONG, LONG.upper()], LONG, exclude=e) for e in ("cell", "image")],
    "40 classes": lambda: [classified(MANY, f"pci-conv{i}") for i in range(1, 6)],
    "30 feature sets": lambda: [classified(["a", "b", "c"], f"set number {i}") for i in range(30)],
    "12 networks": lambda: [
        classified(["a", "b"], f"net{n}-block1_conv{i}") for n, i in itertools.product(range(12), range(1, 9))
    ],
    "umap of one class": lambda: [embedded(["only"] * 3)],
    "umap without labels": lambda: [embedded([""] * 4)],
    "umap of 40 classes": lambda: [embedded(MANY, features=f"set{i}") for i in range(4)],
    "umap of long names": lambda: [embedded([LONG, LONG.upper(), "b"])],
    "violins of one cell": lambda: [scored()],
    "violins of a long protein": lambda: [scored(LONG, 6, crops=True)],
    "dendrogram of two cells": lambda: [of_one_protein()],
    "dendrogram without crops": lambda: [of_one_protein(crops=False, protein=LONG)],
    "dendrogram of 12 clades": lambda: [of_one_protein(leaves=150, clades=12)],
    "backgrounds of one set": lambda: [swapped(LONG)],
    "backgrounds of many sets": lambda: [
        swapped(f"set number {i}", brightness=b, exclude=e)
        for i, b, e in itertools.product(range(9), ("raw", "matched"), ("cell", "image"))
    ],
    "backgrounds of two margins": lambda: [swapped("intensity", margin=margin) for margin in (0, 4.5)],
    "inpainting without labels": lambda: [inpainted([""])],
    "inpainting of many labels": lambda: [inpainted([LONG, *MANY[:11]], 2)],
    "heat map of one cluster": lambda: proteins(),
    "heat map of long labels": lambda: proteins(12, 12, LONG),
    "heat map of 40 clusters": lambda: proteins(70, 40),
}


@pytest.fixture
def drawn(monkeypatch):
    """A function that returns the figures of some results by stem, each laid out as it is written."""

    def figures(results):
        evaluators = dict.fromkeys(r.evaluator.name for r in results)
        found = [pair for name in evaluators for pair in FIGURES.get(name).function(results)]
        assert len(found) == len(dict(found))
        for _, figure in found:
            figure.draw_without_rendering()
        return dict(found)

    return figures


def words(figure) -> list[Text]:
    return [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]


@pytest.mark.parametrize("case", AWKWARD)
def test_whatever_the_results_their_figures_are_drawn_silently_and_readable_in_print(case, drawn):
    results = AWKWARD[case]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = drawn(results)
    assert figures
    for stem, figure in figures.items():
        widest = figure.get_tightbbox().width
        assert widest < (14 if "12" in case else 9), stem
        scale = min(1, 7.5 / figure.get_figwidth())
        small = {t.get_text(): t.get_fontsize() for t in words(figure) if t.get_fontsize() * scale < SMALLEST * 0.999}
        assert not small or case in ("12 networks", "dendrogram of 12 clades"), stem
        for legend in figure.legends:
            box = legend.get_window_extent()
            covered = [a for a in figure.axes if a.get_visible() and box.overlaps(a.get_window_extent())]
            assert not covered, stem


def test_beneath_a_figure_stand_data_weights_evaluator_seed_and_version(drawn):
    one = classified(["a", "b"], "pci-conv4")
    other = classified(["a", "b"], "pci-random-conv4", weights=None)
    digest = hashlib.sha256(b"planted").hexdigest()[:8]
    sentence = provenance_of([one, other])
    assert sentence == (
        f"Data: planted 7, 22 cells. Trained weights: pci@planted {digest}. Networks named random are untrained. "
        "loo-knn 3, seed 5, pci-bench 9.9."
    )
    assert "22 cells, a subset (--limit 30)" in provenance_of([result(classes={"a": 22}, limit=30)])
    assert "Trained weights: none." in provenance_of([result(features="intensity", weights=None)])
    for figure in drawn([one, other]).values():
        (caption,) = [t for t in words(figure) if "Data: " in t.get_text()]
        assert "Data: planted 7, 22 cells." in caption.get_text().replace("\n", " ")
        lowest = min(axes.get_tightbbox().y0 for axes in figure.axes)
        assert caption.get_window_extent().y1 < lowest


def test_what_is_beneath_a_figure_is_on_the_page_under_its_legend(tmp_path):
    figure = new_figure(4, 2)
    figure.subplots().plot([0, 1], label="line")
    figure.legend(loc="outside lower center")
    title(figure, f"{LONG} {LONG}")
    described(figure, [result()], f"{LONG} {LONG}")
    png, svg = save(figure, tmp_path / "one")
    with Image.open(png) as image:
        assert image.height > 2 * 200 * 1.1  # taller than the figure, by the caption
        assert image.width < 4 * 200 * 1.2
    (legend,) = figure.legends
    caption = next(t for t in words(figure) if "Data: " in t.get_text())
    figure.draw_without_rendering()
    assert legend.get_window_extent().y0 > caption.get_window_extent().y1
    text = " ".join(t for t in ET.parse(svg).getroot().itertext())
    assert "line" in text
    assert "pci-bench 9.9" in text


def test_the_same_results_give_the_same_bytes_also_from_their_files(tmp_path):
    results = [of_one_protein(leaves=8, clades=3), scored(cells=5, crops=True), inpainted(["a", "b"])]
    read = []
    for number, one in enumerate(results):
        write_result(one, tmp_path / f"{number}" / "one.json")
        read.append(read_result(tmp_path / f"{number}" / "one.json"))
    first, second = (draw(some, tmp_path / name) for some, name in ((results, "first"), (read, "second")))
    assert {f.suffix for f in first} == {".png", ".svg", ".csv"}
    assert [f.name for f in first] == [f.name for f in second]
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(first, second, strict=True))


def test_a_class_looks_the_same_in_every_screen_and_like_no_other(drawn):
    screens = [
        embedded(["b", "c"] * 3, name="protein-umap", dataset="one"),
        embedded(["a", "b", "c"] * 3, name="protein-umap", dataset="two"),
    ]
    ((stem, figure),) = drawn(screens).items()
    assert stem == "protein-umap-one-two"
    of = looks(np.array(["a", "b", "c"]))
    for axes, names in zip(figure.axes, ("bc", "abc"), strict=True):
        shown = {to_hex(c) for points in axes.collections for c in points.get_facecolors()}
        assert shown == {of[name][0].lower() for name in names}
    (legend,) = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["a", "b", "c"]
    many = looks(np.array(MANY))
    assert len(many) == len(set(many.values())) == MOST_CLASSES
    assert len(set(distinct_colours(23))) == 23


def test_at_most_eight_classes_are_in_colour_at_a_time_and_the_others_counted(drawn):
    figures = drawn([embedded(MANY)])
    assert list(figures) == ["umap-planted", "umap-planted-2", "umap-planted-3"]
    seen = []
    for figure in figures.values():
        *names, others = [t.get_text() for t in figure.legends[0].get_texts()]
        assert len(names) == HIGHLIGHTED
        assert others == f"{40 - HIGHLIGHTED} others"
        seen += names
    assert len(set(seen)) == MOST_CLASSES


def test_an_embedding_is_drawn_with_one_scale_for_both_axes(drawn):
    (figure,) = drawn([embedded(["a", "b"] * 4)]).values()
    figure.draw_without_rendering()
    (axes,) = figure.axes
    (left, low), (right, high) = axes.transData.transform([(0, 0), (1, 1)])
    assert right - left == pytest.approx(high - low)


@pytest.mark.parametrize(("panels", "rows", "columns"), [(2, 1, 2), (3, 1, 3), (4, 2, 2), (5, 2, 3), (7, 3, 3)])
def test_panels_of_embeddings_fill_their_rows(drawn, panels, rows, columns):
    (figure,) = drawn([embedded(["a", "b"] * 4, features=f"set{i}") for i in range(panels)]).values()
    figure.draw_without_rendering()
    places = [axes.get_position() for axes in figure.axes if axes.get_visible()]
    assert len(places) == panels
    assert len({round(place.y0, 3) for place in places}) == rows
    assert len({round(place.x0, 3) for place in places}) == columns


def test_the_inpainting_figure_shows_the_task_first_with_its_error_and_mismatches_second(drawn):
    figures = drawn([inpainted(["a", "b"])])
    (first, task), (second, mismatched) = figures.items()
    assert second == f"{first}-mismatched"
    texts = [{t.get_text() for t in words(figure)} for figure in (task, mismatched)]
    assert all("MSE 0.0123" in found for found in texts)
    assert [any("→" in t for t in found) for found in texts] == [False, True]


def test_examples_of_older_results_are_mismatches_without_an_error(drawn):
    old = inpainted(["a"])
    table = old.tables["examples"]
    old.tables["examples"] = table[table["pair"] == "mismatched"].drop(columns=["pair", "mse"])
    ((stem, figure),) = drawn([old]).items()
    assert stem.endswith("-mismatched")
    assert not any(t.get_text().startswith("MSE") for t in words(figure))


def test_bars_of_accuracy_are_in_the_order_of_the_strictest_neighbours_and_say_so(drawn):
    scores = {"pci-conv3": (0.9, 0.5), "pci-conv4": (0.8, 0.7), "noise": (0.7, 0.6)}
    results = [classified(["a", "b"], name, exclude=e) for name in scores for e in ("cell", "image")]
    for r, score in zip(results, np.ravel(list(scores.values())), strict=True):
        r.metrics["balanced_accuracy"] = float(score)
    figure = drawn(results)["accuracy-planted"]
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()][::-1] == [
        "pci-conv4@planted", "noise@planted (control)", "pci-conv3@planted",
    ]  # fmt: skip
    assert any(
        "the strictest comparison, whose best is on top" in t.get_text().replace("\n", " ") for t in words(figure)
    )
    bars = {(round(bar.get_y()), to_hex(bar.get_facecolor()), bar.get_alpha()) for bar in axes.patches}
    blue, grey = COLOURS[0].lower(), GREY.lower()
    assert bars == {(row, colour, tone) for row, colour in ((0, blue), (1, grey), (2, blue)) for tone in (1.0, 0.35)}
    alone = drawn([r for r in results if r.evaluator.params["exclude"] == "cell"])["accuracy-planted"]
    assert not any("whose best is on top" in t.get_text() for t in words(alone))


def test_accuracy_by_class_is_the_share_of_the_class_that_is_found(drawn):
    one = classified(["a", "b"], "set")
    one.details["confusion"]["counts"] = [[3, 1], [0, 5]]
    one.metrics["balanced_accuracy"] = (3 / 4 + 1) / 2
    figure = drawn([one])["classes-planted"]
    values = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(np.asarray(values).ravel(), [87.5, 75, 100])
    assert {"88", "75", "100"} <= {t.get_text() for t in figure.axes[0].texts}


def test_of_other_backgrounds_the_set_that_loses_least_is_on_top_beside_its_effect(drawn):
    (figure,) = drawn([swapped("much", 0.4), swapped("little", 0.05), swapped("some", 0.1)]).values()
    (axes,) = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["much", "some", "little"]
    assert [t.get_text() for t in axes.texts] == ["40.0", "10.0", "5.0"]


def test_the_highest_score_is_on_top_of_its_image(drawn):
    figures = drawn([scored(cells=5, crops=True)])
    (figure,) = [f for stem, f in figures.items() if stem.endswith("-images")]
    crops = [a for a in figure.axes if a.images]
    heights = {float(a.images[0].get_array()[0, 0]): a.get_position().y0 for a in crops}
    assert len(heights) == 4
    assert sorted(heights, key=heights.__getitem__) == sorted(heights)


def test_crops_stand_beneath_their_clades_in_their_order(drawn):
    (figure,) = drawn([of_one_protein(leaves=9, clades=3)]).values()
    tree, *crops = figure.axes
    bottom = tree.get_position().y0
    assert len(crops) == 3 * 2  # of three channels the first two
    assert all(a.get_position().y1 < bottom for a in crops)
    left = [a.get_position().x0 for a in crops]
    assert left == sorted(left)


def test_pictured_cells_go_from_the_lowest_score_to_the_highest(make_cells):
    cells = make_cells(12)
    names = cells.obs["cell"].to_numpy(str)
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"cell": names, "image": ["i"] * 7 + ["j"] * 2 + ["k"] * 3, "score": rng.normal(size=12)})
    found = spread_over_scores(cells, table, ["j", "i"])
    assert found["image"].tolist() == ["j"] * 2 + ["i"] * 4
    of_i = found[found["image"] == "i"]
    ranked = table[table["image"] == "i"].sort_values("score")["cell"].tolist()
    assert of_i["cell"].tolist() == [ranked[0], ranked[2], ranked[4], ranked[6]]
    assert of_i["score"].is_monotonic_increasing
    planes = from_table(found, ["image", "place"])
    for row in found.itertuples():
        own = cells.crops([int(np.flatnonzero(names == row.cell)[0])])[0, 0]
        np.testing.assert_allclose(planes[row.image, row.place], own, atol=0.5 / 255 + 1e-6)


def test_pictured_proteins_are_those_nearest_their_clusters_mean_whatever_the_order_of_the_cells(make_cells):
    protein = np.repeat([f"P{i}" for i in range(6)], 3)
    cells = make_cells(18, protein=protein, image=protein)
    values = np.random.default_rng(2).normal(size=(18, 2))
    means = np.array([[0.0], [1], [2], [10], [20], [24]])
    clusters = np.array(["A", "A", "A", "B", "B", ""])
    names = np.unique(protein)
    found = of_clusters(cells, values, protein, names, means, clusters)
    assert list(zip(found["cluster"], found["protein"], strict=True)) == [
        ("A", "P1"), ("A", "P0"), ("A", "P2"), ("B", "P3"), ("B", "P4"),
    ]  # fmt: skip
    for row in found.itertuples():
        mine = np.flatnonzero(protein == row.protein)
        distances = np.linalg.norm(values[mine] - values[mine].mean(axis=0), axis=1)
        assert row.cell == f"cell{mine[distances.argmin()]}"
    order = np.random.default_rng(3).permutation(18)
    pd.testing.assert_frame_equal(
        found, of_clusters(cells[order], values[order], protein[order], names, means, clusters)
    )


def test_no_results_give_no_figures_and_long_names_lose_their_middle(tmp_path):
    assert draw([], tmp_path) == []
    assert draw([result("argmax", metrics={"balanced_accuracy": 0.5})], tmp_path) == []
    assert shortened("short") == "short"
    assert len(shortened(LONG)) <= 40
    assert shortened(LONG).startswith(LONG[:10])
    assert shortened(LONG).endswith(LONG[-10:])
