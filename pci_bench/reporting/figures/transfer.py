"""Networks trained on one screen and evaluated on others: a matrix of numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.tables.transfer import strictest
from pci_bench.runs.results import Result, headline, metric_of
from pci_bench.runs.transfer import UNTRAINED, Transfer
from pci_bench.system.drawing import INK, new_figure, shortened, title
from pci_bench.system.files import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "transfer"
READING = (
    "Framed: the network of the screen itself. Below each number its 95 % interval, in the strictest column of the dataset. Colours run from "
    "the lowest to the highest number of a column. Empty: the network's channels do not fit, or it was not run."
)


@register_figures(NAME, all_evaluators=True)
def transfer_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield a matrix for each feature set with networks of several screens on several datasets."""
    compared = [r for r in results if r.evaluator.name == "loo-knn" and "postprocess" not in r.evaluator.params]
    every = [t for t in Transfer.of(strictest(compared)) if len(t.datasets) > 1]
    for transfer in every:
        stem = f"{NAME}-{escape(transfer.features)}" if len(every) > 1 else NAME
        yield stem, described(drawn(transfer), list(transfer.results.values()), READING)


def drawn(transfer: Transfer) -> Figure:
    """Return the matrix of one feature set: trained on (rows) by evaluated on (columns)."""
    from matplotlib.patches import Rectangle

    networks, datasets = transfer.networks, transfer.datasets
    first = next(iter(transfer.results.values()))
    metric = headline(first)
    form = metric_of(first, metric)
    values = np.full((len(networks), len(datasets)), np.nan)
    for (network, dataset), result in transfer.results.items():
        values[networks.index(network), datasets.index(dataset)] = form.scale * result.metrics[metric]
    low = np.array([np.nanmin(column) for column in values.T])
    span = np.array([np.nanmax(column) for column in values.T]) - low
    shades = np.where(np.isnan(values), np.nan, (values - low) / np.where(span > 0, span, 1))
    figure = new_figure(2.4 + 1.35 * len(datasets), 1.4 + 0.55 * len(networks))
    axes = figure.subplots()
    axes.imshow(shades, cmap="Blues", vmin=-0.15, vmax=1.25, aspect="auto")
    for (network, dataset), result in transfer.results.items():
        x, y = datasets.index(dataset), networks.index(network)
        bounds = result.intervals.get(metric)
        interval = "" if bounds is None else f"\n[{form.text(bounds[0])}, {form.text(bounds[1])}]"
        colour = "white" if shades[y, x] > 0.75 else INK
        axes.text(
            x, y, f"{form.text(result.metrics[metric])}{interval}", ha="center", va="center", fontsize=8, color=colour
        )
        if transfer.own(dataset) == network:
            axes.add_patch(Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, fill=False, edgecolor="black", linewidth=1.6))
    kinds = {name: next(r for (_, d), r in transfer.results.items() if d == name) for name in datasets}
    axes.set_xticks(
        range(len(datasets)),
        [f"{shortened(name, 24)}\n{Candidates.of(kinds[name]).words.replace(', ', chr(10))}" for name in datasets],
        fontsize=7.5,
    )
    axes.set_yticks(
        range(len(networks)),
        [name if name == UNTRAINED else f"trained on\n{shortened(name, 26)}" for name in networks],
        fontsize=7.5,
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    unit = " (%)" if form.unit == "percent" else ""
    title(figure, f"{transfer.features} on other screens than it was trained on: {metric.replace('_', ' ')}{unit}")
    return figure
