"""The charts of the report, drawn without a browser: what a screen reader hears, where marks lie, and that colours are the theme's."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
import vl_convert

from pci_bench.reporting.html.charts import Point, Recalls, bars, curves, scatter
from pci_bench.reporting.palette import line_looks

THEME = {"range": {"category": ["#111111", "#222222", "#333333"], "pair": ["#aa0000", "#00aa00"]}}
CLASSES = ["ER", "Golgi", 'a "b" <c>']
ALL = Recalls("all other cells", CLASSES, [20.0, 80.0, 50.5], [(10.0, 30.0), (70.0, 90.0), (40.25, 60.0)])
OTHERS = Recalls("other images only", CLASSES, [90.0, 5.0, 0.0], [(85.0, 95.0), (0.0, 10.0), (0.0, 1.0)])


def drawn(spec) -> list[ElementTree.Element]:
    """Return all elements of the chart as SVG."""
    convert = vl_convert.vega_to_svg if "vega/" in spec["$schema"] else vl_convert.vegalite_to_svg
    return list(ElementTree.fromstring(convert(spec | {"config": THEME})).iter())


def marks(spec, kind) -> list[ElementTree.Element]:
    return [e for e in drawn(spec) if e.get("aria-roledescription") == kind]


def height_of(bar) -> float:
    """Return the top of a bar, whose path starts at its upper left corner."""
    return float(re.match(r"M[-\d.]+,([-\d.]+)", bar.get("d"))[1])


def width_of(bar) -> float:
    return float(re.search(r"h([-\d.]+)", bar.get("d"))[1])


def test_every_bar_says_class_neighbours_number_and_interval():
    said = {bar.get("aria-label") for bar in marks(bars([ALL, OTHERS]), "bar")}
    assert len(said) == 6
    assert "ER, all other cells: 20.0 [10.0, 30.0] %" in said
    assert 'a "b" <c>, other images only: 0.0 [0.0, 1.0] %' in said


def test_bars_are_as_long_as_their_recalls_and_ordered_by_the_first_result():
    found = sorted(marks(bars([ALL, OTHERS]), "bar"), key=height_of)
    assert [bar.get("aria-label").split(":")[0] for bar in found] == [
        f"{c}, {r.neighbours}" for c in ("Golgi", 'a "b" <c>', "ER") for r in (ALL, OTHERS)
    ]
    lengths = [width_of(bar) for bar in found]
    expected = [80, 5, 50.5, 0, 20, 90]
    assert lengths == pytest.approx([v * lengths[0] / 80 for v in expected], abs=0.1)


def test_without_predictions_there_are_bars_but_no_lines():
    spec = bars([Recalls("all other cells", CLASSES, [20.0, 80.0, 50.5], None)])
    assert {bar.get("aria-label") for bar in marks(spec, "bar")} == {
        "ER, all other cells: 20.0 %",
        "Golgi, all other cells: 80.0 %",
        'a "b" <c>, all other cells: 50.5 %',
    }
    assert len(spec["layer"]) == 1
    mixed = bars([ALL, Recalls(OTHERS.neighbours, CLASSES, OTHERS.values, None)])
    assert len(marks(mixed, "bar")) == 6
    assert len([e for e in drawn(mixed) if e.tag.endswith("line") and e.get("stroke-width") == "1.5"]) == 3


POINTS = [
    Point(network, layer, neighbours, value, value - 5, value + 5)
    for network, start in (("pci", 50.0), ("random", 20.0))
    for layer, value in ((f"conv{i}", start + 4 * i) for i in (1, 2, 10))
    for neighbours in ("all other cells", "other images only")
]


def test_every_point_of_a_curve_says_what_it_is():
    found = marks(curves("loo-knn, k=11", ["conv1", "conv2", "conv10"], POINTS), "point")
    assert [p.get("aria-label") for p in found] == [
        f"{p.network} {p.layer}, {p.neighbours}: {p.value:.1f} [{p.value - 5:.1f}, {p.value + 5:.1f}] %" for p in POINTS
    ]


def test_layers_stand_in_the_networks_order_and_better_ones_higher():
    found = marks(curves("loo-knn", ["conv1", "conv2", "conv10"], POINTS), "point")
    place = {
        p.get("aria-label").split(":")[0]: [float(v) for v in re.findall(r"[-\d.]+", p.get("transform"))] for p in found
    }
    across = [place[f"pci conv{i}, all other cells"][0] for i in (1, 2, 10)]
    down = [place[f"pci conv{i}, all other cells"][1] for i in (1, 2, 10)]
    assert across == sorted(across)
    assert down == sorted(down, reverse=True)


def test_charts_have_no_colours_but_those_of_the_theme():
    charts = [bars([ALL, OTHERS]), curves("loo-knn", ["conv1", "conv2", "conv10"], POINTS), scatter(3, 3, per_shape=3)]
    assert not re.search(r"#[0-9a-fA-F]{3,6}\b", json.dumps(charts))
    assert {bar.get("fill") for bar in marks(charts[0], "bar")} == {"#aa0000", "#00aa00"}
    assert charts[1]["encoding"]["color"]["scale"]["range"] == [
        look.colour for look in line_looks([p.network for p in POINTS]).values()
    ]


def test_an_embedding_has_a_point_for_each_and_fades_all_but_the_class_in_focus():
    points = [{"x": 0.1 * i, "y": 0.1 * i, "code": code} for i, code in enumerate((0, 1, 1, 9))]
    seen = {"xs": [0, 1], "ys": [0, 1], "focus": 1, "first": 0, "end": 8, "grey": "#888888"}
    spec = scatter(len(points), 10, per_shape=8) | {
        "width": 300,
        "height": 200,
        "signals": [{"name": name, "value": value} for name, value in seen.items()],
        "data": [{"name": "points", "values": points}],
    }
    found = [e for e in drawn(spec) if e.tag.endswith("path") and e.get("opacity")]
    assert [e.get("opacity") for e in found] == ["0.06", "0.06", "0.9", "0.9"]  # the class in focus is drawn last
    assert [e.get("fill") for e in found] == ["#888888", "#888888", "#222222", "#222222"]
    assert len({found[n].get("d") for n in (0, 2, 3)}) == 1
    assert found[1].get("d") != found[0].get("d")  # from the ninth class on another symbol
