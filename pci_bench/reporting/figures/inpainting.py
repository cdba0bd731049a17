"""Pictures of what a network inpaints: source, target's markers, prediction, what is there (paper: Supplementary Figure 1)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pci_bench.data.examples import from_table
from pci_bench.reporting.figures.base import described, register_figures, stacked
from pci_bench.runs.results import Result
from pci_bench.system.drawing import BEHIND, INK, SMALLEST, new_figure, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

ROWS_PER_PAGE = 10  # rows of crops
TASK = (
    "The task: a row has a source cell, the markers of a target cell of the same image, what the network predicts of its protein, and what "
    "is there. MSE: mean squared error of the crop; less is better. All crops from 0 (black) to 1 (white)."
)
MISMATCHES = (
    "Mismatches: the source (its label) is of an image with another label than the target (after the arrow), so that a network which uses "
    "its source predicts the wrong protein. MSE: mean squared error of the crop. All crops from 0 (black) to 1 (white)."
)
MATCHED, MISMATCHED = "matched", "mismatched"
Row = tuple[str, int, str]  # pair, number of the example, label of the source


@register_figures("inpainting-error")
def inpainting_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the examples of every network: first the task itself, then mismatches; each on as many figures as they need."""
    for result in results:
        if not len(result.tables.get("examples", ())):
            continue
        stem = f"inpainting-{escape(result.features.weights or result.features.name)}-{escape(result.dataset.name)}"
        table = _examples(result)
        rows: list[Row] = list(dict.fromkeys(zip(table["pair"], table["example"], table["label"], strict=True)))
        for pair, ending, words, reading in (
            (MATCHED, "", "", TASK),
            (MISMATCHED, "-mismatched", ", sources of other labels", MISMATCHES),
        ):
            pages = _pages(sorted((r for r in rows if r[0] == pair), key=lambda r: r[1]))
            for number, page in enumerate(pages, 1):
                text = f"Paired cell inpainting by {result.features.full_name} on {result.dataset.name}{words}"
                text += f", {number} of {len(pages)}" if len(pages) > 1 else ""
                suffix = f"-{number}" if number > 1 else ""
                yield (
                    f"{stem}{ending}{suffix}",
                    described(
                        examples_figure(result, page, text=text),
                        [result],
                        reading,
                        data=stacked([result], [_shown(table, page)]),
                    ),
                )


def _shown(table: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the examples of some rows of a figure, without their pixels."""
    places = zip(table["pair"], table["example"], table["label"], strict=True)
    chosen = table[[place in set(rows) for place in places]]
    return chosen.drop(columns=[c for c in ("rows", "columns", "pixels") if c in chosen]).drop_duplicates()


def _examples(result: Result) -> pd.DataFrame:
    """Return the examples; those of results before version 3 are all mismatched, and their errors are not known."""
    table = result.tables["examples"]
    table = table.assign(label=table["label"].fillna(""), target_label=table["target_label"].fillna(""))
    return table if "pair" in table else table.assign(pair=MISMATCHED, mse=float("nan"))


def _pages(rows: Sequence[Row]) -> list[list[Row]]:
    """Return rows in pages; where there are several, a page begins with every next example of the labels."""
    pages: list[list[Row]] = []
    for row in rows:
        if not pages or len(pages[-1]) == ROWS_PER_PAGE or (len(rows) > ROWS_PER_PAGE and pages[-1][-1][1] != row[1]):
            pages.append([])
        pages[-1].append(row)
    return pages


def examples_figure(result: Result, rows: Sequence[Row], *, text: str) -> Figure:
    """Return a line of crops for each row: the source cell, the target's markers, the prediction with its error, what is there."""
    table = _examples(result)
    planes = from_table(table, ["pair", "label", "example", "panel"])
    panels = list(dict.fromkeys(table["panel"]))
    keys = zip(table["pair"], table["example"], table["label"], strict=True)
    targets = dict(zip(keys, zip(table["target_label"], table["mse"].astype(float), strict=True), strict=True))
    side = min(0.95, 5.6 / len(panels))
    figure = new_figure(1.5 + side * len(panels), 0.75 + side * len(rows))
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    axes = figure.subplots(len(rows), len(panels), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        pair, example, label = row
        target, error = targets[row]
        for place, panel in zip(line, panels, strict=True):
            place.imshow(planes[pair, label, example, panel], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_visible(False)
            if panel.startswith("predicted") and not math.isnan(error):
                place.text(
                    0.04, 0.04, f"MSE {error:.4f}", transform=place.transAxes, fontsize=SMALLEST, color=INK, bbox=BEHIND
                )  # fmt: skip
        words = [label or "no label", *([f"→ {target or 'no label'}"] if pair == MISMATCHED else [])]
        line[0].set_ylabel(
            "\n".join(textwrap.fill(plot_text(w), 24) for w in words), rotation=0, ha="right", va="center", fontsize=7
        )
    for place, panel in zip(axes[0], panels, strict=True):
        place.set_title(panel.replace(" ", "\n", 1), fontsize=7.5, color=INK)
    title(figure, text)
    return figure
