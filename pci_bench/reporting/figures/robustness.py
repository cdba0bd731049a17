"""Curves of accuracy over the strength of a change: a panel for each change, a line for each feature set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pci_bench.reporting.candidates import Candidates, ladder_of
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.palette import COLOURS, GREY, LINE_SHAPES, line_looks
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result
from pci_bench.system.drawing import FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

CURVES = "curves"  # the table of an evaluation
ACROSS = 4  # panels in a row
READING = (
    "Only the predicted cell is changed; neighbours are as they were. Bands: 95 % intervals, of each feature set alone. Dotted: one over the "
    "number of classes. In the legend: mean height of all curves, by which it is ordered."
)


@register_figures("robustness")
def robustness_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a figure for every k and every kind of neighbours."""
    drawn = [r for r in results if len(r.tables.get(CURVES, ()))]
    ks = list(dict.fromkeys(r.evaluator.params["k"] for r in drawn))
    for k in ks:
        for candidates in ladder_of(drawn):
            group = [r for r in drawn if r.evaluator.params["k"] == k and Candidates.of(r) == candidates]
            if not group:
                continue
            name = group[0].dataset.name
            text = f"Accuracy under changes of the cell, {name}, k = {k}; neighbours: {candidates.words}"
            stem = f"robustness-{escape(name)}{candidates.suffix}{f'-k{k}' if len(ks) > 1 else ''}"
            yield stem, described(curves_figure(group, text=text), group, READING)


def curves_figure(results: Sequence[Result], *, text: str) -> Figure:
    """Return small multiples of balanced accuracy over strength, with a legend that is ordered by the mean area."""
    best = sorted(results, key=lambda r: -r.metrics["mean_area"])
    kinds = list(dict.fromkeys(kind for r in best for kind in r.tables[CURVES]["change"]))
    looks = line_looks([r.features.full_name for r in best])
    below = -(-(len(kinds) + 1) // ACROSS)
    figure = new_figure(7.5, 0.4 + 1.75 * below)
    panels = figure.subplots(below, ACROSS, squeeze=False, sharey=True).ravel()
    chance = 100 / max(1, len(best[0].dataset.classes))
    lines: list[Line2D] = []
    for axes, kind in zip(panels, kinds, strict=False):
        lines = []
        for result in reversed(best):  # the best on top
            look = looks[result.features.full_name]
            colour = GREY if look.colour is None else COLOURS[look.colour]
            table = result.tables[CURVES]
            lines.insert(0, _curve(axes, table[table["change"] == kind], colour, LINE_SHAPES[look.shape].matplotlib))
        axes.axhline(chance, linestyle=":", color=INK, linewidth=0.9)
        unit = str(best[0].tables[CURVES].loc[best[0].tables[CURVES]["change"] == kind, "unit"].iloc[0])
        axes.set_title(kind, fontsize=8.5, color=INK, loc="left", pad=3)
        axes.set_xlabel(plot_text(unit), fontsize=7)
        axes.tick_params(labelsize=7)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(0, 100)
    for axes in panels[::ACROSS]:
        axes.set_ylabel("balanced accuracy (%)", fontsize=7.5)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    panels[len(kinds)].legend(
        lines,
        [_named(result) for result in best],
        loc="center left",
        bbox_to_anchor=(-0.1, 0.5),
        frameon=False,
        fontsize=7,
        handlelength=1.6,
    )
    title(figure, text)
    return figure


def _curve(axes: Axes, table: pd.DataFrame, colour: str, marker: str) -> Line2D:
    """Draw one line with its band, and return it."""
    x = table["strength"].to_numpy(float)
    low, high = (100 * table[side].to_numpy(float) for side in ("low", "high"))
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    (line,) = axes.plot(
        x,
        100 * table["balanced_accuracy"].to_numpy(float),
        "-",
        color=colour,
        marker=marker,
        markersize=3,
        linewidth=1.3,
    )
    return line


def _named(result: Result) -> str:
    name = result.features.full_name
    mark = f" ({mark_of(name)})" if mark_of(name) else ""
    return f"{shortened(name, 26)}{mark}: {100 * result.metrics['mean_area']:.1f}"
