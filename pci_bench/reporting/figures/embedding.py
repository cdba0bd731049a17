"""Scatter plots of UMAP coordinates, one colour per class, the legend beside them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.drawing import FAINT, INK, distinct_colours, new_figure
from pci_bench.files import escape
from pci_bench.registry import natural_key
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3
LARGEST = 24  # classes with a colour of their own; the rest share grey
MARKERS = ("o", "^", "s")


@register_figures("umap")
@register_figures("protein-umap")
def umap_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure of all feature sets side by side."""
    dataset, evaluator = results[0].dataset, results[0].evaluator
    what = "cells" if evaluator.name == "umap" else "proteins"
    neighbours, distance = evaluator.params["neighbours"], evaluator.params["min_dist"]
    title = (
        f"UMAP of {results[0].details['n_points']:,} {what}, {dataset.name} "
        f"({neighbours} neighbours, minimum distance {distance:g}, seed {results[0].run['seed']})"
    )
    yield f"{evaluator.name}-{escape(dataset.name)}", scatter(results, title=title)


def scatter(results: Sequence[Result], *, title: str) -> Figure:
    """Return one panel per feature set; points coloured by label, drawn in an order that hides no class behind another."""
    tables = [r.tables["proteins"].fillna("") if "proteins" in r.tables else r.predictions for r in results]
    labels, counts = np.unique(
        np.concatenate([t["label"].to_numpy(str) for t in tables if t is not None]), return_counts=True
    )
    named = sorted(
        (str(c) for c, _ in sorted(zip(labels, counts, strict=True), key=lambda p: -p[1]) if c), key=natural_key
    )[:LARGEST]
    looks = {
        c: (colour, MARKERS[i // 8 % 3])
        for i, (c, colour) in enumerate(zip(named, distinct_colours(len(named)), strict=True))
    }
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = new_figure(3.3 * columns + 1.9, 3.3 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, result, table in zip(panels, results, tables, strict=False):
        assert table is not None
        order = np.random.default_rng(0).permutation(len(table))
        x, y, of = (table[c].to_numpy()[order] for c in ("umap_1", "umap_2", "label"))
        size = float(np.clip(20_000 / len(table), 1.5, 18))
        other = ~np.isin(of.astype(str), named)
        axes.scatter(x[other], y[other], s=size * 0.7, color=FAINT, linewidths=0, rasterized=True)
        # the same marker in one call, so that classes are mixed as the cells are
        for marker in MARKERS:
            mine = np.array([looks.get(str(c), ("", ""))[1] == marker for c in of])
            colours = [looks[str(c)][0] for c in of[mine]]
            axes.scatter(x[mine], y[mine], s=size, c=colours, marker=marker, linewidths=0, alpha=0.85, rasterized=True)
        axes.set_title(result.features.full_name, fontsize=8.5, loc="left")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color(FAINT)
        trust = result.metrics.get("trustworthiness")
        if trust is not None:
            axes.set_xlabel(f"trustworthiness {trust:.3f}", fontsize=7.5, color=INK)
    for axes in panels[len(results) :]:
        axes.set_visible(False)
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=looks[c][1], color=looks[c][0], markersize=5.5, label=c) for c in named
    ]
    if any((t["label"].to_numpy(str) == "").any() for t in tables if t is not None) or len(labels) > LARGEST:
        handles.append(Line2D([], [], linestyle="", marker="o", color=FAINT, markersize=5.5, label="others"))
    if handles:
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=7.5, handletextpad=0.2)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    return figure
