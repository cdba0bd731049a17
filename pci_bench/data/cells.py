"""Cells: single-cell crops, read when they are needed, and a table with one row per cell."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from pci_bench.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Rescale = Literal["raw", "minmax"]

OBS_COLUMNS = ("cell", "image", "field", "protein", "label", "labels", "cell_line", "plate", "split", "y", "x")
PART = " (part)"  # the end of a dataset's version where its cells are a part of all
PER_IMAGE_COLUMNS = ("protein", "cell_line", "plate")


@dataclass(frozen=True)
class Channel:
    """One channel of a crop.

    Parameters
    ----------
    name
        The stain or fluorophore: ``"GFP"``.
    role
        ``"protein"`` varies from image to image; ``"marker"`` shows the same structure in all of them.
    floor
        Where not 0, raw values from `floor` to 1 are stretched to [0, 1] and clipped, in place of min–max: the authors' code
        for human markers (0.05). The paper reads differently: min–max, then values under 0.05 to 0.

    Examples
    --------
    >>> Channel("RFP", "marker").role
    'marker'
    """

    name: str
    role: Literal["protein", "marker"]
    floor: float = 0.0


@dataclass(frozen=True)
class DatasetMeta:
    """What is known about a dataset before a pixel is read.

    Parameters
    ----------
    name, version
        A corrected dataset is a new name or a new version; results carry both. Where only a part of the cells was fetched, the
        version says which: ``"release 18, 24 genes (part)"``.
    title, reference, licence
        One sentence, a citation, and the terms of use.
    confounder
        The obs column of whatever cells share for reasons other than biology (field, image, plate), or None.
    training
        The unlabelled screen that networks for this dataset were trained on.
    label
        What the labels are, as a noun: ``"localization"``.
    merged
        Finer classes that its labels do not tell apart, by name: ``{"SPINDLEPOLE": "SPINDLE"}``.
    ontology
        Where an ontology and annotations of the proteins with its terms lie, as ``package:stem`` of a ``.obo`` and a ``.gaf``
        file, or the name of a source that is fetched (``go-human``); empty where the dataset brings none.
    simulated_masks
        Whether its masks are those that a simulation drew the cells from: truth that no real dataset has. Features that need
        masks are then given a segmenter's, but for those that ask for the truth.
    paper
        What the paper counts of it, by what is counted: ``{"cells": 30889, "classes": 17}``; empty where it is not the paper's.
    variant_of
        The dataset that it is another copy of, in other files: nothing on it is a reproduction. Empty elsewhere.
    levels
        The obs columns by which a comparison is made stricter, the loosest first: ``("cell", "field", "plate", "cell_line")``.
        Several joined by ``+`` are one level. Where none are declared, the well-known columns that divide the labelled cells are
        the levels (:func:`pci_bench.data.observations.levels_of`).

    Examples
    --------
    >>> DatasetMeta("my-screen", "1", "Twelve plates of my screen", confounder="plate").label
    'label'
    """

    name: str
    version: str
    title: str
    reference: str = ""
    licence: str = ""
    confounder: str | None = None
    training: str | None = None
    label: str = "label"
    merged: Mapping[str, str] = field(default_factory=dict)
    ontology: str = ""
    simulated_masks: bool = False
    paper: Mapping[str, int] = field(default_factory=dict)
    variant_of: str = ""
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take levels as lists too, as JSON and TOML hold them."""
        object.__setattr__(self, "levels", tuple(self.levels))

    @property
    def is_part(self) -> bool:
        """Whether the cells are a part of all that the dataset has, so that no number is the paper's."""
        return self.version.endswith(PART)


class CropSource(Protocol):
    """Anything that yields raw crops by position: a Zarr array, or an array in memory."""

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102 - a protocol's attribute

    @property
    def dtype(self) -> np.dtype: ...  # noqa: D102 - a protocol's attribute

    def __getitem__(self, index: Any) -> Any: ...


@dataclass(frozen=True)
class Profiles:
    """Measurements that a dataset brings in place of crops.

    Parameters
    ----------
    names
        One name per column.
    source
        Finite values (n, d) float32 by position: a Zarr array, or an array in memory.
    """

    names: tuple[str, ...]
    source: CropSource


class Cells:
    """A lazy view on crops, and one obs row per cell. Slicing returns Cells.

    A dataset of profiles has measurements in place of crops: no channel, and rows that may be wells, treatments or proteins.

    Parameters
    ----------
    obs
        One row per cell, indexed 0 … n−1, with at least ``cell`` (unique) and ``image``.
    channels
        One per channel of the crops.
    meta
        The dataset.
    sha256
        Hash of pixels, channels and obs.
    source
        Raw crops (n, channels, rows, columns), uint8, uint16 or float32.
    masks
        Labels of the segmented cells of each crop (n, rows, columns), or None.
    notes
        What the user should know of the data, as sentences.
    profiles
        Measurements, of a dataset that has these and no crops; `source` is then (n, 0, 0, 0).

    Examples
    --------
    >>> import pandas as pd
    >>> obs = pd.DataFrame({"cell": ["a", "b"], "image": ["1", "1"]})
    >>> crops = np.arange(2 * 2 * 4 * 4, dtype=np.uint8).reshape(2, 2, 4, 4)
    >>> channels = (Channel("GFP", "protein"), Channel("RFP", "marker"))
    >>> cells = Cells(obs, channels, DatasetMeta("two", "1", "Two cells"), "any text that is of these pixels alone", crops)
    >>> cells
    Cells(two: 2 cells of 4×4 px; GFP (protein), RFP (marker))
    >>> cells[:1].crops(slice(None)).max()
    np.float32(1.0)
    """

    def __init__(
        self,
        obs: pd.DataFrame,
        channels: tuple[Channel, ...],
        meta: DatasetMeta,
        sha256: str,
        source: CropSource,
        *,
        masks: CropSource | None = None,
        notes: tuple[str, ...] = (),
        positions: np.ndarray | None = None,
        profiles: Profiles | None = None,
    ):
        self.obs = obs
        self.channels = channels
        self.meta = meta
        self.sha256 = sha256
        self.notes = notes
        self._source = source
        self._masks = masks
        self._profiles = profiles
        self._positions = np.arange(len(obs)) if positions is None else positions
        self.part_of: tuple[str, np.ndarray] | None = (
            None  # the hash of all cells, and the positions of these among them
        )

    def __len__(self) -> int:
        return len(self.obs)

    def __repr__(self) -> str:
        if self._profiles is not None:
            return f"Cells({self.meta.name}: {len(self):,} profiles of {len(self._profiles.names):,} measurements)"
        names = ", ".join(f"{c.name} ({c.role})" for c in self.channels)
        return f"Cells({self.meta.name}: {len(self):,} cells of {self.crop_shape[0]}×{self.crop_shape[1]} px; {names})"

    def _repr_html_(self) -> str:
        from pci_bench.data.pictures import cells_html

        return cells_html(self)

    @property
    def crop_shape(self) -> tuple[int, int]:
        """Rows and columns of every crop."""
        return (int(self._source.shape[2]), int(self._source.shape[3]))

    @property
    def dtype(self) -> np.dtype:
        """The type in which crops are stored: uint8, uint16 or float32."""
        return np.dtype(self._source.dtype)

    @property
    def has_crops(self) -> bool:
        """Whether there are crops, or else measured profiles alone."""
        return self._profiles is None

    @property
    def has_masks(self) -> bool:
        """Whether segmentation masks are stored beside the crops."""
        return self._masks is not None

    def __getitem__(self, index: slice | np.ndarray | list[int]) -> Cells:
        """Return the cells at `index`: a slice, positions, or a boolean mask. The hash follows the selection."""
        positions = np.arange(len(self))[index]
        if positions.ndim != 1:
            raise TypeError("Cells are indexed by a slice, a list of positions or a boolean mask.")
        if np.array_equal(positions, np.arange(len(self))):
            return self
        sha256 = hashlib.sha256(self.sha256.encode() + positions.astype("<i8").tobytes()).hexdigest()
        part = Cells(
            self.obs.iloc[positions].reset_index(drop=True),
            self.channels,
            self.meta,
            sha256,
            self._source,
            masks=self._masks,
            notes=self.notes,
            positions=self._positions[positions],
            profiles=self._profiles,
        )
        whole, among = (self.sha256, np.arange(len(self))) if self.part_of is None else self.part_of
        part.part_of = whole, among[positions]
        return part

    def with_obs(self, obs: pd.DataFrame, notes: tuple[str, ...] = ()) -> Cells:
        """Return the same crops with another table of the same cells in the same order, and further notes.

        The hash stays, because features are the same.
        """
        if not np.array_equal(obs["cell"].astype(str), self.obs["cell"].astype(str)):
            raise ValueError("The table is of other cells, or in another order.")
        described = copy.copy(self)
        described.obs, described.notes = obs, (*self.notes, *notes)
        return described

    def with_meta(self, meta: DatasetMeta) -> Cells:
        """Return the same cells as another description has them. The hash stays, because features are the same."""
        described = copy.copy(self)
        described.meta = meta
        return described

    def with_masks(self, masks: np.ndarray, sha256: str) -> Cells:
        """Return the same cells with labels of segmented cells (n, rows, columns) beside their crops, under another hash."""
        rows = np.zeros((int(self._source.shape[0]), *self.crop_shape), np.uint16)
        rows[self._positions] = masks
        described = copy.copy(self)
        described.sha256, described._masks, described.part_of = sha256, rows, None
        return described

    def stored(self, index: slice) -> np.ndarray:
        """Return crops as they are stored: uint8, uint16 or float32 (b, channels, rows, columns)."""
        return _rows(self._source, self._positions[index])

    def stored_masks(self, index: slice) -> np.ndarray | None:
        """Return segmentation labels as they are stored, uint16 (b, rows, columns), or None where there are none."""
        return None if self._masks is None else _rows(self._masks, self._positions[index])

    def masks(self, index: slice | np.ndarray | list[int]) -> np.ndarray:
        """Return segmentation labels as they are stored, uint16 (b, rows, columns): 0 background, 1 the cell in the middle.

        Parameters
        ----------
        index
            A slice, positions or a boolean mask.

        Raises
        ------
        UserError
            Where there are none.
        """
        if self._masks is None:
            raise UserError(f"The dataset '{self.meta.name}' has no segmentation masks; these features need them.")
        positions = self._positions[index]
        order = np.argsort(positions, kind="stable")
        labels = np.empty((len(positions), *self.crop_shape), self._masks.dtype)
        labels[order] = _rows(self._masks, positions[order])
        return labels

    def profiles(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the measurements (n, d) float32 of a dataset of profiles, and the columns' names.

        Raises
        ------
        UserError
            Where the dataset has crops.

        Examples
        --------
        >>> import pandas as pd
        >>> obs = pd.DataFrame({"cell": ["a", "b"], "image": ["1", "2"]})
        >>> measured = Profiles(("area", "texture"), np.array([[1, 2], [3, 4]], np.float32))
        >>> nothing = np.empty((2, 0, 0, 0), np.float32)
        >>> wells = Cells(obs, (), DatasetMeta("wells", "1", "Two wells"), "any text", nothing, profiles=measured)
        >>> wells, wells[1:].profiles()[0].tolist()
        (Cells(wells: 2 profiles of 2 measurements), [[3.0, 4.0]])
        """
        if self._profiles is None:
            raise UserError(f"The dataset '{self.meta.name}' has crops and no measured profiles.")
        order = np.argsort(self._positions, kind="stable")
        values = np.empty((len(self), len(self._profiles.names)), np.float32)
        values[order] = _rows(self._profiles.source, self._positions[order])
        return values, self._profiles.names

    def crops(
        self, index: slice | np.ndarray | list[int], *, rescale: Rescale = "minmax", masks: bool = False
    ) -> np.ndarray:
        """Return crops as float32 (b, channels, rows, columns).

        Parameters
        ----------
        index
            A slice, positions or a boolean mask.
        rescale
            ``"raw"``: integers divided by their type's maximum, floats as they are. ``"minmax"``: each crop and channel
            to [0, 1] by its minimum and maximum, or by the channel's floor where it has one (the paper's Methods,
            "Datasets, Preprocessing, and Training").
        masks
            Append the segmentation labels as one more channel.

        Raises
        ------
        UserError
            Where the dataset has profiles and no crops, or where masks are asked for and it has none.
        """
        if not self.has_crops:
            raise UserError(f"The dataset '{self.meta.name}' has measured profiles and no crops.")
        positions = self._positions[index]
        order = np.argsort(positions, kind="stable")
        crops = np.empty((len(positions), *self._source.shape[1:]), np.float32)
        crops[order] = rescaled(_rows(self._source, positions[order]), self.channels, rescale)
        return np.concatenate([crops, self.masks(index)[:, None]], axis=1, dtype=np.float32) if masks else crops


def _rows(source: CropSource, positions: np.ndarray) -> np.ndarray:
    """Read sorted positions, as one slice where they are consecutive."""
    if len(positions) == 0:
        return np.asarray(source[0:0])
    if positions[-1] - positions[0] == len(positions) - 1 and len(np.unique(positions)) == len(positions):
        return np.asarray(source[int(positions[0]) : int(positions[-1]) + 1])
    if hasattr(source, "oindex"):
        return np.asarray(source.oindex[positions])
    return np.asarray(source[positions])


def as_raw(images: np.ndarray) -> np.ndarray:
    """Return images of any shape as float32, integers divided by their type's maximum.

    >>> as_raw(np.array([0, 255], np.uint8))
    array([0., 1.], dtype=float32)
    """
    if images.dtype.kind == "u":
        scaled: np.ndarray = images.astype(np.float32) / np.float32(np.iinfo(images.dtype).max)
        return scaled
    return images.astype(np.float32, copy=False)


def rescaled(crops: np.ndarray, channels: tuple[Channel, ...], rescale: Rescale) -> np.ndarray:
    """Return crops as float32, rescaled; a constant crop becomes zeros, never NaN.

    Parameters
    ----------
    crops
        (b, channels, rows, columns), uint8, uint16 or float32.
    channels
        One per channel; those with a floor are stretched from it to 1 and clipped.
    rescale
        ``"raw"`` or ``"minmax"``.
    """
    crops = as_raw(crops)
    if rescale == "raw":
        return crops
    if rescale != "minmax":
        raise UserError(f"There is no rescaling named '{rescale}'. Use 'raw' or 'minmax'.")
    low = crops.min(axis=(2, 3), keepdims=True)
    span = crops.max(axis=(2, 3), keepdims=True) - low
    result: np.ndarray = (crops - low) / np.where(span > 0, span, 1)
    for position, channel in enumerate(channels):
        if channel.floor:
            stretched = (crops[:, position] - np.float32(channel.floor)) / np.float32(1 - channel.floor)
            result[:, position] = np.where(span[:, position] > 0, np.clip(stretched, 0, 1), 0)
    return result


def as_float32(values: np.ndarray, what: str, *, exact_integers: bool = False) -> np.ndarray:
    """Return numbers as float32, which rounds them and changes nothing else.

    Parameters
    ----------
    values
        Numbers or truth values, of any shape.
    what
        Whose they are, for the message.
    exact_integers
        Whether integers must not be rounded either, which happens above 2²⁴.

    Raises
    ------
    UserError
        For complex numbers, and for finite ones that are infinite as float32.

    >>> as_float32(np.array([1, 2]), "this list")
    array([1., 2.], dtype=float32)
    """
    if values.dtype.kind == "c":
        raise UserError(
            f"{what} holds complex numbers ({values.dtype}), whose imaginary parts would be lost. Save one real number for each."
        )
    with np.errstate(over="ignore"):
        result = values.astype(np.float32, copy=False)
    if (
        values.dtype.kind == "f"
        and values.dtype.itemsize > 4
        and (lost := np.isinf(result) & np.isfinite(values)).any()
    ):
        raise UserError(
            f"{what} holds {values[lost].flat[0]:g}, which is more than float32 can hold ({np.finfo(np.float32).max:.2g}). "
            "Scale the values down."
        )
    if exact_integers and values.dtype.kind in "iu" and values.size:
        extreme = max(int(values.max()), -int(values.min()))
        if extreme > 2**24:
            raise UserError(
                f"{what} holds {extreme} as {values.dtype}; float32 rounds integers above 2²⁴. Save it as uint16, or scale it down."
            )
    return result


def halved(crops: np.ndarray) -> np.ndarray:
    """Return crops at half the size: the mean of each 2×2 pixels, which is bilinear resizing without anti-aliasing.

    (…, rows, columns) with even rows and columns -> (…, rows / 2, columns / 2). Section 1 of the authors' preprocessing:
    128×128 human crops become 64×64.
    """
    *_, rows, columns = crops.shape
    blocks = crops.reshape(*crops.shape[:-2], rows // 2, 2, columns // 2, 2)
    means: np.ndarray = blocks.mean(axis=(-3, -1), dtype=np.float32)
    return means


def validated_obs(obs: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Return obs in the standard column order, checked.

    Raises
    ------
    UserError
        Where ``cell`` or ``image`` is missing, a cell is named twice, or a per-image column varies within an image.
    """
    import pandas as pd

    for column in ("cell", "image"):
        if column not in obs:
            raise UserError(
                f"The table of cells of '{dataset}' has no column '{column}'. It needs at least 'cell' and 'image'."
            )
    obs = obs.reset_index(drop=True)
    obs["cell"] = obs["cell"].astype(str)
    if (twice := obs["cell"][obs["cell"].duplicated()]).size:
        raise UserError(
            f"{twice.nunique():,} cells of '{dataset}' are named twice, for example '{twice.iloc[0]}'. Names must be unique."
        )
    for column in PER_IMAGE_COLUMNS:
        if column in obs:
            spread = obs.dropna(subset=["image"]).groupby("image", observed=True)[column].nunique(dropna=False)
            if (spread > 1).any():
                image = spread.index[spread > 1][0]
                values = obs.loc[obs["image"] == image, column].unique()[:3]
                raise UserError(
                    f"The column '{column}' of '{dataset}' must be the same for all cells of an image, but image '{image}' "
                    f"has {', '.join(map(repr, map(str, values)))}."
                )
    if "label" in obs:
        labels = obs["label"].astype("string")
        obs["label"] = pd.Categorical(labels, categories=sorted(labels.dropna().unique()))
    first = [c for c in OBS_COLUMNS if c in obs]
    return obs[first + [c for c in obs.columns if c not in first]]


def subsample(cells: Cells, limit: int, seed: int, *, stratify: bool = True) -> Cells:
    """Return a seeded subset of about `limit` cells, each label kept in proportion (at least two cells of each).

    The order of the cells is kept. Without labels, or where they must not be read (`stratify` False), the subset is drawn
    from all cells alike.
    """
    if limit >= len(cells):
        return cells
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(cells))
    if not stratify or "label" not in cells.obs or cells.obs["label"].isna().all():
        return cells[np.sort(shuffled[:limit])]
    codes = cells.obs["label"].cat.codes.to_numpy()[shuffled]
    chosen = []
    for code in np.unique(codes):
        members = shuffled[codes == code]
        chosen.append(members[: max(2, round(limit * len(members) / len(cells)))])
    subset = cells[np.sort(np.concatenate(chosen))]
    if len(subset) == limit:
        return subset
    note = (
        f"The subset of --limit {limit} has {len(subset):,} cells of {len(cells):,}: each of the {len(chosen)} labels is kept in "
        "proportion, with at least two cells."
    )
    return subset.with_obs(subset.obs, (note,))
