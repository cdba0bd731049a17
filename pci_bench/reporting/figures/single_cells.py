"""The dendrogram of one protein's cells, crops of its clades beneath (paper: Figure 6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.drawing import COLOURS, INK, distinct_colours, new_figure
from pci_bench.evaluators.examples import from_table
from pci_bench.files import escape
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@register_figures("single-cell-clustering")
def single_cell_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure per feature set and protein."""
    for result in results:
        protein = escape(result.details["protein"])
        yield (
            f"cells-of-{protein}-{escape(result.features.full_name)}-{escape(result.dataset.name)}",
            dendrogram(result),
        )


def dendrogram(result: Result) -> Figure:
    """Return the tree over its clades' crops; the protein in grey, one row for each of a clade's cells."""
    from scipy.cluster.hierarchy import dendrogram as draw_tree

    tree = result.tables["linkage"].to_numpy(float)
    cells = result.predictions
    assert cells is not None
    n_clades = int(cells["clade"].max()) + 1
    colours = distinct_colours(n_clades)
    below = _clade_below(tree, cells["clade"].to_numpy())
    crops = result.tables.get("crops")
    planes = {} if crops is None else from_table(crops, ["clade", "place", "channel"])
    channels = list(dict.fromkeys(channel for _, _, channel in planes))
    deep = 1 + max((place for _, place, _ in planes), default=-1)
    figure = new_figure(max(6.0, 1.9 * n_clades + 0.6), 2.6 + 0.72 * deep * bool(channels))
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.4, max(0.72 * deep, 0.1)])
    axes = parts[0].subplots()
    draw_tree(
        tree,
        ax=axes,
        no_labels=True,
        link_color_func=lambda node: INK if below[node] < 0 else colours[below[node]],
    )
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_ylabel("Ward's height", fontsize=8)
    axes.tick_params(labelsize=7.5)
    where = result.details.get("image", "all images")
    size = f"{result.details['n_cells']} cells of {result.details['protein']} ({where})"
    axes.set_title(f"{size}, {result.features.full_name}, {result.dataset.name}", fontsize=8.5, loc="left")
    if planes:
        panels = parts[1].subplots(deep, n_clades * 2, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for place in panels.ravel():
            place.set_axis_off()
        for clade in range(n_clades):
            count = int((cells["clade"] == clade).sum())
            for depth in range(deep):
                for number, channel in enumerate(channels[:2]):
                    if (clade, depth, channel) in planes:
                        place = panels[depth, 2 * clade + number]
                        place.imshow(planes[clade, depth, channel], cmap="gray", vmin=0, vmax=1)
            truth = _commonest(cells, clade)
            panels[0, 2 * clade].set_title(
                f"clade {clade + 1}: {count} cells{truth}",
                fontsize=7,
                color=colours[clade] if clade < len(COLOURS) else INK,
                loc="left",
            )
    return figure


def _commonest(cells, clade: int) -> str:
    """Return the most frequent true state of a clade, where it is known."""
    known = [c for c in cells.columns if c not in ("cell", "image", "clade", "leaf")]
    if not known:
        return ""
    values, counts = np.unique(cells.loc[cells["clade"] == clade, known[0]].astype(str), return_counts=True)
    return f"\n{100 * counts.max() / counts.sum():.0f} % {values[counts.argmax()]}"


def _clade_below(tree: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Return for every node of a linkage the clade that all its leaves lie in, or −1. (n − 1, 4), (n,) -> (2n − 1,)."""
    n = len(numbers)
    below = np.concatenate([numbers, np.full(n - 1, -1)])
    for node, (left, right, *_) in enumerate(tree, n):
        if below[int(left)] == below[int(right)]:
            below[node] = below[int(left)]
    return below
