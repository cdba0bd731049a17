"""What other backgrounds take from accuracy, a row for each feature set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.reporting.candidates import Candidates, ladder_of
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.palette import COLOURS
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result
from pci_bench.system.drawing import FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CONDITIONS = {  # the metric, and its name in the legend
    "drop_same_class": "same class",
    "drop_other_class": "other class",
    "drop_cell_free": "without cells",
    "drop_mean": "one value, the mean",
    "drop_zero": "one value, the minimum",
}
ROW = 0.62  # inches
MARKERS = "osD^v"
READING = (
    "Points: balanced accuracy of unchanged crops minus that of the same cells on the other background, in points, 0 where the background does "
    "not matter; bars: paired 95 % intervals. Number: same class minus other class."
)


@register_figures("background-swap")
def background_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a figure for each kind of neighbours, with a panel for backgrounds as they are and for matched ones."""
    sets: dict[tuple[object, object], list[Result]] = {}
    for result in results:
        sets.setdefault((result.evaluator.params["k"], result.evaluator.params["margin"]), []).append(result)
    for (k, margin), group in sets.items():
        suffix = f"-k={k},margin={margin:g}" if len(sets) > 1 else ""
        for candidates in ladder_of(group):
            same = [r for r in group if Candidates.of(r) == candidates]
            text = (
                f"The same cells on other backgrounds, {same[0].dataset.name}; k = {k}, neighbours: {candidates.words}"
            )
            stem = f"backgrounds-{escape(same[0].dataset.name)}{candidates.suffix}{suffix}"
            yield stem, described(_panels(same, text), same, READING)


def _panels(results: Sequence[Result], text: str) -> Figure:
    """Return a panel for each brightness of the backgrounds."""
    kinds = list(dict.fromkeys(str(r.evaluator.params["brightness"]) for r in results))
    names = _ordered(results, kinds[0])
    figure = new_figure(7.2, 1.9 + ROW * len(names))
    panels = figure.subplots(1, len(kinds), squeeze=False, sharex=True, sharey=True)[0]
    for axes, kind in zip(panels, kinds, strict=True):
        by_name = {r.features.full_name: r for r in results if r.evaluator.params["brightness"] == kind}
        _draw(axes, [by_name.get(name) for name in names])
        axes.set_title("backgrounds as they are" if kind == "raw" else f"brightness {plot_text(kind)}", fontsize=8.5)
        axes.set_xlabel("points of balanced accuracy lost", fontsize=8.5)
    marks = [f"{shortened(n, 30)}{f' ({m})' if (m := mark_of(n)) else ''}" for n in names]
    panels[0].set_yticks(range(len(names)), marks, fontsize=8.5)
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=len(CONDITIONS),
        frameon=False,
        fontsize=7.5,
        handletextpad=0.2,
        columnspacing=1.2,
    )
    title(figure, text)
    return figure


def _ordered(results: Sequence[Result], kind: str) -> list[str]:
    """Return the feature sets, on top (last) the one that loses least to backgrounds of another class."""
    loss = {
        r.features.full_name: r.metrics["background_effect"]
        for r in results
        if r.evaluator.params["brightness"] == kind
    }
    names = sorted({r.features.full_name for r in results}, key=natural_key)
    return sorted(names, key=lambda name: loss.get(name, np.inf), reverse=True)


def _draw(axes: Axes, results: Sequence[Result | None]) -> None:
    """Draw a row of points with intervals for each result, from below."""
    step = 0.8 / len(CONDITIONS)
    for number, (metric, words) in enumerate(CONDITIONS.items()):
        for row, result in enumerate(results):
            if result is None:
                continue
            y = row + 0.4 - step * (number + 0.5)
            axes.plot([100 * v for v in result.intervals[metric]], [y, y], color=COLOURS[number], linewidth=1.0)
            axes.plot(
                100 * result.metrics[metric],
                y,
                MARKERS[number],
                color=COLOURS[number],
                markersize=4,
                label=words if row == len(results) - 1 else None,
            )
    for row, result in enumerate(results):
        if result is not None:
            axes.annotate(
                f"{100 * result.metrics['background_effect']:.1f}",
                (1, row),
                (-3, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=7.5,
                color=INK,
            )
    low, high = axes.get_xlim()
    axes.set_xlim(low, max(high, high + 0.12 * (high - low)))
    axes.axvline(0, color=INK, linewidth=0.8)
    for row in range(1, len(results)):
        axes.axhline(row - 0.5, color=FAINT, linewidth=0.6)
    axes.set_ylim(-0.5, len(results) - 0.5)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
