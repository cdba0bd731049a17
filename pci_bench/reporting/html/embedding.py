"""UMAP coordinates, packed for the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.data.observations import obs_strings
from pci_bench.reporting.headline import first_features
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.charts import scatter
from pci_bench.reporting.palette import COLOURS, GREY, ON_DARK, SHAPES, class_looks, in_groups
from pci_bench.runs.results import Result, parameters

if TYPE_CHECKING:
    import pandas as pd

NO_CELL = 65535


def embeddings(results: Sequence[Result]) -> list[Result]:
    """Return the results whose rows have coordinates."""
    return [r for r in results if r.predictions is not None and {"umap_1", "umap_2"} <= set(r.predictions)]


def without_coordinates(results: Sequence[Result]) -> list[str]:
    """Return which UMAPs have lost their table of coordinates."""
    named = [r for r in results if r.evaluator.name.endswith("umap")]
    return [f"{r.features.full_name}, {r.evaluator.name}" for r in named if r not in embeddings([r])]


def embedding_views(
    results: Sequence[Result], dataset: int, shown_cells: Shown, cell_of_protein: dict[str, str]
) -> list[dict[str, Any]]:
    """Return every UMAP: coordinates as 16-bit numbers, each point's label, and its cell where there is a crop of it.

    Parameters
    ----------
    results
        Of one dataset.
    dataset, shown_cells
        Which cells have crops.
    cell_of_protein
        A cell with a crop for every protein, for UMAPs of proteins.
    """
    first = first_features(results)
    ordered = sorted(
        embeddings(results), key=lambda r: (r.evaluator.name != "umap", r.features.name != first.get(r.benchmark))
    )
    return [
        _view(r, r.predictions, dataset, shown_cells, cell_of_protein) for r in ordered if r.predictions is not None
    ]


def _view(
    result: Result, table: pd.DataFrame, dataset: int, shown_cells: Shown, cell_of_protein: dict[str, str]
) -> dict[str, Any]:
    what = "cell" if "cell" in table else str(table.columns[0])
    names = table[what].astype(str).to_numpy()
    labels = obs_strings(table, "label")
    looks = class_looks(labels)
    named = list(looks)
    groups = in_groups(named)
    has_others = bool((~np.isin(labels, named)).any())
    codes = {label: number for number, label in enumerate(named)}
    order = np.random.default_rng(0).permutation(len(table))  # so that no class hides behind another
    cells = [name if what == "cell" else cell_of_protein.get(name, "") for name in names]
    positions = [
        shown_cells.index(dataset, cells[i], labels[i] if what == "cell" else "")
        if shown_cells.has_tile(dataset, cells[i])
        else NO_CELL
        for i in order
    ]
    points = table[["umap_1", "umap_2"]].to_numpy(float)
    low, span = points.min(axis=0), _span(points)
    trust = result.metrics.get("trustworthiness")
    n_crops = sum(p != NO_CELL for p in positions)
    legend_labels = [*named, *(["others"] if has_others else [])]
    title = f"{result.features.full_name}, {result.evaluator.name}, {parameters(result)}"
    return {
        "title": title,
        "what": what,
        "name": f"UMAP of {len(table)} {what}s: {title}",
        "said": f"{len(table):,} {what}s, of which {n_crops:,} have a crop here. Near points have similar features; distances between groups and the "
        "groups' sizes mean nothing."
        + ("" if trust is None else f" Trustworthiness of its neighbourhoods: {trust:.3f}."),
        "chart": scatter(len(table), len(legend_labels), per_shape=len(groups[0]) if groups else 1),
        "labels": legend_labels,
        "symbols": [
            *(SHAPES[look.shape].letter for look in looks.values()),
            *([SHAPES[0].letter] if has_others else []),
        ],
        "light": [*(look.on(COLOURS) for look in looks.values()), *([GREY] if has_others else [])],
        "dark": [*(look.on(ON_DARK) for look in looks.values()), *([GREY] if has_others else [])],
        "groups": [[f"{g[0]} to {g[-1]}", named.index(g[0]), named.index(g[0]) + len(g)] for g in groups],
        "low": [float(v) for v in low],
        "span": span,
        "xy": _packed(np.rint(65535 * (points[order] - low) / span).ravel()),
        "codes": _packed(np.array([codes.get(labels[i], len(named)) for i in order])),
        "cells": _packed(np.array(positions)),
        "names": [] if what == "cell" else [str(names[i]) for i in order],
    }


def _span(points: np.ndarray) -> float:
    """Return the larger extent of points (n, 2): one scale for both axes, so that shapes stay as they are."""
    return float((points.max(axis=0) - points.min(axis=0)).max()) or 1.0


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<u2").tobytes()).decode()
