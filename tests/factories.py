"""Small synthetic things that many tests need: cells, features, files of features, and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pci_bench.data.cells import Cells, Channel, DatasetMeta, validated_obs
from pci_bench.runs.results import Result

YEAST = (Channel("GFP", "protein"), Channel("RFP", "marker"))
FEATURE_FILES = (".h5ad", ".parquet", ".csv", ".npz")


def make_cells(
    n: int = 20,
    shape: tuple[int, int] = (16, 16),
    channels: tuple[Channel, ...] = YEAST,
    *,
    crops: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    seed: int = 0,
    name: str = "planted",
    **columns: Any,
) -> Cells:
    """Return cells in memory: random crops, or the given ones, with these columns of obs."""
    if crops is None:
        crops = np.random.default_rng(seed).random((n, len(channels), *shape), dtype=np.float32)
    obs = {"cell": [f"cell{i}" for i in range(len(crops))], "image": [f"image{i % 3}" for i in range(len(crops))]}
    obs = validated_obs(pd.DataFrame(obs).assign(**columns), name)
    meta = DatasetMeta(name, "1", "Synthetic cells", confounder="image")
    return Cells(obs, channels, meta, f"{name}-{seed}-{crops.shape}", crops, masks=masks)


def with_pixels(cells: Cells, digest: str, crops: np.ndarray | None = None, masks: np.ndarray | None = None) -> Cells:
    """Return cells with other crops, or with masks, and a hash of their own."""
    crops = cells.crops(slice(None), rescale="raw") if crops is None else crops
    return Cells(cells.obs, cells.channels, cells.meta, digest, crops, masks=masks)


def make_features(values: ArrayLike, provenance: Mapping[str, Any] | None = None, **columns: Any) -> anndata.AnnData:
    """Return features as `extract` does: a row per cell, with these columns of obs; None leaves one out."""
    obs = pd.DataFrame({"cell": [f"cell{i}" for i in range(len(np.asarray(values)))]}).assign(**columns)
    names = obs["cell"] if columns.get("cell", "") is not None else [f"cell{i}" for i in range(len(obs))]
    obs = obs[[name for name in obs if columns.get(name, "") is not None]].set_axis(np.asarray(names, str), axis=0)
    uns = {} if provenance is None else {"pci_bench": dict(provenance)}
    return anndata.AnnData(np.asarray(values, np.float32), obs=obs, uns=uns)


def write_features(
    path: Path, values: np.ndarray, cells: Sequence[Any], names: Sequence[str] = ("a", "b"), **metadata: Any
) -> Path:
    """Write features as the kind of file that the name says; metadata are further columns of a table."""
    if path.suffix == ".h5ad":
        index = pd.Index(cells, dtype=object)
        anndata.AnnData(values, obs=pd.DataFrame(index=index), var=pd.DataFrame(index=[*names])).write_h5ad(path)
    elif path.suffix == ".npz":
        np.savez(path, X=values, cell=np.asarray(cells), names=np.array([*names]))
    else:
        table = pd.DataFrame(values, columns=[*names]).assign(Metadata_cell=cells, **metadata)
        table.to_parquet(path) if path.suffix == ".parquet" else table.to_csv(path, index=False)
    return path


def result_content(**sections: Any) -> dict[str, Any]:
    """Return a result as its file holds it; dataset, features and evaluator are merged, other sections replaced."""
    content: dict[str, Any] = {
        "schema": 1,
        "benchmark": "yeast-knn",
        "dataset": {"name": "planted", "version": "1", "sha256": "abc", "n_cells": 1000, "classes": {}},
        "features": {"name": "intensity", "weights": None, "version": "1", "weights_sha256": None}
        | {"dim": 8, "precision": "float32"},
        "evaluator": {"name": "loo-knn", "version": "1", "params": {}},
        "metrics": {},
        "intervals": {},
        "details": {},
        "run": {},
    }
    merged = {name: content[name] | sections[name] for name in ("dataset", "features", "evaluator") if name in sections}
    return content | sections | merged


def make_result(
    predictions: pd.DataFrame | None = None, tables: dict[str, pd.DataFrame] | None = None, **sections: Any
) -> Result:
    """Return a result with the sections of :func:`result_content`."""
    return Result.model_validate(result_content(**sections)).with_tables(predictions, tables)
