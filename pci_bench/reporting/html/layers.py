"""Curves of a metric over the layers of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pci_bench.api.registry import natural_key
from pci_bench.reporting.figures.classification import LAYER
from pci_bench.reporting.html.classes import classified, featured
from pci_bench.reporting.html.words import exclusion, setting

if TYPE_CHECKING:
    from pci_bench.runs.results import Result

METRIC = "balanced_accuracy"


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
            of = f" ({members[0].partition('@')[0]}…)" if len(by_layers) > 1 else ""
            views.append(
                {
                    "title": f"{title}{of}",
                    "layers": layers_in_order,
                    "points": [
                        _point(result, network, layer)
                        for network in sorted(members, key=natural_key)
                        for layer in layers_in_order
                        for result in networks[network][layer]
                    ],
                }
            )
    return views


def _point(result: Result, network: str, layer: str) -> dict[str, Any]:
    value = 100 * result.metrics[METRIC]
    low, high = (100 * v for v in result.intervals.get(METRIC, (result.metrics[METRIC],) * 2))
    return {
        "network": network,
        "layer": layer,
        "neighbours": exclusion(result),
        "value": round(value, 1),
        "low": round(low, 1),
        "high": round(high, 1),
    }
