"""What every figure shares: colours, an empty figure, its caption, and writing it. Colours are the Okabe–Ito palette,
which stays distinct in every kind of colour vision. Figures are at most 7.5 inches wide where their content allows, so that
no text is smaller than 7 points in print.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.system.files import atomic_file
from pci_bench.system.text import plot_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.text import Text

SMALLEST = 7.0  # points
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
INK, FAINT = "#222222", "#D9D9D9"
BEHIND = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}  # keeps a number readable over a line


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure (inches) that needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def title(figure: Figure, text: str, *, room: float = 0) -> Text:
    """Write what a figure shows above it; lines that are wider than the figure are broken.

    Where a figure is laid out by hand, `room` says how many inches above its content are free; more lines grow upwards.
    """
    words = figure.suptitle(_wrapped(figure, text, 9.5), fontsize=9.5, x=0.01, ha="left")
    if room:
        words.set(y=1 - (room - 0.2) / figure.get_figheight(), va="bottom")
    return words


def caption(figure: Figure, text: str) -> Text:
    """Write small print beneath a figure, as wide as it; `save` makes the room for it."""
    return figure.text(
        0.01, -0.06 / figure.get_figheight(), _wrapped(figure, text, SMALLEST), fontsize=SMALLEST, color=INK, va="top"
    )


def _wrapped(figure: Figure, text: str, points: float) -> str:
    per_line = max(20, int(0.97 * figure.get_figwidth() * 72 / (0.5 * points)))
    return "\n".join(textwrap.fill(plot_text(line), per_line, break_on_hyphens=False) for line in text.splitlines())


def shortened(name: str, most: int = 40) -> str:
    """Return a name to draw, as it is; its middle is left out where it is longer than so many characters."""
    half = (most - 1) // 2
    return plot_text(name if len(name) <= most else f"{name[:half]}…{name[-half:]}")


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure with all that is around it as PNG (200 dpi) and SVG, without dates, and return the files.

    Text in the SVG stays text. The same figure gives the same bytes.
    """
    import matplotlib

    figure.draw_without_rendering()  # lays it out, once for both files
    figure.set_layout_engine("none")
    for legend in figure.legends:  # else it moves with the page, over a caption
        legend.set_bbox_to_anchor((0, 0, 1, 1), figure.transFigure)
    page = figure.get_tightbbox().padded(0.08)  # once: "tight" would draw everything again for each file to find it
    written = []
    with matplotlib.rc_context({"svg.hashsalt": "pci-bench", "svg.fonttype": "none"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            file = path.with_name(path.name + suffix)
            with atomic_file(file) as temporary:
                figure.savefig(temporary, dpi=200, metadata=metadata, format=suffix[1:], bbox_inches=page)
            written.append(file)
    return written


def mixed(colour: str, brightness: float, share: float) -> str:
    """Return a colour with a share of black (0) or white (1) in it."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = ((1 - share) * c + share * brightness for c in to_rgb(colour))
    return to_hex((red, green, blue))


def distinct_colours(n: int) -> list[str]:
    """Return n colours: the palette, then the palette darker, then lighter, and again."""
    shades = [*COLOURS, *(mixed(c, 0, 0.45) for c in COLOURS[:-1]), *(mixed(c, 1, 0.5) for c in COLOURS)]
    return [shades[i % len(shades)] for i in range(n)]
