"""Where between two compartments single cells are, and crops of the most variable images (paper: Figure 5)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.examples import from_table
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.runs.results import Result
from pci_bench.system.drawing import COLOURS, FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
ABOVE = 0.4  # inches for the title
UNIT, COLUMN = 0.85, 0.5  # inches of a violin; share of it that an image has
READING = "Score: log of a cell's distance to the first compartment's average over that to the second's. Bars: quartiles; dots: medians."
OWN = "A cell counts in its own compartment's average, which alone separates the compartments a little, even on noise."


@register_figures("multi-localization")
def multi_localization_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield, for each pair of compartments, violins of all feature sets, and Figure 5 for pci-conv3, else for the best."""
    newest = max(results, key=lambda r: str(r.run.get("started", ""))).dataset
    sets: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.dataset == newest and result.predictions is not None:
            params = result.evaluator.params
            sets.setdefault((params["first"], params["second"], params["exclude"]), []).append(result)
    for (first, second, exclude), group in sets.items():
        group.sort(key=lambda r: -r.metrics["separation"])
        stem = f"multi-localization-{escape(first)}-{escape(second)}-{escape(newest.name)}"
        what = f"{first} (below 0) and {second} (above 0), {newest.name}"
        reading = f"{READING} {OWN}"
        if exclude != "none":
            stem += f"-other-{escape(exclude)}s"
            what += f", averages of other {exclude}s"
            reading = READING
        yield (
            stem,
            described(
                violins(group, text=f"Single-cell scores, {what}"),
                group,
                reading,
                data=stacked(group, [r.predictions for r in group]),
            ),
        )
        chosen = next((r for r in group if r.features.name == "pci-conv3"), group[0])
        pictured = with_examples(chosen, text=f"{chosen.features.full_name}: {what}")
        right = "Right: all cells of the most variable images annotated with both"
        below = "; below, four of them from the highest score to the lowest." if "crops" in chosen.tables else "."
        yield (
            f"{stem}-images",
            described(
                pictured,
                [chosen],
                f"{right}{below} SD: of their scores. {reading}",
                data=stacked([chosen], [chosen.tables["variable-images"]]),
            ),
        )


def violins(results: Sequence[Result], *, text: str) -> Figure:
    """Return a panel per feature set with a violin for each annotation, best separated first, all on one scale."""
    columns = min(COLUMNS, len(results))
    rows = math.ceil(len(results) / COLUMNS)
    figure = new_figure(2.4 * columns + 0.2, 0.6 + 1.95 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)  # so that panels can be compared
    for axes, result in zip(panels.flat, results, strict=False):
        names = _draw_violins(axes, result)
        ticks = [_short(names[0]), "both", _short(names[2])]
        axes.set_xticks(range(len(names)), ticks, fontsize=7)
        what = f"{shortened(result.features.full_name, 34)}\nseparation {result.metrics['separation']:.2f}"
        axes.set_title(what, fontsize=7.5, loc="left")
    for axes in panels.flat[len(results) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("log(d₁ / d₂)", fontsize=8)
    title(figure, text)
    return figure


def _short(name: str) -> str:
    return "\n".join(textwrap.wrap(shortened(name, 36), 12))


def with_examples(result: Result, *, text: str) -> Figure:
    """Return the violins of one feature set, and beside them all cells of the most variable images, over crops of some."""
    cells, images = result.predictions, result.tables["variable-images"].fillna("").astype({"image": str})
    assert cells is not None  # the caller draws results with predictions only
    crops = result.tables.get("crops")
    planes = {} if crops is None or not len(crops) else from_table(crops.astype({"image": str}), ["image", "place"])
    deep = 1 + max((place for _, place in planes), default=-1)
    side = UNIT * COLUMN
    width = 0.65 + UNIT * (3 + COLUMN * len(images))
    labels = [_named(image) for image in images.to_dict("records")]
    steep = any(len(line) > 8 for label in labels for line in label.split("\n"))
    beneath = (1.4 if steep else 0.55) + side * deep
    height = ABOVE + 2.6 + beneath
    figure = new_figure(max(4.2, width), height)
    figure.set_layout_engine("none")  # crops stand beneath their images, at places that are known
    wide = figure.get_figwidth()
    axes = figure.add_axes((0.65 / wide, beneath / height, (width - 0.65) / wide, 2.6 / height))
    names = _draw_violins(axes, result)
    rng = np.random.default_rng(0)
    middles = 2.5 + COLUMN * (np.arange(len(images)) + 0.5)
    for middle, image in zip(middles, images["image"], strict=True):
        scores = cells["score"][cells["image"].astype(str) == image]
        axes.plot(middle + rng.uniform(-0.13, 0.13, len(scores)), scores, "o", markersize=3.2, color=INK, alpha=0.7,
                  markeredgewidth=0, linestyle="")  # fmt: skip
    axes.axvline(2.5, color=FAINT, linewidth=1)
    axes.set_xlim(-0.5, 2.5 + COLUMN * len(images))
    axes.set_xticks([*range(3), *middles], [*map(_short, names), *labels], fontsize=7)
    for label in axes.get_xticklabels()[3:]:
        label.set_rotation(90 if steep else 0)
    axes.set_ylabel("log(d₁ / d₂)", fontsize=8.5)
    for (image, place), plane in planes.items():
        if image not in set(images["image"]):
            continue
        column = images["image"].tolist().index(image)
        # the last place is the highest score, drawn on top
        last = max(p for i, p in planes if i == image)
        left = 0.65 + UNIT * (3 + COLUMN * column)
        low = side * (deep - 1 - (last - place))
        crop = figure.add_axes((left / wide, low / height, 0.95 * side / wide, 0.95 * side / height))
        crop.imshow(plane, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        crop.set_axis_off()
    if deep > 0:
        for words, low, align in (("highest score", side * deep, "top"), ("lowest score", 0.0, "bottom")):
            figure.text((0.6 + UNIT * 3) / wide, low / height, words, fontsize=7, ha="right", va=align, color=INK)
    title(figure, text, room=ABOVE)
    return figure


def _named(image: dict[Any, Any]) -> str:
    """Return an image's protein, cell line where there is one, and SD, each on a line."""
    line = f"{shortened(str(image['cell_line']), 24)}\n" if image["cell_line"] else ""
    return f"{shortened(str(image['protein']), 24)}\n{line}SD {image['sd']:.2f}"


def _draw_violins(axes: Axes, result: Result) -> list[str]:
    """Draw a violin for each annotation with its quartiles (bar) and median (dot); return the annotations in order."""
    cells = result.predictions
    assert cells is not None
    first, second = result.evaluator.params["first"], result.evaluator.params["second"]
    names = [f"{first} only", f"{first} and {second}", f"{second} only"]
    annotation = cells["annotation"].astype(str)
    for position, (name, colour) in enumerate(zip(names, (COLOURS[0], COLOURS[3], COLOURS[1]), strict=True)):
        scores = cells["score"][annotation == name].to_numpy()
        drawn: Any = axes.violinplot(scores, [position], widths=0.8, showextrema=False)
        drawn["bodies"][0].set(facecolor=colour, edgecolor="none", alpha=0.85)
        low, median, high = np.quantile(scores, [0.25, 0.5, 0.75])
        axes.plot([position, position], [low, high], color=INK, linewidth=4, solid_capstyle="butt")
        axes.plot(position, median, "o", color="white", markersize=4, markeredgecolor=INK, markeredgewidth=0.6)
    axes.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return names
