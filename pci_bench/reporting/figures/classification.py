"""Accuracy overall, by class and by layer, and confusion matrices (paper: Table 1, Figure 2A, Supplementary Figure 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.reporting.candidates import Candidates, balanced_where_known, ladder_of
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.reporting.figures.ladder import SLOPES, chance_percent, ladder_chart
from pci_bench.reporting.headline import first_features, headline_k
from pci_bench.reporting.palette import COLOURS, GREY, LINE_SHAPES, Look, family, line_looks
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result, metric_of
from pci_bench.system.drawing import (
    BEHIND,
    FAINT,
    INK,
    SMALLEST,
    new_figure,
    shortened,
    title,
)
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

LEGEND_OF_KINDS: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "title": "neighbours, or training cells",
    "title_fontsize": 8.5,
}
STYLES: tuple[Literal["-", "--", ":"], ...] = ("-", "--", ":")
LAYER = re.compile(r"(?P<network>.+)-(?P<layer>(block\d_)?conv\d+)")


LADDER = 3  # levels of strictness, from which on they are drawn as a slope chart too
READING = "Black lines: 95 % intervals. Broken lines: chance, as permuted labels score in each column where that was measured."
COLOURED = " A colour is a family of feature sets, as in the report."
ORDER = " Full colours are the strictest comparison, whose best is on top."
PALEST = 0.35  # how much of its colour the loosest of several comparisons has


def _by_settings(results: Sequence[Result], *drawn: str) -> Iterator[tuple[str, str, list[Result]]]:
    """Yield a suffix of the stem, words and results for each set of the parameters that are not drawn beside each other.

    Suffix and words name the parameters in which the sets differ.
    """
    sets: dict[tuple[tuple[str, str], ...], list[Result]] = {}
    for result in results:
        texts = {name: str(value) for name, value in result.evaluator.params.items() if name not in drawn}
        sets.setdefault(tuple(texts.items()), []).append(result)
    for settings, group in sets.items():
        differing = (item for item in settings if any(item not in other for other in sets))
        text = ",".join(f"{name}={value}" for name, value in differing)
        yield (f"-{escape(text)}", f", {text}", group) if text else ("", "", group)


def _reading(results: Sequence[Result]) -> str:
    """Return how bars are read, and in which order the feature sets are where each has several."""
    return READING + COLOURED + (ORDER if len(ladder_of(results)) > 1 else "")


def _size(result: Result) -> str:
    """Return how many cells were evaluated, and of how many classes, in words."""
    counts = result.details.get("confusion", {}).get("counts")
    cells = round(sum(map(sum, counts))) if counts else result.dataset.n_cells
    return f"{cells:,} cells, {len(result.dataset.classes)} classes"


@register_figures("loo-knn")
def knn_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the figures of every scaling of the features."""
    for suffix, words, group in _by_settings(balanced_where_known(results), "k", "exclude", "candidates"):
        for stem, figure in _knn_figures(group, words):
            yield f"{stem}{suffix}", figure


def _knn_figures(results: Sequence[Result], words: str) -> Iterator[tuple[str, Figure]]:
    """Yield accuracy bars at the headline k overall and by class, the confusions of the headline or else best set, and curves over layers."""
    dataset = results[0].dataset
    k, first = headline_k(results), first_features(results)
    at_k = [r for r in results if r.evaluator.params["k"] == k]
    size = _size(at_k[0])
    text = f"Leave-one-out kNN, k = {k}, {dataset.name} ({size}){words}"
    bars = accuracy_bars(at_k, metric="balanced_accuracy", text=text)
    yield f"accuracy-{escape(dataset.name)}", described(bars, at_k, _reading(at_k))
    strictest = [r for r in at_k if Candidates.of(r) == ladder_of(at_k)[-1]]
    best = max(strictest, key=lambda r: (r.features.name == first.get(r.benchmark), r.metrics["balanced_accuracy"]))
    chosen = [r for r in at_k if r.features.full_name == best.features.full_name]
    text = f"{best.features.full_name}, k = {k}, {dataset.name}: cells by true and predicted class"
    yield (
        f"confusion-{escape(dataset.name)}",
        described(confusion_matrix(chosen, text=text), chosen, data=stacked(chosen, [_confusions(r) for r in chosen])),
    )
    for candidates in dict.fromkeys(map(Candidates.of, at_k)):
        same = [r for r in at_k if Candidates.of(r) == candidates]
        text = f"Leave-one-out kNN by class, k = {k}, {dataset.name}; neighbours: {candidates.words}"
        stem = f"classes-{escape(dataset.name)}{candidates.suffix}"
        yield (
            stem,
            described(
                class_heat_map(same, text=text),
                same,
                "Share of a class's cells that are classified as it; best feature set on the left.",
                data=stacked(same, [_recalls(r) for r in same]),
            ),
        )
    if len(ladder_of(at_k)) >= LADDER:
        text = f"Leave-one-out kNN by level of strictness, k = {k}, {dataset.name} ({size}){words}"
        yield f"ladder-{escape(dataset.name)}", described(ladder_chart(at_k, "balanced_accuracy", text), at_k, SLOPES)
    text = f"Leave-one-out kNN by layer, k = {k}, {dataset.name} ({size})"
    if curves := layer_curves(at_k, text=text):
        layered = [r for r in at_k if LAYER.fullmatch(r.features.name)]
        yield (
            f"layers-{escape(dataset.name)}",
            described(curves, layered, "Bands: 95 % intervals. Dotted line: chance."),
        )


def _confusions(result: Result) -> pd.DataFrame:
    """Return how many cells of each class were taken for which, a row for each pair of classes."""
    import pandas as pd

    labels, counts = result.details["confusion"]["labels"], result.details["confusion"]["counts"]
    rows = [
        (true, predicted, n)
        for true, row in zip(labels, counts, strict=True)
        for predicted, n in zip(labels, row, strict=True)
    ]
    return pd.DataFrame(rows, columns=["true", "predicted", "cells"])


def _recalls(result: Result) -> pd.DataFrame:
    """Return the share of each class's cells that are taken for it."""
    counts = _confusions(result)
    right = counts[counts["true"] == counts["predicted"]].set_index("true")["cells"]
    cells = counts.groupby("true")["cells"].sum()
    recall = (right / cells).rename("recall").rename_axis("label")
    return recall.to_frame().assign(cells=cells).reset_index()


@register_figures("logistic-regression")
@register_figures("random-forest")
def classifier_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield accuracy bars of one classifier."""
    dataset, evaluator = results[0].dataset, results[0].evaluator.name
    for suffix, words, group in _by_settings(results, "exclude"):
        what = f"{evaluator.replace('-', ' ').capitalize()}, cross-validated"
        text = f"{what}, {dataset.name} ({_size(group[0])}){words}"
        bars = accuracy_bars(group, metric="balanced_accuracy", text=text)
        yield f"{evaluator}-{escape(dataset.name)}{suffix}", described(bars, group, _reading(group))
        if len(ladder_of(group)) >= LADDER:
            text = f"{what}, by level of strictness, {dataset.name} ({_size(group[0])}){words}"
            chart = ladder_chart(group, "balanced_accuracy", text)
            yield f"{evaluator}-ladder-{escape(dataset.name)}{suffix}", described(chart, group, SLOPES)


def accuracy_bars(results: Sequence[Result], *, metric: str, text: str) -> Figure:
    """Return horizontal bars of a metric, one group per feature set, one bar per kind of candidates, with 95 % intervals.

    Parameters
    ----------
    results
        Of one dataset, one evaluator and one k; candidates may differ.
    metric
        ``"balanced_accuracy"``.
    text
        The figure's first line.
    """
    kinds = ladder_of(results)
    names = {r.features.full_name for r in results}
    figure = new_figure(7.2, 1.4 + (0.3 if len(kinds) == 1 else 0.2 * len(kinds)) * len(names))
    handles = draw_accuracy(figure.subplots(), results, metric)
    title(figure, text)
    if len(handles) > 1:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), **LEGEND_OF_KINDS)
    return figure


def draw_accuracy(axes: Axes, results: Sequence[Result], metric: str) -> list[Patch]:
    """Draw bars of a metric with 95 % intervals, the best feature set of the strictest candidates on top; what does not compete is marked.

    A bar has the colour of its family, the fuller the stricter the comparison. Returned are the handles of a legend of the kinds of
    candidates, the strictest first.
    """
    from matplotlib.patches import Patch

    kinds, form = ladder_of(results)[::-1], metric_of(results[0], metric)
    tones = np.linspace(1, PALEST, len(kinds)) if len(kinds) > 1 else [1.0]
    by_kind = {kind: {r.features.full_name: r for r in results if Candidates.of(r) == kind} for kind in kinds}
    marks = {r.features.full_name: mark_of(r.features.full_name) for r in results}
    names = sorted(marks, key=natural_key)
    sign = 1 if form.higher_is_better else -1
    ranked = {name: sign * r.metrics[metric] for name, r in by_kind[kinds[0]].items()}
    names.sort(key=lambda name: ranked.get(name, -np.inf))
    height = 0.8 / len(kinds)
    for number, kind in enumerate(kinds):
        for row, name in enumerate(names):
            if (result := by_kind[kind].get(name)) is None:
                continue
            value = form.scale * result.metrics[metric]
            low, high = (form.scale * v for v in result.intervals.get(metric, (result.metrics[metric],) * 2))
            y = row + 0.4 - height * (number + 0.5)
            colour = Look(family(name).colour).on(COLOURS)
            axes.barh(y, value, height * 0.92, color=colour, alpha=tones[number], linewidth=0)
            axes.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt")
            axes.annotate(
                f"{value:.{form.printed_decimals}f}",
                (max(high, value), y),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
                color=INK,
                bbox=BEHIND,
            )
    ticks = [f"{shortened(name)}{f' ({marks[name]})' if marks[name] else ''}" for name in names]
    axes.set_yticks(range(len(names)), ticks, fontsize=8.5)
    for label, name in zip(axes.get_yticklabels(), names, strict=True):
        label.set_fontstyle("italic" if marks[name] else "normal")
    axes.set_ylim(-0.55, len(names) - 0.2)
    unit = " (%)" if form.unit == "percent" else ""
    axes.set_xlabel(f"{plot_text(metric.replace('_', ' '))}{unit}, with 95 % interval", fontsize=8.5)
    if form.unit == "percent":
        levels = [chance_percent(list(by_kind[kind].values()), metric) for kind in kinds]
        for level in levels:
            axes.axvline(level, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.text(max(levels), len(names) - 0.42, " chance", fontsize=7.5, color=INK, va="bottom")
        axes.set_xlim(0, 100)
    else:
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.margins(x=0.12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    return [Patch(color=GREY, alpha=t, label=plot_text(kind.words)) for t, kind in zip(tones, kinds, strict=True)]


def class_heat_map(results: Sequence[Result], *, text: str) -> Figure:
    """Return the accuracy of every class (rows) by every feature set (columns), best first, in percent (paper: Figure 2A)."""
    ordered = sorted(results, key=lambda r: -r.metrics["balanced_accuracy"])
    classes = list(ordered[0].details["confusion"]["labels"])
    values = np.full((len(classes) + 1, len(ordered)), np.nan)
    for column, result in enumerate(ordered):
        labels, counts = result.details["confusion"]["labels"], np.array(result.details["confusion"]["counts"])
        values[0, column] = 100 * result.metrics["balanced_accuracy"]
        for row, total in enumerate(counts.sum(axis=1)):
            if total and labels[row] in classes:
                values[1 + classes.index(labels[row]), column] = 100 * counts[row, row] / total
    figure = new_figure(min(7.4, max(5.4, 2.6 + 0.42 * len(ordered))), 2.6 + 0.22 * len(values))
    axes = figure.subplots()
    picture = axes.imshow(values, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    if 5.0 / len(ordered) >= 0.19:  # inches: what two digits take
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                axes.text(
                    column,
                    row,
                    f"{value:.0f}",
                    ha="center",
                    va="center",
                    fontsize=SMALLEST,
                    color="white" if value > 55 else INK,
                )
    axes.axhline(0.5, color="white", linewidth=3)
    names = [shortened(r.features.full_name, 32) for r in ordered]
    axes.set_xticks(range(len(ordered)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7.5)
    axes.set_yticks(range(len(values)), ["balanced accuracy", *(shortened(c) for c in classes)], fontsize=7.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(picture, ax=axes, aspect=25)
    bar.set_label("found cells (%)", fontsize=7.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
    title(figure, text)
    return figure


def layer_curves(results: Sequence[Result], *, text: str) -> Figure | None:
    """Return balanced accuracy over the layers of every network with at least three (paper: Table 1, Supplementary Figure 2).

    One panel for networks of the same layers; full lines for the first kind of candidates, broken ones for the second.
    """
    networks: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        if matched := LAYER.fullmatch(result.features.name):
            network = (
                f"{matched['network']}@{result.features.weights}" if result.features.weights else matched["network"]
            )
            networks.setdefault(network, {}).setdefault(matched["layer"], []).append(result)
    by_layers: dict[tuple[str, ...], list[str]] = {}
    for network, network_layers in networks.items():
        if len(network_layers) >= 3:
            by_layers.setdefault(tuple(sorted(network_layers, key=natural_key)), []).append(network)
    if not by_layers:
        return None
    kinds = list(dict.fromkeys(map(Candidates.of, results)))
    wide = sum(1.4 + 0.34 * len(layers) for layers in by_layers)
    below = [1.05 if _slanted(layers) else 0.5 for layers in by_layers]
    entries = max(map(len, by_layers.values())) + len(kinds)
    figure = new_figure(min(7.4, max(4.6, 2.2 + wide)), 2.7 + max(below) + 0.17 * entries)
    panels = figure.subplots(
        1, len(by_layers), squeeze=False, sharey=True, width_ratios=[4 + len(n) for n in by_layers]
    )[0]
    for axes, (layers, members) in zip(panels, by_layers.items(), strict=True):
        for network, look in line_looks(sorted(members, key=natural_key)).items():
            for kind, style in zip(kinds, STYLES, strict=False):
                _draw_curve(axes, layers, networks[network], kind, style, look)
        for kind in kinds:
            level = chance_percent([r for r in results if Candidates.of(r) == kind], "balanced_accuracy")
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=":")
        slanted = _slanted(layers)
        axes.set_xticks(
            range(len(layers)),
            layers,
            rotation=45 if slanted else 0,
            ha="right" if slanted else "center",
            rotation_mode="anchor" if slanted else "default",
        )
        axes.set_xlabel("layer", fontsize=8.5)
        axes.tick_params(labelsize=7.5)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        _legend_of_curves(axes, members, kinds, below=1.05 if slanted else 0.5)
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("balanced accuracy (%)", fontsize=8.5)
    title(figure, text)
    return figure


def _slanted(layers: Sequence[str]) -> bool:
    """Return whether the names of so many layers have no room beside each other."""
    return len(layers) > 6


def _draw_curve(
    axes: Axes, layers: tuple[str, ...], network: dict[str, list[Result]], kind: Candidates, style: str, look: Look
) -> None:
    """Draw one network's values and intervals over its layers."""
    by_layer = {layer: r for layer in layers for r in network[layer] if Candidates.of(r) == kind}
    x = [layers.index(layer) for layer in by_layer]
    values = [100 * r.metrics["balanced_accuracy"] for r in by_layer.values()]
    low, high = ([100 * r.intervals["balanced_accuracy"][i] for r in by_layer.values()] for i in (0, 1))
    colour, marker = look.on(COLOURS), LINE_SHAPES[look.shape].matplotlib
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(x, values, style, color=colour, marker=marker, markersize=3.5, linewidth=1.4)


def _legend_of_curves(axes: Axes, members: Sequence[str], kinds: Sequence[Candidates], *, below: float) -> None:
    """Write the networks' colours and the exclusions' lines so many inches beneath a panel."""
    from matplotlib.lines import Line2D
    from matplotlib.transforms import ScaledTranslation

    ordered = sorted(members, key=natural_key)
    handles = [
        Line2D(
            [],
            [],
            color=look.on(COLOURS),
            marker=LINE_SHAPES[look.shape].matplotlib,
            markersize=3.5,
            label=shortened(network),
        )
        for network, look in line_looks(ordered).items()
    ]
    if len(kinds) > 1:
        handles += [
            Line2D([], [], color=INK, linestyle=style, label=plot_text(f"neighbours: {kind.words}"))
            for kind, style in zip(kinds, STYLES, strict=False)
        ]
    axes.legend(
        handles=handles,
        frameon=False,
        fontsize=7.5,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        bbox_transform=axes.transAxes + ScaledTranslation(0, -below, axes.figure.dpi_scale_trans),
        borderaxespad=0,
    )


def confusion_matrix(results: Sequence[Result], *, text: str) -> Figure:
    """Return row-normalised confusion matrices, one per result (same labels), counts written in the cells where they fit.

    Side by side for up to eight classes, one above the other for more.
    """
    n = len(results[0].dataset.classes)
    small = n <= 8
    across = len(results) if small else 1
    figure = new_figure(
        min(7.4, 1.8 + 2.8 * across) if small else 7.4,
        (0.36 if small else 0.23) * n * (1 if small else len(results)) + 2.3,
    )
    panels = figure.subplots(1 if small else len(results), across, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, result in zip(panels, results, strict=True):
        draw_confusion(axes, result, inches_of_a_cell=(7.4 - 2.4) / across / max(n, 1))
        axes.label_outer()
    for axes in panels if small else panels[-1:]:
        axes.set_xlabel("predicted", fontsize=8.5)
    for axes in panels[:1] if small else panels:
        axes.set_ylabel("true", fontsize=8.5)
    colour_bar(figure, list(panels), shrink=0.8 if small else 0.5)
    title(figure, text)
    return figure


def draw_confusion(axes: Axes, result: Result, *, inches_of_a_cell: float) -> None:
    """Draw a result's confusion matrix, rows in percent of the true class, with counts where they fit."""
    labels, counts = result.details["confusion"]["labels"], np.array(result.details["confusion"]["counts"])
    largest = f"{counts.max():.0f}"
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count >= 0.5 and inches_of_a_cell >= 0.07 * len(largest):
            axes.text(
                column,
                row,
                f"{count:.0f}",
                ha="center",
                va="center",
                fontsize=SMALLEST,
                color="white" if shares[row, column] > 55 else INK,
            )
    names = [shortened(label, 28) for label in labels]
    axes.set_xticks(
        range(counts.shape[1]),
        names[: counts.shape[1]],
        rotation=45,
        ha="right",
        rotation_mode="anchor",
        fontsize=SMALLEST,
    )
    axes.set_yticks(range(len(counts)), names[: len(counts)], fontsize=SMALLEST)
    accuracy = 100 * result.metrics["balanced_accuracy"]
    axes.set_title(
        f"neighbours: {plot_text(Candidates.of(result).words)}\nbalanced accuracy {accuracy:.1f} %",
        fontsize=8,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def colour_bar(figure: Figure, panels: Sequence[Axes], *, shrink: float) -> None:
    """Draw the scale of confusion matrices beside them."""
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), shrink=shrink, aspect=30)
    bar.set_label("% of the true class", fontsize=8.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7.5)
