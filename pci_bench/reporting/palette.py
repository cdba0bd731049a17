"""The colours of every picture: figures, the report in light and in dark, and pictures of fields.

All are one palette of eight, Okabe and Ito's, which stays distinct in every kind of colour vision. A class has the same colour and
shape in figures and in the report, and so have the feature sets of a family.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.reporting.tables.ranking import Kind, kind_of
from pci_bench.system.drawing import COLOURS as COLOURS

ON_DARK = ("#4BA3E3", "#F5C04A", "#3FCF9F", "#E6A5C9", "#9FD4F5", "#FF9A5C", "#F0E442", "#FFFFFF")
GREY = "#8A8A8A"  # on light and on dark ground
HIGHLIGHTED = 8  # classes that a crowded picture shows in colour at a time: more cannot be told apart
MOST_CLASSES = 24  # with a look of their own: the most frequent ones; the rest is grey


@dataclass(frozen=True)
class Shape:
    """A mark by its names in Matplotlib, in Vega, and as a letter."""

    matplotlib: str
    vega: str
    letter: str


SHAPES = (Shape("o", "circle", "●"), Shape("^", "triangle-up", "▲"), Shape("x", "cross", "✚"))
LINE_SHAPES = (  # of the members of a family, whose lines share a colour
    Shape("o", "circle", "●"),
    Shape("s", "square", "■"),
    Shape("^", "triangle-up", "▲"),
    Shape("D", "diamond", "◆"),
    Shape("P", "cross", "✚"),
    Shape("v", "triangle-down", "▼"),
)


@dataclass(frozen=True)
class Look:
    """The place of a colour in the palette, None for grey, and of a shape in its list."""

    colour: int | None
    shape: int = 0

    def on(self, palette: tuple[str, ...]) -> str:
        """Return the colour of a palette."""
        return GREY if self.colour is None else palette[self.colour]


def class_looks(labels: np.ndarray) -> dict[str, Look]:
    """Return the look of each of the most frequent classes, in natural order; "" is no class.

    Classes come in groups of a shape and of different colours, of which one is highlighted at a time: :func:`in_groups`.

    Parameters
    ----------
    labels
        Of every point (n,) str.

    Examples
    --------
    >>> looks = class_looks(np.array([f"class {i}" for i in range(10)] + [""]))
    >>> looks["class 0"], looks["class 6"]
    (Look(colour=0, shape=0), Look(colour=1, shape=1))
    """
    distinct, counts = np.unique(labels[labels != ""], return_counts=True)
    largest = distinct[np.argsort(-counts, kind="stable")][:MOST_CLASSES]
    named = sorted(map(str, largest), key=natural_key)
    return {
        name: Look(colour, shape) for shape, group in enumerate(in_groups(named)) for colour, name in enumerate(group)
    }


def in_groups(names: Sequence[str]) -> list[list[str]]:
    """Return names in as few groups of at most eight as there can be, all about as large.

    >>> [len(group) for group in in_groups("abcdefghijklmnopq")], in_groups([])
    ([6, 6, 5], [])
    """
    n_groups = -(-len(names) // HIGHLIGHTED)
    size = -(-len(names) // max(1, n_groups))
    return [list(names[start : start + size]) for start in range(0, len(names), max(1, size))]


@dataclass(frozen=True)
class Family:
    """Feature sets that are called by one word, and the place of their colour in the palette."""

    words: str
    colour: int | None


CONTROL = Family("control", None)
SUPERVISED = Family("learned from labels", 5)
OTHER = Family("other feature sets", 4)
_PHOTOGRAPHS, _DESIGNED = Family("trained on photographs", 2), Family("designed measurements", 3)
FAMILIES = {  # by the first word of their names
    "pci": Family("paired cell inpainting", 0),
    "autoencoder": Family("autoencoder", 1),
    "vgg16": _PHOTOGRAPHS,
    "efficientnet": _PHOTOGRAPHS,
    "timm": _PHOTOGRAPHS,
    "designed": _DESIGNED,
    "classic": _DESIGNED,
    "cellprofiler": _DESIGNED,
}


def family(name: str) -> Family:
    """Return the family of a feature set, which is named with or without its weights.

    Examples
    --------
    >>> [family(name).words for name in ("pci-conv4@yeast-sim", "pci-random-conv4", "my-network")]
    ['paired cell inpainting', 'control', 'other feature sets']
    """
    kind = kind_of(name)
    if kind in (Kind.control, Kind.chance):
        return CONTROL
    if kind is Kind.supervised:
        return SUPERVISED
    return FAMILIES.get(re.split(r"[-:@]", name, maxsplit=1)[0], OTHER)


def line_looks(names: Sequence[str]) -> dict[str, Look]:
    """Return the look of the line of each feature set or network: its family's colour, and a symbol that it has alone there.

    Symbols, of :data:`LINE_SHAPES`, come again after the sixth member of a family.

    Examples
    --------
    >>> list(line_looks(["pci-conv3", "pci-conv4", "noise"]).values())
    [Look(colour=0, shape=0), Look(colour=0, shape=1), Look(colour=None, shape=0)]
    """
    turns: dict[Family, int] = {}
    looks = {}
    for name in names:
        found = family(name)
        turns[found] = turns.get(found, -1) + 1
        looks[name] = Look(found.colour, turns[found] % len(LINE_SHAPES))
    return looks
