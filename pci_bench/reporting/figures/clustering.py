"""Clustered heat maps of proteins and features, with the tree and the clusters beside them (paper: Figure 4)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.data.examples import from_table
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.runs.results import Result
from pci_bench.system.drawing import FAINT, INK, distinct_colours, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

STRONGEST = 2.0  # standard deviations; stronger values have the same colour
MAX_NAMED_ROWS = 60  # rows of a heat map that still have room for names
MAX_LEGEND_CLUSTERS = 30
PALETTES = {"": "PuOr_r", "-yellow-blue": "yellow-blue"}  # the paper's is the second
CROPS = 3  # of a cluster
SIDE = 0.42  # inches of a crop


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
        text = (
            f"Ward clustering of {what}\n{dataset}, {result.features.full_name}: mean features of each protein's cells"
        )
        reading = "Rows: proteins; columns: features, both in the order of their trees."
        if "crops" in result.tables:
            reading += " Crops: a typical cell of each of the three proteins nearest the cluster's mean."
        for suffix, palette in PALETTES.items():
            drawn = heat_map(result, palette=palette, text=text)
            yield (
                "proteome-" + escape("-".join(parts)) + suffix,
                described(drawn, [result], reading, data=stacked([result], [result.tables["features"]])),
            )


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
    positions = np.concatenate([place, np.empty(n - 1)])
    height = np.concatenate([np.zeros(n), linkage[:, 2]])
    lines = np.empty((n - 1, 4, 2))
    for row, (left, right) in enumerate(linkage[:, :2].astype(int)):
        positions[n + row] = (positions[left] + positions[right]) / 2
        top = height[n + row]
        lines[row] = [
            (height[left], positions[left]),
            (top, positions[left]),
            (top, positions[right]),
            (height[right], positions[right]),
        ]
    return lines[np.isfinite(lines[:, :, 1]).all(axis=1)]


def heat_map(result: Result, *, palette: str, text: str) -> Figure:
    """Return tree, heat map, bars of clusters and subclusters, and a list of the clusters with their commonest label and crops.

    Parameters
    ----------
    result
        Of ``hierarchical-clustering``, with its tables.
    palette
        As `colours_of` takes it.
    text
        The figure's first lines.
    """
    from matplotlib.collections import LineCollection

    values = result.tables["features"].set_index("protein")
    proteins = result.tables["proteins"].set_index("protein").loc[values.index].fillna("")
    rows = len(values)
    tall = (
        6.2 if rows > MAX_NAMED_ROWS else max(2.2, 0.15 * rows, (SIDE + 0.06) * min(12, proteins["cluster"].nunique()))
    )
    figure = new_figure(7.5, tall + 1.8)
    grid = figure.add_gridspec(1, 5, width_ratios=[0.9, 3.1, 0.27, 0.27, 2.45])
    tree, heat, outer, inner, listing = (figure.add_subplot(grid[0, i]) for i in range(5))

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

    _list_clusters(listing, result, proteins, _bars(outer, inner, proteins, tall), tall)
    inner.yaxis.tick_right()
    if rows <= MAX_NAMED_ROWS:
        names = [shortened(f"{p}  {label}", 30) for p, label in zip(values.index, proteins["label"], strict=True)]
        inner.set_yticks(range(rows), names, fontsize=7)
        inner.tick_params(axis="y", length=0, pad=14 if (proteins["subcluster"] != "").any() else 2)
    title(figure, text)
    bar = figure.colorbar(image, ax=[tree, heat], location="bottom", shrink=0.45, aspect=40, extend="both")
    bar.set_label("mean feature of a protein, in SD over all proteins", fontsize=8)
    bar.ax.tick_params(labelsize=7.5)
    bar.outline.set_visible(False)
    return figure


def _bars(outer: Any, inner: Any, proteins: pd.DataFrame, tall: float) -> dict[str, str]:
    """Draw both bars (so many inches tall), and return every cluster's colour, in the order of the names."""
    from matplotlib.colors import ListedColormap

    rows = len(proteins)
    cluster_colours: dict[str, str] = {}
    for axes, column, heading in ((outer, "cluster", "cluster"), (inner, "subcluster", "  part")):
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
        axes.set_title(heading, fontsize=7.5)
        last = -np.inf
        for name in known:
            middle = float(np.flatnonzero(names == name).mean())
            if (middle - last) * tall / rows >= 0.115:  # names that would touch are left out
                beside = 0.62 if column == "subcluster" else 0
                axes.text(
                    beside,
                    middle,
                    plot_text(name),
                    ha="left" if beside else "center",
                    va="center",
                    fontsize=7,
                    color=INK,
                    bbox=None if beside else {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
                )
                last = middle
        if column == "cluster":
            cluster_colours = {name: colours[name] for name in sorted(known, key=natural_key)}
    return cluster_colours


def _list_clusters(listing: Axes, result: Result, proteins: pd.DataFrame, colours: dict[str, str], tall: float) -> None:
    """List the clusters, the first ones where there are many: size, commonest label, and crops where there are any."""
    from matplotlib.patches import Rectangle

    crops = result.tables.get("crops")
    planes = {} if crops is None or not len(crops) else from_table(crops.astype({"cluster": str}), ["cluster", "place"])
    listing.set_axis_off()
    listed_names = list(colours)[:MAX_LEGEND_CLUSTERS]
    line = min(SIDE + 0.06, tall / (len(listed_names) + 1)) / tall
    listing.set_xlim(0, 1)
    listing.set_ylim(0, 1)
    listing.text(
        0.02, 1.01, "cluster: proteins, of which\nwith the most frequent label", fontsize=7, va="bottom", color=INK
    )
    for number, name in enumerate(listed_names):
        top = 1 - line * number
        labels = proteins["label"].astype(str).to_numpy()[proteins["cluster"].astype(str) == name]
        distinct, counts = np.unique(labels[labels != ""], return_counts=True)
        size = f"{name}: {len(labels):,}" + (f", of which {counts.max():,}" if len(distinct) else "")
        most = textwrap.wrap(distinct[counts.argmax()], 20)[:2] if len(distinct) else []
        listing.add_patch(Rectangle((0.02, top - 0.84 * line), 0.035, 0.8 * line, color=colours[name], linewidth=0))
        words = "\n".join([size, *most]) if line * tall > 0.3 else " ".join([size, *most])
        listing.text(0.075, top - 0.44 * line, plot_text(words), fontsize=7, va="center", color=INK, linespacing=1.0)
        for place in range(CROPS):
            if (name, place) in planes:
                across = 0.143
                inset = listing.inset_axes((0.56 + across * 1.03 * place, top - 0.9 * line, across, 0.92 * line))
                inset.imshow(planes[name, place], cmap="gray", vmin=0, vmax=1, interpolation="nearest", aspect="equal")
                inset.set_axis_off()
    if len(colours) > len(listed_names):
        left = len(colours) - len(listed_names)
        listing.text(0.06, 1 - line * (len(listed_names) + 0.5), f"and {left} more", fontsize=7, va="center", color=INK)
