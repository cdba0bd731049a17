"""The dendrogram of one protein's cells, crops of its clades beneath (paper: Figure 6)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.examples import from_table
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.runs.results import Result
from pci_bench.system.drawing import INK, distinct_colours, new_figure, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CHANNELS = 2  # shown of each cell
BEYOND = ("cell", "image", "clade", "leaf")  # columns of every table of cells; another one is the truth


@register_figures("single-cell-clustering")
def single_cell_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure per feature set and protein."""
    for result in results:
        protein = escape(result.details["protein"])
        stem = f"cells-of-{protein}-{escape(result.features.full_name)}-{escape(result.dataset.name)}"
        reading = "Ward's linkage of standardised features. Crops: the cells nearest their clade's mean, nearest first."
        yield stem, described(dendrogram(result), [result], reading, data=stacked([result], [result.predictions]))


def dendrogram(result: Result) -> Figure:
    """Return the tree over its clades' crops, one row for each of a clade's cells, the protein and a marker side by side."""
    from scipy.cluster.hierarchy import dendrogram as draw_tree

    tree = result.tables["linkage"].to_numpy(float)
    cells = result.predictions
    assert cells is not None
    n_clades = int(cells["clade"].max()) + 1
    colours = distinct_colours(n_clades)
    below = _clade_below(tree, cells["clade"].to_numpy())
    crops = result.tables.get("crops")
    planes = {} if crops is None or not len(crops) else from_table(crops, ["clade", "place", "channel"])
    channels = list(dict.fromkeys(channel for _, _, channel in planes))[:CHANNELS]
    deep = 1 + max((place for _, place, _ in planes), default=-1)
    width = max(6.4, 1.15 * n_clades)
    side = min(0.85, width / n_clades / (max(1, len(channels)) + 0.35))
    beneath = (0.75 + side * deep if channels else 0.45) + 0.02
    above, tall = 0.4, 2.3
    height = above + tall + beneath
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # crops stand beneath their clades, at places that are known
    left = 0.6 / width
    axes = figure.add_axes((left, beneath / height, 1 - left, tall / height))
    draw_tree(
        tree,
        ax=axes,
        no_labels=True,
        link_color_func=lambda node: INK if below[node] < 0 else colours[below[node]],
    )
    for line in axes.collections:
        line.set_linewidth(1.2 if len(cells) <= 100 else 0.6)
    axes.set_xlim(0, 10 * len(cells))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_ylabel("height of merge (Ward)", fontsize=8)
    axes.tick_params(labelsize=7.5)
    where = result.details.get("image", "all images")
    text = f"{result.details['n_cells']} cells of {result.details['protein']} ({where})"
    title(figure, f"{text}, {result.features.full_name}, {result.dataset.name}", room=above)
    _name_clades(axes, cells, colours, tall, int((width - 0.6) / n_clades / 0.058))
    for clade in range(n_clades):
        across = side * max(1, len(channels))
        # the strips share the width alike: a clade of few leaves is narrower than its crops
        start = left * width + (width * (1 - left)) * (clade + 0.5) / n_clades - across / 2
        for depth in range(deep):
            for number, channel in enumerate(channels):
                if (clade, depth, channel) not in planes:
                    continue
                low = beneath - 0.75 - side * (depth + 1)
                place = figure.add_axes(
                    ((start + side * number) / width, low / height, 0.96 * side / width, 0.96 * side / height)
                )
                place.imshow(planes[clade, depth, channel], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                place.set_axis_off()
                if depth == 0:
                    place.set_title(plot_text(channel), fontsize=7, pad=2, color=INK)
    return figure


def _name_clades(axes: Axes, cells: pd.DataFrame, colours: Sequence[str], tall: float, room: int) -> None:
    """Draw a bar under every clade's leaves, a wedge from it to the clade's crops, its size and truth between them; axes are so many inches tall, a clade has room for so many letters."""
    total = 10 * len(cells)
    n_clades, inch = len(colours), 1 / tall  # in units of the axes' height
    shape: Any = {"transform": axes.get_xaxis_transform(), "clip_on": False, "linewidth": 0}
    for clade in range(n_clades):
        leaves = cells.loc[cells["clade"] == clade, "leaf"]
        first, last = 10 * leaves.min() + 1, 10 * leaves.max() + 9
        axes.fill(
            [first, last, last, first], np.array([-0.03, -0.03, -0.08, -0.08]) * inch, color=colours[clade], **shape
        )
        middle, half = total * (clade + 0.5) / n_clades, total * 0.42 / n_clades
        wedge = [first, last, middle + half, middle - half]
        axes.fill(wedge, np.array([-0.08, -0.08, -0.2, -0.2]) * inch, color=colours[clade], alpha=0.25, **shape)
        size = f"clade {clade + 1}: {len(leaves)} {'cell' if len(leaves) == 1 else 'cells'}"
        axes.text(
            middle,
            -0.23 * inch,
            "\n".join([size, *textwrap.wrap(plot_text(_commonest(cells, clade)), room)[:2]]),
            fontsize=7,
            color=INK,
            ha="center",
            va="top",
            transform=axes.get_xaxis_transform(),
        )


def _commonest(cells: pd.DataFrame, clade: int) -> str:
    """Return the most frequent true state of a clade, where it is known."""
    known = [c for c in cells.columns if c not in BEYOND]
    if not known:
        return ""
    values, counts = np.unique(cells.loc[cells["clade"] == clade, known[0]].astype(str), return_counts=True)
    return f"{100 * counts.max() / counts.sum():.0f} % {values[counts.argmax()]}"


def _clade_below(tree: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return for every node of a linkage the clade that all its leaves lie in, or −1. (n − 1, 4), (n,) -> (2n − 1,)."""
    n = len(numbers)
    below = np.concatenate([numbers, np.full(n - 1, -1)])
    for node, (left, right, *_) in enumerate(tree, n):
        if below[int(left)] == below[int(right)]:
            below[node] = below[int(left)]
    return below
