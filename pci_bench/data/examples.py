"""Example cells as tables, so that figures and reports can show them again from a result's files alone."""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

    from pci_bench.data.cells import Cells

PICTURED = 10  # images
CELLS_OF_IMAGE = 4
PROTEINS_OF_CLUSTER = 3
NEIGHBOURS = "example-neighbours"  # the name of the table of example cells and their nearest neighbours


def shows_single_cells(name: str, table: pd.DataFrame) -> bool:
    """Return whether a result's table is of examples: its name begins with ``example``, or it has a column ``pixels``.

    Which cells they are, and the last bit of their pixels, may differ between machines.
    """
    return name.startswith("example") or "pixels" in table


def as_table(planes: list[np.ndarray], described: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a table with a row per plane: what describes it, ``rows``, ``columns``, and ``pixels``.

    Pixels are the values 0 … 255 as bytes, row by row, compressed (zlib) and in base64.

    Parameters
    ----------
    planes
        Images (rows, columns) in [0, 1]; clipped.
    described
        One dict for each plane.
    """
    import pandas as pd

    rows = []
    for plane, words in zip(planes, described, strict=True):
        values = np.rint(255 * np.clip(plane, 0, 1)).astype(np.uint8)
        pixels = base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")
        rows.append({**words, "rows": values.shape[0], "columns": values.shape[1], "pixels": pixels})
    return pd.DataFrame(rows)


def from_table(table: pd.DataFrame, key: list[str]) -> dict[tuple[Any, ...], np.ndarray]:
    """Return the planes (rows, columns) in [0, 1] of a table that :func:`as_table` made, by the values of `key`."""
    planes = {}
    for row in table.to_dict("records"):
        values = np.frombuffer(zlib.decompress(base64.b64decode(row["pixels"])), np.uint8)
        planes[tuple(row[k] for k in key)] = values.reshape(int(row["rows"]), int(row["columns"])) / 255
    return planes


def representatives(features: np.ndarray, members: np.ndarray, n: int) -> np.ndarray:
    """Return up to n of the members (positions) that are nearest to the members' mean, nearest first."""
    distances = ((features[members] - features[members].mean(axis=0)) ** 2).sum(axis=1)
    return members[np.argsort(distances, kind="stable")[:n]]


def of_clusters(
    cells: Cells, values: np.ndarray, protein: np.ndarray, names: np.ndarray, means: np.ndarray, clusters: np.ndarray
) -> pd.DataFrame:
    """Return the protein's crop of one cell of each of three proteins of every cluster: those nearest the cluster's mean.

    Parameters
    ----------
    cells
        All cells, with their names in the obs column ``cell``.
    values
        (n, d) their features; the cell nearest its protein's mean is taken.
    protein
        (n,) str: each cell's protein.
    names, means, clusters
        (proteins,) str, (proteins, d) float and (proteins,) str, "" for proteins of no cluster.

    Returns
    -------
    pandas.DataFrame
        As :func:`as_table` makes it, by ``cluster`` and ``place``; with each ``protein`` and ``cell``.
    """
    cell = cells.obs["cell"].astype(str).to_numpy()
    channel = next(i for i, c in enumerate(cells.channels) if c.role == "protein")
    planes: list[np.ndarray] = []
    descriptions: list[dict[str, Any]] = []
    for cluster in np.unique(clusters[clusters != ""]):
        chosen = representatives(means, np.flatnonzero(clusters == cluster), PROTEINS_OF_CLUSTER)
        for place, name in enumerate(names[chosen]):
            members = np.flatnonzero(protein == name)
            members = members[np.argsort(cell[members], kind="stable")]
            (nearest,) = representatives(values, members, 1)
            planes.append(cells.crops([int(nearest)])[0, channel])
            descriptions.append({"cluster": str(cluster), "place": place, "protein": str(name), "cell": cell[nearest]})
    return as_table(planes, descriptions)


def spread_over_scores(cells: Cells, table: pd.DataFrame, images: list[str]) -> pd.DataFrame:
    """Return the protein's crops of each image's cells from the lowest score to the highest, evenly spaced in rank.

    Parameters
    ----------
    cells
        All cells, with their names in the obs column ``cell``.
    table
        A row per scored cell: cell, image, score.
    images
        The images wanted; the first ten are pictured.

    Returns
    -------
    pandas.DataFrame
        As :func:`as_table` makes it, by ``image`` and ``place``; with each ``cell`` and its ``score``.
    """
    position = {name: i for i, name in enumerate(cells.obs["cell"].astype(str))}
    channel = next(i for i, c in enumerate(cells.channels) if c.role == "protein")
    planes: list[np.ndarray] = []
    descriptions: list[dict[str, Any]] = []
    for image in images[:PICTURED]:
        image_cells = table[table["image"] == image].sort_values(["score", "cell"], kind="stable")
        ranks = np.unique(np.rint(np.linspace(0, len(image_cells) - 1, CELLS_OF_IMAGE)).astype(int))
        chosen = image_cells.iloc[ranks]
        crops = cells.crops(np.array([position[name] for name in chosen["cell"]]))[:, channel]
        for place, (crop, cell, score) in enumerate(zip(crops, chosen["cell"], chosen["score"], strict=True)):
            planes.append(crop)
            descriptions.append({"image": image, "place": place, "cell": cell, "score": float(score)})
    return as_table(planes, descriptions)
