"""Pictures of what a network inpaints: source, target markers, prediction, what is there (paper: Supplementary Figure 1)."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pci_bench.data.examples import from_table
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.runs.results import Result
from pci_bench.system.drawing import INK, new_figure, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROWS_PER_PAGE = 10  # rows of crops
READING = (
    "A row: a source cell (its label), and a target cell of an image with another label (after the arrow). The network is "
    "given the source and the target's markers. All crops from 0 (black) to 1 (white)."
)


@register_figures("inpainting-error")
def inpainting_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the examples of every network, on as many figures as they need: first one of every label."""
    for result in results:
        if not len(result.tables.get("examples", ())):
            continue
        stem = f"inpainting-{escape(result.features.weights or result.features.name)}-{escape(result.dataset.name)}"
        table = result.tables["examples"]
        rows = sorted(dict.fromkeys(zip(table["example"], table["label"].fillna(""), strict=True)), key=lambda r: r[0])
        several = len(rows) > ROWS_PER_PAGE
        pages: list[list[tuple[int, str]]] = []
        for row in rows:
            if not pages or len(pages[-1]) == ROWS_PER_PAGE or (several and pages[-1][-1][0] != row[0]):
                pages.append([])
            pages[-1].append(row)
        for number, page in enumerate(pages, 1):
            text = f"Paired cell inpainting by {result.features.full_name} on {result.dataset.name}"
            text += f", {number} of {len(pages)}" if len(pages) > 1 else ""
            suffix = f"-{number}" if number > 1 else ""
            yield stem + suffix, described(examples_figure(result, page, text=text), [result], READING)


def examples_figure(result: Result, rows: Sequence[tuple[int, str]], *, text: str) -> Figure:
    """Return a line of crops for each (example, label): the source cell, the target's markers, the prediction, what is there."""
    table = result.tables["examples"].fillna("")
    planes = from_table(table, ["label", "example", "panel"])
    panels = list(dict.fromkeys(table["panel"]))
    targets = {(r.label, r.example): str(r.target_label) for r in table.itertuples()}
    side = min(0.95, 5.6 / len(panels))
    figure = new_figure(1.5 + side * len(panels), 0.75 + side * len(rows))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(panels), squeeze=False)
    for line, (example, label) in zip(axes, rows, strict=True):
        for place, panel in zip(line, panels, strict=True):
            place.imshow(planes[label, example, panel], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(False)
        words = [label or "no label", f"→ {targets[label, example] or 'no label'}"]
        line[0].set_ylabel(
            "\n".join(textwrap.fill(plot_text(w), 24) for w in words), rotation=0, ha="right", va="center", fontsize=7
        )
    for place, panel in zip(axes[0], panels, strict=True):
        place.set_title(panel.replace(" ", "\n", 1), fontsize=7.5, color=INK)
    title(figure, text)
    return figure
