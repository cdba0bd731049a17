"""Pictures of what a network inpaints: source, target markers, prediction, what is there (paper: Supplementary Figure 1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pci_bench.drawing import INK, new_figure
from pci_bench.evaluators.examples import from_table
from pci_bench.files import escape
from pci_bench.reporting.figures.base import register_figures
from pci_bench.results import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@register_figures("inpainting-error")
def inpainting_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield one figure per network."""
    for result in results:
        if len(result.tables.get("examples", ())):
            stem = f"inpainting-{escape(result.features.weights or result.features.name)}-{escape(result.dataset.name)}"
            yield stem, examples_figure(result)


def examples_figure(result: Result) -> Figure:
    """Return a row for every example: the source cell, a target of another image, the prediction and the target's own protein."""
    table = result.tables["examples"].fillna("")
    planes = from_table(table, ["label", "example", "panel"])
    panels = list(dict.fromkeys(panel for _, _, panel in planes))
    rows = list(dict.fromkeys((label, example) for label, example, _ in planes))
    targets = {(r.label, r.example): str(r.target_label) for r in table.itertuples()}
    figure = new_figure(1.9 + 0.95 * len(panels), 0.75 + 0.98 * len(rows))
    axes = figure.subplots(len(rows), len(panels), squeeze=False)
    for line, (label, example) in zip(axes, rows, strict=True):
        for place, panel in zip(line, panels, strict=True):
            place.imshow(planes[label, example, panel], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(False)
        line[0].set_ylabel(
            f"{label or 'no label'}\n→ {targets[label, example] or 'no label'}",
            rotation=0,
            ha="right",
            va="center",
            fontsize=7,
        )
    for place, panel in zip(axes[0], panels, strict=True):
        place.set_title(panel.replace(" ", "\n", 1), fontsize=7.5, color=INK)
    figure.suptitle(
        f"{result.features.full_name} on {result.dataset.name}: source label → label of the target's image",
        fontsize=8.5,
        x=0.01,
        ha="left",
    )
    return figure
