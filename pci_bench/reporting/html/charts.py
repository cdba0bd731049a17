"""The page's charts as Vega-Lite and Vega specifications, without colours.

Colours are those of the page's theme, which the page puts into the configuration: the ranges ``category`` and ``pair``, and the colour of
rules.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pci_bench.reporting.palette import LINE_SHAPES, SHAPES, line_looks

Spec = dict[str, Any]

VEGA_LITE = "https://vega.github.io/schema/vega-lite/v6.json"
VEGA = "https://vega.github.io/schema/vega/v6.json"
DASHES = ([1, 0], [6, 4], [2, 3])
DASHED = ("Full", "broken", "dotted")  # what they are called


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
    """Return curves of balanced accuracy over layers: the colour of its family and a symbol for each network, dashes for other neighbours.

    Parameters
    ----------
    title
        Of which evaluation.
    layers
        In the network's order.
    points
        In the order in which networks and neighbours get their symbols and dashes.
    """
    networks, neighbours = (
        list(dict.fromkeys(names)) for names in zip(*((p.network, p.neighbours) for p in points), strict=True)
    )
    lines = lines_of(networks)
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
            "color": of_network | {"scale": {"domain": networks, "range": [line.colour for line in lines]}},
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
                    "shape": of_network | {"scale": {"domain": networks, "range": [line.symbol for line in lines]}},
                    "detail": detail,
                    "description": {"field": "said"},
                },
            },
        ],
    )


@dataclass(frozen=True)
class RankedRow:
    """A bar of the ranked chart: a feature set's number as it is printed, its group ("" competes), and the colour of its family."""

    group: str
    name: str
    family: str
    colour: int | None
    value: float
    low: float | None
    high: float | None
    text: str
    seeds: int = 1
    tied: bool = False


def _ticks(low: float, high: float) -> list[float]:
    """Return at most six round numbers between two others.

    >>> _ticks(0, 96.8), _ticks(-0.2, 0.9)
    ([0.0, 20.0, 40.0, 60.0, 80.0], [-0.2, 0.0, 0.2, 0.4, 0.6, 0.8])
    """
    rough = (high - low) / 6 or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [round(n * step, 12) for n in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def ranked_bars(rows: Sequence[RankedRow], *, metric: str, chance: float | None) -> Spec:
    """Return bars with intervals in the order of the rows; what does not compete stands below, under the name of its group.

    The colours of the scale are places in the palette, None for grey, which the page's theme fills in.

    Examples
    --------
    >>> rows = [RankedRow("", "a", "mine", 0, 60.0, 55.0, 65.0, "60.0 [55.0, 65.0]"), RankedRow("controls", "b", "control", None, 20.0, None, None, "20.0")]
    >>> ranked_bars(rows, metric="balanced accuracy (%)", chance=10.0)["encoding"]["y"]["sort"]
    ['a', 'controls:', 'b']
    """
    order: list[str] = []
    names = [f"≈ {r.name}" if r.tied else r.name for r in rows]
    for row, name in zip(rows, names, strict=True):
        if row.group and f"{row.group}:" not in order:
            order.append(f"{row.group}:")
        order.append(name)
    headings = [name for name in order if name not in names]
    families = {r.family: r.colour for r in rows}
    ends = [v for r in rows for v in (r.value, r.low, r.high) if v is not None] or [0.0]
    low, high = min(0.0, *ends), max(0.0, *ends)
    x = {
        "field": "value",
        "type": "quantitative",
        "title": metric,
        "scale": {"domain": [low, low + 1.42 * (high - low)], "nice": False},  # with room for the numbers
        "axis": {"values": _ticks(low, high), "grid": False},
    }
    values = [
        {"name": name, "family": r.family, "value": r.value, "low": r.low, "high": r.high, "text": r.text,
         "end": r.value if r.high is None else max(r.high, r.value), "said": f"{r.name}{f' ({r.group})' if r.group else ''}: {r.text}"}
        for r, name in zip(rows, names, strict=True)
    ]  # fmt: skip
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": {"band": 0.62}},
            "encoding": {
                "x": x,
                "color": {
                    "field": "family",
                    "type": "nominal",
                    "scale": {"domain": list(families), "range": list(families.values())},
                    "legend": None,
                },
                "description": {"field": "said"},
            },
        },
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 1.5, "aria": False},
            "encoding": {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}},
        },
        {
            "mark": {"type": "text", "align": "left", "dx": 6, "aria": False},
            "encoding": {"x": {"field": "end", "type": "quantitative"}, "text": {"field": "text"}},
        },
    ]
    if chance is not None:
        layers.append(
            {
                "data": {"values": [{"chance": chance}]},
                "mark": {"type": "rule", "strokeDash": [4, 3], "aria": False},
                "encoding": {"x": {"field": "chance", "type": "quantitative"}, "y": None},
            }
        )
    return vega_lite(
        "Bars: feature sets ranked in the strictest column, then what does not compete",
        height=26 * len(order),
        data={"values": values},
        encoding={
            "y": {
                "field": "name",
                "type": "nominal",
                "sort": order,
                "scale": {"domain": order},
                "title": None,
                "axis": {
                    "ticks": False,
                    "domain": False,
                    "labelLimit": 260,
                    "labelFontStyle": {
                        "condition": {"test": f"indexof({json.dumps(headings)}, datum.value) >= 0", "value": "italic"},
                        "value": "normal",
                    },
                },
            }
        },
        layer=layers,
    )


@dataclass(frozen=True)
class Line:
    """How a feature set is drawn over levels: the place of its colour in the palette or None for grey, and its symbol."""

    name: str
    colour: int | None
    symbol: str
    letter: str


def lines_of(names: Sequence[str]) -> list[Line]:
    """Return how feature sets or networks are drawn, in their order."""
    looks = line_looks(names)
    return [
        Line(name, look.colour, LINE_SHAPES[look.shape].vega, LINE_SHAPES[look.shape].letter)
        for name, look in looks.items()
    ]


@dataclass(frozen=True)
class Rung:
    """What a feature set reaches at one level, and how that is said."""

    name: str
    level: str
    value: float
    low: float | None
    high: float | None
    said: str


def ladder(
    levels: Sequence[str], lines: Sequence[Line], rungs: Sequence[Rung], *, metric: str, chance: Sequence[float | None]
) -> Spec:
    """Return a line for each feature set over levels of strictness; grey lines are broken, chance is dotted.

    Parameters
    ----------
    levels
        From the loosest to the strictest; lines may be broken.
    lines
        In the order of the key.
    rungs
        Every point.
    metric
        The title of the axis.
    chance
        Of each level, or None.
    """
    names = [line.name for line in lines]
    scale = {"domain": [*names, "chance"], "range": [*(line.colour for line in lines), None]}
    color = {"field": "name", "type": "nominal", "scale": scale, "legend": None}
    dash = {"domain": names, "range": [[1, 0] if line.colour is not None else [5, 4] for line in lines]}
    y = {"field": "value", "type": "quantitative", "title": metric, "scale": {"zero": True}}
    layers: list[Spec] = [
        {
            "mark": {"type": "line", "strokeWidth": 2, "aria": False},
            "encoding": {"y": y, "strokeDash": {"field": "name", "scale": dash, "legend": None}},
        },
        {
            "transform": [{"filter": "isValid(datum.low)"}],
            "mark": {"type": "rule", "strokeWidth": 1, "opacity": 0.6, "aria": False},
            "encoding": {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 70},
            "encoding": {
                "y": y,
                "shape": {
                    "field": "name",
                    "scale": {"domain": names, "range": [line.symbol for line in lines]},
                    "legend": None,
                },
                "description": {"field": "said"},
            },
        },
    ]
    known = [{"level": level, "chance": c} for level, c in zip(levels, chance, strict=True) if c is not None]
    if known:
        layers.append(
            {
                "data": {"values": known},
                "mark": {"type": "line", "strokeDash": [1, 3], "aria": False},
                "encoding": {"y": {"field": "chance", "type": "quantitative"}, "color": {"datum": "chance"}},
            }
        )
    return vega_lite(
        "Lines: every feature set from the loosest comparison to the strictest",
        height=320,
        data={"values": [vars(r) for r in rungs]},
        encoding={
            "x": {
                "field": "level",
                "type": "ordinal",
                "sort": list(levels),
                "title": None,
                "axis": {"labelAngle": 0, "labelExpr": "split(datum.label, '\\n')", "labelLimit": 0, "labelPadding": 6},
                "scale": {"type": "point", "padding": 0.35},
            },
            "color": color,
        },
        layer=layers,
    )


def scatter(n_points: int, n_classes: int, *, per_shape: int) -> Spec:
    """Return points of an embedding, in Vega; the page adds its size, the data ``points`` and the signals of what is seen.

    So many classes share a shape. Points are ``x``, ``y`` and ``code``, the number of a class. Signals are the domains ``xs`` and ``ys``; ``focus``, the class that is
    seen alone, or −1; and ``first`` and ``end`` of the classes that are in colour where there is none: at most eight, which the eye can
    tell apart; the others are ``grey``.
    """
    coloured = "(focus < 0 ? datum.code >= first && datum.code < end : datum.code === focus)"
    symbols = [shape.vega for shape in SHAPES]
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
                        "shape": {"signal": f"{symbols}[floor(datum.code / {per_shape}) % {len(symbols)}]"},
                        "size": {"signal": f"clamp((width < 640 ? 40000 : 80000) / {n_points}, 6, 60)"},
                    },
                    "update": {
                        "x": {"scale": "x", "field": "x"},
                        "y": {"scale": "y", "field": "y"},
                        "fill": {"signal": f"{coloured} ? scale('colour', datum.code) : grey"},
                        "opacity": {"signal": f"{coloured} ? 0.9 : focus < 0 ? 0.25 : 0.06"},
                        "zindex": {"signal": f"{coloured} ? 1 : 0"},
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
