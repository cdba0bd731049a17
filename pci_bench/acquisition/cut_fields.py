"""Cutting one field of view: reading its channels, finding its objects, and the crops around those that are kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from pci_bench.acquisition.centres import Centres
from pci_bench.acquisition.cutting import (
    HIDDEN,
    Objects,
    corners,
    drop_reasons,
    objects_of,
    own_masks,
    resized,
    resized_labels,
    windows,
)
from pci_bench.acquisition.fields import FieldOfView
from pci_bench.acquisition.images import read_plane
from pci_bench.acquisition.layout import Layout, Segment
from pci_bench.api.field_segmenter import FIELD_SEGMENTERS, segmenter_params
from pci_bench.api.segmenter import MOTHER
from pci_bench.data.cells import as_raw
from pci_bench.errors import UserError
from pci_bench.system.checksums import seal, unsealed
from pci_bench.system.files import atomic_file
from pci_bench.system.shortages import raise_shortage

LARGEST_NUMBER = 2**31 - 1  # of an object
SMALLEST_FIELD = 3  # rows and columns, that a Laplacian needs


@dataclass(frozen=True)
class CutField:
    """What was cut from one field of view.

    Parameters
    ----------
    channels
        The names of the channels that the field has, proteins first.
    crops
        (kept, channels, rows, columns), of the type that is stored.
    masks
        (kept, rows, columns) uint16: 1 the crop's own object, 2 its bud, 3, 4 … others; None where only centres are known.
    labels
        (rows, columns) of the field as it was segmented, or None.
    objects
        All objects, those that were dropped included.
    reasons
        (objects,) str, why each was dropped; "" where it is kept.
    means, focus
        Of each channel: the mean raw intensity, and the variance of its Laplacian over that of its pixels, which falls when
        an image is out of focus.
    """

    channels: tuple[str, ...]
    crops: np.ndarray
    masks: np.ndarray | None
    labels: np.ndarray | None
    objects: Objects
    reasons: np.ndarray
    means: np.ndarray
    focus: np.ndarray

    @property
    def kept(self) -> np.ndarray:
        """The positions of the objects that are kept, in the order of the crops."""
        return np.flatnonzero(self.reasons == "")


def cut_field(field: FieldOfView, layout: Layout, root: Path, centres: Centres | None = None) -> CutField:
    """Return the crops of one field of view.

    Parameters
    ----------
    field
        Its files.
    layout
        How they are read, segmented, cut and filtered.
    root
        The folder that the files' names start at.
    centres
        Of a table, where the layout names one in place of a segmenter.

    Raises
    ------
    UserError
        Where a file cannot be read, or channels or label image differ in size or type.
    """
    names = tuple(name for name in layout.order if name in field.files)
    images = read_channels(field, names, layout, root)
    factor = layout.crop.downscale
    shape = (images.shape[1] // factor, images.shape[2] // factor)
    if min(shape) < (layout.crop.size if layout.crop.edge == "drop" else SMALLEST_FIELD):
        raise UserError(
            f"The field '{field.name}' has {shape[0]}×{shape[1]} pixels{f' after downscale = {factor}' if factor > 1 else ''}, which is "
            f'less than one crop ([crop] size = {layout.crop.size}). Take a smaller size or downscale, or edge = "pad".'
        )
    full, raw = images.shape[1:], as_raw(images)
    if factor > 1:
        images = raw = resized(raw[:, : shape[0] * factor, : shape[1] * factor], shape)
    labels = None
    if layout.segment.objects is not None:
        if centres is None:
            raise ValueError("The layout names a table of centres, which was not read.")
        numbers, positions = centres.of(field)
        missing = np.full(len(numbers), np.nan)
        objects = Objects(numbers, (positions + 0.5) / factor - 0.5, missing, np.zeros(len(numbers), bool))
    else:
        labels = _labels(field, layout, root, raw, names, full)
        objects = objects_of(labels)
    with np.errstate(invalid="ignore"):  # areas that are not known
        reasons = drop_reasons(objects, shape, layout.crop, layout.filters)
    kept = np.flatnonzero(reasons == "")
    size = layout.crop.size
    first = corners(objects.centre[kept], size)
    crops = windows(images, first, size)
    masks = None
    if labels is not None:
        masks = own_masks(windows(labels, first, size), objects.number[kept], buds=layout.segment.buds)
    if (new := layout.crop.resize) is not None and new != size:
        crops = resized(as_raw(crops), (new, new))
        masks = None if masks is None else resized_labels(masks, (new, new))
    if masks is not None:
        shown = (masks == MOTHER).any(axis=(1, 2))
        reasons[kept[~shown]] = HIDDEN
        crops, masks = crops[shown], masks[shown]
    return CutField(names, crops, masks, labels, objects, reasons, raw.mean(axis=(1, 2)), focus_of(raw))


def read_channels(field: FieldOfView, names: tuple[str, ...], layout: Layout, root: Path) -> np.ndarray:
    """Return channels of a field (channels, rows, columns) as their files hold them: uint8, uint16 or float32.

    Raises
    ------
    UserError
        Where a file cannot be read, or channels differ in size or type.
    """
    planes: list[np.ndarray] = []
    for name in names:
        channel = layout.channels[name]
        files = field.files[name]
        if len(files) == 1:
            plane = read_plane(root / files[0], channel.index, channel.z)
        elif channel.z == "max":
            stack = [read_plane(root / file, channel.index) for file in files]
            for file, focus in zip(files, stack, strict=True):
                _check_alike(focus, file, stack[0], files[0])
            plane = np.max(stack, axis=0)
        else:
            position = channel.z or 0
            if position >= len(files):
                raise UserError(
                    f"The field '{field.name}' has {len(files)} planes of {name}, but the layout asks for number {position}."
                )
            plane = read_plane(root / files[position], channel.index)
        if planes:
            _check_alike(plane, files[0], planes[0], field.files[names[0]][0])
        if plane.dtype.kind == "f" and not (finite := np.isfinite(plane)).all():
            raise UserError(
                f"{root / files[0]} holds NaN or infinite values in {int((~finite).sum()):,} pixels. Repair the file, or move it away."
            )
        planes.append(_shifted(plane, layout.bits, root / files[0]))
    return np.stack(planes)


def _check_alike(plane: np.ndarray, file: str, other: np.ndarray, other_file: str) -> None:
    """Raise where two planes of a field differ in size or type."""
    for what, here, there in (("size", plane.shape, other.shape), ("type", plane.dtype, other.dtype)):
        if here != there:
            raise UserError(
                f"{file} has the {what} {here}, but {other_file} of the same field has {there}. All channels and planes of a "
                f"field must have one {what}."
            )


def _shifted(plane: np.ndarray, bits: int | None, file: Path) -> np.ndarray:
    """Return pixels that use fewer than 16 bits on the full scale of uint16."""
    if bits is None or bits == 16 or plane.dtype != np.uint16:
        return plane
    if (largest := int(plane.max(initial=0))) >= 2**bits:
        raise UserError(
            f"{file} holds {largest}, but the layout says bits = {bits}, which ends at {2**bits - 1}. Correct bits."
        )
    shifted: np.ndarray = plane << (16 - bits)
    return shifted


def _labels(
    field: FieldOfView, layout: Layout, root: Path, raw: np.ndarray, names: tuple[str, ...], full: tuple[int, ...]
) -> np.ndarray:
    """Return the label image (rows, columns) int32 of a field, `raw`, whose files have a `full` size."""
    segment, shape, factor = layout.segment, raw.shape[1:], layout.crop.downscale
    if field.mask is not None:
        labels = read_plane(root / field.mask)
        if labels.shape != full:
            raise UserError(
                f"The label image {field.mask} has the size {labels.shape}, but its field '{field.name}' has {full}. Save it as large as "
                "the field's files."
            )
        if (labels != np.floor(labels)).any() or labels.min(initial=0) < 0 or labels.max(initial=0) > LARGEST_NUMBER:
            raise UserError(
                f"The label image {field.mask} holds other values than whole numbers from 0 to {LARGEST_NUMBER:,}. Save 0 for background, "
                "and a number for each object."
            )
        return resized_labels(labels[: shape[0] * factor, : shape[1] * factor], shape).astype(np.int32)
    if segment.channel is None:
        raise ValueError("The layout names no channel to segment.")
    name = segment.segmenter or ""
    with FIELD_SEGMENTERS.code(name, f"on the field '{field.name}'"):
        labels = np.asarray(_opened(name, segment.model_dump_json())(raw[names.index(segment.channel)]))
    if labels.shape != shape or labels.dtype.kind not in "iu":
        raise UserError(
            f"The segmenter '{name}' gave {labels.dtype} of shape {labels.shape} for the field '{field.name}'; expected whole numbers of "
            f"shape {shape}."
        )
    if labels.min(initial=0) < 0 or labels.max(initial=0) > LARGEST_NUMBER:
        raise UserError(
            f"The segmenter '{name}' gave numbers from {labels.min()} to {labels.max()} for the field '{field.name}'; expected 0 for "
            f"background and objects up to {LARGEST_NUMBER:,}."
        )
    return labels.astype(np.int32)


@lru_cache(maxsize=2)
def _opened(name: str, segment: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return a segmenter with its options, opened once in a process."""
    segmenter = FIELD_SEGMENTERS.get(name)
    return segmenter.open(segmenter_params(segmenter, Segment.model_validate_json(segment).options), "cpu")


def focus_of(raw: np.ndarray) -> np.ndarray:
    """Return the variance of the Laplacian over the variance, of each channel (channels, rows, columns); 0 where constant."""
    laplacian = (
        raw[:, :-2, 1:-1] + raw[:, 2:, 1:-1] + raw[:, 1:-1, :-2] + raw[:, 1:-1, 2:] - np.float32(4) * raw[:, 1:-1, 1:-1]
    )
    variance = raw.var(axis=(1, 2), dtype=np.float64)
    focus: np.ndarray = laplacian.var(axis=(1, 2), dtype=np.float64) / np.where(variance > 0, variance, 1)
    return np.where(variance > 0, focus, 0)


def write_cut_field(file: Path, cut: CutField, identity: str) -> None:
    """Write what was cut from a field to a file of its own, sealed with a checksum."""
    arrays: dict[str, np.ndarray] = {
        "identity": np.array(identity),
        "channels": np.array(cut.channels),
        "crops": cut.crops,
        "number": cut.objects.number,
        "centre": cut.objects.centre,
        "area": cut.objects.area,
        "at_border": cut.objects.at_border,
        "reasons": cut.reasons,
        "means": cut.means,
        "focus": cut.focus,
    }
    arrays |= {name: array for name, array in (("masks", cut.masks), ("labels", cut.labels)) if array is not None}
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for one of them
    with atomic_file(file) as temporary:
        temporary.write_bytes(content.getvalue())  # a view crashes Python 3.12 where the disk is full
        seal(temporary)


def is_cut(file: Path, identity: str) -> bool:
    """Return whether :func:`read_cut_field` would give what was cut from a field; its seal is checked, no crop is decoded."""
    return _stored(file, identity, ("identity",)) is not None


def read_cut_field(file: Path, identity: str) -> CutField | None:
    """Return what was cut from a field, or None where the file is not there, damaged, or of other files or settings."""
    if (arrays := _stored(file, identity)) is None:
        return None
    return CutField(
        tuple(map(str, arrays["channels"])),
        arrays["crops"],
        arrays.get("masks"),
        arrays.get("labels"),
        Objects(arrays["number"], arrays["centre"], arrays["area"], arrays["at_border"]),
        arrays["reasons"],
        arrays["means"],
        arrays["focus"],
    )


def _stored(file: Path, identity: str, names: Sequence[str] | None = None) -> dict[str, np.ndarray] | None:
    """Return some arrays of a field's file, or all; None where it is not there, damaged, or of other files or settings."""
    try:
        with np.load(io.BytesIO(unsealed(file)), allow_pickle=False) as stored:
            if str(stored["identity"]) != identity:
                return None
            return {name: stored[name] for name in (stored.files if names is None else names)}
    except FileNotFoundError:
        return None
    except Exception as error:  # zlib's and NumPy's kinds
        raise_shortage(error)
        return None
