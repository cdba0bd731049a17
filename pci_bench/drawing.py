"""What every figure shares: colours, an empty figure, and writing it. Colours are the Okabe–Ito palette, which stays
distinct in every kind of colour vision.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pci_bench.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG (200 dpi) and SVG, without dates, and return the files."""
    import matplotlib

    written = []
    with matplotlib.rc_context({"svg.hashsalt": "pci-bench", "svg.fonttype": "none"}):
        for suffix, metadata in ((".png", {"Software": None}), (".svg", {"Date": None})):
            file = path.with_name(path.name + suffix)
            with atomic_file(file) as temporary:
                figure.savefig(temporary, dpi=200, metadata=metadata, format=suffix[1:])
            written.append(file)
    return written


def mixed(colour: str, other: float, share: float) -> str:
    """Return a colour with a share of black (0) or white (1) in it."""
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = ((1 - share) * c + share * other for c in to_rgb(colour))
    return to_hex((red, green, blue))


def distinct_colours(n: int) -> list[str]:
    """Return n colours: the palette, then the palette darker, then lighter, and again."""
    shades = [*COLOURS, *(mixed(c, 0, 0.45) for c in COLOURS[:-1]), *(mixed(c, 1, 0.5) for c in COLOURS)]
    return [shades[i % len(shades)] for i in range(n)]
