"""Reliability diagrams and accuracy–rejection curves, a row for each kind of groups that are left out."""

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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_LINES = 8
READING = (
    "Left: accuracy of bins of equally many cells; on the diagonal confidence is what it says, below it is too high. "
    "Right: accuracy of the most confident cells, from all of them on the right."
)


@register_figures("calibration")
def calibration_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a figure for each classifier and its settings but what is left out."""
    sets: dict[str, list[Result]] = {}
    for result in results:
        settings = ",".join(
            f"{k}={v}" for k, v in result.evaluator.params.items() if k not in ("exclude", "classifier")
        )
        sets.setdefault(f"{result.evaluator.params['classifier']},{settings}", []).append(result)
    classifiers = [key.partition(",")[0] for key in sets]
    for key, group in sets.items():
        classifier, _, settings = key.partition(",")
        suffix = f"-{escape(settings)}" if classifiers.count(classifier) > 1 else ""
        dataset = group[0].dataset
        text = f"Calibration of {classifier.replace('-', ' ').replace('knn', 'kNN')}, {dataset.name} ({dataset.n_cells:,} cells)"
        yield (
            f"calibration-{escape(dataset.name)}-{classifier}{suffix}",
            described(curves(group, text=text), group, READING),
        )


def curves(results: Sequence[Result], *, text: str) -> Figure:
    """Return reliability on the left and accuracy by the share of cells kept on the right, a row for each kind of candidates."""
    rungs = ladder_of(results)
    scores = {r.features.full_name: r.metrics["brier"] for r in results if Candidates.of(r) == rungs[-1]}
    names = sorted(scores, key=lambda name: scores[name])[:MAX_LINES]
    looks = line_looks(names)
    figure = new_figure(7.2, 0.9 + 2.6 * len(rungs))
    axes = figure.subplots(len(rungs), 2, squeeze=False, sharex="col", sharey=True)
    for (left, right), rung in zip(axes, rungs, strict=True):
        left.plot([0, 1], [0, 1], ":", color=INK, linewidth=1)
        by_name = {r.features.full_name: r for r in results if Candidates.of(r) == rung}
        for name in (n for n in names if n in by_name):
            look = looks[name]
            colour = GREY if look.colour is None else COLOURS[look.colour]
            style = {"color": colour, "linewidth": 1.3, "linestyle": "--" if look.colour is None else "-"}
            marker = {"marker": LINE_SHAPES[look.shape].matplotlib, "markersize": 3.5}
            bins, kept = by_name[name].table("reliability"), by_name[name].table("rejection")
            label = f"{shortened(name, 34)}{f' ({mark})' if (mark := mark_of(name)) else ''}"
            left.plot(bins["confidence"], bins["accuracy"], **style, **marker, label=label)
            right.plot(kept["kept"], kept["accuracy"], markevery=3, **style, **marker)
        left.set_title(plot_text(rung.words), fontsize=8.5, loc="left")
        left.set_ylabel("accuracy", fontsize=8.5)
        for one in (left, right):
            _plain(one)
    axes[-1, 0].set_xlabel("confidence", fontsize=8.5)
    axes[-1, 1].set_xlabel("share of cells kept, the most confident first", fontsize=8.5)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    title(figure, text)
    return figure


def _plain(axes: Axes) -> None:
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5)
    axes.spines[["top", "right"]].set_visible(False)
