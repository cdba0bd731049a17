"""The page's charts as Vega-Lite and Vega specifications, without colours.

Colours are those of the page's theme, which the page puts into the configuration: the ranges ``category`` and ``pair``, and the colour of
rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Spec = dict[str, Any]

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA = "https://vega.github.io/schema/vega/v6.json"
DASHES = ([1, 0], [6, 4], [2, 3])
DASHED = ("Full", "broken", "dotted")  # what they are called
NETWORK_SYMBOLS = (
    ("circle", "●"),
    ("square", "■"),
    ("triangle-up", "▲"),
    ("diamond", "◆"),
    ("cross", "✚"),
    ("triangle-down", "▼"),
)
CLASS_SYMBOLS = (("circle", "●"), ("triangle-up", "▲"), ("square", "■"))
COLOURS_OF_THEME = 8  # after as many classes, the next symbol


def bracketed(value: float, low_high: Sequence[float] | None = None) -> str:
    """Return a number of percent with its interval.

    >>> bracketed(87.94, (87.1, 88.6)), bracketed(50)
    ('87.9 [87.1, 88.6]', '50.0')
    """
    return f"{value:.1f}" if low_high is None else f"{value:.1f} [{low_high[0]:.1f}, {low_high[1]:.1f}]"


@dataclass(frozen=True)
class Recalls:
    """The recall of every class in one result.

    Parameters
    ----------
    neighbours
        What a cell was compared with, in words.
    classes
        Their names.
    values, intervals
        In percent; intervals are None where the predictions are missing.
    """

    neighbours: str
    classes: Sequence[str]
    values: Sequence[float]
    intervals: Sequence[tuple[float, float]] | None

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The classes' names, numbers, intervals and what is read of them, as lists."""
        intervals = [None] * len(self.values) if self.intervals is None else self.intervals
        return {
            "class": list(self.classes),
            "value": list(self.values),
            "low": [i and i[0] for i in intervals],
            "high": [i and i[1] for i in intervals],
            "text": list(map(bracketed, self.values, intervals)),
        }


def bars(recalls: Sequence[Recalls]) -> Spec:
    """Return bars of every class's recall, one beside the other for each result, in the order of the first.

    The data have a row for each result, with columns as lists; ``text`` is each number with its interval.

    Parameters
    ----------
    recalls
        Of one feature set, at least one.

    Examples
    --------
    >>> spec = bars([Recalls("all other cells", ["ER", "Golgi"], [20.0, 80.0], None)])
    >>> spec["encoding"]["y"]["sort"], spec["data"]["values"][0]["text"]
    (['Golgi', 'ER'], ['20.0', '80.0'])
    """
    first = recalls[0]
    description = "datum['class'] + ', ' + datum.neighbours + ': ' + datum.text + ' %'"
    order = [c for c, _ in sorted(zip(first.classes, first.values, strict=True), key=lambda pair: -pair[1])]
    sort = [r.neighbours for r in recalls]
    value = {
        "field": "value",
        "type": "quantitative",
        "scale": {"domain": [0, 100]},
        "title": "recall (%): cells of the class that are found",
    }
    color = {
        "field": "neighbours",
        "type": "nominal",
        "sort": sort,
        "scale": {"range": "pair"},
        "legend": {"orient": "top", "title": None},
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.85}},
            "encoding": {"x": value, "color": color, "description": {"field": "said"}},
        }
    ]
    if any(r.intervals is not None for r in recalls):
        layers.append(
            {
                "mark": {"type": "rule", "strokeWidth": 1.5, "aria": False},
                "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
            }
        )
    return vega_lite(
        "Bars: recall of every class",
        height=len(order) * (26 if len(recalls) > 1 else 18),
        data={"values": [{"neighbours": r.neighbours, **r.columns} for r in recalls]},
        transform=[{"flatten": list(first.columns)}, {"calculate": description, "as": "said"}],
        encoding={
            "y": {"field": "class", "type": "nominal", "sort": order, "title": None},
            "yOffset": {"field": "neighbours", "sort": sort},
        },
        layer=layers,
    )


@dataclass(frozen=True)
class Point:
    """A metric of one layer of a network in percent, and what a cell was compared with, in words."""

    network: str
    layer: str
    neighbours: str
    value: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """The number with its interval."""
        return bracketed(self.value, (self.low, self.high))


def curves(title: str, layers: Sequence[str], points: Sequence[Point]) -> Spec:
    """Return curves of balanced accuracy over layers: a colour and a symbol for each network, dashes for other neighbours.

    Parameters
    ----------
    title
        Of which evaluation.
    layers
        In the network's order.
    points
        In the order in which networks and neighbours get their colours and dashes.
    """
    networks, neighbours = (
        list(dict.fromkeys(names)) for names in zip(*((p.network, p.neighbours) for p in points), strict=True)
    )
    symbols = [symbol for symbol, _ in NETWORK_SYMBOLS]
    value, detail = {"field": "value", "type": "quantitative"}, {"field": "neighbours"}
    of_network = {"field": "network", "type": "nominal", "legend": None}
    band = {"field": "low", "type": "quantitative", "scale": {"domainMin": 0}, "title": "balanced accuracy (%)"}
    dash = {
        "field": "neighbours",
        "type": "nominal",
        "scale": {"domain": neighbours, "range": DASHES},
        "legend": None,
    }
    return vega_lite(
        f"Curves: balanced accuracy by layer, {title}",
        height=300,
        data={"values": [{**vars(p), "said": f"{p.network} {p.layer}, {p.neighbours}: {p.text} %"} for p in points]},
        encoding={
            "x": {
                "field": "layer",
                "type": "ordinal",
                "sort": list(layers),
                "title": None,
                "axis": {"labelAngle": -45 if len(layers) > 6 else 0},
            },
            "color": of_network | {"scale": {"domain": networks, "range": "category"}},
        },
        layer=[
            {
                "mark": {"type": "area", "opacity": 0.14, "aria": False},
                "encoding": {"y": band, "y2": {"field": "high"}, "detail": detail},
            },
            {
                "mark": {"type": "line", "strokeWidth": 2, "aria": False},
                "encoding": {"y": value, "strokeDash": dash},
            },
            {
                "mark": {"type": "point", "filled": True, "size": 60},
                "encoding": {
                    "y": value,
                    "shape": of_network | {"scale": {"domain": networks, "range": symbols}},
                    "detail": detail,
                    "description": {"field": "said"},
                },
            },
        ],
    )


def scatter(n_points: int, n_classes: int) -> Spec:
    """Return points of an embedding, in Vega; the page adds its size, the data ``points`` and the signals of what is seen.

    Points are ``x``, ``y`` and ``code``, the number of a class. Signals are the domains ``xs`` and ``ys``, and ``focus``: the class that is
    seen alone, or −1.
    """
    symbols = [symbol for symbol, _ in CLASS_SYMBOLS]
    return {
        "$schema": VEGA,
        "padding": 0,
        "autosize": "none",
        "background": None,
        "scales": [
            {"name": "x", "type": "linear", "zero": False, "domain": {"signal": "xs"}, "range": "width"},
            {"name": "y", "type": "linear", "zero": False, "domain": {"signal": "ys"}, "range": "height"},
            {"name": "colour", "type": "ordinal", "domain": list(range(n_classes)), "range": "category"},
        ],
        "marks": [
            {
                "type": "symbol",
                "aria": False,
                "interactive": False,
                "clip": True,
                "from": {"data": "points"},
                "encode": {
                    "enter": {
                        "shape": {"signal": f"{symbols}[floor(datum.code / {COLOURS_OF_THEME}) % {len(symbols)}]"},
                        "size": {"signal": f"clamp((width < 640 ? 40000 : 80000) / {n_points}, 6, 60)"},
                    },
                    "update": {
                        "x": {"scale": "x", "field": "x"},
                        "y": {"scale": "y", "field": "y"},
                        "fill": {"scale": "colour", "field": "code"},
                        "opacity": {"signal": "focus < 0 ? 0.85 : datum.code === focus ? 1 : 0.06"},
                    },
                },
            }
        ],
    }


def vega_lite(description: str, **parts: Any) -> Spec:
    """Return a chart as wide as its place, under a description that screen readers read."""
    return {
        "$schema": VEGA_LITE,
        "description": description,
        "width": "container",
        "autosize": {"type": "fit-x", "contains": "padding"},
        **parts,
    }
