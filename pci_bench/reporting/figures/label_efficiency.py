"""Accuracy over the number of labels of each class, a line for each feature set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.reporting.palette import COLOURS, GREY, LINE_SHAPES, line_looks
from pci_bench.reporting.tables.ranking import mark_of
from pci_bench.runs.results import Result
from pci_bench.system.drawing import FAINT, INK, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BESIDE = 0.03  # how far apart two feature sets are drawn, in natural logarithms of the number of labels
WORDS = {"logistic": "linear probe", "knn": "nearest neighbours"}
READING = (
    "Bands: draws of the labelled cells (2.5th to 97.5th percentile); lines: 95 % intervals over draws and groups of cells. Dotted line: "
    "chance. Numbers in the legend: areas, mean "
    "accuracy over the logarithm of the number of labels, in the first panel. Curves are drawn side by side, so that their intervals can be told apart."
)


@register_figures("label-efficiency")
def label_efficiency_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the curves of each kind of candidates, a panel for each classifier."""
    dataset = results[0].dataset
    for candidates, subset in dict.fromkeys((Candidates.of(r), _subset(r)) for r in results):
        same = [r for r in results if (Candidates.of(r), _subset(r)) == (candidates, subset)]
        classifiers = list(dict.fromkeys(str(r.evaluator.params["classifier"]) for r in same))
        figure = new_figure(1.2 + 3.2 * len(classifiers), 3.4 + 0.17 * ((len(same) + 1) // 2))
        panels = figure.subplots(1, len(classifiers), squeeze=False, sharey=True)[0]
        for axes, classifier in zip(panels, classifiers, strict=True):
            draw_curves(axes, [r for r in same if r.evaluator.params["classifier"] == classifier])
            axes.set_title(WORDS.get(classifier, classifier), fontsize=8.5)
        panels[0].set_ylabel("balanced accuracy (%)", fontsize=8.5)
        handles, words = panels[0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside lower center", ncols=2, fontsize=7.5, frameon=False)
        of = f", {subset}" if subset else ""
        title(figure, f"Labels of each class, {dataset.name}{of}; labelled cells: {candidates.words}")
        suffix = f"{candidates.suffix}{f'-{escape(subset)}' if subset else ''}"
        yield (
            f"label-efficiency-{escape(dataset.name)}{suffix}",
            described(figure, same, READING, data=stacked(same, [r.table("curve") for r in same])),
        )


def draw_curves(axes: Axes, results: Sequence[Result]) -> None:
    """Draw the curves of one classifier, the best area first in the legend; what does not compete is broken."""
    ranked = sorted(results, key=lambda r: -r.metrics["area"])
    looks = line_looks([r.features.full_name for r in ranked])
    shifts = np.exp(BESIDE * (np.arange(len(ranked)) - (len(ranked) - 1) / 2))
    for result, shift in zip(ranked, shifts, strict=True):
        name, curve = result.features.full_name, result.table("curve")
        labels = shift * curve["labels"]
        look, mark = looks[name], mark_of(name)
        colour = GREY if look.colour is None else COLOURS[look.colour]
        axes.plot(
            labels,
            100 * curve["balanced_accuracy"],
            "--" if mark else "-",
            marker=LINE_SHAPES[look.shape].matplotlib,
            markersize=3.5,
            color=colour,
            linewidth=1.4,
            label=plot_text(f"{shortened(name)}{f' ({mark})' if mark else ''}: {100 * result.metrics['area']:.1f}"),
        )
        axes.fill_between(
            labels, 100 * curve["draws_low"], 100 * curve["draws_high"], color=colour, alpha=0.15, linewidth=0
        )
        axes.vlines(labels, 100 * curve["low"], 100 * curve["high"], color=colour, linewidth=0.7)
    counts = list(ranked[0].table("curve")["labels"])
    axes.axhline(100 / max(1, int(ranked[0].details["n_classes"])), color=INK, linewidth=0.8, linestyle=":")
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.set_xlabel("labels of each class", fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _subset(result: Result) -> str:
    return str(result.evaluator.params.get("subset", ""))
