"""From a field of view and its objects to crops: pure functions of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pci_bench.acquisition.layout import Crop, Filters
from pci_bench.api.segmenter import MOTHER, OTHERS
from pci_bench.errors import UserError
from pci_bench.segmentation.split import mother_and_bud

BORDER = "touches the field's border"
SMALL = "too small"
LARGE = "too large"
LAST = "has the highest number (the authors' slip)"
EDGE = "its crop leaves the field"
HIDDEN = "its crop shows nothing of it"  # as of a ring around it
FEW = "too few cells in its image"
MOST_SHOWN = 65535 - OTHERS  # in one crop
FAR = 2**31  # pixels: beyond any field
REASONS = (BORDER, SMALL, LARGE, LAST, EDGE, HIDDEN, FEW)


def resized(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return images of another size, bilinear without anti-aliasing.

    This is what scikit-image 0.13 did, which the authors used: 128 → 64 is the mean of 2×2 pixels, and a quarter of the size
    is the mean of the middle 2×2 of each 4×4.

    Parameters
    ----------
    images
        (…, rows, columns), any numbers.
    shape
        Rows and columns to return.

    Returns
    -------
    np.ndarray
        (…, rows, columns) float32, on the scale of `images`.

    Examples
    --------
    >>> resized(np.array([[0, 2, 4, 6], [0, 2, 4, 6]], np.uint8), (1, 2))
    array([[1., 5.]], dtype=float32)
    """
    result = images.astype(np.float32, copy=False)
    for axis, length in ((-2, shape[0]), (-1, shape[1])):
        n = result.shape[axis]
        if n == length:
            continue
        position = (np.arange(length) + 0.5) * (n / length) - 0.5
        before = np.clip(np.floor(position), 0, n - 1).astype(int)
        after = np.minimum(before + 1, n - 1)
        weight = np.clip(position - before, 0, 1).astype(np.float32)
        weight = weight.reshape(-1, 1) if axis == -2 else weight
        result = (1 - weight) * result.take(before, axis) + weight * result.take(after, axis)
    return result


def resized_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return label images (…, rows, columns) of another size: of each pixel, the label nearest to its middle."""
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for old, new in zip(labels.shape[-2:], shape, strict=True)
    )
    return labels[..., rows[:, None], columns]


@dataclass(frozen=True)
class Objects:
    """The objects of a field of view.

    Parameters
    ----------
    number
        (n,) int, of each object in the label image, or its row in a table.
    centre
        (n, 2) float64, the centre of mass: row and column, the middle of the first pixel being 0.
    area
        (n,) float64 in pixels; NaN where only centres are known.
    at_border
        (n,) bool, whether it touches the field's border.
    """

    number: np.ndarray
    centre: np.ndarray
    area: np.ndarray
    at_border: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


def objects_of(labels: np.ndarray) -> Objects:
    """Return the objects of a label image (rows, columns), 0 background; one object for each number.

    Examples
    --------
    >>> found = objects_of(np.array([[0, 0, 0, 0], [0, 5, 5, 0], [0, 5, 5, 0], [0, 0, 0, 9]]))
    >>> found.number, found.area, found.at_border
    (array([5, 9]), array([4., 1.]), array([False,  True]))
    >>> found.centre[0]
    array([1.5, 1.5])
    """
    numbers, inverse = np.unique(labels, return_inverse=True)
    flat = inverse.ravel()
    rows, columns = (axis.ravel() for axis in np.indices(labels.shape))
    area = np.bincount(flat).astype(np.float64)
    centre = np.stack([np.bincount(flat, rows) / area, np.bincount(flat, columns) / area], axis=1)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    real = numbers != 0
    return Objects(numbers[real].astype(np.int64), centre[real], area[real], np.isin(numbers, edge)[real])


def corners(centre: np.ndarray, size: int) -> np.ndarray:
    """Return the first row and column (n, 2) int of the crops of `size` around centres (n, 2)."""
    first: np.ndarray = np.floor(np.clip(centre, -FAR, FAR) + 0.5).astype(int) - size // 2
    return first


def drop_reasons(objects: Objects, shape: tuple[int, int], crop: Crop, filters: Filters) -> np.ndarray:
    """Return why each object is left out (n,) str, the first reason that holds; "" where it is kept.

    Parameters
    ----------
    objects
        Of one field.
    shape
        Rows and columns of the field.
    crop, filters
        As the layout declares them.
    """
    first = corners(objects.centre, crop.size)
    share = objects.area / crop.size**2
    outside = ((objects.centre < -0.5) | (objects.centre >= np.array(shape) - 0.5)).any(axis=1)  # which a table may say
    conditions = {
        BORDER: objects.at_border & filters.border,
        SMALL: (objects.area < filters.min_area) | (share < filters.min_share),
        LARGE: (objects.area > (np.inf if filters.max_area is None else filters.max_area))
        | (share > filters.max_share),
        LAST: (objects.number == objects.number.max(initial=0)) & filters.last_object,
        EDGE: (((first < 0) | (first + crop.size > shape)).any(axis=1) & (crop.edge == "drop")) | outside,
    }
    reasons = np.full(len(objects), "", dtype=f"<U{max(map(len, REASONS))}")
    for reason, condition in conditions.items():
        reasons[condition & (reasons == "")] = reason
    return reasons


def windows(image: np.ndarray, first: np.ndarray, size: int) -> np.ndarray:
    """Return windows of an image (…, rows, columns) around (n, …, size, size), zeros beyond its edges.

    Parameters
    ----------
    image
        (…, rows, columns).
    first
        (n, 2) int, first row and column of each window.
    size
        Rows and columns of a window.
    """
    rows, columns = image.shape[-2:]
    result = np.zeros((len(first), *image.shape[:-2], size, size), image.dtype)
    for window, (row, column) in zip(result, first, strict=True):
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + size, rows), min(column + size, columns)
        if top < bottom and left < right:
            window[..., top - row : bottom - row, left - column : right - column] = image[..., top:bottom, left:right]
    return result


def own_masks(labels: np.ndarray, numbers: Sequence[int] | np.ndarray, *, buds: bool = False) -> np.ndarray:
    """Return masks of crops as segmenters of crops give them: 1 the crop's own object, 2 its bud, 3, 4 … others.

    Parameters
    ----------
    labels
        (n, rows, columns), windows of a field's label image.
    numbers
        (n,) the label of each crop's own object.
    buds
        Whether a small neighbour of the own object is marked as its bud.

    Returns
    -------
    np.ndarray
        (n, rows, columns) uint16; without a 1 where the window shows nothing of the own object.

    Raises
    ------
    UserError
        Where a crop shows more objects than uint16 can number.
    """
    masks = np.zeros(labels.shape, np.uint16)
    for mask, window, number in zip(masks, labels, numbers, strict=True):
        present, renumbered = np.unique(window, return_inverse=True)
        renumbered = renumbered.reshape(window.shape) + (1 if present[0] else 0)  # 0 stays background
        real = present[present != 0]
        if len(real) > MOST_SHOWN:
            raise UserError(
                f"A crop shows {len(real):,} objects, but masks number at most {MOST_SHOWN:,}. Take a smaller [crop] size."
            )
        own = int(np.searchsorted(real, number)) + 1 if number in real else 0
        if buds:
            mask[:] = mother_and_bud(renumbered, own)
        else:
            others = np.array([label for label in range(1, renumbered.max() + 1) if label != own], int)
            numbers_of = np.zeros(renumbered.max() + 1, np.uint16)
            numbers_of[others] = np.arange(OTHERS, OTHERS + len(others))
            numbers_of[own] = MOTHER if own else 0
            mask[:] = numbers_of[renumbered]
    return masks
