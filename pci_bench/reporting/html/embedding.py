"""UMAP coordinates, packed for the page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pci_bench.api.registry import natural_key
from pci_bench.data.observations import obs_strings
from pci_bench.reporting.headline import first_features
from pci_bench.reporting.html.cells import Shown
from pci_bench.reporting.html.charts import CLASS_SYMBOLS, COLOURS_OF_THEME, scatter
from pci_bench.runs.results import Result, parameters
from pci_bench.system.drawing import COLOURS, distinct_colours, mixed

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 24  # classes with a colour of their own; the rest share grey
NO_CELL = 65535
GREY = "#8a8a8a"


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
    kinds, counts = np.unique(labels[labels != ""], return_counts=True)
    named = sorted(map(str, kinds[np.argsort(-counts, kind="stable")][:LARGEST]), key=natural_key)
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
    light, dark = distinct_colours(len(named)), dark_colours(len(named))
    trust = result.metrics.get("trustworthiness")
    n_crops = sum(p != NO_CELL for p in positions)
    legend_labels = [*named, *(["others"] if has_others else [])]
    title = f"{result.features.full_name}, {result.evaluator.name}, {parameters(result)}"
    return {
        "title": title,
        "what": what,
        "name": f"UMAP of {len(table)} {what}s: {title}",
        "said": f"{len(table):,} {what}s, of which {n_crops:,} have a crop here. Distances are not to scale: a UMAP is a picture, not a "
        "measurement." + ("" if trust is None else f" Trustworthiness of its neighbourhoods: {trust:.3f}."),
        "chart": scatter(len(table), len(legend_labels)),
        "labels": legend_labels,
        "symbols": [CLASS_SYMBOLS[i // COLOURS_OF_THEME % len(CLASS_SYMBOLS)][1] for i in range(len(legend_labels))],
        "light": [*light, *([GREY] if has_others else [])],
        "dark": [*dark, *([GREY] if has_others else [])],
        "xy": _packed(_scaled(table[["umap_1", "umap_2"]].to_numpy(float)[order]).ravel()),
        "codes": _packed(np.array([codes.get(labels[i], len(named)) for i in order])),
        "cells": _packed(np.array(positions)),
        "names": [] if what == "cell" else [str(names[i]) for i in order],
    }


def _scaled(coordinates: np.ndarray) -> np.ndarray:
    """Return coordinates as whole numbers from 0 to 65,535, one scale for both axes, so that shapes stay as they are."""
    low = coordinates.min(axis=0)
    span = float((coordinates.max(axis=0) - low).max()) or 1.0
    whole: np.ndarray = np.rint(65535 * (coordinates - low) / span)
    return whole


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(values.astype("<u2").tobytes()).decode()


def dark_colours(n: int) -> list[str]:
    """Return n colours for a dark ground: the palette with white for black, then lighter, then a little darker."""
    palette = [mixed(c, 1, 0.15) for c in COLOURS[:-1]] + ["#ffffff"]
    shades = [*palette, *(mixed(c, 1, 0.55) for c in palette[:-1]), *(mixed(c, 0, 0.35) for c in palette)]
    return [shades[i % len(shades)] for i in range(n)]
