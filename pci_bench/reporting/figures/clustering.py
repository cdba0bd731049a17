"""Clustered heat maps of proteins and features, with the tree and the clusters beside them (paper: Figure 4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.drawing import FAINT, INK, distinct_colours, new_figure
from pci_bench.files import escape
from pci_bench.registry import natural_key
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

STRONGEST = 2.0  # standard deviations; stronger values have the same colour
NAMED = 60  # rows of a heat map that still have room for names
IN_LEGEND = 30
PALETTES = {"": "PuOr_r", "-yellow-blue": "yellow-blue"}  # the paper's is the second


@register_figures("hierarchical-clustering")
def clustering_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a heat map of each result in colours for every eye, and one in the paper's yellow and blue."""
    for result in results:
        params, dataset = result.evaluator.params, result.dataset.name
        what = f"{result.details['n_proteins']:,} proteins"
        parts = [dataset, result.features.full_name]
        if params["subset"]:
            parts.append(params["subset"])
            what += f" ({params['subset']}{' only' if params['subset_terms'] == 'only' else ''})"
        if params["around"]:
            parts.append(params["around"])
            what = f"the clade of {len(result.tables['features'])} proteins around {params['around']}, of {what}"
        if len(results) > len({r.features.full_name for r in results}):  # several cuts of the same features
            parts += [
                f"{k}={params[k]}" for k in ("k", "subclusters", "height") if params[k] and not params["clusters"]
            ]
        title = (
            f"Ward clustering of {what}\n{dataset}, {result.features.full_name}: mean features of each protein's cells"
        )
        for suffix, palette in PALETTES.items():
            yield "proteome-" + escape("-".join(parts)) + suffix, heat_map(result, palette=palette, title=title)


def colours_of(palette: str) -> Colormap:
    """Return a Matplotlib colour map by name; ``"yellow-blue"`` is the paper's, black at 0."""
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if palette == "yellow-blue":
        return LinearSegmentedColormap.from_list(palette, ["#2060FF", "#000000", "#FFE600"])
    return matplotlib.colormaps[palette]


def branches(linkage: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return the lines of a tree, one bracket per merge, each four points (height, place).

    Parameters
    ----------
    linkage
        (n − 1, 4), as SciPy's.
    place
        (n,) where each leaf is drawn; NaN for leaves that are not, and no merge that holds one is drawn.

    Returns
    -------
    numpy.ndarray
        (merges, 4, 2) float.
    """
    n = len(linkage) + 1
    at = np.concatenate([place, np.empty(n - 1)])
    height = np.concatenate([np.zeros(n), linkage[:, 2]])
    lines = np.empty((n - 1, 4, 2))
    for row, (left, right) in enumerate(linkage[:, :2].astype(int)):
        at[n + row] = (at[left] + at[right]) / 2
        top = height[n + row]
        lines[row] = [(height[left], at[left]), (top, at[left]), (top, at[right]), (height[right], at[right])]
    return lines[np.isfinite(lines[:, :, 1]).all(axis=1)]


def heat_map(result: Result, *, palette: str, title: str) -> Figure:
    """Return tree, heat map, and bars of clusters and subclusters; named at their side, and in the legend by their commonest label.

    Parameters
    ----------
    result
        Of ``hierarchical-clustering``, with its tables.
    palette
        As `colours_of` takes it.
    title
        The figure's first lines.
    """
    from matplotlib.collections import LineCollection

    values = result.tables["features"].set_index("protein")
    proteins = result.tables["proteins"].set_index("protein").loc[values.index].fillna("")
    rows = len(values)
    figure = new_figure(9.6, 8.4 if rows > NAMED else 2.2 + max(2.4, 0.15 * rows))
    grid = figure.add_gridspec(1, 4, width_ratios=[1.3, 5, 0.32, 0.32])
    tree, heat, outer, inner = (figure.add_subplot(grid[0, i]) for i in range(4))

    place = np.full(int(result.details["n_proteins"]), np.nan)
    place[proteins["leaf"].to_numpy(int)] = np.arange(rows)
    lines = branches(result.tables["linkage"].iloc[:, :4].to_numpy(float), place)
    tree.add_collection(
        LineCollection(list(lines), colors=INK, linewidths=0.3 if rows > 500 else 0.7, rasterized=rows > 500)
    )
    tree.set_xlim(lines[:, :, 0].max(initial=1e-9) * 1.03, 0)
    tree.set_ylim(rows - 0.5, -0.5)
    tree.set_yticks([])
    tree.tick_params(axis="x", labelsize=7.5)
    tree.set_xlabel("height of merge", fontsize=8)
    tree.spines[["top", "left", "right"]].set_visible(False)

    # Where rows or columns are fewer than the printed pixels each must stay a block; where more, neighbours are averaged.
    smooth = "antialiased" if rows > 400 or values.shape[1] > 400 else "nearest"
    image = heat.imshow(
        values.to_numpy(float),
        aspect="auto",
        cmap=colours_of(palette),
        vmin=-STRONGEST,
        vmax=STRONGEST,
        interpolation=smooth,
    )
    heat.set_xticks([])
    heat.set_xlabel(f"{values.shape[1]:,} features", fontsize=8)
    heat.set_yticks([])
    heat.spines[:].set_visible(False)

    legend = _bars(outer, inner, proteins)
    inner.yaxis.tick_right()
    if rows <= NAMED:
        names = [f"{p}  {label}" for p, label in zip(values.index, proteins["label"], strict=True)]
        inner.set_yticks(range(rows), names, fontsize=7.5)
        inner.tick_params(axis="y", length=0, pad=14 if (proteins["subcluster"] != "").any() else 2)
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    bar = figure.colorbar(image, ax=[tree, heat], location="bottom", shrink=0.45, aspect=40, extend="both")
    bar.set_label("mean feature of a protein, in SD over all proteins", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    figure.legend(
        handles=legend,
        loc="outside right upper",
        frameon=False,
        fontsize=8,
        title="cluster: proteins, most frequent label",
        title_fontsize=8,
        alignment="left",
    )
    return figure


def _bars(outer: Any, inner: Any, proteins: pd.DataFrame) -> list[Any]:
    """Draw both bars, and return a legend of the clusters, the first ones where there are many."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    rows = len(proteins)
    legend: list[Any] = []
    for axes, column, title in ((outer, "cluster", "cluster"), (inner, "subcluster", "sub-")):
        names = proteins[column].astype(str).to_numpy()
        known = sorted(set(names) - {""}, key=lambda c: int(np.flatnonzero(names == c)[0]))
        if column == "cluster":
            colours = dict(zip(known, distinct_colours(len(known)), strict=True))
        else:  # neighbours are told apart by shade, as in the paper
            colours = {name: ("#4D4D4D", "#A6A6A6")[i % 2] for i, name in enumerate(known)}
        shades = ["white" if column == "subcluster" else FAINT, *colours.values()]
        codes = np.array([0 if n == "" else 1 + known.index(n) for n in names])
        axes.imshow(
            codes[:, None],
            aspect="auto",
            cmap=ListedColormap(shades),
            vmin=-0.5,
            vmax=len(shades) - 0.5,
            interpolation="nearest",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        if not known:
            continue
        axes.set_title(title, fontsize=7.5)
        last = -np.inf
        for name in known:
            middle = float(np.flatnonzero(names == name).mean())
            if middle - last >= rows / 48 or rows <= NAMED:  # names that would touch are left out
                beside = 0.62 if column == "subcluster" else 0
                axes.text(
                    beside,
                    middle,
                    name,
                    ha="left" if beside else "center",
                    va="center",
                    fontsize=7,
                    color=INK,
                    bbox=None if beside else {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                )
                last = middle
        if column == "cluster":
            for name in sorted(known, key=natural_key)[:IN_LEGEND]:
                mine = proteins["label"].astype(str).to_numpy()[names == name]
                distinct, counts = np.unique(mine[mine != ""], return_counts=True)
                what = f", {distinct[counts.argmax()]} {counts.max()}" if len(distinct) else ""
                legend.append(Patch(facecolor=colours[name], label=f"{name}: {len(mine):,}{what}"))
            if len(known) > IN_LEGEND:
                legend.append(Patch(facecolor="none", label=f"and {len(known) - IN_LEGEND} more"))
    return legend
