"""Figure 5: where between two compartments single cells are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.drawing import COLOURS, FAINT, INK, new_figure
from pci_bench.files import escape
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
EXAMPLES = 4


@register_figures("multi-localization")
def multi_localization_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield, for each pair of compartments, violins of all feature sets, and Figure 5 for pci-conv3, else for the best."""
    newest = max(results, key=lambda r: str(r.run.get("started", ""))).dataset
    sets: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        if result.dataset == newest and result.predictions is not None:
            params = result.evaluator.params
            sets.setdefault((params["first"], params["second"], params["exclude"]), []).append(result)
    for (first, second, exclude), mine in sets.items():
        mine.sort(key=lambda r: -r.metrics["separation"])
        stem = f"multi-localization-{escape(first)}-{escape(second)}-{escape(newest.name)}"
        what = f"{first} (below 0) and {second} (above 0), {newest.name}"
        if exclude != "none":
            stem += f"-other-{escape(exclude)}s"
            what += f", averages of other {exclude}s"
        yield stem, violins(mine, title=f"Single-cell scores, {what}\nBars: quartiles; dots: medians")
        chosen = next((r for r in mine if r.features.name == "pci-conv3"), mine[0])
        title = f"{chosen.features.full_name}: {what}"
        yield f"{stem}-images", with_examples(chosen, title=title)


def violins(results: Sequence[Result], *, title: str) -> Figure:
    """Return a panel per feature set with a violin for each annotation, best separated first."""
    rows = math.ceil(len(results) / COLUMNS)
    figure = new_figure(8.4, 0.7 + 2.5 * rows)
    panels = figure.subplots(rows, min(COLUMNS, len(results)), squeeze=False)
    for axes, result in zip(panels.flat, results, strict=False):
        names = _draw_violins(axes, result)
        axes.set_xticks(
            range(len(names)), ["both" if " and " in n else n.replace(" only", "\nonly") for n in names], fontsize=8
        )
        axes.set_title(
            f"{result.features.full_name}\nseparation {result.metrics['separation']:.2f}", fontsize=8.5, loc="left"
        )
    for axes in panels.flat[len(results) :]:
        axes.set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("log(d₁ / d₂)", fontsize=8.5)
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure


def with_examples(result: Result, *, title: str) -> Figure:
    """Return the violins of one feature set, and beside them all cells of the most variable images, as the paper's Figure 5."""
    cells, images = result.predictions, result.tables["variable-images"].head(EXAMPLES)
    assert cells is not None  # the caller draws results with predictions only
    figure = new_figure(8.4, 3.8)
    axes = figure.subplots()
    names = _draw_violins(axes, result)
    rng = np.random.default_rng(0)
    ticks = [n.replace(" and ", "\nand ").replace(" only", "\nonly") for n in names]
    for position, image in enumerate(images.to_dict("records"), len(names)):
        scores = cells["score"][cells["image"].astype(str) == str(image["image"])]
        axes.plot(position + rng.uniform(-0.13, 0.13, len(scores)), scores, "o", markersize=3.4, color=INK, alpha=0.7,
                  markeredgewidth=0, linestyle="")  # fmt: skip
        line = (
            "" if image["cell_line"] in ("", None) or image["cell_line"] != image["cell_line"] else image["cell_line"]
        )
        ticks.append(f"{image['protein']}\n{line}\nSD {image['sd']:.2f}")
    axes.axvline(len(names) - 0.5, color=FAINT, linewidth=1)
    axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
    axes.set_ylabel("log(d₁ / d₂)", fontsize=8.5)
    figure.suptitle(
        f"{title}\nRight: all cells of the most variable images annotated with both", fontsize=9.5, x=0.01, ha="left"
    )
    return figure


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
    axes.tick_params(labelsize=8)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return names
