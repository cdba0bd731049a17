"""The ladder: a slope chart of how a number changes from all other cells to the strictest comparison, a line for each feature set."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.reporting.candidates import Candidates, ladder_of
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.palette import COLOURS, GREY, LINE_SHAPES, line_looks
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result, headline, metric_of
from pci_bench.system.drawing import FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.2  # inches
SLOPES = (
    "Vertical lines: 95 % intervals. Thin broken lines: controls. Grey dashes: chance at each level, as "
    "permuted labels score where that was measured. The numbers, with what is lost from level to level, are in the tables of the run."
)
DASH = 0.12  # half of what marks chance at a level
LINE = 0.042  # of the axes' height: what a name at the end of a line takes
BESIDE, MOST_BESIDE = (
    0.03,
    0.16,
)  # between the lines of two feature sets, so that intervals do not hide each other; of all, to each side


def chance_percent(results: Sequence[Result], metric: str) -> float:
    """Return the chance level in percent: the mean score of permuted labels where it was measured, else one over the classes."""
    levels = [r.details["chance"][metric]["mean"] for r in results if metric in r.details.get("chance", {})]
    return 100 * float(np.mean(levels)) if levels else 100 / max(1, len(results[0].dataset.classes))


def ladder_chart(results: Sequence[Result], metric: str, text: str) -> Figure:
    """Return a metric over the levels of strictness as a figure (:func:`draw_ladder`), under a text."""
    names = {r.features.full_name for r in results}
    figure = new_figure(WIDTH, max(3.8, 1.1 + 0.17 * len(names)))
    draw_ladder(figure.subplots(), results, metric)
    title(figure, text)
    return figure


@register_figures("level-distances")
def distance_ladders(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the normalized distances over the levels of strictness, for each of the other parameters."""
    words = "Distances of cells of a class relative to other classes"
    yield from _by_settings(results, words, "Lower: cells of a class are nearer to each other; 0: not nearer.")


@register_figures("map")
def precision_ladders(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the normalised mean average precision over the levels of strictness, for each of the other parameters."""
    yield from _by_settings(results, "Mean average precision, normalised", "0: a random order; 1: the own kind first.")


def _by_settings(results: Sequence[Result], words: str, note: str) -> Iterator[tuple[str, Figure]]:
    """Yield a chart of the headline for each set of parameters that has two levels of strictness or more."""
    sets: dict[str, list[Result]] = {}
    for result in results:
        params = {n: v for n, v in result.evaluator.params.items() if n != "exclude"}
        sets.setdefault(",".join(f"{n}={v}" for n, v in params.items()), []).append(result)
    for settings, group in sets.items():
        if len(ladder_of(group)) < 2:
            continue
        dataset, several, evaluator = group[0].dataset, len(sets) > 1, group[0].evaluator.name
        text = f"{words}, {dataset.name} ({dataset.n_cells:,} cells){f', {settings}' if several else ''}"
        stem = f"{evaluator}-ladder-{escape(dataset.name)}{f'-{escape(settings)}' if several else ''}"
        yield stem, described(ladder_chart(group, headline(group[0]), text), group, f"{note} {SLOPES}")


def draw_ladder(axes: Axes, results: Sequence[Result], metric: str) -> None:
    """Draw a metric over the kinds of candidates, the strictest on the right, where each line is named.

    Controls are thin, grey and broken; grey dashes beside each level are chance.

    Parameters
    ----------
    axes
        Where to draw.
    results
        Of one dataset, one evaluator and one k.
    metric
        A metric of theirs.
    """
    rungs, form = ladder_of(results), metric_of(results[0], metric)
    lines: dict[str, dict[int, Result]] = {}
    for result in results:
        lines.setdefault(result.features.full_name, {})[rungs.index(Candidates.of(result))] = result
    sign = -1 if form.higher_is_better else 1
    ends = {name: by_rung[max(by_rung)] for name, by_rung in lines.items()}
    names = sorted(ends, key=lambda name: sign * ends[name].metrics[metric])
    looks = line_looks(names)
    colours = {name: COLOURS[look.colour] for name, look in looks.items() if look.colour is not None}
    reach = min(BESIDE * (len(names) - 1) / 2, MOST_BESIDE)
    offsets = np.linspace(-reach, reach, len(names)) if reach else np.zeros(len(names))
    for name, offset in zip(names, offsets, strict=True):
        by_rung, colour = lines[name], colours.get(name, GREY)
        x = np.array(sorted(by_rung))
        y = [form.scale * by_rung[rung].metrics[metric] for rung in x]
        style = "-" if name in colours else "--"
        axes.plot(
            x + offset,
            y,
            style,
            marker=LINE_SHAPES[looks[name].shape].matplotlib,
            markersize=3.5,
            color=colour,
            linewidth=1.4 if name in colours else 0.7,
        )
        for rung, place in zip(x, x + offset, strict=True):
            if metric in by_rung[rung].intervals:
                axes.plot(
                    [place] * 2, [form.scale * v for v in by_rung[rung].intervals[metric]], color=colour, linewidth=0.8
                )
    if form.unit == "percent":
        levels = [chance_percent([r for r in results if Candidates.of(r) == rung], metric) for rung in rungs]
        axes.hlines(levels, np.arange(len(rungs)) - DASH, np.arange(len(rungs)) + DASH, color=GREY, linewidth=2.2)
        axes.annotate(
            "chance", (0, levels[0]), (0, -3), textcoords="offset points", fontsize=7.5, ha="center", va="top"
        )
        axes.set_ylim(bottom=0)
    axes.set_xlim(-0.25, len(rungs) - 0.8)
    _name_lines(axes, names, [form.scale * ends[n].metrics[metric] for n in names], len(rungs) - 1 + max(offsets))
    axes.set_xticks(range(len(rungs)), [textwrap.fill(plot_text(rung.words), 20) for rung in rungs], fontsize=8.5)
    unit = " (%)" if form.unit == "percent" else ""
    axes.set_ylabel(f"{plot_text(metric.replace('_', ' '))}{unit}", fontsize=8.5)
    axes.tick_params(labelsize=8.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)


def _name_lines(axes: Axes, names: Sequence[str], ends: Sequence[float], right: float) -> None:
    """Write each line's name to the right of its end, moved apart where they would overlap, best first."""
    low, high = axes.get_ylim()
    wanted = (np.array(ends) - low) / (high - low)
    for name, height, y in zip(names, apart(wanted, LINE), ends, strict=True):
        axes.annotate(
            f"{shortened(name, 34)}{f' ({mark})' if (mark := mark_of(name)) else ''}",
            (right, y),
            (1.02, height),
            textcoords="axes fraction",
            fontsize=7.5,
            va="center",
            style="italic" if mark_of(name) else "normal",
            color=INK,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": FAINT,
                "linewidth": 0.8,
                "relpos": (0, 0.5),  # from the name's beginning, so that it crosses no other name
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def apart(places: np.ndarray, least: float) -> np.ndarray:
    """Return places in the same order, none nearer to another than `least`, each group of moved ones around its mean.

    >>> apart(np.array([0.5, 0.5, 0.125]), 0.25).tolist()
    [0.625, 0.375, 0.125]
    """
    order = np.argsort(-places, kind="stable")
    groups: list[list[int]] = []
    for index in order:
        groups.append([int(index)])
        while len(groups) > 1 and _lowest(places, groups[-2], least) - _highest(places, groups[-1], least) < least:
            last = groups.pop()
            groups[-1] += last
    moved = np.empty(len(places))
    for group in groups:
        moved[group] = _highest(places, group, least) - least * np.arange(len(group))
    return moved


def _highest(places: np.ndarray, group: list[int], least: float) -> float:
    return float(places[group].mean() + least * (len(group) - 1) / 2)


def _lowest(places: np.ndarray, group: list[int], least: float) -> float:
    return float(places[group].mean() - least * (len(group) - 1) / 2)
