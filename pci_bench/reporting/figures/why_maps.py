"""Maps of where nearest-neighbour decisions come from: the same cells in rows, crops and the maps of feature sets in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pci_bench.data.examples import from_table
from pci_bench.reporting.candidates import Candidates
from pci_bench.reporting.figures.base import described, register_figures
from pci_bench.reporting.palette import COLOURS
from pci_bench.runs.results import Result
from pci_bench.system.drawing import INK, SMALLEST, new_figure, shortened, title
from pci_bench.system.files import escape
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES = "examples"  # the table of an evaluation
SETS = 3  # of features beside each other
ROWS = 12  # cells of a figure
READING = (
    "Of each class two cells, the same for all feature sets: one that brightness alone gets right, one that it does not. Occlusion: what the margin "
    "(distance to the nearest cell of another class minus that to the nearest of the own) loses where a patch is covered; blue speaks for the own class, "
    "orange against it, white for neither. Gradient: absolute derivative of the margin by the pixels. Each map is scaled by its own largest value."
)


@register_figures("why-maps")
def why_maps_figures(results: Sequence[Result]) -> Iterator[tuple[str, Figure]]:
    """Yield the maps of three feature sets at a time, for each kind of neighbours, in pages of cells."""
    drawn = [r for r in results if len(r.tables.get(EXAMPLES, ()))]
    settings: dict[str, list[Result]] = {}
    for result in drawn:
        settings.setdefault(str(result.evaluator.params) + str(result.details.get("cells")), []).append(result)
    for group in settings.values():
        name, candidates = group[0].dataset.name, Candidates.of(group[0])
        others = list(settings.values()).index(group)
        cells = list(dict.fromkeys(group[0].tables[EXAMPLES]["cell"]))
        for first in range(0, len(group), SETS):
            for page in range(0, len(cells), ROWS):
                sets, rows = group[first : first + SETS], cells[page : page + ROWS]
                parts = [str(n) for n in (others, first // SETS, page // ROWS) if n]
                text = f"Where nearest-neighbour decisions come from, {name}; neighbours: {candidates.words}"
                stem = f"why-{escape(name)}{candidates.suffix}{''.join(f'-{part}' for part in parts)}"
                yield stem, described(maps_figure(sets, rows, text=text), sets, READING)


def maps_figure(results: Sequence[Result], cells: Sequence[str], *, text: str) -> Figure:
    """Return a row for each cell: its channels, then each feature set's maps, with what it takes the cell for."""
    from matplotlib.colors import LinearSegmentedColormap

    signed = LinearSegmentedColormap.from_list("signed", [COLOURS[1], "#FFFFFF", COLOURS[0]])
    tables = [r.tables[EXAMPLES] for r in results]
    crops = list(dict.fromkeys(tables[0].loc[tables[0]["kind"] == "crop", "panel"]))
    columns = [(-1, panel) for panel in crops]
    columns += [
        (i, kind) for i, t in enumerate(tables) for kind in ("occlusion", "gradient") if (t["kind"] == kind).any()
    ]
    planes = [from_table(table, ["cell", "panel"]) for table in tables]
    side = min(0.95, 6.3 / len(columns))
    figure = new_figure(1.2 + side * len(columns), 0.9 + (side + 0.14) * len(cells))
    figure.set_layout_engine("constrained", w_pad=0.015, h_pad=0.01, wspace=0, hspace=0)
    axes = figure.subplots(len(cells), len(columns), squeeze=False)
    for line, cell in zip(axes, cells, strict=True):
        for place, (number, panel) in zip(line, columns, strict=True):
            plane = planes[max(0, number)][cell, panel]
            if panel == "occlusion":
                place.imshow(255 * plane, cmap=signed, vmin=1, vmax=255, interpolation="nearest")
                _say(place, _row(tables[number], cell))
            else:
                top = (
                    1.0 if number < 0 else max(float(np.quantile(plane, 0.995)), 1e-9)
                )  # single pixels hide the others
                place.imshow(plane, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            place.set_xticks([])
            place.set_yticks([])
            place.spines[:].set_linewidth(0.4)
        known = _row(tables[0], cell)
        words = (
            f"{plot_text(str(known['label']))}\n{'right' if known['right_by_brightness'] else 'wrong'} by\nbrightness"
        )
        line[0].set_ylabel(words, rotation=0, ha="right", va="center", fontsize=SMALLEST)
    for place, (number, panel) in zip(axes[0], columns, strict=True):
        of = "" if number < 0 else f"{shortened(results[number].features.name, 18)}\n"
        place.set_title(f"{of}{plot_text(panel)}", fontsize=SMALLEST, color=INK, pad=3)
    title(figure, text)
    return figure


def _row(table: pd.DataFrame, cell: str) -> dict[str, object]:
    """Return what is said of a cell."""
    first = table[table["cell"] == cell].iloc[0]
    return {str(name): value for name, value in first.items()}


def _say(axes: Axes, row: dict[str, object]) -> None:
    """Write beneath a map what the nearest neighbour is."""
    right = row["predicted"] == row["label"]
    axes.set_xlabel(
        "right" if right else f"taken for {shortened(str(row['predicted']), 14)}",
        fontsize=SMALLEST - 0.5,
        labelpad=1.5,
        color=INK,
        fontweight="normal" if right else "bold",
    )
