"""Scatter plots of UMAP coordinates, one colour and shape per class, the legend beside them (paper: Figure 3, Supplementary Figure 3)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.reporting.palette import COLOURS, SHAPES, class_looks, in_groups
from pci_bench.runs.results import Result
from pci_bench.system.drawing import FAINT, INK, new_figure, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLUMNS = 3  # at most
# Eight colours that every eye tells apart, three shapes that stay apart where colours repeat.
STYLES: tuple[dict[str, Any], ...] = (
    {"linewidths": 0},
    {"linewidths": 0.5, "edgecolors": INK},
    {"linewidths": 0.9},
)
IN_NAME = 26  # characters of a line of the legend


@register_figures("umap")
def cell_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure of all feature sets side by side."""
    dataset = results[0].dataset
    text = f"UMAP of {results[0].details['n_points']:,} cells, {dataset.name}"
    yield from _scatters(f"umap-{escape(dataset.name)}", text, results)


@register_figures("protein-umap", all_datasets=True)
def protein_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure of all datasets side by side, each class in the same colour in all of them."""
    datasets = list(dict.fromkeys(r.dataset.name for r in results))
    stem = f"protein-umap-{escape('-'.join(datasets))}"
    text = f"UMAP of proteins by the mean features of their cells, {', '.join(datasets)}"
    yield from _scatters(stem, text, results)


def _scatters(stem: str, text: str, results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a figure for every group of at most eight classes, in which those are in colour: more cannot be told apart at a time."""
    groups = in_groups(list(looks(_labels(results)))) or [[]]
    for number, classes in enumerate(groups, 1):
        words = f"; in colour: {classes[0]} to {classes[-1]}" if len(groups) > 1 else ""
        figure = scatter(results, text=text + words, classes=classes)
        yield (
            f"{stem}-{number}" if number > 1 else stem,
            described(figure, results, _how(results), data=stacked(results, [points_of(r) for r in results])),
        )


def _labels(results: Sequence[Result]) -> np.ndarray:
    return np.concatenate([points_of(r)["label"].to_numpy(str) for r in results])


def _how(results: Sequence[Result]) -> str:
    """Return the parameters of the embedding, and what the numbers below the panels are, as sentences."""
    parameters = dict.fromkeys((r.evaluator.params["neighbours"], r.evaluator.params["min_dist"]) for r in results)
    settings = " or ".join(
        f"{neighbours} neighbours, minimum distance {distance:g}" for neighbours, distance in parameters
    )
    return (
        f"Near points have similar features; distances between groups and their sizes mean nothing. Euclidean, {settings}. "
        "Trustworthiness: 1 where neighbours in the picture are neighbours in the features."
    )


def looks(labels: np.ndarray) -> dict[str, tuple[str, int]]:
    """Return the colour and the number of the shape of the most frequent classes, in natural order; "" is no class."""
    return {name: (look.on(COLOURS), look.shape) for name, look in class_looks(labels).items()}


def points_of(result: Result) -> pd.DataFrame:
    """Return the table of coordinates: of proteins, or of cells."""
    table = result.tables.get("proteins", result.predictions)
    assert table is not None  # an embedding always has one of them
    return table.assign(label=table["label"].astype("string").fillna(""))


def scatter(results: Sequence[Result], *, text: str, classes: Sequence[str]) -> Figure:
    """Return one panel per result; points of some classes in their colours, in an order that hides no class behind another."""
    tables = [points_of(r) for r in results]
    labels = _labels(results)
    styles = {name: look for name, look in looks(labels).items() if name in classes}
    names = [textwrap.fill(name, IN_NAME) for name in styles]
    beside = 0.45 + 0.065 * max((len(line) for name in names for line in name.splitlines()), default=0)
    rows = -(-len(results) // COLUMNS)
    columns = -(-len(results) // rows)  # four panels in two rows of two
    side = min(2.9, max(1.9, (7.4 - beside) / columns))
    lines = sum(1 + name.count("\n") for name in names) + 1
    figure = new_figure(side * columns + beside, max((side + 0.35) * rows, 0.155 * lines) + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    several = len({r.dataset.name for r in results}) > 1
    for letter, axes, result, table in zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ" * 9, panels, results, tables, strict=False):
        draw_points(axes, table, styles)
        what = result.features.full_name + (f"\n{result.dataset.name}, {len(table):,} proteins" if several else "")
        what = plot_text(what)
        axes.set_title(f"{letter}  {what}" if len(results) > 1 else what, fontsize=8, loc="left")
        if (trust := result.metrics.get("trustworthiness")) is not None:
            axes.set_xlabel(f"trustworthiness {trust:.3f}", fontsize=7.5, color=INK)
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    handles = legend_handles(labels, styles)
    if handles:
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=7.5, handletextpad=0.2)
    title(figure, text)
    return figure


def legend_handles(labels: np.ndarray, styles: dict[str, tuple[str, int]]) -> list[Line2D]:
    """Return what a legend shows of some points' labels (n,) str: a point for each class with a look, and one for the others."""
    from matplotlib.lines import Line2D

    names = [textwrap.fill(name, IN_NAME) for name in styles]
    handles = [
        Line2D([], [], linestyle="", marker=SHAPES[shape].matplotlib, color=colour, markersize=5.5, label=plot_text(name),
               markeredgecolor=STYLES[shape].get("edgecolors", colour), markeredgewidth=STYLES[shape]["linewidths"])
        for name, (colour, shape) in zip(names, styles.values(), strict=True)
    ]  # fmt: skip
    if (~np.isin(labels, list(styles))).any():
        n_others = len(set(labels)) - len(styles) - ("" in labels)
        what = f"{n_others} others" if n_others else "no label"
        handles.append(Line2D([], [], linestyle="", marker="o", color=FAINT, markersize=5.5, label=what))
    return handles


def draw_points(axes: Axes, table: pd.DataFrame, styles: dict[str, tuple[str, int]]) -> None:
    """Draw points in a shuffled order, so that classes are mixed as the cells are; those without a look first, in grey."""
    order = np.random.default_rng(0).permutation(len(table))
    x, y = (table[c].to_numpy()[order] for c in ("umap_1", "umap_2"))
    labels = table["label"].to_numpy(str)[order]
    size = float(np.clip(12_000 / max(1, len(table)), 1.5, 16))
    unstyled = ~np.isin(labels, list(styles))
    if unstyled.any():
        axes.scatter(x[unstyled], y[unstyled], s=size * 0.7, color=FAINT, linewidths=0, rasterized=True)
    for number, style_of_shape in enumerate(STYLES):
        of_shape = np.array([styles.get(label, ("", -1))[1] == number for label in labels], bool)
        if of_shape.any():
            colours = [styles[label][0] for label in labels[of_shape]]
            style = {**style_of_shape, "linewidths": style_of_shape["linewidths"] * min(1, size / 8)}
            axes.scatter(x[of_shape], y[of_shape], s=size, c=colours, alpha=0.85, rasterized=True,
                         marker=SHAPES[number].matplotlib, **style)  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")  # one scale for both axes, as in the report
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(FAINT)
