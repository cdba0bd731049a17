"""Accuracy bars and confusion matrices."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.drawing import BEHIND, COLOURS, FAINT, INK, new_figure
from pci_bench.files import escape
from pci_bench.registry import natural_key
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LAYER = re.compile(r"(?P<network>.+)-(?P<layer>(block\d_)?conv\d+)")


@register_figures("loo-knn")
def knn_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield accuracy bars at k = 11 (or the middle k), and the confusion matrices of pci-conv4, else of the best feature set."""
    dataset = results[0].dataset
    ks = sorted({r.evaluator.params["k"] for r in results})
    k = 11 if 11 in ks else ks[len(ks) // 2]
    at_k = [r for r in results if r.evaluator.params["k"] == k]
    size = f"{at_k[0].dataset.n_cells:,} cells, {len(at_k[0].dataset.classes)} classes"
    title = f"Leave-one-out kNN, k = {k}, {dataset.name} ({size})"
    yield f"accuracy-{escape(dataset.name)}", accuracy_bars(at_k, metric="balanced_accuracy", title=title)
    best = max(at_k, key=lambda r: (r.features.name == "pci-conv4", r.metrics["balanced_accuracy"]))
    chosen = [r for r in at_k if r.features.full_name == best.features.full_name]
    title = f"{best.features.full_name}, k = {k}, {dataset.name}: cells by true and predicted class"
    yield f"confusion-{escape(dataset.name)}", confusion_matrix(chosen, title=title)
    if curves := layer_curves(at_k, title=f"Leave-one-out kNN by layer, k = {k}, {dataset.name} ({size})"):
        yield f"layers-{escape(dataset.name)}", curves


@register_figures("logistic-regression")
@register_figures("random-forest")
def classifier_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield accuracy bars of one classifier."""
    dataset, evaluator = results[0].dataset, results[0].evaluator.name
    size = f"{dataset.n_cells:,} cells, {len(dataset.classes)} classes"
    title = f"{evaluator.replace('-', ' ').capitalize()}, cross-validated, {dataset.name} ({size})"
    yield f"{evaluator}-{escape(dataset.name)}", accuracy_bars(results, metric="balanced_accuracy", title=title)


def accuracy_bars(results: Sequence[Result], *, metric: str, title: str) -> Figure:
    """Return horizontal bars of a metric, one group per feature set, one bar per exclusion, with 95 % intervals.

    Parameters
    ----------
    results
        Of one dataset, one evaluator and one k; excluded columns may differ.
    metric
        ``"balanced_accuracy"``.
    title
        The figure's first line.
    """
    excludes = list(dict.fromkeys(r.evaluator.params["exclude"] for r in results))
    names = sorted({r.features.full_name for r in results}, key=natural_key)
    first = {r.features.full_name: r.metrics[metric] for r in results if r.evaluator.params["exclude"] == excludes[0]}
    names.sort(key=lambda n: first.get(n, 0))
    figure = new_figure(7.2, 1.4 + 0.28 * len(names) * len(excludes))
    axes = figure.subplots()
    height = 0.8 / len(excludes)
    for number, exclude in enumerate(excludes):
        chosen = {r.features.full_name: r for r in results if r.evaluator.params["exclude"] == exclude}
        label = "all other cells" if exclude == "cell" else f"other {exclude}s only"
        for row, name in enumerate(names):
            if name not in chosen:
                continue
            value, (low, high) = 100 * chosen[name].metrics[metric], (100 * v for v in chosen[name].intervals[metric])
            y = row + 0.4 - height * (number + 0.5)
            axes.barh(y, value, height * 0.92, color=COLOURS[number], label=label if row == 0 else None)
            axes.plot([low, high], [y, y], color=INK, linewidth=1.1, solid_capstyle="butt")
            axes.text(max(high, value) + 1, y, f"{value:.1f}", va="center", fontsize=7.5, color=INK, bbox=BEHIND)
    classes = len(results[0].dataset.classes)
    axes.axvline(100 / classes, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.text(100 / classes, len(names) - 0.42, " chance", fontsize=7.5, color=INK, va="bottom")
    axes.set_yticks(range(len(names)), names, fontsize=8.5)
    axes.set_ylim(-0.55, len(names) - 0.2)
    axes.set_xlim(0, 100)
    axes.set_xlabel(f"{metric.replace('_', ' ')} (%), with 95 % interval", fontsize=8.5)
    axes.set_title(title, fontsize=9.5, loc="left")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    handles, labels = axes.get_legend_handles_labels()
    if len(excludes) > 1:
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=len(excludes),
            frameon=False,
            fontsize=8.5,
            title="neighbours, or training cells",
            title_fontsize=8.5,
        )
    return figure


def layer_curves(results: Sequence[Result], *, title: str) -> Figure | None:
    """Return balanced accuracy over the layers of every network with at least three (paper: Table 1, Supplementary Figure 2).

    One panel for networks of the same layers; full lines for the first exclusion, broken ones for the second.
    """
    networks: dict[str, dict[str, list[Result]]] = {}
    for result in results:
        if matched := LAYER.fullmatch(result.features.name):
            network = (
                f"{matched['network']}@{result.features.weights}" if result.features.weights else matched["network"]
            )
            networks.setdefault(network, {}).setdefault(matched["layer"], []).append(result)
    by_layers: dict[tuple[str, ...], list[str]] = {}
    for network, found_layers in networks.items():
        if len(found_layers) >= 3:
            by_layers.setdefault(tuple(sorted(found_layers, key=natural_key)), []).append(network)
    if not by_layers:
        return None
    excludes = list(dict.fromkeys(r.evaluator.params["exclude"] for r in results))
    figure = new_figure(2.2 + sum(1.4 + 0.34 * len(layers) for layers in by_layers), 4.0)
    panels = figure.subplots(
        1, len(by_layers), squeeze=False, sharey=True, width_ratios=[4 + len(n) for n in by_layers]
    )[0]
    for axes, (layers, members) in zip(panels, by_layers.items(), strict=True):
        for network, colour in zip(sorted(members, key=natural_key), COLOURS, strict=False):
            for exclude, style in zip(excludes, ("-", "--", ":"), strict=False):
                found = {
                    layer: r
                    for layer in layers
                    for r in networks[network][layer]
                    if r.evaluator.params["exclude"] == exclude
                }
                x = [layers.index(layer) for layer in found]
                values = np.array([100 * r.metrics["balanced_accuracy"] for r in found.values()])
                low, high = (
                    np.array([100 * r.intervals["balanced_accuracy"][i] for r in found.values()]) for i in (0, 1)
                )
                axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
                label = network if exclude == excludes[0] else None
                axes.plot(x, values, style, color=colour, marker="o", markersize=3.5, linewidth=1.4, label=label)
        axes.set_xticks(
            range(len(layers)),
            layers,
            rotation=45 if len(layers) > 6 else 0,
            ha="right" if len(layers) > 6 else "center",
        )
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", color=FAINT, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(
            frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(0, -0.22 if len(layers) > 6 else -0.1)
        )
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("balanced accuracy (%)", fontsize=8.5)
    broken = f"\nBands: 95 % interval. Broken lines: other {excludes[1]}s only" if len(excludes) > 1 else ""
    figure.suptitle(f"{title}{broken}", fontsize=8.5, x=0.01, ha="left")
    return figure


def confusion_matrix(results: Sequence[Result], *, title: str) -> Figure:
    """Return row-normalised confusion matrices side by side, one per result (same labels), counts written in the cells."""
    figure = new_figure(
        0.6 + len(results) * max(3.2, 0.42 * len(results[0].dataset.classes) + 1.2),
        max(4, 0.36 * len(results[0].dataset.classes) + 2.3),
    )
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, result in zip(panels, results, strict=True):
        labels, counts = result.details["confusion"]["labels"], np.array(result.details["confusion"]["counts"])
        shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        size = 8 if len(labels) <= 8 else 5
        for (row, column), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    column,
                    row,
                    f"{count}",
                    ha="center",
                    va="center",
                    fontsize=size,
                    color="white" if shares[row, column] > 55 else INK,
                )
        axes.set_xticks(range(counts.shape[1]), labels[: counts.shape[1]], rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(len(counts)), labels[: len(counts)], fontsize=8)
        axes.set_xlabel("predicted", fontsize=8.5)
        exclude = result.evaluator.params["exclude"]
        accuracy = 100 * result.metrics["balanced_accuracy"]
        neighbours = "all other cells" if exclude == "cell" else f"other {exclude}s only"
        axes.set_title(f"{neighbours}: {accuracy:.1f} %", fontsize=8.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    panels[0].set_ylabel("true", fontsize=8.5)
    bar = figure.colorbar(panels[0].images[0], ax=list(panels), shrink=0.8, aspect=30)
    bar.set_label("% of the true class", fontsize=8.5)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8)
    figure.suptitle(title, fontsize=9.5, x=0.01, ha="left")
    return figure
