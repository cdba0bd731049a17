"""Ranks of feature sets under each post-processing, a line for each (bump chart)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.palette import COLOURS, GREY, LINE_SHAPES, line_looks
from pci_bench.reporting.rank_changes import changes_of
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.rank_changes import RankChanges
from pci_bench.runs.results import Result, metric_of
from pci_bench.system.drawing import BEHIND, INK, new_figure, shortened, title
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "rank-changes"
READING = (
    "Best on top; beside each mark the value, in the strictest column. Under the names: Kendall's tau with the order on the left, and how "
    "many of the pairs that change places are told apart under both. Post-processing is fitted on the evaluated cells, without labels, "
    "unless it names controls."
)


@register_figures(NAME, all_evaluators=True)
def rank_change_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a bump chart for each evaluation with several post-processings."""
    every = list(changes_of(results))
    for number, (what, changes) in enumerate(every, 1):
        columns, names = changes.postprocessings, changes.features
        figure = new_figure(min(11.0, 3.4 + 1.15 * len(columns)), 1.9 + 0.27 * len(names))
        draw_ranks(figure.subplots(), changes)
        title(figure, f"Ranks under each post-processing: {what}")
        yield (
            f"{NAME}-{number}" if len(every) > 1 else NAME,
            described(figure, list(changes.results.values()), READING),
        )


def draw_ranks(axes: Axes, changes: RankChanges) -> None:
    """Draw the rank of every feature set over the post-processings; what does not compete is grey and in italics."""
    columns, names, metric = changes.postprocessings, changes.features, changes.metric
    form = metric_of(next(iter(changes.results.values())), metric)
    looks = line_looks(names)
    places = {column: {n: i for i, n in enumerate(_in_order(changes, column), 1)} for column in columns}
    for name in names:
        look = looks[name]
        colour = GREY if look.colour is None or mark_of(name) else COLOURS[look.colour]
        x = [i for i, column in enumerate(columns) if name in places[column]]
        y = [places[columns[i]][name] for i in x]
        shape = LINE_SHAPES[look.shape].matplotlib
        axes.plot(x, y, marker=shape, markersize=5, color=colour, linewidth=1.6, zorder=1 if colour == GREY else 2)
        for i, place in zip(x, y, strict=True):
            value = form.text(changes.results[name, columns[i]].metrics[metric])
            axes.annotate(
                value,
                (i, place),
                (5, 4),
                textcoords="offset points",
                fontsize=6.5,
                color=INK,
                bbox=BEHIND,
                zorder=3,
            )
    ordered = sorted(places[columns[0]], key=places[columns[0]].__getitem__)
    last = sorted(places[columns[-1]], key=places[columns[-1]].__getitem__)
    axes.set_yticks(range(1, len(ordered) + 1), [f"{shortened(name)}{_mark(name)}" for name in ordered], fontsize=8)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(1, len(last) + 1), [shortened(name, 30) for name in last], fontsize=8)
    for axis, shown in ((axes, ordered), (right, last)):
        for label, name in zip(axis.get_yticklabels(), shown, strict=True):
            label.set_fontstyle("italic" if mark_of(name) else "normal")
        axis.tick_params(axis="y", length=0)
    words = []
    for column in columns:
        text = textwrap.fill(plot_text(column), 14)
        if column != columns[0]:
            agreement = changes.agreement(column)
            tau = "–" if agreement.tau is None else f"τ = {agreement.tau:.2f}"
            text += f"\n{tau}\n{agreement.separably_exchanged} of {agreement.exchanged}"
        words.append(text)
    axes.set_xticks(range(len(columns)), words, fontsize=8)
    axes.set_xlim(-0.25, len(columns) - 0.55)
    axes.set_ylim(len(names) + 0.6, 0.3)
    axes.spines[:].set_visible(False)
    right.spines[:].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _mark(name: str) -> str:
    mark = mark_of(name)
    return f" ({mark})" if mark else ""


def _in_order(changes: RankChanges, column: str) -> list[str]:
    """Return the feature sets with a result under a post-processing, best first; equal ones by their name."""
    ranks = changes.ranks(column)
    return sorted(ranks, key=lambda name: (ranks[name], name))
