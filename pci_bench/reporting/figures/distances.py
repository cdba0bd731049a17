"""Figure 2B and Table 2 as figures: how much closer images of the same localization term are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.reporting.tables.declaration import declared_tables
from pci_bench.runs.results import Result
from pci_bench.system.drawing import BEHIND, COLOURS, FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKS = tuple(zip("os^DvPX", (COLOURS[c] for c in (0, 1, 2, 3, 5, 4, 7)), strict=True))
DIFFERS_IN = {
    "z": "(mean same term − mean other terms) / SD of other terms",
    "ratio": "mean same term / mean other terms − 1",
}


@register_figures("pairwise-distance")
def distance_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield overall scores as bars with every term as a dot, and every term's scores side by side."""
    for stem, what, group in _by_parameters(results, "distances"):
        bars = overall_bars(group, text=f"Normalized average pairwise distance, {what}")
        yield stem, described(bars, group, _reading(group))
        dots = term_dots(group, text=f"Normalized average pairwise distance by term, {what}")
        yield (
            f"{stem}-terms",
            described(
                dots,
                group,
                f"In brackets after a term: its proteins. {_reading(group)}",
                data=stacked(group, [_terms(r) for r in group]),
            ),
        )


@register_figures("pairwise-distance-cell-line")
def cell_line_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the scores within and between cell lines as dumbbells."""
    for stem, what, group in _by_parameters(results, "cell-lines"):
        lines = group[0].details["cell_lines"]
        text = f"Normalized average pairwise distance within and between {lines} cell lines, {what}"
        yield stem, described(dumbbells(group, text=text), group, _reading(group))


def _terms(result: Result) -> pd.DataFrame:
    """Return what is known of every term, a row for each."""
    import pandas as pd

    return pd.DataFrame([{"term": term, **values} for term, values in result.details["per_term"].items()])


def _reading(results: Sequence[Result]) -> str:
    """Return how many pairs were drawn, as a sentence."""
    pairs = results[0].evaluator.params["pairs"]
    return f"{pairs:,} pairs of images drawn for every mean. More negative: closer than by chance."


def _by_parameters(results: Sequence[Result], stem: str) -> Iterator[tuple[str, str, list[Result]]]:
    """Yield file stem, data in words and results for each set of parameters, all on the cells of the newest result."""
    newest = max(results, key=lambda r: str(r.run.get("started", ""))).dataset
    sets: dict[str, list[Result]] = {}
    for result in (r for r in results if r.dataset == newest):
        sets.setdefault(",".join(f"{k}={v}" for k, v in result.evaluator.params.items()), []).append(result)
    for parameters, group in sets.items():
        dataset, details = group[0].dataset, group[0].details
        terms = len(details.get("per_term", details.get("terms", ())))
        what = f"{dataset.name} ({terms} terms, {details['proteins']:,} proteins, {details['images']:,} images)"
        suffix = f"-{escape(parameters)}" if len(sets) > 1 else ""
        yield f"{stem}-{escape(dataset.name)}{suffix}", what, group


def overall_bars(results: Sequence[Result], *, text: str) -> Figure:
    """Return a bar per feature set with its 95 % interval, closest on top, and a dot for every term."""
    ordered = sorted(results, key=lambda r: -r.metrics["normalized_distance"])
    figure = new_figure(7.2, 1.5 + 0.3 * len(ordered))
    axes = figure.subplots()
    for row, result in enumerate(ordered):
        value, (low, high) = result.metrics["normalized_distance"], result.intervals["normalized_distance"]
        terms = [t["score"] for t in result.details["per_term"].values()]
        axes.barh(row, value, 0.7, color=COLOURS[4], label="mean over terms" if row == 0 else None)
        axes.plot(terms, np.full(len(terms), row - 0.22), "o", markersize=2.6, color=COLOURS[0], alpha=0.75, linestyle="",
                  label="a term" if row == 0 else None)  # fmt: skip
        axes.plot([low, high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt",
                  label="95 % interval" if row == 0 else None)  # fmt: skip
    _number_at_the_edge(axes, [r.metrics["normalized_distance"] for r in ordered], heading="overall")
    _feature_axis(axes, ordered)
    title(figure, text)
    axes.set_xlabel(f"{DIFFERS_IN[ordered[0].evaluator.params['statistic']]}", fontsize=8.5)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8.5)
    return figure


def term_dots(results: Sequence[Result], *, text: str) -> Figure:
    """Return a row per term with a mark for each of at most seven feature sets: the table's rows, then the closest."""
    wanted = next(table.rows for table in declared_tables() if table.name == "figure2b")
    ranked = sorted(results, key=lambda r: (r.features.name not in wanted, r.metrics["normalized_distance"]))
    plotted = sorted(ranked[: len(MARKS)], key=lambda r: r.metrics["normalized_distance"])
    scores = {t: [r.details["per_term"][t]["score"] for r in plotted] for t in plotted[0].details["per_term"]}
    terms = sorted(scores, key=lambda t: -float(np.mean(scores[t])))
    figure = new_figure(7.4, max(2.8, 1.5 + 0.34 * len(terms)))
    axes = figure.subplots()
    for position, result in enumerate(plotted):
        marker, colour = MARKS[position]
        # one above the other within a row, so that equal scores do not hide each other
        heights = np.arange(len(terms)) + (0.6 * (0.5 - (position + 0.5) / len(plotted)) if len(plotted) > 1 else 0)
        axes.plot([scores[t][position] for t in terms], heights, marker, markersize=5.2, color=colour,
                  markeredgecolor="white", markeredgewidth=0.5, linestyle="",
                  label=f"{shortened(result.features.full_name)} ({_text(result.metrics['normalized_distance'])})")  # fmt: skip
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    proteins = {t: plotted[0].details["per_term"][t]["proteins"] for t in terms}
    axes.set_yticks(range(len(terms)), [f"{shortened(t)} ({proteins[t]:,})" for t in terms], fontsize=8.5)
    axes.set_ylim(-0.7, len(terms) - 0.3)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    for row in range(1, len(terms), 2):
        axes.axhspan(row - 0.5, row + 0.5, color=FAINT, alpha=0.35, linewidth=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.set_xlabel(f"{DIFFERS_IN[plotted[0].evaluator.params['statistic']]}", fontsize=8.5)
    left_out = f", {len(results) - len(plotted)} more not shown" if len(results) > len(plotted) else ""
    title(figure, text)
    figure.legend(loc="outside lower center", frameon=False, fontsize=8, alignment="left", title_fontsize=8, ncols=2,
                  title=f"feature set (overall){left_out}")  # fmt: skip
    return figure


def dumbbells(results: Sequence[Result], *, text: str) -> Figure:
    """Return two marks per feature set, same and different cell lines, their 95 % intervals, and the difference beside."""
    ordered = sorted(results, key=lambda r: -r.metrics["different_cell_line"])
    figure = new_figure(7.2, 1.5 + 0.34 * len(ordered))
    axes = figure.subplots()
    kinds = (
        ("same_cell_line", "same cell line", "o", COLOURS[0], 0.16),
        ("different_cell_line", "different cell lines", "D", COLOURS[1], -0.16),
    )
    for row, result in enumerate(ordered):
        ends = [result.metrics[name] for name, *_ in kinds]
        axes.plot(ends, [row, row], color="#9A9A9A", linewidth=2.2, solid_capstyle="butt", zorder=1)
        for name, words, marker, colour, shift in kinds:
            axes.plot(
                result.intervals[name], [row + shift] * 2, color=colour, linewidth=1.1, solid_capstyle="butt", zorder=2
            )
            axes.plot(result.metrics[name], row, marker, color=colour, markersize=6.5, markeredgecolor="white", linestyle="",
                      label=words if row == 0 else None, zorder=3)  # fmt: skip
    _number_at_the_edge(axes, [r.metrics["difference"] for r in ordered], sign="+", heading="difference")
    _feature_axis(axes, ordered)
    title(figure, text)
    axes.set_xlabel(f"{DIFFERS_IN[ordered[0].evaluator.params['statistic']]}; lines: 95 % intervals", fontsize=8.5)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5)
    return figure


def _number_at_the_edge(axes: Axes, values: Sequence[float], *, sign: str = "", heading: str = "") -> None:
    """Write a number for every row to the right of the axes, where nothing is drawn."""
    across = axes.get_yaxis_transform()
    for row, value in enumerate(values):
        axes.text(1.01, row, _text(value, sign), transform=across, va="center", fontsize=8, color=INK, bbox=BEHIND)
    if heading:
        axes.text(1.01, len(values) - 0.4, heading, transform=across, va="bottom", fontsize=8, color=INK)


def _text(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}".replace("-", "−")


def _feature_axis(axes: Axes, ordered: Sequence[Result]) -> None:
    axes.axvline(0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(ordered)), [shortened(r.features.full_name) for r in ordered], fontsize=8.5)
    axes.set_ylim(-0.6, len(ordered) - 0.35)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
