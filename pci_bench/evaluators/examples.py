"""Example crops as a table, so that a figure can be drawn again from a result's files alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd


def as_table(planes: list[np.ndarray], described: list[dict[str, Any]]) -> pd.DataFrame:
    """Return a table with a row per row of pixels: what describes its plane, ``row``, and the values 0 … 255.

    Parameters
    ----------
    planes
        Images (rows, columns) in [0, 1], all of one width; clipped.
    described
        One dict for each plane.
    """
    import pandas as pd

    frames = []
    for plane, words in zip(planes, described, strict=True):
        pixels = pd.DataFrame(np.rint(255 * np.clip(plane, 0, 1)).astype(int)).rename(columns=str)
        frames.append(pd.concat([pd.DataFrame([words] * len(pixels)), pixels.rename_axis("row").reset_index()], axis=1))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def from_table(table: pd.DataFrame, key: list[str]) -> dict[tuple[Any, ...], np.ndarray]:
    """Return the planes (rows, columns) in [0, 1] of a table that :func:`as_table` made, by the values of `key`."""
    pixels = sorted((c for c in table.columns if str(c).isdigit()), key=int)
    return {
        words if isinstance(words, tuple) else (words,): rows.sort_values("row")[pixels].to_numpy(float) / 255
        for words, rows in table.groupby(key, sort=False)
    }
