"""Curves of a metric over the layers of networks."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pci_bench.api.registry import natural_key
from pci_bench.reporting.figures.classification import LAYER
from pci_bench.reporting.html.charts import DASHED, Point, curves, lines_of
from pci_bench.reporting.html.classes import METRIC, classified, featured
from pci_bench.reporting.html.words import exclusion, setting

if TYPE_CHECKING:
    from pci_bench.runs.results import Result


def layer_views(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return curves of networks with at least three layers, one view per setting and set of layers."""
    first = [setting(r) for r in featured(classified(results))]
    settings = dict.fromkeys([*first, *(setting(r) for r in classified(results))])
    views = []
    for title in settings:
        networks: dict[str, dict[str, list[Result]]] = {}
        for result in results:
            matched = LAYER.fullmatch(result.features.name)
            if matched and METRIC in result.metrics and setting(result) == title:
                weights = f"@{result.features.weights}" if result.features.weights else ""
                networks.setdefault(f"{matched['network']}{weights}", {}).setdefault(matched["layer"], []).append(
                    result
                )
        by_layers: dict[tuple[str, ...], list[str]] = {}
        for network, layers in networks.items():
            if len(layers) >= 3:
                by_layers.setdefault(tuple(sorted(layers, key=natural_key)), []).append(network)
        for layers_in_order, members in by_layers.items():
            suffix = f" ({members[0].partition('@')[0]}…)" if len(by_layers) > 1 else ""
            points = [
                _point(result, network, layer)
                for network in sorted(members, key=natural_key)
                for layer in layers_in_order
                for result in networks[network][layer]
            ]
            views.append(_view(f"{title}{suffix}", layers_in_order, points))
    return views


def _point(result: Result, network: str, layer: str) -> Point:
    value = result.metrics[METRIC]
    low, high = result.intervals.get(METRIC, (value, value))
    return Point(network, layer, exclusion(result), *(round(100 * v, 1) for v in (value, low, high)))


def _view(title: str, layers: Sequence[str], points: Sequence[Point]) -> dict[str, Any]:
    """Return a chart, the symbol and name of each network, what dashes mean, and the same numbers as rows of a table."""
    neighbours = list(dict.fromkeys(p.neighbours for p in points))
    networks = list(dict.fromkeys(p.network for p in points))
    texts = {(p.network, p.neighbours, p.layer): p.text for p in reversed(points)}
    meaning = f"Neighbours: {neighbours[0]}"
    if len(neighbours) > 1:
        names = itertools.chain(DASHED, itertools.repeat("other"))
        meaning = "; ".join(f"{dashed} lines: {label}" for dashed, label in zip(names, neighbours, strict=False))
    return {
        "title": title,
        "chart": curves(title, layers, points),
        "networks": [[line.letter, line.colour, line.name] for line in lines_of(networks)],
        "said": f"Bands: 95 % interval. {meaning}.",
        "columns": ["network", "neighbours", *layers],
        "rows": [[n, x, *(texts.get((n, x, layer), "–") for layer in layers)] for n in networks for x in neighbours],
    }
